//! An owned dense row-major matrix, for callers that have none of their own.
#![forbid(unsafe_code)]

use crate::base::error::{Error, Result};
use crate::base::view::{MatMut, MatRef};
use alloc::{format, vec, vec::Vec};

/// A dense row-major `rows × cols` matrix.
///
/// ```
/// use mixgemm::Mat;
/// let m = Mat::from_fn(2, 3, |r, c| (10 * r + c) as f32);
/// assert_eq!(m.view().row(1), [10.0, 11.0, 12.0]);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Mat<T> {
    data: Vec<T>,
    rows: usize,
    cols: usize,
}

impl<T: Copy + Default> Mat<T> {
    /// A matrix of `T::default()`. Panics when `rows·cols` overflows, as `Vec` does.
    #[must_use]
    pub fn zeros(rows: usize, cols: usize) -> Self {
        let len = rows.checked_mul(cols).expect("rows * cols fits usize");
        Self {
            data: vec![T::default(); len],
            rows,
            cols,
        }
    }

    /// A matrix from `f(row, column)`.
    pub fn from_fn(rows: usize, cols: usize, mut f: impl FnMut(usize, usize) -> T) -> Self {
        let mut m = Self::zeros(rows, cols);
        for r in 0..rows {
            for c in 0..cols {
                m.data[r * cols + c] = f(r, c);
            }
        }
        m
    }

    /// A matrix over existing elements.
    ///
    /// # Errors
    /// [`Error::Shape`] unless there are exactly `rows·cols` elements.
    pub fn from_vec(data: Vec<T>, rows: usize, cols: usize) -> Result<Self> {
        if rows.checked_mul(cols) != Some(data.len()) {
            return Err(Error::shape(
                "matrix data",
                format!("{rows} x {cols} elements"),
                format!("{}", data.len()),
            ));
        }
        Ok(Self { data, rows, cols })
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// All elements, row after row.
    #[must_use]
    pub fn data(&self) -> &[T] {
        &self.data
    }

    /// A read-only view.
    #[must_use]
    pub fn view(&self) -> MatRef<'_, T> {
        MatRef::row_major(&self.data, self.rows, self.cols).expect("an owned matrix has rows * cols elements")
    }

    /// A writable view.
    #[must_use]
    pub fn view_mut(&mut self) -> MatMut<'_, T> {
        MatMut::row_major(&mut self.data, self.rows, self.cols).expect("an owned matrix has rows * cols elements")
    }
}
