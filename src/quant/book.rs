//! Code books: sixteen integers that the codes of 4 bits stand for.
//!
//! A weight is `w = s·v` with `v` the level of its code. Backends carry levels as unsigned bytes `v + z`, with one z for
//! the whole book: what plain codes of 4 bits are with `z = 8`, any sixteen integers from −128 to 127 can be.
//!
//! | book | levels of the codes 0, 1, 2, … | z | source |
//! |---|---|---|---|
//! | [`CodeBook::MXFP4`] | 0, 1, 2, 3, 4, 6, 8, 12; then their negatives | 12 | E2M1 of OCP Microscaling Formats 1.0, doubled |
//! | [`CodeBook::FLINT4`] | 0, 1, 2, 3, 16, 8, 4, 6; then their negatives | 16 | ANT (arXiv 2208.14286) |
//! | [`CodeBook::FLINT4_UNSIGNED`] | 0 to 7; 64, 32, 16, 24, 8, 10, 12, 14 | 0 | ANT |
//! | [`CodeBook::POWER4`] | 0, 1, 2, 4, 8, 16, 32, 64; then their negatives | 64 | powers of two, as ANT has them |
//! | [`CodeBook::IQ4_NL`] | −127, −104, … 113 | 127 | `kvalues_iq4nl` of ggml |
//!
//! # Choosing codes
//!
//! With the scale s of a group, a weight takes the level nearest to `w/s` (an f32 division). On a tie the larger level
//! wins, as in ANT; in MXFP4 the one whose code is even, as IEEE rounding of E2M1 has it. Of codes with the same level
//! the lowest is taken, so there is no −0.
//!
//! The scale reaches the ends of the group, `max(max(w)/max(v), min(w)/min(v))`, where a book without levels on one side
//! of 0 disregards the weights there. In MXFP4 it is `2^(⌊log2 amax⌋ − ⌊log2 12⌋)`, at least 2^−128: OCP's rule (section
//! 6.3, whose `2^(⌊log2 amax⌋ − 2)` is in units of E2M1), so that the largest weights may lie beyond the largest level,
//! which they then get.
#![forbid(unsafe_code)]

use crate::base::error::{Error, Result};
use crate::base::float::pow2;
use crate::quant::matrix::Floats;
use alloc::{format, vec::Vec};
use half::bf16;

/// Codes of a book.
pub const ENTRIES: usize = 16;

/// The integers that 4-bit codes stand for.
///
/// ```
/// use mixgemm::{CodeBook, Mat, QuantMatrix, Scheme};
/// let book = CodeBook::new([-64, -48, -36, -27, -20, -13, -8, -3, 0, 3, 8, 13, 20, 27, 36, 64]);
/// let w = QuantMatrix::quantize(Mat::from_fn(2, 4, |_, k| k as f32).view(), Scheme::book(book).group(4))?;
/// assert_eq!(w.code_row(0), [8, 12, 14, 15]); // 0, 20, 36 and 64 steps of 3/64: near 0, 1, 2 and 3
/// # Ok::<(), mixgemm::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CodeBook {
    levels: [i8; ENTRIES],
    zero: u8,
    microscaling: bool,
}

/// A sign in bit 3 of the code, and the magnitude of the other three.
const fn signed(magnitudes: [i8; ENTRIES / 2]) -> [i8; ENTRIES] {
    let mut levels = [0; ENTRIES];
    let mut i = 0;
    while i < ENTRIES / 2 {
        levels[i] = magnitudes[i];
        levels[i + ENTRIES / 2] = -magnitudes[i];
        i += 1;
    }
    levels
}

impl CodeBook {
    /// E2M1 in units of 1/2, with the scales of OCP Microscaling: see [`CodeBook::microscaling`].
    pub const MXFP4: Self = Self::new(signed([0, 1, 2, 3, 4, 6, 8, 12])).microscaling();
    /// ANT's flint with a sign.
    pub const FLINT4: Self = Self::new(signed([0, 1, 2, 3, 16, 8, 4, 6]));
    /// ANT's flint without a sign.
    pub const FLINT4_UNSIGNED: Self = Self::new([0, 1, 2, 3, 4, 5, 6, 7, 64, 32, 16, 24, 8, 10, 12, 14]);
    /// Powers of two and 0, with a sign.
    pub const POWER4: Self = Self::new(signed([0, 1, 2, 4, 8, 16, 32, 64]));
    /// The nonlinear levels of ggml's IQ4_NL and IQ4_XS.
    pub const IQ4_NL: Self = Self::new([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113]);

    /// A book of these levels.
    #[must_use]
    pub const fn new(levels: [i8; ENTRIES]) -> Self {
        let (low, _) = range(&levels);
        Self {
            levels,
            zero: if low < 0 { low.unsigned_abs() } else { 0 },
            microscaling: false,
        }
    }

    /// The same levels, quantised to as OCP Microscaling has it: scales are powers of two, and ties go to even codes.
    #[must_use]
    pub const fn microscaling(self) -> Self {
        Self {
            microscaling: true,
            ..self
        }
    }

    /// Whether [`CodeBook::microscaling`] was asked for.
    #[must_use]
    pub const fn is_microscaling(&self) -> bool {
        self.microscaling
    }

    /// The levels v.
    #[must_use]
    pub const fn levels(&self) -> &[i8; ENTRIES] {
        &self.levels
    }

    /// The least and the largest level.
    #[must_use]
    pub const fn range(&self) -> (i8, i8) {
        range(&self.levels)
    }

    /// The zero point z, 0 to 128: the least one that makes every `v + z` a byte without a sign.
    #[must_use]
    pub const fn zero(&self) -> u8 {
        self.zero
    }

    /// The level of a code below 16 as backends carry it, `v + z`.
    #[must_use]
    pub const fn carried(&self, code: u8) -> u8 {
        self.levels[code as usize].wrapping_add_unsigned(self.zero) as u8
    }

    /// The largest `v + z`.
    #[must_use]
    pub const fn max_carried(&self) -> u8 {
        let (_, high) = self.range();
        high.wrapping_add_unsigned(self.zero) as u8
    }
}

/// The least and the largest of these.
const fn range(levels: &[i8; ENTRIES]) -> (i8, i8) {
    let (mut low, mut high, mut i) = (levels[0], levels[0], 1);
    while i < ENTRIES {
        if levels[i] < low {
            low = levels[i];
        }
        if levels[i] > high {
            high = levels[i];
        }
        i += 1;
    }
    (low, high)
}

/// `2^e` for −128 ≤ e ≤ 127, which is subnormal below −126.
pub(super) fn power(e: i32) -> f32 {
    pow2(e / 2) * pow2(e - e / 2)
}

/// The scales of MXFP4 blocks from their E8M0 codes: `2^(e − 127)` of OCP Microscaling Formats 1.0 (section 5.4.1), halved,
/// as [`CodeBook::MXFP4`] doubles the elements. bf16 holds all of them.
///
/// ```
/// use mixgemm::quant::book::e8m0;
/// assert_eq!(e8m0(&[127, 0])?.get(0), 0.5);
/// assert!(e8m0(&[255]).is_err());
/// # Ok::<(), mixgemm::Error>(())
/// ```
///
/// # Errors
/// [`Error::Value`] for the code 255, which is NaN.
pub fn e8m0(codes: &[u8]) -> Result<Floats> {
    if let Some(i) = codes.iter().position(|&e| e == 255) {
        return Err(Error::value(
            "scales",
            "E8M0 codes 0 to 254",
            format!("255 (NaN) at index {i}"),
        ));
    }
    let scale = |&e: &u8| bf16::from_f32(power(i32::from(e) - 128));
    Ok(Floats::Bf16(codes.iter().map(scale).collect::<Vec<_>>()))
}

/// Finds the nearest level.
pub(super) struct Nearest {
    /// Codes in ascending order of their levels, each level once; those past the last repeat it.
    codes: [u8; ENTRIES],
    /// The largest values that belong to each level but the last; past it, that of all numbers.
    ends: [f32; ENTRIES - 1],
}

impl Nearest {
    pub(super) fn new(book: &CodeBook) -> Self {
        let mut codes: Vec<u8> = (0..ENTRIES as u8).collect();
        let level = |code: u8| book.levels[usize::from(code)];
        codes.sort_by_key(|&code| (level(code), code));
        codes.dedup_by_key(|code| level(*code));
        let mut nearest = Self {
            codes: [codes[codes.len() - 1]; ENTRIES],
            ends: [f32::MAX; ENTRIES - 1],
        };
        nearest.codes[..codes.len()].copy_from_slice(&codes);
        for (i, pair) in codes.windows(2).enumerate() {
            let border = (f32::from(level(pair[0])) + f32::from(level(pair[1]))) / 2.0;
            let below = book.microscaling && pair[0].is_multiple_of(2);
            nearest.ends[i] = if below { border } else { border.next_down() };
        }
        nearest
    }

    /// The codes whose levels are nearest to finite or infinite x.
    #[inline(always)]
    pub(super) fn codes<const N: usize>(&self, x: &[f32; N]) -> [u8; N] {
        let mut above = [0u32; N];
        for &end in &self.ends {
            for i in 0..N {
                above[i] += u32::from(x[i] > end);
            }
        }
        let mut codes = [0; N];
        for i in 0..N {
            codes[i] = self.codes[above[i] as usize];
        }
        codes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_carried_as_bytes() {
        for book in [
            CodeBook::MXFP4,
            CodeBook::FLINT4_UNSIGNED,
            CodeBook::IQ4_NL,
            CodeBook::new([-128, 127, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]),
            CodeBook::new([9; ENTRIES]),
        ] {
            for (v, carried) in book.levels().iter().zip((0..16).map(|q| book.carried(q))) {
                assert_eq!(i16::from(carried), i16::from(*v) + i16::from(book.zero()));
                assert!(carried <= book.max_carried());
            }
        }
    }

    /// In both directions from every level to the middle between it and its neighbour, and on that middle.
    #[test]
    fn the_nearest_level_wins() {
        for book in [CodeBook::MXFP4, CodeBook::FLINT4, CodeBook::IQ4_NL] {
            let nearest = Nearest::new(&book);
            for i in -8 * 140..8 * 140 {
                let x = i as f32 / 8.0;
                let [code] = nearest.codes(&[x]);
                let distance = |v: i8| (f32::from(v) - x).abs();
                let found = book.levels()[usize::from(code)];
                for (other, &v) in book.levels().iter().enumerate() {
                    assert!(
                        distance(found) <= distance(v),
                        "{book:?}: {x} is {found}, nearer is {v}"
                    );
                    if distance(found) == distance(v) && found != v {
                        let wins = if book.microscaling {
                            code.is_multiple_of(2)
                        } else {
                            found > v
                        };
                        assert!(wins, "{book:?}: {x} is {found} (code {code}), not {v} (code {other})");
                    }
                }
            }
            assert_eq!(nearest.codes(&[f32::INFINITY]), nearest.codes(&[1e9]));
        }
    }
}
