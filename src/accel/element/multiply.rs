//! The multiplier of an INT8 systolic array: signed 8-bit weights times signed 8-bit activations, summed in 32 bits.
//!
//! Codes of b bits are unsigned, so `2^(b−1)` is taken off on the way in: an 8-bit code becomes `q − 128`, a 4-bit code
//! is widened to the 8 bits of `q − 8`. With symmetric weights that is the whole zero point. With others the device
//! corrects what is left, `z − 2^(b−1)`, after the group: `Σ (q − z)·a = Σ (q − 2^(b−1))·a − (z − 2^(b−1))·Σ a`.
//!
//! ```
//! use mixgemm::accel::element::multiply::MultiplyI8;
//! assert_eq!(MultiplyI8.product(-128, -128), 16_384);
//! ```
#![forbid(unsafe_code)]

use crate::accel::element::{ProcessingElement, Work};
use crate::quant::activation::IntegerRow;
use crate::quant::input::{Mode, Row};
use crate::quant::scheme::Scheme;
use alloc::vec::Vec;

/// Signed 8-bit weights times signed 8-bit activations.
///
/// A product lies in −16 256..=16 384 and a group has at most [`MAX_GROUP`](crate::quant::scheme::MAX_GROUP) = 65 536
/// terms, so sums stay within 2^30.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MultiplyI8;

impl MultiplyI8 {
    /// `w·x`, exactly.
    #[must_use]
    pub fn product(self, w: i8, x: i8) -> i32 {
        i32::from(w) * i32::from(x)
    }
}

impl ProcessingElement for MultiplyI8 {
    type Operand = i8;
    type Weight = i8;

    fn name(&self) -> &'static str {
        "multiply-w8a8"
    }

    fn max_bits(&self) -> u8 {
        8
    }

    fn takes(&self, mode: Mode) -> bool {
        matches!(mode, Mode::A8 | Mode::A8Row | Mode::A8Given | Mode::A8Static { .. })
    }

    fn unit(&self) -> f32 {
        1.0
    }

    fn operands(&self, _: Row<'_>, integers: &IntegerRow, out: &mut Vec<i8>) {
        out.extend(integers.integers.iter().map(|&a| a as i8));
    }

    /// `2^(b−1)`; 0 for one symmetric bit, whose levels `2q − 1` the device forms itself.
    fn offset(&self, scheme: &Scheme) -> u8 {
        if scheme.is_sign_only() {
            0
        } else {
            1 << (scheme.bits - 1)
        }
    }

    fn widens(&self, scheme: &Scheme) -> bool {
        scheme.bits < 8
    }

    #[inline(always)]
    fn weight(&self, code: u8, offset: u8) -> i8 {
        code.wrapping_sub(offset) as i8
    }

    #[inline(always)]
    fn dot(&self, weights: &[i8], operands: &[i8]) -> i64 {
        let products = weights.iter().zip(operands).map(|(&w, &x)| self.product(w, x));
        i64::from(products.sum::<i32>())
    }

    #[inline(always)]
    fn sum(&self, operands: &[i8]) -> i64 {
        i64::from(operands.iter().map(|&x| i32::from(x)).sum::<i32>())
    }

    fn work(&self, _: u8) -> Work {
        Work { shifts: 0, adds: 1 }
    }
}
