//! What is known about a point: fidelity, cycles, energy, area, and how efficient that is.
#![forbid(unsafe_code)]

use crate::dse::space::Point;
use alloc::string::String;
use serde::{Deserialize, Serialize};

/// Figures of one point for one pass of the whole workload.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Signal over error of the products against f64, in dB, measured.
    pub fidelity_db: f64,
    /// Multiply-accumulates.
    pub macs: u64,
    /// Cycles, stalls included: a count.
    pub cycles: u64,
    /// Of these, cycles in which the array waits for DRAM.
    pub stall_cycles: u64,
    /// Time in seconds.
    pub seconds: f64,
    /// Leakage energy in pJ.
    pub static_pj: f64,
    /// DRAM energy in pJ.
    pub dram_pj: f64,
    /// Scratchpad energy in pJ.
    pub buffers_pj: f64,
    /// Energy of the processing elements in pJ.
    pub core_pj: f64,
    /// Energy of dequantisation in pJ.
    pub dequantisation_pj: f64,
    /// Area of array, scratchpads and dequantisers in mm².
    pub area_mm2: f64,
    /// Mean power in mW: all energy over the time.
    pub power_mw: f64,
    /// Operations per second per (area × power), relative to the FP16 array of the same peak that
    /// [`evaluate`](crate::dse::evaluate) describes.
    pub efficiency_equal_peak: f64,
    /// The same, relative to an FP16 array of the same area.
    pub efficiency_equal_area: f64,
    /// 1 / (area × energy) of one multiply-accumulate of the processing element alone, relative to FP16.
    pub element_efficiency: f64,
}

impl Outcome {
    /// All energy in pJ.
    #[must_use]
    pub fn energy_pj(&self) -> f64 {
        self.static_pj + self.dram_pj + self.buffers_pj + self.core_pj + self.dequantisation_pj
    }

    /// The first figure that is not finite, with its name.
    #[must_use]
    pub fn not_finite(&self) -> Option<(&'static str, f64)> {
        [
            ("fidelity_db", self.fidelity_db),
            ("seconds", self.seconds),
            ("static_pj", self.static_pj),
            ("dram_pj", self.dram_pj),
            ("buffers_pj", self.buffers_pj),
            ("core_pj", self.core_pj),
            ("dequantisation_pj", self.dequantisation_pj),
            ("area_mm2", self.area_mm2),
            ("power_mw", self.power_mw),
            ("efficiency_equal_peak", self.efficiency_equal_peak),
            ("efficiency_equal_area", self.efficiency_equal_area),
            ("element_efficiency", self.element_efficiency),
        ]
        .into_iter()
        .find(|(_, value)| !value.is_finite())
    }
}

/// A point and its figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The point.
    #[serde(flatten)]
    pub point: Point,
    /// Its figures.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// A point that no machine is at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Infeasible {
    /// The point.
    #[serde(flatten)]
    pub point: Point,
    /// The reason: axis or key, what was expected, what was found.
    pub infeasible: String,
}

/// What is known about a point.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// Its figures.
    Feasible(Row),
    /// Why it has none.
    Infeasible(Infeasible),
}

impl Entry {
    /// Reads the line of a point.
    pub(super) fn from_line(line: &str) -> serde_json::Result<Self> {
        if line.contains("\"infeasible\":") {
            serde_json::from_str(line).map(Self::Infeasible)
        } else {
            serde_json::from_str(line).map(Self::Feasible)
        }
    }
}
