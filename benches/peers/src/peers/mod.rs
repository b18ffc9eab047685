//! The peers that are Rust or link with it, a file each, behind one trait.

mod candle;
mod gemm;
#[cfg(feature = "ggml")]
mod ggml;
mod mixgemm;
mod rten;

use crate::operands::Operands;
use crate::protocol::Variant;
use anyhow::{Result, bail};

/// A library of matrix products.
pub(crate) trait Peer {
    /// Its version.
    fn version(&self) -> String;

    /// The formats that are timed.
    fn variants(&self) -> Vec<Variant>;

    /// Quantises the weights and puts copies of them in place that together exceed `bytes`.
    fn prepare(&mut self, variant: &str, operands: &Operands, bytes: usize) -> Result<Box<dyn Product>>;
}

/// Weights in place, in copies that differ, and the activations.
pub(crate) trait Product {
    /// How many copies there are.
    fn copies(&self) -> usize;

    /// Stored bits a weight: codes, scales and zero points, without padding.
    fn bits(&self) -> f64;

    /// Multiplies the first `m` rows of activations by a copy. This is what is timed.
    fn run(&mut self, m: usize, copy: usize) -> Result<()>;

    /// What the last call found, M × N.
    fn output(&mut self) -> Result<Vec<f32>>;
}

/// The names of all, in the order in which they are measured.
pub(crate) const NAMES: [&str; 5] = ["mixgemm", "ggml", "candle", "rten", "gemm"];

/// The worker that is no peer.
pub(crate) const ROOFS: &str = "roofs";

/// A peer by its name. The error says how to install one that is not compiled in.
pub(crate) fn find(name: &str, threads: usize) -> Result<Box<dyn Peer>> {
    Ok(match name {
        "mixgemm" => Box::new(mixgemm::MixGemm::default()),
        "candle" => Box::new(candle::Candle),
        "rten" => Box::new(rten::Rten),
        "gemm" => Box::new(gemm::Gemm { threads }),
        #[cfg(feature = "ggml")]
        "ggml" => Box::new(ggml::Ggml::new(threads)?),
        #[cfg(not(feature = "ggml"))]
        "ggml" => bail!("build with `--features ggml` (needs cmake, a C++ compiler and libclang)"),
        _ => bail!("peer: expected one of {}, found {name}", NAMES.join(", ")),
    })
}

/// A table row of variants.
fn variant(name: &str, tolerance: f64, rival: &str) -> Variant {
    Variant {
        name: name.into(),
        tolerance,
        rival: rival.into(),
    }
}

/// The version of a package in this package's `Cargo.lock`.
fn locked(package: &str) -> String {
    let lock = include_str!("../../Cargo.lock");
    let versions = |lock: &'static str| {
        lock.split("[[package]]").filter_map(|entry| {
            let value = |key| {
                entry
                    .lines()
                    .find_map(|line| line.strip_prefix(key)?.trim_matches('"').into())
            };
            (value("name = \"")? == package)
                .then(|| value("version = \""))
                .flatten()
        })
    };
    versions(lock).last().unwrap_or("unknown").into()
}
