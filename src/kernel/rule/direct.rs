//! The direct rule: codes are unpacked to bytes and multiplied with activation bytes by the tier's dot product.
//!
//! # One step
//!
//! The panel that [`layout`](crate::pack::layout) draws, its first unit, vector 0: one load, then two quads of four
//! columns each, against bytes 0 to 3 and 4 to 7 of an lhs row, the same in every lane:
//!
//! ```text
//! byte          80          84          88          92
//! load          40 51 62 73 51 62 73 84 62 73 84 95 73 84 95 A6
//! & 0F          00 01 02 03 01 02 03 04 02 03 04 05 03 04 05 06     k 0–3 of c0 | c1 | c2 | c3
//! >> 4 & 0F     04 05 06 07 05 06 07 08 06 07 08 09 07 08 09 0A     k 4–7
//! quad 0        a0 a1 a2 a3 a0 a1 a2 a3 a0 a1 a2 a3 a0 a1 a2 a3
//! lane 0        += 0·a0 + 1·a1 + 2·a2 + 3·a3, then += 4·a4 + 5·a5 + 6·a6 + 7·a7
//! ```
//!
//! ```text
//! acc[r][v] = −z·B                                     (fold::start)
//! for every unit of the group:
//!     for every quad q of the unit:
//!         codes[v] = unpack(unit[v], q)                for both vectors v: once for all rows
//!         for every lhs row r:
//!             quad = splat(lhs[r][4q .. 4q + 4])
//!             acc[r][v] = dot(acc[r][v], codes[v], quad)
//! ```
//!
//! Codes of several digits are unpacked digit by digit and put together by `or`. Few lhs rows take a second loop, where
//! codes are one digit below 8 bits and the dot product takes unsigned bytes: quad q's codes are masked but not shifted,
//! have accumulators of their own, and the sums are shifted at the group's end. Where the dot product takes signed
//! bytes, codes of 8 bits are moved by 128 (their top bit is flipped), and accumulators start at `−z·B + 128·B`.
//!
//! Codes of a [book](crate::CodeBook) are looked up once they are unpacked, and shifted even for few lhs rows. What is
//! multiplied is `v + z`, or v where the dot product takes signed bytes.
//!
//! # Why it is exact
//!
//! A code, or what it stands for, is at most 255, a slice at least −128 and at most 127, a group at most 65536 long:
//! `|Σ q·a| ≤ 255·128·65536 < 2^31`. A quad's own sum, `2^(q·bits)` times too large, is under the same bound:
//! `(2^bits − 1)·2^(q·bits) ≤ 255`.
//! What accumulators start from may make them wrap on the way; as arithmetic modulo 2^32 is a ring, `D − z·B` is right
//! in the end where it fits an i32, that is for `span·128·group < 2^31`. Longer groups are folded from sums without
//! zero points.
//!
//! # Instructions
//!
//! | tier | load and unpack | broadcast | dot |
//! |---|---|---|---|
//! | `avx512vnni` | `vmovdqu64`, `vpsrlw`, `vpandq` on 64 bytes; `vpshufb` for a book | `vpbroadcastd` | `vpdpbusd`, unsigned × signed |
//! | `avxvnni` | their 256-bit forms | `vpbroadcastd` | `vpdpbusd` |
//! | `neondot` | `ldr`, `ushr`, `and` on 16 bytes; `tbl` for a book | `dup` | `sdot`, signed × signed |
//! | `neoni8mm`, odd numbers of lhs rows | the same | `dup` | `usdot`, unsigned × signed |
//! | `scalar` | loops over lanes | | four products and their sum |
//!
//! # The price of one rule for all
//!
//! A unit of 4-bit codes and 12 lhs rows is 87 instructions on `avx512vnni` (rustc 1.95): 48 dot products, 24
//! broadcasts, 8 to load and unpack, 2 prefetches, 5 of the loop. The broadcasts are what broadcasting rows costs, and unpacking is
//! repeated for every tile of rows; in return there is no horizontal sum, and every width, tier and tile height is one of
//! these two loops. Each row of the catalogue is compiled anew, which costs compile time and code size.
#![forbid(unsafe_code)]
#![expect(
    clippy::needless_range_loop,
    reason = "loops over register tiles count rows and vectors"
)]

use crate::kernel::Family;
use crate::kernel::rule::unpack::{quad, unpack};
use crate::kernel::rule::{Reading, Rule, Tile, each_quad, prefetch};
use crate::pack::layout::blocks;
use crate::simd::isa::Dot;

/// The rule, on plain codes or on those of a book. Where the dot product takes signed bytes, codes of 8 bits are moved by
/// 128, and levels of a book are taken as they are.
#[derive(Debug)]
pub(in crate::kernel) struct Direct<const BOOK: bool = false>;

/// Whether the quads of a unit are accumulated apart, where registers allow it and the dot product takes unsigned bytes:
/// see [`step_apart`].
const fn apart<S: Dot>(bits: usize, per_unit: usize, quads: usize, lhs_rows: usize) -> bool {
    !S::SIGNED && per_unit == 1 && bits < 8 && 2 * lhs_rows * quads <= S::REGISTERS * 3 / 4
}

impl<S: Dot, const BOOK: bool, const B: usize, const U: usize, const P: usize, const R: usize> Rule<S, B, U, P, R>
    for Direct<BOOK>
{
    const FAMILY: Family = Family::Direct;
    const BOOK: bool = BOOK;
    const ORIGIN: i32 = if S::SIGNED && (B == 8 || BOOK) { 128 } else { 0 };

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
        if const { apart::<S>(B, P, U / 4, R) } {
            let mut sets = [[[simd.splat_i32(0); 2]; R]; 8];
            sets[0] = acc;
            for (unit, lhs) in units.iter().zip(lhs) {
                step_apart::<S, BOOK, B, U, P, R>(simd, unit, lhs, reading, &mut sets);
            }
            acc = sets[0];
            let left = if BOOK { 0 } else { B };
            for q in 1..U / 4 {
                for r in 0..R {
                    for v in 0..2 {
                        acc[r][v] = simd.add(acc[r][v], simd.sar(sets[q][r][v], (q * left) as u32));
                    }
                }
            }
        } else {
            for (unit, lhs) in units.iter().zip(lhs) {
                step::<S, BOOK, B, U, P, R>(simd, unit, lhs, reading, &mut acc);
            }
        }
        acc
    }
}

/// One unit: each quad's codes are unpacked once and serve all lhs rows.
#[inline(always)]
fn step<S: Dot, const BOOK: bool, const B: usize, const U: usize, const P: usize, const R: usize>(
    simd: S,
    unit: &[[S::Block; P]; 2],
    lhs: &[[u8; U]; R],
    reading: Reading<S>,
    acc: &mut Tile<S, R>,
) {
    const { assert!(matches!(U, 4 | 8 | 16 | 32)) };
    each_quad!(U, P, R, q, {
        let mut codes = [
            unpack::<S, B, BOOK>(simd, &unit[0], q, reading),
            unpack::<S, B, BOOK>(simd, &unit[1], q, reading),
        ];
        if S::SIGNED && B == 8 {
            for v in 0..2 {
                codes[v] = simd.xor(codes[v], simd.splat_quad([0x80; 4]));
            }
        }
        for r in 0..R {
            let quad = quad(simd, &lhs[r], q);
            acc[r][0] = simd.dot(acc[r][0], codes[0], quad);
            acc[r][1] = simd.dot(acc[r][1], codes[1], quad);
        }
    });
    // At the end: at the start, compilers keep fewer codes in registers.
    prefetch(simd, unit, reading.ahead);
}

/// One unit for few lhs rows, whose codes come from memory: their arithmetic fills the reorder window before enough loads
/// are under way, and prefetches start those loads earlier. Quad q's codes stay where they are in their bytes, `2^(q·B)` times too large, and have
/// accumulators of their own: no shifts, and as many independent chains as quads. The sums are multiples of `2^(q·B)`
/// and, like those of 8-bit codes, fit 32 bits for groups up to 65536: `255·128·65536 < 2^31`.
#[inline(always)]
fn step_apart<S: Dot, const BOOK: bool, const B: usize, const U: usize, const P: usize, const R: usize>(
    simd: S,
    unit: &[[S::Block; P]; 2],
    lhs: &[[u8; U]; R],
    reading: Reading<S>,
    sets: &mut [Tile<S, R>; 8],
) {
    prefetch(simd, unit, reading.ahead);
    for q in 0..U / 4 {
        let mask = (((1u32 << B) - 1) << (q * B)) as u8;
        for v in 0..2 {
            let codes = if BOOK {
                unpack::<S, B, BOOK>(simd, &unit[v], q, reading)
            } else {
                simd.field(simd.load(&unit[v][0]), 0, 0, mask)
            };
            for r in 0..R {
                sets[q][r][v] = simd.dot(sets[q][r][v], codes, quad(simd, &lhs[r], q));
            }
        }
    }
}
