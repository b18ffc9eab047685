//! What an outlier split took off the activations of a tile: it joins the groups' integers before these are rounded.
#![forbid(unsafe_code)]

use crate::host::tile::Product;
use crate::kernel::{Kernel, RestSums, TileArgs};
use crate::quant::rest::{Rest, total};
use crate::quant::scheme::ZeroPoint;
use alloc::vec::Vec;

/// What a rest adds to the groups of one tile and a run of panels.
#[derive(Debug, Default)]
pub(super) struct TileRest {
    /// For each group the number of its block of sums, [`RestSums::NONE`], or [`BEYOND`].
    blocks: Vec<u32>,
    /// `[block, panel, row, nr]`.
    sums: Vec<i32>,
    /// Integers of a block.
    step: usize,
    /// Where zero points are floats, the negative activation sums with the rest, `[group, row]`.
    negative_sum: Vec<f32>,
}

/// In place of the number of a block: 32 bits may not hold the group's sums.
const BEYOND: u32 = RestSums::NONE - 1;

impl TileRest {
    /// Makes room for a tile of so many groups, `[panel, row, nr]` in a block.
    pub(super) fn fit(&mut self, groups: usize, rows: usize, block: usize) {
        self.blocks.clear();
        self.blocks.reserve(groups);
        self.sums.clear();
        self.sums.reserve(groups * block);
        self.negative_sum.clear();
        self.negative_sum.reserve(groups * rows);
    }

    /// Whether 32 bits may not hold the sums of group `g`.
    #[inline(always)]
    pub(super) fn is_beyond(&self, g: usize) -> bool {
        self.blocks[g] == BEYOND
    }

    /// Adds the rest to a kernel's call from group `first` on; `sub` is the number of its sub-tile among those of `rows`
    /// rows.
    #[inline(always)]
    pub(super) fn join<'a>(
        &'a self,
        args: &mut TileArgs<'a>,
        kernel: &Kernel,
        (first, sub, rows): (usize, usize, usize),
    ) {
        args.rest = RestSums {
            blocks: &self.blocks[first..],
            sums: &self.sums[(sub * kernel.mr * kernel.nr()).min(self.sums.len())..],
            step: self.step,
        };
        if !self.negative_sum.is_empty() {
            args.negative_sum = &self.negative_sum[first * rows + sub * kernel.mr..];
        }
    }
}

impl Product<'_> {
    /// What the rest adds to the groups of the tile.
    #[inline(always)]
    pub(super) fn sum_rest(&self, rest: &Rest<'_>, nr: usize, of: &mut TileRest) {
        let (weights, tile) = (self.job.weights, self.tile);
        let (span, groups) = (weights.scheme().span(), tile.groups.len());
        let own = tile.first..tile.first + tile.rows;
        of.blocks.clear();
        let mut blocks = 0;
        for g in 0..groups {
            let len = (weights.k() - g * weights.group()).min(weights.group());
            of.blocks.push(if !rest.touches_group(own.clone(), g) {
                RestSums::NONE
            } else if own.clone().all(|row| rest.fits_32(row, g, len, span)) {
                blocks += 1;
                blocks - 1
            } else {
                BEYOND
            });
        }
        of.step = self.panels.len() * tile.rows * nr;
        of.sums.resize(blocks as usize * of.step, 0);
        for (g, &block) in of.blocks.iter().enumerate() {
            if block >= BEYOND {
                continue;
            }
            let sums = &mut of.sums[block as usize * of.step..][..of.step];
            rest.sums_32(own.clone(), g, (self.panels.start * nr, nr), sums);
        }
        of.negative_sum.clear();
        if weights.scheme().zero == ZeroPoint::Float {
            let all = (0..groups).flat_map(|g| (0..tile.rows).map(move |r| (g, r)));
            of.negative_sum.extend(all.map(|(g, r)| self.negative_sum(rest, g, r)));
        }
    }

    /// `−rne_f32(B)` of row `r`, its rest included. The bias of a single slice is −B where zero points are floats.
    #[inline(always)]
    fn negative_sum(&self, rest: &Rest<'_>, g: usize, r: usize) -> f32 {
        let b = -i64::from(self.tile.bias[self.tile.groups[g].bias + r]);
        -((b + total(rest.terms(self.tile.first + r, g)).0) as f32)
    }

    /// What the rest adds to row `r`, group `g` and output channel `n`, and the row's negative sum with it.
    pub(super) fn rest_of(&self, g: usize, r: usize, n: usize) -> (i128, Option<f32>) {
        let Some(rest) = self.job.rest else { return (0, None) };
        let terms = rest.terms(self.tile.first + r, g).iter();
        let terms = terms.map(|term| i128::from(term.r) * i128::from(rest.levels.level(term.channel, n)));
        (terms.sum(), Some(self.negative_sum(rest, g, r)))
    }
}
