//! One rectangle of an output: every tile of its activation rows against runs of its panels, and what the sums become.
#![forbid(unsafe_code)]

use crate::base::disjoint::TileMut;
use crate::base::float::{Element, canonical};
use crate::epilogue::Epilogue;
use crate::host::tile::{Product, TileRun};
use crate::host::walk::{Finish, Job};
use crate::host::workspace::Scratch;
use crate::pack::activations::{LhsTile, NonFinite};
use crate::pack::layout::WeightLayout;
use crate::reference::{non_finite_sum, weight_sign};
use crate::simd;
use crate::simd::isa::{Body, Simd, Work, prefetch_all};
use core::marker::PhantomData;
use core::ops::Range;

/// Most panels of one kernel call.
pub(super) const RUN: usize = 16;

/// Panels that tiles share while they are in the second-level cache: a kernel call for several of them costs less than
/// as many calls, and a row of the output is then written in longer pieces.
pub(super) fn shared(layout: &WeightLayout) -> usize {
    /// Of a cache of 1 MiB, which holds a tile of activations too.
    const BYTES: usize = 512 << 10;
    (BYTES / layout.panel_bytes().max(1)).clamp(1, 4)
}

/// Multiplies `tiles`, those of the rectangle's rows, into it.
pub(super) fn multiply<T: Element>(
    job: &Job<'_>,
    tiles: &[LhsTile],
    finish: Finish<'_>,
    scratch: &mut Scratch,
    out: TileMut<'_, T>,
) {
    // A binding of its own lives no longer than the other arguments.
    let mut out: TileMut<'_, T> = out;
    simd::run::<Rectangle<T>>(job.isa, &mut (job, tiles, finish, scratch, &mut out));
}

/// The products of a rectangle.
struct Rectangle<T>(PhantomData<T>);

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
        let nr = job.weights.layout().panel.nr();
        let cols = out.cols();
        let last = cols.end.div_ceil(nr);
        // A single tile streams through runs of panels, and so do tiles whose groups stay in cache meanwhile.
        let long = tiles.len() == 1 || tiles.first().is_some_and(|t| job.selection.runs(t.rows));
        let most = if long { RUN } else { shared(job.weights.layout()) };
        let mut first = cols.start / nr;
        while first < last {
            let panels = first..(first + most).min(last);
            let columns = first * nr..(panels.end * nr).min(cols.end);
            for tile in tiles.iter() {
                let mut run = TileRun::new(scratch, panels.len(), tile.rows, nr);
                if let Finish::Continue = finish {
                    for r in 0..tile.rows {
                        let from = out.row_mut(tile.first + r, columns.clone());
                        for (i, from) in from.chunks(nr).enumerate() {
                            T::slice_to_f32(from, &mut run.row(i, r)[..from.len()]);
                        }
                    }
                }
                let product = Product {
                    job,
                    tile,
                    panels: panels.clone(),
                };
                prefetch(simd, out, tile, &columns);
                product.fold(&mut run);
                // Before the kernel's work, so that the lines are at least in the second-level cache after it; and again
                // after it, since the rows of the output lie far apart, often in one set of the first-level cache.
                prefetch(simd, out, tile, &columns);
                if !tile.non_finite.is_empty() {
                    special_rows(job, tile, *finish, &mut run, &columns, out);
                }
                let scales: &[f32] = match finish {
                    Finish::Epilogue(epilogue) if !epilogue.is_empty() => {
                        simd.frame::<Finished>(&mut (*epilogue, tile, columns.clone(), nr, &mut *run.y));
                        &[]
                    }
                    Finish::Epilogue(_) => &tile.row_scale,
                    Finish::Continue => &[],
                };
                write::<S, T>(tile, scales, &mut run, &columns, out);
            }
            first = panels.end;
        }
    }
}

/// Prefetches the lines of the output that a tile becomes.
#[inline(always)]
fn prefetch<S: Simd, T: Element>(simd: S, out: &mut TileMut<'_, T>, tile: &LhsTile, columns: &Range<usize>) {
    for r in 0..tile.rows {
        prefetch_all(simd, out.row_mut(tile.first + r, columns.clone()));
    }
}

/// Writes a tile's sums, multiplied by their rows' scales where there are any.
#[inline(always)]
fn write<S: Simd, T: Element>(
    tile: &LhsTile,
    scales: &[f32],
    run: &mut TileRun<'_>,
    columns: &Range<usize>,
    out: &mut TileMut<'_, T>,
) {
    for r in 0..tile.rows {
        let scale = scales.get(r).copied().unwrap_or(1.0);
        let out = out.row_mut(tile.first + r, columns.clone());
        for (i, out) in out.chunks_mut(run.nr).enumerate() {
            let y = run.row(i, r);
            if out.len() == 2 * S::LANES {
                // Most panels are full, of a length that the compiler knows.
                scaled(&mut y[..2 * S::LANES], &mut out[..2 * S::LANES], scale);
            } else {
                scaled(&mut y[..out.len()], out, scale);
            }
        }
    }
}

#[inline(always)]
fn scaled<T: Element>(y: &mut [f32], out: &mut [T], scale: f32) {
    for y in y.iter_mut() {
        *y = canonical(*y * scale);
    }
    T::slice_from_f32(y, out);
}

/// An epilogue on the sums of a tile and a run of panels, `[panel, row, nr]`. Its frame of its own keeps its code out of
/// the way of products without one.
struct Finished;

impl Work for Finished {
    type Args<'a> = (&'a Epilogue<'a>, &'a LhsTile, Range<usize>, usize, &'a mut [f32]);
}

impl<S: Simd> Body<S> for Finished {
    #[inline(always)]
    fn body(_: S, (epilogue, tile, columns, nr, y): &mut Self::Args<'_>) {
        for (i, y) in y.chunks_mut(tile.rows * *nr).enumerate() {
            let first = columns.start + i * *nr;
            for (r, y) in y.chunks_mut(*nr).enumerate() {
                let y = &mut y[..(*nr).min(columns.end - first)];
                epilogue.finish(y, tile.first + r, first, tile.row_scale.get(r).copied());
            }
        }
    }
}

/// The sums of the rows with non-finite inputs: of those inputs alone.
#[cold]
#[inline(never)]
fn special_rows<T: Element>(
    job: &Job<'_>,
    tile: &LhsTile,
    finish: Finish<'_>,
    run: &mut TileRun<'_>,
    columns: &Range<usize>,
    out: &mut TileMut<'_, T>,
) {
    for special in tile.non_finite.chunk_by(|a, b| a.row == b.row) {
        let r = special[0].row;
        let before = out.row_mut(tile.first + r, columns.clone());
        for (i, before) in before.chunks(run.nr).enumerate() {
            let first = columns.start + i * run.nr;
            special_row(job, special, finish, before, first, &mut run.row(i, r)[..before.len()]);
        }
    }
}

/// The sums of a panel's columns of one such row, with these inputs.
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
        let q = |k: usize| w.scheme().carried(w.code(n, k));
        let sign = |k: usize| weight_sign(q(k), w.zero(n, k / group), w.scale(n, k / group));
        y[i] = start + non_finite_sum(inputs(), sign);
    }
}
