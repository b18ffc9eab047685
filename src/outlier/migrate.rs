//! Scale migration, SmoothQuant (arXiv 2211.10438, equation 4): offline, channel j of the activations is divided by
//! `s_j = max|X_j|^α / max|W_j|^(1−α)` and the weights' column j multiplied by it. Activations lose their outliers, weights
//! gain some; the product stays what it is but for rounding.
#![forbid(unsafe_code)]

use crate::base::error::{Error, Result};
use crate::base::mat::Mat;
use crate::base::view::MatRef;
use alloc::{format, vec, vec::Vec};

/// What a migration does to a layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Migration {
    /// Per input channel: activations are divided by it, in the layer before or by [`Migration::apply`].
    pub factors: Vec<f32>,
    /// The weights `[N, K]` times the factors.
    pub weights: Mat<f32>,
}

impl Migration {
    /// Chooses factors from the largest magnitudes of the activations by channel, and multiplies the weights with them.
    /// A channel without activations or without weights keeps the factor 1.
    ///
    /// With `powers_of_two` every factor is rounded to the nearest power of two (in its logarithm): then nothing is
    /// rounded twice, as long as no value leaves the range of an f32.
    ///
    /// ```
    /// use mixgemm::Mat;
    /// use mixgemm::outlier::migrate::Migration;
    /// let w = Mat::from_fn(3, 2, |_, _| 1.0);
    /// let migrated = Migration::new(w.view(), &[64.0, 4.0], 0.5, false)?;
    /// assert_eq!(migrated.factors, [8.0, 2.0]);
    /// assert_eq!(migrated.weights.view().row(1), [8.0, 2.0]);
    /// # Ok::<(), mixgemm::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] unless there is a maximum for every channel; [`Error::Value`] for α outside 0..=1, and for weights,
    /// maxima, factors or products that are not finite.
    pub fn new(weights: MatRef<'_, f32>, channel_max: &[f32], alpha: f32, powers_of_two: bool) -> Result<Self> {
        let (n, k) = (weights.rows(), weights.cols());
        if channel_max.len() != k {
            return Err(Error::shape(
                "channel_max",
                format!("{k} values"),
                format!("{}", channel_max.len()),
            ));
        }
        if !(0.0..=1.0).contains(&alpha) {
            return Err(Error::value("alpha", "0 to 1", format!("{alpha}")));
        }
        if let Some(j) = channel_max.iter().position(|x| !x.is_finite() || *x < 0.0) {
            let found = format!("{} in channel {j}", channel_max[j]);
            return Err(Error::value("channel_max", "finite magnitudes", found));
        }
        let mut weight_max = vec![0.0f32; k];
        for row in 0..n {
            for (most, w) in weight_max.iter_mut().zip(weights.row(row)) {
                *most = most.max(w.abs());
            }
        }
        let factors = channel_max.iter().zip(&weight_max).map(|(&x, &w)| {
            if x == 0.0 || w == 0.0 {
                return 1.0;
            }
            let s = libm::powf(x, alpha) / libm::powf(w, 1.0 - alpha);
            if powers_of_two {
                libm::exp2f(libm::rintf(libm::log2f(s)))
            } else {
                s
            }
        });
        let factors: Vec<f32> = factors.collect();
        if let Some(j) = factors.iter().position(|s| !(s.is_normal() && *s > 0.0)) {
            let found = format!("{} in channel {j}", factors[j]);
            return Err(Error::value(
                "channel_max",
                "magnitudes whose factors are normal floats",
                found,
            ));
        }
        let weights = Mat::from_fn(n, k, |row, j| weights.row(row)[j] * factors[j]);
        if let Some(i) = weights.data().iter().position(|w| !w.is_finite()) {
            let found = format!("{} at ({}, {})", weights.data()[i], i / k, i % k);
            return Err(Error::value("weights", "finite products with the factors", found));
        }
        Ok(Self { factors, weights })
    }

    /// Activations `[M, K]` divided by the factors.
    ///
    /// # Errors
    /// [`Error::Shape`] for another number of channels.
    pub fn apply(&self, x: MatRef<'_, f32>) -> Result<Mat<f32>> {
        if x.cols() != self.factors.len() {
            let expected = format!("K = {}", self.factors.len());
            return Err(Error::shape("x", expected, format!("K = {}", x.cols())));
        }
        Ok(Mat::from_fn(x.rows(), x.cols(), |m, j| x.row(m)[j] / self.factors[j]))
    }
}
