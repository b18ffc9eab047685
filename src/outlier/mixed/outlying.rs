//! Which activations a split by precision takes for outliers.
#![forbid(unsafe_code)]

use crate::base::error::{Error, Result};
use alloc::{format, vec::Vec};

/// Which activations of a row are outliers.
#[derive(Debug, Clone, PartialEq)]
pub enum Outlying {
    /// Magnitudes above this; LLM.int8() has 6.
    Above(f32),
    /// The share of a row with the largest magnitudes, rounded up to whole activations, of equals the first; OLAccel has 3 %.
    Top(f64),
    /// These channels, ascending, as calibration found them.
    Channels(Vec<u32>),
}

impl Outlying {
    /// # Errors
    /// [`Error::Value`] for a threshold that is NaN or negative, a share outside 0..=1, or channels out of order.
    pub(super) fn check(&self) -> Result<()> {
        match self {
            Outlying::Above(limit) if limit.is_nan() || *limit < 0.0 => {
                Err(Error::value("threshold", "0 or more", format!("{limit}")))
            }
            Outlying::Top(share) if !(0.0..=1.0).contains(share) => {
                Err(Error::value("share", "0 to 1", format!("{share}")))
            }
            Outlying::Channels(channels) if !channels.is_sorted_by(|a, b| a < b) => {
                Err(Error::value("channels", "ascending channels", format!("{channels:?}")))
            }
            _ => Ok(()),
        }
    }
}
