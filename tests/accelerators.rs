//! Values and cost of one accelerator, from one object.
#![cfg(feature = "lab")]
#![forbid(unsafe_code)]

use mixgemm::accel::catalogue::{ACCELERATORS, find};
use mixgemm::accel::hardware::dequantise::Position;
use mixgemm::testing::{Draw, Inputs};
use mixgemm::{Epilogue, Mat, Mode, QuantMatrix, Scheme};

/// Values and cost of one accelerator speak of the same product: what the device counts is what is charged.
#[test]
fn what_devices_count_is_what_is_charged() {
    let (m, n, k) = (5, 7, 96);
    let inputs = Inputs::new(&mut Draw::new(81), m, k);
    let values = Mat::from_fn(n, k, |n, k| ((n * k + n) as f32 * 0.7).sin());
    let mut compared = 0;
    // An NPU has a latency model instead of parts.
    for accelerator in ACCELERATORS.iter().filter(|a| a.cost_file().is_some()) {
        for scheme in [
            Scheme::int(4).group(32),
            Scheme::int(4).group(32).asymmetric(),
            Scheme::int(3).group(40).asymmetric(),
            Scheme::int(2).per_channel(),
        ] {
            let w = QuantMatrix::quantize(values.view(), scheme).unwrap();
            let native = (Mode::Native, inputs.f16.view().into());
            for (mode, x) in inputs.cases().into_iter().chain([native]) {
                if !accelerator.device().capabilities().takes(mode) {
                    continue;
                }
                let mut y = Mat::<f32>::zeros(m, n);
                let out = y.view_mut().into();
                let (report, estimate) = accelerator.run(&w, x, mode, &Epilogue::new(), out).unwrap();
                let (counted, charged) = (report.counters, estimate.scalings);
                let what = format!("{} {mode:?} {scheme:?}", accelerator.name());
                let position = accelerator.hardware().unwrap().dequantisation.position;
                assert_eq!(counted.macs, estimate.macs, "{what}");
                assert_eq!(counted.zero_point_terms, charged.zero_terms, "{what}");
                // One call is one pass over the weights, and so is one fill of 32 rows.
                let converted = charged.weights + charged.widenings;
                if position == Position::None {
                    // Codes that are stored as f16 are converted before they are stored.
                    assert_eq!((counted.weight_conversions, converted), ((n * k) as u64, 0), "{what}");
                } else {
                    assert_eq!(counted.weight_conversions, converted, "{what}");
                    assert_eq!(counted.scale_multiplications, charged.sums, "{what}");
                }
                compared += 1;
            }
        }
    }
    assert!(compared > 60, "{compared}");
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
    mixgemm::reference::run(&w, x.view().into(), mode, &none, defined.view_mut().into()).unwrap();
    assert_eq!(y, defined);
    let json = serde_json::to_value(estimate).unwrap();
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
    // A product without operations has no cost.
    let (none, x) = (Epilogue::new(), Mat::<f32>::zeros(0, 64));
    let mut y = Mat::<f32>::zeros(0, 8);
    let error = mixpe
        .run(&w, x.view().into(), mode, &none, y.view_mut().into())
        .unwrap_err();
    assert!(
        error.to_string().starts_with("extents.m: expected at least 1"),
        "{error}"
    );
}
