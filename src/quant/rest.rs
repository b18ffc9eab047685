//! What an outlier split leaves to add: integers beside a product's own, as few activations times columns of weights.
#![forbid(unsafe_code)]

use crate::base::error::{Error, Result};
use crate::quant::input::Mode;
use crate::quant::sums::WeightShape;
use alloc::format;
use core::ops::Range;

/// One activation of the rest: what is left of it, and its column of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Term {
    /// The row of [`Levels`] that holds the channel's weights.
    pub channel: u32,
    /// The activation's integer, `|r| < 2^23`.
    pub r: i32,
}

/// Integer weights `q − z0` (`2q − 1` for one symmetric bit) of some input channels, one row of N for each.
#[derive(Debug, Clone, Copy)]
pub struct Levels<'a> {
    /// The integers.
    pub values: &'a [i16],
    /// From one channel to the next.
    pub stride: usize,
    /// Output channels.
    pub n: usize,
}

impl<'a> Levels<'a> {
    /// Those of a channel for `len` output channels from `first` on. Panics outside, as slices do.
    #[inline(always)]
    #[must_use]
    pub fn of(&self, channel: u32, first: usize, len: usize) -> &'a [i16] {
        &self.values[channel as usize * self.stride + first..][..len]
    }
}

/// A product of few activations with few columns of weights, whose integers join those of an M-row product.
///
/// The terms lie by group, then by row, then by ascending channel; those of row m and group g are
/// `starts[g·M + m]..starts[g·M + m + 1]`.
#[derive(Debug, Clone, Copy)]
pub struct Rest<'a> {
    /// Rows M.
    pub m: usize,
    /// Where the terms of each (group, row) start: `G·M + 1` entries.
    pub starts: &'a [u32],
    /// `Σ |r|` of each (group, row).
    pub sizes: &'a [u64],
    /// The terms.
    pub terms: &'a [Term],
    /// The columns of weights.
    pub levels: Levels<'a>,
}

impl<'a> Rest<'a> {
    /// Checks that this is the rest of an `m`-row product with such weights in such a mode.
    ///
    /// # Errors
    /// [`Error::Shape`] for other sizes, terms out of order or channels without weights; [`Error::Unsupported`] for a mode
    /// whose activations have a scale per group or none.
    pub fn check(&self, m: usize, w: &WeightShape, mode: Mode) -> Result<()> {
        if mode.scales_per_group() || mode == Mode::Exact {
            return Err(Error::unsupported("mode", "a8row, a8given or a8static", mode.name()));
        }
        let Levels { values, stride, n } = self.levels;
        if self.m != m || self.starts.len() != w.groups * m + 1 || n != w.n {
            let expected = format!("{m} rows, {} groups, {} columns", w.groups, w.n);
            let found = format!("{} rows, {} starts, {n} columns", self.m, self.starts.len());
            return Err(Error::shape("rest", expected, found));
        }
        let ends = self.starts.last().map(|&end| end as usize);
        if self.starts[0] != 0 || ends != Some(self.terms.len()) || self.starts.windows(2).any(|s| s[0] > s[1]) {
            let found = format!("{} terms, the last start {ends:?}", self.terms.len());
            return Err(Error::shape(
                "rest",
                "ascending starts from 0 that end with the terms",
                found,
            ));
        }
        let size = |s: &[u32]| total(&self.terms[s[0] as usize..s[1] as usize]).1;
        if !self.starts.windows(2).map(size).eq(self.sizes.iter().copied()) {
            let found = format!("{} others", self.sizes.len());
            return Err(Error::shape("rest", "the sizes of the terms", found));
        }
        let channels = values.len().checked_div(stride).unwrap_or(0);
        match self
            .terms
            .iter()
            .find(|term| term.channel as usize >= channels || n > stride)
        {
            Some(term) => {
                let expected = format!("channels below {channels} of at least {n} weights");
                let found = format!("channel {} in rows of {stride}", term.channel);
                Err(Error::shape("rest", expected, found))
            }
            None => Ok(()),
        }
    }

    /// The terms of a row's group.
    #[inline(always)]
    #[must_use]
    pub fn terms(&self, row: usize, group: usize) -> &'a [Term] {
        let start = &self.starts[group * self.m + row..];
        &self.terms[start[0] as usize..start[1] as usize]
    }

    /// Whether any of these rows has terms in the group.
    #[inline(always)]
    #[must_use]
    pub fn touches_group(&self, rows: Range<usize>, group: usize) -> bool {
        self.starts[group * self.m + rows.start] != self.starts[group * self.m + rows.end]
    }

    /// Whether any of these rows has terms.
    #[inline(always)]
    #[must_use]
    pub fn touches(&self, rows: Range<usize>) -> bool {
        (0..self.sizes.len() / self.m.max(1)).any(|group| self.touches_group(rows.clone(), group))
    }

    /// Whether `Σ (|a| + |r|)·span` over a row's group, with `Σ |a| ≤ 128·len` and weights of this
    /// [span](crate::Scheme::span), is below 2^31: its sum then fits an i32.
    #[inline(always)]
    #[must_use]
    pub fn fits_32(&self, row: usize, group: usize, len: usize, span: u32) -> bool {
        let size = 128 * len as u64 + self.sizes[group * self.m + row];
        size.saturating_mul(u64::from(span)) < 1 << 31
    }

    /// Adds a row's group to sums of the output channels from `first` on.
    #[inline(always)]
    pub fn add_32(&self, row: usize, group: usize, first: usize, sums: &mut [i32]) {
        let terms = self.terms(row, group);
        let (blocks, left) = sums.as_chunks_mut::<BLOCK>();
        for (b, block) in blocks.iter_mut().enumerate() {
            let mut acc = *block;
            for term in terms {
                let levels = self.levels.of(term.channel, first + b * BLOCK, BLOCK);
                for i in 0..BLOCK {
                    acc[i] = acc[i].wrapping_add(term.r.wrapping_mul(i32::from(levels[i])));
                }
            }
            *block = acc;
        }
        let first = first + blocks.len() * BLOCK;
        for term in terms {
            let levels = self.levels.of(term.channel, first, left.len());
            for (sum, &level) in left.iter_mut().zip(levels) {
                *sum = sum.wrapping_add(term.r.wrapping_mul(i32::from(level)));
            }
        }
    }

    /// As [`Rest::add_32`], into 64 bits.
    #[inline(always)]
    pub fn add_64(&self, row: usize, group: usize, first: usize, sums: &mut [i64]) {
        for term in self.terms(row, group) {
            let levels = self.levels.of(term.channel, first, sums.len());
            for (sum, &level) in sums.iter_mut().zip(levels) {
                *sum += i64::from(term.r) * i64::from(level);
            }
        }
    }
}

/// Sums that stay in registers over all terms of a row.
const BLOCK: usize = 32;

/// `Σ r` and `Σ |r|`.
#[inline(always)]
#[must_use]
pub fn total(terms: &[Term]) -> (i64, u64) {
    let sum = terms.iter().map(|term| i64::from(term.r)).sum();
    (sum, terms.iter().map(|term| u64::from(term.r.unsigned_abs())).sum())
}
