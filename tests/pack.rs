//! Packed weights hold what was packed, in little more space, for every mode at once.
#![forbid(unsafe_code)]
#![cfg(feature = "testing")]

use mixgemm::kernel::catalogue;
use mixgemm::pack::layout::PanelLayout;
use mixgemm::pack::weights::PackedWeights;
use mixgemm::testing::{Backwards, Draw, Inputs, book_schemes, schemes, weights, weights_with_zeros};
use mixgemm::{CodeBook, Epilogue, Floats, Group, Host, Isa, Mat, Par, QuantMatrix, ScaleType, Scheme, Workspace};
use mixgemm::{ZeroPoint, Zeros};
use std::num::NonZeroUsize;
use std::sync::Arc;

#[test]
fn packed_weights_hold_every_code_scale_and_zero_point() {
    let draw = &mut Draw::new(61);
    for lanes in [3, 4, 5, 8, 16] {
        let shapes = [
            (1, 1),
            (lanes, 33),
            (2 * lanes + 1, 40),
            (4 * lanes, 100),
            (7, 0),
            (3, 9001),
            (5, 2100),
        ];
        for (turn, (n, k)) in shapes.into_iter().enumerate() {
            for scheme in schemes(k, turn).into_iter().chain(book_schemes(k, turn)) {
                let w = weights(draw, scheme, n, k);
                let layout = PanelLayout {
                    lanes,
                    bits: scheme.bits,
                    book: scheme.book.is_some(),
                };
                let packed = PackedWeights::pack(&w, layout).unwrap();
                let what = format!("{scheme:?} {n} x {k}, {lanes} lanes");
                for r in 0..n {
                    for c in 0..k {
                        assert_eq!(packed.code(r, c), w.code_row(r)[c], "{what} at {r}, {c}");
                    }
                    for g in 0..w.groups() {
                        assert_eq!(packed.scale(r, g).to_bits(), w.scale(r, g).to_bits(), "{what}");
                        assert_eq!(packed.zero(r, g), w.zero(r, g), "{what}");
                        assert_eq!(packed.zero_int(r, g), w.zero_int(r, g), "{what}");
                        assert_eq!(packed.zero_fraction(r, g), w.zero_fraction(r, g), "{what}");
                    }
                }
                assert_eq!((packed.n(), packed.k(), *packed.scheme()), (n, k, scheme));
                let bits = packed.bytes() as f64 * 8.0 / (n * k).max(1) as f64;
                let expected = if n * k == 0 { 0.0 } else { bits };
                assert_eq!(packed.bits_per_weight(), expected, "{what}");
            }
        }
    }
}

/// Of codes whose bits are all set, and scales of 0, no other bit of a panel is set: units, columns and lines that they do
/// not fill are filled up with zeros.
#[test]
fn what_is_filled_up_is_zero() {
    for (lanes, bits) in [3, 4, 8, 16].into_iter().flat_map(|l| (1..=8).map(move |b| (l, b))) {
        for (group, k) in [(5, 23), (33, 100), (64, 96), (40, 9001)] {
            let (n, scheme) = (2 * lanes + 5, Scheme::int(bits).group(group));
            let scales = Floats::from_f32(ScaleType::F16, &vec![0.0; n * scheme.groups(k)]);
            let codes = vec![scheme.max_code(); n * k];
            let w = QuantMatrix::from_parts(scheme, n, k, codes, scales, Zeros::Symmetric).unwrap();
            let book = false;
            let packed = PackedWeights::pack(&w, PanelLayout { lanes, bits, book }).unwrap();
            let panels = packed.panels(0..packed.layout().panels());
            let set: usize = panels.iter().map(|byte| byte.count_ones() as usize).sum();
            assert_eq!(
                set,
                n * k * usize::from(bits),
                "{bits} bits, {lanes} lanes, group {group}"
            );
        }
    }
}

/// At most 0.15 bit per weight above the source, for whole panels, groups that are whole units of k and zero points below
/// `2^bits` (with `2^bits` itself among them they are stored a size wider).
#[test]
fn packing_costs_little_space() {
    let draw = &mut Draw::new(62);
    for bits in 1..=8u8 {
        for zero in [ZeroPoint::Symmetric, ZeroPoint::Integer, ZeroPoint::Float] {
            for scale in [ScaleType::F16, ScaleType::F32] {
                let short = if matches!(bits, 4 | 8) { Some(16) } else { None };
                let groups = short.into_iter().chain([32, 64, 128]).map(Group::Length);
                for group in groups.chain([Group::Channel]) {
                    let scheme = Scheme {
                        group,
                        zero,
                        ..Scheme::int(bits).scales(scale)
                    };
                    let w = weights_with_zeros(draw, scheme, 64, 512, |i| (i % (1 << bits)) as u16);
                    let gemm = Host::new().prepare(&w).unwrap();
                    let (packed, source) = (gemm.bits_per_weight(), w.bits_per_weight());
                    assert!(packed <= source + 0.15, "{scheme:?}: {packed} for {source}");
                    assert!(packed >= f64::from(bits), "{scheme:?}: {packed}");
                }
            }
        }
    }
}

/// The layout is chosen before mode and M are known: one packed matrix serves all of them, on every tier of the same lanes.
#[test]
fn one_packed_matrix_serves_every_mode_and_batch() {
    let draw = &mut Draw::new(63);
    let plain = (1..=8).map(|bits| Scheme::int(bits).asymmetric());
    for scheme in plain.chain([Scheme::book(CodeBook::MXFP4)]) {
        let (bits, book) = (scheme.bits, scheme.book.is_some());
        let w = weights(draw, scheme.group(32), 48, 64);
        let gemm = Host::new().prepare(&w).unwrap();
        drop(w);
        let lanes = gemm.weights().layout().panel.lanes;
        let same =
            |isa: &Isa| *isa == Isa::Scalar || catalogue::layout(*isa, bits, book).is_some_and(|l| l.lanes == lanes);
        for m in [1, 40] {
            let inputs = Inputs::new(draw, m, 64);
            for (mode, x) in inputs.cases() {
                for isa in Isa::ALL.into_iter().filter(|isa| isa.supported() && same(isa)) {
                    let mut y = Mat::<f32>::zeros(m, 48);
                    let plan = gemm.plan(mode).unwrap().isa(isa).unwrap();
                    let y = y.view_mut().into();
                    plan.run(&mut Workspace::new(), x, &Epilogue::new(), y).unwrap();
                }
            }
        }
    }
}

/// Clones and plans hold the same packed bytes, from any thread, and after the `Gemm` is gone.
#[test]
fn packed_weights_are_shared_and_never_copied() {
    fn travels<T: Clone + Send + Sync + 'static>(_: &T) {}
    let draw = &mut Draw::new(64);
    let w = weights(draw, Scheme::int(4).group(32), 48, 64);
    let inputs = Inputs::new(draw, 3, 64);
    let (mode, x) = inputs.cases()[0];
    let gemm = Host::new().prepare(&w).unwrap();
    assert!(std::ptr::eq(gemm.weights(), gemm.clone().weights()));
    let mut expected = Mat::<f32>::zeros(3, 48);
    gemm.run(x, mode, expected.view_mut()).unwrap();
    let plan = gemm.plan(mode).unwrap();
    travels(&gemm);
    travels(&plan);
    drop(gemm);
    let mut y = Mat::<f32>::zeros(3, 48);
    let out = y.view_mut().into();
    plan.run(&mut Workspace::new(), x, &Epilogue::new(), out).unwrap();
    assert_eq!(y, expected);
}

#[test]
fn panels_are_the_same_whoever_packs_them() {
    let draw = &mut Draw::new(65);
    for scheme in schemes(70, 3).into_iter().chain(book_schemes(70, 3)) {
        let w = weights(draw, scheme, 101, 70);
        let alone = Host::new().prepare(&w).unwrap();
        let all = 0..alone.weights().layout().panels();
        for par in [
            Par::Pool(Arc::new(Backwards(NonZeroUsize::new(3).unwrap()))),
            #[cfg(feature = "rayon")]
            Par::Rayon(NonZeroUsize::new(2).unwrap()),
        ] {
            let shared = Host::new().par(par).prepare(&w).unwrap();
            assert!(
                alone.weights().panels(all.clone()) == shared.weights().panels(all.clone()),
                "{scheme:?}"
            );
        }
    }
}
