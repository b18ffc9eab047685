//! What scales and zero points take in a simulation, and from which M on they should be applied elsewhere.
#![forbid(unsafe_code)]

use super::report::Row;
use crate::cli::table;
use anyhow::Result;
use mixgemm::accel::array::Extents;
use mixgemm::accel::hardware::Hardware;
use mixgemm::accel::hardware::crossover::MOST_ROWS;
use mixgemm::accel::hardware::dequantise::Scalings;
use mixgemm::accel::hardware::estimate::Estimate;
use serde::Serialize;
use std::io::Write;

/// What one layer's scales and zero points come to.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Scaled {
    /// The least M at which scaling weights before the array takes fewer multiplications, and less energy.
    crossover_m_by_count: Option<u64>,
    crossover_m_by_energy: Option<u64>,
    /// Whether there is anything to scale.
    #[serde(skip)]
    scales: bool,
    #[serde(skip)]
    counts: Scalings,
    #[serde(skip)]
    energies_pj: Scalings<f64>,
}

impl Scaled {
    pub(super) fn new(device: &Hardware, e: Extents, estimate: &Estimate) -> mixgemm::Result<Self> {
        let crossover = device.crossover(e.n, e.k).ok().flatten(); // none where the other position does not fit the scratchpads
        Ok(Self {
            crossover_m_by_count: crossover.and_then(|crossover| crossover.by_count),
            crossover_m_by_energy: crossover.and_then(|crossover| crossover.by_energy),
            scales: crossover.is_some(),
            counts: estimate.scalings,
            energies_pj: estimate.scaling_pj,
        })
    }
}

/// One kind of work, over all layers.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    work: &'static str,
    count: u64,
    energy_pj: f64,
}

/// Every kind of work that occurs, over all layers.
pub(super) fn lines(rows: &[Row]) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for scaled in rows.iter().filter_map(|row| row.scaled) {
        let energies = scaled.energies_pj.list();
        for ((work, count), (_, energy_pj)) in scaled.counts.list().into_iter().zip(energies) {
            match lines.iter_mut().find(|line| line.work == work) {
                Some(line) => {
                    line.count = line.count.saturating_add(count);
                    line.energy_pj += energy_pj;
                }
                None => lines.push(Line { work, count, energy_pj }),
            }
        }
    }
    lines.retain(|line| line.count > 0);
    lines
}

/// The kinds of work, and the crossover of every layer with other weights than the one before.
pub(super) fn print(rows: &[Row], out: &mut impl Write) -> Result<()> {
    let lines = lines(rows);
    if lines.is_empty() {
        return Ok(());
    }
    let mut work = table::columns(&["scales and zero points", "count", "energy"], 1);
    for line in &lines {
        work.add_row([line.work.into(), line.count.to_string(), table::joules(line.energy_pj)]);
    }
    writeln!(out, "\n{}", work.trim_fmt())?;
    let mut heads = vec!["scaling weights before the array, from M on", "N", "K"];
    heads.extend(["fewer multiplications", "less energy"]);
    let mut crossovers = table::columns(&heads, 1);
    let mut last = None;
    for row in rows {
        let (n, k) = row.counts.weights();
        let Some(scaled) = row.scaled.filter(|scaled| scaled.scales && last != Some((n, k))) else {
            continue;
        };
        last = Some((n, k));
        let from = |m: Option<u64>| m.map_or_else(|| format!("none to {MOST_ROWS}"), |m| m.to_string());
        let [count, energy] = [scaled.crossover_m_by_count, scaled.crossover_m_by_energy].map(from);
        crossovers.add_row([row.counts.layer.clone(), n.to_string(), k.to_string(), count, energy]);
    }
    if last.is_some() {
        writeln!(out, "\n{}", crossovers.trim_fmt())?;
    }
    Ok(())
}
