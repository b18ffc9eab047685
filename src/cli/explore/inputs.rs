//! What an exploration starts from: a space, a workload, and tensors to measure fidelity on.
#![forbid(unsafe_code)]

use crate::cli::arguments::TensorPath;
use crate::cli::demo::layer::LAYER;
use crate::cli::refusal::{refusal, unreadable};
use crate::cli::stored::Stored;
use crate::cli::tensors::Tensor;
use anyhow::Result;
use clap::ValueEnum;
use mixgemm::dse::fidelity::{Matrix, Tensors};
use mixgemm::dse::space::Space;
use mixgemm::dse::workload::Workload;
use mixgemm::{Error, Mat};
use safetensors::SafeTensors;
use std::fs;
use std::path::Path;

/// Most matrices of a file that are measured.
const MOST_MATRICES: usize = 4;
/// Most output channels of a matrix of a file that are measured, evenly spaced.
const MOST_CHANNELS: usize = 512;
/// What inputs are called beside weights.
const NAMES: (&str, &str) = ("weight", "input");

/// Built-in tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum TensorsName {
    /// Both feed-forward matrices of a real layer with the inputs they saw: all-MiniLM-L6-v2, layer 4
    Layer,
    /// Gaussian weights and inputs
    Gaussian,
    /// Gaussian, with every 97th value 12 times as large
    Outliers,
}

/// A library error about the file of an option.
fn of_file(option: &str, path: &Path, error: Error) -> anyhow::Error {
    match error {
        Error::File { expected, found, .. } => refusal(option, expected, format_args!("{found} in {}", path.display())),
        Error::Value {
            argument,
            expected,
            found,
        } => refusal(
            format_args!("{option}: {argument}"),
            expected,
            format_args!("{found} of {}", path.display()),
        ),
        error => error.into(),
    }
}

/// The space of a file, or the built-in one.
pub(super) fn space(path: Option<&Path>) -> Result<Space> {
    const OPTION: &str = "--space";
    let Some(path) = path else {
        return Ok(Space::built_in()?);
    };
    let text = fs::read_to_string(path).map_err(|e| unreadable(OPTION, "a design space in TOML", path, &e))?;
    Space::from_toml(&text).map_err(|error| of_file(OPTION, path, error))
}

/// A built-in workload or that of a file.
pub(super) fn workload(name: &str) -> Result<Workload> {
    const OPTION: &str = "--workload";
    let path = Path::new(name);
    if path.extension().is_none_or(|e| !e.eq_ignore_ascii_case("csv")) {
        let expected = format!("{} or FILE.csv", Workload::NAMES.join(", "));
        return Workload::built_in(name).map_err(|_| refusal(OPTION, expected, name));
    }
    let text = fs::read_to_string(path).map_err(|e| unreadable(OPTION, "a workload", path, &e))?;
    // Where the file lies decides nothing.
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    Workload::from_csv(&stem, &text).map_err(|error| of_file(OPTION, path, error))
}

/// The first rows.
fn head(all: &Mat<f32>, rows: usize) -> Mat<f32> {
    let view = all.view();
    Mat::from_fn(rows.min(all.rows()), all.cols(), |r, c| view.row(r)[c])
}

/// Built-in tensors, with so many rows of inputs, or as many as a layer has.
pub(super) fn built_in(name: TensorsName, rows: usize) -> Result<Tensors> {
    match name {
        TensorsName::Gaussian => Ok(Tensors::gaussian(rows)?),
        TensorsName::Outliers => Ok(Tensors::outliers(rows)?),
        TensorsName::Layer => {
            let layer = SafeTensors::deserialize(LAYER)?;
            let read = |name: &str| Tensor::new(name, &layer.tensor(name)?);
            let matrix = |name: &str| -> Result<Matrix> {
                let (weights, inputs) = (read(&format!("{name}.weight"))?, read(&format!("{name}.input"))?);
                Ok(Matrix::new(name, weights.to_f32(), head(&inputs.to_f32(), rows))?)
            };
            Ok(Tensors::new(
                "all-MiniLM-L6-v2, layer 4",
                vec![matrix("up")?, matrix("down")?],
            )?)
        }
    }
}

/// Tensors of a file: its first matrices whose names end with `weight`, each with the inputs whose name ends with
/// `input` instead; where there are none, with Gaussian ones. Also what was left out, in words.
pub(super) fn from_file(path: &Path, rows: usize) -> Result<(Tensors, Option<String>)> {
    const OPTION: &str = "--weights";
    let list = Stored::list(OPTION, path)?;
    let has = |name: &str| list.iter().any(|(known, _)| known == name);
    let read = |tensor: &str| -> Result<Mat<f32>> {
        let tensor = tensor.to_string();
        Ok(Tensor::read(
            OPTION,
            &TensorPath {
                file: path.into(),
                tensor,
            },
        )?
        .to_f32())
    };
    let is_matrix = |(name, shape): &&(String, Vec<usize>)| {
        name.ends_with(NAMES.0) && shape.len() == 2 && shape.iter().all(|&extent| extent > 0)
    };
    let candidates: Vec<&str> = list.iter().filter(is_matrix).map(|(name, _)| &**name).collect();
    let mut matrices = Vec::new();
    let mut notes = Vec::new();
    for &name in candidates.iter().take(MOST_MATRICES) {
        let all = read(name)?;
        let channels = all.rows().min(MOST_CHANNELS);
        let view = all.view();
        let part = Mat::from_fn(channels, all.cols(), |n, k| view.row(n * all.rows() / channels)[k]);
        if channels < all.rows() {
            notes.push(format!("{channels} of {} output channels of {name}", all.rows()));
        }
        let stem = name.strip_suffix(NAMES.0).unwrap_or(name);
        let beside = format!("{stem}{}", NAMES.1);
        let inputs = if has(&beside) {
            head(&read(&beside)?, rows)
        } else {
            notes.push(format!("Gaussian inputs for {name}, as there is no {beside}"));
            Tensors::gaussian_inputs(rows, all.cols())
        };
        let matrix = Matrix::new(name, part, inputs);
        matrices.push(matrix.map_err(|e| refusal(OPTION, "weights and inputs that fit and are finite", e))?);
    }
    if matrices.is_empty() {
        return Err(refusal(
            OPTION,
            "a file with a matrix whose name ends with `weight`",
            format_args!("none in {}", path.display()),
        ));
    }
    if candidates.len() > matrices.len() {
        notes.insert(
            0,
            format!("the first {} of {} matrices", matrices.len(), candidates.len()),
        );
    }
    let file = path
        .file_name()
        .map_or_else(|| path.display().to_string(), |f| f.to_string_lossy().into_owned());
    let note = (!notes.is_empty()).then(|| notes.join("; "));
    Ok((Tensors::new(&file, matrices)?, note))
}
