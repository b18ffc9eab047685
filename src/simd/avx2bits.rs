//! What rules over the bits of weights need, on AVX2.
#![expect(clippy::needless_range_loop, reason = "loops over vectors and halves count them")]

use crate::simd::avx2::{Avx2, intrinsic};
use crate::simd::isa::{Planes, Simd, SumTables, Tables};
use crate::simd::scalarbits;
use core::arch::x86_64::*;

/// `vpmaddubsw` with ones adds bytes up in pairs, of which 127 fit 16 bits.
impl Planes for Avx2 {
    type Mask = __m256i;
    type Selected = __m256i;
    const QUADS: usize = 127;

    #[inline(always)]
    fn mask(self, w: Self::I, bit: u32) -> Self::Mask {
        intrinsic!({
            let bit = _mm256_set1_epi8((1u8 << bit) as i8);
            _mm256_cmpeq_epi8(_mm256_and_si256(w, bit), bit)
        })
    }

    #[inline(always)]
    fn none_selected(self) -> Self::Selected {
        self.splat_i32(0)
    }

    #[inline(always)]
    fn add_selected(self, sums: Self::Selected, mask: Self::Mask, a: Self::I) -> Self::Selected {
        intrinsic!({
            let pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), _mm256_and_si256(mask, a));
            _mm256_add_epi16(sums, pairs)
        })
    }

    #[inline(always)]
    fn settle_selected(self, acc: Self::I, sums: Self::Selected) -> Self::I {
        intrinsic!(_mm256_add_epi32(acc, _mm256_madd_epi16(sums, _mm256_set1_epi16(1))))
    }
}

/// Sums of sixteen columns in narrow integers.
#[derive(Debug, Clone, Copy)]
pub struct Narrow {
    acc: [__m256i; 2],
    /// Low parts, modulo 2^16: those of even columns and 256 times those of odd ones.
    whole: __m256i,
    /// Low parts of odd columns, in 16 bits.
    odd: __m256i,
    /// High parts, in 8 bits.
    high: __m256i,
}

/// `vpshufb` looks 16 bytes up in one table. The panel's sixteen columns have that many bytes for each element of a quad,
/// so the entries are brought in that order first: elements 0 and 1 make a vector, 2 and 3 another.
impl Tables for Avx2 {
    type Entries = [[__m256i; 2]; 2];
    type Looked = Narrow;
    /// Four high parts of at least −4 a unit and byte.
    const UNITS: usize = 8;

    #[inline(always)]
    fn tables(self, a: &[u8; 32]) -> SumTables {
        scalarbits::tables(a)
    }

    #[inline(always)]
    fn entries(self, unit: [Self::I; 2]) -> Self::Entries {
        let [mut a, mut b] = unit;
        intrinsic!({
            let elements =
                _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
            let columns = _mm256_setr_epi32(0, 4, 2, 6, 1, 5, 3, 7);
            a = _mm256_permutevar8x32_epi32(_mm256_shuffle_epi8(a, elements), columns);
            b = _mm256_permutevar8x32_epi32(_mm256_shuffle_epi8(b, elements), columns);
        });
        let elements = intrinsic!([_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b)]);
        let mut entries = [elements; 2];
        for v in 0..2 {
            entries[0][v] = self.field(elements[v], 0, 0, 15);
            entries[1][v] = self.field(elements[v], 4, 0, 15);
        }
        entries
    }

    #[inline(always)]
    fn start_from(self, acc: [Self::I; 2]) -> Self::Looked {
        let [whole, odd, high] = [self.splat_i32(0); 3];
        Narrow { acc, whole, odd, high }
    }

    #[inline(always)]
    fn look_up(self, mut sums: Self::Looked, entries: Self::Entries, tables: &SumTables) -> Self::Looked {
        for v in 0..2 {
            let (mut low, mut high) = (self.splat_i32(0), sums.high);
            for h in 0..2 {
                let [lows, highs] = &tables[h];
                let lows = self.load(&lows.as_chunks::<32>().0[v]);
                let highs = self.load(&highs.as_chunks::<32>().0[v]);
                intrinsic!({
                    low = _mm256_add_epi8(low, _mm256_shuffle_epi8(lows, entries[h][v]));
                    high = _mm256_add_epi8(high, _mm256_shuffle_epi8(highs, entries[h][v]));
                });
            }
            sums.high = high;
            intrinsic!({
                sums.whole = _mm256_add_epi16(sums.whole, low);
                sums.odd = _mm256_add_epi16(sums.odd, _mm256_srli_epi16::<8>(low));
            });
        }
        sums
    }

    /// Low parts come to at most 8128 a column; all of a column's parts fit 16 bits.
    #[inline(always)]
    fn settle_looked(self, sums: Self::Looked) -> [Self::I; 2] {
        intrinsic!({
            // The two halves of a vector are of two elements.
            let even = _mm256_sub_epi16(sums.whole, _mm256_slli_epi16::<8>(sums.odd));
            let even = _mm_add_epi16(_mm256_castsi256_si128(even), _mm256_extracti128_si256::<1>(even));
            let odd = _mm_add_epi16(
                _mm256_castsi256_si128(sums.odd),
                _mm256_extracti128_si256::<1>(sums.odd),
            );
            let low = _mm256_set_m128i(_mm_unpackhi_epi16(even, odd), _mm_unpacklo_epi16(even, odd));
            let high = _mm256_add_epi16(
                _mm256_cvtepi8_epi16(_mm256_castsi256_si128(sums.high)),
                _mm256_cvtepi8_epi16(_mm256_extracti128_si256::<1>(sums.high)),
            );
            let sum = _mm256_add_epi16(low, _mm256_slli_epi16::<7>(high));
            [
                _mm256_add_epi32(sums.acc[0], _mm256_cvtepi16_epi32(_mm256_castsi256_si128(sum))),
                _mm256_add_epi32(sums.acc[1], _mm256_cvtepi16_epi32(_mm256_extracti128_si256::<1>(sum))),
            ]
        })
    }
}
