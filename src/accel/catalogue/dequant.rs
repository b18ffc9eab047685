//! Dequantise first: 4-bit weights become f16 in the inner loop, then f16 products are summed in f32.
//!
//! This is how TensorRT-LLM and BitBLAS multiply weights of 4 bits with f16 activations. The scale is applied before the
//! product and rounds every weight to f16, which [scaling after the group](difference) does not.
#![forbid(unsafe_code)]

use crate::accel::catalogue::Accelerator;
use crate::accel::catalogue::mixpe::MixPe;
use crate::accel::element::dequantise::{Conversion, MultiplyF16};
use crate::accel::element::half::Accumulator as Sum;
use crate::accel::float_device::FloatDevice;
use crate::accel::two_level::TwoLevel;
use crate::backend::Backend;
use crate::base::error::Result;
use crate::base::mat::Mat;
use crate::base::view::MatRef;
use crate::epilogue::Epilogue;
use crate::quant::figures::Figures;
use crate::quant::input::Mode;
use crate::quant::matrix::QuantMatrix;
use alloc::boxed::Box;
use half::f16;

/// [`w4a16`] with its cost: the FP16 array, and units that convert where weights enter it.
pub const W4A16: Accelerator = Accelerator::new(
    || Box::new(w4a16()),
    r#"
name = "dequant-w4a16"
base = "fp16"
formats = { weight_bits = 4 }
dequantisation = { position = "before", group = 128, scale_bits = 16, zero_bits = 16 }
"#,
);

/// [`w4a16_f16`] with its cost.
pub const W4A16_F16: Accelerator = Accelerator::new(
    || Box::new(w4a16_f16()),
    "name = 'dequant-w4a16-f16'\nbase = 'dequant-w4a16'\nelement = { accumulator = 'f16' }",
);

/// [`w4a16_rescaled`] with its cost: a multiplier and an adder, in the other order.
pub const W4A16_RESCALED: Accelerator = Accelerator::new(
    || Box::new(w4a16_rescaled()),
    "name = 'dequant-w4a16-rescaled'\nbase = 'dequant-w4a16'",
);

/// [`w4a16_quantised`] with its cost: zero points of the width of a code.
pub const W4A16_QUANTISED: Accelerator = Accelerator::new(
    || Box::new(w4a16_quantised()),
    "name = 'dequant-w4a16-quantised'\nbase = 'dequant-w4a16'\ndequantisation = { zero_bits = 4 }",
);

/// [`w4a8`] with its cost: the INT8 array, and units that multiply codes by 8-bit scales where they enter it.
pub const W4A8: Accelerator = Accelerator::new(
    || Box::new(w4a8()),
    r#"
name = "dequant-w4a8"
base = "tpu-int8"
formats = { weight_bits = 4 }
dequantisation = { position = "before", group = 128, scale_bits = 8, zero_bits = 4 }
"#,
);

const fn device(name: &'static str, conversion: Conversion, accumulator: Sum) -> FloatDevice<MultiplyF16> {
    let element = MultiplyF16 {
        conversion,
        accumulator,
        max_bits: 4,
    };
    FloatDevice::new(name, element)
}

/// Weights `(q − z)·s` with f16 zero points: the mode `native`, as all that follow.
#[must_use]
pub const fn w4a16() -> FloatDevice<MultiplyF16> {
    device("dequant-w4a16", Conversion::Original, Sum::F32)
}

/// As [`w4a16`], with products and sums rounded to f16.
#[must_use]
pub const fn w4a16_f16() -> FloatDevice<MultiplyF16> {
    device("dequant-w4a16-f16", Conversion::Original, Sum::F16)
}

/// Weights `q·s − z'` with stored products `z' = z·s`.
#[must_use]
pub const fn w4a16_rescaled() -> FloatDevice<MultiplyF16> {
    device("dequant-w4a16-rescaled", Conversion::Rescaled, Sum::F32)
}

/// Weights `(q − z)·s` with zero points packed like codes: integers below `2^4`.
#[must_use]
pub const fn w4a16_quantised() -> FloatDevice<MultiplyF16> {
    device("dequant-w4a16-quantised", Conversion::Quantised, Sum::F32)
}

/// The same with integers, as an INT8 array takes weights of 4 bits: each is multiplied by an 8-bit scale of its group on
/// its way in, and outputs by a scale per channel.
#[must_use]
pub const fn w4a8() -> TwoLevel {
    TwoLevel::new("dequant-w4a8")
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
