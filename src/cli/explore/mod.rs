//! `mixgemm explore`: a design space of accelerators, their measured fidelity, and the frontier.
#![forbid(unsafe_code)]

mod bars;
mod colours;
mod cycles;
mod energies;
mod found;
mod inputs;
mod report;
mod runs;
mod scatter;

use crate::cli::arguments;
use crate::cli::destination::Destination;
use crate::cli::drawing::Drawing;
use crate::cli::refusal::refusal;
use anyhow::{Result, anyhow};
use cycles::Cycles;
use energies::Energies;
use found::Found;
use inputs::TensorsName;
use mixgemm::dse::evaluate::Evaluator;
use mixgemm::dse::heading::Shard;
use mixgemm::dse::pareto::Tolerance;
use mixgemm::dse::space::DEFAULT;
use mixgemm::dse::view::frontiers;
use scatter::Scatter;
use std::collections::HashMap;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The file of points in a directory.
const POINTS: &str = "points.jsonl";
/// Fidelities that were measured in a directory.
const MEASURED: &str = "fidelities.jsonl";
/// The tables beside the points, and the space, every list written out.
const TABLES: [&str; 5] = [
    "points.csv",
    "fidelity.csv",
    "frontier.csv",
    "infeasible.csv",
    "explored-space.toml",
];
/// The drawings, each as SVG and PNG.
const DRAWINGS: [&str; 3] = ["fidelity-efficiency", "energy-split", "cycles-by-layer"];

/// Explore a design space of accelerators: fidelity against area and power
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Costs a workload on every point of a design space of accelerators (cycles, energy, area), measures the \
                  fidelity of every format on real tensors, and finds the designs that no other beats. Writes into DIR: \
                  points.jsonl, points.csv, fidelity.csv, frontier.csv, infeasible.csv (where there is something in \
                  it), explored-space.toml, and fidelity-efficiency, energy-split and cycles-by-layer as .svg and .png. \
                  An interrupted run goes on where it was; shards may share a directory.",
    after_help = "Examples:\n  mixgemm explore --out lab\n  \
                  mixgemm explore --print-space > space.toml   # edit it, then:\n  \
                  mixgemm explore --space space.toml --workload vit --tensors gaussian --out vit\n  \
                  mixgemm explore --out parts --shard 1/2 && mixgemm explore --out parts --shard 2/2\n  \
                  mixgemm explore --merge parts --out whole\n\n\
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
    /// Rows of inputs that fidelity is measured on; at most as many as there are beside weights
    #[arg(long, value_name = "M", default_value = "16", value_parser = arguments::rows, conflicts_with = "merge")]
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
    if args.shard == Shard::WHOLE {
        refuse_results_of_others(directory)?;
    }
    let threads = arguments::threads_or_all(args.threads);
    let found = arguments::pool(threads)?.install(|| {
        if args.merge.is_empty() {
            runs::explore(args, directory)
        } else {
            runs::merge(args, directory).map(Some)
        }
    })?;
    let Some(found) = found else {
        let (shard, points) = (args.shard, directory.join(runs::file_of(args.shard)));
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

/// Writes tables and drawings, and prints the frontier.
fn publish(found: &Found, directory: &Path, json: bool, out: &mut impl Write) -> Result<()> {
    let [points, fidelity, frontier, infeasible, space] = TABLES;
    let mut files = vec![directory.join(POINTS), directory.join(points)];
    let mut save = |name: &str, bytes: &[u8]| -> Result<()> {
        let path = directory.join(name);
        Destination::new("--out", &path, true)?.write(|out| out.write_all(bytes))?;
        files.push(path);
        Ok(())
    };
    let frontiers = frontiers(&found.rows, Tolerance::DEFAULT)?;
    save(fidelity, &report::fidelity_csv(&found.fidelities)?)?;
    save(frontier, &report::frontier_csv(&found.rows, &frontiers)?)?;
    if !found.infeasible.is_empty() {
        save(infeasible, &report::infeasible_csv(&found.infeasible)?)?;
    }
    save(space, found.heading.space.to_toml()?.as_bytes())?;
    let evaluator = Evaluator::new(found.heading.workload.clone(), HashMap::new());
    let scatter = Scatter::new(&found.heading, &found.rows, &frontiers);
    let energies = Energies::new(&found.heading, &found.rows)?;
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
