//! Layers on the command line: every `--weights` with the `--input`s after it.
#![forbid(unsafe_code)]

use crate::cli::arguments::{TensorPath, tensor_path};
use crate::cli::refusal::refusal;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};

const WEIGHTS: &str = "weights";
const INPUT: &str = "input";

/// A matrix of weights and the activations that enter it.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    pub(super) weights: TensorPath,
    pub(super) inputs: Vec<TensorPath>,
}

/// All layers, in their order.
#[derive(Debug, Clone)]
pub(super) struct Layers {
    layers: Vec<Layer>,
    /// Inputs before any weights.
    stray: Vec<TensorPath>,
}

impl Layers {
    /// The layers, each with inputs of its own.
    pub(super) fn whole(&self) -> anyhow::Result<&[Layer]> {
        if let Some(input) = self.stray.first() {
            let found = format_args!("`{}` before any", input.tensor).to_string();
            return Err(refusal("--input", "the --weights that it enters before it", found));
        }
        if let Some(layer) = self.layers.iter().find(|layer| layer.inputs.is_empty()) {
            let found = format_args!("none after `{}`", layer.weights.tensor).to_string();
            return Err(refusal("--weights", "one --input or more after each", found));
        }
        Ok(&self.layers)
    }
}

/// The values of an option and where on the command line they are.
fn placed(matches: &ArgMatches, name: &str) -> Vec<(usize, TensorPath)> {
    let values = matches.get_many::<TensorPath>(name).into_iter().flatten().cloned();
    matches.indices_of(name).into_iter().flatten().zip(values).collect()
}

impl FromArgMatches for Layers {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut layers: Vec<(usize, Layer)> = placed(matches, WEIGHTS)
            .into_iter()
            .map(|(at, weights)| {
                (
                    at,
                    Layer {
                        weights,
                        inputs: Vec::new(),
                    },
                )
            })
            .collect();
        let mut stray = Vec::new();
        for (at, input) in placed(matches, INPUT) {
            match layers.iter_mut().rev().find(|(weights, _)| *weights < at) {
                Some((_, layer)) => layer.inputs.push(input),
                None => stray.push(input),
            }
        }
        let layers = layers.into_iter().map(|(_, layer)| layer).collect();
        Ok(Self { layers, stray })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Layers {
    fn augment_args(command: Command) -> Command {
        let option = |name, help| {
            Arg::new(name)
                .long(name)
                .value_name("FILE:TENSOR")
                .value_parser(tensor_path)
                .action(ArgAction::Append)
                .required(true)
                .help(help)
        };
        command
            .arg(option(
                WEIGHTS,
                "Weights W [N,K] of a layer, under whose name its calibration is kept",
            ))
            .arg(option(
                INPUT,
                "Activations [M,K] that enter the weights before it; any number of tensors",
            ))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}
