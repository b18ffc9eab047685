//! The definition of every vector operation, for any number of lanes. Odd lane counts exist in tests, where they shake
//! packing and loops on any machine.
#![forbid(unsafe_code)]

use crate::simd::cpu::Isa;
use crate::simd::isa::{Body, Dot, MatrixDot, ShortSums, Simd};
use core::array::from_fn;
use half::f16;

/// `N` lanes of plain Rust.
#[derive(Debug, Clone, Copy)]
pub struct Scalar<const N: usize>;

/// The lanes of one block, `[[u8; 4]; N]`.
type Lanes<const N: usize> = [[u8; 4]; N];

#[inline(always)]
fn chunk<const W: usize>(bytes: &[u8], i: usize) -> [u8; W] {
    from_fn(|j| bytes[i * W + j])
}

/// `a·b + c`, rounded once; the same as the contract's fma.
#[inline(always)]
fn fma(a: f32, b: f32, c: f32) -> f32 {
    #[cfg(feature = "std")]
    return f32::mul_add(a, b, c);
    #[cfg(not(feature = "std"))]
    return libm::fmaf(a, b, c);
}

impl<const N: usize> Simd for Scalar<N> {
    const ISA: Isa = Isa::Scalar;
    const LANES: usize = N;
    const REGISTERS: usize = 16;
    type I = [i32; N];
    type F = [f32; N];
    type Block = Lanes<N>;
    type Floats = [f32; N];
    type Ints = [i32; N];
    type Book = [u8; 16];

    #[inline(always)]
    fn detect() -> Option<Self> {
        Some(Self)
    }

    fn frame<B: Body<Self>>(self, args: &mut B::Args<'_>) {
        B::body(self, args);
    }

    #[inline(always)]
    fn blocks(bytes: &[u8]) -> &[Self::Block] {
        bytes.as_chunks::<4>().0.as_chunks::<N>().0
    }

    #[inline(always)]
    fn floats(values: &mut [f32]) -> &mut [Self::Floats] {
        values.as_chunks_mut::<N>().0
    }

    #[inline(always)]
    fn ints(values: &mut [i32]) -> &mut [Self::Ints] {
        values.as_chunks_mut::<N>().0
    }

    #[inline(always)]
    fn int_blocks(values: &[i32]) -> &[Self::Ints] {
        values.as_chunks::<N>().0
    }

    #[inline(always)]
    fn opaque(self, a: Self::I) -> Self::I {
        core::hint::black_box(a)
    }

    #[inline(always)]
    fn prefetch<T>(self, _: &T, _: usize) {}

    #[inline(always)]
    fn load(self, block: &Self::Block) -> Self::I {
        block.map(i32::from_le_bytes)
    }

    #[inline(always)]
    fn splat_quad(self, quad: [u8; 4]) -> Self::I {
        [i32::from_le_bytes(quad); N]
    }

    #[inline(always)]
    fn splat_i32(self, x: i32) -> Self::I {
        [x; N]
    }

    #[inline(always)]
    fn field(self, v: Self::I, right: u32, left: u32, mask: u8) -> Self::I {
        let mask = i32::from_le_bytes([mask; 4]);
        v.map(|v| ((v as u32 >> right) << left) as i32 & mask)
    }

    #[inline(always)]
    fn book(self, entries: &[u8; 16]) -> Self::Book {
        *entries
    }

    #[inline(always)]
    fn decode(self, book: Self::Book, numbers: Self::I) -> Self::I {
        numbers.map(|lane| i32::from_le_bytes(lane.to_le_bytes().map(|number| book[usize::from(number % 16)])))
    }

    #[inline(always)]
    fn or(self, a: Self::I, b: Self::I) -> Self::I {
        from_fn(|c| a[c] | b[c])
    }

    #[inline(always)]
    fn xor(self, a: Self::I, b: Self::I) -> Self::I {
        from_fn(|c| a[c] ^ b[c])
    }

    #[inline(always)]
    fn add(self, a: Self::I, b: Self::I) -> Self::I {
        from_fn(|c| a[c].wrapping_add(b[c]))
    }

    #[inline(always)]
    fn mul(self, a: Self::I, b: Self::I) -> Self::I {
        from_fn(|c| a[c].wrapping_mul(b[c]))
    }

    #[inline(always)]
    fn shl8(self, a: Self::I) -> Self::I {
        a.map(|a| a << 8)
    }

    #[inline(always)]
    fn sar(self, a: Self::I, by: u32) -> Self::I {
        a.map(|a| a >> by)
    }

    #[inline(always)]
    fn high16(self, a: Self::I) -> Self::I {
        a.map(|a| a >> 16)
    }

    #[inline(always)]
    fn low16(self, a: Self::I) -> Self::I {
        a.map(|a| a & 0xFFFF)
    }

    #[inline(always)]
    fn low24(self, a: Self::I) -> Self::I {
        a.map(|a| a & 0xFF_FFFF)
    }

    #[inline(always)]
    fn load_i32(self, from: &Self::Ints) -> Self::I {
        *from
    }

    #[inline(always)]
    fn store_i32(self, a: Self::I, to: &mut Self::Ints) {
        *to = a;
    }

    #[inline(always)]
    fn load_nibbles(self, bytes: &[u8]) -> Self::I {
        from_fn(|c| i32::from(bytes[c / 2] >> (4 * (c % 2)) & 15))
    }

    #[inline(always)]
    fn load_bytes(self, bytes: &[u8]) -> Self::I {
        from_fn(|c| i32::from(bytes[c]))
    }

    #[inline(always)]
    fn load_words(self, bytes: &[u8]) -> Self::I {
        from_fn(|c| i32::from(u16::from_le_bytes(chunk(bytes, c))))
    }

    #[inline(always)]
    fn load_f32(self, bytes: &[u8]) -> Self::F {
        from_fn(|c| f32::from_le_bytes(chunk(bytes, c)))
    }

    #[inline(always)]
    fn load_f16(self, bytes: &[u8]) -> Self::F {
        from_fn(|c| f16::from_le_bytes(chunk(bytes, c)).to_f32())
    }

    #[inline(always)]
    fn load_bf16(self, bytes: &[u8]) -> Self::F {
        from_fn(|c| f32::from_bits(u32::from(u16::from_le_bytes(chunk(bytes, c))) << 16))
    }

    #[inline(always)]
    fn load_floats(self, from: &Self::Floats) -> Self::F {
        *from
    }

    #[inline(always)]
    fn store_floats(self, a: Self::F, to: &mut Self::Floats) {
        *to = a;
    }

    #[inline(always)]
    fn splat_f32(self, x: f32) -> Self::F {
        [x; N]
    }

    #[inline(always)]
    fn to_f32(self, a: Self::I) -> Self::F {
        a.map(|a| a as f32)
    }

    #[inline(always)]
    fn slices_to_f32<const M: usize>(self, d: [Self::I; M]) -> Self::F {
        from_fn(|c| d.iter().rev().fold(0i64, |sum, d| 256 * sum + i64::from(d[c])) as f32)
    }

    #[inline(always)]
    fn mul_f32(self, a: Self::F, b: Self::F) -> Self::F {
        from_fn(|c| a[c] * b[c])
    }

    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        from_fn(|i| fma(a[i], b[i], c[i]))
    }

    #[inline(always)]
    fn split_zero(self, z: Self::F, max: f32) -> (Self::I, Self::F) {
        // Adding 1.5·2^23 rounds |z| < 2^22 to an integer, ties to even; larger values are clamped first.
        let z0 = z.map(|z| (z.clamp(-1.0, 257.0) + 12_582_912.0 - 12_582_912.0).clamp(0.0, max));
        (z0.map(|z0| z0 as i32), from_fn(|c| z[c] - z0[c]))
    }

    #[inline(always)]
    fn select_nonzero(self, condition: Self::F, a: Self::F, b: Self::F) -> Self::F {
        from_fn(|c| if condition[c] != 0.0 { a[c] } else { b[c] })
    }
}

impl<const N: usize> Dot for Scalar<N> {
    const SIGNED: bool = false;

    #[inline(always)]
    fn dot(self, acc: Self::I, w: Self::I, a: Self::I) -> Self::I {
        from_fn(|c| {
            let (w, a) = (w[c].to_le_bytes(), a[c].to_le_bytes().map(|a| a as i8));
            let products: [i32; 4] = from_fn(|i| i32::from(w[i]) * i32::from(a[i]));
            acc[c].wrapping_add(products.iter().sum())
        })
    }
}

impl<const N: usize> ShortSums for Scalar<N> {
    type P = [[i16; 2]; N];
    const TERMS: usize = 2;

    #[inline(always)]
    fn no_sums(self) -> Self::P {
        [[0; 2]; N]
    }

    #[inline(always)]
    fn add_products(self, sums: Self::P, w: Self::I, a: Self::I) -> Self::P {
        from_fn(|c| {
            let (w, a) = (w[c].to_le_bytes(), a[c].to_le_bytes());
            let product = |i: usize| i16::from(w[i]).wrapping_mul(i16::from(a[i] as i8));
            from_fn(|h| {
                let pair = product(2 * h).wrapping_add(product(2 * h + 1));
                sums[c][h].wrapping_add(pair)
            })
        })
    }

    #[inline(always)]
    fn settle(self, acc: Self::I, sums: Self::P, left: u32) -> Self::I {
        from_fn(|c| {
            let sum = i32::from(sums[c][0]) + i32::from(sums[c][1]);
            acc[c].wrapping_add(sum << left)
        })
    }
}

/// For lane counts that are multiples of four.
impl<const N: usize> MatrixDot for Scalar<N> {
    #[inline(always)]
    fn zip(self, a: Self::I, b: Self::I) -> [Self::I; 2] {
        let lane = |c: usize, half: usize| [a, b][c % 2][c / 4 * 4 + 2 * half + c % 4 / 2];
        [from_fn(|c| lane(c, 0)), from_fn(|c| lane(c, 1))]
    }

    #[inline(always)]
    fn unzip(self, a: Self::I, b: Self::I) -> [Self::I; 2] {
        let lane = |c: usize, odd: usize| [a, b][c % 4 / 2][c / 4 * 4 + c % 2 * 2 + odd];
        [from_fn(|c| lane(c, 0)), from_fn(|c| lane(c, 1))]
    }

    #[inline(always)]
    fn splat_octets(self, octets: [[[u8; 4]; 2]; 2]) -> Self::I {
        from_fn(|c| i32::from_le_bytes(octets[c % 4 / 2][c % 2]))
    }

    #[inline(always)]
    fn matrix_dot(self, acc: Self::I, w: Self::I, a: Self::I) -> Self::I {
        const { assert!(N.is_multiple_of(4)) };
        from_fn(|c| {
            let (block, i, j) = (c / 4 * 4, c % 4 / 2, c % 2);
            let (w, a) = (&w[block + 2 * i..][..2], &a[block + 2 * j..][..2]);
            let bytes = w
                .iter()
                .zip(a)
                .flat_map(|(w, a)| w.to_le_bytes().into_iter().zip(a.to_le_bytes()));
            let products = bytes.map(|(w, a)| i32::from(w) * i32::from(a as i8));
            acc[c].wrapping_add(products.sum())
        })
    }
}
