//! Row-major matrix views with a row stride, checked once at birth.
//!
//! A view owns the right to its rows, not to what lies between them: a part of a larger matrix can be lent while others
//! hold the rest. So it is a pointer with a shape, and only a row is ever a slice.

use crate::base::error::{Error, Result};
use alloc::format;
use core::marker::PhantomData;
use core::ptr::NonNull;

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

/// The row stride of another library's view of `rows × cols` elements, given its strides (between rows, between columns),
/// if its rows are slices that do not overlap.
#[cfg(any(feature = "faer", feature = "ndarray"))]
pub(super) fn row_stride(
    argument: &'static str,
    expected: &str,
    (rows, cols): (usize, usize),
    strides: &[isize],
) -> Result<usize> {
    let stride = if rows > 1 && cols > 0 {
        strides[0]
    } else {
        cols as isize
    };
    match usize::try_from(stride) {
        Ok(stride) if stride >= cols && (strides[1] == 1 || cols < 2 || rows == 0) => Ok(stride),
        _ => Err(Error::shape(argument, expected, format!("strides {strides:?}"))),
    }
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
///
/// A view goes where a slice could go:
///
/// ```compile_fail,E0277
/// use core::cell::Cell;
/// let data = [Cell::new(1)];
/// let m = mixgemm::MatRef::row_major(&data, 1, 1).unwrap();
/// std::thread::scope(|s| s.spawn(move || m.row(0)[0].set(2)).join()); // Cell<i32> is not Sync
/// ```
#[derive(Debug)]
pub struct MatRef<'a, T> {
    base: NonNull<T>,
    rows: usize,
    cols: usize,
    stride: usize,
    borrow: PhantomData<&'a [T]>,
}

impl<T> Clone for MatRef<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for MatRef<'_, T> {}

// SAFETY: sharing a view shares references to its elements. It is used as `&[T]` only, which may be sent and shared when
// `T: Sync`. The `compile_fail` example of the type would compile without that bound.
unsafe impl<T: Sync> Send for MatRef<'_, T> {}

// SAFETY: as for `Send`: a shared view gives out `&[T]` and nothing else, for which `T: Sync` is enough. The same
// example covers it: the closure takes the view along.
unsafe impl<T: Sync> Sync for MatRef<'_, T> {}

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
        // SAFETY: every row must be readable for 'a. `check` found that the last one ends inside the slice borrowed for
        // 'a. `empty_views_of_any_shape_are_fine` and `overflowing_and_overlapping_views_are_refused` test the bounds.
        Ok(unsafe { Self::from_raw_parts(data.as_ptr(), rows, cols, stride) })
    }

    /// A matrix of which only the rows are borrowed: what lies between them may belong to others, or to nobody, as the
    /// padding of a library's own matrices does.
    ///
    /// ```
    /// use mixgemm::MatRef;
    /// let data = [1, 2, 3, 4, 5, 6];
    /// // SAFETY: two rows of two elements, the second starting with the fourth of six.
    /// let m = unsafe { MatRef::from_raw_parts(data.as_ptr(), 2, 2, 3) };
    /// assert_eq!(m.row(1), [4, 5]);
    /// ```
    ///
    /// # Safety
    /// When the matrix has elements: `data` is aligned, and for every `r < rows` the `cols` elements from `data +
    /// r·stride` on lie in one allocation, are initialised, and are written by nobody during `'a`. `stride ≥ cols` when
    /// there are two rows or more. A matrix without elements may have any pointer.
    #[must_use]
    pub unsafe fn from_raw_parts(data: *const T, rows: usize, cols: usize, stride: usize) -> Self {
        Self {
            base: NonNull::new(data.cast_mut()).unwrap_or(NonNull::dangling()),
            rows,
            cols,
            stride,
            borrow: PhantomData,
        }
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

    /// Element (0, 0), if there is one; else a pointer that must not be read.
    #[must_use]
    pub fn as_ptr(&self) -> *const T {
        self.base.as_ptr()
    }

    /// Row `r`. Panics when `r ≥ rows`, as slices do.
    #[must_use]
    pub fn row(&self, r: usize) -> &'a [T] {
        assert!(r < self.rows, "row {r} of a matrix with {} rows", self.rows);
        if self.cols == 0 {
            return &[];
        }
        // SAFETY: the elements must be readable and unwritten for 'a. `r < rows`, and that rows are is what a
        // constructor checked or its caller promised. `rows_are_where_the_stride_says` would see another element.
        unsafe { core::slice::from_raw_parts(self.base.as_ptr().add(r * self.stride), self.cols) }
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
        let mut part = Self { rows: len, ..*self };
        if len > 0 && self.cols > 0 {
            // SAFETY: the pointer must stay in the rows' allocation. `start < rows` since `len > 0`.
            // `rows_are_where_the_stride_says` would see another element.
            part.base = unsafe { self.base.add(start * self.stride) };
        }
        Ok(part)
    }
}

/// A writable `rows × cols` matrix over a slice: element `(r, c)` lies at `r·stride + c`.
///
/// A view goes where a slice could go:
///
/// ```compile_fail,E0277
/// use std::rc::Rc;
/// let mut data = [Rc::new(1)];
/// let mut m = mixgemm::MatMut::row_major(&mut data, 1, 1).unwrap();
/// std::thread::scope(|s| s.spawn(move || m.row_mut(0).fill(Rc::new(2))).join()); // Rc<i32> is not Send
/// ```
#[derive(Debug)]
pub struct MatMut<'a, T> {
    base: NonNull<T>,
    rows: usize,
    cols: usize,
    stride: usize,
    borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: a view that changes threads takes its elements along. It is used as `&mut [T]` only, which may be sent when
// `T: Send`. The `compile_fail` example of the type would compile without that bound.
unsafe impl<T: Send> Send for MatMut<'_, T> {}

// SAFETY: a shared view gives out `&[T]` only, by `as_ref`, for which `T: Sync` is enough: writing takes `&mut self`.
// `rows_are_read_by_many_threads` reads rows so; that bound is the one of `&mut [T]`.
unsafe impl<T: Sync> Sync for MatMut<'_, T> {}

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
        // SAFETY: every row must be ours for 'a. `check` found that the last one ends inside the slice borrowed for 'a,
        // and that rows do not overlap. `overflowing_and_overlapping_views_are_refused` tests the bounds.
        Ok(unsafe { Self::from_raw_parts(data.as_mut_ptr(), rows, cols, stride) })
    }

    /// A matrix of which only the rows are borrowed: what lies between them may belong to others, and is never touched.
    ///
    /// # Safety
    /// As for [`MatRef::from_raw_parts`], and nobody else reads or writes the rows during `'a`.
    #[must_use]
    pub unsafe fn from_raw_parts(data: *mut T, rows: usize, cols: usize, stride: usize) -> Self {
        Self {
            base: NonNull::new(data).unwrap_or(NonNull::dangling()),
            rows,
            cols,
            stride,
            borrow: PhantomData,
        }
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

    /// Element (0, 0), if there is one; else a pointer that must not be used.
    #[must_use]
    pub fn as_mut_ptr(&mut self) -> *mut T {
        self.base.as_ptr()
    }

    /// Row `r`. Panics when `r ≥ rows`, as slices do.
    #[must_use]
    pub fn row_mut(&mut self, r: usize) -> &mut [T] {
        assert!(r < self.rows, "row {r} of a matrix with {} rows", self.rows);
        if self.cols == 0 {
            return &mut [];
        }
        // SAFETY: the elements must be ours alone while the slice lives. `r < rows`, the rows are ours for 'a, and the
        // slice borrows `self`. `rows_are_where_the_stride_says` would see another element.
        unsafe { core::slice::from_raw_parts_mut(self.base.as_ptr().add(r * self.stride), self.cols) }
    }

    /// The same matrix, read-only.
    #[must_use]
    pub fn as_ref(&self) -> MatRef<'_, T> {
        MatRef {
            base: self.base,
            rows: self.rows,
            cols: self.cols,
            stride: self.stride,
            borrow: PhantomData,
        }
    }

    /// The same matrix for a shorter time.
    #[must_use]
    pub fn reborrow(&mut self) -> MatMut<'_, T> {
        MatMut { ..*self }
    }

    /// Columns `0..at` and columns `at..`, to be written apart: products whose outputs lie side by side share one
    /// matrix.
    ///
    /// ```
    /// use mixgemm::MatMut;
    /// let mut data = [0; 6];
    /// let (mut left, mut right) = MatMut::row_major(&mut data, 2, 3)?.split_cols(1)?;
    /// left.row_mut(1)[0] = 5;
    /// right.row_mut(0)[1] = 7;
    /// assert_eq!(data, [0, 0, 7, 5, 0, 0]);
    /// # Ok::<(), mixgemm::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] when there are fewer columns.
    pub fn split_cols(self, at: usize) -> Result<(Self, Self)> {
        if at > self.cols {
            let expected = format!("at most {} columns", self.cols);
            return Err(Error::shape("column", expected, format!("{at}")));
        }
        let mut right = Self {
            cols: self.cols - at,
            ..self
        };
        if right.cols > 0 && self.rows > 0 {
            // SAFETY: the pointer must stay in the first row. `at < cols` since the right part has columns.
            // `columns_are_split` would see another element.
            right.base = unsafe { self.base.add(at) };
        }
        Ok((Self { cols: at, ..self }, right))
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
    fn rows_are_where_the_stride_says() {
        let mut data: [u16; 11] = core::array::from_fn(|i| i as u16);
        let m = MatRef::with_stride(&data, 3, 3, 4).unwrap();
        assert_eq!([m.row(0), m.row(1), m.row(2)], [[0, 1, 2], [4, 5, 6], [8, 9, 10]]);
        assert_eq!(m.sub_rows(1, 2).unwrap().row(1), [8, 9, 10]);
        assert!(m.sub_rows(2, 2).is_err());
        assert_eq!(m.sub_rows(3, 0).unwrap().rows(), 0);
        let mut m = MatMut::with_stride(&mut data, 3, 3, 4).unwrap();
        m.reborrow().row_mut(2).fill(0);
        assert_eq!(m.as_ref().row(2), [0; 3]);
        assert_eq!(data, [0, 1, 2, 3, 4, 5, 6, 7, 0, 0, 0]);
    }

    #[test]
    fn rows_are_read_by_many_threads() {
        let mut data = [1u8; 4];
        let mut m = MatMut::row_major(&mut data, 2, 2).unwrap();
        std::thread::scope(|s| {
            let (read, also) = (m.as_ref(), &m);
            s.spawn(move || assert_eq!(read.row(1), [1; 2]));
            s.spawn(move || assert_eq!(also.as_ref().row(0), [1; 2]));
        });
        std::thread::scope(|s| s.spawn(move || m.row_mut(1).fill(2)).join().unwrap());
        assert_eq!(data, [1, 1, 2, 2]);
    }

    #[test]
    fn columns_are_split() {
        let mut data = [0u8; 7];
        for at in 0..=3 {
            let (mut left, mut right) = MatMut::with_stride(&mut data, 2, 3, 4).unwrap().split_cols(at).unwrap();
            for r in 0..2 {
                left.row_mut(r).fill(1);
                right.row_mut(r).fill(2);
            }
            let side = |c: usize| if c < at { 1 } else { 2 };
            assert_eq!(data, [side(0), side(1), side(2), 0, side(0), side(1), side(2)]);
        }
        assert!(MatMut::row_major(&mut data, 2, 3).unwrap().split_cols(4).is_err());
    }

    #[test]
    fn empty_views_of_any_shape_are_fine() {
        let data: [u8; 0] = [];
        assert_eq!(MatRef::row_major(&data, 0, 7).unwrap().cols(), 7);
        assert!(MatRef::row_major(&data, 7, 0).unwrap().row(6).is_empty());
        assert_eq!(
            MatRef::row_major(&data, 7, 0).unwrap().sub_rows(3, 2).unwrap().rows(),
            2
        );
    }
}
