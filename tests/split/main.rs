//! The typed trait composes: an outlier split around any backend gives the bits of the product that was never split.
#![forbid(unsafe_code)]
#![cfg(feature = "testing")]

mod edges;
mod floats;
mod products;

use mixgemm::testing::Draw;
use mixgemm::{
    Activation, Activations, Backend, Capabilities, Epilogue, GroupSums, Mat, MatMut, Mode, Output, QuantMatrix,
    Report, Result, Split, ZeroPoint,
};

/// A backend that only hands back integers: the split has to add the rest and to fold.
#[derive(Clone)]
struct Aside<B>(B);

impl<B: Backend> Backend for Aside<B> {
    type Prepared = B::Prepared;

    fn name(&self) -> &'static str {
        "aside"
    }

    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    fn prepare(&self, w: &QuantMatrix) -> Result<B::Prepared> {
        self.0.prepare(w)
    }

    fn run(&self, w: &B::Prepared, x: Activations<'_>, mode: Mode, e: &Epilogue<'_>, y: Output<'_>) -> Result<Report> {
        self.0.run(w, x, mode, e, y)
    }

    fn accumulate(&self, w: &B::Prepared, x: Activations<'_>, mode: Mode, y: MatMut<'_, f32>) -> Result<Report> {
        self.0.accumulate(w, x, mode, y)
    }

    fn group_sums(&self, w: &B::Prepared, x: Activations<'_>, mode: Mode, sums: GroupSums<'_>) -> Result<Report> {
        self.0.group_sums(w, x, mode, sums)
    }
}

/// The product with the integers as they are: `start + Σ s·rne(Σ (q − z)·v)`; with a bias scaled, biased, ReLU.
fn unclamped(w: &QuantMatrix, x: &Mat<f32>, t: f32, bias: Option<&[f32]>, start: f32) -> Vec<f32> {
    let mut out = Vec::new();
    for r in 0..x.rows() {
        for n in 0..w.n() {
            let mut y = start;
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
            out.push(match bias {
                Some(bias) => (y * t + bias[n]).max(0.0),
                None => y,
            });
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
            (9, 0) => 8_388_607.0,
            _ => small + 0.25,
        };
        v * T
    })
}

const SHADOW: Mode = Mode::A8Static {
    scale: T,
    saturate: false,
};

const CLAMPED: Mode = Mode::A8Static {
    scale: T,
    saturate: true,
};

/// The bits of two results.
fn same(y: &[f32], expected: &[f32]) -> bool {
    y.len() == expected.len() && y.iter().zip(expected).all(|(y, e)| y.to_bits() == e.to_bits())
}

/// One product with everything on it: the epilogue, a continued fold, integers, and rows that must not notice the others.
fn check_product<B: Backend>(name: &str, split: &Split<B>, w: &QuantMatrix, x: &Mat<f32>) {
    let (m, n, scheme) = (x.rows(), w.n(), w.scheme());
    let bias: Vec<f32> = (0..n).map(|n| n as f32 * 3.0 - 50.0).collect();
    let epilogue = Epilogue::new().bias(&bias).activation(Activation::Relu);
    let (both, mut y) = (split.prepare(w).unwrap(), Mat::<f32>::zeros(m, n));
    for m in [1, m] {
        Backend::compile(split, &both, m).unwrap();
    }
    let out = y.view_mut().into();
    Backend::run(split, &both, x.view().into(), SHADOW, &epilogue, out).unwrap();
    let expected = unclamped(w, x, T, Some(&bias), 0.0);
    for r in 0..m {
        let row = r * n..(r + 1) * n;
        assert!(
            same(&y.data()[row.clone()], &expected[row]),
            "{name} {scheme:?} row {r}"
        );
        // A row alone gives the same bits.
        let mut alone = Mat::<f32>::zeros(1, n);
        let (one, out) = (x.view().sub_rows(r, 1).unwrap(), alone.view_mut().into());
        Backend::run(split, &both, one.into(), SHADOW, &epilogue, out).unwrap();
        assert!(same(alone.data(), y.view().row(r)), "{name} {scheme:?} row {r} alone");
    }
    let mut y = Mat::from_fn(m, n, |_, _| 1.5);
    Backend::accumulate(split, &both, x.view().into(), SHADOW, y.view_mut()).unwrap();
    let expected = unclamped(w, x, T, None, 1.5);
    assert!(same(y.data(), &expected), "{name} {scheme:?} continued");
    let mut sums = vec![0i64; m * w.groups() * n];
    Backend::group_sums(split, &both, x.view().into(), SHADOW, GroupSums::I64(&mut sums)).unwrap();
    for (i, sum) in sums.iter().enumerate() {
        let (r, g, column) = (i / n / w.groups(), i / n % w.groups(), i % n);
        let terms = w.group_range(g).map(|k| {
            let v = (x.view().row(r)[k] / T).round_ties_even() as i64;
            v * i64::from(w.level(column, k))
        });
        assert_eq!(*sum, terms.sum::<i64>(), "{name} {scheme:?} ({r}, {g}, {column})");
    }
}
