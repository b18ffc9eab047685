//! AVX-512 with VNNI: `vpdpbusd` as the dot product.

use crate::simd::avx512::{intrinsic, zmm_tier};
use crate::simd::cpu::Isa;
use crate::simd::isa::{Body, Dot, Planes, ShortSums, Simd};
use core::arch::x86_64::*;

/// Proof that the CPU has AVX-512 F, BW, VL, DQ and VNNI. Made by [`Simd::detect`] alone.
#[derive(Debug, Clone, Copy)]
pub struct Avx512Vnni(());

zmm_tier!(Avx512Vnni, "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni");

impl Dot for Avx512Vnni {
    const SIGNED: bool = false;

    #[inline(always)]
    fn dot(self, acc: Self::I, w: Self::I, a: Self::I) -> Self::I {
        intrinsic!(_mm512_dpbusd_epi32(acc, w, a))
    }
}

/// Masks live in registers of their own, and the dot product with ones adds four bytes up.
impl Planes for Avx512Vnni {
    type Mask = __mmask64;
    type Selected = Self::I;
    const QUADS: usize = usize::MAX;

    #[inline(always)]
    fn mask(self, w: Self::I, bit: u32) -> Self::Mask {
        intrinsic!(_mm512_test_epi8_mask(w, _mm512_set1_epi8((1u8 << bit) as i8)))
    }

    #[inline(always)]
    fn none_selected(self) -> Self::Selected {
        self.splat_i32(0)
    }

    #[inline(always)]
    fn add_selected(self, sums: Self::Selected, mask: Self::Mask, a: Self::I) -> Self::Selected {
        let selected = intrinsic!(_mm512_maskz_mov_epi8(mask, a));
        self.dot(sums, self.splat_quad([1; 4]), selected)
    }

    #[inline(always)]
    fn settle_selected(self, acc: Self::I, sums: Self::Selected) -> Self::I {
        self.add(acc, sums)
    }
}
