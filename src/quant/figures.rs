//! Error figures: how far an approximation is from its reference, in one pass and in f64.
#![forbid(unsafe_code)]

use crate::base::error::{Error, Result};
use crate::base::float::Element;
use crate::base::mat::Mat;
use crate::base::view::MatRef;
use crate::quant::matrix::QuantMatrix;
use alloc::{format, vec, vec::Vec};

/// How far an approximation is from its reference. Non-finite entries show as NaN or infinite figures.
///
/// ```
/// use mixgemm::{Figures, Mat};
/// let reference = Mat::from_vec(vec![3.0, 4.0], 1, 2)?;
/// let approximation = Mat::from_vec(vec![3.0, 4.5], 1, 2)?;
/// let f = Figures::of_f32(reference.view(), approximation.view())?;
/// assert_eq!((f.relative, f.sqnr_db, f.worst, f.worst_at), (0.1, 20.0, 0.5, (0, 1)));
/// # Ok::<(), mixgemm::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    /// Frobenius norm of the difference over that of the reference; 0 for equal matrices.
    pub relative: f64,
    /// `10·log10(Σ reference² / Σ difference²)` in dB; +∞ for equal matrices.
    pub sqnr_db: f64,
    /// The largest absolute difference; NaN when any difference is NaN.
    pub worst: f64,
    /// Row and column of the first such difference; (0, 0) for equal matrices.
    pub worst_at: (usize, usize),
}

impl Figures {
    /// Figures of `approximation` against an f64 reference of the same shape.
    ///
    /// # Errors
    /// [`Error::Shape`] when the shapes differ.
    pub fn between(reference: MatRef<'_, f64>, approximation: MatRef<'_, f32>) -> Result<Self> {
        measure(reference, approximation, |x| x)
    }

    /// Figures of `approximation` against an f32 reference of the same shape.
    ///
    /// # Errors
    /// [`Error::Shape`] when the shapes differ.
    pub fn of_f32(reference: MatRef<'_, f32>, approximation: MatRef<'_, f32>) -> Result<Self> {
        measure(reference, approximation, f64::from)
    }
}

fn measure<T: Copy>(reference: MatRef<'_, T>, approximation: MatRef<'_, f32>, f64_of: fn(T) -> f64) -> Result<Figures> {
    let (rows, cols) = (reference.rows(), reference.cols());
    if (approximation.rows(), approximation.cols()) != (rows, cols) {
        let found = format!("{} x {}", approximation.rows(), approximation.cols());
        return Err(Error::shape("approximation", format!("{rows} x {cols}"), found));
    }
    let (mut signal, mut noise) = (0f64, 0f64);
    let (mut worst, mut worst_at) = (0f64, (0, 0));
    for r in 0..rows {
        for (c, (&x, &y)) in reference.row(r).iter().zip(approximation.row(r)).enumerate() {
            let x = f64_of(x);
            let difference = (f64::from(y) - x).abs();
            signal += x * x;
            noise += difference * difference;
            if difference > worst || (difference.is_nan() && !worst.is_nan()) {
                (worst, worst_at) = (difference, (r, c));
            }
        }
    }
    let equal = noise == 0.0 && !signal.is_nan();
    Ok(Figures {
        relative: if equal { 0.0 } else { libm::sqrt(noise / signal) },
        sqnr_db: if equal {
            f64::INFINITY
        } else {
            10.0 * libm::log10(signal / noise)
        },
        worst,
        worst_at,
    })
}

impl QuantMatrix {
    /// Figures of these weights against the floats they stand for, N × K.
    ///
    /// ```
    /// use mixgemm::{Mat, QuantMatrix, Scheme};
    /// let w = Mat::from_fn(2, 64, |n, k| ((n * 64 + k) as f32).sin());
    /// let eight = QuantMatrix::quantize(w.view(), Scheme::int(8))?.quantization_error(w.view())?;
    /// let four = QuantMatrix::quantize(w.view(), Scheme::int(4))?.quantization_error(w.view())?;
    /// assert!(eight.relative < 0.01 && four.relative > 10.0 * eight.relative);
    /// # Ok::<(), mixgemm::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] unless `weights` is N × K.
    pub fn quantization_error<T: Element>(&self, weights: MatRef<'_, T>) -> Result<Figures> {
        measure(weights, self.dequantize().view(), |w| f64::from(w.to_f32()))
    }
}

fn dense_f64<T: Element>(m: MatRef<'_, T>) -> Vec<f64> {
    let rows = (0..m.rows()).flat_map(|r| m.row(r));
    rows.map(|x| f64::from(x.to_f32())).collect()
}

/// `Σ a·b` in eight interleaved partial sums.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    const LANES: usize = 8;
    let mut sums = [0f64; LANES];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        for i in 0..LANES {
            sums[i] += a[i] * b[i];
        }
    }
    for (sum, (a, b)) in sums.iter_mut().zip(a_rest.iter().zip(b_rest)) {
        *sum += a * b;
    }
    sums.iter().sum()
}

/// The yardstick product `X · Wᵀ` of X, M × K, and W, N × K, in f64: M × N. The order of summation is fixed, so the
/// result does not depend on the number of threads.
///
/// ```
/// use mixgemm::{Mat, quant::figures::product_f64};
/// let x = Mat::<f32>::from_vec(vec![1.0, 2.0, 3.0], 1, 3)?;
/// let w = Mat::<f32>::from_vec(vec![1.0, 1.0, 1.0, 0.0, 0.5, 0.0], 2, 3)?;
/// assert_eq!(product_f64(x.view(), w.view())?.data(), [6.0, 1.0]);
/// # Ok::<(), mixgemm::Error>(())
/// ```
///
/// # Errors
/// [`Error::Shape`] when K differs.
pub fn product_f64<A: Element, B: Element>(x: MatRef<'_, A>, w: MatRef<'_, B>) -> Result<Mat<f64>> {
    let (m, n, k) = (x.rows(), w.rows(), x.cols());
    if w.cols() != k {
        return Err(Error::shape(
            "w",
            format!("K = {k}, as x has"),
            format!("K = {}", w.cols()),
        ));
    }
    let mut y = vec![0f64; m * n];
    if n > 0 && k > 0 {
        let (x, w) = (dense_f64(x), dense_f64(w));
        let row = |(x, y): (&[f64], &mut [f64])| {
            for (y, w) in y.iter_mut().zip(w.chunks_exact(k)) {
                *y = dot(x, w);
            }
        };
        #[cfg(feature = "rayon")]
        {
            use rayon::prelude::*;
            x.par_chunks_exact(k).zip(y.par_chunks_exact_mut(n)).for_each(row);
        }
        #[cfg(not(feature = "rayon"))]
        x.chunks_exact(k).zip(y.chunks_exact_mut(n)).for_each(row);
    }
    Mat::from_vec(y, m, n)
}
