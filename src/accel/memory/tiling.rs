//! The choice of tiles: a family that knows nothing of scratchpads, and the best of it that fits.
//!
//! A search over all of the family would take thousands of steps. It does not have to: across the array, larger tiles
//! never move more and leave the computation as it is, so for each tile along rows and in time only the largest along
//! columns that fits is of interest.
#![forbid(unsafe_code)]

use super::{Dram, Memory, Widths};
use crate::accel::array::{Array, Extents};
use crate::base::error::Error;
use alloc::format;

/// The orders of the loops over M, N and K (0, 1, 2), outermost first, and their names.
pub(super) const ORDERS: [([usize; 3], &str); 6] = [
    ([0, 1, 2], "mnk"),
    ([1, 0, 2], "nmk"),
    ([0, 2, 1], "mkn"),
    ([2, 0, 1], "kmn"),
    ([1, 2, 0], "nkm"),
    ([2, 1, 0], "knm"),
];

/// How often the operand without `axis` is fetched: once for every step along `axis`, unless it stays because nothing
/// within moves it.
pub(super) fn fetches(trips: [u64; 3], order: [usize; 3], axis: usize) -> f64 {
    let within = order.iter().skip_while(|&&a| a != axis).skip(1);
    if within.into_iter().any(|&a| trips[a] > 1) {
        trips[axis] as f64
    } else {
        1.0
    }
}

/// A product, its array and its widths: what all tilings have in common.
pub(super) struct Problem<'a> {
    array: &'a Array,
    pub(super) extents: [u64; 3],
    widths: &'a Widths,
    /// Half the scratchpads for activations, weights, outputs, in bits.
    halves: [f64; 3],
    /// Bits per cycle.
    bandwidth: f64,
}

/// One candidate.
#[derive(Clone, Copy)]
pub(super) struct Candidate {
    pub(super) cycles: u64,
    pub(super) dram: Dram,
    pub(super) tile: [u64; 3],
    pub(super) order: &'static str,
}

impl<'a> Problem<'a> {
    pub(super) fn new(memory: &Memory, array: &'a Array, e: Extents, widths: &'a Widths) -> Self {
        let bytes = [memory.activation_bytes, memory.weight_bytes, memory.output_bytes];
        Self {
            array,
            extents: e.list(),
            widths,
            halves: bytes.map(|bytes| bytes as f64 * 4.0),
            bandwidth: memory.dram_bits_per_cycle,
        }
    }

    /// Tile extents along an axis: a fold, doubled until it covers the extent.
    pub(super) fn extents_of_tiles(&self, axis: usize) -> impl Iterator<Item = u64> + use<> {
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

    pub(super) fn fits(&self, tile: [u64; 3]) -> bool {
        self.bits(tile)
            .iter()
            .zip(self.halves)
            .all(|(&bits, half)| bits <= half)
    }

    /// Tiles along each axis.
    pub(super) fn trips(&self, tile: [u64; 3]) -> [u64; 3] {
        [0, 1, 2].map(|axis| self.extents[axis].div_ceil(tile[axis]))
    }

    pub(super) fn dram(&self, trips: [u64; 3], order: [usize; 3]) -> Dram {
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

    /// Cycles of a tiling with so many cycles of computation and bits of traffic. Casts from floating point saturate.
    pub(super) fn cycles(&self, tile: [u64; 3], compute: u64, bits: f64) -> u64 {
        let computed = compute as f64 + self.ends(tile) / self.bandwidth;
        (libm::ceil(computed.max(bits / self.bandwidth)) as u64).max(compute)
    }

    /// The best tiling among those with this extent in time.
    pub(super) fn best(&self, tile_in_time: u64, compute: u64) -> Option<Candidate> {
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
            let trips = self.trips(tile);
            let candidates = ORDERS.map(|(order, name)| Candidate {
                cycles: 0,
                dram: self.dram(trips, order),
                tile,
                order: name,
            });
            let (mut first, total) = (&candidates[0], |c: &Candidate| c.dram.total());
            for candidate in &candidates {
                if total(candidate) < total(first) {
                    first = candidate;
                }
            }
            if best.is_none_or(|best| total(first) <= total(&best)) {
                best = Some(*first);
            }
        }
        let mut best = best?;
        best.cycles = self.cycles(best.tile, compute, best.dram.total());
        Some(best)
    }

    /// The refusal of the scratchpad that even the least demanding tile overflows most.
    pub(super) fn too_small(&self) -> Error {
        let names = ["memory.activation_bytes", "memory.weight_bytes", "memory.output_bytes"];
        let time = self.array.dataflow().axes()[2];
        let smallest = [0, 1, 2].map(|axis| self.extents_of_tiles(axis).next().unwrap_or(1));
        let (mut least, mut refusal) = (f64::INFINITY, None);
        for tile_in_time in self.extents_of_tiles(time) {
            let mut tile = smallest;
            tile[time] = tile_in_time;
            let bits = self.bits(tile);
            let demand = |i: usize| bits[i] / self.halves[i];
            let worst = (1..3).fold(0, |worst, i| if demand(i) > demand(worst) { i } else { worst });
            if refusal.is_none() || demand(worst) < least {
                (least, refusal) = (demand(worst), Some((worst, tile, bits[worst])));
            }
        }
        let (worst, [m, n, k], bits) = refusal.unwrap_or((2, smallest, 0.0));
        let expected = format!(
            "at least {} bytes, twice a tile of {m} x {n} x {k}",
            libm::ceil(bits / 4.0)
        );
        Error::unsupported(names[worst], expected, format!("{}", self.halves[worst] / 4.0))
    }
}
