//! One kernel called directly on packed operands, without the host's walk around it.
#![forbid(unsafe_code)]

use crate::base::float::pow2;
use crate::base::mat::Mat;
use crate::kernel::{FoldKind, Kernel, RestSums, TileArgs, TileOut};
use crate::pack::activations::{LhsTile, MAX_SLICES, PackArgs, PackTile, TileSpec};
use crate::pack::layout::PANEL_VECTORS;
use crate::pack::weights::PackedWeights;
use crate::quant::input::{Activations, Mode};
use crate::quant::matrix::QuantMatrix;
use crate::quant::scheme::ZeroPoint;
use crate::simd;
use crate::simd::cpu::Isa;
use alloc::{vec, vec::Vec};
use core::ops::Range;

/// How a kernel wants its tiles of activations for these weights.
#[must_use]
pub fn tile_spec(kernel: &Kernel, w: &QuantMatrix) -> TileSpec {
    let symmetric = w.scheme().zero == ZeroPoint::Symmetric;
    TileSpec {
        unit: kernel.unit,
        k: w.k(),
        group: w.scheme().group_length(w.k()).max(1),
        zero: symmetric.then(|| i32::from(w.scheme().symmetric_zero())),
        folded: true,
        lhs_rows: [kernel.mr * kernel.slices; MAX_SLICES + 1],
    }
}

/// Packs the rows of `x` that `tile` names, with the code of a tier. Panics where the mode refuses them.
pub fn pack_tile(isa: Isa, spec: &TileSpec, x: Activations<'_>, mode: Mode, tile: &mut LhsTile) {
    simd::run::<PackTile>(isa, &mut PackArgs { spec, x, mode, tile });
    assert_eq!(tile.refused, None);
}

/// One kernel, one tile of activations and all panels of some weights.
#[derive(Debug)]
pub struct KernelCase {
    kernel: &'static Kernel,
    packed: PackedWeights,
    tile: LhsTile,
    mode: Mode,
}

impl KernelCase {
    /// Packs weights and the activations, which have as many rows as the kernel. Panics where one of them is refused.
    #[must_use]
    pub fn new(kernel: &'static Kernel, w: &QuantMatrix, x: Activations<'_>, mode: Mode) -> Self {
        Self::with_spec(kernel, w, x, mode, &tile_spec(kernel, w))
    }

    /// As [`KernelCase::new`], with activations packed as for groups that are folded from stored sums: no two slices share
    /// a bias. The kernel's own fold does not take them.
    #[must_use]
    pub fn stored(kernel: &'static Kernel, w: &QuantMatrix, x: Activations<'_>, mode: Mode) -> Self {
        let mut spec = tile_spec(kernel, w);
        spec.folded = false;
        Self::with_spec(kernel, w, x, mode, &spec)
    }

    fn with_spec(kernel: &'static Kernel, w: &QuantMatrix, x: Activations<'_>, mode: Mode, spec: &TileSpec) -> Self {
        let mut tile = LhsTile::default();
        tile.rows = kernel.mr;
        pack_tile(Isa::Scalar, spec, x, mode, &mut tile);
        kernel.expand(&mut tile);
        Self {
            kernel,
            packed: PackedWeights::pack(w, kernel.layout).expect("a layout of the weights' width"),
            tile,
            mode,
        }
    }

    /// The packed weights.
    #[must_use]
    pub fn packed(&self) -> &PackedWeights {
        &self.packed
    }

    /// The packed activations.
    #[must_use]
    pub fn tile(&self) -> &LhsTile {
        &self.tile
    }

    /// Calls the kernel on panel `p` and a run of groups of equal length.
    pub fn call(&self, p: usize, groups: Range<usize>, out: TileOut<'_>) {
        self.kernel.run(&mut self.args(p, groups, out));
    }

    fn args<'a>(&'a self, p: usize, groups: Range<usize>, out: TileOut<'a>) -> TileArgs<'a> {
        let (kernel, layout, tile) = (self.kernel, self.packed.layout(), &self.tile);
        let panel = self.packed.panels(p..p + 1);
        let (units, entry) = (layout.group_units(groups.start), tile.groups[groups.start]);
        let lhs_rows = kernel.mr * kernel.slices;
        TileArgs {
            panels: 1,
            panel_bytes: 0,
            groups: groups.len(),
            units,
            records: &panel[layout.first_record() + groups.start * layout.record_bytes()..],
            record_bytes: layout.record_bytes(),
            zeros: &panel[groups.start * PANEL_VECTORS * layout.zero_bytes()..],
            scale: layout.scale,
            zero: layout.zero,
            sign_only: self.packed.scheme().is_sign_only(),
            book: self.packed.scheme().book.as_ref(),
            lhs: &kernel.lhs_of(tile)[kernel.lhs * entry.offset..],
            lhs_bytes: kernel.lhs * units * kernel.unit * lhs_rows,
            bias: (&tile.bias[entry.bias..], lhs_rows),
            apart: &tile.apart[groups.start..],
            factor: (&tile.factor[groups.start * kernel.mr..], kernel.mr),
            negative_sum: &tile.negative_sum[groups.start * kernel.mr..],
            rest: RestSums::default(),
            ahead: 256,
            fold: match self.mode {
                Mode::A8 | Mode::A16 => FoldKind::GroupScale,
                Mode::Exact => FoldKind::Unit,
                _ => FoldKind::Plain,
            },
            out,
        }
    }

    /// Continues a tile of panel `p` by group `g`, in f64.
    fn fold_wide(&self, p: usize, g: usize, y: &mut [f32]) {
        let kernel = self.kernel;
        let mut sums = vec![i32::MIN; kernel.mr * kernel.slices * kernel.nr()];
        self.call(p, g..g + 1, TileOut::Sums(&mut sums));
        kernel.fold_wide(
            &mut self.args(p, g..g + 1, TileOut::Fold(y)),
            (kernel.mr, kernel.slices),
            &sums,
        );
    }

    /// Continues `y`, `[mr, N]`, where these integers, `[mr, G, N]`, join the groups' sums. Groups whose integers are all 0
    /// have no block.
    pub fn accumulate_rest(&self, rest: &[i32], y: &mut Mat<f32>) {
        let (mr, nr, n) = (self.kernel.mr, self.kernel.nr(), y.cols());
        let groups = self.packed.layout().groups;
        for p in 0..self.packed.layout().panels() {
            let columns = p * nr..n.min((p + 1) * nr);
            let (mut tile, mut blocks, mut sums) = (vec![0.0; mr * nr], Vec::new(), Vec::new());
            for (r, tile) in tile.chunks_exact_mut(nr).enumerate() {
                tile[..columns.len()].copy_from_slice(&y.view().row(r)[columns.clone()]);
            }
            for g in 0..groups {
                let at = |r: usize, c: usize| {
                    if p * nr + c < n {
                        rest[(r * groups + g) * n + p * nr + c]
                    } else {
                        0
                    }
                };
                let block: Vec<i32> = (0..mr * nr).map(|i| at(i / nr, i % nr)).collect();
                if block.iter().all(|&sum| sum == 0) {
                    blocks.push(RestSums::NONE);
                } else {
                    blocks.push((sums.len() / block.len()) as u32);
                    sums.extend(block);
                }
            }
            for run in self.runs() {
                let mut args = self.args(p, run.clone(), TileOut::Fold(&mut tile));
                args.rest = RestSums {
                    blocks: &blocks[run.start..],
                    sums: &sums,
                    step: mr * nr,
                };
                self.kernel.run(&mut args);
            }
            for (r, tile) in tile.chunks_exact(nr).enumerate() {
                y.view_mut().row_mut(r)[columns.clone()].copy_from_slice(&tile[..columns.len()]);
            }
        }
    }

    /// The full groups in one run, then a last one that may be short.
    fn runs(&self) -> [Range<usize>; 2] {
        let groups = self.packed.layout().groups;
        [0..groups - 1, groups - 1..groups]
    }

    /// Continues `y`, `[mr, N]`, by the kernel's own fold, or wide from its sums.
    pub fn accumulate(&self, wide: bool, y: &mut Mat<f32>) {
        let (mr, nr, n) = (self.kernel.mr, self.kernel.nr(), y.cols());
        for p in 0..self.packed.layout().panels() {
            let columns = p * nr..n.min((p + 1) * nr);
            let mut sums = vec![0.0; mr * nr];
            for (r, sums) in sums.chunks_exact_mut(nr).enumerate() {
                sums[..columns.len()].copy_from_slice(&y.view().row(r)[columns.clone()]);
            }
            for run in self.runs() {
                if wide {
                    run.for_each(|g| self.fold_wide(p, g, &mut sums));
                } else {
                    self.call(p, run, TileOut::Fold(&mut sums));
                }
            }
            for (r, sums) in sums.chunks_exact(nr).enumerate() {
                y.view_mut().row_mut(r)[columns.clone()].copy_from_slice(&sums[..columns.len()]);
            }
        }
    }

    /// `D − z0·B` of every (row, group, column), `[mr, G, N]`, in the units of the inputs' integers: the kernel's raw
    /// sums, put together and corrected here.
    #[must_use]
    pub fn group_sums(&self) -> Vec<i64> {
        let (mr, nr, slices) = (self.kernel.mr, self.kernel.nr(), self.kernel.slices);
        let (n, groups, scheme) = (self.packed.n(), self.packed.layout().groups, self.packed.scheme());
        let mut out = vec![0; mr * groups * n];
        for p in 0..self.packed.layout().panels() {
            for run in self.runs() {
                let mut raw = vec![i32::MIN; run.len() * mr * slices * nr];
                self.call(p, run.clone(), TileOut::Raw(&mut raw));
                for (i, g) in run.enumerate() {
                    for (r, c) in (0..mr).flat_map(|r| (0..nr.min(n - p * nr)).map(move |c| (r, c))) {
                        let row = |j: usize| r * slices + j;
                        let raw = |j: usize| i64::from(raw[(i * mr * slices + row(j)) * nr + c]) << (8 * j);
                        // Biases are −B, or −z·B for symmetric weights.
                        let bias = |j: usize| i64::from(self.tile.bias[self.tile.groups[g].bias + row(j)]) << (8 * j);
                        let (d, b): (i64, i64) = ((0..slices).map(raw).sum(), (0..slices).map(bias).sum());
                        let sum = match scheme.zero {
                            _ if scheme.is_sign_only() => 2 * d + b,
                            ZeroPoint::Symmetric => d + b,
                            _ => d + i64::from(self.packed.zero_int(p * nr + c, g)) * b,
                        };
                        let unit = match self.mode {
                            Mode::Exact => (self.tile.factor[g * mr + r] / pow2(-24)) as i64,
                            _ => 1,
                        };
                        out[(r * groups + g) * n + p * nr + c] = sum * unit;
                    }
                }
            }
        }
        out
    }
}
