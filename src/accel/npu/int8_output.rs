//! Outputs in the device's own int8, and the repair of those that do not fit.
//!
//! ```text
//! o = clamp(rne(y/s), −128, 127)            the device; y is the product in f32, s the scale of outputs
//! o = rne(ŷ/s) wherever o is −128 or 127    the repair, on the host; ŷ is the product of unclamped activations
//! ```
//!
//! An NPU hands 8 bits on to the next layer. The released code of llm.npu repairs outputs at either end: the host forms
//! these dot products anew from unclamped activations and rounds them to the same scale without a clamp. It adds up floats
//! and rounds halves away from zero; here `ŷ = rne(Σ v·(q − 128))·s_w·t` is one exact sum of integers, each step rounded
//! once, and halves go to even.
#![forbid(unsafe_code)]

use crate::accel::npu::{Npu, NpuWeights, array, capabilities};
use crate::backend::Report;
use crate::base::error::{Error, Result};
use crate::base::mat::Mat;
use crate::base::view::{MatMut, MatRef};
use crate::epilogue::{Epilogue, Output};
use crate::quant::activation::{A8STATIC_LIMIT, a8static_value};
use crate::quant::input::{Activations, Mode, Row};
use crate::quant::matrix::QuantMatrix;
use alloc::{format, vec::Vec};

/// Outputs after the repair.
#[derive(Debug, Clone, PartialEq)]
pub struct Repaired {
    /// The outputs in units of their scale: the device's own, or beyond int8 where they were formed anew.
    pub values: Mat<i32>,
    /// How many were formed anew.
    pub count: usize,
}

fn check_scale(scale: f32) -> Result<()> {
    if scale.is_finite() && scale > 0.0 {
        return Ok(());
    }
    Err(Error::value(
        "output scale",
        "a finite positive scale",
        format!("{scale}"),
    ))
}

impl Npu {
    /// The product in the device's int8: `clamp(rne(y/scale), −128, 127)` of what [`Backend::run`](crate::Backend::run)
    /// gives.
    ///
    /// # Errors
    /// As there; [`Error::Value`] for a scale that is not finite and positive, and for outputs that are not finite.
    pub fn run_int8(
        &self,
        w: &NpuWeights,
        (x, mode): (Activations<'_>, Mode),
        scale: f32,
        mut y: MatMut<'_, i8>,
    ) -> Result<Report> {
        check_scale(scale)?;
        let (m, n) = (x.shape().0, w.shape().n);
        if (y.rows(), y.cols()) != (m, n) {
            let found = format!("{} x {}", y.rows(), y.cols());
            return Err(Error::shape("y", format!("{m} x {n}"), found));
        }
        let mut floats = Mat::<f32>::zeros(m, n);
        let (report, _) = self.execute(w, (x, mode), &Epilogue::new(), Output::F32(floats.view_mut()), 0.0)?;
        for m in 0..m {
            for (n, (y, &float)) in y.row_mut(m).iter_mut().zip(floats.view().row(m)).enumerate() {
                if !float.is_finite() {
                    let found = format!("{float} at ({m}, {n})");
                    return Err(Error::value("y", "finite outputs, which int8 can hold", found));
                }
                *y = (float / scale).round_ties_even().clamp(-128.0, 127.0) as i8;
            }
        }
        Ok(report)
    }
}

/// Forms the outputs at −128 and 127 anew: with activations `rne(x/t)` that are not clamped, rounded to the same scale.
///
/// ```
/// use mixgemm::accel::catalogue::npu;
/// use mixgemm::accel::npu::int8_output::repair;
/// use mixgemm::{Backend, Mat, Mode, QuantMatrix, Scheme};
/// let w = QuantMatrix::quantize(Mat::from_fn(2, 1, |n, _| [1.27, 0.5][n]).view(), Scheme::int(8).per_tensor())?;
/// let (npu, x) = (npu::int8(), Mat::from_vec(vec![300.0f32], 1, 1)?);
/// let prepared = npu.prepare(&w)?;
/// npu.compile(&prepared, 1)?;
/// let (mode, mut y) = (Mode::A8Static { scale: 1.0, saturate: true }, Mat::<i8>::zeros(1, 2));
/// npu.run_int8(&prepared, (x.view().into(), mode), 1.0, y.view_mut())?;
/// assert_eq!(y.data(), [127, 64]); // 127 · 1.27 does not fit; 127 · 0.5 does
/// let repaired = repair(&w, x.view().into(), 1.0, 1.0, y.view())?;
/// assert_eq!((repaired.values.data(), repaired.count), (&[381, 64][..], 1)); // 300 · 1.27
/// # Ok::<(), mixgemm::Error>(())
/// ```
///
/// # Errors
/// [`Error::Shape`] for operands of another product; [`Error::Unsupported`] for weights that the device does not take
/// either, and int8 input; [`Error::Value`] for scales that are not finite and positive, activations at or beyond 2^23·t
/// and outputs at or beyond 2^31·s, where they are needed.
pub fn repair(w: &QuantMatrix, x: Activations<'_>, t: f32, scale: f32, y: MatRef<'_, i8>) -> Result<Repaired> {
    let mode = Mode::A8Static {
        scale: t,
        saturate: false,
    };
    x.check(mode, w.k(), w.scheme())?;
    check_scale(scale)?;
    capabilities(&array()).check_scheme(w.scheme())?;
    let (m, n) = (x.shape().0, w.n());
    if (y.rows(), y.cols()) != (m, n) {
        let found = format!("{} x {}", y.rows(), y.cols());
        return Err(Error::shape("y", format!("{m} x {n}"), found));
    }
    let mut repaired = Repaired {
        values: Mat::from_fn(m, n, |m, n| i32::from(y.row(m)[n])),
        count: 0,
    };
    for m in 0..m {
        let ends: Vec<usize> = (0..n).filter(|&n| matches!(y.row(m)[n], -128 | 127)).collect();
        if ends.is_empty() {
            continue;
        }
        let row = unclamped(x.row(m), t)?;
        for n in ends {
            let d: i64 = row.iter().enumerate().map(|(k, v)| v * i64::from(w.level(n, k))).sum();
            let value = (d as f32 * w.scale(n, 0) * t / scale).round_ties_even();
            if value.is_nan() || value.abs() >= 2_147_483_648.0 {
                let found = format!("{value} at ({m}, {n})");
                return Err(Error::value("y", "outputs below 2^31 scales", found));
            }
            repaired.values.view_mut().row_mut(m)[n] = value as i32;
            repaired.count += 1;
        }
    }
    Ok(repaired)
}

/// `rne(x/t)` of a row.
fn unclamped(row: Row<'_>, t: f32) -> Result<Vec<i64>> {
    let integer = |(k, x): (usize, f32)| {
        let v = a8static_value(x, t);
        if v.abs() < A8STATIC_LIMIT {
            return Ok(v as i64);
        }
        let expected = "|rne(x / scale)| below 2^23 in mode a8static";
        Err(Error::value("x", expected, format!("{v} at column {k}")))
    };
    match row {
        Row::F32(x) => x.iter().copied().enumerate().map(integer).collect(),
        Row::F16(x) => x.iter().map(|x| x.to_f32()).enumerate().map(integer).collect(),
        Row::Bf16(x) => x.iter().map(|x| x.to_f32()).enumerate().map(integer).collect(),
        Row::I8(x, _) => Ok(x.iter().map(|&x| i64::from(x)).collect()),
    }
}
