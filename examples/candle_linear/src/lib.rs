//! A linear layer for candle whose weights are mixgemm's: quantised from a tensor, multiplied as a [`CustomOp1`].
#![forbid(unsafe_code)]

mod error;

pub use error::Error;

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Module, Shape, Tensor};
use mixgemm::{Activations, Epilogue, Gemm, Host, MatMut, MatRef, Mode, Output, Plan, QuantMatrix, Scheme};
use std::borrow::Cow;
use std::sync::Arc;

/// `y = x · Wᵀ + bias` over the last dimension of x: `[…, K]` becomes `[…, N]` in the same type.
///
/// Input may be f32, f16 or bf16 on the CPU, of any strides. Clones share the weights.
#[derive(Debug, Clone)]
pub struct Linear {
    gemm: Gemm,
    plan: Plan,
    bias: Option<Arc<[f32]>>,
}

impl Linear {
    /// Quantises `weight` `[N, K]`; `bias` has N elements. The host says who multiplies; layers that are prepared by one
    /// host share its workspaces.
    pub fn quantize(
        host: &Host,
        weight: &Tensor,
        bias: Option<&Tensor>,
        scheme: Scheme,
        mode: Mode,
    ) -> Result<Self, Error> {
        let (n, k) = weight.dims2()?;
        let values = values(weight)?;
        let gemm = host.prepare(&QuantMatrix::quantize(MatRef::row_major(&values, n, k)?, scheme)?)?;
        let bias = bias.map(|bias| values_of_length(bias, n)).transpose()?;
        Ok(Self {
            plan: gemm.plan(mode)?,
            gemm,
            bias,
        })
    }

    /// The same weights with another mode.
    pub fn mode(&self, mode: Mode) -> Result<Self, Error> {
        Ok(Self {
            plan: self.gemm.plan(mode)?,
            ..self.clone()
        })
    }

    /// The packed weights.
    pub fn gemm(&self) -> &Gemm {
        &self.gemm
    }

    /// Multiplies the rows of a tensor that lies in `data` as `layout` says.
    fn multiply<T: Copy + Default>(&self, data: &[T], layout: &Layout) -> Result<Vec<T>, Error>
    where
        for<'a> Activations<'a>: From<MatRef<'a, T>>,
        for<'a> Output<'a>: From<MatMut<'a, T>>,
    {
        let k = layout.dims().last().copied().unwrap_or(0);
        let m = layout.dims().iter().rev().skip(1).product();
        let n = self.gemm.shape().n;
        let (rows, stride) = rows(data, layout);
        let x = MatRef::with_stride(&rows, m, k, stride)?;
        let mut y = vec![T::default(); m * n];
        let epilogue = Epilogue {
            bias: self.bias.as_deref(),
            ..Epilogue::new()
        };
        let out = MatMut::row_major(&mut y, m, n)?;
        let run = |workspace: &mut _| self.plan.run(workspace, x.into(), &epilogue, out.into());
        self.gemm.workspaces().with(run)?;
        Ok(y)
    }
}

impl Module for Linear {
    fn forward(&self, xs: &Tensor) -> candle_core::Result<Tensor> {
        xs.apply_op1_no_bwd(self)
    }
}

impl CustomOp1 for Linear {
    fn name(&self) -> &'static str {
        "mixgemm-linear"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let mut dims = layout.dims().to_vec();
        let Some(last) = dims.last_mut() else {
            candle_core::bail!("x: expected at least one dimension, found a scalar");
        };
        *last = self.gemm.shape().n;
        let y = match storage {
            CpuStorage::F32(x) => CpuStorage::F32(self.multiply(x, layout)?),
            CpuStorage::F16(x) => CpuStorage::F16(self.multiply(x, layout)?),
            CpuStorage::BF16(x) => CpuStorage::BF16(self.multiply(x, layout)?),
            _ => candle_core::bail!("x: expected F32, F16 or BF16, found another type"),
        };
        Ok((y, Shape::from(dims)))
    }
}

/// All elements as f32, row after row.
fn values(tensor: &Tensor) -> Result<Vec<f32>, Error> {
    Ok(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}

fn values_of_length(tensor: &Tensor, n: usize) -> Result<Arc<[f32]>, Error> {
    if tensor.dims() != [n] {
        return Err(
            candle_core::Error::msg(format!("bias: expected {n} elements, found shape {:?}", tensor.dims())).into(),
        );
    }
    Ok(values(tensor)?.into())
}

/// The rows of a tensor and the elements between their starts: in place where the rows are contiguous and evenly spaced,
/// otherwise a copy.
fn rows<'a, T: Copy>(data: &'a [T], layout: &Layout) -> (Cow<'a, [T]>, usize) {
    let k = layout.dims().last().copied().unwrap_or(0);
    match row_stride(layout) {
        Some(stride) => (Cow::Borrowed(&data[layout.start_offset()..]), stride),
        None => (Cow::Owned(places(layout).iter().map(|&i| data[i]).collect()), k),
    }
}

/// Where every element lies, row after row.
fn places(layout: &Layout) -> Vec<usize> {
    let mut places = vec![layout.start_offset()];
    for (&dim, &stride) in layout.dims().iter().zip(layout.stride()) {
        let inner = |at: usize| (0..dim).map(move |i| at + i * stride);
        places = places.iter().flat_map(|&at| inner(at)).collect();
    }
    places
}

/// The one stride of all leading dimensions, if there is one.
fn row_stride(layout: &Layout) -> Option<usize> {
    let ((&k, outer), (&last, strides)) = (layout.dims().split_last()?, layout.stride().split_last()?);
    if last != 1 && k > 1 {
        return None;
    }
    // (stride, rows) of the dimensions so far, innermost first; those of length 1 never step.
    let mut all: Option<(usize, usize)> = None;
    for (&dim, &stride) in outer.iter().zip(strides).rev().filter(|&(&dim, _)| dim != 1) {
        all = match all {
            None => Some((stride, dim)),
            Some((step, rows)) if stride == step * rows => Some((step, rows * dim)),
            Some(_) => return None,
        };
    }
    let stride = all.map_or(k, |(stride, _)| stride);
    (stride >= k).then_some(stride)
}
