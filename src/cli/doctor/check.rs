//! Every kernel that this CPU can run, made to run inside whole products and compared with the reference, bit for bit.
#![forbid(unsafe_code)]

use mixgemm::kernel::select::{choose, slice_counts};
use mixgemm::kernel::{Kernel, catalogue};
use mixgemm::{Activations, Epilogue, GroupSums, Host, Mat, Mode, QuantMatrix, Result, Scheme, Workspace};
use mixgemm::{CodeBook, ZeroPoint, f16, reference};
use serde::Serialize;

/// What was found about one kernel.
#[derive(Debug, Serialize)]
pub(super) struct Checked {
    pub(super) kernel: &'static str,
    #[serde(skip)]
    pub(super) row: &'static Kernel,
    /// Outputs and group sums that were compared.
    pub(super) checks: usize,
    /// Calls of the kernel meanwhile.
    pub(super) calls: u64,
    pub(super) pass: bool,
    /// The first difference.
    pub(super) fault: Option<String>,
}

/// The kernels that can be checked here.
pub(super) fn kernels() -> Vec<&'static Kernel> {
    catalogue::kernels().filter(|k| k.supported()).collect()
}

/// Checks a kernel with every kind of zero point, or several books, in every mode that uses it.
pub(super) fn check(kernel: &'static Kernel) -> Result<Checked> {
    let before = kernel.calls();
    let (mut checks, mut fault) = (0, None);
    let plain = [ZeroPoint::Symmetric, ZeroPoint::Integer, ZeroPoint::Float].map(|zero| Scheme {
        zero,
        ..Scheme::int(kernel.layout.bits)
    });
    let books = [CodeBook::MXFP4, CodeBook::FLINT4_UNSIGNED, CodeBook::IQ4_NL].map(Scheme::book);
    for scheme in if kernel.layout.book { books } else { plain } {
        // A unit and a part of one, twice, and a shorter last group; a full panel and a narrow one.
        let group = kernel.unit + 3;
        let (n, k) = (kernel.nr() + kernel.layout.lanes / 2 + 1, 2 * group + 5);
        let w = QuantMatrix::quantize(weights(n, k).view(), scheme.group(group))?;
        let gemm = Host::new().isa(kernel.isa)?.prepare_as(&w, kernel.layout)?;
        for mode in [Mode::A8, Mode::A16, Mode::Exact] {
            let Some(m) = rows(kernel, mode) else { continue };
            let (x32, x16) = (inputs(m, k), exact_inputs(kernel.slices, m, k, group));
            let x: Activations<'_> = match mode {
                Mode::Exact => x16.view().into(),
                _ => x32.view().into(),
            };
            let plan = gemm.plan(mode)?.prefer(|k| std::ptr::eq(k, kernel));
            let workspace = &mut Workspace::new();
            let (mut y, mut expected) = (Mat::<f32>::zeros(m, n), Mat::<f32>::zeros(m, n));
            plan.run(workspace, x, &Epilogue::new(), y.view_mut().into())?;
            reference::run(&w, x, mode, &Epilogue::new(), expected.view_mut().into())?;
            let bits = |y: &Mat<f32>| -> Vec<u32> { y.data().iter().map(|y| y.to_bits()).collect() };
            let outputs = difference(&bits(&y), &bits(&expected));
            let (mut sums, mut exact) = (vec![0i64; m * w.groups() * n], vec![0i64; m * w.groups() * n]);
            plan.group_sums(workspace, x, GroupSums::I64(&mut sums))?;
            reference::group_sums(&w, x, mode, GroupSums::I64(&mut exact))?;
            checks += y.data().len() + sums.len();
            let found = outputs.map(|at| format!("output {at}"));
            let found = found.or_else(|| difference(&sums, &exact).map(|at| format!("group sum {at}")));
            fault = fault.or(found.map(|what| format!("{what} in mode {}, {scheme:?}", mode.name())));
        }
    }
    let calls = kernel.calls() - before;
    let fault = fault.or_else(|| (calls == 0).then(|| "no product calls it".into()));
    Ok(Checked {
        kernel: kernel.name(),
        row: kernel,
        checks,
        calls,
        pass: fault.is_none(),
        fault,
    })
}

/// The first place at which two results differ.
fn difference<T: PartialEq>(found: &[T], expected: &[T]) -> Option<usize> {
    found.iter().zip(expected).position(|(a, b)| a != b)
}

/// The fewest rows of activations for which a product in this mode calls the kernel.
fn rows(kernel: &'static Kernel, mode: Mode) -> Option<usize> {
    if !slice_counts(mode).1.contains(&kernel.slices) {
        return None;
    }
    let selection = choose(kernel.isa, kernel.layout, mode, |k| std::ptr::eq(k, kernel))?;
    let serves = |&height: &usize| std::ptr::eq(selection.kernel(height, kernel.slices), kernel);
    selection.heights().filter(serves).last()
}

/// A fixed scramble of two indices.
fn scramble(r: usize, c: usize) -> u64 {
    let x = (r as u64 * 0x9E37_79B9 + c as u64 + 1).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (x ^ (x >> 31)).wrapping_mul(0x94D0_49BB_1331_11EB) >> 20
}

/// In −1..1.
fn signed(r: usize, c: usize) -> f32 {
    (scramble(r, c) % (1 << 20)) as f32 / f32::from(1u16 << 15) / 16.0 - 1.0
}

/// Weights whose scales and zero points differ from row to row and along K.
fn weights(n: usize, k: usize) -> Mat<f32> {
    Mat::from_fn(n, k, |n, k| {
        (signed(n, k) + (n % 5) as f32 * 0.1) * (1 + (n + k) % 7) as f32
    })
}

/// Activations of different ranges.
fn inputs(m: usize, k: usize) -> Mat<f32> {
    Mat::from_fn(m, k, |m, k| signed(m + 1000, k) * [1.0, 0.03, 50.0][(m + k / 16) % 3])
}

/// f16 input of which every group needs exactly `slices` slices in mode `exact`, or where these are three, every other
/// group four, which kernels of three take along: one input of a group is above what fewer slices hold, one is the
/// smallest unit, the others lie between.
fn exact_inputs(slices: usize, m: usize, k: usize, group: usize) -> Mat<f16> {
    let power = |e: i32| f64::from(e).exp2();
    Mat::from_fn(m, k, |m, k| {
        let slices = slices + usize::from(slices == 3 && k / group % 2 == 1);
        let top = power((8 * slices as i32 - 9).max(0));
        let span = (8 * slices as u64 - 2).min(40);
        let random = scramble(m + 2000, k);
        let exponent = (random % span) as i32;
        let kept = exponent.min(10);
        let between = ((random >> 8) % (1 << kept)) as f64 + power(kept);
        let sign = if random & 1 << 30 == 0 { 1.0 } else { -1.0 };
        let units = match k % group {
            0 => top,
            1 => 1.0,
            _ => sign * between * power(exponent - kept),
        };
        f16::from_f64(units * power(-24))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wrong_value_is_found() {
        assert_eq!(difference(&[1, 2, 3], &[1, 2, 3]), None);
        assert_eq!(difference(&[1, 2, 3], &[1, 2, 4]), Some(2));
    }

    #[test]
    fn every_slice_count_comes_up_in_checked_products() {
        for kernel in kernels().into_iter().filter(|k| k.layout.bits == 4 && k.mr == 1) {
            let checked = check(kernel).unwrap();
            assert!(checked.pass && checked.checks > 0, "{checked:?}");
            assert!(checked.calls > 0, "{checked:?}");
        }
    }
}
