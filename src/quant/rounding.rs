//! From floats to codes: rounding to nearest, and the search for the clipped range with the least squared error.
//!
//! Every group of weights `w` gets a grid, a scale `s` and a zero point `z` at their stored widths, and then its codes,
//! in f32 operations and rounding ties to even:
//!
//! | zero point | range | scale | z | code, clamped to `0..=2^b − 1` |
//! |---|---|---|---|---|
//! | symmetric, b ≥ 2 | `amax` | `amax/(2^(b−1) − 1)` | `2^(b−1)` | `rne(w/s) + z` |
//! | symmetric, b = 1 | | mean of \|w\|, the least-squares scale | levels ∓1 | 1 for `w ≥ 0` |
//! | integer | `lo = min(w, 0)`, `hi = max(w, 0)` | `(hi − lo)/(2^b − 1)` | `rne(−lo/s)` clamped to `0..=2^b` | `rne(w/s) + z` |
//! | float | `lo = min(w)`, `hi = max(w)` | the same | `−lo/s` | `rne(w/s + z)` |
//!
//! With a [book](crate::quant::book), the scale and the codes are those defined there.
//!
//! A float zero point outside `0..=2^b` is not used: the range is widened to contain 0, and z clamped. Where a scale
//! would round to 0 though the range is not 0, it is the smallest positive one of its width, but for one symmetric bit,
//! whose mean is rounded as it is. A group of zeros has scale 0 and all codes at the zero point.
//!
//! [`Rounding::ClipSearch`] tries these grids, the first of which is that of [`Rounding::Nearest`], with the range
//! shrunk to 100 %, 98 % … 10 %; symmetric grids without a book also with scales `±p·amax/2^(b−1)`, signed so that the
//! weight of the largest magnitude lies on the side of code 0, which reaches one step further. The grid with the least
//! `Σ (s·(q − z) − w)²` in f64 is taken, the first of equals. One symmetric bit has nothing to search.
#![forbid(unsafe_code)]

use crate::base::error::{Error, Result};
use crate::base::float::{Element, rne};
use crate::base::view::MatRef;
use crate::quant::activation::{INFINITE, abs_max_bits};
use crate::quant::book::{CodeBook, Nearest, power};
use crate::quant::matrix::{Floats, QuantMatrix, Zeros};
use crate::quant::scheme::{Group, MAX_GROUP, Rounding, ScaleType, Scheme, ZeroPoint};
use crate::simd;
use crate::simd::cpu::Isa;
use crate::simd::isa::{Body, Simd, Work};
use alloc::{format, vec, vec::Vec};
use half::{bf16, f16};

/// Quantises `weights`, N × K. See the [module](self) for the definition.
///
/// # Errors
/// [`Error::Value`] for a scheme that [`Scheme::check`] refuses, a group longer than [`MAX_GROUP`], a weight that is not
/// finite, and a scale that overflows its stored width.
pub(crate) fn quantize<T: Element>(weights: MatRef<'_, T>, scheme: Scheme) -> Result<QuantMatrix> {
    scheme.check()?;
    let nearest = scheme.book.as_ref().map(Nearest::new);
    let isa = Isa::best(None);
    let (n, k) = (weights.rows(), weights.cols());
    let length = scheme.group_length(k);
    if length > MAX_GROUP {
        let expected = format!("at most {MAX_GROUP} weights");
        return Err(Error::value("group", expected, format!("{length}")));
    }
    let (mut codes, mut scales, mut zeros) = (vec![0u8; n * k], Vec::new(), Vec::new());
    let mut take = |w: &[f32], codes: &mut [u8], place: (usize, usize)| {
        let mut group = OneGroup {
            w,
            codes,
            scheme: &scheme,
            nearest: nearest.as_ref(),
            grid: Grid { scale: 0.0, zero: 0.0 },
        };
        simd::run::<Quantize>(isa, &mut group);
        let grid = group.grid;
        if !grid.scale.is_finite() {
            let expected = format!("scales that fit {:?}", scheme.scale);
            let found = format!("{} in the group at {place:?}", grid.scale);
            return Err(Error::value("scales", expected, found));
        }
        scales.push(grid.scale);
        zeros.push(grid.zero);
        Ok(())
    };
    if scheme.group == Group::Tensor {
        let mut all = vec![0f32; n * k];
        for (r, row) in all.chunks_exact_mut(k.max(1)).enumerate() {
            finite_row(weights, r, row)?;
        }
        take(&all, &mut codes, (0, 0))?;
    } else if n > 0 && k > 0 {
        let mut row = vec![0f32; k];
        for (r, codes) in codes.chunks_exact_mut(k).enumerate() {
            finite_row(weights, r, &mut row)?;
            for (g, (w, codes)) in row.chunks(length).zip(codes.chunks_mut(length)).enumerate() {
                take(w, codes, (r, g * length))?;
            }
        }
    }
    let zeros = match scheme.zero {
        ZeroPoint::Symmetric => Zeros::Symmetric,
        ZeroPoint::Integer => Zeros::Integer(zeros.iter().map(|&z| z as u16).collect()),
        ZeroPoint::Float => Zeros::Float(Floats::from_f32(scheme.scale, &zeros)),
    };
    QuantMatrix::from_parts(scheme, n, k, codes, Floats::from_f32(scheme.scale, &scales), zeros)
}

/// Finds the grid of one group, and where it is finite the codes.
struct Quantize;

struct OneGroup<'a> {
    w: &'a [f32],
    codes: &'a mut [u8],
    scheme: &'a Scheme,
    nearest: Option<&'a Nearest>,
    grid: Grid,
}

impl Work for Quantize {
    type Args<'a> = OneGroup<'a>;
}

impl<S: Simd> Body<S> for Quantize {
    #[inline(always)]
    fn body(_: S, group: &mut OneGroup<'_>) {
        group.grid = fit(group.w, group.scheme, group.nearest);
        match group.nearest {
            _ if !group.grid.scale.is_finite() => {}
            Some(nearest) => group.grid.look_up(group.w, group.codes, nearest),
            None => group.grid.encode(group.w, group.codes, group.scheme),
        }
    }
}

/// Row `r` as f32, which must be finite.
fn finite_row<T: Element>(weights: MatRef<'_, T>, r: usize, row: &mut [f32]) -> Result<()> {
    T::slice_to_f32(weights.row(r), row);
    if abs_max_bits(row) < INFINITE {
        return Ok(());
    }
    let c = row.iter().position(|w| !w.is_finite()).unwrap_or(0);
    Err(Error::value(
        "weights",
        "finite values",
        format!("{} at ({r}, {c})", row[c]),
    ))
}

/// A float rounded to a stored width.
fn stored(x: f32, width: ScaleType) -> f32 {
    match width {
        ScaleType::F32 => x,
        ScaleType::F16 => f16::from_f32(x).to_f32(),
        ScaleType::Bf16 => Element::to_f32(<bf16 as Element>::from_f32(x)),
    }
}

/// `range/steps` at a stored width; where that would round to 0 and the range is not 0, the smallest positive value.
fn scale_of(range: f64, steps: u32, width: ScaleType) -> f32 {
    let scale = stored((range / f64::from(steps)) as f32, width);
    if scale != 0.0 || range == 0.0 {
        return scale;
    }
    let least = match width {
        ScaleType::F32 => f32::from_bits(1),
        ScaleType::F16 => f16::from_bits(1).to_f32(),
        ScaleType::Bf16 => f32::from_bits(1 << 16),
    };
    if range < 0.0 { -least } else { least }
}

/// Weights that are looked up in a book at once.
const AT_ONCE: usize = 32;

/// Scale and zero point of one group, at their stored widths.
#[derive(Clone, Copy)]
struct Grid {
    scale: f32,
    zero: f32,
}

/// Added to and taken from an f32 below 2^22 in magnitude, `1.5·2^23` rounds it to an integer, ties to even.
const INTEGER: f32 = 12_582_912.0;

impl Grid {
    /// What is added to `w/s` before rounding, and the limits of the rounded sum: `code − z` for integer zero points,
    /// the code itself for float ones. The limits are integers, so to clamp before rounding is to clamp after it.
    fn bounds(&self, scheme: &Scheme) -> (f32, f32, f32) {
        let max = f32::from(scheme.max_code());
        match scheme.zero {
            ZeroPoint::Float => (self.zero, 0.0, max),
            _ => (0.0, -self.zero, max - self.zero),
        }
    }

    #[inline(always)]
    fn encode(&self, w: &[f32], codes: &mut [u8], scheme: &Scheme) {
        if scheme.is_sign_only() {
            for (&w, q) in w.iter().zip(codes) {
                *q = u8::from(w >= 0.0);
            }
            return;
        }
        let (before, low, high) = self.bounds(scheme);
        if self.scale == 0.0 {
            return codes.fill((rne(before) - low).min(high - low) as u8);
        }
        let base = (INTEGER + low).to_bits();
        for (&w, q) in w.iter().zip(codes) {
            let level = (w / self.scale + before).clamp(low, high);
            *q = (level + INTEGER).to_bits().wrapping_sub(base) as u8;
        }
    }

    /// As [`Grid::encode`], with a book.
    #[inline(always)]
    fn look_up(&self, w: &[f32], codes: &mut [u8], nearest: &Nearest) {
        let (chunks, rest) = w.as_chunks::<AT_ONCE>();
        let (to, last) = codes.as_chunks_mut::<AT_ONCE>();
        for (w, codes) in chunks.iter().zip(to) {
            *codes = nearest.codes(&self.scaled(*w));
        }
        for (&w, q) in rest.iter().zip(last) {
            [*q] = nearest.codes(&self.scaled([w]));
        }
    }

    /// Weights over the scale; 0 where that is 0.
    #[inline(always)]
    fn scaled<const N: usize>(&self, mut w: [f32; N]) -> [f32; N] {
        for w in &mut w {
            *w = if self.scale == 0.0 { 0.0 } else { *w / self.scale };
        }
        w
    }

    /// As [`Grid::squared_error`], with a book; one sum.
    #[inline(always)]
    fn squared_error_in(&self, w: &[f32], book: &CodeBook, nearest: &Nearest) -> f64 {
        let mut sum = 0.0;
        let mut codes = [0; AT_ONCE];
        for w in w.chunks(AT_ONCE) {
            self.look_up(w, &mut codes[..w.len()], nearest);
            for (&w, &q) in w.iter().zip(&codes) {
                let level = book.levels()[usize::from(q)];
                let e = f64::from(self.scale) * f64::from(level) - f64::from(w);
                sum += e * e;
            }
        }
        sum
    }

    /// `Σ (s·(q − z) − w)²` of the codes that [`Grid::encode`] would choose, in eight interleaved partial sums.
    #[inline(always)]
    fn squared_error(&self, w: &[f32], scheme: &Scheme) -> f64 {
        const LANES: usize = 8;
        let (before, low, high) = self.bounds(scheme);
        let s = self.scale;
        let one = |w: f32| {
            let q = (w / s + before).clamp(low, high) + INTEGER - INTEGER;
            let e = f64::from(s) * (f64::from(q) - f64::from(before)) - f64::from(w);
            e * e
        };
        let mut sums = [0f64; LANES];
        let (chunks, rest) = w.as_chunks::<LANES>();
        for chunk in chunks {
            for (sum, &w) in sums.iter_mut().zip(chunk) {
                *sum += one(w);
            }
        }
        for (sum, &w) in sums.iter_mut().zip(rest) {
            *sum += one(w);
        }
        sums.iter().sum()
    }
}

/// The grid of one group.
#[inline(always)]
fn fit(w: &[f32], scheme: &Scheme, nearest_level: Option<&Nearest>) -> Grid {
    if scheme.is_sign_only() {
        let sum: f64 = w.iter().map(|w| f64::from(w.abs())).sum();
        let mean = (sum / w.len().max(1) as f64) as f32;
        let scale = stored(mean, scheme.scale);
        return Grid { scale, zero: 1.0 };
    }
    let (lo, hi) = extremes(w);
    let nearest = grid(lo, hi, 1.0, scheme);
    if scheme.rounding == Rounding::Nearest || nearest.scale == 0.0 || !nearest.scale.is_finite() {
        return nearest;
    }
    let error = |grid: &Grid| match (&scheme.book, nearest_level) {
        (Some(book), Some(nearest)) => grid.squared_error_in(w, book, nearest),
        _ => grid.squared_error(w, scheme),
    };
    let mut best = (error(&nearest), nearest);
    let mut consider = |candidate: Grid| {
        let error = error(&candidate);
        if error < best.0 {
            best = (error, candidate);
        }
    };
    for percent in (10..=100).rev().step_by(2) {
        let p = f64::from(percent) / 100.0;
        if percent < 100 {
            consider(grid(lo, hi, p, scheme));
        }
        if scheme.zero == ZeroPoint::Symmetric && scheme.book.is_none() {
            let extreme = if hi > -lo { -hi } else { -lo };
            let scale = scale_of(f64::from(extreme) * p, 1 << (scheme.bits - 1), scheme.scale);
            consider(Grid { scale, ..nearest });
        }
    }
    best.1
}

/// Least and largest weight; (0, 0) of none.
#[inline(always)]
fn extremes(w: &[f32]) -> (f32, f32) {
    const LANES: usize = 16;
    let Some(&first) = w.first() else { return (0.0, 0.0) };
    let (mut lo, mut hi) = ([first; LANES], [first; LANES]);
    let (chunks, rest) = w.as_chunks::<LANES>();
    for chunk in chunks {
        for i in 0..LANES {
            lo[i] = if chunk[i] < lo[i] { chunk[i] } else { lo[i] };
        }
    }
    for chunk in chunks {
        for i in 0..LANES {
            hi[i] = if chunk[i] > hi[i] { chunk[i] } else { hi[i] };
        }
    }
    let lo = lo.iter().chain(rest).fold(first, |a, &b| if b < a { b } else { a });
    (lo, hi.iter().chain(rest).fold(first, |a, &b| if b > a { b } else { a }))
}

/// The grid over the group's range `lo..=hi`, shrunk by the factor `p`.
fn grid(lo: f32, hi: f32, p: f64, scheme: &Scheme) -> Grid {
    let max = u32::from(scheme.max_code());
    let (lo, hi) = (f64::from(lo), f64::from(hi));
    if let Some(book) = &scheme.book {
        return Grid {
            scale: book_scale(lo * p, hi * p, book, scheme.scale),
            zero: f32::from(book.zero()),
        };
    }
    let over = |lo: f64, hi: f64| (scale_of((hi - lo) * p, max, scheme.scale), (0.0 - lo * p) as f32);
    let levels = (max + 1) as f32;
    if scheme.zero == ZeroPoint::Symmetric {
        let zero = levels / 2.0;
        let scale = scale_of(hi.max(-lo) * p, (1 << (scheme.bits - 1)) - 1, scheme.scale);
        return Grid { scale, zero };
    }
    if scheme.zero == ZeroPoint::Float {
        let (scale, below) = over(lo, hi);
        let zero = stored(below / scale, scheme.scale);
        if (0.0..=levels).contains(&zero) {
            return Grid { scale, zero };
        }
    }
    let (scale, below) = over(lo.min(0.0), hi.max(0.0));
    let zero = if scale == 0.0 { 0.0 } else { below / scale };
    let zero = match scheme.zero {
        ZeroPoint::Float => stored(zero, scheme.scale),
        _ => rne(zero),
    };
    let zero = zero.clamp(0.0, levels);
    Grid { scale, zero }
}

/// The scale of a book for the range `lo..=hi`.
fn book_scale(lo: f64, hi: f64, book: &CodeBook, width: ScaleType) -> f32 {
    let (least, largest) = book.range();
    if book.is_microscaling() {
        let amax = hi.max(-lo) as f32;
        if amax == 0.0 {
            return 0.0;
        }
        let top = largest.unsigned_abs().max(least.unsigned_abs()).max(1).ilog2();
        return scale_of(power((exponent(amax) - top as i32).max(-128)).into(), 1, width);
    }
    let reach = |end: f64, level: i8| if level == 0 { 0.0 } else { end / f64::from(level) };
    let above = reach(hi.max(0.0), largest.max(0));
    scale_of(above.max(reach(lo.min(0.0), least.min(0))), 1, width)
}

/// `⌊log2 x⌋` of a positive x.
fn exponent(x: f32) -> i32 {
    match x.to_bits() >> 23 {
        0 => 31 - x.to_bits().leading_zeros() as i32 - 149,
        biased => biased as i32 - 127,
    }
}
