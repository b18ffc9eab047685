//! Rounds: every row in turn, forwards and backwards, each beside the roofs of the same moment.
#![forbid(unsafe_code)]

use super::pattern::Patterns;
use super::workload::{Copies, Input, is_decode};
use crate::cli::arguments::{self, PoolName};
use crate::cli::device::{self, Planned};
use crate::cli::measure;
use mixgemm::simd::roof::{self, DramRoof};
use mixgemm::{Activations, Epilogue, Isa, Mat, Mode, Par, Plan, Product, Scheme, Threads, Workspace};
use rayon::ThreadPool;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

/// How the products of a case are multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// One product.
    Alone,
    /// Several products on one input, as one piece of work.
    Together,
    /// The same products one after the other.
    InTurn,
}

impl Way {
    /// What it is called beside others.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Alone => "alone",
            Self::Together => "together",
            Self::InTurn => "in turn",
        }
    }
}

/// One product to be timed, or several on the same input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Case {
    /// Outputs of all products.
    pub(super) n: usize,
    pub(super) k: usize,
    pub(super) m: usize,
    pub(super) scheme: Scheme,
    pub(super) mode: Mode,
    pub(super) threads: NonZeroUsize,
    /// Index of its layer.
    pub(super) layer: usize,
    pub(super) way: Way,
}

/// A row: its case, operands and samples.
pub(super) struct Row {
    pub(super) case: Case,
    /// Index of the weights of each product.
    pub(super) weights: Vec<usize>,
    pub(super) input: Input,
    /// Of each product.
    pub(super) outputs: Vec<Mat<f32>>,
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

    /// Multiplies once by the first and the last copies that the row will use and compares with the reference.
    pub(super) fn check(&mut self, row: &mut Row, copies: &[Copies]) -> anyhow::Result<()> {
        let (case, emulated) = (row.case, copies[row.weights[0]].all[0].emulated);
        let crew = &self.crews[&case.threads];
        let plans = row.plans(copies, &crew.par, &self.patterns)?;
        let first = row.first_copies();
        let last = first
            .iter()
            .zip(&row.weights)
            .map(|(first, &weights)| match is_decode(case.m) {
                true => copies[weights].all.len() - 1 - first,
                false => *first,
            });
        for which in [first.clone(), last.collect()] {
            // Emulation is slow, and its rows do not depend on each other.
            let m = if emulated { 1 } else { case.m };
            let x = row.input.view().sub_rows(0, m)?;
            let mut outputs: Vec<_> = row.outputs.iter().map(|y| Mat::zeros(m, y.cols())).collect();
            let plans: Vec<_> = plans.iter().zip(&which).map(|(plans, &which)| &plans[which]).collect();
            let workspace = &mut self.workspace;
            let call = || multiply(case.way, &plans, workspace, x, &mut outputs);
            row.kernel = crew.call(emulated, call)?.0;
            for ((y, &weights), which) in outputs.iter().zip(&row.weights).zip(which) {
                copies[weights].check(which, case.scheme, x, case.mode, y)?;
            }
        }
        Ok(())
    }

    /// Samples the roofs and then the row.
    pub(super) fn sample(&mut self, row: &mut Row, copies: &mut [Copies]) -> mixgemm::Result<()> {
        let (case, emulated) = (row.case, copies[row.weights[0]].all[0].emulated);
        let crew = &self.crews[&case.threads];
        let plans = row.plans(copies, &crew.par, &self.patterns)?;
        let (mut which, mut lasts) = (row.first_copies(), copies.iter().map(|c| c.last).collect::<Vec<_>>());
        let dram = self.dram.sample(case.threads.get());
        let integer_peak = roof::integer_peak(self.isa, case.threads.get(), PEAK);
        let f32_peak = roof::f32_peak(self.isa, case.threads.get(), PEAK);
        let (workspace, all) = (&mut self.workspace, &*copies);
        let (x, weights, outputs) = (row.input.view(), &row.weights, &mut row.outputs);
        let seconds = crew.call(emulated, || {
            // The first call of a slice is not counted: the roofs have just emptied the caches and left threads asleep.
            measure::slice(if emulated { Duration::ZERO } else { SLICE }, || {
                if is_decode(case.m) {
                    for (which, &weights) in which.iter_mut().zip(weights) {
                        lasts[weights] = all[weights].after(lasts[weights]);
                        *which = lasts[weights];
                    }
                }
                let plans: Vec<_> = plans.iter().zip(&which).map(|(plans, &which)| &plans[which]).collect();
                multiply(case.way, &plans, workspace, x, outputs).map(|(_, seconds)| seconds)
            })
        })?;
        drop(plans);
        for (copies, last) in copies.iter_mut().zip(lasts) {
            copies.last = last;
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

impl Row {
    /// Plans of each product for all its copies.
    fn plans<'a>(
        &self,
        copies: &'a [Copies],
        par: &Par,
        patterns: &Patterns,
    ) -> mixgemm::Result<Vec<Vec<Planned<'a>>>> {
        let plans = self.weights.iter().map(|&w| copies[w].plans(&self.case, par, patterns));
        plans.collect()
    }

    /// The copy of each product where copies do not rotate: different ones of the same weights.
    fn first_copies(&self) -> Vec<usize> {
        let before = |i: usize| self.weights[..i].iter().filter(|w| **w == self.weights[i]).count();
        (0..self.weights.len()).map(before).collect()
    }

    /// The copies that [`Bench::sample`] multiplied by last.
    #[cfg(test)]
    pub(super) fn last_copies(&self, copies: &[Copies]) -> Vec<usize> {
        let first = self.first_copies();
        if !is_decode(self.case.m) {
            return first;
        }
        let after = |i: usize| self.weights[i..].iter().filter(|w| **w == self.weights[i]).count() - 1;
        let last = |(i, &w): (usize, &usize)| {
            let all = copies[w].all.len();
            (copies[w].last + all - after(i) % all) % all
        };
        self.weights.iter().enumerate().map(last).collect()
    }
}

/// The kernel of the product with the most outputs, and the seconds of all products.
fn multiply(
    way: Way,
    plans: &[&Planned<'_>],
    workspace: &mut Workspace,
    x: Activations<'_>,
    outputs: &mut [Mat<f32>],
) -> mixgemm::Result<(&'static str, f64)> {
    if way == Way::Together {
        let products = plans
            .iter()
            .zip(outputs)
            .filter_map(|(planned, y)| planned.product(y.view_mut()));
        let mut products: Vec<Product<'_>> = products.collect();
        let (report, seconds) = measure::timed(|| Plan::run_all(workspace, x, &mut products));
        return report.map(|report| (report.kernel, seconds));
    }
    let (mut kernel, mut most) = ("", 0);
    let (result, seconds) = measure::timed(|| {
        for (planned, y) in plans.iter().zip(outputs) {
            let n = y.cols();
            let report = planned.run(workspace, x, &Epilogue::new(), y.view_mut())?;
            if kernel.is_empty() || n > most {
                (kernel, most) = (report.kernel, n);
            }
        }
        Ok(())
    });
    result.map(|()| (kernel, seconds))
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
