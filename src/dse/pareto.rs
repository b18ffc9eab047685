//! The Pareto frontier: points that no other point beats.
//!
//! A point has a fidelity in dB and an efficiency; more is better in both. With the tolerance `t`, a point q *dominates*
//! a point p when
//!
//! ```text
//! q.fidelity ≥ p.fidelity  and  q.efficiency ≥ p.efficiency                  at least as good in both, and
//! q.fidelity > p.fidelity + t.decibels  or  q.efficiency > p.efficiency·(1 + t.share)      really better in one
//! ```
//!
//! The frontier is the set of points that no point dominates. Equal points are all kept, and so is a point that is
//! behind by no more than the tolerance. The definition names no order, so the frontier does not depend on one.
#![forbid(unsafe_code)]

use crate::base::error::{Error, Result};
use alloc::{format, vec::Vec};

/// What is a tie.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// Difference in fidelity that is no advantage, in dB.
    pub decibels: f64,
    /// Relative difference in efficiency that is no advantage.
    pub share: f64,
}

impl Tolerance {
    /// 0.01 dB and a tenth of a percent: what the figures themselves are worth.
    pub const DEFAULT: Self = Self {
        decibels: 0.01,
        share: 0.001,
    };
    /// Only equal points tie.
    pub const NONE: Self = Self {
        decibels: 0.0,
        share: 0.0,
    };

    /// Whether q dominates p; both are (fidelity, efficiency).
    #[must_use]
    pub fn dominates(self, q: (f64, f64), p: (f64, f64)) -> bool {
        q.0 >= p.0 && q.1 >= p.1 && (q.0 > p.0 + self.decibels || q.1 > self.efficiency_to_beat(p.1))
    }

    fn efficiency_to_beat(self, efficiency: f64) -> f64 {
        efficiency * (1.0 + self.share)
    }
}

/// The places of the undominated points, ascending. `points` are (fidelity in dB, efficiency). O(n log n).
///
/// ```
/// use mixgemm::dse::pareto::{Tolerance, frontier};
/// let points = [(20.0, 1.0), (10.0, 4.0), (15.0, 0.9), (10.0, 4.0)];
/// assert_eq!(frontier(&points, Tolerance::NONE)?, [0, 1, 3]);
/// # Ok::<(), mixgemm::Error>(())
/// ```
///
/// # Errors
/// [`Error::Value`] for a NaN and for an efficiency that is negative or infinite. A fidelity may be infinite.
pub fn frontier(points: &[(f64, f64)], tolerance: Tolerance) -> Result<Vec<usize>> {
    for (i, &(fidelity, efficiency)) in points.iter().enumerate() {
        if fidelity.is_nan() || !(0.0..f64::INFINITY).contains(&efficiency) {
            return Err(Error::value(
                "points",
                "a fidelity in dB and a finite efficiency from 0 on",
                format!("({fidelity}, {efficiency}) at {i}"),
            ));
        }
    }
    let mut order: Vec<usize> = (0..points.len()).collect();
    order.sort_by(|&a, &b| points[b].1.total_cmp(&points[a].1));
    // The best fidelity among the most efficient 1, 2, … points.
    let mut best = Vec::with_capacity(points.len());
    let mut most = f64::NEG_INFINITY;
    for &i in &order {
        most = most.max(points[i].0);
        best.push(most);
    }
    let best_among = |count: usize| if count == 0 { f64::NEG_INFINITY } else { best[count - 1] };
    let efficient = |holds: &dyn Fn(f64) -> bool| order.partition_point(|&i| holds(points[i].1));
    let survives = |&(fidelity, efficiency): &(f64, f64)| {
        let as_good = best_among(efficient(&|e| e >= efficiency));
        let to_beat = tolerance.efficiency_to_beat(efficiency);
        let clearly_better = efficient(&|e| e > to_beat);
        let beaten_in_efficiency = clearly_better > 0 && best_among(clearly_better) >= fidelity;
        as_good <= fidelity + tolerance.decibels && !beaten_in_efficiency
    };
    Ok((0..points.len()).filter(|&i| survives(&points[i])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, for every pair.
    fn by_definition(points: &[(f64, f64)], t: Tolerance) -> Vec<usize> {
        let dominated = |&p: &(f64, f64)| points.iter().any(|&q| t.dominates(q, p));
        (0..points.len()).filter(|&i| !dominated(&points[i])).collect()
    }

    fn points() -> impl Strategy<Value = Vec<(f64, f64)>> {
        // A coarse grid makes ties and near ties common.
        let fidelity = prop_oneof![
            9 => (0i32..40).prop_map(|v| f64::from(v) * 0.01),
            1 => Just(f64::INFINITY),
            1 => Just(f64::NEG_INFINITY)
        ];
        let efficiency = prop_oneof![(0i32..40).prop_map(|v| f64::from(v) * 0.0005 + 1.0), Just(0.0)];
        proptest::collection::vec((fidelity, efficiency), 0..60)
    }

    proptest! {
        #[test]
        fn is_what_the_definition_says(points in points(), decibels in 0i32..4, share in 0i32..4) {
            let t = Tolerance { decibels: f64::from(decibels) * 0.01, share: f64::from(share) * 0.0005 };
            let found = frontier(&points, t).unwrap();
            prop_assert_eq!(&found, &by_definition(&points, t));
            prop_assert_eq!(found.is_empty(), points.is_empty());
        }

        #[test]
        fn does_not_depend_on_the_order(points in points(), by in 0usize..60) {
            let mut turned: Vec<usize> = (0..points.len()).rev().collect();
            if !turned.is_empty() {
                let by = by % turned.len();
                turned.rotate_left(by);
            }
            let there: Vec<_> = turned.iter().map(|&i| points[i]).collect();
            let mut found: Vec<_> = frontier(&there, Tolerance::DEFAULT).unwrap().iter().map(|&i| turned[i]).collect();
            found.sort_unstable();
            prop_assert_eq!(found, frontier(&points, Tolerance::DEFAULT).unwrap());
        }

        #[test]
        fn keeps_every_tie(points in points()) {
            let twice: Vec<_> = points.iter().chain(&points).copied().collect();
            let (once, found) = (frontier(&points, Tolerance::NONE).unwrap(), frontier(&twice, Tolerance::NONE).unwrap());
            let expected: Vec<_> = once.iter().copied().chain(once.iter().map(|i| i + points.len())).collect();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_point_behind_by_less_than_the_tolerance_stays() {
        let points = [(20.0, 2.0), (19.995, 2.0), (20.0, 1.999), (19.98, 2.0), (20.0, 1.99)];
        assert_eq!(frontier(&points, Tolerance::DEFAULT).unwrap(), [0, 1, 2]);
        assert_eq!(frontier(&points, Tolerance::NONE).unwrap(), [0]);
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        for bad in [(f64::NAN, 1.0), (1.0, f64::NAN), (1.0, -1.0), (1.0, f64::INFINITY)] {
            assert!(frontier(&[(1.0, 1.0), bad], Tolerance::DEFAULT).is_err(), "{bad:?}");
        }
    }
}
