//! The f16 multiplier, and the ways in which weights become f16 before it.
//!
//! BitBLAS names three ways to store a zero point, and a device that reads one as another computes something else:
//!
//! ```text
//! original     w = (q − z)·s      z an f16
//! rescaled     w = q·s − z'       z' = z·s, an f16
//! quantised    w = (q − z)·s      z an integer of the width of a code, packed like the codes
//! ```
//!
//! Every operation is an f16 one, rounded; `q − z` is exact for integer z. A code becomes an f16 without a conversion:
//! its bits are put into the fraction of 1024 (0x6400), and 1024 is subtracted again, or with symmetric weights 1024 and
//! the zero point together (for four bits 1032, 0x6408). Scales and zero points are rounded to f16 on their way in.
//!
//! ```
//! use mixgemm::accel::element::dequantise::Conversion;
//! use mixgemm::f16;
//! let (s, stored) = (f16::from_f32(0.5), f16::from_f32(3.0).to_bits());
//! assert_eq!(Conversion::Original.weight(7, s, stored), 2.0); //  (7 − 3)·0.5
//! assert_eq!(Conversion::Rescaled.weight(7, s, stored), 0.5); //  7·0.5 − 3
//! assert_eq!(Conversion::Quantised.weight(7, s, 3), 2.0); //      (7 − 3)·0.5
//! ```
#![forbid(unsafe_code)]

use crate::accel::element::Work;
use crate::accel::element::float::{FloatElement, Meaning, Roundings, Term};
use crate::accel::element::half::{Accumulator, HalfFloat};
use crate::base::error::{Error, Result};
use crate::base::float::pow2;
use alloc::format;
use half::f16;

/// 1024 as an f16: the last place of its fraction is worth 1.
const MAGIC: u16 = 0x6400;

/// An f16 operation of an accelerator that follows IEEE 754; overflow shows in the result.
fn subtract(a: f32, b: f32) -> f32 {
    HalfFloat::IEEE.add(a, -b, &mut false)
}

fn multiply(a: f32, b: f32) -> f32 {
    HalfFloat::IEEE.mul(a, b, &mut false)
}

/// A code of up to eight bits as an f16, less `zero`: exact where the difference is an f16 and `1024 + zero` is one.
///
/// ```
/// use mixgemm::accel::element::dequantise::unpacked;
/// assert_eq!((unpacked(15, 0), unpacked(15, 8)), (15.0, 7.0));
/// ```
#[must_use]
pub fn unpacked(code: u8, zero: u8) -> f32 {
    let with = |low: u8| f16::from_bits(MAGIC | u16::from(low)).to_f32();
    subtract(with(code), with(zero))
}

/// How codes become f16 weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Conversion {
    /// `(q − z)·s` in f32, before the weights are stored: memory and array see f16 alone.
    #[default]
    Stored,
    /// `(q − z)·s` with an f16 zero point.
    Original,
    /// `q·s − z'` with the f16 product `z' = z·s`.
    Rescaled,
    /// `(q − z)·s` with a zero point packed like a code.
    Quantised,
}

impl Conversion {
    /// The zero point as this convention stores it: the bits of an f16, or an integer.
    #[must_use]
    pub fn stored(self, scale: f16, zero: f32) -> u16 {
        match self {
            Self::Stored | Self::Original => f16::from_f32(zero).to_bits(),
            Self::Rescaled => f16::from_f32(multiply(f16::from_f32(zero).to_f32(), scale.to_f32())).to_bits(),
            Self::Quantised => zero as u16,
        }
    }

    /// The f16 weight of a code with a scale and a zero point as stored.
    #[must_use]
    pub fn weight(self, code: u8, scale: f16, zero: u16) -> f32 {
        let (q, s, z) = (unpacked(code, 0), scale.to_f32(), f16::from_bits(zero).to_f32());
        match self {
            Self::Stored | Self::Original => multiply(subtract(q, z), s),
            Self::Rescaled => subtract(multiply(q, s), z),
            Self::Quantised => multiply(subtract(q, unpacked(zero as u8, 0)), s),
        }
    }

    fn of(self, code: u8, bits: u8, meaning: &Meaning) -> Result<f32> {
        let Meaning { scale, zero, symmetric } = *meaning;
        let narrow = f16::from_f32(scale);
        let weight = match self {
            Self::Stored => HalfFloat::IEEE.round((f32::from(code) - zero) * scale, &mut false),
            _ if symmetric && zero >= 1.0 => multiply(unpacked(code, zero as u8), narrow.to_f32()),
            Self::Quantised if zero as u32 as f32 != zero || zero >= (1u32 << bits) as f32 => {
                let expected = format!("integers from 0 to {}, packed like codes", (1u32 << bits) - 1);
                return Err(Error::value("zeros", expected, format!("{zero}")));
            }
            _ => self.weight(code, narrow, self.stored(narrow, zero)),
        };
        if weight.is_finite() {
            return Ok(weight);
        }
        let found = format!("code {code} with scale {scale} and zero point {zero}");
        Err(Error::value("scales", "weights within the range of f16", found))
    }
}

/// f16 weights times f16 activations, each product added to the sum in ascending order of k.
///
/// In an f32 accumulator the product is exact and the sum rounds; in an f16 accumulator both do. Infinities and NaN
/// follow IEEE 754.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MultiplyF16 {
    /// How weights become f16.
    pub conversion: Conversion,
    /// What products are summed in.
    pub accumulator: Accumulator,
    /// The widest codes that are unpacked.
    pub max_bits: u8,
}

impl FloatElement for MultiplyF16 {
    type Operand = f32;
    type Weight = f32;

    fn name(&self) -> &'static str {
        match self.accumulator {
            Accumulator::F32 => "multiply-f16-f32",
            Accumulator::F16 => "multiply-f16-f16",
        }
    }

    fn max_bits(&self) -> u8 {
        self.max_bits
    }

    fn scales_after_group(&self) -> bool {
        false
    }

    fn weight(&self, code: u8, meaning: &Meaning) -> Result<f32> {
        self.conversion.of(code, self.max_bits, meaning)
    }

    fn operand(&self, x: f16) -> f32 {
        x.to_f32()
    }

    #[inline(always)]
    fn dot(&self, mut sum: f32, weights: &[f32], operands: &[f32], overflow: &mut bool) -> f32 {
        for (&w, &x) in weights.iter().zip(operands) {
            sum = match self.accumulator {
                Accumulator::F32 => sum + w * x,
                Accumulator::F16 => {
                    let product = HalfFloat::IEEE.mul(w, x, overflow);
                    HalfFloat::IEEE.add(sum, product, overflow)
                }
            };
        }
        sum
    }

    /// 0: no zero point is left to correct.
    fn sum(&self, _: &[f32], _: &mut bool) -> f32 {
        0.0
    }

    fn work(&self, _: u8) -> Work {
        Work { shifts: 0, adds: 1 }
    }

    fn term(&self, code: u8, meaning: &Meaning, x: f16) -> Term {
        let (q, z, s) = (f64::from(code), f64::from(meaning.zero), f64::from(meaning.scale).abs());
        let x = x.to_f64().abs();
        let exact =
            self.conversion != Conversion::Rescaled && (libm::trunc(z) == z || self.conversion == Conversion::Stored);
        let level = if exact { (q - z).abs() } else { q + z.abs() };
        // Half a place of f16's subnormal numbers, for the scale and up to three operations on it; and for the product.
        let place = f64::from(pow2(-25));
        let product = match self.accumulator {
            Accumulator::F32 => 0.0,
            Accumulator::F16 => place,
        };
        Term {
            magnitude: s * level * x,
            absolute: place * x * (q + z.abs() + 3.0) + product,
        }
    }

    fn roundings(&self, _: usize, row: usize) -> Roundings {
        // The scale, the zero point, their product or difference, the weight; in f32 the two operations of `Stored`.
        let (half, single) = match self.conversion {
            Conversion::Stored => (1, 2),
            _ => (4, 0),
        };
        match self.accumulator {
            Accumulator::F32 => Roundings {
                half,
                single: single + row,
            },
            Accumulator::F16 => Roundings {
                half: half + 1 + row,
                single,
            },
        }
    }
}
