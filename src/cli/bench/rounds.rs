//! Rounds: every row in turn, forwards and backwards, each beside the roofs of the same moment.
#![forbid(unsafe_code)]

use super::pattern::Patterns;
use super::workload::{Copies, Input, is_decode};
use crate::cli::arguments;
use crate::cli::measure;
use mixgemm::simd::roof::{self, DramRoof};
use mixgemm::{Epilogue, Isa, Mat, Mode, Scheme, Workspace};
use rayon::ThreadPool;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::Duration;

/// One product to be timed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Case {
    pub(super) n: usize,
    pub(super) k: usize,
    pub(super) m: usize,
    pub(super) scheme: Scheme,
    pub(super) mode: Mode,
    pub(super) threads: NonZeroUsize,
    /// Index of its layer.
    pub(super) layer: usize,
}

/// A row: its case, operands and samples.
pub(super) struct Row {
    pub(super) case: Case,
    /// Index of its weights.
    pub(super) weights: usize,
    pub(super) input: Input,
    pub(super) output: Mat<f32>,
    pub(super) kernel: &'static str,
    pub(super) samples: Vec<Sample>,
}

/// What one round found for one row, in seconds, operations a second and bytes a second.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    pub(super) seconds: f64,
    pub(super) integer_peak: f64,
    pub(super) f32_peak: f64,
    pub(super) dram: f64,
}

/// Length of a peak loop.
const PEAK: Duration = Duration::from_millis(12);

/// Length of a slice of calls.
const SLICE: Duration = Duration::from_millis(50);

/// The thread pools and roofs that the rows share.
pub(super) struct Bench<'a> {
    isa: Isa,
    dram: DramRoof<'a>,
    pools: BTreeMap<NonZeroUsize, ThreadPool>,
    patterns: Patterns,
    workspace: Workspace,
}

impl<'a> Bench<'a> {
    pub(super) fn new(
        isa: Isa,
        dram: DramRoof<'a>,
        threads: &[NonZeroUsize],
        patterns: Patterns,
    ) -> anyhow::Result<Self> {
        let mut pools = BTreeMap::new();
        for &threads in threads {
            pools.insert(threads, arguments::pool(threads)?);
        }
        Ok(Self {
            isa,
            dram,
            pools,
            patterns,
            workspace: Workspace::new(),
        })
    }

    /// Multiplies once by the first and the last copy that the row will use and compares with the reference.
    pub(super) fn check(&mut self, row: &mut Row, copies: &Copies) -> anyhow::Result<()> {
        let case = row.case;
        let last = if is_decode(case.m) { copies.all.len() - 1 } else { 0 };
        let plans = copies.plans(&case, &self.patterns)?;
        for which in [0, last] {
            let device = &copies.all[which];
            // Emulation is slow, and its rows do not depend on each other.
            let m = if device.emulated { 1 } else { case.m };
            let x = row.input.view().sub_rows(0, m)?;
            let mut y = Mat::<f32>::zeros(m, case.n);
            let workspace = &mut self.workspace;
            let call = || plans[which].run(workspace, x, &Epilogue::new(), y.view_mut());
            row.kernel = on(&self.pools, case.threads, device.emulated, call)?.kernel;
            copies.check(which, case.scheme, x, case.mode, &y)?;
        }
        Ok(())
    }

    /// Samples the roofs and then the row.
    pub(super) fn sample(&mut self, row: &mut Row, copies: &mut Copies) -> mixgemm::Result<()> {
        let (case, emulated) = (row.case, copies.all[0].emulated);
        let (plans, mut which) = (copies.plans(&case, &self.patterns)?, copies.last);
        let dram = self.dram.sample(case.threads.get());
        let integer_peak = roof::integer_peak(self.isa, case.threads.get(), PEAK);
        let f32_peak = roof::f32_peak(self.isa, case.threads.get(), PEAK);
        let workspace = &mut self.workspace;
        let seconds = on(&self.pools, case.threads, emulated, || {
            // The first call of a slice is not counted: the roofs have just emptied the caches and left threads asleep.
            measure::slice(if emulated { Duration::ZERO } else { SLICE }, || {
                which = if is_decode(case.m) { copies.after(which) } else { 0 };
                let (x, y) = (row.input.view(), row.output.view_mut());
                let call = || plans[which].run(workspace, x, &Epilogue::new(), y);
                let (report, seconds) = measure::timed(call);
                report.map(|_| seconds)
            })
        })?;
        if is_decode(case.m) {
            copies.last = which;
        }
        row.samples.push(Sample {
            seconds,
            integer_peak,
            f32_peak,
            dram,
        });
        Ok(())
    }
}

/// Runs `work` where calls with this many threads belong: in their pool, or on this thread where the host needs one.
fn on<R: Send>(
    pools: &BTreeMap<NonZeroUsize, ThreadPool>,
    threads: NonZeroUsize,
    emulated: bool,
    work: impl FnOnce() -> R + Send,
) -> R {
    match pools.get(&threads) {
        Some(pool) if threads.get() > 1 || emulated => pool.install(work),
        _ => work(),
    }
}
