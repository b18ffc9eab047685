//! Advanced SIMD, the vector instructions that every AArch64 CPU has: four lanes. Everything that the tiers of AArch64
//! share is here; what a tier adds is in the file of its [`Extension`].

use crate::simd::cpu::Isa;
use crate::simd::isa::{Body, ShortSums, Simd};
use core::arch::aarch64::*;
use core::arch::asm;
use core::marker::PhantomData;

// Every operation below is one or a few intrinsics. They are sound because `self` exists only where the features do;
// they are fast because each is inlined into `frame`, where the features are enabled.
macro_rules! intrinsic {
    ($call:expr) => {
        // SAFETY: the CPU must have the features that the intrinsic or the instruction names, and an address must be
        // that of as many bytes as it loads or stores. `self` is a token that only `detect` makes, after asking the CPU,
        // and every address is that of an array of exactly that size. `ops_agree_with_scalar` runs every operation on
        // every detected tier: it would die of an illegal instruction, or give other bits.
        unsafe { $call }
    };
}
pub(super) use intrinsic;

/// An instruction that adds products of w and a to acc, whose intrinsic is not stable yet.
macro_rules! accumulating {
    ($name:ident, $features:literal, $instruction:literal) => {
        #[inline]
        #[target_feature(enable = $features)]
        fn $name(mut acc: int32x4_t, w: int32x4_t, a: int32x4_t) -> int32x4_t {
            intrinsic!(core::arch::asm!(
                $instruction,
                acc = inout(vreg) acc,
                w = in(vreg) w,
                a = in(vreg) a,
                options(pure, nomem, nostack, preserves_flags)
            ));
            acc
        }
    };
}
pub(super) use accumulating;

/// What a tier has beyond Advanced SIMD.
pub trait Extension: Copy + Send + Sync + 'static {
    /// The tier.
    const ISA: Isa;

    /// Runs a body with the tier's instructions enabled.
    fn frame<B: Body<Asimd<Self>>>(simd: Asimd<Self>, args: &mut B::Args<'_>);
}

/// Proof that the CPU has Advanced SIMD and an extension. Made by [`Simd::detect`] alone.
#[derive(Debug, Clone, Copy)]
pub struct Asimd<E>(PhantomData<E>);

/// No extension.
#[derive(Debug, Clone, Copy)]
pub struct Baseline;

/// The tier of every AArch64 CPU.
pub type Neon = Asimd<Baseline>;

impl Extension for Baseline {
    const ISA: Isa = Isa::Neon;

    #[inline]
    fn frame<B: Body<Neon>>(simd: Neon, args: &mut B::Args<'_>) {
        #[target_feature(enable = "neon")]
        fn inner<B: Body<Neon>>(simd: Neon, args: &mut B::Args<'_>) {
            B::body(simd, args);
        }
        intrinsic!(inner::<B>(simd, args))
    }
}

/// f16 to f32, exactly.
#[inline]
#[target_feature(enable = "neon")]
fn fcvtl(halves: uint16x4_t) -> float32x4_t {
    let floats;
    intrinsic!(asm!(
        "fcvtl {floats:v}.4s, {halves:v}.4h",
        floats = lateout(vreg) floats,
        halves = in(vreg) halves,
        options(pure, nomem, nostack, preserves_flags)
    ));
    floats
}

impl<E: Extension> Simd for Asimd<E> {
    const ISA: Isa = E::ISA;
    const LANES: usize = 4;
    const REGISTERS: usize = 32;
    type I = int32x4_t;
    type F = float32x4_t;
    type Block = [u8; 16];
    type Floats = [f32; 4];
    type Ints = [i32; 4];
    type Book = uint8x16_t;

    #[inline]
    fn detect() -> Option<Self> {
        E::ISA.supported().then_some(Self(PhantomData))
    }

    #[inline]
    fn frame<B: Body<Self>>(self, args: &mut B::Args<'_>) {
        E::frame::<B>(self, args);
    }

    #[inline(always)]
    fn blocks(bytes: &[u8]) -> &[Self::Block] {
        bytes.as_chunks::<16>().0
    }

    #[inline(always)]
    fn floats(values: &mut [f32]) -> &mut [Self::Floats] {
        values.as_chunks_mut::<4>().0
    }

    #[inline(always)]
    fn ints(values: &mut [i32]) -> &mut [Self::Ints] {
        values.as_chunks_mut::<4>().0
    }

    #[inline(always)]
    fn int_blocks(values: &[i32]) -> &[Self::Ints] {
        values.as_chunks::<4>().0
    }

    #[inline(always)]
    fn opaque(self, a: Self::I) -> Self::I {
        let mut same = a;
        // No instruction at all, so nothing that could be unsound.
        intrinsic!(asm!("/* {0:v} */", inout(vreg) same, options(nomem, nostack, preserves_flags)));
        same
    }

    /// The address may lie outside the buffer: a prefetch never faults.
    #[inline(always)]
    fn prefetch<T>(self, at: &T, ahead: usize) {
        intrinsic!(asm!(
            "prfm pldl1keep, [{at}]",
            at = in(reg) core::ptr::from_ref(at).cast::<u8>().wrapping_add(ahead),
            options(readonly, nostack, preserves_flags)
        ));
    }

    #[inline(always)]
    fn load(self, block: &Self::Block) -> Self::I {
        intrinsic!(vreinterpretq_s32_u8(vld1q_u8(block.as_ptr())))
    }

    #[inline(always)]
    fn splat_quad(self, quad: [u8; 4]) -> Self::I {
        intrinsic!(vdupq_n_s32(i32::from_le_bytes(quad)))
    }

    #[inline(always)]
    fn splat_i32(self, x: i32) -> Self::I {
        intrinsic!(vdupq_n_s32(x))
    }

    #[inline(always)]
    fn field(self, v: Self::I, right: u32, left: u32, mask: u8) -> Self::I {
        let v = intrinsic!(vreinterpretq_u8_s32(v));
        let shifted = intrinsic!(match (right, left) {
            (0, 0) => v,
            (1, _) => vshrq_n_u8::<1>(v),
            (2, _) => vshrq_n_u8::<2>(v),
            (3, _) => vshrq_n_u8::<3>(v),
            (4, _) => vshrq_n_u8::<4>(v),
            (5, _) => vshrq_n_u8::<5>(v),
            (6, _) => vshrq_n_u8::<6>(v),
            (7, _) => vshrq_n_u8::<7>(v),
            (_, 1) => vshlq_n_u8::<1>(v),
            (_, 2) => vshlq_n_u8::<2>(v),
            (_, 3) => vshlq_n_u8::<3>(v),
            (_, 4) => vshlq_n_u8::<4>(v),
            (_, 5) => vshlq_n_u8::<5>(v),
            (_, 6) => vshlq_n_u8::<6>(v),
            _ => vshlq_n_u8::<7>(v),
        });
        intrinsic!(vreinterpretq_s32_u8(vandq_u8(shifted, vdupq_n_u8(mask))))
    }

    #[inline(always)]
    fn book(self, entries: &[u8; 16]) -> Self::Book {
        intrinsic!(vld1q_u8(entries.as_ptr()))
    }

    #[inline(always)]
    fn decode(self, book: Self::Book, numbers: Self::I) -> Self::I {
        intrinsic!(vreinterpretq_s32_u8(vqtbl1q_u8(book, vreinterpretq_u8_s32(numbers))))
    }

    #[inline(always)]
    fn or(self, a: Self::I, b: Self::I) -> Self::I {
        intrinsic!(vorrq_s32(a, b))
    }

    #[inline(always)]
    fn xor(self, a: Self::I, b: Self::I) -> Self::I {
        intrinsic!(veorq_s32(a, b))
    }

    #[inline(always)]
    fn add(self, a: Self::I, b: Self::I) -> Self::I {
        intrinsic!(vaddq_s32(a, b))
    }

    #[inline(always)]
    fn mul(self, a: Self::I, b: Self::I) -> Self::I {
        intrinsic!(vmulq_s32(a, b))
    }

    #[inline(always)]
    fn shl8(self, a: Self::I) -> Self::I {
        intrinsic!(vshlq_n_s32::<8>(a))
    }

    #[inline(always)]
    fn sar(self, a: Self::I, by: u32) -> Self::I {
        intrinsic!(vshlq_s32(a, vdupq_n_s32(-(by as i32))))
    }

    #[inline(always)]
    fn high16(self, a: Self::I) -> Self::I {
        intrinsic!(vshrq_n_s32::<16>(a))
    }

    #[inline(always)]
    fn low16(self, a: Self::I) -> Self::I {
        intrinsic!(vandq_s32(a, vdupq_n_s32(0xFFFF)))
    }

    #[inline(always)]
    fn low24(self, a: Self::I) -> Self::I {
        intrinsic!(vandq_s32(a, vdupq_n_s32(0xFF_FFFF)))
    }

    #[inline(always)]
    fn load_i32(self, from: &Self::Ints) -> Self::I {
        intrinsic!(vld1q_s32(from.as_ptr()))
    }

    #[inline(always)]
    fn store_i32(self, a: Self::I, to: &mut Self::Ints) {
        intrinsic!(vst1q_s32(to.as_mut_ptr(), a))
    }

    /// The four nibbles of a word, each shifted to the bottom of its lane.
    #[inline(always)]
    fn load_nibbles(self, bytes: &[u8]) -> Self::I {
        let bytes: [u8; 2] = *bytes.first_chunk().expect("2 bytes of nibbles");
        intrinsic!({
            let right = vld1q_s32([0, -4, -8, -12].as_ptr());
            let words = vdupq_n_s32(i32::from(u16::from_le_bytes(bytes)));
            vandq_s32(vshlq_s32(words, right), vdupq_n_s32(15))
        })
    }

    #[inline(always)]
    fn load_bytes(self, bytes: &[u8]) -> Self::I {
        let bytes: [u8; 4] = *bytes.first_chunk().expect("4 bytes");
        intrinsic!({
            let words = vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(u32::from_le_bytes(bytes))));
            vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(words)))
        })
    }

    #[inline(always)]
    fn load_words(self, bytes: &[u8]) -> Self::I {
        let bytes: &[u8; 8] = bytes.first_chunk().expect("4 words");
        intrinsic!(vreinterpretq_s32_u32(vmovl_u16(vreinterpret_u16_u8(vld1_u8(
            bytes.as_ptr()
        )))))
    }

    #[inline(always)]
    fn load_f32(self, bytes: &[u8]) -> Self::F {
        let bytes: &[u8; 16] = bytes.first_chunk().expect("4 f32");
        intrinsic!(vreinterpretq_f32_u8(vld1q_u8(bytes.as_ptr())))
    }

    #[inline(always)]
    fn load_f16(self, bytes: &[u8]) -> Self::F {
        let bytes: &[u8; 8] = bytes.first_chunk().expect("4 f16");
        intrinsic!(fcvtl(vreinterpret_u16_u8(vld1_u8(bytes.as_ptr()))))
    }

    #[inline(always)]
    fn load_bf16(self, bytes: &[u8]) -> Self::F {
        let words = self.load_words(bytes);
        intrinsic!(vreinterpretq_f32_s32(vshlq_n_s32::<16>(words)))
    }

    #[inline(always)]
    fn load_floats(self, from: &Self::Floats) -> Self::F {
        intrinsic!(vld1q_f32(from.as_ptr()))
    }

    #[inline(always)]
    fn store_floats(self, a: Self::F, to: &mut Self::Floats) {
        intrinsic!(vst1q_f32(to.as_mut_ptr(), a))
    }

    #[inline(always)]
    fn splat_f32(self, x: f32) -> Self::F {
        intrinsic!(vdupq_n_f32(x))
    }

    #[inline(always)]
    fn to_f32(self, a: Self::I) -> Self::F {
        intrinsic!(vcvtq_f32_s32(a))
    }

    /// Horner's rule in f64, exact until the one rounding.
    #[inline(always)]
    fn slices_to_f32<const N: usize>(self, d: [Self::I; N]) -> Self::F {
        intrinsic!({
            let (mut low, mut high) = (vdupq_n_f64(0.0), vdupq_n_f64(0.0));
            for j in (0..N).rev() {
                let [d0, d1] = [vmovl_s32(vget_low_s32(d[j])), vmovl_high_s32(d[j])];
                low = vfmaq_f64(vcvtq_f64_s64(d0), low, vdupq_n_f64(256.0));
                high = vfmaq_f64(vcvtq_f64_s64(d1), high, vdupq_n_f64(256.0));
            }
            vcvt_high_f32_f64(vcvt_f32_f64(low), high)
        })
    }

    #[inline(always)]
    fn mul_f32(self, a: Self::F, b: Self::F) -> Self::F {
        intrinsic!(vmulq_f32(a, b))
    }

    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        intrinsic!(vfmaq_f32(c, a, b))
    }

    #[inline(always)]
    fn split_zero(self, z: Self::F, max: f32) -> (Self::I, Self::F) {
        intrinsic!({
            let z0 = vminq_f32(vmaxq_f32(vrndnq_f32(z), vdupq_n_f32(0.0)), vdupq_n_f32(max));
            (vcvtq_s32_f32(z0), vsubq_f32(z, z0))
        })
    }

    #[inline(always)]
    fn select_nonzero(self, condition: Self::F, a: Self::F, b: Self::F) -> Self::F {
        intrinsic!(vbslq_f32(vceqzq_f32(condition), b, a))
    }
}

/// `smlal` and `smlal2` add byte products to eight 16-bit sums each.
impl ShortSums for Neon {
    type P = [int16x8_t; 2];
    const TERMS: usize = 1;

    #[inline(always)]
    fn no_sums(self) -> Self::P {
        intrinsic!([vdupq_n_s16(0); 2])
    }

    #[inline(always)]
    fn add_products(self, sums: Self::P, w: Self::I, a: Self::I) -> Self::P {
        intrinsic!({
            let (w, a) = (vreinterpretq_s8_s32(w), vreinterpretq_s8_s32(a));
            [
                vmlal_s8(sums[0], vget_low_s8(w), vget_low_s8(a)),
                vmlal_high_s8(sums[1], w, a),
            ]
        })
    }

    #[inline(always)]
    fn settle(self, acc: Self::I, sums: Self::P, left: u32) -> Self::I {
        intrinsic!({
            let sums = vpaddq_s32(vpaddlq_s16(sums[0]), vpaddlq_s16(sums[1]));
            vaddq_s32(acc, vshlq_s32(sums, vdupq_n_s32(left as i32)))
        })
    }
}
