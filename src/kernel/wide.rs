//! The fold from stored sums of long groups, whose slices do not fit 32 bits together, in f64.
//!
//! The sums `D_j`, corrected by their zero points, fit an i32 (`span·128·group < 2^31`). `Σ_j 256^j·D_j` is exact in f64
//! for up to three slices (`2^23·span·group < 2^47`), and for four while `span·group < 2^22`.
#![forbid(unsafe_code)]

use crate::kernel::FoldKind;
use crate::kernel::offset::{OffsetArgs, Offsets};
use crate::kernel::scales::load_scales;
use crate::quant::scheme::ScaleType;
use crate::simd::isa::{Body, Simd, Work};

/// One group of a tile whose sums are stored.
#[derive(Debug)]
pub struct WideArgs<'a> {
    /// `D − z·B`, `[row, slice, nr]`.
    pub sums: &'a [i32],
    /// Activation slices, 2 to 4.
    pub slices: usize,
    /// The tile of y, `[row, nr]`, continued.
    pub y: &'a mut [f32],
    /// Its rows.
    pub rows: usize,
    /// Width of scales and float zero points.
    pub scale: ScaleType,
    /// The panel's scales.
    pub scales: &'a [u8],
    /// The panel's zero points where they are floats, and the greatest integer zero point.
    pub zeros: Option<(&'a [u8], f32)>,
    /// One factor per row.
    pub factor: &'a [f32],
    /// One negative activation sum per row.
    pub negative_sum: &'a [f32],
    /// How the fold scales.
    pub fold: FoldKind,
}

/// The fold.
pub(super) struct Wide;

impl Work for Wide {
    type Args<'a> = WideArgs<'a>;
}

impl<S: Simd> Body<S> for Wide {
    #[inline(always)]
    fn body(simd: S, args: &mut WideArgs<'_>) {
        match args.slices {
            2 => rows::<S, 2>(simd, args),
            3 => rows::<S, 3>(simd, args),
            4 => rows::<S, 4>(simd, args),
            slices => unreachable!("{slices} slices are not folded in f64"),
        }
        if let Some((zeros, max)) = args.zeros {
            simd.frame::<Offsets>(&mut OffsetArgs {
                y: args.y,
                rows: args.rows,
                scale: args.scale,
                scales: args.scales,
                zeros,
                max,
                factor: (args.fold == FoldKind::GroupScale).then_some(args.factor),
                negative_sum: args.negative_sum,
            });
        }
    }
}

#[inline(always)]
fn rows<S: Simd, const SL: usize>(simd: S, args: &mut WideArgs<'_>) {
    let (y, scale) = (S::floats(args.y), load_scales(simd, args.scale, args.scales));
    let sums = S::int_blocks(args.sums);
    for m in 0..args.rows {
        let factor = simd.splat_f32(args.factor[m]);
        for v in 0..2 {
            let mut slices = [simd.splat_i32(0); SL];
            for j in 0..SL {
                slices[j] = simd.load_i32(&sums[2 * (m * SL + j) + v]);
            }
            let sum = simd.slices_to_f32(slices);
            let y = &mut y[2 * m + v];
            // Plain folds have a factor of 1.
            let (sum, scale) = match args.fold {
                FoldKind::GroupScale => (sum, simd.mul_f32(scale[v], factor)),
                FoldKind::Plain | FoldKind::Unit => (simd.mul_f32(sum, factor), scale[v]),
            };
            simd.store_floats(simd.fma(sum, scale, simd.load_floats(y)), y);
        }
    }
}
