//! The few of many rows that frontiers and drawings need, taken one by one, so that a table need not fit into memory.
//!
//! A row is kept if it is on a frontier, the best of its device at its peak, or the first of its device in a
//! [`cell`] of a drawing. Each of these is the same among the kept rows as among all, so rows may be
//! thrown away again and again: whoever dominates also dominates what the dominated one dominates.
#![forbid(unsafe_code)]

use crate::base::error::Result;
use crate::dse::outcome::Row;
use crate::dse::pareto::Tolerance;
use crate::dse::view::{Conditions, View, best_of_devices, by_peak, cell, frontiers};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

/// Rows that are worth keeping.
#[derive(Debug)]
pub struct Kept {
    rows: Vec<Row>,
    tolerance: Tolerance,
    /// Rows at which some are thrown away.
    most: usize,
    least: usize,
}

impl Kept {
    /// None yet. As many as `least` rows are kept in any case.
    #[must_use]
    pub fn new(tolerance: Tolerance, least: usize) -> Self {
        Self {
            rows: Vec::new(),
            tolerance,
            most: least,
            least,
        }
    }

    /// Takes the next row.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) for figures that cannot be compared.
    pub fn push(&mut self, row: Row) -> Result<()> {
        if self.rows.len() >= self.most {
            self.reduce()?;
            self.most = self.least.max(2 * self.rows.len());
        }
        self.rows.push(row);
        Ok(())
    }

    /// The rows that are needed, and perhaps others, in the order in which they came.
    #[must_use]
    pub fn into_rows(self) -> Vec<Row> {
        self.rows
    }

    fn reduce(&mut self) -> Result<()> {
        let rows = &self.rows;
        let mut needed: BTreeSet<usize> = frontiers(rows, self.tolerance)?
            .into_iter()
            .flat_map(|f| f.places)
            .collect();
        for conditions in Conditions::all(rows) {
            let places = conditions.places(rows);
            for view in View::ALL {
                for of_peak in by_peak(rows, &places)?.values() {
                    needed.extend(best_of_devices(rows, of_peak, view));
                }
                let mut cells = BTreeSet::new();
                needed.extend(
                    places
                        .iter()
                        .filter(|&&i| cells.insert((cell(view, &rows[i]), &rows[i].point.device))),
                );
            }
        }
        let mut place = 0;
        self.rows.retain(|_| {
            place += 1;
            needed.contains(&(place - 1))
        });
        Ok(())
    }
}
