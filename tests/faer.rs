//! Views of faer: in place where the elements of a row follow each other, an error that says why elsewhere.
#![forbid(unsafe_code)]
#![cfg(feature = "faer")]

use faer::Mat;
use mixgemm::{Error, MatMut, MatRef};

/// The transpose of what the tests see: column `r` of it is row `r`.
fn numbered(rows: usize, cols: usize) -> Mat<f32> {
    Mat::from_fn(cols, rows, |c, r| (10 * r + c) as f32)
}

#[test]
fn views_are_taken_in_place() {
    let a = numbered(5, 4);
    assert!(a.col_stride() > 4, "faer pads no columns: this test sees no gaps");
    let a = a.transpose();
    for view in [
        a,
        a.subrows(1, 2),
        a.subrows(2, 0),
        a.subcols(1, 3),
        a.submatrix(2, 1, 3, 2),
        a.subrows(3, 1),
        a.subcols(3, 1),
        a.subrows(3, 1).reverse_rows(),
        a.subcols(3, 1).reverse_cols(),
    ] {
        let m = MatRef::try_from(view).unwrap();
        assert_eq!((m.rows(), m.cols()), (view.nrows(), view.ncols()));
        for r in 0..m.rows() {
            for (c, x) in m.row(r).iter().enumerate() {
                assert!(std::ptr::eq(x, &view[(r, c)]), "element ({r}, {c})");
            }
        }
    }
}

#[test]
fn outputs_are_written_in_place() {
    let mut a = numbered(3, 3);
    let (left, mut right) = a.transpose_mut().split_at_col_mut(2);
    let mut left = MatMut::try_from(left).unwrap();
    left.row_mut(1).fill(7.0);
    right.fill(8.0);
    let expected = [[0.0, 1.0, 8.0], [7.0, 7.0, 8.0], [20.0, 21.0, 8.0]];
    for (r, row) in expected.iter().enumerate() {
        for (c, value) in row.iter().enumerate() {
            assert_eq!(a[(c, r)], *value);
        }
    }
}

#[test]
fn empty_views_fit() {
    for (rows, cols) in [(0, 7), (7, 0), (0, 0)] {
        let mut a = numbered(rows, cols);
        let m = MatRef::try_from(a.transpose()).unwrap();
        assert_eq!((m.rows(), m.cols()), (rows, cols));
        let m = MatMut::try_from(a.transpose_mut()).unwrap();
        assert_eq!((m.rows(), m.cols()), (rows, cols));
    }
}

#[test]
fn other_views_are_refused_with_their_strides() {
    let mut a = numbered(4, 3);
    let stride = a.col_stride();
    let rows = a.transpose();
    for (view, strides) in [
        (a.as_ref(), format!("strides [1, {stride}]")),
        (rows.reverse_rows(), format!("strides [-{stride}, 1]")),
        (rows.reverse_cols(), format!("strides [{stride}, -1]")),
    ] {
        let error = MatRef::try_from(view).unwrap_err();
        assert!(matches!(
            error,
            Error::Shape {
                argument: "faer view",
                ..
            }
        ));
        assert!(error.to_string().ends_with(&strides), "{error}");
    }
    let error = MatMut::try_from(a.as_mut()).unwrap_err();
    assert!(matches!(
        error,
        Error::Shape {
            argument: "faer output view",
            ..
        }
    ));
}

#[test]
fn matrices_become_views_with_their_gaps() {
    let data: Vec<f64> = (0..8).map(f64::from).collect();
    let view = faer::MatRef::from(MatRef::with_stride(&data, 2, 3, 5).unwrap());
    assert_eq!((view.nrows(), view.ncols()), (2, 3));
    for (r, c) in [(0, 0), (0, 2), (1, 0), (1, 2)] {
        assert!(std::ptr::eq(&view[(r, c)], &data[5 * r + c]));
    }
    assert_eq!(faer::MatRef::from(MatRef::row_major(&data, 0, 3).unwrap()).ncols(), 3);
}
