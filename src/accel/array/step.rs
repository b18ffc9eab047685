//! The systolic array cycle by cycle: values move from element to element, and everything is counted as it happens.
//!
//! This is the witness for the closed form of [`Array::walk`]: nothing here knows a formula. Operands enter at the left
//! and at the top, row `i` and column `j` delayed by `i` and `j` cycles, and move on by one element a cycle. Edges that
//! lie beyond the product are fed zeros, which are not read from anywhere. A fold lasts until nothing moves any more.
//!
//! * Output stationary: activations move right, weights down; a finished sum leaves its element at once, on lines of its
//!   own.
//! * Weight and input stationary: the operand that stays is moved in from the top first. Then the other one moves right
//!   and sums move down; a sum that an earlier fold has begun comes back from the scratchpad at the top.
#![forbid(unsafe_code)]

use super::{Array, Dataflow, Extents, Walk};
use crate::base::error::{Error, Result};
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

/// A product that was done cycle by cycle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stepped {
    /// What was counted on the way.
    pub walk: Walk,
    /// `Y`, row by row, modulo 2⁶⁴.
    pub product: Vec<i64>,
}

/// Larger arrays are not stepped through.
const MOST_ELEMENTS: u64 = 1 << 16;

/// What an element hands to the next: a block of values, or nothing.
type Token = Option<Vec<i64>>;

/// The tokens of one kind in all elements.
struct Grid {
    cols: usize,
    cells: Vec<Token>,
}

impl Grid {
    fn new(rows: usize, cols: usize) -> Self {
        Self {
            cols,
            cells: vec![None; rows * cols],
        }
    }

    fn is_empty(&self) -> bool {
        self.cells.iter().all(Option::is_none)
    }

    /// Every token moves to the right; a new one enters each row.
    fn right(&mut self, edge: impl Iterator<Item = Token>) {
        for (row, token) in self.cells.chunks_mut(self.cols).zip(edge) {
            row.rotate_right(1);
            row[0] = token;
        }
    }

    /// Every token moves down; a new one enters each column.
    fn down(&mut self, edge: impl Iterator<Item = Token>) {
        self.cells.rotate_right(self.cols);
        for (cell, token) in self.cells.iter_mut().zip(edge) {
            *cell = token;
        }
    }
}

/// A matrix in a scratchpad, `rows × depth`, read in blocks.
struct Operand<'a> {
    values: &'a [i64],
    rows: usize,
    depth: usize,
    block_rows: usize,
    block_depth: usize,
    reads: u64,
}

impl Operand<'_> {
    /// Blocks along rows and depth.
    fn blocks(&self) -> (usize, usize) {
        (
            self.rows.div_ceil(self.block_rows),
            self.depth.div_ceil(self.block_depth),
        )
    }

    /// One block, with zeros beyond the matrix.
    fn read(&mut self, row: usize, depth: usize) -> Vec<i64> {
        let mut block = vec![0; self.block_rows * self.block_depth];
        for r in 0..self.block_rows {
            for d in 0..self.block_depth {
                let (row, depth) = (row * self.block_rows + r, depth * self.block_depth + d);
                if row < self.rows && depth < self.depth {
                    block[r * self.block_depth + d] = self.values[row * self.depth + depth];
                    self.reads += 1;
                }
            }
        }
        block
    }
}

/// The scratchpad of sums: `first × second` is M by N, or N by M where weights stream past activations.
struct Sums {
    values: Vec<i64>,
    m: usize,
    n: usize,
    block_first: usize,
    block_second: usize,
    swapped: bool,
    writes: u64,
    reads: u64,
}

impl Sums {
    /// The place of a value of a block.
    fn place(&self, first: usize, second: usize, i: usize) -> Option<usize> {
        let first = first * self.block_first + i / self.block_second;
        let second = second * self.block_second + i % self.block_second;
        let (m, n) = if self.swapped { (second, first) } else { (first, second) };
        (m < self.m && n < self.n).then_some(m * self.n + n)
    }

    fn read(&mut self, first: usize, second: usize) -> Vec<i64> {
        let mut block = vec![0; self.block_first * self.block_second];
        for (i, value) in block.iter_mut().enumerate() {
            if let Some(place) = self.place(first, second, i) {
                *value = self.values[place];
                self.reads += 1;
            }
        }
        block
    }

    fn write(&mut self, first: usize, second: usize, block: &[i64]) {
        for (i, &value) in block.iter().enumerate() {
            if let Some(place) = self.place(first, second, i) {
                self.values[place] = value;
                self.writes += 1;
            }
        }
    }
}

/// What an element does in a cycle: `sums[a, b] += first[a, ·] · second[b, ·]`.
fn multiply(sums: &mut [i64], first: &[i64], second: &[i64], depth: usize) {
    let columns = second.len() / depth;
    for (a, first) in first.chunks(depth).enumerate() {
        for (b, second) in second.chunks(depth).enumerate() {
            let sum = &mut sums[a * columns + b];
            for (&x, &w) in first.iter().zip(second) {
                *sum = sum.wrapping_add(x.wrapping_mul(w));
            }
        }
    }
}

/// A token of zeros for edges beyond the product.
fn bubble(length: usize) -> Token {
    Some(vec![0; length])
}

/// The scratchpads and the clock.
struct Bench<'a> {
    rows: usize,
    cols: usize,
    /// Goes in from the left; its rows lie along the array's rows (output stationary) or in time.
    left: Operand<'a>,
    /// Goes in from the top; its rows lie along the array's columns.
    top: Operand<'a>,
    sums: Sums,
    folds: u64,
    cycles: u64,
}

impl Bench<'_> {
    /// One fold with sums that stay.
    fn fold_outputs(&mut self, fold_row: usize, fold_col: usize) {
        let (rows, cols) = (self.rows, self.cols);
        let ((lefts, depth), (tops, _)) = (self.left.blocks(), self.top.blocks());
        let length = self.sums.block_first * self.sums.block_second;
        let (mut from_left, mut from_top) = (Grid::new(rows, cols), Grid::new(rows, cols));
        let mut sums = vec![(0, vec![0; length]); rows * cols];
        for cycle in 0.. {
            let step = |delay: usize| cycle_of(cycle, delay, depth);
            from_left.right((0..rows).map(|i| {
                let (step, block) = (step(i)?, fold_row * rows + i);
                if block < lefts {
                    Some(self.left.read(block, step))
                } else {
                    bubble(self.left.block_rows * self.left.block_depth)
                }
            }));
            from_top.down((0..cols).map(|j| {
                let (step, block) = (step(j)?, fold_col * cols + j);
                if block < tops {
                    Some(self.top.read(block, step))
                } else {
                    bubble(self.top.block_rows * self.top.block_depth)
                }
            }));
            if from_left.is_empty() && from_top.is_empty() {
                break;
            }
            self.cycles += 1;
            for (cell, (done, sum)) in sums.iter_mut().enumerate() {
                if let (Some(x), Some(w)) = (&from_left.cells[cell], &from_top.cells[cell]) {
                    multiply(sum, x, w, self.left.block_depth);
                    *done += 1;
                    if *done == depth {
                        self.sums
                            .write(fold_row * rows + cell / cols, fold_col * cols + cell % cols, sum);
                    }
                }
            }
        }
        self.folds += 1;
    }

    /// One fold with an operand that stays: rows of the array along the depth, columns along its rows.
    fn fold_operand(&mut self, fold_row: usize, fold_col: usize) {
        let (rows, cols) = (self.rows, self.cols);
        let ((steps, depth), (tops, _)) = (self.left.blocks(), self.top.blocks());
        let mut stationary = Grid::new(rows, cols);
        for row in (0..rows).rev() {
            stationary.down((0..cols).map(|j| {
                let (block, step) = (fold_col * cols + j, fold_row * rows + row);
                if block < tops && step < depth {
                    Some(self.top.read(block, step))
                } else {
                    bubble(self.top.block_rows * self.top.block_depth)
                }
            }));
            self.cycles += 1;
        }
        let (mut moving, mut sums) = (Grid::new(rows, cols), Grid::new(rows, cols));
        for cycle in 0.. {
            moving.right((0..rows).map(|i| {
                let (time, step) = (cycle_of(cycle, i, steps)?, fold_row * rows + i);
                if step < depth {
                    Some(self.left.read(time, step))
                } else {
                    bubble(self.left.block_rows * self.left.block_depth)
                }
            }));
            sums.down((0..cols).map(|j| {
                let (time, block) = (cycle_of(cycle, j, steps)?, fold_col * cols + j);
                if fold_row > 0 {
                    Some(self.sums.read(time, block))
                } else {
                    bubble(self.sums.block_first * self.sums.block_second)
                }
            }));
            if moving.is_empty() && sums.is_empty() {
                break;
            }
            self.cycles += 1;
            for (cell, sum) in sums.cells.iter_mut().enumerate() {
                if let (Some(x), Some(w), Some(sum)) = (&moving.cells[cell], &stationary.cells[cell], sum) {
                    multiply(sum, x, w, self.left.block_depth);
                }
            }
            for j in 0..cols {
                if let Some(sum) = sums.cells[(rows - 1) * cols + j].take() {
                    // What leaves now entered the column `rows − 1` cycles ago, and the column is `j` cycles late.
                    let time = cycle - (rows - 1) - j;
                    self.sums.write(time, fold_col * cols + j, &sum);
                }
            }
        }
        self.folds += 1;
    }
}

/// Which step an edge feeds in this cycle, if it is one.
fn cycle_of(cycle: usize, delay: usize, steps: usize) -> Option<usize> {
    cycle.checked_sub(delay).filter(|&step| step < steps)
}

impl Array {
    /// Multiplies `X` by `Wᵀ`, both row by row, cycle by cycle. Slow: for small shapes, to see what happens.
    ///
    /// ```
    /// use mixgemm::accel::array::{Array, Dataflow, Extents};
    /// let array = Array::new(2, 2, Dataflow::WeightStationary)?;
    /// let e = Extents::new(1, 2, 3);
    /// let stepped = array.step(e, &[1, 2, 3], &[1, 1, 1, 1, 0, -1])?;
    /// assert_eq!(stepped.product, [6, -2]);
    /// assert_eq!(stepped.walk, array.walk(e));
    /// # Ok::<(), mixgemm::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`]: an operand is not as long as its extents say. [`Error::Unsupported`]: the array has more than
    /// 65 536 elements. [`Error::Memory`]: there is no room for the product.
    pub fn step(&self, e: Extents, x: &[i64], w: &[i64]) -> Result<Stepped> {
        if self.elements() > MOST_ELEMENTS {
            let found = format!("{} x {}", self.rows(), self.cols());
            return Err(Error::unsupported(
                "array",
                format!("at most {MOST_ELEMENTS} elements"),
                found,
            ));
        }
        for (argument, values, (rows, depth)) in [("x", x, (e.m, e.k)), ("w", w, (e.n, e.k))] {
            if u128::from(rows) * u128::from(depth) != values.len() as u128 {
                let found = format!("{} values", values.len());
                return Err(Error::shape(argument, format!("{rows} x {depth} values"), found));
            }
        }
        let outputs = usize::try_from(u128::from(e.m) * u128::from(e.n)).unwrap_or(usize::MAX);
        let mut product = Vec::new();
        if product.try_reserve_exact(outputs).is_err() {
            return Err(Error::memory(
                "product",
                format!("{} x {} values", e.m, e.n),
                "no such buffer",
            ));
        }
        product.resize(outputs, 0);
        if e.macs() == 0 {
            return Ok(Stepped {
                walk: self.walk(e),
                product,
            });
        }
        let per = self.products();
        let [m, n, k] = e.list().map(|extent| extent as usize);
        let [block_m, block_n, block_k] = [(per.m, m), (per.n, n), (per.k, k)].map(|(per, all)| all.min(per as usize));
        let operand = |values, rows, block_rows| Operand {
            values,
            rows,
            depth: k,
            block_rows,
            block_depth: block_k,
            reads: 0,
        };
        let (activations, weights) = (operand(x, m, block_m), operand(w, n, block_n));
        let swapped = self.dataflow() == Dataflow::InputStationary;
        let (left, top) = if swapped {
            (weights, activations)
        } else {
            (activations, weights)
        };
        let mut bench = Bench {
            rows: self.rows() as usize,
            cols: self.cols() as usize,
            sums: Sums {
                values: product,
                m,
                n,
                block_first: left.block_rows,
                block_second: top.block_rows,
                swapped,
                writes: 0,
                reads: 0,
            },
            left,
            top,
            folds: 0,
            cycles: 0,
        };
        let ((lefts, depth), (tops, _)) = (bench.left.blocks(), bench.top.blocks());
        let stays = self.dataflow() == Dataflow::OutputStationary;
        for fold_row in 0..if stays { lefts } else { depth }.div_ceil(bench.rows) {
            for fold_col in 0..tops.div_ceil(bench.cols) {
                if stays {
                    bench.fold_outputs(fold_row, fold_col);
                } else {
                    bench.fold_operand(fold_row, fold_col);
                }
            }
        }
        let (x, w) = if swapped {
            (bench.top, bench.left)
        } else {
            (bench.left, bench.top)
        };
        Ok(Stepped {
            walk: Walk {
                folds: bench.folds,
                cycles: bench.cycles,
                activation_reads: x.reads,
                weight_reads: w.reads,
                output_writes: bench.sums.writes,
                partial_reads: bench.sums.reads,
            },
            product: bench.sums.values,
        })
    }
}
