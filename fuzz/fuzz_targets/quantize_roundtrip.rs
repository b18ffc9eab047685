//! The quantiser on any floats: its codes and scales are in their domains, its errors within the bounds below, its
//! refusals the documented ones; and a matrix is its parts.
//!
//! Bounds of rounding to nearest. Let a grid have the scale s, the zero point z and the codes 0 to M, and let
//! `u(s)` be half the distance of neighbouring scales at their stored width. A weight between the grid's ends is at most
//! half a step from its level. Only rounding puts a weight outside: s, times at most M steps, may be smaller by u(s) than
//! the range asks for, and the zero point may be off by ζ steps: 0 for symmetric weights, 1/2 for integers, half the
//! distance of neighbouring zero points for stored floats. A weight outside gets the code at the end of the grid. So
//!
//! ```text
//! |s·(q − z) − w| ≤ max(s/2, M·u(s) + s·ζ)
//! ```
//!
//! where the f32 arithmetic of choosing a code adds less than a thousandth. One symmetric bit has no grid: s is the mean
//! magnitude within u(s), and the code is the sign. Clip search promises a squared error that is not above this one's.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use mixgemm::{Element, Error, MatRef, QuantMatrix, Result, Rounding, ScaleType, Scheme, ZeroPoint, bf16, f16};
use mixgemm_fuzz::weights::{AnyScheme, Width};
use mixgemm_fuzz::words::{Words, up_to};

#[derive(Debug, Arbitrary)]
struct Case {
    #[arbitrary(with = up_to::<9>)]
    n: usize,
    #[arbitrary(with = up_to::<79>)]
    k: usize,
    #[arbitrary(with = up_to::<3>)]
    gap: usize,
    scheme: AnyScheme,
    width: Width,
    values: Words,
}

/// Half the distance of x from its larger neighbour at a stored width.
fn half_ulp(x: f32, width: ScaleType) -> f64 {
    let (digits, least) = match width {
        ScaleType::F32 => (24, -149),
        ScaleType::F16 => (11, -24),
        ScaleType::Bf16 => (8, -133),
    };
    let exponent = f64::from(x).abs().max(f64::MIN_POSITIVE).log2().floor() as i32;
    2f64.powi((exponent + 1 - digits).max(least) - 1)
}

/// `s·(q − z)` of a weight without rounding; `2q − 1` for one symmetric bit, the level of q in a book.
fn weight(q: &QuantMatrix, n: usize, k: usize, g: usize) -> f64 {
    let code = f64::from(q.code_row(n)[k]);
    let level = if let Some(book) = q.scheme().book {
        f64::from(book.levels()[usize::from(q.code_row(n)[k])])
    } else if q.scheme().is_sign_only() {
        2.0 * code - 1.0
    } else {
        code - f64::from(q.zero(n, g))
    };
    f64::from(q.scale(n, g)) * level
}

fn squared_error(q: &QuantMatrix, w: MatRef<'_, f32>) -> f64 {
    let group = q.scheme().group_length(q.k()).max(1);
    let rows = (0..q.n()).flat_map(|n| (0..q.k()).map(move |k| (n, k)));
    rows.map(|(n, k)| (weight(q, n, k, k / group) - f64::from(w.row(n)[k])).powi(2))
        .sum()
}

fn check_domains(q: &QuantMatrix) {
    let (scheme, max) = (*q.scheme(), q.scheme().max_code());
    assert!(q.codes().iter().all(|&code| code <= max), "a code above {max}");
    for i in 0..q.scales().len() {
        assert!(q.scales().get(i).is_finite(), "scale {i}");
    }
    for (n, g) in (0..q.n()).flat_map(|n| (0..q.groups()).map(move |g| (n, g))) {
        let z = q.zero(n, g);
        assert!(
            scheme.book.is_some() || (0.0..=f32::from(max) + 1.0).contains(&z),
            "zero point {z} of group ({n}, {g})"
        );
    }
    let parts = (q.codes().to_vec(), q.scales().clone(), q.zeros().clone());
    let again = QuantMatrix::from_parts(scheme, q.n(), q.k(), parts.0, parts.1, parts.2).expect("parts of a matrix");
    assert_eq!(&again, q, "a matrix of its parts");
}

/// The bound at the top of this file for one group; `weights` are the group's, in (n, k) order.
fn check_nearest(q: &QuantMatrix, w: MatRef<'_, f32>) {
    let scheme = *q.scheme();
    let group = scheme.group_length(q.k()).max(1);
    for n in 0..q.n() {
        for (k, &w) in w.row(n).iter().enumerate() {
            let (g, code) = (k / group, q.code_row(n)[k]);
            let (scale, z) = (q.scale(n, g), q.zero(n, g));
            if scheme.is_sign_only() {
                assert_eq!(code == 1, w >= 0.0, "the sign of {w} at ({n}, {k})");
                continue;
            }
            let s = f64::from(scale);
            if let Some(book) = scheme.book {
                let distance = |v: f64| (s * v - f64::from(w)).abs();
                let nearest = book.levels().iter().map(|&v| distance(v.into()));
                let (found, bound) = (distance(weight(q, n, k, g) / s), nearest.fold(f64::MAX, f64::min));
                let rounding = f64::from(w).abs() * 2f64.powi(-22) + s * 2f64.powi(-16);
                assert!(
                    s == 0.0 || found <= bound + rounding,
                    "{w:e} at ({n}, {k}) is off by {found:e}"
                );
                continue;
            }
            assert!(s >= 0.0, "scale {s} of group ({n}, {g})");
            let zeta = match scheme.zero {
                ZeroPoint::Symmetric => 0.0,
                ZeroPoint::Integer => 0.5,
                ZeroPoint::Float => half_ulp(z, scheme.scale),
            };
            let outside = f64::from(scheme.max_code()) * half_ulp(scale, scheme.scale) + s * zeta;
            // A group of zeros has scale 0 and no error.
            let bound = if s == 0.0 { 0.0 } else { (s / 2.0).max(outside) * 1.001 };
            let error = (weight(q, n, k, g) - f64::from(w)).abs();
            assert!(
                error <= bound,
                "{w:e} at ({n}, {k}) is off by {error:e}, bound {bound:e}"
            );
        }
    }
}

/// One symmetric bit: scales are mean magnitudes.
fn check_means(q: &QuantMatrix, w: MatRef<'_, f32>) {
    let scheme = *q.scheme();
    let check = |scale: f32, sum: f64, count: usize| {
        let mean = sum / count.max(1) as f64;
        let error = (f64::from(scale) - mean).abs();
        assert!(
            error <= half_ulp(scale, scheme.scale) * 1.001,
            "scale {scale:e} for the mean {mean:e}"
        );
    };
    let sum = |w: &[f32]| w.iter().map(|w| f64::from(w.abs())).sum::<f64>();
    if scheme.group == mixgemm::Group::Tensor {
        let total = (0..q.n()).map(|n| sum(w.row(n))).sum();
        return check(q.scales().get(0), total, q.n() * q.k());
    }
    for (n, g) in (0..q.n()).flat_map(|n| (0..q.groups()).map(move |g| (n, g))) {
        let range = q.group_range(g);
        check(q.scale(n, g), sum(&w.row(n)[range.clone()]), range.len());
    }
}

/// The dequantised floats are those of the codes, but for two roundings.
fn check_dequantized(q: &QuantMatrix) {
    let group = q.scheme().group_length(q.k()).max(1);
    let floats = q.dequantize();
    for n in 0..q.n() {
        for (k, &found) in floats.view().row(n).iter().enumerate() {
            let exact = weight(q, n, k, k / group);
            let error = (f64::from(found) - exact).abs();
            let fits = exact.abs() <= f64::from(f32::MAX);
            let bound = exact.abs() * 2f64.powi(-22) + 2f64.powi(-149);
            assert!(!fits || error <= bound, "{found:e} for {exact:e}");
        }
    }
}

/// Whether a refusal is one of those documented.
fn check_refusal(error: &Error, case: &Case, scheme: Scheme, w: MatRef<'_, f32>) {
    let Error::Value { argument, .. } = error else {
        panic!("not a value: {error}")
    };
    let finite = (0..case.n).all(|n| w.row(n).iter().all(|w| w.is_finite()));
    let largest = (0..case.n).flat_map(|n| w.row(n)).fold(0f32, |m, w| m.max(w.abs()));
    let steps = match scheme.book {
        // The largest level may be 1.
        Some(_) => 1.0,
        None => f64::from((scheme.max_code() / 2).max(1)),
    };
    let widest = match scheme.scale {
        ScaleType::F16 => 65_504.0,
        _ => 3.38e38,
    };
    let allowed = match *argument {
        "bits" | "group" => !case.scheme.is_valid(),
        "weights" => !finite,
        // Twice the largest weight is the widest range there can be.
        "scales" => 2.0 * f64::from(largest) / steps >= widest,
        _ => false,
    };
    assert!(allowed, "{error}");
}

fn quantize<T: Element>(values: &[f32], case: &Case, scheme: Scheme) -> Result<QuantMatrix> {
    let values: Vec<T> = values.iter().map(|&x| T::from_f32(x)).collect();
    let view = MatRef::with_stride(&values, case.n, case.k, case.k + case.gap)?;
    QuantMatrix::quantize(view, scheme)
}

fuzz_target!(|case: Case| {
    let scheme = case.scheme.scheme();
    let mut words = case.values.stream();
    let len = case.n * (case.k + case.gap);
    let values: Vec<f32> = (0..len).map(|_| words.float(case.width.into())).collect();
    let w = MatRef::with_stride(&values, case.n, case.k, case.k + case.gap).expect("a row of values for every row");
    let q = quantize::<f32>(&values, &case, scheme);
    match case.width {
        Width::F32 => {}
        Width::F16 => assert_eq!(quantize::<f16>(&values, &case, scheme), q, "f16 weights"),
        Width::Bf16 => assert_eq!(quantize::<bf16>(&values, &case, scheme), q, "bf16 weights"),
    }
    let q = match q {
        Ok(q) => q,
        Err(error) => return check_refusal(&error, &case, scheme, w),
    };
    assert!(case.scheme.is_valid() && (0..case.n).all(|n| w.row(n).iter().all(|w| w.is_finite())));
    check_domains(&q);
    check_dequantized(&q);
    if scheme.is_sign_only() {
        check_means(&q, w);
    }
    if scheme.rounding == Rounding::Nearest {
        check_nearest(&q, w);
    } else {
        let nearest = Scheme {
            rounding: Rounding::Nearest,
            ..scheme
        };
        let nearest = quantize::<f32>(&values, &case, nearest).expect("what clip search takes");
        let (found, bound) = (squared_error(&q, w), squared_error(&nearest, w));
        assert!(
            found <= bound * (1.0 + 1e-9),
            "clip search: {found:e}, nearest: {bound:e}"
        );
    }
});
