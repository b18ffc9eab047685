//! The tensors of a BERT model.
#![forbid(unsafe_code)]

use super::config::Config;
use crate::cli::arguments::TensorPath;
use crate::cli::refusal::refusal;
use crate::cli::stored::Stored;
use crate::cli::tensors::read_values;
use anyhow::Result;
use mixgemm::{Activation, Epilogue, Mat};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Linears of a layer, by their order: query, key, value, attention output, intermediate, output.
pub(super) const LINEARS: usize = 6;

/// `act(x · Wᵀ + bias)`.
pub(super) struct Linear {
    /// Its name in the checkpoint.
    pub(super) name: String,
    /// `[N, K]`.
    pub(super) weights: Mat<f32>,
    bias: Vec<f32>,
    activation: Activation,
}

impl Linear {
    /// What follows the product.
    pub(super) fn epilogue(&self) -> Epilogue<'_> {
        Epilogue::new().bias(&self.bias).activation(self.activation)
    }
}

/// A layer norm.
pub(super) struct Norm {
    pub(super) weight: Vec<f32>,
    pub(super) bias: Vec<f32>,
}

/// A model in f32.
pub(super) struct Model {
    pub(super) config: Config,
    /// `[vocabulary, hidden]`.
    pub(super) words: Mat<f32>,
    /// `[positions, hidden]`.
    pub(super) positions: Mat<f32>,
    /// `[types, hidden]`.
    pub(super) types: Mat<f32>,
    pub(super) norm: Norm,
    /// [`LINEARS`] a layer.
    pub(super) linears: Vec<Linear>,
    /// After attention and after the feed-forward part of every layer.
    pub(super) norms: Vec<[Norm; 2]>,
}

/// The checkpoint and what is in it.
struct Checkpoint {
    file: PathBuf,
    shapes: BTreeMap<String, Vec<usize>>,
}

impl Checkpoint {
    /// The values of a tensor of this shape, all finite.
    fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let argument = format!("--model, tensor {name}");
        let Some(found) = self.shapes.get(name) else {
            let found = format_args!("none of that name in {}", self.file.display()).to_string();
            return Err(refusal(argument, format_args!("shape {shape:?}"), found));
        };
        if found != shape {
            let expected = format_args!("shape {shape:?}, as config.json has it").to_string();
            return Err(refusal(argument, expected, format_args!("shape {found:?}")));
        }
        let path = TensorPath {
            file: self.file.clone(),
            tensor: name.into(),
        };
        let values = read_values(&argument, &path)?;
        if let Some(i) = values.iter().position(|x| !x.is_finite()) {
            return Err(refusal(argument, "finite values", format_args!("{} at {i}", values[i])));
        }
        Ok(values)
    }

    fn matrix(&self, name: &str, rows: usize, cols: usize) -> Result<Mat<f32>> {
        Ok(Mat::from_vec(self.values(name, &[rows, cols])?, rows, cols)?)
    }

    fn norm(&self, name: &str, hidden: usize) -> Result<Norm> {
        Ok(Norm {
            weight: self.values(&format!("{name}.weight"), &[hidden])?,
            bias: self.values(&format!("{name}.bias"), &[hidden])?,
        })
    }

    fn linear(&self, name: String, n: usize, k: usize, activation: Activation) -> Result<Linear> {
        Ok(Linear {
            weights: self.matrix(&format!("{name}.weight"), n, k)?,
            bias: self.values(&format!("{name}.bias"), &[n])?,
            name,
            activation,
        })
    }
}

impl Model {
    /// Reads `config.json` and `model.safetensors`.
    pub(super) fn read(directory: &Path) -> Result<Self> {
        let config = Config::read(directory)?;
        let file = directory.join("model.safetensors");
        let shapes = Stored::list("--model", &file)?.into_iter().collect();
        let from = Checkpoint { file, shapes };
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let (mut linears, mut norms) = (Vec::new(), Vec::new());
        for layer in 0..config.layers {
            let name = |part: &str| format!("encoder.layer.{layer}.{part}");
            let parts = [
                ("attention.self.query", hidden, hidden, Activation::Identity),
                ("attention.self.key", hidden, hidden, Activation::Identity),
                ("attention.self.value", hidden, hidden, Activation::Identity),
                ("attention.output.dense", hidden, hidden, Activation::Identity),
                ("intermediate.dense", inner, hidden, Activation::Gelu),
                ("output.dense", hidden, inner, Activation::Identity),
            ];
            for (part, n, k, activation) in parts {
                linears.push(from.linear(name(part), n, k, activation)?);
            }
            norms.push([
                from.norm(&name("attention.output.LayerNorm"), hidden)?,
                from.norm(&name("output.LayerNorm"), hidden)?,
            ]);
        }
        let table = |name: &str, rows| from.matrix(&format!("embeddings.{name}.weight"), rows, hidden);
        Ok(Self {
            words: table("word_embeddings", config.vocabulary)?,
            positions: table("position_embeddings", config.positions)?,
            types: table("token_type_embeddings", config.types)?,
            norm: from.norm("embeddings.LayerNorm", hidden)?,
            linears,
            norms,
            config,
        })
    }
}
