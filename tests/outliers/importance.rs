//! Which matrices keep their shadow.
#![forbid(unsafe_code)]

use crate::{activations, run};
#[cfg(feature = "lab")]
use mixgemm::accel::catalogue::npu;
use mixgemm::outlier::importance::{PRUNED, keep, keep_by_ratio, mode};
use mixgemm::testing::{Draw, weights};
use mixgemm::{Backend, Epilogue, Host, Mat, MixPe, Mode, QuantMatrix, Scheme, Split, reference};

const T: f32 = 0.01;

/// A model of eight layers whose activations reach ever farther, in another order.
fn layers(scheme: Scheme) -> Vec<(QuantMatrix, Mat<f32>)> {
    let draw = &mut Draw::new(4);
    let layer = |i: usize| {
        let w = weights(draw, scheme, 12, 70);
        let mut x = activations(draw, 9, 70);
        x.view_mut().row_mut(0)[3] = 50.0 + ((i * 5) % 8) as f32;
        (w, x)
    };
    (0..8).map(layer).collect()
}

fn importance(layers: &[(QuantMatrix, Mat<f32>)]) -> Vec<f32> {
    let most = |x: &Mat<f32>| x.data().iter().fold(0.0f32, |m, x| m.max(x.abs()));
    layers.iter().map(|(_, x)| most(x) / T).collect()
}

/// Pruned layers are clamped, as the reference clamps, and the others have their full shadow, whatever the fraction.
fn check<B: Backend>(name: &str, backend: impl Fn() -> B, scheme: Scheme) {
    let layers = layers(scheme);
    let importance = importance(&layers);
    let split = Split::new(backend());
    let prepared: Vec<_> = layers
        .iter()
        .map(|(w, _)| Backend::prepare(&split, w).unwrap())
        .collect();
    let product = |i: usize, mode: Mode| {
        Backend::compile(&split, &prepared[i], 9).unwrap();
        let y = run(&split, &prepared[i], &layers[i].1, mode, 12);
        Backend::release(&split, &prepared[i], 9).unwrap();
        y
    };
    let all = |saturate: bool| -> Vec<Mat<f32>> {
        let mode = Mode::A8Static { scale: T, saturate };
        (0..8).map(|i| product(i, mode)).collect()
    };
    let (shadow, clamped) = (all(false), all(true));
    for ((w, x), clamped) in layers.iter().zip(&clamped) {
        let (mode, mut y) = (
            Mode::A8Static {
                scale: T,
                saturate: true,
            },
            Mat::<f32>::zeros(9, 12),
        );
        reference::run(w, x.view().into(), mode, &Epilogue::new(), y.view_mut().into()).unwrap();
        assert_eq!(y, *clamped, "{name} {scheme:?}");
    }
    for (fraction, pruned) in [(0.0, 0), (0.25, 2), (0.5, 4), (PRUNED, 7), (1.0, 8)] {
        let keep = keep(&importance, fraction).unwrap();
        assert_eq!(keep.iter().filter(|keep| !**keep).count(), pruned);
        for (i, &keep) in keep.iter().enumerate() {
            let expected = if keep { &shadow[i] } else { &clamped[i] };
            assert_eq!(
                product(i, mode(T, keep)),
                *expected,
                "{name} {scheme:?} {fraction} layer {i}"
            );
            assert_ne!(shadow[i], clamped[i]);
        }
    }
}

#[test]
fn pruning_none_is_the_full_shadow_and_pruning_all_is_clamping() {
    for bits in [4, 8] {
        let scheme = Scheme::int(bits);
        for scheme in [
            scheme.per_tensor(),
            scheme.per_channel(),
            scheme.group(16),
            scheme.group(32).asymmetric(),
        ] {
            check("host", Host::new, scheme);
            if bits == 4 {
                check("mixpe", MixPe::w4a8, scheme);
            }
        }
    }
}

#[cfg(feature = "lab")]
#[test]
fn pruning_is_the_same_around_an_npu() {
    check("npu", npu::int8, Scheme::int(8).per_tensor());
    check("npu by groups", npu::grouped, Scheme::int(8).per_channel());
    check("npu by groups", npu::grouped, Scheme::int(8).group(16));
}

#[test]
fn the_least_important_go_first() {
    // 0.85 of 8 are 7: the most important stays, which is the one with 50 + 7.
    let kept = keep(&importance(&layers(Scheme::int(8))), PRUNED).unwrap();
    assert_eq!(kept, [false, false, false, true, false, false, false, false]);
    assert_eq!(keep(&[1.0; 4], 0.5).unwrap(), [false, false, true, true]);
    assert!(keep(&[1.0], 1.1).is_err() && keep(&[f32::NAN], 0.5).is_err());
    assert!(keep_by_ratio(1.0, 64.0, 64.0) && !keep_by_ratio(1.0, 63.0, 64.0));
}
