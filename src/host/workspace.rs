//! Buffers of a product beside its operands.
#![forbid(unsafe_code)]

use crate::base::error::Error;
use crate::pack::activations::{LhsTile, MAX_SLICES};
use alloc::vec::Vec;

/// Buffers that a product needs beside its operands. They grow to the largest product seen and are reused: from the
/// second product of a shape on, nothing is allocated.
#[derive(Debug, Default)]
pub struct Workspace {
    /// Packed activations, tile by tile.
    pub(super) tiles: Vec<LhsTile>,
    /// One scratch per thread.
    pub(super) scratch: Vec<Scratch>,
}

/// What one thread needs.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// The tile of y.
    pub(super) y: Vec<f32>,
    /// Raw sums of one group.
    pub(super) raw: RawSums,
    /// Why the thread refused to work.
    pub(super) refused: Option<Error>,
}

/// One group's digit × slice sums, and what they are corrected with.
#[derive(Debug, Default)]
pub(super) struct RawSums {
    /// `[lhs row, nr]`.
    pub(super) sums: Vec<i32>,
    /// Integer zero points of the panel's columns.
    pub(super) zeros: Vec<i64>,
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
