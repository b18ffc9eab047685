//! f16 datapaths: every result is rounded once to IEEE 754 binary16, to nearest with ties to even.
//!
//! Values travel as f32, which holds every f16. A product of two f16 is exact there (22 significand bits), and rounding a
//! sum first to f32 and then to f16 is the same as rounding it once, because 24 ≥ 2·11 + 2 (S. A. Figueroa, When is
//! double rounding innocuous?, SIGNUM Newsletter 30(3), 1995); sums in the subnormal range are exact.
//!
//! ```
//! use mixgemm::accel::element::half::HalfFloat;
//! let mut overflow = false;
//! assert_eq!(HalfFloat::IEEE.round(2049.0, &mut overflow), 2048.0);
//! assert_eq!(HalfFloat::IEEE.round(65_520.0, &mut overflow), f32::INFINITY);
//! assert!(overflow);
//! let saturating = HalfFloat { saturate: true, ..HalfFloat::IEEE };
//! assert_eq!(saturating.round(1e9, &mut overflow), 65_504.0);
//! ```
#![forbid(unsafe_code)]

use half::f16;

/// The smallest normal f16, `2^-14`.
const NORMAL: f32 = 6.103_515_6e-5;
/// Magnitudes from here on, the middle between f16's largest number and 2^16, round beyond its range.
const BEYOND: f32 = 65_520.0;
/// The largest f16.
const LARGEST: f32 = 65_504.0;

/// What an f16 unit does outside the normal numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HalfFloat {
    /// Subnormal operands, and results that are subnormal after rounding, become zeros of their sign.
    pub flush: bool,
    /// Finite results beyond the range become ±65504 instead of ±∞. Infinite operands stay infinite.
    pub saturate: bool,
}

impl HalfFloat {
    /// As IEEE 754 has it: subnormal numbers are kept, overflow gives infinities.
    pub const IEEE: Self = Self {
        flush: false,
        saturate: false,
    };

    /// An operand as this unit sees it, exactly unless flushed.
    #[inline(always)]
    #[must_use]
    pub fn operand(self, x: f16) -> f32 {
        let x = x.to_f32();
        if self.flush && x.abs() < NORMAL {
            0f32.copysign(x)
        } else {
            x
        }
    }

    /// The f16 nearest to `x`; `overflow` is set where a finite x lies beyond the range.
    #[inline(always)]
    #[must_use]
    pub fn round(self, x: f32, overflow: &mut bool) -> f32 {
        let magnitude = x.abs();
        let rounded = if magnitude < NORMAL {
            // The last place of f32 is 2^-24 between a half and one.
            let rounded = (magnitude + 0.5) - 0.5;
            if self.flush && rounded < NORMAL { 0.0 } else { rounded }
        } else if magnitude < BEYOND {
            let bits = magnitude.to_bits();
            f32::from_bits((bits + 0xFFF + (bits >> 13 & 1)) & !0x1FFF)
        } else if magnitude < f32::INFINITY {
            *overflow = true;
            if self.saturate { LARGEST } else { f32::INFINITY }
        } else {
            return x;
        };
        rounded.copysign(x)
    }

    /// `a + b` of two f16 values.
    #[inline(always)]
    #[must_use]
    pub fn add(self, a: f32, b: f32, overflow: &mut bool) -> f32 {
        self.round(a + b, overflow)
    }

    /// `a·b` of two f16 values.
    #[inline(always)]
    #[must_use]
    pub fn mul(self, a: f32, b: f32, overflow: &mut bool) -> f32 {
        self.round(a * b, overflow)
    }
}

/// The width of an accumulator and of the rounding after every addition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Accumulator {
    /// f32: products of f16 enter unrounded.
    #[default]
    F32,
    /// f16: products are rounded to f16 before they are added.
    F16,
}
