//! Magnitudes of sample activations, and the static scales that they suggest.
//!
//! Magnitudes are counted in bins of equal width on the scale of their bit patterns, 128 to an octave, so nothing has to
//! be known about their range and the order of tensors does not matter. Maxima are exact, and so is which percentiles are 0;
//! the others are known to a bin, less than 0.8 % of their value, and given as its upper edge. The released tools of llm.npu take
//! percentiles of signed values, which overlook large negative outliers; here the sign never counts.
#![forbid(unsafe_code)]

use crate::base::error::{Error, Result};
use crate::outlier::calibration::each_row;
use crate::outlier::share::rounded_up;
use crate::quant::activation::{A8STATIC_LIMIT, INFINITE};
use crate::quant::input::Activations;
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
    zeros: u64,
    /// Of all magnitudes but 0.
    bins: Vec<u64>,
}

impl Statistics {
    /// Nothing seen yet, of `k` channels.
    #[must_use]
    pub fn new(k: usize) -> Self {
        Self {
            channels: vec![0.0; k],
            rows: 0,
            zeros: 0,
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
            zeros,
            bins,
        } = self;
        each_row(x, channels.len(), |row| {
            *count += 1;
            for (x, most) in row.iter().zip(&mut *channels) {
                let x = x.abs();
                *most = most.max(x);
                if x == 0.0 {
                    *zeros += 1;
                } else {
                    bins[(x.to_bits() >> SHIFT) as usize] += 1;
                }
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

    /// The least of 0, bin edges and the maximum with at least a share `p` of all magnitudes at or below it.
    ///
    /// # Errors
    /// [`Error::Value`] unless `0 < p ≤ 1`.
    pub fn percentile(&self, p: f64) -> Result<f32> {
        if !(p > 0.0 && p <= 1.0) {
            return Err(Error::value("percentile", "above 0 and at most 1", format!("{p}")));
        }
        let all = self.zeros + self.bins.iter().sum::<u64>();
        let wanted = rounded_up(p, all);
        let mut below = self.zeros;
        if below >= wanted {
            return Ok(0.0);
        }
        for (bin, &count) in self.bins.iter().enumerate() {
            below += count;
            if below >= wanted {
                return Ok(upper(bin).min(self.max()));
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
            .then(|| rounded_up(share, sorted.len() as u64) as usize);
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
            let expected =
                "a scale of at least 2^-23 of the largest magnitude, as the maximum or a higher percentile has";
            return Err(Error::value("scale", expected, format!("{t} for {}", self.max())));
        }
        let found = format!("nothing else in {} rows", self.rows);
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
