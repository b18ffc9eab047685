//! Views of ndarray: in place where the elements of a row follow each other, an error that says why elsewhere.
// `s!` expands to code that allows unsafe, which a `forbid` refuses.
#![deny(unsafe_code)]
#![cfg(feature = "ndarray")]

use mixgemm::{Error, MatMut, MatRef, f16};
use ndarray::{Array2, ArrayView2, s};

fn numbered(rows: usize, cols: usize) -> Array2<f32> {
    Array2::from_shape_fn((rows, cols), |(r, c)| (10 * r + c) as f32)
}

#[test]
fn views_are_taken_in_place() {
    let a = numbered(5, 4);
    for view in [
        a.view(),
        a.slice(s![1..3, ..]),
        a.slice(s![2..2, ..]),
        a.slice(s![.., 1..]),
        a.slice(s![..;2, 1..3]),
        a.slice(s![1..;3, ..2]),
        a.slice(s![2..3, ..]),
        a.slice(s![2..3;-1, 1..]),
        a.slice(s![.., 3..]),
        a.slice(s![.., 1..2;-1]),
    ] {
        let m = MatRef::try_from(view).unwrap();
        assert_eq!((m.rows(), m.cols()), view.dim());
        for (i, row) in view.outer_iter().enumerate() {
            assert_eq!(m.row(i), row.to_vec());
            assert_eq!(m.row(i).as_ptr(), row.as_ptr());
        }
    }
}

#[test]
fn outputs_are_written_in_place() {
    let mut a = numbered(4, 3);
    MatMut::try_from(a.slice_mut(s![1..3, ..])).unwrap().row_mut(1)[2] = -1.0;
    let (left, mut right) = a.multi_slice_mut((s![..;2, ..2], s![..;2, 2..]));
    let mut left = MatMut::try_from(left).unwrap();
    left.row_mut(1).fill(7.0);
    right.fill(8.0);
    let expected = [[0.0, 1.0, 8.0], [10.0, 11.0, 12.0], [7.0, 7.0, 8.0], [30.0, 31.0, 32.0]];
    assert_eq!(a, ndarray::arr2(&expected));
}

#[test]
fn columns_and_empty_views_fit() {
    let a = Array2::<f16>::from_elem((5, 1), f16::ONE);
    assert_eq!(MatRef::try_from(a.view()).unwrap().row(4), [f16::ONE]);
    for (rows, cols) in [(0, 7), (7, 0), (0, 0)] {
        let mut a = numbered(rows, cols);
        let m = MatRef::try_from(a.view()).unwrap();
        assert_eq!((m.rows(), m.cols()), (rows, cols));
        let m = MatMut::try_from(a.view_mut()).unwrap();
        assert_eq!((m.rows(), m.cols()), (rows, cols));
    }
}

#[test]
fn other_views_are_refused_with_their_strides() {
    let mut a = numbered(4, 3);
    let repeated = ndarray::arr1(&[1.0, 2.0, 3.0]);
    for (view, strides) in [
        (a.t(), "[1, 3]"),
        (a.slice(s![..;-1, ..]), "[-3, 1]"),
        (a.slice(s![.., ..;-1]), "[3, -1]"),
        (a.slice(s![.., ..;2]), "[3, 2]"),
        (repeated.broadcast((4, 3)).unwrap(), "[0, 1]"),
    ] {
        let error = MatRef::try_from(view).unwrap_err();
        assert!(matches!(
            error,
            Error::Shape {
                argument: "ndarray view",
                ..
            }
        ));
        assert!(error.to_string().ends_with(&format!("strides {strides}")), "{error}");
    }
    let error = MatMut::try_from(a.view_mut().reversed_axes()).unwrap_err();
    assert!(matches!(
        error,
        Error::Shape {
            argument: "ndarray output view",
            ..
        }
    ));
}

#[test]
fn matrices_become_arrays_with_their_gaps() {
    let data: Vec<u32> = (0..8).collect();
    let m = MatRef::with_stride(&data, 2, 3, 5).unwrap();
    let a = ArrayView2::try_from(m).unwrap();
    assert_eq!(a, ndarray::arr2(&[[0, 1, 2], [5, 6, 7]]));
    assert!(std::ptr::eq(&a[(1, 0)], &data[5]));
    let empty = MatRef::row_major(&data, 0, 3).unwrap();
    assert_eq!(ArrayView2::try_from(empty).unwrap().dim(), (0, 3));
    let row = MatRef::with_stride(&data, 1, 3, usize::MAX).unwrap();
    assert_eq!(ArrayView2::try_from(row).unwrap(), ndarray::arr2(&[[0, 1, 2]]));
    let endless = MatRef::row_major(&data, usize::MAX, 0).unwrap();
    assert!(ArrayView2::try_from(endless).is_err());
}
