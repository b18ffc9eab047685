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
//! large value there, which makes a row's result depend on the others. Weights of outliers are `s·(q − z)` in f32, or f16
//! weights that were never quantised.
#![forbid(unsafe_code)]

mod outlying;

pub use crate::outlier::mixed::outlying::Outlying;

use crate::backend::{Backend, Capabilities, DeviceTime, GroupSums, Report, isa_from_environment};
use crate::base::error::{Error, Result};
use crate::base::float::{Element, check_environment, fma};
use crate::base::idle::Idle;
use crate::base::view::{MatMut, MatRef};
use crate::epilogue::{Epilogue, Output};
use crate::outlier::columns::{Columns, InMemory};
use crate::outlier::fold::Scales;
use crate::outlier::work::{SplitWork, WorkCounts};
use crate::quant::activation::{INFINITE, a8_scale, abs_max_bits};
use crate::quant::input::{Activations, Mode, Row};
use crate::quant::matrix::QuantMatrix;
use crate::quant::sums::WeightShape;
use crate::simd;
use crate::simd::cpu::Isa;
use crate::simd::isa::{Body, Simd, Work};
use alloc::{format, vec::Vec};
use half::f16;

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
    buffers: Idle<Buffers>,
}

/// What a product needs beside its operands; kept from one to the next.
#[derive(Debug, Default)]
struct Buffers {
    /// x', `[M, K]`.
    calm: Vec<f32>,
    /// The outliers, row after row, and where each row starts.
    outliers: Vec<(u32, f32)>,
    starts: Vec<usize>,
    order: Vec<u32>,
    levels: Vec<i16>,
    sums: Vec<f32>,
    marks: Vec<bool>,
}

impl Buffers {
    /// How many of K channels the outliers are in.
    fn channels(&mut self, k: usize) -> usize {
        self.marks.clear();
        self.marks.resize(k, false);
        self.outliers.iter().for_each(|&(k, _)| self.marks[k as usize] = true);
        self.marks.iter().filter(|&&marked| marked).count()
    }
}

/// Weights for both parts of a [`Mixed`].
#[derive(Debug)]
pub struct MixedWeights<P> {
    prepared: P,
    shape: WeightShape,
    floats: Floats,
    work: WorkCounts,
}

impl<P> MixedWeights<P> {
    /// The wrapped backend's own weights.
    #[must_use]
    pub fn prepared(&self) -> &P {
        &self.prepared
    }

    /// The integers that outliers meet; none where these weights were kept as f16.
    #[must_use]
    pub fn columns(&self) -> Option<&dyn Columns> {
        match &self.floats {
            Floats::Quantised(columns, _) => Some(columns),
            Floats::Stored(_) => None,
        }
    }

    /// What the split has done with these weights so far.
    #[must_use]
    pub fn work(&self) -> SplitWork {
        self.work.get()
    }
}

/// The weights of outliers.
#[derive(Debug)]
enum Floats {
    /// Integers with the scales of their groups.
    Quantised(InMemory, Scales),
    /// Weights by position among the channels, `[C, N]`.
    Stored(Vec<f16>),
}

impl<B: Backend> Mixed<B> {
    /// A split around a backend.
    ///
    /// # Errors
    /// [`Error::Value`] for a threshold that is NaN or negative, a share outside 0..=1, or channels out of order.
    pub fn new(backend: B, outlying: Outlying) -> Result<Self> {
        outlying.check()?;
        Ok(Self {
            backend,
            outlying,
            isa: isa_from_environment(),
            buffers: Idle::default(),
        })
    }

    /// The wrapped backend.
    #[must_use]
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// Prepares weights whose outlier channels are kept as f16: one column of `floats`, N × C, for each of the channels.
    ///
    /// # Errors
    /// As [`Backend::prepare`]; [`Error::Unsupported`] unless outliers are a set of channels; [`Error::Shape`] for floats
    /// of another shape; [`Error::Value`] for floats that are not finite.
    pub fn prepare_with(&self, w: &QuantMatrix, floats: MatRef<'_, f16>) -> Result<MixedWeights<B::Prepared>> {
        let Outlying::Channels(channels) = &self.outlying else {
            let found = format!("{:?}", self.outlying);
            return Err(Error::unsupported("outlying", "a set of channels", found));
        };
        let (n, count) = (w.n(), channels.len());
        if (floats.rows(), floats.cols()) != (n, count) {
            let found = format!("{} x {}", floats.rows(), floats.cols());
            return Err(Error::shape("floats", format!("{n} x {count}"), found));
        }
        let columns: Vec<f16> = (0..count * n).map(|i| floats.row(i % n)[i / n]).collect();
        if let Some(i) = columns.iter().position(|w| !w.is_finite()) {
            let found = format!("{} at ({}, {})", columns[i], i % n, i / n);
            return Err(Error::value("floats", "finite weights", found));
        }
        self.both(w, Floats::Stored(columns))
    }

    fn both(&self, w: &QuantMatrix, floats: Floats) -> Result<MixedWeights<B::Prepared>> {
        if let Outlying::Channels(channels) = &self.outlying
            && let Some(k) = channels.last().filter(|&&k| k as usize >= w.k())
        {
            return Err(Error::value("channels", format!("below {}", w.k()), format!("{k}")));
        }
        if !self.backend.capabilities().accumulate {
            let expected = "a backend that continues a fold";
            return Err(Error::unsupported("backend", expected, self.backend.name()));
        }
        self.isa.clone()?;
        Ok(MixedWeights {
            prepared: self.backend.prepare(w)?,
            shape: WeightShape::from(w),
            floats,
            work: WorkCounts::default(),
        })
    }

    /// Cuts rows into what stays and the outliers. Rows with non-finite inputs stay whole.
    fn cut(&self, x: Activations<'_>, buffers: &mut Buffers) {
        let (m, k) = x.shape();
        let Buffers {
            calm,
            outliers,
            starts,
            order,
            ..
        } = buffers;
        calm.resize(m * k, 0.0);
        outliers.clear();
        starts.clear();
        starts.push(0);
        for (r, calm) in calm.chunks_exact_mut(k.max(1)).enumerate() {
            match x.row(r) {
                Row::F32(x) => calm.copy_from_slice(x),
                Row::F16(x) => f16::slice_to_f32(x, calm),
                Row::Bf16(x) => Element::slice_to_f32(x, calm),
                Row::I8(..) => {}
            }
            let mut take = |k: u32, x: &mut f32| {
                outliers.push((k, *x));
                *x = 0.0;
            };
            if abs_max_bits(calm) < INFINITE {
                match &self.outlying {
                    Outlying::Above(limit) => {
                        let large = (0..).zip(calm).filter(|(_, x)| x.abs() > *limit);
                        large.for_each(|(k, x)| take(k, x));
                    }
                    Outlying::Top(share) => {
                        let count = libm::ceil(share * k as f64) as usize;
                        order.clear();
                        order.extend(0..k as u32);
                        let size = |&k: &u32| (core::cmp::Reverse(calm[k as usize].to_bits() & 0x7FFF_FFFF), k);
                        if count < k {
                            order.select_nth_unstable_by_key(count, size);
                            order.truncate(count);
                        }
                        order.sort_unstable();
                        order.iter().for_each(|&k| take(k, &mut calm[k as usize]));
                    }
                    Outlying::Channels(channels) => {
                        channels.iter().for_each(|&k| take(k, &mut calm[k as usize]));
                    }
                }
            }
            starts.push(outliers.len());
        }
        // Without inputs there are no chunks, but rows.
        starts.resize(m + 1, outliers.len());
    }

    /// Continues a row by its outliers.
    fn continue_row(
        &self,
        w: &MixedWeights<B::Prepared>,
        outliers: &[(u32, f32)],
        levels: &mut Vec<i16>,
        y: &mut [f32],
    ) -> Result<()> {
        let (n, isa) = (w.shape.n, self.isa.clone()?);
        levels.resize(n, 0);
        for (i, &(k, x)) in outliers.iter().enumerate() {
            let weights = match &w.floats {
                Floats::Quantised(columns, scales) => {
                    columns.read(k as usize, levels)?;
                    let (s, f) = scales.of_group(k as usize / w.shape.group);
                    Weights::Quantised(levels, s, f)
                }
                // Rows have all channels or, where an input is not finite, none.
                Floats::Stored(columns) => Weights::Stored(&columns[i * n..][..n]),
            };
            simd::run::<Continue>(isa, &mut ContinueArgs { x, weights, y: &mut *y });
        }
        Ok(())
    }
}

/// Weights of one input channel.
enum Weights<'a> {
    /// `s·(level − f)`.
    Quantised(&'a [i16], &'a [f32], &'a [f32]),
    Stored(&'a [f16]),
}

/// Continues a row by one outlier; compiled for every tier.
struct Continue;

struct ContinueArgs<'a> {
    x: f32,
    weights: Weights<'a>,
    y: &'a mut [f32],
}

impl Work for Continue {
    type Args<'a> = ContinueArgs<'a>;
}

impl<S: Simd> Body<S> for Continue {
    #[inline(always)]
    fn body(_: S, args: &mut ContinueArgs<'_>) {
        let (x, y) = (args.x, &mut *args.y);
        match args.weights {
            Weights::Quantised(levels, s, f) => {
                let weights = levels.iter().zip(s).zip(f);
                for (y, ((&level, s), f)) in y.iter_mut().zip(weights) {
                    *y = fma(x, s * (f32::from(level) - f), *y);
                }
            }
            Weights::Stored(weights) => {
                for (y, w) in y.iter_mut().zip(weights) {
                    *y = fma(x, w.to_f32(), *y);
                }
            }
        }
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
        self.both(w, Floats::Quantised(InMemory::new(w), Scales::new(w)))
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
        self.buffers.with(|buffers| {
            self.cut(x, buffers);
            w.work.add(buffers.channels(k), buffers.outliers.len());
            let Buffers {
                calm,
                outliers,
                starts,
                levels,
                sums,
                ..
            } = buffers;
            sums.clear();
            sums.resize(m * n, 0.0);
            let calm = MatRef::row_major(calm, m, k)?;
            let out = MatMut::row_major(sums, m, n)?;
            let report = self.backend.accumulate(&w.prepared, calm.into(), mode, out)?;
            for (r, sums) in sums.chunks_exact_mut(n.max(1)).enumerate() {
                let most = f32::from_bits(abs_max_bits(calm.row(r)));
                let t = match mode {
                    Mode::A8Row if most.is_finite() => a8_scale(most).0,
                    Mode::A8Static { scale, .. } => scale,
                    _ => 1.0,
                };
                sums.iter_mut().for_each(|y| *y *= t);
                self.continue_row(w, &outliers[starts[r]..starts[r + 1]], levels, sums)?;
                epilogue.finish(sums, r, 0, None);
                y.store(r, 0, sums);
            }
            Ok(report)
        })
    }

    fn accumulate(&self, _: &Self::Prepared, _: Activations<'_>, _: Mode, _: MatMut<'_, f32>) -> Result<Report> {
        Err(Error::unsupported("backend", "one that continues a fold", self.name()))
    }

    fn group_sums(&self, _: &Self::Prepared, _: Activations<'_>, _: Mode, _: GroupSums<'_>) -> Result<Report> {
        Err(Error::unsupported(
            "backend",
            "one that hands back integers",
            self.name(),
        ))
    }
}
