//! Floor 3: the definition. Plain loops over integer codes with wide integers, one rounding per group; no packing, no
//! vectors, no threads. Every backend equals these functions bit for bit.
//!
//! For every group in ascending order of k, with y starting at +0 and `a` the integers of
//! [`integer_row`]:
//!
//! ```text
//! D = Σ q·a     B = Σ a                             exact; 2D − B for one symmetric bit; a book's v + z in place of q
//! T = rne_f32(D − z0·B)                             one rounding (exact: of the value in units of 2^-24)
//! y = fma(T, rne_f32(s·t), y)                       a8, a16
//! y = fma(T, s, y)                                  the other modes; their t belongs to the epilogue
//! y = fma(rne_f32(B), rne_f32(o·t), y)              float zero points with f = z − z0 ≠ 0, o = −rne_f32(s·f)
//! ```
#![forbid(unsafe_code)]

use crate::base::error::Result;
use crate::base::float::{canonical, fma, pow2};
use crate::base::view::MatMut;
use crate::epilogue::{Epilogue, Output};
use crate::quant::activation::{IntegerRow, integer_row};
use crate::quant::input::{Activations, Mode};
use crate::quant::matrix::QuantMatrix;
use crate::quant::sums::{GroupSums, WeightShape};
use alloc::{vec, vec::Vec};
use core::borrow::Borrow;

/// `D − z0·B` (`2D − B` for one symmetric bit) of one row, group and column.
fn group_sum(w: &QuantMatrix, a: &[i64], n: usize, g: usize) -> i128 {
    let range = w.group_range(g);
    let d: i128 = w
        .carried(n, range.clone())
        .zip(&a[range.clone()])
        .map(|(q, &a)| i128::from(q) * i128::from(a))
        .sum();
    let b: i128 = a[range].iter().map(|&a| i128::from(a)).sum();
    if w.scheme().is_sign_only() {
        2 * d - b
    } else {
        d - i128::from(w.zero_int(n, g)) * b
    }
}

/// Continues `y` over all groups of one output.
fn fold(w: &QuantMatrix, x: &IntegerRow, mode: Mode, n: usize, mut y: f32) -> f32 {
    for g in 0..w.groups() {
        let (s, t) = (w.scale(n, g), x.factors[g]);
        let unit = if mode == Mode::Exact { pow2(-24) } else { 1.0 };
        let sum = group_sum(w, &x.integers, n, g) as f32 * unit;
        let scaled = |v: f32| if mode.scales_per_group() { v * t } else { v };
        y = fma(sum, scaled(s), y);
        let f = w.zero_fraction(n, g);
        if f != 0.0 {
            let b: i128 = x.integers[w.group_range(g)].iter().map(|&a| i128::from(a)).sum();
            y = fma(b as f32 * unit, scaled(-(s * f)), y);
        }
    }
    y
}

/// The output of a row with non-finite inputs: `Σ x·sign(s)·sign(q − z)` over those inputs, where `0·∞` is NaN.
#[must_use]
pub fn non_finite_sum(
    inputs: impl IntoIterator<Item = impl Borrow<(usize, f32)>>,
    mut sign: impl FnMut(usize) -> f32,
) -> f32 {
    inputs.into_iter().fold(0.0, |y, input| {
        let &(k, x) = input.borrow();
        y + x * sign(k)
    })
}

/// `sign(s)·sign(q − z)` as −1, 0 or 1 (a zero of either factor gives 0).
#[must_use]
pub fn weight_sign(q: u8, z: f32, s: f32) -> f32 {
    let sign = |v: f32| {
        if v > 0.0 {
            1.0
        } else {
            f32::from(i8::from(v >= 0.0) - 1)
        }
    };
    sign(s) * sign(f32::from(q) - z)
}

fn sum_row(w: &QuantMatrix, x: &IntegerRow, mode: Mode, y: &mut [f32]) {
    let group = w.scheme().group_length(w.k()).max(1);
    for (n, y) in y.iter_mut().enumerate() {
        *y = canonical(if x.non_finite.is_empty() {
            fold(w, x, mode, n, *y)
        } else {
            let special = non_finite_sum(&x.non_finite, |k| {
                let q = w.scheme().carried(w.code_row(n)[k]);
                weight_sign(q, w.zero(n, k / group), w.scale(n, k / group))
            });
            *y + special
        });
    }
}

/// The rows as integers; none where there are no outputs.
fn rows<'a>(w: &'a QuantMatrix, x: Activations<'a>, mode: Mode) -> impl Iterator<Item = Result<IntegerRow>> + 'a {
    let group = w.scheme().group_length(w.k()).max(1);
    let rows = if w.n() == 0 { 0 } else { x.shape().0 };
    (0..rows).map(move |m| integer_row(x.row(m), mode, group))
}

/// `Y = epilogue(X · Wᵀ)`.
///
/// ```
/// use mixgemm::{Epilogue, Mat, Mode, QuantMatrix, Scheme, reference};
/// let w = QuantMatrix::quantize(Mat::from_fn(3, 8, |n, k| (n + k) as f32 - 5.0).view(), Scheme::int(8))?;
/// let x = Mat::from_fn(2, 8, |m, k| (m * k) as f32);
/// let mut y = Mat::<f32>::zeros(2, 3);
/// reference::run(&w, x.view().into(), Mode::A16, &Epilogue::new(), y.view_mut().into())?;
/// assert!((y.view().row(1)[0] - 0.0).abs() < 0.5);
/// # Ok::<(), mixgemm::Error>(())
/// ```
///
/// # Errors
/// As [`Backend::run`](crate::Backend::run).
pub fn run(w: &QuantMatrix, x: Activations<'_>, mode: Mode, epilogue: &Epilogue<'_>, mut y: Output<'_>) -> Result<()> {
    x.check(mode, w.k(), w.scheme())?;
    epilogue.check(x.shape().0, w.n())?;
    y.check(x.shape().0, w.n())?;
    let mut sums: Vec<f32> = vec![0.0; w.n()];
    for (m, row) in rows(w, x, mode).enumerate() {
        let row = row?;
        sums.fill(0.0);
        sum_row(w, &row, mode, &mut sums);
        epilogue.finish(&mut sums, m, 0, row.row_scale);
        y.store(m, 0, &sums);
    }
    Ok(())
}

/// Continues the fold from `y`, without the epilogue.
///
/// # Errors
/// As [`Backend::accumulate`](crate::Backend::accumulate).
pub fn accumulate(w: &QuantMatrix, x: Activations<'_>, mode: Mode, mut y: MatMut<'_, f32>) -> Result<()> {
    x.check(mode, w.k(), w.scheme())?;
    Output::F32(y.reborrow()).check(x.shape().0, w.n())?;
    for (m, row) in rows(w, x, mode).enumerate() {
        sum_row(w, &row?, mode, y.row_mut(m));
        y.row_mut(m).iter_mut().for_each(|y| *y = canonical(*y));
    }
    Ok(())
}

/// The integers `D − z0·B` of every (row, group, column).
///
/// # Errors
/// As [`Backend::group_sums`](crate::Backend::group_sums).
pub fn group_sums(w: &QuantMatrix, x: Activations<'_>, mode: Mode, mut sums: GroupSums<'_>) -> Result<()> {
    x.check(mode, w.k(), w.scheme())?;
    sums.check(x.shape().0, &WeightShape::from(w), mode)?;
    for (m, row) in rows(w, x, mode).enumerate() {
        let row = row?;
        for g in 0..w.groups() {
            for n in 0..w.n() {
                sums.set(
                    (m * w.groups() + g) * w.n() + n,
                    group_sum(w, &row.integers, n, g) as i64,
                );
            }
        }
    }
    Ok(())
}
