//! What is multiplied: random weights, in as many different copies as decode needs, and activations.
#![forbid(unsafe_code)]

use super::pattern::Patterns;
use super::rounds::Case;
use crate::cli::arguments::{HOST, ModeName};
use crate::cli::device::{self, Device, Planned};
use crate::cli::progress::Progress;
use crate::cli::refusal::option;
use crate::cli::table;
use anyhow::Result;
use mixgemm::{Activations, Epilogue, Floats, Group, Isa, Mat, Mode, Par, QuantMatrix, Scheme};
use mixgemm::{ZeroPoint, Zeros, f16, reference};
use rayon::prelude::*;

/// Whether the weights are read from memory at every call, as when a model decodes token after token.
pub(super) fn is_decode(m: usize) -> bool {
    m <= 16
}

/// A mode as the rows use it.
pub(super) fn mode(name: ModeName) -> Mode {
    match name {
        ModeName::A8 => Mode::A8,
        ModeName::A8Row => Mode::A8Row,
        ModeName::A8Given => Mode::A8Given,
        ModeName::A8Static => Mode::A8Static {
            scale: STATIC_SCALE,
            saturate: true,
        },
        ModeName::A16 => Mode::A16,
        ModeName::Exact => Mode::Exact,
        ModeName::Native => Mode::Native,
    }
}

/// Marsaglia's xorshift with a multiplication, 64 bits at a time.
struct Random(u64);

impl Random {
    fn new(seed: u64, stream: u64) -> Self {
        let mut random = Self((seed << 8 | stream).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        for _ in 0..4 {
            random.next();
        }
        random
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// In (0, 1].
    fn unit(&mut self) -> f32 {
        ((self.next() >> 40) + 1) as f32 / (1u32 << 24) as f32
    }

    /// Two numbers of a standard normal distribution (Box and Muller).
    fn gaussian(&mut self) -> [f32; 2] {
        let radius = (-2.0 * self.unit().ln()).sqrt();
        let (sin, cos) = (core::f32::consts::TAU * self.unit()).sin_cos();
        [radius * cos, radius * sin]
    }
}

/// Random codes, scales and zero points. Fewer rows of the same seed are the first rows of more.
pub(super) fn weights(n: usize, k: usize, scheme: Scheme, seed: u64) -> mixgemm::Result<QuantMatrix> {
    let mut random = Random::new(seed, 0);
    let mask = u64::from_ne_bytes([scheme.max_code(); 8]);
    let mut codes = vec![0u8; n * k];
    for chunk in codes.chunks_mut(8) {
        chunk.copy_from_slice(&(random.next() & mask).to_le_bytes()[..chunk.len()]);
    }
    let groups = match scheme.group {
        Group::Tensor => 1,
        _ => n * scheme.groups(k),
    };
    let mut random = Random::new(seed, 1);
    // Positive normals with exponents from 2^-8 on: 3072 values.
    let scale = |_| f16::from_bits(0x1C00 + (random.next() % 3072) as u16).to_f32();
    let scales = Floats::from_f32(scheme.scale, &(0..groups).map(scale).collect::<Vec<_>>());
    let mut random = Random::new(seed, 2);
    let zeros = match scheme.zero {
        ZeroPoint::Symmetric => Zeros::Symmetric,
        _ => Zeros::Integer(
            (0..groups)
                .map(|_| (random.next() >> 32) as u16 & u16::from(scheme.max_code()))
                .collect(),
        ),
    };
    QuantMatrix::from_parts(scheme, n, k, codes, scales, zeros)
}

/// Gaussian activations in the element type that a mode takes.
pub(super) enum Input {
    F32(Mat<f32>),
    F16(Mat<f16>),
    I8(Mat<i8>),
}

/// The scale of int8 input and of mode `a8static`: four standard deviations in 127 steps.
pub(super) const STATIC_SCALE: f32 = 4.0 / 127.0;

impl Input {
    pub(super) fn new(m: usize, k: usize, mode: Mode) -> Self {
        let mut random = Random::new(1, 3);
        let mut pair = Vec::new();
        let x = Mat::from_fn(m, k, |_, _| {
            if pair.is_empty() {
                pair.extend(random.gaussian());
            }
            pair.pop().unwrap_or(0.0)
        });
        match mode {
            Mode::Exact => Self::F16(Mat::from_fn(m, k, |r, c| f16::from_f32(x.data()[r * k + c]))),
            Mode::A8Given => Self::I8(Mat::from_fn(m, k, |r, c| (x.data()[r * k + c] / STATIC_SCALE) as i8)),
            _ => Self::F32(x),
        }
    }

    pub(super) fn view(&self) -> Activations<'_> {
        match self {
            Self::F32(x) => x.view().into(),
            Self::F16(x) => x.view().into(),
            Self::I8(x) => Activations::int8(x.view(), STATIC_SCALE),
        }
    }
}

/// The weights of one shape and scheme as one device has prepared them, in copies of different content that are used
/// in turn.
pub(super) struct Copies {
    pub(super) all: Vec<Device>,
    /// The copy that was used last.
    pub(super) last: usize,
    seed: u64,
    /// Bytes of the stored format, without padding.
    pub(super) source_bytes: f64,
}

/// Most copies of one matrix: a tiny one stays in the cache rather than take minutes to prepare.
const MOST: usize = 1 << 12;

impl Copies {
    /// At least so many copies, and as many as together exceed `bytes`: for a tier of the host, or one for the emulated
    /// device of this name.
    pub(super) fn new(
        case: &Case,
        (backend, isa): (&str, Isa),
        (least, bytes): (usize, usize),
        progress: &Progress,
    ) -> Result<Self> {
        let Case { n, k, scheme, .. } = *case;
        let seed = 1000 * u64::from(scheme.bits) + 1;
        let copy = |which: usize| {
            let w = weights(n, k, scheme, seed + which as u64).map_err(option)?;
            let device = match backend {
                HOST => Device::host(&w, Some(isa)),
                name => Device::emulated(&w, device::emulated(name, case.mode, None)?),
            };
            anyhow::Ok((device.map_err(option)?, w.source_bytes()))
        };
        let (first, source_bytes) = copy(0)?;
        // Emulated time says nothing about memory, so one copy is enough.
        let count = if first.emulated {
            1
        } else {
            (bytes / first.bytes.max(1) + 1).min(MOST).max(least)
        };
        progress.more(count - 1);
        let others = (1..count).into_par_iter().map(|which| {
            progress.step(format!("{count} copies of {n}x{k}, {}", table::scheme(&scheme)));
            copy(which).map(|(device, _)| device)
        });
        let others: Vec<Device> = others.collect::<Result<_>>()?;
        Ok(Self {
            all: std::iter::once(first).chain(others).collect(),
            last: 0,
            seed,
            source_bytes,
        })
    }

    /// Plans for all copies.
    pub(super) fn plans(&self, case: &Case, par: &Par, patterns: &Patterns) -> mixgemm::Result<Vec<Planned<'_>>> {
        let prefer = |kernel| patterns.prefer(kernel);
        let plans = self.all.iter().map(|device| device.plan(par, case.mode, prefer));
        plans.collect()
    }

    /// The copy whose turn is after copy `last`.
    pub(super) fn after(&self, last: usize) -> usize {
        (last + 1) % self.all.len()
    }

    /// Compares the first row of `y`, the product of copy `which`, with the reference on the first 64 columns.
    pub(super) fn check(
        &self,
        which: usize,
        scheme: Scheme,
        x: Activations<'_>,
        mode: Mode,
        y: &Mat<f32>,
    ) -> anyhow::Result<()> {
        let columns = y.cols().min(64);
        let w = weights(columns, x.shape().1, scheme, self.seed + which as u64)?;
        let mut expected = Mat::<f32>::zeros(1, columns);
        reference::run(
            &w,
            x.sub_rows(0, 1)?,
            mode,
            &Epilogue::new(),
            expected.view_mut().into(),
        )?;
        for (n, (a, b)) in y.view().row(0).iter().zip(expected.data()).enumerate() {
            if a.to_bits() != b.to_bits() {
                anyhow::bail!("output (0, {n}) in mode {}: expected {b:e}, found {a:e}", mode.name());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_rows_of_a_seed_are_the_first_rows_of_more() {
        for scheme in [Scheme::int(3).group(5).asymmetric(), Scheme::int(8)] {
            let (some, all) = (weights(2, 13, scheme, 7).unwrap(), weights(9, 13, scheme, 7).unwrap());
            assert_eq!(some.codes(), &all.codes()[..26]);
            for g in 0..some.groups() {
                assert_eq!(some.scale(1, g), all.scale(1, g));
                assert_eq!(some.zero(1, g), all.zero(1, g));
            }
            assert_ne!(weights(2, 13, scheme, 8).unwrap().codes(), some.codes());
        }
    }

    #[test]
    fn activations_are_gaussian() {
        let Input::F32(x) = Input::new(64, 256, Mode::A8) else {
            panic!("f32 for a8")
        };
        let mean = |f: fn(f32) -> f32| x.data().iter().map(|&x| f64::from(f(x))).sum::<f64>() / 16_384.0;
        assert!(mean(|x| x).abs() < 0.03);
        assert!((mean(|x| x * x) - 1.0).abs() < 0.05);
        assert!((mean(|x| x.powi(4)) - 3.0).abs() < 0.3);
    }
}
