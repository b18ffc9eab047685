//! The group boundary: zero points enter as the accumulators' first value, slices are put together, rounded once and
//! scaled into y.
//!
//! With `D_j` the sum of slice j, already corrected by its zero point, the group's integer is `Σ_j 256^j·D_j`. The
//! formulas below are exact up to their one rounding while `2^bits·32896·group < 2^31 − 2^16`, which makes
//! `D_0 + 256·D_1` and `D_2 + 256·D_3` fit an i32 (wrapping on the way is harmless):
//!
//! * one slice: `T = f32(D_0)`
//! * two: `T = f32(D_0 + 256·D_1)`
//! * three: with `m = D_0 + 256·D_1`, `T = fma(f32(D_2 + (m >> 16)), 65536, f32(m & 65535))`. Both conversions are exact:
//!   `|D_2 + (m >> 16)| < 2^31/257 + 2^15 < 2^24`.
//! * four: `hi = D_2 + 256·D_3 + (m >> 16)`, rounded once from `hi·65536 + (m & 65535)`.
//!
//! Longer groups are *wide*: the `D_j` still fit an i32 (`2^bits·128·group < 2^31`) and are put together in f64, which is
//! exact for up to three slices (`2^23·2^bits·group < 2^47`) and for four while `2^bits·group < 2^22`. What is left, five
//! slices and more included, the caller folds from raw sums.
#![forbid(unsafe_code)]
#![expect(
    clippy::needless_range_loop,
    reason = "loops over register tiles count rows and vectors"
)]

use crate::kernel::rule::direct::Tile;
use crate::kernel::{FoldKind, TileArgs, TileOut};
use crate::pack::layout::ZeroLayout;
use crate::quant::scheme::ScaleType;
use crate::simd::isa::Simd;

/// Where one group of a run starts in every operand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group<'a> {
    /// The panel's scales.
    scales: &'a [u8],
    /// The panel's zero points.
    zeros: &'a [u8],
    /// One bias per lhs row.
    bias: &'a [i32],
    /// One factor per row.
    factor: &'a [f32],
    /// One negative activation sum per row.
    negative_sum: &'a [f32],
}

impl<'a> Group<'a> {
    /// Group `i` of panel `p` of the run.
    #[inline(always)]
    pub(super) fn of<const MR: usize, const R: usize>(
        args: &TileArgs<'a>,
        p: usize,
        i: usize,
        zero_bytes: usize,
    ) -> Self {
        let (panel, factors) = (p * args.panel_bytes, i * args.factor.1);
        Self {
            scales: &args.records[panel + i * args.record_bytes..],
            zeros: &args.zeros[panel + i * zero_bytes * args.vectors..],
            bias: &args.bias.0[i * args.bias.1..][..R],
            factor: &args.factor.0[factors..][..MR],
            negative_sum: &args.negative_sum[factors..][..MR],
        }
    }
}

#[inline(always)]
fn load_scale<S: Simd>(simd: S, scale: ScaleType, bytes: &[u8]) -> S::F {
    match scale {
        ScaleType::F16 => simd.load_f16(bytes),
        ScaleType::Bf16 => simd.load_bf16(bytes),
        ScaleType::F32 => simd.load_f32(bytes),
    }
}

/// Offset of the second vector in something stored vector after vector; with one vector, that one serves twice.
#[inline(always)]
fn second(vectors: usize, bytes: usize) -> usize {
    if vectors == 2 { bytes } else { 0 }
}

/// The panel's scales or float zero points.
#[inline(always)]
fn load_scales<S: Simd>(simd: S, scale: ScaleType, vectors: usize, bytes: &[u8]) -> [S::F; 2] {
    let at = second(vectors, S::LANES * scale.bytes());
    [load_scale(simd, scale, bytes), load_scale(simd, scale, &bytes[at..])]
}

/// The accumulators' first values: `−z·B` per slice, so that the zero points cost one multiplication per group.
#[inline(always)]
pub(super) fn start<S: Simd, const B: usize, const R: usize>(
    simd: S,
    args: &TileArgs<'_>,
    group: Group<'_>,
) -> Tile<S, R> {
    let mut acc = [[simd.splat_i32(0); 2]; R];
    if matches!(args.out, TileOut::Raw(_)) || (B == 1 && args.sign_only) {
        return acc;
    }
    let (lanes, z) = (S::LANES, group.zeros);
    let zeros = match args.zero {
        ZeroLayout::None => {
            for r in 0..R {
                acc[r] = [simd.splat_i32(group.bias[r]); 2];
            }
            return acc;
        }
        ZeroLayout::Nibble => [
            simd.load_nibbles(z),
            simd.load_nibbles(&z[second(args.vectors, lanes.div_ceil(2))..]),
        ],
        ZeroLayout::Byte => [simd.load_bytes(z), simd.load_bytes(&z[second(args.vectors, lanes)..])],
        ZeroLayout::Word => [
            simd.load_words(z),
            simd.load_words(&z[second(args.vectors, 2 * lanes)..]),
        ],
        ZeroLayout::Float => {
            let (z, max) = (
                load_scales(simd, args.scale, args.vectors, z),
                const { (1u32 << B) as f32 },
            );
            [simd.split_zero(z[0], max).0, simd.split_zero(z[1], max).0]
        }
    };
    for r in 0..R {
        let bias = simd.splat_i32(group.bias[r]);
        acc[r] = [simd.mul(zeros[0], bias), simd.mul(zeros[1], bias)];
    }
    acc
}

/// `T` of one row and vector.
#[inline(always)]
fn total<S: Simd, const SL: usize, const R: usize>(simd: S, acc: &Tile<S, R>, wide: bool, m: usize, v: usize) -> S::F {
    let d = m * SL;
    if SL == 1 {
        return simd.to_f32(acc[d][v]);
    }
    if wide {
        let mut slices = [acc[d][v]; SL];
        for j in 1..SL {
            slices[j] = acc[d + j][v];
        }
        return simd.slices_to_f32(slices);
    }
    let low = simd.add(acc[d][v], simd.shl8(acc[d + 1][v]));
    match SL {
        2 => simd.to_f32(low),
        3 => {
            let hi = simd.to_f32(simd.add(acc[d + 2][v], simd.high16(low)));
            simd.fma(hi, simd.splat_f32(65_536.0), simd.to_f32(simd.low16(low)))
        }
        4 => {
            let high = simd.add(acc[d + 2][v], simd.shl8(acc[d + 3][v]));
            simd.wide_to_f32(simd.add(high, simd.high16(low)), simd.low16(low))
        }
        _ => unreachable!("more than four slices are folded from raw sums"),
    }
}

/// Continues y of panel `p` by one group, or stores the raw sums of group `i`.
#[inline(always)]
pub(super) fn finish<S: Simd, const B: usize, const SL: usize, const MR: usize, const R: usize>(
    simd: S,
    args: &mut TileArgs<'_>,
    (p, i): (usize, usize),
    group: Group<'_>,
    mut acc: Tile<S, R>,
) {
    let y = match &mut args.out {
        TileOut::Raw(sums) => {
            let sums = &mut S::ints(sums)[2 * R * i..][..2 * R];
            for r in 0..R {
                simd.store_i32(acc[r][0], &mut sums[2 * r]);
                simd.store_i32(acc[r][1], &mut sums[2 * r + 1]);
            }
            return;
        }
        TileOut::Fold(y) => &mut S::floats(y)[2 * MR * p..][..2 * MR],
    };
    if SL > 4 {
        unreachable!("more than four slices are folded from raw sums");
    }
    if B == 1 && args.sign_only {
        for r in 0..R {
            let bias = simd.splat_i32(group.bias[r]);
            for v in 0..2 {
                acc[r][v] = simd.add(simd.add(acc[r][v], acc[r][v]), bias);
            }
        }
    }
    let wide = args.wide;
    let scale = load_scales(simd, args.scale, args.vectors, group.scales);
    match args.fold {
        FoldKind::GroupScale => {
            for m in 0..MR {
                let t = simd.splat_f32(group.factor[m]);
                for v in 0..2 {
                    let y = &mut y[2 * m + v];
                    let next = simd.fma(
                        total::<S, SL, R>(simd, &acc, wide, m, v),
                        simd.mul_f32(scale[v], t),
                        simd.load_floats(y),
                    );
                    simd.store_floats(next, y);
                }
            }
        }
        FoldKind::Plain => {
            for m in 0..MR {
                for v in 0..2 {
                    let y = &mut y[2 * m + v];
                    simd.store_floats(
                        simd.fma(total::<S, SL, R>(simd, &acc, wide, m, v), scale[v], simd.load_floats(y)),
                        y,
                    );
                }
            }
        }
        FoldKind::Unit => {
            for m in 0..MR {
                let unit = simd.splat_f32(group.factor[m]);
                for v in 0..2 {
                    let y = &mut y[2 * m + v];
                    let value = simd.mul_f32(total::<S, SL, R>(simd, &acc, wide, m, v), unit);
                    simd.store_floats(simd.fma(value, scale[v], simd.load_floats(y)), y);
                }
            }
        }
    }
    if args.zero == ZeroLayout::Float {
        let (z, max) = (
            load_scales(simd, args.scale, args.vectors, group.zeros),
            const { (1u32 << B) as f32 },
        );
        let offset = [simd.split_zero(z[0], max).1, simd.split_zero(z[1], max).1];
        for m in 0..MR {
            let sum = simd.splat_f32(group.negative_sum[m]);
            for v in 0..2 {
                let y = &mut y[2 * m + v];
                let mut o = simd.mul_f32(scale[v], offset[v]);
                if args.fold == FoldKind::GroupScale {
                    o = simd.mul_f32(o, simd.splat_f32(group.factor[m]));
                }
                let before = simd.load_floats(y);
                simd.store_floats(simd.select_nonzero(offset[v], simd.fma(sum, o, before), before), y);
            }
        }
    }
}
