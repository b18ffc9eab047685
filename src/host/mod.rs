//! Floor 5: fast host execution: kernels chosen for this CPU, walked over panels and tiles, by one or many threads.
#![forbid(unsafe_code)]

pub mod explain;
pub mod gemm;
pub mod products;
mod rectangle;
mod rest;
mod tile;
mod walk;
pub mod width;
pub mod workspace;

use crate::backend::{Backend, Capabilities, GroupSums, Report, isa_from_environment};
use crate::base::buffer::Task;
use crate::base::error::{Error, Result};
use crate::base::parallel::Par;
use crate::base::view::MatMut;
use crate::epilogue::{Epilogue, Output};
use crate::host::explain::Choice;
use crate::host::gemm::Gemm;
use crate::host::workspace::Workspaces;
use crate::kernel::catalogue;
#[cfg(feature = "pack-file")]
use crate::pack::file::PackFile;
use crate::pack::layout::PanelLayout;
use crate::pack::weights::PackedWeights;
use crate::quant::input::{Activations, Mode};
use crate::quant::matrix::QuantMatrix;
use crate::quant::rest::Rest;
use crate::quant::scheme::Scheme;
use crate::simd::cpu::Isa;
use alloc::format;
use alloc::sync::Arc;

/// The backend that multiplies on this CPU.
///
/// ```
/// use mixgemm::{Host, Mat, MatRef, Mode, QuantMatrix, Scheme};
/// # let (n, k) = (48, 256);
/// # let weights: Vec<f32> = (0..n * k).map(|i| (i as f32 * 0.37).sin()).collect();
/// # let x = Mat::from_fn(2, k, |m, k| (m + k) as f32 * 0.01);
/// # let mut y = Mat::<f32>::zeros(2, n);
/// let w = QuantMatrix::quantize(MatRef::row_major(&weights, n, k)?, Scheme::int(4).group(128).asymmetric())?;
/// let gemm = Host::new().prepare(&w)?;                 // packs for this CPU
/// gemm.run(x.view(), Mode::A16, y.view_mut())?;        // Y = X · Wᵀ
/// # assert!(y.data().iter().any(|y| y.abs() > 0.1));
/// # Ok::<(), mixgemm::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Host {
    isa: Result<Isa>,
    choice: Choice,
    par: Par,
    workspaces: Workspaces,
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

impl Host {
    /// The fastest tier of this CPU that the environment variable `MIXGEMM_ISA` allows, on the calling thread. A
    /// variable that names no tier of this architecture is an error of [`Host::prepare`].
    #[must_use]
    pub fn new() -> Self {
        let isa = isa_from_environment();
        let fastest = isa.as_ref().is_ok_and(|&isa| isa == Isa::best(None));
        let choice = if fastest { Choice::Fastest } else { Choice::Capped };
        Self {
            isa,
            choice,
            par: Par::Seq,
            workspaces: Workspaces::default(),
        }
    }

    /// A tier of the caller's choice.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when this CPU does not have it.
    pub fn isa(self, isa: Isa) -> Result<Self> {
        if !isa.supported() {
            return Err(Error::unsupported("isa", "a tier of this CPU", isa.name()));
        }
        Ok(Self {
            isa: Ok(isa),
            choice: Choice::Asked,
            ..self
        })
    }

    /// Who does the work.
    #[must_use]
    pub fn par(self, par: Par) -> Self {
        Self { par, ..self }
    }

    /// Packs weights for this CPU, on the host's threads; they may be dropped afterwards.
    ///
    /// # Errors
    /// As [`Backend::prepare`].
    pub fn prepare(&self, weights: &QuantMatrix) -> Result<Gemm> {
        Backend::prepare(self, weights)
    }

    /// As [`Host::prepare`]. `progress` is told how many parts of the work are done, and how many there are: from 1 to
    /// all of them, in about this order, from any of the threads. Weights of no outputs or no inputs have no parts.
    ///
    /// ```
    /// use mixgemm::{Host, Mat, QuantMatrix, Scheme};
    /// let w = QuantMatrix::quantize(Mat::from_fn(300, 32, |n, k| (n * k % 7) as f32).view(), Scheme::int(4))?;
    /// Host::new().prepare_with(&w, &|done, all| eprintln!("{} %", 100 * done / all))?;
    /// # Ok::<(), mixgemm::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Backend::prepare`].
    pub fn prepare_with(&self, weights: &QuantMatrix, progress: &(dyn Fn(usize, usize) + Sync)) -> Result<Gemm> {
        let layout = self.layout(weights.scheme())?;
        self.pack(weights, layout, progress)
    }

    /// Packs weights in a layout of the caller's choice, for kernels other than this CPU's own.
    ///
    /// # Errors
    /// As [`PackedWeights::pack`].
    pub fn prepare_as(&self, weights: &QuantMatrix, layout: PanelLayout) -> Result<Gemm> {
        self.pack(weights, layout, &|_, _| {})
    }

    fn pack(
        &self,
        weights: &QuantMatrix,
        layout: PanelLayout,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Gemm> {
        self.isa.clone()?;
        let run = |tasks, task: &Task<'_>| self.par.team().run(tasks, task);
        self.gemm(PackedWeights::pack_on(weights, layout, &run, progress)?)
    }

    /// Packed weights with everything that this host adds to them.
    fn gemm(&self, weights: PackedWeights) -> Result<Gemm> {
        Ok(Gemm {
            weights: Arc::new(weights),
            isa: self.isa.clone()?,
            choice: self.choice,
            par: self.par.clone(),
            workspaces: self.workspaces.clone(),
        })
    }

    /// Weights from a file that [`Gemm::save`] wrote.
    ///
    /// # Errors
    /// As [`PackedWeights::load`]; [`Error::File`] for weights that this host's tier would have packed otherwise, which
    /// the file's first page says before its panels are read.
    #[cfg(feature = "pack-file")]
    pub fn load(&self, from: &PackFile) -> Result<Gemm> {
        let fits = |scheme: &Scheme, found: PanelLayout| {
            let own = self.layout(scheme)?;
            if own == found {
                return Ok(());
            }
            let expected = format!("weights packed for {} lanes", own.lanes);
            Err(Error::file(expected, format!("{} lanes", found.lanes)))
        };
        self.gemm(PackedWeights::load_where(from, &fits)?)
    }

    /// How this host packs codes of a scheme.
    fn layout(&self, scheme: &Scheme) -> Result<PanelLayout> {
        let isa = self.isa.clone()?;
        let expected = || format!("a width with kernels on {isa}");
        let layout = catalogue::layout(isa, scheme.bits, scheme.book.is_some());
        layout.ok_or_else(|| Error::unsupported("bits", expected(), format!("{}", scheme.bits)))
    }
}

impl Backend for Host {
    type Prepared = Gemm;

    fn name(&self) -> &'static str {
        "host"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            min_bits: 1,
            max_bits: 8,
            per_tensor: false,
            books: true,
            a8: true,
            a16: true,
            exact: true,
            native: false,
            group_sums: true,
            accumulate: true,
            static_shapes: false,
            emulated: false,
        }
    }

    fn prepare(&self, weights: &QuantMatrix) -> Result<Gemm> {
        self.prepare_with(weights, &|_, _| {})
    }

    fn run(&self, w: &Gemm, x: Activations<'_>, mode: Mode, e: &Epilogue<'_>, y: Output<'_>) -> Result<Report> {
        let plan = w.plan(mode)?.par(self.par.clone());
        self.workspaces.with(|workspace| plan.run(workspace, x, e, y))
    }

    fn accumulate(&self, w: &Gemm, x: Activations<'_>, mode: Mode, y: MatMut<'_, f32>) -> Result<Report> {
        let plan = w.plan(mode)?.par(self.par.clone());
        self.workspaces.with(|workspace| plan.accumulate(workspace, x, y))
    }

    fn group_sums(&self, w: &Gemm, x: Activations<'_>, mode: Mode, sums: GroupSums<'_>) -> Result<Report> {
        let plan = w.plan(mode)?.par(self.par.clone());
        self.workspaces.with(|workspace| plan.group_sums(workspace, x, sums))
    }

    fn adds_rest(&self) -> bool {
        true
    }

    fn run_rest(
        &self,
        w: &Gemm,
        x: Activations<'_>,
        mode: Mode,
        rest: &Rest<'_>,
        e: Option<&Epilogue<'_>>,
        y: Output<'_>,
    ) -> Result<Report> {
        let plan = w.plan(mode)?.par(self.par.clone());
        self.workspaces
            .with(|workspace| plan.run_rest(workspace, x, rest, e, y))
    }
}
