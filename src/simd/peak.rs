//! Register loops over a tier's best instruction, with enough independent chains to hide its latency. [`roof`](super::roof)
//! times them.
#![forbid(unsafe_code)]
#![expect(clippy::needless_range_loop, reason = "loops over register tiles count chains")]

use crate::simd::isa::{Body, Dot, ShortSums, Simd, Work};
use core::hint::black_box;

/// Steps of a loop to run, and the operations that one step came to: 2 per multiply-add.
#[derive(Debug)]
pub(super) struct Loop {
    /// Steps.
    pub(super) steps: usize,
    /// Operations of a step.
    pub(super) operations: usize,
}

/// Dot products of bytes.
pub(super) struct Dots;

/// Products of bytes in 16 bits: eight times into the 16-bit sums, then once into 32 bits, as nibbles allow.
pub(super) struct Shorts;

/// Products of matrices of bytes.
#[cfg(target_arch = "aarch64")]
pub(super) struct Matrices;

/// Multiply-adds of f32.
pub(super) struct Floats;

impl Work for Dots {
    type Args<'a> = Loop;
}

impl Work for Shorts {
    type Args<'a> = Loop;
}

impl Work for Floats {
    type Args<'a> = Loop;
}

#[cfg(target_arch = "aarch64")]
impl Work for Matrices {
    type Args<'a> = Loop;
}

#[cfg(target_arch = "aarch64")]
impl<S: crate::simd::isa::MatrixDot> Body<S> for Matrices {
    #[inline(always)]
    fn body(simd: S, args: &mut Loop) {
        const CHAINS: usize = 12;
        args.operations = 16 * S::LANES * CHAINS;
        let (w, a) = black_box((simd.splat_quad([3; 4]), simd.splat_quad([251; 4])));
        let mut sums = [simd.splat_i32(0); CHAINS];
        for _ in 0..args.steps {
            for c in 0..CHAINS {
                sums[c] = simd.matrix_dot(sums[c], w, a);
            }
        }
        black_box(sums);
    }
}

impl<S: Dot> Body<S> for Dots {
    #[inline(always)]
    fn body(simd: S, args: &mut Loop) {
        const CHAINS: usize = 12;
        args.operations = 8 * S::LANES * CHAINS;
        let (w, a) = black_box((simd.splat_quad([3; 4]), simd.splat_quad([251; 4])));
        let mut sums = [simd.splat_i32(0); CHAINS];
        for _ in 0..args.steps {
            for c in 0..CHAINS {
                sums[c] = simd.dot(sums[c], w, a);
            }
        }
        black_box(sums);
    }
}

impl<S: ShortSums> Body<S> for Shorts {
    #[inline(always)]
    fn body(simd: S, args: &mut Loop) {
        const CHAINS: usize = 6;
        args.operations = 8 * 8 * S::LANES * CHAINS;
        let (mut w, a) = black_box((simd.splat_quad([3; 4]), simd.splat_quad([251; 4])));
        let mut sums = [simd.splat_i32(0); CHAINS];
        for _ in 0..args.steps {
            let mut short = [simd.no_sums(); CHAINS];
            for _ in 0..8 {
                for c in 0..CHAINS {
                    // Equal products would be formed once.
                    w = simd.opaque(w);
                    short[c] = simd.add_products(short[c], w, a);
                }
            }
            for c in 0..CHAINS {
                sums[c] = simd.settle(sums[c], short[c], 0);
            }
        }
        black_box(sums);
    }
}

impl<S: Simd> Body<S> for Floats {
    #[inline(always)]
    fn body(simd: S, args: &mut Loop) {
        const CHAINS: usize = 12;
        args.operations = 2 * S::LANES * CHAINS;
        let (a, b) = black_box((simd.splat_f32(0.5), simd.splat_f32(1.0)));
        let mut sums = [simd.splat_f32(0.0); CHAINS];
        for _ in 0..args.steps {
            for c in 0..CHAINS {
                sums[c] = simd.fma(sums[c], a, b);
            }
        }
        black_box(sums);
    }
}
