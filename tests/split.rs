//! The typed trait composes: an outlier split around any backend gives the bits of the product that was never split.
#![forbid(unsafe_code)]
#![cfg(feature = "testing")]

use mixgemm::base::float::{fma, rne};
use mixgemm::testing::{Draw, weights};
use mixgemm::{
    Activation, Activations, Backend, Epilogue, GroupSums, Host, Isa, Mat, MixPe, Mode, Output, QuantMatrix, Result,
    ScaleType, Scheme, ZeroPoint, f16, reference,
};

/// Cuts `v = rne(x/t)` into `c = clamp(v, ±127)`, which the wrapped backend multiplies, and `r = v − c`, which this one
/// does. Both hand back integers, so their sum is rounded once.
struct Split<B>(B);

/// Weights for both paths.
struct Both<P> {
    clamped: P,
    rest: QuantMatrix,
}

impl<B: Backend> Split<B> {
    fn prepare(&self, w: &QuantMatrix) -> Result<Both<B::Prepared>> {
        Ok(Both {
            clamped: self.0.prepare(w)?,
            rest: w.clone(),
        })
    }

    fn run(
        &self,
        w: &Both<B::Prepared>,
        x: &Mat<f32>,
        t: f32,
        epilogue: &Epilogue<'_>,
        mut y: Output<'_>,
    ) -> Result<()> {
        let ((m, k), (n, groups)) = ((x.rows(), x.cols()), (w.rest.n(), w.rest.groups()));
        let value = |r: usize, c: usize| rne(x.view().row(r)[c] / t) as i64;
        let clamped = Mat::from_fn(m, k, |r, c| value(r, c).clamp(-127, 127) as i8);
        let rest = |r: usize, c: usize| value(r, c) - i64::from(clamped.view().row(r)[c]);
        let mut sums = vec![0i64; m * groups * n];
        let given = Activations::int8(clamped.view(), t);
        let out = GroupSums::I64(&mut sums);
        self.0.group_sums(&w.clamped, given, Mode::A8Given, out)?;
        for r in 0..m {
            let mut row = vec![0.0; n];
            for (g, column) in (0..groups).flat_map(|g| (0..n).map(move |c| (g, c))) {
                let y = &mut row[column];
                let inputs = || w.rest.group_range(g);
                let level = |k: usize| i64::from(w.rest.level(column, k));
                let outliers: i64 = inputs().map(|k| level(k) * rest(r, k)).sum();
                let total = sums[(r * groups + g) * n + column] + outliers;
                let (s, f) = (w.rest.scale(column, g), w.rest.zero_fraction(column, g));
                *y = fma(total as f32, s, *y);
                if f != 0.0 {
                    let all: i64 = inputs().map(|k| value(r, k)).sum();
                    *y = fma(all as f32, -(s * f), *y);
                }
            }
            epilogue.finish(&mut row, r, 0, Some(t));
            y.store(r, 0, &row);
        }
        Ok(())
    }
}

/// The product with the integers as they are: `Σ s·rne(Σ (q − z)·v)`, scaled, biased, ReLU.
fn unclamped(w: &QuantMatrix, x: &Mat<f32>, t: f32, bias: &[f32]) -> Vec<f32> {
    let mut out = Vec::new();
    for r in 0..x.rows() {
        for (n, bias) in bias.iter().enumerate() {
            let mut y = 0.0f32;
            for g in 0..w.groups() {
                let (s, range) = (w.scale(n, g), w.group_range(g));
                let v: Vec<i64> = x.view().row(r)[range.clone()]
                    .iter()
                    .map(|x| (x / t).round_ties_even() as i64)
                    .collect();
                let b: i64 = v.iter().sum();
                let d: i64 = w.code_row(n)[range]
                    .iter()
                    .zip(&v)
                    .map(|(&q, v)| i64::from(q) * v)
                    .sum();
                let corrected = if w.scheme().is_sign_only() {
                    2 * d - b
                } else {
                    d - i64::from(w.zero_int(n, g)) * b
                };
                y = (corrected as f32).mul_add(s, y);
                let f = w.zero(n, g) - w.zero_int(n, g) as f32;
                if f != 0.0 && w.scheme().zero == ZeroPoint::Float {
                    y = (b as f32).mul_add(-(s * f), y);
                }
            }
            let y = y * t + bias;
            out.push(if y < 0.0 { 0.0 } else { y });
        }
    }
    out
}

const T: f32 = 0.0625;

/// Rows of their own kind each, in units of T: no outliers, the edges of the clamp, a few large ones, nothing else.
fn inputs(draw: &mut Draw, k: usize) -> Mat<f32> {
    Mat::from_fn(11, k, |r, c| {
        let small = draw.below(255) as f32 - 127.0;
        let v = match (r, c % 9) {
            (0, _) => small,
            (1, i) => [127.0, 128.0, -127.0, -128.0, 127.5, -127.5, 126.5, 0.5, -0.5][i],
            (2, 4) => 200.0,
            (3, 4) => -200.0,
            (4, 7) => 30_000.0,
            (5, 7) => -30_000.0,
            (6, i) => [30_000.0, -30_000.0, 8_000_000.0][i % 3],
            (7, _) => 128.0 + small.abs(),
            (8, _) => 0.0,
            (9, 0) => 4_194_303.0,
            _ => small + 0.25,
        };
        v * T
    })
}

fn check<B: Backend>(name: &str, backend: B) {
    let draw = &mut Draw::new(91);
    let max_bits = backend.capabilities().max_bits;
    let split = Split(backend);
    for (bits, k) in [(4u8, 70), (1, 33), (8, 100), (3, 64)] {
        for zero in [ZeroPoint::Symmetric, ZeroPoint::Integer, ZeroPoint::Float] {
            let scheme = Scheme {
                zero,
                ..Scheme::int(bits).scales(ScaleType::F32)
            };
            if bits > max_bits {
                continue;
            }
            for scheme in [scheme.per_tensor(), scheme.per_channel(), scheme.group(16)] {
                let w = weights(draw, scheme, 37, k);
                let x = inputs(draw, k);
                let bias: Vec<f32> = (0..37).map(|n| n as f32 * 3.0 - 50.0).collect();
                let epilogue = Epilogue::new().bias(&bias).activation(Activation::Relu);
                let mut y = Mat::<f32>::zeros(x.rows(), 37);
                let both = split.prepare(&w).unwrap();
                split.run(&both, &x, T, &epilogue, y.view_mut().into()).unwrap();
                let expected = unclamped(&w, &x, T, &bias);
                for (i, (y, e)) in y.data().iter().zip(&expected).enumerate() {
                    assert_eq!(
                        y.to_bits(),
                        e.to_bits(),
                        "{name} {scheme:?} row {} column {}",
                        i / 37,
                        i % 37
                    );
                }
                // Rows without outliers are the wrapped backend's own `a8static`.
                let calm = x.view().sub_rows(0, 1).unwrap();
                let mode = Mode::A8Static {
                    scale: T,
                    saturate: false,
                };
                let mut alone = Mat::<f32>::zeros(1, 37);
                let out = alone.view_mut().into();
                split.0.run(&both.clamped, calm.into(), mode, &epilogue, out).unwrap();
                assert_eq!(alone.data(), &expected[..37], "{name} {scheme:?}");
            }
        }
    }
}

#[test]
fn a_split_around_any_backend_gives_the_bits_of_the_unclamped_product() {
    for isa in Isa::ALL.into_iter().filter(|isa| isa.supported()) {
        check(isa.name(), Host::new().isa(isa).unwrap());
    }
    check("mixpe", MixPe::w4a8());
}

/// The float outlier part: columns that stay f16 continue the fold after the last group, in ascending k.
fn check_float_outliers<B: Backend>(name: &str, backend: &B, mode: Mode) {
    let (m, n, k) = (6, 35, 64);
    let draw = &mut Draw::new(92);
    let w = weights(draw, Scheme::int(4).group(16).asymmetric(), n, k);
    let outliers = [3, 17, 18, 63];
    let float = Mat::from_fn(n, outliers.len(), |_, _| draw.signed());
    let x = Mat::from_fn(m, k, |_, c| {
        f16::from_f32(if outliers.contains(&c) { 300.0 } else { 1.0 } * draw.signed())
    });
    let calm = Mat::from_fn(m, k, |r, c| {
        if outliers.contains(&c) {
            f16::ZERO
        } else {
            x.view().row(r)[c]
        }
    });
    let continued = |mut y: Mat<f32>| {
        for r in 0..m {
            for (c, y) in y.view_mut().row_mut(r).iter_mut().enumerate() {
                for (i, &k) in outliers.iter().enumerate() {
                    *y = fma(x.view().row(r)[k].to_f32(), float.view().row(c)[i], *y);
                }
            }
        }
        y
    };
    let (mut y, mut expected) = (Mat::<f32>::zeros(m, n), Mat::<f32>::zeros(m, n));
    let prepared = backend.prepare(&w).unwrap();
    backend
        .accumulate(&prepared, calm.view().into(), mode, y.view_mut())
        .unwrap();
    reference::accumulate(&w, calm.view().into(), mode, expected.view_mut()).unwrap();
    assert_eq!(continued(y), continued(expected), "{name} {mode:?}");
}

#[test]
fn a_float_outlier_part_continues_the_fold() {
    for isa in Isa::ALL.into_iter().filter(|isa| isa.supported()) {
        let host = Host::new().isa(isa).unwrap();
        for mode in [Mode::A8, Mode::A16, Mode::Exact] {
            check_float_outliers(isa.name(), &host, mode);
        }
    }
    check_float_outliers("mixpe w4a8", &MixPe::w4a8(), Mode::A8);
    check_float_outliers("mixpe w4a16", &MixPe::w4a16(), Mode::Exact);
}
