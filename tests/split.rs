//! The typed trait composes: an outlier split around any backend gives the bits of the product that was never split.
#![forbid(unsafe_code)]
#![cfg(feature = "testing")]

#[cfg(feature = "lab")]
use mixgemm::accel::catalogue::npu;
use mixgemm::backend::Erased;
use mixgemm::base::float::fma;
use mixgemm::outlier::columns::InMemory;
use mixgemm::outlier::find::limit;
use mixgemm::quant::rest::{Levels, Rest};
use mixgemm::testing::{Backwards, Draw, weights};
use mixgemm::{
    Activation, Activations, Backend, Capabilities, Epilogue, GroupSums, Host, Isa, Mat, MatMut, MixPe, Mode, Output,
    Par, QuantMatrix, Report, Result, ScaleType, Scheme, Split, Workspace, ZeroPoint, f16, reference,
};
use proptest::prelude::*;
use std::num::NonZeroUsize;
use std::sync::Arc;

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

fn check<B: Backend>(name: &str, backend: B) {
    let draw = &mut Draw::new(91);
    let capabilities = backend.capabilities();
    let split = Split::new(backend);
    for (bits, k) in [(4u8, 70), (1, 33), (8, 100), (3, 64), (7, 1)] {
        for zero in [ZeroPoint::Symmetric, ZeroPoint::Integer, ZeroPoint::Float] {
            let scheme = Scheme {
                zero,
                ..Scheme::int(bits).scales(ScaleType::F32)
            };
            for scheme in [scheme.per_tensor(), scheme.per_channel(), scheme.group(16)] {
                if capabilities.check_scheme(&scheme).is_err() {
                    continue;
                }
                let w = weights(draw, scheme, 37, k);
                check_product(name, &split, &w, &inputs(draw, k));
            }
        }
    }
}

#[test]
fn a_split_around_any_backend_gives_the_bits_of_the_unclamped_product() {
    for isa in Isa::ALL.into_iter().filter(|isa| isa.supported()) {
        let host = Host::new().isa(isa).unwrap();
        check(isa.name(), host.clone());
        check(isa.name(), Aside(host));
    }
    check("mixpe", MixPe::w4a8());
}

/// The NPU clamps; the split brings back what it clamped, around one scale and around groups.
#[cfg(feature = "lab")]
#[test]
fn a_split_around_an_npu_gives_the_bits_of_the_unclamped_product() {
    let scalar = || Box::new(Host::new().isa(Isa::Scalar).unwrap());
    check("npu", npu::int8());
    check("npu fast", npu::int8().fast(scalar()));
    check("npu by groups", npu::grouped());
}

#[test]
fn backends_that_are_chosen_at_run_time_are_split_too() {
    let chosen: [(&str, Box<dyn mixgemm::AnyBackend>); 4] = [
        ("host", Box::new(Host::new())),
        ("aside", Box::new(Aside(Host::new()))),
        ("mixpe", Box::new(MixPe::w4a8())),
        ("fast mixpe", MixPe::w4a8().with_values_from(Box::new(Host::new()))),
    ];
    for (name, backend) in chosen {
        let adds_rest = name == "host" || name == "fast mixpe";
        let backend = Erased::from(backend);
        assert_eq!(backend.adds_rest(), adds_rest, "{name}");
        check(name, backend);
    }
}

/// One group's sums need more than 32 bits, its neighbours' do not, and one call has several panels.
#[test]
fn groups_beyond_32_bits_stand_between_others() {
    let draw = &mut Draw::new(95);
    let x = |rows| {
        let outlier = |k: usize| if k / 16 == 1 { 8_388_607.0 } else { 200.0 };
        Mat::from_fn(rows, 64, |r, k| {
            T * if k % 16 == 5 { outlier(k) } else { (k + r) as f32 - 30.0 }
        })
    };
    for zero in [ZeroPoint::Symmetric, ZeroPoint::Integer, ZeroPoint::Float] {
        let scheme = Scheme {
            zero,
            ..Scheme::int(8).group(16).scales(ScaleType::F32)
        };
        let w = weights(draw, scheme, 130, 64);
        for isa in Isa::ALL.into_iter().filter(|isa| isa.supported()) {
            let split = Split::new(Host::new().isa(isa).unwrap());
            check_product(isa.name(), &split, &w, &x(1));
            check_product(isa.name(), &split, &w, &x(5));
        }
    }
}

#[test]
fn threads_change_nothing() {
    let draw = &mut Draw::new(93);
    let par = Par::Pool(Arc::new(Backwards(NonZeroUsize::new(3).unwrap())));
    let w = weights(draw, Scheme::int(8).group(48), 130, 1500);
    let x = inputs(draw, 1500);
    let x = Mat::from_fn(60, 1500, |r, c| x.view().row(r % 11)[(c * 7 + r) % 1500]);
    check_product("one thread", &Split::new(Host::new()), &w, &x);
    check_product("three", &Split::new(Host::new().par(par.clone())).par(par), &w, &x);
}

#[test]
fn without_outliers_and_with_saturation_it_is_the_wrapped_backend() {
    let draw = &mut Draw::new(94);
    let w = weights(draw, Scheme::int(4).group(16).asymmetric(), 20, 64);
    let (split, inputs) = (Split::new(Host::new()), inputs(draw, 64));
    let both = split.prepare(&w).unwrap();
    for (rows, mode, shadowed) in [(1, SHADOW, 0), (11, CLAMPED, 0), (11, SHADOW, 1)] {
        let x = inputs.view().sub_rows(0, rows).unwrap();
        let (mut y, mut z) = (Mat::<f32>::zeros(rows, 20), Mat::<f32>::zeros(rows, 20));
        Backend::run(&split, &both, x.into(), mode, &Epilogue::new(), y.view_mut().into()).unwrap();
        let inner = (split.backend(), both.prepared());
        Backend::run(
            inner.0,
            inner.1,
            x.into(),
            CLAMPED,
            &Epilogue::new(),
            z.view_mut().into(),
        )
        .unwrap();
        assert_eq!(same(y.data(), z.data()), shadowed == 0, "{mode:?}");
        assert_eq!(both.work().shadowed, shadowed);
    }
    // What was counted is what the inputs have.
    let limit = |x: &f32| (x / T).round_ties_even().abs() > 127.0;
    let all = inputs.data();
    let outliers = all.iter().filter(|x| limit(x)).count();
    let channels = (0..64).filter(|c| all[*c..].iter().step_by(64).any(limit)).count();
    let work = both.work();
    assert_eq!((work.outliers, work.channels), (outliers as u64, channels as u64));
}

#[test]
fn halves_special_values_and_refusals_are_as_without_a_split() {
    let draw = &mut Draw::new(95);
    for scheme in [Scheme::int(4).group(16).float_zero(), Scheme::int(1).per_channel()] {
        let w = weights(draw, scheme, 20, 40);
        let wide = inputs(draw, 40);
        let mut x = Mat::from_fn(6, 40, |r, c| f16::from_f32(wide.view().row(r)[c]));
        x.view_mut().row_mut(1)[3] = f16::INFINITY;
        x.view_mut().row_mut(1)[30] = f16::NEG_INFINITY;
        x.view_mut().row_mut(4)[0] = f16::NAN;
        let finite = |x: f32| if x.is_finite() { x } else { 0.0 };
        let same_as_floats = Mat::from_fn(6, 40, |r, c| finite(x.view().row(r)[c].to_f32()));
        let expected = unclamped(&w, &same_as_floats, T, None, 0.0);
        let special = |y: &mut Mat<f32>| {
            let x = Activations::from(x.view());
            reference::run(&w, x, CLAMPED, &Epilogue::new(), y.view_mut().into()).unwrap();
        };
        let mut alone = Mat::<f32>::zeros(6, 20);
        special(&mut alone);
        let (host, aside) = (Split::new(Host::new()), Split::new(Aside(Host::new())));
        let mut results = [Mat::<f32>::zeros(6, 20), Mat::<f32>::zeros(6, 20)];
        let [y, z] = &mut results;
        let e = &Epilogue::new();
        Backend::run(
            &host,
            &host.prepare(&w).unwrap(),
            x.view().into(),
            SHADOW,
            e,
            y.view_mut().into(),
        )
        .unwrap();
        Backend::run(
            &aside,
            &aside.prepare(&w).unwrap(),
            x.view().into(),
            SHADOW,
            e,
            z.view_mut().into(),
        )
        .unwrap();
        for (r, y) in (0..6).flat_map(|r| results.iter().map(move |y| (r, y))) {
            let scaled: Vec<f32> = expected[r * 20..(r + 1) * 20].iter().map(|y| y * T).collect();
            let expected = if [1, 4].contains(&r) {
                alone.view().row(r)
            } else {
                &scaled
            };
            assert!(same(y.view().row(r), expected), "{scheme:?} row {r}");
        }
    }
    let w = weights(draw, Scheme::int(4), 5, 8);
    let (split, mut y) = (Split::new(Host::new()), Mat::<f32>::zeros(1, 5));
    let both = split.prepare(&w).unwrap();
    let mut refused = |x: f32, scale: f32| {
        let (x, mode) = (
            Mat::from_fn(1, 8, |_, k| if k == 5 { x } else { 0.0 }),
            Mode::A8Static { scale, saturate: false },
        );
        let run = Backend::run(
            &split,
            &both,
            x.view().into(),
            mode,
            &Epilogue::new(),
            y.view_mut().into(),
        );
        run.map_err(|error| error.to_string()).err()
    };
    assert_eq!(refused(8_388_607.0, 1.0), None);
    let error = "x: expected |rne(x / scale)| below 2^23 in mode a8static, found 8388608 at column 5";
    assert_eq!(refused(8_388_608.0, 1.0).as_deref(), Some(error));
    let error = "scale of a8static: expected a finite positive scale, found NaN";
    assert_eq!(refused(1.0, f32::NAN).as_deref(), Some(error));
    let other = InMemory::new(&weights(draw, Scheme::int(4), 8, 5));
    let error = split.prepare_with(&w, Box::new(other)).unwrap_err();
    assert_eq!(error.to_string(), "columns: expected 5 x 8, found 8 x 5");
}

#[test]
fn the_limit_is_the_last_float_that_is_no_outlier() {
    let draw = &mut Draw::new(96);
    let scales = [1.0, 0.1, 3e-39, 1e-45, 3e36, f32::MAX, f32::MIN_POSITIVE];
    for t in scales.into_iter().chain((0..200).map(|_| draw.signed().abs() + 1e-9)) {
        let limit = limit(t);
        let inside = |x: f32| (x / t).round_ties_even() <= 127.0;
        assert!(
            inside(limit) && (limit == f32::MAX || !inside(limit.next_up())),
            "{t:e}: {limit:e}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any mixture of values on and beyond the edges, in ragged groups: device(c) + host(r) is the unclamped product.
    #[test]
    fn cut_products_add_up(
        seed in any::<u64>(),
        bits in 1u8..=8,
        length in 1usize..40,
        (m, n, k) in (1usize..20, 1usize..40, 1usize..90),
        share in 0usize..=8,
        size in prop::sample::select(vec![128i32, 200, 30_000, 8_388_607]),
    ) {
        let draw = &mut Draw::new(seed);
        let scheme = [Scheme::int(bits), Scheme::int(bits).asymmetric(), Scheme::int(bits).float_zero()][draw.below(3)];
        let scheme = [scheme.per_tensor(), scheme.per_channel(), scheme.group(length)][draw.below(3)];
        let w = weights(draw, scheme, n, k);
        let edges = [-128, 127, 128, -200, 200, -30_000, 30_000, 0];
        let x = Mat::from_fn(m, k, |_, _| {
            let v = match draw.below(8) {
                i if i < share => [size, -size, edges[draw.below(8)]][draw.below(3)],
                _ => draw.below(255) as i32 - 127,
            };
            v as f32 * T
        });
        check_product("host", &Split::new(Host::new()), &w, &x);
        if bits <= 4 {
            check_product("mixpe", &Split::new(MixPe::w4a8()), &w, &x);
        }
        #[cfg(feature = "lab")]
        if bits == 8 {
            check_product("npu by groups", &Split::new(npu::grouped()), &w, &x);
            if Backend::capabilities(&npu::int8()).check_scheme(w.scheme()).is_ok() {
                check_product("npu", &Split::new(npu::int8()), &w, &x);
            }
        }
    }
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

#[test]
fn without_outputs_or_without_terms_nothing_is_refused() {
    let mode = |saturate| Mode::A8Static { scale: 0.01, saturate };
    let x = Mat::from_fn(1, 8, |_, k| if k == 3 { 1e9 } else { k as f32 });
    let none = QuantMatrix::quantize(Mat::<f32>::zeros(0, 8).view(), Scheme::int(4)).unwrap();
    let split = Split::new(Host::new());
    let (prepared, mut y) = (split.prepare(&none).unwrap(), Mat::<f32>::zeros(1, 0));
    let x = x.view().into();
    split
        .run(&prepared, x, mode(false), &Epilogue::new(), y.view_mut().into())
        .unwrap();
    split.accumulate(&prepared, x, mode(false), y.view_mut()).unwrap();
    split
        .group_sums(&prepared, x, mode(false), GroupSums::I64(&mut []))
        .unwrap();

    let w = QuantMatrix::quantize(
        Mat::from_fn(3, 8, |n, k| (n * k) as f32).view(),
        Scheme::int(4).group(4),
    )
    .unwrap();
    let x = Mat::from_fn(1, 8, |_, k| k as f32);
    let x = x.view().into();
    let plan = Host::new().prepare(&w).unwrap().plan(mode(true)).unwrap();
    let levels = Levels {
        blocks: &[],
        channels: 0,
        n: 3,
    };
    let rest = Rest {
        m: 1,
        starts: &[0; 3],
        sizes: &[0; 2],
        terms: &[],
        levels,
    };
    let (mut found, mut expected) = (Mat::<f32>::zeros(1, 3), Mat::<f32>::zeros(1, 3));
    let (workspace, epilogue) = (&mut Workspace::new(), Epilogue::new());
    plan.run_rest(workspace, x, &rest, Some(&epilogue), found.view_mut().into())
        .unwrap();
    plan.run(workspace, x, &epilogue, expected.view_mut().into()).unwrap();
    assert_eq!(found.data(), expected.data());
    let mut half = Mat::<f16>::zeros(1, 3);
    let refused = plan
        .run_rest(workspace, x, &rest, None, half.view_mut().into())
        .unwrap_err();
    assert!(
        refused.to_string().starts_with("y: expected f32 to continue"),
        "{refused}"
    );
    let shifted = Rest {
        starts: &[1; 3],
        ..rest
    };
    assert!(
        plan.run_rest(workspace, x, &shifted, Some(&epilogue), found.view_mut().into())
            .is_err()
    );
}
