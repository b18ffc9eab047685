//! The INT8 systolic array in the manner of Google's TPU: signed 8-bit weights and activations, 32-bit accumulators.
//!
//! After Jouppi et al., In-Datacenter Performance Analysis of a Tensor Processing Unit (arXiv 1704.04760), whose array
//! multiplies 8-bit integers and accumulates in 32 bits. Narrower weights are widened on the way in, once for every pass
//! over them; scales and what is left of zero points are applied after each group.
#![forbid(unsafe_code)]

use crate::accel::catalogue::Accelerator;
use crate::accel::device::Device;
use crate::accel::element::multiply::MultiplyI8;
use alloc::boxed::Box;

/// [`int8`] with its cost: a multiplier and a 32-bit adder an element, weights of 8 bits with a scale per channel.
pub const INT8: Accelerator =
    Accelerator::new(|| Box::new(int8()), COST).exact(|values| int8().with_values_from(values));

const COST: &str = r#"
name = "tpu-int8"
base = "fp16"
element = { multiplier = "integer", weight_bits = 8, activation_bits = 8, accumulator = "i32" }
formats = { weight_bits = 8, activation_bits = 8, activation_scale = "row" }
dequantisation = { position = "after", group = 0, scale_bits = 16, zero_bits = 0 }
"#;

/// Weights of up to 8 bits and int8 activations: the modes `a8`, `a8row`, `a8given` and `a8static`. Its results are those
/// of [`reference`](crate::reference), bit for bit.
///
/// ```
/// use mixgemm::accel::catalogue::tpu;
/// use mixgemm::{Activations, Backend, Epilogue, Mat, Mode, QuantMatrix, Scheme};
/// let w = QuantMatrix::quantize(Mat::from_fn(2, 4, |n, k| n as f32 - k as f32).view(), Scheme::int(8))?;
/// let (device, x, mut y) = (tpu::int8(), Mat::from_vec(vec![1i8, -128, 3, 127], 1, 4)?, Mat::<f32>::zeros(1, 2));
/// let x = Activations::int8(x.view(), 1.0);
/// let report = device.run(&device.prepare(&w)?, x, Mode::A8Given, &Epilogue::new(), y.view_mut().into())?;
/// assert_eq!((report.counters.zero_point_terms, report.counters.weight_conversions), (0, 0));
/// # Ok::<(), mixgemm::Error>(())
/// ```
#[must_use]
pub const fn int8() -> Device<MultiplyI8> {
    Device::new("tpu-int8", MultiplyI8)
}
