//! Scale migration.
#![forbid(unsafe_code)]

use crate::activations;
use mixgemm::Mat;
use mixgemm::outlier::calibration::Statistics;
use mixgemm::outlier::migrate::Migration;
use mixgemm::testing::Draw;

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
