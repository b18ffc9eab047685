//! Dequantise first: 4-bit weights become f16 in the inner loop, then f16 products are summed in f32.
//!
//! This is how TensorRT-LLM and BitBLAS multiply weights of 4 bits with f16 activations. The scale is applied before the
//! product and rounds every weight to f16, which [scaling after the group](difference) does not.
#![forbid(unsafe_code)]

use crate::accel::catalogue::mixpe::MixPe;
use crate::accel::element::dequantise::{Conversion, MultiplyF16};
use crate::accel::element::half::Accumulator;
use crate::accel::float_device::FloatDevice;
use crate::backend::Backend;
use crate::base::error::Result;
use crate::base::mat::Mat;
use crate::base::view::MatRef;
use crate::epilogue::Epilogue;
use crate::quant::figures::Figures;
use crate::quant::input::Mode;
use crate::quant::matrix::QuantMatrix;
use half::f16;

const fn device(name: &'static str, conversion: Conversion) -> FloatDevice<MultiplyF16> {
    let element = MultiplyF16 {
        conversion,
        accumulator: Accumulator::F32,
        max_bits: 4,
    };
    FloatDevice::new(name, element)
}

/// Weights `(q − z)·s` with f16 zero points: the mode `native`, as all that follow.
#[must_use]
pub const fn w4a16() -> FloatDevice<MultiplyF16> {
    device("dequant-w4a16", Conversion::Original)
}

/// Weights `q·s − z'` with stored products `z' = z·s`.
#[must_use]
pub const fn w4a16_rescaled() -> FloatDevice<MultiplyF16> {
    device("dequant-w4a16-rescaled", Conversion::Rescaled)
}

/// Weights `(q − z)·s` with zero points packed like codes: integers below `2^4`.
#[must_use]
pub const fn w4a16_quantised() -> FloatDevice<MultiplyF16> {
    device("dequant-w4a16-quantised", Conversion::Quantised)
}

/// How far dequantising first is from scaling after the group: figures of this device's result against that of
/// [`MixPe::w4a16`], which rounds nothing before the group's sum.
///
/// ```
/// use mixgemm::accel::catalogue::dequant;
/// use mixgemm::{Mat, QuantMatrix, Scheme, f16};
/// let weights = Mat::from_fn(8, 128, |n, k| ((n * 128 + k) as f32 * 0.37).sin());
/// let w = QuantMatrix::quantize(weights.view(), Scheme::int(4).group(32).asymmetric())?;
/// let x = Mat::from_fn(2, 128, |m, k| f16::from_f32(((m + k) as f32 * 0.11).cos()));
/// let figures = dequant::difference(&dequant::w4a16(), &w, x.view())?;
/// assert!(figures.sqnr_db > 60.0 && figures.sqnr_db < 90.0);
/// # Ok::<(), mixgemm::Error>(())
/// ```
///
/// # Errors
/// As [`Backend::prepare`] and [`Backend::run`].
pub fn difference(device: &FloatDevice<MultiplyF16>, w: &QuantMatrix, x: MatRef<'_, f16>) -> Result<Figures> {
    let after = MixPe::w4a16();
    let (mut first, mut scaled) = (Mat::zeros(x.rows(), w.n()), Mat::zeros(x.rows(), w.n()));
    let prepared = Backend::prepare(device, w)?;
    device.run(
        &prepared,
        x.into(),
        Mode::Native,
        &Epilogue::new(),
        first.view_mut().into(),
    )?;
    let prepared = Backend::prepare(&after, w)?;
    after.run(
        &prepared,
        x.into(),
        Mode::Exact,
        &Epilogue::new(),
        scaled.view_mut().into(),
    )?;
    Figures::of_f32(scaled.view(), first.view())
}
