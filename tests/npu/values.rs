//! Values are those of the reference, and what real NPUs refuse is refused.

use crate::{bits, host};
use mixgemm::accel::catalogue::npu;
use mixgemm::outlier::mixed::{Mixed, Outlying};
use mixgemm::testing::{Draw, Inputs, weights};
use mixgemm::{
    Activation, Activations, AnyBackend, Backend, Epilogue, Error, GroupSums, Host, Isa, Mat, Mode, QuantMatrix,
    ScaleType, Scheme, ZeroPoint, bf16, f16, reference,
};

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

/// Outliers of a mixed split stay floats beside the NPU as beside the host.
#[test]
fn a_mixed_split_around_an_npu_is_that_around_the_host() {
    let draw = &mut Draw::new(209);
    let w = weights(draw, Scheme::int(8).per_tensor(), 20, 64);
    let x = Mat::from_fn(6, 64, |_, c| if c % 20 == 7 { 90.0 } else { 1.0 } * draw.signed());
    let mode = Mode::A8Static {
        scale: 1.0 / 64.0,
        saturate: true,
    };
    fn run<B: Backend>(backend: B, w: &QuantMatrix, x: &Mat<f32>, mode: Mode) -> Vec<u32> {
        let mixed = Mixed::new(backend, Outlying::Above(6.0)).unwrap();
        let (w, mut y) = (Backend::prepare(&mixed, w).unwrap(), Mat::<f32>::zeros(6, 20));
        Backend::compile(&mixed, &w, 6).unwrap();
        Backend::run(&mixed, &w, x.view().into(), mode, &Epilogue::new(), y.view_mut().into()).unwrap();
        bits(&y)
    }
    let expected = run(Host::new().isa(Isa::Scalar).unwrap(), &w, &x, mode);
    assert_eq!(run(npu::int8(), &w, &x, mode), expected);
    assert_eq!(run(npu::grouped(), &w, &x, mode), expected);
}
