//! Rows and totals of the compatible mode. Names of fields are heads of columns too.
#![forbid(unsafe_code)]

use super::layer::Layer;
use super::machine::{Machine, REPORTED};
use super::search::Counts;
use crate::cli::refusal::refusal;
use crate::cli::table;
use crate::cli::table::{bytes, joules};
use anyhow::Result;
use serde::Serialize;
use std::io::Write;

/// A layer and the figures of one occurrence.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    #[serde(flatten)]
    layer: Layer,
    #[serde(flatten)]
    figures: Figures,
}

/// One occurrence of a layer.
#[derive(Debug, Serialize)]
struct Figures {
    cycles: u64,
    compute_cycles: u64,
    stall_cycles: u64,
    sram_ifmap_read_bits: u64,
    sram_filter_read_bits: u64,
    sram_ofmap_read_bits: u64,
    sram_ifmap_write_bits: u64,
    sram_filter_write_bits: u64,
    sram_ofmap_write_bits: u64,
    dram_read_bits: u64,
    dram_write_bits: u64,
    /// DRAM's background.
    energy_static_pj: f64,
    energy_dram_pj: f64,
    energy_buffers_pj: f64,
    /// Elements, leakage included.
    energy_core_pj: f64,
    energy_total_pj: f64,
}

/// All occurrences of all layers.
#[derive(Debug, Default, Serialize)]
pub(super) struct Totals {
    cycles: u64,
    stall_cycles: u64,
    energy_static_pj: f64,
    energy_dram_pj: f64,
    energy_buffers_pj: f64,
    energy_core_pj: f64,
    energy_total_pj: f64,
}

impl Row {
    /// The row of a layer; refused where a count does not fit 64 bits.
    pub(super) fn new(machine: &Machine, layer: Layer, counts: &Counts) -> Result<Self> {
        let compute = counts.cycles - counts.stall_cycles;
        let pads = machine.pads.iter().zip(counts.read.iter().zip(&counts.written));
        let pads = pads
            .map(|(pad, (&read, &written))| read as f64 * pad.read_nj_per_bit + written as f64 * pad.write_nj_per_bit);
        let parts = [
            counts.cycles as f64 * REPORTED.cycle,
            counts.dram_read as f64 * REPORTED.read + counts.dram_written as f64 * REPORTED.written,
            pads.sum(),
            counts.cycles as f64 * machine.leaking_nj + compute as f64 * machine.switching_nj,
        ];
        let [energy_static_pj, energy_dram_pj, energy_buffers_pj, energy_core_pj] = parts.map(|nj| nj * 1e3);
        let count = |value: u128| {
            u64::try_from(value).map_err(|_| {
                let found = format!("{value} of layer `{}`", layer.layer);
                refusal("--topology", "layers whose counts fit 64 bits", found)
            })
        };
        let figures = Figures {
            cycles: count(counts.cycles)?,
            compute_cycles: count(compute)?,
            stall_cycles: count(counts.stall_cycles)?,
            sram_ifmap_read_bits: count(counts.read[0])?,
            sram_filter_read_bits: count(counts.read[1])?,
            sram_ofmap_read_bits: count(counts.read[2])?,
            sram_ifmap_write_bits: count(counts.written[0])?,
            sram_filter_write_bits: count(counts.written[1])?,
            sram_ofmap_write_bits: count(counts.written[2])?,
            dram_read_bits: count(counts.dram_read)?,
            dram_write_bits: count(counts.dram_written)?,
            energy_static_pj,
            energy_dram_pj,
            energy_buffers_pj,
            energy_core_pj,
            energy_total_pj: energy_static_pj + energy_dram_pj + energy_buffers_pj + energy_core_pj,
        };
        Ok(Self { layer, figures })
    }
}

impl Totals {
    pub(super) fn new(rows: &[Row]) -> Self {
        let mut totals = Self::default();
        for Row { layer, figures } in rows {
            let times = layer.count as f64;
            totals.cycles = totals.cycles.saturating_add(layer.count.saturating_mul(figures.cycles));
            let stalls = layer.count.saturating_mul(figures.stall_cycles);
            totals.stall_cycles = totals.stall_cycles.saturating_add(stalls);
            totals.energy_static_pj += times * figures.energy_static_pj;
            totals.energy_dram_pj += times * figures.energy_dram_pj;
            totals.energy_buffers_pj += times * figures.energy_buffers_pj;
            totals.energy_core_pj += times * figures.energy_core_pj;
            totals.energy_total_pj += times * figures.energy_total_pj;
        }
        totals
    }
}

/// The rows as comma-separated values.
pub(super) fn csv(rows: &[Row]) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.serialize((&row.layer, &row.figures))?;
    }
    Ok(writer.into_inner().map_err(|e| e.into_error())?)
}

/// The rows and their totals as a table.
pub(super) fn print(rows: &[Row], totals: &Totals, out: &mut impl Write) -> Result<()> {
    let heads = [
        "layer",
        "count",
        "bits",
        "cycles",
        "stalls",
        "DRAM read",
        "DRAM written",
        "static",
        "DRAM",
        "buffers",
        "elements",
        "energy",
    ];
    let mut table = table::columns(&heads, 1);
    for Row { layer, figures } in rows {
        table.add_row([
            layer.layer.clone(),
            layer.count.to_string(),
            layer.bits.to_string(),
            figures.cycles.to_string(),
            figures.stall_cycles.to_string(),
            bytes(figures.dram_read_bits as f64),
            bytes(figures.dram_write_bits as f64),
            joules(figures.energy_static_pj),
            joules(figures.energy_dram_pj),
            joules(figures.energy_buffers_pj),
            joules(figures.energy_core_pj),
            joules(figures.energy_total_pj),
        ]);
    }
    table.add_row([
        "all occurrences".to_string(),
        String::new(),
        String::new(),
        totals.cycles.to_string(),
        totals.stall_cycles.to_string(),
        String::new(),
        String::new(),
        joules(totals.energy_static_pj),
        joules(totals.energy_dram_pj),
        joules(totals.energy_buffers_pj),
        joules(totals.energy_core_pj),
        joules(totals.energy_total_pj),
    ]);
    writeln!(out, "{}", table.trim_fmt())?;
    Ok(())
}
