//! The integers before the fold: `D − z0·B` of every (row, group, column), where they are written and whether they fit.
#![forbid(unsafe_code)]

use crate::base::error::{Error, Result};
use crate::quant::input::Mode;
use crate::quant::matrix::QuantMatrix;
use crate::quant::scheme::Scheme;
use alloc::format;

/// Where [`Backend::group_sums`](crate::Backend::group_sums) writes: `[M, G, N]`, row-major.
#[derive(Debug)]
pub enum GroupSums<'a> {
    /// 32-bit sums; refused where the mode, width and group length could overflow them.
    I32(&'a mut [i32]),
    /// 64-bit sums.
    I64(&'a mut [i64]),
}

impl GroupSums<'_> {
    /// Checks the length and whether every sum fits.
    ///
    /// # Errors
    /// [`Error::Shape`] for another length than `m·groups·n`; [`Error::Unsupported`] where `2^bits·|a|max·group` does not
    /// fit the integers, with the [span](Scheme::span) of a book in place of `2^bits`.
    pub fn check(&self, m: usize, w: &WeightShape, mode: Mode) -> Result<()> {
        let (len, width) = match self {
            Self::I32(sums) => (sums.len(), 32),
            Self::I64(sums) => (sums.len(), 64),
        };
        if m.checked_mul(w.groups).and_then(|mg| mg.checked_mul(w.n)) != Some(len) {
            let expected = format!("{m} x {} x {} sums", w.groups, w.n);
            return Err(Error::shape("sums", expected, format!("{len}")));
        }
        let magnitude: u128 = match mode {
            Mode::A16 => 32_639,
            Mode::Exact => 65_504 << 24,
            _ => 128,
        };
        if w.group as u128 * magnitude * u128::from(w.scheme.span()) >= 1 << (width - 1) {
            let (bits, group, mode) = (w.scheme.bits, w.group, mode.name());
            let found = format!("{width}-bit sums for {bits} bits, group {group}, mode {mode}");
            return Err(Error::unsupported("sums", "integers that hold every sum", found));
        }
        Ok(())
    }

    /// Writes sum `i`.
    #[inline]
    pub fn set(&mut self, i: usize, sum: i64) {
        match self {
            Self::I32(sums) => sums[i] = sum as i32,
            Self::I64(sums) => sums[i] = sum,
        }
    }
}

/// The shape and scheme of quantised weights, without the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeightShape {
    /// Output channels.
    pub n: usize,
    /// Input channels.
    pub k: usize,
    /// Groups per row.
    pub groups: usize,
    /// Weights in a full group.
    pub group: usize,
    /// The scheme.
    pub scheme: Scheme,
}

impl From<&QuantMatrix> for WeightShape {
    fn from(w: &QuantMatrix) -> Self {
        let (n, k, scheme) = (w.n(), w.k(), *w.scheme());
        Self {
            n,
            k,
            groups: w.groups(),
            group: scheme.group_length(k),
            scheme,
        }
    }
}
