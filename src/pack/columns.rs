//! The codes of a panel: those of four columns at a time become words, one for each block and lane.
#![forbid(unsafe_code)]

use crate::pack::layout::{Digit, PANEL_VECTORS, WeightLayout, blocks, digits, unit};
use crate::quant::matrix::QuantMatrix;
use crate::simd::isa::{Body, Simd, Work, prefetch_all};
use alloc::vec::Vec;
use core::ops::Range;

/// Codes of a column that are arranged at once: some cache lines, and whole units of every width.
const CODES: usize = 512;

/// Blocks of a column that are written before it is the next four columns' turn: what is written of the panel meanwhile
/// stays in the first-level cache.
const RUN: usize = 256;

/// Writes the codes of a panel.
pub(super) struct Columns;

/// What is written, and where.
pub(super) struct Args<'a> {
    pub(super) weights: &'a QuantMatrix,
    pub(super) layout: &'a WeightLayout,
    pub(super) columns: Range<usize>,
    pub(super) panel: &'a mut [u8],
}

impl Work for Columns {
    type Args<'a> = Args<'a>;
}

impl<S: Simd> Body<S> for Columns {
    #[inline(always)]
    fn body(simd: S, args: &mut Self::Args<'_>) {
        match args.layout.panel.bits {
            1 => write::<S, 1>(simd, args),
            2 => write::<S, 2>(simd, args),
            3 => write::<S, 3>(simd, args),
            4 => write::<S, 4>(simd, args),
            5 => write::<S, 5>(simd, args),
            6 => write::<S, 6>(simd, args),
            7 => write::<S, 7>(simd, args),
            _ => write::<S, 8>(simd, args),
        }
    }
}

/// What lies between codes and the panel.
struct Between {
    /// Codes of a group that ends within a unit.
    padded: [u8; CODES],
    /// Two quads a word, and four.
    pairs: [u32; CODES / 8],
    fours: [u32; CODES / 16],
    /// Words of four columns.
    columns: [[u32; CODES / 4]; 4],
    /// The same, column beside column.
    words: [[u32; 4]; CODES / 4],
}

/// Codes of `BITS` bits.
#[inline(always)]
fn write<S: Simd, const BITS: u8>(simd: S, args: &mut Args<'_>) {
    let (layout, columns) = (args.layout, args.columns.clone());
    let source = Source::new(args.weights, layout);
    let units = unit_offsets(layout);
    let lanes = layout.panel.lanes;
    let quads = lanes.div_ceil(4);
    let mut between = Between {
        padded: [0; CODES],
        pairs: [0; CODES / 8],
        fours: [0; CODES / 16],
        columns: [[0; CODES / 4]; 4],
        words: [[0; 4]; CODES / 4],
    };
    let (run, step) = (const { RUN / blocks(BITS) }, const { CODES / unit(BITS) });
    for run in (0..units.len())
        .step_by(run)
        .map(|first| first..units.len().min(first + run))
    {
        for quad in 0..PANEL_VECTORS * quads {
            let (vector, lane) = (quad / quads, quad % quads * 4);
            let column = columns.start + vector * lanes + lane;
            let present = columns.end.saturating_sub(column).min(lanes - lane).min(4);
            let at = vector * layout.panel.unit_bytes() + 4 * lane;
            for first in run.clone().step_by(step) {
                let units = &units[first..run.end.min(first + step)];
                for i in 0..present {
                    if column + 4 + i < columns.end {
                        prefetch_all(simd, source.whole(column + 4 + i, first, units.len()));
                    }
                    let codes = source.codes(column + i, first, units.len(), &mut between.padded);
                    let words = &mut between.columns[i];
                    digit_words::<BITS, 0>(codes, units.len(), &mut between.pairs, &mut between.fours, words);
                    digit_words::<BITS, 1>(codes, units.len(), &mut between.pairs, &mut between.fours, words);
                    digit_words::<BITS, 2>(codes, units.len(), &mut between.pairs, &mut between.fours, words);
                    digit_words::<BITS, 3>(codes, units.len(), &mut between.pairs, &mut between.fours, words);
                }
                let count = units.len() * const { blocks(BITS) };
                let [a, b, c, d] = &between.columns;
                for i in 0..count.min(CODES / 4) {
                    between.words[i] = [a[i].to_le(), b[i].to_le(), c[i].to_le(), d[i].to_le()];
                }
                let to = &mut Place {
                    panel: args.panel,
                    units,
                    at,
                    columns: present,
                };
                let words = &between.words[..count];
                to.digit::<BITS, 0>(layout, words);
                to.digit::<BITS, 1>(layout, words);
                to.digit::<BITS, 2>(layout, words);
                to.digit::<BITS, 3>(layout, words);
            }
        }
    }
}

/// Where the units of a panel begin.
fn unit_offsets(layout: &WeightLayout) -> Vec<usize> {
    let unit_bytes = PANEL_VECTORS * layout.panel.unit_bytes();
    let codes = layout.first_record() + PANEL_VECTORS * layout.scale_bytes();
    let mut offsets = Vec::with_capacity(layout.groups * layout.units);
    for g in 0..layout.groups {
        for u in 0..layout.group_units(g) {
            offsets.push(codes + g * layout.record_bytes() + u * unit_bytes);
        }
    }
    offsets
}

/// Codes by column and unit.
struct Source<'a> {
    weights: &'a QuantMatrix,
    unit: usize,
    /// Units of a full group.
    units: usize,
    group: usize,
    /// Whether groups are whole units, but for the last.
    whole: bool,
}

impl<'a> Source<'a> {
    fn new(weights: &'a QuantMatrix, layout: &WeightLayout) -> Self {
        let (unit, group) = (unit(layout.panel.bits), weights.scheme().group_length(weights.k()));
        Self {
            weights,
            unit,
            units: layout.units,
            group,
            whole: group.is_multiple_of(unit) || layout.groups == 1,
        }
    }

    /// Codes of units from `first` on, where groups are whole units.
    #[inline(always)]
    fn whole(&self, column: usize, first: usize, units: usize) -> &'a [u8] {
        let row = self.weights.code_row(column);
        &row[row.len().min(first * self.unit)..row.len().min((first + units) * self.unit)]
    }

    /// Codes of units from `first` on, filled up with zeros where a group ends within a unit.
    #[inline(always)]
    fn codes<'b>(&self, column: usize, first: usize, units: usize, padded: &'b mut [u8; CODES]) -> &'b [u8]
    where
        'a: 'b,
    {
        let whole = self.whole(column, first, units);
        if self.whole && whole.len() == units * self.unit {
            return whole;
        }
        self.pad(column, first, &mut padded[..units * self.unit]);
        &padded[..units * self.unit]
    }

    #[inline(never)]
    fn pad(&self, column: usize, first: usize, padded: &mut [u8]) {
        let row = self.weights.code_row(column);
        for (u, to) in (first..).zip(padded.chunks_exact_mut(self.unit)) {
            let from = u / self.units * self.group + u % self.units * self.unit;
            let end = row.len().min((u / self.units + 1) * self.group).min(from + self.unit);
            to.fill(0);
            to[..end - from].copy_from_slice(&row[from..end]);
        }
    }
}

/// The words of one digit of all units, behind those of the digits before it.
#[inline(always)]
fn digit_words<const BITS: u8, const DIGIT: usize>(
    codes: &[u8],
    units: usize,
    pairs: &mut [u32; CODES / 8],
    fours: &mut [u32; CODES / 16],
    words: &mut [u32; CODES / 4],
) {
    let Digit { width, position, block } = const { digits(BITS)[DIGIT] };
    let words = &mut words[block * units..];
    match width {
        8 => {
            for (word, codes) in words.iter_mut().zip(codes.as_chunks::<4>().0) {
                *word = u32::from_le_bytes(*codes);
            }
        }
        4 => join_codes(codes, (position, 4), words),
        2 => {
            join_codes(codes, (position, 2), pairs);
            join(&pairs[..codes.len() / 8], 4, words);
        }
        1 => {
            join_codes(codes, (position, 1), pairs);
            join(&pairs[..codes.len() / 8], 2, fours);
            join(&fours[..codes.len() / 16], 4, words);
        }
        _ => {}
    }
}

/// One digit of neighbouring quads of codes in words, the second above the first.
#[inline(always)]
fn join_codes(codes: &[u8], (position, width): (u8, u32), to: &mut [u32]) {
    let mask = 0x0101_0101_0101_0101 * ((1u64 << width) - 1);
    for (to, codes) in to.iter_mut().zip(codes.as_chunks::<8>().0) {
        let both = u64::from_le_bytes(*codes) >> position & mask;
        *to = (both | both >> (32 - width)) as u32;
    }
}

/// Neighbouring words in one, the second above the first.
#[inline(always)]
fn join(from: &[u32], width: u32, to: &mut [u32]) {
    for (to, &[low, high]) in to.iter_mut().zip(from.as_chunks::<2>().0) {
        let both = u64::from(low) | u64::from(high) << 32;
        *to = (both | both >> (32 - width)) as u32;
    }
}

/// Where the words of some columns go.
struct Place<'a> {
    panel: &'a mut [u8],
    /// Offsets of units.
    units: &'a [usize],
    /// Of the columns in a block.
    at: usize,
    columns: usize,
}

impl Place<'_> {
    /// Puts the words of one digit there.
    #[inline(always)]
    fn digit<const BITS: u8, const DIGIT: usize>(&mut self, layout: &WeightLayout, words: &[[u32; 4]]) {
        let Digit { width, block, .. } = const { digits(BITS)[DIGIT] };
        let words = &words[self.units.len() * block..];
        let (at, block_bytes) = (self.at + block * layout.panel.block_bytes(), layout.panel.block_bytes());
        match width as usize * const { unit(BITS) } / 32 {
            0 => {}
            1 => self.blocks::<1>(words, at, block_bytes),
            2 => self.blocks::<2>(words, at, block_bytes),
            _ => self.blocks::<4>(words, at, block_bytes),
        }
    }

    /// As many blocks of every unit. Out of line: the loop is short of registers elsewhere.
    #[inline(never)]
    fn blocks<const BLOCKS: usize>(&mut self, words: &[[u32; 4]], at: usize, block_bytes: usize) {
        if self.columns < 4 || !block_bytes.is_multiple_of(16) {
            for (words, unit) in words.as_chunks::<BLOCKS>().0.iter().zip(self.units) {
                for (b, words) in words.iter().enumerate() {
                    let words = &words.map(u32::to_ne_bytes)[..self.columns];
                    let to = &mut self.panel[unit + at + b * block_bytes..][..4 * self.columns];
                    to.copy_from_slice(words.as_flattened());
                }
            }
            return;
        }
        // All offsets are multiples of 16.
        let cells = self.panel.as_chunks_mut::<16>().0;
        for (words, unit) in words.as_chunks::<BLOCKS>().0.iter().zip(self.units) {
            for (b, words) in words.iter().enumerate() {
                let words = words.map(u32::to_ne_bytes);
                cells[(unit + at + b * block_bytes) / 16].copy_from_slice(words.as_flattened());
            }
        }
    }
}
