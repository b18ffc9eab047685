//! A backend with weights prepared for it, as a command line asks for one.
#![forbid(unsafe_code)]

use crate::cli::arguments::{HOST, ModeName};
use crate::cli::refusal::{option, refusal};
use mixgemm::accel::catalogue::{self, Accelerator};
use mixgemm::backend::{DeviceTime, Erased};
use mixgemm::kernel::Kernel;
use mixgemm::outlier::hot::Reads;
use mixgemm::outlier::split::SplitWork;
use mixgemm::outlier::treatment::{self, Kept, Treatment};
use mixgemm::{
    Activations, AnyBackend, Backend, Counters, Epilogue, Error, Gemm, Host, Isa, MatMut, Mode, Par, Plan, Prepared,
};
use mixgemm::{Product, QuantMatrix, Report, Result, Workspace};
use std::collections::BTreeMap;
use std::num::NonZeroUsize;

/// A backend with prepared weights. On the host one set of packed weights serves every mode and thread count.
pub(crate) struct Device {
    /// The backend's name.
    pub(crate) name: &'static str,
    /// Whether its time says nothing about the hardware it stands for.
    pub(crate) emulated: bool,
    /// Bits per weight: packed on the host, of the stored format on an emulated device.
    pub(crate) bits_per_weight: f64,
    /// Bytes of the weights in memory.
    pub(crate) bytes: usize,
    kind: Kind,
}

enum Kind {
    Host(Box<Gemm>),
    Any {
        /// With its treatment of outliers.
        backend: Box<dyn AnyBackend>,
        prepared: Prepared,
        wrapped: Erased,
    },
}

impl Device {
    /// This CPU: its fastest allowed tier or the given one. Weights are packed on this thread.
    pub(crate) fn host(w: &QuantMatrix, isa: Option<Isa>) -> Result<Self> {
        let host = isa.map_or_else(|| Ok(Host::new()), |isa| Host::new().isa(isa))?;
        host.prepare(w).map(Self::packed)
    }

    /// This CPU, with weights that are packed for it.
    pub(crate) fn packed(gemm: Gemm) -> Self {
        Self {
            name: "host",
            emulated: false,
            bits_per_weight: gemm.bits_per_weight(),
            bytes: gemm.packed_bytes(),
            kind: Kind::Host(Box::new(gemm)),
        }
    }

    /// An emulated device.
    pub(crate) fn emulated(w: &QuantMatrix, backend: Box<dyn AnyBackend>) -> Result<Self> {
        Self::around(w, backend, &Treatment::None, &Kept::default(), &Par::Seq)
    }

    /// Any backend with a treatment of outliers around it, whose own work these threads do.
    pub(crate) fn around(
        w: &QuantMatrix,
        backend: impl Into<Erased>,
        treatment: &Treatment,
        kept: &Kept<'_>,
        par: &Par,
    ) -> Result<Self> {
        let wrapped = backend.into();
        let (backend, prepared) = treatment.prepare(wrapped.clone(), par.clone(), w, kept)?;
        let packed = treatment::wrapped(&prepared).downcast_ref::<Gemm>();
        let columns = treatment::bytes(&prepared);
        let bits = packed.map_or_else(|| w.bits_per_weight(), Gemm::bits_per_weight);
        Ok(Self {
            name: Backend::name(&wrapped),
            emulated: Backend::capabilities(&wrapped).emulated,
            bits_per_weight: bits + 8.0 * columns as f64 / (w.n() * w.k()).max(1) as f64,
            bytes: packed.map_or_else(|| w.source_bytes() as usize, Gemm::packed_bytes) + columns,
            kind: Kind::Any {
                backend,
                prepared,
                wrapped,
            },
        })
    }

    /// `Y = epilogue(X · Wᵀ)` by the backend alone, without the treatment of outliers [around](Device::around) it.
    pub(crate) fn run_wrapped(
        &self,
        (x, mode): (Activations<'_>, Mode),
        epilogue: &Epilogue<'_>,
        y: MatMut<'_, f32>,
    ) -> Result<Report> {
        match &self.kind {
            Kind::Host(gemm) => gemm.plan(mode)?.run(&mut Workspace::new(), x, epilogue, y.into()),
            Kind::Any { prepared, wrapped, .. } => {
                let prepared = treatment::wrapped(prepared);
                Backend::compile(wrapped, prepared, x.shape().0)?;
                Backend::run(wrapped, prepared, x, mode, epilogue, y.into())
            }
        }
    }

    /// What an emulated device with a latency model has spent so far.
    pub(crate) fn time(&self) -> Option<DeviceTime> {
        match &self.kind {
            Kind::Host(_) => None,
            Kind::Any { wrapped, .. } => Backend::device_time(wrapped),
        }
    }

    /// What a split has done so far.
    pub(crate) fn work(&self) -> SplitWork {
        match &self.kind {
            Kind::Host(_) => SplitWork::default(),
            Kind::Any { prepared, .. } => treatment::work(prepared),
        }
    }

    /// Bytes in memory of the weights that outliers meet, and how often their columns were read, where that is counted.
    pub(crate) fn columns(&self) -> (usize, Reads) {
        match &self.kind {
            Kind::Host(_) => (0, Reads::default()),
            Kind::Any { prepared, .. } => (treatment::bytes(prepared), treatment::reads(prepared)),
        }
    }

    /// Frees the graph for `m` rows, where there is one.
    pub(crate) fn release(&self, m: usize) -> Result<()> {
        match &self.kind {
            Kind::Host(_) => Ok(()),
            Kind::Any { backend, prepared, .. } => backend.as_ref().release(prepared, m),
        }
    }

    /// Decides who multiplies and how: on the host. An emulated device works on all threads of the current rayon pool. The
    /// host prefers some kernels.
    pub(crate) fn plan(&self, par: &Par, mode: Mode, prefer: impl Fn(&'static Kernel) -> bool) -> Result<Planned<'_>> {
        match &self.kind {
            Kind::Host(gemm) => {
                let plan = gemm.plan(mode)?.par(par.clone()).prefer(prefer);
                Ok(Planned::Host(Box::new(plan)))
            }
            Kind::Any { backend, prepared, .. } => Ok(Planned::Any(backend.as_ref(), prepared, mode)),
        }
    }

    /// `Y = epilogue(X · Wᵀ)`, planned for this one product, on so many threads of the current rayon pool, by the kernels
    /// that the host takes by itself.
    pub(crate) fn run(
        &self,
        workspace: &mut Workspace,
        threads: NonZeroUsize,
        (x, mode): (Activations<'_>, Mode),
        epilogue: &Epilogue<'_>,
        y: MatMut<'_, f32>,
    ) -> Result<Report> {
        self.plan(&rayon(threads), mode, |_| false)?
            .run(workspace, x, epilogue, y)
    }
}

/// So many threads of the current rayon pool, or the calling thread where it is one.
pub(crate) fn rayon(threads: NonZeroUsize) -> Par {
    if threads.get() == 1 {
        Par::Seq
    } else {
        Par::Rayon(threads)
    }
}

/// A device with a mode, threads and kernels.
pub(crate) enum Planned<'a> {
    Host(Box<Plan>),
    Any(&'a dyn AnyBackend, &'a Prepared, Mode),
}

impl Planned<'_> {
    /// `Y = epilogue(X · Wᵀ)`.
    pub(crate) fn run(
        &self,
        workspace: &mut Workspace,
        x: Activations<'_>,
        epilogue: &Epilogue<'_>,
        y: MatMut<'_, f32>,
    ) -> Result<Report> {
        match self {
            Self::Host(plan) => plan.run(workspace, x, epilogue, y.into()),
            Self::Any(backend, prepared, mode) => {
                // A device whose shapes are static gets the graph of a shape when it first meets it.
                backend.compile(prepared, x.shape().0)?;
                backend.run(prepared, x, *mode, epilogue, y.into())
            }
        }
    }

    /// One of several products on the same input, on the host.
    pub(crate) fn product<'a>(&'a self, y: MatMut<'a, f32>) -> Option<Product<'a>> {
        match self {
            Self::Host(plan) => Some(Product::new(plan, y)),
            Self::Any(..) => None,
        }
    }
}

/// The backend of this name that takes the mode: this CPU, on a tier and on threads, or an emulated accelerator, with
/// values of its own or, where `fast`, those of this CPU.
pub(crate) fn backend(
    name: &str,
    mode: Mode,
    fast: bool,
    isa: Option<Isa>,
    par: &Par,
) -> anyhow::Result<Box<dyn AnyBackend>> {
    let host = isa.map_or_else(|| Ok(Host::new()), |isa| Host::new().isa(isa));
    let host = host.map_err(option)?.par(par.clone());
    if name == HOST {
        return Ok(Box::new(host));
    }
    emulated(name, mode, fast.then_some(host))
}

/// The mode that a backend is meant for: 16 bits on this CPU; else the first of 8 bits with a scale a group, f16 without
/// rounding, f16 with roundings of its own, and 8 bits with one scale, that an accelerator of this name takes.
pub(crate) fn natural_mode(name: &str) -> ModeName {
    let modes = [ModeName::A8, ModeName::Exact, ModeName::Native, ModeName::A8Static];
    let taken = |mode: &ModeName| catalogue::find(name, mode.mode(1.0, false)).is_ok();
    modes
        .into_iter()
        .find(taken)
        .filter(|_| name != HOST)
        .unwrap_or(ModeName::A16)
}

/// The accelerator of this name that takes the mode.
pub(crate) fn accelerator(name: &str, mode: Mode) -> anyhow::Result<&'static Accelerator> {
    catalogue::find(name, mode).map_err(|error| match error {
        Error::Unsupported {
            argument: "mode",
            expected,
            found,
        } => refusal("--mode", format_args!("{expected} with --backend {name}"), found),
        error => option(error),
    })
}

/// Its device, with values of its own or those of this host.
pub(crate) fn emulated(name: &str, mode: Mode, fast: Option<Host>) -> anyhow::Result<Box<dyn AnyBackend>> {
    let accelerator = accelerator(name, mode)?;
    let Some(host) = fast else {
        return Ok(accelerator.device());
    };
    let device = accelerator.with_values_from(Box::new(host));
    device.ok_or_else(|| refusal("--fast", "a backend with exact sums", accelerator.name()))
}

/// Counted operations and their names.
pub(crate) fn named(counters: &Counters) -> BTreeMap<&'static str, u64> {
    BTreeMap::from([
        ("macs", counters.macs),
        ("shifts", counters.shifts),
        ("adds", counters.adds),
        ("scale_multiplications", counters.scale_multiplications),
        ("zero_point_terms", counters.zero_point_terms),
        ("activation_sums", counters.activation_sums),
        ("weight_conversions", counters.weight_conversions),
        ("overflows", counters.overflows),
    ])
}
