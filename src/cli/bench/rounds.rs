//! Rounds: every row in turn, forwards and backwards, each beside the roofs of the same moment.
#![forbid(unsafe_code)]

use super::pattern::Patterns;
use super::workload::{Copies, Input, is_decode};
use crate::cli::arguments::{self, PoolName};
use crate::cli::device;
use crate::cli::measure;
use mixgemm::simd::roof::{self, DramRoof};
use mixgemm::{Epilogue, Isa, Mat, Mode, Par, Scheme, Threads, Workspace};
use rayon::ThreadPool;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
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

/// So many threads: who works on the host, and where calls are made.
struct Crew {
    par: Par,
    /// For emulated devices, and for the host where it works on rayon's threads.
    rayon: ThreadPool,
}

/// The thread pools and roofs that the rows share.
pub(super) struct Bench<'a> {
    isa: Isa,
    dram: DramRoof<'a>,
    crews: BTreeMap<NonZeroUsize, Crew>,
    patterns: Patterns,
    workspace: Workspace,
}

impl<'a> Bench<'a> {
    pub(super) fn new(
        isa: Isa,
        dram: DramRoof<'a>,
        (threads, pool): (&[NonZeroUsize], PoolName),
        patterns: Patterns,
    ) -> anyhow::Result<Self> {
        let mut crews = BTreeMap::new();
        for &threads in threads {
            let par = match pool {
                PoolName::Own if threads.get() > 1 => Par::Pool(Arc::new(Threads::new(threads))),
                _ => device::rayon(threads),
            };
            let rayon = arguments::pool(threads)?;
            crews.insert(threads, Crew { par, rayon });
        }
        Ok(Self {
            isa,
            dram,
            crews,
            patterns,
            workspace: Workspace::new(),
        })
    }

    /// Multiplies once by the first and the last copy that the row will use and compares with the reference.
    pub(super) fn check(&mut self, row: &mut Row, copies: &Copies) -> anyhow::Result<()> {
        let case = row.case;
        let last = if is_decode(case.m) { copies.all.len() - 1 } else { 0 };
        let crew = &self.crews[&case.threads];
        let plans = copies.plans(&case, &crew.par, &self.patterns)?;
        for which in [0, last] {
            let device = &copies.all[which];
            // Emulation is slow, and its rows do not depend on each other.
            let m = if device.emulated { 1 } else { case.m };
            let x = row.input.view().sub_rows(0, m)?;
            let mut y = Mat::<f32>::zeros(m, case.n);
            let workspace = &mut self.workspace;
            let call = || plans[which].run(workspace, x, &Epilogue::new(), y.view_mut());
            row.kernel = crew.call(device.emulated, call)?.kernel;
            copies.check(which, case.scheme, x, case.mode, &y)?;
        }
        Ok(())
    }

    /// Samples the roofs and then the row.
    pub(super) fn sample(&mut self, row: &mut Row, copies: &mut Copies) -> mixgemm::Result<()> {
        let (case, emulated) = (row.case, copies.all[0].emulated);
        let crew = &self.crews[&case.threads];
        let (plans, mut which) = (copies.plans(&case, &crew.par, &self.patterns)?, copies.last);
        let dram = self.dram.sample(case.threads.get());
        let integer_peak = roof::integer_peak(self.isa, case.threads.get(), PEAK);
        let f32_peak = roof::f32_peak(self.isa, case.threads.get(), PEAK);
        let workspace = &mut self.workspace;
        let seconds = crew.call(emulated, || {
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

impl Crew {
    /// Runs `work` where calls belong: in rayon's pool, or on this thread where the host needs none.
    fn call<R: Send>(&self, emulated: bool, work: impl FnOnce() -> R + Send) -> R {
        match self.par {
            Par::Rayon(_) => self.rayon.install(work),
            _ if emulated => self.rayon.install(work),
            _ => work(),
        }
    }
}
