//! The file of points: lines of JSON, a [`Heading`] with the whole configuration, then an [`Entry`] for every point of the
//! shard in the order of their numbers. Read line by line, and put together from shards line by line.
#![forbid(unsafe_code)]

use crate::base::error::{Error, Result};
use crate::dse::heading::{Heading, Shard};
use crate::dse::outcome::Entry;
use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::{format, vec::Vec};
use core::fmt;
use serde::Serialize;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

pub(super) fn failed(path: &Path, error: &io::Error) -> Error {
    Error::file("a file of points", format!("{} ({error})", path.display()))
}

pub(super) fn wrong(path: &Path, expected: impl Into<String>, found: impl fmt::Display) -> Error {
    Error::file(expected, format!("{found} in {}", path.display()))
}

pub(super) fn to_line<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::value("points", "figures that JSON has", e.to_string()))
}

pub(super) fn parse_heading(path: &Path, line: &str) -> Result<Heading> {
    serde_json::from_str(line).map_err(|e| wrong(path, "the heading of a file of points", e))
}

/// Checks that a line is the shard's point at this place, without reading the rest of it.
pub(super) fn check_id(path: &Path, line: &str, shard: Shard, points: u64, place: u64) -> Result<()> {
    let found = line.strip_prefix("{\"id\":").and_then(|rest| rest.split(',').next());
    let expected = shard.id(place);
    if found.and_then(|id| id.parse().ok()) == Some(expected) && expected < points && line.ends_with('}') {
        return Ok(());
    }
    let start: String = line.chars().take(40).collect();
    Err(wrong(path, format!("point {expected}"), format_args!("`{start}`")))
}

/// The heading of a complete file of points, and its entries one by one.
///
/// # Errors
/// [`Error::File`] for a file that cannot be read, is none of points, or lacks some.
pub fn entries(path: &Path) -> Result<(Heading, impl Iterator<Item = Result<Entry>> + use<>)> {
    let (heading, lines) = lines(path)?;
    let own = path.to_path_buf();
    let entries = lines.map(move |line| Entry::from_line(&line?).map_err(|e| wrong(&own, "a point", e)));
    Ok((heading, entries))
}

/// The heading and the lines of points of a complete file, checked one by one as they are taken.
fn lines(path: &Path) -> Result<(Heading, impl Iterator<Item = Result<String>> + use<>)> {
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

/// The open files of all shards of a run.
pub struct Shards {
    /// The lines of shard 1, 2, … and where they are.
    files: Vec<(Lines, PathBuf)>,
    heading: Heading,
}

/// Checked lines of a file of points.
type Lines = Box<dyn Iterator<Item = Result<String>>>;

impl fmt::Debug for Shards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths: Vec<&PathBuf> = self.files.iter().map(|(_, path)| path).collect();
        f.debug_struct("Shards").field("files", &paths).finish_non_exhaustive()
    }
}

impl Shards {
    /// Opens the files of all shards, given in any order.
    ///
    /// # Errors
    /// [`Error::File`] for shards of different configurations, for one that is missing or given twice.
    pub fn open(paths: &[&Path]) -> Result<Self> {
        let Some(first) = paths.first() else {
            return Err(Error::file("at least one file of points", "none"));
        };
        let mut files = Vec::new();
        for path in paths {
            let (heading, lines) = lines(path)?;
            files.push((heading, Box::new(lines) as Lines, *path));
        }
        let of = files[0].0.shard.of();
        for (heading, _, path) in &files {
            if let Some(what) = files[0].0.difference(heading) {
                let expected = format!("the {what} of {}", first.display());
                return Err(wrong(path, expected, format_args!("another {what}")));
            }
            if heading.shard.of() != of {
                let expected = format!("one of {of} shards");
                return Err(wrong(path, expected, format_args!("shard {}", heading.shard)));
            }
        }
        files.sort_by_key(|(heading, _, _)| heading.shard.index());
        for index in 1..=of {
            let own = files.iter().filter(|(heading, _, _)| heading.shard.index() == index);
            let found = own.count();
            if found != 1 {
                let expected = format!("shard {index}/{of} once");
                return Err(Error::file(expected, format!("{found} files of it")));
            }
        }
        let heading = Heading {
            shard: Shard::WHOLE,
            ..files[0].0.clone()
        };
        let files = files.into_iter().map(|(_, lines, path)| (lines, path.into())).collect();
        Ok(Self { files, heading })
    }

    /// The heading of the run that they are shards of.
    #[must_use]
    pub const fn heading(&self) -> &Heading {
        &self.heading
    }

    /// Writes the file that one run over the whole space would have written, holding one line at a time.
    ///
    /// # Errors
    /// [`Error::File`] for a shard that is not complete, and for an `out` that refuses.
    pub fn write(mut self, out: &mut dyn Write) -> Result<Heading> {
        let fail = |e: io::Error| Error::file("a writable file", e.to_string());
        writeln!(out, "{}", to_line(&self.heading)?).map_err(fail)?;
        let of = self.files.len() as u64;
        for id in 0..self.heading.points {
            let (lines, path) = &mut self.files[(id % of) as usize];
            let line = lines.next();
            let line = line.ok_or_else(|| wrong(path, format!("point {id}"), "the end"))??;
            writeln!(out, "{line}").map_err(fail)?;
        }
        Ok(self.heading)
    }
}
