//! The scalar reference against an oracle of exact rationals, written from the text of the arithmetic contract alone:
//! activations to integers, group sums, fold, special values, epilogue and output rounding, all bit for bit.
#![forbid(unsafe_code)]

mod contract;
mod draw;
mod rational;

use contract::{Row, activations, decode_f16, f32_of, fold, sums};
use dashu::base::Abs;
use dashu::rational::RBig;
use draw::Draw;
use mixgemm::{Activation, Activations, CodeBook, Epilogue, Floats, Group, GroupSums, Mat, MatRef, Mode, QuantMatrix};
use mixgemm::{Result, ScaleType, Scheme, ZeroPoint, Zeros, bf16, f16, reference};
use rational::{BF16, F16, add, exact, mul, power_of_two, round, round_to_integer};

const NAN: u32 = 0x7FC0_0000;

fn bits(y: f32) -> u32 {
    if y.is_nan() { NAN } else { y.to_bits() }
}

/// Rows of finite inputs of every element type, with the values that the oracle works from.
enum Input {
    F32(Mat<f32>),
    F16(Mat<f16>),
    Bf16(Mat<bf16>),
    I8(Mat<i8>, Vec<f32>),
}

impl Input {
    fn view(&self) -> Activations<'_> {
        match self {
            Self::F32(x) => x.view().into(),
            Self::F16(x) => x.view().into(),
            Self::Bf16(x) => x.view().into(),
            Self::I8(x, t) => Activations::int8_rows(x.view(), t),
        }
    }

    /// The values of row `m`, decoded from their bits.
    fn values(&self, m: usize) -> Vec<f32> {
        match self {
            Self::F32(x) => x.view().row(m).to_vec(),
            Self::F16(x) => x.view().row(m).iter().map(|x| decode_f16(x.to_bits())).collect(),
            Self::Bf16(x) => x
                .view()
                .row(m)
                .iter()
                .map(|x| f32::from_bits(u32::from(x.to_bits()) << 16))
                .collect(),
            Self::I8(x, _) => x.view().row(m).iter().map(|&x| f32::from(x)).collect(),
        }
    }
}

/// Compares `run`, `accumulate` and `group_sums` of the reference with the oracle; returns how many outputs were
/// compared.
fn check(w: &QuantMatrix, x: &Input, mode: Mode, bias: &[f32], residual: MatRef<'_, f32>, label: &str) -> usize {
    let ((m, _), (n, groups)) = (x.view().shape(), (w.n(), w.groups()));
    let group = w.scheme().group_length(w.k()).max(1);
    let rows: Option<Vec<Row>> = (0..m)
        .map(|m| match x {
            Input::I8(_, t) => {
                let a = x.values(m).into_iter().map(|x| exact(f64::from(x))).collect();
                Some(Row {
                    a,
                    factors: vec![1.0; groups],
                    row_scale: Some(t[m]),
                })
            }
            _ => activations(&x.values(m), mode, group),
        })
        .collect();
    let epilogue = Epilogue::new()
        .bias(bias)
        .activation(Activation::Relu)
        .residual(residual);
    let mut y = Mat::<f32>::zeros(m, n);
    let result = reference::run(w, x.view(), mode, &epilogue, y.view_mut().into());
    let Some(rows) = rows else {
        assert!(result.is_err(), "{label}: accepted");
        return 0;
    };
    result.unwrap();
    let start = Mat::from_fn(m, n, |m, n| (m as f32 - n as f32) * 0.37);
    let mut continued = start.clone();
    reference::accumulate(w, x.view(), mode, continued.view_mut()).unwrap();
    let mut integers = vec![0i64; m * groups * n];
    reference::group_sums(w, x.view(), mode, GroupSums::I64(&mut integers)).unwrap();
    let unit = if mode == Mode::Exact {
        power_of_two(24)
    } else {
        RBig::ONE
    };
    for (m, row) in rows.iter().enumerate() {
        for n in 0..w.n() {
            let mut expected = fold(w, row, mode, n, 0.0);
            if let Some(t) = row.row_scale {
                expected = mul(expected, t);
            }
            expected = add(expected, bias[n]);
            expected = if expected < 0.0 { 0.0 } else { expected };
            expected = add(expected, residual.row(m)[n]);
            let found = y.view().row(m)[n];
            assert_eq!(
                found.to_bits(),
                bits(expected),
                "{label} ({m}, {n}): {found:e}, expected {expected:e}"
            );
            let expected = fold(w, row, mode, n, start.view().row(m)[n]);
            let found = continued.view().row(m)[n];
            assert_eq!(
                found.to_bits(),
                bits(expected),
                "{label} ({m}, {n}) continued: {found:e}, {expected:e}"
            );
            for g in 0..groups {
                let index = if w.scheme().group == Group::Tensor {
                    0
                } else {
                    n * groups + g
                };
                let sum = sums(w, &row.a, n, g, index).0 * &unit;
                assert_eq!(
                    RBig::from(integers[(m * groups + g) * w.n() + n]),
                    sum,
                    "{label} ({m}, {g}, {n})"
                );
            }
        }
    }
    m * n
}

/// Quantised weights with every kind of scale and zero point that the contract allows.
fn weights(draw: &mut Draw, scheme: Scheme, n: usize, k: usize, tame: bool) -> QuantMatrix {
    let codes: Vec<u8> = (0..n * k).map(|_| draw.below(1 << scheme.bits) as u8).collect();
    let count = if scheme.group == Group::Tensor {
        1
    } else {
        n * scheme.groups(k)
    };
    let mut scale = || match draw.below(if tame { 4 } else { 9 }) {
        4 => 0.0,
        5 => -0.0,
        6 => draw.signed() * 1e-40,
        7 => 2f32.powi(-24) * draw.below(5) as f32,
        8 => draw.signed() * 1e4,
        _ => draw.signed() * 0.1,
    };
    let scales: Vec<f32> = (0..count).map(|_| scale()).collect();
    let span = 1usize << scheme.bits;
    let zeros = match scheme.zero {
        ZeroPoint::Symmetric => Zeros::Symmetric,
        ZeroPoint::Integer => Zeros::Integer((0..count).map(|_| draw.below(span + 1) as u16).collect()),
        ZeroPoint::Float => {
            let mut zero = || match draw.below(if tame { 4 } else { 6 }) {
                4 => -draw.signed().abs() * 50.0,
                5 => span as f32 + draw.signed().abs() * 50.0,
                0 => draw.below(span + 1) as f32,
                1 => draw.below(2 * span + 1) as f32 / 2.0,
                _ => draw.signed().abs() * span as f32,
            };
            let zeros: Vec<f32> = (0..count).map(|_| zero()).collect();
            Zeros::Float(Floats::from_f32(scheme.scale, &zeros))
        }
    };
    QuantMatrix::from_parts(scheme, n, k, codes, Floats::from_f32(scheme.scale, &scales), zeros).unwrap()
}

/// M × K inputs whose runs of five have very different magnitudes, negligible ones and subnormals among them.
fn wild(draw: &mut Draw, m: usize, k: usize) -> Mat<f32> {
    let mut magnitude = 1.0;
    Mat::from_fn(m, k, |_, c| {
        if c % 5 == 0 {
            magnitude = [1.0, 1.0, 37.5, 1e-3, 7.9e-31, 1e-29, 1e-36, 1e-40, 1e20][draw.below(9)];
        }
        [0.0, draw.signed(), draw.signed(), 1.0][draw.below(4)] * magnitude
    })
}

fn finite_f16(draw: &mut Draw) -> f16 {
    let x = f16::from_bits(draw.bits() as u16);
    if x.is_finite() {
        x
    } else {
        f16::from_bits(x.to_bits() & 0xBFFF)
    }
}

#[test]
fn the_reference_equals_the_oracle_in_every_mode() {
    let mut draw = Draw(11);
    let mut compared = 0;
    let kinds = [ZeroPoint::Symmetric, ZeroPoint::Integer, ZeroPoint::Float];
    let plain = (1..=8u8).flat_map(|width| {
        kinds.map(|zero| Scheme {
            zero,
            ..Scheme::int(width)
        })
    });
    let wide = CodeBook::new([-128, 127, 1, -1, 64, -64, 7, 8, 9, 10, 11, 12, 0, 0, 126, -127]);
    let books = [CodeBook::MXFP4, CodeBook::FLINT4_UNSIGNED, CodeBook::IQ4_NL, wide].map(Scheme::book);
    for base in plain.chain(books) {
        for (i, group) in [Group::Length(5), Group::Length(8), Group::Channel, Group::Tensor]
            .into_iter()
            .enumerate()
        {
            let scale = [ScaleType::F32, ScaleType::F16, ScaleType::Bf16][(i + usize::from(base.bits)) % 3];
            let scheme = Scheme {
                group,
                ..base.scales(scale)
            };
            let (m, n, k) = (2, 3, 12 + draw.below(11));
            let w = weights(&mut draw, scheme, n, k, false);
            let bias: Vec<f32> = (0..n).map(|_| draw.signed()).collect();
            let residual = Mat::from_fn(m, n, |_, _| draw.signed());
            let f32s = Input::F32(wild(&mut draw, m, k));
            let halves = Input::F16(Mat::from_fn(m, k, |_, _| finite_f16(&mut draw)));
            let source = wild(&mut draw, m, k);
            let brains = Input::Bf16(Mat::from_fn(m, k, |r, c| bf16::from_f32(source.view().row(r)[c])));
            let even = Input::F32(Mat::from_fn(m, k, |_, _| draw.signed()));
            let given = Input::I8(Mat::from_fn(m, k, |_, _| draw.bits() as i8), vec![0.013, -3.5e-41]);
            let fixed = |scale, saturate| Mode::A8Static { scale, saturate };
            let cases = [
                (&f32s, Mode::A8),
                (&f32s, Mode::A8Row),
                (&f32s, Mode::A16),
                (&f32s, fixed(0.01, true)),
                (&halves, Mode::A8),
                (&halves, Mode::A8Row),
                (&halves, Mode::A16),
                (&halves, Mode::Exact),
                (&halves, fixed(1.0, true)),
                (&brains, Mode::A8),
                (&brains, Mode::A16),
                (&even, Mode::A8),
                (&even, Mode::A16),
                (&even, fixed(0.007_7, true)),
                (&even, fixed(0.007_7, false)),
                (&given, Mode::A8Given),
            ];
            for (x, mode) in cases {
                let label = format!("{scheme:?} {mode:?} {}", x.view().element());
                compared += check(&w, x, mode, &bias, residual.view(), &label);
            }
        }
    }
    assert!(compared > 8 * 3 * 4 * 13 * 6, "{compared} outputs");
}

/// Codes of 8 bits with zero point 0 and scale 1: the output is T of its one group.
fn plain(codes: &[u8]) -> QuantMatrix {
    let scheme = Scheme::int(8).asymmetric().scales(ScaleType::F32);
    let (scales, zeros) = (Floats::F32(vec![1.0]), Zeros::Integer(vec![0]));
    QuantMatrix::from_parts(scheme, 1, codes.len(), codes.to_vec(), scales, zeros).unwrap()
}

fn run<'a>(w: &QuantMatrix, x: impl Into<Activations<'a>>, mode: Mode) -> Result<Mat<f32>> {
    let x = x.into();
    let mut y = Mat::zeros(x.shape().0, w.n());
    reference::run(w, x, mode, &Epilogue::new(), y.view_mut().into())?;
    Ok(y)
}

#[test]
fn exact_rounds_a_groups_sum_once() {
    let half = |x: &[f32]| Mat::from_vec(x.iter().map(|&x| f16::from_f32(x)).collect(), 1, x.len()).unwrap();
    let tiny = 2f32.powi(-24);
    for (x, codes, expected) in [
        (vec![1.0, tiny], vec![1, 1], 1.0),
        (vec![1.0, tiny, 2.0 * tiny], vec![1, 1, 1], 1.0 + 4.0 * tiny),
        (vec![-1.0, -tiny, -2.0 * tiny], vec![1, 1, 1], -1.0 - 4.0 * tiny),
        (vec![65_504.0, tiny, -65_504.0], vec![255, 1, 255], tiny),
        (vec![65_504.0, -65_504.0], vec![7, 7], 0.0),
        (vec![tiny], vec![3], 3.0 * tiny),
    ] {
        let y = run(&plain(&codes), half(&x).view(), Mode::Exact).unwrap();
        assert_eq!(y.data()[0].to_bits(), f32::to_bits(expected), "{x:?}");
    }
    let mut draw = Draw(12);
    for _ in 0..300 {
        let k = 1 + draw.below(60);
        let codes: Vec<u8> = (0..k).map(|_| draw.bits() as u8).collect();
        let x = Mat::from_fn(1, k, |_, _| finite_f16(&mut draw));
        let terms = codes
            .iter()
            .zip(x.data())
            .map(|(&q, x)| RBig::from(q) * exact(f64::from(decode_f16(x.to_bits()))));
        let sum = terms.fold(RBig::ZERO, |sum, term| sum + term);
        let found = run(&plain(&codes), x.view(), Mode::Exact).unwrap().data()[0];
        assert_eq!(found.to_bits(), f32_of(&sum).to_bits(), "{found:e}");
    }
}

/// Section 5 of the contract: m roundings on a path err by at most `gamma_m·Σ|terms| + m·(smallest subnormal)/2`.
#[test]
fn exact_mode_obeys_its_a_priori_bound() {
    let mut draw = Draw(13);
    for width in 1..=8u8 {
        for zero in [ZeroPoint::Symmetric, ZeroPoint::Integer, ZeroPoint::Float] {
            let mut scheme = Scheme::int(width).group(16).scales(ScaleType::F16);
            scheme.zero = zero;
            let w = weights(&mut draw, scheme, 4, 90, true);
            let x = Mat::from_fn(3, 90, |_, _| {
                if draw.below(2) == 0 {
                    f16::from_f32(draw.signed())
                } else {
                    finite_f16(&mut draw)
                }
            });
            let y = run(&w, x.view(), Mode::Exact).unwrap();
            // A term sees its group's T (or B and o) and every later fma; a float zero point has two of each a group.
            let roundings = if zero == ZeroPoint::Float {
                2 * w.groups() + 2
            } else {
                w.groups() + 1
            };
            let m = RBig::from(roundings);
            let mu = m.clone() * power_of_two(-24);
            let gamma = mu.clone() / (RBig::ONE - mu);
            for r in 0..3 {
                for n in 0..4 {
                    let (mut truth, mut terms) = (RBig::ZERO, RBig::ZERO);
                    for (k, x) in x.view().row(r).iter().enumerate() {
                        let (s, z) = (
                            exact(f64::from(w.scale(n, k / 16))),
                            exact(f64::from(w.zero(n, k / 16))),
                        );
                        let double = RBig::from(1 + i32::from(scheme.is_sign_only()));
                        let q = RBig::from(w.code_row(n)[k]);
                        let sx = s * exact(x.to_f64()) * double;
                        truth += sx.clone() * (q.clone() - z.clone());
                        let z0 = RBig::from(round_to_integer(&z).clamp(0, 1 << width));
                        terms += match zero {
                            ZeroPoint::Float => (sx.clone() * (q - z0.clone())).abs() + (sx * (z - z0)).abs(),
                            _ => (sx * (q - z)).abs(),
                        };
                    }
                    let bound = gamma.clone() * terms + m.clone() * power_of_two(-150);
                    let error = (exact(f64::from(y.view().row(r)[n])) - truth).abs();
                    assert!(error <= bound, "{width} bits {zero:?}: {}", error.to_f64().value());
                }
            }
        }
    }
}

/// Rows with non-finite inputs, by hand: `Σ x·sign(s)·sign(q − z)` over those inputs alone, with `0·∞` = NaN.
#[test]
fn rows_with_non_finite_inputs_follow_their_table() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    let weights = |scheme: Scheme, codes: &[u8], s: f32, zeros: Zeros| {
        let scales = Floats::F32(vec![s]);
        QuantMatrix::from_parts(scheme.scales(ScaleType::F32), 1, 4, codes.to_vec(), scales, zeros).unwrap()
    };
    let four = |s| weights(Scheme::int(4), &[15, 8, 0, 9], s, Zeros::Symmetric); // levels 7, 0, −8, 1
    let one = |s| weights(Scheme::int(1), &[1, 0, 0, 1], s, Zeros::Symmetric); // levels 1, −1, −1, 1
    let top = |s| {
        weights(
            Scheme::int(4).asymmetric(),
            &[15, 15, 0, 9],
            s,
            Zeros::Integer(vec![16]),
        )
    }; // all below 0
    let float = |s| {
        weights(
            Scheme::int(4).float_zero(),
            &[8, 7, 0, 15],
            s,
            Zeros::Float(Floats::F32(vec![7.5])),
        )
    };
    let book = |s| weights(Scheme::book(CodeBook::MXFP4), &[7, 9, 0, 8], s, Zeros::Symmetric); // levels 12, −1, 0, 0
    let cases: [(QuantMatrix, [f32; 4], f32); 26] = [
        (four(0.5), [inf, 1.0, 1.0, 1.0], inf),
        (four(0.5), [-inf, 1.0, 1.0, 1.0], -inf),
        (four(0.5), [1.0, 1.0, inf, 1.0], -inf),
        (four(-0.5), [inf, 1.0, 1.0, 1.0], -inf),
        (four(-0.5), [1.0, 1.0, inf, 3.0], inf),
        (four(0.5), [1.0, inf, 1.0, 1.0], nan),
        (four(0.5), [inf, 1.0, 1.0, inf], inf),
        (four(0.5), [inf, 1.0, inf, 1.0], nan),
        (four(0.5), [inf, 1.0, -inf, 1.0], inf),
        (four(0.0), [inf, 1.0, 1.0, 1.0], nan),
        (four(-0.0), [1.0, 1.0, 1.0, -inf], nan),
        (four(1e-45), [inf, 1.0, 1.0, 1.0], inf),
        (four(0.5), [1.0, 1.0, 1.0, -nan], nan),
        (four(0.0), [1.0, 1.0, 1.0, nan], nan),
        (one(0.5), [inf, 1.0, 1.0, 1.0], inf),
        (one(0.5), [1.0, inf, 1.0, 1.0], -inf),
        (one(0.5), [1.0, inf, -inf, 1.0], nan),
        (one(-0.5), [1.0, inf, 1.0, 1.0], inf),
        (top(0.5), [inf, 1.0, 1.0, 1.0], -inf),
        (float(0.5), [inf, 1.0, 1.0, 1.0], inf),
        (float(0.5), [1.0, inf, 1.0, 1.0], -inf),
        (float(0.5), [inf, inf, 1.0, 1.0], nan),
        (book(0.5), [inf, 1.0, 1.0, 1.0], inf),
        (book(0.5), [inf, -inf, 1.0, 1.0], inf),
        (book(-0.5), [1.0, inf, 1.0, 1.0], inf),
        (book(0.5), [1.0, 1.0, 1.0, inf], nan),
    ];
    for (w, x, expected) in &cases {
        let fixed = Mode::A8Static {
            scale: 0.01,
            saturate: false,
        };
        // The middle row is finite: it must not notice its neighbours.
        let x = Mat::from_fn(3, 4, |m, k| if m == 1 { 0.0 } else { x[k] });
        let halves = Mat::from_fn(3, 4, |m, k| f16::from_f32(x.view().row(m)[k]));
        let brains = Mat::from_fn(3, 4, |m, k| bf16::from_f32(x.view().row(m)[k]));
        let mut results = vec![
            run(w, halves.view(), Mode::Exact).unwrap(),
            run(w, brains.view(), Mode::A8).unwrap(),
        ];
        results.extend([Mode::A8, Mode::A8Row, Mode::A16, fixed].map(|mode| run(w, x.view(), mode).unwrap()));
        for (i, y) in results.iter().enumerate() {
            assert_eq!(
                y.data()[0].to_bits(),
                bits(*expected),
                "{i}: {x:?} gives {}",
                y.data()[0]
            );
            assert_eq!(
                y.data().iter().map(|y| y.to_bits()).collect::<Vec<_>>(),
                [bits(*expected), 0, bits(*expected)]
            );
        }
        let mut y = Mat::from_fn(3, 1, |_, _| 1.5f32);
        reference::accumulate(w, x.view().into(), Mode::A16, y.view_mut()).unwrap();
        assert_eq!(
            y.data().iter().map(|y| y.to_bits()).collect::<Vec<_>>(),
            [bits(*expected), 1.5f32.to_bits(), bits(*expected)]
        );
        let mut integers = [7i64; 3];
        reference::group_sums(w, x.view().into(), Mode::A8, GroupSums::I64(&mut integers)).unwrap();
        assert_eq!(integers, [0; 3]);
    }
}

#[test]
fn outputs_are_rounded_once_to_their_type() {
    let mut draw = Draw(14);
    let mut bias: Vec<f32> = (0..60_000).map(|_| f32::from_bits(draw.bits() as u32)).collect();
    for low in (0..0x7C00u16).step_by(3) {
        let middle = (decode_f16(low) + if low == 0x7BFF { 65_536.0 } else { decode_f16(low + 1) }) / 2.0;
        let near = [middle.to_bits() - 1, middle.to_bits(), middle.to_bits() + 1].map(f32::from_bits);
        bias.extend(near.iter().flat_map(|&x| [x, -x]));
    }
    for high in (0..0x7F80u32).step_by(3).chain([0x7F7F]) {
        bias.extend([0x7FFF, 0x8000, 0x8001].map(|low| f32::from_bits(high << 16 | low)));
    }
    bias.extend([
        0.0,
        -0.0,
        65_504.0,
        65_519.996,
        65_520.0,
        f32::MAX,
        f32::INFINITY,
        -f32::INFINITY,
        f32::NAN,
        -f32::NAN,
    ]);
    let n = bias.len();
    let zero = Floats::F16(vec![f16::ZERO; n]);
    let w = QuantMatrix::from_parts(Scheme::int(4), n, 1, vec![8; n], zero, Zeros::Symmetric).unwrap();
    let x = Mat::from_fn(1, 1, |_, _| 1.0f32);
    let epilogue = Epilogue::new().bias(&bias);
    let (mut halves, mut brains, mut floats) = (
        Mat::<f16>::zeros(1, n),
        Mat::<bf16>::zeros(1, n),
        Mat::<f32>::zeros(1, n),
    );
    reference::run(&w, x.view().into(), Mode::A16, &epilogue, halves.view_mut().into()).unwrap();
    reference::run(&w, x.view().into(), Mode::A16, &epilogue, brains.view_mut().into()).unwrap();
    reference::run(&w, x.view().into(), Mode::A16, &epilogue, floats.view_mut().into()).unwrap();
    for (i, &b) in bias.iter().enumerate() {
        let (half, brain, float) = (halves.data()[i], brains.data()[i], floats.data()[i]);
        if b.is_nan() {
            assert_eq!(
                (half.to_bits(), brain.to_bits(), float.to_bits()),
                (0x7E00, 0x7FC0, NAN)
            );
            continue;
        }
        assert_eq!(float.to_bits(), add(0.0, b).to_bits(), "{b:e}");
        let rounded = |format| {
            if b.is_finite() {
                round(&exact(f64::from(b)), format)
            } else {
                f64::from(b)
            }
        };
        let (h, f) = (half.to_bits(), f32::from_bits(u32::from(brain.to_bits()) << 16));
        let value = if h & 0x7FFF == 0x7C00 {
            f64::INFINITY.copysign(f64::from(b))
        } else {
            f64::from(decode_f16(h))
        };
        assert_eq!(value, rounded(F16), "{b:e} as f16");
        assert_eq!(f64::from(f), rounded(BF16), "{b:e} as bf16");
        if b != 0.0 {
            assert_eq!((h >> 15 == 1, f.is_sign_negative()), (b < 0.0, b < 0.0), "{b:e}");
        }
    }
}

#[test]
fn empty_products_give_the_epilogue_of_zero() {
    for mode in [
        Mode::A8,
        Mode::A8Row,
        Mode::A16,
        Mode::Exact,
        Mode::A8Static {
            scale: 1.0,
            saturate: false,
        },
    ] {
        for scheme in [
            Scheme::int(4),
            Scheme::int(1),
            Scheme::int(3).group(4).float_zero(),
            Scheme::int(8).per_tensor(),
        ] {
            let w = QuantMatrix::quantize(Mat::<f32>::zeros(2, 0).view(), scheme).unwrap();
            let x = Mat::<f16>::zeros(3, 0);
            let residual = Mat::from_fn(3, 2, |_, _| 1.0f32);
            let epilogue = Epilogue::new()
                .bias(&[0.5, -0.5])
                .activation(Activation::Relu)
                .residual(residual.view());
            let mut y = Mat::from_fn(3, 2, |_, _| f32::NAN);
            reference::run(&w, x.view().into(), mode, &epilogue, y.view_mut().into()).unwrap();
            assert_eq!(y.data(), [1.5, 1.0, 1.5, 1.0, 1.5, 1.0], "{mode:?} {scheme:?}");
            let none = Mat::<f16>::zeros(0, 0);
            reference::run(
                &w,
                none.view().into(),
                mode,
                &Epilogue::new(),
                Mat::<f32>::zeros(0, 2).view_mut().into(),
            )
            .unwrap();
        }
    }
}

#[test]
fn sums_that_might_not_fit_their_integers_are_refused() {
    let sums_of = |bits: u8, group: usize, mode: Mode, narrow: bool| {
        let w = QuantMatrix::quantize(Mat::<f32>::zeros(1, group).view(), Scheme::int(bits).asymmetric()).unwrap();
        let x = Mat::<f16>::zeros(1, group);
        let (mut i32s, mut i64s) = ([0i32], [0i64]);
        let sums = if narrow {
            GroupSums::I32(&mut i32s)
        } else {
            GroupSums::I64(&mut i64s)
        };
        reference::group_sums(&w, x.view().into(), mode, sums)
    };
    assert!(sums_of(8, 65_535, Mode::A8, true).is_ok());
    assert!(sums_of(8, 65_536, Mode::A8, true).is_err());
    assert!(sums_of(4, 4096, Mode::A16, true).is_ok());
    assert!(sums_of(4, 4352, Mode::A16, true).is_err());
    assert!(sums_of(4, 32, Mode::Exact, true).is_err());
    assert!(sums_of(8, 32_768, Mode::Exact, false).is_ok());
    assert!(
        sums_of(8, 32_790, Mode::Exact, false).is_err(),
        "256·32790·65504·2^24 is above 2^63"
    );
    assert!(sums_of(7, 65_536, Mode::Exact, false).is_ok());
}
