//! `mixgemm outliers`: where outliers are, by layer and by channel.
#![forbid(unsafe_code)]

mod plot;
mod report;

use crate::cli::arguments::{TensorPath, tensor_path};
use crate::cli::destination::Destination;
use crate::cli::drawing::Drawing;
use crate::cli::progress::Progress;
use crate::cli::refusal::{refusal, unreadable};
use crate::cli::samples::{self, STEPS, Samples};
use crate::cli::split;
use crate::cli::stored::Stored;
use anyhow::{Result, anyhow};
use mixgemm::outlier::calibration::{LayerCalibration, ScaleRule};
use mixgemm::outlier::share::rounded_up;
use plot::Strips;
use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const ARGUMENT: &str = "FILE";

/// Show outliers by layer and by channel
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Shows the outliers of layers (activations beyond 127 scales) by layer and by input channel, as a table \
                  and as a drawing.\n\n\
                  FILE is a calibration (by `mixgemm calibrate`), whose scales and counts are shown as they are; or a \
                  safetensors file, whose float tensors of 2 dimensions are sample activations [M,K] and are \
                  calibrated by --scale; or FILE:TENSOR, one of these. What a file is, its first bytes say.",
    after_help = "Example, with inputs of the layer that `demo` multiplies:\n  mixgemm outliers \\\n    \
                  tests/data/minilm-layer4.safetensors:up.input \\\n    \
                  tests/data/minilm-layer4.safetensors:down.input --svg outliers.svg --png outliers.png"
)]
pub(crate) struct Args {
    /// Calibrations, safetensors files or FILE:TENSOR, any number of them
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
        let wanted = rounded_up(share, self.found.outliers());
        let mut sum = 0;
        let enough = self.found.channels.iter().position(|(_, count)| {
            sum += count;
            sum >= wanted
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
    let sources = args.files.iter().map(|file| Source::of(file));
    let sources = sources.collect::<Result<Vec<_>>>()?;
    for (place, source) in svg
        .iter()
        .chain(&png)
        .flat_map(|place| sources.iter().map(move |s| (place, s)))
    {
        place.check_apart(ARGUMENT, source.file())?;
    }
    let layers = args.layers(&sources)?;
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

/// Where layers are found.
enum Source {
    Calibration(PathBuf),
    /// All float matrices of a file.
    File(PathBuf),
    Tensor(TensorPath),
}

impl Source {
    /// What an argument names: a file that there is, or else a tensor of one.
    fn of(argument: &str) -> Result<Self> {
        let path = PathBuf::from(argument);
        match (split::is_calibration(&path), tensor_path(argument)) {
            (Ok(true), _) => Ok(Self::Calibration(path)),
            (Ok(false), _) => Ok(Self::File(path)),
            (Err(_), Ok(tensor)) => Ok(Self::Tensor(tensor)),
            (Err(error), Err(_)) => Err(unreadable(
                ARGUMENT,
                "a calibration or a safetensors file",
                &path,
                &error,
            )),
        }
    }

    fn file(&self) -> &Path {
        match self {
            Self::Calibration(file) | Self::File(file) => file,
            Self::Tensor(tensor) => &tensor.file,
        }
    }

    /// The tensors of sample activations, each with its K.
    fn tensors(&self) -> Result<Vec<(TensorPath, usize)>> {
        let file = self.file();
        if let Self::Tensor(path) = self {
            let shape = Stored::shape(ARGUMENT, file, &path.tensor)?;
            let &[_, k] = shape.as_slice() else {
                let found = format_args!("shape {shape:?} of {}:{}", file.display(), path.tensor).to_string();
                return Err(refusal(ARGUMENT, "a tensor of 2 dimensions", found));
            };
            return Ok(vec![(path.clone(), k)]);
        }
        let tensors = Stored::floats(ARGUMENT, file)?;
        if tensors.is_empty() {
            let expected = "a safetensors file with float tensors of 2 dimensions";
            return Err(refusal(
                ARGUMENT,
                expected,
                format_args!("{} without any", file.display()),
            ));
        }
        let file = file.to_path_buf();
        let of = |(tensor, k)| {
            (
                TensorPath {
                    file: file.clone(),
                    tensor,
                },
                k,
            )
        };
        Ok(tensors.into_iter().map(of).collect())
    }
}

impl Args {
    /// All layers of all sources, in their order.
    fn layers(&self, sources: &[Source]) -> Result<Vec<Layer>> {
        let progress = Progress::new(0);
        let mut layers = Vec::new();
        for source in sources {
            let file = source.file().display().to_string();
            if let Source::Calibration(path) = source {
                let read = split::read(ARGUMENT, path)?;
                if read.layers.is_empty() {
                    let found = format_args!("{file} without any").to_string();
                    return Err(refusal(ARGUMENT, "a calibration with layers", found));
                }
                layers.extend(read.layers.into_iter().map(|(name, found)| Layer {
                    file: file.clone(),
                    name,
                    found,
                }));
                continue;
            }
            let tensors = source.tensors()?;
            progress.more(STEPS * tensors.len());
            for (path, k) in tensors {
                let samples = Samples {
                    argument: ARGUMENT,
                    tensors: std::slice::from_ref(&path),
                    layer: &path.tensor,
                    k,
                };
                layers.push(Layer {
                    file: file.clone(),
                    found: samples.calibrate(|_| Ok(self.scale), &progress)?,
                    name: path.tensor,
                });
            }
        }
        Ok(layers)
    }
}
