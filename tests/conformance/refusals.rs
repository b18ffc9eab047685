//! Operands that do not fit are errors that name the argument, on every backend; nothing panics.
#![forbid(unsafe_code)]

use mixgemm::kernel::catalogue;
use mixgemm::pack::layout::PanelLayout;
use mixgemm::testing::{Draw, Inputs, for_each_backend, weights};
use mixgemm::{
    Activations, CodeBook, Epilogue, Error, GroupSums, Host, Isa, Mat, MixPe, Mode, Par, QuantMatrix, Scheme,
    Workspace, f16, reference,
};
use std::num::NonZeroUsize;

const M: usize = 3;
const N: usize = 20;
const K: usize = 24;

/// The argument that an error names.
fn argument(error: &Error) -> &'static str {
    match error {
        Error::Shape { argument, .. }
        | Error::Value { argument, .. }
        | Error::Unsupported { argument, .. }
        | Error::ForeignWeights { argument, .. }
        | Error::FloatEnvironment { argument, .. } => argument,
        other => panic!("{other}"),
    }
}

fn fixture() -> (QuantMatrix, Inputs) {
    let draw = &mut Draw::new(51);
    (
        weights(draw, Scheme::int(4).group(8).asymmetric(), N, K),
        Inputs::new(draw, M, K),
    )
}

/// `run` on this input is an error about `expected`, for backends that take the mode and for the reference.
fn refused(x: Activations<'_>, mode: Mode, epilogue: &Epilogue<'_>, y: (usize, usize), expected: &str) {
    let (w, _) = fixture();
    let mut out = Mat::<f32>::zeros(y.0, y.1);
    let error = reference::run(&w, x, mode, epilogue, out.view_mut().into()).unwrap_err();
    assert_eq!(argument(&error), expected, "{error}");
    for_each_backend(|name, backend| {
        if backend.capabilities().takes(mode) {
            let prepared = backend.prepare(&w).unwrap();
            let error = backend
                .run(&prepared, x, mode, epilogue, out.view_mut().into())
                .unwrap_err();
            assert_eq!(argument(&error), expected, "{name}: {error}");
            assert!(error.to_string().contains("expected"), "{error}");
        }
    });
}

#[test]
fn operands_that_do_not_fit_are_named() {
    let (_, inputs) = fixture();
    let plain = Epilogue::new();
    let x: Activations<'_> = inputs.f32.view().into();
    let short = Mat::<f32>::zeros(M, K - 1);
    refused(short.view().into(), Mode::A8, &plain, (M, N), "x");
    for y in [(M, N + 1), (M + 1, N), (M - 1, N), (N, M), (0, 0)] {
        refused(x, Mode::A16, &plain, y, "y");
    }
    for len in [N - 1, N + 1, 0] {
        refused(x, Mode::A8, &Epilogue::new().bias(&vec![0.0; len]), (M, N), "bias");
    }
    let residual = Mat::<f32>::zeros(M, N - 1);
    let epilogue = Epilogue::new().residual(residual.view());
    refused(x, Mode::A8, &epilogue, (M, N), "residual");
    refused(x, Mode::A8Given, &plain, (M, N), "x");
    refused(x, Mode::Exact, &plain, (M, N), "x");
    refused(inputs.bf16.view().into(), Mode::Exact, &plain, (M, N), "x");
    let i8 = Activations::int8(inputs.i8.view(), 0.5);
    for mode in [Mode::A8, Mode::A8Row, Mode::A16, Mode::Exact] {
        refused(i8, mode, &plain, (M, N), "mode");
    }
    let few = Activations::int8_rows(inputs.i8.view(), &inputs.scales[..M - 1]);
    refused(few, Mode::A8Given, &plain, (M, N), "input scales");
    for scale in [f32::NAN, f32::INFINITY] {
        let x = Activations::int8(inputs.i8.view(), scale);
        refused(x, Mode::A8Given, &plain, (M, N), "input scale");
    }
    for scale in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        let mode = Mode::A8Static { scale, saturate: true };
        refused(x, mode, &plain, (M, N), "scale of a8static");
    }
}

#[test]
fn values_beyond_a_calibrated_scale_are_refused_unless_clamping_was_asked_for() {
    let mode = |saturate| Mode::A8Static { scale: 1.0, saturate };
    let with = |value: f32| Mat::from_fn(M, K, |r, c| if (r, c) == (2, K - 1) { value } else { 1.0 });
    for (value, clamping, exact) in [
        (127.4, true, true),
        (-127.5, true, false),
        (-8_388_607.0, true, false),
        (8_388_608.0, false, false),
    ] {
        for (saturate, taken) in [(true, clamping), (false, exact)] {
            let x = with(value);
            if taken {
                let (w, _) = fixture();
                for_each_backend(|_, backend| {
                    if backend.capabilities().a8 {
                        let (mut y, prepared) = (Mat::<f32>::zeros(M, N), backend.prepare(&w).unwrap());
                        let (x, out) = (x.view().into(), y.view_mut().into());
                        backend
                            .run(&prepared, x, mode(saturate), &Epilogue::new(), out)
                            .unwrap();
                    }
                });
            } else {
                refused(x.view().into(), mode(saturate), &Epilogue::new(), (M, N), "x");
            }
        }
    }
}

#[test]
fn continued_folds_and_group_sums_check_their_outputs() {
    let (w, inputs) = fixture();
    for_each_backend(|name, backend| {
        let (mode, x): (Mode, Activations<'_>) = if backend.capabilities().a8 {
            (Mode::A8, inputs.f32.view().into())
        } else {
            (Mode::Exact, inputs.f16.view().into())
        };
        let prepared = backend.prepare(&w).unwrap();
        let mut y = Mat::<f32>::zeros(M, N + 1);
        let error = backend.accumulate(&prepared, x, mode, y.view_mut()).unwrap_err();
        assert_eq!(argument(&error), "y", "{name}");
        for len in [0, M * 3 * N - 1, M * 3 * N + 1] {
            let mut sums = vec![0; len];
            let error = backend
                .group_sums(&prepared, x, mode, GroupSums::I64(&mut sums))
                .unwrap_err();
            assert_eq!(argument(&error), "sums", "{name}");
        }
        let short = Mat::<f16>::zeros(M, K + 1);
        let error = backend
            .accumulate(&prepared, short.view().into(), mode, Mat::zeros(M, N).view_mut())
            .unwrap_err();
        assert_eq!(argument(&error), "x", "{name}");
    });
}

/// 32-bit sums are refused exactly from where they could overflow.
#[test]
fn narrow_sums_are_refused_where_they_could_overflow() {
    let draw = &mut Draw::new(52);
    for (bits, mode, longest) in [
        (8, Mode::A8, (1 << 16) - 1),
        (8, Mode::A16, 257),
        (4, Mode::A16, 4_112),
        (8, Mode::Exact, 0),
    ] {
        for (k, fits) in [(longest, true), (longest + 1, false)] {
            let w = weights(draw, Scheme::int(bits), 1, k);
            let (x, half) = (Mat::<f32>::zeros(1, k), Mat::<f16>::zeros(1, k));
            let x: Activations<'_> = if mode == Mode::Exact {
                half.view().into()
            } else {
                x.view().into()
            };
            let mut sums = vec![0; usize::from(k > 0)];
            let gemm = Host::new().prepare(&w).unwrap();
            let plan = gemm.plan(mode).unwrap();
            let result = plan.group_sums(&mut Workspace::new(), x, GroupSums::I32(&mut sums));
            assert_eq!(result.is_ok(), fits, "{bits} bits, K = {k}, {mode:?}");
        }
    }
}

#[test]
fn weights_of_another_backend_and_modes_of_another_element_are_refused() {
    let (w, inputs) = fixture();
    let mut all = Vec::new();
    for_each_backend(|name, backend| all.push((name.to_string(), backend.prepare(&w).unwrap())));
    for_each_backend(|name, backend| {
        let mode = if backend.capabilities().a8 {
            Mode::A8
        } else {
            Mode::Exact
        };
        for (from, prepared) in &all {
            let mut y = Mat::<f32>::zeros(M, N);
            let (x, out) = (inputs.f16.view().into(), y.view_mut().into());
            let result = backend.run(prepared, x, mode, &Epilogue::new(), out);
            // All tiers of the host share their weights, and so do all exact devices; fast ones count for one device.
            let kind = |label: &str| match label.split_once(' ') {
                Some(("host", _)) => "host".to_string(),
                Some(_) => label.to_string(),
                None => "device".to_string(),
            };
            let same_kind = kind(from) == kind(name);
            match result {
                Ok(_) => assert!(same_kind, "{name} took the weights of {from}"),
                Err(error) => {
                    assert!(!same_kind && matches!(error, Error::ForeignWeights { .. }), "{error}");
                    let from = from.split(' ').next().unwrap();
                    assert!(error.to_string().contains(from), "{error}");
                }
            }
        }
        for (mode, x) in inputs.cases() {
            if !backend.capabilities().takes(mode) {
                let mut y = Mat::<f32>::zeros(M, N);
                let (prepared, out) = (backend.prepare(&w).unwrap(), y.view_mut().into());
                let error = backend.run(&prepared, x, mode, &Epilogue::new(), out).unwrap_err();
                assert_eq!(argument(&error), "mode", "{name}: {error}");
            }
        }
    });
    let wide = weights(&mut Draw::new(53), Scheme::int(5), 3, 8);
    let error = mixgemm::Backend::prepare(&MixPe::w4a8(), &wide).unwrap_err();
    assert_eq!(argument(&error), "bits");
    let book = weights(&mut Draw::new(53), Scheme::book(CodeBook::MXFP4), 3, 8);
    let error = mixgemm::Backend::prepare(&MixPe::w4a8(), &book).unwrap_err();
    assert_eq!(argument(&error), "book");
    for scheme in [
        Scheme::book(CodeBook::MXFP4).asymmetric(),
        Scheme::book(CodeBook::MXFP4).float_zero(),
        Scheme {
            bits: 3,
            ..Scheme::book(CodeBook::MXFP4)
        },
    ] {
        assert_eq!(argument(&scheme.check().unwrap_err()), "book");
    }
}

/// Tiers of equal lanes share one layout, and the portable kernels read all of them.
#[test]
fn plans_change_tiers_only_between_equal_layouts() {
    let draw = &mut Draw::new(54);
    let inputs = Inputs::new(draw, 9, K);
    let plain = (1..=8).map(|bits| Scheme::int(bits).asymmetric());
    for scheme in plain.chain([Scheme::book(CodeBook::IQ4_NL)]) {
        let (bits, book) = (scheme.bits, scheme.book.is_some());
        let w = weights(draw, scheme.group(8), N, K);
        for lanes in [3, 4, 5, 8, 16] {
            let layout = PanelLayout { lanes, bits, book };
            let gemm = Host::new().isa(Isa::Scalar).unwrap().prepare_as(&w, layout).unwrap();
            for (mode, x) in inputs.cases() {
                let mut expected = Mat::<f32>::zeros(9, N);
                reference::run(&w, x, mode, &Epilogue::new(), expected.view_mut().into()).unwrap();
                for isa in Isa::ALL.into_iter().filter(|isa| isa.supported()) {
                    let plan = gemm.plan(mode).unwrap().isa(isa);
                    if isa != Isa::Scalar && catalogue::layout(isa, bits, book) != Some(layout) {
                        assert_eq!(argument(&plan.unwrap_err()), "isa");
                        continue;
                    }
                    let plan = plan.unwrap();
                    assert!(plan.kernel(9).ends_with(isa.name()));
                    let mut y = Mat::<f32>::zeros(9, N);
                    plan.run(&mut Workspace::new(), x, &Epilogue::new(), y.view_mut().into())
                        .unwrap();
                    let what = || format!("{isa} on {lanes} lanes, {bits} bits, {mode:?}");
                    crate::compare::assert_bits(y.data(), expected.data(), N, &what);
                }
            }
        }
        let other = PanelLayout {
            lanes: 16,
            bits: bits % 8 + 1,
            book,
        };
        let error = Host::new().prepare_as(&w, other).unwrap_err();
        assert_eq!(argument(&error), "bits");
        let other = PanelLayout {
            lanes: 16,
            bits,
            book: !book,
        };
        let error = Host::new().prepare_as(&w, other).unwrap_err();
        assert_eq!(argument(&error), "book");
    }
    for isa in Isa::ALL.into_iter().filter(|isa| !isa.supported()) {
        assert_eq!(argument(&Host::new().isa(isa).unwrap_err()), "isa");
    }
}

#[test]
fn absurd_layouts_thread_counts_and_schemes_do_not_panic() {
    let draw = &mut Draw::new(5);
    let w = weights(draw, Scheme::int(4).group(8), N, K);
    for lanes in [0, 65, usize::MAX] {
        let layout = PanelLayout {
            lanes,
            bits: 4,
            book: false,
        };
        let error = Host::new().prepare_as(&w, layout).unwrap_err();
        assert_eq!(argument(&error), "layout");
    }
    let inputs = Inputs::new(draw, M, K);
    let (mut y, mut expected) = (Mat::<f32>::zeros(M, N), Mat::<f32>::zeros(M, N));
    let gemm = Host::new().par(Par::Rayon(NonZeroUsize::MAX)).prepare(&w).unwrap();
    gemm.run(inputs.f32.view(), Mode::A8, y.view_mut()).unwrap();
    let epilogue = Epilogue::new();
    reference::run(
        &w,
        inputs.f32.view().into(),
        Mode::A8,
        &epilogue,
        expected.view_mut().into(),
    )
    .unwrap();
    assert_eq!(y, expected);
    assert!(Scheme::int(40).check().is_err() && Scheme::int(40).max_code() == 255);
    assert!(Scheme::int(4).group(0).check().is_err() && Scheme::int(4).group(0).groups(8) == 8);
}
