//! Where a split has nothing to do, what it refuses, and where its limit is.
#![forbid(unsafe_code)]

use crate::{Aside, CLAMPED, SHADOW, T, inputs, same, unclamped};
use mixgemm::outlier::columns::InMemory;
use mixgemm::outlier::find::limit;
use mixgemm::quant::rest::{Levels, Rest};
use mixgemm::testing::{Draw, weights};
use mixgemm::{
    Activations, Backend, Epilogue, GroupSums, Host, Mat, Mode, QuantMatrix, Scheme, Split, Workspace, f16, reference,
};

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
