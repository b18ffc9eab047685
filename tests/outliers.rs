//! What stands around the splits: calibration, importance, hot channels, outliers that stay floats, scale migration.
#![forbid(unsafe_code)]
#![cfg(feature = "testing")]

use mixgemm::base::float::fma;
use mixgemm::outlier::calibration::{ChannelCounts, ScaleRule, Statistics, calibrate};
use mixgemm::outlier::columns::{Columns, InMemory};
use mixgemm::outlier::file::FileColumns;
use mixgemm::outlier::hot::HotColumns;
use mixgemm::outlier::importance::{PRUNED, keep, keep_by_ratio, mode};
use mixgemm::outlier::migrate::Migration;
use mixgemm::outlier::mixed::{Mixed, Outlying};
use mixgemm::testing::{Draw, weights};
use mixgemm::{
    Activation, Activations, Backend, Epilogue, Host, Mat, MixPe, Mode, QuantMatrix, Scheme, Split, bf16, f16,
    reference,
};

/// Rows of which a few channels are large: 3 and 50 often, 20 once.
fn activations(draw: &mut Draw, m: usize, k: usize) -> Mat<f32> {
    Mat::from_fn(m, k, |r, c| {
        let large = match c {
            3 => r % 2 == 0,
            50 => r % 3 == 0,
            20 => r == 5,
            _ => false,
        };
        draw.signed() + if large { 40.0 } else { 0.0 }
    })
}

fn run<B: Backend>(backend: &B, w: &B::Prepared, x: &Mat<f32>, mode: Mode, n: usize) -> Mat<f32> {
    let mut y = Mat::<f32>::zeros(x.rows(), n);
    let out = y.view_mut().into();
    backend.run(w, x.view().into(), mode, &Epilogue::new(), out).unwrap();
    y
}

#[test]
fn maxima_are_exact_and_percentiles_are_within_a_bin() {
    let draw = &mut Draw::new(1);
    let mut magnitudes = Vec::new();
    let mut seen = Statistics::new(10);
    for part in 0..5 {
        // Large values are negative: their sign must not matter.
        let x = Mat::from_fn(200, 10, |_, _| -(draw.signed() * draw.signed().abs() * 30.0).abs());
        magnitudes.extend(x.data().iter().map(|x| x.abs()));
        let halves = Mat::from_fn(200, 10, |r, c| bf16::from_f32(x.view().row(r)[c]));
        if part == 4 {
            let from = magnitudes.len() - 2000;
            magnitudes.splice(from.., halves.data().iter().map(|x| x.to_f32().abs()));
            seen.add(halves.view().into()).unwrap();
        } else {
            seen.add(x.view().into()).unwrap();
        }
    }
    magnitudes.sort_by(f32::total_cmp);
    assert_eq!((seen.rows(), seen.max()), (1000, magnitudes[9999]));
    for p in [0.5, 0.9, 0.999, 0.9999, 1.0] {
        let exact = magnitudes[(p * 10_000.0f64).ceil() as usize - 1];
        let found = seen.percentile(p).unwrap();
        assert!(exact <= found && found <= exact * 1.0079, "{p}: {found} for {exact}");
    }
    assert_eq!(seen.percentile(1.0).unwrap(), seen.max());
    assert_eq!(seen.scale(ScaleRule::Max).unwrap(), seen.max() / 127.0);
}

#[test]
fn the_least_error_is_the_least_among_many_scales() {
    let draw = &mut Draw::new(2);
    // A bell with one value far out: the best range leaves it out.
    let mut x = Mat::from_fn(100, 100, |_, _| (0..12).map(|_| draw.signed()).sum::<f32>());
    let far = |x: &mut Mat<f32>, v: f32| x.view_mut().row_mut(0)[0] = v;
    let error = |x: &Mat<f32>, t: f32| -> f64 {
        let one = |x: &f32| f64::from(x - t * (x / t).round_ties_even().clamp(-127.0, 127.0)).powi(2);
        x.data().iter().map(one).sum()
    };
    for v in [8.0, 12.0, 400.0] {
        far(&mut x, v);
        let mut seen = Statistics::new(100);
        seen.add(x.view().into()).unwrap();
        let t = seen.scale(ScaleRule::LeastError).unwrap();
        let best = (1..2000)
            .map(|i| error(&x, v * i as f32 / 2000.0 / 127.0))
            .fold(f64::INFINITY, f64::min);
        assert!(error(&x, t) < best * 1.05, "{v}: {} for {best}", error(&x, t));
    }
}

#[test]
fn bad_samples_are_refused() {
    let mut seen = Statistics::new(3);
    let text = |result: mixgemm::Result<()>| result.unwrap_err().to_string();
    let x = Mat::from_fn(2, 3, |r, c| if (r, c) == (1, 2) { f32::NAN } else { 1.0 });
    let error = text(seen.add(x.view().into()));
    assert_eq!(error, "x: expected finite samples, found NaN at row 1, column 2");
    let error = text(seen.add(Mat::<f32>::zeros(1, 4).view().into()));
    assert_eq!(error, "x: expected K = 3, found K = 4");
    let error = text(seen.add(Activations::int8(Mat::<i8>::zeros(1, 3).view(), 1.0)));
    assert_eq!(error, "x: expected f32, f16 or bf16 samples, found i8");
    let empty = Statistics::new(3).scale(ScaleRule::LeastError).unwrap_err().to_string();
    assert!(
        empty.starts_with("x: expected samples that are not all 0, found a scale of 0"),
        "{empty}"
    );
    assert!(seen.percentile(0.0).is_err() && seen.percentile(1.5).is_err() && seen.percentile(f64::NAN).is_err());
    assert!(ChannelCounts::new(3, 0.0).is_err() && ChannelCounts::new(3, f32::INFINITY).is_err());
}

#[test]
fn a_calibration_names_the_hot_channels() {
    let draw = &mut Draw::new(3);
    let parts = [activations(draw, 30, 64), activations(draw, 12, 64)];
    let samples = || parts.iter().map(|x| x.view().into()).collect::<Vec<Activations<'_>>>();
    // All but the 37 large ones of 2688.
    let found = calibrate(64, ScaleRule::Percentile(0.9862), samples).unwrap();
    let large = |k: usize| {
        parts
            .iter()
            .flat_map(move |x| (0..x.rows()).map(move |r| x.view().row(r)[k]))
    };
    let expected = [3, 50, 20].map(|k| (k as u32, large(k).filter(|x| *x > 30.0).count() as u64));
    assert_eq!(found.channels, expected);
    assert_eq!((found.rows, found.importance), (42, found.max / found.scale));
    assert_eq!(
        found.channels.iter().map(|(_, n)| n).collect::<Vec<_>>(),
        [&21, &14, &2]
    );
}

#[test]
fn pruning_none_is_the_full_shadow_and_pruning_all_is_clamping() {
    let draw = &mut Draw::new(4);
    let layers: Vec<(QuantMatrix, Mat<f32>, f32)> = (0..8)
        .map(|i| {
            let w = weights(draw, Scheme::int(8).per_channel(), 12, 64);
            let mut x = activations(draw, 9, 64);
            x.view_mut().row_mut(0)[3] = 50.0 + ((i * 5) % 8) as f32;
            (w, x, 0.01)
        })
        .collect();
    let importance: Vec<f32> = layers
        .iter()
        .map(|(_, x, t)| x.data().iter().fold(0.0f32, |m, x| m.max(x.abs())) / t)
        .collect();
    let split = Split::new(Host::new());
    let outputs = |fraction: f64| -> Vec<Mat<f32>> {
        let keep = keep(&importance, fraction).unwrap();
        let layers = layers.iter().zip(keep);
        layers
            .map(|((w, x, t), keep)| run(&split, &Backend::prepare(&split, w).unwrap(), x, mode(*t, keep), 12))
            .collect()
    };
    let all = |saturate: bool| -> Vec<Mat<f32>> {
        let of = |(w, x, scale): &(QuantMatrix, Mat<f32>, f32)| {
            let mode = Mode::A8Static {
                scale: *scale,
                saturate,
            };
            run(&split, &Backend::prepare(&split, w).unwrap(), x, mode, 12)
        };
        layers.iter().map(of).collect()
    };
    assert_eq!(outputs(0.0), all(false));
    assert_eq!(outputs(1.0), all(true));
    assert_ne!(outputs(1.0), outputs(0.0));
    // 0.85 of 8 are 7: the most important stays, which is the one with 50 + 7.
    let kept = keep(&importance, PRUNED).unwrap();
    assert_eq!(kept, [false, false, false, true, false, false, false, false]);
    assert_eq!(keep(&[1.0; 4], 0.5).unwrap(), [false, false, true, true]);
    assert!(keep(&importance, 1.1).is_err() && keep(&[f32::NAN], 0.5).is_err());
    assert!(keep_by_ratio(1.0, 64.0, 64.0) && !keep_by_ratio(1.0, 63.0, 64.0));
}

#[test]
fn results_do_not_depend_on_what_is_resident() {
    let draw = &mut Draw::new(5);
    let shadow = Mode::A8Static {
        scale: 0.02,
        saturate: false,
    };
    let hottest = [3, 50, 20];
    for scheme in [Scheme::int(8).group(16).asymmetric(), Scheme::int(3).per_channel()] {
        let (w, x) = (weights(draw, scheme, 3000, 64), activations(draw, 12, 64));
        let split = Split::new(Host::new());
        let expected = run(&split, &Backend::prepare(&split, &w).unwrap(), &x, shadow, 3000);
        // Each product reads the three channels once.
        for (size, hits) in [(0, 0), (2, 2), (3, 3), (99, 3)] {
            let file = FileColumns::write(&w, tempfile::tempfile().unwrap()).unwrap();
            let hot = HotColumns::new(Box::new(file), &hottest, size).unwrap();
            let reads = hot.counts();
            let both = split.prepare_with(&w, Box::new(hot)).unwrap();
            assert_eq!(run(&split, &both, &x, shadow, 3000), expected, "{size} resident");
            assert_eq!((reads.hits(), reads.misses()), (hits, 3 - hits), "{size} resident");
        }
        let (memory, file) = (
            InMemory::new(&w),
            FileColumns::write(&w, tempfile::tempfile().unwrap()).unwrap(),
        );
        for k in 0..64 {
            let mut levels = [vec![0; 3000], vec![1; 3000]];
            memory.read(k, &mut levels[0]).unwrap();
            file.read(k, &mut levels[1]).unwrap();
            assert_eq!(levels[0], levels[1]);
            assert!(
                (0..3000).all(|n| i32::from(levels[0][n]) == w.level(n, k)),
                "{scheme:?} channel {k}"
            );
        }
        assert!(file.read(64, &mut vec![0; 3000]).is_err() && memory.read(0, &mut vec![0; 2999]).is_err());
        assert!(HotColumns::new(Box::new(memory), &[64], 1).is_err());
    }
    let truncated = tempfile::tempfile().unwrap();
    let w = weights(draw, Scheme::int(8), 10, 20);
    let columns = FileColumns::write(&w, truncated.try_clone().unwrap()).unwrap();
    truncated.set_len(100).unwrap();
    let error = columns.read(15, &mut [0; 10]).unwrap_err().to_string();
    assert!(
        error.starts_with("file: expected 10 bytes at column 15, found"),
        "{error}"
    );
}

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

fn check_mixed<B: Backend + Clone>(name: &str, backend: B, modes: &[Mode]) {
    let draw = &mut Draw::new(6);
    let relu = Epilogue::new().activation(Activation::Relu);
    for scheme in [
        Scheme::int(4).group(16).float_zero(),
        Scheme::int(1).per_channel(),
        Scheme::int(4).group(24).asymmetric(),
    ] {
        let (w, x) = (weights(draw, scheme, 33, 70), activations(draw, 7, 70));
        let row = |r: usize| x.view().row(r);
        let above = (0..7).map(|r| (0..70).filter(|&k| row(r)[k].abs() > 6.0).collect());
        let top = (0..7).map(|r| {
            let mut order: Vec<usize> = (0..70).collect();
            order.sort_by(|&a, &b| row(r)[b].abs().total_cmp(&row(r)[a].abs()));
            order.truncate(4); // 5 % of 70 are 3.5
            order.sort_unstable();
            order
        });
        let cases: [(Outlying, Vec<Vec<usize>>); 4] = [
            (Outlying::Above(6.0), above.collect()),
            (Outlying::Top(0.05), top.collect()),
            (Outlying::Channels(vec![3, 20, 50]), vec![vec![3, 20, 50]; 7]),
            (Outlying::Top(0.0), vec![vec![]; 7]),
        ];
        for (outlying, outliers) in cases {
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
            if let Outlying::Channels(channels) = outlying {
                let stored = Mat::from_fn(33, 3, |_, _| f16::from_f32(draw.signed()));
                let of = |n: usize, k: usize| {
                    channels
                        .iter()
                        .position(|&c| c as usize == k)
                        .map_or(0.0, |i| stored.view().row(n)[i].to_f32())
                };
                let both = mixed.prepare_with(&w, stored.view()).unwrap();
                let expected = expected_mixed(&w, &Mat::from_fn(33, 70, of), &x, &outliers, modes[0]);
                let mut y = Mat::<f32>::zeros(7, 33);
                mixed
                    .run(&both, x.view().into(), modes[0], &relu, y.view_mut().into())
                    .unwrap();
                assert_eq!(y, expected, "{name} {scheme:?} f16");
            }
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
fn migration_moves_ranges_and_powers_of_two_change_no_product() {
    let draw = &mut Draw::new(8);
    let (w, x) = (
        Mat::from_fn(6, 64, |_, _| draw.signed()),
        activations(&mut Draw::new(9), 8, 64),
    );
    let mut seen = Statistics::new(64);
    seen.add(x.view().into()).unwrap();
    let smooth = Migration::new(w.view(), seen.channel_max(), 0.5, false).unwrap();
    let calm = smooth.apply(x.view()).unwrap();
    let (mut after, mut of_weights) = (Statistics::new(64), Statistics::new(64));
    after.add(calm.view().into()).unwrap();
    of_weights.add(smooth.weights.view().into()).unwrap();
    // With α = 1/2 both sides of a channel have the same range afterwards.
    for (j, (x, w)) in after.channel_max().iter().zip(of_weights.channel_max()).enumerate() {
        assert!((x / w - 1.0).abs() < 1e-5, "channel {j}: {x} and {w}");
    }
    let exact = Migration::new(w.view(), seen.channel_max(), 0.7, true).unwrap();
    let x2 = exact.apply(x.view()).unwrap();
    let dot = |x: &Mat<f32>, w: &Mat<f32>, r: usize, n: usize| -> f64 {
        x.view()
            .row(r)
            .iter()
            .zip(w.view().row(n))
            .map(|(x, w)| f64::from(*x) * f64::from(*w))
            .sum()
    };
    for (r, n) in (0..8).flat_map(|r| (0..6).map(move |n| (r, n))) {
        assert_eq!(dot(&x, &w, r, n), dot(&x2, &exact.weights, r, n));
    }
    assert!(exact.factors.iter().all(|s| s.to_bits() & 0x7F_FFFF == 0) && exact.factors[3] > 1.0);
    assert_eq!(
        Migration::new(w.view(), &[0.0; 64], 0.5, false).unwrap().factors,
        [1.0; 64]
    );
    let nan = Mat::from_fn(1, 2, |_, k| if k == 1 { f32::NAN } else { 1.0 });
    assert!(Migration::new(nan.view(), &[1.0, 1.0], 0.5, false).is_err());
    assert!(Migration::new(w.view(), &[1.0; 63], 0.5, false).is_err());
    assert!(Migration::new(w.view(), &[f32::INFINITY; 64], 0.5, false).is_err());
    assert!(Migration::new(w.view(), &[1.0; 64], 1.5, false).is_err());
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

#[cfg(feature = "lab")]
#[test]
fn a_calibration_survives_its_json() {
    use mixgemm::outlier::calibration::Calibration;
    let draw = &mut Draw::new(10);
    let mut all = Calibration::default();
    for (i, rule) in [ScaleRule::Max, ScaleRule::Percentile(0.97), ScaleRule::LeastError]
        .into_iter()
        .enumerate()
    {
        let x = activations(draw, 30, 64);
        let found = calibrate(64, rule, || [x.view().into()]).unwrap();
        all.layers.insert(format!("layer.{i}"), found);
    }
    let json = all.to_json().unwrap();
    assert_eq!(Calibration::from_json(&json).unwrap(), all);
    for bad in [
        "{}",
        "[]",
        &json.replace("\"scale\": ", "\"scale\": -"),
        &json.replace("\"rows\"", "\"lines\""),
    ] {
        assert!(Calibration::from_json(bad).is_err());
    }
}
