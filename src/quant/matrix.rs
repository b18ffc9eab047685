//! `QuantMatrix`: integer codes, scales and zero points. Every quantiser and file format produces one, every backend
//! takes one.
#![forbid(unsafe_code)]

use crate::base::error::{Error, Result};
use crate::base::float::{Element, rne};
use crate::base::mat::Mat;
use crate::base::view::MatRef;
use crate::quant::rounding;
use crate::quant::scheme::{Group, MAX_GROUP, ScaleType, Scheme, ZeroPoint};
use alloc::{format, string::String, vec::Vec};
use half::{bf16, f16};

/// Floats at their stored width.
#[derive(Debug, Clone, PartialEq)]
pub enum Floats {
    /// f32 values.
    F32(Vec<f32>),
    /// f16 values.
    F16(Vec<f16>),
    /// bf16 values.
    Bf16(Vec<bf16>),
}

impl Floats {
    /// Rounds values to a stored width, ties to even.
    #[must_use]
    pub fn from_f32(scale: ScaleType, values: &[f32]) -> Self {
        match scale {
            ScaleType::F32 => Self::F32(values.to_vec()),
            ScaleType::F16 => Self::F16(values.iter().map(|&x| f16::from_f32(x)).collect()),
            ScaleType::Bf16 => Self::Bf16(values.iter().map(|&x| bf16::from_f32(x)).collect()),
        }
    }

    /// Value `i`, exactly.
    #[inline]
    #[must_use]
    pub fn get(&self, i: usize) -> f32 {
        match self {
            Self::F32(v) => v[i],
            Self::F16(v) => v[i].to_f32(),
            Self::Bf16(v) => Element::to_f32(v[i]),
        }
    }

    /// Number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::F32(v) => v.len(),
            Self::F16(v) => v.len(),
            Self::Bf16(v) => v.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The stored width.
    #[must_use]
    pub fn scale_type(&self) -> ScaleType {
        match self {
            Self::F32(_) => ScaleType::F32,
            Self::F16(_) => ScaleType::F16,
            Self::Bf16(_) => ScaleType::Bf16,
        }
    }
}

/// Zero points, one per group in the order of the scales.
#[derive(Debug, Clone, PartialEq)]
pub enum Zeros {
    /// `2^(bits−1)` everywhere, or levels −1 and +1 for one bit; of a book, the book's.
    Symmetric,
    /// Integers in `0..=2^bits`.
    Integer(Vec<u16>),
    /// Floats.
    Float(Floats),
}

/// A quantised `N × K` weight matrix: `w[n,k] = s·(q − z)` with one scale `s` and zero point `z` per group along K, or with
/// a [book](crate::CodeBook) `s·v` with the level v of the code q.
///
/// ```
/// use mixgemm::{MatRef, QuantMatrix, Scheme};
/// let weights: Vec<f32> = (0..4 * 8).map(|i| (i as f32 * 0.37).sin()).collect();
/// let w = QuantMatrix::quantize(MatRef::row_major(&weights, 4, 8)?, Scheme::int(4).group(8).asymmetric())?;
/// let back = w.dequantize();
/// assert!(back.data().iter().zip(&weights).all(|(a, b)| (a - b).abs() < 0.08));
/// assert_eq!(w.bits_per_weight(), 4.0 + (16.0 + 4.0) / 8.0);
/// # Ok::<(), mixgemm::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct QuantMatrix {
    scheme: Scheme,
    n: usize,
    k: usize,
    codes: Vec<u8>,
    scales: Floats,
    zeros: Zeros,
}

impl QuantMatrix {
    /// Quantises a float matrix of shape N × K. Scales are rounded to their stored width before codes are chosen.
    ///
    /// # Errors
    /// [`Error::Value`] for a bad scheme, a non-finite weight, or a scale that overflows its stored width.
    pub fn quantize<T: Element>(weights: MatRef<'_, T>, scheme: Scheme) -> Result<Self> {
        rounding::quantize(weights, scheme)
    }

    /// Takes codes `[N, K]` and scales and zero points `[N, G]` (one value each for [`Group::Tensor`]) as they are.
    ///
    /// # Errors
    /// [`Error::Shape`] for a length that does not fit; [`Error::Value`] for a group longer than [`MAX_GROUP`], a code
    /// above `2^bits − 1`, a zero point above `2^bits`, a non-finite scale, zero point or offset.
    pub fn from_parts(
        scheme: Scheme,
        n: usize,
        k: usize,
        codes: Vec<u8>,
        scales: Floats,
        zeros: Zeros,
    ) -> Result<Self> {
        scheme.check()?;
        let group = scheme.group_length(k);
        if group > MAX_GROUP {
            return Err(Error::value(
                "group",
                format!("at most {MAX_GROUP} weights"),
                format!("{group}"),
            ));
        }
        if n.checked_mul(k) != Some(codes.len()) {
            return Err(Error::shape(
                "codes",
                format!("{n} x {k}"),
                format!("{} codes", codes.len()),
            ));
        }
        let count = if scheme.group == Group::Tensor {
            1
        } else {
            n * scheme.groups(k)
        };
        let shape = if scheme.group == Group::Tensor {
            "1".into()
        } else {
            format!("{n} x {}", scheme.groups(k))
        };
        if scales.len() != count {
            return Err(Error::shape("scales", shape, format!("{} scales", scales.len())));
        }
        if scales.scale_type() != scheme.scale {
            let (expected, found) = (format!("{:?}", scheme.scale), format!("{:?}", scales.scale_type()));
            return Err(Error::value("scales", expected, found));
        }
        let max = scheme.max_code();
        // The largest code is found in vectors, its place only where it is too large.
        if codes.iter().fold(0, |most, &q| most.max(q)) > max {
            let i = codes.iter().position(|&q| q > max).unwrap_or(0);
            let found = format!("{} at ({}, {})", codes[i], i / k, i % k);
            return Err(Error::value("codes", format!("0 to {max}"), found));
        }
        if let Some(i) = (0..count).find(|&i| !scales.get(i).is_finite()) {
            return Err(Error::value(
                "scales",
                "finite values",
                format!("{} at index {i}", scales.get(i)),
            ));
        }
        check_zeros(&scheme, &zeros, &scales, count, &shape)?;
        Ok(Self {
            scheme,
            n,
            k,
            codes,
            scales,
            zeros,
        })
    }

    /// The scheme.
    #[must_use]
    pub fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    /// Output channels.
    #[must_use]
    pub fn n(&self) -> usize {
        self.n
    }

    /// Input channels.
    #[must_use]
    pub fn k(&self) -> usize {
        self.k
    }

    /// Groups per row.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.scheme.groups(self.k)
    }

    /// The k of group `g`.
    #[must_use]
    pub fn group_range(&self, g: usize) -> core::ops::Range<usize> {
        let len = self.scheme.group_length(self.k);
        g * len..((g + 1) * len).min(self.k)
    }

    /// All codes, `[N, K]`.
    #[must_use]
    pub fn codes(&self) -> &[u8] {
        &self.codes
    }

    /// The codes of row `n`.
    #[must_use]
    pub fn code_row(&self, n: usize) -> &[u8] {
        &self.codes[n * self.k..(n + 1) * self.k]
    }

    /// The scales at their stored width, `[N, G]`, or one.
    #[must_use]
    pub fn scales(&self) -> &Floats {
        &self.scales
    }

    /// The zero points, `[N, G]`, or one.
    #[must_use]
    pub fn zeros(&self) -> &Zeros {
        &self.zeros
    }

    fn index(&self, n: usize, g: usize) -> usize {
        if self.scheme.group == Group::Tensor {
            0
        } else {
            n * self.groups() + g
        }
    }

    /// The scale of row `n`, group `g`.
    #[must_use]
    pub fn scale(&self, n: usize, g: usize) -> f32 {
        self.scales.get(self.index(n, g))
    }

    /// What the codes of row `n` at `range` are in the integers: themselves, or `v + z` of their levels in the book.
    pub(crate) fn carried(&self, n: usize, range: core::ops::Range<usize>) -> impl Iterator<Item = u8> + '_ {
        self.code_row(n)[range].iter().map(|&q| self.scheme.carried(q))
    }

    /// The zero point of row `n`, group `g` as a float; 0.5 for one symmetric bit, whose levels `2q − 1` are `2(q − 0.5)`.
    #[must_use]
    pub fn zero(&self, n: usize, g: usize) -> f32 {
        match &self.zeros {
            Zeros::Symmetric if self.scheme.is_sign_only() => 0.5,
            Zeros::Symmetric => f32::from(self.scheme.symmetric_zero()),
            Zeros::Integer(z) => f32::from(z[self.index(n, g)]),
            Zeros::Float(z) => z.get(self.index(n, g)),
        }
    }

    /// The integer zero point that the integers are corrected with: `z`, or `rne(z)` clamped to `0..=2^bits` for a
    /// float zero point. One symmetric bit has 1, used with doubled codes.
    #[must_use]
    pub fn zero_int(&self, n: usize, g: usize) -> i32 {
        match &self.zeros {
            Zeros::Symmetric => i32::from(self.scheme.symmetric_zero()),
            Zeros::Integer(z) => i32::from(z[self.index(n, g)]),
            Zeros::Float(z) => split_float_zero(z.get(self.index(n, g)), self.scheme.bits).0,
        }
    }

    /// The fractional part `f = z − z0` of a float zero point, 0 for the other kinds.
    #[must_use]
    pub fn zero_fraction(&self, n: usize, g: usize) -> f32 {
        match &self.zeros {
            Zeros::Float(z) => split_float_zero(z.get(self.index(n, g)), self.scheme.bits).1,
            _ => 0.0,
        }
    }

    /// The integer weight of `(n, k)`: `q − z0`, the level of q in a book, or `2q − 1` for one symmetric bit.
    #[must_use]
    pub fn level(&self, n: usize, k: usize) -> i32 {
        let q = i32::from(self.scheme.carried(self.codes[n * self.k + k]));
        if self.scheme.is_sign_only() {
            2 * q - 1
        } else {
            q - self.zero_int(n, k / self.scheme.group_length(self.k))
        }
    }

    /// The weights as floats: `s·(q − z)` or `s·v`, each operation rounded to f32.
    #[must_use]
    pub fn dequantize(&self) -> Mat<f32> {
        let mut out = Mat::zeros(self.n, self.k);
        let mut view = out.view_mut();
        for n in 0..self.n {
            for g in 0..self.groups() {
                let (s, z) = (self.scale(n, g), self.zero(n, g));
                for k in self.group_range(g) {
                    let q = f32::from(self.scheme.carried(self.codes[n * self.k + k]));
                    let level = if self.scheme.is_sign_only() {
                        2.0 * q - 1.0
                    } else {
                        q - z
                    };
                    view.row_mut(n)[k] = s * level;
                }
            }
        }
        out
    }

    /// Bytes of the stored format: codes and integer zero points at `bits` bits (9 where a zero point is 256), scales
    /// and float zero points at their width.
    #[must_use]
    pub fn source_bytes(&self) -> f64 {
        let count = self.scales.len() as f64;
        let zero_bits = match &self.zeros {
            Zeros::Symmetric => 0,
            Zeros::Integer(z) => usize::from(self.scheme.bits) + usize::from(z.contains(&(1 << self.scheme.bits))),
            Zeros::Float(f) => f.scale_type().bytes() * 8,
        };
        let code_bits = self.codes.len() as f64 * f64::from(self.scheme.bits);
        (code_bits + count * (self.scheme.scale.bytes() * 8 + zero_bits) as f64) / 8.0
    }

    /// [`QuantMatrix::source_bytes`] in bits per weight; 0 for an empty matrix.
    #[must_use]
    pub fn bits_per_weight(&self) -> f64 {
        if self.codes.is_empty() {
            0.0
        } else {
            self.source_bytes() * 8.0 / self.codes.len() as f64
        }
    }
}

/// `z0 = rne(z)` clamped to `0..=2^bits`, and `f = z − z0`.
#[must_use]
pub fn split_float_zero(z: f32, bits: u8) -> (i32, f32) {
    let z0 = rne(z).clamp(0.0, (1u32 << bits) as f32);
    (z0 as i32, z - z0)
}

fn check_zeros(scheme: &Scheme, zeros: &Zeros, scales: &Floats, count: usize, shape: &str) -> Result<()> {
    let kind = match zeros {
        Zeros::Symmetric => ZeroPoint::Symmetric,
        Zeros::Integer(_) => ZeroPoint::Integer,
        Zeros::Float(_) => ZeroPoint::Float,
    };
    if kind != scheme.zero {
        return Err(Error::value("zeros", format!("{:?}", scheme.zero), format!("{kind:?}")));
    }
    let len = match zeros {
        Zeros::Symmetric => return Ok(()),
        Zeros::Integer(z) => z.len(),
        Zeros::Float(z) => z.len(),
    };
    if len != count {
        return Err(Error::shape("zeros", String::from(shape), format!("{len} zero points")));
    }
    match zeros {
        Zeros::Integer(z) => {
            let max = 1u16 << scheme.bits;
            if let Some(i) = z.iter().position(|&z| z > max) {
                return Err(Error::value(
                    "zeros",
                    format!("0 to {max}"),
                    format!("{} at index {i}", z[i]),
                ));
            }
        }
        Zeros::Float(z) => {
            if z.scale_type() != scheme.scale {
                let (expected, found) = (format!("{:?}", scheme.scale), format!("{:?}", z.scale_type()));
                return Err(Error::value("zeros", expected, found));
            }
            for i in 0..count {
                let offset = scales.get(i) * split_float_zero(z.get(i), scheme.bits).1;
                if !z.get(i).is_finite() || !offset.is_finite() {
                    let found = format!("{} with scale {} at index {i}", z.get(i), scales.get(i));
                    return Err(Error::value("zeros", "a finite zero point and a finite offset", found));
                }
            }
        }
        Zeros::Symmetric => {}
    }
    Ok(())
}
