//! MixPE, the accelerator of mixed-precision processing elements without multipliers.
//!
//! After Zhang et al., MixPE: Quantization and Hardware Co-design for Efficient LLM Inference (arXiv 2411.16158):
//! group dot products by shift and add, dequantisation after the group (equation 5). The zero-point term and the scales
//! are outside the array, where the paper puts them.
//!
//! The paper does not say how wide the sums of its W4A16 element are, nor where they round. [`MixPe::w4a16`] does not round
//! at all; the devices with a [`ShiftAddHalf`] element are the cheaper readings, each under its own name.
#![forbid(unsafe_code)]

use crate::accel::catalogue::Accelerator;
use crate::accel::device::Device;
use crate::accel::element::half::{Accumulator, HalfFloat};
use crate::accel::element::shift_add::{ShiftAddF16, ShiftAddI8};
use crate::accel::element::shift_add_half::{Adds, ShiftAddHalf};
use crate::accel::float_device::FloatDevice;
use crate::accel::weights::DeviceWeights;
use crate::backend::{AnyBackend, Backend, Capabilities, GroupSums, Report};
use crate::base::error::Result;
use crate::base::view::MatMut;
use crate::epilogue::{Epilogue, Output};
use crate::quant::input::{Activations, Mode};
use crate::quant::matrix::QuantMatrix;
use alloc::boxed::Box;

/// [`MixPe::w4a8`] with its cost: four gated shifts of an int8 activation and three adders. A group of 128 products takes
/// 19 bits; the paper does not give the accumulator, this is one of 24.
pub const W4A8: Accelerator = Accelerator::new(
    || Box::new(MixPe::w4a8()),
    r#"
name = "mixpe-w4a8"
base = "fp16"
element = { multiplier = "shift-add", weight_bits = 4, activation_bits = 8, accumulator = "i24" }
formats = { weight_bits = 4, activation_bits = 8, activation_scale = "group" }
dequantisation = { position = "after", group = 128, scale_bits = 16, zero_bits = 4 }
"#,
)
.exact(|values| MixPe::w4a8().with_values_from(values));

/// [`MixPe::w4a16`] with its cost: the integer product of significand and code is shifted to its place in a fixed-point
/// accumulator. 52 bits hold every group of 128.
pub const W4A16: Accelerator = Accelerator::new(
    || Box::new(MixPe::w4a16()),
    r#"
name = "mixpe-w4a16"
base = "mixpe-w4a16-fused"
element = { accumulator = "i52" }
"#,
)
.exact(|values| MixPe::w4a16().with_values_from(values));

/// [`MixPe::w4a16_fused`] with its cost: integer product of significand and code, one normalisation, an f32 adder.
pub const W4A16_FUSED: Accelerator = Accelerator::new(
    || Box::new(MixPe::w4a16_fused()),
    r#"
name = "mixpe-w4a16-fused"
base = "fp16"
element = { multiplier = "shift-add-float", weight_bits = 4 }
formats = { weight_bits = 4 }
dequantisation = { position = "after", group = 128, scale_bits = 16, zero_bits = 4 }
"#,
);

/// [`MixPe::w4a16_fused_f16`] with its cost: the only way to come near the published gain over FP16. Groups of 128
/// overflow it once activations exceed about 34 on average.
pub const W4A16_FUSED_F16: Accelerator = Accelerator::new(
    || Box::new(MixPe::w4a16_fused_f16()),
    "name = 'mixpe-w4a16-fused-f16'\nbase = 'mixpe-w4a16-fused'\nelement = { accumulator = 'f16' }",
);

/// [`MixPe::w4a16_naive`] with its cost: gates for four terms of 16 bits, three adders of exponents, three f16 adders, and
/// one more for the sum.
pub const W4A16_NAIVE: Accelerator = Accelerator::new(
    || Box::new(MixPe::w4a16_naive()),
    r#"
name = "mixpe-w4a16-naive"
base = "mixpe-w4a16-fused-f16"
[element]
multiplier = "parts"
parts = [
    { count = 64, part = "and-gate" },
    { count = 3, part = { adder = { bits = 5 } } },
    { count = 3, part = "f16-adder" },
]
"#,
);

/// [`MixPe::w4a16_flush`] at the price of [`W4A16_NAIVE`]: what flushing saves in an adder is not published.
pub const W4A16_FLUSH: Accelerator = Accelerator::new(
    || Box::new(MixPe::w4a16_flush()),
    "name = 'mixpe-w4a16-flush'\nbase = 'mixpe-w4a16-naive'",
);

/// [`MixPe::w4a16_saturate`] at the price of [`W4A16_NAIVE`]: what saturation takes in an adder is not published.
pub const W4A16_SATURATE: Accelerator = Accelerator::new(
    || Box::new(MixPe::w4a16_saturate()),
    "name = 'mixpe-w4a16-saturate'\nbase = 'mixpe-w4a16-naive'",
);

const FUSED: ShiftAddHalf = ShiftAddHalf {
    adds: Adds::Fused,
    accumulator: Accumulator::F32,
    half: HalfFloat::IEEE,
};
const NAIVE: ShiftAddHalf = ShiftAddHalf {
    adds: Adds::TermByTerm,
    accumulator: Accumulator::F16,
    half: HalfFloat::IEEE,
};

/// The emulated MixPE, with one of its two exact processing elements. Its results are those of
/// [`reference`](crate::reference), bit for bit.
///
/// ```
/// use mixgemm::{Backend, Epilogue, Floats, Mat, MixPe, Mode, QuantMatrix, ScaleType, Scheme, Zeros, reference};
/// let (n, k) = (5, 64);
/// let codes = (0..n * k).map(|i| (i * 7 % 16) as u8).collect();
/// let scales = Floats::from_f32(ScaleType::F16, &[0.01; 10]);
/// let w = QuantMatrix::from_parts(Scheme::int(4).group(32), n, k, codes, scales, Zeros::Symmetric)?;
/// let x = Mat::from_fn(2, k, |m, k| (m + k) as f32 * 0.1);
///
/// let device = MixPe::w4a8();
/// let mut y = Mat::<f32>::zeros(2, n);
/// let weights = device.prepare(&w)?;
/// let report = device.run(&weights, x.view().into(), Mode::A8, &Epilogue::new(), y.view_mut().into())?;
///
/// let mut expected = Mat::<f32>::zeros(2, n);
/// reference::run(&w, x.view().into(), Mode::A8, &Epilogue::new(), expected.view_mut().into())?;
/// assert_eq!(y, expected);
/// assert_eq!(report.counters.macs, 2 * 5 * 64);
/// assert_eq!(report.counters.activation_sums, 2 * 2); // rows x groups, shared by all columns
/// # Ok::<(), mixgemm::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MixPe(Variant);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variant {
    W4A8(Device<ShiftAddI8>),
    W4A16(Device<ShiftAddF16>),
}

/// Evaluates an expression with the device of either variant.
macro_rules! with_device {
    ($mixpe:expr, $device:ident => $call:expr) => {
        match &$mixpe.0 {
            Variant::W4A8($device) => $call,
            Variant::W4A16($device) => $call,
        }
    };
}

impl MixPe {
    /// UINT4 weights and int8 activations in 32-bit accumulators: the modes `a8`, `a8row`, `a8given` and `a8static`.
    #[must_use]
    pub const fn w4a8() -> Self {
        Self(Variant::W4A8(Device::new("mixpe-w4a8", ShiftAddI8)))
    }

    /// UINT4 weights and f16 activations in wide accumulators: the mode `exact`.
    #[must_use]
    pub const fn w4a16() -> Self {
        Self(Variant::W4A16(Device::new("mixpe-w4a16", ShiftAddF16)))
    }

    /// Products rounded to f16 once, sums in f32: the mode `native`, as all that follow.
    #[must_use]
    pub const fn w4a16_fused() -> FloatDevice<ShiftAddHalf> {
        FloatDevice::new("mixpe-w4a16-fused", FUSED)
    }

    /// Products rounded to f16 once, and sums in f16 too.
    #[must_use]
    pub const fn w4a16_fused_f16() -> FloatDevice<ShiftAddHalf> {
        let accumulator = Accumulator::F16;
        FloatDevice::new("mixpe-w4a16-fused-f16", ShiftAddHalf { accumulator, ..FUSED })
    }

    /// Gated terms and products added one by one in f16, in ascending order.
    #[must_use]
    pub const fn w4a16_naive() -> FloatDevice<ShiftAddHalf> {
        FloatDevice::new("mixpe-w4a16-naive", NAIVE)
    }

    /// As [`MixPe::w4a16_naive`], with subnormal operands and results flushed to zero.
    #[must_use]
    pub const fn w4a16_flush() -> FloatDevice<ShiftAddHalf> {
        let half = HalfFloat {
            flush: true,
            saturate: false,
        };
        FloatDevice::new("mixpe-w4a16-flush", ShiftAddHalf { half, ..NAIVE })
    }

    /// As [`MixPe::w4a16_naive`], with results beyond f16's range replaced by its largest number.
    #[must_use]
    pub const fn w4a16_saturate() -> FloatDevice<ShiftAddHalf> {
        let half = HalfFloat {
            flush: false,
            saturate: true,
        };
        FloatDevice::new("mixpe-w4a16-saturate", ShiftAddHalf { half, ..NAIVE })
    }

    /// The same device with values of another backend; see [`Fast`](crate::accel::fast::Fast).
    #[must_use]
    pub fn with_values_from(self, values: Box<dyn AnyBackend>) -> Box<dyn AnyBackend> {
        with_device!(self, device => device.with_values_from(values))
    }
}

impl Backend for MixPe {
    type Prepared = DeviceWeights;

    fn name(&self) -> &'static str {
        with_device!(self, device => Backend::name(device))
    }

    fn capabilities(&self) -> Capabilities {
        with_device!(self, device => Backend::capabilities(device))
    }

    fn prepare(&self, weights: &QuantMatrix) -> Result<DeviceWeights> {
        with_device!(self, device => Backend::prepare(device, weights))
    }

    fn run(
        &self,
        weights: &DeviceWeights,
        x: Activations<'_>,
        mode: Mode,
        epilogue: &Epilogue<'_>,
        y: Output<'_>,
    ) -> Result<Report> {
        with_device!(self, device => Backend::run(device, weights, x, mode, epilogue, y))
    }

    fn accumulate(
        &self,
        weights: &DeviceWeights,
        x: Activations<'_>,
        mode: Mode,
        y: MatMut<'_, f32>,
    ) -> Result<Report> {
        with_device!(self, device => Backend::accumulate(device, weights, x, mode, y))
    }

    fn group_sums(
        &self,
        weights: &DeviceWeights,
        x: Activations<'_>,
        mode: Mode,
        sums: GroupSums<'_>,
    ) -> Result<Report> {
        with_device!(self, device => Backend::group_sums(device, weights, x, mode, sums))
    }
}
