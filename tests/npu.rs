//! The emulated NPU: values are the reference's, refusals are a real NPU's, times are its profile's.
#![forbid(unsafe_code)]
#![cfg(all(feature = "testing", feature = "lab"))]

use mixgemm::accel::catalogue::npu;
use mixgemm::accel::npu::Npu;
use mixgemm::accel::npu::int8_output::repair;
use mixgemm::accel::npu::profile::{Arrangement, Profile};
use mixgemm::backend::DeviceTime;
use mixgemm::testing::{Draw, Inputs, weights};
use mixgemm::{
    Activation, Activations, AnyBackend, Backend, Epilogue, Error, GroupSums, Host, Isa, Mat, Mode, QuantMatrix,
    ScaleType, Scheme, ZeroPoint, bf16, f16, reference,
};

fn host() -> Box<dyn AnyBackend> {
    Box::new(Host::new().isa(Isa::Scalar).unwrap())
}

fn bits(y: &Mat<f32>) -> Vec<u32> {
    y.data().iter().map(|y| y.to_bits()).collect()
}

/// All three products of the trait have the reference's bits.
fn check(device: &dyn AnyBackend, w: &QuantMatrix, x: Activations<'_>, mode: Mode, epilogue: &Epilogue<'_>) {
    let (m, n) = (x.shape().0, w.n());
    let what = format!("{} {mode:?} {m}x{n}x{} {:?}", device.name(), w.k(), w.scheme());
    let prepared = device.prepare(w).unwrap();
    device.compile(&prepared, m).unwrap();
    let (mut y, mut expected) = (Mat::zeros(m, n), Mat::zeros(m, n));
    device.run(&prepared, x, mode, epilogue, y.view_mut().into()).unwrap();
    reference::run(w, x, mode, epilogue, expected.view_mut().into()).unwrap();
    assert_eq!(bits(&y), bits(&expected), "{what}");
    let start = |r: usize, c: usize| (r as f32 - c as f32) * 0.37;
    let (mut y, mut expected) = (Mat::from_fn(m, n, start), Mat::from_fn(m, n, start));
    device.accumulate(&prepared, x, mode, y.view_mut()).unwrap();
    reference::accumulate(w, x, mode, expected.view_mut()).unwrap();
    assert_eq!(bits(&y), bits(&expected), "{what}, continued");
    let mut sums = vec![i64::MIN; m * w.groups() * n];
    let mut expected = sums.clone();
    device
        .group_sums(&prepared, x, mode, GroupSums::I64(&mut sums))
        .unwrap();
    reference::group_sums(w, x, mode, GroupSums::I64(&mut expected)).unwrap();
    assert_eq!(sums, expected, "{what}, integers");
}

#[test]
fn values_are_those_of_the_reference() {
    let draw = &mut Draw::new(201);
    let residual = Mat::from_fn(12, 40, |r, c| (r * 40 + c) as f32 * 0.3 - 70.0);
    let devices: [Box<dyn AnyBackend>; 4] = [
        Box::new(npu::int8()),
        npu::int8().with_values_from(host()),
        Box::new(npu::grouped()),
        npu::grouped().with_values_from(host()),
    ];
    for (m, n, k) in [
        (1, 1, 1),
        (12, 40, 70),
        (5, 33, 64),
        (7, 3, 129),
        (0, 4, 8),
        (4, 0, 8),
        (4, 4, 0),
    ] {
        let mut inputs = Inputs::new(draw, m, k);
        if m > 4 {
            inputs.f32.view_mut().row_mut(3)[1] = f32::NAN;
            inputs.f32.view_mut().row_mut(4)[0] = f32::NEG_INFINITY;
            inputs.bf16.view_mut().row_mut(2)[k - 1] = bf16::INFINITY;
        }
        let bias: Vec<f32> = (0..n).map(|n| n as f32 * 0.7 - 9.0).collect();
        let mut all = Epilogue::new().bias(&bias).activation(Activation::Gelu);
        if (m, n) == (12, 40) {
            all = all.residual(residual.view());
        }
        for zero in [ZeroPoint::Symmetric, ZeroPoint::Integer, ZeroPoint::Float] {
            let scheme = Scheme { zero, ..Scheme::int(8) };
            for scheme in [scheme.per_tensor(), scheme.per_channel(), scheme.group(16)] {
                let w = weights(draw, scheme, n, k);
                for device in &devices {
                    let capabilities = device.capabilities();
                    if capabilities.check_scheme(&scheme).is_err() {
                        continue;
                    }
                    for (mode, x) in inputs.cases() {
                        let per_row = matches!(
                            x,
                            Activations::I8 {
                                scale: mixgemm::InputScale::Rows(_),
                                ..
                            }
                        );
                        if capabilities.takes(mode) && !(per_row && capabilities.per_tensor) {
                            check(device.as_ref(), &w, x, mode, &all);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn every_pair_of_operands_is_multiplied() {
    let device = npu::int8();
    let scheme = Scheme::int(8).per_tensor().scales(ScaleType::F32);
    let one = mixgemm::Floats::from_f32(ScaleType::F32, &[1.0]);
    let w = QuantMatrix::from_parts(scheme, 256, 1, (0..=255).collect(), one, mixgemm::Zeros::Symmetric).unwrap();
    let x = Mat::from_fn(256, 1, |m, _| (m as i32 - 128) as i8);
    let w = Backend::prepare(&device, &w).unwrap();
    Backend::compile(&device, &w, 256).unwrap();
    let (x, mut sums) = (Activations::int8(x.view(), 1.0), vec![0; 65_536]);
    Backend::group_sums(&device, &w, x, Mode::A8Given, GroupSums::I32(&mut sums)).unwrap();
    for (i, sum) in (0..).zip(sums) {
        assert_eq!(sum, (i / 256 - 128) * (i % 256 - 128));
    }
}

#[test]
fn what_npus_refuse_is_refused_by_name() {
    let draw = &mut Draw::new(202);
    let device = npu::int8();
    let eight = Scheme::int(8).per_tensor();
    for (scheme, expected) in [
        (Scheme::int(4).per_tensor(), "bits: expected 8, found 4"),
        (
            eight.group(32),
            "group: expected one scale for the whole matrix, found a scale for every 32 weights of a row",
        ),
        (
            eight.per_channel(),
            "group: expected one scale for the whole matrix, found a scale for every row",
        ),
        (
            eight.asymmetric(),
            "zero: expected symmetric weights, found integer zero points",
        ),
        (
            eight.float_zero(),
            "zero: expected symmetric weights, found float zero points",
        ),
        (
            Scheme::book(mixgemm::CodeBook::MXFP4).per_tensor(),
            "book: expected codes that are integers themselves, found codes of a book",
        ),
    ] {
        let w = weights(draw, scheme, 3, 64);
        assert_eq!(Backend::prepare(&device, &w).unwrap_err().to_string(), expected);
    }
    let w = Backend::prepare(&device, &weights(draw, eight, 3, 64)).unwrap();
    Backend::compile(&device, &w, 2).unwrap();
    let (x, half, x8) = (
        Mat::<f32>::zeros(2, 64),
        Mat::<f16>::zeros(2, 64),
        Mat::<i8>::zeros(2, 64),
    );
    let rows = Activations::int8_rows(x8.view(), &[1.0, 2.0]);
    for (x, mode, expected) in [
        (x.view().into(), Mode::A8, "mode: expected a8given, a8static, found a8"),
        (
            x.view().into(),
            Mode::A8Row,
            "mode: expected a8given, a8static, found a8row",
        ),
        (
            x.view().into(),
            Mode::A16,
            "mode: expected a8given, a8static, found a16",
        ),
        (
            half.view().into(),
            Mode::Exact,
            "mode: expected a8given, a8static, found exact",
        ),
        (
            half.view().into(),
            Mode::Native,
            "mode: expected a8given, a8static, found native",
        ),
        (
            rows,
            Mode::A8Given,
            "input scale: expected one for the tensor, found one for every row",
        ),
    ] {
        let mut y = Mat::<f32>::zeros(2, 3);
        let result = Backend::run(&device, &w, x, mode, &Epilogue::new(), y.view_mut().into());
        assert_eq!(result.unwrap_err().to_string(), expected);
    }
    let large = Mat::from_fn(2, 64, |_, _| 1e3f32);
    let mode = Mode::A8Static {
        scale: 1.0,
        saturate: false,
    };
    let mut y = Mat::<f32>::zeros(2, 3);
    let result = Backend::run(
        &device,
        &w,
        large.view().into(),
        mode,
        &Epilogue::new(),
        y.view_mut().into(),
    );
    assert!(matches!(result.unwrap_err(), Error::Value { argument: "x", .. }));
}

const CLAMPED: Mode = Mode::A8Static {
    scale: 0.5,
    saturate: true,
};

fn message<T>(result: mixgemm::Result<T>) -> String {
    result.err().map_or_else(String::new, |error| error.to_string())
}

/// A graph is built, optimised, executed and freed, each by a call of its own; any other order is refused.
#[test]
fn a_graph_lives_for_one_shape() {
    let draw = &mut Draw::new(203);
    let (device, scheme) = (npu::int8(), Scheme::int(8).per_tensor());
    let w = Backend::prepare(&device, &weights(draw, scheme, 3, 64)).unwrap();
    let run = |m: usize| {
        let (x, mut y) = (Mat::<f32>::zeros(m, 64), Mat::<f32>::zeros(m, 3));
        let out = y.view_mut().into();
        message(Backend::run(
            &device,
            &w,
            x.view().into(),
            CLAMPED,
            &Epilogue::new(),
            out,
        ))
    };
    let none = "x: expected a shape that a graph is built for; there is none for these weights, \
                found [4, 64] x [3, 64]^T";
    assert_eq!(run(4), none);
    assert!(message(device.optimise(&w, 4)).starts_with("m: expected a shape that a graph is built for"));
    assert!(message(device.free(&w, 4)).starts_with("m: expected a shape that a graph is built for"));
    assert_eq!(device.time(), DeviceTime::default());

    let (profile, mut expected) = (device.profile().clone(), DeviceTime::default());
    device.build(&w, 4).unwrap();
    (expected.setup_ms, expected.build_ms) = (500.0, profile.graph.build_ms);
    assert_eq!((device.time(), device.bytes()), (expected, 3 * 64 + 4 * 64 + 4 * 3 * 4));
    let unfinished = "graph: expected an optimised graph of [4, 64] x [3, 64]^T, found one that is only built";
    assert_eq!(run(4), unfinished);
    let again = "graph: expected a graph other than [4, 64] x [3, 64]^T, found the same graph a second time";
    assert_eq!(message(device.build(&w, 4)), again);
    device.optimise(&w, 4).unwrap();
    expected.optimise_ms = profile.optimise_ms(3, 64);
    assert_eq!(run(4), "");
    expected.execute_ms = profile.product_ms(4, 3, 64, Arrangement { height: 2, width: 2 });
    assert_eq!(device.time(), expected);
    let other = "x: expected a shape that a graph is built for: [4, 64] x [3, 64]^T, found [5, 64] x [3, 64]^T";
    assert_eq!(run(5), other);
    assert_eq!(run(0), "");
    assert_eq!(device.time(), expected);

    // What the trait does in one call is the same, once.
    Backend::compile(&device, &w, 5).unwrap();
    Backend::compile(&device, &w, 5).unwrap();
    expected.build_ms += profile.graph.build_ms;
    expected.optimise_ms += profile.optimise_ms(3, 64);
    assert_eq!(
        (run(5), device.time()),
        (
            String::new(),
            DeviceTime {
                execute_ms: device.time().execute_ms,
                ..expected
            }
        )
    );
    device.free(&w, 4).unwrap();
    assert!(run(4).contains("[5, 64] x [3, 64]^T, found [4, 64]"));
    Backend::release(&device, &w, 4).unwrap();
    Backend::release(&device, &w, 5).unwrap();
    assert_eq!(
        (device.time().free_ms, device.bytes()),
        (2.0 * profile.graph.free_ms, 0)
    );

    let stranger = npu::int8();
    let error = stranger.build(&w, 4).unwrap_err();
    assert!(matches!(error, Error::ForeignWeights { .. }), "{error}");
    assert_eq!(message(device.build_as(&w, Arrangement { height: 0, width: 3 })), "");
}

#[test]
fn the_window_of_addresses_holds_so_much_until_something_is_freed() {
    let draw = &mut Draw::new(204);
    let mut profile = Profile::hexagon_8gen3().clone();
    assert_eq!(profile.window_bytes, 1 << 32);
    profile.window_bytes = 2 * (1000 * 10 + 2 * 1000 + 2 * 10 * 4);
    let device = Npu::new(profile);
    let of = |draw: &mut Draw| {
        let w = weights(draw, Scheme::int(8).per_tensor(), 10, 1000);
        Backend::prepare(&device, &w).unwrap()
    };
    let (first, second, third) = (of(draw), of(draw), of(draw));
    device.build(&first, 2).unwrap();
    device.build(&second, 2).unwrap();
    assert_eq!(
        message(device.build(&third, 1)),
        "graph: expected at most 24160 bytes in all graphs, as far as the device's addresses reach, \
         found 24160 bytes, and 11040 more for [1, 1000] x [10, 1000]^T; free others first"
    );
    device.free(&first, 2).unwrap();
    device.build(&third, 1).unwrap();
    assert!(device.build(&first, 2).is_err());
    drop(second); // Graphs go with their weights.
    device.build(&first, 2).unwrap();
    // Sizes beyond all numbers are refused, not wrapped.
    assert!(matches!(
        device.build(&third, usize::MAX).unwrap_err(),
        Error::Memory { .. }
    ));
}

/// However many threads hand in work, the device does one thing after another, and nothing before its input is there.
#[test]
fn one_graph_is_executed_at_a_time() {
    let draw = &mut Draw::new(205);
    let device = npu::int8().fast(host());
    let w = Backend::prepare(&device, &weights(draw, Scheme::int(8).per_tensor(), 5, 32)).unwrap();
    Backend::compile(&device, &w, 3).unwrap();
    let x = Mat::from_fn(3, 32, |r, c| (r + c) as f32);
    let run = |ready_ms: f64| {
        let mut y = Mat::<f32>::zeros(3, 5);
        let out = y.view_mut().into();
        device
            .execute(&w, (x.view().into(), CLAMPED), &Epilogue::new(), out, ready_ms)
            .unwrap()
            .1
    };
    let ms = device.profile().product_ms(3, 5, 32, Arrangement::flat(3));
    let mut spans = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| (0..25).map(|_| run(0.0)).collect::<Vec<_>>()))
            .collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap())
            .collect::<Vec<_>>()
    });
    spans.sort_by(|a, b| a.start_ms.total_cmp(&b.start_ms));
    assert_eq!((spans.len(), spans[0].start_ms), (100, 0.0));
    assert!(spans.iter().all(|span| (span.end_ms - span.start_ms - ms).abs() < 1e-9));
    assert!(spans.windows(2).all(|pair| pair[0].end_ms == pair[1].start_ms));
    let (last, late) = (spans[99].end_ms, run(1e6));
    assert!(last < 1e6 && late.start_ms == 1e6);
    assert!((device.time().execute_ms - 101.0 * ms).abs() < 1e-6);
}

#[test]
fn equal_shapes_give_equal_results_at_different_times() {
    let draw = &mut Draw::new(206);
    let profile = Profile::hexagon_8gen3();
    let grids: Vec<String> = Arrangement::all(12).map(|rows| rows.to_string()).collect();
    assert_eq!(grids, ["12 x 1", "6 x 2", "4 x 3"]);
    for (m, expected) in [
        (0, "0 x 1"),
        (1, "1 x 1"),
        (7, "7 x 1"),
        (1024, "32 x 32"),
        (290, "29 x 10"),
    ] {
        assert_eq!(profile.best(m, 2048, 2048).to_string(), expected);
    }
    // 32 x 32 x 2048 against 1024 x 1 x 2048, as published.
    let ms = |rows| profile.product_ms(1024, 2048, 2048, rows);
    let times = ms(Arrangement::flat(1024)) / ms(profile.best(1024, 2048, 2048));
    assert!((times - 1.62).abs() < 0.005, "{times}");

    let (w, x) = (
        weights(draw, Scheme::int(8).per_tensor(), 9, 40),
        Inputs::new(draw, 24, 40).f32,
    );
    let mut results = Vec::new();
    for rows in Arrangement::all(24) {
        let (device, mut y) = (npu::int8(), Mat::<f32>::zeros(24, 9));
        let w = Backend::prepare(&device, &w).unwrap();
        device.build_as(&w, rows).unwrap();
        device.optimise(&w, 24).unwrap();
        Backend::run(
            &device,
            &w,
            x.view().into(),
            CLAMPED,
            &Epilogue::new(),
            y.view_mut().into(),
        )
        .unwrap();
        results.push((bits(&y), device.time().execute_ms));
    }
    assert!(
        results
            .windows(2)
            .all(|pair| pair[0].0 == pair[1].0 && pair[0].1 > pair[1].1)
    );
}

/// A group at a time costs a launch for each group and the host's sums; the model of it is the sum of what is accounted.
#[test]
fn groups_cost_what_the_model_says() {
    let draw = &mut Draw::new(207);
    for (k, group) in [(128, 32), (100, 32), (64, 64)] {
        let device = npu::grouped().npu().profile().clone();
        let device = mixgemm::accel::npu::grouped::Grouped::new(Npu::new(device));
        let w = Backend::prepare(&device, &weights(draw, Scheme::int(8).group(group), 7, k)).unwrap();
        Backend::compile(&device, &w, 6).unwrap();
        let (x, mut y) = (Mat::<f32>::zeros(6, k), Mat::<f32>::zeros(6, 7));
        Backend::run(
            &device,
            &w,
            x.view().into(),
            Mode::A8,
            &Epilogue::new(),
            y.view_mut().into(),
        )
        .unwrap();
        let (time, profile) = (Backend::device_time(&device).unwrap(), device.npu().profile());
        let model = profile.grouped_ms(6, 7, k, group);
        assert!((time.execute_ms + time.host_ms - model).abs() < 1e-9);
        assert!((time.host_ms - profile.groups.sum_ns * 1e-6 * (42 * k.div_ceil(group)) as f64).abs() < 1e-12);
        assert!((time.build_ms - profile.graph.build_ms * k.div_ceil(group) as f64).abs() < 1e-9);
    }
    // Shorter groups are more launches and more sums.
    let profile = Profile::hexagon_8gen3();
    let times = [32, 64, 128].map(|group| profile.grouped_ms(64, 2048, 2048, group));
    assert!(times[0] > 1.9 * times[1] && times[1] > 1.9 * times[2]);
}

#[test]
fn the_repair_replaces_outputs_at_the_ends_alone() {
    let draw = &mut Draw::new(208);
    let (m, n, k, t) = (14, 40, 60, 0.25);
    let w = weights(draw, Scheme::int(8).per_tensor(), n, k);
    let edges = [-128.0, 127.0, 128.0, 200.0, -200.0, 30_000.0, -30_000.0];
    let x = Mat::from_fn(m, k, |r, c| {
        t * if c % 20 == 3 {
            edges[r % 7]
        } else {
            draw.signed() * 100.0
        }
    });
    let mode = |saturate| Mode::A8Static { scale: t, saturate };
    let device = npu::int8();
    let prepared = Backend::prepare(&device, &w).unwrap();
    Backend::compile(&device, &prepared, m).unwrap();
    let mut clamped = Mat::<f32>::zeros(m, n);
    let out = clamped.view_mut().into();
    Backend::run(&device, &prepared, x.view().into(), mode(true), &Epilogue::new(), out).unwrap();
    // What it should have been, in double precision.
    let level = |n: usize, k: usize| f64::from(w.scale(n, 0)) * (f64::from(w.code_row(n)[k]) - 128.0);
    let whole = Mat::from_fn(m, n, |r, c| {
        let terms = (0..k).map(|k| f64::from((x.view().row(r)[k] / t).round_ties_even()) * level(c, k));
        terms.sum::<f64>() * f64::from(t)
    });
    for scale in [0.01f32, 0.05, 40.0] {
        let mut y = Mat::<i8>::zeros(m, n);
        device
            .run_int8(&prepared, (x.view().into(), mode(true)), scale, y.view_mut())
            .unwrap();
        let repaired = repair(&w, x.view().into(), t, scale, y.view()).unwrap();
        let mut ends = 0;
        for i in 0..m * n {
            let (y, fixed) = (y.data()[i], repaired.values.data()[i]);
            let own = (clamped.data()[i] / scale).round_ties_even().clamp(-128.0, 127.0);
            assert_eq!(f32::from(y), own);
            if y == 127 || y == -128 {
                ends += 1;
                let exact = whole.data()[i] / f64::from(scale);
                // One rounding of the sum, three of the scales, one to an integer.
                let bound = 0.5 + exact.abs() * 4.0 * f64::from(f32::EPSILON);
                assert!((f64::from(fixed) - exact).abs() <= bound, "{fixed} for {exact}");
            } else {
                assert_eq!(fixed, i32::from(y));
            }
        }
        assert_eq!(repaired.count, ends);
        assert!(scale > 1.0 || ends > m, "{ends} at scale {scale}");
    }
    let y = Mat::<i8>::from_fn(m, n, |_, _| 127);
    let all = |w: &QuantMatrix, x: &Mat<f32>, t, s| message(repair(w, x.view().into(), t, s, y.view()));
    assert!(all(&w, &x, t, 0.0).starts_with("output scale: expected a finite positive scale, found 0"));
    assert!(all(&w, &x, f32::NAN, 1.0).starts_with("scale of a8static"));
    assert!(all(&w, &x, 1e-6, 1.0).contains("below 2^23"));
    assert!(all(&w, &x, t, 1e-30).contains("below 2^31 scales"));
    assert!(all(&weights(draw, Scheme::int(8).group(32), n, k), &x, t, 1.0).starts_with("w: expected one scale"));
    assert!(all(&weights(draw, Scheme::int(8).per_tensor(), 3, k), &x, t, 1.0).starts_with("y: expected 14 x 3"));
    assert!(all(&w, &Mat::zeros(m, k - 1), t, 1.0).starts_with("x: expected K = 60"));
    let mut nan = x.clone();
    nan.view_mut().row_mut(5)[2] = f32::NAN;
    assert!(all(&w, &nan, t, 1.0).starts_with("x: expected"));
    let mut out = Mat::<i8>::zeros(m, n);
    let run = device.run_int8(&prepared, (nan.view().into(), mode(true)), 1.0, out.view_mut());
    assert!(message(run).starts_with("y: expected finite outputs"));
    let mut short = Mat::<i8>::zeros(m, n - 1);
    let run = device.run_int8(&prepared, (x.view().into(), mode(true)), 1.0, short.view_mut());
    assert!(message(run).starts_with("y: expected 14 x 40, found 14 x 39"));
}

#[test]
fn profiles_name_the_key_that_is_wrong() {
    let good = "
        name = 'mine'
        source = 'measured by me'
        window_bytes = 1_000_000
        setup_ms = 1
        product = { launch_ms = 0.1, weight_bytes_per_ms = 1e7, macs_per_ms = 1e9, flat_penalty = 0 }
        graph = { build_ms = 1, optimise_ms = 1, optimise_exponent = 1, free_ms = 1 }
        groups = { sum_ns = 1 }
        ";
    let mine = Profile::from_toml(good).unwrap();
    assert_eq!((mine.name.as_str(), mine.comparisons().len()), ("mine", 0));
    // Without a penalty all grids take the same time.
    assert_eq!(mine.best(1024, 64, 64), Arrangement::flat(1024));
    for (from, to, words) in [
        (
            "launch_ms = 0.1",
            "launch_ms = -0.1",
            "product.launch_ms: expected 0 or more, found -0.1",
        ),
        (
            "macs_per_ms = 1e9",
            "macs_per_ms = 0",
            "product.macs_per_ms: expected a positive number, found 0",
        ),
        (
            "weight_bytes_per_ms = 1e7",
            "weight_bytes_per_ms = nan",
            "product.weight_bytes_per_ms: expected a positive",
        ),
        (
            "sum_ns = 1",
            "sum_ns = inf",
            "groups.sum_ns: expected 0 or more, found inf",
        ),
        ("setup_ms = 1", "", "missing field `setup_ms`"),
        (
            "setup_ms = 1",
            "setup_ms = 'long'",
            "line 5 `setup_ms = 'long'`: invalid type",
        ),
        ("free_ms = 1 }", "free = 1 }", "unknown field `free`"),
        (
            "window_bytes = 1_000_000",
            "window_bytes = -1",
            "line 4 `window_bytes = -1`",
        ),
        ("setup_ms = 1", "setup_ms = ", "line 5"),
    ] {
        let text = good.replace(from, to);
        let error = Profile::from_toml(&text).unwrap_err().to_string();
        assert!(error.contains(words) && !error.contains('\n'), "{to:?}: {error}");
    }
    let text = format!("{good}\n[published]\nproducts = [{{ m = 1, k = 1, n = 1, ms = 0, source = 'x' }}]");
    let error = Profile::from_toml(&text).unwrap_err().to_string();
    assert_eq!(error, "published.products.ms: expected a positive number, found 0");
    assert!(Profile::from_toml(&format!("{good}\n[published]\nshapes = []")).is_err());
}
