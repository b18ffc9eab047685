//! One accelerator as data: what it is made of, and what a product costs on it.
//!
//! | module | holds |
//! |---|---|
//! | [`catalogue`] | the built-in accelerators, by name |
//! | [`mod@check`] | whether the parts go together |
//! | [`dequantise`] | where scales are applied, and how often what is done for it |
//! | [`scaling`] | what that takes |
//! | [`crossover`] | from which M on it should be the other way |
//! | [`formats`] | widths of what is stored and moved |
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
pub mod check;
pub mod crossover;
pub mod dequantise;
pub mod estimate;
pub mod file;
pub mod formats;
pub mod operands;
pub mod scaling;
pub mod size;

use crate::accel::array::Array;
use crate::accel::cost::Origin;
use crate::accel::cost::component::Components;
use crate::accel::cost::dram::DramEnergy;
use crate::accel::cost::element::Element;
use crate::accel::cost::sram::{self, SramCost, bank};
use crate::accel::cost::{Provenance, node};
use crate::accel::hardware::dequantise::Dequantisation;
use crate::accel::hardware::formats::Formats;
use crate::accel::memory::Memory;
use crate::base::error::{Error, Result};
use alloc::format;
use alloc::string::String;
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
pub(super) const PADS: [&str; 3] = ["memory.activation", "memory.weight", "memory.output"];

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
    /// Where every figure behind an estimate of this accelerator comes from.
    ///
    /// # Errors
    /// [`Error::Value`]: the element is not well-formed.
    pub fn origins(&self) -> Result<Vec<Origin>> {
        let parts = self.element.inventory()?.into_iter().map(|counted| counted.part);
        let parts = parts.chain(self.scaling_parts());
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
