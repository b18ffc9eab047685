//! Devices that round, against plain loops over the formulas of their documentation, and against their own bounds.
#![forbid(unsafe_code)]

mod halves;

use halves::{UNITS, Unit, nearest};
use mixgemm::accel::catalogue::{ACCELERATORS, dequant, fp16};
use mixgemm::accel::element::dequantise::Conversion;
use mixgemm::accel::element::float::FloatElement;
use mixgemm::accel::element::half::Accumulator;
use mixgemm::accel::element::shift_add_half::Adds;
use mixgemm::accel::float_device::FloatDevice;
use mixgemm::testing::{Draw, Inputs, for_each_native_device, weights};
use mixgemm::{
    Activation, Activations, Backend, Counters, Epilogue, Error, Floats, GroupSums, Host, Mat, MixPe, Mode,
    QuantMatrix, ScaleType, Scheme, Zeros, bf16, f16, reference,
};

const SHAPES: [(usize, usize, usize); 5] = [(1, 1, 1), (3, 5, 33), (9, 7, 64), (2, 3, 200), (4, 6, 128)];

/// Schemes that every device takes; zero points are integers below 2^bits.
fn schemes() -> [Scheme; 5] {
    [
        Scheme::int(4).group(32).asymmetric(),
        Scheme::int(4).group(128),
        Scheme::int(3).group(7),
        Scheme::int(2).per_tensor().asymmetric(),
        Scheme::int(4).group(5).scales(ScaleType::Bf16),
    ]
}

/// Moderate numbers, some of them subnormal or zero.
fn halves_of(draw: &mut Draw, m: usize, k: usize) -> Mat<f16> {
    Mat::from_fn(m, k, |_, _| {
        let scale = [1.0, 8.0, 1e-3, 3e-5, 1e-6, 0.0][draw.below(6)];
        f16::from_f32(draw.signed() * scale)
    })
}

/// Scales of all the digits that their type has; zero points that fit a code, so that all three conventions hold them.
fn weights_for(draw: &mut Draw, scheme: Scheme, n: usize, k: usize) -> QuantMatrix {
    let w = weights(draw, scheme, n, k);
    let scales: Vec<f32> = (0..w.scales().len()).map(|_| draw.signed() * 0.1).collect();
    let zeros = match w.zeros() {
        Zeros::Integer(zeros) => Zeros::Integer(zeros.iter().map(|z| z % (1 << scheme.bits)).collect()),
        zeros => zeros.clone(),
    };
    let scales = Floats::from_f32(scheme.scale, &scales);
    QuantMatrix::from_parts(scheme, n, k, w.codes().to_vec(), scales, zeros).unwrap()
}

/// One output of a device with f64 in place of the library's f32: every value below is exact in f64 before its rounding,
/// and rounded by integers or by the conversion to f32.
struct Loops {
    unit: Unit,
    accumulator: Accumulator,
}

impl Loops {
    fn add(&self, sum: f64, product: f64) -> f64 {
        match self.accumulator {
            // A sum of two f32 rounded to f64 and then to f32 is rounded as if once: 53 ≥ 2·24 + 2.
            Accumulator::F32 => f64::from((sum + product) as f32),
            Accumulator::F16 => self.unit.round(sum + product),
        }
    }

    fn mixpe(&self, adds: Adds, w: &QuantMatrix, x: &[f16], n: usize) -> f32 {
        let product = |code: u8, x: f16| {
            let x = self.unit.flushed(x.to_f64());
            match adds {
                _ if code == 0 => 0.0,
                Adds::Fused => self.unit.round(f64::from(code) * x),
                Adds::TermByTerm => {
                    let open = (0..4).filter(|i| code >> i & 1 == 1);
                    let terms = open.map(|i| self.unit.round(x * f64::from(1 << i)));
                    terms.reduce(|sum, term| self.unit.round(sum + term)).unwrap_or(0.0)
                }
            }
        };
        let mut y = 0f32;
        for g in 0..w.groups() {
            let (mut a, mut b) = (0.0, 0.0);
            for k in w.group_range(g) {
                a = self.add(a, product(w.code_row(n)[k], x[k]));
                b = self.add(b, product(1, x[k]));
            }
            let t = (-w.zero(n, g)).mul_add(b as f32, a as f32);
            y = t.mul_add(w.scale(n, g), y);
        }
        y
    }

    fn multiplied(&self, conversion: Conversion, w: &QuantMatrix, x: &[f16], n: usize) -> f32 {
        let mut y = 0.0;
        for g in 0..w.groups() {
            let (scale, z) = (w.scale(n, g), f64::from(w.zero(n, g)));
            let s = nearest(f64::from(scale));
            for k in w.group_range(g) {
                let q = f64::from(w.code_row(n)[k]);
                let weight = match conversion {
                    Conversion::Stored => nearest(f64::from((q - z) as f32 * scale)),
                    Conversion::Rescaled if *w.zeros() != Zeros::Symmetric => nearest(nearest(q * s) - nearest(z * s)),
                    _ => nearest((q - z) * s),
                };
                let product = weight * x[k].to_f64();
                let product = match self.accumulator {
                    Accumulator::F32 => product,
                    Accumulator::F16 => nearest(product),
                };
                y = self.add(y, product);
            }
        }
        y as f32
    }
}

fn product<E: FloatElement>(device: &FloatDevice<E>, w: &QuantMatrix, x: &Mat<f16>) -> (Mat<f32>, Counters) {
    let mut y = Mat::from_fn(x.rows(), w.n(), |_, _| f32::NAN);
    let prepared = device.prepare(w).unwrap();
    let out = y.view_mut().into();
    let report = device.run(&prepared, x.view().into(), Mode::Native, &Epilogue::new(), out);
    (y, report.unwrap().counters)
}

/// `Σ s·(q − z)·x` in f64; `2^-53` of the magnitudes is far below every bound.
fn exact(w: &QuantMatrix, x: &[f16], n: usize) -> f64 {
    let level = |g: usize, k: usize| match w.scheme().is_sign_only() {
        true => 2.0 * f64::from(w.code_row(n)[k]) - 1.0,
        false => f64::from(w.code_row(n)[k]) - f64::from(w.zero(n, g)),
    };
    let group = |g: usize| {
        let terms = w.group_range(g).map(|k| level(g, k) * x[k].to_f64());
        f64::from(w.scale(n, g)) * terms.sum::<f64>()
    };
    (0..w.groups()).map(group).sum()
}

/// Equal to the loops, and within the bound; gives the largest share of the bound that was used.
fn check<E: FloatElement>(
    device: &FloatDevice<E>,
    w: &QuantMatrix,
    x: &Mat<f16>,
    expected: impl Fn(&[f16], usize) -> f32,
) -> f64 {
    let (y, counters) = product(device, w, x);
    let bound = device.bound(w, x.view()).unwrap();
    let mut share = 0f64;
    for m in 0..x.rows() {
        for n in 0..w.n() {
            let (found, row) = (y.view().row(m)[n], x.view().row(m));
            let what = || format!("{} ({m}, {n}) {:?}", Backend::name(device), w.scheme());
            assert_eq!(found.to_bits(), expected(row, n).to_bits(), "{}", what());
            let (error, bound) = ((f64::from(found) - exact(w, row, n)).abs(), bound.view().row(m)[n]);
            if counters.overflows == 0 {
                assert!(error <= bound, "{}: {error:e} of {bound:e}", what());
                share = share.max(if error > 0.0 { error / bound } else { 0.0 });
            }
        }
    }
    share
}

#[test]
fn devices_compute_what_their_formulas_say_within_their_bounds() {
    let draw = &mut Draw::new(61);
    let ieee = UNITS[0];
    let mut shares = [0f64; 11];
    for (m, n, k) in SHAPES {
        for scheme in schemes() {
            let (w, x) = (weights_for(draw, scheme, n, k), halves_of(draw, m, k));
            let mixpe = |unit, accumulator, adds| {
                let (w, loops) = (&w, Loops { unit, accumulator });
                move |x: &[f16], n| loops.mixpe(adds, w, x, n)
            };
            let multiplied = |accumulator, conversion| {
                let (w, loops) = (
                    &w,
                    Loops {
                        unit: ieee,
                        accumulator,
                    },
                );
                move |x: &[f16], n| loops.multiplied(conversion, w, x, n)
            };
            let (f32, f16) = (Accumulator::F32, Accumulator::F16);
            let (flush, saturate) = (UNITS[1], UNITS[2]);
            let of_this = [
                check(&MixPe::w4a16_fused(), &w, &x, mixpe(ieee, f32, Adds::Fused)),
                check(&MixPe::w4a16_fused_f16(), &w, &x, mixpe(ieee, f16, Adds::Fused)),
                check(&MixPe::w4a16_naive(), &w, &x, mixpe(ieee, f16, Adds::TermByTerm)),
                check(&MixPe::w4a16_flush(), &w, &x, mixpe(flush, f16, Adds::TermByTerm)),
                check(&MixPe::w4a16_saturate(), &w, &x, mixpe(saturate, f16, Adds::TermByTerm)),
                check(&fp16::array(), &w, &x, multiplied(f32, Conversion::Stored)),
                check(&fp16::array_f16(), &w, &x, multiplied(f16, Conversion::Stored)),
                check(&dequant::w4a16(), &w, &x, multiplied(f32, Conversion::Original)),
                check(&dequant::w4a16_f16(), &w, &x, multiplied(f16, Conversion::Original)),
                check(
                    &dequant::w4a16_rescaled(),
                    &w,
                    &x,
                    multiplied(f32, Conversion::Rescaled),
                ),
                check(
                    &dequant::w4a16_quantised(),
                    &w,
                    &x,
                    multiplied(f32, Conversion::Quantised),
                ),
            ];
            for (share, of_this) in shares.iter_mut().zip(of_this) {
                *share = share.max(of_this);
            }
        }
    }
    // A bound that nothing comes near would say nothing: each is used to a hundredth at least.
    assert!(shares.iter().all(|&share| share > 0.01), "{shares:?}");
}

/// All weights that are taken: codes of every width, symmetric signs, float zero points, scales beyond f16's precision.
#[test]
fn bounds_hold_for_all_schemes() {
    let draw = &mut Draw::new(62);
    let mut taken = 0;
    for bits in 1..=8 {
        for scheme in [
            Scheme::int(bits).group(16),
            Scheme::int(bits).group(24).asymmetric().scales(ScaleType::F32),
            Scheme::int(bits).group(40).float_zero(),
            Scheme::int(bits).scales(ScaleType::F32).float_zero(),
        ] {
            let (w, x) = (weights(draw, scheme, 6, 80), halves_of(draw, 3, 80));
            let within = |y: &Mat<f32>, bound: Mat<f64>, what: &str| {
                for m in 0..3 {
                    for n in 0..6 {
                        let error = (f64::from(y.view().row(m)[n]) - exact(&w, x.view().row(m), n)).abs();
                        assert!(error <= bound.view().row(m)[n], "{what} {scheme:?}: {error:e}");
                    }
                }
            };
            for device in [
                fp16::array(),
                fp16::array_f16(),
                dequant::w4a16(),
                dequant::w4a16_rescaled(),
                dequant::w4a16_quantised(),
            ] {
                if device.prepare(&w).is_ok() {
                    let (y, counters) = product(&device, &w, &x);
                    assert_eq!(counters.overflows, 0);
                    within(&y, device.bound(&w, x.view()).unwrap(), Backend::name(&device));
                    taken += 1;
                }
            }
            for device in [
                MixPe::w4a16_fused(),
                MixPe::w4a16_fused_f16(),
                MixPe::w4a16_naive(),
                MixPe::w4a16_flush(),
            ] {
                if bits <= 4 {
                    let (y, _) = product(&device, &w, &x);
                    within(&y, device.bound(&w, x.view()).unwrap(), Backend::name(&device));
                    taken += 1;
                }
            }
        }
    }
    assert!(taken > 2 * 8 * 4 + 6 * 4 * 4, "{taken}");
}

/// f16 input as it is drawn for all modes: every magnitude up to the largest.
#[test]
fn no_row_and_no_thread_changes_another() {
    let draw = &mut Draw::new(63);
    let w = weights_for(draw, Scheme::int(4).group(32).asymmetric(), 11, 70);
    let x = Inputs::new(draw, 21, 70).f16;
    let bias: Vec<f32> = (0..11).map(|n| n as f32 - 4.5).collect();
    let epilogue = Epilogue::new().bias(&bias).activation(Activation::Relu);
    let mut devices = 0;
    for_each_native_device(|name, device| {
        devices += 1;
        let prepared = device.prepare(&w).unwrap();
        let run = |x: Activations<'_>, e: &Epilogue<'_>| {
            let mut y = Mat::<f32>::zeros(x.shape().0, 11);
            device.run(&prepared, x, Mode::Native, e, y.view_mut().into()).unwrap();
            y
        };
        let (plain, whole) = (run(x.view().into(), &Epilogue::new()), run(x.view().into(), &epilogue));
        for m in 0..21 {
            let alone = run(Activations::from(x.view()).sub_rows(m, 1).unwrap(), &epilogue);
            for (n, bias) in bias.iter().enumerate() {
                let found = whole.view().row(m)[n];
                assert_eq!(alone.data()[n].to_bits(), found.to_bits(), "{name} {m} {n}");
                let y = plain.view().row(m)[n] + bias;
                let expected = if y < 0.0 { 0.0 } else { y };
                assert!(
                    found.to_bits() == expected.to_bits() || found.is_nan() && y.is_nan(),
                    "{name} {m} {n}"
                );
            }
        }
    });
    assert_eq!(devices, 12);
}

fn one(codes: &[u8], scale: f32, zero: u16) -> QuantMatrix {
    let scales = Floats::from_f32(ScaleType::F32, &[scale]);
    let scheme = Scheme::int(4).asymmetric().scales(ScaleType::F32);
    QuantMatrix::from_parts(
        scheme,
        1,
        codes.len(),
        codes.to_vec(),
        scales,
        Zeros::Integer(vec![zero]),
    )
    .unwrap()
}

/// Inputs and results at the ends of f16's range.
#[test]
fn infinities_nan_and_overflow_are_those_of_the_datapath() {
    type Product<'a> = &'a dyn Fn(&QuantMatrix, &Mat<f16>) -> (Mat<f32>, Counters);
    let y = |device: Product<'_>, w: &QuantMatrix, x: &[f32]| {
        let x = Mat::from_vec(x.iter().map(|&x| f16::from_f32(x)).collect(), 1, x.len()).unwrap();
        let (y, counters) = device(w, &x);
        (y.data()[0], counters.overflows)
    };
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    let fp16 = |w: &QuantMatrix, x: &Mat<f16>| product(&fp16::array(), w, x);
    let narrow = |w: &QuantMatrix, x: &Mat<f16>| product(&fp16::array_f16(), w, x);
    let fused = |w: &QuantMatrix, x: &Mat<f16>| product(&MixPe::w4a16_fused(), w, x);
    let saturate = |w: &QuantMatrix, x: &Mat<f16>| product(&MixPe::w4a16_saturate(), w, x);
    let flush = |w: &QuantMatrix, x: &Mat<f16>| product(&MixPe::w4a16_flush(), w, x);
    // (q − z)·s is 1, 0, −1.
    let w = one(&[9, 8, 7], 1.0, 8);
    assert_eq!(y(&fp16, &w, &[inf, 1.0, 1.0]), (inf, 0));
    assert_eq!(y(&fp16, &w, &[1.0, 1.0, inf]), (-inf, 0));
    for x in [[inf, 1.0, inf], [1.0, inf, 1.0], [1.0, nan, 1.0]] {
        let (found, overflows) = y(&fp16, &w, &x);
        assert_eq!((found.to_bits(), overflows), (0x7FC0_0000, 0), "the one NaN, for {x:?}");
    }
    // A zero code opens no gate, not even for infinities; a zero point multiplies their sum.
    assert_eq!(y(&fused, &one(&[0, 3], 1.0, 0), &[inf, 2.0]).0.to_bits(), 0x7FC0_0000);
    assert_eq!(y(&fused, &one(&[1, 3], 1.0, 0), &[2.0, 2.0]), (8.0, 0));
    // 15·65504 is beyond f16, and so is 2·65504; f32 sums hold both.
    let (w, x) = (one(&[2, 2], 1.0, 0), [65_504.0, -65_504.0]);
    assert_eq!(y(&fp16, &w, &x), (0.0, 0));
    assert_eq!(y(&narrow, &w, &x).1, 1);
    assert_eq!(y(&fused, &w, &x).1, 1);
    assert!(y(&fused, &w, &x).0.is_nan() && y(&saturate, &w, &x).0 == 0.0 && y(&saturate, &w, &x).1 == 1);
    assert_eq!(y(&saturate, &one(&[15], 1.0, 0), &[-60_000.0]), (-65_504.0, 1));
    // Subnormal numbers: 2^-24 and 15·2^-24.
    let least = 2f32.powi(-24);
    assert_eq!(y(&fused, &one(&[15], 1.0, 0), &[least]), (15.0 * least, 0));
    assert_eq!(y(&flush, &one(&[15], 1.0, 0), &[least]), (0.0, 0));
    assert_eq!(y(&fp16, &one(&[15], 1.0, 0), &[least]), (15.0 * least, 0));
}

#[test]
fn counters_are_those_of_a_count_by_hand() {
    let draw = &mut Draw::new(64);
    let (m, n, k) = (10, 3, 70);
    let w = weights_for(draw, Scheme::int(4).group(32).asymmetric(), n, k);
    let x = Mat::from_fn(m, k, |_, _| f16::from_f32(draw.signed()));
    let (rows, columns) = (m as u64, n as u64);
    let open = w.codes().iter().map(|code| u64::from(code.count_ones())).sum::<u64>();
    let (_, after) = product(&MixPe::w4a16_fused(), &w, &x);
    let expected = Counters {
        macs: rows * columns * k as u64,
        shifts: rows * open,
        adds: rows * open,
        scale_multiplications: rows * columns * 3, // M·N·K/G, the last group a short one
        zero_point_terms: rows * columns * 3,
        activation_sums: rows * 3, // not once per column
        ..Counters::default()
    };
    assert_eq!(after, expected);
    let (_, before) = product(&dequant::w4a16(), &w, &x);
    let expected = Counters {
        macs: rows * columns * k as u64,
        adds: rows * columns * k as u64,
        weight_conversions: columns * k as u64, // N·K for one pass, however many rows
        ..Counters::default()
    };
    assert_eq!(before, expected);
}

/// Scales before the product round every weight; scales after the group do not, and the difference is reported.
#[test]
fn dequantising_first_is_not_scaling_after_the_group() {
    let draw = &mut Draw::new(65);
    let original = Mat::from_fn(24, 256, |_, _| draw.signed());
    let x = Mat::from_fn(8, 256, |_, _| f16::from_f32(draw.signed()));
    let w = QuantMatrix::quantize(original.view(), Scheme::int(4).group(128).asymmetric()).unwrap();
    let difference = |device: FloatDevice<_>| dequant::difference(&device, &w, x.view()).unwrap();
    let (first, rescaled) = (difference(dequant::w4a16()), difference(dequant::w4a16_rescaled()));
    // Weights of 11 bits are 2^-12 off at most, 2^-12/√3 on average: some 77 dB. Rounding q·s and z·s costs more.
    assert!((72.0..85.0).contains(&first.sqnr_db), "{first:?}");
    assert!((55.0..first.sqnr_db - 3.0).contains(&rescaled.sqnr_db), "{rescaled:?}");
    // Scales that are powers of two round no weight: what is left is f32's own.
    let scales = Floats::from_f32(ScaleType::F16, &[0.25; 48]);
    let zeros = Zeros::Integer((0..48).map(|i| i % 16).collect());
    let w = QuantMatrix::from_parts(*w.scheme(), 24, 256, w.codes().to_vec(), scales, zeros).unwrap();
    let figures = dequant::difference(&dequant::w4a16(), &w, x.view()).unwrap();
    assert!(figures.sqnr_db > 120.0, "{figures:?}");
}

#[test]
fn what_is_not_taken_is_an_error() {
    let (w, x) = (one(&[1, 2], 1.0, 8), Mat::<f16>::zeros(1, 2));
    for_each_native_device(|name, device| {
        let capabilities = device.capabilities();
        assert!(capabilities.native && capabilities.emulated, "{name}");
        assert!(!(capabilities.a8 || capabilities.a16 || capabilities.exact), "{name}");
        assert!(!(capabilities.group_sums || capabilities.accumulate), "{name}");
        let prepared = device.prepare(&w).unwrap();
        let mut y = Mat::<f32>::zeros(1, 1);
        let mut run = |x: Activations<'_>, mode| {
            let out = y.view_mut().into();
            device
                .run(&prepared, x, mode, &Epilogue::new(), out)
                .unwrap_err()
                .to_string()
        };
        for mode in [Mode::A8, Mode::A16, Mode::Exact] {
            let expected = format!("mode: expected native, found {}", mode.name());
            assert_eq!(run(x.view().into(), mode), expected, "{name}");
        }
        let (f32, bf16, short) = (
            Mat::<f32>::zeros(1, 2),
            Mat::<bf16>::zeros(1, 2),
            Mat::<f16>::zeros(1, 3),
        );
        assert_eq!(
            run(f32.view().into(), Mode::Native),
            "x: expected f16 input in mode native, found f32"
        );
        assert_eq!(
            run(bf16.view().into(), Mode::Native),
            "x: expected f16 input in mode native, found bf16"
        );
        assert!(
            run(short.view().into(), Mode::Native).starts_with("x: expected K = 2"),
            "{name}"
        );
        let mut y = Mat::<f32>::zeros(1, 1);
        let error = device.accumulate(&prepared, x.view().into(), Mode::Native, y.view_mut());
        assert!(error.unwrap_err().to_string().contains(name));
        let error = device.group_sums(&prepared, x.view().into(), Mode::Native, GroupSums::I64(&mut [0]));
        assert!(error.unwrap_err().to_string().contains(name));
        let wide = QuantMatrix::quantize(Mat::from_fn(2, 2, |_, k| k as f32).view(), Scheme::int(8)).unwrap();
        assert_eq!(device.prepare(&wide).is_ok(), capabilities.max_bits == 8, "{name}");
    });
    // Each device's weights are its own, those of another convention too.
    let prepared = dequant::w4a16().prepare(&w).unwrap();
    let out = &mut Mat::<f32>::zeros(1, 1);
    let run = dequant::w4a16_rescaled().run(
        &prepared,
        x.view().into(),
        Mode::Native,
        &Epilogue::new(),
        out.view_mut().into(),
    );
    assert!(matches!(run, Err(Error::ForeignWeights { .. })), "{run:?}");
    // Neither the host nor the definition knows roundings that are a device's own.
    let prepared = Backend::prepare(&Host::new(), &w);
    if let Ok(prepared) = prepared {
        let run = Backend::run(
            &Host::new(),
            &prepared,
            x.view().into(),
            Mode::Native,
            &Epilogue::new(),
            out.view_mut().into(),
        );
        assert_eq!(
            run.unwrap_err(),
            Error::unsupported("mode", "a8, a8row, a8given, a8static, a16, exact", "native")
        );
    }
    let run = reference::run(
        &w,
        x.view().into(),
        Mode::Native,
        &Epilogue::new(),
        out.view_mut().into(),
    );
    assert!(run.unwrap_err().to_string().starts_with("mode: "));
    // Weights beyond f16, and zero points beyond a code.
    let refused = |result: mixgemm::Result<_>, expected: &str| {
        let error = result.map(drop).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    };
    for device in [
        fp16::array(),
        dequant::w4a16(),
        dequant::w4a16_rescaled(),
        dequant::w4a16_quantised(),
    ] {
        refused(
            device.prepare(&one(&[0], 1e4, 8)),
            "scales: expected weights within the range of f16",
        );
    }
    refused(
        dequant::w4a16_quantised().prepare(&one(&[0], 1.0, 16)),
        "zeros: expected integers from 0 to 15",
    );
    let zeros = Zeros::Float(Floats::from_f32(ScaleType::F16, &[7.5]));
    let scales = Floats::from_f32(ScaleType::F16, &[1.0]);
    let float = QuantMatrix::from_parts(Scheme::int(4).float_zero(), 1, 1, vec![3], scales, zeros).unwrap();
    refused(dequant::w4a16_quantised().prepare(&float), "zeros: expected integers");
    assert!(dequant::w4a16().bound(&w, Mat::<f16>::zeros(1, 3).view()).is_err());
    assert_eq!(
        ACCELERATORS.iter().filter(|a| a.device().capabilities().native).count(),
        12
    );
}
