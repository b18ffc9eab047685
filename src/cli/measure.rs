//! Clocks: slices of calls, their medians, and the order of rounds.
#![forbid(unsafe_code)]

use mixgemm::Result;
use std::time::{Duration, Instant};

/// The median seconds of the calls that fit into `budget`, at least one. `call` times itself. Unless the budget is
/// zero, a first call that is not counted wakes threads and fills caches.
pub(crate) fn slice(budget: Duration, mut call: impl FnMut() -> Result<f64>) -> Result<f64> {
    if budget > Duration::ZERO {
        call()?;
    }
    let begin = Instant::now();
    let mut times = vec![call()?];
    while begin.elapsed() < budget {
        times.push(call()?);
    }
    Ok(median(times))
}

/// What `work` returns, and the seconds it took.
pub(crate) fn timed<R>(work: impl FnOnce() -> R) -> (R, f64) {
    let begin = Instant::now();
    let result = work();
    (result, begin.elapsed().as_secs_f64())
}

/// The middle value, or the mean of the two in the middle; NaN of nothing.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[half],
        _ => f64::midpoint(values[half - 1], values[half]),
    }
}

/// The rows of a round in their order: forwards and backwards in turn, so that a drift favours none.
pub(crate) fn order(round: usize, rows: usize) -> impl Iterator<Item = usize> {
    (0..rows).map(move |i| if round.is_multiple_of(2) { i } else { rows - 1 - i })
}

/// Operations of an M × N × K product, 2 per multiply-add.
pub(crate) fn operations(m: usize, n: usize, k: usize) -> f64 {
    2.0 * m as f64 * n as f64 * k as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_even_and_no_values() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(vec![]).is_nan());
    }

    #[test]
    fn rounds_alternate() {
        assert_eq!(order(0, 3).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(order(1, 3).collect::<Vec<_>>(), [2, 1, 0]);
    }

    #[test]
    fn a_slice_counts_all_calls_but_the_first() {
        let mut calls = 0;
        let mut call = || {
            calls += 1;
            Ok(f64::from(calls))
        };
        assert_eq!(slice(Duration::ZERO, &mut call), Ok(1.0));
        assert!(slice(Duration::from_nanos(1), &mut call).unwrap() >= 3.0);
    }
}
