//! The scalar float operations of the arithmetic contract and the element types that activations, scales and outputs
//! may have. Everything here rounds to nearest, ties to even.
#![forbid(unsafe_code)]

use crate::base::error::{Error, Result};
use core::hint::black_box;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// Bits of the quiet NaN that every NaN result is stored as.
pub const CANONICAL_NAN: u32 = 0x7FC0_0000;

/// `a·b + c` with one rounding, on every machine.
#[inline(always)]
#[must_use]
pub fn fma(a: f32, b: f32, c: f32) -> f32 {
    #[cfg(feature = "std")]
    return f32::mul_add(a, b, c);
    #[cfg(not(feature = "std"))]
    return libm::fmaf(a, b, c);
}

/// `x` rounded to an integer, ties to even.
#[inline(always)]
#[must_use]
pub fn rne(x: f32) -> f32 {
    #[cfg(feature = "std")]
    return f32::round_ties_even(x);
    #[cfg(not(feature = "std"))]
    return libm::rintf(x);
}

/// `2^e` for −126 ≤ e ≤ 127.
#[inline(always)]
#[must_use]
pub fn pow2(e: i32) -> f32 {
    debug_assert!((-126..=127).contains(&e));
    f32::from_bits(((e + 127) as u32) << 23)
}

/// `x`, or the canonical quiet NaN where `x` is any NaN.
#[inline(always)]
#[must_use]
pub fn canonical(x: f32) -> f32 {
    if x.is_nan() { f32::from_bits(CANONICAL_NAN) } else { x }
}

/// Checks that the calling thread rounds to nearest even and keeps subnormal inputs and results.
///
/// The probe computes instead of reading MXCSR or FPCR, so it is the same code on every machine.
///
/// # Errors
/// [`Error::FloatEnvironment`] when another rounding mode, flush-to-zero or denormals-are-zero is in force.
pub fn check_environment() -> Result<()> {
    let ulp = f32::from_bits(0x3380_0000); // 2^-24, half an ulp of 1
    let down = black_box(1.0f32) + ulp;
    let up = black_box(1.0f32) + black_box(3.0 * ulp);
    let down_negative = black_box(-1.0f32) - ulp;
    let subnormal_result = black_box(f32::MIN_POSITIVE) * black_box(0.5);
    let subnormal_input = black_box(f32::from_bits(1)) * black_box(16_777_216.0);
    let found = if down != 1.0 || down_negative != -1.0 || up != 1.0 + 4.0 * ulp {
        "another rounding mode"
    } else if subnormal_result == 0.0 {
        "flush to zero"
    } else if subnormal_input == 0.0 {
        "denormals are zero"
    } else {
        return Ok(());
    };
    Err(Error::FloatEnvironment {
        argument: "MXCSR/FPCR of the calling thread",
        expected: "round to nearest even, subnormals kept".into(),
        found: found.into(),
    })
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for half::f16 {}
    impl Sealed for half::bf16 {}
}

/// A float element of a matrix: `f32`, [`half::f16`] or [`half::bf16`].
pub trait Element: sealed::Sealed + Copy + Default + Send + Sync + core::fmt::Debug + PartialEq + 'static {
    /// `"f32"`, `"f16"` or `"bf16"`.
    const NAME: &'static str;

    /// The value, exactly.
    fn to_f32(self) -> f32;

    /// The nearest element, ties to even; any NaN becomes the canonical quiet NaN.
    fn from_f32(x: f32) -> Self;

    /// Converts a slice exactly. Both slices have the same length.
    fn slice_to_f32(from: &[Self], to: &mut [f32]);

    /// Rounds a slice as [`Element::from_f32`] does. Both slices have the same length, and any NaN is canonical already.
    #[inline(always)]
    fn slice_from_f32(from: &[f32], to: &mut [Self]) {
        for (x, y) in from.iter().zip(to) {
            *y = Self::from_f32(*x);
        }
    }
}

impl Element for f32 {
    const NAME: &'static str = "f32";

    #[inline(always)]
    fn slice_from_f32(from: &[f32], to: &mut [Self]) {
        to.copy_from_slice(from);
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }

    #[inline(always)]
    fn from_f32(x: f32) -> Self {
        canonical(x)
    }

    #[inline(always)]
    fn slice_to_f32(from: &[Self], to: &mut [f32]) {
        to.copy_from_slice(from);
    }
}

impl Element for f16 {
    const NAME: &'static str = "f16";

    #[inline(always)]
    fn to_f32(self) -> f32 {
        f16::to_f32(self)
    }

    #[inline(always)]
    fn from_f32(x: f32) -> Self {
        if x.is_nan() {
            f16::from_bits(0x7E00)
        } else {
            f16::from_f32(x)
        }
    }

    #[inline(always)]
    fn slice_to_f32(from: &[Self], to: &mut [f32]) {
        from.convert_to_f32_slice(to);
    }

    #[inline(always)]
    fn slice_from_f32(from: &[f32], to: &mut [Self]) {
        to.convert_from_f32_slice(from);
    }
}

impl Element for bf16 {
    const NAME: &'static str = "bf16";

    #[inline(always)]
    fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    /// Rounds in integers: `vcvtneps2bf16` would flush subnormals.
    #[inline(always)]
    fn from_f32(x: f32) -> Self {
        let bits = x.to_bits();
        let rounded = (bits.wrapping_add(0x7FFF + ((bits >> 16) & 1)) >> 16) as u16;
        bf16::from_bits(if x.is_nan() { 0x7FC0 } else { rounded })
    }

    #[inline(always)]
    fn slice_to_f32(from: &[Self], to: &mut [f32]) {
        for (x, y) in from.iter().zip(to) {
            *y = x.to_f32();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_rounding_agrees_with_half_on_every_class_of_f32() {
        for high in 0..=0xFFFFu32 {
            for low in [0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF] {
                let x = f32::from_bits(high << 16 | low);
                let ours = <bf16 as Element>::from_f32(x);
                if x.is_nan() {
                    assert_eq!(ours.to_bits(), 0x7FC0);
                } else {
                    assert_eq!(ours.to_bits(), bf16::from_f32(x).to_bits(), "{x:e}");
                }
            }
        }
    }

    #[test]
    fn the_default_float_environment_passes() {
        check_environment().unwrap();
    }
}
