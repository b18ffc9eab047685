//! An NPU in the manner of llm.npu's (arXiv 2407.05858): int8 with one scale for each tensor, static shapes, graphs.
//!
//! Its values are exact, bit for bit those of [`reference`](crate::reference); its times are those of a
//! [`profile`](profile::Profile). What real NPUs refuse it refuses: scales by group or row, weights of other widths, zero
//! points, activation scales that are found at run time, and every shape that no graph was built for.
//!
//! ```
//! use mixgemm::accel::npu::{Npu, profile::Profile};
//! use mixgemm::{Backend, Epilogue, Mat, Mode, QuantMatrix, Scheme};
//! let npu = Npu::new(Profile::hexagon_8gen3().clone());
//! let w = Mat::from_fn(8, 32, |n, k| (n * k) as f32 - 99.0);
//! let w = npu.prepare(&QuantMatrix::quantize(w.view(), Scheme::int(8).per_tensor())?)?;
//! let (x, mut y) = (Mat::from_fn(4, 32, |m, k| (m + k) as f32), Mat::<f32>::zeros(4, 8));
//! let mode = Mode::A8Static { scale: 0.5, saturate: true };
//! let mut run = || Backend::run(&npu, &w, x.view().into(), mode, &Epilogue::new(), y.view_mut().into());
//! assert!(run().is_err(), "no graph is built for four rows");
//! npu.build(&w, 4)?;
//! npu.optimise(&w, 4)?;
//! run()?;
//! npu.free(&w, 4)?;
//! assert!(npu.time().execute_ms > 0.0);
//! # Ok::<(), mixgemm::Error>(())
//! ```
//!
//! * [`profile`]: what things cost; [`published`]: what others measured.
//! * [`graphs`]: the life of a graph, the window of addresses, the queue.
//! * [`grouped`]: weights with scales by group, one product for each group.
//! * [`int8_output`]: outputs in 8 bits, and the repair of those that do not fit.
#![forbid(unsafe_code)]

pub mod graphs;
pub mod grouped;
pub mod int8_output;
pub mod profile;
pub mod published;

use crate::accel::device::Device;
use crate::accel::element::multiply::MultiplyI8;
use crate::backend::{AnyBackend, Backend, Capabilities, DeviceTime, GroupSums, Prepared, Report, WeightShape};
use crate::base::error::{Error, Result};
use crate::base::view::MatMut;
use crate::epilogue::{Epilogue, Output};
use crate::quant::input::{Activations, InputScale, Mode};
use crate::quant::matrix::QuantMatrix;
use crate::quant::rest::Rest;
use alloc::{boxed::Box, sync::Arc};
use graphs::{Graphs, Span};
use profile::{Arrangement, Profile};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The element and the loops around it, without what makes an NPU one.
fn array() -> Device<MultiplyI8> {
    Device::new("npu", MultiplyI8)
}

/// What an NPU with these values takes.
fn capabilities(values: &dyn AnyBackend) -> Capabilities {
    Capabilities {
        min_bits: 8,
        per_tensor: true,
        static_shapes: true,
        ..values.capabilities()
    }
}

/// What a device and its weights share.
struct Shared {
    profile: Profile,
    graphs: Mutex<Graphs>,
}

impl Shared {
    fn graphs(&self) -> MutexGuard<'_, Graphs> {
        self.graphs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An emulated NPU.
pub struct Npu {
    values: Box<dyn AnyBackend>,
    shared: Arc<Shared>,
}

/// Weights on an NPU. Their graphs are freed with them.
pub struct NpuWeights {
    number: u64,
    shape: WeightShape,
    values: Prepared,
    shared: Arc<Shared>,
}

impl core::fmt::Debug for Npu {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Npu({}, {:?})", self.shared.profile.name, self.time())
    }
}

impl core::fmt::Debug for NpuWeights {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "NpuWeights({}, {:?})", self.number, self.shape)
    }
}

impl Drop for NpuWeights {
    fn drop(&mut self) {
        self.shared.graphs().free_all(&self.shared.profile, self.number);
    }
}

impl NpuWeights {
    /// Their shape and scheme.
    #[must_use]
    pub fn shape(&self) -> &WeightShape {
        &self.shape
    }
}

impl Npu {
    /// A device with this latency model.
    #[must_use]
    pub fn new(profile: Profile) -> Self {
        Self {
            values: Box::new(array()),
            shared: Arc::new(Shared {
                profile,
                graphs: Mutex::default(),
            }),
        }
    }

    /// The same device with values of another backend, such as the host: see [`Fast`](crate::accel::fast::Fast).
    #[must_use]
    pub fn fast(self, values: Box<dyn AnyBackend>) -> Self {
        Self {
            values: array().with_values_from(values),
            ..self
        }
    }

    /// As [`Npu::fast`], behind the object-safe trait.
    #[must_use]
    pub fn with_values_from(self, values: Box<dyn AnyBackend>) -> Box<dyn AnyBackend> {
        Box::new(self.fast(values))
    }

    /// The latency model.
    #[must_use]
    pub fn profile(&self) -> &Profile {
        &self.shared.profile
    }

    /// What has been spent so far.
    #[must_use]
    pub fn time(&self) -> DeviceTime {
        self.shared.graphs().spent
    }

    /// Bytes of the window that graphs take.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.shared.graphs().bytes()
    }

    /// Whether there is a graph for products of `m` rows, optimised or not.
    #[must_use]
    pub fn is_built(&self, w: &NpuWeights, m: usize) -> bool {
        self.shared.graphs().has(w.number, m)
    }

    /// Builds the graph for products of `m` rows, in the arrangement that the profile finds fastest.
    ///
    /// # Errors
    /// [`Error::Memory`] when it does not fit the window beside the others; [`Error::Value`] for a graph that there is;
    /// [`Error::ForeignWeights`] for weights of another device.
    pub fn build(&self, w: &NpuWeights, m: usize) -> Result<()> {
        self.own(w)?.build(self.profile(), w.number, &w.shape, m, None)
    }

    /// As [`Npu::build`], with the rows in a grid of the caller's choice. Results do not depend on it.
    ///
    /// # Errors
    /// As there; [`Error::Value`] for a grid of more rows than there are numbers.
    pub fn build_as(&self, w: &NpuWeights, rows: Arrangement) -> Result<()> {
        let Some(m) = rows.height.checked_mul(rows.width) else {
            return Err(Error::value("rows", "a grid of fewer rows", format!("{rows}")));
        };
        let mut graphs = self.own(w)?;
        graphs.build(self.profile(), w.number, &w.shape, m, Some(rows))
    }

    /// Optimises the graph for products of `m` rows; it can then be executed.
    ///
    /// # Errors
    /// [`Error::Shape`] where none is built; [`Error::ForeignWeights`] for weights of another device.
    pub fn optimise(&self, w: &NpuWeights, m: usize) -> Result<()> {
        self.own(w)?.optimise(self.profile(), w.number, &w.shape, m)
    }

    /// Frees the graph for products of `m` rows.
    ///
    /// # Errors
    /// As [`Npu::optimise`].
    pub fn free(&self, w: &NpuWeights, m: usize) -> Result<()> {
        self.own(w)?.free(self.profile(), w.number, &w.shape, m)
    }

    /// [`Backend::run`], and when on the device's clock: after all executions before it, and not before `ready_ms`.
    ///
    /// # Errors
    /// As there; [`Error::Shape`] without a graph for these rows, [`Error::Value`] for one that is not optimised.
    pub fn execute(
        &self,
        w: &NpuWeights,
        (x, mode): (Activations<'_>, Mode),
        epilogue: &Epilogue<'_>,
        y: Output<'_>,
        ready_ms: f64,
    ) -> Result<(Report, Span)> {
        self.timed(w, (x, mode), ready_ms, || {
            self.values.run(&w.values, x, mode, epilogue, y)
        })
    }

    /// The device's state, if the weights are its own.
    fn own(&self, w: &NpuWeights) -> Result<MutexGuard<'_, Graphs>> {
        if Arc::ptr_eq(&self.shared, &w.shared) {
            return Ok(self.shared.graphs());
        }
        Err(Error::ForeignWeights {
            argument: "weights",
            expected: "this npu".into(),
            found: "another npu".into(),
        })
    }

    /// Executes a graph: its values from `product`, its time from the profile.
    fn timed(
        &self,
        w: &NpuWeights,
        (x, mode): (Activations<'_>, Mode),
        ready_ms: f64,
        product: impl FnOnce() -> Result<Report>,
    ) -> Result<(Report, Span)> {
        let (m, WeightShape { n, k, .. }) = (x.shape().0, w.shape);
        drop(self.own(w)?);
        Backend::capabilities(self).check_mode(mode)?;
        x.check(mode, k, &w.shape.scheme)?;
        if let Activations::I8 {
            scale: InputScale::Rows(_),
            ..
        } = x
        {
            return Err(Error::unsupported(
                "input scale",
                "one for the tensor",
                "one for every row",
            ));
        }
        if m == 0 || n == 0 {
            let at = self.shared.graphs().execute(ready_ms, 0.0);
            return Ok((product()?, at));
        }
        let rows = self.shared.graphs().ready(w.number, &w.shape, m)?;
        let report = product()?;
        let ms = self.profile().product_ms(m, n, k, rows);
        Ok((report, self.shared.graphs().execute(ready_ms, ms)))
    }
}

impl Backend for Npu {
    type Prepared = NpuWeights;

    fn name(&self) -> &'static str {
        "npu"
    }

    fn capabilities(&self) -> Capabilities {
        capabilities(self.values.as_ref())
    }

    fn prepare(&self, weights: &QuantMatrix) -> Result<NpuWeights> {
        Backend::capabilities(self).check_scheme(weights.scheme())?;
        Ok(NpuWeights {
            values: self.values.prepare(weights)?,
            number: self.shared.graphs().number(),
            shape: WeightShape::from(weights),
            shared: Arc::clone(&self.shared),
        })
    }

    /// Builds and optimises the graph, unless there is one.
    fn compile(&self, w: &NpuWeights, m: usize) -> Result<()> {
        let (profile, shape) = (self.profile(), &w.shape);
        let mut graphs = self.own(w)?;
        if m == 0 || shape.n == 0 || graphs.ready(w.number, shape, m).is_ok() {
            return Ok(());
        }
        if !graphs.has(w.number, m) {
            graphs.build(profile, w.number, shape, m, None)?;
        }
        graphs.optimise(profile, w.number, shape, m)
    }

    fn release(&self, w: &NpuWeights, m: usize) -> Result<()> {
        let mut graphs = self.own(w)?;
        if graphs.has(w.number, m) {
            graphs.free(self.profile(), w.number, &w.shape, m)?;
        }
        Ok(())
    }

    fn device_time(&self) -> Option<DeviceTime> {
        Some(self.time())
    }

    fn run(
        &self,
        w: &NpuWeights,
        x: Activations<'_>,
        mode: Mode,
        epilogue: &Epilogue<'_>,
        y: Output<'_>,
    ) -> Result<Report> {
        Ok(self.execute(w, (x, mode), epilogue, y, 0.0)?.0)
    }

    fn accumulate(&self, w: &NpuWeights, x: Activations<'_>, mode: Mode, y: MatMut<'_, f32>) -> Result<Report> {
        let values = || self.values.accumulate(&w.values, x, mode, y);
        Ok(self.timed(w, (x, mode), 0.0, values)?.0)
    }

    fn group_sums(&self, w: &NpuWeights, x: Activations<'_>, mode: Mode, sums: GroupSums<'_>) -> Result<Report> {
        let values = || self.values.group_sums(&w.values, x, mode, sums);
        Ok(self.timed(w, (x, mode), 0.0, values)?.0)
    }

    fn adds_rest(&self) -> bool {
        self.values.adds_rest()
    }

    fn run_rest(
        &self,
        w: &NpuWeights,
        x: Activations<'_>,
        mode: Mode,
        rest: &Rest<'_>,
        epilogue: Option<&Epilogue<'_>>,
        y: Output<'_>,
    ) -> Result<Report> {
        let values = || self.values.run_rest(&w.values, x, mode, rest, epilogue, y);
        Ok(self.timed(w, (x, mode), 0.0, values)?.0)
    }
}
