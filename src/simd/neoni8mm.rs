//! Advanced SIMD with `usdot` and `usmmla`, the products of unsigned with signed bytes (FEAT_I8MM).

use crate::simd::cpu::Isa;
use crate::simd::isa::{Body, Dot, MatrixDot};
use crate::simd::neon::{Asimd, Extension, accumulating, intrinsic};
use core::arch::aarch64::*;

/// FEAT_I8MM.
#[derive(Debug, Clone, Copy)]
pub struct I8mm;

/// The tier with mixed-sign dot products and products of 2 × 8 by 8 × 2 matrices.
pub type NeonI8mm = Asimd<I8mm>;

impl Extension for I8mm {
    const ISA: Isa = Isa::NeonI8mm;

    #[inline]
    fn frame<B: Body<NeonI8mm>>(simd: NeonI8mm, args: &mut B::Args<'_>) {
        #[target_feature(enable = "neon,i8mm")]
        fn inner<B: Body<NeonI8mm>>(simd: NeonI8mm, args: &mut B::Args<'_>) {
            B::body(simd, args);
        }
        intrinsic!(inner::<B>(simd, args))
    }
}

impl Dot for NeonI8mm {
    const SIGNED: bool = false;

    #[inline(always)]
    fn dot(self, acc: Self::I, w: Self::I, a: Self::I) -> Self::I {
        intrinsic!(usdot(acc, w, a))
    }
}

impl MatrixDot for NeonI8mm {
    #[inline(always)]
    fn zip(self, a: Self::I, b: Self::I) -> [Self::I; 2] {
        intrinsic!([vzip1q_s32(a, b), vzip2q_s32(a, b)])
    }

    #[inline(always)]
    fn unzip(self, a: Self::I, b: Self::I) -> [Self::I; 2] {
        intrinsic!([vuzp1q_s32(a, b), vuzp2q_s32(a, b)])
    }

    #[inline(always)]
    fn splat_octets(self, octets: [[[u8; 4]; 2]; 2]) -> Self::I {
        intrinsic!(vreinterpretq_s32_u8(vld1q_u8(octets.as_ptr().cast())))
    }

    #[inline(always)]
    fn matrix_dot(self, acc: Self::I, w: Self::I, a: Self::I) -> Self::I {
        intrinsic!(usmmla(acc, w, a))
    }
}

accumulating!(usdot, "neon,i8mm", "usdot {acc:v}.4s, {w:v}.16b, {a:v}.16b");
accumulating!(usmmla, "neon,i8mm", "usmmla {acc:v}.4s, {w:v}.16b, {a:v}.16b");
