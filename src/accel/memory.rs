//! Memory: three double-buffered scratchpads and one DRAM channel.
//!
//! **What is fetched when.** A product is cut into tiles. The tile in work lies in one half of every scratchpad, and the
//! other half takes the next one or gives the last one back, so a tile may fill half a scratchpad and no more. The
//! array starts when the operands of its first fold are there (*first load*). From then on the channel moves whatever
//! the schedule still needs while the array works, at its full rate and in both directions together. When the array is
//! done, the outputs of its last fold leave (*last store*). With `C` cycles of computation, `D` bits of traffic, of
//! which `F` are the first load and `L` the last store, and a bandwidth of `B` bits per cycle:
//!
//! ```text
//! cycles = max(C + (F + L) / B, D / B), rounded up          stalls = cycles − C
//! ```
//!
//! An unlimited bandwidth leaves no stalls at all.
//!
//! **What moves.** Tiles are visited in one of the six orders of three loops. An operand stays as long as its tile is
//! the same from one step to the next; otherwise it is fetched again. Sums whose depth is cut and that do not stay are
//! written and read back as partial sums.
//!
//! **Which tiles.** A tile spans a fold of the array, or two, four, eight … of them, or all of the extent; in time, where
//! a fold has no end of its own, it spans a power of two or all. Among all tiles of this family that fit, and all
//! orders, those with the fewest cycles are taken; of these the ones with the least traffic; of these the longest in
//! time, and then the first in the order of search. Neither the family nor the cycles of a tiling depend on the sizes
//! of the scratchpads, so a smaller scratchpad, like a lower bandwidth, never makes a product faster.
//!
//! What is left out: refresh, rows and bursts of the DRAM, conflicts of scratchpad banks, and where within a sweep the
//! traffic lies. The figures are those of a well-scheduled machine.

use crate::accel::array::{Array, Extents, Walk};
use crate::base::error::{Error, Result};
use alloc::format;

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
    pub dram: Dram,
    /// Bits through the scratchpads.
    pub sram: Sram,
    /// The array's own account; its extent in time is cut as the tiles are.
    pub walk: Walk,
    /// The tiles that were chosen.
    pub tiling: Tiling,
}

/// The orders of the loops over M, N and K (0, 1, 2), outermost first, and their names.
const ORDERS: [([usize; 3], &str); 6] = [
    ([0, 1, 2], "mnk"),
    ([1, 0, 2], "nmk"),
    ([0, 2, 1], "mkn"),
    ([2, 0, 1], "kmn"),
    ([1, 2, 0], "nkm"),
    ([2, 1, 0], "knm"),
];

/// How often the operand without `axis` is fetched: once for every step along `axis`, unless it stays because nothing
/// within moves it.
fn fetches(trips: [u64; 3], order: [usize; 3], axis: usize) -> f64 {
    let within = order.iter().skip_while(|&&a| a != axis).skip(1);
    if within.into_iter().any(|&a| trips[a] > 1) {
        trips[axis] as f64
    } else {
        1.0
    }
}

/// A product, its array and its widths: what all tilings have in common.
struct Problem<'a> {
    array: &'a Array,
    extents: [u64; 3],
    widths: &'a Widths,
    /// Half the scratchpads for activations, weights, outputs, in bits.
    halves: [f64; 3],
}

/// One candidate.
struct Candidate {
    cycles: u64,
    dram: Dram,
    tile: [u64; 3],
    order: &'static str,
}

impl Problem<'_> {
    /// Tile extents along an axis: a fold, doubled until it covers the extent.
    fn extents_of_tiles(&self, axis: usize) -> impl Iterator<Item = u64> + use<> {
        let extent = self.extents[axis];
        let step = self.array.fold()[axis].unwrap_or_else(|| self.array.products().list()[axis]);
        core::iter::successors(Some(step.min(extent)), move |&tile| {
            (tile < extent).then(|| tile.saturating_mul(2).min(extent))
        })
    }

    /// Whether sums leave the array before they are finished.
    fn partial(&self, trips_k: u64) -> bool {
        match self.array.fold()[2] {
            Some(fold) => self.extents[2] > fold,
            None => trips_k > 1,
        }
    }

    /// What a tile takes of the scratchpads for activations, weights, outputs, in bits.
    fn bits(&self, [m, n, k]: [u64; 3]) -> [f64; 3] {
        let w = self.widths;
        let partial = self.partial(self.extents[2].div_ceil(k));
        let output = if partial { w.partial.max(w.output) } else { w.output };
        let area = |a: u64, b: u64, width: f64| a as f64 * b as f64 * width;
        [area(m, k, w.activation), area(n, k, w.weight), area(m, n, output)]
    }

    fn fits(&self, tile: [u64; 3]) -> bool {
        self.bits(tile)
            .iter()
            .zip(self.halves)
            .all(|(&bits, half)| bits <= half)
    }

    fn dram(&self, trips: [u64; 3], order: [usize; 3]) -> Dram {
        let ([m, n, k], w) = (self.extents.map(|e| e as f64), self.widths);
        let spills = fetches(trips, order, 2) - 1.0;
        Dram {
            activation_read: m * k * w.activation * fetches(trips, order, 1),
            weight_read: n * k * w.weight * fetches(trips, order, 0),
            output_read: m * n * w.partial * spills,
            output_written: m * n * (w.partial * spills + w.output),
        }
    }

    /// Bits of the first load and the last store.
    fn ends(&self, tile: [u64; 3]) -> f64 {
        let fold = self.array.fold();
        let mut first = tile;
        let mut last = tile;
        for axis in 0..3 {
            let step = fold[axis].unwrap_or(tile[axis]);
            first[axis] = step.min(self.extents[axis]);
            last[axis] = (self.extents[axis] - 1) % step + 1;
        }
        let ([m, n, k], w) = (first.map(|e| e as f64), self.widths);
        m * k * w.activation + n * k * w.weight + last[0] as f64 * last[1] as f64 * w.output
    }

    /// The best tiling in this many pieces in time.
    fn best(&self, tile_in_time: u64, compute: u64, bandwidth: f64) -> Option<Candidate> {
        let [rows, cols, time] = self.array.dataflow().axes();
        let mut best: Option<Candidate> = None;
        for along_rows in self.extents_of_tiles(rows) {
            let mut tile = [0; 3];
            (tile[rows], tile[time]) = (along_rows, tile_in_time);
            // A larger tile never moves more: only the largest that fits is of interest.
            let largest = self.extents_of_tiles(cols).take_while(|&along_cols| {
                tile[cols] = along_cols;
                self.fits(tile)
            });
            let Some(along_cols) = largest.last() else { break };
            tile[cols] = along_cols;
            let mut trips = [0; 3];
            for axis in 0..3 {
                trips[axis] = self.extents[axis].div_ceil(tile[axis]);
            }
            for (order, name) in ORDERS {
                let dram = self.dram(trips, order);
                if best.as_ref().is_none_or(|best| dram.total() < best.dram.total()) {
                    best = Some(Candidate {
                        cycles: 0,
                        dram,
                        tile,
                        order: name,
                    });
                }
            }
        }
        let mut best = best?;
        let computed = compute as f64 + self.ends(best.tile) / bandwidth;
        // Casts from floating point saturate.
        best.cycles = (libm::ceil(computed.max(best.dram.total() / bandwidth)) as u64).max(compute);
        Some(best)
    }
}

impl Memory {
    /// Chooses tiles for this product and counts cycles and bits.
    ///
    /// # Errors
    /// [`Error::Value`]: an extent is zero, a width is not positive and finite, or the bandwidth is not positive.
    /// [`Error::Unsupported`]: half a scratchpad does not hold the operands of one step of one fold.
    pub fn traffic(&self, array: &Array, e: Extents, widths: &Widths) -> Result<Traffic> {
        self.check(e, widths)?;
        let problem = Problem {
            array,
            extents: e.list(),
            widths,
            halves: [self.activation_bytes, self.weight_bytes, self.output_bytes].map(|bytes| bytes as f64 * 4.0),
        };
        let time = array.dataflow().axes()[2];
        let mut best: Option<(Candidate, Walk)> = None;
        for tile in problem.extents_of_tiles(time) {
            let walk = array.walk_in_pieces(e, problem.extents[time].div_ceil(tile));
            let Some(found) = problem.best(tile, walk.cycles, self.dram_bits_per_cycle) else {
                continue;
            };
            let rank = |c: &Candidate| (c.cycles, c.dram.total());
            if best.as_ref().is_none_or(|(best, _)| rank(&found) <= rank(best)) {
                best = Some((found, walk));
            }
        }
        let (chosen, walk) = best.ok_or_else(|| problem.too_small())?;
        let (dram, [m, n, k]) = (chosen.dram, chosen.tile);
        let partial = walk.partial_reads as f64 * widths.partial;
        let output = e.m as f64 * e.n as f64 * widths.output;
        Ok(Traffic {
            cycles: chosen.cycles,
            compute_cycles: walk.cycles,
            stall_cycles: chosen.cycles - walk.cycles,
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

impl Problem<'_> {
    /// The refusal of the scratchpad that does not hold the smallest tile.
    fn too_small(&self) -> Error {
        let smallest = [0, 1, 2].map(|axis| self.extents_of_tiles(axis).next().unwrap_or(1));
        let names = ["memory.activation_bytes", "memory.weight_bytes", "memory.output_bytes"];
        let bits = self.bits(smallest);
        let short = (0..3).find(|&i| bits[i] > self.halves[i]).unwrap_or(2);
        let expected = format!(
            "at least {} bytes, twice the smallest tile",
            libm::ceil(bits[short] / 4.0)
        );
        Error::unsupported(names[short], expected, format!("{}", self.halves[short] / 4.0))
    }
}
