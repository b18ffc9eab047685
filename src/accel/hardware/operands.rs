//! The same accelerator with the operands of one product: what is stored and moved follows from weights and mode.
#![forbid(unsafe_code)]

use crate::accel::hardware::Hardware;
use crate::accel::hardware::dequantise::Position;
use crate::accel::hardware::formats::ActivationScale;
use crate::quant::input::Mode;
use crate::quant::scheme::{Group, Scheme, ZeroPoint};

/// Bits of a zero point that is stored as a number of its own, not packed like codes.
const HALF: u32 = 16;

impl Hardware {
    /// This accelerator with weights of this scheme (codes, groups, scales and zero points) and the scales that inputs of
    /// this mode have. One without dequantisation stores weights in a format of its own, whatever they came from; one that
    /// scales integers before its array keeps the width of its own integer scales; zero points of 16 bits stay what they
    /// are.
    ///
    /// ```
    /// use mixgemm::accel::hardware::Hardware;
    /// use mixgemm::accel::hardware::formats::ActivationScale;
    /// use mixgemm::{Mode, Scheme};
    /// let mixpe = Hardware::named("mixpe-w4a8")?.holding(&Scheme::int(3).group(64).asymmetric(), Mode::A8Row);
    /// assert_eq!((mixpe.formats.weight_bits, mixpe.dequantisation.group), (3, 64));
    /// assert_eq!((mixpe.dequantisation.zero_bits, mixpe.formats.activation_scale), (3, ActivationScale::Row));
    /// # Ok::<(), mixgemm::Error>(())
    /// ```
    #[must_use]
    pub fn holding(mut self, scheme: &Scheme, mode: Mode) -> Self {
        match mode {
            Mode::A8 => self.formats.activation_scale = ActivationScale::Group,
            Mode::A8Row | Mode::A8Given | Mode::A8Static { .. } => self.formats.activation_scale = ActivationScale::Row,
            Mode::A16 | Mode::Exact | Mode::Native => {}
        }
        let integer = self.sums_integers();
        let (own, scale_bits) = (&mut self.dequantisation, 8 * scheme.scale.bytes() as u32);
        if own.position == Position::None {
            return self;
        }
        self.formats.weight_bits = u32::from(scheme.bits);
        own.group = match scheme.group {
            Group::Length(length) => length as u64,
            Group::Channel | Group::Tensor => 0,
        };
        own.zero_bits = match scheme.zero {
            ZeroPoint::Symmetric => 0,
            ZeroPoint::Integer if own.zero_bits == HALF => HALF,
            ZeroPoint::Integer => u32::from(scheme.bits),
            ZeroPoint::Float => scale_bits,
        };
        if !(integer && own.position == Position::Before) {
            own.scale_bits = scale_bits;
        }
        self
    }
}
