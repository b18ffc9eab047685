//! Activations in tiles: integers cut into signed 8-bit slices, interleaved in the order that kernels broadcast them.
//! The integers are those of [`quant::activation`](crate::quant::activation); only their order and the exact mode's
//! unit are decided here.
//!
//! A tile of `rows` activation rows holds, group after group, sub-tiles of `sub` rows. With s slices in the group a
//! sub-tile has `R = sub·s` lhs rows, slice j of row m being lhs row `m·s + j`, and is laid out
//!
//! ```text
//! unit 0: lhs row 0 (unit bytes) | lhs row 1 | … | lhs row R−1      unit 1: …
//! ```
//!
//! Padding at the end of a group is zero. Where kernels fold groups, the lowest of four slices lies apart, after the three
//! above it: as a sub-tile of one slice.
#![forbid(unsafe_code)]

use crate::base::error::Result;
use crate::base::float::{Element, pow2};
use crate::quant::activation::{
    A8STATIC_LIMIT, INFINITE, a8_quantize, a8_scale, a8static_value, a16_quantize, a16_scale, abs_max_bits,
    check_a8static, f16_common_shift, f16_fixed, f16_multiples,
};
use crate::quant::input::{Activations, Mode, Row};
use crate::simd::isa::{Body, Simd, Work, prefetch_all};
use aligned_vec::{AVec, ConstAlign};
use alloc::vec::Vec;
use half::f16;

/// Most slices: f16 as multiples of 2^-24 stays below 2^40, which is six balanced bytes with the sign.
pub const MAX_SLICES: usize = 6;

/// How a tile is to be laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TileSpec {
    /// Bytes of an lhs row in a unit: the k of the weights' unit.
    pub unit: usize,
    /// Input channels.
    pub k: usize,
    /// Input channels in a full group.
    pub group: usize,
    /// The zero point of symmetric weights, which is then multiplied into the biases; `None` where the kernel does it.
    pub zero: Option<i32>,
    /// Whether kernels fold groups of up to four slices in 32 bits. Then the lowest of four lies apart, and the biases of
    /// the two slices that are put together first are one: see [`LhsTile::bias`].
    pub folded: bool,
    /// Lhs rows that lie together, unit by unit, by number of slices: those of a kernel's tile. They divide those of the
    /// whole tile.
    pub lhs_rows: [usize; MAX_SLICES + 1],
}

/// One group of a tile.
#[derive(Debug, Clone, Copy, Default)]
pub struct GroupEntry {
    /// Its first byte.
    pub offset: usize,
    /// Its first bias.
    pub bias: usize,
    /// Slices of every row in this group, without the one that lies apart.
    pub slices: usize,
    /// Whether one more slice lies apart, below the others.
    pub apart: bool,
}

impl GroupEntry {
    /// All slices of a row.
    #[must_use]
    pub fn all_slices(&self) -> usize {
        self.slices + usize::from(self.apart)
    }

    /// Where slice `j` of row `r` of a tile of `rows` rows lies: lhs rows in front of its sub-tiles, and its lhs row there.
    #[inline(always)]
    fn place(&self, rows: usize, r: usize, j: usize) -> (usize, usize) {
        match j.checked_sub(usize::from(self.apart)) {
            Some(above) => (0, r * self.slices + above),
            None => (rows * self.slices, r),
        }
    }
}

/// A non-finite input.
#[derive(Debug, Clone, Copy)]
pub struct NonFinite {
    /// Row in the tile.
    pub row: usize,
    /// Column and value.
    pub input: (usize, f32),
}

/// A packed tile of activation rows. Its buffers are kept from one product to the next.
#[derive(Debug)]
pub struct LhsTile {
    /// First row of the tile in X.
    pub first: usize,
    /// Rows.
    pub rows: usize,
    /// Slices of all groups.
    pub bytes: Vec<u8>,
    /// What a kernel makes of them where it does not read them as they are.
    pub expanded: AVec<u8, ConstAlign<64>>,
    /// `−B`, or `−z·B` for symmetric weights, per lhs row: what accumulators start from. Where kernels fold, the second
    /// lhs row of two or three has 0, and 256 times its bias is in that of the first, as the products will be.
    pub bias: Vec<i32>,
    /// Per (group, row): t in `a8` and `a16`, the unit in `exact`, else 1.
    pub factor: Vec<f32>,
    /// Per (group, row): `−rne_f32(B)` in units of the inputs, for float zero points.
    pub negative_sum: Vec<f32>,
    /// The groups.
    pub groups: Vec<GroupEntry>,
    /// Whether a slice lies apart, per group.
    pub apart: Vec<bool>,
    /// t per row, in the modes whose epilogue applies it.
    pub row_scale: Vec<f32>,
    /// Non-finite inputs, row after row.
    pub non_finite: Vec<NonFinite>,
    /// Whether all groups have the same number of slices, but for those that lie apart, and of units.
    even: bool,
    /// Shift from 2^-24 to the unit, per (row, group) in `exact`.
    shifts: Vec<u8>,
    /// The first refusal.
    pub refused: Option<crate::base::error::Error>,
    row: Vec<f32>,
    /// Bits of the largest magnitude of every group of a row.
    maxima: Vec<u32>,
    integers: Vec<i32>,
    wide: Vec<i64>,
    slice: Vec<i8>,
}

impl Default for LhsTile {
    fn default() -> Self {
        Self {
            first: 0,
            rows: 0,
            bytes: Vec::new(),
            expanded: AVec::new(64),
            bias: Vec::new(),
            factor: Vec::new(),
            negative_sum: Vec::new(),
            groups: Vec::new(),
            apart: Vec::new(),
            row_scale: Vec::new(),
            non_finite: Vec::new(),
            even: false,
            shifts: Vec::new(),
            refused: None,
            row: Vec::new(),
            maxima: Vec::new(),
            integers: Vec::new(),
            wide: Vec::new(),
            slice: Vec::new(),
        }
    }
}

/// Arguments of [`PackTile`].
#[derive(Debug)]
pub struct PackArgs<'a> {
    /// The layout.
    pub spec: &'a TileSpec,
    /// All activations.
    pub x: Activations<'a>,
    /// The mode.
    pub mode: Mode,
    /// Where; `first` and `rows` say which rows.
    pub tile: &'a mut LhsTile,
}

/// Packs one tile; compiled for every tier.
#[derive(Debug)]
pub struct PackTile;

impl Work for PackTile {
    type Args<'a> = PackArgs<'a>;
}

impl<S: Simd> Body<S> for PackTile {
    #[inline(always)]
    fn body(simd: S, args: &mut Self::Args<'_>) {
        let result = args.tile.pack(simd, args.spec, args.x, args.mode);
        args.tile.refused = result.err();
    }
}

/// Grows a buffer to `len` entries without shrinking its allocation.
#[inline(always)]
fn fit<T: Copy + Default>(buffer: &mut Vec<T>, len: usize) {
    buffer.resize(len, T::default());
}

/// Room for `len` entries in all, the entries unchanged.
fn room<T>(buffer: &mut Vec<T>, len: usize) {
    buffer.reserve(len.saturating_sub(buffer.len()));
}

impl LhsTile {
    /// The slices of every group, without those that lie apart, where all have the same number of slices and of units.
    #[must_use]
    pub fn even_slices(&self) -> Option<usize> {
        self.groups.first().filter(|_| self.even).map(|g| g.slices)
    }

    #[inline(always)]
    fn pack<S: Simd>(&mut self, simd: S, spec: &TileSpec, x: Activations<'_>, mode: Mode) -> Result<()> {
        let groups = if spec.k == 0 { 0 } else { spec.k.div_ceil(spec.group) };
        self.non_finite.clear();
        self.row_scale.clear();
        fit(&mut self.groups, groups);
        fit(&mut self.apart, groups);
        fit(&mut self.factor, groups * self.rows);
        fit(&mut self.negative_sum, groups * self.rows);
        fit(&mut self.row, spec.k);
        fit(&mut self.maxima, groups);
        fit(&mut self.slice, spec.group.next_multiple_of(spec.unit));
        let slices = match mode {
            Mode::A16 => 2,
            Mode::Exact => return self.pack_exact(spec, x),
            _ => 1,
        };
        self.groups.iter_mut().for_each(|g| g.slices = slices);
        self.place_groups(spec);
        for r in 0..self.rows {
            let next = self.first + r + 1;
            if let Some(next) = (next < x.shape().0).then(|| x.row(next)) {
                prefetch(simd, next);
            }
            self.pack_row(spec, x.row(self.first + r), mode, r)?;
        }
        Ok(())
    }

    /// Lays out the groups one after the other with the slice counts that they have.
    #[inline(always)]
    fn place_groups(&mut self, spec: &TileSpec) {
        let (mut offset, mut bias) = (0, 0);
        for (entry, apart) in self.groups.iter_mut().zip(&mut self.apart) {
            entry.apart = spec.folded && entry.slices == 4;
            entry.slices -= usize::from(entry.apart);
            *apart = entry.apart;
        }
        let slices = self.groups.first().map_or(0, |g| g.slices);
        let last = (spec.k - self.groups.len().saturating_sub(1) * spec.group).div_ceil(spec.unit);
        self.even =
            last == spec.group.min(spec.k).div_ceil(spec.unit) && self.groups.iter().all(|g| g.slices == slices);
        for (g, entry) in self.groups.iter_mut().enumerate() {
            (entry.offset, entry.bias) = (offset, bias);
            let len = (spec.k - g * spec.group).min(spec.group);
            let lhs_rows = self.rows * entry.all_slices();
            offset += len.next_multiple_of(spec.unit) * lhs_rows;
            bias += lhs_rows;
        }
        fit(&mut self.bytes, offset);
        fit(&mut self.bias, bias);
    }

    #[inline(always)]
    fn pack_row(&mut self, spec: &TileSpec, x: Row<'_>, mode: Mode, r: usize) -> Result<()> {
        if let Row::I8(x, t) = x {
            self.row_scale.push(t);
            for g in 0..self.groups.len() {
                let x = &x[g * spec.group..][..(spec.k - g * spec.group).min(spec.group)];
                self.slice[..x.len()].copy_from_slice(x);
                self.finish_group(spec, g, r, x.len(), 1.0, 1.0);
            }
            return Ok(());
        }
        let mut buffer = core::mem::take(&mut self.row);
        let result = self.pack_floats(spec, x, mode, r, &mut buffer);
        self.row = buffer;
        result
    }

    /// Packs a row of floats; `buffer` is for those that cannot be read as they are.
    #[inline(always)]
    fn pack_floats(&mut self, spec: &TileSpec, x: Row<'_>, mode: Mode, r: usize, buffer: &mut [f32]) -> Result<()> {
        let floats: &[f32] = match x {
            Row::F32(x) => x,
            Row::F16(x) => {
                f16::slice_to_f32(x, buffer);
                buffer
            }
            Row::Bf16(x) => {
                half::bf16::slice_to_f32(x, buffer);
                buffer
            }
            Row::I8(..) => unreachable!("int8 rows are not floats"),
        };
        let mut row_max = 0;
        for (x, max) in floats.chunks(spec.group).zip(&mut self.maxima) {
            *max = abs_max_bits(x);
            row_max = row_max.max(*max);
        }
        let finite = row_max < INFINITE;
        let floats = match x {
            Row::F32(x) if finite && !matches!(mode, Mode::A8Static { .. }) => x,
            x => {
                if let Row::F32(x) = x {
                    buffer.copy_from_slice(x);
                }
                if !finite {
                    take_non_finite(buffer, r, &mut self.non_finite);
                }
                if let Mode::A8Static { scale, saturate } = mode {
                    divide_row(buffer, scale, saturate)?;
                }
                &*buffer
            }
        };
        let row_scale = match mode {
            Mode::A8Row if finite => Some(a8_scale(f32::from_bits(row_max))),
            Mode::A8Row => Some((1.0, 0.0)),
            Mode::A8Static { scale, .. } => Some((scale, 1.0)),
            _ => None,
        };
        self.row_scale.extend(row_scale.map(|(t, _)| t));
        for g in 0..self.groups.len() {
            let range = g * spec.group..((g + 1) * spec.group).min(spec.k);
            let (x, len) = (&floats[range.clone()], range.len());
            // A row with non-finite inputs is zeros by now.
            let max = if finite { self.maxima[g] } else { 0 };
            let mut factor = 1.0;
            match (mode, row_scale) {
                (_, Some((_, inverse))) => a8_quantize(x, inverse, &mut self.slice),
                (Mode::A16, _) => {
                    let (t, inverse) = a16_scale(f32::from_bits(max));
                    factor = t;
                    fit(&mut self.integers, len);
                    a16_quantize(x, inverse, &mut self.integers);
                }
                _ => {
                    let (t, inverse) = a8_scale(f32::from_bits(max));
                    factor = t;
                    a8_quantize(x, inverse, &mut self.slice);
                }
            }
            if mode == Mode::A16 {
                self.finish_integers(spec, g, r, len, factor, 1.0);
            } else {
                self.finish_group(spec, g, r, len, factor, 1.0);
            }
        }
        Ok(())
    }

    /// Two passes: what unit and how many slices each group needs, then the slices.
    #[inline(always)]
    fn pack_exact(&mut self, spec: &TileSpec, x: Activations<'_>) -> Result<()> {
        let groups = self.groups.len();
        fit(&mut self.shifts, self.rows * groups);
        self.groups.iter_mut().for_each(|g| g.slices = 2);
        // Slice counts depend on the data; room for the most keeps later products from allocating.
        let most = self.rows * MAX_SLICES;
        room(&mut self.bytes, most * (spec.k + groups * spec.unit));
        room(&mut self.bias, most * groups);
        room(&mut self.integers, spec.group.min(spec.k));
        room(&mut self.wide, spec.group.min(spec.k));
        for r in 0..self.rows {
            let Row::F16(x) = x.row(self.first + r) else { continue };
            if x.iter().any(|x| !x.is_finite()) {
                f16::slice_to_f32(x, &mut self.row);
                take_non_finite(&mut self.row, r, &mut self.non_finite);
            }
            for (g, x) in x.chunks(spec.group).enumerate() {
                let shift = f16_common_shift(x);
                let greatest = f16::from_bits(x.iter().fold(0, |max, x| max.max(x.to_bits() & 0x7FFF)));
                self.shifts[r * groups + g] = shift as u8;
                let slices = slices(f16_fixed(greatest) as u64 >> shift);
                self.groups[g].slices = self.groups[g].slices.max(slices);
            }
        }
        self.place_groups(spec);
        let mut special = 0;
        for r in 0..self.rows {
            let Row::F16(x) = x.row(self.first + r) else { continue };
            while self.non_finite.get(special).is_some_and(|n| n.row < r) {
                special += 1;
            }
            let finite = self.non_finite.get(special).is_none_or(|n| n.row != r);
            for (g, x) in x.chunks(spec.group).enumerate() {
                let shift = u32::from(self.shifts[r * groups + g]);
                let unit = pow2(shift as i32 - 24);
                if self.groups[g].all_slices() <= 4 {
                    fit(&mut self.integers, x.len());
                    if finite {
                        f16_multiples(x, shift, &mut self.integers);
                    } else {
                        self.integers.fill(0);
                    }
                    self.finish_integers(spec, g, r, x.len(), unit, unit);
                } else {
                    self.wide.clear();
                    self.wide
                        .extend(x.iter().map(|&x| if finite { f16_fixed(x) >> shift } else { 0 }));
                    self.finish_wide(spec, g, r, x.len(), unit);
                }
            }
        }
        Ok(())
    }

    /// Cuts `integers` into slices, two to four of them.
    #[inline(always)]
    fn finish_integers(&mut self, spec: &TileSpec, g: usize, r: usize, len: usize, factor: f32, unit: f32) {
        let entry = self.groups[g];
        let mut total = 0i64;
        for j in 0..entry.all_slices() {
            for (a, s) in self.integers.iter().zip(&mut self.slice) {
                // Adding 128 to every byte makes the balanced digits plain bytes with the top bit flipped.
                *s = (((*a as u32).wrapping_add(0x8080_8080) >> (8 * j)) as u8 ^ 0x80) as i8;
            }
            total += i64::from(self.scatter(spec, g, r, j, len)) << (8 * j);
        }
        if spec.folded {
            let bias = &mut self.bias[entry.bias + r * entry.slices..];
            bias[0] += bias[1] << 8;
            bias[1] = 0;
        }
        self.note(g, r, factor, total, unit);
    }

    /// Cuts `wide` into slices.
    #[inline(always)]
    fn finish_wide(&mut self, spec: &TileSpec, g: usize, r: usize, len: usize, unit: f32) {
        let mut total = 0i64;
        for j in 0..self.groups[g].slices {
            for (a, s) in self.wide.iter().zip(&mut self.slice) {
                *s = (((*a as u64).wrapping_add(0x8080_8080_8080_8080) >> (8 * j)) as u8 ^ 0x80) as i8;
            }
            total += i64::from(self.scatter(spec, g, r, j, len)) << (8 * j);
        }
        self.note(g, r, unit, total, unit);
    }

    /// The one slice of a group is in `slice`.
    #[inline(always)]
    fn finish_group(&mut self, spec: &TileSpec, g: usize, r: usize, len: usize, factor: f32, unit: f32) {
        let total = self.scatter(spec, g, r, 0, len);
        self.note(g, r, factor, i64::from(total), unit);
    }

    #[inline(always)]
    fn note(&mut self, g: usize, r: usize, factor: f32, total: i64, unit: f32) {
        self.factor[g * self.rows + r] = factor;
        self.negative_sum[g * self.rows + r] = -(total as f32 * unit);
    }

    /// Writes `slice` as slice j of row r, and its bias; gives the sum of the slice.
    #[inline(always)]
    fn scatter(&mut self, spec: &TileSpec, g: usize, r: usize, j: usize, len: usize) -> i32 {
        let padded = len.next_multiple_of(spec.unit);
        self.slice[len..padded].fill(0);
        let slice = &self.slice[..padded];
        let sum: i32 = slice.iter().map(|&a| i32::from(a)).sum();
        let entry = self.groups[g];
        let (before, lhs_row) = entry.place(self.rows, r, j);
        let lhs_rows = if before > 0 {
            self.rows
        } else {
            spec.lhs_rows[entry.slices]
        };
        let (sub, place) = (lhs_row / lhs_rows, lhs_row % lhs_rows);
        let to = &mut self.bytes[entry.offset + padded * (before + sub * lhs_rows)..][..padded * lhs_rows];
        match spec.unit {
            4 => interleave::<4>(slice, lhs_rows, place, to),
            8 => interleave::<8>(slice, lhs_rows, place, to),
            16 => interleave::<16>(slice, lhs_rows, place, to),
            _ => interleave::<32>(slice, lhs_rows, place, to),
        }
        self.bias[entry.bias + before + lhs_row] = -sum * spec.zero.unwrap_or(1);
        sum
    }
}

/// Prefetches a row: one that comes from memory arrives while the row before it is packed.
#[inline(always)]
fn prefetch<S: Simd>(simd: S, row: Row<'_>) {
    match row {
        Row::F32(x) => prefetch_all(simd, x),
        Row::F16(x) => prefetch_all(simd, x),
        Row::Bf16(x) => prefetch_all(simd, x),
        Row::I8(x, _) => prefetch_all(simd, x),
    }
}

/// Replaces a row by `rne(x/t)`, limited to where saturation has the last word.
#[inline(always)]
fn divide_row(row: &mut [f32], scale: f32, saturate: bool) -> Result<()> {
    row.iter_mut().for_each(|x| *x = a8static_value(*x, scale));
    let limit: f32 = if saturate { A8STATIC_LIMIT } else { 128.0 };
    if abs_max_bits(row) >= limit.to_bits() {
        for (k, &v) in row.iter().enumerate() {
            check_a8static(v, saturate, k)?;
        }
    }
    row.iter_mut().for_each(|v| *v = v.clamp(-128.0, 128.0));
    Ok(())
}

/// Notes the non-finite inputs of row `r` and clears it.
#[inline(never)]
fn take_non_finite(row: &mut [f32], r: usize, found: &mut Vec<NonFinite>) {
    let inputs = row.iter().copied().enumerate().filter(|(_, x)| !x.is_finite());
    found.extend(inputs.map(|input| NonFinite { row: r, input }));
    row.fill(0.0);
}

/// Writes the units of one lhs row to every `rows`-th place from place `row` on.
#[inline(always)]
fn interleave<const U: usize>(slice: &[i8], rows: usize, row: usize, to: &mut [u8]) {
    let places = to.as_chunks_mut::<U>().0;
    for (unit, place) in slice
        .as_chunks::<U>()
        .0
        .iter()
        .zip(places.iter_mut().skip(row).step_by(rows))
    {
        *place = unit.map(|a| a as u8);
    }
}

/// Balanced 8-bit slices that hold every integer of at most this magnitude: the least s ≥ 1 with
/// `magnitude ≤ 127·(256^s − 1)/255`.
#[inline(always)]
fn slices(magnitude: u64) -> usize {
    let mut most = 127u64;
    let mut s = 1;
    while magnitude > most {
        most = most << 8 | 127;
        s += 1;
    }
    s
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slice_counts_change_where_balanced_digits_overflow() {
        let cases = [
            (0, 1),
            (127, 1),
            (128, 2),
            (0x7F7F, 2),
            (0x7F80, 3),
            (0x7F_7F7F, 3),
            (0x7F_7F80, 4),
            (1 << 40, 6),
        ];
        for (magnitude, expected) in cases {
            assert_eq!(slices(magnitude), expected, "{magnitude:#x}");
        }
    }
}
