//! The direct rule for tiers without a dot product of bytes: products are added up in 16 bits, and settled into the
//! 32-bit accumulators before those sums can overflow. Codes of 8 bits are two nibbles; those of a book are looked up.
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
//! What a code of a book stands for is a digit of its own when all of them are small enough for a unit, two quads, between
//! settlements: up to 63 on x86, up to 127 on NEON. MXFP4 reaches 24, so that five quads, two units, may be added up on
//! x86. The bytes of other books are two nibbles, as those of 8 bits.
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
use crate::kernel::rule::{Reading, Rule, Tile, each_quad, prefetch};
use crate::pack::layout::blocks;
use crate::simd::isa::{ShortSums, Simd};
use core::cmp;

/// The rule, on plain codes or on those of a book.
#[derive(Debug)]
pub(in crate::kernel) struct Short<const BOOK: bool = false>;

/// The largest digit.
const fn largest(bits: usize) -> usize {
    (1 << if bits == 8 { 4 } else { bits }) - 1
}

/// Quads between two settlements.
const fn quads(digit: usize, terms: usize) -> usize {
    32_767 / (terms * 128 * digit)
}

impl<S: ShortSums, const BOOK: bool, const B: usize, const U: usize, const P: usize, const R: usize> Rule<S, B, U, P, R>
    for Short<BOOK>
{
    const FAMILY: Family = Family::Short;
    const BOOK: bool = BOOK;

    #[inline(always)]
    fn group(
        simd: S,
        codes: &[S::Block],
        lhs: &[[[u8; U]; R]],
        reading: Reading<S>,
        mut acc: Tile<S, R>,
    ) -> Tile<S, R> {
        const { assert!(P == blocks(B as u8) && (B == 4 || !BOOK)) };
        let units = codes.as_chunks::<P>().0.as_chunks::<2>().0;
        let most = const { quads(largest(B), S::TERMS) };
        // Units between two settlements; where one has too many quads, it is settled on the way as well.
        let run = cmp::max(most / (U / 4), 1);
        if BOOK {
            // Entries of 128 or more have no unit between settlements on any tier.
            let whole = quads(cmp::max(reading.largest, 1).into(), S::TERMS) / (U / 4);
            if whole > 0 {
                runs::<S, BOOK, false, B, U, P, R>(simd, (units, lhs), whole, reading, &mut acc);
            } else {
                runs::<S, BOOK, true, B, U, P, R>(simd, (units, lhs), run, reading, &mut acc);
            }
        } else if B == 8 {
            runs::<S, BOOK, true, B, U, P, R>(simd, (units, lhs), run, reading, &mut acc);
        } else {
            runs::<S, BOOK, false, B, U, P, R>(simd, (units, lhs), run, reading, &mut acc);
        }
        acc
    }
}

/// The products of one group, settled after every `run` units. `SPLIT` multiplies nibbles apart.
#[inline(always)]
fn runs<
    S: ShortSums,
    const BOOK: bool,
    const SPLIT: bool,
    const B: usize,
    const U: usize,
    const P: usize,
    const R: usize,
>(
    simd: S,
    (units, lhs): Units<'_, S, U, P, R>,
    run: usize,
    reading: Reading<S>,
    acc: &mut Tile<S, R>,
) {
    // Full runs have a length that the compiler knows, but for books.
    let (mut full, mut full_lhs) = (units.chunks_exact(run), lhs.chunks_exact(run));
    for part in full.by_ref().zip(full_lhs.by_ref()) {
        settled::<S, BOOK, SPLIT, B, U, P, R>(simd, part, reading, acc);
    }
    let rest = (full.remainder(), full_lhs.remainder());
    if !rest.0.is_empty() {
        settled::<S, BOOK, SPLIT, B, U, P, R>(simd, rest, reading, acc);
    }
}

/// The products of a run of units, settled.
#[inline(always)]
fn settled<
    S: ShortSums,
    const BOOK: bool,
    const SPLIT: bool,
    const B: usize,
    const U: usize,
    const P: usize,
    const R: usize,
>(
    simd: S,
    part: Units<'_, S, U, P, R>,
    reading: Reading<S>,
    acc: &mut Tile<S, R>,
) {
    for unit in part.0 {
        prefetch(simd, unit, reading.ahead);
    }
    if SPLIT {
        products::<S, BOOK, B, U, P, R>(simd, part, Nibble::Low, reading, acc);
        products::<S, BOOK, B, U, P, R>(simd, part, Nibble::High, reading, acc);
    } else {
        products::<S, BOOK, B, U, P, R>(simd, part, Nibble::Whole, reading, acc);
    }
}

/// Which bits of what codes stand for are multiplied.
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
fn products<S: ShortSums, const BOOK: bool, const B: usize, const U: usize, const P: usize, const R: usize>(
    simd: S,
    (units, lhs): Units<'_, S, U, P, R>,
    nibble: Nibble,
    reading: Reading<S>,
    acc: &mut Tile<S, R>,
) {
    let most = const { quads(largest(B), S::TERMS) };
    let left = if nibble == Nibble::High { 4 } else { 0 };
    let mut short = [[simd.no_sums(); 2]; R];
    for (unit, lhs) in units.iter().zip(lhs) {
        for r in 0..R {
            for v in 0..2 {
                short[r][v] = simd.pin(short[r][v]);
            }
        }
        each_quad!(U, P, R, q, {
            // A unit of a book has few enough quads, or is split.
            if !BOOK && q > 0 && q % most == 0 {
                settle::<S, R>(simd, acc, &short, left);
                short = [[simd.no_sums(); 2]; R];
            }
            let mut codes = [
                unpack::<S, B, BOOK>(simd, &unit[0], q, reading),
                unpack::<S, B, BOOK>(simd, &unit[1], q, reading),
            ];
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
