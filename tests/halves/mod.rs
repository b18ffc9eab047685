//! f16 arithmetic from integers: every result is formed without error and then rounded once. Nothing here is shared with
//! the library.

/// The f16 nearest to `x`, ties to even, as an f64: a multiple of 2^-60 below 2^67. Infinite beyond the range.
pub(crate) fn nearest(x: f64) -> f64 {
    if !x.is_finite() || x == 0.0 {
        return x;
    }
    let units = (x.abs() * 2f64.powi(60)) as u128;
    assert_eq!(
        units as f64 * 2f64.powi(-60),
        x.abs(),
        "{x:e} has more places than this takes"
    );
    // Eleven bits are kept, and none below 2^-24.
    let dropped = (128 - units.leading_zeros()).saturating_sub(11).max(36);
    let (kept, rest, half) = (units >> dropped, units & ((1 << dropped) - 1), 1u128 << (dropped - 1));
    let kept = kept + u128::from(rest > half || rest == half && kept & 1 == 1);
    let value = kept as f64 * 2f64.powi(dropped as i32 - 60);
    let value = if value > 65_504.0 { f64::INFINITY } else { value };
    value.copysign(x)
}

/// What an f16 unit makes of an exact result.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Unit {
    pub(crate) flush: bool,
    pub(crate) saturate: bool,
}

pub(crate) const UNITS: [Unit; 4] = [
    Unit {
        flush: false,
        saturate: false,
    },
    Unit {
        flush: true,
        saturate: false,
    },
    Unit {
        flush: false,
        saturate: true,
    },
    Unit {
        flush: true,
        saturate: true,
    },
];

impl Unit {
    pub(crate) fn flushed(self, x: f64) -> f64 {
        if self.flush && x.abs() < 2f64.powi(-14) {
            0f64.copysign(x)
        } else {
            x
        }
    }

    pub(crate) fn round(self, exact: f64) -> f64 {
        let rounded = nearest(exact);
        if self.saturate && rounded.is_infinite() && exact.is_finite() {
            65_504f64.copysign(exact)
        } else {
            self.flushed(rounded)
        }
    }
}
