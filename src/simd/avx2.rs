//! AVX2 with FMA and F16C: eight lanes; `vpmaddubsw` and `vpmaddwd` add products up in 16, then in 32 bits.

use crate::simd::cpu::Isa;
use crate::simd::isa::{Body, ShortSums, Simd};
use core::arch::x86_64::*;

/// Proof that the CPU has AVX2, FMA and F16C. Made by [`Simd::detect`] alone.
#[derive(Debug, Clone, Copy)]
pub struct Avx2(());

// Every operation below is one or a few intrinsics. They are sound because `self` exists only where the features do;
// they are fast because each is inlined into `frame`, where the features are enabled.
macro_rules! intrinsic {
    ($call:expr) => {
        // SAFETY: the CPU must have the features that the intrinsic names, and an address must be that of as many bytes
        // as it loads or stores. `self` is a token that only `detect` makes, after asking the CPU, and every address is
        // that of an array of exactly that size. `ops_agree_with_scalar` runs every operation on the detected tier: it
        // would die of an illegal instruction, and fail under a sanitiser.
        unsafe { $call }
    };
}
pub(super) use intrinsic;

/// The operations of a 256-bit tier.
macro_rules! ymm_tier {
    ($token:ident, $features:literal) => {
        impl Simd for $token {
            const ISA: Isa = Isa::$token;
            const LANES: usize = 8;
            const REGISTERS: usize = 16;
            type I = __m256i;
            type F = __m256;
            type Block = [u8; 32];
            type Floats = [f32; 8];
            type Ints = [i32; 8];
            type Book = __m256i;

            #[inline]
            fn detect() -> Option<Self> {
                Isa::$token.supported().then_some(Self(()))
            }

            #[inline]
            fn frame<B: Body<Self>>(self, args: &mut B::Args<'_>) {
                #[target_feature(enable = $features)]
                fn inner<B: Body<$token>>(simd: $token, args: &mut B::Args<'_>) {
                    B::body(simd, args);
                }
                intrinsic!(inner::<B>(self, args))
            }

            #[inline(always)]
            fn blocks(bytes: &[u8]) -> &[Self::Block] {
                bytes.as_chunks::<32>().0
            }

            #[inline(always)]
            fn floats(values: &mut [f32]) -> &mut [Self::Floats] {
                values.as_chunks_mut::<8>().0
            }

            #[inline(always)]
            fn ints(values: &mut [i32]) -> &mut [Self::Ints] {
                values.as_chunks_mut::<8>().0
            }

            #[inline(always)]
            fn int_blocks(values: &[i32]) -> &[Self::Ints] {
                values.as_chunks::<8>().0
            }

            #[inline(always)]
            fn opaque(self, a: Self::I) -> Self::I {
                #[inline]
                #[target_feature(enable = "avx")]
                fn same(mut a: __m256i) -> __m256i {
                    // No instruction at all, so nothing that could be unsound.
                    intrinsic!(core::arch::asm!("/* {0} */", inout(ymm_reg) a, options(nomem, nostack, preserves_flags)));
                    a
                }
                intrinsic!(same(a))
            }

            /// The address may lie outside the buffer: a prefetch never faults.
            #[inline(always)]
            fn prefetch<T>(self, at: &T, ahead: usize) {
                intrinsic!(_mm_prefetch::<_MM_HINT_T0>(
                    core::ptr::from_ref(at).cast::<i8>().wrapping_add(ahead)
                ));
            }

            #[inline(always)]
            fn load(self, block: &Self::Block) -> Self::I {
                intrinsic!(_mm256_loadu_si256(block.as_ptr().cast()))
            }

            #[inline(always)]
            fn splat_quad(self, quad: [u8; 4]) -> Self::I {
                intrinsic!(_mm256_set1_epi32(i32::from_le_bytes(quad)))
            }

            #[inline(always)]
            fn splat_i32(self, x: i32) -> Self::I {
                intrinsic!(_mm256_set1_epi32(x))
            }

            #[inline(always)]
            fn field(self, v: Self::I, right: u32, left: u32, mask: u8) -> Self::I {
                let mask = intrinsic!(_mm256_set1_epi8(mask as i8));
                let shifted = intrinsic!(match (right, left) {
                    (0, 0) => v,
                    (1, _) => _mm256_srli_epi16::<1>(v),
                    (2, _) => _mm256_srli_epi16::<2>(v),
                    (3, _) => _mm256_srli_epi16::<3>(v),
                    (4, _) => _mm256_srli_epi16::<4>(v),
                    (5, _) => _mm256_srli_epi16::<5>(v),
                    (6, _) => _mm256_srli_epi16::<6>(v),
                    (7, _) => _mm256_srli_epi16::<7>(v),
                    (_, 1) => _mm256_slli_epi16::<1>(v),
                    (_, 2) => _mm256_slli_epi16::<2>(v),
                    (_, 3) => _mm256_slli_epi16::<3>(v),
                    (_, 4) => _mm256_slli_epi16::<4>(v),
                    (_, 5) => _mm256_slli_epi16::<5>(v),
                    (_, 6) => _mm256_slli_epi16::<6>(v),
                    _ => _mm256_slli_epi16::<7>(v),
                });
                intrinsic!(_mm256_and_si256(shifted, mask))
            }

            /// A shuffle stays within 128 bits, so each half has the whole table.
            #[inline(always)]
            fn book(self, entries: &[u8; 16]) -> Self::Book {
                intrinsic!(_mm256_broadcastsi128_si256(_mm_loadu_si128(entries.as_ptr().cast())))
            }

            #[inline(always)]
            fn decode(self, book: Self::Book, numbers: Self::I) -> Self::I {
                intrinsic!(_mm256_shuffle_epi8(book, numbers))
            }

            #[inline(always)]
            fn or(self, a: Self::I, b: Self::I) -> Self::I {
                intrinsic!(_mm256_or_si256(a, b))
            }

            #[inline(always)]
            fn xor(self, a: Self::I, b: Self::I) -> Self::I {
                intrinsic!(_mm256_xor_si256(a, b))
            }

            #[inline(always)]
            fn add(self, a: Self::I, b: Self::I) -> Self::I {
                intrinsic!(_mm256_add_epi32(a, b))
            }

            #[inline(always)]
            fn mul(self, a: Self::I, b: Self::I) -> Self::I {
                intrinsic!(_mm256_mullo_epi32(a, b))
            }

            #[inline(always)]
            fn shl8(self, a: Self::I) -> Self::I {
                intrinsic!(_mm256_slli_epi32::<8>(a))
            }

            #[inline(always)]
            fn sar(self, a: Self::I, by: u32) -> Self::I {
                intrinsic!(_mm256_sra_epi32(a, _mm_cvtsi32_si128(by as i32)))
            }

            #[inline(always)]
            fn high16(self, a: Self::I) -> Self::I {
                intrinsic!(_mm256_srai_epi32::<16>(a))
            }

            #[inline(always)]
            fn low16(self, a: Self::I) -> Self::I {
                intrinsic!(_mm256_and_si256(a, _mm256_set1_epi32(0xFFFF)))
            }

            #[inline(always)]
            fn low24(self, a: Self::I) -> Self::I {
                intrinsic!(_mm256_and_si256(a, _mm256_set1_epi32(0xFF_FFFF)))
            }

            #[inline(always)]
            fn load_i32(self, from: &Self::Ints) -> Self::I {
                intrinsic!(_mm256_loadu_si256(from.as_ptr().cast()))
            }

            #[inline(always)]
            fn store_i32(self, a: Self::I, to: &mut Self::Ints) {
                intrinsic!(_mm256_storeu_si256(to.as_mut_ptr().cast(), a))
            }

            /// A byte's two nibbles go to the two halves of its 64-bit lane.
            #[inline(always)]
            fn load_nibbles(self, bytes: &[u8]) -> Self::I {
                let bytes: [u8; 4] = *bytes.first_chunk().expect("4 bytes of nibbles");
                intrinsic!({
                    let v = _mm256_cvtepu8_epi64(_mm_cvtsi32_si128(i32::from_le_bytes(bytes)));
                    let both = _mm256_or_si256(v, _mm256_slli_epi64::<28>(v));
                    _mm256_and_si256(both, _mm256_set1_epi32(15))
                })
            }

            #[inline(always)]
            fn load_bytes(self, bytes: &[u8]) -> Self::I {
                let bytes: &[u8; 8] = bytes.first_chunk().expect("8 bytes");
                intrinsic!(_mm256_cvtepu8_epi32(_mm_loadl_epi64(bytes.as_ptr().cast())))
            }

            #[inline(always)]
            fn load_words(self, bytes: &[u8]) -> Self::I {
                let bytes: &[u8; 16] = bytes.first_chunk().expect("8 words");
                intrinsic!(_mm256_cvtepu16_epi32(_mm_loadu_si128(bytes.as_ptr().cast())))
            }

            #[inline(always)]
            fn load_f32(self, bytes: &[u8]) -> Self::F {
                let bytes: &[u8; 32] = bytes.first_chunk().expect("8 f32");
                intrinsic!(_mm256_loadu_ps(bytes.as_ptr().cast()))
            }

            #[inline(always)]
            fn load_f16(self, bytes: &[u8]) -> Self::F {
                let bytes: &[u8; 16] = bytes.first_chunk().expect("8 f16");
                intrinsic!(_mm256_cvtph_ps(_mm_loadu_si128(bytes.as_ptr().cast())))
            }

            #[inline(always)]
            fn load_bf16(self, bytes: &[u8]) -> Self::F {
                let words = self.load_words(bytes);
                intrinsic!(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(words)))
            }

            #[inline(always)]
            fn load_floats(self, from: &Self::Floats) -> Self::F {
                intrinsic!(_mm256_loadu_ps(from.as_ptr()))
            }

            #[inline(always)]
            fn store_floats(self, a: Self::F, to: &mut Self::Floats) {
                intrinsic!(_mm256_storeu_ps(to.as_mut_ptr(), a))
            }

            #[inline(always)]
            fn splat_f32(self, x: f32) -> Self::F {
                intrinsic!(_mm256_set1_ps(x))
            }

            #[inline(always)]
            fn to_f32(self, a: Self::I) -> Self::F {
                intrinsic!(_mm256_cvtepi32_ps(a))
            }

            /// Horner's rule in f64, exact until the one rounding.
            #[inline(always)]
            fn slices_to_f32<const N: usize>(self, d: [Self::I; N]) -> Self::F {
                intrinsic!({
                    let (mut low, mut high) = (_mm256_setzero_pd(), _mm256_setzero_pd());
                    for j in (0..N).rev() {
                        let (d0, d1) = (_mm256_castsi256_si128(d[j]), _mm256_extracti128_si256::<1>(d[j]));
                        low = _mm256_fmadd_pd(low, _mm256_set1_pd(256.0), _mm256_cvtepi32_pd(d0));
                        high = _mm256_fmadd_pd(high, _mm256_set1_pd(256.0), _mm256_cvtepi32_pd(d1));
                    }
                    _mm256_set_m128(_mm256_cvtpd_ps(high), _mm256_cvtpd_ps(low))
                })
            }

            #[inline(always)]
            fn mul_f32(self, a: Self::F, b: Self::F) -> Self::F {
                intrinsic!(_mm256_mul_ps(a, b))
            }

            #[inline(always)]
            fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
                intrinsic!(_mm256_fmadd_ps(a, b, c))
            }

            #[inline(always)]
            fn split_zero(self, z: Self::F, max: f32) -> (Self::I, Self::F) {
                intrinsic!({
                    let rounded = _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(z);
                    let z0 = _mm256_min_ps(_mm256_max_ps(rounded, _mm256_setzero_ps()), _mm256_set1_ps(max));
                    (_mm256_cvtps_epi32(z0), _mm256_sub_ps(z, z0))
                })
            }

            #[inline(always)]
            fn select_nonzero(self, condition: Self::F, a: Self::F, b: Self::F) -> Self::F {
                intrinsic!({
                    let mask = _mm256_cmp_ps::<_CMP_NEQ_UQ>(condition, _mm256_setzero_ps());
                    _mm256_blendv_ps(b, a, mask)
                })
            }
        }

        impl ShortSums for $token {
            type P = __m256i;
            const TERMS: usize = 2;

            #[inline(always)]
            fn no_sums(self) -> Self::P {
                intrinsic!(_mm256_setzero_si256())
            }

            #[inline(always)]
            fn add_products(self, sums: Self::P, w: Self::I, a: Self::I) -> Self::P {
                intrinsic!(_mm256_add_epi16(sums, _mm256_maddubs_epi16(w, a)))
            }

            #[inline(always)]
            fn pin(self, sums: Self::P) -> Self::P {
                self.opaque(sums)
            }

            #[inline(always)]
            fn settle(self, acc: Self::I, sums: Self::P, left: u32) -> Self::I {
                intrinsic!(_mm256_add_epi32(acc, _mm256_madd_epi16(sums, _mm256_set1_epi16(1 << left))))
            }
        }
    };
}
pub(super) use ymm_tier;

ymm_tier!(Avx2, "avx2,fma,f16c");
