//! `mixgemm outliers`: where outliers are, by layer and by channel.
#![forbid(unsafe_code)]

mod plot;
mod report;

use crate::cli::arguments::{TensorPath, tensor_path};
use crate::cli::destination::Destination;
use crate::cli::drawing::Drawing;
use crate::cli::progress::Progress;
use crate::cli::refusal::refusal;
use crate::cli::samples::{self, STEPS, Samples};
use crate::cli::split;
use crate::cli::stored::Stored;
use anyhow::{Result, anyhow};
use mixgemm::outlier::calibration::{LayerCalibration, ScaleRule};
use plot::Strips;
use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const ARGUMENT: &str = "FILE";
/// In the name of a tensor of sample activations.
const SAMPLES: &str = ".safetensors:";

/// Show outliers by layer and by channel
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Shows the outliers of layers (activations beyond 127 scales) by layer and by input channel, as a table \
                  and as a drawing.\n\n\
                  FILE is a calibration (CAL.json, by `mixgemm calibrate`), whose scales and counts are shown as they \
                  are; or FILE.safetensors:TENSOR with sample activations [M,K], which are calibrated by --scale; or \
                  FILE.safetensors, with all its float tensors of 2 dimensions as such samples.",
    after_help = "Example, with inputs of the layer that `demo` multiplies:\n  mixgemm outliers \\\n    \
                  tests/data/minilm-layer4.safetensors:up.input \\\n    \
                  tests/data/minilm-layer4.safetensors:down.input --svg outliers.svg --png outliers.png"
)]
pub(crate) struct Args {
    /// CAL.json, FILE.safetensors or FILE.safetensors:TENSOR, any number of them
    #[arg(required = true, value_name = ARGUMENT)]
    files: Vec<String>,
    /// How scales of sample activations are chosen: max, percentile:P, channels:P or least-error
    #[arg(long, value_parser = samples::rule, default_value = "percentile:99.9")]
    scale: ScaleRule,
    /// Draw into this SVG file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Draw into this PNG file
    #[arg(long, value_name = "FILE")]
    png: Option<PathBuf>,
    /// Replace existing files
    #[arg(long)]
    force: bool,
}

/// A layer and where it was found.
struct Layer {
    file: String,
    name: String,
    found: LayerCalibration,
}

impl Layer {
    /// How many of its channels, the most frequent first, have at least this share of its outliers.
    fn channels_with(&self, share: f64) -> usize {
        let wanted = share * self.found.outliers() as f64;
        let mut sum = 0;
        let enough = self.found.channels.iter().position(|(_, count)| {
            sum += count;
            sum as f64 >= wanted
        });
        enough.map_or(0, |last| last + 1)
    }
}

/// Runs the command.
pub(crate) fn run(args: &Args, json: bool, out: &mut impl Write) -> Result<ExitCode> {
    let place = |argument, path: &Option<PathBuf>| {
        let path = path.as_deref();
        path.map(|path| Destination::new(argument, path, args.force))
            .transpose()
    };
    let (svg, png) = (place("--svg", &args.svg)?, place("--png", &args.png)?);
    if svg.as_ref().zip(png.as_ref()).is_some_and(|(svg, png)| svg.is(png)) {
        return Err(refusal("--png", "another file than --svg", "the same"));
    }
    for place in svg.iter().chain(&png) {
        args.files
            .iter()
            .try_for_each(|file| place.check_apart("FILE", Path::new(file)))?;
    }
    let layers = args.layers()?;
    // Nothing is drawn of no outliers: the report says so.
    let drawn = layers.iter().any(|layer| layer.found.outliers() > 0);
    if drawn {
        let strips = Strips(&layers);
        let failed =
            |name: &'static str| move |error: Box<dyn Error>| anyhow!("{name}: expected a drawing, found {error}");
        if let Some(svg) = &svg {
            let text = strips.svg().map_err(failed("--svg"))?;
            svg.write(|to| to.write_all(text.as_bytes()))?;
        }
        if let Some(png) = &png {
            let bytes = strips.png().map_err(failed("--png"))?;
            png.write(|to| to.write_all(&bytes))?;
        }
    }
    let files: Vec<&Path> = [&args.svg, &args.png]
        .into_iter()
        .flatten()
        .map(PathBuf::as_path)
        .collect();
    let report = report::Report {
        layers: &layers,
        files: if drawn { &files } else { &[] },
        undrawn: !drawn && !files.is_empty(),
    };
    if json {
        report.json(out)?
    } else {
        report.print(out)?
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether a file is a calibration, by its name.
fn is_calibration(file: &str) -> bool {
    !file.contains(SAMPLES)
        && Path::new(file)
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("json"))
}

/// The tensors of sample activations that a file argument names, each with its K.
fn tensors(file: &str) -> Result<Vec<(TensorPath, usize)>> {
    let named = file.contains(SAMPLES).then(|| tensor_path(file).ok()).flatten();
    let Some(path) = named else {
        let tensors = Stored::floats(ARGUMENT, Path::new(file))?;
        if tensors.is_empty() {
            let expected = "a safetensors file with float tensors of 2 dimensions";
            return Err(refusal(ARGUMENT, expected, format_args!("{file} without any")));
        }
        let of = |(tensor, k)| {
            (
                TensorPath {
                    file: file.into(),
                    tensor,
                },
                k,
            )
        };
        return Ok(tensors.into_iter().map(of).collect());
    };
    let shape = Stored::shape(ARGUMENT, &path.file, &path.tensor)?;
    match shape.as_slice() {
        &[_, k] => Ok(vec![(path, k)]),
        _ => Err(refusal(
            ARGUMENT,
            "a tensor of 2 dimensions",
            format_args!("shape {shape:?} of {file}"),
        )),
    }
}

impl Args {
    /// All layers of all files, in their order.
    fn layers(&self) -> Result<Vec<Layer>> {
        let progress = Progress::new(0);
        let mut layers = Vec::new();
        for file in &self.files {
            if is_calibration(file) {
                let read = split::read(ARGUMENT, Path::new(file))?;
                if read.layers.is_empty() {
                    return Err(refusal(
                        ARGUMENT,
                        "a calibration with layers",
                        format_args!("{file} without any"),
                    ));
                }
                layers.extend(read.layers.into_iter().map(|(name, found)| Layer {
                    file: file.clone(),
                    name,
                    found,
                }));
                continue;
            }
            let tensors = tensors(file)?;
            progress.more(STEPS * tensors.len());
            for (path, k) in tensors {
                let samples = Samples {
                    argument: ARGUMENT,
                    tensors: std::slice::from_ref(&path),
                    layer: &path.tensor,
                    k,
                };
                layers.push(Layer {
                    file: path.file.display().to_string(),
                    found: samples.calibrate(|_| Ok(self.scale), &progress)?,
                    name: path.tensor,
                });
            }
        }
        Ok(layers)
    }
}
