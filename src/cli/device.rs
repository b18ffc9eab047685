//! A backend with weights prepared for it, as a command line asks for one.
#![forbid(unsafe_code)]

use crate::cli::refusal::{option, refusal};
use mixgemm::accel::catalogue;
use mixgemm::kernel::Kernel;
use mixgemm::{Activations, AnyBackend, Counters, Epilogue, Error, Gemm, Host, Isa, MatMut, Mode, Par, Plan, Prepared};
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
    Emulated(Box<dyn AnyBackend>, Prepared),
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
        let prepared = backend.prepare(w)?;
        Ok(Self {
            name: backend.name(),
            emulated: backend.capabilities().emulated,
            bits_per_weight: w.bits_per_weight(),
            bytes: w.source_bytes() as usize,
            kind: Kind::Emulated(backend, prepared),
        })
    }

    /// Decides who multiplies and how: on the host. An emulated device works on all threads of the current rayon pool. The
    /// host prefers some kernels.
    pub(crate) fn plan(&self, par: &Par, mode: Mode, prefer: impl Fn(&'static Kernel) -> bool) -> Result<Planned<'_>> {
        match &self.kind {
            Kind::Host(gemm) => {
                let plan = gemm.plan(mode)?.par(par.clone()).prefer(prefer);
                Ok(Planned::Host(Box::new(plan)))
            }
            Kind::Emulated(backend, prepared) => Ok(Planned::Emulated(backend.as_ref(), prepared, mode)),
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
    Emulated(&'a dyn AnyBackend, &'a Prepared, Mode),
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
            Self::Emulated(backend, prepared, mode) => backend.run(prepared, x, *mode, epilogue, y.into()),
        }
    }

    /// One of several products on the same input, on the host.
    pub(crate) fn product<'a>(&'a self, y: MatMut<'a, f32>) -> Option<Product<'a>> {
        match self {
            Self::Host(plan) => Some(Product::new(plan, y)),
            Self::Emulated(..) => None,
        }
    }
}

/// The accelerator of this name that takes the mode, with values of its own or those of this host.
pub(crate) fn emulated(name: &str, mode: Mode, fast: Option<Host>) -> anyhow::Result<Box<dyn AnyBackend>> {
    let accelerator = catalogue::find(name, mode).map_err(|error| match error {
        Error::Unsupported {
            argument: "mode",
            expected,
            found,
        } => refusal("--mode", format_args!("{expected} with --backend {name}"), found),
        error => option(error),
    })?;
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
