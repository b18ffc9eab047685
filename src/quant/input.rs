//! Activations as the caller has them: views of float or int8 matrices, and the mode in which they enter a product.
#![forbid(unsafe_code)]

use crate::base::error::{Error, Result};
use crate::base::float::Element;
use crate::base::view::MatRef;
use crate::quant::scheme::Scheme;
use alloc::format;
use half::{bf16, f16};

/// How activations enter a product: as integers in all modes but [`Mode::Native`]. See [`activation`](crate::quant::activation) for the definitions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mode {
    /// 8 bits, scale per (row, group). The fast mode.
    A8,
    /// 8 bits, scale per row.
    A8Row,
    /// int8 input with its own scales.
    A8Given,
    /// 8 bits with one calibrated scale for the tensor.
    A8Static {
        /// The scale t: finite and positive.
        scale: f32,
        /// Whether values beyond ±127·t are clamped; otherwise they are an error.
        saturate: bool,
    },
    /// 16 bits of block fixed point per (row, group). The accurate default.
    A16,
    /// f16 input without rounding: every group's dot product is rounded once.
    Exact,
    /// f16 input in a device's own floating-point arithmetic. Results are not defined by
    /// [`reference`](crate::reference) but lie within a bound that the device states; the host does not take it.
    Native,
}

impl Mode {
    /// The name in tables and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::A8 => "a8",
            Self::A8Row => "a8row",
            Self::A8Given => "a8given",
            Self::A8Static { .. } => "a8static",
            Self::A16 => "a16",
            Self::Exact => "exact",
            Self::Native => "native",
        }
    }

    /// Whether the fold multiplies weight and activation scale per group; otherwise t belongs to the epilogue or, in
    /// `exact`, to the unit.
    #[must_use]
    pub const fn scales_per_group(self) -> bool {
        matches!(self, Self::A8 | Self::A16)
    }
}

/// The scale of int8 input.
#[derive(Debug, Clone, Copy)]
pub enum InputScale<'a> {
    /// One for the tensor.
    Tensor(f32),
    /// One per row.
    Rows(&'a [f32]),
}

/// The activations X, M × K, as a view of the caller's memory.
///
/// ```
/// use mixgemm::{Activations, Mat};
/// let x = Mat::<f32>::zeros(2, 8);
/// assert_eq!(Activations::from(x.view()).shape(), (2, 8));
/// ```
#[derive(Debug, Clone, Copy)]
pub enum Activations<'a> {
    /// f32 input.
    F32(MatRef<'a, f32>),
    /// f16 input.
    F16(MatRef<'a, f16>),
    /// bf16 input.
    Bf16(MatRef<'a, bf16>),
    /// int8 input, for [`Mode::A8Given`].
    I8 {
        /// The integers, −128 included.
        values: MatRef<'a, i8>,
        /// Their scale.
        scale: InputScale<'a>,
    },
}

/// One row of activations.
#[derive(Debug, Clone, Copy)]
pub enum Row<'a> {
    /// f32 input.
    F32(&'a [f32]),
    /// f16 input.
    F16(&'a [f16]),
    /// bf16 input.
    Bf16(&'a [bf16]),
    /// int8 input with its scale.
    I8(&'a [i8], f32),
}

impl<'a> From<MatRef<'a, f32>> for Activations<'a> {
    fn from(x: MatRef<'a, f32>) -> Self {
        Self::F32(x)
    }
}

impl<'a> From<MatRef<'a, f16>> for Activations<'a> {
    fn from(x: MatRef<'a, f16>) -> Self {
        Self::F16(x)
    }
}

impl<'a> From<MatRef<'a, bf16>> for Activations<'a> {
    fn from(x: MatRef<'a, bf16>) -> Self {
        Self::Bf16(x)
    }
}

impl<'a> Activations<'a> {
    /// int8 input with one scale for the tensor.
    #[must_use]
    pub fn int8(values: MatRef<'a, i8>, scale: f32) -> Self {
        Self::I8 {
            values,
            scale: InputScale::Tensor(scale),
        }
    }

    /// int8 input with one scale per row.
    #[must_use]
    pub fn int8_rows(values: MatRef<'a, i8>, scales: &'a [f32]) -> Self {
        Self::I8 {
            values,
            scale: InputScale::Rows(scales),
        }
    }

    /// (M, K).
    #[must_use]
    pub fn shape(&self) -> (usize, usize) {
        match self {
            Self::F32(x) => (x.rows(), x.cols()),
            Self::F16(x) => (x.rows(), x.cols()),
            Self::Bf16(x) => (x.rows(), x.cols()),
            Self::I8 { values, .. } => (values.rows(), values.cols()),
        }
    }

    /// The element type's name.
    #[must_use]
    pub fn element(&self) -> &'static str {
        match self {
            Self::F32(_) => f32::NAME,
            Self::F16(_) => f16::NAME,
            Self::Bf16(_) => bf16::NAME,
            Self::I8 { .. } => "i8",
        }
    }

    /// Row `m`. Panics when `m ≥ M`, as slices do.
    #[must_use]
    pub fn row(&self, m: usize) -> Row<'a> {
        match self {
            Self::F32(x) => Row::F32(x.row(m)),
            Self::F16(x) => Row::F16(x.row(m)),
            Self::Bf16(x) => Row::Bf16(x.row(m)),
            Self::I8 {
                values,
                scale: InputScale::Tensor(t),
            } => Row::I8(values.row(m), *t),
            Self::I8 {
                values,
                scale: InputScale::Rows(t),
            } => Row::I8(values.row(m), t[m]),
        }
    }

    /// `len` rows from row `start` on.
    ///
    /// # Errors
    /// [`Error::Shape`] when they reach past the last row.
    pub fn sub_rows(&self, start: usize, len: usize) -> Result<Self> {
        Ok(match self {
            Self::F32(x) => Self::F32(x.sub_rows(start, len)?),
            Self::F16(x) => Self::F16(x.sub_rows(start, len)?),
            Self::Bf16(x) => Self::Bf16(x.sub_rows(start, len)?),
            Self::I8 { values, scale } => {
                let values = values.sub_rows(start, len)?;
                let scale = match scale {
                    InputScale::Rows(t) => InputScale::Rows(t.get(start..start + len).unwrap_or(&[])),
                    InputScale::Tensor(t) => InputScale::Tensor(*t),
                };
                Self::I8 { values, scale }
            }
        })
    }

    /// Checks that these activations, this mode and weights of `k` columns and this scheme make a product.
    ///
    /// # Errors
    /// [`Error::Shape`] when K differs or row scales are missing; [`Error::Unsupported`] when the mode does not take
    /// this element type or `exact` could overflow 64 bits; [`Error::Value`] for a scale that is not finite (in
    /// `a8static`: not positive).
    pub fn check(&self, mode: Mode, k: usize, scheme: &Scheme) -> Result<()> {
        if self.shape().1 != k {
            return Err(Error::shape(
                "x",
                format!("K = {k}, as the weights have"),
                format!("K = {}", self.shape().1),
            ));
        }
        match (mode, self) {
            (Mode::A8Given, Self::I8 { values, scale }) => check_input_scale(values.rows(), scale)?,
            (Mode::A8Given, _) => return Err(Error::unsupported("x", "i8 input in mode a8given", self.element())),
            (_, Self::I8 { .. }) => {
                return Err(Error::unsupported("mode", "a8given for i8 input", mode.name()));
            }
            (Mode::Exact, Self::F16(_)) => {
                let bound = u128::from(scheme.span() - 1) * scheme.group_length(k) as u128;
                if bound >= 1 << 23 {
                    let expected = "(2^bits - 1) * group below 2^23 in mode exact (with a book, its largest level + z)";
                    return Err(Error::unsupported("group", expected, format!("{bound}")));
                }
            }
            (Mode::Native, Self::F16(_)) => {}
            (Mode::Native, _) => return Err(Error::unsupported("x", "f16 input in mode native", self.element())),
            (Mode::Exact, _) => return Err(Error::unsupported("x", "f16 input in mode exact", self.element())),
            (Mode::A8Static { scale, .. }, _) if !(scale.is_finite() && scale > 0.0) => {
                return Err(Error::value(
                    "scale of a8static",
                    "a finite positive scale",
                    format!("{scale}"),
                ));
            }
            _ => {}
        }
        Ok(())
    }
}

fn check_input_scale(rows: usize, scale: &InputScale<'_>) -> Result<()> {
    let bad = match scale {
        InputScale::Rows(t) if t.len() != rows => {
            return Err(Error::shape(
                "input scales",
                format!("{rows}, one per row"),
                format!("{}", t.len()),
            ));
        }
        InputScale::Rows(t) => t.iter().copied().find(|t| !t.is_finite()),
        InputScale::Tensor(t) => Some(*t).filter(|t| !t.is_finite()),
    };
    match bad {
        Some(t) => Err(Error::value("input scale", "finite values", format!("{t}"))),
        None => Ok(()),
    }
}
