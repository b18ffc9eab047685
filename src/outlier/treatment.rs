//! What becomes of outliers, chosen at run time, around a backend chosen at run time.
#![forbid(unsafe_code)]

use crate::backend::{AnyBackend, Backend, Erased, Prepared};
use crate::base::error::Result;
use crate::base::parallel::Par;
use crate::base::view::MatRef;
use crate::outlier::columns::{Columns, InMemory, Weight};
use crate::outlier::hot::{HotColumns, Reads};
#[cfg(feature = "pack-file")]
use crate::outlier::mapped::Mapped;
use crate::outlier::mixed::{Mixed, MixedWeights, OutlierWeights, Outlying};
use crate::outlier::split::{Split, SplitWeights, SplitWork};
use crate::quant::matrix::QuantMatrix;
use alloc::boxed::Box;
#[cfg(feature = "pack-file")]
use std::path::Path;

/// What becomes of outliers.
///
/// ```
/// use mixgemm::outlier::treatment::{Kept, Treatment, work};
/// use mixgemm::{AnyBackend, Epilogue, Host, Mat, Mode, Par, QuantMatrix, Scheme};
/// let w = QuantMatrix::quantize(Mat::from_fn(2, 4, |n, k| (n + k) as f32).view(), Scheme::int(8).per_channel())?;
/// let x = Mat::from_fn(1, 4, |_, k| if k == 3 { 1000.0 } else { k as f32 });
/// let host: Box<dyn AnyBackend> = Box::new(Host::new());
/// let (backend, prepared) = Treatment::Shadow.prepare(host.into(), Par::Seq, &w, &Kept::default())?;
/// let mode = Mode::A8Static { scale: 0.25, saturate: false };
/// let mut y = Mat::<f32>::zeros(1, 2);
/// backend.as_ref().run(&prepared, x.view().into(), mode, &Epilogue::new(), y.view_mut().into())?;
/// assert_eq!(work(&prepared).outliers, 1);
/// # Ok::<(), mixgemm::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum Treatment {
    /// Nothing of its own: a backend refuses them, or clamps where the mode says so.
    None,
    /// The exact integers of [`Split`].
    Shadow,
    /// The floats of [`Mixed`].
    Mixed(Outlying),
}

/// The weights that outliers meet, and where a split keeps them: the integers of all channels in memory, unless told
/// otherwise.
#[derive(Debug, Clone, Copy, Default)]
pub struct Kept<'a> {
    /// Weights N × K before they were quantised: outliers of [`Treatment::Mixed`] meet them as f16.
    pub floats: Option<MatRef<'a, f32>>,
    /// Only some channels in memory.
    #[cfg(feature = "pack-file")]
    pub hot: Option<Hot<'a>>,
}

/// Channels that stay in memory; all of them lie in a [file](Mapped).
#[cfg(feature = "pack-file")]
#[derive(Debug, Clone, Copy)]
pub struct Hot<'a> {
    /// The channels.
    pub channels: &'a [u32],
    /// Where the file is put, which has no name.
    pub directory: &'a Path,
}

impl Kept<'_> {
    /// The store of these columns, of which outliers meet no others than those of `only`.
    fn store<T: Weight>(&self, columns: InMemory<T>, only: Option<&[u32]>) -> Result<Box<dyn Columns<T>>> {
        #[cfg(feature = "pack-file")]
        if let Some(Hot { channels, directory }) = self.hot {
            let all = Mapped::new(columns, directory)?;
            return Ok(Box::new(HotColumns::new(Box::new(all), channels, channels.len())?));
        }
        Ok(match only {
            Some(channels) => Box::new(HotColumns::new(Box::new(columns), channels, channels.len())?.alone()),
            None => Box::new(columns),
        })
    }
}

impl Treatment {
    /// The backend with the split around it that this treatment needs, and weights prepared for both; `par` are the split's
    /// own threads.
    ///
    /// # Errors
    /// As [`Mixed::new`], [`Mixed::prepare_with`] and [`Split::prepare_with`]; [`Error::File`](crate::Error::File) where
    /// the system refuses a file of columns.
    pub fn prepare(
        &self,
        backend: Erased,
        par: Par,
        w: &QuantMatrix,
        kept: &Kept<'_>,
    ) -> Result<(Box<dyn AnyBackend>, Prepared)> {
        match self {
            Self::None => {
                let prepared = Prepared::new(&backend, Backend::prepare(&backend, w)?);
                Ok((Box::new(backend), prepared))
            }
            Self::Shadow => {
                let split = Split::new(backend).par(par);
                let columns = kept.store(InMemory::new(w), None)?;
                let prepared = Prepared::new(&split, split.prepare_with(w, columns)?);
                Ok((Box::new(split), prepared))
            }
            Self::Mixed(outlying) => {
                let split = Mixed::new(backend, outlying.clone())?.par(par);
                let weights = match (kept.floats, outlying) {
                    (None, _) => OutlierWeights::Quantised(kept.store(InMemory::new(w), None)?),
                    (Some(floats), Outlying::Channels(channels)) => {
                        OutlierWeights::Halves(kept.store(InMemory::halves(floats)?, Some(channels))?)
                    }
                    (Some(floats), _) => OutlierWeights::Halves(kept.store(InMemory::halves(floats)?, None)?),
                };
                let prepared = Prepared::new(&split, split.prepare_with(w, weights)?);
                Ok((Box::new(split), prepared))
            }
        }
    }
}

/// What a split has done so far with weights that were prepared [for it](Treatment::prepare); nothing where there is no split.
#[must_use]
pub fn work(weights: &Prepared) -> SplitWork {
    let shadow = weights.downcast_ref::<SplitWeights<Prepared>>().map(SplitWeights::work);
    let mixed = || weights.downcast_ref::<MixedWeights<Prepared>>().map(MixedWeights::work);
    shadow.or_else(mixed).unwrap_or_default()
}

/// The weights of the backend that a treatment was put [around](Treatment::prepare): what its own products take.
#[must_use]
pub fn wrapped(weights: &Prepared) -> &Prepared {
    let shadow = weights.downcast_ref().map(SplitWeights::prepared);
    let mixed = || weights.downcast_ref().map(MixedWeights::prepared);
    let none = || weights.downcast_ref().unwrap_or(weights);
    shadow.or_else(mixed).unwrap_or_else(none)
}

/// Bytes in memory of the weights that outliers meet.
#[must_use]
pub fn bytes(weights: &Prepared) -> usize {
    let shadow = weights.downcast_ref::<SplitWeights<Prepared>>();
    let mixed = || {
        weights
            .downcast_ref::<MixedWeights<Prepared>>()
            .map(MixedWeights::bytes)
    };
    shadow.map(|w| w.columns().bytes()).or_else(mixed).unwrap_or_default()
}

/// How often their columns were read, where that is counted.
#[must_use]
pub fn reads(weights: &Prepared) -> Reads {
    let shadow = weights.downcast_ref::<SplitWeights<Prepared>>();
    let mixed = || {
        weights
            .downcast_ref::<MixedWeights<Prepared>>()
            .map(MixedWeights::reads)
    };
    shadow.map(|w| w.columns().reads()).or_else(mixed).unwrap_or_default()
}
