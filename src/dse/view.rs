//! Looking at a table of points: frontiers, each among points of equal conditions.
//!
//! Rows of X, node and DRAM energy are *conditions*: a machine does not choose them, and points under different ones do
//! not compete. All other axes are choices.
#![forbid(unsafe_code)]

use crate::base::error::Result;
use crate::dse::outcome::Row;
use crate::dse::pareto::{Tolerance, frontier};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::cmp::Ordering;
use serde::Serialize;

/// What an FP16 array shares with a point when their efficiencies are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum View {
    /// The peak in multiply-accumulates a cycle.
    EqualPeak,
    /// The area of the chip.
    EqualArea,
}

impl View {
    /// Both.
    pub const ALL: [Self; 2] = [Self::EqualPeak, Self::EqualArea];

    /// `equal peak` or `equal area`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EqualPeak => "equal peak",
            Self::EqualArea => "equal area",
        }
    }

    /// The efficiency of a row, FP16 = 1.
    #[must_use]
    pub const fn efficiency(self, row: &Row) -> f64 {
        match self {
            Self::EqualPeak => row.outcome.efficiency_equal_peak,
            Self::EqualArea => row.outcome.efficiency_equal_area,
        }
    }
}

/// What points have to have in common to compete.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Conditions {
    /// Process node in nm.
    pub node_nm: u32,
    /// DRAM energy in pJ per bit.
    pub dram_pj_per_bit: f64,
    /// Rows of X.
    pub m: u64,
}

impl Conditions {
    /// Those of a row.
    #[must_use]
    pub const fn of(row: &Row) -> Self {
        Self {
            node_nm: row.point.node_nm,
            dram_pj_per_bit: row.point.dram_pj_per_bit,
            m: row.point.m,
        }
    }

    fn order(&self, other: &Self) -> Ordering {
        let dram = self.dram_pj_per_bit.total_cmp(&other.dram_pj_per_bit);
        self.node_nm.cmp(&other.node_nm).then(dram).then(self.m.cmp(&other.m))
    }

    /// All conditions in a table, ascending by node, DRAM energy and rows.
    #[must_use]
    pub fn all(rows: &[Row]) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for row in rows {
            let of = Self::of(row);
            if let Err(place) = all.binary_search_by(|known| known.order(&of)) {
                all.insert(place, of);
            }
        }
        all
    }

    /// The places of rows under these conditions, ascending.
    #[must_use]
    pub fn places(&self, rows: &[Row]) -> Vec<usize> {
        (0..rows.len()).filter(|&i| Self::of(&rows[i]) == *self).collect()
    }
}

/// The frontier of one view under one set of conditions.
#[derive(Debug, Clone, PartialEq)]
pub struct Frontier {
    /// The conditions.
    pub conditions: Conditions,
    /// The view.
    pub view: View,
    /// Places of its rows, by falling fidelity, then rising efficiency, then place.
    pub places: Vec<usize>,
}

/// The frontiers of all conditions and views.
///
/// # Errors
/// As [`frontier`].
pub fn frontiers(rows: &[Row], tolerance: Tolerance) -> Result<Vec<Frontier>> {
    let mut frontiers = Vec::new();
    for conditions in Conditions::all(rows) {
        let places = conditions.places(rows);
        for view in View::ALL {
            let figures = |&i: &usize| (rows[i].outcome.fidelity_db, view.efficiency(&rows[i]));
            let points: Vec<_> = places.iter().map(figures).collect();
            let mut places: Vec<usize> = frontier(&points, tolerance)?.into_iter().map(|i| places[i]).collect();
            places.sort_by(|a, b| {
                let ((fa, ea), (fb, eb)) = (figures(a), figures(b));
                fb.total_cmp(&fa).then(ea.total_cmp(&eb)).then(a.cmp(b))
            });
            frontiers.push(Frontier {
                conditions,
                view,
                places,
            });
        }
    }
    Ok(frontiers)
}

/// Multiply-accumulates a cycle of a row's array.
///
/// # Errors
/// As [`Point::hardware`](crate::dse::space::Point::hardware).
pub fn peak(row: &Row) -> Result<u64> {
    Ok(row.point.hardware()?.array.macs_per_cycle())
}

/// For every device the most efficient of the rows with its widest weights among `places`, in the order in which devices
/// first appear; of equal ones the first.
#[must_use]
pub fn best_of_devices(rows: &[Row], places: &[usize], view: View) -> Vec<usize> {
    let rank = |place: usize| (rows[place].point.bits, view.efficiency(&rows[place]));
    let mut best: Vec<usize> = Vec::new();
    for &i in places {
        let known = best
            .iter_mut()
            .find(|known| rows[**known].point.device == rows[i].point.device);
        match known {
            None => best.push(i),
            Some(known) if rank(i) > rank(*known) => *known = i,
            Some(_) => {}
        }
    }
    best
}

/// The places of every peak among `places`, by rising peak.
///
/// # Errors
/// As [`peak`].
pub fn by_peak(rows: &[Row], places: &[usize]) -> Result<BTreeMap<u64, Vec<usize>>> {
    let mut peaks = BTreeMap::<u64, Vec<usize>>::new();
    for &place in places {
        peaks.entry(peak(&rows[place])?).or_default().push(place);
    }
    Ok(peaks)
}

/// The [best of devices](best_of_devices) at one peak, so that they compare: that at which the most devices have a row,
/// of several such the highest. `None` for no rows.
///
/// # Errors
/// As [`peak`].
pub fn best_at_one_peak(rows: &[Row], places: &[usize], view: View) -> Result<Option<(u64, Vec<usize>)>> {
    let peaks = by_peak(rows, places)?.into_iter();
    let best = peaks.map(|(peak, places)| (peak, best_of_devices(rows, &places, view)));
    Ok(best.max_by_key(|(peak, best)| (best.len(), *peak)))
}

/// The cell of a drawing that a row falls into: a quarter of a decibel high, a fortieth of a factor of two wide. Rows of
/// one device in one cell would cover each other.
#[must_use]
pub fn cell(view: View, row: &Row) -> (i64, i64) {
    let octaves = libm::log2(view.efficiency(row).max(1e-9));
    ((octaves * 40.0) as i64, (row.outcome.fidelity_db * 4.0) as i64)
}
