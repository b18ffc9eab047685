//! How far a device that rounds may be from the exact product.
//!
//! A path of m roundings of unit u moves a term by at most `γ_m = m·u/(1 − m·u)` of its magnitude (N. J. Higham, Accuracy
//! and Stability of Numerical Algorithms, 2nd edition, section 3.1); `u` is 2^-24 in f32 and 2^-11 in f16. Results below
//! the normal numbers add an absolute error. Both are summed over all terms of an output. An f16 that left its range has
//! no bound: [`Counters::overflows`](crate::Counters) counts those.
#![forbid(unsafe_code)]

use crate::accel::element::float::{FloatElement, Roundings};
use crate::accel::float_device::{FloatDevice, meaning};
use crate::base::error::{Error, Result};
use crate::base::float::pow2;
use crate::base::mat::Mat;
use crate::base::view::MatRef;
use crate::quant::matrix::QuantMatrix;
use alloc::format;
use half::f16;

impl Roundings {
    /// The largest relative error of a term: `(1 + γ_half)·(1 + γ_single) − 1`; infinite where m·u reaches 1.
    ///
    /// ```
    /// use mixgemm::accel::element::float::Roundings;
    /// assert_eq!(Roundings { half: 0, single: 1 }.relative(), 1.0 / (16_777_216.0 - 1.0));
    /// assert_eq!(Roundings { half: 2048, single: 0 }.relative(), f64::INFINITY);
    /// ```
    #[must_use]
    pub fn relative(self) -> f64 {
        let gamma = |roundings: usize, unit: f64| {
            let part = roundings as f64 * unit;
            if part < 1.0 { part / (1.0 - part) } else { f64::INFINITY }
        };
        let (half, single) = (gamma(self.half, 1.0 / 2048.0), gamma(self.single, 1.0 / 16_777_216.0));
        half + single + if half * single > 0.0 { half * single } else { 0.0 }
    }
}

impl<E: FloatElement> FloatDevice<E> {
    /// The largest distance `[M, N]` of a sum, before the epilogue, from `Σ s·(q − z)·x` in exact arithmetic, as long as
    /// no f16 leaves its range.
    ///
    /// ```
    /// use mixgemm::accel::catalogue::fp16;
    /// use mixgemm::{Mat, QuantMatrix, Scheme, f16};
    /// let w = QuantMatrix::quantize(Mat::from_fn(1, 4, |_, k| k as f32).view(), Scheme::int(4))?;
    /// let x = Mat::from_fn(1, 4, |_, _| f16::ONE);
    /// let bound = fp16::array().bound(&w, x.view())?.data()[0];
    /// assert!(bound > 0.0 && bound < 0.01);
    /// # Ok::<(), mixgemm::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] when K differs.
    pub fn bound(&self, w: &QuantMatrix, x: MatRef<'_, f16>) -> Result<Mat<f64>> {
        if x.cols() != w.k() {
            let expected = format!("K = {}, as the weights have", w.k());
            return Err(Error::shape("x", expected, format!("K = {}", x.cols())));
        }
        let roundings = self.element().roundings(w.scheme().group_length(w.k()), w.k());
        let relative = roundings.relative();
        // Half of f32's smallest subnormal for every rounding.
        let least = roundings.single as f64 * f64::from(pow2(-75)) * f64::from(pow2(-75));
        Ok(Mat::from_fn(x.rows(), w.n(), |m, n| {
            let (mut magnitude, mut absolute) = (0.0, least);
            for g in 0..w.groups() {
                let meaning = meaning(w, n, g);
                let codes = &w.code_row(n)[w.group_range(g)];
                for (&code, &x) in codes.iter().zip(&x.row(m)[w.group_range(g)]) {
                    let term = self.element().term(code, &meaning, x);
                    magnitude += term.magnitude;
                    absolute += term.absolute;
                }
            }
            relative * magnitude + (1.0 + relative) * absolute
        }))
    }
}
