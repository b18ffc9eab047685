//! Outlier channels of a whole model as one budget: linears that the result depends on get more of them than others.
//!
//! A shadow split keeps outliers, so its error is that of rounding to multiples of the scale t alone, about `t²/12` for
//! every activation (Widrow and Kollár, *Quantization Noise*, 2008). A linear with the magnitudes `m₀ ≥ m₁ ≥ …` of its
//! channels and c of them as outliers has `t = m_c / 127`. Chosen are the counts c with the least
//!
//! ```text
//! Σ sensitivity · t²        Σ c ≤ share · Σ K        over all linears
//! ```
//!
//! by the steepest steps of the lower convex hulls of `t²` over c, as is usual where a budget is shared (Shoham and Gersho,
//! *Efficient bit allocation for an arbitrary set of quantizers*, 1988). A step that no longer fits is left out.
#![forbid(unsafe_code)]

use crate::base::error::{Error, Result};
use crate::outlier::calibration::{ScaleRule, Statistics};
use crate::outlier::share::rounded_down;
use alloc::{format, vec, vec::Vec};

/// A linear's part in the budget.
#[derive(Debug, Clone, Copy)]
pub struct Linear<'a> {
    /// Magnitudes of its inputs.
    pub seen: &'a Statistics,
    /// By how much the result of the model goes wrong for `t² = 1`, in any unit that all linears share; 0 or more.
    pub sensitivity: f64,
}

/// Fewer outliers for less error: from so many channels to more.
struct Step {
    linear: usize,
    from: usize,
    to: usize,
    /// Error for a channel.
    gain: f64,
}

/// For each linear the rule [`ScaleRule::Channels`] with which all together have at most this share of their channels as
/// outliers, and the least error.
///
/// ```
/// use mixgemm::Mat;
/// use mixgemm::outlier::budget::{Linear, budget};
/// use mixgemm::outlier::calibration::{ScaleRule, Statistics};
/// let of = |large: f32| {
///     let mut seen = Statistics::new(100);
///     seen.add(Mat::from_fn(9, 100, |_, k| if k == 7 { large } else { 1.0 }).view().into())?;
///     Ok::<_, mixgemm::Error>(seen)
/// };
/// let (calm, wild) = (of(2.0)?, of(50.0)?);
/// let linears = [&calm, &wild].map(|seen| Linear { seen, sensitivity: 1.0 });
/// // One channel of 200: it goes where it helps.
/// assert_eq!(budget(&linears, 0.005)?, [ScaleRule::Channels(0.0), ScaleRule::Channels(0.01)]);
/// # Ok::<(), mixgemm::Error>(())
/// ```
///
/// # Errors
/// [`Error::Value`] unless `0 ≤ share < 1` and sensitivities are finite and at least 0.
pub fn budget(linears: &[Linear<'_>], share: f64) -> Result<Vec<ScaleRule>> {
    if !(0.0..1.0).contains(&share) {
        let expected = "at least 0 and below 1";
        return Err(Error::value("share of channels", expected, format!("{share}")));
    }
    if let Some(i) = linears
        .iter()
        .position(|l| !(l.sensitivity.is_finite() && l.sensitivity >= 0.0))
    {
        let found = format!("{} of linear {i}", linears[i].sensitivity);
        return Err(Error::value("sensitivity", "finite and at least 0", found));
    }
    let all: usize = linears.iter().map(|linear| linear.seen.channel_max().len()).sum();
    let mut left = rounded_down(share, all as u64) as usize;
    let mut steps: Vec<Step> = Vec::new();
    for (i, linear) in linears.iter().enumerate() {
        hull(i, linear, left, &mut steps);
    }
    // Stable: of equal gains the first linear's goes first, and a hull's own steps stay in order.
    steps.sort_by(|a, b| b.gain.total_cmp(&a.gain));
    let mut counts = vec![0; linears.len()];
    for step in steps {
        let more = step.to - step.from;
        if step.gain > 0.0 && counts[step.linear] == step.from && more <= left {
            counts[step.linear] = step.to;
            left -= more;
        }
    }
    let rules = linears.iter().zip(counts).map(|(linear, count)| {
        let channels = linear.seen.channel_max().len();
        ScaleRule::Channels(count as f64 / channels.max(1) as f64)
    });
    Ok(rules.collect())
}

/// The steps along the lower convex hull of a linear's error over its outlier channels, at most `most` of them. A channel
/// that is not 0 is always left, to reach.
fn hull(number: usize, linear: &Linear<'_>, most: usize, steps: &mut Vec<Step>) {
    let mut sorted = linear.seen.channel_max().to_vec();
    sorted.retain(|&x| x > 0.0);
    sorted.sort_unstable_by(|a, b| b.total_cmp(a));
    sorted.truncate(most + 1);
    let error = |count: usize| linear.sensitivity * f64::from(sorted[count]) * f64::from(sorted[count]);
    let gain = |from: usize, to: usize| (error(from) - error(to)) / (to - from) as f64;
    let mut corners: Vec<usize> = Vec::new();
    for count in 0..sorted.len() {
        while let [.., before, last] = corners[..]
            && gain(before, last) <= gain(last, count)
        {
            corners.pop();
        }
        corners.push(count);
    }
    steps.extend(corners.windows(2).map(|pair| Step {
        linear: number,
        from: pair[0],
        to: pair[1],
        gain: gain(pair[0], pair[1]),
    }));
}
