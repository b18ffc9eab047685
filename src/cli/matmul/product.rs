//! The product that `matmul` times, and what a split in it did with outliers.
#![forbid(unsafe_code)]

use crate::cli::arguments::spelled;
use crate::cli::device::Device;
use crate::cli::measure;
use crate::cli::split::{Columns, SplitArgs, SplitName};
use crate::cli::table;
use mixgemm::backend::DeviceTime;
use mixgemm::{Activations, Epilogue, Mat, Mode, Report, Result, Workspace};
use serde::Serialize;
use std::fmt;
use std::num::NonZeroUsize;
use std::time::Duration;

/// Rounds over a product with a split and that of the wrapped backend.
const ROUNDS: u32 = 3;

/// A product and who multiplies.
pub(super) struct Product<'a> {
    pub(super) device: &'a Device,
    pub(super) threads: NonZeroUsize,
    pub(super) x: Activations<'a>,
    pub(super) mode: Mode,
    pub(super) splitting: SplitArgs,
    /// Time for repeats; none where it is zero.
    pub(super) budget: Duration,
}

/// What was timed.
pub(super) struct Timed {
    pub(super) seconds: f64,
    pub(super) report: Report,
    pub(super) outliers: Option<Outliers>,
    /// What an emulated device with a latency model has spent after the first product.
    pub(super) spent: Option<DeviceTime>,
}

/// Outliers of one product.
#[derive(Debug, Serialize)]
pub(super) struct Outliers {
    split: String,
    /// Whether the calibration took the shadow from this layer, which is clamped then.
    pruned: bool,
    k: usize,
    /// Input channels with outliers.
    channels: u64,
    /// Outliers.
    activations: u64,
    /// Multiply-adds for outliers, as a share of those of the whole product.
    share_of_work: f64,
    /// The wrapped backend alone: the shadow split's outliers clamped.
    seconds_wrapped: f64,
    /// What the split adds to that: the search, and the product of outliers.
    seconds_outliers: f64,
    /// The weights that outliers meet, as one product reads them.
    columns_of_weights: Columns,
}

impl Product<'_> {
    /// Runs it once, into y.
    pub(super) fn run(&self, workspace: &mut Workspace, epilogue: &Epilogue<'_>, y: &mut Mat<f32>) -> Result<Report> {
        let (device, threads) = (self.device, self.threads);
        device.run(workspace, threads, (self.x, self.mode), epilogue, y.view_mut())
    }

    /// Runs it into y, again and again for as long as the budget goes; a split in turn with the wrapped backend alone.
    pub(super) fn time(&self, workspace: &mut Workspace, epilogue: &Epilogue<'_>, y: &mut Mat<f32>) -> Result<Timed> {
        let splits = self.splitting.split != SplitName::None;
        let rounds = if splits && !self.budget.is_zero() { ROUNDS } else { 1 };
        let clamped = match self.mode {
            Mode::A8Static { scale, .. } => Mode::A8Static { scale, saturate: true },
            mode => mode,
        };
        let mut bare = splits.then(|| y.clone());
        let (mut whole, mut wrapped, mut report) = (Vec::new(), Vec::new(), None);
        let mut spent = None;
        for _ in 0..rounds {
            whole.push(measure::slice(self.budget / rounds, || {
                let (result, seconds) = measure::timed(|| self.run(workspace, epilogue, y));
                report = Some(result?);
                spent = spent.or_else(|| self.device.time());
                Ok(seconds)
            })?);
            let Some(bare) = &mut bare else { continue };
            wrapped.push(measure::slice(self.budget / rounds, || {
                let run = || self.device.run_wrapped((self.x, clamped), epilogue, bare.view_mut());
                let (result, seconds) = measure::timed(run);
                result.map(|_| seconds)
            })?);
        }
        let seconds = measure::median(whole);
        Ok(Timed {
            seconds,
            report: report.expect("a slice is at least one call"),
            outliers: splits.then(|| self.outliers(seconds, measure::median(wrapped))),
            spent,
        })
    }

    fn outliers(&self, whole: f64, wrapped: f64) -> Outliers {
        let (work, (m, k)) = (self.device.work(), self.x.shape());
        let products = work.products.max(1);
        let activations = work.outliers / products;
        Outliers {
            split: spelled(self.splitting.split),
            pruned: self.splitting.split == SplitName::Shadow
                && matches!(self.mode, Mode::A8Static { saturate: true, .. }),
            k,
            channels: work.channels / products,
            activations,
            share_of_work: activations as f64 / (m * k).max(1) as f64,
            seconds_wrapped: wrapped,
            seconds_outliers: whole - wrapped,
            columns_of_weights: self.splitting.columns([self.device].into_iter(), products),
        }
    }
}

impl fmt::Display for Outliers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (share, k) = (table::percent(self.share_of_work), self.k);
        if self.pruned {
            return write!(f, "clamped: the calibration took the shadow from this layer");
        }
        let of_channels = table::percent(self.channels as f64 / k.max(1) as f64);
        write!(
            f,
            "{} ({share} of the multiply-adds) in {} of {k} channels ({of_channels}), split: {}",
            self.activations, self.channels, self.split
        )
    }
}

impl Outliers {
    /// The weights that outliers meet.
    pub(super) fn columns(&self) -> &Columns {
        &self.columns_of_weights
    }

    /// The time of each part.
    pub(super) fn parts(&self) -> String {
        let wrapped = table::time(self.seconds_wrapped);
        let more = Some(self.seconds_outliers).filter(|more| *more > 0.0);
        let more = more.map_or_else(|| "nothing measurable".into(), table::time);
        format!("{wrapped} without a split, {more} more for outliers")
    }
}
