//! Rules: what one step of a sweep over k means.
#![forbid(unsafe_code)]

pub mod direct;
#[cfg(any(target_arch = "aarch64", test, feature = "testing"))]
pub mod matrix;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", test, feature = "testing"))]
pub mod plane;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", test, feature = "testing"))]
pub mod short;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", test, feature = "testing"))]
pub mod table;
mod unpack;

use crate::kernel::Family;
use crate::quant::book::{CodeBook, ENTRIES};
use crate::simd::isa::Simd;

/// Accumulators of a tile of `R` lhs rows and two vectors of columns.
pub type Tile<S, const R: usize> = [[<S as Simd>::I; 2]; R];

/// What a rule knows of the codes that it reads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading<S: Simd> {
    /// How many bytes ahead codes that come from memory are prefetched.
    ahead: usize,
    /// What codes are numbers of, where the rule is for books.
    book: S::Book,
    /// The largest byte that a code stands for in a book.
    #[cfg_attr(
        not(any(target_arch = "x86_64", target_arch = "aarch64", test, feature = "testing")),
        expect(dead_code, reason = "only the short rule asks")
    )]
    largest: u8,
}

impl<S: Simd> Reading<S> {
    /// For a rule that takes `origin` off what codes stand for: entries are `v + z` without an origin, v with one.
    #[inline(always)]
    pub(super) fn new(simd: S, ahead: usize, book: Option<&CodeBook>, origin: i32) -> Self {
        let (mut entries, mut largest) = ([0; ENTRIES], 0);
        if let Some(book) = book {
            let taken = if origin == 0 { 0 } else { book.zero() };
            for (q, entry) in entries.iter_mut().enumerate() {
                *entry = book.carried(q as u8).wrapping_sub(taken);
            }
            largest = book.max_carried();
        }
        Self {
            ahead,
            book: simd.book(&entries),
            largest,
        }
    }
}

/// Prefetches the blocks of both vectors of a unit, `ahead` bytes further on.
#[inline(always)]
fn prefetch<S: Simd, const P: usize>(simd: S, unit: &[[S::Block; P]; 2], ahead: usize) {
    for block in unit.as_flattened() {
        simd.prefetch(block, ahead);
    }
}

/// Runs a block for every quad `q` of a unit of `U` k. For codes of several digits and few lhs rows the quads are written
/// out: their numbers decide shifts, and where a compiler does not unroll a loop over long blocks, every shift becomes a
/// jump. Many rows make up for jumps, and written out they would keep more than fits registers.
macro_rules! each_quad {
    ($unit:expr, $blocks:expr, $lhs_rows:expr, $q:ident, $body:block) => {
        if $blocks == 1 || $lhs_rows > 4 {
            for $q in 0..$unit / 4 {
                $body
            }
        } else {
            each_quad!(@at $q, $body, 0);
            if $unit > 4 {
                each_quad!(@at $q, $body, 1);
            }
            if $unit > 8 {
                each_quad!(@at $q, $body, 2, 3);
            }
            if $unit > 16 {
                each_quad!(@at $q, $body, 4, 5, 6, 7);
            }
        }
    };
    (@at $q:ident, $body:block, $($number:literal),*) => {
        $({
            let $q = $number;
            $body
        })*
    };
}
use each_quad;

/// A rule on codes of `B` bits in units of `P` blocks a vector, for `R` lhs rows on tier `S`, each `U` bytes a unit.
pub(super) trait Rule<S: Simd, const B: usize, const U: usize, const P: usize, const R: usize> {
    /// Its family.
    const FAMILY: Family;
    /// Whether codes are numbers of entries in a book.
    const BOOK: bool = false;
    /// What is taken off every code before it is multiplied; with a book, any number but 0 says that z is.
    const ORIGIN: i32 = 0;
    /// Bytes that it reads for an activation. Where they are more than one, tiles are [expanded](Self::expand), and
    /// a run of panels takes a group together while its lhs is in cache.
    const LHS: usize = 1;
    /// Lhs rows that it multiplies at once: `R` is a multiple.
    const ROWS: usize = 1;

    /// Writes `LHS` bytes for every activation of whole units.
    #[inline(always)]
    fn expand(_: S, _: &[u8], _: &mut [u8]) {
        unreachable!("activations are read as they are");
    }

    /// Adds the products of one group: its units of codes, those of the panel's two vectors in turn, with `R` lhs rows.
    fn group(simd: S, codes: &[S::Block], lhs: &[[[u8; U]; R]], reading: Reading<S>, acc: Tile<S, R>) -> Tile<S, R>;
}
