//! Row-major matrix views with a row stride, checked once at birth.
#![forbid(unsafe_code)]

use crate::base::error::{Error, Result};
use alloc::format;

/// Elements that a `rows × cols` view with this row stride touches.
fn extent(argument: &'static str, rows: usize, cols: usize, stride: usize) -> Result<usize> {
    if stride < cols && rows > 1 {
        return Err(Error::shape(
            argument,
            format!("a row stride of at least {cols}"),
            format!("{stride}"),
        ));
    }
    if rows == 0 || cols == 0 {
        return Ok(0);
    }
    (rows - 1)
        .checked_mul(stride)
        .and_then(|x| x.checked_add(cols))
        .ok_or_else(|| {
            Error::shape(
                argument,
                "a size that fits usize",
                format!("{rows} rows of stride {stride}"),
            )
        })
}

fn check(argument: &'static str, len: usize, rows: usize, cols: usize, stride: usize) -> Result<()> {
    let need = extent(argument, rows, cols, stride)?;
    if len < need {
        let expected = format!("at least {need} elements for {rows} x {cols} with row stride {stride}");
        return Err(Error::shape(argument, expected, format!("{len}")));
    }
    Ok(())
}

/// A read-only `rows × cols` matrix over a slice: element `(r, c)` lies at `r·stride + c`.
///
/// ```
/// use mixgemm::MatRef;
/// let data = [1, 2, 3, 4, 5, 6, 7, 8];
/// let m = MatRef::with_stride(&data, 2, 3, 4)?;
/// assert_eq!(m.row(1), [5, 6, 7]);
/// assert!(MatRef::row_major(&data, 3, 3).is_err());
/// # Ok::<(), mixgemm::Error>(())
/// ```
#[derive(Debug)]
pub struct MatRef<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    stride: usize,
}

impl<T> Clone for MatRef<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for MatRef<'_, T> {}

impl<'a, T> MatRef<'a, T> {
    /// A dense row-major matrix. The slice may be longer than `rows·cols`.
    ///
    /// # Errors
    /// [`Error::Shape`] when the slice is too short or the size overflows.
    pub fn row_major(data: &'a [T], rows: usize, cols: usize) -> Result<Self> {
        Self::with_stride(data, rows, cols, cols)
    }

    /// A matrix whose rows start `stride` elements apart.
    ///
    /// # Errors
    /// [`Error::Shape`] when rows would overlap, the slice is too short or the size overflows.
    pub fn with_stride(data: &'a [T], rows: usize, cols: usize, stride: usize) -> Result<Self> {
        check("matrix view", data.len(), rows, cols, stride)?;
        Ok(Self {
            data,
            rows,
            cols,
            stride,
        })
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

    /// Elements between the starts of neighbouring rows.
    #[must_use]
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Row `r`. Panics when `r ≥ rows`, as slices do.
    #[must_use]
    pub fn row(&self, r: usize) -> &'a [T] {
        assert!(r < self.rows, "row {r} of a matrix with {} rows", self.rows);
        if self.cols == 0 {
            return &[];
        }
        &self.data[r * self.stride..][..self.cols]
    }

    /// The slice from element (0, 0) on, with rows `stride` apart.
    #[cfg(feature = "ndarray")]
    pub(super) fn data(&self) -> &'a [T] {
        self.data
    }

    /// `len` rows from row `start` on.
    ///
    /// # Errors
    /// [`Error::Shape`] when they reach past the last row.
    pub fn sub_rows(&self, start: usize, len: usize) -> Result<Self> {
        if start.checked_add(len).is_none_or(|end| end > self.rows) {
            return Err(Error::shape(
                "row range",
                format!("within {} rows", self.rows),
                format!("{start} + {len}"),
            ));
        }
        let data = if len == 0 || self.cols == 0 {
            &[]
        } else {
            &self.data[start * self.stride..]
        };
        Ok(Self {
            data,
            rows: len,
            ..*self
        })
    }
}

/// A writable `rows × cols` matrix over a slice: element `(r, c)` lies at `r·stride + c`.
#[derive(Debug)]
pub struct MatMut<'a, T> {
    data: &'a mut [T],
    rows: usize,
    cols: usize,
    stride: usize,
}

impl<'a, T> MatMut<'a, T> {
    /// A dense row-major matrix. The slice may be longer than `rows·cols`.
    ///
    /// # Errors
    /// [`Error::Shape`] when the slice is too short or the size overflows.
    pub fn row_major(data: &'a mut [T], rows: usize, cols: usize) -> Result<Self> {
        Self::with_stride(data, rows, cols, cols)
    }

    /// A matrix whose rows start `stride` elements apart; the elements between rows are never touched.
    ///
    /// # Errors
    /// [`Error::Shape`] when rows would overlap, the slice is too short or the size overflows.
    pub fn with_stride(data: &'a mut [T], rows: usize, cols: usize, stride: usize) -> Result<Self> {
        check("output view", data.len(), rows, cols, stride)?;
        Ok(Self {
            data,
            rows,
            cols,
            stride,
        })
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

    /// Elements between the starts of neighbouring rows.
    #[must_use]
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Row `r`. Panics when `r ≥ rows`, as slices do.
    #[must_use]
    pub fn row_mut(&mut self, r: usize) -> &mut [T] {
        assert!(r < self.rows, "row {r} of a matrix with {} rows", self.rows);
        if self.cols == 0 {
            return &mut [];
        }
        &mut self.data[r * self.stride..][..self.cols]
    }

    /// The same matrix, read-only.
    #[must_use]
    pub fn as_ref(&self) -> MatRef<'_, T> {
        MatRef {
            data: self.data,
            rows: self.rows,
            cols: self.cols,
            stride: self.stride,
        }
    }

    /// The same matrix for a shorter time.
    #[must_use]
    pub fn reborrow(&mut self) -> MatMut<'_, T> {
        MatMut {
            data: self.data,
            rows: self.rows,
            cols: self.cols,
            stride: self.stride,
        }
    }

    /// The slice from element (0, 0) on, with rows `stride` apart.
    pub(crate) fn into_data(self) -> &'a mut [T] {
        self.data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overflowing_and_overlapping_views_are_refused() {
        let data = [0u8; 4];
        assert!(MatRef::with_stride(&data, usize::MAX, 2, usize::MAX).is_err());
        assert!(MatRef::with_stride(&data, 2, 2, 1).is_err());
        assert!(MatRef::row_major(&data, 2, 3).is_err());
    }

    #[test]
    fn empty_views_of_any_shape_are_fine() {
        let data: [u8; 0] = [];
        assert_eq!(MatRef::row_major(&data, 0, 7).unwrap().cols(), 7);
        assert_eq!(MatRef::row_major(&data, 7, 0).unwrap().row(6), []);
        assert_eq!(
            MatRef::row_major(&data, 7, 0).unwrap().sub_rows(3, 2).unwrap().rows(),
            2
        );
    }
}
