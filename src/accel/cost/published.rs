//! Our prices beside what others published: the ratios of MixPE's authors, and elements that were synthesised.
//!
//! The authors' figures are area × power efficiencies of single elements (arXiv 2411.16158; the numbers stand in the
//! first commit of their simulator). Node, accumulator and registers are not stated, so each ratio is computed under
//! every combination that is plausible. They are no independent confirmation: the normaliser's shape (three levels over
//! 15 bits, an exponent of 6) and the switching energy of registers without their clock were chosen with published
//! figures in sight; the columns with the clock say what the second choice is worth.
#![forbid(unsafe_code)]

use crate::accel::cost::component::Components;
use crate::accel::cost::element::{Accumulator, Element, Multiplier};
use crate::accel::cost::node::factors;
use crate::accel::cost::{Cost, Provenance};
use crate::base::error::Result;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use std::sync::LazyLock;

/// Someone's efficiency of an element, relative to FP16.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Efficiency {
    /// `fp16`, `int8`, `mixpe-w4a8` or `mixpe-w4a16`.
    pub element: String,
    /// Area × power efficiency, FP16 = 1.
    pub relative: f64,
}

/// An element that someone synthesised.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Synthesis {
    /// A short name.
    pub element: String,
    /// What it is, and at which clock.
    pub design: String,
    /// The node, nm.
    pub node_nm: f64,
    /// Area, µm².
    pub area_um2: f64,
    /// Energy of an operation without leakage, pJ.
    pub energy_pj: Option<f64>,
    /// Leakage, nW.
    pub leakage_nw: Option<f64>,
    /// Where it stands.
    pub source: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    efficiency: Vec<Efficiency>,
    synthesis: Vec<Synthesis>,
}

static TABLE: LazyLock<Table> =
    LazyLock::new(|| toml::from_str(include_str!("data/published.toml")).expect("the built-in table is well-formed"));

/// Efficiencies that MixPE's authors give.
#[must_use]
pub fn efficiencies() -> &'static [Efficiency] {
    &TABLE.efficiency
}

/// Elements that were synthesised.
#[must_use]
pub fn syntheses() -> &'static [Synthesis] {
    &TABLE.synthesis
}

fn efficiency(element: &str) -> f64 {
    let found = TABLE.efficiency.iter().find(|row| row.element == element);
    found.expect("a row of the built-in table").relative
}

/// What is taken for granted in a comparison, beside the accumulators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Assumption {
    /// Product and accumulator only; AND gates take area but no energy.
    FreeGates,
    /// Product and accumulator only, every part at its price.
    Datapath,
    /// With the registers of a systolic element: what devices are priced with.
    Registers,
    /// With registers and their clock.
    ClockedRegisters,
}

impl Assumption {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::FreeGates, Self::Datapath, Self::Registers, Self::ClockedRegisters];

    /// What it says, in a few words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FreeGates => "datapath, gates take no energy",
            Self::Datapath => "datapath",
            Self::Registers => "datapath and registers",
            Self::ClockedRegisters => "datapath, registers and their clock",
        }
    }

    fn cost(self, element: &Element) -> Result<Cost> {
        let mut prices = Components::built_in().clone();
        match self {
            Self::FreeGates => {
                prices.and_gate.energy_pj = 0.0;
                element.datapath(&prices)
            }
            Self::Datapath => element.datapath(&prices),
            Self::Registers => element.cost(&prices),
            Self::ClockedRegisters => {
                prices.register_bit.energy_pj += prices.register_clock.energy_pj;
                element.cost(&prices)
            }
        }
    }
}

/// One element held against another.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Which element.
    pub element: &'static str,
    /// Its accumulator.
    pub accumulator: String,
    /// Against which.
    pub baseline: &'static str,
    /// The other's accumulator.
    pub baseline_accumulator: String,
    /// What is taken for granted.
    pub assumption: Assumption,
    /// The baseline's area over the element's.
    pub area_ratio: f64,
    /// The baseline's energy per operation over the element's.
    pub energy_ratio: f64,
    /// The product of both: how much more efficient the element is.
    pub efficiency_ratio: f64,
    /// What MixPE's authors give for it.
    pub published_ratio: f64,
    /// Of the ratios computed here.
    pub provenance: Provenance,
}

fn element(name: &str, accumulator: Accumulator) -> Element {
    let (multiplier, weight_bits, activation_bits) = match name {
        "mixpe-w4a8" => (Multiplier::ShiftAdd, 4, 8),
        "mixpe-w4a16" => (Multiplier::ShiftAddFloat, 4, 16),
        "int8" => (Multiplier::Integer, 8, 8),
        _ => (Multiplier::Float, 16, 16),
    };
    Element::new(multiplier, weight_bits, activation_bits, accumulator)
}

/// MixPE W4A8 against INT8, MixPE W4A16 against FP16, INT8 against FP16: at 45 nm, with the accumulators that are
/// plausible, under each [`Assumption`]. Ratios hold for equal counts of elements at one clock.
///
/// ```
/// use mixgemm::accel::cost::published::{Assumption, comparisons};
/// let row = comparisons().into_iter().find(|row| {
///     row.element == "mixpe-w4a8" && row.accumulator == "i24" && row.assumption == Assumption::FreeGates
/// });
/// let row = row.unwrap();
/// assert!((row.efficiency_ratio - 2.25).abs() < 0.01 && (row.published_ratio - 2.29).abs() < 0.01);
/// ```
#[must_use]
pub fn comparisons() -> Vec<Comparison> {
    use Accumulator::{F16, F32, Integer};
    let pairs = [
        ("mixpe-w4a8", Integer(24), "int8", Integer(24)),
        ("mixpe-w4a8", Integer(32), "int8", Integer(32)),
        ("mixpe-w4a8", Integer(20), "int8", Integer(32)),
        ("mixpe-w4a16", F16, "fp16", F16),
        ("mixpe-w4a16", F32, "fp16", F32),
        ("int8", Integer(24), "fp16", F16),
        ("int8", Integer(32), "fp16", F16),
        ("int8", Integer(24), "fp16", F32),
        ("int8", Integer(32), "fp16", F32),
    ];
    let compare = |(name, accumulator, baseline, other): (&'static str, Accumulator, &'static str, Accumulator)| {
        Assumption::ALL.map(|assumption| {
            let cost = |name, accumulator| {
                let cost = assumption.cost(&element(name, accumulator));
                cost.expect("these elements are well-formed")
            };
            let (own, theirs) = (cost(name, accumulator), cost(baseline, other));
            let area_ratio = theirs.area_um2 / own.area_um2;
            let energy_ratio = theirs.energy_pj / own.energy_pj;
            Comparison {
                element: name,
                accumulator: accumulator.to_string(),
                baseline,
                baseline_accumulator: other.to_string(),
                assumption,
                area_ratio,
                energy_ratio,
                efficiency_ratio: area_ratio * energy_ratio,
                published_ratio: efficiency(name) / efficiency(baseline),
                provenance: Provenance::Assumed,
            }
        })
    };
    pairs.into_iter().flat_map(compare).collect()
}

/// A synthesised element beside ours of the same kind, with registers, at the same node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Check {
    /// The synthesised element.
    pub design: &'static str,
    /// Ours, in words.
    pub model: String,
    /// The node of both, nm.
    pub node_nm: f64,
    /// Published area, µm².
    pub published_area_um2: f64,
    /// Our area, µm².
    pub area_um2: f64,
    /// Published energy of an operation, pJ.
    pub published_energy_pj: f64,
    /// Our energy of an operation, pJ.
    pub energy_pj: f64,
}

/// Our elements beside those that others synthesised: a measure of what the model is worth.
///
/// ```
/// for row in mixgemm::accel::cost::published::checks() {
///     let ratio = row.area_um2 / row.published_area_um2;
///     assert!((0.5..2.0).contains(&ratio), "{row:?}");
/// }
/// ```
#[must_use]
pub fn checks() -> Vec<Check> {
    let ours = [
        (
            "int4",
            Element::new(Multiplier::Integer, 4, 4, Accumulator::Integer(24)),
        ),
        (
            "int8",
            Element::new(Multiplier::Integer, 8, 8, Accumulator::Integer(32)),
        ),
        (
            "int16",
            Element::new(Multiplier::Integer, 16, 16, Accumulator::Integer(48)),
        ),
        ("fp16", Element::new(Multiplier::Float, 16, 16, Accumulator::F16)),
        ("fp16", Element::new(Multiplier::Float, 16, 16, Accumulator::F32)),
    ];
    let check = |(name, element): (&str, Element)| {
        let row = TABLE.synthesis.iter().find(|row| row.element == name)?;
        let cost = element.cost(Components::built_in()).ok()?;
        let factors = factors(row.node_nm).ok()?;
        Some(Check {
            design: &row.design,
            model: format!("{name}, {} accumulator", element.accumulator),
            node_nm: row.node_nm,
            published_area_um2: row.area_um2,
            area_um2: cost.area_um2 * factors.area,
            published_energy_pj: row.energy_pj?,
            energy_pj: cost.energy_pj * factors.energy,
        })
    };
    ours.into_iter().filter_map(check).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(element: &str, accumulators: [&str; 2], assumption: Assumption) -> Comparison {
        let mut rows = comparisons().into_iter();
        let row = rows.find(|row| {
            row.element == element
                && [row.accumulator.as_str(), &row.baseline_accumulator] == accumulators
                && row.assumption == assumption
        });
        row.unwrap()
    }

    /// Element, accumulators of element and baseline, ratios of area and energy, their product.
    type Expected = (&'static str, [&'static str; 2], f64, f64, f64);

    #[test]
    fn ratios_are_those_found_by_hand() {
        // Horowitz's 45 nm figures, adders of 4.35 µm² and 3.3 fJ a bit, gates that take no energy.
        let expected: [Expected; 8] = [
            ("mixpe-w4a8", ["i24", "i24"], 1.44, 1.57, 2.25),
            ("mixpe-w4a8", ["i32", "i32"], 1.39, 1.49, 2.07),
            ("mixpe-w4a16", ["f16", "f16"], 1.78, 2.65, 4.73),
            ("mixpe-w4a16", ["f32", "f32"], 1.29, 1.88, 2.43),
            ("int8", ["i24", "f16"], 7.76, 5.37, 41.7),
            ("int8", ["i32", "f16"], 7.12, 4.91, 35.0),
            ("int8", ["i24", "f32"], 15.07, 7.16, 108.0),
            ("int8", ["i32", "f32"], 13.83, 6.54, 90.5),
        ];
        for (element, accumulators, area, energy, product) in expected {
            let row = find(element, accumulators, Assumption::FreeGates);
            for (found, expected) in [
                (row.area_ratio, area),
                (row.energy_ratio, energy),
                (row.efficiency_ratio, product),
            ] {
                assert!((found / expected - 1.0).abs() < 5e-3, "{row:?}");
            }
        }
    }

    #[test]
    fn ratios_with_every_part_at_its_price() {
        // By hand: INT8 386.4 µm², 0.2792 pJ; MixPE 269.0 µm², 0.1782 + 32·0.00024 pJ; registers of 40 and 36 bits.
        for (assumption, product) in [
            (Assumption::Datapath, 2.158),
            (Assumption::Registers, 1.855),
            (Assumption::ClockedRegisters, 1.620),
        ] {
            let row = find("mixpe-w4a8", ["i24", "i24"], assumption);
            assert!((row.efficiency_ratio / product - 1.0).abs() < 2e-3, "{row:?}");
        }
    }

    #[test]
    fn published_ratios_are_quotients_of_the_authors_figures() {
        let published = |element, accumulators| find(element, accumulators, Assumption::Datapath).published_ratio;
        assert!((published("mixpe-w4a8", ["i24", "i24"]) - 2.29).abs() < 0.005);
        assert_eq!(published("mixpe-w4a16", ["f16", "f16"]), 4.82);
        assert_eq!(published("int8", ["i32", "f16"]), 58.28);
    }

    /// 45 nm, ISSCC 2014: f16 multiply 1640 µm² and 1.1 pJ, add 1360 and 0.4; f32 add 4184 and 0.9.
    #[test]
    fn an_fp16_element_is_what_horowitz_says() {
        for (accumulator, area, energy) in [(Accumulator::F16, 3000.0, 1.5), (Accumulator::F32, 5824.0, 2.0)] {
            let mut element = Element::new(Multiplier::Float, 16, 16, accumulator);
            element.registers = false;
            let cost = element.cost(Components::built_in()).unwrap();
            assert!((cost.area_um2 / area - 1.0).abs() < 1e-12, "{cost:?}");
            assert!((cost.energy_pj / energy - 1.0).abs() < 1e-12, "{cost:?}");
        }
        let origins = Components::origins();
        let f16 = origins.iter().find(|origin| origin.name == "f16 multiplier").unwrap();
        assert!(f16.source.contains("Horowitz"), "{}", f16.source);
    }

    #[test]
    fn synthesised_elements_are_close() {
        let rows = checks();
        assert_eq!(rows.len(), 5);
        for row in rows {
            let (area, energy) = (
                row.area_um2 / row.published_area_um2,
                row.energy_pj / row.published_energy_pj,
            );
            assert!((0.6..1.4).contains(&area) && (1.0..1.4).contains(&energy), "{row:?}");
        }
        // The flexible element of BitFusion takes 2.5 times the area of the fixed one.
        let area = |name: &str| syntheses().iter().find(|row| row.element == name).unwrap().area_um2;
        assert!((area("fusion-8-2") / area("int8") - 2.52).abs() < 0.01);
    }
}
