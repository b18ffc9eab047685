//! What becomes of outliers, chosen at run time, around a backend chosen at run time.
#![forbid(unsafe_code)]

use crate::backend::{AnyBackend, Erased, Prepared};
use crate::base::error::Result;
use crate::base::parallel::Par;
use crate::outlier::columns::Columns;
use crate::outlier::mixed::{Mixed, MixedWeights, Outlying};
use crate::outlier::split::{Split, SplitWeights, SplitWork};
use alloc::boxed::Box;

/// What becomes of outliers.
///
/// ```
/// use mixgemm::outlier::treatment::{Treatment, work};
/// use mixgemm::{AnyBackend, Epilogue, Host, Mat, Mode, Par, QuantMatrix, Scheme};
/// let w = QuantMatrix::quantize(Mat::from_fn(2, 4, |n, k| (n + k) as f32).view(), Scheme::int(8).per_channel())?;
/// let x = Mat::from_fn(1, 4, |_, k| if k == 3 { 1000.0 } else { k as f32 });
/// let host: Box<dyn AnyBackend> = Box::new(Host::new());
/// let backend = Treatment::Shadow.around(host.into(), Par::Seq)?;
/// let prepared = backend.as_ref().prepare(&w)?;
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

impl Treatment {
    /// The backend, with the split around it that this treatment needs; `par` are the split's own threads.
    ///
    /// # Errors
    /// As [`Mixed::new`].
    pub fn around(&self, backend: Erased, par: Par) -> Result<Box<dyn AnyBackend>> {
        Ok(match self {
            Self::None => Box::new(backend),
            Self::Shadow => Box::new(Split::new(backend).par(par)),
            Self::Mixed(outlying) => Box::new(Mixed::new(backend, outlying.clone())?),
        })
    }
}

/// What a split has done so far with weights that [it](Treatment::around) prepared; nothing where there is no split.
#[must_use]
pub fn work(weights: &Prepared) -> SplitWork {
    let shadow = weights.downcast_ref::<SplitWeights<Prepared>>().map(SplitWeights::work);
    let mixed = || weights.downcast_ref::<MixedWeights<Prepared>>().map(MixedWeights::work);
    shadow.or_else(mixed).unwrap_or_default()
}

/// The weights of the backend that a treatment was put [around](Treatment::around): what its own products take.
#[must_use]
pub fn wrapped(weights: &Prepared) -> &Prepared {
    let shadow = weights.downcast_ref().map(SplitWeights::prepared);
    let mixed = || weights.downcast_ref().map(MixedWeights::prepared);
    let none = || weights.downcast_ref().unwrap_or(weights);
    shadow.or_else(mixed).unwrap_or_else(none)
}

/// The columns of weights that outliers meet, where a split keeps integers for them.
#[must_use]
pub fn columns(weights: &Prepared) -> Option<&dyn Columns> {
    let shadow = weights
        .downcast_ref::<SplitWeights<Prepared>>()
        .map(SplitWeights::columns);
    let mixed = || {
        weights
            .downcast_ref::<MixedWeights<Prepared>>()
            .and_then(MixedWeights::columns)
    };
    shadow.or_else(mixed)
}
