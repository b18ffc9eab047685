//! How packed weights lie in memory: a comparable value, and the byte arithmetic that follows from it.
//!
//! The columns of W (its N output channels) are cut into panels of two vectors; the last panel is filled up with zeros.
//! A panel holds, in this order,
//!
//! ```text
//! zero points of group 0, of group 1, …          padded to 64 bytes; nothing for symmetric weights
//! for every group:  scales of the panel's columns | units of codes
//! ```
//!
//! and is itself padded to 64 bytes. A unit covers [`unit(bits)`](unit()) consecutive k of all columns of the panel,
//! first those of vector 0, then of vector 1; a group that ends inside a unit is filled up with zeros. Within a vector
//! the codes are split into binary digits of 8, 4, 2 or 1 bits whose widths add up to `bits`, widest digit in the
//! lowest bits of the code. A block of `4·lanes` bytes holds one digit of `8/width` quads (four consecutive k): byte
//! `4c + i` belongs to column `c`, element `i` of the quad, and quad `j` of the block lies at bit `j·width` of the
//! byte.
//!
//! # One panel, byte by byte
//!
//! Eight columns of 16 weights, one group, 4 bits, f16 scales, integer zero points, in 4 lanes. Column c has the codes
//! `(c + k) mod 16`, the scale `2^c` and the zero point c, so that every byte says where it comes from:
//!
//! ```text
//! byte   0  10 32 54 76                     zero points of c1 c0, c3 c2 (vector 0), c5 c4, c7 c6 (vector 1)
//!        4  00 …                            padding
//!       64  00 3C 00 40 00 44 00 48         scales 1, 2, 4, 8 of c0 to c3, little-endian f16
//!       72  00 4C 00 50 00 54 00 58         scales 16, 32, 64, 128 of c4 to c7
//!           c0          c1          c2          c3
//!       80  40 51 62 73 51 62 73 84 62 73 84 95 73 84 95 A6     unit 0 of vector 0: k 0–3 low, k 4–7 high
//!           c4          c5          c6          c7
//!       96  84 95 A6 B7 95 A6 B7 C8 A6 B7 C8 D9 B7 C8 D9 EA     unit 0 of vector 1
//!      112  C8 D9 EA FB D9 EA FB 0C EA FB 0C 1D FB 0C 1D 2E     unit 1 of vector 0: k 8–11 low, k 12–15 high
//!      128  0C 1D 2E 3F 1D 2E 3F 40 2E 3F 40 51 3F 40 51 62     unit 1 of vector 1
//!      144  00 …                            padding up to byte 192
//! ```
//!
//! Byte 80 is column 0's `k = 0` (0) in the low nibble and its `k = 4` (4) in the high one. A kernel loads 16 bytes and
//! has, after one mask, quad 0 of four columns; after one shift and mask, quad 1.
//!
//! ```
//! use mixgemm::pack::{layout::PanelLayout, weights::PackedWeights};
//! use mixgemm::{Floats, QuantMatrix, ScaleType, Scheme, Zeros};
//!
//! let codes = (0..8 * 16).map(|i| ((i / 16 + i % 16) % 16) as u8).collect(); // [N, K]
//! let scales = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];
//! let w = QuantMatrix::from_parts(
//!     Scheme::int(4).group(16).asymmetric(),
//!     8,
//!     16,
//!     codes,
//!     Floats::from_f32(ScaleType::F16, &scales),
//!     Zeros::Integer((0..8).collect()),
//! )?;
//! let packed = PackedWeights::pack(&w, PanelLayout { lanes: 4, bits: 4, book: false })?;
//! let panel = packed.panels(0..1);
//! assert_eq!(panel.len(), 192);
//! assert_eq!(panel[..4], [0x10, 0x32, 0x54, 0x76]);
//! assert_eq!(panel[64..72], [0x00, 0x3C, 0x00, 0x40, 0x00, 0x44, 0x00, 0x48]);
//! assert_eq!(panel[72..80], [0x00, 0x4C, 0x00, 0x50, 0x00, 0x54, 0x00, 0x58]);
//! let rows: [u128; 4] = [
//!     0x40516273_51627384_62738495_738495A6,
//!     0x8495A6B7_95A6B7C8_A6B7C8D9_B7C8D9EA,
//!     0xC8D9EAFB_D9EAFB0C_EAFB0C1D_FB0C1D2E,
//!     0x0C1D2E3F_1D2E3F40_2E3F4051_3F405162,
//! ];
//! assert_eq!(panel[80..144], *rows.map(u128::to_be_bytes).as_flattened());
//! assert!(panel[4..64].iter().chain(&panel[144..]).all(|&byte| byte == 0));
//! # Ok::<(), mixgemm::Error>(())
//! ```
//!
//! Codes of 6 bits, as an example of several digits, are a digit of 4 bits and one of 2 above it. Their unit is 16 k in
//! three blocks: `k 0–7` and `k 8–15` of the first digit, then `k 0–15` of the second, four quads to a byte.
#![forbid(unsafe_code)]

use crate::quant::scheme::ScaleType;

/// The order of codes in a panel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PanelLayout {
    /// 32-bit lanes of a vector, which is as many columns.
    pub lanes: usize,
    /// Bits of a code, 1 to 8.
    pub bits: u8,
    /// Whether codes are numbers of entries of a [book](crate::CodeBook), and so for other kernels.
    pub book: bool,
}

/// One binary digit of a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digit {
    /// Bits of the digit: 8, 4, 2 or 1.
    pub width: u8,
    /// Its lowest bit in the code.
    pub position: u8,
    /// Its first block among the blocks of a unit.
    pub block: usize,
}

/// How zero points are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ZeroLayout {
    /// Not at all: symmetric weights.
    None,
    /// Integers below 16, two to a byte, columns in ascending order from the low nibble of the first byte on.
    Nibble,
    /// Integers below 256.
    Byte,
    /// Integers up to 256, little-endian.
    Word,
    /// Floats at the width of the scales.
    Float,
}

/// The version of this picture, which files of panels carry: another number for every change of it.
pub const PACKING: u32 = 1;

/// Vectors in a panel.
pub const PANEL_VECTORS: usize = 2;

/// Consecutive k in a unit: the least that fills every block of every digit, `32 / (bits's lowest set bit)`.
#[must_use]
pub const fn unit(bits: u8) -> usize {
    32 >> bits.trailing_zeros()
}

/// Blocks in a unit of one vector.
#[must_use]
pub const fn blocks(bits: u8) -> usize {
    bits as usize * unit(bits) / 32
}

/// The digits of a code, widest first. Entries past the last have width 0.
#[must_use]
pub const fn digits(bits: u8) -> [Digit; 4] {
    let mut out = [Digit {
        width: 0,
        position: 0,
        block: 0,
    }; 4];
    let (mut width, mut position, mut block, mut i) = (8, 0, 0, 0);
    while width > 0 {
        if bits & width != 0 {
            out[i] = Digit { width, position, block };
            block += unit(bits) * width as usize / 32;
            position += width;
            i += 1;
        }
        width /= 2;
    }
    out
}

impl PanelLayout {
    /// Columns of a full panel.
    #[must_use]
    pub const fn nr(&self) -> usize {
        PANEL_VECTORS * self.lanes
    }

    /// Bytes of a block.
    #[must_use]
    pub const fn block_bytes(&self) -> usize {
        4 * self.lanes
    }

    /// Bytes of a unit of one vector.
    #[must_use]
    pub const fn unit_bytes(&self) -> usize {
        blocks(self.bits) * self.block_bytes()
    }
}

/// Everything about the bytes of one packed matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeightLayout {
    /// The order of codes.
    pub panel: PanelLayout,
    /// Stored width of scales and float zero points.
    pub scale: ScaleType,
    /// How zero points are stored.
    pub zero: ZeroLayout,
    /// Output channels.
    pub n: usize,
    /// Groups along K.
    pub groups: usize,
    /// Units of a full group.
    pub units: usize,
    /// Units of the last group.
    pub last_units: usize,
}

/// Where one column lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// First byte of its panel.
    pub(super) panel: usize,
    /// Its vector in the panel.
    pub(super) vector: usize,
    /// Its lane in the vector.
    pub(super) lane: usize,
}

impl Place {
    /// Offset of the scale of group `g`.
    pub(super) fn scale(&self, layout: &WeightLayout, g: usize) -> usize {
        let record = self.panel + layout.first_record() + g * layout.record_bytes();
        record + self.vector * layout.scale_bytes() + self.lane * layout.scale.bytes()
    }

    /// Offset of the first byte of zero points of the column's vector in group `g`.
    pub(super) fn zeros(&self, layout: &WeightLayout, g: usize) -> usize {
        self.panel + (g * PANEL_VECTORS + self.vector) * layout.zero_bytes()
    }

    /// Offset of the column's byte 0 of block 0 of unit `u` of group `g`.
    pub(super) fn codes(&self, layout: &WeightLayout, g: usize, u: usize) -> usize {
        let record = self.panel + layout.first_record() + g * layout.record_bytes();
        let codes = record + PANEL_VECTORS * layout.scale_bytes();
        codes + (u * PANEL_VECTORS + self.vector) * layout.panel.unit_bytes() + 4 * self.lane
    }
}

impl WeightLayout {
    /// Number of panels.
    #[must_use]
    pub const fn panels(&self) -> usize {
        self.n.div_ceil(self.panel.nr())
    }

    /// Units of group `g`.
    #[must_use]
    pub const fn group_units(&self, g: usize) -> usize {
        if g + 1 == self.groups {
            self.last_units
        } else {
            self.units
        }
    }

    /// Bytes of one vector's scales in a group.
    #[must_use]
    pub const fn scale_bytes(&self) -> usize {
        self.panel.lanes * self.scale.bytes()
    }

    /// Bytes of one vector's zero points in a group.
    #[must_use]
    pub const fn zero_bytes(&self) -> usize {
        match self.zero {
            ZeroLayout::None => 0,
            ZeroLayout::Nibble => self.panel.lanes.div_ceil(2),
            ZeroLayout::Byte => self.panel.lanes,
            ZeroLayout::Word => 2 * self.panel.lanes,
            ZeroLayout::Float => self.scale_bytes(),
        }
    }

    /// Bytes from one full group's record to the next in a panel.
    #[must_use]
    pub const fn record_bytes(&self) -> usize {
        PANEL_VECTORS * (self.scale_bytes() + self.units * self.panel.unit_bytes())
    }

    /// Offset of the first group's record from the start of a panel.
    #[must_use]
    pub const fn first_record(&self) -> usize {
        (self.groups * PANEL_VECTORS * self.zero_bytes()).next_multiple_of(64)
    }

    /// Bytes of a panel.
    #[must_use]
    pub const fn panel_bytes(&self) -> usize {
        let short = (self.units - self.last_units) * PANEL_VECTORS * self.panel.unit_bytes();
        let records = self.groups * self.record_bytes();
        (self.first_record() + records - if self.groups == 0 { 0 } else { short }).next_multiple_of(64)
    }

    /// Where a column lies among all panels.
    pub(super) fn place(&self, column: usize) -> Place {
        let c = column % self.panel.nr();
        Place {
            panel: column / self.panel.nr() * self.panel_bytes(),
            vector: c / self.panel.lanes,
            lane: c % self.panel.lanes,
        }
    }

    /// Bytes of all panels.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.panels() * self.panel_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn digits_tile_the_code_and_the_blocks_of_a_unit() {
        for bits in 1..=8 {
            let digits: Vec<_> = digits(bits).into_iter().filter(|d| d.width > 0).collect();
            assert_eq!(digits.iter().map(|d| d.width).sum::<u8>(), bits);
            let mut block = 0;
            for d in &digits {
                assert_eq!(d.block, block);
                assert_eq!(unit(bits) * usize::from(d.width) % 32, 0, "whole blocks");
                block += unit(bits) * usize::from(d.width) / 32;
            }
            assert_eq!(block, blocks(bits));
        }
    }

    #[test]
    fn a_four_bit_unit_is_one_block_of_eight_k() {
        assert_eq!((unit(4), blocks(4)), (8, 1));
        assert_eq!((unit(8), blocks(8)), (4, 1));
        assert_eq!((unit(3), blocks(3)), (32, 3));
        assert_eq!((unit(6), blocks(6)), (16, 3));
    }
}
