//! How products are walked: activations are packed once, tile by tile; then threads claim rectangles of the outputs,
//! a few panels at a time, and run every tile of activation rows against these while they are in cache. Nothing is split
//! over K.
#![forbid(unsafe_code)]

use crate::base::disjoint::{Claims, TileGrid};
use crate::base::error::Result;
use crate::base::float::{Element, check_environment};
use crate::base::parallel::Team;
use crate::epilogue::{Epilogue, Output};
use crate::host::rectangle::{self, RUN, shared};
use crate::host::tile::Product;
use crate::host::width::Width;
use crate::host::workspace::{Scratch, Workspace};
use crate::kernel::select::Selection;
use crate::pack::activations::{LhsTile, PackArgs, PackTile, TileSpec};
use crate::pack::layout::{WeightLayout, unit};
use crate::pack::weights::PackedWeights;
use crate::quant::input::{Activations, Mode};
use crate::quant::rest::Rest;
use crate::quant::scheme::ZeroPoint;
use crate::simd;
use crate::simd::cpu::Isa;
use core::ops::Range;
use half::{bf16, f16};

/// Below this many activations, packing is not worth a hand-off to other threads.
const PACK_ALONE: usize = 32 * 1024;

/// Bytes of weights that one claim of a product with few rows reads at least, where every thread has one.
const STREAM: usize = 1 << 20;

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
    /// Integers that join the groups' sums.
    pub(super) rest: Option<&'a Rest<'a>>,
    /// Whether the groups' integers are asked for, not their products.
    pub(super) sums: bool,
}

/// What a rectangle of the output becomes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Finish<'a> {
    /// The epilogue of the sums.
    Epilogue(&'a Epilogue<'a>),
    /// The continued sums themselves.
    Continue,
}

impl Job<'_> {
    /// How groups of this many slices are folded.
    pub(super) fn width(&self, slices: usize) -> Width {
        Width::of(self.weights.group(), self.weights.scheme().span(), slices)
    }

    /// How its tiles of this many rows are laid out.
    fn spec(&self, rows: usize) -> TileSpec {
        let (panel, scheme) = (self.weights.layout().panel, self.weights.scheme());
        let symmetric = scheme.zero == ZeroPoint::Symmetric;
        TileSpec {
            unit: unit(panel.bits),
            k: self.weights.k(),
            group: self.weights.group().max(1),
            zero: symmetric.then(|| i32::from(scheme.symmetric_zero())),
            folded: !self.sums && self.width(2) == Width::Narrow,
            lhs_rows: self.selection.lhs_rows(rows),
        }
    }

    /// Whether the packed tiles of the other job, on the same activations, serve this one too.
    fn packs_as(&self, other: &Self) -> bool {
        let heights = || self.selection.heights();
        // What a rule reads instead of slices is its kernel's own.
        let same_lhs = |rows: usize| {
            let [own, others] = [self, other].map(|job| job.selection.kernel(rows, job.selection.usual()));
            core::ptr::eq(own, others) || own.lhs == 1 && others.lhs == 1
        };
        self.mode == other.mode
            && heights().eq(other.selection.heights())
            && heights().all(|rows| self.spec(rows) == other.spec(rows) && same_lhs(rows))
    }
}

/// One of the products of a walk: a job and its output.
#[derive(Debug)]
pub(super) struct Part<'a> {
    job: Job<'a>,
    finish: Finish<'a>,
    y: Grid<'a>,
}

/// The rectangles of an output.
#[derive(Debug)]
enum Grid<'a> {
    F32(TileGrid<'a, f32>),
    F16(TileGrid<'a, f16>),
    Bf16(TileGrid<'a, bf16>),
}

impl<'a> Part<'a> {
    /// The product of a job into `y`, which has its shape, for so many threads. `None` where there is nothing to do.
    pub(super) fn new(job: Job<'a>, finish: Finish<'a>, y: Output<'a>, threads: usize) -> Option<Self> {
        let (m, n) = y.shape();
        if m == 0 || n == 0 {
            return None;
        }
        let tiles = job.selection.tile_counts(m).map(|(_, count)| count).sum();
        let (rows, cols) = rectangle(job.weights.layout(), job.selection, (m, tiles), threads);
        let y = match y {
            Output::F32(y) => Grid::F32(TileGrid::new(y, rows, cols)),
            Output::F16(y) => Grid::F16(TileGrid::new(y, rows, cols)),
            Output::Bf16(y) => Grid::Bf16(TileGrid::new(y, rows, cols)),
        };
        Some(Self { job, finish, y })
    }

    /// Multiplies until no rectangle of the output is left.
    fn work(&self, tiles: &[LhsTile], scratch: &mut Scratch) {
        match &self.y {
            Grid::F32(grid) => self.claim(grid, tiles, scratch),
            Grid::F16(grid) => self.claim(grid, tiles, scratch),
            Grid::Bf16(grid) => self.claim(grid, tiles, scratch),
        }
        self.job.selection.record(&mut scratch.tally);
    }

    fn claim<T: Element>(&self, grid: &TileGrid<'_, T>, tiles: &[LhsTile], scratch: &mut Scratch) {
        while let Some(rectangle) = grid.next() {
            rectangle::multiply(
                &self.job,
                tiles_in(tiles, rectangle.rows()),
                self.finish,
                scratch,
                rectangle,
            );
        }
    }
}

/// All products of `parts`: their activations are packed, then their rectangles claimed, output after output, without a
/// pause in between.
pub(super) fn walk(parts: &[Option<Part<'_>>], workspace: &mut Workspace, team: Team<'_>) -> Result<()> {
    let parts = parts.iter().flatten();
    if parts.clone().next().is_none() {
        return Ok(());
    }
    pack(parts.clone().map(|part| &part.job), workspace, team)?;
    multiply(parts, workspace, team)
}

/// Cuts M into tiles and packs their rows, once for all jobs that they serve. The jobs are on the same activations; the
/// workspace's spans say which tiles are whose.
pub(super) fn pack<'a>(
    jobs: impl Iterator<Item = &'a Job<'a>> + Clone + Sync,
    workspace: &mut Workspace,
    team: Team<'_>,
) -> Result<()> {
    let Workspace { tiles, spans, .. } = workspace;
    spans.clear();
    let (mut count, mut inputs) = (0, 0);
    for job in jobs.clone() {
        let same = jobs.clone().zip(&*spans).find(|(other, _)| job.packs_as(other));
        if let Some(span) = same.map(|(_, span)| span.clone()) {
            spans.push(span);
            continue;
        }
        let (m, k) = job.x.shape();
        let start = count;
        for (first, rows) in job.selection.tiles(m) {
            if tiles.len() == count {
                tiles.push(LhsTile::default());
            }
            (tiles[count].first, tiles[count].rows) = (first, rows);
            count += 1;
        }
        spans.push(start..count);
        inputs += m * k;
    }
    let claims = Claims::new(&mut tiles[..count]);
    let worker = |_| {
        while let Some((i, tile)) = claims.next() {
            tile.refused = check_environment().err();
            let own = jobs.clone().zip(&*spans).find(|(_, span)| span.contains(&i));
            if let (None, Some((job, _))) = (&tile.refused, own) {
                let spec = job.spec(tile.rows);
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
    let tasks = if inputs <= PACK_ALONE { 1 } else { count };
    team.run(tasks, &worker);
    let refused = tiles[..count].iter().find_map(|tile| tile.refused.clone());
    refused.map_or(Ok(()), Err)
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
    // Four claims a thread even out threads of unequal speed; long runs of panels keep a thread on one stream of weights,
    // and where it would be short, beginning anew costs more than waiting for the slowest.
    let claims = 4 * threads;
    let streams = (layout.bytes() / STREAM).clamp(threads, claims);
    let long = tiles <= 2 || selection.runs(height);
    let run = if long {
        panels.div_ceil(streams)
    } else {
        panels.div_ceil(claims).min(shared(layout))
    };
    let blocks = claims
        .div_ceil(panels.div_ceil(run))
        .clamp(1, m.div_ceil(height).max(1));
    // Where no multiple of the height reaches so far, all rows are one block.
    let rows = m.div_ceil(blocks).checked_next_multiple_of(height).unwrap_or(m);
    (rows, run * layout.panel.nr())
}

/// Writes the integers of every (row, group, column) into the rows `m·G + g` of a matrix with N columns.
pub(super) fn group_sums<T: Copy + TryFrom<i64>>(job: &Job<'_>, workspace: &mut Workspace, sums: &mut [T]) {
    let Workspace { tiles, spans, scratch } = workspace;
    scratch.resize_with(scratch.len().max(1), Scratch::default);
    let (n, groups) = (job.weights.n(), job.weights.layout().groups);
    for panel in 0..job.weights.layout().panels() {
        for tile in &tiles[spans[0].clone()] {
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

/// Multiplies packed activations into the outputs. Fails when a worker's float environment is not the default.
fn multiply<'a>(
    parts: impl Iterator<Item = &'a Part<'a>> + Clone + Sync,
    workspace: &mut Workspace,
    team: Team<'_>,
) -> Result<()> {
    let Workspace { tiles, spans, scratch } = workspace;
    if scratch.len() < team.threads() {
        scratch.resize_with(team.threads(), Scratch::default);
    }
    for (part, span) in parts.clone().zip(&*spans) {
        let (most, nr) = (
            tiles[span.clone()].iter().map(|t| t.rows).max(),
            part.job.weights.layout().panel.nr(),
        );
        for scratch in scratch.iter_mut() {
            let (rows, groups) = (most.unwrap_or(0), part.job.weights.layout().groups);
            scratch.fit(rows, RUN, nr);
            if part.job.rest.is_some() {
                scratch.rest.fit(groups, rows, RUN * rows * nr);
            }
        }
    }
    let claims = Claims::new(scratch);
    let worker = |_| {
        let Some((_, scratch)) = claims.next() else { return };
        scratch.refused = check_environment().err();
        if scratch.refused.is_some() {
            return;
        }
        for (part, span) in parts.clone().zip(&*spans) {
            part.work(&tiles[span.clone()], scratch);
        }
    };
    team.run(team.threads(), &worker);
    let refused = scratch.iter().find_map(|scratch| scratch.refused.clone());
    refused.map_or(Ok(()), Err)
}
