//! What is multiplied: one Gaussian matrix of weights for all peers, copies of it that differ, and activations.

use anyhow::{Context, Result};
use rayon::prelude::*;
use std::fs;
use std::path::Path;

/// Rows that one copy of the weights is turned further than the one before it: row `n` of copy `c` is row
/// `(n + c · TURN) mod N` of the matrix. Copies differ everywhere, and need no quantisation of their own.
pub(crate) const TURN: usize = 1009;

/// f32 operands, row by row.
pub(crate) struct Operands {
    pub(crate) n: usize,
    pub(crate) k: usize,
    /// N × K.
    pub(crate) w: Vec<f32>,
    /// As many rows of K as the largest product takes.
    pub(crate) x: Vec<f32>,
}

impl Operands {
    /// Standard normal numbers.
    pub(crate) fn new(n: usize, k: usize, m: usize) -> Self {
        let rows = |rows: usize, stream: u64| {
            let mut values = vec![0.0; rows * k];
            let fill = |(row, values): (usize, &mut [f32])| gaussian(stream << 32 | row as u64, values);
            values.par_chunks_mut(k).enumerate().for_each(fill);
            values
        };
        let (w, x) = (rows(n, 1), rows(m, 2));
        Self { n, k, w, x }
    }

    /// Leaves the operands where workers find them: `w.f32` and `x.f32`, little-endian.
    pub(crate) fn save(&self, directory: &Path) -> Result<()> {
        for (name, values) in [("w.f32", &self.w), ("x.f32", &self.x)] {
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            fs::write(directory.join(name), bytes)?;
        }
        Ok(())
    }

    /// Operands that were saved.
    pub(crate) fn load(directory: &Path, n: usize, k: usize) -> Result<Self> {
        let read = |name: &str| -> Result<Vec<f32>> {
            let bytes = fs::read(directory.join(name)).with_context(|| format!("reading {name}"))?;
            Ok(bytes
                .as_chunks::<4>()
                .0
                .iter()
                .map(|&b| f32::from_le_bytes(b))
                .collect())
        };
        let (w, x) = (read("w.f32")?, read("x.f32")?);
        Ok(Self { n, k, w, x })
    }

    /// The first `columns` outputs of row `row` of X, multiplied by copy `copy` in f64.
    pub(crate) fn reference(&self, row: usize, copy: usize, columns: usize) -> Vec<f64> {
        let x = &self.x[row * self.k..][..self.k];
        let column = |n: usize| {
            let w = &self.w[(n + copy * TURN) % self.n * self.k..][..self.k];
            w.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum()
        };
        (0..columns.min(self.n)).map(column).collect()
    }
}

/// `count` copies of `rows`, which are `n` pieces of equal length, each turned further than the one before.
pub(crate) fn copies<T: Clone>(rows: &[T], n: usize, count: usize) -> impl Iterator<Item = Vec<T>> {
    let width = rows.len() / n;
    (0..count).map(move |copy| {
        let mut rows = rows.to_vec();
        rows.rotate_left(copy * TURN % n * width);
        rows
    })
}

/// How many copies of `bits` a weight together exceed `bytes`; one where `bytes` is 0.
pub(crate) fn count(n: usize, k: usize, bits: f64, bytes: usize) -> usize {
    1 + (bytes as f64 / ((n * k) as f64 * bits / 8.0)) as usize
}

/// Fills `values` from a standard normal distribution: Marsaglia's xorshift, Box and Muller.
fn gaussian(seed: u64, values: &mut [f32]) {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut unit = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        ((state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 40) + 1) as f32 / (1u32 << 24) as f32
    };
    (0..8).for_each(|_| _ = unit());
    for pair in values.chunks_mut(2) {
        let radius = (-2.0 * unit().ln()).sqrt();
        let (sin, cos) = (std::f32::consts::TAU * unit()).sin_cos();
        pair.iter_mut()
            .zip([radius * cos, radius * sin])
            .for_each(|(v, x)| *v = x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operands_are_gaussian_and_rows_differ() {
        let Operands { w, x, k, .. } = Operands::new(128, 512, 4);
        let mean = |f: fn(f32) -> f32| w.iter().map(|&v| f64::from(f(v))).sum::<f64>() / w.len() as f64;
        assert!(mean(|v| v).abs() < 0.02 && (mean(|v| v * v) - 1.0).abs() < 0.02);
        assert!((mean(|v| v.powi(4)) - 3.0).abs() < 0.2);
        assert!(w[..k] != w[k..2 * k] && w[..k] != x[..k]);
    }

    #[test]
    fn copies_hold_the_rows_that_the_reference_multiplies() {
        let operands = Operands::new(2048, 8, 1);
        for (c, copy) in copies(&operands.w, 2048, 3).enumerate() {
            let dot: f64 = (0..8).map(|k| f64::from(copy[k]) * f64::from(operands.x[k])).sum();
            assert_eq!(operands.reference(0, c, 1), [dot]);
        }
    }

    #[test]
    fn copies_exceed_what_they_have_to() {
        assert_eq!(count(4096, 4096, 4.5, 0), 1);
        assert_eq!(count(4096, 4096, 4.0, 8 << 20), 2);
        assert_eq!(count(4096, 4096, 4.0, (8 << 20) - 1), 1);
    }
}
