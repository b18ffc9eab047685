//! Which matrices of a model keep their shadow: llm.npu drops it from the 85 % that need it least, since every shadow makes
//! two processors wait for each other (arXiv 2407.05858, section 3.3).
#![forbid(unsafe_code)]

use crate::base::error::{Error, Result};
use crate::outlier::share::nearest;
use crate::quant::input::Mode;
use alloc::{format, vec, vec::Vec};

/// The share of matrices without a shadow in the paper.
pub const PRUNED: f64 = 0.85;

/// Whether each matrix keeps its shadow: all but the `fraction·L` of L matrices (rounded to the nearest integer, halves
/// up) with the least importance `max|x| / t`. Of equals the first goes first.
///
/// ```
/// use mixgemm::outlier::importance::keep;
/// assert_eq!(keep(&[300.0, 127.0, 2000.0, 150.0], 0.5)?, [true, false, true, false]);
/// # Ok::<(), mixgemm::Error>(())
/// ```
///
/// # Errors
/// [`Error::Value`] for a fraction outside 0..=1 or an importance that is NaN.
pub fn keep(importance: &[f32], fraction: f64) -> Result<Vec<bool>> {
    if !(0.0..=1.0).contains(&fraction) {
        return Err(Error::value("fraction", "0 to 1", format!("{fraction}")));
    }
    if let Some(i) = importance.iter().position(|x| x.is_nan()) {
        return Err(Error::value("importance", "numbers", format!("NaN at index {i}")));
    }
    let mut order: Vec<usize> = (0..importance.len()).collect();
    order.sort_by(|&a, &b| importance[a].total_cmp(&importance[b]));
    let pruned = nearest(fraction, importance.len() as u64) as usize;
    let mut keep = vec![true; importance.len()];
    order[..pruned].iter().for_each(|&i| keep[i] = false);
    Ok(keep)
}

/// The rule of llm.npu's released tools: no shadow where `p·θ > max` with p the 99.9th percentile of magnitudes; elsewhere
/// the scale becomes `p/127` and the shadow runs. Its samples have θ = 64.
#[must_use]
pub fn keep_by_ratio(p999: f32, max: f32, theta: f32) -> bool {
    p999 * theta <= max
}

/// The mode of a matrix with the calibrated scale t: with its shadow, or clamped.
#[must_use]
pub const fn mode(t: f32, keep: bool) -> Mode {
    Mode::A8Static {
        scale: t,
        saturate: !keep,
    }
}
