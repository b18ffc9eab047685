//! What a run is of: the first line of its file, and the part of a space that it has.
#![forbid(unsafe_code)]

use crate::base::error::{Error, Result};
use crate::dse::space::Space;
use crate::dse::workload::Workload;
use alloc::string::{String, ToString};
use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Serialize};

/// Name and version of the program and of its model of hardware and fidelity. The model's number goes up with every
/// change of a figure, so that results of two models never stand in one file.
pub(super) const PROGRAM: &str = concat!("mixgemm ", env!("CARGO_PKG_VERSION"), ", model 3");

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

    /// The shard's place among the others, from 1 on.
    #[must_use]
    pub fn index(self) -> u64 {
        self.index
    }

    /// The number of the shard's point at this place.
    pub(super) fn id(self, place: u64) -> u64 {
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
    /// What of a file of tensors was left out or made up, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tensors_note: Option<String>,
    /// The space.
    pub space: Space,
}

impl Heading {
    /// The heading of a run of this version of the crate.
    #[must_use]
    pub fn new(space: Space, workload: Workload, tensors: String, shard: Shard) -> Self {
        Self {
            program: PROGRAM.to_string(),
            shard,
            points: space.len(),
            workload,
            tensors,
            tensors_note: None,
            space,
        }
    }

    /// What is different in another heading, the shard aside.
    pub(super) fn difference(&self, other: &Self) -> Option<&'static str> {
        [
            ("program", self.program != other.program),
            ("workload", self.workload != other.workload),
            ("tensors", self.tensors != other.tensors),
            ("note on tensors", self.tensors_note != other.tensors_note),
            ("space", self.space != other.space || self.points != other.points),
        ]
        .into_iter()
        .find_map(|(what, differs)| differs.then_some(what))
    }
}
