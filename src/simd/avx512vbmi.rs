//! The tier `avx512vnni` on CPUs that also have VBMI: `vpermb` looks 64 bytes up at once, in four tables side by side.
#![expect(clippy::needless_range_loop, reason = "loops over vectors and halves count them")]

use crate::simd::avx512::{intrinsic, zmm_tier};
use crate::simd::cpu::{self, Isa};
use crate::simd::isa::{Body, ShortSums, Simd, SumTables, Tables, entries_side_by_side};
use core::arch::x86_64::*;

/// Proof that the CPU has AVX-512 F, BW, VL, DQ, VNNI and VBMI. Made by [`Simd::detect`] alone.
#[derive(Debug, Clone, Copy)]
pub struct Avx512Vbmi(());

zmm_tier!(
    Avx512Vbmi,
    Avx512Vnni,
    (Isa::Avx512Vnni.supported() && cpu::has_vbmi()),
    "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi"
);

/// Where [`tables`](Tables::tables) finds the activations of half 0 among 32: every quad of 128 bits `i` is those that
/// entries of the tables of i select from.
const ACTIVATIONS: [u8; 64] = {
    let (mut at, mut b) = ([0; 64], 0);
    while b < 64 {
        at[b] = (4 * (b % 4) + b / 16) as u8;
        b += 1;
    }
    at
};

/// Entries 4q to 4q + 3, byte by byte: bit j of an entry's number.
const SELECTED: [[u8; 16]; 4] = {
    let (mut bits, mut b) = ([[0; 16]; 4], 0);
    while b < 64 {
        bits[b / 16][b % 16] = ((b / 4) >> (b % 4) & 1) as u8;
        b += 1;
    }
    bits
};

impl Tables for Avx512Vbmi {
    type Entries = [[__m512i; 2]; 2];
    type Looked = [__m512i; 2];
    const UNITS: usize = usize::MAX;

    /// A dot product with bits is a sum of selected activations. Packing keeps every quarter of the vector to itself, and
    /// puts four entries beside four.
    #[inline(always)]
    fn tables(self, a: &[u8; 32]) -> SumTables {
        let mut tables = [[[0; 64]; 2]; 2];
        for h in 0..2 {
            intrinsic!({
                let a = _mm512_castsi256_si512(_mm256_loadu_si256(a.as_ptr().cast()));
                let first = _mm512_loadu_si512(ACTIVATIONS.as_ptr().cast());
                let a = _mm512_permutexvar_epi8(_mm512_add_epi8(first, _mm512_set1_epi8(16 * h as i8)), a);
                let mut sums = [_mm512_setzero_si512(); 4];
                for q in 0..4 {
                    let bits = _mm512_broadcast_i32x4(_mm_loadu_si128(SELECTED[q].as_ptr().cast()));
                    sums[q] = _mm512_dpbusd_epi32(sums[q], bits, a);
                }
                let first = _mm512_packs_epi32(sums[0], sums[1]);
                let last = _mm512_packs_epi32(sums[2], sums[3]);
                let kept = _mm512_set1_epi16(127);
                let low = _mm512_packus_epi16(_mm512_and_si512(first, kept), _mm512_and_si512(last, kept));
                let high = _mm512_packs_epi16(_mm512_srai_epi16::<7>(first), _mm512_srai_epi16::<7>(last));
                _mm512_storeu_si512(tables[h][0].as_mut_ptr().cast(), low);
                _mm512_storeu_si512(tables[h][1].as_mut_ptr().cast(), high);
            });
        }
        tables
    }

    #[inline(always)]
    fn entries(self, unit: [Self::I; 2]) -> Self::Entries {
        entries_side_by_side(self, unit)
    }

    #[inline(always)]
    fn start_from(self, acc: [Self::I; 2]) -> Self::Looked {
        acc
    }

    /// Two low parts fit a byte, two high parts more so; dot products with 1 and with 128 add them up.
    #[inline(always)]
    fn look_up(self, mut sums: Self::Looked, entries: Self::Entries, tables: &SumTables) -> Self::Looked {
        let [[low0, high0], [low1, high1]] = tables;
        let [low0, high0] = [self.load(low0), self.load(high0)];
        let [low1, high1] = [self.load(low1), self.load(high1)];
        let (one, unit) = (self.splat_quad([1; 4]), self.splat_quad([128; 4]));
        for v in 0..2 {
            let [e0, e1] = [entries[0][v], entries[1][v]];
            sums[v] = intrinsic!({
                let low = _mm512_add_epi8(_mm512_permutexvar_epi8(e0, low0), _mm512_permutexvar_epi8(e1, low1));
                let high = _mm512_add_epi8(_mm512_permutexvar_epi8(e0, high0), _mm512_permutexvar_epi8(e1, high1));
                _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(sums[v], low, one), unit, high)
            });
        }
        sums
    }

    #[inline(always)]
    fn settle_looked(self, sums: Self::Looked) -> [Self::I; 2] {
        sums
    }
}
