//! The definition of the operations that rules over the bits of weights need.
#![forbid(unsafe_code)]

use crate::simd::isa::{Planes, Simd, SumTables, Tables};
use crate::simd::scalar::Scalar;
use core::array::from_fn;

impl<const N: usize> Planes for Scalar<N> {
    type Mask = [[bool; 4]; N];
    type Selected = Self::I;
    const QUADS: usize = usize::MAX;

    #[inline(always)]
    fn mask(self, w: Self::I, bit: u32) -> Self::Mask {
        w.map(|w| w.to_le_bytes().map(|w| w >> bit & 1 == 1))
    }

    #[inline(always)]
    fn none_selected(self) -> Self::Selected {
        [0; N]
    }

    #[inline(always)]
    fn add_selected(self, sums: Self::Selected, mask: Self::Mask, a: Self::I) -> Self::Selected {
        from_fn(|c| {
            let a = a[c].to_le_bytes();
            let selected = (0..4).filter(|&i| mask[c][i]).map(|i| i32::from(a[i] as i8));
            sums[c].wrapping_add(selected.sum())
        })
    }

    #[inline(always)]
    fn settle_selected(self, acc: Self::I, sums: Self::Selected) -> Self::I {
        self.add(acc, sums)
    }
}

/// The tables of 32 activations.
#[inline(always)]
pub(super) fn tables(a: &[u8; 32]) -> SumTables {
    let mut tables = [[[0; 64]; 2]; 2];
    for (h, [low, high]) in tables.iter_mut().enumerate() {
        for i in 0..4 {
            let mut sums = [0i16; 16];
            for j in 0..4 {
                let a = i16::from(a[4 * (4 * h + j) + i] as i8);
                for (e, sum) in sums.iter_mut().enumerate() {
                    *sum += a & -(e as i16 >> j & 1);
                }
            }
            for (e, sum) in sums.into_iter().enumerate() {
                low[16 * i + e] = sum as u8 & 127;
                high[16 * i + e] = (sum >> 7) as u8;
            }
        }
    }
    tables
}

impl<const N: usize> Tables for Scalar<N> {
    type Entries = [Self::I; 2];
    type Looked = [Self::I; 2];
    const UNITS: usize = usize::MAX;

    #[inline(always)]
    fn tables(self, a: &[u8; 32]) -> SumTables {
        tables(a)
    }

    #[inline(always)]
    fn entries(self, unit: [Self::I; 2]) -> Self::Entries {
        unit
    }

    #[inline(always)]
    fn start_from(self, acc: [Self::I; 2]) -> Self::Looked {
        acc
    }

    #[inline(always)]
    fn look_up(self, mut sums: Self::Looked, entries: Self::Entries, tables: &SumTables) -> Self::Looked {
        for (sums, unit) in sums.iter_mut().zip(entries) {
            for (sum, bytes) in sums.iter_mut().zip(unit.map(i32::to_le_bytes)) {
                for (i, byte) in bytes.into_iter().enumerate() {
                    for (h, [low, high]) in tables.iter().enumerate() {
                        let e = 16 * i + usize::from(byte >> (4 * h) & 15);
                        *sum = sum.wrapping_add(i32::from(low[e]) + 128 * i32::from(high[e] as i8));
                    }
                }
            }
        }
        sums
    }

    #[inline(always)]
    fn settle_looked(self, sums: Self::Looked) -> [Self::I; 2] {
        sums
    }
}
