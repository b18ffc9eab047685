//! What scaling takes: the parts of one scaling of each kind, their energy, and the area of the units.
//!
//! | kind | parts |
//! |---|---|
//! | weight | float: f16 multiplier, f16 adder for the zero point; integer: multiplier of code by scale, adder for the zero point |
//! | widening | adder as wide as the element's weight |
//! | sum, after the group | behind integers a conversion; an f32 multiplier as narrow as the scale; with groups an f32 adder and, where sums stay in the array, an f32 register for every output |
//! | | with a scale of activations per group one f32 multiplier more: the scales are multiplied first |
//! | sum, by channel behind integers that were scaled before | a conversion, an f32 multiplier |
//! | tap | register as wide as the accumulator |
//! | output | f32 multiplier |
//! | zero point | zero point times sum of activations, a subtraction; symmetric codes need the subtraction alone |
//! | activation that is summed | an adder of the accumulator's kind; in fixed point a shifter |
//!
//! An f32 multiplier by a number of b significant bits is the published one, less an integer multiplier of 24 by 24 bits,
//! plus one of 24 by b. A scale of up to 16 bits has at most the 11 of an f16; wider ones have an exponent of 8 bits.
#![forbid(unsafe_code)]

use crate::accel::array::{Dataflow, Extents};
use crate::accel::cost::Cost;
use crate::accel::cost::component::{Components, Part};
use crate::accel::cost::element::Accumulator;
use crate::accel::hardware::Hardware;
use crate::accel::hardware::dequantise::{Position, Scalings};
use crate::accel::hardware::formats::ActivationScale;
use alloc::{vec, vec::Vec};

/// Bits of an f32 sum.
const SUM_BITS: u32 = 32;

/// Significant bits of a stored scale or zero point of this width.
const fn significand(bits: u32) -> u32 {
    match bits {
        0..=11 => bits,
        12..=19 => 11,
        _ => bits - 8,
    }
}

/// An f32 multiplier by a stored number of this width.
const fn multiplier(bits: u32) -> Part {
    Part::F32ByNarrow {
        bits: significand(bits),
    }
}

/// `parts` where it applies, else nothing.
fn only_if(applies: bool, parts: &[Part]) -> Vec<Part> {
    if applies { parts.to_vec() } else { Vec::new() }
}

impl Hardware {
    /// The running f32 sum of an output that stays in the array.
    fn running_sum(&self) -> Option<Part> {
        let stays = self.array.dataflow() == Dataflow::OutputStationary;
        (stays && self.adds_groups()).then_some(Part::Register { bits: SUM_BITS })
    }

    /// Bits of a group's sum of activations. A row of unknown length is taken for one of at most 2¹⁶.
    fn activation_sum_bits(&self) -> u32 {
        let carries = match self.dequantisation.group {
            0 => 16,
            group => u64::BITS - (group - 1).leading_zeros(),
        };
        self.element.fixed_point_bits().saturating_add(carries)
    }

    /// The parts of one scaling of each kind, in the order of [`Scalings::list`]; the running sum is not among them.
    fn parts(&self) -> [Vec<Part>; 7] {
        let (own, element) = (&self.dequantisation, &self.element);
        let (zero, before) = (own.zero_bits > 0, own.position == Position::Before);
        let weight = if self.sums_integers() {
            let product = Part::Multiplier {
                bits: [self.formats.weight_bits, own.scale_bits],
            };
            let bits = element.weight_bits;
            [vec![product], only_if(zero, &[Part::Adder { bits }])].concat()
        } else {
            [vec![Part::F16Multiplier], only_if(zero, &[Part::F16Adder])].concat()
        };
        let widening = vec![Part::Adder {
            bits: element.weight_bits,
        }];
        let conversion = match element.accumulator {
            Accumulator::Integer(bits) => vec![Part::Normaliser {
                bits,
                positions: bits,
                exponent_bits: 8,
            }],
            Accumulator::F16 | Accumulator::F32 => Vec::new(),
        };
        let by_group = self.formats.activation_scale == ActivationScale::Group;
        let scale = if before {
            vec![Part::F32Multiplier]
        } else {
            [
                vec![multiplier(own.scale_bits)],
                only_if(by_group, &[Part::F32Multiplier]),
            ]
            .concat()
        };
        let sum = [conversion, scale, only_if(self.adds_groups(), &[Part::F32Adder])].concat();
        let tap = vec![Part::Register {
            bits: element.accumulator.bits(),
        }];
        let output = vec![Part::F32Multiplier];
        let sum_bits = self.activation_sum_bits();
        let (zero_term, activation_sum) = match element.accumulator {
            Accumulator::Integer(bits) => {
                let product = Part::Multiplier {
                    bits: [own.zero_bits, sum_bits],
                };
                let fixed = element.fixed_point_bits() != element.activation_bits;
                let aligned = only_if(fixed, &[element.alignment(sum_bits)]);
                (
                    [only_if(zero, &[product]), vec![Part::Adder { bits }]].concat(),
                    [aligned, vec![Part::Adder { bits: sum_bits }]].concat(),
                )
            }
            float => (
                [only_if(zero, &[multiplier(own.zero_bits)]), vec![Part::F32Adder]].concat(),
                vec![float.adder()],
            ),
        };
        [weight, widening, sum, tap, output, zero_term, activation_sum]
    }

    /// One scaling of each kind at 45 nm.
    fn prices(&self) -> Scalings<Cost> {
        let prices = Components::built_in();
        let cost = |parts: Vec<Part>| parts.into_iter().map(|part| part.cost(prices)).sum::<Cost>();
        let [weights, widenings, sums, taps, outputs, zero_terms, activation_sums] = self.parts().map(cost);
        Scalings {
            weights,
            widenings,
            sums,
            taps,
            outputs,
            zero_terms,
            activation_sums,
        }
    }

    /// Every part of which this accelerator has some for scaling.
    pub(super) fn scaling_parts(&self) -> Vec<Part> {
        // A product on which every kind that occurs at all occurs.
        let e = Extents::new(1, 1, u64::from(u32::MAX));
        let counts = self.scalings(e, 1).list();
        let used = self.parts().into_iter().zip(counts).filter(|(_, count)| count.1 > 0);
        used.flat_map(|(parts, _)| parts).chain(self.running_sum()).collect()
    }

    /// Energy of these scalings at 45 nm, pJ.
    #[must_use]
    pub fn scaling_pj(&self, scalings: &Scalings) -> Scalings<f64> {
        let price = self.prices();
        let running = self
            .running_sum()
            .map_or(0.0, |part| part.cost(Components::built_in()).energy_pj);
        Scalings {
            weights: scalings.weights as f64 * price.weights.energy_pj,
            widenings: scalings.widenings as f64 * price.widenings.energy_pj,
            sums: scalings.sums as f64 * (price.sums.energy_pj + running),
            taps: scalings.taps as f64 * price.taps.energy_pj,
            outputs: scalings.outputs as f64 * price.outputs.energy_pj,
            zero_terms: scalings.zero_terms as f64 * price.zero_terms.energy_pj,
            activation_sums: scalings.activation_sums as f64 * price.activation_sums.energy_pj,
        }
    }

    /// Area at 45 nm of the units that keep up with the array, µm²: operands enter along one edge, groups are finished
    /// once in G cycles, and outputs leave a row at a time.
    #[must_use]
    pub fn scaling_um2(&self) -> f64 {
        let (array, price) = (&self.array, self.prices());
        let [along_rows, along_cols, _] = array.dataflow().axes();
        let per = array.products().list();
        let rows = (u64::from(array.rows()) * per[along_rows]) as f64;
        let columns = (u64::from(array.cols()) * per[along_cols]) as f64;
        let (weight_lanes, activation_lanes) = match array.dataflow() {
            Dataflow::OutputStationary | Dataflow::WeightStationary => (columns, rows),
            Dataflow::InputStationary => (rows, columns),
        };
        let output = match self.formats.activation_scale {
            ActivationScale::Row => columns * price.outputs.area_um2,
            ActivationScale::None | ActivationScale::Group => 0.0,
        };
        match self.dequantisation.position {
            Position::None => output,
            Position::Before => {
                let sums = if self.sums_integers() { columns } else { 0.0 };
                output + weight_lanes * price.weights.area_um2 + sums * price.sums.area_um2
            }
            Position::After => {
                let scalers = match self.dequantisation.group {
                    0 => columns,
                    group => array.macs_per_cycle().div_ceil(group) as f64,
                };
                let zeros = if self.corrects_zeros() {
                    scalers * price.zero_terms.area_um2 + activation_lanes * price.activation_sums.area_um2
                } else {
                    0.0
                };
                let one = Extents::new(1, 1, 1);
                let widenings = if self.scalings(one, 1).widenings > 0 {
                    weight_lanes
                } else {
                    0.0
                };
                let held = array.elements() as f64 * (per[0] * per[1]) as f64;
                let running = self
                    .running_sum()
                    .map_or(0.0, |part| part.cost(Components::built_in()).area_um2);
                let taps = columns * self.taps() as f64 * price.taps.area_um2;
                output
                    + widenings * price.widenings.area_um2
                    + scalers * price.sums.area_um2
                    + zeros
                    + held * running
                    + taps
            }
        }
    }
}
