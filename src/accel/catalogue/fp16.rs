//! The FP16 array: IEEE 754 binary16 operands, the baseline that published efficiencies are divided by.
//!
//! No paper that compares with one says how it rounds. Here products are summed in ascending order of k, to nearest with
//! ties to even, subnormal numbers kept: by default in f32, where products of f16 are exact, as an option in f16 with
//! products rounded before. Weights are dequantised before they are stored, so memory holds 16 bits for each.
#![forbid(unsafe_code)]

use crate::accel::catalogue::Accelerator;
use crate::accel::element::dequantise::{Conversion, MultiplyF16};
use crate::accel::element::half::Accumulator;
use crate::accel::float_device::FloatDevice;
use alloc::boxed::Box;

/// [`array()`] with its cost: efficiency 1 of every relative figure. All others of the catalogue begin with this file, so
/// that they differ in nothing but elements, formats and the place of scaling.
pub const F32: Accelerator = Accelerator::new(|| Box::new(array()), COST);

/// [`array_f16`] with its cost.
pub const F16: Accelerator = Accelerator::new(
    || Box::new(array_f16()),
    "name = 'fp16-f16'\nbase = 'fp16'\nelement = { accumulator = 'f16' }",
);

const COST: &str = r#"
name = "fp16"
clock_mhz = 500.0
node_nm = 28.0

[element]
multiplier = "float"
weight_bits = 16
activation_bits = 16
accumulator = "f32"

# MixPE's authors give FP16 32 x 28 elements and INT8 32 x 32, and call that equal area without areas. All accelerators
# of this catalogue have the same array; others are a matter of `with_peak` and `with_area_mm2`.
[array]
rows = 32
cols = 32
dataflow = "os"

[formats]
weight_bits = 16
activation_bits = 16
output_bits = 16

[dequantisation]
position = "none"
group = 0
scale_bits = 0
zero_bits = 0

# Sizes, clock and channel of the simulator of MixPE's authors, in banks of 4 and 8 KiB with words of 64 bytes.
[memory]
activation = { bytes = 262144, banks = 32, word_bytes = 64 }
weight = { bytes = 131072, banks = 32, word_bytes = 64 }
output = { bytes = 131072, banks = 32, word_bytes = 64 }
dram_bits_per_cycle = 1024.0

# BitFusion's 15 pJ per bit: the middle of what is published.
[dram]
read_pj_per_bit = 15.0
write_pj_per_bit = 15.0
background_mw = 0.0
"#;

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
