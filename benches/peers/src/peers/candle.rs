//! candle-core: `QMatMul`, whose weights it repacks for this CPU at the first product.

use super::{Peer, Product, locked, variant};
use crate::operands::{self, Operands};
use crate::protocol::Variant;
use anyhow::Result;
use candle_core::quantized::{GgmlDType, QMatMul, QStorage, QTensor};
use candle_core::{Device, Module, Tensor};

pub(super) struct Candle;

impl Peer for Candle {
    fn version(&self) -> String {
        locked("candle-core")
    }

    fn variants(&self) -> Vec<Variant> {
        vec![
            variant("q4_K", 0.12, "w4 g32 asym a8"),
            variant("q8_0", 0.02, "w8 g32 a8"),
        ]
    }

    fn prepare(&mut self, variant: &str, operands: &Operands, bytes: usize) -> Result<Box<dyn Product>> {
        let Operands { n, k, ref w, ref x } = *operands;
        let kind = if variant == "q4_K" {
            GgmlDType::Q4K
        } else {
            GgmlDType::Q8_0
        };
        let w = QTensor::quantize(&Tensor::from_slice(w, (n, k), &Device::Cpu)?, kind)?;
        let (data, bits) = (w.data()?, 8.0 * w.storage_size_in_bytes() as f64 / (n * k) as f64);
        let copy = |data: Vec<u8>| -> Result<QMatMul> {
            let storage = QStorage::from_data(data.into(), &Device::Cpu, kind)?;
            Ok(QMatMul::from_qtensor(QTensor::new(storage, (n, k))?)?)
        };
        let copies = operands::copies(&data, n, operands::count(n, k, bits, bytes));
        Ok(Box::new(Run {
            copies: copies.map(copy).collect::<Result<_>>()?,
            bits,
            x: Tensor::from_slice(x, (x.len() / k, k), &Device::Cpu)?,
            y: None,
        }))
    }
}

struct Run {
    copies: Vec<QMatMul>,
    bits: f64,
    x: Tensor,
    y: Option<Tensor>,
}

impl Product for Run {
    fn copies(&self) -> usize {
        self.copies.len()
    }

    fn bits(&self) -> f64 {
        self.bits
    }

    fn run(&mut self, m: usize, copy: usize) -> Result<()> {
        self.y = Some(self.copies[copy].forward(&self.x.narrow(0, 0, m)?)?);
        Ok(())
    }

    fn output(&mut self) -> Result<Vec<f32>> {
        let y = self.y.as_ref().map(|y| y.flatten_all()?.to_vec1());
        Ok(y.transpose()?.unwrap_or_default())
    }
}
