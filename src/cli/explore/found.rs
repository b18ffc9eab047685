//! What a complete file of points holds for the reports.
#![forbid(unsafe_code)]

use super::runs::of_points;
use super::{POINTS, TABLES};
use crate::cli::destination::Destination;
use crate::cli::refusal::refusal;
use anyhow::Result;
use mixgemm::dse::format::Format;
use mixgemm::dse::heading::Heading;
use mixgemm::dse::kept::Kept;
use mixgemm::dse::outcome::{Entry, Row};
use mixgemm::dse::pareto::Tolerance;
use mixgemm::dse::points;
use mixgemm::dse::space::Point;
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;

/// Rows that are held in any case.
const LEAST_ROWS: usize = 1 << 16;

/// What a run hands to the reports.
pub(super) struct Found {
    pub(super) heading: Heading,
    /// Points with figures.
    pub(super) feasible: u64,
    /// Of these, the rows that frontiers and drawings need.
    pub(super) rows: Vec<Row>,
    /// By the first point.
    pub(super) infeasible: Vec<Reason>,
    /// In the order of their first points.
    pub(super) fidelities: Vec<(Format, f64)>,
    /// Seconds to measure fidelities, seconds to cost points.
    pub(super) seconds: [f64; 2],
    /// Points that were costed by this run.
    pub(super) costed: u64,
}

/// Why points are infeasible.
pub(super) struct Reason {
    pub(super) reason: String,
    pub(super) points: u64,
    pub(super) first: Point,
}

impl Found {
    /// Reads the file of points in a directory one by one, and writes the table of those with figures.
    pub(super) fn read(directory: &Path, option: &'static str) -> Result<Self> {
        let refused = of_points(option);
        let (heading, entries) = points::entries(&directory.join(POINTS)).map_err(&refused)?;
        let mut found = Self {
            heading,
            feasible: 0,
            rows: Vec::new(),
            infeasible: Vec::new(),
            fidelities: Vec::new(),
            seconds: [0.0; 2],
            costed: 0,
        };
        let mut kept = Kept::new(Tolerance::DEFAULT, LEAST_ROWS);
        let (mut formats, mut reasons) = (HashSet::new(), HashMap::new());
        let mut failure = None;
        let table = Destination::new("--out", &directory.join(TABLES[0]), true)?;
        let written = table.write(|out| {
            let mut table = csv::Writer::from_writer(out);
            for entry in entries {
                let taken = entry.map_err(&refused).and_then(|entry| match entry {
                    Entry::Feasible(row) => {
                        table.serialize((&row.point, &row.outcome))?;
                        found.feasible += 1;
                        let format = row.point.format();
                        if formats.insert(format.clone()) {
                            found.fidelities.push((format, row.outcome.fidelity_db));
                        }
                        Ok(kept.push(row)?)
                    }
                    Entry::Infeasible(one) => {
                        let place = *reasons.entry(one.infeasible).or_insert_with_key(|reason| {
                            found.infeasible.push(Reason {
                                reason: reason.clone(),
                                points: 0,
                                first: one.point,
                            });
                            found.infeasible.len() - 1
                        });
                        found.infeasible[place].points += 1;
                        Ok(())
                    }
                });
                if let Err(error) = taken {
                    failure = Some(error);
                    return Err(io::Error::other("points that cannot be read"));
                }
            }
            table.flush()
        });
        if let Some(error) = failure {
            return Err(error);
        }
        written?;
        found.rows = kept.into_rows();
        if let ([], Some(first)) = (&found.rows[..], found.infeasible.first()) {
            let expected = "at least one point that is feasible";
            return Err(refusal("--space", expected, format_args!("none ({})", first.reason)));
        }
        Ok(found)
    }

    /// Points without figures.
    pub(super) fn without(&self) -> u64 {
        self.infeasible.iter().map(|reason| reason.points).sum()
    }
}
