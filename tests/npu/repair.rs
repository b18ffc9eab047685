//! 8-bit outputs, and the repair of those at either end.

use crate::message;
use mixgemm::accel::catalogue::npu;
use mixgemm::accel::npu::int8_output::repair;
use mixgemm::testing::{Draw, weights};
use mixgemm::{Backend, CodeBook, Epilogue, Mat, Mode, QuantMatrix, Scheme};

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
    // Weights that the device refuses, in the device's words.
    let tensor = Scheme::int(8).per_tensor();
    for scheme in [
        Scheme::int(4).per_tensor(),
        Scheme::int(1).per_tensor(),
        Scheme::book(CodeBook::IQ4_NL).per_tensor(),
        tensor.group(32),
        tensor.per_channel(),
        tensor.asymmetric(),
        tensor.float_zero(),
    ] {
        let w = weights(draw, scheme, n, k);
        let refused = message(Backend::prepare(&device, &w));
        assert!(refused.contains(": expected "), "{scheme:?}");
        assert_eq!(all(&w, &x, t, 1.0), refused, "{scheme:?}");
    }
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
