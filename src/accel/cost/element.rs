//! Processing elements as inventories of parts.
//!
//! | multiplier | product | MixPE's figures |
//! |---|---|---|
//! | `integer` | one multiplier of weight by activation | |
//! | `float` | one f16 multiplier | |
//! | `shift-add` | AND gates that open shifted copies of an integer activation, a tree of adders | W4A8: 32 gates, adders of 9, 9, 12 bits |
//! | `shift-add-float` | the same on the 11-bit significand of an f16 activation; one normalisation, or before an integer accumulator one shift to its place | W4A16: 44 gates, adders of 12, 12, 14 bits |
//! | `parts` | what the list `parts` says | |
//!
//! An adder of two shifted copies is as wide as the bits that both have, plus one; the last is charged at the width of
//! the product. All four terms of a float product share a significand and an exponent, so nothing inside it is a
//! floating-point adder; the leading one is within as many places as the weight has bits, plus one. Before an integer
//! accumulator it is not normalised: its exponent is one of 30, and says how far it is shifted in fixed point.
//!
//! To the product come the adder of the accumulator and, unless `registers` is off, the registers that a systolic
//! element has: one for each operand that passes, one for the sum.
#![forbid(unsafe_code)]

pub use crate::accel::cost::accumulator::Accumulator;

use crate::accel::cost::Cost;
use crate::accel::cost::accumulator::WIDTHS;
use crate::accel::cost::component::{Components, Part};
use crate::base::error::{Error, Result};
use alloc::string::ToString;
use alloc::vec::Vec;
use core::fmt::Display;
use serde::{Deserialize, Serialize};

/// Bits of a binary16 significand.
const SIGNIFICAND: u32 = 11;

/// Exponents of finite binary16 numbers, subnormal ones at that of the least normal.
const EXPONENTS: u32 = 30;

/// How an element forms a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Multiplier {
    /// An integer multiplier.
    Integer,
    /// An f16 multiplier.
    Float,
    /// Gated shifts of an integer activation.
    ShiftAdd,
    /// Gated shifts of an f16 activation.
    ShiftAddFloat,
    /// Nothing but the parts that are listed.
    Parts,
}

/// Several of one part.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counted {
    /// How many an element has; a share of one if several elements have it in common.
    pub count: f64,
    /// Of what.
    pub part: Part,
}

/// A processing element, as far as its price goes.
///
/// ```
/// use mixgemm::accel::cost::component::Components;
/// use mixgemm::accel::cost::element::{Accumulator, Element, Multiplier};
/// let prices = Components::built_in();
/// let int8 = Element::new(Multiplier::Integer, 8, 8, Accumulator::Integer(24));
/// let mixpe = Element::new(Multiplier::ShiftAdd, 4, 8, Accumulator::Integer(24));
/// let ratio = int8.datapath(prices)?.area_um2 / mixpe.datapath(prices)?.area_um2;
/// assert!((ratio - 1.44).abs() < 0.01);
/// # Ok::<(), mixgemm::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Element {
    /// How it forms a product.
    pub multiplier: Multiplier,
    /// Width of a weight where it enters the element.
    pub weight_bits: u32,
    /// Width of an activation where it enters the element.
    pub activation_bits: u32,
    /// What it adds up in.
    pub accumulator: Accumulator,
    /// Whether the registers of a systolic element are counted.
    #[serde(default = "yes")]
    pub registers: bool,
    /// Parts beside those that the multiplier stands for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Counted>,
}

const fn yes() -> bool {
    true
}

impl Element {
    /// An element with registers and without further parts.
    #[must_use]
    pub const fn new(multiplier: Multiplier, weight_bits: u32, activation_bits: u32, accumulator: Accumulator) -> Self {
        Self {
            multiplier,
            weight_bits,
            activation_bits,
            accumulator,
            registers: true,
            parts: Vec::new(),
        }
    }

    /// # Errors
    /// [`Error::Value`]: widths, accumulator and multiplier do not go together.
    pub fn check(&self) -> Result<()> {
        use Multiplier::{Float, Integer, Parts, ShiftAdd, ShiftAddFloat};
        let (weight, activation, sum) = (self.weight_bits, self.activation_bits, self.accumulator);
        let (float, legal) = match sum {
            Accumulator::Integer(bits) => (false, WIDTHS.contains(&bits)),
            Accumulator::F16 | Accumulator::F32 => (true, true),
        };
        let wrong =
            |argument, expected: &str, found: &dyn Display| Err(Error::value(argument, expected, found.to_string()));
        match self.multiplier {
            _ if !(1..=32).contains(&weight) => wrong("element.weight_bits", "1 to 32", &weight),
            _ if !(1..=32).contains(&activation) => wrong("element.activation_bits", "1 to 32", &activation),
            _ if !legal => wrong("element.accumulator", "i8 to i64, f16 or f32", &sum),
            Integer | ShiftAdd if float => wrong("element.accumulator", "i8 to i64 behind integer products", &sum),
            Float if !float => wrong("element.accumulator", "f16 or f32 behind float products", &sum),
            Float | ShiftAddFloat if activation != 16 => {
                wrong("element.activation_bits", "16 for float products", &activation)
            }
            Float if weight != 16 => wrong("element.weight_bits", "16 for multiplier float", &weight),
            Parts if self.parts.is_empty() => wrong("element.parts", "at least one part for multiplier parts", &"none"),
            _ => match self.parts.iter().find(|p| !(p.count.is_finite() && p.count > 0.0)) {
                Some(part) => wrong("element.parts.count", "a positive number", &part.count),
                None => Ok(()),
            },
        }
    }

    /// The parts of product and accumulator.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn inventory(&self) -> Result<Vec<Counted>> {
        self.check()?;
        let one = |part| Counted { count: 1.0, part };
        let mut parts = self.parts.clone();
        match self.multiplier {
            Multiplier::Integer => parts.push(one(Part::Multiplier {
                bits: [self.weight_bits, self.activation_bits],
            })),
            Multiplier::Float => parts.push(one(Part::F16Multiplier)),
            Multiplier::ShiftAdd => {
                let product = self.weight_bits + self.activation_bits;
                gated_shifts(self.weight_bits, self.activation_bits, product, &mut parts);
            }
            Multiplier::ShiftAddFloat => {
                let product = self.weight_bits + SIGNIFICAND;
                // Significands have no sign: the product's top bit is the last adder's carry.
                gated_shifts(self.weight_bits, SIGNIFICAND, product - 1, &mut parts);
                parts.push(one(match self.accumulator {
                    Accumulator::Integer(bits) => self.alignment(bits),
                    Accumulator::F16 | Accumulator::F32 => Part::Normaliser {
                        bits: product,
                        positions: self.weight_bits + 1,
                        exponent_bits: 6,
                    },
                }));
            }
            Multiplier::Parts => {}
        }
        parts.push(one(self.accumulator.adder()));
        Ok(parts)
    }

    /// Product and accumulator at 45 nm, without registers.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn datapath(&self, prices: &Components) -> Result<Cost> {
        let parts = self.inventory()?.into_iter();
        Ok(parts.map(|counted| counted.part.cost(prices) * counted.count).sum())
    }

    /// The whole element at 45 nm.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn cost(&self, prices: &Components) -> Result<Cost> {
        let datapath = self.datapath(prices)?;
        let bits = self.weight_bits + self.activation_bits + self.accumulator.bits();
        let registers = Part::Register { bits }.cost(prices) * f64::from(u8::from(self.registers));
        Ok(datapath + registers)
    }

    /// The shifter that brings a binary16 number to its place among so many bits of fixed point.
    pub(crate) const fn alignment(&self, bits: u32) -> Part {
        Part::Shifter {
            bits,
            positions: EXPONENTS,
        }
    }

    /// Bits of an activation as an integer: its width, or what covers every binary16 in units of the least of them.
    #[must_use]
    pub(crate) const fn fixed_point_bits(&self) -> u32 {
        match (self.multiplier, self.accumulator) {
            (Multiplier::ShiftAddFloat, Accumulator::Integer(_)) => SIGNIFICAND + EXPONENTS,
            _ => self.activation_bits,
        }
    }

    /// The longest sum that cannot leave the accumulator, if it is an integer and the element is well-formed.
    #[must_use]
    pub fn longest_sum(&self) -> Option<u64> {
        let (Accumulator::Integer(bits), Ok(())) = (self.accumulator, self.check()) else {
            return None;
        };
        // Weights of shift and add are unsigned, those of a multiplier signed.
        let weight = match self.multiplier {
            Multiplier::ShiftAdd | Multiplier::ShiftAddFloat => (1u128 << self.weight_bits) - 1,
            _ => 1 << (self.weight_bits - 1),
        };
        let activation = match self.multiplier {
            Multiplier::ShiftAddFloat => ((1u128 << SIGNIFICAND) - 1) << (EXPONENTS - 1),
            _ => 1 << (self.activation_bits - 1),
        };
        let largest = weight * activation;
        Some(u64::try_from(((1u128 << (bits - 1)) - 1) / largest).unwrap_or(u64::MAX))
    }
}

/// The gates that open shifted copies of an operand, and the balanced tree that adds them; the last adder has `last` bits.
fn gated_shifts(weight_bits: u32, operand_bits: u32, last: u32, parts: &mut Vec<Counted>) {
    let count = f64::from(weight_bits * operand_bits);
    parts.push(Counted {
        count,
        part: Part::AndGate,
    });
    let mut copies: Vec<u32> = (0..weight_bits).map(|_| 1).collect();
    while copies.len() > 1 {
        let root = copies.len() == 2;
        let mut sums = Vec::new();
        for pair in copies.chunks(2) {
            if let &[_, high] = pair {
                let bits = if root { last } else { operand_bits + high };
                parts.push(Counted {
                    count: 1.0,
                    part: Part::Adder { bits },
                });
            }
            sums.push(pair.iter().sum());
        }
        copies = sums;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn adders(element: &Element) -> Vec<u32> {
        let width = |counted: Counted| match counted.part {
            Part::Adder { bits } => Some(bits),
            _ => None,
        };
        element.inventory().unwrap().into_iter().filter_map(width).collect()
    }

    #[test]
    fn mixpe_has_the_parts_of_its_papers_element() {
        for (multiplier, activation_bits, accumulator, gates, widths) in [
            (
                Multiplier::ShiftAdd,
                8,
                Accumulator::Integer(24),
                32.0,
                vec![9, 9, 12, 24],
            ),
            (Multiplier::ShiftAddFloat, 16, Accumulator::F16, 44.0, vec![12, 12, 14]),
        ] {
            let element = Element::new(multiplier, 4, activation_bits, accumulator);
            let part = Part::AndGate;
            assert!(element.inventory().unwrap().contains(&Counted { count: gates, part }));
            assert_eq!(adders(&element), widths);
        }
    }

    #[test]
    fn the_fused_product_of_an_f16_and_four_bits() {
        let with = Element::new(Multiplier::ShiftAddFloat, 4, 16, Accumulator::F16);
        let prices = Components::built_in();
        let product = with.datapath(prices).unwrap().area_um2 - 1360.0;
        // 44·1.064 + 38·4.35 + 45·1.862 + 6·4.35, from the parts.
        assert!((product - 322.0).abs() < 0.5, "{product}");
        let energy = with.datapath(prices).unwrap().energy_pj - 0.4;
        assert!((energy - 0.1747).abs() < 1e-3, "{energy}");
    }

    /// 44·1.064 µm² of gates, adders of 38 and 52 bits at 4.35, five levels of 52 multiplexers at 1.862.
    #[test]
    fn a_fixed_point_product_is_shifted_instead_of_normalised() {
        let element = Element::new(Multiplier::ShiftAddFloat, 4, 16, Accumulator::Integer(52));
        let area = element.datapath(Components::built_in()).unwrap().area_um2;
        let expected = 44.0 * 1.064 + (38.0 + 52.0) * 4.35 + 5.0 * 52.0 * 1.862;
        assert!((area - expected).abs() < 1e-9, "{area}");
    }

    #[test]
    fn sums_stay_within_the_accumulator() {
        let longest = |multiplier, w, a, bits| {
            Element::new(multiplier, w, a, Accumulator::Integer(bits))
                .longest_sum()
                .unwrap()
        };
        // Full-range int8 in 32 bits: up to K = 131071. A group of 128 u4·s8 products takes 19 bits.
        assert_eq!(longest(Multiplier::Integer, 8, 8, 32), 131_071);
        assert!(longest(Multiplier::ShiftAdd, 4, 8, 19) >= 128 && longest(Multiplier::ShiftAdd, 4, 8, 18) < 128);
        // 15 · 65504 in units of 2⁻²⁴ is below 2⁴⁴.
        assert_eq!(longest(Multiplier::ShiftAddFloat, 4, 16, 52), 136);
        assert_eq!(
            Element::new(Multiplier::Float, 16, 16, Accumulator::F32).longest_sum(),
            None
        );
    }

    #[test]
    fn what_does_not_go_together_is_refused_by_name() {
        use Accumulator::{F16, F32, Integer};
        use Multiplier as M;
        for (element, argument) in [
            (Element::new(M::Integer, 0, 8, Integer(32)), "element.weight_bits"),
            (Element::new(M::Integer, 8, 33, Integer(32)), "element.activation_bits"),
            (
                Element::new(M::Integer, u32::MAX, u32::MAX, Integer(32)),
                "element.weight_bits",
            ),
            (Element::new(M::Integer, 8, 8, Integer(0)), "element.accumulator"),
            (
                Element::new(M::ShiftAdd, 8, 8, Integer(u32::MAX)),
                "element.accumulator",
            ),
            (Element::new(M::Integer, 8, 8, F32), "element.accumulator"),
            (Element::new(M::ShiftAdd, 4, 8, F16), "element.accumulator"),
            (Element::new(M::Float, 16, 16, Integer(32)), "element.accumulator"),
            (Element::new(M::ShiftAddFloat, 4, 8, F32), "element.activation_bits"),
            (
                Element::new(M::ShiftAddFloat, 4, 8, Integer(52)),
                "element.activation_bits",
            ),
            (Element::new(M::Float, 8, 16, F32), "element.weight_bits"),
            (Element::new(M::Parts, 8, 8, F32), "element.parts"),
        ] {
            assert_eq!(element.longest_sum(), None);
            let error = element.cost(Components::built_in()).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{argument}: expected")), "{error}");
        }
    }

    proptest! {
        #[test]
        fn wider_is_larger_and_takes_more(w in 1u32..=15, a in 1u32..=15, acc in 8u32..=63) {
            let prices = Components::built_in();
            for multiplier in [Multiplier::Integer, Multiplier::ShiftAdd] {
                let cost = |w, a, acc| Element::new(multiplier, w, a, Accumulator::Integer(acc)).cost(prices).unwrap();
                let here = cost(w, a, acc);
                for wider in [cost(w + 1, a, acc), cost(w, a + 1, acc), cost(w, a, acc + 1)] {
                    prop_assert!(wider.area_um2 > here.area_um2 && wider.energy_pj > here.energy_pj);
                }
            }
            let float = |w| Element::new(Multiplier::ShiftAddFloat, w, 16, Accumulator::F32).cost(prices).unwrap();
            prop_assert!(float(w + 1).area_um2 > float(w).area_um2 && float(w + 1).energy_pj > float(w).energy_pj);
        }
    }
}
