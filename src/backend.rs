//! Floor 3: the one trait. Host kernels, emulated accelerators and the decorators over them are peers behind it.
//!
//! A [`Backend`] is typed: it prepares weights into its own type and multiplies with them. [`AnyBackend`] is its
//! object-safe twin, implemented once for all backends, so callers can hold a `Box<dyn AnyBackend>`. [`Erased`] makes one
//! of those typed again, for decorators.
#![forbid(unsafe_code)]

mod capabilities;
mod environment;
mod erased;

use crate::base::error::{Error, Result};
use crate::base::view::MatMut;
use crate::epilogue::{Epilogue, Output};
use crate::quant::input::{Activations, Mode};
use crate::quant::matrix::QuantMatrix;
use crate::quant::rest::Rest;
use alloc::boxed::Box;
use core::any::Any;
use core::ops::AddAssign;

pub use crate::backend::capabilities::Capabilities;
pub(crate) use crate::backend::environment::isa_from_environment;
pub use crate::backend::erased::Erased;
pub use crate::quant::sums::{GroupSums, WeightShape};

/// Operations that an emulated device carried out. A host product reports only `macs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Products of one weight and one activation: M·N·K.
    pub macs: u64,
    /// Shifted operands that passed an open gate: one per set weight bit and activation.
    pub shifts: u64,
    /// Additions of such operands into an accumulator.
    pub adds: u64,
    /// Multiplications by a weight scale after a group's dot product: M·N·G; 0 where weights are dequantised before it.
    pub scale_multiplications: u64,
    /// Zero-point corrections `z·B`: M·N·G, or 0 without zero points to correct.
    pub zero_point_terms: u64,
    /// Group sums B of activations that were formed: M·G when each is formed once and shared by all columns.
    pub activation_sums: u64,
    /// Weights that were widened or dequantised on their way into the array: N·K for each pass over them.
    pub weight_conversions: u64,
    /// Dot products (of a group, or of a row where groups are not kept apart) in which an f16 left its range.
    pub overflows: u64,
}

impl AddAssign for Counters {
    fn add_assign(&mut self, other: Self) {
        self.macs += other.macs;
        self.shifts += other.shifts;
        self.adds += other.adds;
        self.scale_multiplications += other.scale_multiplications;
        self.zero_point_terms += other.zero_point_terms;
        self.activation_sums += other.activation_sums;
        self.weight_conversions += other.weight_conversions;
        self.overflows += other.overflows;
    }
}

/// What a product did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// The kernel or element that formed the sums.
    pub kernel: &'static str,
    /// Counted operations.
    pub counters: Counters,
}

/// Milliseconds that an emulated device has spent so far, by its own latency model.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct DeviceTime {
    /// Bringing up its environment, once.
    pub setup_ms: f64,
    /// Building graphs.
    pub build_ms: f64,
    /// Optimising graphs.
    pub optimise_ms: f64,
    /// Executing graphs.
    pub execute_ms: f64,
    /// Freeing graphs.
    pub free_ms: f64,
    /// What the host does in the device's place: sums of groups that it cannot form.
    pub host_ms: f64,
}

/// Something that multiplies: `Y[M,N] = X[M,K] · W[N,K]ᵀ`.
///
/// All implementors return the same bits for the same mode; what a mode means is defined in
/// [`reference`](crate::reference). The one exception is [`Mode::Native`], in which a device computes in its own
/// floating-point arithmetic.
pub trait Backend: Send + Sync + 'static {
    /// Weights in this backend's own form.
    type Prepared: Send + Sync + 'static;

    /// A short name for tables, such as `host` or `mixpe-w4a8`.
    fn name(&self) -> &'static str;

    /// What it takes and what it can hand back.
    fn capabilities(&self) -> Capabilities;

    /// Brings weights into this backend's form; they may be dropped afterwards.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when the scheme is not taken.
    fn prepare(&self, weights: &QuantMatrix) -> Result<Self::Prepared>;

    /// Makes ready for products of `m` rows with these weights, where [`Capabilities::static_shapes`]; does nothing
    /// elsewhere, and nothing a second time.
    ///
    /// # Errors
    /// [`Error::Memory`] when the device has no room.
    fn compile(&self, _weights: &Self::Prepared, _m: usize) -> Result<()> {
        Ok(())
    }

    /// Undoes [`Backend::compile`], so that the device has room for others.
    ///
    /// # Errors
    /// None on backends whose weights these are.
    fn release(&self, _weights: &Self::Prepared, _m: usize) -> Result<()> {
        Ok(())
    }

    /// The time of an emulated device that has a latency model, from its first moment on.
    fn device_time(&self) -> Option<DeviceTime> {
        None
    }

    /// `Y = epilogue(X · Wᵀ)`.
    ///
    /// # Errors
    /// [`Error::Shape`] for operands that do not fit, [`Error::Unsupported`] for a mode that is not taken,
    /// [`Error::Value`] for inputs that the mode refuses. Y is then unspecified.
    fn run(
        &self,
        weights: &Self::Prepared,
        x: Activations<'_>,
        mode: Mode,
        epilogue: &Epilogue<'_>,
        y: Output<'_>,
    ) -> Result<Report>;

    /// Continues the fold from the given `y` over all groups, in ascending order, and leaves the epilogue (the row
    /// scale of `a8row`, `a8given` and `a8static` included) to the caller. Rows with non-finite inputs add their
    /// special sum.
    ///
    /// # Errors
    /// As [`Backend::run`]; [`Error::Unsupported`] where [`Capabilities::accumulate`] is false, as it is for backends
    /// without a method of their own.
    fn accumulate(
        &self,
        _weights: &Self::Prepared,
        _x: Activations<'_>,
        _mode: Mode,
        _y: MatMut<'_, f32>,
    ) -> Result<Report> {
        let expected = "a backend whose capabilities have accumulate";
        Err(Error::unsupported("accumulate", expected, self.name()))
    }

    /// Writes the exact integers `D − z0·B` (`2D − B` for one symmetric bit) of every (row, group, column): before
    /// rounding, scales and fractional zero points. In `exact` the unit is 2^-24. Rows with non-finite inputs give 0.
    ///
    /// # Errors
    /// As [`Backend::run`]; [`Error::Unsupported`] where [`Capabilities::group_sums`] is false, as it is for backends
    /// without a method of their own, or 32 bits are too few.
    fn group_sums(
        &self,
        _weights: &Self::Prepared,
        _x: Activations<'_>,
        _mode: Mode,
        _sums: GroupSums<'_>,
    ) -> Result<Report> {
        let expected = "a backend whose capabilities have group_sums";
        Err(Error::unsupported("group_sums", expected, self.name()))
    }

    /// Whether [`Backend::run_rest`] works.
    fn adds_rest(&self) -> bool {
        false
    }

    /// As [`Backend::run`], or as [`Backend::accumulate`] into an f32 output where there is no epilogue, with integers
    /// of the caller's added to the groups' sums before these are rounded: `T = rne(D − z0·B + rest)`. An
    /// [outlier split](crate::outlier) uses it where it is there, else [`Backend::group_sums`].
    ///
    /// # Errors
    /// As [`Backend::run`]; [`Error::Unsupported`] where [`Backend::adds_rest`] is false or the mode's activations have
    /// scales per group; [`Error::Shape`] for a rest of another product.
    fn run_rest(
        &self,
        _weights: &Self::Prepared,
        _x: Activations<'_>,
        _mode: Mode,
        _rest: &Rest<'_>,
        _epilogue: Option<&Epilogue<'_>>,
        _y: Output<'_>,
    ) -> Result<Report> {
        Err(Error::unsupported("rest", "a backend that adds integers", self.name()))
    }
}

/// Weights that some [`AnyBackend`] prepared.
pub struct Prepared {
    backend: &'static str,
    weights: Box<dyn Any + Send + Sync>,
}

impl Prepared {
    /// What this backend prepared.
    pub(crate) fn new<B: Backend>(backend: &B, weights: B::Prepared) -> Self {
        Self {
            backend: Backend::name(backend),
            weights: Box::new(weights),
        }
    }

    /// The backend's own weights, [`Backend::Prepared`]; none where they are of another type.
    #[must_use]
    pub fn downcast_ref<P: 'static>(&self) -> Option<&P> {
        self.weights.downcast_ref()
    }
}

impl core::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Prepared(by {})", self.backend)
    }
}

/// The object-safe twin of [`Backend`]; every backend is one.
pub trait AnyBackend: Send + Sync {
    /// See [`Backend::name`].
    fn name(&self) -> &'static str;

    /// See [`Backend::capabilities`].
    fn capabilities(&self) -> Capabilities;

    /// See [`Backend::prepare`].
    ///
    /// # Errors
    /// As there.
    fn prepare(&self, weights: &QuantMatrix) -> Result<Prepared>;

    /// See [`Backend::compile`].
    ///
    /// # Errors
    /// As there; [`Error::ForeignWeights`] for weights that another kind of backend prepared.
    fn compile(&self, weights: &Prepared, m: usize) -> Result<()>;

    /// See [`Backend::release`].
    ///
    /// # Errors
    /// [`Error::ForeignWeights`] for weights that another kind of backend prepared.
    fn release(&self, weights: &Prepared, m: usize) -> Result<()>;

    /// See [`Backend::device_time`].
    fn device_time(&self) -> Option<DeviceTime>;

    /// See [`Backend::run`].
    ///
    /// # Errors
    /// As there; [`Error::ForeignWeights`] for weights that another kind of backend prepared.
    fn run(
        &self,
        weights: &Prepared,
        x: Activations<'_>,
        mode: Mode,
        epilogue: &Epilogue<'_>,
        y: Output<'_>,
    ) -> Result<Report>;

    /// See [`Backend::accumulate`].
    ///
    /// # Errors
    /// As there; [`Error::ForeignWeights`] for weights that another kind of backend prepared.
    fn accumulate(&self, weights: &Prepared, x: Activations<'_>, mode: Mode, y: MatMut<'_, f32>) -> Result<Report>;

    /// See [`Backend::group_sums`].
    ///
    /// # Errors
    /// As there; [`Error::ForeignWeights`] for weights that another kind of backend prepared.
    fn group_sums(&self, weights: &Prepared, x: Activations<'_>, mode: Mode, sums: GroupSums<'_>) -> Result<Report>;

    /// See [`Backend::adds_rest`].
    fn adds_rest(&self) -> bool;

    /// See [`Backend::run_rest`].
    ///
    /// # Errors
    /// As there; [`Error::ForeignWeights`] for weights that another kind of backend prepared.
    fn run_rest(
        &self,
        weights: &Prepared,
        x: Activations<'_>,
        mode: Mode,
        rest: &Rest<'_>,
        epilogue: Option<&Epilogue<'_>>,
        y: Output<'_>,
    ) -> Result<Report>;
}

fn downcast<'a, B: Backend>(backend: &B, weights: &'a Prepared) -> Result<&'a B::Prepared> {
    weights.downcast_ref().ok_or_else(|| Error::ForeignWeights {
        argument: "weights",
        expected: Backend::name(backend).into(),
        found: weights.backend.into(),
    })
}

impl<B: Backend> AnyBackend for B {
    fn name(&self) -> &'static str {
        Backend::name(self)
    }

    fn capabilities(&self) -> Capabilities {
        Backend::capabilities(self)
    }

    fn prepare(&self, weights: &QuantMatrix) -> Result<Prepared> {
        Ok(Prepared::new(self, Backend::prepare(self, weights)?))
    }

    fn compile(&self, weights: &Prepared, m: usize) -> Result<()> {
        Backend::compile(self, downcast(self, weights)?, m)
    }

    fn release(&self, weights: &Prepared, m: usize) -> Result<()> {
        Backend::release(self, downcast(self, weights)?, m)
    }

    fn device_time(&self) -> Option<DeviceTime> {
        Backend::device_time(self)
    }

    fn run(
        &self,
        weights: &Prepared,
        x: Activations<'_>,
        mode: Mode,
        epilogue: &Epilogue<'_>,
        y: Output<'_>,
    ) -> Result<Report> {
        Backend::run(self, downcast(self, weights)?, x, mode, epilogue, y)
    }

    fn accumulate(&self, weights: &Prepared, x: Activations<'_>, mode: Mode, y: MatMut<'_, f32>) -> Result<Report> {
        Backend::accumulate(self, downcast(self, weights)?, x, mode, y)
    }

    fn group_sums(&self, weights: &Prepared, x: Activations<'_>, mode: Mode, sums: GroupSums<'_>) -> Result<Report> {
        Backend::group_sums(self, downcast(self, weights)?, x, mode, sums)
    }
    fn adds_rest(&self) -> bool {
        Backend::adds_rest(self)
    }

    fn run_rest(
        &self,
        weights: &Prepared,
        x: Activations<'_>,
        mode: Mode,
        rest: &Rest<'_>,
        epilogue: Option<&Epilogue<'_>>,
        y: Output<'_>,
    ) -> Result<Report> {
        Backend::run_rest(self, downcast(self, weights)?, x, mode, rest, epilogue, y)
    }
}
