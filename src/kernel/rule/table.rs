//! The table rule, for codes of one bit: four of them are the number of an entry in a table of sixteen exact sums of
//! activations, so that one look-up does the work of four multiplications.
//!
//! # One step
//!
//! In the [`layout`](crate::pack::layout) of one-bit codes, bit j of byte i of a column is the code of `k = 4j + i`. The
//! four bits of half h of that byte select some of four activations, and table (h, i) has the sixteen sums that they may
//! select. For byte 0 of a column, with `a0 = 100` and `a8 = 90`:
//!
//! ```text
//! byte 0                 B5 = 1011 0101              the codes of k 28 24 20 16, 12 8 4 0
//! halves 1 and 0         B, 5                        entry B of table (1, 0), entry 5 of table (0, 0)
//! entry 5 of (0, 0)      a0 + a8 = 190               stored as 190 & 127 = 62 and 190 >> 7 = 1
//! entry B of (1, 0)      a16 + a20 + a28
//!
//! tables[h][0]           low parts of (h, 0)  | of (h, 1) | of (h, 2) | of (h, 3)     16 bytes each: one register
//! tables[h][1]           the high parts, in the same order
//! ```
//!
//! The codes lie as for every other rule, and a unit of an lhs row is 256 bytes of tables instead of 32 activations, made
//! once, when a tile is packed. Tables are large, so a run of panels takes a group together: while the group's tables
//! are in the first-level cache.
//!
//! ```text
//! for every unit of the group:
//!     entries = both halves of every byte of both vectors        once for all rows
//!     for every lhs row r:
//!         low, high = the entries' parts
//!         acc[r][v] += Σ low + 128·Σ high                        over both halves and the four bytes of a column
//! ```
//!
//! # Why it is exact
//!
//! Four activations come to −512 to 508: the low part of a sum takes 7 bits, the high part is −4 to 3. Two low parts
//! fit an unsigned byte and two high parts a signed one, so the halves are added up in bytes. What comes out is the sum of
//! the [direct rule](super::direct) in another order, and its bounds are the same.
//!
//! # Instructions
//!
//! | tier | entries | look-up of 512 codes | sum of 512 codes |
//! |---|---|---|---|
//! | `avx512vnni` with VBMI | `vpsrlw`, `vpternlogd` | 4 `vpermb`, the table's number in bits 4 and 5 | 2 `vpaddb`, 2 `vpdpbusd` with 1 and with 128 |
//! | `avx2` | bytes brought in order of i: `vpshufb`, `vpermd`, `vpunpcklqdq` | 8 `vpshufb` | 6 `vpaddb`, 4 `vpaddw`, 2 `vpsrlw`; some 20 more every eight units |
//! | `neon` | `ushr`, `and`, `orr` | 16 `tbl` of four registers | 8 `add`, 4 `uadalp`, 4 `sadalp` |
//! | `scalar` | none | loops over lanes | loops over lanes |
//!
//! # The price, and the ceiling
//!
//! A unit of eight lhs rows is 134 instructions of vector arithmetic on `avx512vnni`, 64 of them `vpermb` and 32
//! `vpdpbusd`, for the work of 128 `vpdpbusd` (rustc 1.95). Zen 5 begins four a cycle, two of them `vpdpbusd`: the loop's
//! ceiling is 1.9 of the peak of `vpdpbusd`, and some 1.6 with the ends of groups of 128. Whole products of 48 rows,
//! tables made and groups folded, reach 1.1 of the peak with groups of 128 and 1.25 with groups of 512, where the direct
//! rule has 0.73 for the former: two thirds of the ceiling, and more the fewer groups end.
//!
//! On `avx2` a unit of four lhs rows is 92 such instructions for the work of 256 of the [short](super::short) rule; they
//! reach 0.80 of the peak that the short rule reaches 0.69 of, and spill a few registers.
//!
//! Where one group's tables do not fit the first-level cache, 256 bytes a row for every 32 activations, they come from the
//! second level for every panel: with a whole row of 4096 to a group, tables and the direct rule are even. A tile's
//! tables are eight times the size of its activations, and a product keeps them all.
//!
//! Other widths have no rows. A code of b bits would be b planes of look-ups, `b / 128` of a `vpermb` a code, where the
//! direct rule takes `1 / 64` of a `vpdpbusd` whatever the width: at two bits they are even before sums are added up.
#![forbid(unsafe_code)]

use crate::kernel::Family;
use crate::kernel::rule::{Reading, Rule, Tile};
use crate::simd::isa::{SumTables, Tables};

/// The rule.
#[derive(Debug)]
pub(in crate::kernel) struct Table;

/// Bytes of the tables of one lhs row's unit.
const BYTES: usize = size_of::<SumTables>();

impl<S: Tables, const R: usize> Rule<S, 1, BYTES, 1, R> for Table {
    const FAMILY: Family = Family::Table;
    const LHS: usize = BYTES / 32;

    #[inline(always)]
    fn expand(simd: S, from: &[u8], to: &mut [u8]) {
        for (a, to) in from.as_chunks().0.iter().zip(to.as_chunks_mut::<BYTES>().0) {
            to.copy_from_slice(simd.tables(a).as_flattened().as_flattened());
        }
    }

    #[inline(always)]
    fn group(simd: S, codes: &[S::Block], lhs: &[[[u8; BYTES]; R]], _: Reading<S>, mut acc: Tile<S, R>) -> Tile<S, R> {
        let units = codes.as_chunks::<1>().0.as_chunks::<2>().0;
        for (units, lhs) in units.chunks(S::UNITS).zip(lhs.chunks(S::UNITS)) {
            let mut sums = [simd.start_from(acc[0]); R];
            for r in 1..R {
                sums[r] = simd.start_from(acc[r]);
            }
            for (unit, lhs) in units.iter().zip(lhs) {
                let entries = simd.entries([simd.load(&unit[0][0]), simd.load(&unit[1][0])]);
                for r in 0..R {
                    let tables: &[SumTables] = lhs[r].as_chunks().0.as_chunks().0.as_chunks().0;
                    sums[r] = simd.look_up(sums[r], entries, &tables[0]);
                }
            }
            for r in 0..R {
                acc[r] = simd.settle_looked(sums[r]);
            }
        }
        acc
    }
}
