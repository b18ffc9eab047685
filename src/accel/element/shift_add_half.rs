//! MixPE's W4A16 element with products and sums that are rounded.
//!
//! The four gated terms `x ⊛ 2^i` of a product share the significand of x. *Fused*, they are added as integers of 15 bits
//! and normalised once: the f16 nearest to `w·x`. *Term by term*, each is an f16 of its own, and f16 adders take them in
//! ascending i: up to three more roundings, and another result in other orders. The paper (arXiv 2411.16158) says neither,
//! nor how wide its accumulator is; [`ShiftAddF16`](super::shift_add::ShiftAddF16) is the element without any rounding.
//!
//! ±0, ±∞ and NaN pass an open gate as they are, and a zero code gives +0 for every x.
//!
//! ```
//! use mixgemm::accel::element::shift_add_half::{Adds, ShiftAddHalf};
//! use mixgemm::f16;
//! let (fused, by_term) = (ShiftAddHalf::default(), ShiftAddHalf { adds: Adds::TermByTerm, ..Default::default() });
//! let (x, mut overflow) = (f16::from_bits(0x3C01), false); // 1 + 2^-10
//! assert_eq!(fused.product(11, x, &mut overflow), 11.0078125);
//! assert_eq!(by_term.product(11, x, &mut overflow), 11.015625); // 1·x + 2·x is a tie, rounded up
//! ```
#![forbid(unsafe_code)]

use crate::accel::element::Work;
use crate::accel::element::float::{FloatElement, Meaning, Roundings, Term};
use crate::accel::element::half::{Accumulator, HalfFloat};
use crate::base::error::Result;
use crate::base::float::pow2;
use half::f16;

/// Bits of a weight code.
const BITS: u8 = 4;
/// Values of a weight code.
const CODES: usize = 16;

/// How the gated terms of a product are added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Adds {
    /// As integers, then one rounding to f16.
    #[default]
    Fused,
    /// As f16 numbers in ascending i, a rounding after each.
    TermByTerm,
}

/// UINT4 weights times f16 activations with f16 products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ShiftAddHalf {
    /// How the terms of a product are added.
    pub adds: Adds,
    /// What products are summed in.
    pub accumulator: Accumulator,
    /// What f16 results do outside the normal numbers.
    pub half: HalfFloat,
}

impl ShiftAddHalf {
    /// The f16 product of the low four bits of the code with x. `overflow` is set where a result leaves f16's range.
    #[must_use]
    pub fn product(self, code: u8, x: f16, overflow: &mut bool) -> f32 {
        let open = || (0..BITS).filter(|&i| (code >> i) & 1 == 1);
        let (value, bits) = (self.half.operand(x), x.to_bits());
        if open().next().is_none() {
            return 0.0;
        }
        if !value.is_finite() || value == 0.0 {
            return value;
        }
        // |x| is significand·2^(field − 25), with the field of subnormal numbers taken as 1.
        let field = i32::from(bits >> 10 & 31);
        let significand = u32::from(bits & 0x3FF) | u32::from(field != 0) << 10;
        let unit = pow2(field.max(1) - 25).copysign(value);
        match self.adds {
            Adds::Fused => {
                let sum: u32 = open().map(|i| significand << i).sum();
                self.half.round(sum as f32 * unit, overflow)
            }
            Adds::TermByTerm => {
                let terms = open().map(|i| (significand << i) as f32 * unit);
                let mut sum = None;
                for term in terms {
                    let term = self.half.round(term, overflow);
                    sum = Some(sum.map_or(term, |sum| self.half.add(sum, term, overflow)));
                }
                sum.unwrap_or(0.0)
            }
        }
    }

    #[inline(always)]
    fn accumulate(self, sum: f32, product: f32, overflow: &mut bool) -> f32 {
        match self.accumulator {
            Accumulator::F32 => sum + product,
            Accumulator::F16 => self.half.add(sum, product, overflow),
        }
    }
}

/// An activation with its product for every code.
#[derive(Debug, Clone, Copy)]
pub struct Products {
    products: [f32; CODES],
    /// Bit q is set where the product with code q overflows.
    overflows: u16,
}

impl FloatElement for ShiftAddHalf {
    type Operand = Products;
    type Weight = u8;

    fn name(&self) -> &'static str {
        match (self.adds, self.accumulator) {
            (Adds::Fused, Accumulator::F32) => "shift-add-fused-f32",
            (Adds::Fused, Accumulator::F16) => "shift-add-fused-f16",
            (Adds::TermByTerm, Accumulator::F32) => "shift-add-terms-f32",
            (Adds::TermByTerm, Accumulator::F16) => "shift-add-terms-f16",
        }
    }

    fn max_bits(&self) -> u8 {
        BITS
    }

    fn scales_after_group(&self) -> bool {
        true
    }

    fn weight(&self, code: u8, _: &Meaning) -> Result<u8> {
        Ok(code)
    }

    fn operand(&self, x: f16) -> Products {
        let mut overflows = 0;
        let products = core::array::from_fn(|code| {
            let mut overflow = false;
            let product = self.product(code as u8, x, &mut overflow);
            overflows |= u16::from(overflow) << code;
            product
        });
        Products { products, overflows }
    }

    #[inline(always)]
    fn dot(&self, mut sum: f32, weights: &[u8], operands: &[Products], overflow: &mut bool) -> f32 {
        for (&w, x) in weights.iter().zip(operands) {
            let w = usize::from(w) % CODES;
            *overflow |= (x.overflows >> w) & 1 == 1;
            sum = self.accumulate(sum, x.products[w], overflow);
        }
        sum
    }

    #[inline(always)]
    fn sum(&self, operands: &[Products], overflow: &mut bool) -> f32 {
        operands
            .iter()
            .fold(0.0, |sum, x| self.accumulate(sum, x.products[1], overflow))
    }

    fn work(&self, code: u8) -> Work {
        let open = u64::from((code & 15).count_ones());
        Work {
            shifts: open,
            adds: open,
        }
    }

    fn term(&self, code: u8, meaning: &Meaning, x: f16) -> Term {
        let (q, z, s) = (
            f64::from(code),
            f64::from(meaning.zero).abs(),
            f64::from(meaning.scale).abs(),
        );
        // A flushed operand loses itself, a flushed result less than 2^-14: of each product and each sum, and of B's sums.
        let flushed = match self.half.flush {
            true => s * f64::from(pow2(-14)) * (q + z + 5.0 + z),
            false => 0.0,
        };
        Term {
            magnitude: s * (q + z) * x.to_f64().abs(),
            absolute: flushed,
        }
    }

    fn roundings(&self, group: usize, row: usize) -> Roundings {
        let product = match self.adds {
            Adds::Fused => 1,
            Adds::TermByTerm => 4,
        };
        // The correction by the zero point and one multiply-add for every group.
        let fold = 1 + row.div_ceil(group.max(1));
        match self.accumulator {
            Accumulator::F32 => Roundings {
                half: product,
                single: group + fold,
            },
            Accumulator::F16 => Roundings {
                half: product + group,
                single: fold,
            },
        }
    }
}
