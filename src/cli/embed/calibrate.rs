//! Static scales of a model's linears: two passes of the f32 model over the calibration texts.
#![forbid(unsafe_code)]

use super::encoder::{Seconds, embed};
use super::linears::{Floats, See, of_linear};
use super::model::Model;
use super::tokens::Text;
use anyhow::Result;
use mixgemm::outlier::calibration::{ChannelCounts, LayerCalibration, ScaleRule, Statistics};

/// Shows the inputs of all linears on these texts.
fn pass(model: &Model, texts: &[Text], step: &dyn Fn(), see: &mut See<'_>) -> Result<()> {
    let mut floats = Floats { model, see };
    embed(model, texts, &mut floats, &mut Seconds::default(), step).map(drop)
}

/// The calibration of every linear. `step` hears of every layer of every batch, twice.
pub(super) fn calibrate(
    model: &Model,
    texts: &[Text],
    rule: ScaleRule,
    step: &dyn Fn(),
) -> Result<Vec<LayerCalibration>> {
    let widths = || model.linears.iter().map(|linear| linear.weights.cols());
    let refused = |i: usize, error| of_linear(&model.linears[i].name, error);
    let mut seen: Vec<Statistics> = widths().map(Statistics::new).collect();
    pass(model, texts, step, &mut |i, x, _| {
        seen[i].add(x.view().into()).map_err(|error| refused(i, error))
    })?;
    let scales = seen.iter().zip(widths());
    let counts = scales.enumerate().map(|(i, (seen, k))| {
        let scale = seen.scale(rule);
        scale
            .and_then(|t| ChannelCounts::new(k, t))
            .map_err(|error| refused(i, error))
    });
    let mut counts: Vec<ChannelCounts> = counts.collect::<Result<_>>()?;
    pass(model, texts, step, &mut |i, x, _| {
        counts[i].add(x.view().into()).map_err(|error| refused(i, error))
    })?;
    let both = seen.iter().zip(&counts).enumerate();
    both.map(|(i, (seen, counts))| LayerCalibration::new(rule, seen, counts).map_err(|e| refused(i, e)))
        .collect()
}
