//! Values and cost of one accelerator, from one object.
#![cfg(feature = "lab")]
#![forbid(unsafe_code)]

use mixgemm::accel::catalogue::{ACCELERATORS, find};
use mixgemm::accel::hardware::dequantise::Position;
use mixgemm::testing::{Draw, Inputs};
use mixgemm::{Activations, Epilogue, Figures, Mat, Mode, QuantMatrix, Scheme, f16, reference};

/// Values and cost of one accelerator speak of the same product: what the device counts is what is charged, with one
/// pass over the weights or three, with groups that fit K or not; and the values are those of the definition.
#[test]
fn what_devices_count_is_what_is_charged() {
    let (mut compared, mut refused) = (0, 0);
    for (m, n, k) in [(5, 7, 96), (70, 5, 300), (1, 40, 260)] {
        let inputs = Inputs::new(&mut Draw::new(81), m, k);
        let values = Mat::from_fn(n, k, |n, k| ((n * k + n) as f32 * 0.7).sin());
        // Nothing of these overflows an f16 on its way.
        let gentle = Mat::from_fn(m, k, |m, k| f16::from_f32(((m * 31 + k) as f32 * 0.3).sin()));
        // An NPU has a latency model instead of parts.
        for accelerator in ACCELERATORS.iter().filter(|a| a.cost_file().is_some()) {
            for scheme in [
                Scheme::int(4).group(32),
                Scheme::int(4).group(128).asymmetric(),
                Scheme::int(3).group(40).asymmetric(),
                Scheme::int(2).per_channel(),
            ] {
                let w = QuantMatrix::quantize(values.view(), scheme).unwrap();
                let native = (Mode::Native, gentle.view().into());
                for (mode, x) in inputs.cases().into_iter().chain([native]) {
                    if !accelerator.device().capabilities().takes(mode) {
                        continue;
                    }
                    let what = format!("{} {mode:?} {scheme:?} {m}x{n}x{k}", accelerator.name());
                    let (mut y, mut defined) = (Mat::<f32>::zeros(m, n), Mat::<f32>::zeros(m, n));
                    let none = Epilogue::new();
                    let (report, estimate) = accelerator.run(&w, x, mode, &none, y.view_mut().into()).unwrap();
                    let exact = if mode == Mode::Native { Mode::Exact } else { mode };
                    reference::run(&w, x, exact, &none, defined.view_mut().into()).unwrap();
                    if mode == Mode::Native {
                        let found = Figures::of_f32(defined.view(), y.view()).unwrap().sqnr_db;
                        assert!(found > 20.0, "{what}: {found} dB");
                    } else {
                        assert_eq!(y, defined, "{what}");
                    }
                    let groups = k.div_ceil(scheme.group_length(k));
                    assert_eq!(report.counters.macs, (m * n * k) as u64, "{what}");
                    let estimate = match estimate {
                        Ok(estimate) => estimate,
                        // 52 bits hold sums of 128 products of f16; the values are there all the same.
                        Err(error) => {
                            let error = error.to_string();
                            assert!(
                                error.starts_with("element.accumulator: expected one that holds sums"),
                                "{error}"
                            );
                            assert!(accelerator.name() == "mixpe-w4a16" && groups == 1 && k > 128, "{what}");
                            refused += 1;
                            continue;
                        }
                    };
                    let (counted, charged) = (report.counters, estimate.scalings);
                    let position = accelerator.hardware().unwrap().dequantisation.position;
                    assert_eq!(counted.macs, estimate.macs, "{what}");
                    assert_eq!(counted.zero_point_terms, charged.zero_terms, "{what}");
                    // B is formed once for a row and group, from all of its activations.
                    let zeros = charged.zero_terms > 0;
                    let sums = if zeros { [m * groups, m * k] } else { [0, 0] };
                    let found = [counted.activation_sums, charged.activation_sums];
                    assert_eq!(found, sums.map(|sum| sum as u64), "{what}");
                    // A call goes over the weights once, an array once for every fill of its 32 rows.
                    let passes = m.div_ceil(32) as u64;
                    let converted = charged.weights + charged.widenings;
                    if position == Position::None {
                        // Codes that are stored as f16 are converted before they are stored.
                        assert_eq!((counted.weight_conversions, converted), ((n * k) as u64, 0), "{what}");
                    } else {
                        assert_eq!(counted.weight_conversions * passes, converted, "{what}");
                        assert_eq!(counted.scale_multiplications, charged.sums, "{what}");
                    }
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 300 && refused > 0, "{compared} {refused}");
}

/// Whether every figure has a unit in its name or that of what it is part of, or is a count.
fn check_units(path: &str, value: &serde_json::Value) {
    const UNITS: [&str; 4] = ["_pj", "_um2", "_bits", "seconds"];
    const COUNTS: [&str; 7] = [
        "macs",
        "cycles",
        "stall_cycles",
        "compute_cycles",
        "scalings",
        "walk",
        "tile",
    ];
    match value {
        serde_json::Value::Object(fields) => {
            for (name, value) in fields {
                check_units(&format!("{path}/{name}"), value);
            }
        }
        serde_json::Value::String(_) => assert!(path.ends_with("/order"), "{path}"),
        _ => {
            let named = |part: &str| UNITS.iter().any(|unit| part.ends_with(unit)) || COUNTS.contains(&part);
            assert!(path.split('/').any(named), "{path}");
        }
    }
}

/// One accelerator returns everything: output, cycles, stalls, bits moved at every level, energy by consumer, area; every
/// figure in JSON has a unit in its name or is a count.
#[test]
fn an_accelerator_returns_values_and_cost() {
    let weights = Mat::from_fn(8, 64, |n, k| ((n * 64 + k) as f32 * 0.7).sin());
    let w = QuantMatrix::quantize(weights.view(), Scheme::int(4).group(32).asymmetric()).unwrap();
    let x = Mat::from_fn(3, 64, |m, k| (m + k) as f32);
    let (mut y, mut defined) = (Mat::<f32>::zeros(3, 8), Mat::<f32>::zeros(3, 8));
    let (mode, none) = (Mode::A8, Epilogue::new());
    let mixpe = find("mixpe", mode).unwrap();
    let (_, estimate) = mixpe
        .run(&w, x.view().into(), mode, &none, y.view_mut().into())
        .unwrap();
    reference::run(&w, x.view().into(), mode, &none, defined.view_mut().into()).unwrap();
    assert_eq!(y, defined);
    let json = serde_json::to_value(estimate.unwrap()).unwrap();
    check_units("", &json);
    for path in [
        "/cycles",
        "/stall_cycles",
        "/seconds",
        "/traffic/dram_bits/weight_read",
        "/traffic/sram_bits/weight/read",
        "/energy/core_pj",
        "/energy/dram_pj",
        "/area/core_um2",
        "/scalings/sums",
        "/scaling_pj/sums",
    ] {
        assert!(
            json.pointer(path)
                .is_some_and(|value| value.as_f64() > Some(0.0) || path == "/stall_cycles"),
            "{path}"
        );
    }
}

/// What has no cost has values: a product without operations, and one on an NPU, whose parts nobody published.
#[test]
fn where_only_the_cost_is_refused_values_are_there() {
    let w = QuantMatrix::quantize(
        Mat::from_fn(8, 64, |n, k| (n + k) as f32).view(),
        Scheme::int(8).per_tensor(),
    )
    .unwrap();
    let (none, mode) = (Epilogue::new(), Mode::A8Given);
    for (name, m, expected) in [
        ("tpu-int8", 0, "extents.m: expected at least 1"),
        ("npu", 3, "device: expected an accelerator with the cost of its parts"),
    ] {
        let x = Mat::from_fn(m, 64, |m, k| (m as i8 + 1) * (k as i8 - 30));
        let (mut y, mut defined) = (Mat::<f32>::zeros(m, 8), Mat::<f32>::zeros(m, 8));
        let x = Activations::int8(x.view(), 0.5);
        let accelerator = find(name, mode).unwrap();
        let (report, estimate) = accelerator.run(&w, x, mode, &none, y.view_mut().into()).unwrap();
        reference::run(&w, x, mode, &none, defined.view_mut().into()).unwrap();
        assert!(y == defined && report.counters.macs == (m * 8 * 64) as u64, "{name}");
        let error = estimate.unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}
