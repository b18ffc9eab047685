//! Which layers keep their shadow, as `calibrate` and `embed` are asked for it.
#![forbid(unsafe_code)]

use mixgemm::outlier::calibration::{LayerCalibration, ScaleRule, Statistics};
use mixgemm::outlier::importance;

/// The percentile of llm.npu, for scales and for its ratio.
pub(crate) const P999: ScaleRule = ScaleRule::Percentile(0.999);

/// Options that take the shadow from layers.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub(crate) struct PruningArgs {
    /// Take the shadow from this fraction of the layers, 0 to 1
    #[arg(long, value_name = "F", num_args = 0..=1, default_missing_value = "0.85", value_parser = fraction)]
    pub(crate) prune: Option<f64>,
    /// Take the shadow from layers whose 99.9th percentile is more than this fraction, 1/THETA, of the maximum
    #[arg(long, value_name = "THETA", num_args = 0..=1, default_missing_value = "64", value_parser = theta)]
    #[arg(conflicts_with = "prune")]
    pub(crate) ratio: Option<f32>,
}

fn fraction(s: &str) -> Result<f64, String> {
    let fraction = s.parse().ok().filter(|f| (0.0..=1.0).contains(f));
    fraction.ok_or_else(|| "0 to 1".into())
}

fn theta(s: &str) -> Result<f32, String> {
    let theta = s.parse().ok().filter(|t: &f32| t.is_finite() && *t > 0.0);
    theta.ok_or_else(|| "a number above 0".into())
}

impl PruningArgs {
    /// The rule for a layer's scale, and whether it keeps its shadow. By ratio, layers with a shadow have the scale
    /// p99.9/127, and the others the rule that was given, or the maximum.
    pub(crate) fn rule(
        &self,
        seen: &Statistics,
        given: Option<ScaleRule>,
        otherwise: ScaleRule,
    ) -> mixgemm::Result<(ScaleRule, bool)> {
        let Some(theta) = self.ratio else {
            return Ok((given.unwrap_or(otherwise), true));
        };
        let keep = importance::keep_by_ratio(seen.percentile(0.999)?, seen.max(), theta);
        let rule = if keep { P999 } else { given.unwrap_or(ScaleRule::Max) };
        Ok((rule, keep))
    }

    /// Takes the shadow from a fraction of the layers, those with the least importance.
    pub(crate) fn prune<'a>(&self, layers: impl Iterator<Item = &'a mut LayerCalibration>) -> mixgemm::Result<()> {
        let Some(fraction) = self.prune else {
            return Ok(());
        };
        let layers: Vec<_> = layers.collect();
        let importance: Vec<f32> = layers.iter().map(|layer| layer.importance).collect();
        let keep = importance::keep(&importance, fraction)?;
        layers
            .into_iter()
            .zip(keep)
            .for_each(|(layer, keep)| layer.shadow = keep);
        Ok(())
    }
}
