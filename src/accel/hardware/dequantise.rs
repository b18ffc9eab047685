//! Where the scales of weights are applied, and how often what is done for it.
//!
//! For a product of M × N × K with groups of G codes:
//!
//! | position | what | how often |
//! |---|---|---|
//! | `before` the array | weights are scaled where they enter | N·K a pass |
//! | | behind integers, outputs are scaled by channel | M·N |
//! | `after` the group | sums are scaled | M·N·⌈K/G⌉ |
//! | | zero points are multiplied by the group's sum of activations and taken off | the same |
//! | | activations are summed for that | M·K |
//! | | sums leave a column of elements before its foot, where an array that keeps an operand has more rows than a group | M·N·(⌈K/G⌉ − ⌈K/R⌉) |
//! | | narrow codes are widened to the weights of an integer multiplier | N·K a pass |
//! | `none` | | |
//! | all, with a scale of activations per row | outputs are multiplied by it | M·N |
//!
//! A group as long as the row is a scale per channel. Zero points are corrected where weights have some, and where elements
//! take unsigned codes as they are: symmetric ones stand for `q − 2^(b−1)`. Scaling happens beside the array and costs no
//! cycles: there are as many units as it takes to keep up. [`scaling`](crate::accel::hardware::scaling) prices it.
#![forbid(unsafe_code)]

use crate::accel::array::{Dataflow, Extents};
use crate::accel::cost::element::{Accumulator, Multiplier};
use crate::accel::hardware::Hardware;
use crate::accel::hardware::formats::ActivationScale;
use crate::base::error::{Error, Result};
use alloc::string::ToString;
use serde::{Deserialize, Serialize};

/// Bits of a scale per channel behind an array of integers.
const CHANNEL_SCALE_BITS: f64 = 32.0;

/// Where scales are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Position {
    /// Nowhere: weights are what they stand for.
    None,
    /// To weights, where they enter the array.
    Before,
    /// To the sum of a group.
    After,
}

impl Position {
    /// `none`, `before` or `after`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Before => "before",
            Self::After => "after",
        }
    }
}

/// Scales, zero points, and where they are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dequantisation {
    /// Where.
    pub position: Position,
    /// Codes that share a scale; 0 stands for all of a row.
    pub group: u64,
    /// Bits of a scale.
    pub scale_bits: u32,
    /// Bits of a zero point; 0 if weights are symmetric.
    pub zero_bits: u32,
}

/// A figure for each kind of work that scales and zero points make: how often it is done, or what that takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Scalings<T = u64> {
    /// Weights that are scaled before they enter the array.
    pub weights: T,
    /// Codes that are widened before they enter the array.
    pub widenings: T,
    /// Sums that are scaled behind it.
    pub sums: T,
    /// Of these, sums that leave a column of elements before its foot.
    pub taps: T,
    /// Outputs that are multiplied by the scale of their row of activations.
    pub outputs: T,
    /// Zero points that are multiplied by a sum of activations and subtracted.
    pub zero_terms: T,
    /// Activations that are added up for that.
    pub activation_sums: T,
}

impl<T: Copy> Scalings<T> {
    /// Every kind in words, with its figure.
    #[must_use]
    pub const fn list(&self) -> [(&'static str, T); 7] {
        [
            ("weights scaled before the array", self.weights),
            ("codes widened before the array", self.widenings),
            ("sums scaled", self.sums),
            ("sums tapped inside columns", self.taps),
            ("outputs scaled by their row of activations", self.outputs),
            ("zero points corrected", self.zero_terms),
            ("activations summed for zero points", self.activation_sums),
        ]
    }
}

impl Scalings<f64> {
    /// The same at another node.
    pub(super) fn scale(&mut self, factor: f64) {
        let Self {
            weights,
            widenings,
            sums,
            taps,
            outputs,
            zero_terms,
            activation_sums,
        } = self;
        for pj in [weights, widenings, sums, taps, outputs, zero_terms, activation_sums] {
            *pj *= factor;
        }
    }

    /// All kinds together.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.list().iter().map(|kind| kind.1).sum()
    }
}

impl Dequantisation {
    /// # Errors
    /// [`Error::Value`]: a scale or a zero point of more than 32 bits, or a scale of none.
    pub fn check(&self) -> Result<()> {
        let least = u32::from(self.position != Position::None);
        if !(least..=32).contains(&self.scale_bits) {
            let expected = if least == 1 { "1 to 32" } else { "0 to 32" };
            return Err(Error::value(
                "dequantisation.scale_bits",
                expected,
                self.scale_bits.to_string(),
            ));
        }
        if self.zero_bits > 32 {
            return Err(Error::value(
                "dequantisation.zero_bits",
                "0 to 32",
                self.zero_bits.to_string(),
            ));
        }
        Ok(())
    }

    /// Codes that share a scale in a row of this length.
    #[must_use]
    pub const fn group_in(&self, k: u64) -> u64 {
        if self.group == 0 || self.group > k {
            k
        } else {
            self.group
        }
    }

    /// Groups in a row of this length.
    #[must_use]
    pub const fn groups_in(&self, k: u64) -> u64 {
        if k == 0 { 0 } else { k.div_ceil(self.group_in(k)) }
    }
}

impl Hardware {
    /// Whether sums are integers.
    pub(super) const fn sums_integers(&self) -> bool {
        matches!(self.element.accumulator, Accumulator::Integer(_))
    }

    /// Whether a zero point is left to correct after the group.
    pub(super) const fn corrects_zeros(&self) -> bool {
        let unsigned = !matches!(self.element.multiplier, Multiplier::Integer | Multiplier::Float);
        self.dequantisation.zero_bits > 0 || unsigned
    }

    /// Whether sums of groups are added up beside the elements.
    pub(super) fn adds_groups(&self) -> bool {
        self.dequantisation.position == Position::After && self.dequantisation.group != 0
    }

    /// A weight's share of scales and zero points, in bits.
    #[must_use]
    pub fn scale_bits_per_weight(&self, k: u64) -> f64 {
        let own = &self.dequantisation;
        if own.position == Position::None || k == 0 {
            return 0.0;
        }
        let of_groups = (f64::from(own.scale_bits) + f64::from(own.zero_bits)) * own.groups_in(k) as f64;
        let two_level = self.sums_integers() && own.position == Position::Before;
        let of_channel = if two_level { CHANNEL_SCALE_BITS } else { 0.0 };
        (of_groups + of_channel) / k as f64
    }

    /// Sums that leave a column of elements before its foot, for every column and step: none where sums stay.
    pub(super) fn taps(&self) -> u64 {
        if !self.adds_groups() || self.array.dataflow() == Dataflow::OutputStationary {
            return 0;
        }
        self.codes_in_column().div_ceil(self.dequantisation.group) - 1
    }

    /// Codes along K that a column of elements holds at once.
    fn codes_in_column(&self) -> u64 {
        u64::from(self.array.rows()) * self.array.products().k
    }

    /// How often what is done, if this many weights enter the array.
    #[must_use]
    pub fn scalings(&self, e: Extents, weight_reads: u64) -> Scalings {
        let own = &self.dequantisation;
        let outputs = e.m.saturating_mul(e.n);
        let by_row = match self.formats.activation_scale {
            ActivationScale::Row => outputs,
            ActivationScale::None | ActivationScale::Group => 0,
        };
        let common = Scalings {
            outputs: by_row,
            ..Scalings::default()
        };
        match own.position {
            Position::None => common,
            Position::Before => Scalings {
                weights: weight_reads,
                sums: if self.sums_integers() { outputs } else { 0 },
                ..common
            },
            Position::After => {
                let sums = outputs.saturating_mul(own.groups_in(e.k));
                let feet = outputs.saturating_mul(e.k.div_ceil(self.codes_in_column()));
                let zeros = u64::from(self.corrects_zeros());
                let narrow = self.formats.weight_bits < self.element.weight_bits;
                let widens = narrow && self.element.multiplier == Multiplier::Integer;
                Scalings {
                    widenings: if widens { weight_reads } else { 0 },
                    sums,
                    taps: if self.taps() > 0 { sums.saturating_sub(feet) } else { 0 },
                    zero_terms: sums * zeros,
                    activation_sums: e.m.saturating_mul(e.k) * zeros,
                    ..common
                }
            }
        }
    }
}
