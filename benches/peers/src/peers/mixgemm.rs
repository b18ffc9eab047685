//! mixgemm as a library: one plan for each copy, one workspace, threads of its own.

use super::{Peer, Product, locked, variant};
use crate::operands::{self, Operands};
use crate::protocol::Variant;
use anyhow::{Context, Result};
use mixgemm::{
    Activations, Epilogue, Floats, Gemm, Host, Mat, MatMut, MatRef, Mode, Par, Plan, QuantMatrix, Scheme, Threads,
    Workspace, Zeros, f16,
};
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;

/// Name, weights, mode, tolerance.
const VARIANTS: [(&str, Scheme, Mode, f64); 8] = [
    ("w4 g128 asym a8", W4, Mode::A8, 0.15),
    ("w4 g128 asym a16", W4, Mode::A16, 0.15),
    ("w4 g128 asym exact", W4, Mode::Exact, 0.15),
    ("w4 g32 asym a8", Scheme::int(4).group(32).asymmetric(), Mode::A8, 0.12),
    ("w8 g32 a8", Scheme::int(8).group(32), Mode::A8, 0.02),
    ("w8 g128 a8", Scheme::int(8).group(128), Mode::A8, 0.02),
    ("w8 channel a8row", Scheme::int(8).per_channel(), Mode::A8Row, 0.03),
    ("w2 g128 asym a8", Scheme::int(2).group(128).asymmetric(), Mode::A8, 0.7),
];
const W4: Scheme = Scheme::int(4).group(128).asymmetric();

/// The peer, and the copies that its variants share.
#[derive(Default)]
pub(super) struct MixGemm {
    shared: Vec<(Scheme, Rc<Weights>)>,
    par: Option<Par>,
}

impl MixGemm {
    /// Copies of the weights in one scheme.
    fn weights(&mut self, scheme: Scheme, operands: &Operands, bytes: usize) -> Result<Rc<Weights>> {
        if let Some((_, weights)) = self.shared.iter().find(|(s, _)| *s == scheme) {
            return Ok(weights.clone());
        }
        let weights = Rc::new(Weights::new(scheme, operands, bytes)?);
        self.shared.push((scheme, weights.clone()));
        Ok(weights)
    }
}

impl Peer for MixGemm {
    fn version(&self) -> String {
        locked("mixgemm")
    }

    fn variants(&self) -> Vec<Variant> {
        VARIANTS
            .iter()
            .map(|(name, _, _, tolerance)| variant(name, *tolerance, name))
            .collect()
    }

    fn prepare(&mut self, variant: &str, operands: &Operands, bytes: usize) -> Result<Box<dyn Product>> {
        let found = VARIANTS
            .into_iter()
            .find(|v| v.0 == variant)
            .context("no such variant")?;
        let (_, scheme, mode, _) = found;
        let weights = self.weights(scheme, operands, bytes)?;
        let threads = || NonZeroUsize::new(rayon::current_num_threads()).unwrap_or(NonZeroUsize::MIN);
        let par = self
            .par
            .get_or_insert_with(|| Par::Pool(Arc::new(Threads::new(threads()))))
            .clone();
        let plan = |gemm: &Gemm| Ok(gemm.plan(mode)?.par(par.clone()));
        let x = MatRef::row_major(&operands.x, operands.x.len() / operands.k, operands.k)?;
        let input = match mode {
            Mode::Exact => Input::F16(Mat::from_fn(x.rows(), x.cols(), |m, k| f16::from_f32(x.row(m)[k]))),
            _ => Input::F32(Mat::from_fn(x.rows(), x.cols(), |m, k| x.row(m)[k])),
        };
        Ok(Box::new(Run {
            plans: weights.gemms.iter().map(plan).collect::<Result<_>>()?,
            bits: weights.bits,
            input,
            n: operands.n,
            output: Vec::new(),
            workspace: Workspace::new(),
        }))
    }
}

/// The copies of one scheme.
struct Weights {
    gemms: Vec<Gemm>,
    bits: f64,
}

impl Weights {
    fn new(scheme: Scheme, operands: &Operands, bytes: usize) -> Result<Self> {
        let Operands { n, k, .. } = *operands;
        let w = QuantMatrix::quantize(MatRef::row_major(&operands.w, n, k)?, scheme)?;
        let (bits, host) = (w.bits_per_weight(), Host::new());
        let count = operands::count(n, k, bits, bytes);
        let Floats::F16(scales) = w.scales() else {
            anyhow::bail!("scales: expected f16, found {:?}", w.scales().scale_type())
        };
        let zeros: Box<dyn Iterator<Item = Zeros>> = match w.zeros() {
            Zeros::Integer(z) => Box::new(operands::copies(z, n, count).map(Zeros::Integer)),
            _ => Box::new(std::iter::repeat_n(Zeros::Symmetric, count)),
        };
        let codes = operands::copies(w.codes(), n, count);
        let parts = codes.zip(operands::copies(scales, n, count)).zip(zeros);
        let gemm = |((codes, scales), zeros)| -> Result<Gemm> {
            let w = QuantMatrix::from_parts(scheme, n, k, codes, Floats::F16(scales), zeros)?;
            Ok(host.prepare(&w)?)
        };
        Ok(Self {
            gemms: parts.map(gemm).collect::<Result<_>>()?,
            bits,
        })
    }
}

/// Activations in the element type that a mode takes.
enum Input {
    F32(Mat<f32>),
    F16(Mat<f16>),
}

struct Run {
    plans: Vec<Plan>,
    bits: f64,
    input: Input,
    n: usize,
    output: Vec<f32>,
    workspace: Workspace,
}

impl Product for Run {
    fn copies(&self) -> usize {
        self.plans.len()
    }

    fn bits(&self) -> f64 {
        self.bits
    }

    fn run(&mut self, m: usize, copy: usize) -> Result<()> {
        let x: Activations<'_> = match &self.input {
            Input::F32(x) => x.view().into(),
            Input::F16(x) => x.view().into(),
        };
        self.output.resize(m * self.n, 0.0);
        let y = MatMut::row_major(&mut self.output, m, self.n)?;
        self.plans[copy].run(&mut self.workspace, x.sub_rows(0, m)?, &Epilogue::new(), y.into())?;
        Ok(())
    }

    fn output(&mut self) -> Result<Vec<f32>> {
        Ok(self.output.clone())
    }
}
