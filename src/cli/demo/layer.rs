//! The layer that is multiplied, and what each mode takes of its inputs.
#![forbid(unsafe_code)]

use crate::cli::tensors::Tensor;
use anyhow::Result;
use mixgemm::quant::activation::{a8_scale, abs_max_bits, integer_row};
use mixgemm::{Activations, InputScale, Mat, Mode};
use safetensors::SafeTensors;

/// Layer 4 of all-MiniLM-L6-v2; its licence and origin are in NOTICE.
pub(crate) const LAYER: &[u8] = include_bytes!("../../../tests/data/minilm-layer4.safetensors");
/// Weights and the inputs they saw.
const MATRICES: [(&str, &str); 2] = [("up.weight", "up.input"), ("down.weight", "down.input")];

/// A matrix and its inputs.
pub(super) struct Matrix {
    pub(super) name: &'static str,
    pub(super) weights: Tensor,
    pub(super) inputs: Inputs,
}

/// Both matrices with at most that many rows of their inputs.
pub(super) fn matrices(rows: usize) -> Result<Vec<Matrix>> {
    let layer = SafeTensors::deserialize(LAYER)?;
    let read = |name| Tensor::new(name, &layer.tensor(name)?);
    let matrix = |(name, input)| {
        Ok(Matrix {
            name,
            weights: read(name)?,
            inputs: Inputs::new(read(input)?, rows)?,
        })
    };
    MATRICES.into_iter().map(matrix).collect()
}

/// The inputs of a matrix.
pub(super) struct Inputs {
    /// As the layer saw them.
    pub(super) float: Tensor,
    /// Rows that are used.
    pub(super) m: usize,
    /// The integers and row scales of `a8row`, as int8 input.
    int8: Mat<i8>,
    scales: Vec<f32>,
    /// The scale of `a8static`: it reaches the largest input.
    calibrated: f32,
}

impl Inputs {
    fn new(float: Tensor, rows: usize) -> Result<Self> {
        let values = float.to_f32();
        let (m, k) = (values.rows(), values.cols());
        let (mut int8, mut scales) = (Vec::with_capacity(m * k), Vec::with_capacity(m));
        let x = Activations::from(values.view());
        for row in 0..m {
            let row = integer_row(x.row(row), Mode::A8Row, k)?;
            int8.extend(row.integers.iter().map(|&a| a as i8));
            scales.push(row.row_scale.unwrap_or(1.0));
        }
        scales.truncate(rows.min(m));
        let amax = f32::from_bits(abs_max_bits(values.data()));
        Ok(Self {
            float,
            m: rows.min(m),
            int8: Mat::from_vec(int8, m, k)?,
            scales,
            calibrated: a8_scale(amax).0,
        })
    }

    /// What a mode takes.
    pub(super) fn of(&self, mode: Mode) -> mixgemm::Result<Activations<'_>> {
        match mode {
            Mode::A8Given => Ok(Activations::int8_rows(
                self.int8.view().sub_rows(0, self.m)?,
                &self.scales,
            )),
            _ => self.float.activations(InputScale::Tensor(1.0)).sub_rows(0, self.m),
        }
    }

    /// All modes, with what they need to be told.
    pub(super) fn modes(&self) -> [Mode; 7] {
        let fixed = Mode::A8Static {
            scale: self.calibrated,
            saturate: false,
        };
        [
            Mode::A8,
            Mode::A8Row,
            Mode::A8Given,
            fixed,
            Mode::A16,
            Mode::Exact,
            Mode::Native,
        ]
    }
}
