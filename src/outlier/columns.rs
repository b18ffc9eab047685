//! Weights by input channel: what an outlier meets. A product reads a row of weights; its few outliers need columns.
#![forbid(unsafe_code)]

use crate::base::error::{Error, Result};
use crate::quant::matrix::QuantMatrix;
use crate::quant::scheme::ZeroPoint;
use alloc::{format, vec, vec::Vec};

/// A store of the integer weights `q − z0` (`2q − 1` for one symmetric bit) by input channel.
///
/// Many threads read from it at once.
pub trait Columns: Send + Sync {
    /// Output channels N and input channels K.
    fn shape(&self) -> (usize, usize);

    /// Writes the N weights of input channel `k`.
    ///
    /// # Errors
    /// [`Error::Shape`] where there is no such channel or `levels` has another length; [`Error::File`] where a store of
    /// files fails.
    fn read(&self, k: usize, levels: &mut [i16]) -> Result<()>;

    /// Bytes of the integers in memory.
    fn bytes(&self) -> usize;
}

/// Checks a request.
pub(super) fn check_request((n, columns): (usize, usize), k: usize, levels: &[i16]) -> Result<()> {
    if k < columns && levels.len() == n {
        return Ok(());
    }
    let expected = format!("a channel below {columns} into {n} integers");
    Err(Error::shape(
        "levels",
        expected,
        format!("channel {k} into {}", levels.len()),
    ))
}

/// All columns in memory, at one byte a weight, or two for 8-bit codes with zero points of their own.
///
/// ```
/// use mixgemm::outlier::columns::{Columns, InMemory};
/// use mixgemm::{Mat, QuantMatrix, Scheme};
/// let w = QuantMatrix::quantize(Mat::from_fn(2, 3, |n, k| (n + k) as f32).view(), Scheme::int(8))?;
/// let columns = InMemory::new(&w);
/// let mut levels = [0; 2];
/// columns.read(2, &mut levels)?;
/// assert_eq!(levels.map(i32::from), [w.level(0, 2), w.level(1, 2)]);
/// # Ok::<(), mixgemm::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct InMemory {
    n: usize,
    k: usize,
    levels: Stored,
}

/// The integers at the width they need, `[K, N]`.
#[derive(Debug, Clone)]
pub(super) enum Stored {
    Bytes(Vec<i8>),
    Words(Vec<i16>),
}

impl InMemory {
    /// Transposes weights.
    #[must_use]
    pub fn new(w: &QuantMatrix) -> Self {
        Self {
            n: w.n(),
            k: w.k(),
            levels: stored(w),
        }
    }
}

impl Columns for InMemory {
    fn shape(&self) -> (usize, usize) {
        (self.n, self.k)
    }

    fn read(&self, k: usize, to: &mut [i16]) -> Result<()> {
        check_request(self.shape(), k, to)?;
        let range = k * self.n..(k + 1) * self.n;
        match &self.levels {
            Stored::Bytes(levels) => {
                for (to, &level) in to.iter_mut().zip(&levels[range]) {
                    *to = i16::from(level);
                }
            }
            Stored::Words(levels) => to.copy_from_slice(&levels[range]),
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        match &self.levels {
            Stored::Bytes(levels) => levels.len(),
            Stored::Words(levels) => 2 * levels.len(),
        }
    }
}

/// All columns of a matrix.
pub(super) fn stored(w: &QuantMatrix) -> Stored {
    // A code of 8 bits less a zero point of 0..=256 is in −256..=255, one of 7 bits or less in −128..=127.
    if w.scheme().bits == 8 && w.scheme().zero != ZeroPoint::Symmetric {
        Stored::Words(transpose(w, |level| level as i16))
    } else {
        Stored::Bytes(transpose(w, |level| level as i8))
    }
}

/// The integers `[K, N]`, block by block so that rows and columns both stay in cache.
fn transpose<T: Copy + Default>(w: &QuantMatrix, narrow: impl Fn(i32) -> T) -> Vec<T> {
    const BLOCK: usize = 64;
    let (n, sign_only) = (w.n(), w.scheme().is_sign_only());
    let mut out = vec![T::default(); n * w.k()];
    for first in (0..n).step_by(BLOCK) {
        for g in 0..w.groups() {
            let range = w.group_range(g);
            for start in range.clone().step_by(BLOCK) {
                let inputs = start..(start + BLOCK).min(range.end);
                for row in first..(first + BLOCK).min(n) {
                    let zero = w.zero_int(row, g);
                    for (k, q) in inputs.clone().zip(w.carried(row, inputs.clone())) {
                        let q = i32::from(q);
                        out[k * n + row] = narrow(if sign_only { 2 * q - 1 } else { q - zero });
                    }
                }
            }
        }
    }
    out
}
