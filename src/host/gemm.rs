//! Weights packed for this CPU, and plans over them.
#![forbid(unsafe_code)]

use crate::backend::{Counters, GroupSums, Report, WeightShape};
use crate::base::error::Result;
use crate::base::float::check_environment;
use crate::base::parallel::Par;
use crate::base::view::MatMut;
use crate::epilogue::{Epilogue, Output};
use crate::host::explain::{Choice, Explanation, Facts};
use crate::host::walk::{Finish, Job, Part, group_sums, pack, walk};
use crate::host::workspace::{Workspace, Workspaces};
use crate::kernel::Kernel;
use crate::kernel::select::{Selection, choose, select};
#[cfg(feature = "pack-file")]
use crate::pack::file::PackFile;
use crate::pack::weights::PackedWeights;
use crate::quant::input::{Activations, Mode};
use crate::quant::rest::Rest;
use crate::simd::cpu::{self, Isa};
use alloc::sync::Arc;

/// Weights packed for a host. Made by [`Host::prepare`](crate::Host::prepare).
///
/// Clones and [plans](Gemm::plan) share the packed bytes, which live as long as any of them.
#[derive(Debug, Clone)]
pub struct Gemm {
    pub(super) weights: Arc<PackedWeights>,
    pub(super) isa: Isa,
    pub(super) choice: Choice,
    pub(super) par: Par,
    pub(super) workspaces: Workspaces,
}

impl Gemm {
    /// `Y = X · Wᵀ`: x is M × K, y is M × N.
    ///
    /// Borrows one of the host's [workspaces](Gemm::workspaces); [`Gemm::run_with`] takes the caller's.
    ///
    /// # Errors
    /// As [`Backend::run`](crate::Backend::run).
    pub fn run<'a>(&self, x: impl Into<Activations<'a>>, mode: Mode, y: impl Into<Output<'a>>) -> Result<Report> {
        self.workspaces
            .with(|workspace| self.run_with(workspace, x, mode, &Epilogue::new(), y))
    }

    /// `Y = epilogue(X · Wᵀ)` in the caller's workspace.
    ///
    /// # Errors
    /// As [`Backend::run`](crate::Backend::run).
    pub fn run_with<'a>(
        &self,
        workspace: &mut Workspace,
        x: impl Into<Activations<'a>>,
        mode: Mode,
        epilogue: &Epilogue<'_>,
        y: impl Into<Output<'a>>,
    ) -> Result<Report> {
        self.plan(mode)?.run(workspace, x.into(), epilogue, y.into())
    }

    /// Chooses the kernels for a mode once; the plan serves every M and shares the weights. Nothing is allocated.
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) when the tier has no kernels for these weights.
    pub fn plan(&self, mode: Mode) -> Result<Plan> {
        let selection = select(self.isa, self.weights.layout().panel, mode)?;
        Ok(Plan {
            weights: self.weights.clone(),
            selection,
            isa: self.isa,
            choice: self.choice,
            par: self.par.clone(),
            mode,
        })
    }

    /// Writes the packed weights into a file for [`Host::load`](crate::Host::load).
    ///
    /// # Errors
    /// As [`PackedWeights::save`].
    #[cfg(feature = "pack-file")]
    pub fn save(&self, to: &PackFile) -> Result<()> {
        self.weights.save(to)
    }

    /// Shape and scheme of the weights.
    #[must_use]
    pub fn shape(&self) -> WeightShape {
        shape(&self.weights)
    }

    /// The workspaces of the host that prepared these weights.
    #[must_use]
    pub fn workspaces(&self) -> &Workspaces {
        &self.workspaces
    }

    /// The packed weights.
    #[must_use]
    pub fn weights(&self) -> &PackedWeights {
        &self.weights
    }

    /// Bytes of the packed weights, padding included.
    #[must_use]
    pub fn packed_bytes(&self) -> usize {
        self.weights.bytes()
    }

    /// Packed bits per weight, padding included.
    #[must_use]
    pub fn bits_per_weight(&self) -> f64 {
        self.weights.bits_per_weight()
    }
}

/// The shape and scheme of packed weights.
fn shape(weights: &PackedWeights) -> WeightShape {
    WeightShape {
        n: weights.n(),
        k: weights.k(),
        groups: weights.layout().groups,
        group: weights.group(),
        scheme: *weights.scheme(),
    }
}

/// A mode, its kernels, a tier and who does the work: decided once, run often.
///
/// A plan shares the weights of the [`Gemm`] that made it and borrows nothing, so a layer of a model owns its plan:
///
/// ```
/// use mixgemm::{Epilogue, Host, Isa, Mat, Mode, Par, Plan, QuantMatrix, Scheme, Workspace};
/// let w = QuantMatrix::quantize(Mat::from_fn(64, 32, |n, k| (n * k % 7) as f32 - 3.0).view(), Scheme::int(4))?;
/// struct Layer {
///     plan: Plan,
/// }
/// let layer = Layer { plan: Host::new().prepare(&w)?.plan(Mode::A8)? };
/// let portable = layer.plan.clone().par(Par::Seq).isa(Isa::Scalar)?;
/// let mut workspace = Workspace::new();
/// let x = Mat::from_fn(3, 32, |m, k| (m + k) as f32);
/// let (mut y, mut z) = (Mat::<f32>::zeros(3, 64), Mat::<f32>::zeros(3, 64));
/// layer.plan.run(&mut workspace, x.view().into(), &Epilogue::new(), y.view_mut().into())?;
/// portable.run(&mut workspace, x.view().into(), &Epilogue::new(), z.view_mut().into())?;
/// assert_eq!(y, z); // the same bits
/// # Ok::<(), mixgemm::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Plan {
    weights: Arc<PackedWeights>,
    selection: Selection,
    isa: Isa,
    choice: Choice,
    pub(super) par: Par,
    mode: Mode,
}

impl Plan {
    /// Another tier for this plan.
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) when this CPU lacks the tier or it reads another layout.
    pub fn isa(self, isa: Isa) -> Result<Self> {
        Ok(Self {
            selection: select(isa, self.weights.layout().panel, self.mode)?,
            isa,
            choice: Choice::Asked,
            ..self
        })
    }

    /// Prefers some kernels to others, for measurements. Others are taken only where no preferred one fits: for rows
    /// that are left below the lowest preferred tile, and for slice counts that no preferred kernel has. Kernels that
    /// this CPU [cannot run](Kernel::supported) are never taken.
    #[must_use]
    pub fn prefer(mut self, kernels: impl Fn(&'static Kernel) -> bool) -> Self {
        let kernels = |kernel: &'static Kernel| kernel.supported() && kernels(kernel);
        let chosen = choose(self.isa, self.weights.layout().panel, self.mode, kernels);
        self.selection = chosen.unwrap_or(self.selection);
        self
    }

    /// Someone else to do the work.
    #[must_use]
    pub fn par(self, par: Par) -> Self {
        Self { par, ..self }
    }

    /// The kernel that most of the work of an M-row product is done by; any when M = 0.
    #[must_use]
    pub fn kernel(&self, m: usize) -> &'static str {
        self.selection
            .kernel(self.selection.height(m), self.selection.usual())
            .name()
    }

    /// What a product with `m` rows does, and why.
    #[must_use]
    pub fn explain(&self, m: usize) -> Explanation {
        let facts = Facts {
            weights: &self.weights,
            selection: &self.selection,
            isa: self.isa,
            choice: self.choice,
            mode: self.mode,
            threads: self.par.threads(),
        };
        Explanation::new(&facts, m)
    }

    fn job<'a>(&'a self, x: Activations<'a>) -> Result<Job<'a>> {
        check_environment()?;
        x.check(self.mode, self.weights.k(), self.weights.scheme())?;
        Ok(Job {
            weights: &self.weights,
            selection: &self.selection,
            isa: self.isa,
            ahead: cpu::read_ahead(),
            x,
            mode: self.mode,
            rest: None,
            sums: false,
        })
    }

    pub(super) fn report(&self, x: Activations<'_>) -> Report {
        let (m, k) = x.shape();
        let macs = m as u64 * k as u64 * self.weights.n() as u64;
        Report {
            kernel: self.kernel(m),
            counters: Counters {
                macs,
                ..Counters::default()
            },
        }
    }

    /// `Y = epilogue(X · Wᵀ)`.
    ///
    /// # Errors
    /// As [`Backend::run`](crate::Backend::run).
    pub fn run(
        &self,
        workspace: &mut Workspace,
        x: Activations<'_>,
        epilogue: &Epilogue<'_>,
        y: Output<'_>,
    ) -> Result<Report> {
        let team = self.par.team();
        walk(&[self.part(x, epilogue, y, team.threads())?], workspace, team)?;
        Ok(self.report(x))
    }

    /// The product that [`Plan::run`] walks.
    pub(super) fn part<'a>(
        &'a self,
        x: Activations<'a>,
        epilogue: &'a Epilogue<'_>,
        y: Output<'a>,
        threads: usize,
    ) -> Result<Option<Part<'a>>> {
        let (job, m) = (self.job(x)?, x.shape().0);
        epilogue.check(m, self.weights.n())?;
        y.check(m, self.weights.n())?;
        Ok(Part::new(job, Finish::Epilogue(epilogue), y, threads))
    }

    /// Continues the fold from `y`, without the epilogue; see [`Backend::accumulate`](crate::Backend::accumulate).
    ///
    /// # Errors
    /// As there.
    pub fn accumulate(&self, workspace: &mut Workspace, x: Activations<'_>, mut y: MatMut<'_, f32>) -> Result<Report> {
        let job = self.job(x)?;
        Output::F32(y.reborrow()).check(x.shape().0, self.weights.n())?;
        let team = self.par.team();
        let part = Part::new(job, Finish::Continue, Output::F32(y), team.threads());
        walk(&[part], workspace, team)?;
        Ok(self.report(x))
    }

    /// As [`Plan::run`], or as [`Plan::accumulate`] into an f32 output where there is no epilogue, with integers of the
    /// caller's added to the groups' sums; see [`Backend::run_rest`](crate::Backend::run_rest).
    ///
    /// # Errors
    /// As there.
    pub fn run_rest(
        &self,
        workspace: &mut Workspace,
        x: Activations<'_>,
        rest: &Rest<'_>,
        epilogue: Option<&Epilogue<'_>>,
        mut y: Output<'_>,
    ) -> Result<Report> {
        let (mut job, m, team) = (self.job(x)?, x.shape().0, self.par.team());
        rest.check(m, &self.shape(), self.mode)?;
        epilogue.map_or(Ok(()), |epilogue| epilogue.check(m, self.weights.n()))?;
        y.check(m, self.weights.n())?;
        if epilogue.is_none() {
            y.to_continue()?;
        }
        job.rest = Some(rest);
        let finish = epilogue.map_or(Finish::Continue, Finish::Epilogue);
        walk(&[Part::new(job, finish, y, team.threads())], workspace, team)?;
        Ok(self.report(x))
    }

    /// The shape and scheme of the weights.
    fn shape(&self) -> WeightShape {
        shape(&self.weights)
    }

    /// The exact integers of every (row, group, column); see [`Backend::group_sums`](crate::Backend::group_sums).
    ///
    /// # Errors
    /// As there.
    pub fn group_sums(&self, workspace: &mut Workspace, x: Activations<'_>, sums: GroupSums<'_>) -> Result<Report> {
        let job = Job {
            sums: true,
            ..self.job(x)?
        };
        sums.check(x.shape().0, &self.shape(), self.mode)?;
        if x.shape().0 == 0 || self.weights.n() == 0 {
            return Ok(self.report(x));
        }
        pack(core::iter::once(&job), workspace, self.par.team())?;
        match sums {
            GroupSums::I32(sums) => group_sums(&job, workspace, sums),
            GroupSums::I64(sums) => group_sums(&job, workspace, sums),
        }
        Ok(self.report(x))
    }
}
