//! One accelerator as data: what it is made of, and what a product costs on it.
//!
//! | module | holds |
//! |---|---|
//! | [`catalogue`] | the built-in accelerators, by name |
//! | [`dequantise`] | where scales are applied, what that takes, and from which M on it should be the other way |
//! | [`estimate`] | cycles, energy, area, efficiency of a product |
//! | [`mod@file`] | an accelerator of one's own, as TOML |
//! | [`operands`] | the same accelerator with the weights of a product |
//! | [`size`] | the same accelerator at another peak or area |
//!
//! The model is analytic. Cycles are those of [`array`](crate::accel::array) and [`memory`](crate::accel::memory);
//! energy is operations and bits times the prices of [`cost`](crate::accel::cost). Not in it: wires, clock trees,
//! control, place and route (a factor of about 1.5 in area by BitMoD's account), and refresh.
#![forbid(unsafe_code)]

pub mod catalogue;
pub mod dequantise;
pub mod estimate;
pub mod file;
pub mod operands;
pub mod size;

use crate::accel::array::Array;
use crate::accel::cost::Origin;
use crate::accel::cost::component::Components;
use crate::accel::cost::dram::DramEnergy;
use crate::accel::cost::element::Element;
use crate::accel::cost::sram::{self, SramCost, bank};
use crate::accel::cost::{Provenance, node};
use crate::accel::hardware::dequantise::Dequantisation;
use crate::accel::memory::{Memory, Widths};
use crate::base::error::{Error, Result};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// One accelerator.
///
/// ```
/// use mixgemm::accel::array::Extents;
/// use mixgemm::accel::hardware::Hardware;
/// let decode = Extents::new(1, 4096, 4096);
/// let mixpe = Hardware::named("mixpe-w4a8")?.estimate(decode)?;
/// let int8 = Hardware::named("tpu-int8")?.estimate(decode)?;
/// // One row of activations: weights are most of what moves, and those of MixPE have half the bits.
/// assert!(mixpe.energy.dram_pj < 0.55 * int8.energy.dram_pj);
/// # Ok::<(), mixgemm::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hardware {
    /// Its name in tables.
    pub name: String,
    /// Clock, MHz.
    pub clock_mhz: f64,
    /// Node of logic and scratchpads, 22 to 65 nm.
    pub node_nm: f64,
    /// The processing element.
    pub element: Element,
    /// How many of them, and what stays in them.
    pub array: Array,
    /// Widths of what is stored and moved.
    pub formats: Formats,
    /// Where scales are applied.
    pub dequantisation: Dequantisation,
    /// Scratchpads and the width of the DRAM channel.
    pub memory: Scratchpads,
    /// What a bit over the channel costs.
    pub dram: DramEnergy,
}

/// Bits of the values that are stored and moved; scales and zero points of weights come on top.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Formats {
    /// Of a weight's code.
    pub weight_bits: u32,
    /// Of an activation.
    pub activation_bits: u32,
    /// Of an output.
    pub output_bits: u32,
    /// Of a partial sum that leaves the array.
    pub partial_bits: u32,
}

/// A scratchpad, both halves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scratchpad {
    /// Its size.
    pub bytes: u64,
    /// Banks that it is cut into.
    pub banks: u32,
    /// Width of a bank's port.
    pub word_bytes: u32,
}

/// The three scratchpads and the channel behind them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scratchpads {
    /// For activations.
    pub activation: Scratchpad,
    /// For weights.
    pub weight: Scratchpad,
    /// For outputs and partial sums.
    pub output: Scratchpad,
    /// What the DRAM channel moves in a cycle.
    pub dram_bits_per_cycle: f64,
}

/// The names of the scratchpads in errors.
const PADS: [&str; 3] = ["memory.activation", "memory.weight", "memory.output"];

impl Scratchpads {
    /// For activations, for weights, for outputs.
    #[must_use]
    pub const fn list(&self) -> [Scratchpad; 3] {
        [self.activation, self.weight, self.output]
    }

    /// What the model of traffic needs.
    #[must_use]
    pub const fn memory(&self) -> Memory {
        Memory {
            activation_bytes: self.activation.bytes,
            weight_bytes: self.weight.bytes,
            output_bytes: self.output.bytes,
            dram_bits_per_cycle: self.dram_bits_per_cycle,
        }
    }

    /// One bank of each, at a node.
    fn banks(&self, node_nm: f64) -> Result<[SramCost; 3]> {
        let price = |name: &'static str, pad: Scratchpad| {
            if pad.banks == 0 {
                return Err(Error::value(name, "at least 1 bank", "banks = 0"));
            }
            let bytes = pad.bytes as f64 / f64::from(pad.banks);
            bank(bytes, f64::from(pad.word_bytes), node_nm).map_err(|error| match error {
                Error::Value {
                    argument: "node_nm", ..
                } => error,
                Error::Value {
                    argument,
                    expected,
                    found,
                } => Error::value(name, format!("{argument} of a bank in {expected}"), found),
                other => other,
            })
        };
        let [activation, weight, output] = self.list();
        Ok([
            price(PADS[0], activation)?,
            price(PADS[1], weight)?,
            price(PADS[2], output)?,
        ])
    }
}

impl Hardware {
    /// Bits per value of everything that moves in a product of this depth, a weight's share of scale and zero point
    /// included.
    #[must_use]
    pub fn widths(&self, k: u64) -> Widths {
        Widths {
            activation: f64::from(self.formats.activation_bits),
            weight: f64::from(self.formats.weight_bits) + self.dequantisation.bits_per_weight(k),
            output: f64::from(self.formats.output_bits),
            partial: f64::from(self.formats.partial_bits),
        }
    }

    /// Whether the parts go together.
    ///
    /// # Errors
    /// [`Error::Value`] names the key that does not fit.
    pub fn check(&self) -> Result<()> {
        self.element.check()?;
        self.dequantisation.check()?;
        self.dram.check()?;
        if !(self.clock_mhz.is_finite() && self.clock_mhz > 0.0) {
            return Err(Error::value(
                "clock_mhz",
                "a positive number",
                self.clock_mhz.to_string(),
            ));
        }
        let (stored, taken) = (&self.formats, &self.element);
        for (argument, bits, most) in [
            ("formats.weight_bits", stored.weight_bits, taken.weight_bits),
            ("formats.activation_bits", stored.activation_bits, taken.activation_bits),
            ("formats.output_bits", stored.output_bits, 64),
            ("formats.partial_bits", stored.partial_bits, 64),
        ] {
            if bits == 0 || bits > most {
                return Err(Error::value(argument, format!("1 to {most}"), bits.to_string()));
            }
        }
        Ok(())
    }

    /// Where every figure behind an estimate of this accelerator comes from.
    ///
    /// # Errors
    /// [`Error::Value`]: the element is not well-formed.
    pub fn origins(&self) -> Result<Vec<Origin>> {
        let parts = self.element.inventory()?.into_iter().map(|counted| counted.part);
        let parts = parts.chain(self.dequantisation.parts(&self.element, &self.formats));
        let mut used: Vec<&str> = parts.flat_map(|part| part.entries().iter().copied()).collect();
        used.push("leakage of logic");
        if self.element.registers {
            used.push("register bit");
        }
        let mut origins = Components::origins();
        origins.retain(|origin| used.contains(&origin.name));
        origins.extend([node::origin(), sram::origin()]);
        origins.push(Origin {
            name: "energy of the DRAM channel",
            provenance: Provenance::Assumed,
            source: "A parameter of the accelerator.",
        });
        Ok(origins)
    }
}
