//! Static scales of a model's linears: from a file, or from two passes of the f32 model over the calibration texts, with
//! one more for every linear where outlier channels are shared out among them.
#![forbid(unsafe_code)]

use super::encoder::{Seconds, embed};
use super::linears::{Floats, Rounded, See, of_linear};
use super::model::Model;
use super::report::cosine;
use super::tokens::Text;
use crate::cli::pruning::PruningArgs;
use crate::cli::samples::{self, percent};
use crate::cli::split;
use anyhow::Result;
use mixgemm::outlier::budget::{Linear, budget};
use mixgemm::outlier::calibration::{ChannelCounts, LayerCalibration, ScaleRule, Statistics};
use std::path::Path;

/// How static scales are chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scale {
    /// For every linear by itself.
    Rule(ScaleRule),
    /// So large a share of all input channels as outliers, where they help the embeddings most.
    Budget(f64),
}

/// A way to choose scales as it is spelled.
pub(super) fn scale(s: &str) -> Result<Scale, String> {
    let found = match s.strip_prefix("budget:") {
        Some(p) => percent(p).filter(|p| (0.0..1.0).contains(p)).map(Scale::Budget),
        None => {
            return samples::rule(s)
                .map(Scale::Rule)
                .map_err(|rules| format!("{rules}, or budget:P"));
        }
    };
    found.ok_or_else(|| "budget:P with P from 0 to below 100".into())
}

/// The scale of a linear unless one is given.
const DEFAULT: ScaleRule = ScaleRule::Channels(0.003);

/// Shows the inputs of all linears on these texts; their embeddings.
fn pass(model: &Model, texts: &[Text], step: &dyn Fn(), see: &mut See<'_>) -> Result<Vec<Vec<f32>>> {
    let mut floats = Floats { model, see };
    embed(model, texts, &mut floats, &mut Seconds::default(), step)
}

/// A refusal of a linear's samples.
fn refused(model: &Model, i: usize, error: mixgemm::Error) -> anyhow::Error {
    of_linear(&model.linears[i].name, error)
}

/// How often `step` hears of every layer of every batch.
pub(super) fn passes(model: &Model, scale: Option<Scale>) -> usize {
    match scale {
        Some(Scale::Budget(_)) => 2 + model.linears.len(),
        _ => 2,
    }
}

/// The calibration of every linear.
pub(super) fn calibrate(
    model: &Model,
    texts: &[Text],
    (scale, pruning): (Option<Scale>, &PruningArgs),
    step: &dyn Fn(),
) -> Result<Vec<LayerCalibration>> {
    let widths = || model.linears.iter().map(|linear| linear.weights.cols());
    let mut seen: Vec<Statistics> = widths().map(Statistics::new).collect();
    let truth = pass(model, texts, step, &mut |i, x, _| {
        seen[i].add(x.view().into()).map_err(|error| refused(model, i, error))
    })?;
    let rules = match scale {
        Some(Scale::Budget(share)) => {
            let sensitivities = sensitivities(model, texts, (&seen, &truth), share, step)?;
            let linears = seen.iter().zip(sensitivities);
            let linears: Vec<_> = linears
                .map(|(seen, sensitivity)| Linear { seen, sensitivity })
                .collect();
            budget(&linears, share)?.into_iter().map(|rule| (rule, true)).collect()
        }
        scale => {
            let given = match scale {
                Some(Scale::Rule(rule)) => Some(rule),
                _ => None,
            };
            let rules = seen.iter().enumerate();
            let rules = rules.map(|(i, seen)| pruning.rule(seen, given, DEFAULT).map_err(|e| refused(model, i, e)));
            rules.collect::<Result<Vec<_>>>()?
        }
    };
    let counts = seen.iter().zip(&rules).enumerate().map(|(i, (seen, &(rule, _)))| {
        let counts = seen
            .scale(rule)
            .and_then(|t| ChannelCounts::new(seen.channel_max().len(), t));
        counts.map_err(|error| refused(model, i, error))
    });
    let mut counts: Vec<ChannelCounts> = counts.collect::<Result<_>>()?;
    pass(model, texts, step, &mut |i, x, _| {
        counts[i].add(x.view().into()).map_err(|error| refused(model, i, error))
    })?;
    let all = seen.iter().zip(&counts).zip(rules).enumerate();
    let all = all.map(|(i, ((seen, counts), (rule, shadow)))| {
        let layer = LayerCalibration::new(rule, seen, counts).map_err(|error| refused(model, i, error))?;
        Ok(LayerCalibration { shadow, ..layer })
    });
    let mut all = all.collect::<Result<Vec<_>>>()?;
    // Query, key and value are equals. They go in the order of names, as in a file by `mixgemm calibrate`.
    let mut named: Vec<_> = model.linears.iter().map(|linear| &linear.name).zip(&mut all).collect();
    named.sort_by(|a, b| a.0.cmp(b.0));
    pruning.prune(named.into_iter().map(|(_, layer)| layer))?;
    Ok(all)
}

/// What each linear alone does to the embeddings: the mean of 1 − cosine when its inputs are multiples of a scale t, over t².
fn sensitivities(
    model: &Model,
    texts: &[Text],
    (seen, truth): (&[Statistics], &[Vec<f32>]),
    share: f64,
    step: &dyn Fn(),
) -> Result<Vec<f64>> {
    let of = |(i, seen): (usize, &Statistics)| {
        let scale = seen
            .scale(ScaleRule::Channels(share))
            .map_err(|error| refused(model, i, error))?;
        let mut rounded = Rounded {
            floats: Floats {
                model,
                see: &mut |_, _, _| Ok(()),
            },
            linear: i,
            scale,
        };
        let found = embed(model, texts, &mut rounded, &mut Seconds::default(), step)?;
        let errors = truth
            .iter()
            .zip(&found)
            .map(|(truth, found)| 1.0 - cosine(truth, found));
        Ok(errors.sum::<f64>() / texts.len() as f64 / f64::from(scale) / f64::from(scale))
    };
    seen.iter().enumerate().map(of).collect()
}

/// The calibration of every linear, from a file by `mixgemm calibrate` with the names of the checkpoint's weights.
pub(super) fn from_file(model: &Model, path: &Path) -> Result<Vec<LayerCalibration>> {
    let file = split::read("--calibration", path)?;
    let layers = model.linears.iter().map(|linear| {
        let layer = file.layer(&format!("{}.weight", linear.name), linear.weights.cols());
        layer
            .cloned()
            .map_err(|error| split::of_file("--calibration", path, error))
    });
    layers.collect()
}
