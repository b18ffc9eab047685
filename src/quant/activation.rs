//! Activations become integers with a scale: the definition of every mode, in scalar code.
//!
//! | mode | integers | scale |
//! |---|---|---|
//! | `a8` | `rne(x·(127/amax))`, amax over the group | `amax/127` per (row, group) |
//! | `a8row` | the same with amax over the row | `amax/127` per row, applied in the epilogue |
//! | `a8given` | int8 input as it is | given per tensor or row, applied in the epilogue |
//! | `a8static` | `rne(x/t)` clamped to ±127 | calibrated t per tensor, applied in the epilogue |
//! | `a16` | `rne(x·2^−e)`, e the least that keeps ±32639 | `2^e` per (row, group) |
//! | `exact` | f16 input as fixed point | `2^−24` |
//!
//! In the dynamic modes a group (row) whose largest magnitude is below 2^-100 counts as zero.
#![forbid(unsafe_code)]

use crate::base::error::{Error, Result};
use crate::base::float::{Element, pow2, rne};
use crate::quant::input::{Mode, Row};
use alloc::{format, vec, vec::Vec};
use half::f16;

/// Bits of the largest magnitude; at least `0x7F80_0000` when a value is not finite.
#[inline(always)]
#[must_use]
pub fn abs_max_bits(x: &[f32]) -> u32 {
    x.iter().fold(0, |m, x| m.max(x.to_bits() & 0x7FFF_FFFF))
}

/// Bits of +∞: magnitudes from here on are not finite.
pub const INFINITE: u32 = 0x7F80_0000;

/// Magnitudes below `2^-100` count as zero in the dynamic modes.
const NEGLIGIBLE: f32 = 7.888_609e-31;

/// `(t, 127/amax)` of mode `a8`; `(0, 0)` for a negligible group.
#[inline(always)]
#[must_use]
pub fn a8_scale(amax: f32) -> (f32, f32) {
    if amax < NEGLIGIBLE {
        (0.0, 0.0)
    } else {
        (amax / 127.0, 127.0 / amax)
    }
}

/// `rne(x)` as an integer for `|x| < 2^22`: adding `1.5·2^23` leaves the integer in the low mantissa bits.
#[inline(always)]
fn rne_small(x: f32) -> i32 {
    (x + 12_582_912.0).to_bits() as i32 - 0x4B40_0000
}

/// `a = rne(x·inverse)` clamped to ±127, for finite x with `|x·inverse| < 2^22`.
#[inline(always)]
pub fn a8_quantize(x: &[f32], inverse: f32, a: &mut [i8]) {
    for (x, a) in x.iter().zip(a) {
        *a = rne_small(x * inverse).clamp(-127, 127) as i8;
    }
}

/// `(t, 2^−e)` of mode `a16` with `t = 2^e`, e the smallest integer with `|rne(amax·2^−e)| ≤ 32639`; `(0, 0)` for a
/// negligible group.
///
/// With `amax = m·2^x, 1 ≤ m < 2`, the exponent `x − 14` puts amax in `[2^14, 2^15)` and every smaller one above 32639.
#[inline(always)]
#[must_use]
pub fn a16_scale(amax: f32) -> (f32, f32) {
    if amax < NEGLIGIBLE {
        return (0.0, 0.0);
    }
    let x = (amax.to_bits() >> 23) as i32 - 127;
    let e = if rne_small(amax * pow2(14 - x)) <= 32_639 {
        x - 14
    } else {
        x - 13
    };
    (pow2(e), pow2(-e))
}

/// `a = rne(x·inverse)` for finite x with `|x·inverse| < 2^22`.
#[inline(always)]
pub fn a16_quantize(x: &[f32], inverse: f32, a: &mut [i32]) {
    for (x, a) in x.iter().zip(a) {
        *a = rne_small(x * inverse);
    }
}

/// What mode `a8static` expects of activations that are neither clamped nor split.
pub const A8STATIC_INSIDE: &str =
    "|rne(x / scale)| at most 127 in mode a8static, unless outliers are split off, or clamped with saturate";

/// `v = rne(x/t)` of mode `a8static`; not finite where x is not.
#[inline(always)]
#[must_use]
pub fn a8static_value(x: f32, t: f32) -> f32 {
    rne(x / t)
}

/// A finite f16 as an integer multiple of 2^-24, its smallest subnormal; `|result| < 2^40`.
#[inline(always)]
#[must_use]
pub fn f16_fixed(x: f16) -> i64 {
    let bits = i64::from(x.to_bits());
    let exponent = (bits >> 10) & 31;
    let magnitude = ((bits & 0x3FF) | i64::from(exponent != 0) << 10) << (exponent - 1).max(0);
    if bits & 0x8000 == 0 { magnitude } else { -magnitude }
}

/// The largest shift with which every `f16_fixed(x) >> shift` keeps all its bits; 0 for zeros.
#[inline(always)]
#[must_use]
pub fn f16_common_shift(x: &[f16]) -> u32 {
    // Most groups have a bit among the low 32, where integers are half as long.
    let low = x.iter().fold(0, |or, &x| or | f16_fixed(x) as u32);
    if low != 0 {
        return low.trailing_zeros();
    }
    let all = x.iter().fold(0, |or, &x| or | f16_fixed(x));
    if all == 0 { 0 } else { all.trailing_zeros() }
}

/// `a = f16_fixed(x) >> shift` for finite x whose low `shift` bits there are zeros, where `|a| < 2^31`.
#[inline(always)]
pub fn f16_multiples(x: &[f16], shift: u32, a: &mut [i32]) {
    for (x, a) in x.iter().zip(a) {
        let bits = u32::from(x.to_bits());
        let exponent = (bits >> 10) & 31;
        let significand = ((bits & 0x3FF) | u32::from(exponent != 0) << 10) as i32;
        let place = exponent.max(1) - 1;
        // A zero, whose place is 0, may be shifted by more than there are bits.
        let magnitude = significand << place.saturating_sub(shift) >> shift.saturating_sub(place).min(31);
        *a = if bits & 0x8000 == 0 { magnitude } else { -magnitude };
    }
}

/// A row as integers: what every backend must compute with, whatever its own representation.
#[derive(Debug, Clone, PartialEq)]
pub struct IntegerRow {
    /// One integer per k; all zero in a row with non-finite inputs.
    pub integers: Vec<i64>,
    /// t per group in `a8` and `a16` (0 for a negligible group), 2^-24 in `exact`, 1 elsewhere.
    pub factors: Vec<f32>,
    /// The scale that the epilogue applies: t in `a8row`, `a8given` and `a8static`.
    pub row_scale: Option<f32>,
    /// The non-finite inputs and their k. When there are any, the row's output is made of them alone.
    pub non_finite: Vec<(usize, f32)>,
}

/// The definition of all modes for one row of K inputs in groups of `group` (at least 1).
///
/// # Errors
/// [`Error::Value`] in `a8static` for `|rne(x/t)| ≥ 2^23`, or above 127 without `saturate`.
pub fn integer_row(row: Row<'_>, mode: Mode, group: usize) -> Result<IntegerRow> {
    let x: Vec<f32> = match row {
        Row::F32(x) => x.to_vec(),
        Row::F16(x) => x.iter().map(|x| x.to_f32()).collect(),
        Row::Bf16(x) => x.iter().map(|x| Element::to_f32(*x)).collect(),
        Row::I8(a, t) => {
            let integers = a.iter().map(|&a| i64::from(a)).collect();
            let factors = vec![1.0; a.len().div_ceil(group.max(1))];
            return Ok(IntegerRow {
                integers,
                factors,
                row_scale: Some(t),
                non_finite: Vec::new(),
            });
        }
    };
    let groups = x.len().div_ceil(group.max(1));
    let mut out = IntegerRow {
        integers: vec![0; x.len()],
        factors: vec![1.0; groups],
        row_scale: None,
        non_finite: Vec::new(),
    };
    out.non_finite = x.iter().copied().enumerate().filter(|(_, x)| !x.is_finite()).collect();
    if !out.non_finite.is_empty() {
        if matches!(mode, Mode::A8Row | Mode::A8Static { .. }) {
            out.row_scale = Some(1.0);
        }
        return Ok(out);
    }
    match mode {
        Mode::A8 => {
            let mut a = vec![0; group];
            for (g, x) in x.chunks(group).enumerate() {
                let (t, inverse) = a8_scale(f32::from_bits(abs_max_bits(x)));
                a8_quantize(x, inverse, &mut a);
                out.factors[g] = t;
                widen(&a, &mut out.integers[g * group..][..x.len()]);
            }
        }
        Mode::A8Row => {
            let mut a = vec![0; x.len()];
            let (t, inverse) = a8_scale(f32::from_bits(abs_max_bits(&x)));
            a8_quantize(&x, inverse, &mut a);
            out.row_scale = Some(t);
            widen(&a, &mut out.integers);
        }
        Mode::A8Static { scale, saturate } => {
            for (k, &x) in x.iter().enumerate() {
                let v = a8static_value(x, scale);
                check_a8static(v, saturate, k)?;
                out.integers[k] = v.clamp(-127.0, 127.0) as i64;
            }
            out.row_scale = Some(scale);
        }
        Mode::A16 => {
            let mut a = vec![0; group];
            for (g, x) in x.chunks(group).enumerate() {
                let (t, inverse) = a16_scale(f32::from_bits(abs_max_bits(x)));
                a16_quantize(x, inverse, &mut a);
                out.factors[g] = t;
                widen(&a, &mut out.integers[g * group..][..x.len()]);
            }
        }
        Mode::Exact => {
            let Row::F16(x) = row else {
                return Err(Error::unsupported("x", "f16 input in mode exact", "another"));
            };
            for (a, &x) in out.integers.iter_mut().zip(x) {
                *a = f16_fixed(x);
            }
            out.factors.fill(pow2(-24));
        }
        Mode::Native => return Err(Error::unsupported("mode", "a mode that makes integers", mode.name())),
        Mode::A8Given => return Err(Error::unsupported("x", "i8 input in mode a8given", "float input")),
    }
    Ok(out)
}

/// Magnitudes of `rne(x/t)` from here on, 2^23, are refused in mode `a8static`.
pub const A8STATIC_LIMIT: f32 = 8_388_608.0;

/// The two refusals of mode `a8static` for `v = rne(x/t)` at column `k`.
///
/// # Errors
/// [`Error::Value`] when `|v| ≥ 2^23`, or `|v| > 127` and the caller did not ask to saturate.
pub fn check_a8static(v: f32, saturate: bool, k: usize) -> Result<()> {
    if v.abs() >= A8STATIC_LIMIT {
        return Err(Error::value(
            "x",
            "|rne(x / scale)| below 2^23 in mode a8static",
            format!("{v} at column {k}"),
        ));
    }
    if v.abs() > 127.0 && !saturate {
        return Err(Error::value("x", A8STATIC_INSIDE, format!("{v} at column {k}")));
    }
    Ok(())
}

fn widen<T: Copy + Into<i64>>(from: &[T], to: &mut [i64]) {
    for (a, b) in from.iter().zip(to) {
        *b = (*a).into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_point_of_every_finite_f16_is_its_value() {
        for bits in 0..=u16::MAX {
            let x = f16::from_bits(bits);
            if x.is_finite() {
                assert_eq!(f16_fixed(x) as f64 * 2f64.powi(-24), x.to_f64(), "{bits:#06x}");
            }
        }
    }

    #[test]
    fn multiples_are_the_fixed_point_without_the_zeros_below_it() {
        let finite = (0..=u16::MAX).map(f16::from_bits).filter(|x| x.is_finite());
        for x in finite {
            let fixed = f16_fixed(x);
            let most = f16_common_shift(&[f16::ZERO, x]);
            assert!(fixed == 0 && most == 0 || (fixed >> most) & 1 == 1, "{x}");
            for shift in (0..=most).filter(|shift| (fixed >> shift).abs() < 1 << 31) {
                let mut a = [0];
                f16_multiples(&[x], shift, &mut a);
                assert_eq!(i64::from(a[0]), fixed >> shift, "{x} by {shift}");
            }
            let mut a = [1; 2];
            f16_multiples(&[x, f16::ZERO], most, &mut a);
            assert_eq!(a, [(fixed >> most) as i32, 0], "{x} and 0 by {most}");
            let pair = [x, f16::from_bits(0x7BFF)];
            assert_eq!(
                f16_common_shift(&pair),
                most.min(29) * u32::from(fixed != 0) + 29 * u32::from(fixed == 0)
            );
        }
    }

    #[test]
    fn a16_exponent_is_the_smallest_that_fits() {
        for bits in (0x0D80_0000u32..0x7F80_0000).step_by(65_521) {
            let amax = f32::from_bits(bits);
            let (t, inverse) = a16_scale(amax);
            assert_eq!(t * inverse, 1.0);
            let at = |inverse: f64| (f64::from(amax) * inverse).round_ties_even();
            assert!(at(f64::from(inverse)) <= 32_639.0, "{amax:e}");
            assert!(at(f64::from(inverse) * 2.0) > 32_639.0, "{amax:e}");
        }
    }

    #[test]
    fn negligible_groups_are_zero_and_the_limit_is_not() {
        assert_eq!(NEGLIGIBLE.to_bits(), pow2(-100).to_bits());
        let below = f32::from_bits(NEGLIGIBLE.to_bits() - 1);
        assert_eq!((a8_scale(below), a16_scale(below)), ((0.0, 0.0), (0.0, 0.0)));
        assert!(a8_scale(NEGLIGIBLE).0 > 0.0 && a16_scale(NEGLIGIBLE).0 > 0.0);
    }

    #[test]
    fn rounding_is_to_nearest_even() {
        for (x, expected) in [
            (0.5, 0),
            (1.5, 2),
            (2.5, 2),
            (-0.5, 0),
            (-1.5, -2),
            (126.5, 126),
            (32_638.5, 32_638),
        ] {
            assert_eq!(rne_small(x), expected, "{x}");
        }
    }
}
