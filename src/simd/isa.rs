//! The operations that kernels are written over. A type that implements [`Simd`] is a token: it can only be made where
//! its instructions exist, so holding one proves that they may run. Every operation is safe, a leaf, and defined by
//! what [`Scalar`](crate::simd::scalar::Scalar) does; a stated domain says where other implementations must agree.
#![forbid(unsafe_code)]

use crate::simd::cpu::Isa;

/// What a piece of code works on, on every tier.
pub trait Work {
    /// Its arguments.
    type Args<'a>;
}

/// Code that is compiled for a tier. `body` must be `#[inline(always)]`, like everything it calls in a loop: it is
/// inlined into the tier's one frame, where its features are on.
pub trait Body<S: Simd>: Work {
    /// The code.
    fn body(simd: S, args: &mut Self::Args<'_>);
}

/// A tier's vector operations over `LANES` 32-bit lanes.
pub trait Simd: Copy + Send + Sync + 'static {
    /// The tier.
    const ISA: Isa;
    /// 32-bit lanes in a vector.
    const LANES: usize;
    /// Vector registers.
    const REGISTERS: usize;
    /// `LANES` i32, or `4·LANES` bytes: byte `i` of lane `c` is byte `4c + i` of a block.
    type I: Copy;
    /// `LANES` f32.
    type F: Copy;
    /// `4·LANES` bytes in memory, at any address.
    type Block: Copy;
    /// `LANES` f32 in memory.
    type Floats: Copy;
    /// `LANES` i32 in memory.
    type Ints: Copy;
    /// Sixteen bytes to look up in.
    type Book: Copy;

    /// The token, where the CPU has the instructions.
    fn detect() -> Option<Self>;

    /// Runs a body with the tier's instructions enabled.
    fn frame<B: Body<Self>>(self, args: &mut B::Args<'_>);

    /// A slice as whole blocks; what is left over is dropped.
    fn blocks(bytes: &[u8]) -> &[Self::Block];
    /// A slice as whole vectors of f32; what is left over is dropped.
    fn floats(values: &mut [f32]) -> &mut [Self::Floats];
    /// A slice as whole vectors of i32; what is left over is dropped.
    fn ints(values: &mut [i32]) -> &mut [Self::Ints];
    /// A slice that is read as whole vectors of i32; what is left over is dropped.
    fn int_blocks(values: &[i32]) -> &[Self::Ints];

    /// The same vector; the compiler does not know that it is the same.
    fn opaque(self, a: Self::I) -> Self::I;
    /// Hints that the cache line `ahead` bytes after `at` will be used soon. Changes no value.
    fn prefetch<T>(self, at: &T, ahead: usize);
    /// All bytes of a block.
    fn load(self, block: &Self::Block) -> Self::I;
    /// The same four bytes in every lane.
    fn splat_quad(self, quad: [u8; 4]) -> Self::I;
    /// The same integer in every lane.
    fn splat_i32(self, x: i32) -> Self::I;
    /// Per byte: `(v >> right << left) & mask`, where one of `right` and `left` is 0 and both are below 8.
    /// The mask keeps no bit that the shift takes from a neighbouring byte.
    fn field(self, v: Self::I, right: u32, left: u32, mask: u8) -> Self::I;
    /// A table of these bytes.
    fn book(self, entries: &[u8; 16]) -> Self::Book;
    /// Per byte, all of which are below 16: the entry of that number.
    fn decode(self, book: Self::Book, numbers: Self::I) -> Self::I;
    /// Bitwise or.
    fn or(self, a: Self::I, b: Self::I) -> Self::I;
    /// Bitwise exclusive or.
    fn xor(self, a: Self::I, b: Self::I) -> Self::I;
    /// Wrapping addition.
    fn add(self, a: Self::I, b: Self::I) -> Self::I;
    /// Wrapping multiplication, low 32 bits.
    fn mul(self, a: Self::I, b: Self::I) -> Self::I;
    /// `a << 8`.
    fn shl8(self, a: Self::I) -> Self::I;
    /// `a >> by`, arithmetic, for `by < 32`.
    fn sar(self, a: Self::I, by: u32) -> Self::I;
    /// `a >> 16`, arithmetic.
    fn high16(self, a: Self::I) -> Self::I;
    /// `a & 0xFFFF`.
    fn low16(self, a: Self::I) -> Self::I;
    /// `a & 0xFF_FFFF`.
    fn low24(self, a: Self::I) -> Self::I;
    /// Loads integers.
    fn load_i32(self, from: &Self::Ints) -> Self::I;
    /// Stores integers.
    fn store_i32(self, a: Self::I, to: &mut Self::Ints);

    /// Integers from one nibble per lane: lane `c` is nibble `c` of `ceil(LANES/2)` bytes, low nibble first.
    fn load_nibbles(self, bytes: &[u8]) -> Self::I;
    /// Integers from one byte per lane.
    fn load_bytes(self, bytes: &[u8]) -> Self::I;
    /// Integers from one little-endian u16 per lane.
    fn load_words(self, bytes: &[u8]) -> Self::I;

    /// Floats from little-endian f32.
    fn load_f32(self, bytes: &[u8]) -> Self::F;
    /// Floats from little-endian f16, exactly.
    fn load_f16(self, bytes: &[u8]) -> Self::F;
    /// Floats from little-endian bf16, exactly.
    fn load_bf16(self, bytes: &[u8]) -> Self::F;
    /// Loads floats.
    fn load_floats(self, from: &Self::Floats) -> Self::F;
    /// Stores floats.
    fn store_floats(self, a: Self::F, to: &mut Self::Floats);
    /// The same float in every lane.
    fn splat_f32(self, x: f32) -> Self::F;
    /// The nearest float, ties to even.
    fn to_f32(self, a: Self::I) -> Self::F;
    /// The float nearest to `Σ_j 256^j·d_j`, ties to even, where every partial sum from the highest j down stays below
    /// 2^53.
    fn slices_to_f32<const N: usize>(self, d: [Self::I; N]) -> Self::F;
    /// `a·b`, rounded once.
    fn mul_f32(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a·b + c`, rounded once.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `(z0, f)` with `z0 = rne(z)` clamped to `0..=max` and `f = z − z0`; z is finite, `max ≤ 256`.
    fn split_zero(self, z: Self::F, max: f32) -> (Self::I, Self::F);
    /// Per lane a where `condition ≠ 0`, else b.
    fn select_nonzero(self, condition: Self::F, a: Self::F, b: Self::F) -> Self::F;
}

/// Hints that all of a slice will be used soon.
#[inline(always)]
pub(crate) fn prefetch_all<S: Simd, T>(simd: S, values: &[T]) {
    /// Bytes of a cache line.
    const LINE: usize = 64;
    for line in values.chunks(LINE / size_of::<T>()) {
        simd.prefetch(&line[0], 0);
    }
}

/// Tiers with a dot product of four bytes in one instruction.
pub trait Dot: Simd {
    /// Whether [`dot`](Dot::dot) takes the bytes of w as signed. Codes of 8 bits are then moved by 128.
    const SIGNED: bool;

    /// Per lane `acc + Σ_i w_i·a_i` over its four bytes, a signed; wraps modulo 2^32.
    fn dot(self, acc: Self::I, w: Self::I, a: Self::I) -> Self::I;
}

/// Tiers that add products up in 16 bits first: more of them fit a vector, but only a few fit a sum.
pub trait ShortSums: Simd {
    /// The 16-bit sums of one vector's lanes.
    type P: Copy;
    /// Products that one [`add_products`](ShortSums::add_products) adds to each sum.
    const TERMS: usize;

    /// Sums of nothing.
    fn no_sums(self) -> Self::P;
    /// Adds the four products of every lane, w unsigned and below 128, a signed, `TERMS` to a sum; sums wrap modulo 2^16.
    fn add_products(self, sums: Self::P, w: Self::I, a: Self::I) -> Self::P;
    /// The same sums. What was added to them before is not regrouped with what comes after: a compiler that does so runs
    /// out of registers.
    #[inline(always)]
    fn pin(self, sums: Self::P) -> Self::P {
        sums
    }
    /// Per lane `acc + (all its sums << left)`, for `left < 8`; wraps modulo 2^32.
    fn settle(self, acc: Self::I, sums: Self::P, left: u32) -> Self::I;
}

/// Tiers that multiply eight bytes of two columns with eight bytes of two lhs rows in one instruction. Their lanes are a
/// multiple of four and make blocks of four, of sixteen bytes each.
pub trait MatrixDot: Dot {
    /// `a0 b0 a1 b1` and `a2 b2 a3 b3` from every block of a and b.
    fn zip(self, a: Self::I, b: Self::I) -> [Self::I; 2];
    /// `a0 a2 b0 b2` and `a1 a3 b1 b3` from every block of a and b: what [`zip`](MatrixDot::zip) put together.
    fn unzip(self, a: Self::I, b: Self::I) -> [Self::I; 2];
    /// The same two octets, of two quads each, in every block.
    fn splat_octets(self, octets: [[[u8; 4]; 2]; 2]) -> Self::I;
    /// Lane `2i + j` of every block: `acc + Σ_e w_(8i+e)·a_(8j+e)` over eight of the block's bytes, w unsigned and a
    /// signed; wraps modulo 2^32.
    fn matrix_dot(self, acc: Self::I, w: Self::I, a: Self::I) -> Self::I;
}

/// Tiers that add selected activations up.
pub trait Planes: Simd {
    /// Some bytes of a vector.
    type Mask: Copy;
    /// The sums of one vector's lanes.
    type Selected: Copy;
    /// Quads that may be added up before their sums must be settled.
    const QUADS: usize;

    /// The bytes of w whose bit `bit` is set, for `bit < 8`.
    fn mask(self, w: Self::I, bit: u32) -> Self::Mask;
    /// Sums of nothing.
    fn none_selected(self) -> Self::Selected;
    /// Adds the selected ones of the four signed bytes in every lane of a.
    fn add_selected(self, sums: Self::Selected, mask: Self::Mask, a: Self::I) -> Self::Selected;
    /// Per lane acc and all its sums; wraps modulo 2^32.
    fn settle_selected(self, acc: Self::I, sums: Self::Selected) -> Self::I;
}

/// The tables of 32 activations: for each of their two halves h the low parts of sixteen sums for each element i of a
/// quad, then the high parts. Entry e of the table of h and i is for the sum `T` of those `a[4(4h + j) + i]` whose bit j
/// of e is set; its low part is `T & 127`, its high part `T >> 7`, from −4 to 3.
pub type SumTables = [[[u8; 64]; 2]; 2];

/// The entries of a unit where one instruction looks up in four tables side by side: a byte's place in its lane says which
/// table, in bits 4 and 5.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[inline(always)]
pub(super) fn entries_side_by_side<S: Simd>(simd: S, unit: [S::I; 2]) -> [[S::I; 2]; 2] {
    let table = simd.splat_quad([0, 16, 32, 48]);
    let mut entries = [unit; 2];
    for v in 0..2 {
        entries[0][v] = simd.or(simd.field(unit[v], 0, 0, 15), table);
        entries[1][v] = simd.or(simd.field(unit[v], 4, 0, 15), table);
    }
    entries
}

/// Tiers that look sums of activations up in tables of sixteen bytes.
pub trait Tables: Simd {
    /// The entries that one unit of 1-bit codes of both vectors means: bit `4h + j` of byte i of a lane is bit j of the
    /// number of an entry of the table of h and i.
    type Entries: Copy;
    /// The sums of one lhs row in the lanes of both vectors.
    type Looked: Copy;
    /// Units that may be looked up before their sums must be settled.
    const UNITS: usize;

    /// The tables of 32 activations.
    fn tables(self, a: &[u8; 32]) -> SumTables;
    /// The entries of a unit.
    fn entries(self, unit: [Self::I; 2]) -> Self::Entries;
    /// Sums that start from these.
    fn start_from(self, acc: [Self::I; 2]) -> Self::Looked;
    /// Adds the eight entries of every lane, `low + 128·high`. Low parts are below 128, high parts from −4 to 3.
    fn look_up(self, sums: Self::Looked, entries: Self::Entries, tables: &SumTables) -> Self::Looked;
    /// The sums; they wrap modulo 2^32.
    fn settle_looked(self, sums: Self::Looked) -> [Self::I; 2];
}
