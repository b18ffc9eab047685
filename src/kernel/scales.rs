//! Scales and float zero points of a panel, as vectors.
#![forbid(unsafe_code)]

use crate::quant::scheme::ScaleType;
use crate::simd::isa::Simd;

#[inline(always)]
fn load_scale<S: Simd>(simd: S, scale: ScaleType, bytes: &[u8]) -> S::F {
    match scale {
        ScaleType::F16 => simd.load_f16(bytes),
        ScaleType::Bf16 => simd.load_bf16(bytes),
        ScaleType::F32 => simd.load_f32(bytes),
    }
}

/// The panel's scales or float zero points.
#[inline(always)]
pub(super) fn load_scales<S: Simd>(simd: S, scale: ScaleType, bytes: &[u8]) -> [S::F; 2] {
    let at = S::LANES * scale.bytes();
    [load_scale(simd, scale, bytes), load_scale(simd, scale, &bytes[at..])]
}
