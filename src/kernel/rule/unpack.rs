//! Codes from packed units.
#![forbid(unsafe_code)]

use crate::kernel::rule::Reading;
use crate::pack::layout::{Digit, digits};
use crate::simd::isa::Simd;

/// What is multiplied of quad `q` of one vector's unit: the codes, or their entries in the book.
#[inline(always)]
pub(super) fn unpack<S: Simd, const B: usize, const BOOK: bool>(
    simd: S,
    unit: &[S::Block],
    q: usize,
    reading: Reading<S>,
) -> S::I {
    let codes = codes::<S, B>(simd, unit, q);
    if BOOK { simd.decode(reading.book, codes) } else { codes }
}

/// The codes: every digit's field, moved to its place and put together.
#[inline(always)]
fn codes<S: Simd, const B: usize>(simd: S, unit: &[S::Block], q: usize) -> S::I {
    let digits = const { digits(B as u8) };
    let mut code = digit(simd, unit, q, digits[0]);
    for d in &digits[1..] {
        if d.width > 0 {
            code = simd.or(code, digit(simd, unit, q, *d));
        }
    }
    code
}

/// One digit of quad `q`, at its place in the code.
#[inline(always)]
fn digit<S: Simd>(simd: S, unit: &[S::Block], q: usize, d: Digit) -> S::I {
    let per_block = 8 / d.width as usize;
    let raw = simd.load(&unit[d.block + q / per_block]);
    if d.width == 8 {
        return raw;
    }
    let (at, to) = (q % per_block * d.width as usize, d.position as usize);
    let mask = ((1u32 << d.width) - 1) << to;
    simd.field(
        raw,
        at.saturating_sub(to) as u32,
        to.saturating_sub(at) as u32,
        mask as u8,
    )
}

/// Bytes 4q to 4q + 3 of one lhs row in every lane.
#[inline(always)]
pub(super) fn quad<S: Simd, const U: usize>(simd: S, lhs: &[u8; U], q: usize) -> S::I {
    simd.splat_quad([lhs[4 * q], lhs[4 * q + 1], lhs[4 * q + 2], lhs[4 * q + 3]])
}
