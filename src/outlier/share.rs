//! Shares of a whole as counts: exact, whatever the last bit of a product of both would say.
//!
//! `0.07 · 100` is a little more than 7 in f64, and `7 / 100` is 0.07. A division rounds once, as does the decimal that
//! a person wrote, so both agree; counts are therefore found by dividing them.
#![forbid(unsafe_code)]

/// The least count that is at least this share of `of`, for shares from 0 to 1.
///
/// ```
/// use mixgemm::outlier::share::rounded_up;
/// assert_eq!([rounded_up(0.07, 100), rounded_up(0.003, 384), rounded_up(0.0, 9), rounded_up(1.0, 9)], [7, 2, 0, 9]);
/// ```
#[must_use]
pub fn rounded_up(share: f64, of: u64) -> u64 {
    let enough = |count: u64| count as f64 / of as f64 >= share;
    let mut count = (libm::ceil(share * of as f64) as u64).min(of);
    while count > 0 && enough(count - 1) {
        count -= 1;
    }
    while count < of && !enough(count) {
        count += 1;
    }
    count
}

/// The greatest count that is at most this share of `of`, for shares from 0 to 1.
///
/// ```
/// use mixgemm::outlier::share::rounded_down;
/// assert_eq!([rounded_down(0.07, 100), rounded_down(0.003, 384), rounded_down(0.0, 9), rounded_down(1.0, 9)], [7, 1, 0, 9]);
/// ```
#[must_use]
pub fn rounded_down(share: f64, of: u64) -> u64 {
    let up = rounded_up(share, of);
    up - u64::from(up as f64 / of as f64 > share)
}

/// The count that is nearest to this share of `of`, for shares from 0 to 1; halves go up.
///
/// ```
/// use mixgemm::outlier::share::nearest;
/// assert_eq!([nearest(0.145, 100), nearest(0.144, 100), nearest(0.85, 36), nearest(1.0, 9)], [15, 14, 31, 9]);
/// ```
#[must_use]
pub fn nearest(share: f64, of: u64) -> u64 {
    // Half a count less than this one is at most the share.
    let reached = |count: u64| (2 * count - 1) as f64 / (2 * of) as f64 <= share;
    let mut count = ((share * of as f64 + 0.5) as u64).min(of);
    while count > 0 && !reached(count) {
        count -= 1;
    }
    while count < of && reached(count + 1) {
        count += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    /// Every count of every whole comes back from its own share, as a quotient and as the decimal where there is one.
    #[test]
    fn counts_come_back_from_their_shares() {
        for of in 1..=1000u64 {
            for count in 0..=of {
                let share = count as f64 / of as f64;
                let found = (rounded_up(share, of), rounded_down(share, of), nearest(share, of));
                assert_eq!(found, (count, count, count), "{of}");
            }
        }
        for permille in 0..=1000u64 {
            let share: f64 = format!("{permille}e-3").parse().unwrap();
            assert_eq!(rounded_up(share, 1000), permille);
            assert_eq!(rounded_up(share, 100), permille.div_ceil(10));
            assert_eq!(nearest(share, 100), (permille + 5) / 10);
        }
        assert_eq!((rounded_up(0.3, 0), rounded_down(0.3, 0), nearest(0.3, 0)), (0, 0, 0));
    }
}
