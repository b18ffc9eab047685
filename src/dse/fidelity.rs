//! Fidelity, measured: the quantisation signal-to-noise ratio (QSNR) of products on given tensors.
//!
//! ```text
//! QSNR = −10·log10(Σ (y − x)² / Σ x²)      x: the f64 product of the tensors as they are; y: what the device makes
//! ```
//!
//! after the definition of Darvish Rouhani et al., With Shared Microexponents, A Little Shifting Goes a Long Way
//! (arXiv 2302.08007), taken on outputs instead of operands, so that weights, activations and accumulators all count. The
//! figure of several matrices is the mean of theirs in dB.
#![forbid(unsafe_code)]

use crate::base::error::{Error, Result};
use crate::base::mat::Mat;
use crate::base::view::MatRef;
use crate::dse::format::{Format, Values};
use crate::dse::measured::Measured;
use crate::epilogue::Epilogue;
use crate::quant::figures::{Figures, product_f64};
use crate::quant::input::{Activations, Mode};
use crate::quant::matrix::QuantMatrix;
use alloc::string::{String, ToString};
use alloc::{format, vec::Vec};
use half::f16;
use std::collections::HashMap;

/// The fidelity of products that are not finite.
pub const LEAST_DB: f64 = -100.0;
/// The fidelity of products without error.
pub const MOST_DB: f64 = 400.0;

/// QSNR of `y` against `x` in dB, as f64 sums; +∞ where they are equal.
///
/// ```
/// use mixgemm::{Mat, dse::fidelity::qsnr_db};
/// let x = Mat::from_vec(vec![3.0, 4.0], 1, 2)?;
/// assert_eq!(qsnr_db(x.view(), Mat::from_vec(vec![3.0, 4.5], 1, 2)?.view())?, 20.0);
/// # Ok::<(), mixgemm::Error>(())
/// ```
///
/// # Errors
/// [`Error::Shape`] when the shapes differ.
pub fn qsnr_db(x: MatRef<'_, f64>, y: MatRef<'_, f32>) -> Result<f64> {
    Ok(Figures::between(x, y)?.sqnr_db)
}

/// Weights, inputs, and their product in f64.
#[derive(Debug, Clone)]
pub struct Matrix {
    name: String,
    weights: Mat<f32>,
    inputs: Mat<f32>,
    /// The inputs rounded to f16.
    narrow: Mat<f16>,
    product: Mat<f64>,
}

impl Matrix {
    /// Weights N × K and inputs M × K.
    ///
    /// # Errors
    /// [`Error::Shape`] when K differs or nothing is left to compare; [`Error::Value`] for a product that is zero or not
    /// finite.
    pub fn new(name: &str, weights: Mat<f32>, inputs: Mat<f32>) -> Result<Self> {
        let product = product_f64(inputs.view(), weights.view())?;
        if product.data().is_empty() {
            return Err(Error::shape(
                "weights",
                "at least one output",
                format!("none of {name}"),
            ));
        }
        let power: f64 = product.data().iter().map(|y| y * y).sum();
        if !(power > 0.0 && power.is_finite()) {
            let found = format!("a product of {name} whose squares sum up to {power}");
            return Err(Error::value("weights", "a finite product that is not zero", found));
        }
        let narrow = Mat::from_fn(inputs.rows(), inputs.cols(), |m, k| {
            f16::from_f32(inputs.data()[m * inputs.cols() + k])
        });
        Ok(Self {
            name: name.into(),
            weights,
            inputs,
            narrow,
            product,
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// M, N, K.
    #[must_use]
    pub fn extents(&self) -> (usize, usize, usize) {
        (self.inputs.rows(), self.weights.rows(), self.weights.cols())
    }

    /// QSNR of a format on this matrix.
    fn measure(&self, values: &Values) -> Result<f64> {
        let (m, n, k) = self.extents();
        let mut y = Mat::<f32>::zeros(m, n);
        match values {
            Values::Backend { scheme, mode, backend } => {
                let w = QuantMatrix::quantize(self.weights.view(), *scheme)?;
                let x: Activations<'_> = match mode {
                    Mode::Native | Mode::Exact => self.narrow.view().into(),
                    _ => self.inputs.view().into(),
                };
                backend.run(&backend.prepare(&w)?, x, *mode, &Epilogue::new(), y.view_mut().into())?;
            }
            Values::Whole(_, product) => {
                let w = Mat::from_fn(n, k, |n, i| f16::from_f32(self.weights.data()[n * k + i]));
                product(self.narrow.view(), w.view(), y.view_mut());
            }
        }
        Ok(qsnr_db(self.product.view(), y.view())?
            .clamp(LEAST_DB, MOST_DB)
            .max(LEAST_DB))
    }
}

/// Matrices, and the fidelity of formats on them.
#[derive(Debug)]
pub struct Tensors {
    source: String,
    matrices: Vec<Matrix>,
}

impl Tensors {
    /// Matrices from this source.
    ///
    /// # Errors
    /// [`Error::Shape`] for none.
    pub fn new(source: &str, matrices: Vec<Matrix>) -> Result<Self> {
        if matrices.is_empty() {
            return Err(Error::shape("weights", "at least one matrix", "none"));
        }
        let source = source.to_string();
        Ok(Self { source, matrices })
    }

    /// Standard Gaussian weights 256 × 1024, and as many rows of inputs.
    ///
    /// # Errors
    /// [`Error::Shape`] for no rows.
    pub fn gaussian(rows: usize) -> Result<Self> {
        Self::synthetic("gaussian", rows, |_| 1.0)
    }

    /// Gaussian weights and inputs in which every 97th value (counted through the matrix for weights, along K for
    /// inputs, whose outliers stand in columns) is 12 times as large.
    ///
    /// # Errors
    /// [`Error::Shape`] for no rows.
    pub fn outliers(rows: usize) -> Result<Self> {
        Self::synthetic("outliers", rows, |i| if i % 97 == 0 { 12.0 } else { 1.0 })
    }

    /// Standard Gaussian inputs M × K, the same every time.
    #[must_use]
    pub fn gaussian_inputs(m: usize, k: usize) -> Mat<f32> {
        let mut gaussian = Gaussian(0x6d69_7867_656d_6d01);
        Mat::from_fn(m, k, |_, _| gaussian.next() as f32)
    }

    fn synthetic(source: &str, rows: usize, factor: fn(usize) -> f32) -> Result<Self> {
        const N: usize = 256;
        const K: usize = 1024;
        let mut gaussian = Gaussian(0x6d69_7867_656d_6d00);
        let mut draw = |at: fn(usize, usize) -> usize, rows| {
            Mat::from_fn(rows, K, |row, k| gaussian.next() as f32 * factor(at(row, k)))
        };
        let weights = draw(|row, k| row * K + k, N);
        let inputs = draw(|_, k| k, rows);
        Self::new(source, [Matrix::new(source, weights, inputs)?].into())
    }

    /// The matrices.
    #[must_use]
    pub fn matrices(&self) -> &[Matrix] {
        &self.matrices
    }

    /// Source, extents and a digest of every bit: equal tensors have equal names.
    #[must_use]
    pub fn name(&self) -> String {
        // FNV-1a in 64 bits.
        let mut digest = 0xcbf2_9ce4_8422_2325u64;
        for value in self
            .matrices
            .iter()
            .flat_map(|m| m.weights.data().iter().chain(m.inputs.data()))
        {
            for byte in value.to_bits().to_le_bytes() {
                digest = (digest ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
            }
        }
        let shapes: Vec<String> = self
            .matrices
            .iter()
            .map(|m| format!("{} {:?}", m.name, m.extents()))
            .collect();
        format!("{}: {} ({digest:016x})", self.source, shapes.join(", "))
    }

    /// The fidelity of a format in dB, from [`LEAST_DB`] to [`MOST_DB`].
    ///
    /// # Errors
    /// [`Error::Unsupported`] and [`Error::Value`] where the device does not take the format.
    pub fn fidelity(&self, values: &Values) -> Result<f64> {
        let mut sum = 0.0;
        for matrix in &self.matrices {
            sum += matrix.measure(values)?;
        }
        Ok(sum / self.matrices.len() as f64)
    }

    /// The fidelity of every format, or why the device does not take it. Values that `measured` has are not measured
    /// again, and new ones are kept there; `progress` is told how many formats of all are done.
    ///
    /// # Errors
    /// [`Error::File`] for a file of `measured` that cannot be written.
    pub fn fidelities(
        &self,
        formats: &[Format],
        values_of: impl Fn(&Format) -> Result<Values>,
        measured: &mut Measured,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<HashMap<Format, Result<f64>>> {
        let mut fidelities = HashMap::new();
        for (done, format) in formats.iter().enumerate() {
            progress(done, formats.len());
            let values = values_of(format);
            let fidelity = values.and_then(|values| {
                let key = values.key();
                match measured.get(&key) {
                    Some(known) => Ok((key, known)),
                    None => Ok((key, self.fidelity(&values)?)),
                }
            });
            let fidelity = match fidelity {
                Ok((key, found)) => {
                    if measured.get(&key).is_none() {
                        measured.keep(key, found)?;
                    }
                    Ok(found)
                }
                Err(error) => Err(error.at(format_args!("for {}", format.device))),
            };
            fidelities.insert(format.clone(), fidelity);
        }
        progress(formats.len(), formats.len());
        Ok(fidelities)
    }
}

/// Gaussian deviates by the polar method, the same on every machine.
struct Gaussian(u64);

impl Gaussian {
    /// SplitMix64, in [-1, 1).
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as i64 as f64 / 9_223_372_036_854_775_808.0
    }

    fn next(&mut self) -> f64 {
        loop {
            let (u, v) = (self.uniform(), self.uniform());
            let s = u * u + v * v;
            if s > 0.0 && s < 1.0 {
                return u * libm::sqrt(-2.0 * libm::log(s) / s);
            }
        }
    }
}
