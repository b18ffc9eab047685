//! The shadow split of llm.npu (arXiv 2407.05858, section 3.3) around any backend, exact in integers.
//!
//! ```text
//! v = rne(x/t)    c = clamp(v, ±127)    r = v − c        r ≠ 0 only for outliers
//! D = Σ q·c + Σ q·r                                      the wrapped backend + a compact product on this CPU
//! T = rne(D − z0·B), folded as ever                      one rounding of the whole
//! ```
//!
//! The paper's own equation rounds `x/t` down to multiples of 128 and adds both products as floats; it does not give back
//! the unclamped product, and its released code uses c and r as above with float sums.
#![forbid(unsafe_code)]

use crate::backend::{Backend, Capabilities, DeviceTime, GroupSums, Report, isa_from_environment};
use crate::base::error::{Error, Result};
use crate::base::float::{Element, check_environment};
use crate::base::idle::Idle;
use crate::base::parallel::Par;
use crate::base::view::MatMut;
use crate::epilogue::{Epilogue, Output};
use crate::outlier::columns::{Columns, InMemory};
use crate::outlier::find::Outliers;
use crate::outlier::fold::{RowSums, Scales, store};
use crate::outlier::work::WorkCounts;
use crate::quant::activation::integer_row;
use crate::quant::input::{Activations, Mode};
use crate::quant::matrix::QuantMatrix;
use crate::quant::sums::WeightShape;
use crate::simd::cpu::Isa;
use alloc::{boxed::Box, format, vec::Vec};

pub use crate::outlier::work::SplitWork;

/// A backend whose mode [`Mode::A8Static`] keeps outliers instead of refusing them.
///
/// Without `saturate`, activations beyond ±127·t are cut in two: the wrapped backend multiplies the clamped part, and
/// what is left joins its integers. With `saturate` they are clamped, as the caller asked for. All other modes are those of
/// the wrapped backend.
///
/// ```
/// use mixgemm::{Backend, Epilogue, Host, Mat, MixPe, Mode, QuantMatrix, Scheme};
/// use mixgemm::outlier::split::Split;
/// let w = QuantMatrix::quantize(Mat::from_fn(2, 4, |n, k| (n + k) as f32).view(), Scheme::int(4).asymmetric())?;
/// let x = Mat::from_fn(1, 4, |_, k| if k == 3 { 1000.0 } else { k as f32 });
/// let mode = Mode::A8Static { scale: 0.25, saturate: false };
/// let (mut y, mut z) = (Mat::<f32>::zeros(1, 2), Mat::<f32>::zeros(1, 2));
/// let (host, device) = (Split::new(Host::new()), Split::new(MixPe::w4a8()));
/// host.run(&host.prepare(&w)?, x.view().into(), mode, &Epilogue::new(), y.view_mut().into())?;
/// device.run(&device.prepare(&w)?, x.view().into(), mode, &Epilogue::new(), z.view_mut().into())?;
/// assert_eq!(y, z); // the same bits
/// assert!((y.data()[0] - 3005.0).abs() < 5.0, "clamping would give about 100");
/// # Ok::<(), mixgemm::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Split<B> {
    backend: B,
    isa: Result<Isa>,
    par: Par,
    buffers: Idle<Buffers>,
}

/// What a product needs beside its operands; kept from one to the next.
#[derive(Debug, Default)]
struct Buffers {
    outliers: Outliers,
    sums: Vec<i64>,
    row: Vec<f32>,
}

/// Weights for both parts of a [`Split`].
pub struct SplitWeights<P> {
    prepared: P,
    columns: Box<dyn Columns>,
    shape: WeightShape,
    /// Where the wrapped backend does not add the rest itself.
    scales: Option<Scales>,
    work: WorkCounts,
}

impl<P> core::fmt::Debug for SplitWeights<P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "SplitWeights({:?}, {:?})", self.shape, self.work())
    }
}

impl<P> SplitWeights<P> {
    /// The wrapped backend's own weights.
    #[must_use]
    pub fn prepared(&self) -> &P {
        &self.prepared
    }

    /// Shape and scheme of the weights.
    #[must_use]
    pub fn shape(&self) -> &WeightShape {
        &self.shape
    }

    /// The columns that outliers meet.
    #[must_use]
    pub fn columns(&self) -> &dyn Columns {
        &*self.columns
    }

    /// What the split has done with these weights so far.
    #[must_use]
    pub fn work(&self) -> SplitWork {
        self.work.get()
    }
}

impl<B: Backend> Split<B> {
    /// A split around a backend, on the calling thread.
    #[must_use]
    pub fn new(backend: B) -> Self {
        Self {
            backend,
            isa: isa_from_environment(),
            par: Par::Seq,
            buffers: Idle::default(),
        }
    }

    /// Who searches for outliers and gathers their weights. The wrapped backend keeps its own threads.
    #[must_use]
    pub fn par(self, par: Par) -> Self {
        Self { par, ..self }
    }

    /// The wrapped backend.
    #[must_use]
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// Prepares weights whose columns are in a store of the caller's, such as a
    /// [cache of the hot ones](crate::outlier::hot::HotColumns).
    ///
    /// # Errors
    /// As [`Backend::prepare`]; [`Error::Shape`] for a store of other weights; [`Error::Unsupported`] for a backend that
    /// hands back no integers.
    pub fn prepare_with(&self, w: &QuantMatrix, columns: Box<dyn Columns>) -> Result<SplitWeights<B::Prepared>> {
        if columns.shape() != (w.n(), w.k()) {
            let found = format!("{} x {}", columns.shape().0, columns.shape().1);
            return Err(Error::shape("columns", format!("{} x {}", w.n(), w.k()), found));
        }
        if !self.backend.adds_rest() && !self.backend.capabilities().group_sums {
            let expected = "a backend that hands back the integers of groups";
            return Err(Error::unsupported("backend", expected, self.backend.name()));
        }
        self.isa.clone()?;
        Ok(SplitWeights {
            prepared: self.backend.prepare(w)?,
            columns,
            shape: WeightShape::from(w),
            scales: (!self.backend.adds_rest()).then(|| Scales::new(w)),
            work: WorkCounts::default(),
        })
    }

    /// Runs the split where the mode asks for it: with an epilogue, or continuing y.
    fn product(
        &self,
        w: &SplitWeights<B::Prepared>,
        x: Activations<'_>,
        t: f32,
        epilogue: Option<&Epilogue<'_>>,
        mut y: Output<'_>,
    ) -> Result<Report> {
        let m = x.shape().0;
        epilogue.map_or(Ok(()), |epilogue| epilogue.check(m, w.shape.n))?;
        y.check(m, w.shape.n)?;
        let clamped = Mode::A8Static {
            scale: t,
            saturate: true,
        };
        let without_rest = |mut y: Output<'_>| match epilogue {
            Some(epilogue) => self.backend.run(&w.prepared, x, clamped, epilogue, y),
            None => self.backend.accumulate(&w.prepared, x, clamped, y.to_continue()?),
        };
        if w.shape.n == 0 {
            return without_rest(y);
        }
        self.buffers.with(|buffers| {
            self.find(buffers, w, x, t)?;
            if buffers.outliers.is_empty() {
                return without_rest(y);
            }
            let Some(scales) = &w.scales else {
                let rest = buffers.outliers.rest();
                return self.backend.run_rest(&w.prepared, x, clamped, &rest, epilogue, y);
            };
            let Buffers { outliers, sums, row } = buffers;
            let width = w.shape.groups * w.shape.n;
            sums.resize(m * width, 0);
            let report = self.backend.group_sums(&w.prepared, x, clamped, GroupSums::I64(sums))?;
            row.resize(w.shape.n, 0.0);
            for (m, sums) in sums.chunks_exact_mut(width.max(1)).enumerate() {
                match &mut y {
                    Output::F32(y) if epilogue.is_none() => f32::slice_to_f32(y.row_mut(m), row),
                    _ => row.fill(0.0),
                }
                let integers = integer_row(x.row(m), clamped, w.shape.group)?;
                if integers.non_finite.is_empty() {
                    let of = RowSums {
                        row: m,
                        clamped: &integers,
                        sums,
                    };
                    scales.fold(&outliers.rest(), &w.shape, of, row);
                } else {
                    scales.special(&*w.columns, &w.shape, &integers.non_finite, row)?;
                }
                store(epilogue, m, t, row, &mut y);
            }
            Ok(report)
        })
    }

    /// Finds the outliers and gathers their weights.
    fn find(&self, buffers: &mut Buffers, w: &SplitWeights<B::Prepared>, x: Activations<'_>, t: f32) -> Result<()> {
        check_environment()?;
        let (mode, team) = (
            Mode::A8Static {
                scale: t,
                saturate: false,
            },
            self.par.team(),
        );
        x.check(mode, w.shape.k, &w.shape.scheme)?;
        let outliers = &mut buffers.outliers;
        outliers.find(x, t, &w.shape, self.isa.clone()?, team)?;
        w.work.add(outliers.channels().len(), outliers.len());
        if outliers.is_empty() {
            return Ok(());
        }
        outliers.gather(&*w.columns, w.shape.n, team)
    }
}

impl<B: Backend> Backend for Split<B> {
    type Prepared = SplitWeights<B::Prepared>;

    fn name(&self) -> &'static str {
        "split"
    }

    fn capabilities(&self) -> Capabilities {
        self.backend.capabilities()
    }

    fn prepare(&self, w: &QuantMatrix) -> Result<Self::Prepared> {
        self.prepare_with(w, Box::new(InMemory::new(w)))
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
        y: Output<'_>,
    ) -> Result<Report> {
        match mode {
            Mode::A8Static { scale, saturate: false } => self.product(w, x, scale, Some(epilogue), y),
            mode => self.backend.run(&w.prepared, x, mode, epilogue, y),
        }
    }

    fn accumulate(&self, w: &Self::Prepared, x: Activations<'_>, mode: Mode, y: MatMut<'_, f32>) -> Result<Report> {
        match mode {
            Mode::A8Static { scale, saturate: false } => self.product(w, x, scale, None, Output::F32(y)),
            mode => self.backend.accumulate(&w.prepared, x, mode, y),
        }
    }

    /// See [`Backend::group_sums`]: the sums of both parts, where 64 bits are asked for.
    fn group_sums(&self, w: &Self::Prepared, x: Activations<'_>, mode: Mode, sums: GroupSums<'_>) -> Result<Report> {
        let Mode::A8Static { scale, saturate: false } = mode else {
            return self.backend.group_sums(&w.prepared, x, mode, sums);
        };
        let GroupSums::I64(sums) = sums else {
            return Err(Error::unsupported("sums", "64-bit sums of a split", "32-bit sums"));
        };
        let clamped = Mode::A8Static { scale, saturate: true };
        if w.shape.n == 0 {
            return self.backend.group_sums(&w.prepared, x, clamped, GroupSums::I64(sums));
        }
        self.buffers.with(|buffers| {
            self.find(buffers, w, x, scale)?;
            let report = self.backend.group_sums(&w.prepared, x, clamped, GroupSums::I64(sums))?;
            let (groups, rest) = (w.shape.groups, buffers.outliers.rest());
            if !buffers.outliers.is_empty() {
                for (i, sums) in sums.chunks_exact_mut(w.shape.n.max(1)).enumerate() {
                    rest.add_64(i / groups, i % groups, sums);
                }
            }
            Ok(report)
        })
    }
}
