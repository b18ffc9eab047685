//! Parts of a datapath and their prices at 45 nm.
//!
//! A part of b bits is priced from fits through published figures: adders linear in b; multipliers
//! `a·b1·b2 + c·(b1 + b2)/2`; a float multiplier by a narrow number the published one, with the integer multiplier of its
//! significands exchanged; shifters one two-way multiplexer a bit and level; floating-point operations as published.
#![forbid(unsafe_code)]

use crate::accel::cost::{Cost, Origin, Provenance};
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use std::sync::LazyLock;

/// The price of a part, or of one bit of it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Component {
    /// Area, µm².
    pub area_um2: f64,
    /// Energy of one operation, pJ.
    pub energy_pj: f64,
    /// The node of both, nm.
    pub node_nm: f64,
    /// How the figures came about.
    pub provenance: Provenance,
    /// Where they stand.
    pub source: String,
}

/// What logic leaks.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leakage {
    /// Power for every µm² of logic, nW.
    pub nw_per_um2: f64,
    /// The node of the figure, nm.
    pub node_nm: f64,
    /// How the figure came about.
    pub provenance: Provenance,
    /// Where it stands.
    pub source: String,
}

/// All prices. A clone with other figures answers what an assumption is worth.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Components {
    /// A two-input AND gate.
    pub and_gate: Component,
    /// One bit of a two-way multiplexer.
    pub mux: Component,
    /// One bit of an adder.
    pub adder_bit: Component,
    /// The part of a multiplier that grows with the product of its widths.
    pub multiplier_bit_pair: Component,
    /// The part of a multiplier that grows with the mean of its widths.
    pub multiplier_bit: Component,
    /// One bit of a register, without its clock.
    pub register_bit: Component,
    /// The clock of one bit of a register: in no price unless it is added to [`register_bit`](Self::register_bit).
    pub register_clock: Component,
    /// A binary16 multiplier.
    pub f16_multiplier: Component,
    /// A binary16 adder.
    pub f16_adder: Component,
    /// A binary32 multiplier.
    pub f32_multiplier: Component,
    /// A binary32 adder.
    pub f32_adder: Component,
    /// Leakage of all of them.
    pub leakage: Leakage,
}

static BUILT_IN: LazyLock<Components> =
    LazyLock::new(|| toml::from_str(include_str!("data/components.toml")).expect("the built-in table is well-formed"));

impl Components {
    /// The built-in prices, at 45 nm.
    ///
    /// ```
    /// use mixgemm::accel::cost::component::{Components, Part};
    /// let prices = Components::built_in();
    /// let int8 = Part::Multiplier { bits: [8, 8] }.cost(prices);
    /// assert!((int8.area_um2 - 282.0).abs() < 1e-9 && (int8.energy_pj - 0.2).abs() < 1e-12);
    /// ```
    #[must_use]
    pub fn built_in() -> &'static Self {
        &BUILT_IN
    }

    /// Every entry with its name.
    #[must_use]
    pub fn entries(&self) -> [(&'static str, &Component); 11] {
        [
            ("AND gate", &self.and_gate),
            ("multiplexer bit", &self.mux),
            ("adder bit", &self.adder_bit),
            ("multiplier, b1 x b2", &self.multiplier_bit_pair),
            ("multiplier, (b1 + b2) / 2", &self.multiplier_bit),
            ("register bit", &self.register_bit),
            ("register bit's clock", &self.register_clock),
            ("f16 multiplier", &self.f16_multiplier),
            ("f16 adder", &self.f16_adder),
            ("f32 multiplier", &self.f32_multiplier),
            ("f32 adder", &self.f32_adder),
        ]
    }

    /// Where all of it comes from.
    #[must_use]
    pub fn origins() -> Vec<Origin> {
        let prices = Self::built_in();
        let mut origins: Vec<_> = prices
            .entries()
            .into_iter()
            .map(|(name, component)| Origin {
                name,
                provenance: component.provenance,
                source: &component.source,
            })
            .collect();
        origins.push(Origin {
            name: "leakage of logic",
            provenance: prices.leakage.provenance,
            source: &prices.leakage.source,
        });
        origins
    }
}

/// A part of a datapath.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Part {
    /// A two-input AND gate.
    AndGate,
    /// A two-way multiplexer.
    Mux {
        /// Width.
        bits: u32,
    },
    /// An integer adder or subtracter.
    Adder {
        /// Width.
        bits: u32,
    },
    /// An integer multiplier.
    Multiplier {
        /// Widths of the two operands.
        bits: [u32; 2],
    },
    /// A pipeline register, written once an operation.
    Register {
        /// Width.
        bits: u32,
    },
    /// A shifter.
    Shifter {
        /// Width.
        bits: u32,
        /// Distances it can shift by, zero included.
        positions: u32,
    },
    /// A shifter that brings a significand's leading one to its place, and the adder that corrects the exponent.
    Normaliser {
        /// Width of the significand.
        bits: u32,
        /// Places where the leading one may be.
        positions: u32,
        /// Width of the exponent.
        exponent_bits: u32,
    },
    /// A binary16 multiplier.
    F16Multiplier,
    /// A binary16 adder.
    F16Adder,
    /// A binary32 multiplier.
    F32Multiplier,
    /// A binary32 multiplier by a number of few significant bits.
    #[serde(rename = "f32-by-narrow")]
    F32ByNarrow {
        /// Significant bits of the other number, 1 to 24.
        bits: u32,
    },
    /// A binary32 adder.
    F32Adder,
}

/// Significant bits of a binary32 number.
const F32_SIGNIFICAND: u32 = 24;

/// One of a kind of component.
fn one(component: &Component) -> Cost {
    Cost {
        area_um2: component.area_um2,
        energy_pj: component.energy_pj,
    }
}

impl Part {
    /// The entries of the table that its price is made of, by [name](Components::entries).
    #[must_use]
    pub const fn entries(self) -> &'static [&'static str] {
        match self {
            Self::AndGate => &["AND gate"],
            Self::Mux { .. } | Self::Shifter { .. } => &["multiplexer bit"],
            Self::Adder { .. } => &["adder bit"],
            Self::Multiplier { .. } => &["multiplier, b1 x b2", "multiplier, (b1 + b2) / 2"],
            Self::Register { .. } => &["register bit"],
            Self::Normaliser { .. } => &["multiplexer bit", "adder bit"],
            Self::F16Multiplier => &["f16 multiplier"],
            Self::F16Adder => &["f16 adder"],
            Self::F32Multiplier => &["f32 multiplier"],
            Self::F32ByNarrow { .. } => &["f32 multiplier", "multiplier, b1 x b2", "multiplier, (b1 + b2) / 2"],
            Self::F32Adder => &["f32 adder"],
        }
    }

    /// Its price.
    #[must_use]
    pub fn cost(self, prices: &Components) -> Cost {
        let muxes = |bits: u32, positions: u32| {
            let levels = u32::BITS - positions.saturating_sub(1).leading_zeros();
            one(&prices.mux) * (f64::from(bits) * f64::from(levels))
        };
        match self {
            Self::AndGate => one(&prices.and_gate),
            Self::Mux { bits } => one(&prices.mux) * f64::from(bits),
            Self::Adder { bits } => one(&prices.adder_bit) * f64::from(bits),
            Self::Multiplier { bits: [a, b] } => {
                let (a, b) = (f64::from(a), f64::from(b));
                one(&prices.multiplier_bit_pair) * (a * b) + one(&prices.multiplier_bit) * ((a + b) / 2.0)
            }
            Self::Register { bits } => one(&prices.register_bit) * f64::from(bits),
            Self::Shifter { bits, positions } => muxes(bits, positions),
            Self::Normaliser {
                bits,
                positions,
                exponent_bits,
            } => muxes(bits, positions) + one(&prices.adder_bit) * f64::from(exponent_bits),
            Self::F16Multiplier => one(&prices.f16_multiplier),
            Self::F16Adder => one(&prices.f16_adder),
            Self::F32Multiplier => one(&prices.f32_multiplier),
            Self::F32ByNarrow { bits } => {
                let significands = |bits| {
                    Self::Multiplier {
                        bits: [F32_SIGNIFICAND, bits],
                    }
                    .cost(prices)
                };
                let bits = bits.min(F32_SIGNIFICAND);
                one(&prices.f32_multiplier) + significands(bits) + significands(F32_SIGNIFICAND) * -1.0
            }
            Self::F32Adder => one(&prices.f32_adder),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Horowitz, ISSCC 2014, 45 nm: width, µm², pJ.
    const ADDERS: [(u32, f64, f64); 3] = [(8, 36.0, 0.03), (16, 67.0, 0.05), (32, 137.0, 0.1)];
    const MULTIPLIERS: [(u32, f64, f64); 2] = [(8, 282.0, 0.2), (32, 3495.0, 3.1)];

    #[test]
    fn fits_go_through_what_was_published() {
        let prices = Components::built_in();
        for (bits, area, energy) in ADDERS {
            let cost = Part::Adder { bits }.cost(prices);
            assert!((cost.area_um2 / area - 1.0).abs() < 0.05, "{bits}: {cost:?}");
            assert!((cost.energy_pj / energy - 1.0).abs() < 0.13, "{bits}: {cost:?}");
        }
        for (bits, area, energy) in MULTIPLIERS {
            let cost = Part::Multiplier { bits: [bits; 2] }.cost(prices);
            assert!((cost.area_um2 / area - 1.0).abs() < 1e-12, "{bits}: {cost:?}");
            assert!((cost.energy_pj / energy - 1.0).abs() < 1e-12, "{bits}: {cost:?}");
        }
    }

    #[test]
    fn shifters_have_a_level_for_every_doubling() {
        let prices = Components::built_in();
        let levels = |positions| {
            let cost = Part::Shifter { bits: 10, positions }.cost(prices);
            (cost.area_um2 / (10.0 * prices.mux.area_um2)).round()
        };
        assert_eq!(
            [0, 1, 2, 3, 4, 5, 8, 9, 16].map(levels),
            [0., 0., 1., 2., 2., 3., 3., 4., 4.]
        );
    }

    /// 24 by 11 bits instead of 24 by 24: 13·24 bit pairs and 6.5 bits less of the fits.
    #[test]
    fn a_narrow_factor_makes_a_float_multiplier_smaller() {
        let prices = Components::built_in();
        let narrow = |bits| Part::F32ByNarrow { bits }.cost(prices);
        assert_eq!(narrow(24).area_um2, 7700.0);
        let area = 7700.0 - 312.0 * prices.multiplier_bit_pair.area_um2 - 6.5 * prices.multiplier_bit.area_um2;
        assert!((narrow(11).area_um2 - area).abs() < 1e-9, "{}", narrow(11).area_um2);
        let energy = 3.7 - 312.0 * prices.multiplier_bit_pair.energy_pj - 6.5 * prices.multiplier_bit.energy_pj;
        assert!((narrow(11).energy_pj - energy).abs() < 1e-12 && narrow(1).energy_pj > 1.0);
    }

    #[test]
    fn every_entry_is_of_one_node_and_has_a_source() {
        for (name, entry) in Components::built_in().entries() {
            assert!(entry.area_um2 >= 0.0 && entry.energy_pj > 0.0, "{name}");
            assert_eq!(entry.node_nm, 45.0, "{name}");
            assert!(entry.source.len() > 20, "{name}");
        }
        assert_eq!(Components::built_in().leakage.node_nm, 45.0);
        assert_eq!(Components::origins().len(), 12);
    }
}
