//! Writing one panel: the layout's picture, from columns of codes, scales and zero points.
#![forbid(unsafe_code)]

use crate::pack::layout::{PANEL_VECTORS, Place, WeightLayout, ZeroLayout, blocks, digits, unit};
use crate::quant::matrix::{Floats, QuantMatrix, Zeros};
use crate::simd;
use crate::simd::cpu::Isa;
use crate::simd::isa::{Body, Simd, Work, prefetch_all};
use core::ops::Range;

/// Codes of a column that are written before it is the next column's turn: some cache lines of every row of W in turn,
/// so that what is written of the panel meanwhile stays in the first-level cache.
const RUN: usize = 2048;

/// Writes panel `p` into its bytes, which are zero.
pub(super) fn write_panel(weights: &QuantMatrix, layout: &WeightLayout, p: usize, panel: &mut [u8]) {
    let nr = layout.panel.nr();
    let columns = p * nr..((p + 1) * nr).min(layout.n);
    let group = weights.scheme().group_length(weights.k()).max(1);
    let isa = Isa::best(None);
    for first in (0..layout.groups).step_by(RUN.div_ceil(group)) {
        let groups = first..(first + RUN.div_ceil(group)).min(layout.groups);
        for column in columns.clone() {
            if column + 1 < columns.end {
                let next = &weights.code_row(column + 1)[first * group..(groups.end * group).min(weights.k())];
                simd::run::<Fetch>(isa, &mut { next });
            }
            let mut writer = Column::new(weights, layout, column, panel);
            writer.scales(groups.clone());
            writer.zeros(groups.clone());
            match layout.panel.lanes {
                4 => writer.codes_for::<4>(groups.clone()),
                8 => writer.codes_for::<8>(groups.clone()),
                16 => writer.codes_for::<16>(groups.clone()),
                _ => writer.codes_for::<ANY>(groups.clone()),
            }
        }
    }
}

/// Fetches a run of codes while another is written: it is too short for the machine to see what comes.
struct Fetch;

impl Work for Fetch {
    type Args<'a> = &'a [u8];
}

impl<S: Simd> Body<S> for Fetch {
    #[inline(always)]
    fn body(simd: S, codes: &mut Self::Args<'_>) {
        prefetch_all(simd, codes);
    }
}

/// Lanes that are known when the panel is written.
const ANY: usize = 0;

/// One column on its way into its panel.
struct Column<'a> {
    weights: &'a QuantMatrix,
    layout: &'a WeightLayout,
    panel: &'a mut [u8],
    column: usize,
    /// Where it lies in the panel.
    at: Place,
}

impl<'a> Column<'a> {
    fn new(weights: &'a QuantMatrix, layout: &'a WeightLayout, column: usize, panel: &'a mut [u8]) -> Self {
        let at = Place {
            panel: 0,
            ..layout.place(column)
        };
        Self {
            weights,
            layout,
            panel,
            column,
            at,
        }
    }

    /// Where the values of these groups begin among scales or zero points, and from one group to the next.
    fn values(&self, groups: &Range<usize>) -> (usize, usize) {
        if self.weights.scales().len() == 1 {
            (0, 0)
        } else {
            (self.column * self.layout.groups + groups.start, 1)
        }
    }

    fn scales(&mut self, groups: Range<usize>) {
        let (to, step) = (self.at.scale(self.layout, groups.start), self.layout.record_bytes());
        self.floats(self.weights.scales(), groups, (to, step));
    }

    fn zeros(&mut self, groups: Range<usize>) {
        let (to, step) = (
            self.at.zeros(self.layout, groups.start),
            PANEL_VECTORS * self.layout.zero_bytes(),
        );
        let lane = self.at.lane;
        match self.weights.zeros() {
            Zeros::Symmetric => {}
            Zeros::Float(z) => self.floats(z, groups, (to + lane * self.layout.scale.bytes(), step)),
            Zeros::Integer(z) => match self.layout.zero {
                ZeroLayout::Nibble => {
                    let (value, next) = self.values(&groups);
                    let to = self.panel[to + lane / 2..].iter_mut().step_by(step.max(1));
                    for (i, to) in to.take(groups.len()).enumerate() {
                        *to |= (z[value + i * next] as u8) << (4 * (lane % 2));
                    }
                }
                ZeroLayout::Byte => self.place(groups, (to + lane, step), |i| [z[i] as u8]),
                _ => self.place(groups, (to + 2 * lane, step), |i| z[i].to_le_bytes()),
            },
        }
    }

    /// Writes the groups' values, the first to offset `to`.
    fn floats(&mut self, values: &Floats, groups: Range<usize>, to: (usize, usize)) {
        match values {
            Floats::F32(v) => self.place(groups, to, |i| v[i].to_le_bytes()),
            Floats::F16(v) => self.place(groups, to, |i| v[i].to_le_bytes()),
            Floats::Bf16(v) => self.place(groups, to, |i| v[i].to_le_bytes()),
        }
    }

    /// Writes the groups' values, the first to offset `to`, from each to the next `step`.
    #[inline(always)]
    fn place<const B: usize>(
        &mut self,
        groups: Range<usize>,
        (mut to, step): (usize, usize),
        bytes: impl Fn(usize) -> [u8; B],
    ) {
        let (mut value, next) = self.values(&groups);
        for _ in groups {
            self.panel[to..to + B].copy_from_slice(&bytes(value));
            (to, value) = (to + step, value + next);
        }
    }

    fn codes_for<const LANES: usize>(&mut self, groups: Range<usize>) {
        match self.layout.panel.bits {
            1 => self.codes::<LANES, 1, { unit(1) }>(groups),
            2 => self.codes::<LANES, 2, { unit(2) }>(groups),
            3 => self.codes::<LANES, 3, { unit(3) }>(groups),
            4 => self.codes::<LANES, 4, { unit(4) }>(groups),
            5 => self.codes::<LANES, 5, { unit(5) }>(groups),
            6 => self.codes::<LANES, 6, { unit(6) }>(groups),
            7 => self.codes::<LANES, 7, { unit(7) }>(groups),
            _ => self.codes::<LANES, 8, { unit(8) }>(groups),
        }
    }

    /// Writes the groups' codes, `U` of which are a unit.
    fn codes<const LANES: usize, const BITS: u8, const U: usize>(&mut self, groups: Range<usize>) {
        let layout = self.layout;
        let unit_bytes = layout.panel.unit_bytes();
        let row = self.weights.code_row(self.column);
        for g in groups {
            let to = self.at.codes(layout, g, 0);
            let (chunks, rest) = row[self.weights.group_range(g)].as_chunks::<CHUNK>();
            let to = &mut self.panel[to..];
            let chunk_bytes = CHUNK / U * PANEL_VECTORS * unit_bytes;
            for (i, chunk) in chunks.iter().enumerate() {
                write_units::<LANES, BITS, U>(chunk, CHUNK / U, layout.panel.lanes, &mut to[i * chunk_bytes..]);
            }
            if !rest.is_empty() {
                let mut last = [0; CHUNK];
                last[..rest.len()].copy_from_slice(rest);
                let to = &mut to[chunks.len() * chunk_bytes..];
                write_units::<LANES, BITS, U>(&last, rest.len().div_ceil(U), layout.panel.lanes, to);
            }
        }
    }
}

/// Codes that are written at once: the longest unit.
const CHUNK: usize = 32;

/// Writes the first `units` units of one column's codes: for every block the four bytes of the column's lane. `to` begins
/// with those of the first. With `LANES` known, all distances are.
#[inline(always)]
fn write_units<const LANES: usize, const BITS: u8, const U: usize>(
    codes: &[u8; CHUNK],
    units: usize,
    lanes: usize,
    to: &mut [u8],
) {
    let block_bytes = 4 * if LANES == ANY { lanes } else { LANES };
    let unit_bytes = PANEL_VECTORS * const { blocks(BITS) } * block_bytes;
    // One comparison with the length, and none below.
    let to = &mut to[..(units - 1) * unit_bytes + (const { blocks(BITS) } - 1) * block_bytes + 4];
    for (u, codes) in codes.as_chunks::<U>().0.iter().take(units).enumerate() {
        write_unit::<BITS, U>(codes, block_bytes, &mut to[u * unit_bytes..]);
    }
}

/// Writes one column's codes of one unit.
#[inline(always)]
fn write_unit<const BITS: u8, const U: usize>(codes: &[u8; U], block_bytes: usize, to: &mut [u8]) {
    if BITS == 8 {
        to[..4].copy_from_slice(&codes[..4]);
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
            let mut words = 0;
            for (i, pair) in pairs.iter().enumerate() {
                words |= (u64::from_le_bytes(*pair) >> d.position & mask) << (2 * i * width);
            }
            let word = words as u32 | ((words >> 32) as u32) << width;
            to[(d.block + block) * block_bytes..][..4].copy_from_slice(&word.to_le_bytes());
        }
    }
}
