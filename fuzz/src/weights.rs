//! Quantised weights: any scheme with any codes, scales and zero points, now and then with one thing wrong.
#![forbid(unsafe_code)]

use crate::words::{Words, seldom, up_to};
use arbitrary::Arbitrary;
use mixgemm::{CodeBook, Floats, Group, QuantMatrix, Rounding, ScaleType, Scheme, ZeroPoint, Zeros};

/// A scheme.
#[derive(Debug, Clone, Arbitrary)]
pub struct AnyScheme {
    #[arbitrary(with = up_to::<7>)]
    bits_less_one: usize,
    group: AnyGroup,
    zero: AnyZero,
    scale: Width,
    clip_search: bool,
    /// The levels of a book, and whether it is one of microscaling.
    #[arbitrary(with = seldom)]
    book: Option<([i8; 16], bool)>,
    #[arbitrary(with = seldom)]
    fault: Option<SchemeFault>,
}

#[derive(Debug, Clone, Arbitrary)]
enum AnyGroup {
    Length(#[arbitrary(with = up_to::<299>)] usize),
    Channel,
    Tensor,
}

#[derive(Debug, Clone, Arbitrary)]
enum AnyZero {
    Symmetric,
    Integer,
    Float,
}

/// A float type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Arbitrary)]
pub enum Width {
    /// f32.
    F32,
    /// f16.
    F16,
    /// bf16.
    Bf16,
}

impl From<Width> for ScaleType {
    fn from(width: Width) -> Self {
        match width {
            Width::F32 => Self::F32,
            Width::F16 => Self::F16,
            Width::Bf16 => Self::Bf16,
        }
    }
}

/// What can be wrong with a scheme.
#[derive(Debug, Clone, Arbitrary)]
enum SchemeFault {
    NoBits,
    ManyBits(u8),
    NoGroup,
}

impl AnyScheme {
    /// The scheme, which [`Scheme::check`] may refuse.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        let book = self.book.map(|(levels, microscaling)| {
            let book = CodeBook::new(levels);
            if microscaling { book.microscaling() } else { book }
        });
        let mut scheme = Scheme {
            bits: if book.is_some() {
                4
            } else {
                self.bits_less_one as u8 + 1
            },
            book,
            group: match self.group {
                AnyGroup::Length(g) => Group::Length(g + 1),
                AnyGroup::Channel => Group::Channel,
                AnyGroup::Tensor => Group::Tensor,
            },
            zero: match self.zero {
                _ if book.is_some() => ZeroPoint::Symmetric,
                AnyZero::Symmetric => ZeroPoint::Symmetric,
                AnyZero::Integer => ZeroPoint::Integer,
                AnyZero::Float => ZeroPoint::Float,
            },
            scale: self.scale.into(),
            rounding: if self.clip_search {
                Rounding::ClipSearch
            } else {
                Rounding::Nearest
            },
        };
        match self.fault {
            None => {}
            Some(SchemeFault::NoBits) => scheme.bits = 0,
            Some(SchemeFault::ManyBits(b)) => scheme.bits = b.max(9),
            Some(SchemeFault::NoGroup) => scheme.group = Group::Length(0),
        }
        scheme
    }

    /// Whether the scheme is one that [`Scheme::check`] must accept.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.fault.is_none()
    }
}

/// A quantised matrix of a size that is given later.
#[derive(Debug, Clone, Arbitrary)]
pub struct Weights {
    /// Its scheme.
    pub scheme: AnyScheme,
    codes: Words,
    scales: Words,
    zeros: Words,
    /// Whether float zero points are any floats instead of some near the codes.
    wild: bool,
    #[arbitrary(with = seldom)]
    fault: Option<Fault>,
}

/// What can be wrong with the parts of a matrix.
#[derive(Debug, Clone, Arbitrary)]
enum Fault {
    Code { at: u16, value: u8 },
    Scale { at: u16, value: u32 },
    Zero { at: u16, value: u32 },
    CodesLength,
    ScalesLength,
    ZerosLength,
    ScaleType(Width),
    ZeroType(Width),
    ZeroKind(AnyZero),
}

/// The arguments of [`QuantMatrix::from_parts`].
struct Parts {
    codes: Vec<u8>,
    scales: Vec<f32>,
    scale_type: ScaleType,
    kind: ZeroPoint,
    zeros: Vec<f32>,
    zero_type: ScaleType,
}

impl Weights {
    /// The matrix, or `None` where its parts had to be refused, and were. Panics where a bad part is taken or good ones
    /// are refused.
    #[must_use]
    pub fn matrix(&self, n: usize, k: usize) -> Option<QuantMatrix> {
        let scheme = self.scheme.scheme();
        let parts = self.parts(&scheme, n, k);
        let valid = self.scheme.is_valid() && parts.are_valid(&scheme, n, k);
        let zeros = match parts.kind {
            ZeroPoint::Symmetric => Zeros::Symmetric,
            ZeroPoint::Integer => Zeros::Integer(parts.zeros.iter().map(|&z| z as u16).collect()),
            ZeroPoint::Float => Zeros::Float(Floats::from_f32(parts.zero_type, &parts.zeros)),
        };
        let scales = Floats::from_f32(parts.scale_type, &parts.scales);
        let matrix = QuantMatrix::from_parts(scheme, n, k, parts.codes, scales, zeros);
        assert_eq!(matrix.is_ok(), valid, "{scheme:?}, {n} x {k}: {:?}", matrix.err());
        matrix.ok()
    }

    fn parts(&self, scheme: &Scheme, n: usize, k: usize) -> Parts {
        let top = scheme.max_code();
        let count = match scheme.group {
            Group::Tensor => 1,
            _ => n * scheme.groups(k),
        };
        let (mut codes, mut scales, mut zeros) = (self.codes.stream(), self.scales.stream(), self.zeros.stream());
        let mut zero = || match scheme.zero {
            ZeroPoint::Float if self.wild => zeros.finite(scheme.scale),
            ZeroPoint::Float => {
                let word = zeros.bits();
                let fraction = f32::from((word >> 16) as i16) / 8192.0;
                (word % (u32::from(top) + 2)) as f32 + fraction.clamp(-2.0, 2.0)
            }
            _ => (zeros.bits() % (u32::from(top) + 2)) as f32,
        };
        let mut parts = Parts {
            codes: (0..n * k).map(|_| codes.bits() as u8 & top).collect(),
            scales: (0..count).map(|_| scales.finite(scheme.scale)).collect(),
            scale_type: scheme.scale,
            kind: scheme.zero,
            zeros: (0..count).map(|_| zero()).collect(),
            zero_type: scheme.scale,
        };
        if let Some(fault) = &self.fault {
            parts.spoil(fault);
        }
        parts
    }
}

/// Element `at`, counted round and round.
fn pick<T>(values: &mut [T], at: u16) -> Option<&mut T> {
    let len = values.len().max(1);
    values.get_mut(usize::from(at) % len)
}

impl Parts {
    fn spoil(&mut self, fault: &Fault) {
        match *fault {
            Fault::Code { at, value } => pick(&mut self.codes, at).into_iter().for_each(|q| *q = value),
            Fault::Scale { at, value } => {
                let scales = pick(&mut self.scales, at);
                scales.into_iter().for_each(|s| *s = f32::from_bits(value));
            }
            Fault::Zero { at, value } => {
                let value = match self.kind {
                    ZeroPoint::Float => f32::from_bits(value),
                    _ => f32::from(value as u16),
                };
                pick(&mut self.zeros, at).into_iter().for_each(|z| *z = value);
            }
            Fault::CodesLength => self.codes.push(0),
            Fault::ScalesLength => self.scales.push(1.0),
            Fault::ZerosLength => self.zeros.push(0.0),
            Fault::ScaleType(width) => self.scale_type = width.into(),
            Fault::ZeroType(width) => self.zero_type = width.into(),
            Fault::ZeroKind(AnyZero::Symmetric) => self.kind = ZeroPoint::Symmetric,
            Fault::ZeroKind(AnyZero::Integer) => self.kind = ZeroPoint::Integer,
            Fault::ZeroKind(AnyZero::Float) => self.kind = ZeroPoint::Float,
        }
    }

    /// The domain of [`QuantMatrix::from_parts`], written from its description.
    fn are_valid(&self, scheme: &Scheme, n: usize, k: usize) -> bool {
        let levels = (u32::from(scheme.max_code()) + 1) as f32;
        let count = match scheme.group {
            Group::Tensor => 1,
            _ => n * scheme.groups(k),
        };
        let scales = Floats::from_f32(self.scale_type, &self.scales);
        let zeros = Floats::from_f32(self.zero_type, &self.zeros);
        let zero_is_valid = |i: usize| {
            let (s, z) = (scales.get(i), zeros.get(i));
            z.is_finite() && (s * (z - z.round_ties_even().clamp(0.0, levels))).is_finite()
        };
        self.codes.len() == n * k
            && self.codes.iter().all(|&q| q <= scheme.max_code())
            && self.scales.len() == count
            && self.scale_type == scheme.scale
            && (0..count).all(|i| scales.get(i).is_finite())
            && self.kind == scheme.zero
            && match self.kind {
                ZeroPoint::Symmetric => true,
                ZeroPoint::Integer => self.zeros.len() == count && self.zeros.iter().all(|&z| z <= levels),
                ZeroPoint::Float => {
                    self.zeros.len() == count && self.zero_type == scheme.scale && (0..count).all(zero_is_valid)
                }
            }
    }
}
