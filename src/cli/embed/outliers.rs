//! The outliers that the inputs of quantised linears had.
#![forbid(unsafe_code)]

use mixgemm::outlier::calibration::ChannelCounts;
use mixgemm::{Mat, MatRef};
use serde::Serialize;
use std::iter::Sum;
use std::ops::Range;

/// Outliers of static scales, counted text by text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct Outliers {
    /// Input channels, added up over texts.
    pub(super) channels: u64,
    /// Those of them that had outliers in their text.
    pub(super) outlier_channels: u64,
    /// Inputs.
    pub(super) inputs: u64,
    /// Outliers.
    pub(super) outliers: u64,
}

impl Outliers {
    /// Counts the inputs `x` of a linear with the static scale `t`; every text has its rows.
    pub(super) fn count(&mut self, x: &Mat<f32>, texts: &[Range<usize>], t: f32) -> mixgemm::Result<()> {
        for rows in texts {
            let text: MatRef<'_, f32> = x.view().sub_rows(rows.start, rows.len())?;
            let mut counts = ChannelCounts::new(x.cols(), t)?;
            counts.add(text.into())?;
            self.channels += x.cols() as u64;
            self.outlier_channels += counts.counts().iter().filter(|&&count| count > 0).count() as u64;
            self.inputs += (rows.len() * x.cols()) as u64;
            self.outliers += counts.counts().iter().sum::<u64>();
        }
        Ok(())
    }

    /// The share of channels that had outliers.
    pub(super) fn channel_share(&self) -> f64 {
        self.outlier_channels as f64 / self.channels.max(1) as f64
    }

    /// The share of inputs that were outliers: what a split multiplies beside the whole product.
    pub(super) fn share(&self) -> f64 {
        self.outliers as f64 / self.inputs.max(1) as f64
    }
}

impl<'a> Sum<&'a Self> for Outliers {
    fn sum<I: Iterator<Item = &'a Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            channels: sum.channels + one.channels,
            outlier_channels: sum.outlier_channels + one.outlier_channels,
            inputs: sum.inputs + one.inputs,
            outliers: sum.outliers + one.outliers,
        })
    }
}
