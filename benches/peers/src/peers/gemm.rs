//! The crate `gemm`: f32, weights as they are.

use super::{Peer, Product, locked, variant};
use crate::operands::{self, Operands};
use crate::protocol::Variant;
use anyhow::Result;
use gemm::Parallelism;

pub(super) struct Gemm {
    pub(super) threads: usize,
}

impl Peer for Gemm {
    fn version(&self) -> String {
        locked("gemm")
    }

    fn variants(&self) -> Vec<Variant> {
        vec![variant("f32", 1e-4, "w4 g128 asym a16")]
    }

    fn prepare(&mut self, _variant: &str, operands: &Operands, bytes: usize) -> Result<Box<dyn Product>> {
        let Operands { n, k, ref w, ref x } = *operands;
        Ok(Box::new(Run {
            copies: operands::copies(w, n, operands::count(n, k, 32.0, bytes)).collect(),
            x: x.clone(),
            y: Vec::new(),
            n,
            k,
            threads: match self.threads {
                1 => Parallelism::None,
                threads => Parallelism::Rayon(threads),
            },
        }))
    }
}

struct Run {
    copies: Vec<Vec<f32>>,
    x: Vec<f32>,
    y: Vec<f32>,
    n: usize,
    k: usize,
    threads: Parallelism,
}

impl Product for Run {
    fn copies(&self) -> usize {
        self.copies.len()
    }

    fn bits(&self) -> f64 {
        32.0
    }

    fn run(&mut self, m: usize, copy: usize) -> Result<()> {
        let (n, k, w) = (self.n, self.k, &self.copies[copy]);
        self.y.resize(m * n, 0.0);
        assert!(self.x.len() >= m * k && w.len() == n * k);
        let (y, x, w, width) = (self.y.as_mut_ptr(), self.x.as_ptr(), w.as_ptr(), k as isize);
        let (alpha, beta, plain) = (0.0, 1.0, false); // y = 0 · y + 1 · x · w, nothing conjugated
        // SAFETY: the pointers must be valid for m × n, m × k and k × n elements at these strides (of columns, then of
        // rows), y for writing and by nobody else. The assertion and `resize` make them as long; y is borrowed mutably.
        // The check of every product against the reference would find elements left out.
        unsafe {
            gemm::gemm(
                m,
                n,
                k,
                y,
                1,
                n as isize,
                false,
                x,
                1,
                width,
                w,
                width,
                1,
                alpha,
                beta,
                plain,
                plain,
                plain,
                self.threads,
            );
        }
        Ok(())
    }

    fn output(&mut self) -> Result<Vec<f32>> {
        Ok(self.y.clone())
    }
}
