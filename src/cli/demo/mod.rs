//! `mixgemm demo`: a real layer, every backend and mode, one table for each matrix and scheme.
#![forbid(unsafe_code)]

pub(crate) mod layer;
mod outliers;
mod plot;
mod report;

use crate::cli::arguments::{self, HOST};
use crate::cli::destination::Destination;
use crate::cli::device::{self, Device};
use crate::cli::machine::{self, Machine};
use crate::cli::measure;
use crate::cli::progress::Progress;
use crate::cli::table;
use crate::cli::truth;
use anyhow::Result;
use layer::{Inputs, Matrix};
use mixgemm::accel::catalogue::ACCELERATORS;
use mixgemm::quant::figures::product_f64;
use mixgemm::simd::roof;
use mixgemm::{Epilogue, Figures, Isa, Mat, Mode, Scheme, Workspace, ZeroPoint};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

const SCHEMES: [Scheme; 3] = [
    Scheme::int(4).group(128).asymmetric(),
    Scheme::int(4).group(32).asymmetric(),
    Scheme::int(8).group(128),
];
/// Accelerators that differ from a neighbour in the catalogue only at the ends of f16's range or in how zero points are
/// stored: on this layer their rows would repeat its row.
const REPEATS: [&str; 3] = ["mixpe-w4a16-flush", "mixpe-w4a16-saturate", "dequant-w4a16-quantised"];
/// Rounds over the rows of a table.
const ROUNDS: usize = 3;
/// Time for the calls of a row in a round.
const SLICE: Duration = Duration::from_millis(10);
/// Each sample of a roof.
const SAMPLE: Duration = Duration::from_millis(5);

/// Multiply a real transformer layer with every backend and mode, and compare the bits (the default)
#[derive(Debug, Default, clap::Args)]
#[command(
    long_about = "Quantises both feed-forward matrices of a real transformer layer (all-MiniLM-L6-v2, layer 4, built \
                  into the program), multiplies them with the inputs they really saw on this CPU in every mode and on \
                  every emulated accelerator, and compares all results with the f64 product and, but for mode native, \
                  bit for bit with the library's reference. Exit code 1 if any bit differs.",
    after_help = "Examples:\n  mixgemm\n  mixgemm demo --threads 1\n  mixgemm demo --json > demo.json"
)]
pub(crate) struct Args {
    /// Threads of the parallel rows; all by default
    #[arg(long, value_name = "T", value_parser = arguments::threads)]
    threads: Option<NonZeroUsize>,
    /// Use only the first M input rows of 290
    #[arg(long, value_name = "M", value_parser = arguments::count)]
    rows: Option<NonZeroUsize>,
    /// Also draw accuracy against speed into this SVG file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Replace an existing SVG file
    #[arg(long, requires = "svg")]
    force: bool,
}

/// One product.
#[derive(Debug, Serialize)]
struct Row {
    matrix: &'static str,
    scheme: String,
    backend: &'static str,
    kernel: &'static str,
    isa: &'static str,
    mode: &'static str,
    n: usize,
    k: usize,
    m: usize,
    bits: u8,
    group: usize,
    asym: bool,
    threads: usize,
    emulated: bool,
    seconds: f64,
    gops: Option<f64>,
    peak_gops: Option<f64>,
    fraction_of_peak: Option<f64>,
    bits_per_weight: f64,
    sqnr_total_db: f64,
    sqnr_kernel_db: f64,
    worst_error_total: f64,
    worst_error_kernel: f64,
    /// None in mode native, whose results are a device's own.
    bits_equal_reference: Option<bool>,
}

/// Who computes a row and how.
#[derive(Debug, Clone, Copy)]
struct Plan {
    /// `host` or an accelerator of the catalogue.
    backend: &'static str,
    /// `None` for an emulated device.
    isa: Option<Isa>,
    mode: Mode,
    threads: NonZeroUsize,
}

/// All rows of a scheme.
fn plan(inputs: &Inputs, scheme: &Scheme, best: Isa, threads: NonZeroUsize) -> Vec<Plan> {
    let one = NonZeroUsize::MIN;
    let mut plan = Vec::new();
    let mut host = |isa, mode, threads| {
        plan.push(Plan {
            backend: HOST,
            isa: Some(isa),
            mode,
            threads,
        });
    };
    for mode in inputs.modes().into_iter().filter(|&mode| mode != Mode::Native) {
        host(best, mode, one);
        if threads > one && matches!(mode, Mode::A8 | Mode::A16 | Mode::Exact) {
            host(best, mode, threads);
        }
    }
    if best != Isa::Scalar && *scheme == SCHEMES[0] {
        host(Isa::Scalar, Mode::A8, one);
    }
    // The first accelerator in every mode that it takes, the others in one.
    for (i, accelerator) in ACCELERATORS.iter().enumerate() {
        let (device, isa) = (accelerator.device(), None);
        if REPEATS.contains(&device.name()) {
            continue;
        }
        let capabilities = device.capabilities();
        let taken = |mode: &Mode| capabilities.takes(*mode) && capabilities.check_scheme(scheme).is_ok();
        let modes = inputs.modes().into_iter().filter(taken);
        for mode in modes.take(if i == 0 { usize::MAX } else { 1 }) {
            let backend = device.name();
            plan.push(Plan {
                backend,
                isa,
                mode,
                threads,
            });
        }
    }
    plan
}

/// Runs the command.
pub(crate) fn run(args: &Args, json: bool, out: &mut (impl Write + Send)) -> Result<ExitCode> {
    let machine = Machine::here()?;
    let threads = arguments::threads_or_all(args.threads);
    let svg = args
        .svg
        .as_deref()
        .map(|file| Destination::new("--svg", file, args.force));
    let svg = svg.transpose()?;
    if !json {
        writeln!(out, "{}", report::INTRODUCTION)?;
        out.flush()?;
    }
    let matrices = layer::matrices(args.rows.map_or(usize::MAX, NonZeroUsize::get))?;
    let pool = arguments::pool(threads)?;
    let rows = pool.install(|| {
        all(&matrices, threads, |title, rows| {
            if json { Ok(()) } else { report::print(out, title, rows) }
        })
    })?;
    let outliers = pool.install(|| {
        outliers::all(&matrices, threads, |rows| {
            if json { Ok(()) } else { outliers::print(out, rows) }
        })
    })?;
    if let Some(file) = svg {
        let drawing = plot::draw(&machine, &rows)?;
        file.write(|out| out.write_all(drawing.as_bytes()))?;
    }
    let compared = rows.iter().filter_map(|row| row.bits_equal_reference);
    let compared = compared.chain(outliers.iter().filter_map(|row| row.bits_equal));
    let (compared, differ) = (compared.clone().count(), compared.filter(|equal| !equal).count());
    if json {
        let value = serde_json::json!({ "machine": machine, "rows": rows, "outliers": outliers });
        serde_json::to_writer_pretty(&mut *out, &value)?;
        writeln!(out)?;
    } else {
        let verdict = match differ {
            0 => format!("All {compared} rows that the reference defines have its bits."),
            _ => format!("DEFECT: {differ} of {compared} rows do not have the bits of the reference."),
        };
        writeln!(out, "{}\nOn {machine}.\n{verdict}", report::LEGEND)?;
    }
    Ok(if differ == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    })
}

/// All matrices and schemes; `print` gets each title and its rows as soon as they are known.
fn all(
    matrices: &[Matrix],
    threads: NonZeroUsize,
    mut print: impl FnMut(&str, &[Row]) -> Result<()>,
) -> Result<Vec<Row>> {
    let best = machine::best_isa()?;
    let steps = |inputs: &Inputs| SCHEMES.map(|s| plan(inputs, &s, best, threads).len() + inputs.modes().len() - 1);
    let progress = Progress::new(matrices.iter().flat_map(|m| steps(&m.inputs)).sum());
    let mut rows = Vec::new();
    for matrix in matrices {
        let x = matrix.inputs.float.to_f32();
        let original = product_f64(x.view().sub_rows(0, matrix.inputs.m)?, matrix.weights.to_f32().view())?;
        for scheme in SCHEMES {
            let plan = plan(&matrix.inputs, &scheme, best, threads);
            let of_scheme = products(matrix, scheme, &plan, &original, &progress)?;
            let title = format!(
                "{} [{}, {}], {}, {} input rows",
                matrix.name,
                original.cols(),
                x.cols(),
                table::scheme(&scheme),
                matrix.inputs.m
            );
            progress.suspend(|| print(&title, &of_scheme))?;
            rows.extend(of_scheme);
        }
    }
    Ok(rows)
}

/// A row while it is measured.
struct Work {
    plan: Plan,
    y: Mat<f32>,
    kernel: &'static str,
    /// Seconds and, on the host, the peak of the same moment in operations a second.
    samples: Vec<(f64, Option<f64>)>,
}

impl Work {
    /// The median over all rounds of something that every sample has.
    fn median(&self, of: impl Fn(f64, Option<f64>) -> Option<f64>) -> Option<f64> {
        let values: Option<Vec<f64>> = self.samples.iter().map(|&(seconds, peak)| of(seconds, peak)).collect();
        values.map(measure::median)
    }
}

/// The rows of one matrix and scheme.
fn products(
    matrix: &Matrix,
    scheme: Scheme,
    plan: &[Plan],
    original: &Mat<f64>,
    progress: &Progress,
) -> Result<Vec<Row>> {
    let Matrix { name, weights, inputs } = matrix;
    let (m, k) = (inputs.m, inputs.float.shape().1);
    let of_scheme = |what: &str| format!("{name}, {}: {what}", table::scheme(&scheme));
    let w = weights.quantize(scheme)?;
    let x = inputs.float.to_f32();
    let quantised = product_f64(x.view().sub_rows(0, m)?, w.dequantize().view())?;
    let mut references = BTreeMap::new();
    for mode in inputs.modes().into_iter().filter(|&mode| mode != Mode::Native) {
        progress.step(of_scheme(&format!("reference {}", mode.name())));
        references.insert(mode.name(), truth::defined(&w, inputs.of(mode)?, mode)?);
    }
    let mut devices = BTreeMap::new();
    let mut work = Vec::new();
    for &plan in plan {
        // One set of weights serves all modes of a tier or device.
        let key = (plan.backend, plan.isa);
        if let std::collections::btree_map::Entry::Vacant(place) = devices.entry(key) {
            place.insert(match plan.isa {
                Some(isa) => Device::host(&w, Some(isa))?,
                None => Device::emulated(&w, device::emulated(plan.backend, plan.mode, None)?)?,
            });
        }
        work.push((
            key,
            Work {
                plan,
                y: Mat::zeros(m, w.n()),
                kernel: "",
                samples: Vec::new(),
            },
        ));
    }
    let mut workspace = Workspace::new();
    for round in 0..ROUNDS {
        for i in measure::order(round, work.len()) {
            let (key, work) = &mut work[i];
            if round == 0 {
                progress.step(of_scheme(work.plan.mode.name()));
            }
            if round == 0 || work.plan.isa.is_some() {
                sample(work, &devices[key], inputs, &mut workspace)?;
            }
        }
    }
    let row = |(key, work): (_, Work)| {
        let (device, mode) = (&devices[&key], work.plan.mode);
        let operations = measure::operations(m, w.n(), k);
        let seconds = work.median(|seconds, _| Some(seconds)).unwrap_or(f64::NAN);
        let total = Figures::between(original.view(), work.y.view())?;
        let kernel = Figures::between(quantised.view(), work.y.view())?;
        Ok(Row {
            matrix: name,
            scheme: table::scheme(&scheme),
            backend: device.name,
            kernel: work.kernel,
            isa: work.plan.isa.map_or("emulated", Isa::name),
            mode: mode.name(),
            n: w.n(),
            k,
            m,
            bits: scheme.bits,
            group: scheme.group_length(k),
            asym: scheme.zero != ZeroPoint::Symmetric,
            threads: work.plan.threads.get(),
            emulated: device.emulated,
            seconds,
            gops: (!device.emulated).then(|| operations / seconds * 1e-9),
            peak_gops: work.median(|_, peak| peak.map(|peak| peak * 1e-9)),
            fraction_of_peak: work.median(|seconds, peak| peak.map(|peak| operations / seconds / peak)),
            bits_per_weight: device.bits_per_weight,
            sqnr_total_db: total.sqnr_db,
            sqnr_kernel_db: kernel.sqnr_db,
            worst_error_total: total.worst,
            worst_error_kernel: kernel.worst,
            bits_equal_reference: references
                .get(mode.name())
                .map(|reference| truth::same_bits(work.y.view(), reference.view())),
        })
    };
    work.into_iter().map(row).collect()
}

/// Times a row, on the host beside the peak of its tier.
fn sample(work: &mut Work, device: &Device, inputs: &Inputs, workspace: &mut Workspace) -> Result<()> {
    let Plan { isa, mode, threads, .. } = work.plan;
    let (x, epilogue) = (inputs.of(mode)?, Epilogue::new());
    let peak = isa.map(|isa| roof::integer_peak(isa, threads.get(), SAMPLE));
    let budget = if isa.is_some() { SLICE } else { Duration::ZERO };
    let seconds = measure::slice(budget, || {
        let run = || device.run(workspace, threads, (x, mode), &epilogue, work.y.view_mut());
        let (report, seconds) = measure::timed(run);
        work.kernel = report?.kernel;
        Ok(seconds)
    })?;
    work.samples.push((seconds, peak));
    Ok(())
}
