//! `mixgemm explore`: a design space of accelerators, their measured fidelity, and the frontier.
#![forbid(unsafe_code)]

mod bars;
mod inputs;
mod report;
mod scatter;

use crate::cli::arguments;
use crate::cli::destination::Destination;
use crate::cli::drawing::Drawing;
use crate::cli::measure::timed;
use crate::cli::progress::Progress;
use crate::cli::refusal::{refusal, unreadable};
use anyhow::{Result, anyhow};
use bars::{Cycles, Energies};
use inputs::TensorsName;
use mixgemm::dse::evaluate::Evaluator;
use mixgemm::dse::explore::{self, Heading, Shard};
use mixgemm::dse::fidelity::Tensors;
use mixgemm::dse::format::Format;
use mixgemm::dse::outcome::Row;
use mixgemm::dse::pareto::Tolerance;
use mixgemm::dse::space::{Axes, DEFAULT, Space};
use mixgemm::dse::view::frontiers;
use mixgemm::dse::workload::Workload;
use mixgemm::{AnyBackend, Host};
use scatter::Scatter;
use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// The file of points in a directory.
const POINTS: &str = "points.jsonl";
/// The tables beside it.
const TABLES: [&str; 3] = ["points.csv", "fidelity.csv", "frontier.csv"];
/// The drawings, each as SVG and PNG.
const DRAWINGS: [&str; 3] = ["fidelity-efficiency", "energy-split", "cycles-by-layer"];

/// Explore a design space of accelerators: fidelity against area and power
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Costs a workload on every point of a design space of accelerators (cycles, energy, area), measures the \
                  fidelity of every format on real tensors, and finds the designs that no other beats. Writes into DIR: \
                  points.jsonl, points.csv, fidelity.csv, frontier.csv, and fidelity-efficiency, energy-split and \
                  cycles-by-layer as .svg and .png. An interrupted run goes on where it was.",
    after_help = "Examples:\n  mixgemm explore --out lab\n  \
                  mixgemm explore --print-space > space.toml   # edit it, then:\n  \
                  mixgemm explore --space space.toml --workload vit --tensors gaussian --out vit\n  \
                  mixgemm explore --out part1 --shard 1/2 && mixgemm explore --out part2 --shard 2/2\n  \
                  mixgemm explore --merge part1 part2 --out whole\n\n\
                  Efficiency is operations per second for every mm2 and watt, relative to an FP16 array of the same peak \
                  or area. All figures of hardware are estimates of a model, not measurements."
)]
pub(crate) struct Args {
    /// llama2-7b, vit, or FILE.csv with the head layer,m,n,k,count
    #[arg(long, default_value = "llama2-7b", conflicts_with = "merge")]
    workload: String,
    /// Measure fidelity on these weights, with inputs `X.input` beside `X.weight` where there are some
    #[arg(long, value_name = "FILE.safetensors", conflicts_with_all = ["tensors", "merge"])]
    weights: Option<PathBuf>,
    /// Built-in tensors to measure fidelity on
    #[arg(long, value_enum, default_value = "layer", conflicts_with = "merge")]
    tensors: TensorsName,
    /// Rows of inputs that fidelity is measured on
    #[arg(long, value_name = "M", default_value = "16", value_parser = arguments::rows)]
    rows: NonZeroUsize,
    /// The design space; the built-in one by default
    #[arg(long, value_name = "FILE.toml", conflicts_with = "merge")]
    space: Option<PathBuf>,
    /// Print the built-in design space and stop
    #[arg(long)]
    print_space: bool,
    /// Directory for the results; it is made where there is none
    #[arg(long, value_name = "DIR", required_unless_present = "print_space")]
    out: Option<PathBuf>,
    /// Explore only every n-th point, from the i-th on: one of n shards
    #[arg(long, value_name = "I/N", default_value = "1/1", value_parser = shard, conflicts_with = "merge")]
    shard: Shard,
    /// Put the shards in these directories together instead of exploring
    #[arg(long, value_name = "DIR", num_args = 1..)]
    merge: Vec<PathBuf>,
    /// Threads; all by default
    #[arg(long, value_name = "T", value_parser = arguments::threads)]
    threads: Option<NonZeroUsize>,
}

fn shard(text: &str) -> Result<Shard, String> {
    text.parse().map_err(|_| "I/N with I from 1 to N".into())
}

/// What a run hands to the reports.
struct Found {
    heading: Heading,
    rows: Vec<Row>,
    fidelities: Vec<(Format, f64)>,
    /// Seconds to measure fidelities, seconds to cost points.
    seconds: [f64; 2],
    /// Points that were costed by this run.
    costed: u64,
    note: Option<String>,
}

/// Runs the command.
pub(crate) fn run(args: &Args, json: bool, out: &mut (impl Write + Send)) -> Result<ExitCode> {
    let directory = match &args.out {
        Some(directory) if !args.print_space => directory,
        _ => {
            write!(out, "{DEFAULT}")?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    if directory.exists() && !directory.is_dir() {
        return Err(refusal("--out", "a directory", format_args!("{}", directory.display())));
    }
    refuse_results_of_others(directory)?;
    let threads = arguments::threads_or_all(args.threads);
    let found = arguments::pool(threads)?.install(|| {
        if args.merge.is_empty() {
            explore(args, directory)
        } else {
            merge(args, directory)
        }
    })?;
    let Some(found) = found else {
        let (shard, points) = (args.shard, directory.join(POINTS));
        if json {
            let value = serde_json::json!({ "shard": shard, "points_file": points.display().to_string() });
            serde_json::to_writer_pretty(&mut *out, &value)?;
            writeln!(out)?;
        } else {
            writeln!(out, "shard {shard} is complete: {}", points.display())?;
        }
        return Ok(ExitCode::SUCCESS);
    };
    publish(&found, directory, json, out)?;
    Ok(ExitCode::SUCCESS)
}

/// Refuses a directory without a run in which a result would replace a file.
fn refuse_results_of_others(directory: &Path) -> Result<()> {
    if directory.join(POINTS).exists() {
        return Ok(());
    }
    let drawn = DRAWINGS
        .iter()
        .flat_map(|name| [format!("{name}.svg"), format!("{name}.png")]);
    for name in TABLES.iter().map(|name| (*name).into()).chain(drawn) {
        let path = directory.join(name);
        if path.exists() {
            let found = format_args!("{} without a {POINTS}", path.display()).to_string();
            return Err(refusal("--out", "a directory of a run, or without its results", found));
        }
    }
    Ok(())
}

/// Makes the directory for the results, once it is known that there will be some.
fn make(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).map_err(|e| unreadable("--out", "a directory", directory, &e))
}

/// A refusal of a library call about the file of points.
fn of_points(option: &'static str) -> impl Fn(mixgemm::Error) -> anyhow::Error {
    move |error| match error {
        mixgemm::Error::File { expected, found, .. } => refusal(option, expected, found),
        error => error.into(),
    }
}

/// Explores a space or a shard of it; `None` for a shard, which has no results of its own.
fn explore(args: &Args, directory: &Path) -> Result<Option<Found>> {
    let workload = inputs::workload(&args.workload)?;
    let space = inputs::space(args.space.as_deref())?;
    let space = if workload.takes_m() { space } else { space.without_m() };
    let progress = Progress::new(2);
    progress.step("reading tensors");
    let (tensors, note) = match &args.weights {
        Some(path) => inputs::from_file(path, args.rows.get())?,
        None => (inputs::built_in(args.tensors, args.rows.get())?, None),
    };
    let heading = Heading::new(space, workload, tensors.name(), args.shard);
    progress.step("measuring fidelity");
    let (fidelities, fidelity_seconds) = timed(|| fidelities(&heading.space, &tensors, &progress));
    let fidelities = fidelities?;
    let known: HashMap<_, _> = fidelities.iter().cloned().collect();
    let evaluator = Evaluator::new(heading.workload.clone(), known);
    // What the hardware cannot do is said before anything is written.
    for point in heading.space.designs().iter().flat_map(Axes::one_of_each_format) {
        evaluator.evaluate(&point)?;
    }
    make(directory)?;
    let path = directory.join(POINTS);
    let (mut first, mut all) = (None, 0);
    let (result, seconds) = timed(|| {
        explore::explore(
            &heading,
            &path,
            |point| evaluator.evaluate(point),
            |done, of| {
                first.get_or_insert(done);
                all = of;
                progress.part("points", done as usize, of as usize);
            },
        )
    });
    result.map_err(of_points("--out"))?;
    if args.shard.of() > 1 {
        return Ok(None);
    }
    let (heading, rows) = explore::read(&path).map_err(of_points("--out"))?;
    Ok(Some(Found {
        heading,
        rows,
        fidelities,
        seconds: [fidelity_seconds, seconds],
        costed: all - first.unwrap_or(0),
        note,
    }))
}

/// The fidelity of every format of a space, in the order of the designs.
fn fidelities(space: &Space, tensors: &Tensors, progress: &Progress) -> Result<Vec<(Format, f64)>> {
    let host: Arc<dyn AnyBackend> = Arc::new(Host::new());
    let mut formats: Vec<Format> = Vec::new();
    for point in space.designs().iter().flat_map(Axes::one_of_each_format) {
        let format = point.format();
        if !formats.contains(&format) {
            formats.push(format);
        }
    }
    let part = |done, all| progress.part("measuring fidelity", done, all);
    let found = tensors.fidelities(&formats, |format| format.values(&host), part)?;
    Ok(formats
        .into_iter()
        .map(|format| (found[&format], format))
        .map(|(db, format)| (format, db))
        .collect())
}

/// Puts shards together.
fn merge(args: &Args, directory: &Path) -> Result<Option<Found>> {
    let files: Vec<PathBuf> = args.merge.iter().map(|shard| shard.join(POINTS)).collect();
    let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    let mut merged = Vec::new();
    explore::merge(&files, &mut merged).map_err(of_points("--merge"))?;
    make(directory)?;
    let path = directory.join(POINTS);
    let destination = Destination::new("--out", &path, false)?;
    destination.write(|out| out.write_all(&merged))?;
    let (heading, rows) = explore::read(&path).map_err(of_points("--out"))?;
    let mut fidelities: Vec<(Format, f64)> = Vec::new();
    for row in &rows {
        let format = row.point.format();
        if fidelities.iter().all(|(known, _)| *known != format) {
            fidelities.push((format, row.outcome.fidelity_db));
        }
    }
    Ok(Some(Found {
        heading,
        rows,
        fidelities,
        seconds: [0.0; 2],
        costed: 0,
        note: None,
    }))
}

/// Writes tables and drawings, and prints the frontier.
fn publish(found: &Found, directory: &Path, json: bool, out: &mut impl Write) -> Result<()> {
    let mut files = vec![directory.join(POINTS)];
    let mut save = |name: &str, bytes: &[u8]| -> Result<()> {
        let path = directory.join(name);
        Destination::new("--out", &path, true)?.write(|out| out.write_all(bytes))?;
        files.push(path);
        Ok(())
    };
    let frontiers = frontiers(&found.rows, Tolerance::DEFAULT)?;
    let [points, fidelity, frontier] = TABLES;
    save(points, &report::points_csv(&found.rows)?)?;
    save(fidelity, &report::fidelity_csv(&found.fidelities)?)?;
    save(frontier, &report::frontier_csv(&found.rows, &frontiers)?)?;
    let evaluator = Evaluator::new(found.heading.workload.clone(), HashMap::new());
    let scatter = Scatter::new(&found.heading, &found.rows, &frontiers);
    let energies = Energies::new(&found.heading, &found.rows);
    let cycles = Cycles::new(&found.heading, &found.rows, &evaluator)?;
    let mut draw = |name: &str, svg: Result<String, Box<dyn std::error::Error>>, png: Result<Vec<u8>, _>| {
        let failed = |error| anyhow!("{name}: expected a drawing, found {error}");
        save(&format!("{name}.svg"), svg.map_err(failed)?.as_bytes())?;
        let failed = |error: Box<dyn std::error::Error>| anyhow!("{name}: expected a drawing, found {error}");
        save(&format!("{name}.png"), &png.map_err(failed)?)
    };
    let [fidelity, energy, layers] = DRAWINGS;
    draw(fidelity, scatter.svg(), scatter.png())?;
    draw(energy, energies.svg(), energies.png())?;
    draw(layers, cycles.svg(), cycles.png())?;
    if json {
        report::json(found, &frontiers, &files, out)
    } else {
        report::print(found, &frontiers, &files, out)
    }
}

/// The workload's name without directories.
fn title(workload: &Workload) -> String {
    let name = Path::new(&workload.name).file_name();
    name.map_or_else(|| workload.name.clone(), |name| name.to_string_lossy().into_owned())
}
