//! One tile of activation rows times one panel of weights: kernels over runs of groups, and the fold from raw sums for
//! the groups whose integers need more than the kernels' 32 bits.
#![forbid(unsafe_code)]

use crate::base::float::fma;
use crate::host::rest::TileRest;
use crate::host::walk::Job;
use crate::host::width::Width;
use crate::host::workspace::RawSums;
use crate::host::workspace::Scratch;
use crate::kernel::select::Tally;
use crate::kernel::{FoldKind, Kernel, RestSums, TileArgs, TileOut};
use crate::pack::activations::LhsTile;
use crate::pack::layout::PANEL_VECTORS;
use crate::quant::input::Mode;
use crate::quant::scheme::ZeroPoint;
use core::ops::Range;

/// The scratch of one tile and a run of panels.
#[derive(Debug)]
pub(super) struct TileRun<'a> {
    pub(super) y: &'a mut [f32],
    rows: usize,
    pub(super) raw: &'a mut RawSums,
    pub(super) rest: &'a mut TileRest,
    pub(super) tally: &'a mut Tally,
    pub(super) nr: usize,
}

impl<'a> TileRun<'a> {
    /// Tiles of zeros, for which [`Scratch::fit`] has made room.
    pub(super) fn new(scratch: &'a mut Scratch, panels: usize, rows: usize, nr: usize) -> Self {
        let y = &mut scratch.y[..panels * rows * nr];
        y.fill(0.0);
        Self {
            y,
            rows,
            raw: &mut scratch.raw,
            rest: &mut scratch.rest,
            tally: &mut scratch.tally,
            nr,
        }
    }

    /// Row `r` of the tile of panel `p` of the run.
    pub(super) fn row(&mut self, p: usize, r: usize) -> &mut [f32] {
        &mut self.y[(p * self.rows + r) * self.nr..][..self.nr]
    }
}

/// The product of one tile and a run of panels of equal width.
#[derive(Debug, Clone)]
pub(super) struct Product<'a> {
    pub(super) job: &'a Job<'a>,
    pub(super) tile: &'a LhsTile,
    pub(super) panels: Range<usize>,
}

impl Product<'_> {
    fn fold_kind(&self) -> FoldKind {
        match self.job.mode {
            Mode::A8 | Mode::A16 => FoldKind::GroupScale,
            Mode::Exact => FoldKind::Unit,
            _ => FoldKind::Plain,
        }
    }

    /// Continues the tiles of y over all groups.
    ///
    /// Where one kernel call does all groups of a tile, it does the whole run of panels: the stream of weights then
    /// never waits for a call to return. Otherwise panels come one after the other.
    #[inline(always)]
    pub(super) fn fold(&self, run: &mut TileRun<'_>) {
        let own = self.tile.first..self.tile.first + self.tile.rows;
        let rest = self.job.rest.filter(|rest| rest.touches(own));
        let step = if self.in_one_call() { self.panels.len() } else { 1 };
        let len = step * self.tile.rows * run.nr;
        for (first, y) in self.panels.clone().step_by(step).zip(run.y.chunks_exact_mut(len)) {
            let product = Self {
                panels: first..first + step,
                ..*self
            };
            match rest {
                Some(rest) => {
                    product.sum_rest(rest, run.nr, run.rest);
                    product.fold_groups(y, run.raw, run.tally, Some(run.rest));
                }
                None => product.fold_groups(y, run.raw, run.tally, None),
            }
        }
    }

    /// Whether one kernel call does all groups of the tile.
    fn in_one_call(&self) -> bool {
        self.tile.even_slices().is_some_and(|slices| {
            let kernel = self.job.selection.kernel(self.tile.rows, slices);
            self.job.width(slices) == Width::Narrow && kernel.mr == self.tile.rows
        })
    }

    /// Continues a tile of y for each panel over all groups.
    #[inline(always)]
    fn fold_groups(&self, y: &mut [f32], raw: &mut RawSums, tally: &mut Tally, rest: Option<&TileRest>) {
        let groups = &self.tile.groups;
        let mut g = 0;
        while g < groups.len() {
            let slices = groups[g].slices;
            let width = match rest {
                Some(rest) if rest.is_beyond(g) => Width::Raw,
                _ => self.job.width(slices),
            };
            match width {
                Width::Narrow => {}
                Width::Wide => self.fold_wide(y, (raw, tally), g),
                Width::Raw => self.fold_raw(y, (raw, tally), g),
            }
            if width != Width::Narrow {
                g += 1;
                continue;
            }
            let mut end = self.run_end(g);
            if let Some(rest) = rest {
                end = (g..end).find(|&g| rest.is_beyond(g)).unwrap_or(end);
            }
            let kernel = self.job.selection.kernel(self.tile.rows, slices);
            let len = self.panels.len() * kernel.mr * kernel.nr();
            for (sub, y) in y.chunks_exact_mut(len).enumerate() {
                let mut args = self.args(kernel, sub, g..end, TileOut::Fold(y));
                if let Some(rest) = rest {
                    rest.join(&mut args, kernel, (g, sub, self.tile.rows));
                }
                kernel.run(&mut args);
            }
            self.count(tally, kernel, slices);
            g = end;
        }
    }

    /// The end of the run of groups from `g` on that have its slice count and its length.
    fn run_end(&self, g: usize) -> usize {
        let (groups, layout) = (&self.tile.groups, self.job.weights.layout());
        if self.tile.even_slices().is_some() {
            return groups.len();
        }
        let mut end = g + 1;
        while end < groups.len()
            && groups[end].slices == groups[g].slices
            && layout.group_units(end) == layout.group_units(g)
        {
            end += 1;
        }
        end
    }

    /// The arguments of one kernel call over a run of groups.
    #[inline(always)]
    fn args<'b>(&'b self, kernel: &Kernel, sub: usize, groups: Range<usize>, out: TileOut<'b>) -> TileArgs<'b> {
        let (weights, tile) = (self.job.weights, self.tile);
        let layout = weights.layout();
        let bytes = weights.panels(self.panels.clone());
        let (entry, units) = (tile.groups[groups.start], layout.group_units(groups.start));
        let lhs_rows = kernel.mr * kernel.slices;
        // Slices that are multiplied one by one are not folded by the kernel.
        let first_row = if kernel.slices == entry.slices {
            sub * kernel.mr
        } else {
            0
        };
        let (lhs, row_bytes) = (kernel.lhs_of(tile), kernel.lhs * units * kernel.unit);
        let first_byte = kernel.lhs * entry.offset + sub * row_bytes * lhs_rows;
        let factor = groups.start * tile.rows + first_row;
        TileArgs {
            panels: self.panels.len(),
            panel_bytes: layout.panel_bytes(),
            groups: groups.len(),
            units,
            records: &bytes[layout.first_record() + groups.start * layout.record_bytes()..],
            record_bytes: layout.record_bytes(),
            zeros: &bytes[groups.start * PANEL_VECTORS * layout.zero_bytes()..],
            scale: layout.scale,
            zero: layout.zero,
            sign_only: weights.scheme().is_sign_only(),
            book: weights.scheme().book.as_ref(),
            lhs: &lhs[first_byte..],
            lhs_bytes: row_bytes * tile.rows * entry.slices,
            apart: &tile.apart[groups.start..],
            bias: (&tile.bias[entry.bias + sub * lhs_rows..], tile.rows * entry.slices),
            factor: (&tile.factor[factor..], tile.rows),
            negative_sum: &tile.negative_sum[factor..],
            rest: RestSums::default(),
            ahead: self.job.ahead,
            fold: self.fold_kind(),
            out,
        }
    }

    /// Notes that the kernel was called for every panel and sub-tile.
    fn count(&self, tally: &mut Tally, kernel: &Kernel, slices: usize) {
        let (selection, rows) = (self.job.selection, self.tile.rows);
        let sub_tiles = rows * slices / (kernel.mr * kernel.slices);
        selection.count(tally, rows, slices, self.panels.len() * sub_tiles);
    }

    /// Forms the sums of group `g`, with or without its zero points, `[lhs row, nr]`.
    fn form(&self, (raw, tally): (&mut RawSums, &mut Tally), g: usize, zeros: bool) {
        let slices = self.tile.groups[g].slices;
        let kernel = self.job.selection.kernel(self.tile.rows, slices);
        let (nr, len) = (kernel.nr(), kernel.mr * kernel.slices * kernel.nr());
        raw.sums.resize(self.tile.rows * slices * nr, 0);
        for (sub, sums) in raw.sums.chunks_exact_mut(len).enumerate() {
            let out = if zeros { TileOut::Sums(sums) } else { TileOut::Raw(sums) };
            kernel.run(&mut self.args(kernel, sub, g..g + 1, out));
        }
        self.count(tally, kernel, slices);
    }

    /// Forms the raw sums of group `g`, and finds the integer zero points of the panel's columns there.
    fn form_raw(&self, (raw, tally): (&mut RawSums, &mut Tally), g: usize) {
        self.form((raw, tally), g, false);
        let (weights, nr) = (self.job.weights, self.job.weights.layout().panel.nr());
        let columns = self.panels.start * nr..(self.panels.end * nr).min(weights.n());
        raw.zeros.clear();
        raw.zeros.extend(columns.map(|n| i64::from(weights.zero_int(n, g))));
    }

    /// `D − z0·B` (`2D − B` for one symmetric bit) of row `r`, column `c` of the panel, in the tile's unit.
    fn sum(&self, raw: &RawSums, g: usize, r: usize, c: usize) -> i128 {
        let (entry, nr) = (self.tile.groups[g], self.job.weights.layout().panel.nr());
        let scheme = self.job.weights.scheme();
        let (mut d, mut b) = (0i128, 0i128);
        for j in 0..entry.slices {
            let lhs_row = r * entry.slices + j;
            d += i128::from(raw.sums[lhs_row * nr + c]) << (8 * j);
            b += i128::from(self.tile.bias[entry.bias + lhs_row]) << (8 * j);
        }
        if scheme.is_sign_only() {
            2 * d + b
        } else if scheme.zero == ZeroPoint::Symmetric {
            d + b
        } else {
            d + i128::from(raw.zeros[c]) * b
        }
    }

    /// Continues y over group `g` in f64.
    #[cold]
    #[inline(never)]
    fn fold_wide(&self, y: &mut [f32], (raw, tally): (&mut RawSums, &mut Tally), g: usize) {
        self.form((raw, tally), g, true);
        let (rows, slices) = (self.tile.rows, self.tile.groups[g].slices);
        let kernel = self.job.selection.kernel(rows, slices);
        let args = &mut self.args(kernel, 0, g..g + 1, TileOut::Fold(y));
        kernel.fold_wide(args, (rows, slices), &raw.sums);
    }

    /// Continues y over group `g` from raw sums, panel by panel.
    #[cold]
    #[inline(never)]
    fn fold_raw(&self, y: &mut [f32], (raw, tally): (&mut RawSums, &mut Tally), g: usize) {
        let len = y.len() / self.panels.len();
        for (panel, y) in self.panels.clone().zip(y.chunks_exact_mut(len)) {
            let product = Self {
                panels: panel..panel + 1,
                ..*self
            };
            product.fold_raw_panel(y, (&mut *raw, &mut *tally), g);
        }
    }

    /// As [`Product::fold_raw`], of one panel.
    fn fold_raw_panel(&self, y: &mut [f32], (raw, tally): (&mut RawSums, &mut Tally), g: usize) {
        self.form_raw((raw, tally), g);
        let (weights, fold) = (self.job.weights, self.fold_kind());
        let nr = weights.layout().panel.nr();
        for c in 0..raw.zeros.len() {
            let n = self.panels.start * nr + c;
            let (s, fraction) = (weights.scale(n, g), weights.zero_fraction(n, g));
            for r in 0..self.tile.rows {
                let factor = self.tile.factor[g * self.tile.rows + r];
                let (rest, all) = self.rest_of(g, r, n);
                let sum = (self.sum(raw, g, r, c) + rest) as f32;
                let (sum, scale) = match fold {
                    FoldKind::GroupScale => (sum, s * factor),
                    FoldKind::Plain => (sum, s),
                    FoldKind::Unit => (sum * factor, s),
                };
                let y = &mut y[r * nr + c];
                *y = fma(sum, scale, *y);
                if fraction != 0.0 {
                    let offset = s * fraction;
                    let offset = if fold == FoldKind::GroupScale {
                        offset * factor
                    } else {
                        offset
                    };
                    let negative_sum = all.unwrap_or(self.tile.negative_sum[g * self.tile.rows + r]);
                    *y = fma(negative_sum, offset, *y);
                }
            }
        }
    }

    /// Hands `D − z0·B` of every (row, group, column) to `set`; in `exact` in units of 2^-24.
    pub(super) fn sums(&self, scratch: &mut Scratch, mut set: impl FnMut(usize, usize, usize, i64)) {
        let Scratch { raw, tally, .. } = scratch;
        let first = self.panels.start * self.job.weights.layout().panel.nr();
        for g in 0..self.tile.groups.len() {
            self.form_raw((raw, tally), g);
            for r in 0..self.tile.rows {
                let shift = match self.job.mode {
                    // The factor is 2^(shift − 24).
                    Mode::Exact => (self.tile.factor[g * self.tile.rows + r].to_bits() >> 23) as i32 - 127 + 24,
                    _ => 0,
                };
                for c in 0..raw.zeros.len() {
                    set(r, g, first + c, (self.sum(raw, g, r, c) << shift) as i64);
                }
            }
        }
    }
}
