//! Packed weights that are kept from one run to the next.
#![forbid(unsafe_code)]

use crate::cli::destination::Destination;
use crate::cli::refusal::{option, refusal};
use anyhow::Result;
use mixgemm::pack::file::PackFile;
use mixgemm::{Error, Gemm, Host, Scheme};
use safetensors::tensor::TensorView;
use serde::Serialize;
use std::fmt;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3Default;

const ARGUMENT: &str = "--pack-cache";

/// A place for packed weights: a file, or a directory with a file for each matrix, scheme and layout.
#[derive(Debug)]
pub(crate) enum Place {
    File(PackFile),
    Directory(PathBuf),
}

/// The file of one packed matrix.
#[derive(Debug)]
pub(crate) struct PackCache {
    file: PackFile,
}

/// What a cache had.
pub(crate) enum Kept {
    /// The packed weights.
    Weights(Box<Gemm>),
    /// No file.
    Nothing,
    /// A file of others, and what is wrong with it.
    Unfit(String),
}

/// What became of a cache.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    file: String,
    /// `loaded`, `written`, or `replaced`.
    what: &'static str,
    /// What was wrong with the file that was replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            None => write!(f, "{} ({})", self.file, self.what),
            Some(reason) => write!(f, "{} ({}: {reason})", self.file, self.what),
        }
    }
}

/// The file at a path, which must be a pack file where it exists. A link stays, and what it leads to is replaced.
fn checked(path: &Path) -> Result<PackFile> {
    let place = Destination::new(ARGUMENT, path, true)?;
    let file = PackFile::new(place.path());
    if place.path().exists() && !file.is_one().map_err(option)? {
        let found = format_args!("{}, a file of another kind", path.display()).to_string();
        return Err(refusal(ARGUMENT, "a pack file, or none yet", found));
    }
    Ok(file)
}

impl Place {
    /// Checks before any work that packed weights could be kept there.
    pub(crate) fn new(path: &Path) -> Result<Self> {
        if path.is_dir() {
            return Ok(Self::Directory(path.into()));
        }
        if path.as_os_str().as_encoded_bytes().ends_with(b"/") {
            let found = format_args!("{} (no such directory)", path.display()).to_string();
            return Err(refusal(ARGUMENT, "an existing directory, or a file", found));
        }
        checked(path).map(Self::File)
    }

    /// Whether it is this file.
    pub(crate) fn is(&self, file: &Destination) -> bool {
        matches!(self, Self::File(own) if own.path() == file.path())
    }

    /// The cache for a tensor that is quantised so and packed for so many lanes.
    pub(crate) fn of(&self, weights: &TensorView<'_>, scheme: &Scheme, lanes: usize) -> Result<PackCache> {
        let source = fingerprint(weights, scheme);
        let file = match self {
            Self::File(file) => file.clone(),
            Self::Directory(directory) => checked(&directory.join(format!("{source:016x}-{lanes}.mixgemm")))?,
        };
        Ok(PackCache {
            file: file.source(source),
        })
    }
}

/// What the packed weights are made from: the stored tensor, the scheme, and the program that quantises.
fn fingerprint(weights: &TensorView<'_>, scheme: &Scheme) -> u64 {
    let mut hash = Xxh3Default::new();
    let program = (env!("CARGO_PKG_VERSION"), env!("MIXGEMM_COMMIT"));
    let what = format!("{program:?} {scheme:?} {:?} {:?} ", weights.dtype(), weights.shape());
    hash.update(what.as_bytes());
    hash.update(weights.data());
    hash.digest()
}

impl PackCache {
    /// The weights, if the file has them.
    pub(crate) fn load(&self, host: &Host) -> Result<Kept> {
        if !self.file.path().exists() {
            return Ok(Kept::Nothing);
        }
        match host.load(&self.file) {
            Ok(gemm) => Ok(Kept::Weights(Box::new(gemm))),
            Err(error @ Error::Memory { .. }) => Err(option(error)),
            Err(error) => Ok(Kept::Unfit(error.to_string())),
        }
    }

    /// Writes the weights, unless they were loaded, and says what was done.
    pub(crate) fn keep(&self, gemm: &Gemm, kept: Kept) -> Result<Outcome> {
        let (what, reason) = match kept {
            Kept::Weights(_) => ("loaded", None),
            Kept::Nothing => ("written", None),
            Kept::Unfit(reason) => ("replaced", Some(reason)),
        };
        if what != "loaded" {
            checked(self.file.path())?;
            gemm.save(&self.file).map_err(|error| match error {
                Error::File { expected, found, .. } => refusal(ARGUMENT, expected, found),
                error => option(error),
            })?;
        }
        Ok(Outcome {
            file: self.file.path().display().to_string(),
            what,
            reason,
        })
    }
}
