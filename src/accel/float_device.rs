//! The device around an element that rounds: mode [`Native`](Mode::Native).
//!
//! ```text
//! scales after the group     A = Σ q·x, B = Σ x          in the element, k ascending, from +0 in every group
//!                            T = fma(−z, B, A)           f32
//!                            y = fma(T, s, y)            f32, groups in ascending order, from +0
//! scales before the product  y = Σ w·x                   in the element, k ascending, from +0
//! ```
//!
//! Infinities and NaN go through the datapath like all other inputs, and what comes out is its own: a zero point times an
//! infinite B, for one, makes NaN of an infinite input. NaN results are canonical.
#![forbid(unsafe_code)]

use crate::accel::blocks::{gather, in_blocks};
use crate::accel::element::float::{FloatElement, Meaning};
use crate::backend::{Backend, Capabilities, Counters, Report, WeightShape};
use crate::base::error::{Error, Result};
use crate::base::float::{check_environment, fma};
use crate::epilogue::{Epilogue, Output};
use crate::quant::input::{Activations, Mode, Row};
use crate::quant::matrix::QuantMatrix;
use crate::quant::scheme::ZeroPoint;
use alloc::{vec, vec::Vec};
use half::f16;

/// An emulated accelerator with floating-point arithmetic. Its results are its own, within
/// [`FloatDevice::bound`] of the exact product.
///
/// ```
/// use mixgemm::accel::catalogue::fp16;
/// use mixgemm::{Backend, Epilogue, Floats, Mat, Mode, QuantMatrix, ScaleType, Scheme, Zeros, f16};
/// let scales = Floats::from_f32(ScaleType::F16, &[0.5]);
/// let w = QuantMatrix::from_parts(Scheme::int(4), 1, 3, vec![9, 8, 0], scales, Zeros::Symmetric)?;
/// let x = Mat::from_vec([2.0, 3.0, 0.25].map(f16::from_f32).to_vec(), 1, 3)?;
/// let (device, mut y) = (fp16::array(), Mat::<f32>::zeros(1, 1));
/// let weights = device.prepare(&w)?;
/// device.run(&weights, x.view().into(), Mode::Native, &Epilogue::new(), y.view_mut().into())?;
/// assert_eq!(y.data(), [0.0]); // 0.5·2 + 0·3 − 4·0.25
/// # Ok::<(), mixgemm::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FloatDevice<E> {
    name: &'static str,
    element: E,
}

/// Weights in front of a [`FloatDevice`]'s element. They belong to devices with an equal element.
#[derive(Debug, Clone)]
pub struct FloatWeights<E: FloatElement> {
    element: E,
    prepared_by: &'static str,
    shape: WeightShape,
    /// `[N, K]`.
    weights: Vec<E::Weight>,
    /// `[N, G]`.
    groups: Vec<Meaning>,
    /// Shifts and additions of one row of activations.
    shifts: u64,
    adds: u64,
}

/// What the codes of row `n`, group `g` mean.
pub(super) fn meaning(w: &QuantMatrix, n: usize, g: usize) -> Meaning {
    let scheme = w.scheme();
    Meaning {
        scale: w.scale(n, g) * if scheme.is_sign_only() { 2.0 } else { 1.0 },
        zero: w.zero(n, g),
        symmetric: scheme.zero == ZeroPoint::Symmetric,
    }
}

impl<E: FloatElement> FloatDevice<E> {
    /// A device of this name, for tables, around this element.
    #[must_use]
    pub const fn new(name: &'static str, element: E) -> Self {
        Self { name, element }
    }

    /// The element.
    #[must_use]
    pub const fn element(&self) -> &E {
        &self.element
    }

    fn check(&self, w: &FloatWeights<E>, x: &Activations<'_>, mode: Mode) -> Result<()> {
        check_environment()?;
        if w.element != self.element {
            return Err(Error::ForeignWeights {
                argument: "weights",
                expected: self.name.into(),
                found: w.prepared_by.into(),
            });
        }
        self.capabilities().check_mode(mode)?;
        x.check(mode, w.shape.k, &w.shape.scheme)
    }

    /// One row of outputs before the epilogue.
    fn row(&self, w: &FloatWeights<E>, x: &[f16], y: &mut [f32], counters: &mut Counters) {
        let WeightShape { k, groups, group, .. } = w.shape;
        let after = self.element.scales_after_group();
        let range = |g: usize| g * group..((g + 1) * group).min(k);
        let operands: Vec<E::Operand> = x.iter().map(|&x| self.element.operand(x)).collect();
        let mut sums = Vec::new();
        if after {
            let mut overflow = false;
            sums.extend((0..groups).map(|g| self.element.sum(&operands[range(g)], &mut overflow)));
            counters.activation_sums += groups as u64;
            counters.overflows += u64::from(overflow);
        }
        for (n, y) in y.iter_mut().enumerate() {
            let weights = &w.weights[n * k..][..k];
            if !after {
                let mut overflow = false;
                *y = self.element.dot(0.0, weights, &operands, &mut overflow);
                counters.overflows += u64::from(overflow);
                continue;
            }
            for (g, &b) in sums.iter().enumerate() {
                let (mut overflow, meaning) = (false, &w.groups[n * groups + g]);
                let a = self
                    .element
                    .dot(0.0, &weights[range(g)], &operands[range(g)], &mut overflow);
                *y = fma(fma(-meaning.zero, b, a), meaning.scale, *y);
                counters.overflows += u64::from(overflow);
            }
            counters.scale_multiplications += groups as u64;
            counters.zero_point_terms += groups as u64;
        }
        counters.macs += w.weights.len() as u64;
        counters.shifts += w.shifts;
        counters.adds += w.adds;
    }
}

impl<E: FloatElement> Backend for FloatDevice<E> {
    type Prepared = FloatWeights<E>;

    fn name(&self) -> &'static str {
        self.name
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::rounding(self.element.max_bits())
    }

    fn prepare(&self, w: &QuantMatrix) -> Result<FloatWeights<E>> {
        self.capabilities().check_scheme(w.scheme())?;
        let shape = WeightShape::from(w);
        let mut out = FloatWeights {
            element: self.element,
            prepared_by: self.name,
            shape,
            weights: Vec::with_capacity(w.codes().len()),
            groups: Vec::with_capacity(shape.n * shape.groups),
            shifts: 0,
            adds: 0,
        };
        for n in 0..shape.n {
            for g in 0..shape.groups {
                let meaning = meaning(w, n, g);
                out.groups.push(meaning);
                for &code in &w.code_row(n)[w.group_range(g)] {
                    out.weights.push(self.element.weight(code, &meaning)?);
                    let work = self.element.work(code);
                    out.shifts += work.shifts;
                    out.adds += work.adds;
                }
            }
        }
        Ok(out)
    }

    fn run(
        &self,
        w: &FloatWeights<E>,
        x: Activations<'_>,
        mode: Mode,
        epilogue: &Epilogue<'_>,
        mut y: Output<'_>,
    ) -> Result<Report> {
        let ((m, _), n) = (x.shape(), w.shape.n);
        self.check(w, &x, mode)?;
        epilogue.check(m, n)?;
        y.check(m, n)?;
        let blocks = in_blocks(if n == 0 { 0 } else { m }, |rows| {
            check_environment()?;
            let (mut sums, mut counters) = (vec![0.0; rows.len() * n], Counters::default());
            for (m, sums) in rows.clone().zip(sums.chunks_mut(n)) {
                if let Row::F16(x) = x.row(m) {
                    self.row(w, x, sums, &mut counters);
                }
                epilogue.finish(sums, m, 0, None);
            }
            Ok((rows, sums, counters))
        });
        let mut counters = gather(blocks, n, |m, sums| y.store(m, 0, sums))?;
        if !self.element.scales_after_group() && m > 0 {
            counters.weight_conversions = w.weights.len() as u64;
        }
        Ok(Report {
            kernel: self.element.name(),
            counters,
        })
    }
}
