//! The FP16 array: IEEE 754 binary16 operands, the baseline that published efficiencies are divided by.
//!
//! No paper that compares with one says how it rounds. Here products are summed in ascending order of k, to nearest with
//! ties to even, subnormal numbers kept: by default in f32, where products of f16 are exact, as an option in f16 with
//! products rounded before. Weights are dequantised before they are stored, so memory holds 16 bits for each.
#![forbid(unsafe_code)]

use crate::accel::element::dequantise::{Conversion, MultiplyF16};
use crate::accel::element::half::Accumulator;
use crate::accel::float_device::FloatDevice;

const fn element(accumulator: Accumulator) -> MultiplyF16 {
    MultiplyF16 {
        conversion: Conversion::Stored,
        accumulator,
        max_bits: 8,
    }
}

/// f16 products summed in f32: the mode `native`.
#[must_use]
pub const fn array() -> FloatDevice<MultiplyF16> {
    FloatDevice::new("fp16", element(Accumulator::F32))
}

/// Products and sums rounded to f16: the mode `native`.
#[must_use]
pub const fn array_f16() -> FloatDevice<MultiplyF16> {
    FloatDevice::new("fp16-f16", element(Accumulator::F16))
}
