//! Writing one panel: the layout's picture, from columns of codes, scales and zero points.
#![forbid(unsafe_code)]

use crate::pack::layout::{PANEL_VECTORS, WeightLayout, ZeroLayout, blocks, digits, unit};
use crate::quant::matrix::{Floats, QuantMatrix, Zeros};
use crate::simd;
use crate::simd::cpu::Isa;
use crate::simd::isa::{Body, Simd, Work, prefetch_all};
use core::ops::Range;

/// Writes panel `p` into its bytes, which are zero.
pub(super) fn write_panel(weights: &QuantMatrix, layout: &WeightLayout, p: usize, panel: &mut [u8]) {
    let nr = layout.panel.nr();
    let mut panel = Panel {
        weights,
        layout,
        columns: p * nr..((p + 1) * nr).min(layout.n),
        bytes: panel,
    };
    panel.scales();
    panel.zeros();
    match layout.panel.lanes {
        4 => panel.codes_for::<4>(),
        8 => panel.codes_for::<8>(),
        16 => panel.codes_for::<16>(),
        _ => panel.codes_for::<ANY>(),
    }
}

/// As many lanes as a layout may have, where they are not known when this is compiled.
const ANY: usize = 64;

/// Codes of a column that become words at once: the longest unit.
const CHUNK: usize = 32;

/// Chunks of a column that are written before it is the next column's turn: two cache lines of every row of W, so that
/// what is written meanwhile stays in the first-level cache.
const STRIP: usize = 4;

/// The words of a chunk, unit by unit and block by block; a block has one word in each lane.
type Words = [u32; 8];

/// One panel on its way.
struct Panel<'a> {
    weights: &'a QuantMatrix,
    layout: &'a WeightLayout,
    /// Its columns, fewer than it has room for in the last panel.
    columns: Range<usize>,
    bytes: &'a mut [u8],
}

/// One chunk of every column.
#[derive(Clone, Copy, Default)]
struct Span {
    /// Its first code in a row of W.
    k: usize,
    /// Its codes, at most [`CHUNK`].
    len: usize,
    /// Where the words of its first unit go in the panel.
    to: usize,
}

impl Panel<'_> {
    /// The columns of a vector.
    fn columns(&self, vector: usize) -> Range<usize> {
        let first = self.columns.start + vector * self.layout.panel.lanes;
        first.min(self.columns.end)..(first + self.layout.panel.lanes).min(self.columns.end)
    }

    fn scales(&mut self) {
        let (first, step) = (self.layout.first_record(), self.layout.record_bytes());
        self.floats(self.weights.scales(), first, [step, self.layout.scale_bytes()]);
    }

    fn zeros(&mut self) {
        let bytes = self.layout.zero_bytes();
        let steps = [PANEL_VECTORS * bytes, bytes];
        match self.weights.zeros() {
            Zeros::Symmetric => {}
            Zeros::Float(z) => self.floats(z, 0, steps),
            Zeros::Integer(z) => match self.layout.zero {
                ZeroLayout::Nibble => self.lines(0, steps, |line, lane, i| {
                    line[lane / 2] |= (z[i] as u8) << (4 * (lane % 2));
                }),
                ZeroLayout::Byte => self.place(0, steps, |i| [z[i] as u8]),
                _ => self.place(0, steps, |i| z[i].to_le_bytes()),
            },
        }
    }

    fn floats(&mut self, values: &Floats, first: usize, steps: [usize; 2]) {
        match values {
            Floats::F32(v) => self.place(first, steps, |i| v[i].to_le_bytes()),
            Floats::F16(v) => self.place(first, steps, |i| v[i].to_le_bytes()),
            Floats::Bf16(v) => self.place(first, steps, |i| v[i].to_le_bytes()),
        }
    }

    #[inline(always)]
    fn place<const B: usize>(&mut self, first: usize, steps: [usize; 2], bytes: impl Fn(usize) -> [u8; B]) {
        self.lines(first, steps, |line, lane, i| {
            line[B * lane..][..B].copy_from_slice(&bytes(i))
        });
    }

    /// Writes the values of every group and vector: those of the first vector of group 0 to offset `first`, others so many
    /// bytes further on for each group and each vector. `write` gets the bytes from there on, a lane, and its value's number.
    #[inline(always)]
    fn lines(&mut self, first: usize, steps: [usize; 2], write: impl Fn(&mut [u8], usize, usize)) {
        // One value serves the whole matrix, or every row has one for each group.
        let row = if self.weights.scales().len() == 1 {
            0
        } else {
            self.layout.groups
        };
        for g in 0..self.layout.groups {
            for vector in 0..PANEL_VECTORS {
                let columns = self.columns(vector);
                let line = &mut self.bytes[first + g * steps[0] + vector * steps[1]..];
                for lane in 0..columns.len() {
                    write(line, lane, (columns.start + lane) * row + g);
                }
            }
        }
    }

    fn codes_for<const LANES: usize>(&mut self) {
        match self.layout.panel.bits {
            1 => self.codes::<LANES, 1, { unit(1) }>(),
            2 => self.codes::<LANES, 2, { unit(2) }>(),
            3 => self.codes::<LANES, 3, { unit(3) }>(),
            4 => self.codes::<LANES, 4, { unit(4) }>(),
            5 => self.codes::<LANES, 5, { unit(5) }>(),
            6 => self.codes::<LANES, 6, { unit(6) }>(),
            7 => self.codes::<LANES, 7, { unit(7) }>(),
            _ => self.codes::<LANES, 8, { unit(8) }>(),
        }
    }

    /// Writes all codes, `U` of which are a unit.
    fn codes<const LANES: usize, const BITS: u8, const U: usize>(&mut self) {
        let (weights, isa) = (self.weights, Isa::best(None));
        let mut spans = spans(weights, self.layout, CHUNK / U);
        let mut words = [[Words::default(); LANES]; STRIP];
        loop {
            let mut strip = [Span::default(); STRIP];
            let len = strip.iter_mut().zip(&mut spans).map(|(to, span)| *to = span).count();
            let Some(last) = strip[..len].last() else { break };
            let next = last.k + last.len..(last.k + last.len + STRIP * CHUNK).min(weights.k());
            simd::run::<Fetch>(isa, &mut (weights, self.columns.clone(), next));
            for vector in 0..PANEL_VECTORS {
                let columns = self.columns(vector);
                for (lane, column) in columns.clone().enumerate() {
                    let row = weights.code_row(column);
                    for (words, span) in words.iter_mut().zip(&strip[..len]) {
                        words[lane] = chunk_words::<BITS, U>(&row[span.k..][..span.len]);
                    }
                }
                for (words, span) in words.iter_mut().zip(&strip[..len]) {
                    words[columns.len()..].fill(Words::default());
                    self.write::<LANES, BITS, U>(words, vector, span);
                }
            }
        }
    }

    /// Writes the words of one chunk of all columns of a vector.
    #[inline(always)]
    fn write<const LANES: usize, const BITS: u8, const U: usize>(
        &mut self,
        words: &[Words; LANES],
        vector: usize,
        span: &Span,
    ) {
        let lanes = if LANES == ANY { self.layout.panel.lanes } else { LANES };
        let to = &mut self.bytes[span.to + vector * const { blocks(BITS) } * 4 * lanes..];
        // With the number of units known, words are transposed in registers.
        if span.len == CHUNK {
            write_units::<LANES, BITS>(words, CHUNK / U, lanes, to);
        } else {
            write_units::<LANES, BITS>(words, span.len.div_ceil(U), lanes, to);
        }
    }
}

/// All chunks, whose words take so many units.
fn spans<'a>(weights: &'a QuantMatrix, layout: &'a WeightLayout, units: usize) -> impl Iterator<Item = Span> + 'a {
    let bytes = units * PANEL_VECTORS * layout.panel.unit_bytes();
    let first = layout.first_record() + PANEL_VECTORS * layout.scale_bytes();
    (0..layout.groups).flat_map(move |g| {
        let (range, to) = (weights.group_range(g), first + g * layout.record_bytes());
        let starts = range.clone().step_by(CHUNK).enumerate();
        starts.map(move |(i, k)| Span {
            k,
            len: CHUNK.min(range.end - k),
            to: to + i * bytes,
        })
    })
}

/// Writes so many units of all lanes, the first to the beginning of `to`.
#[inline(always)]
fn write_units<const LANES: usize, const BITS: u8>(words: &[Words; LANES], units: usize, lanes: usize, to: &mut [u8]) {
    let (blocks, block_bytes) = (const { blocks(BITS) }, 4 * lanes);
    for word in 0..units * blocks {
        let (unit, block) = (word / blocks, word % blocks);
        let to = &mut to[(unit * PANEL_VECTORS * blocks + block) * block_bytes..][..block_bytes];
        for (to, words) in to.as_chunks_mut::<4>().0.iter_mut().zip(words) {
            *to = words[word].to_le_bytes();
        }
    }
}

/// The words of one column's chunk, filled up with zeros.
#[inline(always)]
fn chunk_words<const BITS: u8, const U: usize>(codes: &[u8]) -> Words {
    let mut last = [0; CHUNK];
    let codes = <&[u8; CHUNK]>::try_from(codes).unwrap_or_else(|_| {
        last[..codes.len()].copy_from_slice(codes);
        &last
    });
    let mut words = Words::default();
    for (codes, words) in codes
        .as_chunks::<U>()
        .0
        .iter()
        .zip(words.chunks_exact_mut(const { blocks(BITS) }))
    {
        unit_words::<BITS, U>(codes, words);
    }
    words
}

/// The words of one column's unit: for every block the four bytes of the column's lane.
#[inline(always)]
fn unit_words<const BITS: u8, const U: usize>(codes: &[u8; U], words: &mut [u32]) {
    if BITS == 8 {
        words[0] = u32::from_le_bytes([codes[0], codes[1], codes[2], codes[3]]);
        return;
    }
    // Two quads at a time: the first in the low half of a word.
    let pairs = codes.as_chunks::<8>().0;
    for d in const { digits(BITS) } {
        if d.width == 0 {
            break;
        }
        let width = usize::from(d.width);
        let mask = 0x0101_0101_0101_0101 * ((1u64 << width) - 1);
        for (block, pairs) in pairs.chunks_exact(4 / width).enumerate() {
            let mut both = 0;
            for (i, pair) in pairs.iter().enumerate() {
                both |= (u64::from_le_bytes(*pair) >> d.position & mask) << (2 * i * width);
            }
            words[d.block + block] = both as u32 | ((both >> 32) as u32) << width;
        }
    }
}

/// Fetches codes while others are written: they are too few in each row for the machine to see what comes.
struct Fetch;

impl Work for Fetch {
    type Args<'a> = (&'a QuantMatrix, Range<usize>, Range<usize>);
}

impl<S: Simd> Body<S> for Fetch {
    #[inline(always)]
    fn body(simd: S, (weights, rows, k): &mut Self::Args<'_>) {
        for row in rows {
            prefetch_all(simd, &weights.code_row(row)[k.clone()]);
        }
    }
}
