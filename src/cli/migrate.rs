//! `mixgemm migrate`: outliers move from activations into weights, SmoothQuant's scale migration.
#![forbid(unsafe_code)]

use crate::cli::arguments::{TensorPath, tensor_path};
use crate::cli::destination::Destination;
use crate::cli::refusal::refusal;
use crate::cli::saved;
use crate::cli::table;
use crate::cli::tensors::Tensor;
use anyhow::Result;
use mixgemm::outlier::calibration::Statistics;
use mixgemm::outlier::migrate::Migration;
use mixgemm::{Error, Mat};
use serde::Serialize;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Move outliers from activations into weights, as SmoothQuant does
#[derive(Debug, clap::Args)]
#[command(
    long_about = "SmoothQuant's scale migration (arXiv 2211.10438, equation 4), offline: input channel j of the \
                  activations is divided by s_j = max|X_j|^ALPHA / max|W_j|^(1-ALPHA), and the weights' column j \
                  multiplied by it, so that the product stays what it is but for rounding. The file that is written has the \
                  tensors under the names that they had, as f32, and the s_j as NAME.factors [1,K]: `calibrate`, \
                  `outliers` and `matmul` take it in place of the original.",
    after_help = "Example, with the layer that `demo` multiplies:\n  mixgemm migrate \\\n    \
                  --weights tests/data/minilm-layer4.safetensors:up.weight \\\n    \
                  --input tests/data/minilm-layer4.safetensors:up.input --output smooth.safetensors\n  \
                  mixgemm calibrate --weights smooth.safetensors:up.weight --input smooth.safetensors:up.input \\\n    \
                  --scale max --output CAL.json\n  \
                  mixgemm matmul --weights smooth.safetensors:up.weight --input smooth.safetensors:up.input --bits 8 \\\n    \
                  --group channel --mode a8static --calibration CAL.json --output up.safetensors"
)]
pub(crate) struct Args {
    /// Weights W [N,K]
    #[arg(long, value_name = "FILE:TENSOR", value_parser = tensor_path)]
    weights: TensorPath,
    /// Activations [M,K] that enter them, by which the factors are chosen; any number of tensors
    #[arg(long, value_name = "FILE:TENSOR", value_parser = tensor_path, required = true)]
    input: Vec<TensorPath>,
    /// How much moves: 0 nothing of the activations' range, 1 all of it
    #[arg(long, default_value = "0.5", value_parser = alpha)]
    alpha: f32,
    /// Round factors to powers of two, so that migrating rounds nothing
    #[arg(long)]
    powers_of_two: bool,
    /// File to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Replace an existing file
    #[arg(long)]
    force: bool,
}

fn alpha(s: &str) -> Result<f32, String> {
    let alpha = s.parse().ok().filter(|a| (0.0..=1.0).contains(a));
    alpha.ok_or_else(|| "0 to 1".into())
}

/// What happened to a tensor.
#[derive(Debug, Serialize)]
struct Row {
    tensor: String,
    max_before: f32,
    max_after: f32,
    /// The maximum over the 99.9th percentile of magnitudes: how far outliers reach.
    reach_before: f32,
    reach_after: f32,
}

impl Row {
    fn new(tensor: &str, before: &Mat<f32>, after: &Mat<f32>) -> mixgemm::Result<Self> {
        let seen = |x: &Mat<f32>| {
            let mut seen = Statistics::new(x.cols());
            seen.add(x.view().into())?;
            let p999 = seen.percentile(0.999)?;
            let reach = if p999 > 0.0 { seen.max() / p999 } else { f32::INFINITY };
            Ok::<_, Error>((seen.max(), reach))
        };
        let ((max_before, reach_before), (max_after, reach_after)) = (seen(before)?, seen(after)?);
        Ok(Self {
            tensor: tensor.into(),
            max_before,
            max_after,
            reach_before,
            reach_after,
        })
    }
}

/// Runs the command.
pub(crate) fn run(args: &Args, json: bool, out: &mut impl Write) -> Result<ExitCode> {
    let output = Destination::new("--output", &args.output, args.force)?;
    output.check_apart("--weights", &args.weights.file)?;
    let factors = format!("{}.factors", args.weights.tensor);
    let mut names = vec![args.weights.tensor.as_str(), factors.as_str()];
    for input in &args.input {
        output.check_apart("--input", &input.file)?;
        if names.contains(&input.tensor.as_str()) {
            let found = format_args!("`{}`", input.tensor).to_string();
            let expected = "tensors with names that no other tensor of the output has";
            return Err(refusal("--input", expected, found));
        }
        names.push(&input.tensor);
    }
    let weights = read("--weights", &args.weights)?;
    let mut seen = Statistics::new(weights.cols());
    let mut inputs = Vec::new();
    for path in &args.input {
        let x = read("--input", path)?;
        seen.add(x.view().into())
            .map_err(|error| of_tensor("--input", path, error))?;
        inputs.push(x);
    }
    let migration = Migration::new(weights.view(), seen.channel_max(), args.alpha, args.powers_of_two);
    let migration = migration.map_err(|error| of_tensor("--weights", &args.weights, error))?;
    let mut rows = vec![Row::new(&args.weights.tensor, &weights, &migration.weights)?];
    let mut written = Vec::new();
    for (path, x) in args.input.iter().zip(&inputs) {
        let migrated = migration.apply(x.view())?;
        let row = Row::new(&path.tensor, x, &migrated).map_err(|error| of_tensor("--input", path, error))?;
        rows.push(row);
        written.push((path.tensor.clone(), migrated));
    }
    written.push((factors, Mat::from_vec(migration.factors, 1, weights.cols())?));
    written.push((args.weights.tensor.clone(), migration.weights));
    saved::save_matrices(&output, &written)?;
    if json {
        let value = serde_json::json!({
            "output": args.output.display().to_string(), "alpha": args.alpha, "powers_of_two": args.powers_of_two,
            "rows": rows,
        });
        serde_json::to_writer_pretty(&mut *out, &value)?;
        writeln!(out)?;
    } else {
        print(args, &rows, out)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A float matrix as f32.
fn read(argument: &str, path: &TensorPath) -> Result<Mat<f32>> {
    match Tensor::read(argument, path)? {
        Tensor::I8(_) => Err(refusal(argument, "f32, f16 or bf16 tensors", "i8")),
        tensor => Ok(tensor.to_f32()),
    }
}

/// A refusal of a tensor that says which.
fn of_tensor(argument: &str, path: &TensorPath, error: Error) -> anyhow::Error {
    let error = error.at(format_args!("in {}:{}", path.file.display(), path.tensor));
    let (_, expected, found) = error.parts();
    refusal(argument, expected, found)
}

fn print(args: &Args, rows: &[Row], out: &mut impl Write) -> Result<()> {
    let heads = ["tensor", "max", "migrated", "max/p99.9", "migrated"];
    let mut table = table::columns(&heads, 1);
    for row in rows {
        table.add_row([
            row.tensor.clone(),
            format!("{:.4}", row.max_before),
            format!("{:.4}", row.max_after),
            format!("{:.1}", row.reach_before),
            format!("{:.1}", row.reach_after),
        ]);
    }
    writeln!(
        out,
        "mixgemm migrate, alpha {}\n\n{}\n\nwritten: {}",
        args.alpha,
        table.trim_fmt(),
        args.output.display()
    )?;
    Ok(())
}
