//! The arithmetic contract, from its text alone: activations to integers, group sums and the fold, over exact rationals.

use crate::rational::{F32, add, div, exact, fma, mul, power_of_two, round, round_to_integer};
use dashu::rational::RBig;
use mixgemm::{Group, Mode, QuantMatrix, Zeros};

/// A row of activations as the oracle sees it: integers (values in `exact`), a factor per group and one per row.
pub(crate) struct Row {
    pub(crate) a: Vec<RBig>,
    pub(crate) factors: Vec<f32>,
    pub(crate) row_scale: Option<f32>,
}

fn largest(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |m, x| x.abs().max(m))
}

fn negligible(amax: f32) -> bool {
    exact(f64::from(amax)) < power_of_two(-100)
}

/// Section 2 of the contract for one row of finite inputs; `None` where it says that the input is an error.
pub(crate) fn activations(x: &[f32], mode: Mode, group: usize) -> Option<Row> {
    let groups = x.len().div_ceil(group);
    let mut row = Row {
        a: Vec::new(),
        factors: vec![1.0; groups],
        row_scale: None,
    };
    let eight_bits = |x: &[f32]| -> (f32, Vec<RBig>) {
        let amax = largest(x);
        if negligible(amax) {
            return (0.0, vec![RBig::ZERO; x.len()]);
        }
        let inverse = div(127.0, amax);
        let code = |x: &f32| round_to_integer(&exact(f64::from(mul(*x, inverse)))).clamp(-127, 127);
        (div(amax, 127.0), x.iter().map(|x| RBig::from(code(x))).collect())
    };
    match mode {
        Mode::A8 => {
            for (g, x) in x.chunks(group).enumerate() {
                let (t, a) = eight_bits(x);
                row.factors[g] = t;
                row.a.extend(a);
            }
        }
        Mode::A8Row => {
            let (t, a) = eight_bits(x);
            (row.row_scale, row.a) = (Some(t), a);
        }
        Mode::A8Static { scale, saturate } => {
            for &x in x {
                let quotient = div(x, scale);
                let v = if quotient.abs() < 1e9 {
                    round_to_integer(&exact(f64::from(quotient)))
                } else {
                    1 << 23
                };
                if v.abs() >= 1 << 23 || (v.abs() > 127 && !saturate) {
                    return None;
                }
                row.a.push(RBig::from(v.clamp(-127, 127)));
            }
            row.row_scale = Some(scale);
        }
        Mode::A16 => {
            for (g, x) in x.chunks(group).enumerate() {
                let amax = exact(f64::from(largest(x)));
                if negligible(largest(x)) {
                    row.factors[g] = 0.0;
                    row.a.extend(x.iter().map(|_| RBig::ZERO));
                    continue;
                }
                let fits = |e: i64| round_to_integer(&(amax.clone() * power_of_two(-e))) <= 32_639;
                let mut e = 127;
                while fits(e - 1) {
                    e -= 1;
                }
                row.factors[g] = round(&power_of_two(e), F32) as f32;
                row.a.extend(
                    x.iter()
                        .map(|&x| RBig::from(round_to_integer(&(exact(f64::from(x)) * power_of_two(-e))))),
                );
            }
        }
        Mode::Exact => row.a = x.iter().map(|&x| exact(f64::from(x))).collect(),
        Mode::A8Given => unreachable!("has integers of its own"),
        Mode::Native => unreachable!("is not defined"),
    }
    Some(row)
}

/// `Σ a·(q − z0)` and `Σ a` of one group, or `Σ a·(2q − 1)`, or `Σ a·v` of the levels of a book; and `f = z − z0`.
pub(crate) fn sums(w: &QuantMatrix, a: &[RBig], n: usize, g: usize, index: usize) -> (RBig, RBig, f32) {
    let bits = w.scheme().bits;
    let (zero, fraction) = match w.zeros() {
        Zeros::Symmetric if w.scheme().book.is_some() => (0, 0.0),
        Zeros::Symmetric => (1i64 << (bits - 1), 0.0),
        Zeros::Integer(z) => (i64::from(z[index]), 0.0),
        Zeros::Float(z) => {
            let z = z.get(index);
            let nearest = round_to_integer(&exact(f64::from(z))).clamp(0, 1 << bits);
            (nearest, add(z, -(nearest as f32)))
        }
    };
    let range = w.group_range(g);
    let (mut t, mut b) = (RBig::ZERO, RBig::ZERO);
    for (&q, a) in w.code_row(n)[range.clone()].iter().zip(&a[range]) {
        let one_bit = bits == 1 && *w.zeros() == Zeros::Symmetric;
        let level = if let Some(book) = w.scheme().book {
            i64::from(book.levels()[usize::from(q)])
        } else if one_bit {
            2 * i64::from(q) - 1
        } else {
            i64::from(q) - zero
        };
        t += RBig::from(level) * a;
        b += a;
    }
    (t, b, fraction)
}

pub(crate) fn f32_of(r: &RBig) -> f32 {
    round(r, F32) as f32
}

/// Section 3 of the contract, up to the epilogue.
pub(crate) fn fold(w: &QuantMatrix, row: &Row, mode: Mode, n: usize, mut y: f32) -> f32 {
    for g in 0..w.groups() {
        let index = if w.scheme().group == Group::Tensor {
            0
        } else {
            n * w.groups() + g
        };
        let s = w.scales().get(index);
        let (t, b, f) = sums(w, &row.a, n, g, index);
        let per_group = matches!(mode, Mode::A8 | Mode::A16);
        let factor = |v: f32| if per_group { mul(v, row.factors[g]) } else { v };
        y = fma(f32_of(&t), factor(s), y);
        if f != 0.0 {
            y = fma(f32_of(&b), factor(-mul(s, f)), y);
        }
    }
    y
}

/// The value of an f16, from its bits.
pub(crate) fn decode_f16(bits: u16) -> f32 {
    let (field, fraction) = (i32::from(bits >> 10 & 31), f32::from(bits & 0x3FF));
    let magnitude = match field {
        0 => fraction * 2f32.powi(-24),
        _ => (fraction + 1024.0) * 2f32.powi(field - 25),
    };
    if bits >> 15 == 1 { -magnitude } else { magnitude }
}
