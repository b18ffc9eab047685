//! The fold of integers that a wrapped backend handed back, with the rest added. Definition and order are those of
//! [`reference`](crate::reference).
#![forbid(unsafe_code)]

use crate::base::error::Result;
use crate::base::float::{canonical, fma};
use crate::epilogue::{Epilogue, Output};
use crate::outlier::columns::Columns;
use crate::quant::activation::IntegerRow;
use crate::quant::matrix::QuantMatrix;
use crate::quant::rest::{Rest, total};
use crate::quant::sums::WeightShape;
use crate::reference::non_finite_sum;
use alloc::{vec, vec::Vec};

/// What turns integers into outputs, by group: scales and the fractions of float zero points, `[G, N]`.
#[derive(Debug, Clone)]
pub(super) struct Scales {
    n: usize,
    scales: Vec<f32>,
    fractions: Vec<f32>,
}

/// A row's place in the fold.
pub(super) struct RowSums<'a> {
    /// The row.
    pub(super) row: usize,
    /// Its clamped integers and non-finite inputs.
    pub(super) clamped: &'a IntegerRow,
    /// Sums of the clamped integers, `[G, N]`.
    pub(super) sums: &'a mut [i64],
}

impl Scales {
    pub(super) fn new(w: &QuantMatrix) -> Self {
        let all = || (0..w.groups()).flat_map(|g| (0..w.n()).map(move |n| (n, g)));
        Self {
            n: w.n(),
            scales: all().map(|(n, g)| w.scale(n, g)).collect(),
            fractions: all().map(|(n, g)| w.zero_fraction(n, g)).collect(),
        }
    }

    /// Scales and fractions of a group.
    pub(super) fn of_group(&self, g: usize) -> (&[f32], &[f32]) {
        let range = g * self.n..(g + 1) * self.n;
        (&self.scales[range.clone()], &self.fractions[range])
    }

    /// Continues `y` over all groups of a row.
    pub(super) fn fold(&self, rest: &Rest<'_>, w: &WeightShape, of: RowSums<'_>, y: &mut [f32]) {
        let RowSums { row, clamped, sums } = of;
        for (g, sums) in sums.chunks_exact_mut(self.n.max(1)).enumerate() {
            rest.add_64(row, g, sums);
            let (scales, fractions) = self.of_group(g);
            let inputs = g * w.group..((g + 1) * w.group).min(w.k);
            let b = clamped.integers[inputs].iter().sum::<i64>() + total(rest.terms(row, g)).0;
            for (n, y) in y.iter_mut().enumerate() {
                *y = fma(sums[n] as f32, scales[n], *y);
                if fractions[n] != 0.0 {
                    *y = fma(b as f32, -(scales[n] * fractions[n]), *y);
                }
            }
        }
    }

    /// Adds to `y` the sums of a row with non-finite inputs: of those inputs alone.
    pub(super) fn special(
        &self,
        columns: &dyn Columns,
        w: &WeightShape,
        inputs: &[(usize, f32)],
        y: &mut [f32],
    ) -> Result<()> {
        let mut levels = vec![0; self.n * inputs.len()];
        for ((k, _), levels) in inputs.iter().zip(levels.chunks_exact_mut(self.n.max(1))) {
            columns.read(*k, levels)?;
        }
        let sign = |v: f32| f32::from(i8::from(v > 0.0) - i8::from(v < 0.0));
        for (n, y) in y.iter_mut().enumerate() {
            let mut own = levels[n..].iter().step_by(self.n);
            let special = non_finite_sum(inputs, |k| {
                let (level, i) = (own.next().map_or(0, |&l| l), k / w.group * self.n + n);
                // q − z = (q − z0) − f
                sign(self.scales[i]) * sign(f32::from(level) - self.fractions[i])
            });
            *y = canonical(*y + special);
        }
        Ok(())
    }
}

/// Finishes a row with the epilogue and stores it.
pub(super) fn store(epilogue: Option<&Epilogue<'_>>, row: usize, t: f32, sums: &mut [f32], y: &mut Output<'_>) {
    match epilogue {
        Some(epilogue) => epilogue.finish(sums, row, 0, Some(t)),
        None => sums.iter_mut().for_each(|y| *y = canonical(*y)),
    }
    y.store(row, 0, sums);
}
