//! `mixgemm embed`: sentence embeddings by a real model, its linears in f32 and on any backend, mode and split.
#![forbid(unsafe_code)]

mod calibrate;
mod config;
mod encoder;
mod linears;
mod model;
mod options;
mod outliers;
mod report;
mod tokens;

use crate::cli::arguments::{self, spelled};
use crate::cli::destination::Destination;
use crate::cli::device;
use crate::cli::machine::Machine;
use crate::cli::npu;
use crate::cli::progress::Progress;
use crate::cli::refusal::refusal;
use crate::cli::saved;
use crate::cli::split::SplitName;
use crate::cli::table;
use anyhow::Result;
use encoder::{batches, embed};
use linears::{Floats, Integers, Quantised, of_linear};
use mixgemm::backend::Erased;
use mixgemm::outlier::calibration::LayerCalibration;
use mixgemm::{Isa, Mat, QuantMatrix, Workspace};
use model::Model;
use outliers::Outliers;
use report::{Found, LinearRow, TextRow};
use std::collections::BTreeSet;
use std::io::Write;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::process::ExitCode;
use tokens::{Text, Words};

pub(crate) use options::Args;

/// All linears on one backend.
fn quantise(
    args: &Args,
    model: &Model,
    calibrated: &[LayerCalibration],
    threads: NonZeroUsize,
) -> Result<Vec<Quantised>> {
    let isa = args.isa.parse::<Isa>().ok();
    let par = device::rayon(threads);
    let named = (args.backend.as_str(), args.mode.mode(1.0, true));
    let backend = Erased::from(npu::backend(named, args.profile.as_deref(), args.fast, isa, &par)?);
    let linears = model.linears.iter().enumerate().map(|(i, linear)| {
        let calibrated = calibrated.get(i);
        let scale = calibrated.map_or(f32::NAN, |layer| layer.scale);
        let saturate = args.split.split != SplitName::Shadow;
        let mode = args.split.mode(args.mode, scale, saturate, calibrated);
        let treatment = args.split.treatment(mode, calibrated)?;
        let of_linear = |error| of_linear(&linear.name, error);
        let weights = QuantMatrix::quantize(linear.weights.view(), args.scheme()).map_err(of_linear)?;
        let floats = args.split.takes_floats().then(|| linear.weights.view());
        let device = args
            .split
            .around((&weights, floats), &treatment, calibrated, backend.clone(), &par)?;
        Ok(Quantised {
            device: device.map_err(of_linear)?,
            mode,
        })
    });
    linears.collect()
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
    if let Some(save) = &save {
        for file in ["model.safetensors", "config.json", "tokenizer.json"] {
            save.check_apart("--model", &args.model.join(file))?;
        }
        for (argument, file) in [("--calibration", &args.calibration), ("--profile", &args.profile)] {
            file.iter().try_for_each(|file| save.check_apart(argument, file))?;
        }
        for (argument, texts) in [("TEXT", &args.texts), ("--calibrate-on", &args.calibrate_on)] {
            let mut files = texts.iter().filter_map(|text| tokens::file(text));
            files.try_for_each(|file| save.check_apart(argument, file.as_ref()))?;
        }
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
    progress.more(2 * layers(&texts) + calibrate::passes(&model, args.scale) * layers(&samples));

    let step = |what: &'static str| {
        let progress = &progress;
        move || progress.step(what)
    };
    let calibrated = match (&args.calibration, samples.is_empty()) {
        (Some(file), _) => calibrate::from_file(&model, file)?,
        (None, true) => Vec::new(),
        (None, false) => {
            let how = (args.scale, &args.pruning);
            calibrate::calibrate(&model, &samples, how, &step("calibrating"))?
        }
    };
    progress.step("quantising");
    let linears = quantise(args, &model, &calibrated, threads)?;

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
        shapes: BTreeSet::new(),
    };
    let embeddings = embed(&model, &texts, &mut integers, &mut seconds, &step("running quantised"))?;
    integers.release()?;
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
    let npu = npu::Whole::of(device.name, device.time(), args.profile.as_deref())?;
    Ok(Found {
        npu,
        calibration: args.calibration.as_ref().map(|file| file.display().to_string()),
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
