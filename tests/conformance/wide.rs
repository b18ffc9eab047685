//! Groups whose integers need more than 32 bits, and slices beyond four: the road of raw sums. And what is too long even
//! for that.
#![forbid(unsafe_code)]

use crate::compare::Expected;
use mixgemm::quant::scheme::MAX_GROUP;
use mixgemm::testing::{Draw, Inputs, for_each_backend, weights, weights_with_zeros};
use mixgemm::{Activations, Epilogue, Error, Floats, Host, Mat, Mode, QuantMatrix, ScaleType, Scheme, Zeros, f16};

fn check(w: &QuantMatrix, x: Activations<'_>, mode: Mode) {
    let expected = Expected::new(w, x, mode, &Epilogue::new());
    for_each_backend(|name, backend| {
        expected.check((name, backend), w, (x, mode), &Epilogue::new());
    });
}

/// 8-bit codes per channel: `2^8 · 32896 · 1100` is far beyond 31 bits, in `a16` and in `exact`.
#[test]
fn sums_beyond_32_bits_are_rounded_once() {
    let (m, n, k) = (7, 33, 1100);
    let draw = &mut Draw::new(41);
    let inputs = Inputs::new(draw, m, k);
    let largest = Mat::from_fn(m, k, |_, c| f16::from_f32(if c == 7 { 65_440.0 } else { 65_504.0 }));
    for scheme in [
        Scheme::int(8),
        Scheme::int(8).asymmetric(),
        Scheme::int(8).float_zero().scales(ScaleType::F32),
        Scheme::int(7).group(1024),
    ] {
        let w = weights(draw, scheme, n, k);
        check(&w, inputs.f32.view().into(), Mode::A16);
        check(&w, inputs.f16.view().into(), Mode::Exact);
        check(&w, largest.view().into(), Mode::A16);
        check(&w, largest.view().into(), Mode::Exact);
    }
}

/// Just below and just above the border between the kernels' own fold and raw sums, in every mode, with every code and
/// input at its largest.
#[test]
fn the_border_between_both_folds_does_not_show() {
    // 2^b·32896·g < 2^31 − 2^16 for the wider modes.
    let border = |bits: u32| ((1usize << 31) - (1 << 16)) / (32_896 << bits);
    for bits in [8, 6, 5] {
        for k in [border(bits), border(bits) + 1] {
            let codes = vec![((1u32 << bits) - 1) as u8; 17 * k];
            let scheme = Scheme::int(bits as u8).asymmetric();
            for zero in [0, 1 << bits] {
                let scales = Floats::from_f32(ScaleType::F16, &[0.01; 17]);
                let w = QuantMatrix::from_parts(scheme, 17, k, codes.clone(), scales, Zeros::Integer(vec![zero; 17]));
                let w = w.unwrap();
                for sign in [1.0, -1.0] {
                    let x = Mat::from_fn(2, k, |_, c| f16::from_f32(sign * if c == 1 { 0.99 } else { 0.996 }));
                    check(&w, x.view().into(), Mode::A16);
                    check(&w, x.view().into(), Mode::Exact);
                }
            }
        }
    }
}

/// The longest group with the largest codes and inputs: `Σ q·a` is −2^31 + 2^23, `D − z·B` up to 2^31.
#[test]
fn the_longest_group_holds_its_largest_sums() {
    let (n, k) = (3, MAX_GROUP);
    let codes: Vec<u8> = (0..n * k).map(|i| [255, 0, i as u8][i / k]).collect();
    let scales = Floats::from_f32(ScaleType::F32, &[0.5, 1.0, -0.25]);
    let scheme = Scheme::int(8).scales(ScaleType::F32).asymmetric();
    let w = QuantMatrix::from_parts(scheme, n, k, codes, scales, Zeros::Integer(vec![0, 256, 256])).unwrap();
    let x = Mat::from_fn(1, k, |_, _| -128i8);
    let x = Activations::int8(x.view(), 0.5);
    check(&w, x, Mode::A8Given);
    // By hand: Σ 255·(−128) over 2^16, and Σ (0 − 256)·(−128).
    let mut sums = vec![0i64; n];
    let gemm = Host::new().prepare(&w).unwrap();
    let plan = gemm.plan(Mode::A8Given).unwrap();
    plan.group_sums(&mut mixgemm::Workspace::new(), x, mixgemm::GroupSums::I64(&mut sums))
        .unwrap();
    assert_eq!(sums[..2], [-255 * 128 * 65_536, 256 * 128 * 65_536]);
}

#[test]
fn longer_groups_are_refused() {
    for k in [70_000, MAX_GROUP + 1] {
        let scales = || Floats::from_f32(ScaleType::F16, &[1.0]);
        let error = QuantMatrix::from_parts(Scheme::int(8), 1, k, vec![0; k], scales(), Zeros::Symmetric).unwrap_err();
        assert!(matches!(error, Error::Value { argument: "group", .. }), "{error}");
        let error = QuantMatrix::quantize(Mat::<f32>::zeros(1, k).view(), Scheme::int(8)).unwrap_err();
        assert!(matches!(error, Error::Value { argument: "group", .. }), "{error}");
    }
    // In `exact` the limit is nearer: (2^bits − 1)·group·2^40 has to fit 63 bits.
    let draw = &mut Draw::new(42);
    for (k, refused) in [(32_897, true), (32_896, false)] {
        let w = weights(draw, Scheme::int(8), 1, k);
        let x = Mat::from_fn(1, k, |_, c| f16::from_f32((c % 5) as f32));
        for_each_backend(|name, backend| {
            if backend.capabilities().exact && backend.capabilities().max_bits == 8 {
                let mut y = Mat::<f32>::zeros(1, 1);
                let prepared = backend.prepare(&w).unwrap();
                let (x, out) = (x.view().into(), y.view_mut().into());
                let result = backend.run(&prepared, x, Mode::Exact, &Epilogue::new(), out);
                assert_eq!(result.is_err(), refused, "{name} {result:?}");
            }
        });
    }
}

/// f16 from 2^-24 to 65504 in one group takes six slices, a little less takes five.
#[test]
fn five_and_six_slices_give_the_bits_of_the_reference() {
    let (m, n, k) = (13, 35, 96);
    let draw = &mut Draw::new(43);
    let x = Mat::from_fn(m, k, |r, c| {
        let top = [65_504.0, 16_384.0, 64.0, 65_504.0][(c / 32 + r) % 4];
        let value = [top, 2f32.powi(-24), draw.signed() * top, draw.signed()][draw.below(4)];
        f16::from_f32(value)
    });
    for scheme in [
        Scheme::int(4).group(32).asymmetric(),
        Scheme::int(8).group(24).float_zero(),
        Scheme::int(1).group(32),
        Scheme::int(5).group(40),
    ] {
        let w = weights(draw, scheme, n, k);
        check(&w, x.view().into(), Mode::Exact);
        check(&w, x.view().into(), Mode::A16);
    }
}

/// Tiles of one product whose groups need every slice count, in every order.
#[test]
fn slice_counts_may_change_from_group_to_group() {
    let (m, k) = (31, 16 * 14);
    let draw = &mut Draw::new(44);
    let x = Mat::from_fn(m, k, |r, c| {
        let slices = (c / 16 * 5 + r / 8) % 6;
        let exponent = 8 * slices as i32 + draw.below(6) as i32;
        let value = if c % 16 == 1 { 1.0 } else { 2f64.powi(exponent.min(39)) };
        f16::from_f64(value * 2f64.powi(-24) * if draw.below(2) == 0 { -1.0 } else { 1.0 })
    });
    for bits in [1, 4, 7] {
        let w = weights_with_zeros(draw, Scheme::int(bits).group(16).asymmetric(), 40, k, |i| {
            (i % 2) as u16
        });
        check(&w, x.view().into(), Mode::Exact);
    }
    // The sums are exact: against plain 128-bit integers.
    let w = weights(draw, Scheme::int(4).group(16).asymmetric(), 5, k);
    let mut sums = vec![0i64; m * 14 * 5];
    let gemm = Host::new().prepare(&w).unwrap();
    gemm.plan(Mode::Exact)
        .unwrap()
        .group_sums(
            &mut mixgemm::Workspace::new(),
            x.view().into(),
            mixgemm::GroupSums::I64(&mut sums),
        )
        .unwrap();
    for (i, &sum) in sums.iter().enumerate() {
        let (r, g, c) = (i / (14 * 5), i / 5 % 14, i % 5);
        let terms = (g * 16..g * 16 + 16)
            .map(|k| i128::from(w.level(c, k)) * (x.view().row(r)[k].to_f64() * 2f64.powi(24)) as i128);
        assert_eq!(i128::from(sum), terms.sum::<i128>(), "({r}, {g}, {c})");
    }
}
