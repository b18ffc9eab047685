//! The direct rule for tiers without a dot product of bytes: products are added up in 16 bits, and settled into the
//! 32-bit accumulators before those sums can overflow. Codes of 8 bits are two nibbles.
//!
//! # One step
//!
//! Codes are unpacked as in the [direct rule](super::direct). With lane 0 of the panel that
//! [`layout`](crate::pack::layout) draws, whose codes are 0, 1, 2, … :
//!
//! ```text
//! codes, quad 0             00       01       02       03
//! quad 0 of an lhs row      a0       a1       a2       a3
//! x86: two 16-bit sums    += 0·a0 + 1·a1    += 2·a2 + 3·a3          two products to a sum
//! NEON: four              += 0·a0  += 1·a1  += 2·a2  += 3·a3        one
//! settle, lane 0          acc += the lane's sums                    in 32 bits
//! ```
//!
//! ```text
//! for every run of units that may be added up in 16 bits:
//!     short[r][v] = 0
//!     for every unit of the run, every quad q of it:
//!         codes[v] = unpack(unit[v], q)
//!         for every lhs row r:
//!             quad = splat(lhs[r][4q .. 4q + 4])
//!             short[r][v] = add_products(short[r][v], codes[v], quad)
//!     acc[r][v] = settle(acc[r][v], short[r][v])
//! ```
//!
//! A run of 8-bit codes is gone through twice, for the low nibbles and for the high ones, whose sums are settled
//! shifted left by 4.
//!
//! # Why it is exact
//!
//! One sum takes `TERMS` products a quad, each at most `digit·128` in magnitude, so after
//! `⌊32767 / (TERMS·128·digit)⌋` quads it must be settled:
//!
//! | bits | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 |
//! |---|---|---|---|---|---|---|---|---|
//! | digit | 1 | 3 | 7 | 15 | 31 | 63 | 127 | 15 twice |
//! | quads on x86, two terms | 127 | 42 | 18 | 8 | 4 | 2 | 1 | 8 |
//! | quads on NEON, one term | 255 | 85 | 36 | 17 | 8 | 4 | 2 | 17 |
//!
//! `vpmaddubsw` saturates, but never here: two products of codes below 128 come to 32512 at most. Runs are whole units,
//! so the last quads of a run may stay unused; where a single unit has too many quads it is cut. The 32-bit
//! accumulators are those of the direct rule, with the same bounds.
//!
//! # Instructions
//!
//! | tier | add products | settle |
//! |---|---|---|
//! | `avx2` | `vpmaddubsw`, `vpaddw` on 32 bytes | `vpmaddwd` with `2^left`, `vpaddd` |
//! | `avx512` | the same on 64 bytes | the same |
//! | `neon` | `smlal`, `smlal2` on 16 bytes | `saddlp` twice, `addp`, `sshl`, `add` |
//!
//! # The price of one rule for all
//!
//! Two instructions a vector and quad instead of one dot product, settling once a run, and registers for the 16-bit
//! sums beside the accumulators. Codes of 8 bits take twice the work of 4-bit ones per byte, as `vpmaddubsw` would
//! saturate on them.
#![forbid(unsafe_code)]
#![expect(
    clippy::needless_range_loop,
    reason = "loops over register tiles count rows and vectors"
)]

use crate::kernel::Family;
use crate::kernel::rule::unpack::{quad, unpack};
use crate::kernel::rule::{Rule, Tile, each_quad, prefetch};
use crate::pack::layout::blocks;
use crate::simd::isa::{ShortSums, Simd};
use core::cmp;

/// The rule.
#[derive(Debug)]
pub(in crate::kernel) struct Short;

/// Quads between two settlements.
const fn quads(bits: usize, terms: usize) -> usize {
    let digit = (1 << if bits == 8 { 4 } else { bits }) - 1;
    32_767 / (terms * 128 * digit)
}

impl<S: ShortSums, const B: usize, const U: usize, const P: usize, const R: usize> Rule<S, B, U, P, R> for Short {
    const FAMILY: Family = Family::Short;

    #[inline(always)]
    fn group(simd: S, codes: &[S::Block], lhs: &[[[u8; U]; R]], ahead: usize, mut acc: Tile<S, R>) -> Tile<S, R> {
        const { assert!(P == blocks(B as u8)) };
        let most = const { quads(B, S::TERMS) };
        // Units between two settlements; where one has too many quads, it is settled on the way as well.
        let run = cmp::max(most / (U / 4), 1);
        let units = codes.as_chunks::<P>().0.as_chunks::<2>().0;
        // Full runs have a length that the compiler knows.
        let (mut full, mut full_lhs) = (units.chunks_exact(run), lhs.chunks_exact(run));
        for part in full.by_ref().zip(full_lhs.by_ref()) {
            settled::<S, B, U, P, R>(simd, part, ahead, &mut acc);
        }
        let rest = (full.remainder(), full_lhs.remainder());
        if !rest.0.is_empty() {
            settled::<S, B, U, P, R>(simd, rest, ahead, &mut acc);
        }
        acc
    }
}

/// The products of a run of units, settled.
#[inline(always)]
fn settled<S: ShortSums, const B: usize, const U: usize, const P: usize, const R: usize>(
    simd: S,
    part: Units<'_, S, U, P, R>,
    ahead: usize,
    acc: &mut Tile<S, R>,
) {
    for unit in part.0 {
        prefetch(simd, unit, ahead);
    }
    if B == 8 {
        products::<S, B, U, P, R>(simd, part, Nibble::Low, acc);
        products::<S, B, U, P, R>(simd, part, Nibble::High, acc);
    } else {
        products::<S, B, U, P, R>(simd, part, Nibble::Whole, acc);
    }
}

/// Which bits of a code are multiplied.
#[derive(Clone, Copy, PartialEq)]
enum Nibble {
    Whole,
    Low,
    High,
}

/// Units of codes and of lhs rows.
type Units<'a, S, const U: usize, const P: usize, const R: usize> =
    (&'a [[[<S as Simd>::Block; P]; 2]], &'a [[[u8; U]; R]]);

/// The products of one nibble of every code, settled.
#[inline(always)]
fn products<S: ShortSums, const B: usize, const U: usize, const P: usize, const R: usize>(
    simd: S,
    (units, lhs): Units<'_, S, U, P, R>,
    nibble: Nibble,
    acc: &mut Tile<S, R>,
) {
    let most = const { quads(B, S::TERMS) };
    let left = if nibble == Nibble::High { 4 } else { 0 };
    let mut short = [[simd.no_sums(); 2]; R];
    for (unit, lhs) in units.iter().zip(lhs) {
        for r in 0..R {
            for v in 0..2 {
                short[r][v] = simd.pin(short[r][v]);
            }
        }
        each_quad!(U, P, R, q, {
            if q > 0 && q % most == 0 {
                settle::<S, R>(simd, acc, &short, left);
                short = [[simd.no_sums(); 2]; R];
            }
            let mut codes = [unpack::<S, B>(simd, &unit[0], q), unpack::<S, B>(simd, &unit[1], q)];
            for v in 0..2 {
                codes[v] = match nibble {
                    Nibble::Whole => codes[v],
                    Nibble::Low => simd.field(codes[v], 0, 0, 15),
                    Nibble::High => simd.field(codes[v], 4, 0, 15),
                };
            }
            for r in 0..R {
                let quad = quad(simd, &lhs[r], q);
                for v in 0..2 {
                    short[r][v] = simd.add_products(short[r][v], codes[v], quad);
                }
            }
        });
    }
    settle::<S, R>(simd, acc, &short, left);
}

/// Adds the 16-bit sums to the accumulators.
#[inline(always)]
fn settle<S: ShortSums, const R: usize>(simd: S, acc: &mut Tile<S, R>, short: &[[S::P; 2]; R], left: u32) {
    for r in 0..R {
        for v in 0..2 {
            acc[r][v] = simd.settle(acc[r][v], short[r][v], left);
        }
    }
}
