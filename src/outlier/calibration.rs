//! Static scales from sample activations: statistics over |x|, streamed, from any number of tensors.
//!
//! Magnitudes are counted in bins of equal width on the scale of their bit patterns, 128 to an octave, so nothing has to
//! be known about their range and the order of tensors does not matter. Maxima are exact; percentiles are known to a bin,
//! less than 0.8 % of their value, and given as its upper edge. The released tools of llm.npu take percentiles of signed
//! values, which overlook large negative outliers; here the sign never counts.
#![forbid(unsafe_code)]

#[cfg(feature = "lab")]
mod file;

#[cfg(feature = "lab")]
pub use crate::outlier::calibration::file::Calibration;

use crate::base::error::{Error, Result};
use crate::base::float::Element;
use crate::outlier::find::limit;
use crate::quant::activation::{A8STATIC_LIMIT, INFINITE};
use crate::quant::input::{Activations, Row};
use alloc::{format, vec, vec::Vec};

/// Bits of an f32 below its bin.
const SHIFT: u32 = 16;

/// How a static scale is chosen from statistics.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(
    feature = "lab",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
pub enum ScaleRule {
    /// `t = max|x| / 127`: nothing seen is an outlier.
    Max,
    /// `t = p/127` with p at or just above so many of all magnitudes, above 0 and at most 1; llm.npu has 0.999.
    Percentile(f64),
    /// `t = m/127` with m the largest magnitude outside of so large a share of the channels, at least 0 and below 1,
    /// rounded up to whole channels: those with the largest magnitudes. llm.npu has 0.1 to 0.3 % of them as outliers.
    Channels(f64),
    /// The t with the least expected squared error of `t·clamp(rne(x/t), ±127)`, taking errors within the range as
    /// uniform (`t²/12`).
    LeastError,
}

/// Magnitudes of activations that enter one matrix: per channel the largest, and a histogram of all.
///
/// ```
/// use mixgemm::Mat;
/// use mixgemm::outlier::calibration::{ScaleRule, Statistics};
/// let mut seen = Statistics::new(4);
/// for text in 0..3 {
///     let x = Mat::from_fn(100, 4, |m, k| if (m, k) == (7, 2) { -508.0 } else { (text * m % 13) as f32 });
///     seen.add(x.view().into())?;
/// }
/// assert_eq!((seen.max(), seen.channel_max()[2]), (508.0, 508.0));
/// assert_eq!(seen.scale(ScaleRule::Max)?, 4.0);
/// assert!((seen.scale(ScaleRule::Percentile(0.99))? - 12.0 / 127.0).abs() < 0.001);
/// # Ok::<(), mixgemm::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Statistics {
    channels: Vec<f32>,
    rows: u64,
    bins: Vec<u64>,
}

/// Calls `f` with the rows of a tensor of K channels as f32.
fn rows(x: Activations<'_>, channels: usize, mut f: impl FnMut(&[f32])) -> Result<()> {
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

impl Statistics {
    /// Nothing seen yet, of `k` channels.
    #[must_use]
    pub fn new(k: usize) -> Self {
        Self {
            channels: vec![0.0; k],
            rows: 0,
            bins: vec![0; (INFINITE >> SHIFT) as usize],
        }
    }

    /// Adds a tensor.
    ///
    /// # Errors
    /// [`Error::Shape`] for another number of channels, [`Error::Unsupported`] for int8 input, [`Error::Value`] for a
    /// sample that is not finite; rows before it have been added then.
    pub fn add(&mut self, x: Activations<'_>) -> Result<()> {
        let Self {
            channels,
            rows: count,
            bins,
        } = self;
        rows(x, channels.len(), |row| {
            *count += 1;
            for (x, most) in row.iter().zip(&mut *channels) {
                *most = most.max(x.abs());
                bins[(x.abs().to_bits() >> SHIFT) as usize] += 1;
            }
        })
    }

    /// Rows seen.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The largest magnitude of every channel.
    #[must_use]
    pub fn channel_max(&self) -> &[f32] {
        &self.channels
    }

    /// The largest magnitude; 0 where nothing was seen.
    #[must_use]
    pub fn max(&self) -> f32 {
        self.channels.iter().fold(0.0, |most, x| most.max(*x))
    }

    /// The least bin edge, or the maximum, with at least a share `p` of all magnitudes at or below it.
    ///
    /// # Errors
    /// [`Error::Value`] unless `0 < p ≤ 1`.
    pub fn percentile(&self, p: f64) -> Result<f32> {
        if !(p > 0.0 && p <= 1.0) {
            return Err(Error::value("percentile", "above 0 and at most 1", format!("{p}")));
        }
        let all: u64 = self.bins.iter().sum();
        let wanted = libm::ceil(p * all as f64) as u64;
        let mut below = 0;
        for (bin, &count) in self.bins.iter().enumerate() {
            below += count;
            if below >= wanted {
                let edge = if bin == 0 && self.bins[0] == all {
                    0.0
                } else {
                    upper(bin)
                };
                return Ok(edge.min(self.max()));
            }
        }
        Ok(self.max())
    }

    /// The largest magnitude outside of a share of the channels, rounded up: those with the largest magnitudes.
    ///
    /// # Errors
    /// [`Error::Value`] unless `0 ≤ share < 1`, and where no channel is left.
    pub fn max_outside(&self, share: f64) -> Result<f32> {
        let mut sorted = self.channels.clone();
        sorted.sort_unstable_by(|a, b| b.total_cmp(a));
        let left_out = (0.0..1.0)
            .contains(&share)
            .then(|| libm::ceil(share * sorted.len() as f64) as usize);
        let left = left_out.and_then(|count| sorted.get(count));
        left.copied().ok_or_else(|| {
            let expected = format!("at least 0 and less than all of {} channels", sorted.len());
            Error::value("share of channels", expected, format!("{share}"))
        })
    }

    /// The scale t of mode `a8static` that a rule chooses.
    ///
    /// # Errors
    /// [`Error::Value`] where all samples are so small that no scale is left, or for a bad percentile.
    pub fn scale(&self, rule: ScaleRule) -> Result<f32> {
        let t = match rule {
            ScaleRule::Max => self.max() / 127.0,
            ScaleRule::Percentile(p) => self.percentile(p)? / 127.0,
            ScaleRule::Channels(share) => self.max_outside(share)? / 127.0,
            ScaleRule::LeastError => self.least_error(),
        };
        // A larger quotient is no integer of a split.
        if t > 0.0 && self.max() / t < A8STATIC_LIMIT {
            return Ok(t);
        }
        if self.max() > 0.0 {
            let expected = "at least 2^-23 of the largest magnitude: the maximum, or a higher percentile";
            return Err(Error::value("scale", expected, format!("{t} for {}", self.max())));
        }
        let found = format!(
            "a scale of {t} from {} rows, the largest magnitude {}",
            self.rows,
            self.max()
        );
        Err(Error::value("x", "samples that are not all 0", found))
    }

    /// Of the scales whose range ends at a bin in the upper ten octaves, the one with the least error.
    fn least_error(&self) -> f32 {
        let top = (self.max().to_bits() >> SHIFT) as usize;
        let occupied = || self.bins.iter().enumerate().filter(|(_, count)| **count > 0);
        let mut best = (f64::INFINITY, 0.0);
        for bin in top.saturating_sub(10 * 128)..=top {
            let t = upper(bin).min(self.max()) / 127.0;
            let wide = f64::from(t);
            let error: f64 = occupied()
                .map(|(bin, &count)| {
                    let x = f64::from(f32::from_bits((bin as u32) << SHIFT | 1 << (SHIFT - 1)));
                    let error = if x <= wide / 2.0 {
                        x * x
                    } else if x <= 127.5 * wide {
                        wide * wide / 12.0
                    } else {
                        (x - 127.0 * wide) * (x - 127.0 * wide)
                    };
                    error * count as f64
                })
                .sum();
            if t > 0.0 && error < best.0 {
                best = (error, t);
            }
        }
        best.1
    }
}

/// The largest magnitude of a bin.
fn upper(bin: usize) -> f32 {
    f32::from_bits(((bin as u32 + 1) << SHIFT) - 1)
}

/// How often each channel had outliers of a scale, in how many rows: a second pass over the samples.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelCounts {
    limit: f32,
    rows: u64,
    counts: Vec<u64>,
}

impl ChannelCounts {
    /// Nothing counted yet, of `k` channels, for the scale t of mode `a8static`.
    ///
    /// # Errors
    /// [`Error::Value`] for a scale that is not finite and positive.
    pub fn new(k: usize, t: f32) -> Result<Self> {
        if !(t.is_finite() && t > 0.0) {
            return Err(Error::value("scale", "a finite positive scale", format!("{t}")));
        }
        Ok(Self {
            limit: limit(t),
            rows: 0,
            counts: vec![0; k],
        })
    }

    /// Adds a tensor.
    ///
    /// # Errors
    /// As [`Statistics::add`].
    pub fn add(&mut self, x: Activations<'_>) -> Result<()> {
        let Self {
            limit,
            rows: all,
            counts,
        } = self;
        rows(x, counts.len(), |row| {
            *all += 1;
            for (x, count) in row.iter().zip(&mut *counts) {
                *count += u64::from(x.abs() > *limit);
            }
        })
    }

    /// Rows seen.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Outliers of every channel.
    #[must_use]
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// The channels with outliers, the most frequent first, ties in ascending order.
    #[must_use]
    pub fn hottest(&self) -> Vec<u32> {
        let mut channels: Vec<u32> = (0..self.counts.len() as u32).collect();
        channels.retain(|&k| self.counts[k as usize] > 0);
        channels.sort_by_key(|&k| core::cmp::Reverse(self.counts[k as usize]));
        channels
    }
}

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
        let expected = size(seen.channels.len(), seen.rows, limit(scale));
        let found = size(counts.counts.len(), counts.rows, counts.limit);
        if expected != found {
            return Err(Error::shape("counts", expected, found));
        }
        let of = |k: u32| (k, counts.counts[k as usize]);
        Ok(Self {
            k: seen.channels.len(),
            rule,
            scale,
            max: seen.max(),
            p999: seen.percentile(0.999)?,
            importance: seen.max() / scale,
            shadow: true,
            rows: seen.rows,
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
