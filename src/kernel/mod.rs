//! Floor 4: micro-kernels. A kernel is a row of the [`catalogue`]: a rule, a tier, a tile, a number of activation
//! slices and a width, compiled from one skeleton. It multiplies one tile of activation rows with one panel of weights,
//! over a run of groups, into a scratch tile; it knows nothing of strides, edges, output types or threads.
#![forbid(unsafe_code)]

pub mod catalogue;
pub mod fold;
pub mod name;
pub mod rule;
pub mod select;
pub mod sweep;

use crate::pack::layout::{PanelLayout, ZeroLayout};
use crate::quant::scheme::ScaleType;
use crate::simd::cpu::Isa;
use crate::simd::isa::Simd;

/// How a group's integer sums continue y.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FoldKind {
    /// `y = fma(T, rne(s·t), y)`: modes `a8` and `a16`.
    GroupScale,
    /// `y = fma(T, s, y)`: the modes whose t belongs to the epilogue.
    Plain,
    /// `y = fma(T·u, s, y)` with a power of two u: mode `exact`.
    Unit,
}

/// What comes out of a kernel.
#[derive(Debug)]
pub enum TileOut<'a> {
    /// The tiles of y, `[panel, mr, nr]`, continued.
    Fold(&'a mut [f32]),
    /// The digit × slice sums D of every group and lhs row, `[group, lhs row, nr]`, without zero points.
    Raw(&'a mut [i32]),
}

/// The products of one tile with a run of neighbouring panels, over `groups` groups of equal length and slice count.
#[derive(Debug)]
pub struct TileArgs<'a> {
    /// Panels in the run, all of the same number of vectors; 1 for raw sums.
    pub panels: usize,
    /// Bytes from one panel to the next.
    pub panel_bytes: usize,
    /// Groups in the run.
    pub groups: usize,
    /// Units in each group.
    pub units: usize,
    /// Records (scales, codes) of the first panel from the first group on, and all that follows.
    pub records: &'a [u8],
    /// Bytes from one record to the next.
    pub record_bytes: usize,
    /// Zero points of the first panel from the first group on, and all that follows.
    pub zeros: &'a [u8],
    /// Vectors of a panel: 1 or 2. With 1, the second half of the tile repeats the first.
    pub vectors: usize,
    /// Whether the sums of slices are put together in f64; see [`fold`].
    pub wide: bool,
    /// Width of scales and float zero points.
    pub scale: ScaleType,
    /// How zero points are stored.
    pub zero: ZeroLayout,
    /// One symmetric bit: the sums are `2D − B`.
    pub sign_only: bool,
    /// The tile's slices from the first group on.
    pub lhs: &'a [u8],
    /// Bytes from one group to the next.
    pub lhs_bytes: usize,
    /// Biases of the first group's lhs rows, and the step to the next group's.
    pub bias: (&'a [i32], usize),
    /// Factors of the first group's rows, and the step to the next group's.
    pub factor: (&'a [f32], usize),
    /// Negative activation sums of the first group's rows; the step is that of the factors.
    pub negative_sum: &'a [f32],
    /// How the fold scales.
    pub fold: FoldKind,
    /// The result.
    pub out: TileOut<'a>,
}

/// What one step over k means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// Byte dot products of unpacked codes with activation bytes.
    Direct,
}

/// One row of the catalogue.
#[derive(Debug)]
pub struct Kernel {
    /// The rule.
    pub family: Family,
    /// The tier.
    pub isa: Isa,
    /// The layout of weights that it reads.
    pub layout: PanelLayout,
    /// k in a unit of an lhs row.
    pub unit: usize,
    /// Activation slices.
    pub slices: usize,
    /// Activation rows of the tile.
    pub mr: usize,
    name: name::Name,
    run: fn(&mut TileArgs<'_>),
}

impl Kernel {
    /// Columns of the tile.
    #[must_use]
    pub const fn nr(&self) -> usize {
        self.layout.nr()
    }

    /// Whether this CPU can run it.
    #[must_use]
    pub fn supported(&self) -> bool {
        self.isa.supported()
    }

    /// Runs it. Panics where the tier does not exist or the slices are shorter than the arguments say.
    pub fn run(&self, args: &mut TileArgs<'_>) {
        (self.run)(args);
    }
}

/// Enters the tier's frame; the only way into a kernel.
fn enter<S: Simd, B: for<'a> crate::simd::isa::Body<Args<'a> = TileArgs<'a>>>(args: &mut TileArgs<'_>) {
    S::detect()
        .expect("selection offers only kernels of supported tiers")
        .frame::<B>(args);
}
