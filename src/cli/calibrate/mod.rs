//! `mixgemm calibrate`: static scales and outlier channels from sample activations.
#![forbid(unsafe_code)]

mod layers;
mod report;

use crate::cli::destination::Destination;
use crate::cli::progress::Progress;
use crate::cli::pruning::{P999, PruningArgs};
use crate::cli::refusal::refusal;
use crate::cli::samples::{self, STEPS, Samples};
use crate::cli::stored::Stored;
use anyhow::Result;
use layers::{Layer, Layers};
use mixgemm::outlier::calibration::{Calibration, LayerCalibration, ScaleRule, Statistics};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Find static scales and outlier channels in sample activations
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Reads sample activations of one or more layers, chooses for each the scale t of mode a8static, counts \
                  the outliers of every input channel (activations beyond 127 t), and writes all of it into a file \
                  that `matmul --calibration` takes. Tensors are f32, f16 or bf16; each is read twice, one at a time.",
    after_help = "Scales: max has no outliers among the samples; percentile:P lets P percent of all magnitudes be \
                  inside (llm.npu: 99.9); channels:P reaches the largest magnitude outside of P percent of the \
                  channels; least-error has the least expected squared error of clamped activations.\n\n\
                  Shadows: llm.npu (arXiv 2407.05858) drops the outlier part of the layers that need it least. --prune \
                  F takes it from the fraction F with the least max|x|/t; --ratio THETA, the rule of its released \
                  tools, from layers with p99.9 * THETA > max, and gives the others the scale p99.9/127. `matmul \
                  --split shadow` clamps layers without one.\n\n\
                  Example, with the layer that `demo` multiplies:\n  mixgemm calibrate \\\n    \
                  --weights tests/data/minilm-layer4.safetensors:up.weight \\\n    \
                  --input tests/data/minilm-layer4.safetensors:up.input \\\n    \
                  --weights tests/data/minilm-layer4.safetensors:down.weight \\\n    \
                  --input tests/data/minilm-layer4.safetensors:down.input --output CAL.json"
)]
pub(crate) struct Args {
    #[command(flatten)]
    layers: Layers,
    /// How scales are chosen: max, percentile:P, channels:P or least-error; percentile:99.9, or max with --ratio, unless given
    #[arg(long, value_parser = samples::rule)]
    scale: Option<ScaleRule>,
    #[command(flatten)]
    pruning: PruningArgs,
    /// File to write
    #[arg(short, long, value_name = "CAL.json")]
    output: PathBuf,
    /// Replace an existing file
    #[arg(long)]
    force: bool,
}

/// Runs the command.
pub(crate) fn run(args: &Args, json: bool, out: &mut impl Write) -> Result<ExitCode> {
    let layers = args.layers.whole()?;
    let output = Destination::new("--output", &args.output, args.force)?;
    for layer in layers {
        output.check_apart("--weights", &layer.weights.file)?;
        for input in &layer.inputs {
            output.check_apart("--input", &input.file)?;
        }
    }
    let mut found = BTreeMap::new();
    let progress = Progress::new(STEPS * layers.iter().map(|layer| layer.inputs.len()).sum::<usize>());
    for layer in layers {
        let name = &layer.weights.tensor;
        if found.contains_key(name) {
            return Err(refusal(
                "--weights",
                "layers with names of their own",
                format_args!("`{name}` twice"),
            ));
        }
        found.insert(name.clone(), args.calibrate(layer, &progress)?);
    }
    drop(progress);
    args.pruning.prune(found.values_mut())?;
    let calibration = Calibration { layers: found };
    let text = calibration.to_json()?;
    output.write(|to| writeln!(to, "{text}"))?;
    let order = layers.iter().map(|layer| layer.weights.tensor.as_str());
    if json {
        report::json(&calibration, order, &args.output, out)?;
    } else {
        report::print(&calibration, order, &args.output, out)?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Args {
    fn calibrate(&self, layer: &Layer, progress: &Progress) -> Result<LayerCalibration> {
        let shape = Stored::shape("--weights", &layer.weights.file, &layer.weights.tensor)?;
        let &[_, k] = shape.as_slice() else {
            return Err(refusal(
                "--weights",
                "a tensor of 2 dimensions",
                format_args!("shape {shape:?}"),
            ));
        };
        let samples = Samples {
            argument: "--input",
            tensors: &layer.inputs,
            layer: &layer.weights.tensor,
            k,
        };
        let mut shadow = true;
        let choose = |seen: &Statistics| {
            let rule;
            (rule, shadow) = self.pruning.rule(seen, self.scale, P999)?;
            Ok(rule)
        };
        let found = samples.calibrate(choose, progress)?;
        Ok(LayerCalibration { shadow, ..found })
    }
}
