//! How a product is walked: activations are packed once, tile by tile; then threads claim rectangles of the output,
//! panel by panel, and run every tile of activation rows against a panel while it is in cache. Nothing is split over K.
#![forbid(unsafe_code)]

use crate::base::disjoint::{Claims, TileGrid, TileMut};
use crate::base::error::Result;
use crate::base::float::{Element, canonical, check_environment};
use crate::base::view::MatMut;
use crate::epilogue::Epilogue;
use crate::host::parallel::Team;
use crate::host::tile::{Product, TileRun};
use crate::host::workspace::{Scratch, Workspace};
use crate::kernel::select::Selection;
use crate::pack::activations::{LhsTile, MAX_SLICES, NonFinite, PackArgs, PackTile, TileSpec};
use crate::pack::layout::{WeightLayout, unit};
use crate::pack::weights::PackedWeights;
use crate::quant::input::{Activations, Mode};
use crate::quant::scheme::ZeroPoint;
use crate::reference::{non_finite_sum, weight_sign};
use crate::simd;
use crate::simd::cpu::Isa;
use crate::simd::isa::{Body, Simd, Work};
use core::ops::Range;

/// Below this many activations, packing is not worth a hand-off to other threads.
const PACK_ALONE: usize = 32 * 1024;

/// Everything that stays the same during a product.
#[derive(Debug, Clone, Copy)]
pub(super) struct Job<'a> {
    pub(super) weights: &'a PackedWeights,
    pub(super) selection: &'a Selection,
    pub(super) isa: Isa,
    /// Bytes by which codes are prefetched ahead.
    pub(super) ahead: usize,
    pub(super) x: Activations<'a>,
    pub(super) mode: Mode,
}

/// What a rectangle of the output becomes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Finish<'a> {
    /// The epilogue of the sums.
    Epilogue(&'a Epilogue<'a>),
    /// The continued sums themselves.
    Continue,
}

/// Cuts M into tiles and packs their rows; gives the number of tiles, which are the workspace's first.
pub(super) fn pack(job: &Job<'_>, workspace: &mut Workspace, team: Team<'_>) -> Result<usize> {
    let (m, k) = job.x.shape();
    let mut count = 0;
    for (first, rows) in job.selection.tiles(m) {
        if workspace.tiles.len() == count {
            workspace.tiles.push(LhsTile::default());
        }
        (workspace.tiles[count].first, workspace.tiles[count].rows) = (first, rows);
        count += 1;
    }
    let (panel, scheme) = (job.weights.layout().panel, job.weights.scheme());
    let symmetric = scheme.zero == ZeroPoint::Symmetric;
    let spec = TileSpec {
        unit: unit(panel.bits),
        k,
        group: job.weights.group().max(1),
        zero: symmetric.then(|| 1 << (scheme.bits - 1)),
        lhs_rows: [0; MAX_SLICES + 1],
    };
    let claims = Claims::new(&mut workspace.tiles[..count]);
    let worker = |_| {
        while let Some((_, tile)) = claims.next() {
            tile.refused = check_environment().err();
            if tile.refused.is_none() {
                let spec = TileSpec {
                    lhs_rows: job.selection.lhs_rows(tile.rows),
                    ..spec
                };
                simd::run::<PackTile>(
                    job.isa,
                    &mut PackArgs {
                        spec: &spec,
                        x: job.x,
                        mode: job.mode,
                        tile: &mut *tile,
                    },
                );
                let kernel = job.selection.kernel(tile.rows, job.selection.usual());
                kernel.expand(tile);
            }
        }
    };
    let tasks = if m * k <= PACK_ALONE { 1 } else { count };
    team.run(tasks, &worker);
    match workspace.tiles[..count].iter().find_map(|tile| tile.refused.clone()) {
        Some(error) => Err(error),
        None => Ok(count),
    }
}

/// The tiles whose rows lie in `rows`, which starts at a tile.
fn tiles_in(tiles: &[LhsTile], rows: Range<usize>) -> &[LhsTile] {
    let start = tiles.partition_point(|t| t.first < rows.start);
    let end = tiles.partition_point(|t| t.first < rows.end);
    &tiles[start..end]
}

/// Rows and columns of the rectangles that threads claim from an output of `m` rows, which are so many tiles.
pub(super) fn rectangle(
    layout: &WeightLayout,
    selection: &Selection,
    (m, tiles): (usize, usize),
    threads: usize,
) -> (usize, usize) {
    let panels = layout.panels().max(1);
    let height = selection.height(m);
    // Four claims a thread even out threads of unequal speed; long runs of panels keep a thread on one stream of weights.
    let claims = 4 * threads;
    let long = tiles <= 2 || selection.runs(height);
    let run = if long { panels.div_ceil(claims) } else { 1 };
    let blocks = claims
        .div_ceil(panels.div_ceil(run))
        .clamp(1, m.div_ceil(height).max(1));
    // Where no multiple of the height reaches so far, all rows are one block.
    let rows = m.div_ceil(blocks).checked_next_multiple_of(height).unwrap_or(m);
    (rows, run * layout.panel.nr())
}

/// Writes the integers of every (row, group, column) into the rows `m·G + g` of a matrix with N columns.
pub(super) fn group_sums<T: Copy + TryFrom<i64>>(
    job: &Job<'_>,
    (workspace, tiles): (&mut Workspace, usize),
    sums: &mut [T],
) {
    let Workspace { tiles: all, scratch } = workspace;
    scratch.resize_with(scratch.len().max(1), Scratch::default);
    let (n, groups) = (job.weights.n(), job.weights.layout().groups);
    for panel in 0..job.weights.layout().panels() {
        for tile in &all[..tiles] {
            let product = Product {
                job,
                tile,
                panels: panel..panel + 1,
            };
            product.sums(&mut scratch[0], |r, g, column, sum| {
                if let Ok(sum) = T::try_from(sum) {
                    sums[((tile.first + r) * groups + g) * n + column] = sum;
                }
            });
        }
    }
    job.selection.record(&mut scratch[0].tally);
}

/// Multiplies packed activations into `y`. Fails when a worker's float environment is not the default.
pub(super) fn multiply<T: Element>(
    job: &Job<'_>,
    (workspace, tiles): (&mut Workspace, usize),
    team: Team<'_>,
    finish: Finish<'_>,
    y: MatMut<'_, T>,
) -> Result<()> {
    let Workspace { tiles: all, scratch } = workspace;
    let tiles = &all[..tiles];
    let counts = (job.x.shape().0, tiles.len());
    let (rows, cols) = rectangle(job.weights.layout(), job.selection, counts, team.threads());
    let grid = TileGrid::new(y, rows, cols);
    if scratch.len() < team.threads() {
        scratch.resize_with(team.threads(), Scratch::default);
    }
    let (most, nr) = (tiles.iter().map(|t| t.rows).max(), job.weights.layout().panel.nr());
    for scratch in scratch.iter_mut() {
        scratch.fit(most.unwrap_or(0), RUN, nr);
    }
    let claims = Claims::new(scratch);
    let worker = |_| {
        let Some((_, scratch)) = claims.next() else { return };
        scratch.refused = check_environment().err();
        if scratch.refused.is_some() {
            return;
        }
        while let Some(mut rectangle) = grid.next() {
            let tiles = tiles_in(tiles, rectangle.rows());
            simd::run::<Rectangle<T>>(job.isa, &mut (job, tiles, finish, scratch, &mut rectangle));
        }
        job.selection.record(&mut scratch.tally);
    };
    team.run(team.threads(), &worker);
    scratch
        .iter()
        .find_map(|scratch| scratch.refused.clone())
        .map_or(Ok(()), Err)
}

/// One rectangle of the output; compiled for every tier for the sake of its epilogue.
struct Rectangle<T>(core::marker::PhantomData<T>);

impl<T: Element> Work for Rectangle<T> {
    type Args<'a> = (
        &'a Job<'a>,
        &'a [LhsTile],
        Finish<'a>,
        &'a mut Scratch,
        &'a mut TileMut<'a, T>,
    );
}

impl<S: Simd, T: Element> Body<S> for Rectangle<T> {
    #[inline(always)]
    fn body(simd: S, (job, tiles, finish, scratch, out): &mut Self::Args<'_>) {
        let layout = job.weights.layout();
        let nr = layout.panel.nr();
        let cols = out.cols();
        let columns_of = |panels: Range<usize>| panels.start * nr..(panels.end * nr).min(cols.end);
        let last = cols.end.div_ceil(nr);
        let mut first = cols.start / nr;
        while first < last {
            // A single tile streams through runs of panels, and so do tiles whose groups stay in cache meanwhile; other
            // tiles share one panel while it is in cache.
            let long = tiles.len() == 1 || tiles.first().is_some_and(|t| job.selection.runs(t.rows));
            let run = if long { (last - first).min(RUN) } else { 1 };
            let panels = first..first + run;
            for tile in tiles.iter() {
                let mut run = TileRun::new(scratch, panels.len(), tile.rows, nr);
                if let Finish::Continue = finish {
                    for (i, p) in panels.clone().enumerate() {
                        let columns = columns_of(p..p + 1);
                        for r in 0..tile.rows {
                            let y = &mut run.row(i, r)[..columns.len()];
                            T::slice_to_f32(out.row_mut(tile.first + r, columns.clone()), y);
                        }
                    }
                }
                let product = Product {
                    job,
                    tile,
                    panels: panels.clone(),
                };
                prefetch(simd, out, tile, columns_of(panels.clone()));
                product.fold(&mut run);
                // Before the kernel's work, so that the lines are at least in the second-level cache after it; and again
                // after it, since the rows of the output lie far apart, often in one set of the first-level cache.
                prefetch(simd, out, tile, columns_of(panels.clone()));
                for special in tile.non_finite.chunk_by(|a, b| a.row == b.row) {
                    let r = special[0].row;
                    for (i, p) in panels.clone().enumerate() {
                        let columns = columns_of(p..p + 1);
                        let y = &mut run.row(i, r)[..columns.len()];
                        let before = out.row_mut(tile.first + r, columns.clone());
                        special_row(job, special, *finish, before, columns.start, y);
                    }
                }
                for (i, p) in panels.clone().enumerate() {
                    let columns = columns_of(p..p + 1);
                    for r in 0..tile.rows {
                        let scale = match finish {
                            Finish::Epilogue(_) => tile.row_scale.get(r).copied(),
                            Finish::Continue => None,
                        };
                        let y = &mut run.row(i, r)[..columns.len()];
                        let out = out.row_mut(tile.first + r, columns.clone());
                        match finish {
                            Finish::Epilogue(epilogue) if !epilogue.is_empty() => {
                                epilogue.finish(y, tile.first + r, columns.start, scale);
                                T::slice_from_f32(y, out);
                            }
                            // Most rows are of full panels, whose length the compiler knows.
                            _ if y.len() == 2 * S::LANES => {
                                plain(&mut y[..2 * S::LANES], &mut out[..2 * S::LANES], scale);
                            }
                            _ => plain(y, out, scale),
                        }
                    }
                }
            }
            first = panels.end;
        }
    }
}

/// Prefetches the lines of the output that a tile becomes.
#[inline(always)]
fn prefetch<S: Simd, T: Element>(simd: S, out: &mut TileMut<'_, T>, tile: &LhsTile, columns: Range<usize>) {
    for r in 0..tile.rows {
        for line in out
            .row_mut(tile.first + r, columns.clone())
            .chunks(LINE / size_of::<T>())
        {
            simd.prefetch(&line[0], 0);
        }
    }
}

/// A row's sums as they are, but for its scale.
#[inline(always)]
fn plain<T: Element>(y: &mut [f32], out: &mut [T], scale: Option<f32>) {
    let scale = scale.unwrap_or(1.0);
    for y in y.iter_mut() {
        *y = canonical(*y * scale);
    }
    T::slice_from_f32(y, out);
}

/// Bytes of a cache line.
const LINE: usize = 64;

/// Most panels of one kernel call.
const RUN: usize = 16;

/// The sums of the row with these non-finite inputs: of those inputs alone.
#[cold]
#[inline(never)]
fn special_row<T: Element>(
    job: &Job<'_>,
    special: &[NonFinite],
    finish: Finish<'_>,
    before: &[T],
    first: usize,
    y: &mut [f32],
) {
    let (w, group) = (job.weights, job.weights.group());
    let inputs = || special.iter().map(|x| x.input);
    for (i, before) in before.iter().enumerate() {
        let n = first + i;
        let start = if let Finish::Continue = finish {
            before.to_f32()
        } else {
            0.0
        };
        let sign = |k: usize| weight_sign(w.code(n, k), w.zero(n, k / group), w.scale(n, k / group));
        y[i] = start + non_finite_sum(inputs(), sign);
    }
}
