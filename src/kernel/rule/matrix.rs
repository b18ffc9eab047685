//! The matrix rule: codes are unpacked to bytes, or looked up in a book, as in the [direct rule](super::direct), and the
//! tier multiplies eight of two columns with eight of two lhs rows at once.
//!
//! # One step
//!
//! Two quads of a vector zipped are the octets of its columns. From the panel that [`layout`](crate::pack::layout)
//! draws, for two lhs rows a and b:
//!
//! ```text
//! quad 0      00 01 02 03 | 01 02 03 04 | 02 03 04 05 | 03 04 05 06     k 0–3 of c0 | c1 | c2 | c3
//! quad 1      04 05 06 07 | 05 06 07 08 | 06 07 08 09 | 07 08 09 0A     k 4–7
//! zip, 0      00 01 02 03   04 05 06 07 | 01 02 03 04   05 06 07 08     k 0–7 of c0 | c1
//! zip, 1      02 03 04 05   06 07 08 09 | 03 04 05 06   07 08 09 0A     k 0–7 of c2 | c3
//! rows        a0 a1 a2 a3   a4 a5 a6 a7 | b0 b1 b2 b3   b4 b5 b6 b7
//! lanes       += c0·a   += c0·b   += c1·a   += c1·b                     zip 0; zip 1 for c2 and c3
//! ```
//!
//! Likewise two rows' sums, `c0 c1 c2 c3` each, zipped are the 2 × 2 blocks that products are added to, so a group's
//! sums are zipped where it starts and unzipped where it ends, and the fold sees what it sees from every rule.
//!
//! ```text
//! zip the accumulators of every pair of lhs rows
//! for every pair of quads of the group:
//!     columns[v] = zip(unpack(first quad), unpack(second quad))         once for all rows
//!     for every pair of lhs rows:
//!         rows = their eight bytes each
//!         acc[half][v] = matrix_dot(acc[half][v], columns[v][half], rows)
//! unzip them
//! ```
//!
//! A unit of 8-bit codes is one quad, so two units make an octet; behind an odd number of units the second quad is
//! zero.
//!
//! # Why it is exact
//!
//! The sums are those of the direct rule in another order, and so are the bounds: all arithmetic is modulo 2^32, where
//! order does not matter. Codes are unsigned, slices signed, as the instruction takes them.
//!
//! # Instructions
//!
//! | tier | zip and unzip | rows | matrix_dot |
//! |---|---|---|---|
//! | `neoni8mm` | `zip1`, `zip2`; `uzp1`, `uzp2` | four quads, loaded as one vector | `usmmla` |
//! | `scalar`, 12 lanes (feature `testing`) | loops over lanes | | loops over lanes |
//!
//! # The price of one rule for all
//!
//! One `usmmla` does the work of two `usdot`. The panel is that of every rule, so octets are zipped in the loop: two
//! instructions a vector and octet, for all lhs rows of the tile together. A panel of octets would save them and serve
//! no other tier. Lhs rows come in pairs: tiles with an odd number of them are rows of the direct rule on the same
//! tier.
#![forbid(unsafe_code)]
#![expect(
    clippy::needless_range_loop,
    reason = "loops over register tiles count rows and vectors"
)]

use crate::kernel::Family;
use crate::kernel::rule::unpack::unpack;
use crate::kernel::rule::{Reading, Rule, Tile};
use crate::pack::layout::blocks;
use crate::simd::isa::{MatrixDot, Simd};

/// The rule, for even numbers of lhs rows, on plain codes or on those of a book.
#[derive(Debug)]
pub(in crate::kernel) struct Matrix<const BOOK: bool = false>;

impl<S: MatrixDot, const BOOK: bool, const B: usize, const U: usize, const P: usize, const R: usize> Rule<S, B, U, P, R>
    for Matrix<BOOK>
{
    const FAMILY: Family = Family::Matrix;
    const BOOK: bool = BOOK;
    const ROWS: usize = 2;

    #[inline(always)]
    fn group(
        simd: S,
        codes: &[S::Block],
        lhs: &[[[u8; U]; R]],
        reading: Reading<S>,
        mut acc: Tile<S, R>,
    ) -> Tile<S, R> {
        const { assert!(P == blocks(B as u8) && (B == 4 || !BOOK)) };
        for p in 0..R / 2 {
            for v in 0..2 {
                [acc[2 * p][v], acc[2 * p + 1][v]] = simd.zip(acc[2 * p][v], acc[2 * p + 1][v]);
            }
        }
        let units = codes.as_chunks::<P>().0.as_chunks::<2>().0;
        if U > 4 {
            for (unit, lhs) in units.iter().zip(lhs) {
                for o in 0..U / 8 {
                    let (first, second) = ((unit, lhs, 2 * o), (unit, lhs, 2 * o + 1));
                    step::<S, BOOK, B, U, P, R>(simd, first, Some(second), reading, &mut acc);
                }
            }
        } else {
            // A unit is one quad, so an octet takes two of them.
            let ((pairs, last), (lhs_pairs, last_lhs)) = (units.as_chunks::<2>(), lhs.as_chunks::<2>());
            for (units, lhs) in pairs.iter().zip(lhs_pairs) {
                let (first, second) = ((&units[0], &lhs[0], 0), (&units[1], &lhs[1], 0));
                step::<S, BOOK, B, U, P, R>(simd, first, Some(second), reading, &mut acc);
            }
            for (unit, lhs) in last.iter().zip(last_lhs) {
                step::<S, BOOK, B, U, P, R>(simd, (unit, lhs, 0), None, reading, &mut acc);
            }
        }
        for p in 0..R / 2 {
            for v in 0..2 {
                [acc[2 * p][v], acc[2 * p + 1][v]] = simd.unzip(acc[2 * p][v], acc[2 * p + 1][v]);
            }
        }
        acc
    }
}

/// A unit of codes, the unit of lhs rows beside it, and one quad of both.
type Quad<'a, S, const U: usize, const P: usize, const R: usize> =
    (&'a [[<S as Simd>::Block; P]; 2], &'a [[u8; U]; R], usize);

/// One octet: two quads, or one and zeros. Its columns are put together once and serve all lhs rows.
#[inline(always)]
fn step<S: MatrixDot, const BOOK: bool, const B: usize, const U: usize, const P: usize, const R: usize>(
    simd: S,
    first: Quad<'_, S, U, P, R>,
    second: Option<Quad<'_, S, U, P, R>>,
    reading: Reading<S>,
    acc: &mut Tile<S, R>,
) {
    let mut columns = [[simd.splat_i32(0); 2]; 2];
    for v in 0..2 {
        let low = unpack::<S, B, BOOK>(simd, &first.0[v], first.2, reading);
        let high = match second {
            Some(second) => unpack::<S, B, BOOK>(simd, &second.0[v], second.2, reading),
            None => simd.splat_i32(0),
        };
        columns[v] = simd.zip(low, high);
    }
    for p in 0..R / 2 {
        let mut rows = [[[0; 4]; 2]; 2];
        for i in 0..2 {
            rows[i][0] = bytes(&first.1[2 * p + i], first.2);
            if let Some(second) = second {
                rows[i][1] = bytes(&second.1[2 * p + i], second.2);
            }
        }
        let rows = simd.splat_octets(rows);
        for v in 0..2 {
            for half in 0..2 {
                acc[2 * p + half][v] = simd.matrix_dot(acc[2 * p + half][v], columns[v][half], rows);
            }
        }
    }
}

/// Quad `q` of an lhs row.
#[inline(always)]
fn bytes<const U: usize>(lhs: &[u8; U], q: usize) -> [u8; 4] {
    [lhs[4 * q], lhs[4 * q + 1], lhs[4 * q + 2], lhs[4 * q + 3]]
}
