//! Bit-accurate processing elements: how one accelerator forms the sum of products of a group. Those of
//! [`ProcessingElement`] are exact; those of [`FloatElement`](float::FloatElement) round.
#![forbid(unsafe_code)]

pub mod dequantise;
pub mod float;
pub mod half;
pub mod multiply;
pub mod shift_add;
pub mod shift_add_half;

use crate::quant::activation::IntegerRow;
use crate::quant::input::{Mode, Row};
use crate::quant::scheme::Scheme;
use alloc::vec::Vec;

/// Operations of one multiply-accumulate step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Work {
    /// Shifted operands that pass an open gate.
    pub shifts: u64,
    /// Additions into the accumulator.
    pub adds: u64,
}

/// The datapath of one accelerator: products of unsigned weight codes and activations, summed over a group.
///
/// Sums are integers in units of [`unit`](ProcessingElement::unit) and exact. An element sees neither scales nor zero
/// points: those belong to the device, after the group. A datapath that rounds is a
/// [`FloatElement`](float::FloatElement) instead.
pub trait ProcessingElement: Copy + Send + Sync + core::fmt::Debug + 'static {
    /// One activation as it arrives at the element.
    type Operand: Copy + Send + Sync;

    /// One weight code as it arrives at the element.
    type Weight: Copy + Send + Sync;

    /// A name for reports, such as `shift-add-w4a8`.
    fn name(&self) -> &'static str;

    /// The widest weight codes, in bits.
    fn max_bits(&self) -> u8;

    /// Whether activations of this mode can be fed to the element.
    fn takes(&self, mode: Mode) -> bool;

    /// What 1 in a sum stands for: a power of two.
    fn unit(&self) -> f32;

    /// Appends the K operands of a row. `integers` holds the same row as the mode defines it, without non-finite inputs.
    fn operands(&self, row: Row<'_>, integers: &IntegerRow, out: &mut Vec<Self::Operand>);

    /// What is subtracted from every code of this scheme before it enters, for elements whose weights are signed. Where it
    /// is the scheme's own zero point there is none left to correct.
    fn offset(&self, _: &Scheme) -> u8 {
        0
    }

    /// Whether weights of this scheme are widened on their way into the element.
    fn widens(&self, _: &Scheme) -> bool {
        false
    }

    /// The weight `code − offset`, of a code of at most [`max_bits`](ProcessingElement::max_bits) bits.
    fn weight(&self, code: u8, offset: u8) -> Self::Weight;

    /// `D = Σ (q − offset)·a` over one group; both slices have its length.
    fn dot(&self, weights: &[Self::Weight], operands: &[Self::Operand]) -> i64;

    /// `B = Σ a` over one group.
    fn sum(&self, operands: &[Self::Operand]) -> i64;

    /// The operations that a step with this code takes.
    fn work(&self, code: u8) -> Work;
}
