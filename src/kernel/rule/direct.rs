//! The direct rule: codes are unpacked to bytes and multiplied with activation bytes by the tier's dot product.
#![forbid(unsafe_code)]
#![expect(
    clippy::needless_range_loop,
    reason = "loops over register tiles count rows and vectors"
)]

use crate::pack::layout::{Digit, blocks, digits};
use crate::simd::isa::Simd;

/// Accumulators of a tile of `R` lhs rows and two vectors of columns.
pub type Tile<S, const R: usize> = [[<S as Simd>::I; 2]; R];

/// The codes of quad `q` of one vector's unit: every digit's field, moved to its place and put together.
#[inline(always)]
fn unpack<S: Simd, const B: usize>(simd: S, unit: &[S::Block], q: usize) -> S::I {
    let digits = const { digits(B as u8) };
    let mut code = digit(simd, unit, q, digits[0]);
    for i in 1..4 {
        if digits[i].width > 0 {
            code = simd.or(code, digit(simd, unit, q, digits[i]));
        }
    }
    code
}

/// One digit of quad `q`, at its place in the code.
#[inline(always)]
fn digit<S: Simd>(simd: S, unit: &[S::Block], q: usize, d: Digit) -> S::I {
    let per_block = 8 / d.width as usize;
    let raw = simd.load(&unit[d.block + q / per_block]);
    if d.width == 8 {
        return raw;
    }
    let (at, to) = (q % per_block * d.width as usize, d.position as usize);
    let mask = ((1u32 << d.width) - 1) << to;
    simd.field(
        raw,
        at.saturating_sub(to) as u32,
        to.saturating_sub(at) as u32,
        mask as u8,
    )
}

/// Whether the quads of a unit are accumulated apart, where registers allow it: see [`step_apart`].
const fn apart(bits: usize, per_unit: usize, quads: usize, lhs_rows: usize) -> bool {
    per_unit == 1 && bits < 8 && 2 * lhs_rows * quads <= 24
}

/// Adds the products of one group: `units × U` k of `R` lhs rows with the vectors of the panel, whose units have `P`
/// blocks a vector. With one vector, its sums come twice.
#[inline(always)]
pub(crate) fn group<S: Simd, const B: usize, const U: usize, const P: usize, const R: usize>(
    simd: S,
    codes: &[S::Block],
    vectors: usize,
    lhs: &[[[u8; U]; R]],
    mut acc: Tile<S, R>,
) -> Tile<S, R> {
    const { assert!(P == blocks(B as u8)) };
    let units = codes.as_chunks::<P>().0;
    if const { apart(B, P, U / 4, R) } {
        let mut sets = [[[simd.splat_i32(0); 2]; R]; 8];
        sets[0] = acc;
        if vectors == 2 {
            for (unit, lhs) in units.as_chunks::<2>().0.iter().zip(lhs) {
                step_apart::<S, B, U, P, R>(simd, [&unit[0], &unit[1]], lhs, &mut sets);
            }
        } else {
            for (unit, lhs) in units.iter().zip(lhs) {
                step_apart::<S, B, U, P, R>(simd, [unit, unit], lhs, &mut sets);
            }
        }
        acc = sets[0];
        for q in 1..U / 4 {
            for r in 0..R {
                for v in 0..2 {
                    acc[r][v] = simd.add(acc[r][v], simd.sar(sets[q][r][v], (q * B) as u32));
                }
            }
        }
    } else if vectors == 2 {
        for (unit, lhs) in units.as_chunks::<2>().0.iter().zip(lhs) {
            step::<S, B, U, P, R>(simd, [&unit[0], &unit[1]], lhs, &mut acc);
        }
    } else {
        for (unit, lhs) in units.iter().zip(lhs) {
            step::<S, B, U, P, R>(simd, [unit, unit], lhs, &mut acc);
        }
    }
    acc
}

/// With few lhs rows codes come from memory, and their arithmetic fills the reorder window before enough loads are under
/// way. Prefetching a little ahead, four lines, starts those loads earlier; further ahead the hardware's own prefetcher
/// loses the stream (on Zen 4 256 bytes gain a fifth of the bandwidth, 1024 lose a fifth).
const AHEAD: usize = 256;

/// Bytes 4q to 4q + 3 of one lhs row in every lane.
#[inline(always)]
fn quad<S: Simd, const U: usize>(simd: S, lhs: &[u8; U], q: usize) -> S::I {
    simd.splat_quad([lhs[4 * q], lhs[4 * q + 1], lhs[4 * q + 2], lhs[4 * q + 3]])
}

/// One unit: each quad's codes are unpacked once and serve all lhs rows.
#[inline(always)]
fn step<S: Simd, const B: usize, const U: usize, const P: usize, const R: usize>(
    simd: S,
    unit: [&[S::Block; P]; 2],
    lhs: &[[u8; U]; R],
    acc: &mut Tile<S, R>,
) {
    for q in 0..U / 4 {
        let codes = [unpack::<S, B>(simd, unit[0], q), unpack::<S, B>(simd, unit[1], q)];
        for r in 0..R {
            let quad = quad(simd, &lhs[r], q);
            acc[r][0] = simd.dot(acc[r][0], codes[0], quad);
            acc[r][1] = simd.dot(acc[r][1], codes[1], quad);
        }
    }
}

/// One unit for few lhs rows. Quad q's codes stay where they are in their bytes, `2^(q·B)` times too large, and have
/// accumulators of their own: no shifts, and as many independent chains as quads. The sums are multiples of `2^(q·B)`
/// and, like those of 8-bit codes, fit 32 bits for groups up to 65536: `255·128·65536 < 2^31`.
#[inline(always)]
fn step_apart<S: Simd, const B: usize, const U: usize, const P: usize, const R: usize>(
    simd: S,
    unit: [&[S::Block; P]; 2],
    lhs: &[[u8; U]; R],
    sets: &mut [Tile<S, R>; 8],
) {
    simd.prefetch(unit[0], AHEAD);
    simd.prefetch(unit[1], AHEAD);
    for q in 0..U / 4 {
        let mask = (((1u32 << B) - 1) << (q * B)) as u8;
        for v in 0..2 {
            let codes = simd.field(simd.load(&unit[v][0]), 0, 0, mask);
            for r in 0..R {
                sets[q][r][v] = simd.dot(sets[q][r][v], codes, quad(simd, &lhs[r], q));
            }
        }
    }
}
