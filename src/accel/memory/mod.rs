//! Memory: three double-buffered scratchpads and one DRAM channel.
//!
//! **What is fetched when.** A product is cut into tiles. The tile in work lies in one half of every scratchpad, and the
//! other half takes the next one or gives the last one back, so a tile may fill half a scratchpad and no more. The
//! array starts when the operands of its first fold are there (*first load*). From then on the channel moves whatever
//! the schedule still needs while the array works, at its full rate and in both directions together. When the array is
//! done, the outputs of its last fold leave (*last store*). With `C` cycles of computation ([`Array::walk`]), `D` bits
//! of traffic, `F` of them in the first load and `L` in the last store, and a bandwidth of `B` bits per cycle:
//!
//! ```text
//! cycles = max(C + (F + L) / B, D / B), rounded up          stalls = cycles − C
//! ```
//!
//! **What moves.** Tiles are visited in one of the six orders of three loops. An operand stays as long as its tile is
//! the same from one step to the next; otherwise it is fetched again. Sums whose depth is cut and that do not stay are
//! written and read back as partial sums.
//!
//! **Which tiles.** A tile spans a fold of the array, or two, four, eight … of them, or all of the extent; in time, where
//! a fold has no end of its own, it spans a power of two or all. A fold that is cut in time takes words, not cycles: what
//! stays in the elements is changed row by row behind the wave of the piece before. Pieces therefore have at least as
//! many steps as the array has rows, unless they *stream*: where a tile is one fold across the array and time
//! is the innermost loop, a piece continues the last one, and nothing is changed. Among all tiles of this family that
//! fit, and all orders, those with the least traffic are taken, which are the fastest too; of these the ones with the
//! fewest pieces, and then the largest. Neither the family nor the traffic of a tiling depend on the sizes of the
//! scratchpads, so a smaller scratchpad, like a lower bandwidth, never makes a product faster. Without a limit of
//! bandwidth there are no stalls.
//!
//! A product starts when the one before has stored its outputs.
//!
//! What is left out: refresh, rows and bursts of the DRAM, conflicts of scratchpad banks, and where within a sweep the
//! traffic lies. The figures are those of a well-scheduled machine.
#![forbid(unsafe_code)]

mod tiling;

#[cfg(test)]
mod tests;

use crate::accel::array::{Array, Extents, Walk};
use crate::base::error::{Error, Result};
use alloc::format;
use tiling::Problem;

/// Bits per value of everything that moves. Those of a weight include its share of scales and zero points, 4.16 for
/// instance, so they need not be whole.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(
    feature = "lab",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields)
)]
pub struct Widths {
    /// Of an activation.
    pub activation: f64,
    /// Of a weight.
    pub weight: f64,
    /// Of a finished output.
    pub output: f64,
    /// Of a partial sum.
    pub partial: f64,
}

/// Scratchpads, of which half is usable at a time, and the channel behind them.
///
/// ```
/// use mixgemm::accel::array::{Array, Dataflow, Extents};
/// use mixgemm::accel::memory::{Memory, Widths};
/// let array = Array::new(16, 16, Dataflow::OutputStationary)?;
/// let memory = Memory {
///     activation_bytes: 65_536,
///     weight_bytes: 65_536,
///     output_bytes: 65_536,
///     dram_bits_per_cycle: 64.0,
/// };
/// let widths = Widths { activation: 8.0, weight: 4.0, output: 8.0, partial: 32.0 };
/// let traffic = memory.traffic(&array, Extents::new(128, 64, 256), &widths)?;
/// // Everything fits, so each value crosses the channel once.
/// assert_eq!(traffic.dram.activation_read, 128.0 * 256.0 * 8.0);
/// assert_eq!(traffic.compute_cycles, 9152);
/// // The array waits for 16 × 256 activations and 16 × 256 weights, and then for 16 × 16 outputs to leave.
/// assert_eq!(traffic.stall_cycles, (16 * 256 * 12 + 16 * 16 * 8) / 64);
/// # Ok::<(), mixgemm::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(
    feature = "lab",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields)
)]
pub struct Memory {
    /// Size of the scratchpad for activations, both halves.
    pub activation_bytes: u64,
    /// Size of the scratchpad for weights, both halves.
    pub weight_bytes: u64,
    /// Size of the scratchpad for outputs and partial sums, both halves.
    pub output_bytes: u64,
    /// What the channel moves in a cycle, reads and writes together; may be infinite.
    pub dram_bits_per_cycle: f64,
}

/// Bits read from and written to one memory.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[cfg_attr(feature = "lab", derive(serde::Serialize))]
pub struct Moved {
    /// Bits that leave this memory.
    pub read: f64,
    /// Bits that enter this memory.
    pub written: f64,
}

/// Bits over the DRAM channel.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[cfg_attr(feature = "lab", derive(serde::Serialize))]
pub struct Dram {
    /// Activations, as often as they are fetched.
    pub activation_read: f64,
    /// Weights, as often as they are fetched.
    pub weight_read: f64,
    /// Partial sums that come back.
    pub output_read: f64,
    /// Outputs, and partial sums that have to leave.
    pub output_written: f64,
}

impl Dram {
    /// Everything that is read.
    #[must_use]
    pub fn read(&self) -> f64 {
        self.activation_read + self.weight_read + self.output_read
    }

    /// Both directions.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.read() + self.output_written
    }
}

/// Bits through the three scratchpads: on one side the array, on the other the channel.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[cfg_attr(feature = "lab", derive(serde::Serialize))]
pub struct Sram {
    /// Of the scratchpad for activations.
    pub activation: Moved,
    /// Of the scratchpad for weights.
    pub weight: Moved,
    /// Of the scratchpad for outputs and partial sums.
    pub output: Moved,
}

/// The tiles that were chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "lab", derive(serde::Serialize))]
pub struct Tiling {
    /// The extents of a tile; those at the end of an axis may be smaller.
    pub tile: Extents,
    /// Loops over tiles, from the outermost to the innermost.
    pub order: &'static str,
}

/// What memory makes of a product.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "lab", derive(serde::Serialize))]
pub struct Traffic {
    /// Computation and stalls, a count.
    pub cycles: u64,
    /// Cycles in which the array works, fills or drains.
    pub compute_cycles: u64,
    /// Cycles in which it waits.
    pub stall_cycles: u64,
    /// Bits over the channel.
    #[cfg_attr(feature = "lab", serde(rename = "dram_bits"))]
    pub dram: Dram,
    /// Bits through the scratchpads.
    #[cfg_attr(feature = "lab", serde(rename = "sram_bits"))]
    pub sram: Sram,
    /// The array's own account.
    pub walk: Walk,
    /// The tiles that were chosen.
    pub tiling: Tiling,
}

impl Memory {
    /// Chooses tiles for this product and counts cycles and bits.
    ///
    /// # Errors
    /// [`Error::Value`]: an extent is zero, a width is not positive and finite, or the bandwidth is not positive.
    /// [`Error::Unsupported`]: half a scratchpad does not hold the operands of one step of one fold.
    pub fn traffic(&self, array: &Array, e: Extents, widths: &Widths) -> Result<Traffic> {
        self.check(e, widths)?;
        let problem = Problem::new(self, array, e, widths);
        let chosen = problem.best().ok_or_else(|| problem.too_small())?;
        let walk = array.walk_in_pieces(e, chosen.pieces);
        let (dram, [m, n, k]) = (chosen.dram, chosen.tile);
        let started = walk.cycles as f64 + problem.ends() / self.dram_bits_per_cycle;
        let cycles = libm::ceil(started.max(dram.total() / self.dram_bits_per_cycle));
        // Casts from floating point saturate.
        let cycles = (cycles as u64).max(walk.cycles);
        let partial = walk.partial_reads as f64 * widths.partial;
        let output = e.m as f64 * e.n as f64 * widths.output;
        Ok(Traffic {
            cycles,
            compute_cycles: walk.cycles,
            stall_cycles: cycles - walk.cycles,
            dram,
            sram: Sram {
                activation: Moved {
                    read: walk.activation_reads as f64 * widths.activation,
                    written: dram.activation_read,
                },
                weight: Moved {
                    read: walk.weight_reads as f64 * widths.weight,
                    written: dram.weight_read,
                },
                output: Moved {
                    read: partial + dram.output_written,
                    written: partial + output + dram.output_read,
                },
            },
            walk,
            tiling: Tiling {
                tile: Extents::new(m, n, k),
                order: chosen.order,
            },
        })
    }

    fn check(&self, e: Extents, widths: &Widths) -> Result<()> {
        for (argument, extent) in [("extents.m", e.m), ("extents.n", e.n), ("extents.k", e.k)] {
            if extent == 0 {
                return Err(Error::value(argument, "at least 1", "0"));
            }
        }
        for (argument, width) in [
            ("widths.activation", widths.activation),
            ("widths.weight", widths.weight),
            ("widths.output", widths.output),
            ("widths.partial", widths.partial),
        ] {
            if !(width.is_finite() && width > 0.0) {
                return Err(Error::value(argument, "a positive number of bits", format!("{width}")));
            }
        }
        let bandwidth = self.dram_bits_per_cycle;
        if bandwidth > 0.0 {
            Ok(())
        } else {
            let expected = "a positive number of bits per cycle";
            Err(Error::value(
                "memory.dram_bits_per_cycle",
                expected,
                format!("{bandwidth}"),
            ))
        }
    }
}
