//! Floor 4: micro-kernels. A kernel is a row of the [`catalogue`]: a rule, a tier, a tile, a number of activation
//! slices and a width, compiled from one skeleton. It multiplies one tile of activation rows with one panel of weights,
//! over a run of groups, into a scratch tile; it knows nothing of strides, edges, output types or threads.
#![forbid(unsafe_code)]

pub mod catalogue;
pub mod fold;
pub mod name;
pub mod offset;
pub mod rule;
mod scales;
pub mod select;
pub mod sweep;
pub mod wide;

use crate::pack::activations::LhsTile;
use crate::pack::layout::{PanelLayout, ZeroLayout};
use crate::quant::book::CodeBook;
use crate::quant::scheme::ScaleType;
use crate::simd::cpu::Isa;
use crate::simd::isa::{Body, Simd};
use core::sync::atomic::{AtomicUsize, Ordering};
use wide::WideArgs;

/// How a group's integer sums continue y.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FoldKind {
    /// `y = fma(T, rne(s·t), y)`: modes `a8` and `a16`, one or two slices.
    GroupScale,
    /// `y = fma(T, s, y)`: the modes whose t belongs to the epilogue, one slice.
    Plain,
    /// `y = fma(T·u, s, y)` with a power of two u: mode `exact`, two slices or more.
    Unit,
}

/// What comes out of a kernel.
#[derive(Debug)]
pub enum TileOut<'a> {
    /// The tiles of y, `[panel, mr, nr]`, continued.
    Fold(&'a mut [f32]),
    /// The digit × slice sums D of every group and lhs row, `[group, lhs row, nr]`, without zero points.
    Raw(&'a mut [i32]),
    /// `D − z·B` of every group and lhs row, `[group, lhs row, nr]`; `2D − B` for one symmetric bit.
    Sums(&'a mut [i32]),
}

/// Integers that join the sums of some groups of a run.
#[derive(Debug, Clone, Copy, Default)]
pub struct RestSums<'a> {
    /// For each group of the run the number of its block, or [`RestSums::NONE`]; empty where no group has one.
    pub blocks: &'a [u32],
    /// The blocks, each of `[panel, mr, nr]`.
    pub sums: &'a [i32],
    /// From one block to the next.
    pub step: usize,
}

impl<'a> RestSums<'a> {
    /// The number of no block.
    pub const NONE: u32 = u32::MAX;

    /// The integers of a group from a place of its block on; none where it has no block.
    #[inline(always)]
    fn of(&self, group: usize, first: usize) -> &'a [i32] {
        match self.blocks.get(group) {
            None | Some(&Self::NONE) => &[],
            Some(&block) => &self.sums[block as usize * self.step + first..],
        }
    }
}

/// The products of one tile with a run of neighbouring panels, over `groups` groups of equal length and, but for slices
/// that lie apart, of equal slice count.
#[derive(Debug)]
pub struct TileArgs<'a> {
    /// Panels in the run; 1 where sums are stored.
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
    /// Width of scales and float zero points.
    pub scale: ScaleType,
    /// How zero points are stored.
    pub zero: ZeroLayout,
    /// One symmetric bit: the sums are `2D − B`.
    pub sign_only: bool,
    /// What codes are numbers of; a row for [books](PanelLayout::book) needs one, others ignore it.
    pub book: Option<&'a CodeBook>,
    /// The tile's slices from the first group on.
    pub lhs: &'a [u8],
    /// Bytes from one group to the next.
    pub lhs_bytes: usize,
    /// Biases of the first group's lhs rows, and the step to the next group's.
    pub bias: (&'a [i32], usize),
    /// Which groups have a slice more that lies apart, with its biases: only where the kernel has three and folds.
    pub apart: &'a [bool],
    /// Factors of the first group's rows, and the step to the next group's.
    pub factor: (&'a [f32], usize),
    /// Negative activation sums of the first group's rows; the step is that of the factors.
    pub negative_sum: &'a [f32],
    /// What joins the groups' sums before they are rounded: only where the kernel has one slice and folds.
    pub rest: RestSums<'a>,
    /// Bytes by which codes that come from memory are prefetched ahead.
    pub ahead: usize,
    /// How the fold scales.
    pub fold: FoldKind,
    /// The result.
    pub out: TileOut<'a>,
}

/// What one step over k means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// Byte dot products of unpacked codes with activation bytes, in 32 bits.
    Direct,
    /// The same products, added up in 16 bits first.
    Short,
    /// The direct rule, two columns by two lhs rows at once.
    Matrix,
    /// Sums of the activations that each bit plane of the codes selects, put together by shifts and additions.
    Plane,
    /// Sums of four activations at once, looked up by four bits of weights.
    Table,
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
    /// k in a unit.
    pub unit: usize,
    /// Bytes that it reads for an activation.
    pub lhs: usize,
    /// Activation slices. Kernels with three also fold groups of four, whose lowest slice lies apart.
    pub slices: usize,
    /// Activation rows of the tile.
    pub mr: usize,
    name: name::Name,
    run: fn(&mut TileArgs<'_>),
    fold_wide: fn(&mut WideArgs<'_>),
    supported: fn() -> bool,
    expand: Option<fn(&mut LhsTile)>,
    calls: AtomicUsize,
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
        (self.supported)()
    }

    /// Calls by products of this process so far, one for each panel: sums of groups or of runs of groups. Counted by the
    /// products' workers when each ends, so a product that runs may be missing.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed) as u64
    }

    /// Adds calls that a worker has counted.
    fn count(&self, calls: usize) {
        self.calls.fetch_add(calls, Ordering::Relaxed);
    }

    /// Prepares a packed tile whose groups have all this kernel's slices. Panics where the tier does not exist.
    pub fn expand(&self, tile: &mut LhsTile) {
        if let Some(expand) = self.expand {
            expand(tile);
        }
    }

    /// What it reads of a tile: `lhs` times as many bytes as the tile has slices.
    #[must_use]
    pub fn lhs_of<'a>(&self, tile: &'a LhsTile) -> &'a [u8] {
        if self.expand.is_some() {
            &tile.expanded
        } else {
            &tile.bytes
        }
    }

    /// Runs it. Panics where the tier does not exist, a book is missing or the slices are shorter than the arguments say.
    pub fn run(&self, args: &mut TileArgs<'_>) {
        (self.run)(args);
    }

    /// Continues a tile of so many rows by one group whose `D − z·B`, `[row, slice, nr]`, are stored. Panics as
    /// [`Kernel::run`], and where the arguments do not ask for a fold.
    pub fn fold_wide(&self, args: &mut TileArgs<'_>, (rows, slices): (usize, usize), sums: &[i32]) {
        let TileOut::Fold(y) = &mut args.out else {
            panic!("stored sums are folded into y");
        };
        let max = (1u32 << self.layout.bits) as f32;
        (self.fold_wide)(&mut WideArgs {
            sums,
            slices,
            y,
            rows,
            scale: args.scale,
            scales: args.records,
            zeros: (args.zero == ZeroLayout::Float).then_some((args.zeros, max)),
            factor: args.factor.0,
            negative_sum: args.negative_sum,
            fold: args.fold,
        });
    }
}

/// Enters the tier's frame; the only way into a kernel.
fn enter<S: Simd, B: Body<S>>(args: &mut B::Args<'_>) {
    S::detect()
        .expect("selection offers only kernels of supported tiers")
        .frame::<B>(args);
}

/// Whether this CPU has what a token proves.
fn has<S: Simd>() -> bool {
    S::detect().is_some()
}
