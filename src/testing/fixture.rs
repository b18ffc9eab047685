//! Operands in which everything differs: fixtures whose groups share a scale hide most faults of a kernel.
#![forbid(unsafe_code)]

use crate::base::float::{Element, pow2};
use crate::base::mat::Mat;
use crate::quant::input::{Activations, Mode};
use crate::quant::matrix::{Floats, QuantMatrix, Zeros};
use crate::quant::scheme::{Group, Scheme, ZeroPoint};
use crate::testing::draw::Draw;
use alloc::{vec, vec::Vec};
use half::{bf16, f16};

/// Random weights: neighbouring groups, along K and from row to row, differ in scale and zero point. Scales of both
/// signs and some zeros among them; zero points over all of `0..=2^bits`, float ones beyond it, halves and integers
/// included. All codes and scales are exact at every stored width.
///
/// Panics when the scheme or the size is refused by [`QuantMatrix::from_parts`].
#[must_use]
pub fn weights(draw: &mut Draw, scheme: Scheme, n: usize, k: usize) -> QuantMatrix {
    let top = (1usize << scheme.bits) + 1;
    let step = [1, 3, 7, 11]
        .into_iter()
        .rev()
        .find(|s| !top.is_multiple_of(*s))
        .unwrap_or(1);
    let first = draw.below(top);
    weights_with_zeros(draw, scheme, n, k, |i| ((first + i * step) % top) as u16)
}

/// As [`weights`], with the integer part of the zero point of group `i` (`[N, G]` order) from `zero`.
#[must_use]
pub fn weights_with_zeros(
    draw: &mut Draw,
    scheme: Scheme,
    n: usize,
    k: usize,
    zero: impl Fn(usize) -> u16,
) -> QuantMatrix {
    let codes = (0..n * k).map(|_| draw.bits() as u8 & scheme.max_code()).collect();
    let count = if scheme.group == Group::Tensor {
        1
    } else {
        n * scheme.groups(k)
    };
    let scale = |i: usize| match i % 13 {
        12 => 0.0,
        s if s % 3 == 1 => -((i % 199 + 1) as f32) / 1024.0,
        _ => (i % 199 + 1) as f32 / 1024.0,
    };
    let scales: Vec<f32> = (0..count).map(scale).collect();
    let fraction = |i: usize| [0.0, 0.25, -0.5, 0.5, 0.0, -2.75, 3.5][i % 7];
    let zeros = match scheme.zero {
        ZeroPoint::Symmetric => Zeros::Symmetric,
        ZeroPoint::Integer => Zeros::Integer((0..count).map(&zero).collect()),
        ZeroPoint::Float => {
            let zeros: Vec<f32> = (0..count).map(|i| f32::from(zero(i)) + fraction(i)).collect();
            Zeros::Float(Floats::from_f32(scheme.scale, &zeros))
        }
    };
    let scales = Floats::from_f32(scheme.scale, &scales);
    QuantMatrix::from_parts(scheme, n, k, codes, scales, zeros).expect("a fixture within its domain")
}

/// A calibrated mode that clamps some of the inputs of [`Inputs`].
pub const STATIC: Mode = Mode::A8Static {
    scale: 0.011,
    saturate: true,
};

/// One M × K input at every element type. The halves of a row, and neighbouring rows, have different ranges; there are
/// zeros, subnormals, an all-zero row and a row of negligible size. All values are finite.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// f32 input.
    pub f32: Mat<f32>,
    /// f16 input. Its rows take turns between narrow ranges and all of f16, so mode `exact` needs every slice count.
    pub f16: Mat<f16>,
    /// bf16 input.
    pub bf16: Mat<bf16>,
    /// int8 input, −128 included.
    pub i8: Mat<i8>,
    /// Scales of the int8 rows.
    pub scales: Vec<f32>,
}

impl Inputs {
    /// Random inputs.
    #[must_use]
    pub fn new(draw: &mut Draw, m: usize, k: usize) -> Self {
        let f32 = Mat::from_fn(m, k, |r, c| {
            let half = if 2 * c < k { 1.0 } else { 24.0 };
            let row = [1.0, 0.07, 300.0, 1e-33, 0.0][(r * 3 % 7).min(4)];
            match draw.below(20) {
                0 => 0.0,
                1 => draw.signed() * 1e-39,
                _ => draw.signed() * half * row,
            }
        });
        let f16 = Mat::from_fn(m, k, |r, c| {
            let x = f16::from_bits(draw.bits() as u16);
            let half = if 2 * c < k { 1 } else { 4 };
            let range = [3u32, 6, 12, 20, 31, 1][r % 6];
            match u32::from(x.to_bits() >> 10 & 31) * range / 31 {
                _ if draw.below(16) == 0 => f16::from_bits(x.to_bits() & 0x8000),
                e => f16::from_bits(x.to_bits() & 0x83FF | (e.min(26) as u16 + half) << 10),
            }
        });
        Self {
            bf16: Mat::from_fn(m, k, |r, c| Element::from_f32(f32.view().row(r)[c])),
            i8: Mat::from_fn(m, k, |r, c| (draw.bits() as i8) >> ((r + usize::from(2 * c < k)) % 3)),
            scales: (0..m).map(|r| (r as f32 - 1.5) / 64.0).collect(),
            f16,
            f32,
        }
    }

    /// Every mode with every element type that it takes.
    #[must_use]
    pub fn cases(&self) -> Vec<(Mode, Activations<'_>)> {
        let (f32, f16, bf16) = (self.f32.view().into(), self.f16.view().into(), self.bf16.view().into());
        vec![
            (Mode::A8, f32),
            (Mode::A8, f16),
            (Mode::A8Row, bf16),
            (Mode::A8Row, f32),
            (Mode::A8Given, Activations::int8(self.i8.view(), -0.37)),
            (Mode::A8Given, Activations::int8_rows(self.i8.view(), &self.scales)),
            (STATIC, f32),
            (STATIC, bf16),
            (Mode::A16, f32),
            (Mode::A16, f16),
            (Mode::A16, bf16),
            (Mode::Exact, f16),
        ]
    }
}

/// f16 input of which every group of `group` columns, at least two of them, needs exactly `slices` slices (1 to 6) in
/// mode `exact`.
#[must_use]
pub fn exact_slices(draw: &mut Draw, slices: usize, m: usize, k: usize, group: usize) -> Mat<f16> {
    let power = |e: i32| f64::from(pow2(e));
    // 2^(8s − 9) is above what s − 1 balanced slices hold; the sum of all bits below 2^(8s − 1) needs no more than s.
    let top = power((8 * slices as i32 - 9).max(0));
    let span = (8 * slices - 2).min(40);
    Mat::from_fn(m, k, |r, c| {
        let magnitude = match (c + r) % group.min(k - c / group * group) {
            0 => top,
            1 => 1.0,
            _ => {
                let exponent = draw.below(span);
                let kept = exponent.min(10);
                (draw.below(1 << kept) as f64 + power(kept as i32)) * power((exponent - kept) as i32)
            }
        };
        let negative = magnitude != top && draw.below(2) == 0;
        f16::from_f64(if negative { -magnitude } else { magnitude } * power(-24))
    })
}
