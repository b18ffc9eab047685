//! Times mixgemm beside other matrix products: `cargo run --release -- --help`, and README.md beside this package.

mod drawing;
mod driver;
mod operands;
mod peers;
mod process;
mod protocol;
mod report;
mod worker;

use anyhow::{Result, bail};
use clap::Parser;
use clap::builder::PossibleValuesParser;
use std::path::PathBuf;

/// Time mixgemm beside its peers, in interleaved rounds and beside the roofs of this machine
#[derive(Debug, Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  cargo run --release --features ggml -- --m 1,256 --threads 2 --out ../../docs/benchmarks\n  \
                  cargo run --release -- --only mixgemm,candle --shape 14336x4096 --json"
)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// These peers and no others
    #[arg(long, value_delimiter = ',', value_name = "PEER", value_parser = PossibleValuesParser::new(driver::names()))]
    only: Vec<String>,
    /// Shapes of the weights: output x input channels
    #[arg(long, value_delimiter = ',', default_value = "4096x4096", value_name = "NxK", value_parser = shape)]
    shape: Vec<(usize, usize)>,
    /// Numbers of activation rows
    #[arg(long, value_delimiter = ',', default_value = "1,4,16,64,256,512", value_parser = count)]
    m: Vec<usize>,
    /// Numbers of threads
    #[arg(long, value_delimiter = ',', default_value = "2", value_parser = count)]
    threads: Vec<usize>,
    /// Rounds
    #[arg(long, default_value = "4", value_parser = count)]
    rounds: usize,
    /// Milliseconds of calls for one sample
    #[arg(long, default_value = "50", value_parser = count)]
    slice: usize,
    /// MiB of weights that rotate, in copies that differ, for M up to 16
    #[arg(long, default_value = "288", value_parser = count)]
    copies: usize,
    /// The Python that has the wheels
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/.venv/bin/python"), hide_default_value = true)]
    python: PathBuf,
    /// Write CSV, table and drawing into this directory; rows of the same day and CPU that were not measured again stay
    #[arg(long, value_name = "DIRECTORY")]
    out: Option<PathBuf>,
    /// Print rows as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    #[command(hide = true)]
    Worker(worker::Args),
}

fn count(text: &str) -> Result<usize> {
    match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        _ => bail!("expected a whole number from 1 on"),
    }
}

fn shape(text: &str) -> Result<(usize, usize)> {
    let sides = text.split_once('x').map(|(n, k)| (count(n), count(k)));
    // Every format's groups divide these.
    let Some((Ok(n), Ok(k))) = sides else {
        bail!("expected N x K as in 4096x4096")
    };
    if n % 64 != 0 || k % 256 != 0 {
        bail!("expected N divisible by 64 and K by 256")
    }
    Ok((n, k))
}

fn main() -> Result<()> {
    let args = Args::parse();
    match args.command {
        Some(Command::Worker(args)) => worker::run(&args),
        None => drive(&args),
    }
}

fn drive(args: &Args) -> Result<()> {
    let mut rows = Vec::new();
    for &shape in &args.shape {
        for &threads in &args.threads {
            let job = driver::Job {
                shape,
                threads,
                m: &args.m,
                only: &args.only,
                python: &args.python,
                rounds: args.rounds,
                slice: args.slice as f64 / 1e3,
                bytes: args.copies << 20,
            };
            rows.extend(job.run()?);
        }
    }
    if let Some(directory) = &args.out {
        rows = report::write(directory, rows)?;
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        print!("{}", report::text(&rows));
    }
    Ok(())
}
