//! ndarray's two-dimensional views as matrix views, and back.
#![forbid(unsafe_code)]

use crate::base::error::{Error, Result};
use crate::base::view::{MatMut, MatRef};
use alloc::format;
use ndarray::{ArrayView2, ArrayViewMut2, ShapeBuilder};

/// What a view must be for its elements to be one slice. A view with gaps, such as some columns of an array, has none:
/// the gaps may be lent to others.
fn not_dense(argument: &'static str, strides: &[isize]) -> Error {
    Error::shape(
        argument,
        "rows that follow each other in memory without gaps, as `as_standard_layout` makes them",
        format!("strides {strides:?}"),
    )
}

/// Rows that follow each other without gaps, in place.
///
/// ```
/// use mixgemm::{Host, MatMut, MatRef, Mode, QuantMatrix, Scheme};
/// use ndarray::Array2;
/// let weights = Array2::from_shape_fn((48, 64), |(n, k)| ((n * k) % 13) as f32 - 6.0);
/// let w = QuantMatrix::quantize(MatRef::try_from(weights.view())?, Scheme::int(4))?;
/// let (x, mut y) = (Array2::<f32>::ones((2, 64)), Array2::<f32>::zeros((2, 48)));
/// let gemm = Host::new().prepare(&w)?;
/// gemm.run(MatRef::try_from(x.view())?, Mode::A16, MatMut::try_from(y.view_mut())?)?;
/// let transposed = weights.t();
/// assert!(MatRef::try_from(transposed).is_err());
/// assert!(MatRef::try_from(transposed.as_standard_layout().view()).is_ok());
/// # assert_eq!(y.row(0), y.row(1));
/// # Ok::<(), mixgemm::Error>(())
/// ```
impl<'a, T> TryFrom<ArrayView2<'a, T>> for MatRef<'a, T> {
    type Error = Error;

    /// [`Error::Shape`] for a view that is transposed, reversed or has gaps between its rows.
    fn try_from(view: ArrayView2<'a, T>) -> Result<Self> {
        let (rows, cols) = view.dim();
        let data = view
            .to_slice()
            .ok_or_else(|| not_dense("ndarray view", view.strides()))?;
        Self::row_major(data, rows, cols)
    }
}

/// Rows that follow each other without gaps, in place.
impl<'a, T> TryFrom<ArrayViewMut2<'a, T>> for MatMut<'a, T> {
    type Error = Error;

    /// [`Error::Shape`] for a view that is transposed, reversed or has gaps between its rows.
    fn try_from(view: ArrayViewMut2<'a, T>) -> Result<Self> {
        let (rows, cols) = view.dim();
        if !view.is_standard_layout() {
            return Err(not_dense("ndarray output view", view.strides()));
        }
        let data = view.into_slice().unwrap_or_default();
        Self::row_major(data, rows, cols)
    }
}

/// The same elements, in place; rows may have gaps between them.
impl<'a, T> TryFrom<MatRef<'a, T>> for ArrayView2<'a, T> {
    type Error = Error;

    /// [`Error::Shape`] for an empty matrix with more rows or columns than ndarray counts.
    fn try_from(matrix: MatRef<'a, T>) -> Result<Self> {
        let (rows, cols) = (matrix.rows(), matrix.cols());
        let shape = (rows, cols).strides((matrix.stride(), 1));
        Self::from_shape(shape, matrix.data()).map_err(|e| {
            Error::shape(
                "matrix view",
                "a shape that ndarray has",
                format!("{rows} x {cols} ({e})"),
            )
        })
    }
}
