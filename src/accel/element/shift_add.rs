//! MixPE's processing elements: a product is a sum of shifted activations, one for every set bit of the weight.
//!
//! After MixPE (arXiv 2411.16158), section 3.3. With the bits `w0..w3` of a UINT4 code and the gate `1(w)`, which passes
//! its operand when the bit is set and +0 otherwise:
//!
//! ```text
//! W4A8     w·x = Σ_i 1(w_i)·(x << i)           x an int8
//! W4A16    w·x = Σ_i 1(w_i)·(x ⊛ 2^i)          x an f16; ⊛ works on its exponent and fraction fields
//! ```
//!
//! No product is formed in this file, and a test reads its text to see that none is. The paper leaves open what ⊛ does
//! outside the normal numbers; here it is exact everywhere: a subnormal's fraction is shifted, an exponent past f16's
//! range has room in a field of six bits, ±0, ±∞ and NaN pass an open gate as they are, and a closed gate gives +0 even
//! then.
//!
//! ```
//! use mixgemm::accel::element::shift_add::{ShiftAddF16, ShiftAddI8};
//! use mixgemm::f16;
//! assert_eq!(ShiftAddI8.product(13, -128), -1664);
//! assert_eq!(ShiftAddF16.product(13, f16::from_f32(0.5)), 6.5);
//! ```
#![forbid(unsafe_code)]

use crate::accel::element::{ProcessingElement, Work};
use crate::base::float::pow2;
use crate::quant::activation::IntegerRow;
use crate::quant::input::{Mode, Row};
use alloc::vec::Vec;
use core::array::from_fn;
use half::f16;

/// Bits of a weight code; narrower codes leave the upper gates closed.
const BITS: usize = 4;

/// Whether bit `i` of a code opens its gate.
#[inline(always)]
fn is_open(code: u8, i: usize) -> bool {
    (code >> i) & 1 == 1
}

/// One operand passes for every set bit, and each is added once.
fn work(code: u8) -> Work {
    let open = u64::from((code & 15).count_ones());
    Work {
        shifts: open,
        adds: open,
    }
}

/// UINT4 weights times int8 activations, summed in 32-bit integers.
///
/// A product lies in −1920..=1905. A group has at most [`MAX_GROUP`](crate::quant::scheme::MAX_GROUP) = 65 536 terms, so
/// sums stay below 1920·2^16 < 2^27.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ShiftAddI8;

impl ShiftAddI8 {
    /// `code·x` for the low four bits of the code.
    #[must_use]
    pub fn product(self, code: u8, x: i8) -> i32 {
        self.dot(&[self.weight(code, 0)], &[Self::shifted(x)]) as i32
    }

    /// `x << i` for every gate.
    #[inline(always)]
    fn shifted(x: i8) -> [i16; BITS] {
        from_fn(|i| i16::from(x) << i)
    }
}

impl ProcessingElement for ShiftAddI8 {
    type Operand = [i16; BITS];
    type Weight = [i16; BITS];

    fn name(&self) -> &'static str {
        "shift-add-w4a8"
    }

    fn max_bits(&self) -> u8 {
        BITS as u8
    }

    fn takes(&self, mode: Mode) -> bool {
        matches!(mode, Mode::A8 | Mode::A8Row | Mode::A8Given | Mode::A8Static { .. })
    }

    fn unit(&self) -> f32 {
        1.0
    }

    fn operands(&self, _: Row<'_>, integers: &IntegerRow, out: &mut Vec<Self::Operand>) {
        out.extend(integers.integers.iter().map(|&a| Self::shifted(a as i8)));
    }

    /// All ones for an open gate, all zeros for a closed one.
    #[inline(always)]
    fn weight(&self, code: u8, _: u8) -> Self::Weight {
        from_fn(|i| -i16::from(is_open(code, i)))
    }

    #[inline(always)]
    fn dot(&self, weights: &[Self::Weight], operands: &[Self::Operand]) -> i64 {
        let gates = weights.as_flattened().iter();
        let terms = gates.zip(operands.as_flattened()).map(|(gate, x)| i32::from(gate & x));
        i64::from(terms.sum::<i32>())
    }

    #[inline(always)]
    fn sum(&self, operands: &[Self::Operand]) -> i64 {
        i64::from(operands.iter().map(|x| i32::from(x[0])).sum::<i32>())
    }

    fn work(&self, code: u8) -> Work {
        work(code)
    }
}

/// `x ⊛ 2^i`: an f16 whose exponent has six bits, so that no shift of up to three places overflows.
///
/// The value of finite fields is `fraction·2^-24` for exponent 0 and `(1024 + fraction)·2^(exponent − 25)` for the
/// others; exponent 63 stands for ∞ (fraction 0) and NaN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WideF16 {
    negative: bool,
    exponent: u8,
    fraction: u16,
}

/// Exponent field of infinities and NaN.
const SPECIAL: u8 = 63;

impl WideF16 {
    /// `x·2^i` for `i ≤ 3`: adds to the exponent field of a normal number, shifts the fraction field of a subnormal one.
    #[inline(always)]
    #[must_use]
    pub fn shifted(x: f16, i: u8) -> Self {
        let bits = x.to_bits();
        let (negative, exponent, fraction) = (bits >> 15 == 1, (bits >> 10) as u8 & 31, bits & 0x3FF);
        let (exponent, fraction) = match exponent {
            31 => (SPECIAL, fraction),
            0 => {
                // The leading bit of the shifted fraction, when it leaves the field, is a normal number's hidden one.
                let wide = fraction << i;
                let carry = (wide >> 10).checked_ilog2().map_or(0, |leading| leading as u8 + 1);
                (carry, (wide >> carry.saturating_sub(1)) & 0x3FF)
            }
            _ => (exponent + i, fraction),
        };
        Self {
            negative,
            exponent,
            fraction,
        }
    }

    /// The value in units of 2^-24, exactly: a magnitude below 2^43. None for infinities and NaN.
    #[inline(always)]
    #[must_use]
    pub fn fixed(self) -> Option<i64> {
        let fraction = i64::from(self.fraction);
        let magnitude = match self.exponent {
            SPECIAL => return None,
            0 => fraction,
            exponent => (fraction | 0x400) << (exponent - 1),
        };
        Some(if self.negative { -magnitude } else { magnitude })
    }

    /// The value as an f32, exactly; signs of zero, infinities and NaN payloads are kept.
    #[must_use]
    pub fn to_f32(self) -> f32 {
        let fraction = u32::from(self.fraction);
        let magnitude = match self.exponent {
            SPECIAL => 255 << 23 | fraction << 13,
            0 => match fraction.checked_ilog2() {
                None => 0,
                // The leading bit is worth 2^(leading − 24); f32's exponent bias is 127.
                Some(leading) => (leading + 103) << 23 | (fraction << (23 - leading)) & 0x7F_FFFF,
            },
            // From bias 15 to bias 127.
            exponent => (u32::from(exponent) + 112) << 23 | fraction << 13,
        };
        f32::from_bits(u32::from(self.negative) << 31 | magnitude)
    }
}

/// UINT4 weights times f16 activations, summed without rounding in a 64-bit fixed-point accumulator.
///
/// The accumulator counts units of 2^-24, f16's smallest subnormal. A finite f16 is below 2^40 of them, so a group's sum
/// stays below `(2^b − 1)·g·2^40`. [`Activations::check`](crate::Activations::check) refuses groups where
/// `(2^b − 1)·g ≥ 2^23`; all others stay below 2^63.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ShiftAddF16;

impl ShiftAddF16 {
    /// `code·x` for the low four bits of the code: gated operands added in f32, the lowest bit first.
    ///
    /// Exact for finite x: 15 significand bits at most. A zero code gives +0 for every x; otherwise −0, ±∞ and NaN pass.
    #[must_use]
    pub fn product(self, code: u8, x: f16) -> f32 {
        let open = (0..BITS).filter(|&i| is_open(code, i));
        open.map(|i| WideF16::shifted(x, i as u8).to_f32())
            .reduce(|sum, term| sum + term)
            .unwrap_or(0.0)
    }

    /// `x ⊛ 2^i` for every gate, aligned to the accumulator; 0 for infinities and NaN, which it cannot hold and which
    /// the device keeps away from it.
    #[inline(always)]
    fn shifted(x: f16) -> [i64; BITS] {
        from_fn(|i| WideF16::shifted(x, i as u8).fixed().unwrap_or(0))
    }

    /// `code·x` for the low four bits of the code, in units of 2^-24; 0 for infinities and NaN.
    #[must_use]
    pub fn product_fixed(self, code: u8, x: f16) -> i64 {
        self.dot(&[self.weight(code, 0)], &[Self::shifted(x)])
    }
}

impl ProcessingElement for ShiftAddF16 {
    type Operand = [i64; BITS];
    type Weight = [i64; BITS];

    fn name(&self) -> &'static str {
        "shift-add-w4a16"
    }

    fn max_bits(&self) -> u8 {
        BITS as u8
    }

    fn takes(&self, mode: Mode) -> bool {
        mode == Mode::Exact
    }

    fn unit(&self) -> f32 {
        pow2(-24)
    }

    fn operands(&self, row: Row<'_>, _: &IntegerRow, out: &mut Vec<Self::Operand>) {
        if let Row::F16(x) = row {
            out.extend(x.iter().map(|&x| Self::shifted(x)));
        }
    }

    /// All ones for an open gate, all zeros for a closed one.
    #[inline(always)]
    fn weight(&self, code: u8, _: u8) -> Self::Weight {
        from_fn(|i| -i64::from(is_open(code, i)))
    }

    #[inline(always)]
    fn dot(&self, weights: &[Self::Weight], operands: &[Self::Operand]) -> i64 {
        let gates = weights.as_flattened().iter();
        gates.zip(operands.as_flattened()).map(|(gate, x)| gate & x).sum()
    }

    #[inline(always)]
    fn sum(&self, operands: &[Self::Operand]) -> i64 {
        operands.iter().map(|x| x[0]).sum()
    }

    fn work(&self, code: u8) -> Work {
        work(code)
    }
}
