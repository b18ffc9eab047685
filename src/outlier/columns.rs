//! Weights by input channel: what an outlier meets. A product reads a row of weights; its few outliers need columns.
#![forbid(unsafe_code)]

use crate::base::disjoint::TileGrid;
use crate::base::error::{Error, Result};
use crate::base::float::Element;
use crate::base::parallel::Team;
use crate::base::view::{MatMut, MatRef};
use crate::outlier::hot::Reads;
use crate::quant::matrix::QuantMatrix;
use crate::quant::scheme::ZeroPoint;
use alloc::{format, vec, vec::Vec};
use core::marker::PhantomData;
use core::sync::atomic::{AtomicBool, Ordering};
use half::f16;

/// A store of weights by input channel: the integers `q − z0` (`2q − 1` for one symmetric bit), or f16 weights that were
/// never quantised.
///
/// Many threads read from it at once.
pub trait Columns<T = i16>: Send + Sync {
    /// Output channels N and input channels K.
    fn shape(&self) -> (usize, usize);

    /// Writes the N weights of input channel `k`.
    ///
    /// # Errors
    /// [`Error::Shape`] where there is no such channel or `to` has another length.
    fn read(&self, k: usize, to: &mut [T]) -> Result<()>;

    /// Bytes of the weights in memory.
    fn bytes(&self) -> usize;

    /// How often columns were read so far, where that is counted.
    fn reads(&self) -> Reads {
        Reads::default()
    }
}

/// Checks a request.
pub(super) fn check_request((n, columns): (usize, usize), k: usize, len: usize) -> Result<()> {
    if k < columns && len == n {
        return Ok(());
    }
    let expected = format!("a channel below {columns} into {n} weights");
    Err(Error::shape("columns", expected, format!("channel {k} into {len}")))
}

/// Below this many weights, gathering them is not worth a hand-off to other threads.
pub(super) const GATHER_ALONE: usize = 256 * 1024;

/// Reads the weights of some channels, `[channel, N]`.
pub(super) fn read_all<T: Weight>(
    columns: &dyn Columns<T>,
    channels: &[u32],
    to: &mut Vec<T>,
    team: Team<'_>,
) -> Result<()> {
    let n = columns.shape().0;
    to.resize(channels.len() * n, T::default());
    let grid = TileGrid::new(MatMut::row_major(to, channels.len(), n)?, 1, n);
    let failed = AtomicBool::new(false);
    let read = |_| {
        while let Some(mut column) = grid.next() {
            let i = column.rows().start;
            let read = columns.read(channels[i] as usize, column.row_mut(i, 0..n));
            failed.fetch_or(read.is_err(), Ordering::Relaxed);
        }
    };
    team.run(
        if channels.len() * n <= GATHER_ALONE {
            1
        } else {
            channels.len()
        },
        &read,
    );
    if failed.into_inner() {
        // Once more in order, for the first channel's error.
        let mut all = channels.iter().zip(to.chunks_mut(n));
        all.try_for_each(|(&k, to)| columns.read(k as usize, to))?;
    }
    Ok(())
}

/// A weight of a store: `i16` or [`f16`](struct@f16).
pub trait Weight: sealed::Sealed + Copy + Default + Send + Sync + 'static {
    /// Weights from their bytes, one or two each, little-endian.
    #[doc(hidden)]
    fn decode(bytes: &[u8], to: &mut [Self]);
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for i16 {}
    impl Sealed for half::f16 {}
}

impl Weight for i16 {
    fn decode(bytes: &[u8], to: &mut [Self]) {
        if bytes.len() == to.len() {
            for (to, &byte) in to.iter_mut().zip(bytes) {
                *to = Self::from(byte as i8);
            }
        } else {
            for (to, &bytes) in to.iter_mut().zip(bytes.as_chunks().0) {
                *to = Self::from_le_bytes(bytes);
            }
        }
    }
}

impl Weight for f16 {
    fn decode(bytes: &[u8], to: &mut [Self]) {
        for (to, &bytes) in to.iter_mut().zip(bytes.as_chunks().0) {
            *to = Self::from_le_bytes(bytes);
        }
    }
}

/// How columns lie in bytes: `[K, N]`, each weight of `width` bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order<T> {
    n: usize,
    k: usize,
    width: usize,
    weight: PhantomData<T>,
}

impl<T: Weight> Order<T> {
    pub(super) fn shape(&self) -> (usize, usize) {
        (self.n, self.k)
    }

    /// Writes column k of these bytes.
    pub(super) fn read(&self, bytes: &[u8], k: usize, to: &mut [T]) -> Result<()> {
        check_request(self.shape(), k, to.len())?;
        let column = self.n * self.width;
        T::decode(&bytes[k * column..][..column], to);
        Ok(())
    }
}

/// All columns in memory: integers at one byte a weight, or two for 8-bit codes with zero points of their own; or f16.
///
/// ```
/// use mixgemm::outlier::columns::{Columns, InMemory};
/// use mixgemm::{Mat, QuantMatrix, Scheme, f16};
/// let weights = Mat::from_fn(2, 3, |n, k| (n + k) as f32);
/// let w = QuantMatrix::quantize(weights.view(), Scheme::int(8))?;
/// let (mut levels, mut floats) = ([0; 2], [f16::ZERO; 2]);
/// InMemory::new(&w).read(2, &mut levels)?;
/// assert_eq!(levels.map(i32::from), [w.level(0, 2), w.level(1, 2)]);
/// InMemory::halves(weights.view())?.read(2, &mut floats)?;
/// assert_eq!(floats.map(f32::from), [2.0, 3.0]);
/// # Ok::<(), mixgemm::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct InMemory<T = i16> {
    pub(super) order: Order<T>,
    pub(super) bytes: Vec<u8>,
}

impl<T> InMemory<T> {
    fn of(n: usize, k: usize, width: usize, bytes: Vec<u8>) -> Self {
        let weight = PhantomData;
        let order = Order { n, k, width, weight };
        Self { order, bytes }
    }
}

impl InMemory {
    /// Transposes the integers of weights.
    #[must_use]
    pub fn new(w: &QuantMatrix) -> Self {
        // A code of 8 bits less a zero point of 0..=256 is in −256..=255, one of 7 bits or less in −128..=127.
        if w.scheme().bits == 8 && w.scheme().zero != ZeroPoint::Symmetric {
            let words = transpose(w, |level| (level as i16).to_le_bytes());
            Self::of(w.n(), w.k(), 2, words.into_flattened())
        } else {
            Self::of(w.n(), w.k(), 1, transpose(w, |level| level as u8))
        }
    }
}

impl InMemory<f16> {
    /// Transposes weights N × K that were never quantised, and rounds them to f16.
    ///
    /// # Errors
    /// [`Error::Value`] for a weight that is not finite as f16.
    pub fn halves<E: Element>(weights: MatRef<'_, E>) -> Result<Self> {
        let (n, k) = (weights.rows(), weights.cols());
        let mut halves = vec![[0; 2]; n * k];
        for (first, start) in (0..n)
            .step_by(BLOCK)
            .flat_map(|n| (0..k).step_by(BLOCK).map(move |k| (n, k)))
        {
            for row in first..(first + BLOCK).min(n) {
                let inputs = start..(start + BLOCK).min(k);
                for (column, weight) in inputs.clone().zip(&weights.row(row)[inputs]) {
                    let half = f16::from_f32(weight.to_f32());
                    if !half.is_finite() {
                        let found = format!("{weight:?} at ({row}, {column})");
                        return Err(Error::value("weights", "weights that are finite as f16", found));
                    }
                    halves[column * n + row] = half.to_le_bytes();
                }
            }
        }
        Ok(Self::of(n, k, 2, halves.into_flattened()))
    }
}

impl<T: Weight> Columns<T> for InMemory<T> {
    fn shape(&self) -> (usize, usize) {
        self.order.shape()
    }

    fn read(&self, k: usize, to: &mut [T]) -> Result<()> {
        self.order.read(&self.bytes, k, to)
    }

    fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

/// Rows and columns that are transposed together, so that both stay in cache.
const BLOCK: usize = 64;

/// The integers `[K, N]`.
fn transpose<T: Copy + Default>(w: &QuantMatrix, narrow: impl Fn(i32) -> T) -> Vec<T> {
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
