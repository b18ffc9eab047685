//! Where the scales of weights are applied, and what that takes.
//!
//! For a product of M × N × K with groups of G codes:
//!
//! | position | scalings | parts of one |
//! |---|---|---|
//! | `before` the array | one for every weight that enters it: N·K a pass | float: f16 multiplier, f16 adder for the zero point; integer: multiplier by an 8-bit scale, 8-bit adder for the zero point, and M·N outputs scaled in the end |
//! | `after` the group | M·N·⌈K/G⌉ | the zero point times the group's sum of activations, a subtraction; a conversion; f32 multiplier and adder |
//! | `none` | none | |
//!
//! A group as long as the row is a scale per channel. Sums of activations (M·K additions) are formed only where weights
//! have zero points. Scaling happens beside the array and costs no cycles: there are as many units as it takes to keep
//! up.
#![forbid(unsafe_code)]

use crate::accel::array::{Dataflow, Extents};
use crate::accel::cost::Cost;
use crate::accel::cost::component::{Components, Part};
use crate::accel::cost::element::{Accumulator, Element};
use crate::accel::hardware::{Formats, Hardware};
use crate::base::error::{Error, Result};
use alloc::string::ToString;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Where scales are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Position {
    /// Nowhere: weights are what they stand for.
    None,
    /// To weights, where they enter the array.
    Before,
    /// To the sum of a group.
    After,
}

impl Position {
    /// `none`, `before` or `after`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Before => "before",
            Self::After => "after",
        }
    }
}

/// Scales, zero points, and where they are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dequantisation {
    /// Where.
    pub position: Position,
    /// Codes that share a scale; 0 stands for all of a row.
    pub group: u64,
    /// Bits of a scale.
    pub scale_bits: u32,
    /// Bits of a zero point; 0 if weights are symmetric.
    pub zero_bits: u32,
}

/// How often what is done in a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Scalings {
    /// Weights that are scaled before they enter the array.
    pub weights: u64,
    /// Sums that are scaled behind it.
    pub sums: u64,
    /// Zero points that are multiplied by a sum of activations and subtracted.
    pub zero_terms: u64,
    /// Activations that are added up for that.
    pub activation_sums: u64,
}

/// The least M at which scaling weights before the array takes less than scaling sums after the group; `None` if there
/// is none. Where every fill of the array with activations is a pass over the weights, the next pass may turn it
/// around once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Crossover {
    /// Less by the number of multiplications by a group's scale.
    pub by_count: Option<u64>,
    /// Less by energy, everything included that either way takes.
    pub by_energy: Option<u64>,
}

/// Prices of one scaling of each kind.
struct Units {
    weight: Cost,
    sum: Cost,
    zero_term: Cost,
    activation_sum: Cost,
}

/// The parts of one scaling of each kind.
fn parts(element: &Element, formats: &Formats, zero_bits: u32, group: u64) -> [Vec<Part>; 4] {
    // A row of unknown length is taken for one of at most 2¹⁶.
    let carries = match group {
        0 => 16,
        group => u64::BITS - (group - 1).leading_zeros(),
    };
    let sum_bits = element.fixed_point_bits().saturating_add(carries);
    let with_zero = |part: Part, zero: Part| {
        if zero_bits > 0 {
            alloc::vec![part, zero]
        } else {
            alloc::vec![part]
        }
    };
    match element.accumulator {
        Accumulator::Integer(bits) => [
            with_zero(
                Part::Multiplier {
                    bits: [formats.weight_bits, 8],
                },
                Part::Adder { bits: 8 },
            ),
            alloc::vec![
                Part::Normaliser {
                    bits,
                    positions: bits,
                    exponent_bits: 8
                },
                Part::F32Multiplier,
                Part::F32Adder,
            ],
            alloc::vec![
                Part::Multiplier {
                    bits: [zero_bits, sum_bits]
                },
                Part::Adder { bits }
            ],
            alloc::vec![Part::Adder { bits: sum_bits }],
        ],
        Accumulator::F16 | Accumulator::F32 => [
            with_zero(Part::F16Multiplier, Part::F16Adder),
            alloc::vec![Part::F32Multiplier, Part::F32Adder],
            alloc::vec![Part::F32Multiplier, Part::F32Adder],
            alloc::vec![Part::F32Adder],
        ],
    }
}

impl Dequantisation {
    /// # Errors
    /// [`Error::Value`]: a scale or a zero point of more than 32 bits, or a scale of none.
    pub fn check(&self) -> Result<()> {
        let least = u32::from(self.position != Position::None);
        if !(least..=32).contains(&self.scale_bits) {
            let expected = if least == 1 { "1 to 32" } else { "0 to 32" };
            return Err(Error::value(
                "dequantisation.scale_bits",
                expected,
                self.scale_bits.to_string(),
            ));
        }
        if self.zero_bits > 32 {
            return Err(Error::value(
                "dequantisation.zero_bits",
                "0 to 32",
                self.zero_bits.to_string(),
            ));
        }
        Ok(())
    }

    /// Codes that share a scale in a row of this length.
    #[must_use]
    pub const fn group_in(&self, k: u64) -> u64 {
        if self.group == 0 || self.group > k {
            k
        } else {
            self.group
        }
    }

    /// A weight's share of scale and zero point, in bits.
    #[must_use]
    pub fn bits_per_weight(&self, k: u64) -> f64 {
        if self.position == Position::None || k == 0 {
            return 0.0;
        }
        let groups = k.div_ceil(self.group_in(k));
        (f64::from(self.scale_bits) + f64::from(self.zero_bits)) * groups as f64 / k as f64
    }

    /// How often what is done, if this many weights enter the array.
    #[must_use]
    pub fn scalings(&self, e: Extents, weight_reads: u64, element: &Element) -> Scalings {
        let outputs = e.m.saturating_mul(e.n);
        let integer = matches!(element.accumulator, Accumulator::Integer(_));
        match self.position {
            Position::None => Scalings::default(),
            Position::Before => Scalings {
                weights: weight_reads,
                sums: if integer { outputs } else { 0 },
                ..Scalings::default()
            },
            Position::After => {
                let sums = outputs.saturating_mul(e.k.div_ceil(self.group_in(e.k).max(1)));
                let zero = u64::from(self.zero_bits > 0);
                Scalings {
                    weights: 0,
                    sums,
                    zero_terms: sums * zero,
                    activation_sums: e.m.saturating_mul(e.k) * zero,
                }
            }
        }
    }

    /// The parts that one scaling of each kind that occurs is made of.
    #[must_use]
    pub fn parts(&self, element: &Element, formats: &Formats) -> Vec<Part> {
        let [weight, sum, zero_term, activation_sum] = parts(element, formats, self.zero_bits, self.group);
        match self.position {
            Position::None => Vec::new(),
            Position::Before => match element.accumulator {
                Accumulator::Integer(_) => [weight, sum].concat(),
                Accumulator::F16 | Accumulator::F32 => weight,
            },
            Position::After if self.zero_bits > 0 => [sum, zero_term, activation_sum].concat(),
            Position::After => sum,
        }
    }

    fn units(&self, element: &Element, formats: &Formats) -> Units {
        let prices = Components::built_in();
        let cost = |parts: Vec<Part>| parts.into_iter().map(|part| part.cost(prices)).sum::<Cost>();
        let [weight, sum, zero_term, activation_sum] = parts(element, formats, self.zero_bits, self.group).map(cost);
        Units {
            weight,
            sum,
            zero_term,
            activation_sum,
        }
    }

    /// Energy of these scalings at 45 nm, pJ.
    #[must_use]
    pub fn energy_pj(&self, scalings: &Scalings, element: &Element, formats: &Formats) -> f64 {
        let units = self.units(element, formats);
        scalings.weights as f64 * units.weight.energy_pj
            + scalings.sums as f64 * units.sum.energy_pj
            + scalings.zero_terms as f64 * units.zero_term.energy_pj
            + scalings.activation_sums as f64 * units.activation_sum.energy_pj
    }

    /// Area at 45 nm of the units that keep up with this array, µm²: weights enter along one edge, groups are finished
    /// once in G cycles, and outputs leave a row at a time.
    #[must_use]
    pub fn area_um2(&self, hardware: &Hardware) -> f64 {
        let (array, units) = (&hardware.array, self.units(&hardware.element, &hardware.formats));
        let (rows, cols) = (f64::from(array.rows()), f64::from(array.cols()));
        let edge = |across: f64, products: u64| across * products as f64;
        let columns = edge(cols, array.products().n);
        match self.position {
            Position::None => 0.0,
            Position::Before => {
                let lanes = match array.dataflow() {
                    Dataflow::OutputStationary | Dataflow::WeightStationary => columns,
                    Dataflow::InputStationary => edge(rows, array.products().k),
                };
                let integer = matches!(hardware.element.accumulator, Accumulator::Integer(_));
                lanes * units.weight.area_um2 + if integer { columns * units.sum.area_um2 } else { 0.0 }
            }
            Position::After => {
                let scalers = match self.group {
                    0 => columns,
                    group => array.macs_per_cycle().div_ceil(group) as f64,
                };
                let zeros = if self.zero_bits > 0 {
                    scalers * units.zero_term.area_um2 + edge(rows, array.products().m) * units.activation_sum.area_um2
                } else {
                    0.0
                };
                scalers * units.sum.area_um2 + zeros
            }
        }
    }
}

/// The least M with `slope·M > pass·passes(M)`, where a pass over the weights serves at most `block` rows.
fn first_above(slope: f64, pass: f64, block: Option<u64>) -> Option<u64> {
    if slope.is_nan() || slope <= 0.0 {
        return None;
    }
    // If it is not reached within the first block, neither is it in any other: both sides grow by the same then.
    let first = (libm::floor(pass / slope) as u64).saturating_add(1);
    block.is_none_or(|block| first <= block).then_some(first)
}

impl Hardware {
    /// From which M on this array, with its element and groups, should scale weights before it instead of sums after the
    /// group. N and K are those of the weights. An array that keeps weights makes one pass over them; the others make one
    /// for every fill of their rows (columns) with activations, so scaling before may never pay.
    ///
    /// ```
    /// use mixgemm::accel::array::{Array, Dataflow};
    /// use mixgemm::accel::hardware::Hardware;
    /// let mut mixpe = Hardware::named("mixpe-w4a8")?;
    /// assert_eq!(mixpe.crossover(4096, 4096).by_count, None);
    /// mixpe.array = Array::new(32, 32, Dataflow::WeightStationary)?;
    /// assert_eq!(mixpe.crossover(4096, 4096).by_count, Some(129)); // the group, plus one
    /// # Ok::<(), mixgemm::Error>(())
    /// ```
    #[must_use]
    pub fn crossover(&self, n: u64, k: u64) -> Crossover {
        if n == 0 || k == 0 {
            return Crossover {
                by_count: None,
                by_energy: None,
            };
        }
        let block = match self.array.dataflow() {
            Dataflow::OutputStationary => Some(u64::from(self.array.rows()) * self.array.products().m),
            Dataflow::InputStationary => Some(u64::from(self.array.cols()) * self.array.products().m),
            Dataflow::WeightStationary => None,
        };
        let of_one_row = |position| {
            let dequantisation = Dequantisation {
                position,
                ..self.dequantisation
            };
            dequantisation.scalings(Extents::new(1, n, k), n.saturating_mul(k), &self.element)
        };
        let (before, after) = (of_one_row(Position::Before), of_one_row(Position::After));
        let energy = |scalings: Scalings| self.dequantisation.energy_pj(&scalings, &self.element, &self.formats);
        let outputs = Scalings { weights: 0, ..before };
        let weights = Scalings { sums: 0, ..before };
        Crossover {
            by_count: first_above(after.sums as f64, before.weights as f64, block),
            by_energy: first_above(energy(after) - energy(outputs), energy(weights), block),
        }
    }
}
