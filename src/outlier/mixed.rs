//! A split by precision, in the manner of LLM.int8() (arXiv 2208.07339, section 3) and OLAccel (ISCA 2018): outliers leave
//! the integers altogether and enter as the floats they are.
//!
//! ```text
//! x' = x without its outliers                        what the wrapped backend multiplies, in an 8- or 16-bit mode
//! y  = fold(x'), times the row's scale where the mode has one
//! y  = fma(x_k, w_k, y)  for the outliers in ascending k, then the epilogue
//! ```
//!
//! What is an outlier is decided within a row: LLM.int8() takes a whole column out as soon as one row of the batch has a
//! large value there, which makes a row's result depend on the others. The weights w_k are `s·(q − z)` in f32, or f16 weights
//! that were never quantised. Outliers themselves are not rounded: 16-bit integers would be coarser.
#![forbid(unsafe_code)]

mod cut;
mod outlying;
mod weights;

pub use crate::outlier::mixed::outlying::Outlying;
pub use crate::outlier::mixed::weights::OutlierWeights;

use crate::backend::{Backend, Capabilities, DeviceTime, Report, isa_from_environment};
use crate::base::error::{Error, Result};
use crate::base::float::check_environment;
use crate::base::idle::Idle;
use crate::base::parallel::Par;
use crate::base::view::MatMut;
use crate::epilogue::{Epilogue, Output};
use crate::outlier::columns::InMemory;
use crate::outlier::fold::Scales;
use crate::outlier::hot::Reads;
use crate::outlier::mixed::cut::Cut;
use crate::outlier::mixed::weights::{Floats, Strips, store};
use crate::outlier::work::{SplitWork, WorkCounts};
use crate::quant::input::{Activations, Mode};
use crate::quant::matrix::QuantMatrix;
use crate::quant::sums::WeightShape;
use crate::simd::cpu::Isa;
use alloc::{boxed::Box, format, vec::Vec};

/// A backend whose 8- and 16-bit modes leave outliers to floats. Int8 input, mode [`Mode::A8Given`], has none.
///
/// ```
/// use mixgemm::outlier::mixed::{Mixed, Outlying};
/// use mixgemm::{Backend, Epilogue, Host, Mat, Mode, QuantMatrix, Scheme};
/// let w = QuantMatrix::quantize(Mat::from_fn(2, 64, |n, k| (n + k % 5) as f32).view(), Scheme::int(8).per_channel())?;
/// let x = Mat::from_fn(1, 64, |_, k| if k == 3 { 1000.0 } else { (k % 3) as f32 * 0.1 });
/// let exact: f32 = (0..64).map(|k| x.data()[k] * w.dequantize().data()[k]).sum();
/// let mixed = Mixed::new(Host::new(), Outlying::Above(6.0))?;
/// let mut y = Mat::<f32>::zeros(1, 2);
/// mixed.run(&mixed.prepare(&w)?, x.view().into(), Mode::A8Row, &Epilogue::new(), y.view_mut().into())?;
/// assert!((y.data()[0] - exact).abs() < 0.1, "a8row alone counts everything but the outlier as 0");
/// # Ok::<(), mixgemm::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Mixed<B> {
    backend: B,
    outlying: Outlying,
    isa: Result<Isa>,
    par: Par,
    buffers: Idle<Buffers>,
}

/// What a product needs beside its operands; kept from one to the next.
#[derive(Debug, Default)]
struct Buffers {
    cut: Cut,
    strips: Strips,
    /// The outputs as f32, where Y is of another type.
    sums: Vec<f32>,
}

/// Weights for both parts of a [`Mixed`].
pub struct MixedWeights<P> {
    prepared: P,
    shape: WeightShape,
    floats: Floats,
    work: WorkCounts,
}

impl<P> core::fmt::Debug for MixedWeights<P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "MixedWeights({:?}, {:?})", self.shape, self.work())
    }
}

impl<P> MixedWeights<P> {
    /// The wrapped backend's own weights.
    #[must_use]
    pub fn prepared(&self) -> &P {
        &self.prepared
    }

    /// Bytes in memory of the weights that outliers meet.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match &self.floats {
            Floats::Quantised(columns, ..) => columns.bytes(),
            Floats::Halves(columns) => columns.bytes(),
        }
    }

    /// How often their columns were read, where that is counted.
    #[must_use]
    pub fn reads(&self) -> Reads {
        match &self.floats {
            Floats::Quantised(columns, ..) => columns.reads(),
            Floats::Halves(columns) => columns.reads(),
        }
    }

    /// What the split has done with these weights so far.
    #[must_use]
    pub fn work(&self) -> SplitWork {
        self.work.get()
    }
}

impl<B: Backend> Mixed<B> {
    /// A split around a backend, on the calling thread.
    ///
    /// # Errors
    /// [`Error::Value`] for a threshold that is NaN or negative, a share outside 0..=1, or channels out of order.
    pub fn new(backend: B, outlying: Outlying) -> Result<Self> {
        outlying.check()?;
        Ok(Self {
            backend,
            outlying,
            isa: isa_from_environment(),
            par: Par::Seq,
            buffers: Idle::default(),
        })
    }

    /// Who cuts the activations and continues the sums by outliers. The wrapped backend keeps its own threads.
    #[must_use]
    pub fn par(self, par: Par) -> Self {
        Self { par, ..self }
    }

    /// The wrapped backend.
    #[must_use]
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// Prepares weights whose outliers meet these columns: integers or f16, in memory, or in a store of the caller's, such as
    /// a [cache of the hot ones](crate::outlier::hot::HotColumns).
    ///
    /// # Errors
    /// As [`Backend::prepare`]; [`Error::Shape`] for columns of other weights; [`Error::Value`] for channels beyond K.
    pub fn prepare_with(&self, w: &QuantMatrix, outliers: OutlierWeights) -> Result<MixedWeights<B::Prepared>> {
        let shape = WeightShape::from(w);
        let (n, k) = match &outliers {
            OutlierWeights::Quantised(columns) => columns.shape(),
            OutlierWeights::Halves(columns) => columns.shape(),
        };
        if (n, k) != (shape.n, shape.k) {
            let expected = format!("{} x {}", shape.n, shape.k);
            return Err(Error::shape("columns", expected, format!("{n} x {k}")));
        }
        if let Outlying::Channels(channels) = &self.outlying
            && let Some(k) = channels.last().filter(|&&k| k as usize >= w.k())
        {
            return Err(Error::value("channels", format!("below {}", w.k()), format!("{k}")));
        }
        self.isa.clone()?;
        Ok(MixedWeights {
            prepared: self.backend.prepare(w)?,
            floats: match outliers {
                OutlierWeights::Quantised(columns) => Floats::Quantised(columns, Scales::new(w), shape.group),
                OutlierWeights::Halves(columns) => Floats::Halves(columns),
            },
            shape,
            work: WorkCounts::default(),
        })
    }
}

impl<B: Backend> Backend for Mixed<B> {
    type Prepared = MixedWeights<B::Prepared>;

    fn name(&self) -> &'static str {
        "mixed"
    }

    /// Those of the wrapped backend, but for `exact`, `native`, integers and a fold to continue.
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            exact: false,
            native: false,
            group_sums: false,
            accumulate: false,
            ..self.backend.capabilities()
        }
    }

    fn prepare(&self, w: &QuantMatrix) -> Result<Self::Prepared> {
        self.prepare_with(w, OutlierWeights::Quantised(Box::new(InMemory::new(w))))
    }

    fn compile(&self, w: &Self::Prepared, m: usize) -> Result<()> {
        self.backend.compile(&w.prepared, m)
    }

    fn release(&self, w: &Self::Prepared, m: usize) -> Result<()> {
        self.backend.release(&w.prepared, m)
    }

    fn device_time(&self) -> Option<DeviceTime> {
        self.backend.device_time()
    }

    fn run(
        &self,
        w: &Self::Prepared,
        x: Activations<'_>,
        mode: Mode,
        epilogue: &Epilogue<'_>,
        mut y: Output<'_>,
    ) -> Result<Report> {
        let ((m, k), n) = (x.shape(), w.shape.n);
        check_environment()?;
        Backend::capabilities(self).check_mode(mode)?;
        if mode == Mode::A8Given {
            return self.backend.run(&w.prepared, x, mode, epilogue, y);
        }
        x.check(mode, w.shape.k, &w.shape.scheme)?;
        epilogue.check(m, n)?;
        y.check(m, n)?;
        let (isa, team) = (self.isa.clone()?, self.par.team());
        self.buffers.with(|Buffers { cut, strips, sums }| {
            cut.find(x, &self.outlying, isa, team)?;
            w.work.add(cut.channels().len(), cut.len());
            if cut.len() == 0 {
                return self.backend.run(&w.prepared, x, mode, epilogue, y);
            }
            strips.gather(&w.floats, cut.channels(), n, isa, team)?;
            cut.calm(x, isa, team)?;
            let in_place = matches!(y, Output::F32(_));
            let mut out = if let Output::F32(y) = &mut y {
                y.reborrow()
            } else {
                sums.resize(m * n, 0.0);
                MatMut::row_major(sums, m, n)?
            };
            let calm = cut.view(m, k)?.into();
            let bare = Epilogue::new();
            let report = self
                .backend
                .run(&w.prepared, calm, mode, &bare, out.reborrow().into())?;
            strips.fold((cut, epilogue), out, isa, team);
            if !in_place {
                store(sums, y, team);
            }
            Ok(report)
        })
    }
}
