//! What puts points into a directory: a run over a space or a shard of it, and shards that are put together.
//!
//! The points of a whole run are in `points.jsonl`, those of shard i of n in `points-i-of-n.jsonl`, so that shards may
//! share a directory and with it the fidelities that were measured there.
#![forbid(unsafe_code)]

use super::found::Found;
use super::{Args, MEASURED, POINTS, inputs};
use crate::cli::destination::Destination;
use crate::cli::measure::timed;
use crate::cli::progress::Progress;
use crate::cli::refusal::{refusal, unreadable};
use anyhow::Result;
use mixgemm::dse::evaluate::Evaluator;
use mixgemm::dse::explore::Run;
use mixgemm::dse::format::Format;
use mixgemm::dse::heading::{Heading, Shard};
use mixgemm::dse::measured::Measured;
use mixgemm::dse::points::Shards;
use mixgemm::dse::space::{Axes, Space};
use mixgemm::{AnyBackend, Host};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The name of the file of a shard's points.
pub(super) fn file_of(shard: Shard) -> String {
    if shard == Shard::WHOLE {
        POINTS.into()
    } else {
        format!("points-{}-of-{}.jsonl", shard.index(), shard.of())
    }
}

/// The files of the shards in a directory; where there are none, the file of a whole run.
fn files_in(directory: &Path) -> Result<Vec<PathBuf>> {
    let refused = |e: io::Error| unreadable("--merge", "a directory of shards", directory, &e);
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(refused)? {
        let path = entry.map_err(refused)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("points-") && name.contains("-of-") && name.ends_with(".jsonl") {
            files.push(path);
        }
    }
    if files.is_empty() {
        files.push(directory.join(POINTS));
    }
    files.sort();
    Ok(files)
}

/// Makes the directory for the results, once it is known that there will be some.
fn make(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).map_err(|e| unreadable("--out", "a directory", directory, &e))
}

/// A refusal of a library call about the file of points.
pub(super) fn of_points(option: &'static str) -> impl Fn(mixgemm::Error) -> anyhow::Error {
    move |error| match error {
        mixgemm::Error::File { expected, found, .. } => refusal(option, expected, found),
        error => error.into(),
    }
}

/// Explores a space or a shard of it; `None` for a shard, which has no results of its own.
pub(super) fn explore(args: &Args, directory: &Path) -> Result<Option<Found>> {
    let workload = inputs::workload(&args.workload)?;
    let space = inputs::space(args.space.as_deref())?;
    let space = if workload.takes_m() { space } else { space.without_m() };
    let progress = Progress::new(2);
    progress.step("reading tensors");
    let (tensors, note) = match &args.weights {
        Some(path) => inputs::from_file(path, args.rows.get())?,
        None => (inputs::built_in(args.tensors, args.rows.get())?, None),
    };
    let formats = formats(&space);
    let host: Arc<dyn AnyBackend> = Arc::new(Host::new());
    // A space in which nothing is possible is refused before anything is written.
    if let Some(Err(error)) = formats
        .iter()
        .map(|format| format.values(&host))
        .min_by_key(Result::is_err)
    {
        return Err(error.into());
    }
    let mut heading = Heading::new(space, workload, tensors.name(), args.shard);
    heading.tensors_note = note;
    make(directory)?;
    let path = directory.join(file_of(args.shard));
    let run = Run::open(&heading, &path).map_err(of_points("--out"))?;
    progress.step("measuring fidelity");
    let (fidelities, fidelity_seconds) = timed(|| {
        let mut measured = Measured::open(&directory.join(MEASURED), &heading.tensors)?;
        let part = |done, all| progress.part("measuring fidelity", done, all);
        tensors.fidelities(&formats, |format| format.values(&host), &mut measured, part)
    });
    let fidelities = fidelities.map_err(of_points("--out"))?;
    let evaluator = Evaluator::new(heading.workload.clone(), fidelities);
    let (mut first, mut all) = (None, 0);
    let (result, seconds) = timed(|| {
        run.explore(
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
    let mut found = Found::read(directory, "--out")?;
    found.seconds = [fidelity_seconds, seconds];
    found.costed = all - first.unwrap_or(0);
    Ok(Some(found))
}

/// The formats of a space, in the order of the designs.
fn formats(space: &Space) -> Vec<Format> {
    let mut formats: Vec<Format> = Vec::new();
    for point in space.designs().iter().flat_map(Axes::one_of_each_format) {
        let format = point.format();
        if !formats.contains(&format) {
            formats.push(format);
        }
    }
    formats
}

/// Puts shards together, line by line.
pub(super) fn merge(args: &Args, directory: &Path) -> Result<Found> {
    let files = args.merge.iter().map(|directory| files_in(directory));
    let files = files.collect::<Result<Vec<_>>>()?.concat();
    let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    let shards = Shards::open(&files).map_err(of_points("--merge"))?;
    make(directory)?;
    let path = directory.join(POINTS);
    let destination = Destination::new("--out", &path, true)?;
    // Nothing but points of the same configuration is replaced, and none that a run is writing.
    let replaced = path.exists().then(|| Run::open(shards.heading(), &path));
    let _locked = replaced.transpose().map_err(of_points("--out"))?;
    let mut refused = None;
    let written = destination.write(|out| {
        shards.write(out).map(drop).map_err(|error| {
            refused = Some(error);
            io::Error::other("shards that do not fit")
        })
    });
    match refused {
        Some(error) => Err(of_points("--merge")(error)),
        None => written.and_then(|()| Found::read(directory, "--out")),
    }
}
