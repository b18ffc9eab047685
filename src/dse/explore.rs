//! The run over a space: in parallel, resumable, in shards, and with the same file whatever the number of threads.
//!
//! Points go to a file of lines of JSON that only grows: a [`Heading`] with the whole configuration, then one [`Row`] a
//! point in the order of their numbers. A run that was interrupted goes on behind the last whole line; a file of
//! another configuration is an error, never overwritten. Shard i of n has the points whose number is i − 1 modulo n, and
//! n merged shards are the file of one run, byte for byte.
#![forbid(unsafe_code)]

use crate::base::error::{Error, Result};
use crate::dse::outcome::Row;
use crate::dse::space::{Point, Space};
use crate::dse::workload::Workload;
use alloc::string::{String, ToString};
use alloc::{format, vec::Vec};
use core::fmt;
use core::str::FromStr;
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

/// Points between two writes.
const CHUNK: usize = 1024;

/// The part of a space that one run explores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Shard {
    /// From 1 to `of`.
    index: u64,
    of: u64,
}

impl Shard {
    /// All points.
    pub const WHOLE: Self = Self { index: 1, of: 1 };

    /// Number of shards.
    #[must_use]
    pub fn of(self) -> u64 {
        self.of
    }

    /// Points of this shard in a space of so many.
    #[must_use]
    pub fn len(self, points: u64) -> u64 {
        points.saturating_sub(self.index - 1).div_ceil(self.of)
    }

    /// The number of the shard's point at this place.
    fn id(self, place: u64) -> u64 {
        place * self.of + self.index - 1
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

impl FromStr for Shard {
    type Err = Error;

    /// `i/n` with i from 1 to n.
    fn from_str(text: &str) -> Result<Self> {
        let parts = text.split_once('/');
        let numbers = parts.and_then(|(i, n)| Some((i.trim().parse().ok()?, n.trim().parse().ok()?)));
        match numbers {
            Some((index, of)) if (1..=of).contains(&index) && of <= 1 << 20 => Ok(Self { index, of }),
            _ => Err(Error::value("shard", "i/n with i from 1 to n, n at most 1048576", text)),
        }
    }
}

impl TryFrom<String> for Shard {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Shard> for String {
    fn from(shard: Shard) -> Self {
        shard.to_string()
    }
}

/// The first line of a file of points: all that its figures depend on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Heading {
    /// Name and version of the program.
    pub program: String,
    /// Which points the file has.
    pub shard: Shard,
    /// Points of the whole space.
    pub points: u64,
    /// The products that are costed.
    pub workload: Workload,
    /// The tensors that fidelity was measured on: where from, and their digest.
    pub tensors: String,
    /// The space.
    pub space: Space,
}

impl Heading {
    /// The heading of a run of this version of the crate.
    #[must_use]
    pub fn new(space: Space, workload: Workload, tensors: String, shard: Shard) -> Self {
        Self {
            program: concat!("mixgemm ", env!("CARGO_PKG_VERSION")).to_string(),
            shard,
            points: space.len(),
            workload,
            tensors,
            space,
        }
    }

    /// What is different in another heading, the shard aside.
    fn difference(&self, other: &Self) -> Option<&'static str> {
        [
            ("program", self.program != other.program),
            ("workload", self.workload != other.workload),
            ("tensors", self.tensors != other.tensors),
            ("space", self.space != other.space || self.points != other.points),
        ]
        .into_iter()
        .find_map(|(what, differs)| differs.then_some(what))
    }
}

fn failed(path: &Path, error: &io::Error) -> Error {
    Error::file("a file of points", format!("{} ({error})", path.display()))
}

fn wrong(path: &Path, expected: impl Into<String>, found: impl fmt::Display) -> Error {
    Error::file(expected, format!("{found} in {}", path.display()))
}

fn to_line<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::value("points", "figures that JSON has", e.to_string()))
}

/// The line of a point whose figures are all finite: JSON has no others.
fn line_of(row: &Row) -> Result<String> {
    match row.outcome.not_finite() {
        None => to_line(row),
        Some((figure, value)) => {
            let found = format!("{figure} = {value} at point {}", row.point.id);
            Err(Error::value("points", "finite figures", found))
        }
    }
}

/// Explores the shard of `heading` into the file at `path`, on the threads of the current rayon pool. `evaluate` gives
/// the figures of a point; `progress` is told how many points are done of all, first those that the file has already.
///
/// # Errors
/// [`Error::File`] for a file of another configuration or one that cannot be read or written; the error of the first
/// point that `evaluate` refuses. What was written before stays, and the next call goes on behind it.
pub fn explore(
    heading: &Heading,
    path: &Path,
    evaluate: impl Fn(&Point) -> Result<Row> + Sync,
    mut progress: impl FnMut(u64, u64),
) -> Result<()> {
    let (mut out, done) = open(heading, path)?;
    let all = heading.shard.len(heading.points);
    let mut place = done;
    progress(place, all);
    while place < all {
        let end = all.min(place + CHUNK as u64);
        let points: Vec<Point> = (place..end)
            .filter_map(|p| heading.space.point(heading.shard.id(p)))
            .collect();
        let lines: Vec<Result<String>> = points.par_iter().map(|point| line_of(&evaluate(point)?)).collect();
        for line in lines {
            writeln!(out, "{}", line?).map_err(|e| failed(path, &e))?;
        }
        out.flush().map_err(|e| failed(path, &e))?;
        place = end;
        progress(place, all);
    }
    Ok(())
}

/// Opens a new file or one of the same configuration, drops a torn last line, and counts the points it has.
fn open(heading: &Heading, path: &Path) -> Result<(BufWriter<File>, u64)> {
    let fail = |e: io::Error| failed(path, &e);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(fail)?;
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

fn parse_heading(path: &Path, line: &str) -> Result<Heading> {
    serde_json::from_str(line).map_err(|e| wrong(path, "the heading of a file of points", e))
}

/// Checks that a line is the shard's point at this place, without reading the rest of it.
fn check_id(path: &Path, line: &str, shard: Shard, points: u64, place: u64) -> Result<()> {
    let found = line.strip_prefix("{\"id\":").and_then(|rest| rest.split(',').next());
    let expected = shard.id(place);
    if found.and_then(|id| id.parse().ok()) == Some(expected) && expected < points && line.ends_with('}') {
        return Ok(());
    }
    let start: String = line.chars().take(40).collect();
    Err(wrong(path, format!("point {expected}"), format_args!("`{start}`")))
}

/// Reads a file of points that is complete.
///
/// # Errors
/// [`Error::File`] for a file that cannot be read, is none of points, or lacks some.
pub fn read(path: &Path) -> Result<(Heading, Vec<Row>)> {
    let (heading, lines) = lines(path)?;
    let rows = lines.map(|line| serde_json::from_str(&line?).map_err(|e| wrong(path, "a point", e)));
    Ok((heading, rows.collect::<Result<_>>()?))
}

/// The heading and the lines of points of a complete file, checked one by one as they are taken.
fn lines(path: &Path) -> Result<(Heading, impl Iterator<Item = Result<String>>)> {
    let mut lines = BufReader::new(File::open(path).map_err(|e| failed(path, &e))?).lines();
    let first = lines.next().transpose().map_err(|e| failed(path, &e))?;
    let heading = parse_heading(path, &first.ok_or_else(|| wrong(path, "a heading", "an empty file"))?)?;
    let (shard, points, own) = (heading.shard, heading.points, path.to_path_buf());
    let checked = (0..shard.len(points)).map(move |place| {
        let line = lines.next().transpose().map_err(|e| failed(&own, &e))?;
        let all = shard.len(points);
        let line = line.ok_or_else(|| wrong(&own, format!("{all} points"), place))?;
        check_id(&own, &line, shard, points, place)?;
        Ok(line)
    });
    Ok((heading, checked))
}

/// Writes the file that one run over the whole space would have written, from the files of all its shards.
///
/// # Errors
/// [`Error::File`] for shards of different configurations, for one that is missing, given twice, or not complete.
pub fn merge(shards: &[&Path], out: &mut dyn Write) -> Result<Heading> {
    let Some(first) = shards.first() else {
        return Err(Error::file("at least one file of points", "none"));
    };
    let mut files = Vec::new();
    for path in shards {
        let (heading, lines) = lines(path)?;
        files.push((heading, lines, *path));
    }
    let (of, points) = (files[0].0.shard.of, files[0].0.points);
    for (heading, _, path) in &files {
        if let Some(what) = files[0].0.difference(heading) {
            let expected = format!("the {what} of {}", first.display());
            return Err(wrong(path, expected, format_args!("another {what}")));
        }
        if heading.shard.of != of {
            return Err(wrong(
                path,
                format!("one of {of} shards"),
                format_args!("shard {}", heading.shard),
            ));
        }
    }
    files.sort_by_key(|(heading, _, _)| heading.shard.index);
    for index in 1..=of {
        let found = files
            .iter()
            .filter(|(heading, _, _)| heading.shard.index == index)
            .count();
        if found != 1 {
            return Err(Error::file(
                format!("shard {index}/{of} once"),
                format!("{found} files of it"),
            ));
        }
    }
    let heading = Heading {
        shard: Shard::WHOLE,
        ..files[0].0.clone()
    };
    let fail = |e: io::Error| Error::file("a writable file", e.to_string());
    writeln!(out, "{}", to_line(&heading)?).map_err(fail)?;
    for id in 0..points {
        let (_, lines, path) = &mut files[(id % of) as usize];
        let line = lines
            .next()
            .ok_or_else(|| wrong(path, format!("point {id}"), "the end"))??;
        writeln!(out, "{line}").map_err(fail)?;
    }
    Ok(heading)
}
