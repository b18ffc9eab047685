//! Buffers of a product beside its operands.
#![forbid(unsafe_code)]

use crate::base::error::Error;
use crate::base::idle::Idle;
use crate::host::rest::TileRest;
use crate::kernel::select::Tally;
use crate::pack::activations::{LhsTile, MAX_SLICES};
use aligned_vec::{AVec, ConstAlign};
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

/// Buffers that a product needs beside its operands. They grow to the largest product seen and are reused: from the
/// second product of a shape on, nothing is allocated, but for a list of the inputs that are NaN or infinite.
///
/// A workspace belongs to no matrix. Products that follow each other share one, whatever their shapes and modes; products
/// that run at the same time need one each. [`Workspaces`] hands them out where neither is convenient.
///
/// ```
/// use mixgemm::{Epilogue, Host, Mat, Mode, QuantMatrix, Scheme, Workspace};
/// let weights = |n, k| QuantMatrix::quantize(Mat::from_fn(n, k, |n, k| (n * k % 7) as f32 - 3.0).view(), Scheme::int(4));
/// let host = Host::new();
/// let (up, down) = (host.prepare(&weights(96, 32)?)?, host.prepare(&weights(32, 96)?)?);
/// let (up, down) = (up.plan(Mode::A8)?, down.plan(Mode::A16)?);
/// let mut workspace = Workspace::new();
/// let (mut x, mut wide) = (Mat::<f32>::from_fn(1, 32, |_, k| k as f32), Mat::<f32>::zeros(1, 96));
/// for _token in 0..2 {
///     up.run(&mut workspace, x.view().into(), &Epilogue::new(), wide.view_mut().into())?;
///     down.run(&mut workspace, wide.view().into(), &Epilogue::new(), x.view_mut().into())?;
/// }
/// # Ok::<(), mixgemm::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Workspace {
    /// Packed activations, tile by tile.
    pub(super) tiles: Vec<LhsTile>,
    /// The tiles of each product of the last walk.
    pub(super) spans: Vec<Range<usize>>,
    /// One scratch per thread.
    pub(super) scratch: Vec<Scratch>,
}

/// Bytes of a cache line, and of the widest vector.
const LINE: usize = 64;

/// What one thread needs.
#[derive(Debug)]
pub(super) struct Scratch {
    /// The tile of y. Kernels store whole vectors into it: on cache lines, none of them crosses a page.
    pub(super) y: AVec<f32, ConstAlign<LINE>>,
    /// Raw sums of one group.
    pub(super) raw: RawSums,
    /// What a tile's rest adds to its groups.
    pub(super) rest: TileRest,
    /// Calls of kernels.
    pub(super) tally: Tally,
    /// Why the thread refused to work.
    pub(super) refused: Option<Error>,
}

/// One group's digit × slice sums, and what they are corrected with.
#[derive(Debug)]
pub(super) struct RawSums {
    /// `[lhs row, nr]`.
    pub(super) sums: AVec<i32, ConstAlign<LINE>>,
    /// Integer zero points of the panel's columns.
    pub(super) zeros: Vec<i64>,
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            y: AVec::new(LINE),
            raw: RawSums {
                sums: AVec::new(LINE),
                zeros: Vec::new(),
            },
            rest: TileRest::default(),
            tally: Tally::default(),
            refused: None,
        }
    }
}

impl Scratch {
    /// Makes room for tiles of so many rows against so many panels at once. Which thread works how much is chance, so
    /// all make room beforehand.
    pub(super) fn fit(&mut self, rows: usize, panels: usize, nr: usize) {
        let len = panels * rows * nr;
        if self.y.len() < len {
            self.y.resize(len, 0.0);
        }
        self.raw.sums.clear();
        self.raw.sums.reserve(rows * MAX_SLICES * nr);
        self.raw.zeros.clear();
        self.raw.zeros.reserve(nr);
        self.refused = None;
    }
}

impl Workspace {
    /// An empty workspace.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

/// Workspaces for callers that keep none of their own: a call borrows one for its time, and clones share them.
///
/// A [`Host`](crate::Host) has one set, and so have all weights it prepares: there are as many workspaces as calls that ran
/// at the same time, not as many as layers, each as large as its largest product, and they live as long as the host or
/// any of its weights. No lock is held while a product runs. Without the feature `std` every call gets a new workspace.
#[derive(Clone, Default)]
pub struct Workspaces {
    idle: Idle<Workspace>,
}

impl Workspaces {
    /// Lends a workspace that nobody else has.
    pub fn with<R>(&self, work: impl FnOnce(&mut Workspace) -> R) -> R {
        self.idle.with(work)
    }
}

impl fmt::Debug for Workspaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Workspaces")
    }
}
