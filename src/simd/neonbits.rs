//! What rules over the bits of weights need, on Advanced SIMD.

use crate::simd::isa::{Planes, Simd, SumTables, Tables, entries_side_by_side};
use crate::simd::neon::{Neon, intrinsic};
use crate::simd::scalarbits;
use core::arch::aarch64::*;

/// `sadalp` adds bytes up in pairs, of which 127 fit 16 bits.
impl Planes for Neon {
    type Mask = uint8x16_t;
    type Selected = int16x8_t;
    const QUADS: usize = 127;

    #[inline(always)]
    fn mask(self, w: Self::I, bit: u32) -> Self::Mask {
        intrinsic!(vtstq_u8(vreinterpretq_u8_s32(w), vdupq_n_u8(1 << bit)))
    }

    #[inline(always)]
    fn none_selected(self) -> Self::Selected {
        intrinsic!(vdupq_n_s16(0))
    }

    #[inline(always)]
    fn add_selected(self, sums: Self::Selected, mask: Self::Mask, a: Self::I) -> Self::Selected {
        intrinsic!({
            let selected = vandq_u8(mask, vreinterpretq_u8_s32(a));
            vpadalq_s8(sums, vreinterpretq_s8_u8(selected))
        })
    }

    #[inline(always)]
    fn settle_selected(self, acc: Self::I, sums: Self::Selected) -> Self::I {
        intrinsic!(vpadalq_s16(acc, sums))
    }
}

/// Sums of a vector's columns.
#[derive(Debug, Clone, Copy)]
pub struct Narrow {
    acc: int32x4_t,
    /// Low parts, two to a column.
    low: uint16x8_t,
    /// High parts, two to a column.
    high: int16x8_t,
}

/// `tbl` with four registers looks 16 bytes up in four tables side by side.
impl Tables for Neon {
    type Entries = [[int32x4_t; 2]; 2];
    type Looked = [Narrow; 2];
    /// Low parts of at most 508 a unit and sum.
    const UNITS: usize = 128;

    #[inline(always)]
    fn tables(self, a: &[u8; 32]) -> SumTables {
        scalarbits::tables(a)
    }

    #[inline(always)]
    fn entries(self, unit: [Self::I; 2]) -> Self::Entries {
        entries_side_by_side(self, unit)
    }

    #[inline(always)]
    fn start_from(self, acc: [Self::I; 2]) -> Self::Looked {
        let (low, high) = intrinsic!((vdupq_n_u16(0), vdupq_n_s16(0)));
        let [first, last] = acc;
        [Narrow { acc: first, low, high }, Narrow { acc: last, low, high }]
    }

    #[inline(always)]
    fn look_up(self, mut sums: Self::Looked, entries: Self::Entries, tables: &SumTables) -> Self::Looked {
        let zero = intrinsic!(vdupq_n_u8(0));
        let mut parts = [[zero; 2]; 2];
        for part in 0..2 {
            for h in 0..2 {
                intrinsic!({
                    let table = vld1q_u8_x4(tables[h][part].as_ptr());
                    for v in 0..2 {
                        let found = vqtbl4q_u8(table, vreinterpretq_u8_s32(entries[h][v]));
                        parts[part][v] = vaddq_u8(parts[part][v], found);
                    }
                });
            }
        }
        for v in 0..2 {
            intrinsic!({
                sums[v].low = vpadalq_u8(sums[v].low, parts[0][v]);
                sums[v].high = vpadalq_s8(sums[v].high, vreinterpretq_s8_u8(parts[1][v]));
            });
        }
        sums
    }

    #[inline(always)]
    fn settle_looked(self, sums: Self::Looked) -> [Self::I; 2] {
        let mut out = [self.splat_i32(0); 2];
        for v in 0..2 {
            out[v] = intrinsic!({
                let low = vpadalq_u16(vreinterpretq_u32_s32(sums[v].acc), sums[v].low);
                vaddq_s32(vreinterpretq_s32_u32(low), vshlq_n_s32::<7>(vpaddlq_s16(sums[v].high)))
            });
        }
        out
    }
}
