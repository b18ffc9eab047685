//! Advanced SIMD with `sdot`, the signed dot product of four bytes (FEAT_DotProd).

use crate::simd::cpu::Isa;
use crate::simd::isa::{Body, Dot};
use crate::simd::neon::{Asimd, Extension, accumulating, intrinsic};
use core::arch::aarch64::int32x4_t;

/// FEAT_DotProd.
#[derive(Debug, Clone, Copy)]
pub struct DotProd;

/// The tier with signed dot products.
pub type NeonDot = Asimd<DotProd>;

impl Extension for DotProd {
    const ISA: Isa = Isa::NeonDot;

    #[inline]
    fn frame<B: Body<NeonDot>>(simd: NeonDot, args: &mut B::Args<'_>) {
        #[target_feature(enable = "neon,dotprod")]
        fn inner<B: Body<NeonDot>>(simd: NeonDot, args: &mut B::Args<'_>) {
            B::body(simd, args);
        }
        intrinsic!(inner::<B>(simd, args))
    }
}

impl Dot for NeonDot {
    const SIGNED: bool = true;

    #[inline(always)]
    fn dot(self, acc: Self::I, w: Self::I, a: Self::I) -> Self::I {
        intrinsic!(sdot(acc, w, a))
    }
}

accumulating!(sdot, "neon,dotprod", "sdot {acc:v}.4s, {w:v}.16b, {a:v}.16b");
