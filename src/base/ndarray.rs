//! ndarray's two-dimensional views as matrix views, and back.

use crate::base::error::{Error, Result};
use crate::base::view::{MatMut, MatRef, row_stride};
use alloc::format;
use ndarray::{ArrayView2, ArrayViewMut2, ShapeBuilder};

const EXPECTED: &str = "rows whose elements follow each other in memory, as `as_standard_layout` makes them";

/// The same elements, in place. Rows may have gaps between them: some columns of an array, every other row.
///
/// ```
/// use mixgemm::{Host, MatMut, MatRef, Mode, QuantMatrix, Scheme};
/// use ndarray::{Array2, s};
/// let weights = Array2::from_shape_fn((48, 64), |(n, k)| ((n * k) % 13) as f32 - 6.0);
/// let w = QuantMatrix::quantize(MatRef::try_from(weights.view())?, Scheme::int(4))?;
/// let (x, mut y) = (Array2::<f32>::ones((2, 80)), Array2::<f32>::zeros((2, 48)));
/// let gemm = Host::new().prepare(&w)?;
/// gemm.run(MatRef::try_from(x.slice(s![.., 16..]))?, Mode::A16, MatMut::try_from(y.view_mut())?)?;
/// let transposed = weights.t();
/// assert!(MatRef::try_from(transposed).is_err());
/// assert!(MatRef::try_from(transposed.as_standard_layout().view()).is_ok());
/// # assert_eq!(y.row(0), y.row(1));
/// # Ok::<(), mixgemm::Error>(())
/// ```
impl<'a, T> TryFrom<ArrayView2<'a, T>> for MatRef<'a, T> {
    type Error = Error;

    /// [`Error::Shape`] for a view that is transposed, reversed or repeats its rows.
    fn try_from(view: ArrayView2<'a, T>) -> Result<Self> {
        let stride = row_stride("ndarray view", EXPECTED, view.dim(), view.strides())?;
        // SAFETY: the rows must be readable for 'a. They are the view's, which is borrowed for 'a, with the stride
        // between them that it has. `views_are_taken_in_place` in tests/ndarray.rs reads each of them.
        Ok(unsafe { Self::from_raw_parts(view.as_ptr(), view.nrows(), view.ncols(), stride) })
    }
}

/// The same elements, in place; the elements between rows are never touched.
impl<'a, T> TryFrom<ArrayViewMut2<'a, T>> for MatMut<'a, T> {
    type Error = Error;

    /// [`Error::Shape`] for a view that is transposed or reversed.
    fn try_from(mut view: ArrayViewMut2<'a, T>) -> Result<Self> {
        let stride = row_stride("ndarray output view", EXPECTED, view.dim(), view.strides())?;
        // SAFETY: the rows must be ours alone for 'a. The view that owned them for 'a is consumed here.
        // `outputs_are_written_in_place` in tests/ndarray.rs would see an element that is not the view's.
        Ok(unsafe { Self::from_raw_parts(view.as_mut_ptr(), view.nrows(), view.ncols(), stride) })
    }
}

/// The same elements, in place; rows may have gaps between them.
impl<'a, T> TryFrom<MatRef<'a, T>> for ArrayView2<'a, T> {
    type Error = Error;

    /// [`Error::Shape`] for an empty matrix with more rows or columns than ndarray counts.
    fn try_from(matrix: MatRef<'a, T>) -> Result<Self> {
        let (rows, cols) = (matrix.rows(), matrix.cols());
        if rows == 0 || cols == 0 {
            return Self::from_shape((rows, cols), &[]).map_err(|e| {
                let found = format!("{rows} x {cols} ({e})");
                Error::shape("matrix view", "a shape that ndarray has", found)
            });
        }
        let stride = if rows > 1 { matrix.stride() } else { cols };
        let shape = (rows, cols).strides((stride, 1));
        // SAFETY: ndarray asks for elements that are readable for 'a, in an allocation of at most isize::MAX bytes, at
        // strides that do not overlap. A matrix view has had the same asked of it; a single row may have any stride, so
        // it gets its length. `matrices_become_arrays_with_their_gaps` in tests/ndarray.rs reads them.
        Ok(unsafe { Self::from_shape_ptr(shape, matrix.as_ptr()) })
    }
}
