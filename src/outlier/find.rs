//! Finds outliers, `|rne(x/t)| > 127`, in parallel and at the speed of memory, and packs what is left of them,
//! `r = v − clamp(v, ±127)`, with the channels they are in.
#![forbid(unsafe_code)]

use crate::base::disjoint::{Claims, TileGrid};
use crate::base::error::{Error, Result};
use crate::base::float::{Element, check_environment, rne};
use crate::base::parallel::Team;
use crate::base::view::MatMut;
use crate::outlier::columns::{Columns, GATHER_ALONE, read_all};
use crate::quant::activation::{INFINITE, a8static_value, abs_max_bits, check_a8static};
use crate::quant::input::{Activations, Row};
use crate::quant::rest::{BLOCK, Levels, Rest, Term};
use crate::quant::sums::WeightShape;
use crate::simd;
use crate::simd::cpu::Isa;
use crate::simd::isa::{Body, Simd, Work};
use alloc::vec::Vec;
use half::{bf16, f16};

/// Below this many activations, a search is not worth a hand-off to other threads.
const SEARCH_ALONE: usize = 32 * 1024;

/// Rows that are searched at a time.
const ROWS: usize = 8;

/// Activations that are searched at a time within a row with outliers.
const CHUNK: usize = 64;

/// And within a chunk with outliers.
const PART: usize = 16;

/// The largest magnitude x with `rne(x/t) ≤ 127`, for a finite positive t. Larger ones are outliers: f32 division and
/// rounding are monotone.
#[must_use]
pub fn limit(t: f32) -> f32 {
    let inside = |x: f32| rne(x / t) <= 127.0;
    let next = |x: f32, step: i32| f32::from_bits(x.to_bits().wrapping_add_signed(step));
    let mut x = (t * 127.5).min(f32::MAX);
    while !inside(x) {
        x = next(x, -1);
    }
    while x < f32::MAX && inside(next(x, 1)) {
        x = next(x, 1);
    }
    x
}

/// An outlier.
#[derive(Debug, Clone, Copy)]
struct Found {
    row: u32,
    k: u32,
    r: i32,
}

/// The outliers of some rows.
#[derive(Debug, Default)]
struct Block {
    first: usize,
    rows: usize,
    found: Vec<Found>,
    row: Vec<f32>,
    /// The largest magnitude of every chunk of a row, in bits.
    maxima: Vec<u32>,
    refused: Option<Error>,
}

/// Searches a block; compiled for every tier.
struct Search;

struct SearchArgs<'a> {
    x: Activations<'a>,
    t: f32,
    limit: u32,
    block: &'a mut Block,
}

impl Work for Search {
    type Args<'a> = SearchArgs<'a>;
}

impl<S: Simd> Body<S> for Search {
    #[inline(always)]
    fn body(_: S, args: &mut SearchArgs<'_>) {
        let (t, limit) = (args.t, args.limit);
        let Block {
            first,
            rows,
            found,
            row,
            maxima,
            refused,
        } = &mut *args.block;
        for r in *first..*first + *rows {
            let x = match args.x.row(r) {
                Row::F32(x) => x,
                Row::F16(x) => widened(f16::slice_to_f32, x, row),
                Row::Bf16(x) => widened(bf16::slice_to_f32, x, row),
                Row::I8(..) => continue,
            };
            maxima.clear();
            maxima.extend(x.chunks(CHUNK).map(abs_max_bits));
            let most = maxima.iter().copied().max().unwrap_or(0);
            // The output of a row with NaN or infinite inputs is made of those alone.
            if most <= limit || most >= INFINITE {
                continue;
            }
            if let Err(error) = search_row(x, maxima, r as u32, t, limit, found) {
                refused.get_or_insert(error);
            }
        }
    }
}

/// A row as f32.
#[inline(always)]
fn widened<'a, T: Element>(convert: fn(&[T], &mut [f32]), x: &[T], row: &'a mut Vec<f32>) -> &'a [f32] {
    row.resize(x.len(), 0.0);
    convert(x, row);
    row
}

/// Notes the outliers of a finite row that has some.
#[inline(always)]
fn search_row(x: &[f32], maxima: &[u32], row: u32, t: f32, limit: u32, found: &mut Vec<Found>) -> Result<()> {
    for (i, (chunk, &most)) in x.chunks(CHUNK).zip(maxima).enumerate() {
        if most <= limit {
            continue;
        }
        for (j, part) in chunk.chunks(PART).enumerate() {
            if abs_max_bits(part) <= limit {
                continue;
            }
            for (l, &x) in part.iter().enumerate() {
                if x.to_bits() & 0x7FFF_FFFF > limit {
                    let (v, k) = (a8static_value(x, t), i * CHUNK + j * PART + l);
                    check_a8static(v, true, k)?;
                    let r = v - v.clamp(-127.0, 127.0);
                    let (k, r) = (k as u32, r as i32);
                    found.push(Found { row, k, r });
                }
            }
        }
    }
    Ok(())
}

/// The outliers of a product, with buffers that are kept from one to the next.
#[derive(Debug, Default)]
pub struct Outliers {
    blocks: Vec<Block>,
    /// One bit per input channel.
    marks: Vec<u64>,
    /// The channels marked before each word of marks.
    before: Vec<u32>,
    channels: Vec<u32>,
    m: usize,
    starts: Vec<u32>,
    sizes: Vec<u64>,
    terms: Vec<Term>,
    /// The channels' weights as they were read, `[channel, N]`, and in the order of [`Levels`].
    levels: Vec<i16>,
    strips: Vec<[i16; BLOCK]>,
    n: usize,
}

impl Outliers {
    /// Searches activations for outliers of the scale t. Int8 activations have none.
    ///
    /// # Errors
    /// [`Error::Value`] for `|rne(x/t)| ≥ 2^23`; [`Error::FloatEnvironment`] of any of the threads.
    pub(super) fn find(&mut self, x: Activations<'_>, t: f32, w: &WeightShape, isa: Isa, team: Team<'_>) -> Result<()> {
        let (m, k) = x.shape();
        let (count, limit) = (m.div_ceil(ROWS), limit(t).to_bits());
        if self.blocks.len() < count {
            self.blocks.resize_with(count, Block::default);
        }
        let claims = Claims::new(&mut self.blocks[..count]);
        let worker = |_| {
            while let Some((i, block)) = claims.next() {
                block.found.clear();
                (block.first, block.rows) = (i * ROWS, ROWS.min(m - i * ROWS));
                block.refused = check_environment().err();
                if block.refused.is_none() {
                    simd::run::<Search>(isa, &mut SearchArgs { x, t, limit, block });
                }
            }
        };
        team.run(if m * k <= SEARCH_ALONE { 1 } else { count }, &worker);
        let refused = self.blocks[..count].iter().find_map(|block| block.refused.clone());
        refused.map_or(Ok(()), Err)?;
        self.arrange(count, m, w);
        Ok(())
    }

    /// Puts what the first `count` blocks found in order: channels ascending, terms by group and row.
    fn arrange(&mut self, count: usize, m: usize, w: &WeightShape) {
        let Self {
            blocks,
            marks,
            before,
            channels,
            starts,
            sizes,
            terms,
            ..
        } = self;
        self.m = m;
        marks.clear();
        channels.clear();
        starts.clear();
        sizes.clear();
        terms.clear();
        let found = || blocks[..count].iter().flat_map(|block| &block.found);
        if found().next().is_none() {
            return;
        }
        marks.resize(w.k.div_ceil(64), 0);
        starts.resize(w.groups * m + 1, 0);
        sizes.resize(w.groups * m, 0);
        let at = |found: &Found| found.k as usize / w.group * m + found.row as usize;
        for found in found() {
            marks[found.k as usize / 64] |= 1 << (found.k % 64);
            starts[at(found) + 1] += 1;
            sizes[at(found)] += u64::from(found.r.unsigned_abs());
        }
        before.clear();
        for (word, &bits) in marks.iter().enumerate() {
            before.push(channels.len() as u32);
            let mut left = bits;
            while left != 0 {
                channels.push(word as u32 * 64 + left.trailing_zeros());
                left &= left - 1;
            }
        }
        for i in 1..starts.len() {
            starts[i] += starts[i - 1];
        }
        terms.resize(starts[w.groups * m] as usize, Term::default());
        // Every start moves to its end, which is the next one's start, and is moved back below.
        for found in found() {
            let (word, bit) = (found.k as usize / 64, found.k % 64);
            let below = (marks[word] & ((1 << bit) - 1)).count_ones();
            let place = &mut starts[at(found)];
            terms[*place as usize] = Term {
                channel: before[word] + below,
                r: found.r,
            };
            *place += 1;
        }
        starts.copy_within(0..w.groups * m, 1);
        starts[0] = 0;
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// The channels with outliers, ascending.
    #[must_use]
    pub fn channels(&self) -> &[u32] {
        &self.channels
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.terms.len()
    }

    /// Gathers the channels' weights.
    ///
    /// # Errors
    /// As [`Columns::read`].
    pub(super) fn gather(&mut self, columns: &dyn Columns, n: usize, team: Team<'_>) -> Result<()> {
        let (channels, strips) = (&self.channels, n.div_ceil(BLOCK));
        self.n = n;
        self.strips.resize(channels.len() * strips, [0; BLOCK]);
        let alone = channels.len() * n <= GATHER_ALONE;
        read_all(columns, channels, &mut self.levels, team)?;
        let grid = TileGrid::new(
            MatMut::row_major(&mut self.strips, strips, channels.len())?,
            1,
            channels.len(),
        );
        let levels = &self.levels;
        let arrange = |_| {
            while let Some(mut strip) = grid.next() {
                let i = strip.rows().start;
                let columns = i * BLOCK..((i + 1) * BLOCK).min(n);
                for (block, levels) in strip.row_mut(i, 0..channels.len()).iter_mut().zip(levels.chunks(n)) {
                    block[..columns.len()].copy_from_slice(&levels[columns.clone()]);
                }
            }
        };
        team.run(if alone { 1 } else { strips }, &arrange);
        Ok(())
    }

    /// What is left to add to a product with clamped activations.
    #[must_use]
    pub fn rest(&self) -> Rest<'_> {
        Rest {
            m: self.m,
            starts: &self.starts,
            sizes: &self.sizes,
            terms: &self.terms,
            levels: Levels {
                blocks: &self.strips,
                channels: self.channels.len(),
                n: self.n,
            },
        }
    }
}
