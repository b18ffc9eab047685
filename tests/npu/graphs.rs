//! The life of graphs, the window of addresses, the clock, and what shapes and groups cost.

use crate::{CLAMPED, bits, host, message};
use mixgemm::accel::catalogue::npu;
use mixgemm::accel::npu::Npu;
use mixgemm::accel::npu::grouped::Grouped;
use mixgemm::accel::npu::profile::{Arrangement, Profile};
use mixgemm::backend::DeviceTime;
use mixgemm::testing::{Draw, Inputs, weights};
use mixgemm::{Backend, Epilogue, Error, Mat, Mode, Scheme};

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
    let endless = Arrangement {
        height: usize::MAX,
        width: 2,
    };
    assert!(matches!(device.build_as(&w, endless).unwrap_err(), Error::Value { .. }));

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

/// Groups whose graphs do not fit the window together are built for their turn and freed after it; the bits are the same.
#[test]
fn groups_take_turns_in_a_small_window() {
    let draw = &mut Draw::new(210);
    let (m, n, k, group) = (6, 7, 120, 32);
    let w = weights(draw, Scheme::int(8).group(group).asymmetric(), n, k);
    let x = Inputs::new(draw, m, k).f32;
    // Three groups of 32 and one of 24.
    let bytes = (n * group + m * group + 4 * m * n) as u64;
    let mut expected = Mat::<f32>::zeros(m, n);
    let out = expected.view_mut().into();
    mixgemm::reference::run(&w, x.view().into(), Mode::A8, &Epilogue::new(), out).unwrap();
    // The window in graphs of 32; graphs that stay, builds to compile, builds of every product.
    for (window, stay, compiled, each) in [
        (4 * bytes, 4, 4, 0),
        (3 * bytes, 2, 4, 2),
        (2 * bytes + 1, 1, 3, 3),
        (bytes, 0, 2, 4),
    ] {
        let mut profile = Profile::hexagon_8gen3().clone();
        profile.window_bytes = window;
        let device = Grouped::new(Npu::new(profile));
        let prepared = Backend::prepare(&device, &w).unwrap();
        let run = || {
            let mut y = Mat::<f32>::zeros(m, n);
            let out = y.view_mut().into();
            let done = Backend::run(&device, &prepared, x.view().into(), Mode::A8, &Epilogue::new(), out);
            done.map(|_| bits(&y))
        };
        assert!(message(run()).starts_with("x: expected a shape that a graph is built for"));
        Backend::compile(&device, &prepared, m).unwrap();
        let builds = |time: DeviceTime| (time.build_ms / device.npu().profile().graph.build_ms).round() as usize;
        let frees = |time: DeviceTime| (time.free_ms / device.npu().profile().graph.free_ms).round() as usize;
        let time = || Backend::device_time(&device).unwrap();
        let held = (0..stay)
            .map(|g| if g == 3 { bytes - (n + m) as u64 * 8 } else { bytes })
            .sum::<u64>();
        assert_eq!((builds(time()), device.npu().bytes()), (compiled, held), "{window}");
        Backend::compile(&device, &prepared, m).unwrap();
        for products in 1..=2 {
            assert_eq!(run().unwrap(), bits(&expected), "{window}");
            assert_eq!(
                (builds(time()), device.npu().bytes()),
                (compiled + products * each, held),
                "{window}"
            );
        }
        let model = 2.0 * device.npu().profile().grouped_ms(m, n, k, group);
        assert!((time().execute_ms + time().host_ms - model).abs() < 1e-9);
        Backend::release(&device, &prepared, m).unwrap();
        assert_eq!((frees(time()), device.npu().bytes()), (builds(time()), 0), "{window}");
        assert!(message(run()).starts_with("x: expected a shape that a graph is built for"));
    }
    // Threads that compile and run meet neither each other's graphs nor each other's locks.
    let mut profile = Profile::hexagon_8gen3().clone();
    profile.window_bytes = 2 * bytes + 1;
    let device = Grouped::new(Npu::new(profile));
    let prepared = Backend::prepare(&device, &w).unwrap();
    std::thread::scope(|s| {
        for _ in 0..3 {
            s.spawn(|| {
                for _ in 0..200 {
                    let mut y = Mat::<f32>::zeros(m, n);
                    let out = y.view_mut().into();
                    Backend::compile(&device, &prepared, m).unwrap();
                    Backend::run(&device, &prepared, x.view().into(), Mode::A8, &Epilogue::new(), out).unwrap();
                    assert_eq!(bits(&y), bits(&expected));
                }
            });
        }
    });
    // Too little for a single group: refused, and nothing of it is left.
    let mut profile = Profile::hexagon_8gen3().clone();
    profile.window_bytes = bytes - 1;
    let device = Grouped::new(Npu::new(profile));
    let prepared = Backend::prepare(&device, &w).unwrap();
    let error = Backend::compile(&device, &prepared, m).unwrap_err();
    assert!(matches!(error, Error::Memory { .. }), "{error}");
    assert_eq!(device.npu().bytes(), 0);
}

/// A group at a time costs a launch for each group and the host's sums; the model of it is the sum of what is accounted.
#[test]
fn groups_cost_what_the_model_says() {
    let draw = &mut Draw::new(207);
    for (k, group) in [(128, 32), (100, 32), (64, 64)] {
        let device = npu::grouped();
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
