//! rten-gemm: blocks of 4 bits as ONNX has them, and f32. One row is multiplied as a vector; more go through its GEMM,
//! for which f32 weights are packed beforehand and blocks are expanded to f32 at every product.

use super::{Peer, Product, locked, variant};
use crate::operands::{self, Operands};
use crate::protocol::Variant;
use anyhow::{Context, Result, anyhow};
use rten_gemm::{BlockQuantizedGemm, BlockQuantizedMatrix, ComputeMode, GemmExecutor, GemmInputA, GemmInputB};
use rten_gemm::{GemmUninitOptions, PackedBMatrix};
use rten_tensor::prelude::*;
use rten_tensor::{Contiguous, Matrix, NdTensorView};

/// Weights that share a scale.
const BLOCK: usize = 32;

pub(super) struct Rten;

impl Peer for Rten {
    fn version(&self) -> String {
        locked("rten-gemm")
    }

    fn variants(&self) -> Vec<Variant> {
        vec![
            variant("q4 g32 int8", 0.15, "w4 g32 asym a8"),
            variant("f32", 1e-4, "w4 g128 asym a16"),
        ]
    }

    fn prepare(&mut self, variant: &str, operands: &Operands, bytes: usize) -> Result<Box<dyn Product>> {
        let Operands { n, k, ref w, ref x } = *operands;
        let executor = GemmExecutor::<f32>::new();
        let (copies, bits): (Vec<Copy>, f64) = if variant == "f32" {
            let copy = |w: Vec<f32>| {
                let packed = executor.prepack_b(transposed(&w, n, k));
                Copy::F32 { w, packed }
            };
            let count = operands::count(n, k, 32.0, bytes);
            (operands::copies(w, n, count).map(copy).collect(), 32.0)
        } else {
            let (codes, scales) = quantize(w);
            let bits = 4.0 + 32.0 / BLOCK as f64;
            let count = operands::count(n, k, bits, bytes);
            let pairs = operands::copies(&codes, n, count).zip(operands::copies(&scales, n, count));
            (
                pairs.map(|(codes, scales)| Copy::Blocks { codes, scales }).collect(),
                bits,
            )
        };
        let (x, y) = (x.clone(), Vec::new());
        Ok(Box::new(Run {
            executor,
            copies,
            bits,
            x,
            y,
            n,
            k,
        }))
    }
}

/// Symmetric codes around 8, the even one of a pair in the low half of its byte, and a scale for each block.
fn quantize(w: &[f32]) -> (Vec<u8>, Vec<f32>) {
    let blocks = w.as_chunks::<BLOCK>().0;
    let scale = |block: &[f32; BLOCK]| block.iter().fold(0.0f32, |a, w| a.max(w.abs())) / 7.5;
    let scales: Vec<f32> = blocks.iter().map(scale).collect();
    let codes = blocks.iter().zip(&scales).flat_map(|(block, scale)| {
        let code = move |w: f32| ((w / scale).round() + 8.0).clamp(0.0, 15.0) as u8;
        block
            .as_chunks::<2>()
            .0
            .iter()
            .map(move |&[even, odd]| code(even) | code(odd) << 4)
    });
    (codes.collect(), scales)
}

/// N × K weights as the K × N matrix that multiplies.
fn transposed(w: &[f32], n: usize, k: usize) -> Matrix<'_, f32> {
    NdTensorView::from_data([n, k], w).transposed()
}

enum Copy {
    F32 { w: Vec<f32>, packed: PackedBMatrix<f32> },
    Blocks { codes: Vec<u8>, scales: Vec<f32> },
}

struct Run {
    executor: GemmExecutor<f32>,
    copies: Vec<Copy>,
    bits: f64,
    x: Vec<f32>,
    y: Vec<f32>,
    n: usize,
    k: usize,
}

impl Product for Run {
    fn copies(&self) -> usize {
        self.copies.len()
    }

    fn bits(&self) -> f64 {
        self.bits
    }

    fn run(&mut self, m: usize, copy: usize) -> Result<()> {
        let (n, k) = (self.n, self.k);
        let x = NdTensorView::from_data([m, k], &self.x[..m * k]);
        self.y.clear();
        self.y.reserve(m * n);
        let y = &mut self.y.spare_capacity_mut()[..m * n];
        let matrix = |y, b| {
            let options = GemmUninitOptions::default();
            self.executor.gemm_uninit(y, GemmInputA::Unpacked(x), b, options)
        };
        let done = match &self.copies[copy] {
            Copy::F32 { w, .. } if m == 1 => matrix(y, GemmInputB::Unpacked(transposed(w, n, k))),
            Copy::F32 { packed, .. } => matrix(y, GemmInputB::Packed(packed)),
            Copy::Blocks { codes, scales } => {
                let codes = Contiguous::new(NdTensorView::from_data([n, k / BLOCK, BLOCK / 2], &codes[..]));
                let scales = Contiguous::new(NdTensorView::from_data([n, k / BLOCK], &scales[..]));
                let (codes, scales) = codes.zip(scales).context("blocks: expected them without gaps")?;
                let w = BlockQuantizedMatrix::new(codes, scales, 4).map_err(|error| anyhow!("blocks: {error:?}"))?;
                if m == 1 {
                    let vector = BlockQuantizedGemm::new().with_compute(ComputeMode::Int8);
                    vector.batched_gemm_uninit(y, x.reshaped([1, m, k]).view(), w)
                } else {
                    matrix(y, GemmInputB::BlockQuantized(w))
                }
            }
        };
        let written = done.map_err(|error| anyhow!("rten: {error:?}"))?.len();
        assert_eq!(written, m * n);
        // SAFETY: so many elements must be initialised. The products return the slice that they have initialised, which
        // is as long. The check of every product would find elements that are not.
        unsafe { self.y.set_len(m * n) };
        Ok(())
    }

    fn output(&mut self) -> Result<Vec<f32>> {
        Ok(self.y.clone())
    }
}
