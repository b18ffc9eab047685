//! Tensors from safetensors files.
#![forbid(unsafe_code)]

use crate::cli::arguments::TensorPath;
use crate::cli::refusal::refusal;
use crate::cli::stored::Stored;
use anyhow::Result;
use mixgemm::{Activations, Element, InputScale, Mat, QuantMatrix, Scheme, bf16, f16};
use safetensors::tensor::{Dtype, TensorView};

/// A matrix as it is stored.
#[derive(Debug)]
pub(crate) enum Tensor {
    /// f32 elements.
    F32(Mat<f32>),
    /// f16 elements.
    F16(Mat<f16>),
    /// bf16 elements.
    Bf16(Mat<bf16>),
    /// int8 elements.
    I8(Mat<i8>),
}

impl Tensor {
    /// Rows and columns.
    pub(crate) fn shape(&self) -> (usize, usize) {
        match self {
            Self::F32(t) => (t.rows(), t.cols()),
            Self::F16(t) => (t.rows(), t.cols()),
            Self::Bf16(t) => (t.rows(), t.cols()),
            Self::I8(t) => (t.rows(), t.cols()),
        }
    }

    /// The elements as f32, exactly.
    pub(crate) fn to_f32(&self) -> Mat<f32> {
        fn convert<T: Copy + Default>(t: &Mat<T>, value: impl Fn(T) -> f32) -> Mat<f32> {
            Mat::from_fn(t.rows(), t.cols(), |r, c| value(t.data()[r * t.cols() + c]))
        }
        match self {
            Self::F32(t) => t.clone(),
            Self::F16(t) => convert(t, Element::to_f32),
            Self::Bf16(t) => convert(t, Element::to_f32),
            Self::I8(t) => convert(t, f32::from),
        }
    }

    /// Quantises the elements.
    pub(crate) fn quantize(&self, scheme: Scheme) -> mixgemm::Result<QuantMatrix> {
        match self {
            Self::F32(t) => QuantMatrix::quantize(t.view(), scheme),
            Self::F16(t) => QuantMatrix::quantize(t.view(), scheme),
            Self::Bf16(t) => QuantMatrix::quantize(t.view(), scheme),
            Self::I8(_) => QuantMatrix::quantize(self.to_f32().view(), scheme),
        }
    }

    /// The elements as activations; the scale is that of int8 elements.
    pub(crate) fn activations<'a>(&'a self, scale: InputScale<'a>) -> Activations<'a> {
        match self {
            Self::F32(t) => t.view().into(),
            Self::F16(t) => t.view().into(),
            Self::Bf16(t) => t.view().into(),
            Self::I8(t) => Activations::I8 {
                values: t.view(),
                scale,
            },
        }
    }

    /// The matrix of this view. The elements are copied, so it does not matter how the file aligns them.
    pub(crate) fn new(argument: &str, view: &TensorView<'_>) -> Result<Self> {
        let &[rows, cols] = view.shape() else {
            return Err(refusal(
                argument,
                "a tensor of 2 dimensions",
                format_args!("shape {:?}", view.shape()),
            ));
        };
        let bytes = view.data();
        Ok(match view.dtype() {
            Dtype::F32 => Self::F32(Mat::from_vec(elements(bytes, f32::from_le_bytes), rows, cols)?),
            Dtype::F16 => Self::F16(Mat::from_vec(elements(bytes, f16::from_le_bytes), rows, cols)?),
            Dtype::BF16 => Self::Bf16(Mat::from_vec(elements(bytes, bf16::from_le_bytes), rows, cols)?),
            Dtype::I8 => Self::I8(Mat::from_vec(elements(bytes, i8::from_le_bytes), rows, cols)?),
            other => {
                return Err(refusal(
                    argument,
                    "a tensor of F32, F16, BF16 or I8",
                    format_args!("{other:?}"),
                ));
            }
        })
    }

    /// Reads a matrix.
    pub(crate) fn read(argument: &str, path: &TensorPath) -> Result<Self> {
        let stored = Stored::read(argument, &path.file, &path.tensor)?;
        Self::new(argument, &stored.view()?)
    }
}

fn elements<T, const BYTES: usize>(bytes: &[u8], value: fn([u8; BYTES]) -> T) -> Vec<T> {
    bytes.as_chunks::<BYTES>().0.iter().map(|&b| value(b)).collect()
}

/// Reads all values of a float tensor of any shape.
pub(crate) fn read_values(argument: &str, path: &TensorPath) -> Result<Vec<f32>> {
    let stored = Stored::read(argument, &path.file, &path.tensor)?;
    let view = stored.view()?;
    let bytes = view.data();
    match view.dtype() {
        Dtype::F32 => Ok(elements(bytes, f32::from_le_bytes)),
        Dtype::F16 => Ok(elements(bytes, |b| f16::from_le_bytes(b).to_f32())),
        Dtype::BF16 => Ok(elements(bytes, |b| Element::to_f32(bf16::from_le_bytes(b)))),
        other => Err(refusal(
            argument,
            "a tensor of F32, F16 or BF16",
            format_args!("{other:?}"),
        )),
    }
}
