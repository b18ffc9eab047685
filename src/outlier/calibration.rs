//! What sample activations say of a matrix, streamed, from any number of tensors: its static scale ([`Statistics`]), and
//! the channels of its outliers ([`ChannelCounts`]).
#![forbid(unsafe_code)]

mod counts;
#[cfg(feature = "lab")]
mod file;
mod statistics;

pub use crate::outlier::calibration::counts::ChannelCounts;
#[cfg(feature = "lab")]
pub use crate::outlier::calibration::file::Calibration;
pub use crate::outlier::calibration::statistics::{ScaleRule, Statistics};

use crate::base::error::{Error, Result};
use crate::base::float::Element;
use crate::outlier::find::limit;
use crate::quant::input::{Activations, Row};
use alloc::{format, vec, vec::Vec};

/// What calibration found for one matrix.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(
    feature = "lab",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields)
)]
pub struct LayerCalibration {
    /// Input channels.
    pub k: usize,
    /// How the scale was chosen.
    pub rule: ScaleRule,
    /// The scale t of mode `a8static`.
    pub scale: f32,
    /// The largest magnitude seen.
    pub max: f32,
    /// The 99.9th percentile of magnitudes.
    pub p999: f32,
    /// `max|x| / t`: see [`importance`](crate::outlier::importance).
    pub importance: f32,
    /// Whether it keeps its shadow; all do unless [`importance`](crate::outlier::importance) says otherwise.
    pub shadow: bool,
    /// Rows seen.
    pub rows: u64,
    /// Channels with outliers and their counts, the most frequent first.
    pub channels: Vec<(u32, u64)>,
}

/// Calibrates one matrix from samples that can be read twice.
///
/// ```
/// use mixgemm::Mat;
/// use mixgemm::outlier::calibration::{ScaleRule, calibrate};
/// let x = Mat::from_fn(50, 100, |m, k| if k == 3 && m % 2 == 0 { 90.0 } else { (m + k) as f32 / 150.0 });
/// let found = calibrate(100, ScaleRule::Percentile(0.99), || [x.view().into()])?;
/// assert_eq!(found.channels[0], (3, 25)); // one percent lies above the scale, half of it in one channel
/// # Ok::<(), mixgemm::Error>(())
/// ```
///
/// # Errors
/// As [`Statistics::add`] and [`Statistics::scale`].
pub fn calibrate<'a, I>(k: usize, rule: ScaleRule, samples: impl Fn() -> I) -> Result<LayerCalibration>
where
    I: IntoIterator<Item = Activations<'a>>,
{
    let mut seen = Statistics::new(k);
    samples().into_iter().try_for_each(|x| seen.add(x))?;
    let mut counts = ChannelCounts::new(k, seen.scale(rule)?)?;
    samples().into_iter().try_for_each(|x| counts.add(x))?;
    LayerCalibration::new(rule, &seen, &counts)
}

impl LayerCalibration {
    /// What two passes over the same samples found: statistics, then counts of outliers of the scale that the rule
    /// chooses from them.
    ///
    /// # Errors
    /// As [`Statistics::scale`]; [`Error::Shape`] for counts of other samples.
    pub fn new(rule: ScaleRule, seen: &Statistics, counts: &ChannelCounts) -> Result<Self> {
        let scale = seen.scale(rule)?;
        let size = |k: usize, rows: u64, limit: f32| format!("{rows} rows of {k} channels, outliers above {limit}");
        let expected = size(seen.channel_max().len(), seen.rows(), limit(scale));
        let found = size(counts.counts().len(), counts.rows(), counts.limit());
        if expected != found {
            return Err(Error::shape("counts", expected, found));
        }
        let of = |k: u32| (k, counts.counts()[k as usize]);
        Ok(Self {
            k: seen.channel_max().len(),
            rule,
            scale,
            max: seen.max(),
            p999: seen.percentile(0.999)?,
            importance: seen.max() / scale,
            shadow: true,
            rows: seen.rows(),
            channels: counts.hottest().into_iter().map(of).collect(),
        })
    }

    /// Outliers among the samples.
    #[must_use]
    pub fn outliers(&self) -> u64 {
        self.channels.iter().map(|(_, count)| count).sum()
    }

    /// Outliers as a share of all samples; 0 without any.
    #[must_use]
    pub fn outlier_share(&self) -> f64 {
        self.outliers() as f64 / (self.rows as f64 * self.k as f64).max(1.0)
    }
}

/// Calls `f` with the rows of a tensor of K channels as f32.
fn each_row(x: Activations<'_>, channels: usize, mut f: impl FnMut(&[f32])) -> Result<()> {
    let (m, k) = x.shape();
    if k != channels {
        return Err(Error::shape("x", format!("K = {channels}"), format!("K = {k}")));
    }
    let mut buffer = vec![0.0; k];
    for r in 0..m {
        match x.row(r) {
            Row::F32(x) => buffer.copy_from_slice(x),
            Row::F16(x) => Element::slice_to_f32(x, &mut buffer),
            Row::Bf16(x) => Element::slice_to_f32(x, &mut buffer),
            Row::I8(..) => return Err(Error::unsupported("x", "f32, f16 or bf16 samples", x.element())),
        }
        if let Some(k) = buffer.iter().position(|x| !x.is_finite()) {
            let found = format!("{} at row {r}, column {k}", buffer[k]);
            return Err(Error::value("x", "finite samples", found));
        }
        f(&buffer);
    }
    Ok(())
}
