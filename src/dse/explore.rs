//! The run over a space: in parallel, resumable, in shards, and with the same file whatever the number of threads.
//!
//! Points go to a [file](crate::dse::points) that only grows. A run that was interrupted goes on behind the last whole
//! line; a file of another configuration is an error, never overwritten, and so is one that another run is writing: a
//! lock of the system, which goes when the run does, tells them apart. Shard i of n has the points whose number is
//! i − 1 modulo n, and n merged shards are the file of one run, byte for byte.
#![forbid(unsafe_code)]

use crate::base::error::{Error, Result};
use crate::dse::heading::Heading;
use crate::dse::outcome::{Infeasible, Row};
use crate::dse::points::{check_id, failed, parse_heading, to_line, wrong};
use crate::dse::space::Point;
use alloc::string::{String, ToString};
use alloc::{format, vec::Vec};
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

/// Points between two writes.
const CHUNK: usize = 1024;

/// The line of a point. Figures are finite: JSON has no others.
fn line_of(point: &Point, evaluated: Result<Row>) -> Result<String> {
    let row = match evaluated {
        Ok(row) => row,
        Err(error @ (Error::Shape { .. } | Error::Value { .. } | Error::Unsupported { .. })) => {
            return to_line(&Infeasible {
                point: point.clone(),
                infeasible: error.to_string(),
            });
        }
        Err(error) => return Err(error),
    };
    match row.outcome.not_finite() {
        None => to_line(&row),
        Some((figure, value)) => {
            let found = format!("{figure} = {value} at point {}", point.id);
            Err(Error::value("points", "finite figures", found))
        }
    }
}

/// Explores the shard of `heading` into the file at `path`, on the threads of the current rayon pool. `evaluate` gives
/// the figures of a point, or the reason why there is no such machine; `progress` is told how many points are done of all, first those that the file has already.
///
/// # Errors
/// [`Error::File`] for a file of another configuration, one that another run is writing, or one that cannot be read or
/// written; [`Error::Value`] for figures that are not finite; the first error of `evaluate` that is no [`Error::Shape`],
/// [`Error::Value`] or [`Error::Unsupported`], which make a point infeasible. What was written before stays, and the
/// next call goes on behind it.
pub fn explore(
    heading: &Heading,
    path: &Path,
    evaluate: impl Fn(&Point) -> Result<Row> + Sync,
    mut progress: impl FnMut(u64, u64),
) -> Result<()> {
    Run::open(heading, path)?.explore(evaluate, &mut progress)
}

/// A run whose file is open and locked.
#[derive(Debug)]
pub struct Run<'a> {
    heading: &'a Heading,
    path: &'a Path,
    out: BufWriter<File>,
    done: u64,
}

impl<'a> Run<'a> {
    /// Opens a new file or one of the same configuration, drops a torn last line, and counts the points it has. No other
    /// run opens the file until this one is dropped.
    ///
    /// # Errors
    /// [`Error::File`] as [`explore`].
    pub fn open(heading: &'a Heading, path: &'a Path) -> Result<Self> {
        let (out, done) = open(heading, path)?;
        Ok(Self {
            heading,
            path,
            out,
            done,
        })
    }

    /// Does the points that the file lacks, as [`explore`] does.
    ///
    /// # Errors
    /// As [`explore`].
    pub fn explore(
        mut self,
        evaluate: impl Fn(&Point) -> Result<Row> + Sync,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<()> {
        let Heading {
            shard, points, space, ..
        } = self.heading;
        let fail = |e: io::Error| failed(self.path, &e);
        let all = shard.len(*points);
        let mut place = self.done;
        progress(place, all);
        while place < all {
            let end = all.min(place + CHUNK as u64);
            let points: Vec<Point> = (place..end).filter_map(|p| space.point(shard.id(p))).collect();
            let lines: Vec<Result<String>> = points.par_iter().map(|point| line_of(point, evaluate(point))).collect();
            for line in lines {
                writeln!(self.out, "{}", line?).map_err(fail)?;
            }
            self.out.flush().map_err(fail)?;
            place = end;
            progress(place, all);
        }
        Ok(())
    }
}

fn open(heading: &Heading, path: &Path) -> Result<(BufWriter<File>, u64)> {
    let fail = |e: io::Error| failed(path, &e);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(fail)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(wrong(
                path,
                "a file that no other run is writing",
                "another run at work",
            ));
        }
        // Where the file system has no locks, runs are not told apart.
        Err(TryLockError::Error(e)) if has_no_locks(&e) => {}
        Err(TryLockError::Error(e)) => return Err(fail(e)),
    }
    let mut reader = BufReader::new(file);
    let (mut whole, mut done, mut line) = (0u64, 0u64, String::new());
    let expected_heading = to_line(heading)?;
    let mut has_heading = false;
    loop {
        line.clear();
        let length = reader.read_line(&mut line).map_err(fail)?;
        let Some(text) = line.strip_suffix('\n') else { break };
        if has_heading {
            check_id(path, text, heading.shard, heading.points, done)?;
            done += 1;
        } else {
            let found: Heading = parse_heading(path, text)?;
            if text != expected_heading {
                let what = heading.difference(&found).unwrap_or("shard");
                return Err(wrong(
                    path,
                    format!("a run with the same {what}"),
                    format_args!("another {what}"),
                ));
            }
            has_heading = true;
        }
        whole += length as u64;
    }
    if !has_heading && !expected_heading.starts_with(&line) {
        return Err(wrong(path, "a run of this program", "a file of another kind"));
    }
    let mut file = reader.into_inner();
    file.set_len(whole).map_err(fail)?;
    file.seek(SeekFrom::Start(whole)).map_err(fail)?;
    let mut out = BufWriter::new(file);
    if !has_heading {
        writeln!(out, "{expected_heading}").map_err(fail)?;
    }
    Ok((out, done))
}

/// Whether a file system that was asked for a lock has none: network file systems often have no service for them.
pub(super) fn has_no_locks(error: &io::Error) -> bool {
    #[cfg(unix)]
    if error.raw_os_error() == Some(libc::ENOLCK) {
        return true;
    }
    error.kind() == io::ErrorKind::Unsupported
}
