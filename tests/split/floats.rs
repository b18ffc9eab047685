//! The fold that a backend begins can be continued by floats.
#![forbid(unsafe_code)]

use mixgemm::base::float::fma;
use mixgemm::testing::{Draw, weights};
use mixgemm::{Backend, Host, Isa, Mat, MixPe, Mode, Scheme, f16, reference};

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
