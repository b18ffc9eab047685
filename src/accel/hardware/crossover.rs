//! From which M on scaling weights before the array takes less than scaling sums after the group.
#![forbid(unsafe_code)]

use crate::accel::array::{Dataflow, Extents};
use crate::accel::hardware::Hardware;
use crate::accel::hardware::dequantise::{Position, Scalings};
use crate::accel::hardware::formats::ActivationScale;
use serde::Serialize;

/// Bits of a group's integer scale where integers are scaled before the array.
const INTEGER_SCALE_BITS: u32 = 8;

/// The least M at which scaling weights before the array takes less than scaling sums after the group; `None` if there
/// is none. Where every fill of the array with activations is a pass over the weights, the next pass may turn it
/// around once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Crossover {
    /// Less by the number of multiplications by a group's scale.
    pub by_count: Option<u64>,
    /// Less by energy, everything included that either way takes.
    pub by_energy: Option<u64>,
}

/// The least M with `slope·M > pass·passes(M)`, where a pass over the weights serves at most `block` rows.
fn first_above(slope: f64, pass: f64, block: Option<u64>) -> Option<u64> {
    if slope.is_nan() || slope <= 0.0 {
        return None;
    }
    // If it is not reached within the first block, neither is it in any other: both sides grow by the same then.
    let first = (libm::floor((pass / slope).max(0.0)) as u64).saturating_add(1);
    block.is_none_or(|block| first <= block).then_some(first)
}

impl Hardware {
    /// This accelerator as it would be if it scaled there. Integers that are scaled before the array have scales of 8 bits
    /// and are summed over all of K, so that activations have no scales of groups.
    #[must_use]
    pub fn scaling_at(&self, position: Position) -> Self {
        let mut other = self.clone();
        other.dequantisation.position = position;
        if position == Position::Before && self.sums_integers() {
            other.dequantisation.scale_bits = INTEGER_SCALE_BITS;
            if self.formats.activation_scale == ActivationScale::Group {
                other.formats.activation_scale = ActivationScale::Row;
            }
        }
        other
    }

    /// From which M on this array, with its element and groups, should scale weights before it instead of sums after the
    /// group. N and K are those of the weights. An array that keeps weights makes one pass over them; the others make one
    /// for every fill of their rows (columns) with activations, so scaling before may never pay. `None` for an accelerator
    /// that scales nothing.
    ///
    /// Scratchpads are taken to hold what a pass needs. Real ones cut a large M into pieces, each with a pass of its own,
    /// which favours scaling after the group ([`Hardware::estimate`] counts them); elements are taken to fit either
    /// operand at no other price.
    ///
    /// ```
    /// use mixgemm::accel::array::{Array, Dataflow};
    /// use mixgemm::accel::hardware::Hardware;
    /// let mut mixpe = Hardware::named("mixpe-w4a8")?;
    /// assert_eq!(mixpe.crossover(4096, 4096).unwrap().by_count, None);
    /// mixpe.array = Array::new(32, 32, Dataflow::WeightStationary)?;
    /// assert_eq!(mixpe.crossover(4096, 4096).unwrap().by_count, Some(129)); // the group, plus one
    /// assert_eq!(Hardware::named("fp16")?.crossover(4096, 4096), None);
    /// # Ok::<(), mixgemm::Error>(())
    /// ```
    #[must_use]
    pub fn crossover(&self, n: u64, k: u64) -> Option<Crossover> {
        if n == 0 || k == 0 || self.dequantisation.position == Position::None {
            return None;
        }
        let block = match self.array.dataflow() {
            Dataflow::OutputStationary => Some(u64::from(self.array.rows()) * self.array.products().m),
            Dataflow::InputStationary => Some(u64::from(self.array.cols()) * self.array.products().m),
            Dataflow::WeightStationary => None,
        };
        let of_one_row = |position| {
            let hardware = self.scaling_at(position);
            let scalings = hardware.scalings(Extents::new(1, n, k), n.saturating_mul(k));
            (scalings, hardware.scaling_pj(&scalings))
        };
        let ((before, before_pj), (after, after_pj)) = (of_one_row(Position::Before), of_one_row(Position::After));
        // What comes with every pass over the weights, and what with every row.
        let pass = |pj: &Scalings<f64>| pj.weights + pj.widenings;
        let row = |pj: &Scalings<f64>| pj.total() - pass(pj);
        Some(Crossover {
            by_count: first_above(after.sums as f64, before.weights as f64, block),
            by_energy: first_above(
                row(&after_pj) - row(&before_pj),
                pass(&before_pj) - pass(&after_pj),
                block,
            ),
        })
    }
}
