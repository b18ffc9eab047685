//! Outliers of sample activations by channel.
#![forbid(unsafe_code)]

use crate::base::error::{Error, Result};
use crate::outlier::calibration::each_row;
use crate::outlier::find;
use crate::quant::input::Activations;
use alloc::{format, vec, vec::Vec};

/// How often each channel had outliers of a scale, in how many rows: a second pass over the samples.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelCounts {
    limit: f32,
    rows: u64,
    counts: Vec<u64>,
}

impl ChannelCounts {
    /// Nothing counted yet, of `k` channels, for the scale t of mode `a8static`.
    ///
    /// # Errors
    /// [`Error::Value`] for a scale that is not finite and positive.
    pub fn new(k: usize, t: f32) -> Result<Self> {
        if !(t.is_finite() && t > 0.0) {
            return Err(Error::value("scale", "a finite positive scale", format!("{t}")));
        }
        Ok(Self {
            limit: find::limit(t),
            rows: 0,
            counts: vec![0; k],
        })
    }

    /// Adds a tensor.
    ///
    /// # Errors
    /// As [`Statistics::add`](crate::outlier::calibration::Statistics::add).
    pub fn add(&mut self, x: Activations<'_>) -> Result<()> {
        let Self {
            limit,
            rows: all,
            counts,
        } = self;
        each_row(x, counts.len(), |row| {
            *all += 1;
            for (x, count) in row.iter().zip(&mut *counts) {
                *count += u64::from(x.abs() > *limit);
            }
        })
    }

    /// The largest magnitude that is no outlier.
    #[must_use]
    pub fn limit(&self) -> f32 {
        self.limit
    }

    /// Rows seen.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Outliers of every channel.
    #[must_use]
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// The channels with outliers, the most frequent first, ties in ascending order.
    #[must_use]
    pub fn hottest(&self) -> Vec<u32> {
        let mut channels: Vec<u32> = (0..self.counts.len() as u32).collect();
        channels.retain(|&k| self.counts[k as usize] > 0);
        channels.sort_by_key(|&k| core::cmp::Reverse(self.counts[k as usize]));
        channels
    }
}
