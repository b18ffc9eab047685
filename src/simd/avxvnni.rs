//! AVX-VNNI, the 256-bit form of VNNI on CPUs without AVX-512: `vpdpbusd` as the dot product.

use crate::simd::avx2::{intrinsic, ymm_tier};
use crate::simd::cpu::Isa;
use crate::simd::isa::{Body, Dot, ShortSums, Simd};
use core::arch::x86_64::*;

/// Proof that the CPU has AVX2, FMA, F16C and AVX-VNNI. Made by [`Simd::detect`] alone.
#[derive(Debug, Clone, Copy)]
pub struct AvxVnni(());

ymm_tier!(AvxVnni, "avx2,fma,f16c,avxvnni");

impl Dot for AvxVnni {
    const SIGNED: bool = false;

    #[inline(always)]
    fn dot(self, acc: Self::I, w: Self::I, a: Self::I) -> Self::I {
        intrinsic!(_mm256_dpbusd_avx_epi32(acc, w, a))
    }
}
