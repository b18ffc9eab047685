//! The demo's last tables: 8-bit weights and activations with one scale each, and what becomes of outliers.
#![forbid(unsafe_code)]

use super::layer::Matrix;
use super::{ROUNDS, SLICE};
use crate::cli::arguments::HOST;
use crate::cli::device::{self, Device};
use crate::cli::measure;
use crate::cli::progress::Progress;
use crate::cli::table;
use crate::cli::truth;
use anyhow::Result;
use mixgemm::accel::catalogue::ACCELERATORS;
use mixgemm::outlier::calibration::{LayerCalibration, ScaleRule, calibrate};
use mixgemm::outlier::find::limit;
use mixgemm::outlier::mixed::Outlying;
use mixgemm::outlier::treatment::{Kept, Treatment};
use mixgemm::quant::figures::product_f64;
use mixgemm::{Activations, Epilogue, Figures, Mat, Mode, QuantMatrix, Scheme, Workspace};
use serde::Serialize;
use std::io::Write;
use std::num::NonZeroUsize;
use std::time::Duration;

/// One scale for all weights, as NPUs have it.
const SCHEME: Scheme = Scheme::int(8).per_tensor();
/// Who multiplies, where it is in the catalogue.
const BACKENDS: [&str; 2] = [HOST, "npu"];
/// llm.npu's scale: a thousandth of all magnitudes lies beyond 127 of them.
const RULE: ScaleRule = ScaleRule::Percentile(0.999);

/// One product.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    matrix: &'static str,
    m: usize,
    backend: &'static str,
    outliers: &'static str,
    kernel: &'static str,
    threads: usize,
    emulated: bool,
    seconds: f64,
    /// Of an emulated device, by its latency model, without the host's part.
    emulated_ms: Option<f64>,
    /// The wrapped backend alone.
    seconds_wrapped: Option<f64>,
    scale: f32,
    outlier_channels: usize,
    outlier_channels_share: f64,
    /// Multiply-adds for outliers, as a share of all.
    share_of_work: f64,
    sqnr_total_db: f64,
    worst_error_total: f64,
    /// The clamped product on the host: the reference's. On a device: the host's.
    pub(super) bits_equal: Option<bool>,
}

/// All matrices; `print` gets each one's rows as soon as they are known.
pub(super) fn all(
    matrices: &[Matrix],
    threads: NonZeroUsize,
    mut print: impl FnMut(&[Row]) -> Result<()>,
) -> Result<Vec<Row>> {
    let progress = Progress::new(matrices.len() * backends().count() * treatments(1.0).len());
    let mut all = Vec::new();
    for matrix in matrices {
        let rows = rows(matrix, threads, &progress)?;
        progress.suspend(|| print(&rows))?;
        all.extend(rows);
    }
    Ok(all)
}

fn backends() -> impl Iterator<Item = &'static str> {
    let known = |name: &&str| *name == HOST || ACCELERATORS.iter().any(|accelerator| accelerator.name() == *name);
    BACKENDS.into_iter().filter(known)
}

/// What becomes of outliers, with names.
fn treatments(scale: f32) -> [(&'static str, Treatment, bool); 3] {
    let beyond = Outlying::Above(limit(scale));
    [
        ("clamped", Treatment::None, true),
        ("shadow", Treatment::Shadow, false),
        ("mixed", Treatment::Mixed(beyond), true),
    ]
}

/// The rows of a matrix, on so many threads.
fn rows(matrix: &Matrix, threads: NonZeroUsize, progress: &Progress) -> Result<Vec<Row>> {
    let Matrix { name, weights, inputs } = matrix;
    let w = weights.quantize(SCHEME)?;
    let x = inputs.of(Mode::A16)?;
    let values = inputs.float.to_f32();
    let original = product_f64(values.view().sub_rows(0, inputs.m)?, weights.to_f32().view())?;
    let found = calibrate(x.shape().1, RULE, || [x])?;
    let scale = found.scale;
    let mut of_host: Vec<Mat<f32>> = Vec::new();
    let mut rows = Vec::new();
    for backend in backends() {
        for (i, (outliers, treatment, saturate)) in treatments(scale).into_iter().enumerate() {
            progress.step(format!("{name}, 8 bits per tensor: outliers {outliers} on {backend}"));
            let product = Product {
                w: &w,
                x,
                mode: Mode::A8Static { scale, saturate },
                threads,
            };
            let (mut row, y) = product.row(backend, &treatment)?;
            let bits = if backend == HOST {
                let defined = (treatment == Treatment::None).then(|| truth::defined(&w, x, product.mode));
                let defined = defined.transpose()?;
                defined.map(|defined| truth::same_bits(defined.view(), y.view()))
            } else {
                Some(truth::same_bits(of_host[i].view(), y.view()))
            };
            let total = Figures::between(original.view(), y.view())?;
            (row.matrix, row.outliers, row.bits_equal) = (*name, outliers, bits);
            (row.sqnr_total_db, row.worst_error_total) = (total.sqnr_db, total.worst);
            count(&mut row, &treatment, &found);
            rows.push(row);
            if backend == HOST {
                of_host.push(y);
            }
        }
    }
    Ok(rows)
}

/// Channels with outliers, which are known beforehand: those of the calibration.
fn count(row: &mut Row, treatment: &Treatment, found: &LayerCalibration) {
    row.outlier_channels = found.channels.len();
    row.outlier_channels_share = found.channels.len() as f64 / found.k.max(1) as f64;
    if *treatment == Treatment::None {
        row.share_of_work = 0.0;
    }
}

/// A product without its backend.
struct Product<'a> {
    w: &'a QuantMatrix,
    x: Activations<'a>,
    mode: Mode,
    threads: NonZeroUsize,
}

impl Product<'_> {
    /// Multiplies and measures.
    fn row(&self, backend: &str, treatment: &Treatment) -> Result<(Row, Mat<f32>)> {
        let &Self { w, x, mode, threads } = self;
        let par = device::rayon(threads);
        let backend = device::backend(backend, mode, false, None, &par)?;
        let device = Device::around(w, backend, treatment, &Kept::default(), &par)?;
        let (mut workspace, epilogue, mut kernel) = (Workspace::new(), Epilogue::new(), "");
        let mut y = Mat::<f32>::zeros(x.shape().0, w.n());
        let mut bare = y.clone();
        let Mode::A8Static { scale, .. } = mode else {
            unreachable!("the mode of these tables")
        };
        let clamped = Mode::A8Static { scale, saturate: true };
        let (budget, rounds) = if device.emulated {
            (Duration::ZERO, 1)
        } else {
            (SLICE, ROUNDS)
        };
        let (mut whole, mut wrapped) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            whole.push(measure::slice(budget, || {
                let run = || device.run(&mut workspace, threads, (x, mode), &epilogue, y.view_mut());
                let (report, seconds) = measure::timed(run);
                kernel = report?.kernel;
                Ok(seconds)
            })?);
            if *treatment == Treatment::None || device.emulated {
                continue;
            }
            wrapped.push(measure::slice(budget, || {
                let (report, seconds) = measure::timed(|| device.run_wrapped((x, clamped), &epilogue, bare.view_mut()));
                report.map(|_| seconds)
            })?);
        }
        let (work, (m, k)) = (device.work(), x.shape());
        let outliers = work.outliers as f64 / work.products.max(1) as f64;
        let row = Row {
            matrix: "",
            m,
            backend: device.name,
            outliers: "",
            kernel,
            threads: threads.get(),
            emulated: device.emulated,
            seconds: measure::median(whole),
            emulated_ms: device.time().map(|time| time.execute_ms),
            seconds_wrapped: (!wrapped.is_empty()).then(|| measure::median(wrapped)),
            scale,
            outlier_channels: 0,
            outlier_channels_share: 0.0,
            share_of_work: outliers / (m * k).max(1) as f64,
            sqnr_total_db: 0.0,
            worst_error_total: 0.0,
            bits_equal: None,
        };
        Ok((row, y))
    }
}

const HEADS: [&str; 11] = [
    "backend",
    "outliers",
    "kernel",
    "thr",
    "time",
    "without\nsplit",
    "outlier\nchannels",
    "share of\nwork",
    "SQNR\ntotal",
    "worst\nerror",
    "=ref",
];

/// Prints the table of a matrix.
pub(super) fn print(out: &mut impl Write, rows: &[Row]) -> Result<()> {
    let mut table = table::columns(&HEADS, 3);
    for row in rows {
        table.add_row([
            row.backend.to_string(),
            row.outliers.to_string(),
            row.kernel.to_string(),
            row.threads.to_string(),
            match row.emulated_ms {
                Some(ms) => format!("emulated {}", table::time(ms / 1000.0)),
                None if row.emulated => "emulated".into(),
                None => table::time(row.seconds),
            },
            row.seconds_wrapped.map_or_else(|| "-".into(), table::time),
            format!(
                "{} ({})",
                row.outlier_channels,
                table::percent(row.outlier_channels_share)
            ),
            format!("{:.3} %", 100.0 * row.share_of_work),
            table::decibels(row.sqnr_total_db),
            format!("{:.2}", row.worst_error_total),
            match row.bits_equal {
                Some(true) => "yes",
                Some(false) => "NO",
                None => "-",
            }
            .to_string(),
        ]);
    }
    let Some(Row { matrix, m, scale, .. }) = rows.first() else {
        return Ok(());
    };
    writeln!(
        out,
        "\n{matrix}, {}, mode a8static with the scale {scale:.4}, {m} input rows\n{}",
        table::scheme(&SCHEME),
        table.trim_fmt()
    )?;
    out.flush()?;
    Ok(())
}
