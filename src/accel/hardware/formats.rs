//! Widths of what is stored and moved.
#![forbid(unsafe_code)]

use crate::accel::hardware::Hardware;
use crate::accel::memory::Widths;
use serde::{Deserialize, Serialize};

/// Bits of an f32: a sum of scaled groups, a scale of activations.
const F32_BITS: f64 = 32.0;

/// Which activations share a scale. Scales of activations are f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActivationScale {
    /// There are no scales: activations are what they stand for.
    #[default]
    None,
    /// All of a row.
    Row,
    /// Those of a row that meet one group of weights.
    Group,
}

/// Bits of the values that are stored and moved; scales and zero points come on top.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Formats {
    /// Of a weight's code.
    pub weight_bits: u32,
    /// Of an activation.
    pub activation_bits: u32,
    /// Which activations share a scale.
    #[serde(default)]
    pub activation_scale: ActivationScale,
    /// Of an output.
    pub output_bits: u32,
}

impl Hardware {
    /// Bits per value of everything that moves in a product of this depth, shares of scales and zero points included. A
    /// partial sum is as wide as the accumulator, or an f32 where scaled groups are added up.
    #[must_use]
    pub fn widths(&self, k: u64) -> Widths {
        let scales = match self.formats.activation_scale {
            ActivationScale::None => 0,
            ActivationScale::Row => 1,
            ActivationScale::Group => self.dequantisation.groups_in(k),
        };
        let partial = if self.adds_groups() {
            F32_BITS
        } else {
            f64::from(self.element.accumulator.bits())
        };
        Widths {
            activation: f64::from(self.formats.activation_bits) + F32_BITS * scales as f64 / k.max(1) as f64,
            weight: f64::from(self.formats.weight_bits) + self.scale_bits_per_weight(k),
            output: f64::from(self.formats.output_bits),
            partial,
        }
    }
}
