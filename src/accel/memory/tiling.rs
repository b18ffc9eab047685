//! The choice of tiles: a family that knows nothing of scratchpads, and the member that fits and moves the least.
//!
//! A larger tile never moves more, so for each tile along rows and in time only the largest along columns that fits is
//! of interest. What streams is one fold across the array, and moves the same whatever the pieces.
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
}

/// One candidate.
#[derive(Clone, Copy)]
pub(super) struct Candidate {
    pub(super) dram: Dram,
    pub(super) tile: [u64; 3],
    pub(super) order: &'static str,
    /// Times that what stays in the elements is changed for the next piece in time, and one.
    pub(super) pieces: u64,
}

impl Candidate {
    /// The one that moves less, or has fewer pieces, or comes later.
    fn better(self, later: Self) -> Self {
        let rank = |c: &Self| (c.dram.total(), c.pieces);
        if rank(&later) <= rank(&self) { later } else { self }
    }
}

impl<'a> Problem<'a> {
    pub(super) fn new(memory: &Memory, array: &'a Array, e: Extents, widths: &'a Widths) -> Self {
        let bytes = [memory.activation_bytes, memory.weight_bytes, memory.output_bytes];
        Self {
            array,
            extents: e.list(),
            widths,
            halves: bytes.map(|bytes| bytes as f64 * 4.0),
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

    /// The smallest tile that streams: one fold across the array, and one step in time.
    fn smallest(&self) -> [u64; 3] {
        [0, 1, 2].map(|axis| self.extents_of_tiles(axis).next().unwrap_or(1))
    }

    /// What a tile takes of the scratchpads for activations, weights, outputs, in bits.
    fn bits(&self, [m, n, k]: [u64; 3], streams: bool) -> [f64; 3] {
        let w = self.widths;
        // Whether sums leave the array before they are finished.
        let partial = match self.array.fold()[2] {
            Some(fold) => self.extents[2] > fold,
            None => self.extents[2] > k && !streams,
        };
        let output = if partial { w.partial.max(w.output) } else { w.output };
        let area = |a: u64, b: u64, width: f64| a as f64 * b as f64 * width;
        [area(m, k, w.activation), area(n, k, w.weight), area(m, n, output)]
    }

    pub(super) fn fits(&self, tile: [u64; 3], streams: bool) -> bool {
        self.bits(tile, streams)
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

    /// Bits of the first load and the last store: operands of the first fold, outputs of the last.
    pub(super) fn ends(&self) -> f64 {
        let fold = self.array.fold();
        let first = [0, 1, 2].map(|axis| fold[axis].unwrap_or(u64::MAX).min(self.extents[axis]) as f64);
        let last = [0, 1].map(|axis| {
            let extent = self.extents[axis];
            fold[axis].map_or(extent, |fold| (extent - 1) % fold + 1) as f64
        });
        let ([m, n, k], w) = (first, self.widths);
        m * k * w.activation + n * k * w.weight + last[0] * last[1] * w.output
    }

    /// The tiling that moves the least.
    pub(super) fn best(&self) -> Option<Candidate> {
        let time = self.array.dataflow().axes()[2];
        let streamed = self.extents_of_tiles(time).filter_map(|tile| self.streamed(tile));
        let folded = self.extents_of_tiles(time).filter(|&tile| self.hides_changes(tile));
        let all = streamed.chain(folded.filter_map(|tile| self.folded(tile)));
        all.reduce(Candidate::better)
    }

    /// Whether a piece in time is long enough for the next to be made ready behind it.
    pub(super) fn hides_changes(&self, tile_in_time: u64) -> bool {
        let time = self.array.dataflow().axes()[2];
        let steps = tile_in_time.div_ceil(self.array.products().list()[time]);
        tile_in_time == self.extents[time] || steps >= u64::from(self.array.rows())
    }

    /// The tiling of one fold across the array that streams pieces of this extent in time, if it fits.
    fn streamed(&self, tile_in_time: u64) -> Option<Candidate> {
        let time = self.array.dataflow().axes()[2];
        let mut tile = self.smallest();
        tile[time] = tile_in_time;
        let innermost = ORDERS.into_iter().filter(|(order, _)| order[2] == time);
        self.fits(tile, true).then(|| self.least(tile, 1, innermost))?
    }

    /// The best tiling with this extent in time that works through all folds of a tile before the next.
    fn folded(&self, tile_in_time: u64) -> Option<Candidate> {
        let [rows, cols, time] = self.array.dataflow().axes();
        let mut best: Option<Candidate> = None;
        for along_rows in self.extents_of_tiles(rows) {
            let mut tile = [0; 3];
            (tile[rows], tile[time]) = (along_rows, tile_in_time);
            let largest = self.extents_of_tiles(cols).take_while(|&along_cols| {
                tile[cols] = along_cols;
                self.fits(tile, false)
            });
            let Some(along_cols) = largest.last() else { break };
            tile[cols] = along_cols;
            let found = self.least(tile, self.trips(tile)[time], ORDERS.into_iter());
            best = [best, found].into_iter().flatten().reduce(Candidate::better);
        }
        best
    }

    /// The first of those orders that move the least.
    fn least(
        &self,
        tile: [u64; 3],
        pieces: u64,
        orders: impl Iterator<Item = ([usize; 3], &'static str)>,
    ) -> Option<Candidate> {
        let trips = self.trips(tile);
        let mut least: Option<(Dram, &'static str)> = None;
        for (order, name) in orders {
            let dram = self.dram(trips, order);
            if least.is_none_or(|(least, _)| dram.total() < least.total()) {
                least = Some((dram, name));
            }
        }
        least.map(|(dram, order)| Candidate {
            dram,
            tile,
            order,
            pieces,
        })
    }

    /// The refusal of the scratchpad that does not hold its part of the smallest tile.
    pub(super) fn too_small(&self) -> Error {
        let names = ["memory.activation_bytes", "memory.weight_bytes", "memory.output_bytes"];
        let [m, n, k] = self.smallest();
        let bits = self.bits([m, n, k], true);
        let short = (0..2).find(|&i| bits[i] > self.halves[i]).unwrap_or(2);
        let expected = format!(
            "at least {} bytes, twice a tile of {m} x {n} x {k}",
            libm::ceil(bits[short] / 4.0)
        );
        Error::unsupported(names[short], expected, format!("{}", self.halves[short] / 4.0))
    }
}
