//! How a weight matrix is quantised: plain data.
#![forbid(unsafe_code)]

use crate::base::error::{Error, Result};
use crate::quant::book::CodeBook;
use alloc::format;

/// Longest group: one digit × slice product sum of this many terms still fits an i32 (`255·128·65536 < 2^31`).
pub const MAX_GROUP: usize = 65_536;

/// Which weights of a row share a scale and a zero point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Group {
    /// Runs of this many consecutive weights along K; the last run of a row may be shorter.
    Length(usize),
    /// The whole row: one group per output channel.
    Channel,
    /// The whole matrix.
    Tensor,
}

/// How the zero point is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ZeroPoint {
    /// `2^(bits−1)` everywhere; with one bit the levels are −1 and +1. With a code book, its levels as they are.
    Symmetric,
    /// An integer in `0..=2^bits` per group.
    Integer,
    /// A float per group, stored at the width of the scales.
    Float,
}

/// The stored width of scales and float zero points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ScaleType {
    /// 32-bit IEEE 754.
    F32,
    /// 16-bit IEEE 754.
    F16,
    /// The upper half of an f32.
    Bf16,
}

impl ScaleType {
    /// Stored bytes of one value.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

/// How the quantiser chooses scales.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rounding {
    /// The scale covers the group's range; codes round to nearest.
    Nearest,
    /// The scale is the one, among shrunken ranges, whose codes have the least squared error.
    ClipSearch,
}

/// A quantisation scheme. Build one with [`Scheme::int`] and the methods below.
///
/// ```
/// use mixgemm::{Group, Scheme, ZeroPoint};
/// let s = Scheme::int(4).group(128).asymmetric();
/// assert_eq!((s.bits, s.group, s.zero), (4, Group::Length(128), ZeroPoint::Integer));
/// assert!(Scheme::int(9).check().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scheme {
    /// Bits per code, 1 to 8.
    pub bits: u8,
    /// What codes stand for; themselves where there is none. A book has 4 bits and is symmetric.
    pub book: Option<CodeBook>,
    /// Which weights share a scale.
    pub group: Group,
    /// Kind of zero point.
    pub zero: ZeroPoint,
    /// Stored width of scales and float zero points.
    pub scale: ScaleType,
    /// How the quantiser chooses scales; without meaning for weights that are already quantised.
    pub rounding: Rounding,
}

impl Scheme {
    /// `bits`-bit codes, symmetric, one group per row, f16 scales, rounding to nearest.
    #[must_use]
    pub const fn int(bits: u8) -> Self {
        Self {
            bits,
            book: None,
            group: Group::Channel,
            zero: ZeroPoint::Symmetric,
            scale: ScaleType::F16,
            rounding: Rounding::Nearest,
        }
    }

    /// 4-bit codes of a book, one group per row, scales in bf16, which holds those of MXFP4, rounding to nearest.
    ///
    /// ```
    /// use mixgemm::{CodeBook, Mat, QuantMatrix, Scheme};
    /// let w = Mat::from_fn(1, 4, |_, k| [0.1, -0.26, 0.5, 0.7][k]);
    /// let w = QuantMatrix::quantize(w.view(), Scheme::book(CodeBook::MXFP4).group(32))?;
    /// assert_eq!(w.dequantize().data(), [0.125, -0.25, 0.5, 0.75]);
    /// # Ok::<(), mixgemm::Error>(())
    /// ```
    #[must_use]
    pub const fn book(book: CodeBook) -> Self {
        Self {
            book: Some(book),
            scale: ScaleType::Bf16,
            ..Self::int(4)
        }
    }

    /// Groups of `length` weights along K.
    #[must_use]
    pub const fn group(self, length: usize) -> Self {
        Self {
            group: Group::Length(length),
            ..self
        }
    }

    /// One group per row of W.
    #[must_use]
    pub const fn per_channel(self) -> Self {
        Self {
            group: Group::Channel,
            ..self
        }
    }

    /// One scale for the whole matrix.
    #[must_use]
    pub const fn per_tensor(self) -> Self {
        Self {
            group: Group::Tensor,
            ..self
        }
    }

    /// Zero point `2^(bits−1)`.
    #[must_use]
    pub const fn symmetric(self) -> Self {
        Self {
            zero: ZeroPoint::Symmetric,
            ..self
        }
    }

    /// An integer zero point per group.
    #[must_use]
    pub const fn asymmetric(self) -> Self {
        Self {
            zero: ZeroPoint::Integer,
            ..self
        }
    }

    /// A float zero point per group.
    #[must_use]
    pub const fn float_zero(self) -> Self {
        Self {
            zero: ZeroPoint::Float,
            ..self
        }
    }

    /// The stored width of scales.
    #[must_use]
    pub const fn scales(self, scale: ScaleType) -> Self {
        Self { scale, ..self }
    }

    /// Choose each group's scale by least squared error.
    #[must_use]
    pub const fn clip_search(self) -> Self {
        Self {
            rounding: Rounding::ClipSearch,
            ..self
        }
    }

    /// The largest code, `2^bits − 1`.
    #[must_use]
    pub const fn max_code(&self) -> u8 {
        if self.bits >= 8 { 255 } else { (1 << self.bits) - 1 }
    }

    /// What a code is in the integers: `v + z` of its level v in the book, or itself. Panics for a code that is no
    /// number of an entry, as slices do.
    #[must_use]
    pub const fn carried(&self, code: u8) -> u8 {
        match &self.book {
            Some(book) => book.carried(code),
            None => code,
        }
    }

    /// The zero point of symmetric weights: `2^(bits−1)`, or that of the book.
    #[must_use]
    pub const fn symmetric_zero(&self) -> u8 {
        match &self.book {
            Some(book) => book.zero(),
            None => 1 << (self.bits - 1),
        }
    }

    /// One more than the largest magnitude among what codes are carried as, and the levels of a book: `2^bits` without
    /// one. Bounds of sums follow from it.
    #[must_use]
    pub const fn span(&self) -> u32 {
        match &self.book {
            Some(book) if book.zero() > book.max_carried() => book.zero() as u32 + 1,
            Some(book) => book.max_carried() as u32 + 1,
            None => 1 << self.bits,
        }
    }

    /// Whether the levels are `2q − 1` instead of `q − z`: one symmetric bit.
    #[must_use]
    pub fn is_sign_only(&self) -> bool {
        self.bits == 1 && self.zero == ZeroPoint::Symmetric
    }

    /// Weights in a full group of a row of `k` weights.
    #[must_use]
    pub const fn group_length(&self, k: usize) -> usize {
        match self.group {
            Group::Length(0) if k > 0 => 1,
            Group::Length(g) if g < k => g,
            _ => k,
        }
    }

    /// Groups in a row of `k` weights: `ceil(k / group)`, 0 for `k = 0`.
    #[must_use]
    pub const fn groups(&self, k: usize) -> usize {
        if k == 0 { 0 } else { k.div_ceil(self.group_length(k)) }
    }

    /// Checks the width, a nominal group length, and what a book goes with.
    ///
    /// # Errors
    /// [`Error::Value`] unless `1 ≤ bits ≤ 8` and the group length is at least 1, and with a book for other than 4
    /// symmetric bits.
    pub fn check(&self) -> Result<()> {
        if !(1..=8).contains(&self.bits) {
            return Err(Error::value("bits", "1 to 8", format!("{}", self.bits)));
        }
        if self.group == Group::Length(0) {
            return Err(Error::value("group", "at least 1 weight", "0"));
        }
        if self.book.is_some() && (self.bits, self.zero) != (4, ZeroPoint::Symmetric) {
            let found = format!("{} bits, {:?} zero points", self.bits, self.zero);
            return Err(Error::value(
                "book",
                "4 bits and symmetric zero points with a book",
                found,
            ));
        }
        Ok(())
    }
}
