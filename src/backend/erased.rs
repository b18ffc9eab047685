//! A backend that is chosen at run time, as a typed one: what decorators wrap.
#![forbid(unsafe_code)]

use crate::backend::{AnyBackend, Backend, Capabilities, DeviceTime, GroupSums, Prepared, Report};
use crate::base::error::Result;
use crate::base::view::MatMut;
use crate::epilogue::{Epilogue, Output};
use crate::quant::input::{Activations, Mode};
use crate::quant::matrix::QuantMatrix;
use crate::quant::rest::Rest;
use alloc::boxed::Box;
use alloc::sync::Arc;

/// Any [`AnyBackend`] as a [`Backend`].
///
/// ```
/// use mixgemm::backend::Erased;
/// use mixgemm::{AnyBackend, Backend, Epilogue, Host, Mat, MixPe, Mode, QuantMatrix, Scheme, Split};
/// let w = QuantMatrix::quantize(Mat::from_fn(2, 4, |n, k| (n + k) as f32).view(), Scheme::int(4))?;
/// let x = Mat::from_fn(1, 4, |_, k| if k == 3 { 1000.0 } else { k as f32 });
/// let mode = Mode::A8Static { scale: 0.25, saturate: false };
/// let backends: [Box<dyn AnyBackend>; 2] = [Box::new(Host::new()), Box::new(MixPe::w4a8())];
/// let [y, z] = backends.map(|backend| {
///     let split = Split::new(Erased::from(backend));
///     let mut y = Mat::<f32>::zeros(1, 2);
///     Backend::run(&split, &Backend::prepare(&split, &w)?, x.view().into(), mode, &Epilogue::new(), y.view_mut().into())?;
///     Ok::<_, mixgemm::Error>(y)
/// });
/// assert_eq!(y?, z?);
/// # Ok::<(), mixgemm::Error>(())
/// ```
#[derive(Clone)]
pub struct Erased(Arc<dyn AnyBackend>);

impl From<Box<dyn AnyBackend>> for Erased {
    fn from(backend: Box<dyn AnyBackend>) -> Self {
        Self(backend.into())
    }
}

impl core::fmt::Debug for Erased {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Erased({})", self.0.name())
    }
}

impl Backend for Erased {
    type Prepared = Prepared;

    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    fn prepare(&self, weights: &QuantMatrix) -> Result<Prepared> {
        self.0.prepare(weights)
    }

    fn compile(&self, weights: &Prepared, m: usize) -> Result<()> {
        self.0.compile(weights, m)
    }

    fn release(&self, weights: &Prepared, m: usize) -> Result<()> {
        self.0.release(weights, m)
    }

    fn device_time(&self) -> Option<DeviceTime> {
        self.0.device_time()
    }

    fn run(
        &self,
        weights: &Prepared,
        x: Activations<'_>,
        mode: Mode,
        epilogue: &Epilogue<'_>,
        y: Output<'_>,
    ) -> Result<Report> {
        self.0.run(weights, x, mode, epilogue, y)
    }

    fn accumulate(&self, weights: &Prepared, x: Activations<'_>, mode: Mode, y: MatMut<'_, f32>) -> Result<Report> {
        self.0.accumulate(weights, x, mode, y)
    }

    fn group_sums(&self, weights: &Prepared, x: Activations<'_>, mode: Mode, sums: GroupSums<'_>) -> Result<Report> {
        self.0.group_sums(weights, x, mode, sums)
    }

    fn adds_rest(&self) -> bool {
        self.0.adds_rest()
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
        self.0.run_rest(weights, x, mode, rest, epilogue, y)
    }
}
