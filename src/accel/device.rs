//! The device: walks rows, groups and columns through a processing element and dequantises after each group.
//!
//! The order is MixPE's (arXiv 2411.16158, equation 5), with the roundings of [`reference`](crate::reference):
//!
//! ```text
//! for every group:
//!     for every row:                B = Σ a                     formed once, shared by all columns
//!     for every column and row:     D = Σ q·a                   the processing element
//!                                   T = D − z·B                 integers; 2D − B for one symmetric bit
//!                                   y = fma(rne(T), s·t, y)     one multiplication by a scale
//! ```
//!
//! A row with non-finite inputs does not enter the element. Its outputs follow from signs alone, and it is not counted.
#![forbid(unsafe_code)]

use crate::accel::blocks::{gather, in_blocks};
use crate::accel::element::ProcessingElement;
use crate::accel::fast::Fast;
use crate::accel::weights::DeviceWeights;
use crate::backend::{AnyBackend, Backend, Capabilities, Counters, GroupSums, Report};
use crate::base::error::Result;
use crate::base::float::{canonical, check_environment, fma};
use crate::base::view::MatMut;
use crate::epilogue::{Epilogue, Output};
use crate::quant::activation::{IntegerRow, integer_row};
use crate::quant::input::{Activations, Mode};
use crate::quant::matrix::QuantMatrix;
use crate::quant::scheme::{Scheme, ZeroPoint};
use alloc::{boxed::Box, vec, vec::Vec};
use core::ops::Range;

/// An emulated accelerator: a name and a processing element.
///
/// ```
/// use mixgemm::accel::device::Device;
/// use mixgemm::accel::element::shift_add::ShiftAddI8;
/// use mixgemm::{Activations, Backend, Epilogue, Floats, Mat, Mode, QuantMatrix, ScaleType, Scheme, Zeros};
/// let device = Device::new("three columns", ShiftAddI8);
/// let scales = Floats::from_f32(ScaleType::F16, &[0.5, 1.0]);
/// let scheme = Scheme::int(4).asymmetric();
/// let w = QuantMatrix::from_parts(scheme, 2, 3, vec![1, 2, 3, 15, 0, 9], scales, Zeros::Integer(vec![2, 0]))?;
/// let x = Mat::from_vec(vec![1i8, -2, 3], 1, 3)?;
/// let mut y = Mat::<f32>::zeros(1, 2);
/// let x = Activations::int8(x.view(), 2.0);
/// let report = device.run(&device.prepare(&w)?, x, Mode::A8Given, &Epilogue::new(), y.view_mut().into())?;
/// assert_eq!(y.data(), [2.0, 84.0]);
/// assert_eq!(report.counters.scale_multiplications, 2);
/// # Ok::<(), mixgemm::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device<E> {
    name: &'static str,
    element: E,
}

/// One row of activations in front of the element.
struct FedRow<O> {
    operands: Vec<O>,
    integers: IntegerRow,
}

/// The exact integers of one (row, group, column), and where they belong.
struct GroupResult {
    /// Row within the block.
    row: usize,
    group: usize,
    column: usize,
    /// `D − z·B`, or `2D − B`.
    corrected: i64,
    /// `B`.
    activations: i64,
}

impl<E: ProcessingElement> Device<E> {
    /// A device of this name, for tables, around this element.
    #[must_use]
    pub const fn new(name: &'static str, element: E) -> Self {
        Self { name, element }
    }

    /// The processing element.
    #[must_use]
    pub const fn element(&self) -> &E {
        &self.element
    }

    fn check(&self, w: &DeviceWeights, x: &Activations<'_>, mode: Mode) -> Result<()> {
        check_environment()?;
        // Weights that another device prepared may be wider than this element.
        Backend::capabilities(self).check_scheme(&w.shape.scheme)?;
        Backend::capabilities(self).check_mode(mode)?;
        x.check(mode, w.shape.k, &w.shape.scheme)
    }

    /// Brings rows of activations in front of the element.
    fn feed(
        &self,
        w: &DeviceWeights,
        x: Activations<'_>,
        mode: Mode,
        rows: Range<usize>,
    ) -> Result<Vec<FedRow<E::Operand>>> {
        check_environment()?;
        rows.map(|m| {
            let integers = integer_row(x.row(m), mode, w.shape.group.max(1))?;
            let mut operands = Vec::new();
            if integers.non_finite.is_empty() {
                operands.reserve_exact(w.shape.k);
                self.element.operands(x.row(m), &integers, &mut operands);
            }
            Ok(FedRow { operands, integers })
        })
        .collect()
    }

    /// Walks a block of rows and hands every group's integers to `emit`: for a (row, column) in ascending order of k.
    fn walk(
        &self,
        w: &DeviceWeights,
        rows: &[FedRow<E::Operand>],
        counters: &mut Counters,
        mut emit: impl FnMut(GroupResult),
    ) {
        let shape = &w.shape;
        let finite: Vec<_> = rows
            .iter()
            .enumerate()
            .filter(|(_, row)| row.integers.non_finite.is_empty())
            .collect();
        let offset = self.element.offset(&shape.scheme);
        let corrected = has_zero_terms(&self.element, &shape.scheme);
        let mut weights = Vec::with_capacity(shape.group);
        let mut activations = vec![0; finite.len()];
        for group in 0..shape.groups {
            let start = group * shape.group;
            let k = start..(start + shape.group).min(shape.k);
            for (b, (_, x)) in activations.iter_mut().zip(&finite) {
                *b = self.element.sum(&x.operands[k.clone()]);
                counters.activation_sums += u64::from(corrected);
            }
            for column in 0..shape.n {
                let zero = w.group(column, group).zero_int - i64::from(offset);
                weights.clear();
                weights.extend(
                    w.codes(column, k.clone())
                        .iter()
                        .map(|&q| self.element.weight(q, offset)),
                );
                for (&(row, x), &b) in finite.iter().zip(&activations) {
                    let d = self.element.dot(&weights, &x.operands[k.clone()]);
                    counters.zero_point_terms += u64::from(corrected);
                    emit(GroupResult {
                        row,
                        group,
                        column,
                        corrected: if shape.scheme.is_sign_only() {
                            (d << 1) - b
                        } else {
                            d - zero * b
                        },
                        activations: b,
                    });
                }
            }
        }
        counters.macs += finite.len() as u64 * shape.n as u64 * shape.k as u64;
        for (code, &count) in (0u8..=255).zip(&w.occurrences) {
            let work = self.element.work(code);
            counters.shifts += finite.len() as u64 * count * work.shifts;
            counters.adds += finite.len() as u64 * count * work.adds;
        }
    }

    /// The same device with values of another backend, such as the host: its results are equal, its counters are formed
    /// without walking, and its reports name the kernel that computed. See [`Fast`].
    #[must_use]
    pub fn with_values_from(self, values: Box<dyn AnyBackend>) -> Box<dyn AnyBackend> {
        Box::new(Fast::new(self, values))
    }

    /// Continues the fold of a block of rows; `y` is `[rows, N]`.
    fn fold(&self, w: &DeviceWeights, rows: &[FedRow<E::Operand>], mode: Mode, y: &mut [f32], counters: &mut Counters) {
        let n = w.shape.n;
        let unit = self.element.unit();
        let mut scale_multiplications = 0;
        self.walk(w, rows, counters, |result| {
            let t = rows[result.row].integers.factors[result.group];
            let scaled = |v: f32| if mode.scales_per_group() { v * t } else { v };
            let group = w.group(result.column, result.group);
            let y = &mut y[result.row * n + result.column];
            *y = fma(result.corrected as f32 * unit, scaled(group.scale), *y);
            scale_multiplications += 1;
            if group.zero_fraction != 0.0 {
                let offset = -(group.scale * group.zero_fraction);
                *y = fma(result.activations as f32 * unit, scaled(offset), *y);
            }
        });
        counters.scale_multiplications += scale_multiplications;
        for (row, y) in rows.iter().zip(y.chunks_mut(n.max(1))) {
            if !row.integers.non_finite.is_empty() {
                for (n, y) in y.iter_mut().enumerate() {
                    *y += w.special(&row.integers.non_finite, n);
                }
            }
        }
    }

    /// One call is one pass over the weights.
    fn report(&self, w: &DeviceWeights, m: usize, counters: Counters) -> Report {
        let widened = m > 0 && self.element.widens(&w.shape.scheme);
        Report {
            kernel: self.element.name(),
            counters: Counters {
                weight_conversions: if widened {
                    w.shape.n as u64 * w.shape.k as u64
                } else {
                    0
                },
                ..counters
            },
        }
    }
}

/// Whether any zero point is left to correct after the element has taken off its offset.
pub(super) fn has_zero_terms(element: &impl ProcessingElement, scheme: &Scheme) -> bool {
    scheme.zero != ZeroPoint::Symmetric || element.offset(scheme) == 0
}

impl<E: ProcessingElement> Backend for Device<E> {
    /// The same type for all devices: each takes any other's weights that are not too wide for its element.
    type Prepared = DeviceWeights;

    fn name(&self) -> &'static str {
        self.name
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            min_bits: 1,
            max_bits: self.element.max_bits(),
            per_tensor: false,
            books: false,
            a8: self.element.takes(Mode::A8),
            a16: self.element.takes(Mode::A16),
            exact: self.element.takes(Mode::Exact),
            native: false,
            group_sums: true,
            accumulate: true,
            static_shapes: false,
            emulated: true,
        }
    }

    fn prepare(&self, weights: &QuantMatrix) -> Result<DeviceWeights> {
        Backend::capabilities(self).check_scheme(weights.scheme())?;
        Ok(DeviceWeights::new(weights))
    }

    fn run(
        &self,
        w: &DeviceWeights,
        x: Activations<'_>,
        mode: Mode,
        epilogue: &Epilogue<'_>,
        mut y: Output<'_>,
    ) -> Result<Report> {
        let ((m, _), n) = (x.shape(), w.shape.n);
        self.check(w, &x, mode)?;
        epilogue.check(m, n)?;
        y.check(m, n)?;
        let blocks = in_blocks(w.rows(m), |rows| {
            let fed = self.feed(w, x, mode, rows.clone())?;
            let (mut sums, mut counters) = (vec![0.0; fed.len() * n], Counters::default());
            self.fold(w, &fed, mode, &mut sums, &mut counters);
            for ((m, row), sums) in rows.clone().zip(&fed).zip(sums.chunks_mut(n.max(1))) {
                epilogue.finish(sums, m, 0, row.integers.row_scale);
            }
            Ok((rows, sums, counters))
        });
        Ok(self.report(w, m, gather(blocks, n, |m, sums| y.store(m, 0, sums))?))
    }

    /// See [`Backend::accumulate`]; NaN results are canonical.
    fn accumulate(&self, w: &DeviceWeights, x: Activations<'_>, mode: Mode, mut y: MatMut<'_, f32>) -> Result<Report> {
        let ((m, _), n) = (x.shape(), w.shape.n);
        self.check(w, &x, mode)?;
        Output::F32(y.reborrow()).check(m, n)?;
        let start = y.as_ref();
        let blocks = in_blocks(w.rows(m), |rows| {
            let fed = self.feed(w, x, mode, rows.clone())?;
            let mut sums = Vec::with_capacity(fed.len() * n);
            rows.clone().for_each(|m| sums.extend_from_slice(start.row(m)));
            let mut counters = Counters::default();
            self.fold(w, &fed, mode, &mut sums, &mut counters);
            sums.iter_mut().for_each(|y| *y = canonical(*y));
            Ok((rows, sums, counters))
        });
        let counters = gather(blocks, n, |m, sums| y.row_mut(m).copy_from_slice(sums))?;
        Ok(self.report(w, m, counters))
    }

    fn group_sums(&self, w: &DeviceWeights, x: Activations<'_>, mode: Mode, mut sums: GroupSums<'_>) -> Result<Report> {
        let (m, shape) = (x.shape().0, &w.shape);
        self.check(w, &x, mode)?;
        sums.check(m, shape, mode)?;
        let width = shape.groups * shape.n;
        let blocks = in_blocks(w.rows(m), |rows| {
            let fed = self.feed(w, x, mode, rows.clone())?;
            let (mut integers, mut counters) = (vec![0; fed.len() * width], Counters::default());
            self.walk(w, &fed, &mut counters, |result| {
                integers[result.row * width + result.group * shape.n + result.column] = result.corrected;
            });
            Ok((rows, integers, counters))
        });
        let counters = gather(blocks, width, |m, row| {
            for (i, &sum) in row.iter().enumerate() {
                sums.set(m * width + i, sum);
            }
        })?;
        Ok(self.report(w, m, counters))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accel::element::shift_add::ShiftAddI8;
    use crate::base::mat::Mat;
    use crate::quant::matrix::{Floats, Zeros};
    use crate::quant::scheme::{ScaleType, Scheme};

    #[test]
    fn rows_with_non_finite_inputs_are_not_counted() {
        let scales = Floats::from_f32(ScaleType::F16, &[1.0; 2]);
        let w = QuantMatrix::from_parts(Scheme::int(4), 2, 3, vec![3; 6], scales, Zeros::Symmetric).unwrap();
        let x = Mat::from_fn(3, 3, |m, k| if (m, k) == (1, 1) { f32::NAN } else { 1.0 });
        let device = Device::new("test", ShiftAddI8);
        let (prepared, mut y) = (Backend::prepare(&device, &w).unwrap(), Mat::zeros(3, 2));
        let report = Backend::accumulate(&device, &prepared, x.view().into(), Mode::A8, y.view_mut());
        let expected = Counters {
            macs: 12,
            shifts: 24,
            adds: 24,
            scale_multiplications: 4,
            zero_point_terms: 4,
            activation_sums: 2,
            ..Counters::default()
        };
        assert_eq!(report.unwrap().counters, expected);
    }
}
