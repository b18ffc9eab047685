//! Cuts rows in two, in parallel: their outliers, and what stays where those are 0.
#![forbid(unsafe_code)]

use crate::base::disjoint::{Claims, TileGrid};
use crate::base::error::{Error, Result};
use crate::base::float::{Element, check_environment};
use crate::base::parallel::Team;
use crate::base::view::{MatMut, MatRef};
use crate::outlier::mixed::outlying::Outlying;
use crate::outlier::share::rounded_up;
use crate::quant::activation::{INFINITE, abs_max_bits};
use crate::quant::input::{Activations, Row};
use crate::simd;
use crate::simd::cpu::Isa;
use crate::simd::isa::{Body, Simd, Work};
use alloc::vec::Vec;
use half::{bf16, f16};

/// Below this many activations, a search is not worth a hand-off to other threads.
const ALONE: usize = 32 * 1024;

/// Rows that one thread cuts at a time.
const ROWS: usize = 8;

/// Activations that are searched at a time.
const CHUNK: usize = 64;

/// An outlier of a row: its place among the [channels](Cut::channels), and its value.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Term {
    pub(super) channel: u32,
    pub(super) x: f32,
}

/// The outliers of some rows, as they are found.
#[derive(Debug, Default)]
struct Block {
    first: usize,
    rows: usize,
    /// Row after row, by ascending channel, with the channel's own number.
    found: Vec<Term>,
    /// How many of them each row has.
    counts: Vec<usize>,
    row: Vec<f32>,
    magnitudes: Vec<u32>,
    refused: Option<Error>,
}

/// Searches a block; compiled for every tier.
struct Search;

struct SearchArgs<'a> {
    x: Activations<'a>,
    outlying: &'a Outlying,
    block: &'a mut Block,
}

impl Work for Search {
    type Args<'a> = SearchArgs<'a>;
}

impl<S: Simd> Body<S> for Search {
    #[inline(always)]
    fn body(_: S, args: &mut SearchArgs<'_>) {
        let Block {
            first,
            rows,
            found,
            counts,
            row,
            magnitudes,
            ..
        } = &mut *args.block;
        for r in *first..*first + *rows {
            let x = match args.x.row(r) {
                Row::F32(x) => x,
                Row::F16(x) => widened(f16::slice_to_f32, x, row),
                Row::Bf16(x) => widened(bf16::slice_to_f32, x, row),
                Row::I8(..) => &[],
            };
            let (before, most) = (found.len(), abs_max_bits(x));
            // A row with NaN or infinite inputs stays whole.
            if most < INFINITE {
                match args.outlying {
                    Outlying::Above(limit) => above(x, limit.to_bits(), most, found),
                    Outlying::Top(share) => top(x, rounded_up(*share, x.len() as u64) as usize, magnitudes, found),
                    Outlying::Channels(channels) => {
                        for &channel in channels {
                            let x = x[channel as usize];
                            found.push(Term { channel, x });
                        }
                    }
                }
            }
            counts.push(found.len() - before);
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

/// Notes the magnitudes above a limit, given in bits like the largest of the row.
#[inline(always)]
fn above(x: &[f32], limit: u32, most: u32, found: &mut Vec<Term>) {
    if most <= limit {
        return;
    }
    for (i, chunk) in x.chunks(CHUNK).enumerate() {
        if abs_max_bits(chunk) <= limit {
            continue;
        }
        for (j, &x) in chunk.iter().enumerate() {
            if x.to_bits() & 0x7FFF_FFFF > limit {
                let channel = (i * CHUNK + j) as u32;
                found.push(Term { channel, x });
            }
        }
    }
}

/// Notes the `count` largest magnitudes, of equals the first.
#[inline(always)]
fn top(x: &[f32], count: usize, magnitudes: &mut Vec<u32>, found: &mut Vec<Term>) {
    if count == 0 {
        return;
    }
    magnitudes.clear();
    magnitudes.extend(x.iter().map(|x| x.to_bits() & 0x7FFF_FFFF));
    let (mut least, mut equals) = (0, x.len());
    if count < x.len() {
        let at = x.len() - count;
        least = *magnitudes.select_nth_unstable(at).1;
        let larger = magnitudes[at..].iter().filter(|&&magnitude| magnitude > least).count();
        equals = count - larger;
    }
    for (channel, &x) in (0..).zip(x) {
        let magnitude = x.to_bits() & 0x7FFF_FFFF;
        let equal = magnitude == least && equals > 0;
        equals -= usize::from(equal);
        if equal || magnitude > least {
            found.push(Term { channel, x });
        }
    }
}

/// Rows in two parts, with buffers that are kept from one product to the next.
#[derive(Debug, Default)]
pub(super) struct Cut {
    blocks: Vec<Block>,
    /// The number of each channel among those with outliers.
    places: Vec<u32>,
    channels: Vec<u32>,
    starts: Vec<usize>,
    terms: Vec<Term>,
    calm: Vec<f32>,
}

impl Cut {
    /// Looks for the outliers of float activations.
    ///
    /// # Errors
    /// [`Error::FloatEnvironment`] of any of the threads.
    pub(super) fn find(&mut self, x: Activations<'_>, outlying: &Outlying, isa: Isa, team: Team<'_>) -> Result<()> {
        let (m, k) = x.shape();
        let count = m.div_ceil(ROWS);
        if self.blocks.len() < count {
            self.blocks.resize_with(count, Block::default);
        }
        let claims = Claims::new(&mut self.blocks[..count]);
        let search = |_| {
            while let Some((i, block)) = claims.next() {
                block.found.clear();
                block.counts.clear();
                (block.first, block.rows) = (i * ROWS, ROWS.min(m - i * ROWS));
                block.refused = check_environment().err();
                if block.refused.is_none() {
                    simd::run::<Search>(isa, &mut SearchArgs { x, outlying, block });
                }
            }
        };
        team.run(if m * k <= ALONE { 1 } else { count }, &search);
        let refused = self.blocks[..count].iter().find_map(|block| block.refused.clone());
        refused.map_or(Ok(()), Err)?;
        self.arrange(count, k);
        Ok(())
    }

    /// Puts what the first `count` blocks found in one list, and numbers the channels.
    fn arrange(&mut self, count: usize, k: usize) {
        /// A channel without outliers, and one with some.
        const FREE: u32 = u32::MAX;
        const TAKEN: u32 = 0;
        let Self {
            blocks,
            places,
            channels,
            starts,
            terms,
            ..
        } = self;
        channels.clear();
        terms.clear();
        starts.clear();
        starts.push(0);
        places.clear();
        places.resize(k, FREE);
        for block in &blocks[..count] {
            terms.extend_from_slice(&block.found);
            for count in &block.counts {
                starts.push(starts[starts.len() - 1] + count);
            }
        }
        for term in terms.iter() {
            places[term.channel as usize] = TAKEN;
        }
        for (channel, place) in (0..).zip(places.iter_mut()).filter(|(_, place)| **place == TAKEN) {
            *place = channels.len() as u32;
            channels.push(channel);
        }
        for term in terms.iter_mut() {
            term.channel = places[term.channel as usize];
        }
    }

    /// Takes the outliers out of the activations.
    pub(super) fn calm(&mut self, x: Activations<'_>, isa: Isa, team: Team<'_>) -> Result<()> {
        let (m, k) = x.shape();
        self.calm.resize(m * k, 0.0);
        let (channels, starts, terms) = (&self.channels, &self.starts, &self.terms);
        let grid = TileGrid::new(MatMut::row_major(&mut self.calm, m, k)?, ROWS, k);
        let copy = |_| {
            while let Some(mut tile) = grid.next() {
                for r in tile.rows() {
                    let calm = tile.row_mut(r, 0..k);
                    simd::run::<AsFloats>(isa, &mut (x.row(r), &mut *calm));
                    for term in &terms[starts[r]..starts[r + 1]] {
                        calm[channels[term.channel as usize] as usize] = 0.0;
                    }
                }
            }
        };
        team.run(if m * k <= ALONE { 1 } else { m.div_ceil(ROWS) }, &copy);
        Ok(())
    }

    /// What [stays](Cut::calm) of M × K activations.
    pub(super) fn view(&self, m: usize, k: usize) -> Result<MatRef<'_, f32>> {
        MatRef::row_major(&self.calm, m, k)
    }

    /// The channels with outliers, ascending.
    pub(super) fn channels(&self) -> &[u32] {
        &self.channels
    }

    /// How many outliers there are.
    pub(super) fn len(&self) -> usize {
        self.terms.len()
    }

    /// Those of a row, by ascending channel.
    pub(super) fn of_row(&self, r: usize) -> &[Term] {
        &self.terms[self.starts[r]..self.starts[r + 1]]
    }
}

/// Copies a row as f32; compiled for every tier.
struct AsFloats;

impl Work for AsFloats {
    type Args<'a> = (Row<'a>, &'a mut [f32]);
}

impl<S: Simd> Body<S> for AsFloats {
    #[inline(always)]
    fn body(_: S, (from, to): &mut (Row<'_>, &mut [f32])) {
        match *from {
            Row::F32(x) => to.copy_from_slice(x),
            Row::F16(x) => f16::slice_to_f32(x, to),
            Row::Bf16(x) => bf16::slice_to_f32(x, to),
            Row::I8(..) => {}
        }
    }
}
