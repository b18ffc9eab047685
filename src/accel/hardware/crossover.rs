//! From which M on scaling weights before the array takes less than scaling sums after the group.
//!
//! Before the array, every pass over the weights scales all of them. An array that keeps outputs or activations makes a
//! pass for every fill of its rows or columns with activations, whatever its scratchpads hold. One that keeps weights
//! makes a pass for every piece into which [memory](crate::accel::memory) cuts M.
#![forbid(unsafe_code)]

use crate::accel::array::{Dataflow, Extents};
use crate::accel::hardware::Hardware;
use crate::accel::hardware::dequantise::{Position, Scalings};
use crate::accel::hardware::formats::ActivationScale;
use crate::base::error::Result;
use serde::Serialize;

/// Bits of a group's integer scale where integers are scaled before the array.
const INTEGER_SCALE_BITS: u32 = 8;

/// Bits of a group's scale where sums of integers are scaled: f16, as all of the catalogue.
const SUM_SCALE_BITS: u32 = 16;

/// The most rows of activations that are tried where an array keeps weights.
pub const MOST_ROWS: u64 = 4096;

/// The least M at which scaling weights before the array takes less than scaling sums after the group. `None` if there
/// is none; on an array that keeps weights, none up to [`MOST_ROWS`]. The next pass over the weights may turn it around
/// once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Crossover {
    /// Less by the number of multiplications by a group's scale.
    pub by_count: Option<u64>,
    /// Less by energy, everything included that either way takes.
    pub by_energy: Option<u64>,
}

/// What the two ways differ by: what scaling after the group takes more for every row, and what a pass over the weights
/// takes before and after.
#[derive(Clone, Copy)]
struct Difference {
    row: f64,
    before: f64,
    after: f64,
}

impl Difference {
    /// Whether scaling before takes less, with so many passes either way.
    fn favours_before(&self, m: u64, [before, after]: [f64; 2]) -> bool {
        self.row * m as f64 > self.before * before - self.after * after
    }

    /// The least M that favours scaling before, where a pass serves this many rows. What one pass does not favour, none
    /// does: both sides grow by the same with the next.
    fn first_within(&self, block: u64) -> Option<u64> {
        let pass = self.before - self.after;
        let first = (libm::floor((pass / self.row).max(0.0)) as u64).saturating_add(1);
        (self.row > 0.0 && first <= block).then_some(first)
    }
}

impl Hardware {
    /// This accelerator as it would be if it scaled there. Integers that are scaled before the array have group scales of 8
    /// bits and are summed over all of K, so that activations have no scales of groups; sums of integers are scaled by 16
    /// bits.
    #[must_use]
    pub fn scaling_at(&self, position: Position) -> Self {
        let mut other = self.clone();
        if position == self.dequantisation.position {
            return other;
        }
        other.dequantisation.position = position;
        if !self.sums_integers() {
            return other;
        }
        match position {
            Position::None => {}
            Position::Before => {
                other.dequantisation.scale_bits = INTEGER_SCALE_BITS;
                if self.formats.activation_scale == ActivationScale::Group {
                    other.formats.activation_scale = ActivationScale::Row;
                }
            }
            Position::After => other.dequantisation.scale_bits = SUM_SCALE_BITS,
        }
        other
    }

    /// From which M on this accelerator, with its element, groups and scratchpads, should scale weights before the array
    /// instead of sums after the group. N and K are those of the weights. `None` for an accelerator that scales nothing.
    /// Elements are taken to fit either operand at no other price.
    ///
    /// ```
    /// use mixgemm::accel::array::{Array, Dataflow};
    /// use mixgemm::accel::hardware::Hardware;
    /// let mut mixpe = Hardware::named("mixpe-w4a8")?;
    /// assert_eq!(mixpe.crossover(4096, 4096)?.unwrap().by_count, None);
    /// mixpe.array = Array::new(32, 32, Dataflow::WeightStationary)?;
    /// assert_eq!(mixpe.crossover(4096, 4096)?.unwrap().by_count, Some(129)); // the group, plus one
    /// // Half of it holds 64 rows of 32 sums: pieces of 64 rows are a pass each.
    /// (mixpe.memory.output.bytes, mixpe.memory.output.banks) = (16_384, 4);
    /// assert_eq!(mixpe.crossover(4096, 4096)?.unwrap().by_count, None);
    /// assert_eq!(Hardware::named("fp16")?.crossover(4096, 4096)?, None);
    /// # Ok::<(), mixgemm::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported): a scratchpad does not hold a fold of an array that keeps weights.
    pub fn crossover(&self, n: u64, k: u64) -> Result<Option<Crossover>> {
        if n == 0 || k == 0 || self.dequantisation.position == Position::None {
            return Ok(None);
        }
        let ways = [Position::Before, Position::After].map(|position| self.scaling_at(position));
        let [(before, before_pj), (after, after_pj)] = ways.each_ref().map(|hardware| {
            let scalings = hardware.scalings(Extents::new(1, n, k), n.saturating_mul(k));
            (scalings, hardware.scaling_pj(&scalings))
        });
        // What comes with every pass over the weights, and what with every row.
        let pass = |pj: &Scalings<f64>| pj.weights + pj.widenings;
        let row = |pj: &Scalings<f64>| pj.total() - pass(pj);
        let count = Difference {
            row: after.sums as f64,
            before: before.weights as f64,
            after: 0.0,
        };
        let energy = Difference {
            row: row(&after_pj) - row(&before_pj),
            before: pass(&before_pj),
            after: pass(&after_pj),
        };
        let block = match self.array.dataflow() {
            Dataflow::OutputStationary => u64::from(self.array.rows()) * self.array.products().m,
            Dataflow::InputStationary => u64::from(self.array.cols()) * self.array.products().m,
            Dataflow::WeightStationary => return first_in_pieces(&ways, [n, k], [count, energy]).map(Some),
        };
        Ok(Some(Crossover {
            by_count: count.first_within(block),
            by_energy: energy.first_within(block),
        }))
    }

    /// Passes over the weights N × K with this many rows of activations.
    fn passes(&self, e: Extents) -> Result<f64> {
        let traffic = self.memory.memory().traffic(&self.array, e, &self.widths(e.k))?;
        Ok(traffic.walk.weight_reads as f64 / (e.n as f64 * e.k as f64))
    }
}

/// The least M of both differences on an array that keeps weights: by trying, as the best tiles of one M say little about
/// those of the next.
fn first_in_pieces(ways: &[Hardware; 2], [n, k]: [u64; 2], differences: [Difference; 2]) -> Result<Crossover> {
    let mut first = [None; 2];
    for m in 1..=MOST_ROWS {
        let e = Extents::new(m, n, k);
        let passes = [ways[0].passes(e)?, ways[1].passes(e)?];
        for (first, difference) in first.iter_mut().zip(&differences) {
            if first.is_none() && difference.favours_before(m, passes) {
                *first = Some(m);
            }
        }
        // Without a gain in a row, nothing but a pass after the group could speak for scaling before it.
        let settled = |(first, difference): (&Option<u64>, &Difference)| {
            first.is_some() || difference.row <= 0.0 && difference.after <= 0.0
        };
        if first.iter().zip(&differences).all(settled) {
            break;
        }
    }
    let [by_count, by_energy] = first;
    Ok(Crossover { by_count, by_energy })
}
