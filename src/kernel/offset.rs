//! Continues a tile by the fractional parts of float zero points, which do not fit the integers of a group.
#![forbid(unsafe_code)]

use crate::kernel::scales::load_scales;
use crate::quant::scheme::ScaleType;
use crate::simd::isa::{Body, Simd, Work};

/// The continuation.
pub(super) struct Offsets;

/// Arguments of [`Offsets`].
#[derive(Debug)]
pub(super) struct OffsetArgs<'a> {
    /// The tile, `[row, nr]`.
    pub(super) y: &'a mut [f32],
    /// Its rows.
    pub(super) rows: usize,
    /// Width of scales and zero points.
    pub(super) scale: ScaleType,
    /// The panel's scales.
    pub(super) scales: &'a [u8],
    /// The panel's zero points.
    pub(super) zeros: &'a [u8],
    /// The greatest integer zero point.
    pub(super) max: f32,
    /// One factor per row, where the fold has them.
    pub(super) factor: Option<&'a [f32]>,
    /// One negative activation sum per row.
    pub(super) negative_sum: &'a [f32],
}

impl Work for Offsets {
    type Args<'a> = OffsetArgs<'a>;
}

impl<S: Simd> Body<S> for Offsets {
    #[inline(always)]
    fn body(simd: S, args: &mut OffsetArgs<'_>) {
        let y = S::floats(args.y);
        let scale = load_scales(simd, args.scale, args.scales);
        let z = load_scales(simd, args.scale, args.zeros);
        for v in 0..2 {
            let offset = simd.split_zero(z[v], args.max).1;
            let scaled = simd.mul_f32(scale[v], offset);
            for m in 0..args.rows {
                let o = match args.factor {
                    Some(factor) => simd.mul_f32(scaled, simd.splat_f32(factor[m])),
                    None => scaled,
                };
                let y = &mut y[2 * m + v];
                let before = simd.load_floats(y);
                let after = simd.fma(simd.splat_f32(args.negative_sum[m]), o, before);
                simd.store_floats(simd.select_nonzero(offset, after, before), y);
            }
        }
    }
}
