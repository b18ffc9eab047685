//! The roofs of this machine: medians of a few samples.
#![forbid(unsafe_code)]

use crate::cli::machine::Machine;
use crate::cli::measure::median;
use mixgemm::Isa;
use mixgemm::base::buffer::AlignedBuf;
use mixgemm::simd::roof::{self, DramRoof};
use serde::Serialize;
use std::time::Duration;

/// The peaks of a tier.
#[derive(Debug, Serialize)]
pub(super) struct Peak {
    pub(super) isa: &'static str,
    pub(super) threads: usize,
    pub(super) integer_gops: f64,
    pub(super) f32_gflops: f64,
}

/// The rate at which memory is read.
#[derive(Debug, Serialize)]
pub(super) struct Dram {
    pub(super) threads: usize,
    pub(super) gbps: f64,
}

/// All roofs, on one thread and on all.
#[derive(Debug, Serialize)]
pub(super) struct Roofs {
    pub(super) peaks: Vec<Peak>,
    pub(super) dram: Vec<Dram>,
}

const SAMPLES: usize = 5;

const PEAK: Duration = Duration::from_millis(12);

/// Bytes that are read from memory: far beyond caches, unless memory is small.
const BUFFER: u64 = 1 << 30;

pub(super) fn measure(machine: &Machine) -> anyhow::Result<Roofs> {
    let mut threads = vec![1, machine.threads];
    threads.dedup();
    let median_of = |sample: &mut dyn FnMut() -> f64| median((0..SAMPLES).map(|_| sample() / 1e9).collect());
    let mut peaks = Vec::new();
    for isa in Isa::ALL.into_iter().filter(|isa| isa.supported()) {
        peaks.extend(threads.iter().map(|&threads| Peak {
            isa: isa.name(),
            threads,
            integer_gops: median_of(&mut || roof::integer_peak(isa, threads, PEAK)),
            f32_gflops: median_of(&mut || roof::f32_peak(isa, threads, PEAK)),
        }));
    }
    let bytes = BUFFER.min(machine.memory.unwrap_or(BUFFER) / 8);
    let mut buffer = AlignedBuf::zeroed(usize::try_from(bytes)?)?;
    let mut roof = DramRoof::new(&mut buffer);
    let rate = |threads| Dram {
        threads,
        gbps: median_of(&mut || roof.sample(threads)),
    };
    Ok(Roofs {
        peaks,
        dram: threads.iter().copied().map(rate).collect(),
    })
}
