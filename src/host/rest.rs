//! The product of a tile whose activations have a rest: what an outlier split took off them joins the groups' integers
//! before these are rounded. Groups without a rest are folded by kernels as ever.
#![forbid(unsafe_code)]

use crate::host::tile::{Product, TileRun};
use crate::host::width::Width;
use crate::host::workspace::RawSums;
use crate::kernel::TileOut;
use crate::kernel::select::Tally;
use crate::quant::rest::{Rest, total};
use crate::quant::scheme::ZeroPoint;

impl Product<'_> {
    /// As [`Product::fold`], with the job's rest.
    #[inline(always)]
    pub(super) fn fold_rest(&self, rest: &Rest<'_>, run: &mut TileRun<'_>) {
        let (rows, groups) = (self.tile.rows, self.tile.groups.len());
        let own = self.tile.first..self.tile.first + rows;
        let touched = |&g: &usize| rest.touches_group(own.clone(), g);
        for (panel, y) in self.panels.clone().zip(run.y.chunks_exact_mut(rows * run.nr)) {
            let product = Self {
                panels: panel..panel + 1,
                ..*self
            };
            let mut g = 0;
            while g < groups {
                let end = (g..groups).find(touched).unwrap_or(groups);
                product.fold_groups(y, run.raw, run.tally, g..end);
                if end < groups {
                    product.fold_group(rest, y, (run.raw, run.tally), end);
                }
                g = end + 1;
            }
        }
    }

    /// Continues y over group `g`, which has a rest, in 32 bits where they hold the sums of all rows.
    #[inline(always)]
    fn fold_group(&self, rest: &Rest<'_>, y: &mut [f32], (raw, tally): (&mut RawSums, &mut Tally), g: usize) {
        let (weights, tile) = (self.job.weights, self.tile);
        let span = weights.scheme().span();
        let len = (weights.k() - g * weights.group()).min(weights.group());
        let fits = (0..tile.rows).all(|r| rest.fits_32(tile.first + r, g, len, span));
        if self.job.width(1) != Width::Narrow || !fits {
            return self.fold_raw(y, (raw, tally), g);
        }
        let kernel = self.job.selection.kernel(tile.rows, 1);
        let nr = kernel.nr();
        raw.sums.resize(kernel.mr * nr, 0);
        raw.negative_sum.clear();
        if weights.scheme().zero == ZeroPoint::Float {
            let sums = (0..tile.rows).map(|r| self.negative_sum(rest, g, r));
            raw.negative_sum.extend(sums);
        }
        let first = self.panels.start * nr;
        let columns = nr.min(weights.n() - first);
        for (sub, y) in y.chunks_exact_mut(kernel.mr * nr).enumerate() {
            kernel.run(&mut self.args(kernel, sub, g..g + 1, TileOut::Sums(&mut raw.sums)));
            for (i, sums) in raw.sums.chunks_exact_mut(nr).enumerate() {
                rest.add_32(tile.first + sub * kernel.mr + i, g, first, &mut sums[..columns]);
            }
            let mut args = self.args(kernel, sub, g..g + 1, TileOut::Fold(y));
            if !raw.negative_sum.is_empty() {
                args.negative_sum = &raw.negative_sum[sub * kernel.mr..];
            }
            kernel.fold_wide(&mut args, (kernel.mr, 1), &raw.sums);
        }
        self.count(tally, kernel, 1);
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
        let terms = terms.map(|term| i128::from(term.r) * i128::from(rest.levels.of(term.channel, n, 1)[0]));
        (terms.sum(), Some(self.negative_sum(rest, g, r)))
    }
}
