//! AVX-512 with VNNI: `vpdpbusd` as the dot product.

use crate::simd::avx512::{intrinsic, zmm_tier};
use crate::simd::cpu::Isa;
use crate::simd::isa::{Body, Dot, ShortSums, Simd};
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
