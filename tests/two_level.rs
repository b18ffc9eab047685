//! The INT8 array behind integer scales: weights of 4 bits in two levels.
#![forbid(unsafe_code)]

use mixgemm::accel::catalogue::{dequant, tpu};
use mixgemm::testing::{Draw, weights};
use mixgemm::{AnyBackend, Epilogue, Floats, Mat, Mode, QuantMatrix, ScaleType, Scheme, Zeros, f16};

fn run(device: &dyn AnyBackend, w: &QuantMatrix, x: &Mat<f16>, mode: Mode) -> Mat<f32> {
    let mut y = Mat::<f32>::zeros(x.rows(), w.n());
    let prepared = device.prepare(w).unwrap();
    let (x, out) = (x.view().into(), y.view_mut().into());
    device.run(&prepared, x, mode, &Epilogue::new(), out).unwrap();
    y
}

fn halves(m: usize, k: usize) -> Mat<f16> {
    Mat::from_fn(m, k, |m, k| {
        f16::from_f32(((m * 37 + k * 11) % 101) as f32 * 0.13 - 6.0)
    })
}

/// Every code, zero point and integer scale that QServe's quantiser can emit: `(q − z)·s₂` within ±119. The largest of
/// them fixes the scale of the channel, so that nothing is rounded.
#[test]
fn integer_scales_are_kept_as_they_are() {
    for zero in 0..=15u16 {
        for scale in 1..=16i32 {
            let legal = |q: &i32| ((q - i32::from(zero)) * scale).abs() <= 119;
            let all: Vec<i32> = (0..16).filter(legal).collect();
            // A group that reaches 119, with a zero point of 8: 17·7.
            let codes = all.iter().map(|&q| q as u8).chain([15; 16]).collect::<Vec<_>>();
            let group = all.len();
            let codes: Vec<u8> = codes.into_iter().take(2 * group).collect();
            let scheme = Scheme::int(4).group(group).asymmetric().scales(ScaleType::F32);
            let scales = Floats::from_f32(ScaleType::F32, &[scale as f32 / 64.0, 17.0 / 64.0]);
            let w =
                QuantMatrix::from_parts(scheme, 1, 2 * group, codes, scales, Zeros::Integer(vec![zero, 8])).unwrap();
            let widened = dequant::w4a8().widened(&w).unwrap();
            assert_eq!(widened.scale(0, 0), 1.0 / 64.0);
            for (k, q) in all.iter().enumerate() {
                let expected = (q - i32::from(zero)) * scale;
                assert_eq!(widened.level(0, k), expected, "{q} {zero} {scale}");
                // As the packed path forms it: q·s₂ − z·s₂ modulo 256.
                let packed = ((q * scale) as u8).wrapping_sub((i32::from(zero) * scale) as u8) as i8;
                assert_eq!(i32::from(packed), expected);
            }
        }
    }
}

/// With 119 as the range of the channel no scale and no zero point brings a weight out of 8 bits; with 127 one does.
#[test]
fn the_protective_range_protects() {
    let draw = &mut Draw::new(91);
    let mut largest = [0i64; 2];
    for scheme in [
        Scheme::int(4).group(8).asymmetric(),
        Scheme::int(4).group(8),
        Scheme::int(3).group(5).asymmetric().scales(ScaleType::F32),
        Scheme::int(1).group(4),
    ] {
        for _ in 0..40 {
            let w = weights(draw, scheme, 7, 64);
            let widened = dequant::w4a8().widened(&w).unwrap();
            for row in 0..7 {
                let exact =
                    |k: usize| f64::from(w.level(row, k)) * f64::from(w.scale(row, k / scheme.group_length(64)));
                let top = (0..64).map(|k| exact(k).abs()).fold(0.0, f64::max);
                for k in 0..64 {
                    let level = f64::from(widened.level(row, k));
                    // Half a step of the group's integer scale.
                    let (off, most) = (
                        (level - exact(k) / top * 119.0).abs(),
                        f64::from(w.level(row, k).abs()) / 2.0,
                    );
                    assert!(off <= most + 1e-4, "{off} {most}");
                    let scale = f64::from(w.scale(row, k / scheme.group_length(64)));
                    for (largest, range) in largest.iter_mut().zip([119.0, 127.0]) {
                        let wide = i64::from(w.level(row, k)) * (scale / top * range).round_ties_even() as i64;
                        *largest = (*largest).max(wide.abs());
                    }
                }
            }
        }
    }
    assert!(largest[0] <= 127 && largest[1] > 127, "{largest:?}");
}

/// What enters the array is an 8-bit matrix with a scale per channel, and the INT8 array multiplies it.
#[test]
fn the_array_behind_it_is_the_int8_array() {
    let draw = &mut Draw::new(92);
    for (m, n, k) in [(1, 3, 70), (5, 4, 32), (0, 2, 8), (3, 0, 8), (2, 2, 0)] {
        let w = weights(draw, Scheme::int(4).group(32).asymmetric(), n, k);
        let x = halves(m, k);
        let device = dequant::w4a8();
        let widened = device.widened(&w).unwrap();
        let expected = run(&tpu::int8(), &widened, &x, Mode::A8Row);
        assert_eq!(run(&device, &w, &x, Mode::Native).data(), expected.data());
    }
}

#[test]
fn weights_of_zeros_give_zeros_and_others_are_refused() {
    let scales = |values: &[f32]| Floats::from_f32(ScaleType::F32, values);
    let scheme = Scheme::int(4).group(2).scales(ScaleType::F32);
    let w = QuantMatrix::from_parts(
        scheme,
        2,
        4,
        vec![8, 8, 8, 8, 9, 8, 8, 8],
        scales(&[1.0, 3.0, 0.5, 1e30]),
        Zeros::Symmetric,
    )
    .unwrap();
    let y = run(&dequant::w4a8(), &w, &halves(1, 4), Mode::Native);
    assert_eq!(y.data()[0], 0.0);
    assert!((y.data()[1] + 3.0).abs() < 0.05, "{y:?}");
    for (scheme, expected) in [
        (Scheme::int(5), "bits: expected at most 4, found 5"),
        (
            Scheme::int(4).float_zero(),
            "zero: expected integer zero points, or none, found float ones",
        ),
    ] {
        let w = weights(&mut Draw::new(93), scheme, 2, 8);
        assert_eq!(dequant::w4a8().widened(&w).unwrap_err().to_string(), expected);
    }
}
