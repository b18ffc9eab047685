//! IEEE 754 operations from exact rationals: every result is formed without error and then rounded once, by integer
//! division with remainder. Nothing here is shared with the library.

use dashu::base::{BitTest, DivRem, Sign};
use dashu::integer::{IBig, UBig};
use dashu::rational::RBig;

/// A binary float format.
#[derive(Clone, Copy)]
pub(crate) struct Format {
    /// Bits of the significand.
    digits: i64,
    /// Exponent of the smallest subnormal.
    least: i64,
    /// Exponent of the first power of two beyond the largest number.
    beyond: i32,
}

pub(crate) const F32: Format = Format {
    digits: 24,
    least: -149,
    beyond: 128,
};
pub(crate) const F16: Format = Format {
    digits: 11,
    least: -24,
    beyond: 16,
};
pub(crate) const BF16: Format = Format {
    digits: 8,
    least: -133,
    beyond: 128,
};
/// Integers below 2^63.
const INTEGERS: Format = Format {
    digits: 64,
    least: 0,
    beyond: 63,
};

/// A finite float, exactly.
pub(crate) fn exact(x: f64) -> RBig {
    assert!(x.is_finite());
    let bits = x.to_bits();
    let field = (bits >> 52 & 0x7FF) as i64;
    let significand = IBig::from(bits & ((1 << 52) - 1) | u64::from(field != 0) << 52);
    let signed = if x < 0.0 { -significand } else { significand };
    signed * power_of_two(field.max(1) - 1075)
}

/// `2^e`.
pub(crate) fn power_of_two(e: i64) -> RBig {
    let power = UBig::ONE << e.unsigned_abs() as usize;
    if e >= 0 {
        RBig::from(power)
    } else {
        RBig::from_parts(IBig::ONE, power)
    }
}

/// `r` rounded to nearest, ties to even; infinite on overflow, +0 for 0.
pub(crate) fn round(r: &RBig, format: Format) -> f64 {
    if r.is_zero() {
        return 0.0;
    }
    let (sign, n) = r.numerator().clone().into_parts();
    let d = r.denominator().clone();
    let scaled = |e: i64| {
        if e >= 0 {
            (n.clone(), d.clone() << e as usize)
        } else {
            (n.clone() << (-e) as usize, d.clone())
        }
    };
    let mut e = n.bit_len() as i64 - d.bit_len() as i64;
    let (a, b) = scaled(e);
    e -= i64::from(a < b);
    let unit = (e - format.digits + 1).max(format.least);
    let (a, b) = scaled(unit);
    let (quotient, rest) = a.div_rem(&b);
    let twice = rest << 1;
    let mut m = u128::try_from(quotient).unwrap();
    m += u128::from(twice > b || (twice == b && m & 1 == 1));
    let value = m as f64 * 2f64.powi(unit as i32);
    let value = if value >= 2f64.powi(format.beyond) {
        f64::INFINITY
    } else {
        value
    };
    if sign == Sign::Negative { -value } else { value }
}

/// `r` rounded to an integer.
pub(crate) fn round_to_integer(r: &RBig) -> i64 {
    round(r, INTEGERS) as i64
}

/// `a·b + c` in f32.
pub(crate) fn fma(a: f32, b: f32, c: f32) -> f32 {
    let [wide_a, wide_b, wide_c] = [a, b, c].map(f64::from);
    if !(a.is_finite() && b.is_finite() && c.is_finite()) {
        return (wide_a * wide_b + wide_c) as f32;
    }
    let r = exact(wide_a) * exact(wide_b) + exact(wide_c);
    if !r.is_zero() {
        return round(&r, F32) as f32;
    }
    let negative_product = (a == 0.0 || b == 0.0) && a.is_sign_negative() != b.is_sign_negative();
    if negative_product && c.is_sign_negative() {
        -0.0
    } else {
        0.0
    }
}

/// `a·b` in f32.
pub(crate) fn mul(a: f32, b: f32) -> f32 {
    fma(a, b, -0.0)
}

/// `a + b` in f32.
pub(crate) fn add(a: f32, b: f32) -> f32 {
    fma(1.0, a, b)
}

/// `a/b` in f32 for finite a and finite b ≠ 0.
pub(crate) fn div(a: f32, b: f32) -> f32 {
    let r = exact(f64::from(a)) / exact(f64::from(b));
    if r.is_zero() {
        a * b.signum()
    } else {
        round(&r, F32) as f32
    }
}
