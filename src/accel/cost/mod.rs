//! What hardware costs: area, energy and leakage, from data files in which every figure has a unit, a node and a source.
//!
//! | module | prices |
//! |---|---|
//! | [`component`] | parts of a datapath, at 45 nm |
//! | [`element`] | a processing element: its parts |
//! | [`node`] | the step to another node |
//! | [`sram`] | scratchpads: an interpolated table |
//! | [`dram`] | a bit over the channel: what others assume, sixtyfold apart |
//! | [`published`] | nothing: holds the model against what others published |
//!
//! Areas are µm², energies pJ, times ns, powers mW (leakage of logic nW), in all names.
#![forbid(unsafe_code)]

mod accumulator;
pub mod component;
pub mod dram;
pub mod element;
pub mod node;
pub mod published;
pub mod sram;

use core::iter::Sum;
use core::ops::{Add, Mul};
use serde::{Deserialize, Serialize};

/// Where a figure comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provenance {
    /// Read in the source that is named.
    Published,
    /// Made by running the public tool that is named.
    Generated,
    /// Derived from published figures, or chosen.
    Assumed,
}

impl Provenance {
    /// `published`, `generated` or `assumed`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Generated => "generated",
            Self::Assumed => "assumed",
        }
    }
}

/// A figure's place in a report: what it prices, and where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// What it prices.
    pub name: &'static str,
    /// How it came about.
    pub provenance: Provenance,
    /// The paper, tool or reasoning.
    pub source: &'static str,
}

/// The area of a part, and the energy of one operation of it.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Cost {
    /// Area, µm².
    pub area_um2: f64,
    /// Energy of one operation, pJ.
    pub energy_pj: f64,
}

impl Cost {
    /// Area times energy: what efficiency is the inverse of.
    #[must_use]
    pub fn product(self) -> f64 {
        self.area_um2 * self.energy_pj
    }
}

impl Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            area_um2: self.area_um2 + other.area_um2,
            energy_pj: self.energy_pj + other.energy_pj,
        }
    }
}

impl Mul<f64> for Cost {
    type Output = Self;

    fn mul(self, factor: f64) -> Self {
        Self {
            area_um2: self.area_um2 * factor,
            energy_pj: self.energy_pj * factor,
        }
    }
}

impl Sum for Cost {
    fn sum<I: Iterator<Item = Self>>(costs: I) -> Self {
        costs.fold(Self::default(), Add::add)
    }
}
