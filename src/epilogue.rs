//! Floor 2: finishing a tile. After the last group: per-row scale, bias, activation function, residual, rounding to the
//! output type; each step rounds once and nothing is contracted.
#![forbid(unsafe_code)]

use crate::base::error::{Error, Result};
use crate::base::float::{Element, canonical, fma};
use crate::base::view::{MatMut, MatRef};
use alloc::format;
use half::{bf16, f16};

/// An activation function. Each is one sequence of IEEE f32 operations, so it gives the same bits on every machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Activation {
    /// None.
    #[default]
    Identity,
    /// `max(x, 0)`; NaN stays NaN.
    Relu,
    /// `x·Φ(x)` with the Gaussian distribution function (the erf form). Absolute error below 5e-7 for |x| ≤ 6.
    Gelu,
    /// `x / (1 + e^−x)`. Relative error below 4e-7 for x ≥ −87; 0 below, where the true magnitude is less than 1.5e-36.
    Silu,
}

impl Activation {
    /// The function of one value.
    #[inline(always)]
    #[must_use]
    pub fn apply(self, x: f32) -> f32 {
        match self {
            Self::Identity => x,
            Self::Relu => {
                if x < 0.0 {
                    0.0
                } else {
                    x
                }
            }
            Self::Gelu => gelu(x),
            Self::Silu => silu(x),
        }
    }
}

/// `e^v` for `v ≤ 0`; 0 below −87. Cody-Waite reduction by ln 2 in two parts and a degree-6 Taylor-Horner polynomial
/// on `|r| ≤ ln2/2`, whose truncation error `r^7/7!` is below 1.2e-7.
#[inline(always)]
fn exp_nonpositive(v: f32) -> f32 {
    let x = if v < -87.0 { -87.0 } else { v };
    let shifted = fma(x, core::f32::consts::LOG2_E, 12_582_912.0); // rne in the low mantissa bits
    let n = shifted - 12_582_912.0;
    let r = fma(n, -0.693_359_4, x);
    let r = fma(n, 2.121_944_4e-4, r);
    let p = fma(r, 1.0 / 720.0, 1.0 / 120.0);
    let p = fma(p, r, 1.0 / 24.0);
    let p = fma(p, r, 1.0 / 6.0);
    let p = fma(p, r, 0.5);
    let p = fma(p, r, 1.0);
    let p = fma(p, r, 1.0);
    let exponent = (shifted.to_bits() as i32).wrapping_sub(0x4B40_0000);
    let scale = f32::from_bits((exponent.wrapping_add(127) as u32) << 23);
    if v < -87.0 { 0.0 } else { p * scale }
}

#[inline(always)]
fn silu(x: f32) -> f32 {
    let x = if x < -88.0 { -88.0 } else { x };
    let s = exp_nonpositive(-x.abs());
    let sigmoid = if x < 0.0 { s } else { 1.0 } / (1.0 + s);
    x * sigmoid
}

/// Φ by formula 7.1.26 of Abramowitz and Stegun, Handbook of Mathematical Functions: with `z = |x|/√2` and
/// `t = 1/(1 + 0.3275911·z)`, `erfc(z) ≈ t·(a1 + t·(a2 + …))·e^(−z²)`, absolute error at most 1.5e-7.
#[inline(always)]
fn gelu(x: f32) -> f32 {
    let x = if x < -16.0 { -16.0 } else { x };
    let z = x.abs() * core::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / fma(0.327_591_1, z, 1.0);
    let p = fma(1.061_405_4, t, -1.453_152);
    let p = fma(p, t, 1.421_413_8);
    let p = fma(p, t, -0.284_496_72);
    let p = fma(p, t, 0.254_829_6);
    let half_erfc = 0.5 * (p * t * exp_nonpositive(-(z * z)));
    x * if x < 0.0 { half_erfc } else { 1.0 - half_erfc }
}

/// What happens to the sum after the last group: `act(y·t + bias) + residual`, where t is the mode's own row scale.
///
/// ```
/// use mixgemm::{Activation, Epilogue};
/// let bias = [0.5f32; 8];
/// let e = Epilogue::new().bias(&bias).activation(Activation::Gelu);
/// assert!(e.residual.is_none());
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Epilogue<'a> {
    /// One addend per output channel.
    pub bias: Option<&'a [f32]>,
    /// The activation function.
    pub activation: Activation,
    /// An addend of the output's shape, after the activation function.
    pub residual: Option<MatRef<'a, f32>>,
}

impl<'a> Epilogue<'a> {
    /// Nothing but the mode's own row scale and the rounding to the output type.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            bias: None,
            activation: Activation::Identity,
            residual: None,
        }
    }

    /// Adds `bias[n]`.
    #[must_use]
    pub const fn bias(self, bias: &'a [f32]) -> Self {
        Self {
            bias: Some(bias),
            ..self
        }
    }

    /// Applies an activation function after the bias.
    #[must_use]
    pub const fn activation(self, activation: Activation) -> Self {
        Self { activation, ..self }
    }

    /// Adds a matrix of the output's shape after the activation function.
    #[must_use]
    pub const fn residual(self, residual: MatRef<'a, f32>) -> Self {
        Self {
            residual: Some(residual),
            ..self
        }
    }

    /// Checks the operands against an M × N output.
    ///
    /// # Errors
    /// [`Error::Shape`] for a bias or residual of another size.
    pub fn check(&self, m: usize, n: usize) -> Result<()> {
        match self.bias {
            Some(bias) if bias.len() != n => {
                return Err(Error::shape("bias", format!("{n} values"), format!("{}", bias.len())));
            }
            _ => {}
        }
        match self.residual {
            Some(r) if (r.rows(), r.cols()) != (m, n) => {
                let found = format!("{} x {}", r.rows(), r.cols());
                Err(Error::shape("residual", format!("{m} x {n}"), found))
            }
            _ => Ok(()),
        }
    }

    /// Whether sums pass it as they are, but for canonical NaN.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bias.is_none() && self.residual.is_none() && self.activation == Activation::Identity
    }

    /// Finishes the sums `y` of row `row`, columns `col..col + y.len()`, in place: everything but the rounding to the
    /// output type. NaN results are canonical.
    #[inline(always)]
    pub fn finish(&self, y: &mut [f32], row: usize, col: usize, row_scale: Option<f32>) {
        let len = y.len();
        if let Some(t) = row_scale {
            y.iter_mut().for_each(|y| *y *= t);
        }
        if let Some(bias) = self.bias {
            y.iter_mut().zip(&bias[col..col + len]).for_each(|(y, b)| *y += b);
        }
        match self.activation {
            Activation::Identity => {}
            Activation::Relu => y.iter_mut().for_each(|y| *y = Activation::Relu.apply(*y)),
            Activation::Gelu => y.iter_mut().for_each(|y| *y = gelu(*y)),
            Activation::Silu => y.iter_mut().for_each(|y| *y = silu(*y)),
        }
        if let Some(residual) = self.residual {
            y.iter_mut()
                .zip(&residual.row(row)[col..col + len])
                .for_each(|(y, r)| *y += r);
        }
        y.iter_mut().for_each(|y| *y = canonical(*y));
    }
}

/// The output Y, M × N, as a view of the caller's memory.
#[derive(Debug)]
pub enum Output<'a> {
    /// f32 output.
    F32(MatMut<'a, f32>),
    /// f16 output, rounded once from f32.
    F16(MatMut<'a, f16>),
    /// bf16 output, rounded once from f32, subnormals kept.
    Bf16(MatMut<'a, bf16>),
}

impl<'a> From<MatMut<'a, f32>> for Output<'a> {
    fn from(y: MatMut<'a, f32>) -> Self {
        Self::F32(y)
    }
}

impl<'a> From<MatMut<'a, f16>> for Output<'a> {
    fn from(y: MatMut<'a, f16>) -> Self {
        Self::F16(y)
    }
}

impl<'a> From<MatMut<'a, bf16>> for Output<'a> {
    fn from(y: MatMut<'a, bf16>) -> Self {
        Self::Bf16(y)
    }
}

impl Output<'_> {
    /// (M, N).
    #[must_use]
    pub fn shape(&self) -> (usize, usize) {
        match self {
            Self::F32(y) => (y.rows(), y.cols()),
            Self::F16(y) => (y.rows(), y.cols()),
            Self::Bf16(y) => (y.rows(), y.cols()),
        }
    }

    /// The output as one whose sums are continued.
    ///
    /// # Errors
    /// [`Error::Unsupported`] unless it is f32: others have been rounded.
    pub fn to_continue(&mut self) -> Result<MatMut<'_, f32>> {
        match self {
            Self::F32(y) => Ok(y.reborrow()),
            _ => Err(Error::unsupported("y", "f32 to continue", "another type")),
        }
    }

    /// The same output for a shorter time.
    #[must_use]
    pub fn reborrow(&mut self) -> Output<'_> {
        match self {
            Self::F32(y) => Output::F32(y.reborrow()),
            Self::F16(y) => Output::F16(y.reborrow()),
            Self::Bf16(y) => Output::Bf16(y.reborrow()),
        }
    }

    /// Checks the shape.
    ///
    /// # Errors
    /// [`Error::Shape`] unless the output is M × N.
    pub fn check(&self, m: usize, n: usize) -> Result<()> {
        if self.shape() == (m, n) {
            return Ok(());
        }
        let (rows, cols) = self.shape();
        Err(Error::shape("y", format!("{m} x {n}"), format!("{rows} x {cols}")))
    }

    /// Rounds finished f32 values into row `row` from column `col` on.
    pub fn store(&mut self, row: usize, col: usize, values: &[f32]) {
        match self {
            Self::F32(y) => f32::slice_from_f32(values, &mut y.row_mut(row)[col..][..values.len()]),
            Self::F16(y) => f16::slice_from_f32(values, &mut y.row_mut(row)[col..][..values.len()]),
            Self::Bf16(y) => bf16::slice_from_f32(values, &mut y.row_mut(row)[col..][..values.len()]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> impl Iterator<Item = f32> {
        (-60_000..=60_000).map(|i| i as f32 * 1e-3 * 1.000_1)
    }

    #[test]
    fn silu_error_is_as_stated() {
        for x in samples() {
            let exact = f64::from(x) / (1.0 + (-f64::from(x)).exp());
            let error = (f64::from(silu(x)) - exact).abs();
            assert!(error <= 4e-7 * exact.abs(), "{x}: {error:e}");
        }
    }

    #[test]
    fn gelu_error_is_as_stated() {
        for x in samples().filter(|x| x.abs() <= 6.0) {
            let exact = f64::from(x) * 0.5 * libm::erfc(-f64::from(x) * core::f64::consts::FRAC_1_SQRT_2);
            assert!((f64::from(gelu(x)) - exact).abs() < 5e-7, "{x}");
        }
    }

    #[test]
    fn extreme_and_special_values_stay_sane() {
        for f in [Activation::Gelu, Activation::Silu, Activation::Relu] {
            assert!(f.apply(f32::NAN).is_nan());
            assert_eq!(f.apply(f32::INFINITY), f32::INFINITY);
            assert!(f.apply(f32::NEG_INFINITY).abs() < 1e-30, "{f:?}");
            assert!(f.apply(-1e30).abs() < 1e-30);
            assert_eq!(f.apply(1e30), 1e30);
            assert_eq!(f.apply(0.0), 0.0);
        }
    }

    #[test]
    fn the_exponential_of_zero_is_one() {
        assert_eq!(exp_nonpositive(0.0), 1.0);
        assert_eq!(exp_nonpositive(-0.0), 1.0);
    }
}
