//! Datapaths that round: products of weight codes and f16 activations in floating point, for mode
//! [`Native`](crate::Mode::Native).
#![forbid(unsafe_code)]

use crate::accel::element::Work;
use crate::base::error::Result;
use half::f16;

/// What the codes of one group mean: `scale·(q − zero)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Meaning {
    /// The scale; twice the stored one for one symmetric bit, whose levels `2q − 1` are `2·(q − 0.5)`.
    pub scale: f32,
    /// The zero point.
    pub zero: f32,
    /// Whether the scheme has no zero points of its own.
    pub symmetric: bool,
}

/// How far rounding can move a term `scale·(q − zero)·x` of a product.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Term {
    /// The magnitude that relative errors refer to: what is added up on the way to the term.
    pub magnitude: f64,
    /// Error that does not shrink with the term, from results below the normal numbers.
    pub absolute: f64,
}

/// Roundings on the way of one term into the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roundings {
    /// To f16, each of relative error 2^-11.
    pub half: usize,
    /// To f32, each of relative error 2^-24.
    pub single: usize,
}

/// The datapath of an accelerator with floating-point arithmetic: one order of operations, each rounded once.
///
/// Where scales come [after the group](FloatElement::scales_after_group) the weight is the code, and the device forms
/// `y = fma(fma(−z, B, A), s, y)` in f32 from the element's sums `A = Σ q·x` and `B = Σ x`, groups in ascending order of
/// k. Elsewhere the weight is the dequantised number and the element's sum over the whole row is the output.
pub trait FloatElement: Copy + PartialEq + Send + Sync + core::fmt::Debug + 'static {
    /// One activation as it arrives at the element.
    type Operand: Copy + Send + Sync;

    /// One weight as it arrives at the element.
    type Weight: Copy + Send + Sync;

    /// A name for reports, such as `multiply-f16`.
    fn name(&self) -> &'static str;

    /// The widest weight codes, in bits.
    fn max_bits(&self) -> u8;

    /// Whether scales and zero points are applied to the sums of a group, instead of to every weight before its product.
    fn scales_after_group(&self) -> bool;

    /// The weight of a code.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) or [`Error::Unsupported`](crate::Error::Unsupported) where the element cannot
    /// hold the scale, the zero point or the weight.
    fn weight(&self, code: u8, meaning: &Meaning) -> Result<Self::Weight>;

    /// An activation, infinities and NaN included.
    fn operand(&self, x: f16) -> Self::Operand;

    /// Adds all products to `sum`, in ascending order of k; both slices have the same length. `overflow` is set where an
    /// f16 left its range.
    fn dot(&self, sum: f32, weights: &[Self::Weight], operands: &[Self::Operand], overflow: &mut bool) -> f32;

    /// `Σ x` over one group, in the element's accumulator; not called unless scales come after the group.
    fn sum(&self, operands: &[Self::Operand], overflow: &mut bool) -> f32;

    /// The operations that a step with this code takes.
    fn work(&self, code: u8) -> Work;

    /// How far rounding can move the term of this code and activation.
    fn term(&self, code: u8, meaning: &Meaning, x: f16) -> Term;

    /// The roundings on the way of a term, of so many in a group and in a row.
    fn roundings(&self, group: usize, row: usize) -> Roundings;
}
