//! What results are compared with: the definition of a product, the f64 product, and bits.
#![forbid(unsafe_code)]

use mixgemm::{Activations, Epilogue, InputScale, Mat, MatMut, MatRef, Mode, QuantMatrix, Result, reference};
use rayon::prelude::*;

/// What [`reference`] makes of a product, rows on all threads of the current pool: a row's output depends on no other.
pub(crate) fn defined(w: &QuantMatrix, x: Activations<'_>, mode: Mode) -> Result<Mat<f32>> {
    let (m, n) = (x.shape().0, w.n());
    let rows = m.div_ceil(4 * rayon::current_num_threads()).max(1);
    let mut data = vec![0.0; m * n];
    data.par_chunks_mut((rows * n).max(1))
        .enumerate()
        .try_for_each(|(i, y)| {
            let len = y.len() / n;
            let y = MatMut::row_major(y, len, n)?;
            reference::run(w, x.sub_rows(i * rows, len)?, mode, &Epilogue::new(), y.into()).map(drop)
        })?;
    Mat::from_vec(data, m, n)
}

/// int8 input stands for `t·a`; the scale joins the f64 product, where it costs no precision.
pub(crate) fn scale_rows(product: &mut Mat<f64>, scale: InputScale<'_>) {
    let mut view = product.view_mut();
    for m in 0..view.rows() {
        let t = match scale {
            InputScale::Tensor(t) => t,
            InputScale::Rows(t) => t[m],
        };
        view.row_mut(m).iter_mut().for_each(|y| *y *= f64::from(t));
    }
}

/// Whether two results are the same, bit for bit.
pub(crate) fn same_bits(a: MatRef<'_, f32>, b: MatRef<'_, f32>) -> bool {
    let same = |r| a.row(r).iter().zip(b.row(r)).all(|(a, b)| a.to_bits() == b.to_bits());
    (a.rows(), a.cols()) == (b.rows(), b.cols()) && (0..a.rows()).all(same)
}
