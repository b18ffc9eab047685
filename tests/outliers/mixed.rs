//! Outliers that stay floats.
#![forbid(unsafe_code)]

use crate::{activations, run};
use mixgemm::base::float::fma;
use mixgemm::outlier::columns::InMemory;
use mixgemm::outlier::mixed::{Mixed, OutlierWeights, Outlying};
use mixgemm::testing::{Backwards, Draw, weights};
use mixgemm::{
    Activation, Activations, Backend, Epilogue, Host, Mat, MixPe, Mode, Output, Par, QuantMatrix, Scheme, bf16, f16,
    reference,
};
use std::num::NonZeroUsize;
use std::sync::Arc;

/// `fma`s after the fold, from the reference alone.
fn expected_mixed(w: &QuantMatrix, floats: &Mat<f32>, x: &Mat<f32>, outliers: &[Vec<usize>], mode: Mode) -> Mat<f32> {
    let calm = Mat::from_fn(x.rows(), x.cols(), |r, k| {
        if outliers[r].contains(&k) {
            0.0
        } else {
            x.view().row(r)[k]
        }
    });
    let mut y = Mat::<f32>::zeros(x.rows(), w.n());
    reference::run(w, calm.view().into(), mode, &Epilogue::new(), y.view_mut().into()).unwrap();
    for (r, outliers) in outliers.iter().enumerate() {
        for (n, y) in y.view_mut().row_mut(r).iter_mut().enumerate() {
            for &k in outliers {
                *y = fma(x.view().row(r)[k], floats.view().row(n)[k], *y);
            }
            *y = if *y < 0.0 { 0.0 } else { *y };
        }
    }
    y
}

/// The outliers of every row, ascending.
fn chosen(outlying: &Outlying, x: &Mat<f32>) -> Vec<Vec<usize>> {
    let of_row = |row: &[f32]| match outlying {
        Outlying::Above(limit) => (0..row.len()).filter(|&k| row[k].abs() > *limit).collect(),
        Outlying::Top(share) => {
            let mut order: Vec<usize> = (0..row.len()).collect();
            order.sort_by(|&a, &b| row[b].abs().total_cmp(&row[a].abs()));
            order.truncate((share * row.len() as f64).ceil() as usize);
            order.sort_unstable();
            order
        }
        Outlying::Channels(channels) => channels.iter().map(|&k| k as usize).collect(),
    };
    (0..x.rows()).map(|r| of_row(x.view().row(r))).collect()
}

fn check_mixed<B: Backend + Clone>(name: &str, backend: B, modes: &[Mode]) {
    let draw = &mut Draw::new(6);
    let relu = Epilogue::new().activation(Activation::Relu);
    for scheme in [
        Scheme::int(4).group(16).float_zero(),
        Scheme::int(1).per_channel(),
        Scheme::int(4).group(24).asymmetric(),
    ] {
        let (w, x) = (weights(draw, scheme, 33, 70), activations(draw, 7, 70));
        let cases = [
            Outlying::Above(6.0),
            Outlying::Top(0.05),
            Outlying::Channels(vec![3, 20, 50]),
            Outlying::Top(0.0),
        ];
        for outlying in cases {
            let outliers = chosen(&outlying, &x);
            let mixed = Mixed::new(backend.clone(), outlying.clone()).unwrap();
            let both = mixed.prepare(&w).unwrap();
            for &mode in modes {
                let expected = expected_mixed(&w, &w.dequantize(), &x, &outliers, mode);
                let mut y = Mat::<f32>::zeros(7, 33);
                mixed
                    .run(&both, x.view().into(), mode, &relu, y.view_mut().into())
                    .unwrap();
                assert_eq!(y, expected, "{name} {scheme:?} {outlying:?} {mode:?}");
                for r in 0..7 {
                    let (one, mut y) = (x.view().sub_rows(r, 1).unwrap(), Mat::<f32>::zeros(1, 33));
                    mixed.run(&both, one.into(), mode, &relu, y.view_mut().into()).unwrap();
                    assert_eq!(y.data(), expected.view().row(r), "row {r} alone");
                }
            }
            // The same with f16 weights.
            let halves = Mat::from_fn(33, 70, |_, _| f16::from_f32(draw.signed()));
            let floats = Mat::from_fn(33, 70, |n, k| halves.view().row(n)[k].to_f32());
            let weights = OutlierWeights::Halves(Box::new(InMemory::halves(halves.view()).unwrap()));
            let both = mixed.prepare_with(&w, weights).unwrap();
            let expected = expected_mixed(&w, &floats, &x, &outliers, modes[0]);
            let mut y = Mat::<f32>::zeros(7, 33);
            mixed
                .run(&both, x.view().into(), modes[0], &relu, y.view_mut().into())
                .unwrap();
            assert_eq!(y, expected, "{name} {scheme:?} {outlying:?} f16");
        }
    }
}

#[test]
fn outliers_that_stay_floats_continue_the_fold() {
    let clamped = Mode::A8Static {
        scale: 0.008,
        saturate: true,
    };
    check_mixed("host", Host::new(), &[Mode::A8, Mode::A8Row, Mode::A16, clamped]);
    check_mixed("mixpe", MixPe::w4a8(), &[Mode::A8, Mode::A8Row, clamped]);
}

/// Beyond every size below which one thread works alone, in ragged tiles, with equal magnitudes, in and into every type.
#[test]
fn threads_change_nothing() {
    let (m, n, k) = (70, 500, 600);
    let draw = &mut Draw::new(12);
    let w = weights(draw, Scheme::int(4).group(48).asymmetric(), n, k);
    // Multiples of 1/4 are the same in every type.
    let x = activations(draw, m, k);
    let x = Mat::from_fn(m, k, |r, c| (x.view().row(r)[c] * 4.0).round() / 4.0);
    let half = Mat::from_fn(m, k, |r, c| f16::from_f32(x.view().row(r)[c]));
    let brain = Mat::from_fn(m, k, |r, c| bf16::from_f32(x.view().row(r)[c]));
    let backwards = Par::Pool(Arc::new(Backwards(NonZeroUsize::new(3).unwrap())));
    let relu = Epilogue::new().activation(Activation::Relu);
    for (outlying, mode) in [
        (Outlying::Top(0.05), Mode::A8Row),
        (Outlying::Above(6.0), Mode::A8),
        (Outlying::Channels(vec![3, 20, 50]), Mode::A16),
    ] {
        let expected = expected_mixed(&w, &w.dequantize(), &x, &chosen(&outlying, &x), mode);
        let run = |par: Par, x: Activations<'_>| {
            let mixed = Mixed::new(Host::new().par(par.clone()), outlying.clone())
                .unwrap()
                .par(par);
            let both = mixed.prepare(&w).unwrap();
            let mut y = Mat::<f32>::zeros(m, n);
            let (mut z, mut v) = (Mat::<f16>::zeros(m, n), Mat::<bf16>::zeros(m, n));
            for y in [Output::F32(y.view_mut()), z.view_mut().into(), v.view_mut().into()] {
                Backend::run(&mixed, &both, x, mode, &relu, y).unwrap();
            }
            assert!(y == expected, "{outlying:?}");
            for (y, (z, v)) in y.data().iter().zip(z.data().iter().zip(v.data())) {
                assert_eq!((f16::from_f32(*y), bf16::from_f32(*y)), (*z, *v));
            }
        };
        for x in [x.view().into(), half.view().into(), brain.view().into()] {
            run(Par::Seq, x);
            run(backwards.clone(), x);
            #[cfg(feature = "rayon")]
            run(Par::Rayon(NonZeroUsize::new(4).unwrap()), x);
        }
    }
}

#[test]
fn a_row_with_special_values_is_that_of_the_wrapped_backend() {
    let draw = &mut Draw::new(7);
    let (w, mut x) = (
        weights(draw, Scheme::int(4).group(16), 20, 64),
        activations(draw, 3, 64),
    );
    x.view_mut().row_mut(1)[3] = f32::INFINITY;
    x.view_mut().row_mut(2)[8] = f32::NAN;
    let (host, channels) = (Host::new(), Outlying::Channels(vec![3, 8]));
    for outlying in [Outlying::Above(6.0), Outlying::Top(0.1), channels] {
        let mixed = Mixed::new(host.clone(), outlying).unwrap();
        let y = run(&mixed, &mixed.prepare(&w).unwrap(), &x, Mode::A8Row, 20);
        let alone = run(&host, &host.prepare(&w).unwrap(), &x, Mode::A8Row, 20);
        for r in [1, 2] {
            let bits = |y: &Mat<f32>| y.view().row(r).iter().map(|y| y.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&y), bits(&alone), "row {r}");
        }
    }
    for bad in [
        Outlying::Above(f32::NAN),
        Outlying::Top(1.5),
        Outlying::Channels(vec![2, 2]),
    ] {
        assert!(Mixed::new(Host::new(), bad).is_err());
    }
    let mixed = Mixed::new(Host::new(), Outlying::Channels(vec![64])).unwrap();
    let error = mixed.prepare(&w).unwrap_err().to_string();
    assert_eq!(error, "channels: expected below 64, found 64");
}

#[test]
fn a_split_by_precision_takes_the_modes_that_it_claims() {
    let draw = &mut Draw::new(11);
    let w = weights(draw, Scheme::int(4).group(16), 20, 64);
    let x = activations(draw, 3, 64);
    let half = Mat::from_fn(3, 64, |m, k| f16::from_f32(x.view().row(m)[k]));
    let int8 = Mat::from_fn(3, 64, |m, k| (m * 90 + k) as u8 as i8);
    let host = Host::new();
    let mixed = Mixed::new(host.clone(), Outlying::Above(6.0)).unwrap();
    let (of_mixed, of_host) = (mixed.prepare(&w).unwrap(), host.prepare(&w).unwrap());
    let clamped = Mode::A8Static {
        scale: 0.05,
        saturate: true,
    };
    for mode in [
        Mode::A8,
        Mode::A8Row,
        Mode::A8Given,
        clamped,
        Mode::A16,
        Mode::Exact,
        Mode::Native,
    ] {
        let x = match mode {
            Mode::A8Given => Activations::int8(int8.view(), 0.5),
            _ => half.view().into(),
        };
        let (mut y, mut alone) = (Mat::<f32>::zeros(3, 20), Mat::<f32>::zeros(3, 20));
        let ran = Backend::run(&mixed, &of_mixed, x, mode, &Epilogue::new(), y.view_mut().into());
        assert_eq!(
            ran.is_ok(),
            Backend::capabilities(&mixed).takes(mode),
            "{}",
            mode.name()
        );
        if mode == Mode::A8Given {
            Backend::run(&host, &of_host, x, mode, &Epilogue::new(), alone.view_mut().into()).unwrap();
            assert_eq!(y, alone, "int8 input has no outliers");
        }
    }
    let far = half.data().iter().filter(|x| x.to_f32().abs() > 6.0).count() as u64;
    assert!(far > 0);
    assert_eq!((of_mixed.work().products, of_mixed.work().outliers), (4, 4 * far));
}
