//! The group boundary: zero points enter as the accumulators' first value, slices are put together, rounded once and
//! scaled into y.
//!
//! With `D_j` the sum of slice j, already corrected by its zero point, the group's integer is `Σ_j 256^j·D_j`. The
//! formulas below are exact up to their one rounding while `span·32896·group < 2^31 − 2^16` (with the
//! [span](crate::Scheme::span) of the weights, `2^bits` without a book), which makes
//! `D_0 + 256·D_1` and `D_2 + 256·D_3` fit an i32 (wrapping on the way is harmless):
//!
//! * one slice: `T = f32(D_0)`
//! * two: `T = f32(D_0 + 256·D_1)`
//! * three: with `m = D_0 + 256·D_1`, `T = fma(f32(D_2 + (m >> 16)), 65536, f32(m & 65535))`. Both conversions are exact:
//!   `|D_2 + (m >> 16)| < 2^31/257 + 2^15 < 2^24`.
//! * four, D_0 from the slice that lies apart: with `m = D_1 + 256·D_2` and `low = D_0 + 256·(m & 65535)`,
//!   `T = fma(f32(D_3 + (m >> 16) + (low >> 24)), 2^24, f32(low & (2^24 − 1)))`, its parts exact for the same reason.
//!
//! Zero points are taken off m as a whole: its first slice starts from, or is given, `−z·(B_0 + 256·B_1)`.
//!
//! Longer groups are folded from stored sums, by [`wide`](crate::kernel::wide) or by the caller; five slices and more
//! always.
#![forbid(unsafe_code)]
#![expect(
    clippy::needless_range_loop,
    reason = "loops over register tiles count rows and vectors"
)]

use crate::kernel::offset::{OffsetArgs, Offsets};
use crate::kernel::rule::Tile;
use crate::kernel::scales::load_scales;
use crate::kernel::{FoldKind, TileArgs, TileOut};
use crate::pack::layout::ZeroLayout;
use crate::quant::scheme::ScaleType;
use crate::simd::isa::Simd;

/// How the groups of a run are folded.
#[derive(Debug, Clone, Copy)]
pub(super) struct How {
    /// Width of scales and float zero points.
    scale: ScaleType,
    /// How zero points are stored.
    zero: ZeroLayout,
    /// One symmetric bit.
    sign_only: bool,
    /// Sums without zero points are asked for.
    raw: bool,
    /// How the fold scales.
    fold: FoldKind,
    /// Whether groups are folded, not stored.
    folds: bool,
}

impl How {
    #[inline(always)]
    pub(super) fn of(args: &TileArgs<'_>) -> Self {
        Self {
            scale: args.scale,
            zero: args.zero,
            sign_only: args.sign_only,
            raw: matches!(args.out, TileOut::Raw(_)),
            fold: args.fold,
            folds: matches!(args.out, TileOut::Fold(_)),
        }
    }

    /// Whether the bias of lhs row `r` is part of that of the lhs row before it, of `slices` slices.
    #[inline(always)]
    fn joined(self, slices: usize, r: usize) -> bool {
        slices > 1 && r % slices == 1 && self.folds
    }
}

/// Where one group of a run starts in every operand. Stepping from group to group costs one comparison an operand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group<'a> {
    /// The panel's scales and codes.
    pub(super) record: &'a [u8],
    /// The lhs rows' slices.
    pub(super) lhs: &'a [u8],
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
    /// The first group of the run's first panel.
    #[inline(always)]
    pub(super) fn first(args: &TileArgs<'a>) -> Self {
        Self {
            record: args.records,
            lhs: args.lhs,
            zeros: args.zeros,
            bias: args.bias.0,
            factor: args.factor.0,
            negative_sum: args.negative_sum,
        }
    }

    /// The group's slices that lie apart, after `lhs` bytes and `rows` lhs rows.
    #[inline(always)]
    pub(super) fn apart(self, lhs: usize, rows: usize) -> Self {
        Self {
            lhs: &self.lhs[lhs..],
            bias: &self.bias[rows..],
            ..self
        }
    }

    /// The next group, or the group in the next panel. Past the last one nothing may be left.
    #[inline(always)]
    pub(super) fn next(self, steps: &Steps) -> Self {
        Self {
            record: self.record.get(steps.record..).unwrap_or_default(),
            lhs: self.lhs.get(steps.lhs..).unwrap_or_default(),
            zeros: self.zeros.get(steps.zeros..).unwrap_or_default(),
            bias: self.bias.get(steps.bias..).unwrap_or_default(),
            factor: self.factor.get(steps.factor..).unwrap_or_default(),
            negative_sum: self.negative_sum.get(steps.factor..).unwrap_or_default(),
        }
    }
}

/// From one group or panel to the next.
#[derive(Debug, Clone, Copy)]
pub(super) struct Steps {
    record: usize,
    lhs: usize,
    zeros: usize,
    bias: usize,
    factor: usize,
}

impl Steps {
    /// From one panel to the next.
    #[inline(always)]
    pub(super) fn panels(args: &TileArgs<'_>) -> Self {
        Self {
            record: args.panel_bytes,
            lhs: 0,
            zeros: args.panel_bytes,
            bias: 0,
            factor: 0,
        }
    }

    /// From one group to the next.
    #[inline(always)]
    pub(super) fn groups<S: Simd>(args: &TileArgs<'_>) -> Self {
        let lanes = S::LANES;
        let zeros = match args.zero {
            ZeroLayout::None => 0,
            ZeroLayout::Nibble => 2 * lanes.div_ceil(2),
            ZeroLayout::Byte => 2 * lanes,
            ZeroLayout::Word => 4 * lanes,
            ZeroLayout::Float => 2 * lanes * args.scale.bytes(),
        };
        Self {
            record: args.record_bytes,
            lhs: args.lhs_bytes,
            zeros,
            bias: args.bias.1,
            factor: args.factor.1,
        }
    }
}

/// The accumulators' first values: `−z·B` where there are zero points, so that they cost a multiplication a group for each
/// slice, or for two that are put together first. Symmetric weights start at 0 and get theirs from [`correct`]: additions
/// there are off the critical path, which loads here are on. Where a rule takes `origin` off every code, `origin·B` is
/// added back.
#[inline(always)]
pub(super) fn start<S: Simd, const B: usize, const SL: usize, const R: usize>(
    simd: S,
    how: How,
    group: Group<'_>,
    origin: i32,
) -> Tile<S, R> {
    let mut acc = [[simd.splat_i32(0); 2]; R];
    let bias: &[i32; R] = group.bias.first_chunk().expect("a bias for every lhs row");
    if how.raw && origin != 0 {
        // The bias is −B, or −z·B for symmetric weights, whose z an origin is.
        let factor = if how.zero == ZeroLayout::None { 1 } else { origin };
        for r in 0..R {
            acc[r] = [simd.splat_i32(-factor * bias[r]); 2];
        }
        return acc;
    }
    let (lanes, z) = (S::LANES, group.zeros);
    let zeros = match how.zero {
        _ if how.raw => return nothing(simd),
        ZeroLayout::None => return nothing(simd),
        ZeroLayout::Nibble => [simd.load_nibbles(z), simd.load_nibbles(&z[lanes.div_ceil(2)..])],
        ZeroLayout::Byte => [simd.load_bytes(z), simd.load_bytes(&z[lanes..])],
        ZeroLayout::Word => [simd.load_words(z), simd.load_words(&z[2 * lanes..])],
        ZeroLayout::Float => {
            let (z, max) = (load_scales(simd, how.scale, z), const { (1u32 << B) as f32 });
            [simd.split_zero(z[0], max).0, simd.split_zero(z[1], max).0]
        }
    };
    for r in 0..R {
        if how.joined(SL, r) {
            continue;
        }
        let bias = simd.splat_i32(bias[r]);
        for v in 0..2 {
            let zero = if origin == 0 {
                zeros[v]
            } else {
                simd.add(zeros[v], simd.splat_i32(-origin))
            };
            acc[r][v] = simd.mul(zero, bias);
        }
    }
    acc
}

/// Accumulators of 0. They are opaque so that only the roads that need them clear registers.
#[inline(always)]
fn nothing<S: Simd, const R: usize>(simd: S) -> Tile<S, R> {
    let mut acc = [[simd.splat_i32(0); 2]; R];
    for r in 0..R {
        for v in 0..2 {
            acc[r][v] = simd.opaque(acc[r][v]);
        }
    }
    acc
}

/// `T` of one row and vector; `lowest` has the sums of the slices that lie apart.
#[inline(always)]
fn total<S: Simd, const SL: usize, const MR: usize, const R: usize>(
    simd: S,
    acc: &Tile<S, R>,
    row: usize,
    v: usize,
    lowest: Option<&Tile<S, MR>>,
) -> S::F {
    let d = row * SL;
    if SL == 1 {
        return simd.to_f32(acc[d][v]);
    }
    let m = simd.add(acc[d][v], simd.shl8(acc[d + 1][v]));
    if SL == 2 {
        return simd.to_f32(m);
    }
    let (high, low) = (simd.add(acc[d + 2][v], simd.high16(m)), simd.low16(m));
    let Some(lowest) = lowest else {
        return simd.fma(simd.to_f32(high), simd.splat_f32(65_536.0), simd.to_f32(low));
    };
    let low = simd.add(lowest[row][v], simd.shl8(low));
    let high = simd.add(high, simd.sar(low, 24));
    let low = simd.to_f32(simd.low24(low));
    simd.fma(simd.to_f32(high), simd.splat_f32(16_777_216.0), low)
}

/// Adds to the accumulators what [`start`] left out.
#[inline(always)]
pub(super) fn correct<S: Simd, const B: usize, const SL: usize, const R: usize>(
    simd: S,
    how: How,
    group: Group<'_>,
    origin: i32,
    acc: &mut Tile<S, R>,
) {
    if how.raw || how.zero != ZeroLayout::None {
        return;
    }
    let bias: &[i32; R] = group.bias.first_chunk().expect("a bias for every lhs row");
    // An origin is that of 8-bit codes and their symmetric zero point: nothing is left to add.
    if origin == 0 {
        for r in 0..R {
            let bias = simd.splat_i32(bias[r]);
            for v in 0..2 {
                if B == 1 && how.sign_only {
                    acc[r][v] = simd.add(acc[r][v], acc[r][v]);
                }
                if !how.joined(SL, r) {
                    acc[r][v] = simd.add(acc[r][v], bias);
                }
            }
        }
    }
}

/// Stores the sums of one group, `[lhs row, nr]`.
#[inline(always)]
pub(super) fn store<S: Simd, const B: usize, const SL: usize, const R: usize>(
    simd: S,
    how: How,
    group: Group<'_>,
    origin: i32,
    mut acc: Tile<S, R>,
    sums: &mut [i32],
) {
    correct::<S, B, SL, R>(simd, how, group, origin, &mut acc);
    let sums = &mut S::ints(sums)[..2 * R];
    for r in 0..R {
        simd.store_i32(acc[r][0], &mut sums[2 * r]);
        simd.store_i32(acc[r][1], &mut sums[2 * r + 1]);
    }
}

/// Continues a panel's tile of y, `[row, nr]`, by one group.
#[inline(always)]
pub(super) fn finish<S: Simd, const B: usize, const SL: usize, const MR: usize, const R: usize>(
    simd: S,
    how: How,
    group: Group<'_>,
    origin: i32,
    mut acc: Tile<S, R>,
    (lowest, rest): (Option<Tile<S, MR>>, &[i32]),
    tile: &mut [f32],
) {
    correct::<S, B, SL, R>(simd, how, group, origin, &mut acc);
    if SL == 1 && !rest.is_empty() {
        let rest = &S::int_blocks(rest)[..2 * R];
        for r in 0..R {
            for v in 0..2 {
                acc[r][v] = simd.add(acc[r][v], simd.load_i32(&rest[2 * r + v]));
            }
        }
    }
    let factor: &[f32; MR] = group.factor.first_chunk().expect("a factor for every row");
    let y = S::floats(tile);
    let scale = load_scales(simd, how.scale, group.record);
    // Which modes have how many slices: see `FoldKind`.
    match how.fold {
        FoldKind::GroupScale if SL <= 2 => {
            for m in 0..MR {
                let t = simd.splat_f32(factor[m]);
                for v in 0..2 {
                    let y = &mut y[2 * m + v];
                    let sum = total::<S, SL, MR, R>(simd, &acc, m, v, None);
                    let next = simd.fma(sum, simd.mul_f32(scale[v], t), simd.load_floats(y));
                    simd.store_floats(next, y);
                }
            }
        }
        FoldKind::Plain if SL == 1 => {
            for m in 0..MR {
                for v in 0..2 {
                    let y = &mut y[2 * m + v];
                    let sum = total::<S, SL, MR, R>(simd, &acc, m, v, None);
                    simd.store_floats(simd.fma(sum, scale[v], simd.load_floats(y)), y);
                }
            }
        }
        FoldKind::Unit if matches!(SL, 2..=3) => match lowest {
            None => units::<S, SL, MR, R>(simd, &acc, None, factor, scale, y),
            Some(lowest) => units::<S, SL, MR, R>(simd, &acc, Some(&lowest), factor, scale, y),
        },
        kind => unreachable!("{kind:?} of {SL} slices"),
    }
    if how.zero == ZeroLayout::Float {
        simd.frame::<Offsets>(&mut OffsetArgs {
            y: tile,
            rows: MR,
            scale: how.scale,
            scales: group.record,
            zeros: group.zeros,
            max: const { (1u32 << B) as f32 },
            factor: (how.fold == FoldKind::GroupScale).then_some(group.factor),
            negative_sum: group.negative_sum,
        });
    }
}

/// `y = fma(T·u, s, y)` for all rows.
#[inline(always)]
fn units<S: Simd, const SL: usize, const MR: usize, const R: usize>(
    simd: S,
    acc: &Tile<S, R>,
    lowest: Option<&Tile<S, MR>>,
    factor: &[f32; MR],
    scale: [S::F; 2],
    y: &mut [S::Floats],
) {
    for m in 0..MR {
        let unit = simd.splat_f32(factor[m]);
        for v in 0..2 {
            let y = &mut y[2 * m + v];
            let value = simd.mul_f32(total::<S, SL, MR, R>(simd, acc, m, v, lowest), unit);
            simd.store_floats(simd.fma(value, scale[v], simd.load_floats(y)), y);
        }
    }
}
