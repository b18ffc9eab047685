//! Fast mode: an exact device with values of another backend.
//!
//! An emulator that takes its values from what it is compared with proves nothing, so this is never the default. It is
//! for callers who want a device's counters, or its place in a comparison, at the speed of the host, once tests have
//! shown that both give the same bits. There is no such mode for devices that round.
#![forbid(unsafe_code)]

use crate::accel::device::{Device, has_zero_terms};
use crate::accel::element::ProcessingElement;
use crate::backend::{AnyBackend, Backend, Capabilities, Counters, GroupSums, Prepared, Report, WeightShape};
use crate::base::error::{Error, Result};
use crate::base::view::MatMut;
use crate::epilogue::{Epilogue, Output};
use crate::quant::input::{Activations, Mode, Row};
use crate::quant::matrix::QuantMatrix;
use crate::quant::rest::Rest;
use alloc::boxed::Box;

/// A [`Device`] whose values another backend computes.
///
/// ```
/// use mixgemm::{AnyBackend, Epilogue, Host, Mat, MixPe, Mode, QuantMatrix, Scheme};
/// let w = QuantMatrix::quantize(Mat::from_fn(9, 64, |n, k| (n * k) as f32).view(), Scheme::int(4).group(32))?;
/// let x = Mat::from_fn(2, 64, |m, k| (m + k) as f32);
/// let (mut slow, mut fast) = (Mat::<f32>::zeros(2, 9), Mat::<f32>::zeros(2, 9));
/// let device = MixPe::w4a8();
/// let own = device.run(&device.prepare(&w)?, x.view().into(), Mode::A8, &Epilogue::new(), slow.view_mut().into())?;
/// let device = device.with_values_from(Box::new(Host::new()));
/// let taken = device.run(&device.prepare(&w)?, x.view().into(), Mode::A8, &Epilogue::new(), fast.view_mut().into())?;
/// assert_eq!((slow, own.counters), (fast, taken.counters));
/// assert_ne!(own.kernel, taken.kernel); // the element, and the host's kernel
/// # Ok::<(), mixgemm::Error>(())
/// ```
pub struct Fast<E> {
    device: Device<E>,
    values: Box<dyn AnyBackend>,
}

/// Weights that the other backend prepared, and what counters need to know of them.
#[derive(Debug)]
pub struct FastWeights {
    device: &'static str,
    shape: WeightShape,
    /// Operations of one row of activations.
    row: Counters,
    /// Operations of one call, however many rows it has.
    call: Counters,
    values: Prepared,
}

/// Whether all inputs of a row are finite; others do not enter the element.
fn is_finite(row: Row<'_>) -> bool {
    match row {
        Row::F32(x) => x.iter().all(|x| x.is_finite()),
        Row::F16(x) => x.iter().all(|x| x.is_finite()),
        Row::Bf16(x) => x.iter().all(|x| x.is_finite()),
        Row::I8(..) => true,
    }
}

impl FastWeights {
    /// What the element would have counted.
    fn counters(&self, x: Activations<'_>) -> Counters {
        let mut total = Counters::default();
        let m = if self.shape.n == 0 { 0 } else { x.shape().0 };
        if m > 0 {
            total += self.call;
        }
        let finite = (0..m).filter(|&m| is_finite(x.row(m)));
        finite.for_each(|_| total += self.row);
        total
    }
}

impl<E: ProcessingElement> Fast<E> {
    pub(super) fn new(device: Device<E>, values: Box<dyn AnyBackend>) -> Self {
        Self { device, values }
    }

    /// Counters of weights are those of one device; modes are those that both take.
    fn check(&self, w: &FastWeights, mode: Mode) -> Result<()> {
        let own = Backend::name(self);
        if w.device != own {
            return Err(Error::ForeignWeights {
                argument: "weights",
                expected: own.into(),
                found: w.device.into(),
            });
        }
        Backend::capabilities(self).check_mode(mode)
    }

    /// The other backend's kernel beside the device's counters.
    fn report(w: &FastWeights, x: Activations<'_>, values: &Report) -> Report {
        Report {
            kernel: values.kernel,
            counters: w.counters(x),
        }
    }
}

impl<E: ProcessingElement> Backend for Fast<E> {
    type Prepared = FastWeights;

    fn name(&self) -> &'static str {
        Backend::name(&self.device)
    }

    /// What both can do.
    fn capabilities(&self) -> Capabilities {
        let (own, values) = (Backend::capabilities(&self.device), self.values.capabilities());
        Capabilities {
            min_bits: own.min_bits.max(values.min_bits),
            max_bits: own.max_bits.min(values.max_bits),
            per_tensor: own.per_tensor || values.per_tensor,
            books: own.books && values.books,
            a8: own.a8 && values.a8,
            a16: own.a16 && values.a16,
            exact: own.exact && values.exact,
            native: false,
            group_sums: own.group_sums && values.group_sums,
            accumulate: own.accumulate && values.accumulate,
            static_shapes: own.static_shapes || values.static_shapes,
            emulated: true,
        }
    }

    fn prepare(&self, weights: &QuantMatrix) -> Result<FastWeights> {
        Backend::capabilities(self).check_scheme(weights.scheme())?;
        let (element, shape) = (self.device.element(), WeightShape::from(weights));
        let (n, k, groups) = (shape.n as u64, shape.k as u64, shape.groups as u64);
        let corrected = u64::from(has_zero_terms(element, &shape.scheme));
        let mut work = [0u64; 256];
        weights.codes().iter().for_each(|&code| work[usize::from(code)] += 1);
        let (mut shifts, mut adds) = (0, 0);
        for (code, count) in (0u8..=255).zip(work) {
            let of_code = element.work(code);
            shifts += count * of_code.shifts;
            adds += count * of_code.adds;
        }
        let row = Counters {
            macs: n * k,
            shifts,
            adds,
            scale_multiplications: n * groups,
            zero_point_terms: n * groups * corrected,
            activation_sums: groups * corrected,
            ..Counters::default()
        };
        let call = Counters {
            weight_conversions: if element.widens(&shape.scheme) { n * k } else { 0 },
            ..Counters::default()
        };
        let values = self.values.prepare(weights)?;
        Ok(FastWeights {
            device: Backend::name(self),
            shape,
            row,
            call,
            values,
        })
    }

    fn run(
        &self,
        w: &FastWeights,
        x: Activations<'_>,
        mode: Mode,
        epilogue: &Epilogue<'_>,
        y: Output<'_>,
    ) -> Result<Report> {
        self.check(w, mode)?;
        let report = self.values.run(&w.values, x, mode, epilogue, y)?;
        Ok(Self::report(w, x, &report))
    }

    fn accumulate(&self, w: &FastWeights, x: Activations<'_>, mode: Mode, y: MatMut<'_, f32>) -> Result<Report> {
        self.check(w, mode)?;
        let report = self.values.accumulate(&w.values, x, mode, y)?;
        Ok(Self::report(w, x, &report))
    }

    fn group_sums(&self, w: &FastWeights, x: Activations<'_>, mode: Mode, sums: GroupSums<'_>) -> Result<Report> {
        self.check(w, mode)?;
        let values = self.values.group_sums(&w.values, x, mode, sums)?;
        let mut report = Self::report(w, x, &values);
        report.counters.scale_multiplications = 0;
        Ok(report)
    }

    fn adds_rest(&self) -> bool {
        self.values.adds_rest()
    }

    fn run_rest(
        &self,
        w: &FastWeights,
        x: Activations<'_>,
        mode: Mode,
        rest: &Rest<'_>,
        epilogue: Option<&Epilogue<'_>>,
        y: Output<'_>,
    ) -> Result<Report> {
        self.check(w, mode)?;
        let report = self.values.run_rest(&w.values, x, mode, rest, epilogue, y)?;
        Ok(Self::report(w, x, &report))
    }
}
