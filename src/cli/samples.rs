//! Sample activations from files, a tensor at a time: what is known of a layer's outliers.
#![forbid(unsafe_code)]

use crate::cli::arguments::TensorPath;
use crate::cli::progress::Progress;
use crate::cli::refusal::refusal;
use crate::cli::tensors::Tensor;
use anyhow::Result;
use mixgemm::outlier::calibration::{ChannelCounts, LayerCalibration, ScaleRule, Statistics};
use mixgemm::{Activations, Error, InputScale};

/// Steps of progress that each tensor takes.
pub(crate) const STEPS: usize = 2;

/// A rule for static scales: `max`, `percentile:99.9`, `channels:0.3` or `least-error`.
pub(crate) fn rule(s: &str) -> Result<ScaleRule, String> {
    let found = match s.split_once(':') {
        None if s == "max" => Some(ScaleRule::Max),
        None if s == "least-error" => Some(ScaleRule::LeastError),
        Some(("percentile", p)) => percent(p).filter(|p| *p > 0.0 && *p <= 1.0).map(ScaleRule::Percentile),
        Some(("channels", p)) => percent(p).filter(|p| (0.0..1.0).contains(p)).map(ScaleRule::Channels),
        _ => None,
    };
    let expected =
        "max, least-error, percentile:P with P above 0 and at most 100, or channels:P with P from 0 to below 100";
    found.ok_or_else(|| expected.into())
}

/// A share that is spelled in percent, as the decimal that it is: 0.3 percent are 0.003, and not a last bit less.
pub(crate) fn percent(s: &str) -> Option<f64> {
    let percent: f64 = s.parse().ok().filter(|p: &f64| p.is_finite())?;
    format!("{percent}e-2").parse().ok()
}

/// A share in percent, as [`percent`] reads it.
fn percent_name(share: f64) -> f64 {
    format!("{share}e2").parse().unwrap_or(100.0 * share)
}

/// How a rule is spelled.
pub(crate) fn rule_name(rule: ScaleRule) -> String {
    match rule {
        ScaleRule::Max => "max".into(),
        ScaleRule::Percentile(p) => format!("percentile:{}", percent_name(p)),
        ScaleRule::Channels(p) => format!("channels:{}", percent_name(p)),
        ScaleRule::LeastError => "least-error".into(),
    }
}

/// The tensors of one layer.
pub(crate) struct Samples<'a> {
    /// The option that names them.
    pub(crate) argument: &'a str,
    pub(crate) tensors: &'a [TensorPath],
    /// The layer's name.
    pub(crate) layer: &'a str,
    /// Input channels.
    pub(crate) k: usize,
}

impl Samples<'_> {
    /// Reads the tensors twice, for statistics and then for counts of outliers.
    pub(crate) fn calibrate(
        &self,
        choose: impl FnOnce(&Statistics) -> mixgemm::Result<ScaleRule>,
        progress: &Progress,
    ) -> Result<LayerCalibration> {
        let mut seen = Statistics::new(self.k);
        self.each(progress, |x| seen.add(x))?;
        let refused = |error| self.refused(&self.tensors[0], error);
        let rule = choose(&seen).map_err(refused)?;
        let scale = seen.scale(rule).map_err(|error| self.no_scale(rule, error))?;
        let mut counts = ChannelCounts::new(self.k, scale).map_err(refused)?;
        self.each(progress, |x| counts.add(x))?;
        LayerCalibration::new(rule, &seen, &counts).map_err(refused)
    }

    fn each(&self, progress: &Progress, mut add: impl FnMut(Activations<'_>) -> mixgemm::Result<()>) -> Result<()> {
        self.tensors.iter().try_for_each(|path| {
            progress.step(path.tensor.clone());
            let tensor = Tensor::read(self.argument, path)?;
            let x = tensor.activations(InputScale::Tensor(1.0));
            add(x).map_err(|error| self.refused(path, error))
        })
    }

    /// A refusal of samples that leave a rule without a scale: of which layer, and what else to do.
    fn no_scale(&self, rule: ScaleRule, error: Error) -> anyhow::Error {
        match error {
            Error::Value {
                argument: "scale",
                expected,
                found,
            } => {
                let expected = format!("for layer `{}` {expected}, such as --scale max", self.layer);
                refusal("--scale", expected, format_args!("{}: {found}", rule_name(rule)))
            }
            Error::Value { argument: "x", .. } => {
                let expected = format!(
                    "samples of layer `{}` that are not all 0, or none of this layer",
                    self.layer
                );
                self.refused(&self.tensors[0], Error::value("x", expected, "nothing but 0"))
            }
            error => self.refused(&self.tensors[0], error),
        }
    }

    /// A refusal of a tensor that says which.
    fn refused(&self, path: &TensorPath, error: Error) -> anyhow::Error {
        match error {
            Error::Shape { .. } | Error::Value { .. } | Error::Unsupported { .. } => {
                let error = error.at(format_args!("in {}:{}", path.file.display(), path.tensor));
                let (_, expected, found) = error.parts();
                refusal(self.argument, expected, found)
            }
            error => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percents_are_the_shares_that_they_spell() {
        for (text, share) in [
            ("7", 0.07),
            ("0.3", 0.003),
            ("99.9", 0.999),
            ("99.99", 0.9999),
            ("29e0", 0.29),
        ] {
            assert_eq!(percent(text), Some(share));
            assert_eq!(percent_name(share).to_string().parse::<f64>(), text.parse());
        }
        assert_eq!(
            (percent("inf"), percent("x"), percent("1e-400")),
            (None, None, Some(0.0))
        );
        assert_eq!(rule("channels:7"), Ok(ScaleRule::Channels(0.07)));
        assert_eq!(rule_name(ScaleRule::Percentile(0.9999)), "percentile:99.99");
    }
}
