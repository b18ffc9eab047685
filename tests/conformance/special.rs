//! Values that are not ordinary numbers: non-finite rows, negligible and all-zero groups, ties, the edges of each mode.
#![forbid(unsafe_code)]

use crate::compare::{Expected, assert_bits};
use mixgemm::testing::{Draw, Inputs, STATIC, for_each_backend, weights};
use mixgemm::{Activation, Activations, Epilogue, Mat, Mode, QuantMatrix, Scheme, ZeroPoint, bf16, f16};

fn check(w: &QuantMatrix, x: Activations<'_>, mode: Mode, epilogue: &Epilogue<'_>) {
    let expected = Expected::new(w, x, mode, epilogue);
    for_each_backend(|name, backend| {
        expected.check((name, backend), w, (x, mode), epilogue);
    });
}

fn for_each_scheme(mut f: impl FnMut(Scheme)) {
    for bits in [1, 3, 4, 8] {
        for zero in [ZeroPoint::Symmetric, ZeroPoint::Integer, ZeroPoint::Float] {
            f(Scheme {
                zero,
                ..Scheme::int(bits).group(16)
            });
        }
    }
}

/// Input of 15 rows, finite, with `f` having changed some elements.
fn check_floats(seed: u64, change: impl Fn(usize, usize, f32) -> f32) {
    let (m, n, k) = (15, 37, 45);
    let draw = &mut Draw::new(seed);
    let inputs = Inputs::new(draw, m, k);
    let f32 = Mat::from_fn(m, k, |r, c| change(r, c, inputs.f32.view().row(r)[c]));
    let f16 = Mat::from_fn(m, k, |r, c| {
        let x = inputs.f16.view().row(r)[c];
        f16::from_f32(change(r, c, x.to_f32()))
    });
    let bf16 = Mat::from_fn(m, k, |r, c| {
        let x = inputs.bf16.view().row(r)[c];
        bf16::from_f32(change(r, c, x.to_f32()))
    });
    let bias: Vec<f32> = (0..n).map(|n| n as f32 - 17.0).collect();
    let epilogues = [
        Epilogue::new(),
        Epilogue::new().bias(&bias).activation(Activation::Gelu),
    ];
    for_each_scheme(|scheme| {
        let w = weights(draw, scheme, n, k);
        for mode in [Mode::A8, Mode::A8Row, STATIC, Mode::A16] {
            for epilogue in &epilogues {
                check(&w, f32.view().into(), mode, epilogue);
            }
            check(&w, f16.view().into(), mode, &epilogues[0]);
            check(&w, bf16.view().into(), mode, &epilogues[1]);
        }
        check(&w, f16.view().into(), Mode::Exact, &epilogues[0]);
    });
}

#[test]
fn rows_with_non_finite_inputs_give_the_bits_of_the_reference_and_leave_their_neighbours_alone() {
    check_floats(21, |r, c, x| match (r, c) {
        (1, 0) | (4, 44) | (13, 16) | (14, 7) => f32::INFINITY,
        (2, 20) | (4, 3) => f32::NEG_INFINITY,
        (5, 31) => f32::NAN,
        (6, _) => f32::INFINITY,
        (7, _) => f32::from_bits(0xFFC1_2345),
        (8, c) if c % 2 == 0 => [f32::INFINITY, f32::NEG_INFINITY][c / 2 % 2],
        _ => x,
    });
}

#[test]
fn negligible_and_all_zero_groups_count_as_zero() {
    let limit = 2f32.powi(-100);
    let below = f32::from_bits(limit.to_bits() - 1);
    check_floats(22, |r, c, x| match (r % 5, c / 16) {
        (0, 0) => 0.0,
        (0, _) => -0.0,
        (1, 1) => [below, -below, 1e-45][c % 3],
        (2, 1) => [limit, -limit, below][c % 3],
        (3, _) => [1e-38, -1e-40, 0.0][c % 3],
        (4, 2) => [3e4, -3e4, 1e-3][c % 3],
        _ => x,
    });
}

/// Magnitudes just below, at and above every rounding and clamping border of `a8static`, `a8` and `a16`.
#[test]
fn values_at_rounding_borders_give_the_bits_of_the_reference() {
    let scale = 0.011f32;
    check_floats(23, |r, c, x| {
        let near = |v: f32, d: i32| f32::from_bits(v.to_bits().wrapping_add_signed(d));
        let d = c as i32 % 3 - 1;
        match r % 5 {
            0 => near(scale * (c as f32 + 0.5), d),
            1 => near(scale * 127.5, d) * [1.0, -1.0][c % 2],
            2 => near(32_639.5, d) / [1.0, 3.0, 64.0][c % 3],
            3 => [32_767.99, 127.5, 0.5, -1.5, 2.5][c % 5],
            _ => x,
        }
    });
}

#[test]
fn int8_rows_may_hold_minus_128_and_scales_of_any_sign() {
    let (m, n, k) = (14, 33, 70);
    let x = Mat::from_fn(m, k, |r, c| if (r + c) % 3 == 0 { -128 } else { 127 - (c % 2) as i8 });
    let scales: Vec<f32> = (0..m).map(|r| [0.0, -0.5, 1e-42, 3e38, 0.1][r % 5]).collect();
    let draw = &mut Draw::new(24);
    for_each_scheme(|scheme| {
        let w = weights(draw, scheme, n, k);
        let x = Activations::int8_rows(x.view(), &scales);
        check(&w, x, Mode::A8Given, &Epilogue::new());
    });
}

/// Infinity times a weight's sign, written out: `Inf − Inf`, `0 · Inf` and NaN give NaN, the rest keep their sign.
#[test]
fn a_non_finite_row_is_the_sum_of_its_non_finite_inputs() {
    let scales = mixgemm::Floats::from_f32(mixgemm::ScaleType::F32, &[0.5, -0.5, 0.0]);
    let codes = vec![9, 3, 9, 3, 9, 3];
    let w = QuantMatrix::from_parts(
        Scheme::int(4).scales(mixgemm::ScaleType::F32).asymmetric(),
        3,
        2,
        codes,
        scales,
        mixgemm::Zeros::Integer(vec![5, 5, 5]),
    )
    .unwrap();
    let inf = f32::INFINITY;
    let x = Mat::from_vec(vec![inf, 1.0, 1.0, inf, inf, inf, inf, -inf, f32::NAN, 1.0], 5, 2).unwrap();
    let nan = f32::from_bits(0x7FC0_0000);
    #[rustfmt::skip]
    let expected = [
        inf, -inf, nan,
        -inf, inf, nan,
        nan, nan, nan,
        inf, -inf, nan,
        nan, nan, nan,
    ];
    for_each_backend(|name, backend| {
        for mode in [Mode::A8, Mode::A8Row, STATIC, Mode::A16] {
            if backend.capabilities().takes(mode) {
                let mut y = Mat::<f32>::zeros(5, 3);
                let prepared = backend.prepare(&w).unwrap();
                let (x, out) = (x.view().into(), y.view_mut().into());
                backend.run(&prepared, x, mode, &Epilogue::new(), out).unwrap();
                assert_bits(y.data(), &expected, 3, &|| format!("{name} {mode:?}"));
            }
        }
    });
}

/// N = 0 does nothing, so there is nothing to refuse: not even values that the mode refuses where there are outputs.
#[test]
fn without_outputs_no_value_is_refused() {
    let (scale, saturate) = (1e-6, false);
    let x = Mat::from_fn(3, 20, |_, _| 1e30f32);
    let w = weights(&mut Draw::new(7), Scheme::int(4).group(16), 0, 20);
    check(
        &w,
        x.view().into(),
        Mode::A8Static { scale, saturate },
        &Epilogue::new(),
    );
}
