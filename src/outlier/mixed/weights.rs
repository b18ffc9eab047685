//! The weights that outliers meet as floats, and the fold that they continue.
#![forbid(unsafe_code)]

use crate::base::disjoint::{TileGrid, TileMut};
use crate::base::error::Result;
use crate::base::float::{Element, fma};
use crate::base::parallel::Team;
use crate::base::view::MatMut;
use crate::epilogue::{Epilogue, Output};
use crate::outlier::columns::{Columns, read_all};
use crate::outlier::fold::Scales;
use crate::outlier::mixed::cut::{Cut, Term};
use crate::simd;
use crate::simd::cpu::Isa;
use crate::simd::isa::{Body, Simd, Work};
use alloc::{boxed::Box, vec::Vec};
use half::f16;

/// Output channels whose weights lie side by side.
const BLOCK: usize = 64;

/// Rows of outputs that one thread continues at a time.
const ROWS: usize = 32;

/// Below this many weights or outputs, work on them is not worth a hand-off to other threads.
const ALONE: usize = 32 * 1024;

/// The weights that outliers meet: N × K.
pub enum OutlierWeights {
    /// The integers of the quantised weights: with their scales, outliers meet `s·(q − z)`.
    Quantised(Box<dyn Columns>),
    /// Weights that were never quantised.
    Halves(Box<dyn Columns<f16>>),
}

/// They and what it takes to make floats of them.
pub(super) enum Floats {
    /// Integers in groups of so many inputs.
    Quantised(Box<dyn Columns>, Scales, usize),
    /// Halves.
    Halves(Box<dyn Columns<f16>>),
}

/// The weights of some channels, with buffers that are kept from one product to the next.
#[derive(Debug, Default)]
pub(super) struct Strips {
    channels: usize,
    levels: Vec<i16>,
    halves: Vec<f16>,
    /// The weights of 64 output channels at a time, `[N / 64, channel, 64]`; any after the last output channel.
    strips: Vec<[f32; BLOCK]>,
}

impl Strips {
    /// Reads the weights of these channels.
    ///
    /// # Errors
    /// As [`Columns::read`].
    pub(super) fn gather(&mut self, from: &Floats, channels: &[u32], n: usize, isa: Isa, team: Team<'_>) -> Result<()> {
        let Self {
            levels, halves, strips, ..
        } = self;
        self.channels = channels.len();
        strips.resize(n.div_ceil(BLOCK) * channels.len(), [0.0; BLOCK]);
        match from {
            Floats::Quantised(columns, ..) => read_all(&**columns, channels, levels, team)?,
            Floats::Halves(columns) => read_all(&**columns, channels, halves, team)?,
        }
        let rows = n.div_ceil(BLOCK);
        let grid = TileGrid::new(MatMut::row_major(strips, rows, channels.len())?, 1, channels.len());
        let arrange = |_| {
            while let Some(mut strip) = grid.next() {
                let i = strip.rows().start;
                let outputs = i * BLOCK..((i + 1) * BLOCK).min(n);
                for (c, to) in strip.row_mut(i, 0..channels.len()).iter_mut().enumerate() {
                    let (own, to) = (c * n + outputs.start..c * n + outputs.end, &mut to[..outputs.len()]);
                    let weights = match from {
                        Floats::Quantised(_, scales, group) => {
                            let (s, f) = scales.of_group(channels[c] as usize / group);
                            Weights::Quantised(&levels[own], &s[outputs.clone()], &f[outputs.clone()])
                        }
                        Floats::Halves(_) => Weights::Halves(&halves[own]),
                    };
                    simd::run::<Widen>(isa, &mut (weights, to));
                }
            }
        };
        team.run(if n * channels.len() <= ALONE { 1 } else { rows }, &arrange);
        Ok(())
    }

    /// Continues the sums of every row by its outliers, and finishes them.
    pub(super) fn fold(&self, (cut, epilogue): (&Cut, &Epilogue<'_>), sums: MatMut<'_, f32>, isa: Isa, team: Team<'_>) {
        let (m, n) = (sums.rows(), sums.cols());
        let grid = TileGrid::new(sums, ROWS, BLOCK);
        let work = |_| {
            while let Some(tile) = grid.next() {
                let strip = tile.cols().start / BLOCK * self.channels;
                let strip = &self.strips[strip..][..self.channels];
                let args = &mut ContinueArgs {
                    cut,
                    epilogue,
                    strip,
                    tile,
                };
                simd::run::<Continue>(isa, args);
            }
        };
        team.run(
            if m * n <= ALONE {
                1
            } else {
                m.div_ceil(ROWS) * n.div_ceil(BLOCK)
            },
            &work,
        );
    }
}

/// Weights of one input channel.
enum Weights<'a> {
    /// `s·(level − f)`.
    Quantised(&'a [i16], &'a [f32], &'a [f32]),
    Halves(&'a [f16]),
}

/// Weights become floats; compiled for every tier.
struct Widen;

impl Work for Widen {
    type Args<'a> = (Weights<'a>, &'a mut [f32]);
}

impl<S: Simd> Body<S> for Widen {
    #[inline(always)]
    fn body(_: S, (weights, to): &mut (Weights<'_>, &mut [f32])) {
        match *weights {
            Weights::Quantised(levels, s, f) => {
                for (to, ((&level, s), f)) in to.iter_mut().zip(levels.iter().zip(s).zip(f)) {
                    *to = s * (f32::from(level) - f);
                }
            }
            Weights::Halves(halves) => f16::slice_to_f32(halves, to),
        }
    }
}

/// Continues a tile of outputs; compiled for every tier.
struct Continue;

struct ContinueArgs<'a> {
    cut: &'a Cut,
    epilogue: &'a Epilogue<'a>,
    strip: &'a [[f32; BLOCK]],
    tile: TileMut<'a, f32>,
}

impl Work for Continue {
    type Args<'a> = ContinueArgs<'a>;
}

impl<S: Simd> Body<S> for Continue {
    #[inline(always)]
    fn body(_: S, args: &mut ContinueArgs<'_>) {
        let (rows, cols) = (args.tile.rows(), args.tile.cols());
        for r in rows {
            let y = args.tile.row_mut(r, cols.clone());
            let mut sums = [0.0; BLOCK];
            sums[..y.len()].copy_from_slice(y);
            // Four terms at a time, in their order: the sums then pass through memory a quarter as often.
            let (fours, others) = args.cut.of_row(r).as_chunks();
            for &[a, b, c, d] in fours {
                let weights = |term: Term| &args.strip[term.channel as usize];
                let (wa, wb, wc, wd) = (weights(a), weights(b), weights(c), weights(d));
                for i in 0..BLOCK {
                    let sum = fma(b.x, wb[i], fma(a.x, wa[i], sums[i]));
                    sums[i] = fma(d.x, wd[i], fma(c.x, wc[i], sum));
                }
            }
            for term in others {
                let weights = &args.strip[term.channel as usize];
                for i in 0..BLOCK {
                    sums[i] = fma(term.x, weights[i], sums[i]);
                }
            }
            y.copy_from_slice(&sums[..y.len()]);
            args.epilogue.finish(y, r, cols.start, None);
        }
    }
}

/// Rounds finished sums into an output of another type than theirs.
pub(super) fn store(sums: &[f32], y: Output<'_>, team: Team<'_>) {
    match y {
        Output::F32(_) => {}
        Output::F16(y) => round(sums, y, team),
        Output::Bf16(y) => round(sums, y, team),
    }
}

fn round<T: Element>(sums: &[f32], y: MatMut<'_, T>, team: Team<'_>) {
    let (m, n) = (y.rows(), y.cols());
    let grid = TileGrid::new(y, ROWS, n);
    let work = |_| {
        while let Some(mut tile) = grid.next() {
            for r in tile.rows() {
                T::slice_from_f32(&sums[r * n..][..n], tile.row_mut(r, 0..n));
            }
        }
    };
    team.run(if m * n <= ALONE { 1 } else { m.div_ceil(ROWS) }, &work);
}
