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
    /// The channel, counted among those of [`Levels`].
    pub channel: u32,
    /// The activation's integer, `|r| < 2^23`.
    pub r: i32,
}

/// Output channels whose weights lie side by side.
pub const BLOCK: usize = 32;

/// Rows whose sums are formed together where their terms have the same channels: outliers keep to few channels, and a
/// column of weights is then widened once for all of them.
const TOGETHER: usize = 4;

/// Integer weights `q − z0` (`2q − 1` for one symmetric bit) of some input channels.
#[derive(Debug, Clone, Copy)]
pub struct Levels<'a> {
    /// The integers of 32 output channels at a time, `[N / 32, channel, 32]`; any after the last output channel.
    pub blocks: &'a [[i16; BLOCK]],
    /// Input channels.
    pub channels: usize,
    /// Output channels N.
    pub n: usize,
}

impl<'a> Levels<'a> {
    /// The weight of an input channel for output channel `n`. Panics outside, as slices do.
    #[must_use]
    pub fn level(&self, channel: u32, n: usize) -> i16 {
        self.strip(n / BLOCK)[channel as usize][n % BLOCK]
    }

    /// The blocks of all input channels for 32 output channels; empty after the last.
    #[inline(always)]
    fn strip(&self, i: usize) -> &'a [[i16; BLOCK]] {
        self.blocks
            .get(i * self.channels..(i + 1) * self.channels)
            .unwrap_or_default()
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
    /// [`Error::Shape`] for other sizes, starts that do not ascend or channels without weights; [`Error::Unsupported`] for a mode
    /// whose activations have a scale per group or none.
    pub fn check(&self, m: usize, w: &WeightShape, mode: Mode) -> Result<()> {
        if mode.scales_per_group() || mode == Mode::Exact {
            return Err(Error::unsupported("mode", "a8row, a8given or a8static", mode.name()));
        }
        let Levels { blocks, channels, n } = self.levels;
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
        if n.div_ceil(BLOCK).checked_mul(channels) != Some(blocks.len()) {
            let expected = format!("blocks for {channels} channels and {n} columns");
            return Err(Error::shape("rest", expected, format!("{} blocks", blocks.len())));
        }
        match self.terms.iter().find(|term| term.channel as usize >= channels) {
            Some(term) => {
                let expected = format!("channels below {channels}");
                Err(Error::shape("rest", expected, format!("channel {}", term.channel)))
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

    /// The integers of some rows' group for runs of `nr` output channels from `first` on, `[run, row, nr]`. The channels
    /// may go beyond the last.
    #[inline(always)]
    pub fn sums_32(&self, rows: Range<usize>, group: usize, (first, nr): (usize, usize), sums: &mut [i32]) {
        let (mut row, count) = (rows.start, rows.len());
        while row < rows.end {
            let together = row + TOGETHER <= rows.end && self.alike(row..row + TOGETHER, group);
            for (run, sums) in sums.chunks_exact_mut(count * nr).enumerate() {
                let (at, sums) = ((first + run * nr, nr), &mut sums[(row - rows.start) * nr..]);
                if together {
                    self.row_sums::<TOGETHER>(row, group, at, sums);
                } else {
                    self.row_sums::<1>(row, group, at, sums);
                }
            }
            row += if together { TOGETHER } else { 1 };
        }
    }

    /// Whether the terms of these rows' group have the same channels.
    #[inline(always)]
    fn alike(&self, mut rows: Range<usize>, group: usize) -> bool {
        let channels = |row| self.terms(row, group).iter().map(|term| term.channel);
        let first = rows.start;
        rows.all(|row| {
            self.terms(row, group).len() == self.terms(first, group).len() && channels(row).eq(channels(first))
        })
    }

    /// The integers of `R` rows whose terms have the same channels, `[row, nr]`.
    #[inline(always)]
    fn row_sums<const R: usize>(&self, row: usize, group: usize, (first, nr): (usize, usize), sums: &mut [i32]) {
        let mut terms = [&[][..]; R];
        for (r, terms) in terms.iter_mut().enumerate() {
            *terms = self.terms(row + r, group);
        }
        let mut done = 0;
        while done < nr {
            let (strip, within) = (self.levels.strip((first + done) / BLOCK), (first + done) % BLOCK);
            let len = (nr - done).min(BLOCK - within);
            if strip.is_empty() {
                (0..R).for_each(|r| sums[r * nr + done..][..len].fill(0));
            } else if len == BLOCK {
                set(products::<R, BLOCK>(terms, strip, within), nr, &mut sums[done..]);
            } else if len == BLOCK / 2 {
                set(
                    products::<R, { BLOCK / 2 }>(terms, strip, within),
                    nr,
                    &mut sums[done..],
                );
            } else if len == BLOCK / 4 {
                set(
                    products::<R, { BLOCK / 4 }>(terms, strip, within),
                    nr,
                    &mut sums[done..],
                );
            } else {
                for i in 0..len {
                    set(products::<R, 1>(terms, strip, within + i), nr, &mut sums[done + i..]);
                }
            }
            done += len;
        }
    }

    /// Adds the integers of a row's group for all output channels to their sums.
    #[inline(always)]
    pub fn add_64(&self, row: usize, group: usize, sums: &mut [i64]) {
        for (i, sums) in sums.chunks_mut(BLOCK).enumerate() {
            let strip = self.levels.strip(i);
            for term in self.terms(row, group) {
                for (sum, &level) in sums.iter_mut().zip(&strip[term.channel as usize]) {
                    *sum += i64::from(term.r) * i64::from(level);
                }
            }
        }
    }
}

/// Writes the sums of rows that lie `nr` apart.
#[inline(always)]
fn set<const R: usize, const L: usize>(of: [[i32; L]; R], nr: usize, sums: &mut [i32]) {
    for (r, of) in of.iter().enumerate() {
        sums[r * nr..][..L].copy_from_slice(of);
    }
}

/// `Σ r·level` of so many output channels of a strip, for rows whose terms have the same channels.
#[inline(always)]
fn products<const R: usize, const L: usize>(
    terms: [&[Term]; R],
    strip: &[[i16; BLOCK]],
    first: usize,
) -> [[i32; L]; R] {
    let mut sums = [[0i32; L]; R];
    for (j, term) in terms[0].iter().enumerate() {
        let levels: &[i16; L] = strip[term.channel as usize][first..]
            .first_chunk()
            .expect("within a block");
        for r in 0..R {
            let factor = terms[r][j].r;
            for i in 0..L {
                sums[r][i] = sums[r][i].wrapping_add(factor.wrapping_mul(i32::from(levels[i])));
            }
        }
    }
    sums
}

/// `Σ r` and `Σ |r|`.
#[inline(always)]
#[must_use]
pub fn total(terms: &[Term]) -> (i64, u64) {
    let sum = terms.iter().map(|term| i64::from(term.r)).sum();
    (sum, terms.iter().map(|term| u64::from(term.r.unsigned_abs())).sum())
}
