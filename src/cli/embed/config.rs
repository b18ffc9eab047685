//! The shape of a BERT model, as its `config.json` has it.
#![forbid(unsafe_code)]

use crate::cli::refusal::{refusal, unreadable};
use anyhow::Result;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::fs;
use std::path::Path;

/// What `config.json` says; other keys do not matter here.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Config {
    model_type: String,
    hidden_act: String,
    #[serde(default = "absolute")]
    position_embedding_type: String,
    /// Width of the residual stream.
    pub(super) hidden_size: usize,
    /// Layers.
    #[serde(rename = "num_hidden_layers")]
    pub(super) layers: usize,
    /// Attention heads of a layer.
    #[serde(rename = "num_attention_heads")]
    pub(super) heads: usize,
    /// Width between the two feed-forward matrices.
    pub(super) intermediate_size: usize,
    /// Added to the variance before its root.
    #[serde(rename = "layer_norm_eps")]
    pub(super) epsilon: f64,
    /// Longest text, in tokens.
    #[serde(rename = "max_position_embeddings")]
    pub(super) positions: usize,
    /// Kinds of segments.
    #[serde(rename = "type_vocab_size")]
    pub(super) types: usize,
    /// Tokens.
    #[serde(rename = "vocab_size")]
    pub(super) vocabulary: usize,
}

fn absolute() -> String {
    "absolute".into()
}

/// What `1_Pooling/config.json` says, where a model has one.
#[derive(Debug, Deserialize)]
struct Pooling {
    pooling_mode_mean_tokens: bool,
}

/// A JSON file of the model's directory.
fn json<T: DeserializeOwned>(directory: &Path, name: &str, expected: &str) -> Result<T> {
    let path = directory.join(name);
    let text = fs::read_to_string(&path).map_err(|error| unreadable("--model", expected, &path, &error))?;
    serde_json::from_str(&text).map_err(|error| refusal("--model", expected, format_args!("{name} ({error})")))
}

impl Config {
    /// Reads and checks it.
    pub(super) fn read(directory: &Path) -> Result<Self> {
        let config: Self = json(
            directory,
            "config.json",
            "a directory with the config.json of a BERT model",
        )?;
        config.check()?;
        const POOLING: &str = "1_Pooling/config.json";
        if directory.join(POOLING).exists() {
            let pooling: Pooling = json(directory, POOLING, "pooling_mode_mean_tokens in 1_Pooling/config.json")?;
            if !pooling.pooling_mode_mean_tokens {
                return Err(refusal("--model", "a model that averages its tokens", POOLING));
            }
        }
        Ok(config)
    }

    /// Whether this is a model that can be run.
    fn check(&self) -> Result<()> {
        let found = |key: &str, expected: &str, found: &str| {
            Err(refusal(format_args!("--model, {key} of config.json"), expected, found))
        };
        let words = [
            ("model_type", "bert", &self.model_type),
            ("hidden_act", "gelu", &self.hidden_act),
            ("position_embedding_type", "absolute", &self.position_embedding_type),
        ];
        for (key, expected, value) in words {
            if value != expected {
                return found(key, expected, value);
            }
        }
        let counts = [
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.layers),
            ("num_attention_heads", self.heads),
            ("intermediate_size", self.intermediate_size),
            ("max_position_embeddings", self.positions),
            ("type_vocab_size", self.types),
            ("vocab_size", self.vocabulary),
        ];
        for (key, count) in counts {
            if count == 0 {
                return found(key, "1 or more", "0");
            }
        }
        if !self.hidden_size.is_multiple_of(self.heads) {
            let expected = format!("a divisor of hidden_size = {}", self.hidden_size);
            return found("num_attention_heads", &expected, &self.heads.to_string());
        }
        if !(self.epsilon >= 0.0 && self.epsilon.is_finite()) {
            return found("layer_norm_eps", "0 or more", &self.epsilon.to_string());
        }
        Ok(())
    }
}
