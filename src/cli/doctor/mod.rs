//! `mixgemm doctor`: what this machine is, what the program chooses on it, and whether every kernel is right here.
#![forbid(unsafe_code)]

mod check;
mod choices;
mod report;
mod roofs;
mod system;

use crate::cli::machine::Machine;
use crate::cli::progress::Progress;
use crate::cli::refusal::option;
use anyhow::Result;
use report::{Findings, Tier};
use std::io::Write;
use std::process::ExitCode;

/// Check every kernel on this machine, and say what is chosen here and why
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Says what this machine is (processor, caches, pages, memory), which tiers and kernels are chosen on \
                  it and why, and measures its roofs. Every kernel that can run here is made to run and compared with \
                  the reference, bit for bit. Exit code 1 if any bit differs.",
    after_help = "Examples:\n  mixgemm doctor\n  mixgemm doctor --explain 4096x4096 --m 29 --bits 4 --mode exact"
)]
pub(crate) struct Args {
    #[command(flatten)]
    problem: choices::Problem,
}

/// Runs the command.
pub(crate) fn run(args: &Args, json: bool, out: &mut (impl Write + Send)) -> Result<ExitCode> {
    let machine = Machine::here()?;
    if let Some(explanation) = args.problem.explained()? {
        if json {
            write_json(&choices::json(&explanation), out)?;
        } else {
            write!(out, "{explanation}")?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let kernels = check::kernels();
    let progress = Progress::new(kernels.len() + 1);
    progress.step("roofs");
    let roofs = roofs::measure(&machine)?;
    let mut checks = Vec::new();
    for kernel in kernels {
        progress.step(kernel.name());
        checks.push(check::check(kernel).map_err(option)?);
    }
    drop(progress);
    let findings = Findings {
        system: system::System::here().map_err(option)?,
        tiers: Tier::all()?,
        roofs,
        classes: choices::classes()?,
        checks,
        machine,
    };
    if json {
        write_json(&findings, out)?;
    } else {
        findings.print(out)?;
    }
    Ok(if findings.checks.iter().all(|c| c.pass) {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    })
}

fn write_json(value: &impl serde::Serialize, out: &mut impl Write) -> Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)?;
    Ok(())
}
