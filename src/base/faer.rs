//! faer's matrix views as matrix views, and back.
//!
//! faer's own matrices lie column by column: the transpose of a `K × M` one is activations `[M, K]` in rows. They are
//! padded, so that each column starts on a cache line; what is between two of them is never read or written.

use crate::base::error::{Error, Result};
use crate::base::view::{MatMut, MatRef, row_stride};

const EXPECTED: &str = "rows whose elements follow each other in memory, as those of a transposed `Mat` do";

/// The same elements, in place; rows may have gaps between them.
///
/// ```
/// use faer::Mat;
/// use mixgemm::{Host, MatMut, MatRef, Mode, QuantMatrix, Scheme};
/// let weights = Mat::from_fn(70, 48, |k, n| ((n * k) % 13) as f32 - 6.0); // [K, N], column by column
/// let w = QuantMatrix::quantize(MatRef::try_from(weights.transpose())?, Scheme::int(4))?;
/// let (x, mut y) = (Mat::<f32>::ones(70, 2), Mat::<f32>::zeros(48, 2)); // a column is a token
/// let gemm = Host::new().prepare(&w)?;
/// gemm.run(MatRef::try_from(x.transpose())?, Mode::A16, MatMut::try_from(y.transpose_mut())?)?;
/// assert!(MatRef::try_from(x.as_ref()).is_err()); // its columns are dense, its rows are not
/// # assert_eq!(y.col(0), y.col(1));
/// # Ok::<(), mixgemm::Error>(())
/// ```
impl<'a, T> TryFrom<faer::MatRef<'a, T>> for MatRef<'a, T> {
    type Error = Error;

    /// [`Error::Shape`] for a view whose columns are dense, that is reversed, or that repeats its rows.
    fn try_from(view: faer::MatRef<'a, T>) -> Result<Self> {
        let shape = (view.nrows(), view.ncols());
        let stride = row_stride("faer view", EXPECTED, shape, &[view.row_stride(), view.col_stride()])?;
        // SAFETY: the rows must be readable for 'a. They are the view's, which is borrowed for 'a, with the stride
        // between them that it has. `views_are_taken_in_place` in tests/faer.rs reads each of them.
        Ok(unsafe { Self::from_raw_parts(view.as_ptr(), shape.0, shape.1, stride) })
    }
}

/// The same elements, in place; the elements between rows are never touched.
impl<'a, T> TryFrom<faer::MatMut<'a, T>> for MatMut<'a, T> {
    type Error = Error;

    /// [`Error::Shape`] for a view whose columns are dense, or that is reversed.
    fn try_from(view: faer::MatMut<'a, T>) -> Result<Self> {
        let shape = (view.nrows(), view.ncols());
        let stride = row_stride(
            "faer output view",
            EXPECTED,
            shape,
            &[view.row_stride(), view.col_stride()],
        )?;
        // SAFETY: the rows must be ours alone for 'a. The view that owned them for 'a is consumed here.
        // `outputs_are_written_in_place` in tests/faer.rs would see an element that is not the view's.
        Ok(unsafe { Self::from_raw_parts(view.as_ptr_mut(), shape.0, shape.1, stride) })
    }
}

/// The same elements, in place; rows may have gaps between them.
impl<'a, T> From<MatRef<'a, T>> for faer::MatRef<'a, T> {
    fn from(matrix: MatRef<'a, T>) -> Self {
        let (rows, cols) = (matrix.rows(), matrix.cols());
        // SAFETY: faer asks for elements that are readable for 'a. A matrix view has had the same asked of it, its
        // stride fits isize when it has two rows, and one of no elements is read by neither.
        // `matrices_become_views_with_their_gaps` in tests/faer.rs reads them.
        unsafe { Self::from_raw_parts(matrix.as_ptr(), rows, cols, matrix.stride() as isize, 1) }
    }
}
