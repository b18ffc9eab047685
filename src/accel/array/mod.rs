//! The systolic array: who multiplies what when, in closed form.
//!
//! A product is cut into *folds*, as much as the array holds at once. Two of its extents lie across the array, rows and
//! columns; the third is walked in time:
//!
//! | dataflow | rows | columns | time | stays in the element |
//! |---|---|---|---|---|
//! | output stationary | M | N | K | the sum |
//! | weight stationary | K | N | M | a weight |
//! | input stationary | K | M | N | an activation |
//!
//! Operands enter skewed by one cycle a row and a column. With R rows, C columns and T steps in time, a fold takes
//! `T + R + C − 2` cycles where outputs stay, and `R + T + R + C − 2` where an operand has to be brought in first, one
//! row a cycle. Folds follow each other without overlap. These are the counts of SCALE-Sim (arXiv 1811.02883, versions
//! 2 and 3), whose `Total Cycles` is the index of the last cycle and thus smaller by one.
#![forbid(unsafe_code)]

mod step;

#[cfg(test)]
mod tests;

use crate::base::error::{Error, Result};
use alloc::string::String;

pub use step::Stepped;

/// The extents of `Y[M,N] = X[M,K] · W[N,K]ᵀ`.
///
/// ```
/// use mixgemm::accel::array::Extents;
/// assert_eq!(Extents::new(2, 3, 4).macs(), 24);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "lab",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields)
)]
pub struct Extents {
    /// Rows of activations and outputs.
    pub m: u64,
    /// Rows of weights, columns of outputs.
    pub n: u64,
    /// The depth.
    pub k: u64,
}

impl Extents {
    /// These extents.
    #[must_use]
    pub const fn new(m: u64, n: u64, k: u64) -> Self {
        Self { m, n, k }
    }

    /// Multiply-accumulates, at most `u64::MAX`.
    #[must_use]
    pub const fn macs(self) -> u64 {
        self.m.saturating_mul(self.n).saturating_mul(self.k)
    }

    pub(crate) const fn list(self) -> [u64; 3] {
        [self.m, self.n, self.k]
    }
}

/// What stays in an element while the rest moves. The names are SCALE-Sim's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "lab", derive(serde::Serialize, serde::Deserialize))]
pub enum Dataflow {
    /// `os`: sums stay, activations and weights move.
    #[cfg_attr(feature = "lab", serde(rename = "os"))]
    OutputStationary,
    /// `ws`: weights stay, activations and sums move.
    #[cfg_attr(feature = "lab", serde(rename = "ws"))]
    WeightStationary,
    /// `is`: activations stay, weights and sums move.
    #[cfg_attr(feature = "lab", serde(rename = "is"))]
    InputStationary,
}

impl Dataflow {
    /// All three.
    pub const ALL: [Self; 3] = [Self::OutputStationary, Self::WeightStationary, Self::InputStationary];

    /// `os`, `ws` or `is`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OutputStationary => "os",
            Self::WeightStationary => "ws",
            Self::InputStationary => "is",
        }
    }

    /// Which of M, N, K (0, 1, 2) lies along rows, along columns, in time.
    pub(crate) const fn axes(self) -> [usize; 3] {
        match self {
            Self::OutputStationary => [0, 1, 2],
            Self::WeightStationary => [2, 1, 0],
            Self::InputStationary => [2, 0, 1],
        }
    }
}

impl core::str::FromStr for Dataflow {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|dataflow| dataflow.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| Error::value("dataflow", "os, ws or is", String::from(name)))
    }
}

impl core::fmt::Display for Dataflow {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(self.name())
    }
}

/// An array of processing elements.
///
/// ```
/// use mixgemm::accel::array::{Array, Dataflow, Extents};
/// let array = Array::new(16, 16, Dataflow::OutputStationary)?;
/// let walk = array.walk(Extents::new(128, 64, 256));
/// assert_eq!((walk.folds, walk.cycles), (32, 32 * (256 + 16 + 16 - 2)));
/// assert_eq!((walk.activation_reads, walk.weight_reads, walk.output_writes), (131_072, 131_072, 8192));
/// # Ok::<(), mixgemm::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "lab",
    derive(serde::Serialize, serde::Deserialize),
    serde(try_from = "Fields")
)]
pub struct Array {
    rows: u32,
    cols: u32,
    dataflow: Dataflow,
    /// What one element multiplies in one cycle.
    per_element: Extents,
}

/// [`Array`] as a file has it.
#[cfg(feature = "lab")]
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    rows: u32,
    cols: u32,
    dataflow: Dataflow,
    #[serde(default = "one")]
    per_element: Extents,
}

/// An element that multiplies one pair a cycle.
#[cfg(feature = "lab")]
const fn one() -> Extents {
    Extents::new(1, 1, 1)
}

#[cfg(feature = "lab")]
impl TryFrom<Fields> for Array {
    type Error = Error;

    fn try_from(fields: Fields) -> Result<Self> {
        Self::new(fields.rows, fields.cols, fields.dataflow)?.per_element(fields.per_element)
    }
}

/// How an array gets through a product, if memory never holds it up. Counts are capped at `u64::MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "lab", derive(serde::Serialize))]
pub struct Walk {
    /// Times the array is filled anew.
    pub folds: u64,
    /// A count, not the index of the last cycle.
    pub cycles: u64,
    /// Activations from scratchpad to array.
    pub activation_reads: u64,
    /// Weights from scratchpad to array.
    pub weight_reads: u64,
    /// Sums from array to scratchpad, partial and final.
    pub output_writes: u64,
    /// Partial sums read from the scratchpad to be added to.
    pub partial_reads: u64,
}

impl Array {
    /// An array of `rows × cols` elements, each of which multiplies one pair a cycle.
    ///
    /// # Errors
    /// [`Error::Value`]: no rows, or no columns.
    pub fn new(rows: u32, cols: u32, dataflow: Dataflow) -> Result<Self> {
        for (argument, extent) in [("array.rows", rows), ("array.cols", cols)] {
            if extent == 0 {
                return Err(Error::value(argument, "at least 1", "0"));
            }
        }
        Ok(Self {
            rows,
            cols,
            dataflow,
            per_element: Extents::new(1, 1, 1),
        })
    }

    /// The same array with elements that multiply several narrow pairs a cycle: a block of these extents. A BitFusion
    /// unit that does four products of 4 by 4 bits in place of one of 8 by 8 takes two rows and two columns at once
    /// (arXiv 1712.01507; a factor in each direction of the array).
    ///
    /// ```
    /// use mixgemm::accel::array::{Array, Dataflow, Extents};
    /// let wide = Array::new(4, 4, Dataflow::OutputStationary)?;
    /// let narrow = wide.per_element(Extents::new(2, 2, 1))?;
    /// let e = Extents::new(64, 64, 64);
    /// assert_eq!((wide.walk(e).folds, narrow.walk(e).folds), (256, 64));
    /// # Ok::<(), mixgemm::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Value`]: an extent is zero or above `u32::MAX`.
    pub fn per_element(self, per_element: Extents) -> Result<Self> {
        for (argument, extent) in [
            ("array.per_element.m", per_element.m),
            ("array.per_element.n", per_element.n),
            ("array.per_element.k", per_element.k),
        ] {
            if extent == 0 || extent > u64::from(u32::MAX) {
                return Err(Error::value(argument, "1 to 4294967295", alloc::format!("{extent}")));
            }
        }
        Ok(Self { per_element, ..self })
    }

    /// Rows of elements.
    #[must_use]
    pub const fn rows(&self) -> u32 {
        self.rows
    }

    /// Columns of elements.
    #[must_use]
    pub const fn cols(&self) -> u32 {
        self.cols
    }

    /// What stays in an element.
    #[must_use]
    pub const fn dataflow(&self) -> Dataflow {
        self.dataflow
    }

    /// Rows times columns.
    #[must_use]
    pub const fn elements(&self) -> u64 {
        self.rows as u64 * self.cols as u64
    }

    /// Multiply-accumulates a cycle when every element works, at most `u64::MAX`.
    #[must_use]
    pub const fn macs_per_cycle(&self) -> u64 {
        self.elements().saturating_mul(self.per_element.macs())
    }

    /// The whole product in closed form, in constant time. An empty product takes no cycles.
    #[must_use]
    pub fn walk(&self, e: Extents) -> Walk {
        self.walk_in_pieces(e, 1)
    }

    /// As [`walk`](Self::walk), with the extent in time cut into this many pieces because scratchpads do not hold more.
    /// All folds take their turn with a piece before the next one comes, so what stays in an element is brought in (or
    /// taken out and brought back) once a piece. That moves more words; the cycles are the same, as it is done behind
    /// the wave of the piece before.
    #[must_use]
    pub fn walk_in_pieces(&self, e: Extents, pieces: u64) -> Walk {
        if e.macs() == 0 {
            return Walk::default();
        }
        let [rows, cols, time] = self.dataflow.axes();
        let (extents, per) = (e.list(), self.per_element.list());
        let blocks = |axis: usize| extents[axis].div_ceil(per[axis]);
        let (r, c) = (u64::from(self.rows), u64::from(self.cols));
        let mut passes = [pieces; 3];
        passes[rows] = blocks(rows).div_ceil(r);
        passes[cols] = blocks(cols).div_ceil(c);
        let skew = match self.dataflow {
            Dataflow::OutputStationary => r + c - 2,
            Dataflow::WeightStationary | Dataflow::InputStationary => 2 * r + c - 2,
        };
        let [m, n, k] = extents;
        // An operand goes through the array once for every pass over the extent that it does not have.
        let [over_m, over_n, over_k] = passes;
        let in_space = product([passes[rows], passes[cols], 1]);
        Walk {
            folds: in_space,
            cycles: in_space.saturating_mul(blocks(time).saturating_add(skew)),
            activation_reads: product([m, k, over_n]),
            weight_reads: product([n, k, over_m]),
            output_writes: product([m, n, over_k]),
            partial_reads: product([m, n, over_k.saturating_sub(1)]),
        }
    }

    /// What one element multiplies in one cycle: 1 by 1 by 1 unless [`per_element`](Self::per_element) says otherwise.
    #[must_use]
    pub const fn products(&self) -> Extents {
        self.per_element
    }

    /// The extents of one fold in space; `None` in time, where a fold has no end of its own.
    pub(crate) fn fold(&self) -> [Option<u64>; 3] {
        let [rows, cols, _] = self.dataflow.axes();
        let per = self.per_element.list();
        let mut fold = [None; 3];
        fold[rows] = Some(u64::from(self.rows) * per[rows]);
        fold[cols] = Some(u64::from(self.cols) * per[cols]);
        fold
    }
}

/// At most `u64::MAX`; zero if any factor is, in whichever order.
fn product(factors: [u64; 3]) -> u64 {
    factors.into_iter().fold(1, u64::saturating_mul)
}
