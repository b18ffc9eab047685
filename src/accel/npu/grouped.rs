//! Weights with scales by group or row on an NPU that has none: one product of integers for every group, and float sums on
//! the host.
//!
//! ```text
//! for every group:  D = Σ (q − 128)·a       a product on the NPU, all scales 1
//!                   T = D − (z − 128)·B     on the host, as is all that follows
//!                   y = fma(rne(T), s·t, y)
//! ```
//!
//! The order and the roundings are those of [`reference`](crate::reference), so the bits are those of a device that has
//! groups. What it costs is in the device's time: a launch for every group, and the sums.
//!
//! Graphs of all groups stay on the device where its window holds them. Where it does not, those at the end are built for
//! their turn in every product and freed after it, which is accounted like everything else.
#![forbid(unsafe_code)]

use crate::accel::npu::{Npu, NpuWeights};
use crate::accel::weights::DeviceWeights;
use crate::backend::{AnyBackend, Backend, Capabilities, Counters, DeviceTime, GroupSums, Report};
use crate::base::error::{Error, Result};
use crate::base::float::{canonical, check_environment, fma};
use crate::base::mat::Mat;
use crate::base::view::MatMut;
use crate::epilogue::{Epilogue, Output};
use crate::quant::activation::{IntegerRow, integer_row};
use crate::quant::input::{Activations, Mode};
use crate::quant::matrix::{Floats, QuantMatrix, Zeros};
use crate::quant::scheme::{ScaleType, Scheme, ZeroPoint};
use alloc::collections::BTreeSet;
use alloc::{boxed::Box, vec, vec::Vec};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What an NPU's weights lose when they are asked for by group.
const OFFSET: i64 = 128;

/// An NPU that multiplies group by group.
///
/// ```
/// use mixgemm::accel::npu::{Npu, grouped::Grouped, profile::Profile};
/// use mixgemm::{Backend, Epilogue, Mat, Mode, QuantMatrix, Scheme, reference};
/// let w = QuantMatrix::quantize(Mat::from_fn(3, 64, |n, k| (n * k) as f32).view(), Scheme::int(8).group(16))?;
/// let (x, mut y, mut expected) = (Mat::from_fn(2, 64, |m, k| (m + k) as f32), Mat::<f32>::zeros(2, 3), Mat::<f32>::zeros(2, 3));
/// let device = Grouped::new(Npu::new(Profile::hexagon_8gen3().clone()));
/// let prepared = device.prepare(&w)?;
/// Backend::compile(&device, &prepared, 2)?; // four graphs
/// Backend::run(&device, &prepared, x.view().into(), Mode::A8, &Epilogue::new(), y.view_mut().into())?;
/// reference::run(&w, x.view().into(), Mode::A8, &Epilogue::new(), expected.view_mut().into())?;
/// assert_eq!(y, expected);
/// # Ok::<(), mixgemm::Error>(())
/// ```
#[derive(Debug)]
pub struct Grouped {
    npu: Npu,
    host_ms: Mutex<f64>,
    /// Held by whoever builds graphs: two would take each other's room.
    turn: Mutex<()>,
}

/// The groups as matrices of their own, and their scales.
#[derive(Debug)]
pub struct GroupedWeights {
    groups: Vec<NpuWeights>,
    weights: DeviceWeights,
    /// The numbers of rows for which some graphs are built for their turn alone.
    in_turn: Mutex<BTreeSet<usize>>,
}

impl GroupedWeights {
    fn in_turn(&self) -> MutexGuard<'_, BTreeSet<usize>> {
        self.in_turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Rows as integers, and the integers of one group after another.
struct Walk<'a> {
    w: &'a GroupedWeights,
    rows: Vec<IntegerRow>,
}

impl Grouped {
    /// Around an NPU.
    #[must_use]
    pub fn new(npu: Npu) -> Self {
        Self {
            npu,
            host_ms: Mutex::default(),
            turn: Mutex::default(),
        }
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The NPU.
    #[must_use]
    pub fn npu(&self) -> &Npu {
        &self.npu
    }

    /// The same device with values of another backend, behind the object-safe trait.
    #[must_use]
    pub fn with_values_from(self, values: Box<dyn AnyBackend>) -> Box<dyn AnyBackend> {
        Box::new(Self {
            npu: self.npu.fast(values),
            ..self
        })
    }

    fn check<'a>(&self, w: &'a GroupedWeights, x: Activations<'_>, mode: Mode) -> Result<Walk<'a>> {
        check_environment()?;
        let (m, shape) = (x.shape().0, &w.weights.shape);
        Backend::capabilities(self).check_mode(mode)?;
        x.check(mode, shape.k, &shape.scheme)?;
        let rows = (0..w.weights.rows(m)).map(|m| integer_row(x.row(m), mode, shape.group.max(1)));
        Ok(Walk {
            w,
            rows: rows.collect::<Result<_>>()?,
        })
    }

    /// Hands every group's integers to `emit`: (row, group, column), `D − z·B` and `B`.
    fn walk(&self, walk: &Walk<'_>, mut emit: impl FnMut((usize, usize, usize), i64, i64)) -> Result<Report> {
        let Walk { w, rows } = walk;
        let (m, shape) = (rows.len(), &w.weights.shape);
        let mut report = Report {
            kernel: "npu",
            counters: Counters::default(),
        };
        let mut sums = vec![0; m * shape.n];
        // The weights' own lock goes before the device's is taken: `compile` takes them in the other order.
        let in_turn = w.in_turn().contains(&m);
        let in_turn = in_turn.then(|| self.turn());
        for (group, part) in w.groups.iter().enumerate() {
            let built = in_turn.is_some() && !self.npu.is_built(part, m);
            if built {
                Backend::compile(&self.npu, part, m)?;
            }
            let start = group * shape.group;
            let k = start..(start + shape.group).min(shape.k);
            let x = Mat::from_fn(m, k.len(), |m, i| rows[m].integers[start + i] as i8);
            let x8 = Activations::int8(x.view(), 1.0);
            let of = Backend::group_sums(&self.npu, part, x8, Mode::A8Given, GroupSums::I32(&mut sums));
            if built {
                Backend::release(&self.npu, part, m)?;
            }
            let of = of?;
            report.kernel = of.kernel;
            report.counters += of.counters;
            for (row, sums) in sums.chunks(shape.n.max(1)).enumerate() {
                let b: i64 = x.view().row(row).iter().map(|&a| i64::from(a)).sum();
                for (column, &d) in sums.iter().enumerate() {
                    let zero = w.weights.group(column, group).zero_int - OFFSET;
                    emit((row, group, column), i64::from(d) - zero * b, b);
                }
            }
        }
        let ms = self.npu.profile().group_sums_ms(m, shape.n, shape.groups);
        *self.host_ms.lock().unwrap_or_else(PoisonError::into_inner) += ms;
        Ok(report)
    }

    /// Continues the fold of all rows; `y` is `[M, N]`.
    fn fold(&self, walk: &Walk<'_>, mode: Mode, y: &mut [f32]) -> Result<Report> {
        let Walk { w, rows } = walk;
        let n = w.weights.shape.n;
        let mut scale_multiplications = 0;
        let mut report = self.walk(walk, |(row, group, column), corrected, b| {
            if !rows[row].non_finite.is_empty() {
                return;
            }
            let t = rows[row].factors[group];
            let scaled = |v: f32| if mode.scales_per_group() { v * t } else { v };
            let of = w.weights.group(column, group);
            let y = &mut y[row * n + column];
            *y = fma(corrected as f32, scaled(of.scale), *y);
            scale_multiplications += 1;
            if of.zero_fraction != 0.0 {
                *y = fma(b as f32, scaled(-(of.scale * of.zero_fraction)), *y);
            }
        })?;
        report.counters.scale_multiplications = scale_multiplications;
        if w.weights.shape.scheme.zero != ZeroPoint::Symmetric {
            report.counters.zero_point_terms = scale_multiplications;
            report.counters.activation_sums = scale_multiplications / n.max(1) as u64;
        }
        for (row, y) in rows.iter().zip(y.chunks_mut(n.max(1))) {
            if !row.non_finite.is_empty() {
                for (n, y) in y.iter_mut().enumerate() {
                    *y += w.weights.special(&row.non_finite, n);
                }
            }
        }
        Ok(report)
    }
}

impl Backend for Grouped {
    type Prepared = GroupedWeights;

    fn name(&self) -> &'static str {
        "npu+groups"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            per_tensor: false,
            ..Backend::capabilities(&self.npu)
        }
    }

    fn prepare(&self, w: &QuantMatrix) -> Result<GroupedWeights> {
        Backend::capabilities(self).check_scheme(w.scheme())?;
        let scheme = Scheme::int(8).per_tensor().scales(ScaleType::F32);
        let group = |g| {
            let range = w.group_range(g);
            let codes = (0..w.n()).flat_map(|n| w.code_row(n)[range.clone()].iter().copied());
            let one = Floats::from_f32(ScaleType::F32, &[1.0]);
            let part = QuantMatrix::from_parts(scheme, w.n(), range.len(), codes.collect(), one, Zeros::Symmetric)?;
            Backend::prepare(&self.npu, &part)
        };
        Ok(GroupedWeights {
            groups: (0..w.groups()).map(group).collect::<Result<_>>()?,
            weights: DeviceWeights::new(w),
            in_turn: Mutex::default(),
        })
    }

    /// A graph for every group; where the window does not hold them all, as many as leave room for one of the others at a
    /// time. Where there is not even room for one, nothing is left of what was built. That room is not kept free: what
    /// is built of other weights later may take it, and running these is refused until something is freed.
    fn compile(&self, w: &GroupedWeights, m: usize) -> Result<()> {
        let (_turn, mut in_turn) = (self.turn(), w.in_turn());
        if in_turn.contains(&m) {
            return Ok(());
        }
        let mut built = Vec::new();
        for part in &w.groups {
            let before = self.npu.is_built(part, m);
            let mut compiled = Backend::compile(&self.npu, part, m);
            while matches!(compiled, Err(Error::Memory { .. })) {
                let Some(last) = built.pop() else { break };
                in_turn.insert(m);
                Backend::release(&self.npu, last, m)?;
                compiled = Backend::compile(&self.npu, part, m);
            }
            if compiled.is_err() {
                in_turn.remove(&m);
                return compiled;
            }
            if in_turn.contains(&m) {
                // All groups but the last are of one length, and this one was not longer.
                return Backend::release(&self.npu, part, m);
            }
            if !before {
                built.push(part);
            }
        }
        Ok(())
    }

    fn release(&self, w: &GroupedWeights, m: usize) -> Result<()> {
        w.in_turn().remove(&m);
        w.groups
            .iter()
            .try_for_each(|part| Backend::release(&self.npu, part, m))
    }

    fn device_time(&self) -> Option<DeviceTime> {
        Some(DeviceTime {
            host_ms: *self.host_ms.lock().unwrap_or_else(PoisonError::into_inner),
            ..self.npu.time()
        })
    }

    fn run(
        &self,
        w: &GroupedWeights,
        x: Activations<'_>,
        mode: Mode,
        epilogue: &Epilogue<'_>,
        mut y: Output<'_>,
    ) -> Result<Report> {
        let ((m, _), n) = (x.shape(), w.weights.shape.n);
        let walk = self.check(w, x, mode)?;
        epilogue.check(m, n)?;
        y.check(m, n)?;
        let mut sums = vec![0.0; walk.rows.len() * n];
        let report = self.fold(&walk, mode, &mut sums)?;
        for (m, (row, sums)) in walk.rows.iter().zip(sums.chunks_mut(n.max(1))).enumerate() {
            epilogue.finish(sums, m, 0, row.row_scale);
            y.store(m, 0, sums);
        }
        Ok(report)
    }

    /// See [`Backend::accumulate`]; NaN results are canonical.
    fn accumulate(&self, w: &GroupedWeights, x: Activations<'_>, mode: Mode, mut y: MatMut<'_, f32>) -> Result<Report> {
        let ((m, _), n) = (x.shape(), w.weights.shape.n);
        let walk = self.check(w, x, mode)?;
        Output::F32(y.reborrow()).check(m, n)?;
        let rows = 0..walk.rows.len();
        let mut sums: Vec<f32> = rows.clone().flat_map(|m| y.as_ref().row(m).to_vec()).collect();
        let report = self.fold(&walk, mode, &mut sums)?;
        sums.iter_mut().for_each(|y| *y = canonical(*y));
        for (m, sums) in rows.zip(sums.chunks(n.max(1))) {
            y.row_mut(m).copy_from_slice(sums);
        }
        Ok(report)
    }

    fn group_sums(
        &self,
        w: &GroupedWeights,
        x: Activations<'_>,
        mode: Mode,
        mut sums: GroupSums<'_>,
    ) -> Result<Report> {
        let shape = &w.weights.shape;
        let walk = self.check(w, x, mode)?;
        sums.check(x.shape().0, shape, mode)?;
        self.walk(&walk, |(row, group, column), corrected, _| {
            sums.set((row * shape.groups + group) * shape.n + column, corrected);
        })
    }
}
