//! MixPE's devices against the reference, bit for bit. Its elements have `mixpe_element.rs`.
#![forbid(unsafe_code)]

use mixgemm::base::float::canonical;
use mixgemm::{
    Activation, Activations, AnyBackend, Backend, Counters, Element, Epilogue, Error, Floats, Group, GroupSums, Host,
    Mat, MixPe, Mode, Output, QuantMatrix, ScaleType, Scheme, ZeroPoint, Zeros, bf16, f16, reference,
};

/// A xorshift generator.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 11) % n
    }

    /// −1 to 1.
    fn unit(&mut self) -> f32 {
        self.below(1 << 24) as f32 / 8_388_608.0 - 1.0
    }

    /// All magnitudes of f16, subnormals and zeros of both signs included; finite.
    fn half(&mut self) -> f16 {
        loop {
            let x = f16::from_bits(self.next() as u16);
            if x.is_finite() {
                return if self.below(8) == 0 {
                    f16::from_bits(x.to_bits() & 0x83FF)
                } else {
                    x
                };
            }
        }
    }
}

/// Random codes; every group has its own scale and zero point, the ends of their ranges included.
fn matrix(random: &mut Random, scheme: Scheme, n: usize, k: usize) -> QuantMatrix {
    let codes = (0..n * k).map(|_| random.below(1 << scheme.bits) as u8).collect();
    let count = if scheme.group == Group::Tensor {
        1
    } else {
        n * scheme.groups(k)
    };
    let scales: Vec<f32> = (0..count)
        .map(|_| match random.below(12) {
            0 => 0.0,
            1 => 1e-40,
            _ => random.unit() * 0.1,
        })
        .collect();
    let levels = 1u64 << scheme.bits;
    let zeros = match scheme.zero {
        ZeroPoint::Symmetric => Zeros::Symmetric,
        ZeroPoint::Integer => Zeros::Integer((0..count).map(|_| random.below(levels + 1) as u16).collect()),
        ZeroPoint::Float => {
            let zeros: Vec<f32> = (0..count)
                .map(|_| match random.below(4) {
                    0 => random.below(levels) as f32,
                    _ => (random.unit() + 0.5) * levels as f32,
                })
                .collect();
            Zeros::Float(Floats::from_f32(scheme.scale, &zeros))
        }
    };
    QuantMatrix::from_parts(scheme, n, k, codes, Floats::from_f32(scheme.scale, &scales), zeros).unwrap()
}

/// One random input at every element type.
struct Input {
    f32: Mat<f32>,
    f16: Mat<f16>,
    bf16: Mat<bf16>,
    i8: Mat<i8>,
    row_scales: Vec<f32>,
}

const STATIC: Mode = Mode::A8Static {
    scale: 0.011,
    saturate: true,
};

impl Input {
    fn new(random: &mut Random, m: usize, k: usize) -> Self {
        let f32 = Mat::from_fn(m, k, |_, _| match random.below(16) {
            0 => random.unit() * 1e-39,
            1 => random.unit() * 40.0,
            _ => random.unit(),
        });
        Self {
            bf16: Mat::from_fn(m, k, |r, c| Element::from_f32(f32.view().row(r)[c])),
            f16: Mat::from_fn(m, k, |_, _| random.half()),
            i8: Mat::from_fn(m, k, |_, _| random.next() as i8),
            row_scales: (0..m).map(|_| random.unit()).collect(),
            f32,
        }
    }

    fn cases(&self) -> Vec<(MixPe, Activations<'_>, Mode)> {
        let a8 = MixPe::w4a8();
        vec![
            (a8, self.f32.view().into(), Mode::A8),
            (a8, self.f16.view().into(), Mode::A8),
            (a8, self.bf16.view().into(), Mode::A8Row),
            (a8, Activations::int8(self.i8.view(), -0.37), Mode::A8Given),
            (
                a8,
                Activations::int8_rows(self.i8.view(), &self.row_scales),
                Mode::A8Given,
            ),
            (a8, self.f32.view().into(), STATIC),
            (MixPe::w4a16(), self.f16.view().into(), Mode::Exact),
        ]
    }
}

fn bits<T: Element>(y: &Mat<T>) -> Vec<u32> {
    y.data().iter().map(|y| y.to_f32().to_bits()).collect()
}

/// Output bits of the device and of the reference.
fn both<T: Element>(
    (device, x, mode): (MixPe, Activations<'_>, Mode),
    w: &QuantMatrix,
    e: &Epilogue<'_>,
) -> (Vec<u32>, Vec<u32>)
where
    for<'a> Output<'a>: From<mixgemm::MatMut<'a, T>>,
{
    let (m, n) = (x.shape().0, w.n());
    let (mut ours, mut theirs) = (Mat::<T>::zeros(m, n), Mat::<T>::zeros(m, n));
    let prepared = Backend::prepare(&device, w).unwrap();
    Backend::run(&device, &prepared, x, mode, e, ours.view_mut().into()).unwrap();
    reference::run(w, x, mode, e, theirs.view_mut().into()).unwrap();
    (bits(&ours), bits(&theirs))
}

/// `run`, `accumulate` and `group_sums` against the reference.
fn assert_equal(random: &mut Random, case: (MixPe, Activations<'_>, Mode), w: &QuantMatrix) {
    let (device, x, mode) = case;
    let (m, n) = (x.shape().0, w.n());
    let what = format!("{} of {:?}, M {m}, N {n}, K {}", mode.name(), w.scheme(), w.k());
    let bias: Vec<f32> = (0..n).map(|_| random.unit()).collect();
    let residual = Mat::from_fn(m, n, |_, _| random.unit());
    let biased = Epilogue::new().bias(&bias);
    let epilogue = match random.below(3) {
        0 => Epilogue::new(),
        1 => biased,
        _ => biased.activation(Activation::Gelu).residual(residual.view()),
    };
    let (ours, theirs) = match random.below(4) {
        0 => both::<f16>(case, w, &epilogue),
        1 => both::<bf16>(case, w, &epilogue),
        _ => both::<f32>(case, w, &epilogue),
    };
    assert_eq!(ours, theirs, "run: {what}");

    let prepared = Backend::prepare(&device, w).unwrap();
    let starts = [-0.0, f32::INFINITY, 1e-3, random.unit(), random.unit() * 1e3];
    let mut ours = Mat::from_fn(m, n, |_, _| starts[random.below(5) as usize]);
    let mut theirs = ours.clone();
    Backend::accumulate(&device, &prepared, x, mode, ours.view_mut()).unwrap();
    reference::accumulate(w, x, mode, theirs.view_mut()).unwrap();
    let theirs: Vec<u32> = theirs.data().iter().map(|&y| canonical(y).to_bits()).collect();
    assert_eq!(bits(&ours), theirs, "accumulate: {what}");

    let (mut ours, mut theirs) = (vec![7; m * w.groups() * n], vec![9; m * w.groups() * n]);
    Backend::group_sums(&device, &prepared, x, mode, GroupSums::I64(&mut ours)).unwrap();
    reference::group_sums(w, x, mode, GroupSums::I64(&mut theirs)).unwrap();
    assert_eq!(ours, theirs, "group_sums: {what}");
    if mode != Mode::Exact {
        let mut narrow = vec![7; ours.len()];
        Backend::group_sums(&device, &prepared, x, mode, GroupSums::I32(&mut narrow)).unwrap();
        let narrow: Vec<i64> = narrow.into_iter().map(i64::from).collect();
        assert_eq!(narrow, theirs, "32-bit sums: {what}");
    }
}

#[test]
fn extreme_group_sums() {
    for g in [1, 8, 9, 128, 256, 65_536] {
        let scales = Floats::F32(vec![1.0, 1.0]);
        let scheme = Scheme::int(4).scales(ScaleType::F32).asymmetric();
        let w = QuantMatrix::from_parts(scheme, 2, g, vec![15; 2 * g], scales, Zeros::Integer(vec![0, 16])).unwrap();
        let device = MixPe::w4a8();
        let x = Mat::from_vec(vec![-128i8; g], 1, g).unwrap();
        let mut sums = [0; 2];
        let prepared = Backend::prepare(&device, &w).unwrap();
        let x = Activations::int8(x.view(), 1.0);
        Backend::group_sums(&device, &prepared, x, Mode::A8Given, GroupSums::I64(&mut sums)).unwrap();
        assert_eq!(sums, [-1920 * g as i64, 128 * g as i64]);

        for x in [f16::MAX, f16::MIN] {
            let x = Mat::from_vec(vec![x; g], 1, g).unwrap();
            let case = (MixPe::w4a16(), x.view().into(), Mode::Exact);
            assert_equal(&mut Random(1), case, &w);
        }
    }
}

#[test]
fn equal_to_the_reference() {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let lengths = [1, 5, 8, 16, 32, 128].map(Group::Length);
    for m in [0, 1, 3] {
        for k in [0, 1, 5, 33, 128, 200] {
            let input = Input::new(&mut random, m, k);
            for n in [0, 1, 7] {
                for group in lengths.into_iter().chain([Group::Channel, Group::Tensor]) {
                    for zero in [ZeroPoint::Symmetric, ZeroPoint::Integer, ZeroPoint::Float] {
                        for bits in 1..=4 {
                            for scale in [ScaleType::F32, ScaleType::F16, ScaleType::Bf16] {
                                let base = Scheme::int(bits).scales(scale);
                                let w = matrix(&mut random, Scheme { group, zero, ..base }, n, k);
                                for case in input.cases() {
                                    assert_equal(&mut random, case, &w);
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn rows_with_non_finite_inputs() {
    let mut random = Random(11);
    for round in 0..60 {
        let mut input = Input::new(&mut random, 10, 40);
        for _ in 0..1 + random.below(5) {
            let (row, column) = (random.below(10) as usize, random.below(40) as usize);
            let special = [f32::INFINITY, f32::NEG_INFINITY, f32::NAN][random.below(3) as usize];
            input.f32.view_mut().row_mut(row)[column] = special;
            input.f16.view_mut().row_mut(row)[column] = f16::from_f32(special);
            input.bf16.view_mut().row_mut(row)[column] = Element::from_f32(special);
        }
        let zero = [ZeroPoint::Symmetric, ZeroPoint::Integer, ZeroPoint::Float][round % 3];
        let scheme = Scheme {
            zero,
            ..Scheme::int(1 + (round % 4) as u8).group(16)
        };
        let w = matrix(&mut random, scheme, 9, 40);
        for case in input.cases() {
            assert_equal(&mut random, case, &w);
        }
    }
}

/// D and z·B hold more bits than an f32 and nearly cancel: the correction comes before the rounding.
#[test]
fn activations_with_a_large_mean() {
    let mut random = Random(5);
    let mean = |k: usize| if k.is_multiple_of(8) { 1e-3 } else { 900.0 };
    let x = Mat::from_fn(3, 256, |_, k| f16::from_f32(mean(k) * (1.5 + random.unit())));
    let scheme = Scheme::int(4).group(128).asymmetric().scales(ScaleType::F32);
    let w = matrix(&mut random, scheme, 7, 256);
    assert_equal(&mut random, (MixPe::w4a16(), x.view().into(), Mode::Exact), &w);
    assert_equal(&mut random, (MixPe::w4a8(), x.view().into(), Mode::A8), &w);
}

#[test]
fn counters_are_those_of_a_count_by_hand() {
    let mut random = Random(3);
    for (m, n, k, scheme) in [
        (20, 7, 200, Scheme::int(4).group(128)),
        (9, 3, 33, Scheme::int(3).group(5).asymmetric()),
        (1, 5, 64, Scheme::int(1).group(16)),
        (8, 4, 64, Scheme::int(2).per_tensor().float_zero()),
        (0, 4, 64, Scheme::int(4)),
        (4, 0, 64, Scheme::int(4)),
        (4, 4, 0, Scheme::int(4)),
    ] {
        let w = matrix(&mut random, scheme, n, k);
        let mut by_hand = Counters::default();
        for _ in 0..m {
            if n > 0 {
                by_hand.activation_sums += w.groups() as u64; // not once per column
            }
            for n in 0..n {
                by_hand.scale_multiplications += w.groups() as u64;
                by_hand.zero_point_terms += w.groups() as u64; // a symmetric zero point is corrected too
                for code in w.code_row(n) {
                    by_hand.macs += 1;
                    for bit in 0..scheme.bits {
                        by_hand.shifts += u64::from(code >> bit & 1);
                        by_hand.adds += u64::from(code >> bit & 1);
                    }
                }
            }
        }
        for (device, x, mode) in Input::new(&mut random, m, k).cases() {
            let prepared = Backend::prepare(&device, &w).unwrap();
            let mut y = Mat::<f32>::zeros(m, n);
            let report = Backend::run(&device, &prepared, x, mode, &Epilogue::new(), y.view_mut().into()).unwrap();
            assert_eq!(report.counters, by_hand);
            let report = Backend::accumulate(&device, &prepared, x, mode, y.view_mut()).unwrap();
            assert_eq!(report.counters, by_hand);
            let mut sums = vec![0; m * n * w.groups()];
            let report = Backend::group_sums(&device, &prepared, x, mode, GroupSums::I64(&mut sums)).unwrap();
            let expected = Counters {
                scale_multiplications: 0,
                ..by_hand
            };
            assert_eq!(report.counters, expected, "sums are handed back before any scale");
        }
    }
}

/// A row's bits depend neither on the rows beside it nor on the number of threads.
#[cfg(feature = "rayon")]
#[test]
fn any_number_of_rows_and_threads() {
    let mut random = Random(8);
    let w = matrix(&mut random, Scheme::int(4).group(32).asymmetric(), 7, 100);
    let input = Input::new(&mut random, 37, 100);
    for (device, x, mode) in input.cases() {
        let prepared = Backend::prepare(&device, &w).unwrap();
        let product = |x: Activations<'_>, threads: usize| {
            let mut y = Mat::<f32>::zeros(x.shape().0, 7);
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let run = || Backend::run(&device, &prepared, x, mode, &Epilogue::new(), y.view_mut().into());
            pool.install(run).unwrap();
            bits(&y)
        };
        let one = product(x, 1);
        assert_eq!(one, product(x, 3));
        for m in [0, 7, 8, 36] {
            assert_eq!(product(x.sub_rows(m, 1).unwrap(), 1), one[m * 7..][..7]);
        }
    }
}

#[test]
fn what_is_not_taken_is_an_error() {
    let mut random = Random(2);
    let w = matrix(&mut random, Scheme::int(4), 3, 8);
    let wide = matrix(&mut random, Scheme::int(5), 3, 8);
    let input = Input::new(&mut random, 2, 8);
    let mut y = Mat::<f32>::zeros(2, 3);
    for (device, name, expected) in [
        (MixPe::w4a8(), "mixpe-w4a8", "a8, a8row, a8given, a8static"),
        (MixPe::w4a16(), "mixpe-w4a16", "exact"),
    ] {
        let device: Box<dyn AnyBackend> = Box::new(device);
        assert_eq!(device.name(), name);
        let c = device.capabilities();
        assert!(c.emulated && c.accumulate && c.group_sums && !c.a16 && c.a8 != c.exact && c.max_bits == 4);
        let error = device.prepare(&wide).unwrap_err();
        assert_eq!(error, Error::unsupported("bits", "at most 4", "5"));
        let prepared = device.prepare(&w).unwrap();
        let mut modes = [Mode::A8, Mode::Exact];
        modes.rotate_left(usize::from(c.exact));
        let [mode, other] = modes;
        let mut run = |x: Activations<'_>, mode, e: &Epilogue<'_>| {
            device.run(&prepared, x, mode, e, y.view_mut().into()).unwrap_err()
        };
        for refused in [Mode::A16, other] {
            let error = Error::unsupported("mode", expected, refused.name());
            assert_eq!(run(input.f16.view().into(), refused, &Epilogue::new()), error);
        }
        let short = Mat::<f16>::zeros(2, 7);
        let x = Activations::from(input.f16.view());
        let errors = [
            run(short.view().into(), mode, &Epilogue::new()),
            run(x, mode, &Epilogue::new().bias(&[1.0])),
            device
                .accumulate(&prepared, x, mode, Mat::zeros(3, 3).view_mut())
                .unwrap_err(),
            device
                .group_sums(&prepared, x, mode, GroupSums::I64(&mut [0; 5]))
                .unwrap_err(),
        ];
        for (error, argument) in errors.iter().zip(["x: ", "bias: ", "y: ", "sums: "]) {
            assert!(error.to_string().starts_with(argument), "{error}");
        }
        let foreign = AnyBackend::prepare(&Host::new(), &w).unwrap();
        let error = device.accumulate(&foreign, x, mode, y.view_mut()).unwrap_err();
        assert!(matches!(error, Error::ForeignWeights { .. }));
    }
    // Of several bad rows the first is named, whatever the threads do.
    let x = Mat::from_fn(30, 8, |m, k| if m >= 9 { (m + k) as f32 } else { 0.0 });
    let (device, mut y) = (MixPe::w4a8(), Mat::zeros(30, 3));
    let prepared = Backend::prepare(&device, &w).unwrap();
    let (scale, saturate) = (0.1, false);
    let mode = Mode::A8Static { scale, saturate };
    let ours = Backend::accumulate(&device, &prepared, x.view().into(), mode, y.view_mut());
    let theirs = reference::accumulate(&w, x.view().into(), mode, y.view_mut());
    assert_eq!(ours.unwrap_err(), theirs.unwrap_err());
}
