//! Static scales and counts of outliers from samples.
#![forbid(unsafe_code)]

use crate::activations;
use mixgemm::outlier::calibration::{ChannelCounts, ScaleRule, Statistics, calibrate};
use mixgemm::testing::Draw;
use mixgemm::{Activations, Mat, bf16};

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

/// More than a percentile's share of exact zeros is a percentile of 0, not the edge of the first bin; the largest
/// magnitudes are found above it.
#[test]
fn percentiles_of_mostly_zeros_are_zero() {
    let mut seen = Statistics::new(10);
    seen.add(
        Mat::from_fn(10, 10, |m, k| if m == 9 && k > 4 { -2.0 } else { 0.0 })
            .view()
            .into(),
    )
    .unwrap();
    for p in [0.01, 0.5, 0.95] {
        assert_eq!(seen.percentile(p).unwrap(), 0.0, "{p}");
        let error = seen.scale(ScaleRule::Percentile(p)).unwrap_err().to_string();
        let expected = "scale: expected a scale of at least 2^-23 of the largest magnitude, as the maximum or a higher \
                        percentile has, found 0 for 2";
        assert_eq!(error, expected, "{p}");
    }
    assert_eq!(seen.percentile(0.96).unwrap(), 2.0);
    assert_eq!(seen.scale(ScaleRule::Percentile(0.96)).unwrap(), 2.0 / 127.0);
    assert_eq!(seen.scale(ScaleRule::LeastError).unwrap(), 2.0 / 127.0);
}

/// 7 % of 100 are 7, though 0.07 * 100 is more than that in floats.
#[test]
fn a_share_of_the_channels_is_rounded_up_once() {
    let mut seen = Statistics::new(100);
    seen.add(Mat::from_fn(1, 100, |_, k| k as f32).view().into()).unwrap();
    for (percent, left) in [(0.0, 99.0), (7.0, 92.0), (7.5, 91.0), (29.0, 70.0)] {
        assert_eq!(seen.max_outside(percent / 100.0).unwrap(), left, "{percent}");
    }
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
    assert_eq!(
        empty,
        "x: expected samples that are not all 0, found nothing else in 0 rows"
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
