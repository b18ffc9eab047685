//! A tier from outside the crate: eight lanes in pairs, two to a `u64`, in plain Rust. `docs/adding-an-isa.md` explains it.

use mixgemm::simd::isa::{Body, Dot, Simd};
use mixgemm::{Isa, f16};
use std::array::from_fn;

/// Proof that the CPU has 64-bit integers, which every CPU has. Made by [`Simd::detect`] alone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pairs(());

/// Lane `c` is half `c % 2` of number `c / 2`.
type Lanes = [u64; 4];

fn lane(v: Lanes, c: usize) -> i32 {
    (v[c / 2] >> (32 * (c % 2))) as i32
}

/// The vector of eight integers.
fn pairs(lane: impl Fn(usize) -> i32) -> Lanes {
    from_fn(|p| u64::from(lane(2 * p) as u32) | u64::from(lane(2 * p + 1) as u32) << 32)
}

/// The vector of a number of 32 bits twice.
fn both(x: u32) -> Lanes {
    [u64::from(x) << 32 | u64::from(x); 4]
}

impl Simd for Pairs {
    const ISA: Isa = Isa::Scalar;
    const LANES: usize = 8;
    const REGISTERS: usize = 16;
    type I = Lanes;
    type F = [f32; 8];
    type Block = [u8; 32];
    type Floats = [f32; 8];
    type Ints = [i32; 8];
    type Book = [u8; 16];

    fn detect() -> Option<Self> {
        Some(Self(()))
    }

    fn frame<B: Body<Self>>(self, args: &mut B::Args<'_>) {
        B::body(self, args);
    }

    fn blocks(bytes: &[u8]) -> &[Self::Block] {
        bytes.as_chunks().0
    }

    fn floats(values: &mut [f32]) -> &mut [Self::Floats] {
        values.as_chunks_mut().0
    }

    fn ints(values: &mut [i32]) -> &mut [Self::Ints] {
        values.as_chunks_mut().0
    }

    fn int_blocks(values: &[i32]) -> &[Self::Ints] {
        values.as_chunks().0
    }

    fn opaque(self, a: Self::I) -> Self::I {
        std::hint::black_box(a)
    }

    fn prefetch<T>(self, _: &T, _: usize) {}

    fn load(self, block: &Self::Block) -> Self::I {
        let pairs = block.as_chunks::<8>().0;
        from_fn(|p| u64::from_le_bytes(pairs[p]))
    }

    fn splat_quad(self, quad: [u8; 4]) -> Self::I {
        both(u32::from_le_bytes(quad))
    }

    fn splat_i32(self, x: i32) -> Self::I {
        both(x as u32)
    }

    fn field(self, v: Self::I, right: u32, left: u32, mask: u8) -> Self::I {
        v.map(|v| v >> right << left & u64::from_le_bytes([mask; 8]))
    }

    fn book(self, entries: &[u8; 16]) -> Self::Book {
        *entries
    }

    fn decode(self, book: Self::Book, numbers: Self::I) -> Self::I {
        numbers.map(|pair| u64::from_le_bytes(pair.to_le_bytes().map(|number| book[usize::from(number)])))
    }

    fn or(self, a: Self::I, b: Self::I) -> Self::I {
        from_fn(|p| a[p] | b[p])
    }

    fn xor(self, a: Self::I, b: Self::I) -> Self::I {
        from_fn(|p| a[p] ^ b[p])
    }

    /// The top bits are added without a carry, which would reach into the other lane.
    fn add(self, a: Self::I, b: Self::I) -> Self::I {
        const TOP: u64 = 0x8000_0000_8000_0000;
        from_fn(|p| ((a[p] & !TOP) + (b[p] & !TOP)) ^ ((a[p] ^ b[p]) & TOP))
    }

    fn mul(self, a: Self::I, b: Self::I) -> Self::I {
        pairs(|c| lane(a, c).wrapping_mul(lane(b, c)))
    }

    fn shl8(self, a: Self::I) -> Self::I {
        a.map(|a| a << 8 & 0xFFFF_FF00_FFFF_FF00)
    }

    fn sar(self, a: Self::I, by: u32) -> Self::I {
        pairs(|c| lane(a, c) >> by)
    }

    fn high16(self, a: Self::I) -> Self::I {
        self.sar(a, 16)
    }

    fn low16(self, a: Self::I) -> Self::I {
        a.map(|a| a & 0x0000_FFFF_0000_FFFF)
    }

    fn low24(self, a: Self::I) -> Self::I {
        a.map(|a| a & 0x00FF_FFFF_00FF_FFFF)
    }

    fn load_i32(self, from: &Self::Ints) -> Self::I {
        pairs(|c| from[c])
    }

    fn store_i32(self, a: Self::I, to: &mut Self::Ints) {
        *to = from_fn(|c| lane(a, c));
    }

    fn load_nibbles(self, bytes: &[u8]) -> Self::I {
        pairs(|c| i32::from(bytes[c / 2] >> (4 * (c % 2)) & 15))
    }

    fn load_bytes(self, bytes: &[u8]) -> Self::I {
        pairs(|c| i32::from(bytes[c]))
    }

    fn load_words(self, bytes: &[u8]) -> Self::I {
        pairs(|c| i32::from(u16::from_le_bytes([bytes[2 * c], bytes[2 * c + 1]])))
    }

    fn load_f32(self, bytes: &[u8]) -> Self::F {
        self.load(bytes.first_chunk().expect("8 f32"))
            .map(|pair| [pair as u32, (pair >> 32) as u32].map(f32::from_bits))
            .as_flattened()
            .try_into()
            .expect("8 lanes")
    }

    fn load_f16(self, bytes: &[u8]) -> Self::F {
        from_fn(|c| f16::from_le_bytes([bytes[2 * c], bytes[2 * c + 1]]).to_f32())
    }

    fn load_bf16(self, bytes: &[u8]) -> Self::F {
        from_fn(|c| f32::from_le_bytes([0, 0, bytes[2 * c], bytes[2 * c + 1]]))
    }

    fn load_floats(self, from: &Self::Floats) -> Self::F {
        *from
    }

    fn store_floats(self, a: Self::F, to: &mut Self::Floats) {
        *to = a;
    }

    fn splat_f32(self, x: f32) -> Self::F {
        [x; 8]
    }

    fn to_f32(self, a: Self::I) -> Self::F {
        from_fn(|c| lane(a, c) as f32)
    }

    fn slices_to_f32<const N: usize>(self, d: [Self::I; N]) -> Self::F {
        from_fn(|c| (0..N).map(|j| i64::from(lane(d[j], c)) << (8 * j)).sum::<i64>() as f32)
    }

    fn mul_f32(self, a: Self::F, b: Self::F) -> Self::F {
        from_fn(|c| a[c] * b[c])
    }

    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        from_fn(|i| a[i].mul_add(b[i], c[i]))
    }

    fn split_zero(self, z: Self::F, max: f32) -> (Self::I, Self::F) {
        // Adding 0 makes −0 a +0.
        let z0 = z.map(|z| (z.round_ties_even() + 0.0).clamp(0.0, max));
        (pairs(|c| z0[c] as i32), from_fn(|c| z[c] - z0[c]))
    }

    fn select_nonzero(self, condition: Self::F, a: Self::F, b: Self::F) -> Self::F {
        from_fn(|c| if condition[c] != 0.0 { a[c] } else { b[c] })
    }
}

impl Dot for Pairs {
    const SIGNED: bool = false;

    fn dot(self, acc: Self::I, w: Self::I, a: Self::I) -> Self::I {
        pairs(|c| {
            let (w, a) = (lane(w, c).to_le_bytes(), lane(a, c).to_le_bytes());
            let products = w.iter().zip(a).map(|(&w, a)| i32::from(w) * i32::from(a as i8));
            lane(acc, c).wrapping_add(products.sum())
        })
    }
}
