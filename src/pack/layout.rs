//! How packed weights lie in memory: a comparable value, and the byte arithmetic that follows from it.
//!
//! The columns of W (its N output channels) are cut into panels of two vectors; the last panel has one vector when at
//! most `lanes` columns are left. A panel holds, in this order,
//!
//! ```text
//! zero points of group 0, of group 1, …          padded to 64 bytes; nothing for symmetric weights
//! for every group:  scales of the panel's columns | units of codes
//! ```
//!
//! A unit covers `unit(bits)` consecutive k of all columns of the panel, first those of vector 0, then of vector 1.
//! Within a vector the codes are split into binary digits of 8, 4, 2 or 1 bits whose widths add up to `bits`, widest
//! digit in the lowest bits of the code. A block of `4·lanes` bytes holds one digit of `8/width` quads (four
//! consecutive k): byte `4c + i` belongs to column `c`, element `i` of the quad, and quad `j` of the block lies at bit
//! `j·width` of the byte. With 4 bits and 16 lanes:
//!
//! ```text
//! byte     0      1      2      3      4      5   …  63
//! low      c0k0   c0k1   c0k2   c0k3   c1k0   c1k1   c15k3
//! high     c0k4   c0k5   c0k6   c0k7   c1k4   c1k5   c15k7
//! ```
#![forbid(unsafe_code)]

use crate::quant::scheme::ScaleType;

/// The order of codes in a panel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PanelLayout {
    /// 32-bit lanes of a vector, which is as many columns.
    pub lanes: usize,
    /// Bits of a code, 1 to 8.
    pub bits: u8,
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

/// Vectors in a full panel.
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

impl WeightLayout {
    /// Number of panels.
    #[must_use]
    pub const fn panels(&self) -> usize {
        self.n.div_ceil(self.panel.nr())
    }

    /// Vectors of panel `p`: 2, or 1 in a last panel of at most `lanes` columns.
    #[must_use]
    pub const fn vectors(&self, p: usize) -> usize {
        if self.n - p * self.panel.nr() <= self.panel.lanes {
            1
        } else {
            PANEL_VECTORS
        }
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

    /// Bytes from one full group's record to the next in a panel of so many vectors.
    #[must_use]
    pub const fn record_bytes(&self, vectors: usize) -> usize {
        vectors * (self.scale_bytes() + self.units * self.panel.unit_bytes())
    }

    /// Offset of the first group's record from the start of a panel.
    #[must_use]
    pub const fn first_record(&self, vectors: usize) -> usize {
        (self.groups * vectors * self.zero_bytes()).next_multiple_of(64)
    }

    /// Bytes of a panel of so many vectors.
    #[must_use]
    pub const fn panel_bytes(&self, vectors: usize) -> usize {
        let short = (self.units - self.last_units) * vectors * self.panel.unit_bytes();
        let records = self.groups * self.record_bytes(vectors);
        (self.first_record(vectors) + records - if self.groups == 0 { 0 } else { short }).next_multiple_of(64)
    }

    /// The bytes of panel `p`.
    #[must_use]
    pub const fn panel_range(&self, p: usize) -> core::ops::Range<usize> {
        let start = p * self.panel_bytes(PANEL_VECTORS);
        start..start + self.panel_bytes(self.vectors(p))
    }

    /// Bytes of all panels.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        let panels = self.panels();
        if panels == 0 {
            0
        } else {
            self.panel_range(panels - 1).end
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
