//! Shares of things that come whole.
#![forbid(unsafe_code)]

/// A share of `all` things, 0 to 1, rounded up to whole ones. What a share of so many percent is off by as an f64 does not
/// make it one more.
pub(super) fn whole(share: f64, all: usize) -> usize {
    /// Twice what the two roundings of a quotient and a product may add.
    const ROUNDED: f64 = 4.0 * f64::EPSILON;
    libm::ceil(share * all as f64 * (1.0 - ROUNDED)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percents_of_hundreds_are_whole() {
        for all in [100, 400, 4096 * 100] {
            for percent in 0..=100 {
                let share = f64::from(percent) / 100.0;
                assert_eq!(whole(share, all), percent as usize * all / 100, "{percent} % of {all}");
            }
        }
        assert_eq!((whole(0.003, 384), whole(1e-9, 384), whole(0.0, 384)), (2, 1, 0));
    }
}
