//! Weights in two levels: narrow codes that integer scales widen to 8 bits in front of an INT8 array.
//!
//! After QServe (arXiv 2405.04532): a group has an 8-bit integer scale `s₂`, a channel one scale `s₁`, and the array sums
//! over all of K. QServe quantises to this form; here a matrix with any scales `s` is brought to it, row by row:
//!
//! ```text
//! s₁ = max |(q − z)·s| / 119          119: QServe's protective range
//! s₂ = rne(s / s₁)                    8 bits, one a group
//! w  = q·s₂ − z·s₂                    what enters the array
//! y  = rne(Σ w·a) · s₁ · t            a and t: the input in 8 bits, one scale a row
//! ```
//!
//! With `|q − z| ≤ 16` the rounding of `s₂` moves a weight by at most 8, so `|w| ≤ 127`: it never leaves 8 bits.
#![forbid(unsafe_code)]

use crate::accel::device::Device;
use crate::accel::element::multiply::MultiplyI8;
use crate::accel::weights::DeviceWeights;
use crate::backend::{Backend, Capabilities, Report};
use crate::base::error::{Error, Result};
use crate::epilogue::{Epilogue, Output};
use crate::quant::input::{Activations, Mode};
use crate::quant::matrix::{Floats, QuantMatrix, Zeros};
use crate::quant::scheme::{ScaleType, Scheme, ZeroPoint};
use alloc::vec::Vec;

/// The largest magnitude of a weight before the scales of groups are rounded.
const PROTECTIVE: f64 = 119.0;

/// The widest codes.
const BITS: u8 = 4;

/// An INT8 array with codes of up to 4 bits in front of it: the mode `native`, whose f16 inputs become integers as in
/// mode `a8row`.
///
/// ```
/// use mixgemm::accel::catalogue::dequant;
/// use mixgemm::{Backend, Epilogue, Floats, Mat, Mode, QuantMatrix, ScaleType, Scheme, Zeros, f16};
/// // Two groups whose scales are 17 and 8 times 1/128; 7·17 = 119.
/// let scales = Floats::from_f32(ScaleType::F32, &[17.0 / 128.0, 8.0 / 128.0]);
/// let scheme = Scheme::int(4).group(2).scales(ScaleType::F32);
/// let w = QuantMatrix::from_parts(scheme, 1, 4, vec![15, 8, 9, 0], scales, Zeros::Symmetric)?;
/// let x = Mat::from_vec([127.0, 1.0, -3.0, 2.0].map(f16::from_f32).to_vec(), 1, 4)?;
/// let (device, mut y) = (dequant::w4a8(), Mat::<f32>::zeros(1, 1));
/// let report = device.run(&device.prepare(&w)?, x.view().into(), Mode::Native, &Epilogue::new(), y.view_mut().into())?;
/// assert_eq!(y.data(), [(119.0 * 127.0 + 8.0 * -3.0 - 64.0 * 2.0) / 128.0]);
/// assert_eq!((report.counters.weight_conversions, report.counters.scale_multiplications), (4, 1));
/// # Ok::<(), mixgemm::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TwoLevel(Device<MultiplyI8>);

/// Widened weights in front of a [`TwoLevel`].
#[derive(Debug, Clone)]
pub struct TwoLevelWeights(DeviceWeights);

impl TwoLevel {
    /// A device of this name.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self(Device::new(name, MultiplyI8))
    }

    /// The 8-bit weights that enter the array, with their scales per channel.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for codes of more than 4 bits, of a book, or with float zero points; [`Error::Value`] for
    /// rows that are longer than [`MAX_GROUP`](crate::quant::scheme::MAX_GROUP).
    pub fn widened(&self, w: &QuantMatrix) -> Result<QuantMatrix> {
        let scheme = w.scheme();
        self.capabilities().check_scheme(scheme)?;
        if scheme.zero == ZeroPoint::Float {
            return Err(Error::unsupported("zero", "integer zero points, or none", "float ones"));
        }
        let (n, k) = (w.n(), w.k());
        let (mut codes, mut scales) = (Vec::with_capacity(n * k), Vec::with_capacity(n));
        for row in 0..n {
            let mut largest = 0.0f64;
            for group in 0..w.groups() {
                let scale = f64::from(w.scale(row, group));
                for k in w.group_range(group) {
                    largest = largest.max(libm::fabs(f64::from(w.level(row, k)) * scale));
                }
            }
            let of_channel = (largest / PROTECTIVE) as f32;
            for group in 0..w.groups() {
                // A group of zeros may have any scale, and a row of zeros has none.
                let of_group = if of_channel > 0.0 {
                    let ratio = f64::from(w.scale(row, group)) / f64::from(of_channel);
                    libm::rint(ratio).clamp(-127.0, 127.0) as i32
                } else {
                    0
                };
                let widened = |k| (128 + (w.level(row, k) * of_group).clamp(-127, 127)) as u8;
                codes.extend(w.group_range(group).map(widened));
            }
            // A row of no weights has no scale either.
            scales.extend((k > 0).then_some(of_channel));
        }
        let scheme = Scheme::int(8).per_channel().scales(ScaleType::F32);
        let scales = Floats::from_f32(ScaleType::F32, &scales);
        QuantMatrix::from_parts(scheme, n, k, codes, scales, Zeros::Symmetric)
    }
}

impl Backend for TwoLevel {
    type Prepared = TwoLevelWeights;

    fn name(&self) -> &'static str {
        Backend::name(&self.0)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::rounding(BITS)
    }

    fn prepare(&self, w: &QuantMatrix) -> Result<TwoLevelWeights> {
        Backend::prepare(&self.0, &self.widened(w)?).map(TwoLevelWeights)
    }

    fn run(
        &self,
        TwoLevelWeights(w): &TwoLevelWeights,
        x: Activations<'_>,
        mode: Mode,
        epilogue: &Epilogue<'_>,
        y: Output<'_>,
    ) -> Result<Report> {
        self.capabilities().check_mode(mode)?;
        x.check(mode, w.shape.k, &w.shape.scheme)?;
        let mut report = Backend::run(&self.0, w, x, Mode::A8Row, epilogue, y)?;
        if w.rows(x.shape().0) > 0 {
            report.counters.weight_conversions = (w.shape.n * w.shape.k) as u64;
        }
        Ok(report)
    }
}
