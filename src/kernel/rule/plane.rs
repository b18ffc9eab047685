//! The plane rule: each bit of the codes selects activations, and shifts and additions put the bits' sums together. It is
//! the arithmetic of MixPE (arXiv 2411.16158), which multiplies no code: see [`accel`](crate::accel) for the device.
//!
//! # One step
//!
//! Plane p of the codes is their bit p. From the panel that [`layout`](crate::pack::layout) draws, quad 0 of vector 0:
//!
//! ```text
//! codes         00 01 02 03   01 02 03 04   02 03 04 05   03 04 05 06     k 0–3 of c0 | c1 | c2 | c3
//! plane 2       .  .  .  .    .  .  .  a3   .  .  a2 a3   .  a1 a2 a3     where bit 2 is set
//! plane 1       .  .  a2 a3   .  a1 a2 .    a0 a1 .  .    a0 .  .  a3
//! plane 0       .  a1 .  a3   a0 .  a2 .    .  a1 .  a3   a0 .  a2 .
//! c1            a3            a1 + a2       a0 + a2       2·(2·a3 + a1 + a2) + a0 + a2 = 1·a0 + 2·a1 + 3·a2 + 4·a3
//! ```
//!
//! ```text
//! sums = 0
//! for every plane, the highest first:
//!     sums = 2·sums                                             the only shift: once a plane and group
//!     for every unit of the group, every quad of it:
//!         mask[v] = bytes of the unit's block whose bit is set   once for all rows
//!         for every lhs row r:
//!             sums[r][v] += the four activations under mask[v]
//! acc += sums
//! ```
//!
//! # Why it is exact
//!
//! `Σ q·a = Σ_p 2^p · Σ (bit p of q)·a`: the sum of the [direct rule](super::direct) in another order, under the same
//! bounds. A plane's sums are smaller than its group's. Where bytes are added up in pairs in 16 bits, 127 quads fit:
//! `2·128·127 < 2^15`.
//!
//! # Instructions
//!
//! | tier | mask | select and add up |
//! |---|---|---|
//! | `avx512vnni` | `vptestmb` | `vmovdqu8` under the mask, `vpdpbusd` with ones |
//! | `avx2` | `vpand`, `vpcmpeqb` | `vpand`, `vpmaddubsw` with ones, `vpaddw` |
//! | `neon` | `cmtst` | `and`, `sadalp` |
//! | `scalar` | loops over lanes | loops over lanes |
//!
//! # The price, and the ceiling
//!
//! Every plane takes a selection and an addition where the direct rule takes one dot product for all of them. On
//! `avx512vnni` a plane of a quad and eight lhs rows is 2 `vptestmb`, 16 masked moves and 16 `vpdpbusd`: if Zen 5
//! begins two a cycle of the first and the last together, which is not measured apart, the ceiling is `8/9` of the peak of `vpdpbusd` for one bit, and a b-th part of
//! that for b bits: 0.22 for four. Whole products of 48 rows with groups of 128 reach 0.18 for four bits and 0.58 for
//! one, whose groups end four times as often as planes do. On `avx2`, where selecting takes an instruction beside the two of
//! the short rule, one bit has 0.48 of the peak that the short rule has 0.69 of. No width and no tier gains by planes, so
//! selection never takes them by itself.
#![forbid(unsafe_code)]
#![expect(
    clippy::needless_range_loop,
    reason = "loops over register tiles count rows and vectors"
)]

use crate::kernel::Family;
use crate::kernel::rule::unpack::quad;
use crate::kernel::rule::{Reading, Rule, Tile, prefetch};
use crate::pack::layout::{blocks, digits};
use crate::simd::isa::{Planes, Simd};

/// The rule.
#[derive(Debug)]
pub(in crate::kernel) struct Plane;

impl<S: Planes, const B: usize, const U: usize, const P: usize, const R: usize> Rule<S, B, U, P, R> for Plane {
    const FAMILY: Family = Family::Plane;

    #[inline(always)]
    fn group(
        simd: S,
        codes: &[S::Block],
        lhs: &[[[u8; U]; R]],
        reading: Reading<S>,
        mut acc: Tile<S, R>,
    ) -> Tile<S, R> {
        const { assert!(P == blocks(B as u8)) };
        let units = codes.as_chunks::<P>().0.as_chunks::<2>().0;
        for unit in units {
            prefetch(simd, unit, reading.ahead);
        }
        let mut sums = [[simd.splat_i32(0); 2]; R];
        // Constants, so that a plane's place in every quad is known.
        plane::<S, B, U, P, R, 7>(simd, (units, lhs), &mut sums);
        plane::<S, B, U, P, R, 6>(simd, (units, lhs), &mut sums);
        plane::<S, B, U, P, R, 5>(simd, (units, lhs), &mut sums);
        plane::<S, B, U, P, R, 4>(simd, (units, lhs), &mut sums);
        plane::<S, B, U, P, R, 3>(simd, (units, lhs), &mut sums);
        plane::<S, B, U, P, R, 2>(simd, (units, lhs), &mut sums);
        plane::<S, B, U, P, R, 1>(simd, (units, lhs), &mut sums);
        plane::<S, B, U, P, R, 0>(simd, (units, lhs), &mut sums);
        for r in 0..R {
            for v in 0..2 {
                acc[r][v] = simd.add(acc[r][v], sums[r][v]);
            }
        }
        acc
    }
}

/// Units of codes and of lhs rows.
type Units<'a, S, const U: usize, const P: usize, const R: usize> =
    (&'a [[[<S as Simd>::Block; P]; 2]], &'a [[[u8; U]; R]]);

/// Doubles the sums of the planes above and adds what plane `I` selects, where codes have it.
#[inline(always)]
fn plane<S: Planes, const B: usize, const U: usize, const P: usize, const R: usize, const I: usize>(
    simd: S,
    (units, lhs): Units<'_, S, U, P, R>,
    sums: &mut Tile<S, R>,
) {
    if I >= B {
        return;
    }
    for r in 0..R {
        for v in 0..2 {
            sums[r][v] = simd.add(sums[r][v], sums[r][v]);
        }
    }
    // A unit has at most eight quads.
    let run = const { S::QUADS / (U / 4) };
    for (units, lhs) in units.chunks(run).zip(lhs.chunks(run)) {
        let mut selected = [[simd.none_selected(); 2]; R];
        for (unit, lhs) in units.iter().zip(lhs) {
            for q in 0..U / 4 {
                let (block, bit) = place::<B>(I, q);
                let masks = [
                    simd.mask(simd.load(&unit[0][block]), bit),
                    simd.mask(simd.load(&unit[1][block]), bit),
                ];
                for r in 0..R {
                    let quad = quad(simd, &lhs[r], q);
                    for v in 0..2 {
                        selected[r][v] = simd.add_selected(selected[r][v], masks[v], quad);
                    }
                }
            }
        }
        for r in 0..R {
            for v in 0..2 {
                sums[r][v] = simd.settle_selected(sums[r][v], selected[r][v]);
            }
        }
    }
}

/// Where bit `plane` of the codes of quad `q` lies: the block, and the bit of its bytes.
#[inline(always)]
fn place<const B: usize>(plane: usize, q: usize) -> (usize, u32) {
    let digits = const { digits(B as u8) };
    let mut d = digits[0];
    for next in &digits[1..] {
        if next.width > 0 && plane >= next.position as usize {
            d = *next;
        }
    }
    let (width, position) = (d.width as usize, d.position as usize);
    let per_block = 8 / width;
    (
        d.block + q / per_block,
        (q % per_block * width + plane - position) as u32,
    )
}
