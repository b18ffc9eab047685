//! Code books: their levels against the formats' published definitions, how codes and scales are chosen, and sums at the
//! ends of their range.
#![forbid(unsafe_code)]
#![cfg(feature = "testing")]

use mixgemm::quant::book::e8m0;
use mixgemm::testing::{BOOKS, Draw, for_each_backend};
use mixgemm::{Activations, CodeBook, Error, Floats, GroupSums, Mat, QuantMatrix, ScaleType, Scheme, Zeros, f16};
use mixgemm::{Mode, Rounding, reference};

fn levels(book: CodeBook) -> Vec<f32> {
    book.levels().iter().map(|&v| f32::from(v)).collect()
}

/// OCP Microscaling Formats 1.0, section 5.3.3: one sign bit, two exponent bits with bias 1, one mantissa bit.
#[test]
fn mxfp4_is_e2m1_doubled() {
    let e2m1 = |code: u8| {
        let (exponent, mantissa) = (i32::from(code >> 1 & 3), f32::from(code & 1));
        let magnitude = match exponent {
            0 => mantissa / 2.0,
            _ => (1.0 + mantissa / 2.0) * 2f32.powi(exponent - 1),
        };
        if code >> 3 == 1 { -magnitude } else { magnitude }
    };
    let found: Vec<f32> = levels(CodeBook::MXFP4).iter().map(|v| v / 2.0).collect();
    assert_eq!(found, (0..16).map(e2m1).collect::<Vec<_>>());
    assert_eq!(found[..8], [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]);
    assert_eq!((CodeBook::MXFP4.zero(), CodeBook::MXFP4.max_carried()), (12, 24));
}

/// ANT (arXiv 2208.14286), section IV: the first one of the lower bits parts exponent and fraction.
#[test]
fn flint_decodes_by_leading_zeros() {
    let flint = |code: u32, bits: u32| {
        if code == 0 {
            return 0.0;
        }
        let low = code & ((1 << (bits - 1)) - 1);
        let zeros = bits - 1 - (u32::BITS - low.leading_zeros());
        let exponent = if code >> (bits - 1) == 0 {
            bits - 1 - zeros
        } else {
            bits + zeros
        };
        let width = bits - 1;
        let fraction = (low << (zeros + 1)) & ((1 << width) - 1);
        2f32.powi(exponent as i32 - 1) * (1.0 + fraction as f32 / (1 << width) as f32)
    };
    let unsigned: Vec<f32> = (0..16).map(|code| flint(code, 4)).collect();
    assert_eq!(levels(CodeBook::FLINT4_UNSIGNED), unsigned);
    let sign = |code: u32| if code < 8 { 1.0 } else { -1.0 };
    let signed: Vec<f32> = (0..16).map(|code| sign(code) * flint(code % 8, 3)).collect();
    assert_eq!(levels(CodeBook::FLINT4), signed);
    let mut grid = unsigned;
    grid.sort_by(f32::total_cmp);
    let published = [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 24, 32, 64].map(|v| v as f32);
    assert_eq!(grid, published);
}

#[test]
fn powers_of_two_have_the_grid_of_ant() {
    let mut grid = levels(CodeBook::POWER4);
    grid.sort_by(f32::total_cmp);
    // The 4-bit signed grid of ANT's release is this, 10/64 times as large.
    let half = [1, 2, 4, 8, 16, 32, 64].map(|v| v as f32);
    assert_eq!(grid[9..], half);
    assert!((0..16).all(|i| grid[i] == -grid[15 - i]));
}

#[test]
fn e8m0_scales_are_powers_of_two_and_nan_is_refused() {
    let codes: Vec<u8> = (0..=254).collect();
    let scales = e8m0(&codes).unwrap();
    assert_eq!(scales.scale_type(), ScaleType::Bf16);
    for (i, &e) in codes.iter().enumerate() {
        assert_eq!(f64::from(scales.get(i)), 2f64.powi(i32::from(e) - 127) / 2.0);
    }
    let error = e8m0(&[3, 255]).unwrap_err();
    assert!(matches!(error, Error::Value { argument: "scales", .. }), "{error}");
    assert!(error.to_string().contains("255 (NaN) at index 1"), "{error}");
}

/// Blocks of MXFP4 as a checkpoint has them.
#[test]
fn mxfp4_blocks_are_taken_as_they_are() {
    let codes: Vec<u8> = (0..2 * 64).map(|i| (i * 5 % 16) as u8).collect();
    let scheme = Scheme::book(CodeBook::MXFP4).group(32);
    let scales = e8m0(&[127, 128, 120, 130]).unwrap();
    let w = QuantMatrix::from_parts(scheme, 2, 64, codes.clone(), scales, Zeros::Symmetric).unwrap();
    let magnitudes = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
    for (i, &found) in w.dequantize().data().iter().enumerate() {
        let code = usize::from(codes[i]);
        let sign = if code < 8 { 1.0 } else { -1.0 };
        let scale = [1.0, 2.0, 2f32.powi(-7), 8.0][i / 32];
        assert_eq!(found, sign * scale * magnitudes[code % 8]);
    }
    let refused = QuantMatrix::from_parts(
        scheme,
        1,
        1,
        vec![16],
        Floats::from_f32(ScaleType::Bf16, &[1.0]),
        Zeros::Symmetric,
    );
    assert!(matches!(refused, Err(Error::Value { argument: "codes", .. })));
}

fn quantized(w: &[f32], scheme: Scheme) -> QuantMatrix {
    let view = mixgemm::MatRef::row_major(w, 1, w.len()).unwrap();
    QuantMatrix::quantize(view, scheme).unwrap()
}

/// OCP Microscaling Formats 1.0, section 6.3: the shared scale is the largest power of two in the block over that of the
/// element format, values beyond the largest element get it, and elements round to nearest, ties to even.
#[test]
fn mxfp4_is_quantised_as_ocp_has_it() {
    let scheme = Scheme::book(CodeBook::MXFP4);
    // ⌊log2 6⌋ = 2, so the shared scale is 1 and these are elements: ties between 0 and 0.5, 0.5 and 1, … 4 and 6.
    let ties = [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, 7.9, -0.25, -0.75, -1.25, -5.0];
    let w = quantized(&ties, scheme);
    assert_eq!(w.scale(0, 0), 0.5);
    let expected = [0.0, 1.0, 1.0, 2.0, 2.0, 4.0, 4.0, 6.0, 0.0, -1.0, -1.0, -4.0];
    assert_eq!(w.dequantize().data(), expected);
    assert_eq!(w.code_row(0)[8], 0, "there is no -0");
    for (amax, shared) in [(7.99, 1.0), (8.0, 2.0), (3.99, 0.5), (1e-30, 2f32.powi(-102))] {
        assert_eq!(quantized(&[0.1 * amax, -amax], scheme).scale(0, 0), shared / 2.0);
    }
    // E8M0 ends at 2^-127, halved here; below, weights are subnormal and codes small.
    let least = quantized(&[f32::from_bits(1), 1e-38], scheme);
    assert_eq!(least.scale(0, 0), f32::from_bits(1 << 21));
    assert_eq!(quantized(&[0.0; 3], scheme).scale(0, 0), 0.0);
    let largest = quantized(&[f32::MAX, -f32::MAX], scheme);
    assert_eq!(largest.scale(0, 0), 2f32.powi(127 - 3));
    assert_eq!(largest.code_row(0), [7, 15]);
}

/// ANT: scales reach the largest weight, ties go to the larger entry.
#[test]
fn other_books_reach_the_ends_of_the_group() {
    let signed = quantized(
        &[16.0, 5.0, -5.0, 7.0, -12.0, 12.0, 0.5, -0.5],
        Scheme::book(CodeBook::FLINT4),
    );
    assert_eq!(signed.scale(0, 0), 1.0);
    assert_eq!(signed.dequantize().data(), [16.0, 6.0, -4.0, 8.0, -8.0, 16.0, 1.0, 0.0]);
    let unsigned = quantized(&[-3.0, 64.0, 9.0, 28.0, 48.0], Scheme::book(CodeBook::FLINT4_UNSIGNED));
    assert_eq!(unsigned.dequantize().data(), [0.0, 64.0, 10.0, 32.0, 64.0]);
    let ends = quantized(&[-127.0, 50.0], Scheme::book(CodeBook::IQ4_NL));
    assert_eq!((ends.scale(0, 0), ends.code_row(0)), (1.0, &[0u8, 12][..]));
    let ends = quantized(&[-1.0, 226.0], Scheme::book(CodeBook::IQ4_NL));
    assert_eq!(ends.scale(0, 0), 2.0);
    for book in BOOKS {
        let zeros = quantized(&[0.0; 5], Scheme::book(book));
        assert!(zeros.dequantize().data().iter().all(|w| *w == 0.0), "{book:?}");
    }
}

/// Every weight is as near as any level comes, and a searched scale is never worse.
#[test]
fn codes_are_the_nearest_and_searching_helps() {
    let draw = &mut Draw::new(7);
    let w = Mat::from_fn(4, 96, |_, _| draw.signed() * draw.signed() * 3.0);
    for book in BOOKS {
        let scheme = Scheme::book(book).group(32).scales(ScaleType::F32);
        let mut errors = Vec::new();
        for rounding in [Rounding::Nearest, Rounding::ClipSearch] {
            let q = QuantMatrix::quantize(w.view(), Scheme { rounding, ..scheme }).unwrap();
            let (mut error, back) = (0.0, q.dequantize());
            for n in 0..4 {
                for (k, &w) in w.view().row(n).iter().enumerate() {
                    let scale = f64::from(q.scale(n, k / 32));
                    let distance = |v: f64| (scale * v - f64::from(w)).abs();
                    let found = (f64::from(back.view().row(n)[k]) - f64::from(w)).abs();
                    let nearest = book
                        .levels()
                        .iter()
                        .map(|&v| distance(v.into()))
                        .fold(f64::MAX, f64::min);
                    assert!(
                        found <= nearest + 1e-6,
                        "{book:?}: {w} is off by {found}, not {nearest}"
                    );
                    error += found * found;
                }
            }
            errors.push(error);
        }
        assert!(errors[1] <= errors[0] * (1.0 + 1e-9), "{book:?}: {errors:?}");
    }
}

/// Codes of the largest and of the least level against inputs of ±128, in groups that settle, wrap and widen: every sum
/// by hand. What is added up in 16 bits would saturate or wrap where a run is a quad too long.
#[test]
fn the_largest_sums_of_every_book_are_exact() {
    for book in BOOKS {
        let (least, largest) = book.range();
        let code = |level: i8| book.levels().iter().position(|&v| v == level).unwrap() as u8;
        for k in [8, 37, 1030, 65_536] {
            let n = 5;
            let weight = |n: usize, k: usize| match n {
                0 => largest,
                1 => least,
                2 => [least, largest][k % 2],
                3 => [least, largest][k / 2 % 2],
                _ => book.levels()[(k * 7 + k / 16) % 16],
            };
            let codes = (0..n * k).map(|i| code(weight(i / k, i % k))).collect();
            let scales = Floats::from_f32(ScaleType::Bf16, &vec![1.0; n]);
            let w = QuantMatrix::from_parts(Scheme::book(book), n, k, codes, scales, Zeros::Symmetric).unwrap();
            let input = |m: usize, k: usize| match m {
                0 => -128i8,
                1 => 127,
                _ => [-128, 127][(k + m) % 2],
            };
            let m = 4;
            let x = Mat::from_fn(m, k, input);
            let x = Activations::int8(x.view(), 1.0);
            let mut expected = vec![0i64; m * n];
            for (i, sum) in expected.iter_mut().enumerate() {
                let terms = (0..k).map(|k| i64::from(weight(i % n, k)) * i64::from(input(i / n, k)));
                *sum = terms.sum();
            }
            let mut found = vec![0; m * n];
            reference::group_sums(&w, x, Mode::A8Given, GroupSums::I64(&mut found)).unwrap();
            assert_eq!(found, expected, "{book:?}, {k}");
            for_each_backend(|name, backend| {
                if backend.capabilities().check_scheme(w.scheme()).is_err() {
                    return;
                }
                let prepared = backend.prepare(&w).unwrap();
                let mut found = vec![0; m * n];
                let sums = GroupSums::I64(&mut found);
                backend.group_sums(&prepared, x, Mode::A8Given, sums).unwrap();
                assert_eq!(found, expected, "{name}: raw sums of {book:?}, {k}");
                let mut y = Mat::<f32>::zeros(m, n);
                backend.accumulate(&prepared, x, Mode::A8Given, y.view_mut()).unwrap();
                let rounded: Vec<f32> = expected.iter().map(|&sum| sum as f32).collect();
                assert_eq!(y.data(), rounded, "{name}: {book:?}, {k}");
            });
        }
    }
}

/// In `exact` the limit of a group follows from the largest level, and at the limit sums are those of the reference.
#[test]
fn exact_bounds_follow_the_book() {
    let book = CodeBook::IQ4_NL;
    let most = ((1 << 23) - 1) / usize::from(book.max_carried());
    for (k, refused) in [(most, false), (most + 1, true)] {
        let scales = Floats::from_f32(ScaleType::Bf16, &[1.0]);
        let codes = (0..k).map(|k| [0, 15][k % 2]).collect();
        let w = QuantMatrix::from_parts(Scheme::book(book), 1, k, codes, scales, Zeros::Symmetric).unwrap();
        let x = Mat::from_fn(1, k, |_, k| f16::from_f32([65_504.0, -65_504.0][k % 2]));
        let mut expected = Mat::<f32>::zeros(1, 1);
        let result = reference::accumulate(&w, x.view().into(), Mode::Exact, expected.view_mut());
        assert_eq!(result.is_err(), refused);
        for_each_backend(|name, backend| {
            let capabilities = backend.capabilities();
            if !capabilities.exact || !capabilities.books {
                return;
            }
            let prepared = backend.prepare(&w).unwrap();
            let mut y = Mat::<f32>::zeros(1, 1);
            let result = backend.accumulate(&prepared, x.view().into(), Mode::Exact, y.view_mut());
            assert_eq!(result.is_err(), refused, "{name}");
            assert_eq!(y.data()[0].to_bits(), expected.data()[0].to_bits(), "{name}");
        });
    }
}
