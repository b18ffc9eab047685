//! The catalogue of accelerators, the INT8 array, and devices with values of another backend.
#![forbid(unsafe_code)]

use mixgemm::accel::catalogue::{ACCELERATORS, find, names, tpu};
use mixgemm::testing::{Draw, Inputs, STATIC, weights};
use mixgemm::{
    Activations, AnyBackend, Backend, Counters, Epilogue, Error, GroupSums, Host, Isa, Mat, MixPe, Mode, QuantMatrix,
    Scheme,
};
use std::collections::BTreeSet;

#[test]
fn names_are_unique_and_found() {
    let all: Vec<_> = ACCELERATORS.iter().map(|a| a.name()).collect();
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    let modes = [
        Mode::A8,
        Mode::A8Row,
        Mode::A8Given,
        STATIC,
        Mode::A16,
        Mode::Exact,
        Mode::Native,
    ];
    for accelerator in ACCELERATORS {
        let device = accelerator.device();
        assert!(device.capabilities().emulated, "{}", device.name());
        for mode in modes.into_iter().filter(|&mode| device.capabilities().takes(mode)) {
            assert_eq!(find(device.name(), mode).unwrap().name(), device.name());
        }
        // What rounds has no other source of values; what does not round takes part in every equality test.
        let fast = accelerator.with_values_from(Box::new(Host::new()));
        assert_eq!(fast.is_some(), !device.capabilities().native, "{}", device.name());
    }
    let every: Vec<_> = names().collect();
    assert_eq!(every.iter().collect::<BTreeSet<_>>().len(), every.len(), "{every:?}");
    assert!(all.iter().all(|name| every.contains(name)));
    for (name, mode, expected) in [
        ("mixpe", Mode::A8, "mixpe-w4a8"),
        ("mixpe", Mode::Exact, "mixpe-w4a16"),
        ("mixpe", Mode::Native, "mixpe-w4a16-fused"),
        ("mixpe-w4a16", Mode::Native, "mixpe-w4a16-fused"),
        ("tpu", STATIC, "tpu-int8"),
        ("dequant", Mode::Native, "dequant-w4a16"),
        ("fp16", Mode::Native, "fp16"),
    ] {
        assert!(every.contains(&name));
        assert_eq!(find(name, mode).unwrap().name(), expected);
    }
}

/// Every accelerator has values and a cost under one name, and none has one of them alone.
#[cfg(feature = "lab")]
#[test]
fn values_and_costs_have_the_same_names() {
    use mixgemm::accel::catalogue::{Accelerator, named};
    use mixgemm::accel::hardware::Hardware;
    // An NPU has a latency model instead of parts.
    let npu = |name: &&str| name.starts_with("npu");
    let all = ACCELERATORS.iter().map(Accelerator::name);
    let (npus, values): (BTreeSet<&str>, BTreeSet<&str>) = all.partition(npu);
    for name in npus {
        let error = named(name).unwrap().hardware().unwrap_err().to_string();
        assert!(
            error.starts_with("device: expected an accelerator with the cost of its parts"),
            "{error}"
        );
    }
    let costs: BTreeSet<&str> = Hardware::catalogue().iter().map(|hardware| &*hardware.name).collect();
    assert_eq!(values, costs);
    for name in values {
        assert_eq!(named(name).unwrap().hardware(), Hardware::named(name), "{name}");
        assert_eq!(Hardware::named(name).unwrap().name, name);
    }
    let stranger = Accelerator::new(|| Box::new(tpu::int8()), "name = 'other'\nbase = 'tpu-int8'");
    let error = stranger.hardware().unwrap_err().to_string();
    assert_eq!(error, "name: expected tpu-int8, found other");
}

#[test]
fn what_is_not_there_is_named() {
    for (name, mode, expected) in [
        ("gpu", Mode::A8, "backend: expected mixpe, mixpe-w4a8, "),
        ("mix", Mode::A8, "backend: expected mixpe, "),
        ("", Mode::A8, "backend: expected mixpe, "),
        ("mixpe-", Mode::A8, "backend: expected mixpe, "),
        (
            "mixpe",
            Mode::A16,
            "mode: expected a8, a8row, a8given, a8static, exact, native, found a16",
        ),
        (
            "mixpe-w4a8",
            Mode::Exact,
            "mode: expected a8, a8row, a8given, a8static, found exact",
        ),
        ("fp16", Mode::Exact, "mode: expected native, found exact"),
        ("npu", Mode::A8, "mode: expected a8given, a8static, found a8"),
    ] {
        let error = find(name, mode).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}

fn run(device: &dyn AnyBackend, w: &QuantMatrix, x: Activations<'_>, mode: Mode) -> (Mat<f32>, &'static str, Counters) {
    let mut y = Mat::from_fn(x.shape().0, w.n(), |_, _| f32::NAN);
    let prepared = device.prepare(w).unwrap();
    let report = device
        .run(&prepared, x, mode, &Epilogue::new(), y.view_mut().into())
        .unwrap();
    (y, report.kernel, report.counters)
}

/// All 65 536 products, as sums of one term each. Asymmetric weights are fed as `q − 128` and corrected by `z − 128`.
#[test]
fn the_int8_array_multiplies_all_pairs() {
    let device = tpu::int8();
    for zero in [None, Some(0), Some(1), Some(127), Some(128), Some(256)] {
        let scheme = Scheme::int(8).per_tensor();
        let (scheme, zeros) = match zero {
            None => (scheme, mixgemm::Zeros::Symmetric),
            Some(z) => (scheme.asymmetric(), mixgemm::Zeros::Integer(vec![z])),
        };
        let codes = (0..=255).collect();
        let scales = mixgemm::Floats::from_f32(scheme.scale, &[1.0]);
        let w = QuantMatrix::from_parts(scheme, 256, 1, codes, scales, zeros).unwrap();
        let x = Mat::from_fn(256, 1, |m, _| (m as i32 - 128) as i8);
        let mut sums = vec![0; 65_536];
        let prepared = Backend::prepare(&device, &w).unwrap();
        let x = Activations::int8(x.view(), 1.0);
        Backend::group_sums(&device, &prepared, x, Mode::A8Given, GroupSums::I64(&mut sums)).unwrap();
        for (i, sum) in sums.into_iter().enumerate() {
            let (x, q) = (i as i64 / 256 - 128, i as i64 % 256);
            assert_eq!(sum, x * (q - i64::from(zero.unwrap_or(128))), "{x} x {q} with {zero:?}");
        }
    }
}

#[test]
fn the_int8_array_counts_what_it_does() {
    let draw = &mut Draw::new(71);
    let (m, n, k) = (11, 5, 70);
    let inputs = Inputs::new(draw, m, k);
    for (scheme, corrected, widened) in [
        (Scheme::int(8).group(32), false, false),
        (Scheme::int(8).group(32).asymmetric(), true, false),
        (Scheme::int(4).group(32), false, true),
        (Scheme::int(4).group(32).asymmetric(), true, true),
        (Scheme::int(4).group(32).float_zero(), true, true),
    ] {
        let w = weights(draw, scheme, n, k);
        let (_, kernel, counters) = run(&tpu::int8(), &w, inputs.f32.view().into(), Mode::A8);
        let (rows, columns, depth) = (m as u64, n as u64, k as u64);
        let expected = Counters {
            macs: rows * columns * depth,
            shifts: 0,
            adds: rows * columns * depth,
            scale_multiplications: rows * columns * 3,
            zero_point_terms: if corrected { rows * columns * 3 } else { 0 },
            activation_sums: if corrected { rows * 3 } else { 0 },
            weight_conversions: if widened { columns * depth } else { 0 },
            overflows: 0,
        };
        assert_eq!((kernel, counters), ("multiply-w8a8", expected), "{scheme:?}");
    }
}

/// A device with the host's values has the element's counters, in rows with non-finite inputs too, and says whose kernel
/// computed. That the bits are equal is tested with all backends.
#[test]
fn values_of_another_backend() {
    let draw = &mut Draw::new(72);
    for scheme in [
        Scheme::int(4).group(32).asymmetric(),
        Scheme::int(3).group(9),
        Scheme::int(1).per_channel(),
        Scheme::int(2).per_tensor().float_zero(),
    ] {
        for (m, n, k) in [(13, 9, 70), (1, 3, 32), (0, 4, 8), (4, 0, 8), (4, 4, 0)] {
            let w = weights(draw, scheme, n, k);
            let mut inputs = Inputs::new(draw, m, k);
            if m > 4 {
                inputs.f32.view_mut().row_mut(3)[1] = f32::NAN;
                inputs.f16.view_mut().row_mut(0)[k - 1] = mixgemm::f16::INFINITY;
                inputs.bf16.view_mut().row_mut(4)[0] = mixgemm::bf16::NEG_INFINITY;
            }
            for accelerator in ACCELERATORS {
                let own = accelerator.device();
                if own.capabilities().static_shapes {
                    continue; // Has tests of its own.
                }
                let scalar = Host::new().isa(Isa::Scalar).unwrap();
                let Some(fast) = accelerator.with_values_from(Box::new(scalar)) else {
                    continue;
                };
                assert_eq!((fast.name(), fast.capabilities()), (own.name(), own.capabilities()));
                for (mode, x) in inputs.cases() {
                    if own.capabilities().takes(mode) {
                        let (slow, quick) = (run(own.as_ref(), &w, x, mode), run(fast.as_ref(), &w, x, mode));
                        assert_eq!(slow.2, quick.2, "{} {mode:?} {scheme:?} {:?}", own.name(), (m, n, k));
                        assert!(
                            m == 0 || n == 0 || slow.1 != quick.1 && quick.1.ends_with("-scalar"),
                            "{}",
                            quick.1
                        );
                    }
                }
            }
        }
    }
}

/// What the device does not take stays refused, though the host would take it; and the other way round.
#[test]
fn a_device_with_other_values_takes_what_both_take() {
    let draw = &mut Draw::new(73);
    let fast = MixPe::w4a8().with_values_from(Box::new(Host::new().isa(Isa::Scalar).unwrap()));
    let wide = weights(draw, Scheme::int(8), 2, 8);
    assert_eq!(
        fast.prepare(&wide).unwrap_err(),
        Error::unsupported("bits", "at most 4", "8")
    );
    let w = weights(draw, Scheme::int(4), 2, 8);
    let x = Mat::<f32>::zeros(1, 8);
    let mut y = Mat::<f32>::zeros(1, 2);
    let error = fast.run(
        &fast.prepare(&w).unwrap(),
        x.view().into(),
        Mode::A16,
        &Epilogue::new(),
        y.view_mut().into(),
    );
    assert_eq!(
        error.unwrap_err(),
        Error::unsupported("mode", "a8, a8row, a8given, a8static", "a16")
    );
    let neither = MixPe::w4a8().with_values_from(Box::new(MixPe::w4a16()));
    let capabilities = neither.capabilities();
    assert!(!(capabilities.a8 || capabilities.a16 || capabilities.exact || capabilities.native));
}
