//! The command line: one file a subcommand. Nothing is computed here that the library defines.
#![forbid(unsafe_code)]

mod arguments;
mod bench;
mod calibrate;
mod cost;
mod demo;
mod destination;
mod device;
mod doctor;
mod drawing;
mod embed;
mod explore;
mod machine;
mod matmul;
mod measure;
mod migrate;
mod npu;
mod outliers;
mod pixels;
mod progress;
mod pruning;
mod refusal;
mod samples;
mod saved;
mod simulate;
mod split;
mod stored;
mod table;
mod tensors;
mod truth;

use clap::{Parser, Subcommand};
use std::io::{self, Write};
use std::process::ExitCode;

/// Mixed-precision matrix multiplication for low-bit LLM inference.
#[derive(Debug, Parser)]
#[command(
    name = "mixgemm",
    version,
    about = "Mixed-precision matrix multiplication for low-bit LLM inference, with the same bits everywhere",
    long_about = "Mixed-precision matrix multiplication for low-bit LLM inference: weights of 1 to 8 bits times \
                  8-bit, 16-bit or f16 activations, on this CPU and on emulated accelerators, with the same bits \
                  everywhere. Without a command it runs `demo`.",
    after_help = "Examples:\n  mixgemm\n  mixgemm demo --json\n  mixgemm matmul --help"
)]
struct Program {
    #[command(subcommand)]
    command: Option<Command>,
    /// Print one JSON object instead of tables
    #[arg(long, global = true, display_order = 900)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Args),
    Matmul(Box<matmul::Args>),
    Calibrate(Box<calibrate::Args>),
    Outliers(Box<outliers::Args>),
    Migrate(Box<migrate::Args>),
    Bench(Box<bench::Args>),
    Simulate(Box<simulate::Args>),
    Explore(Box<explore::Args>),
    Embed(Box<embed::Args>),
    Doctor(Box<doctor::Args>),
}

/// Parses the command line and runs the command. Exit code 0; 1 when `demo` or `doctor` finds bits that differ; 2 for
/// bad input.
pub(crate) fn main() -> ExitCode {
    let program = match Program::try_parse() {
        Ok(program) => program,
        Err(error) if !error.use_stderr() => {
            // --help and --version; a closed pipe is no failure of theirs.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Err(error) => return fail(&refusal::usage(&error)),
    };
    let mut out = io::BufWriter::new(io::stdout());
    let result = match program.command.unwrap_or_else(|| Command::Demo(demo::Args::default())) {
        Command::Demo(args) => demo::run(&args, program.json, &mut out),
        Command::Matmul(args) => matmul::run(&args, program.json, &mut out),
        Command::Calibrate(args) => calibrate::run(&args, program.json, &mut out),
        Command::Outliers(args) => outliers::run(&args, program.json, &mut out),
        Command::Migrate(args) => migrate::run(&args, program.json, &mut out),
        Command::Bench(args) => bench::run(&args, program.json, &mut out),
        Command::Simulate(args) => simulate::run(&args, program.json, &mut out),
        Command::Explore(args) => explore::run(&args, program.json, &mut out),
        Command::Embed(args) => embed::run(&args, program.json, &mut out),
        Command::Doctor(args) => doctor::run(&args, program.json, &mut out),
    };
    match result.and_then(|code| Ok(out.flush().map(|()| code)?)) {
        Ok(code) => code,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

/// Whether the reader of the output went away, as `head` does.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<io::Error>().map(io::Error::kind);
    let json = error
        .downcast_ref::<serde_json::Error>()
        .and_then(serde_json::Error::io_error_kind);
    io.or(json) == Some(io::ErrorKind::BrokenPipe)
}

fn fail(message: &str) -> ExitCode {
    let line = message.replace(['\n', '\r'], " ");
    let _ = writeln!(io::stderr(), "error: {line}");
    ExitCode::from(2)
}
