//! `mixgemm calibrate`: static scales and outlier channels from sample activations.
#![forbid(unsafe_code)]

mod layers;
mod report;

use crate::cli::destination::Destination;
use crate::cli::progress::Progress;
use crate::cli::refusal::refusal;
use crate::cli::samples::{self, STEPS, Samples};
use crate::cli::stored::Stored;
use anyhow::Result;
use layers::{Layer, Layers};
use mixgemm::outlier::calibration::{Calibration, LayerCalibration, ScaleRule, Statistics};
use mixgemm::outlier::importance;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// The percentile of llm.npu, for scales and for its ratio.
const P999: ScaleRule = ScaleRule::Percentile(0.999);

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
    /// Take the shadow from this fraction of the layers, 0 to 1
    #[arg(long, value_name = "F", num_args = 0..=1, default_missing_value = "0.85", value_parser = fraction)]
    prune: Option<f64>,
    /// Take the shadow from layers whose 99.9th percentile is more than this fraction, 1/THETA, of the maximum
    #[arg(long, value_name = "THETA", num_args = 0..=1, default_missing_value = "64", value_parser = theta)]
    #[arg(conflicts_with = "prune")]
    ratio: Option<f32>,
    /// File to write
    #[arg(short, long, value_name = "CAL.json")]
    output: PathBuf,
    /// Replace an existing file
    #[arg(long)]
    force: bool,
}

fn fraction(s: &str) -> Result<f64, String> {
    let fraction = s.parse().ok().filter(|f| (0.0..=1.0).contains(f));
    fraction.ok_or_else(|| "0 to 1".into())
}

fn theta(s: &str) -> Result<f32, String> {
    let theta = s.parse().ok().filter(|t: &f32| t.is_finite() && *t > 0.0);
    theta.ok_or_else(|| "a number above 0".into())
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
    if let Some(fraction) = args.prune {
        let importance: Vec<f32> = found.values().map(|layer| layer.importance).collect();
        let keep = importance::keep(&importance, fraction)?;
        found
            .values_mut()
            .zip(keep)
            .for_each(|(layer, keep)| layer.shadow = keep);
    }
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
        let Some(theta) = self.ratio else {
            return samples.calibrate(|_| Ok(self.scale.unwrap_or(P999)), progress);
        };
        let mut shadow = true;
        let choose = |seen: &Statistics| {
            shadow = importance::keep_by_ratio(seen.percentile(0.999)?, seen.max(), theta);
            Ok(if shadow {
                P999
            } else {
                self.scale.unwrap_or(ScaleRule::Max)
            })
        };
        let found = samples.calibrate(choose, progress)?;
        Ok(LayerCalibration { shadow, ..found })
    }
}
