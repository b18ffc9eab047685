//! Weights in the memory of an emulated device, the same for every processing element.
#![forbid(unsafe_code)]

use crate::backend::WeightShape;
use crate::quant::matrix::QuantMatrix;
use crate::reference::{non_finite_sum, weight_sign};
use alloc::vec::Vec;
use core::ops::Range;

/// Weights in a device's memory: unpacked codes `[N, K]`, and f32 scales and zero points `[N, G]`, one of each per group
/// even where the matrix has one for all. Made by [`Backend::prepare`](crate::Backend::prepare) of a
/// [`Device`](crate::accel::device::Device).
#[derive(Debug, Clone)]
pub struct DeviceWeights {
    pub(super) shape: WeightShape,
    codes: Vec<u8>,
    groups: Vec<GroupScale>,
    /// How often each code occurs, for the counters.
    pub(super) occurrences: [u64; 256],
}

/// What belongs to one group of one column.
#[derive(Debug, Clone, Copy)]
pub(super) struct GroupScale {
    pub(super) scale: f32,
    /// The zero point as a float, for the signs in rows with non-finite inputs.
    zero: f32,
    pub(super) zero_int: i64,
    pub(super) zero_fraction: f32,
}

impl DeviceWeights {
    /// Unpacks a matrix.
    pub(super) fn new(w: &QuantMatrix) -> Self {
        let groups = (0..w.n()).flat_map(|n| (0..w.groups()).map(move |g| (n, g)));
        let groups = groups.map(|(n, g)| GroupScale {
            scale: w.scale(n, g),
            zero: w.zero(n, g),
            zero_int: w.zero_int(n, g).into(),
            zero_fraction: w.zero_fraction(n, g),
        });
        let mut occurrences = [0; 256];
        for &code in w.codes() {
            occurrences[usize::from(code)] += 1;
        }
        Self {
            shape: w.into(),
            codes: w.codes().to_vec(),
            groups: groups.collect(),
            occurrences,
        }
    }

    /// How many of M rows there is anything to do for: none where there are no outputs.
    pub(super) fn rows(&self, m: usize) -> usize {
        if self.shape.n == 0 { 0 } else { m }
    }

    /// The codes of row `n` at these k.
    pub(super) fn codes(&self, n: usize, k: Range<usize>) -> &[u8] {
        &self.codes[n * self.shape.k..][k]
    }

    /// Scale and zero point of row `n`, group `g`.
    pub(super) fn group(&self, n: usize, g: usize) -> &GroupScale {
        &self.groups[n * self.shape.groups + g]
    }

    /// `Σ x·sign(s)·sign(q − z)` over the non-finite inputs of a row.
    pub(super) fn special(&self, inputs: &[(usize, f32)], n: usize) -> f32 {
        non_finite_sum(inputs, |k| {
            let group = self.group(n, k / self.shape.group.max(1));
            weight_sign(self.codes(n, k..k + 1)[0], group.zero, group.scale)
        })
    }
}
