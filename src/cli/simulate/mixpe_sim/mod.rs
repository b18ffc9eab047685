//! `simulate --compat mixpe-sim`: layers as the simulator of MixPE's authors counts them.
//!
//! The simulator is github.com/yuzhang712/mixpe_simulator at 7e0d42c0, a descendant of BitFusion's. What is written here
//! follows its behaviour, so that its figures can be compared with; the default of `simulate` does not. Among what the
//! default does not share: operands of one precision in a layer, elements whose area is 1, powers of elements that are
//! no syntheses, and dequantisation as a product of made-up extents.
#![forbid(unsafe_code)]

mod layer;
mod machine;
mod report;
mod search;

use anyhow::Result;
use layer::Layer;
use machine::Machine;
use report::{Row, Totals};
use std::io::Write;

/// What reports say about the figures.
const PROVENANCE: &str = "as github.com/yuzhang712/mixpe_simulator (7e0d42c0) counts: one precision for both operands of \
                          a layer, output stationary, powers of elements assumed by its authors, areas left out";

/// The texts of configuration and topology, each with the name of its file.
pub(super) struct Texts<'a> {
    pub(super) config: (&'a str, &'a str),
    pub(super) topology: (&'a str, &'a str),
}

/// Layers and their totals.
pub(super) struct Simulated {
    machine: Machine,
    rows: Vec<Row>,
    totals: Totals,
}

/// Counts every layer.
pub(super) fn simulate(texts: &Texts<'_>) -> Result<Simulated> {
    let machine = Machine::parse(texts.config.0, texts.config.1)?;
    let layers = layer::parse(texts.topology.0, texts.topology.1, machine.high_bits)?;
    let rows = layers.into_iter().map(|layer| row(&machine, layer));
    let rows = rows.collect::<Result<Vec<Row>>>()?;
    let totals = Totals::new(&rows);
    Ok(Simulated { machine, rows, totals })
}

fn row(machine: &Machine, layer: Layer) -> Result<Row> {
    let counts = search::best(machine, &layer)?;
    Row::new(machine, layer, &counts)
}

impl Simulated {
    /// The rows as comma-separated values.
    pub(super) fn csv(&self) -> Result<Vec<u8>> {
        report::csv(&self.rows)
    }

    /// One JSON object, or tables.
    pub(super) fn print(&self, json: bool, out: &mut impl Write) -> Result<()> {
        if json {
            let report = serde_json::json!({
                "compat": "mixpe-sim",
                "provenance": PROVENANCE,
                "machine": self.machine,
                "rows": self.rows,
                "totals": self.totals,
            });
            serde_json::to_writer_pretty(&mut *out, &report)?;
            writeln!(out)?;
            return Ok(());
        }
        writeln!(out, "{}\n{PROVENANCE}\n", self.machine)?;
        report::print(&self.rows, &self.totals, out)
    }
}
