//! What a simulation found: rows, totals, and how they are written. Names of fields are heads of columns too, and say
//! the unit where it is not a count.
#![forbid(unsafe_code)]

use crate::cli::simulate::scaling::Scaled;
use crate::cli::table::{self, bytes, joules};
use anyhow::Result;
use comfy_table::Table;
use mixgemm::accel::array::{Array, Dataflow, Extents, Walk};
use mixgemm::accel::hardware::Hardware;
use mixgemm::accel::hardware::estimate::Estimate;
use mixgemm::accel::memory::Traffic;
use serde::Serialize;
use std::io::Write;

/// A layer.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    #[serde(flatten)]
    pub(super) counts: Counts,
    #[serde(flatten)]
    pub(super) spent: Option<Spent>,
    #[serde(flatten)]
    pub(super) scaled: Option<Scaled>,
}

/// What is counted in a layer.
#[derive(Debug, Serialize)]
pub(super) struct Counts {
    pub(super) layer: String,
    m: u64,
    n: u64,
    k: u64,
    /// A count: computation and stalls.
    pub(super) cycles: u64,
    /// What SCALE-Sim prints as total: the index of the last cycle, without cycles lost to small scratchpads.
    scale_sim_total_cycles: u64,
    pub(super) compute_cycles: u64,
    pub(super) stall_cycles: u64,
    /// Words between scratchpads and array.
    sram_ifmap_reads: u64,
    sram_filter_reads: u64,
    sram_ofmap_reads: u64,
    sram_ofmap_writes: u64,
    /// Multiply-accumulates of those that the array could do in these cycles.
    utilization: f64,
    /// As SCALE-Sim has it, over its own total; none where that is zero.
    scale_sim_utilization_percent: Option<f64>,
    dram_ifmap_read_bits: f64,
    dram_filter_read_bits: f64,
    dram_ofmap_read_bits: f64,
    dram_ofmap_write_bits: f64,
    /// Over all cycles.
    average_dram_bits_per_cycle: f64,
    /// Extents of a tile, and the loops over tiles from the outermost on.
    tile_m: u64,
    tile_n: u64,
    tile_k: u64,
    loop_order: &'static str,
}

/// All layers together.
#[derive(Debug, Default, Serialize)]
pub(super) struct Totals {
    layers: usize,
    macs: u64,
    cycles: u64,
    scale_sim_total_cycles: u64,
    compute_cycles: u64,
    stall_cycles: u64,
    sram_ifmap_reads: u64,
    sram_filter_reads: u64,
    sram_ofmap_reads: u64,
    sram_ofmap_writes: u64,
    utilization: f64,
    dram_read_bits: f64,
    dram_write_bits: f64,
    #[serde(flatten)]
    pub(super) spent: Option<Spent>,
}

/// Time and energy, known where a device is given.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Spent {
    seconds: f64,
    energy_static_pj: f64,
    energy_dram_pj: f64,
    /// What the energy of the DRAM rests on: published values differ sixtyfold.
    dram_read_pj_per_bit: f64,
    dram_write_pj_per_bit: f64,
    energy_buffers_pj: f64,
    energy_core_pj: f64,
    energy_dequantisation_pj: f64,
    energy_total_pj: f64,
    power_mw: f64,
}

impl Spent {
    pub(super) fn new(device: &Hardware, estimate: &Estimate) -> Self {
        let energy = &estimate.energy;
        Self {
            seconds: estimate.seconds,
            energy_static_pj: energy.static_pj(),
            energy_dram_pj: energy.dram_pj,
            dram_read_pj_per_bit: device.dram.read_pj_per_bit,
            dram_write_pj_per_bit: device.dram.write_pj_per_bit,
            energy_buffers_pj: energy.buffers_pj,
            energy_core_pj: energy.core_pj,
            energy_dequantisation_pj: energy.dequantisation_pj,
            energy_total_pj: energy.total_pj(),
            power_mw: estimate.power_mw(),
        }
    }

    /// Of one layer after another; the power is the mean.
    fn then(self, next: Self) -> Self {
        let seconds = self.seconds + next.seconds;
        let energy_total_pj = self.energy_total_pj + next.energy_total_pj;
        Self {
            seconds,
            energy_static_pj: self.energy_static_pj + next.energy_static_pj,
            energy_dram_pj: self.energy_dram_pj + next.energy_dram_pj,
            energy_buffers_pj: self.energy_buffers_pj + next.energy_buffers_pj,
            energy_core_pj: self.energy_core_pj + next.energy_core_pj,
            energy_dequantisation_pj: self.energy_dequantisation_pj + next.energy_dequantisation_pj,
            energy_total_pj,
            power_mw: energy_total_pj * 1e-9 / seconds,
            ..next
        }
    }
}

impl Counts {
    /// Those of a layer; as SCALE-Sim would have it if it must be.
    pub(super) fn new(layer: String, array: &Array, e: Extents, traffic: &Traffic, scale_sim: bool) -> Self {
        let whole = array.walk(e);
        // SCALE-Sim never cuts a fold in time.
        let walk = if scale_sim { whole } else { traffic.walk };
        let stall_cycles = traffic.stall_cycles;
        let cycles = walk.cycles.saturating_add(stall_cycles);
        let scale_sim_total_cycles = whole.cycles.saturating_add(stall_cycles).saturating_sub(1);
        let share = |cycles: u64, macs_per_cycle: u64| e.macs() as f64 / (cycles as f64 * macs_per_cycle as f64);
        let percent = 100.0 * share(scale_sim_total_cycles, array.elements());
        let (dram, tiling) = (traffic.dram, traffic.tiling);
        Self {
            layer,
            m: e.m,
            n: e.n,
            k: e.k,
            cycles,
            scale_sim_total_cycles,
            compute_cycles: walk.cycles,
            stall_cycles,
            sram_ifmap_reads: walk.activation_reads,
            sram_filter_reads: walk.weight_reads,
            sram_ofmap_reads: walk.partial_reads,
            sram_ofmap_writes: if scale_sim {
                ofmap_writes(array, &walk)
            } else {
                walk.output_writes
            },
            utilization: share(cycles, array.macs_per_cycle()),
            scale_sim_utilization_percent: percent.is_finite().then_some(percent),
            dram_ifmap_read_bits: dram.activation_read,
            dram_filter_read_bits: dram.weight_read,
            dram_ofmap_read_bits: dram.output_read,
            dram_ofmap_write_bits: dram.output_written,
            average_dram_bits_per_cycle: dram.total() / cycles as f64,
            tile_m: tiling.tile.m,
            tile_n: tiling.tile.n,
            tile_k: tiling.tile.k,
            loop_order: tiling.order,
        }
    }

    /// N and K.
    pub(super) const fn weights(&self) -> (u64, u64) {
        (self.n, self.k)
    }

    fn dram_read_bits(&self) -> f64 {
        self.dram_ifmap_read_bits + self.dram_filter_read_bits + self.dram_ofmap_read_bits
    }
}

/// SCALE-Sim counts a row and a column of outputs too many for every fold where outputs stay.
fn ofmap_writes(array: &Array, walk: &Walk) -> u64 {
    let excess = match array.dataflow() {
        Dataflow::OutputStationary => u64::from(array.rows()) + u64::from(array.cols()),
        Dataflow::WeightStationary | Dataflow::InputStationary => 0,
    };
    walk.output_writes.saturating_add(walk.folds.saturating_mul(excess))
}

impl Totals {
    pub(super) fn new(rows: &[Row], array: &Array) -> Self {
        let mut totals = Self {
            layers: rows.len(),
            ..Self::default()
        };
        for Row { counts: row, .. } in rows {
            totals.macs = totals.macs.saturating_add(Extents::new(row.m, row.n, row.k).macs());
            for (total, count) in [
                (&mut totals.cycles, row.cycles),
                (&mut totals.scale_sim_total_cycles, row.scale_sim_total_cycles),
                (&mut totals.compute_cycles, row.compute_cycles),
                (&mut totals.stall_cycles, row.stall_cycles),
                (&mut totals.sram_ifmap_reads, row.sram_ifmap_reads),
                (&mut totals.sram_filter_reads, row.sram_filter_reads),
                (&mut totals.sram_ofmap_reads, row.sram_ofmap_reads),
                (&mut totals.sram_ofmap_writes, row.sram_ofmap_writes),
            ] {
                *total = total.saturating_add(count);
            }
            totals.dram_read_bits += row.dram_read_bits();
            totals.dram_write_bits += row.dram_ofmap_write_bits;
        }
        let spent = rows.iter().map(|row| row.spent);
        totals.spent = spent.reduce(|sum, next| Some(sum?.then(next?))).flatten();
        totals.utilization = totals.macs as f64 / (totals.cycles as f64 * array.macs_per_cycle() as f64);
        totals
    }
}

/// The rows as comma-separated values.
pub(super) fn csv(rows: &[Row]) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for Row { counts, spent, scaled } in rows {
        match (spent, scaled) {
            (Some(spent), Some(scaled)) => writer.serialize((counts, spent, scaled))?,
            _ => writer.serialize(counts)?,
        }
    }
    Ok(writer.into_inner().map_err(|e| e.into_error())?)
}

/// The rows and their totals as a table.
pub(super) fn print(rows: &[Row], totals: &Totals, out: &mut impl Write) -> Result<()> {
    let heads = [
        "layer",
        "M",
        "N",
        "K",
        "cycles",
        "SCALE-Sim\ntotal",
        "stalls",
        "utili-\nzation",
        "ifmap\nreads",
        "filter\nreads",
        "ofmap\nwrites",
        "DRAM\nread",
        "DRAM\nwritten",
    ];
    let energy = totals.spent.is_some();
    let heads: Vec<&str> = heads.into_iter().chain(energy.then_some("energy")).collect();
    let mut table = table::columns(&heads, 1);
    for Row { counts: row, spent, .. } in rows {
        let mut cells = vec![
            row.layer.clone(),
            row.m.to_string(),
            row.n.to_string(),
            row.k.to_string(),
            row.cycles.to_string(),
            row.scale_sim_total_cycles.to_string(),
            row.stall_cycles.to_string(),
            table::percent(row.utilization),
            row.sram_ifmap_reads.to_string(),
            row.sram_filter_reads.to_string(),
            row.sram_ofmap_writes.to_string(),
            bytes(row.dram_read_bits()),
            bytes(row.dram_ofmap_write_bits),
        ];
        cells.extend(spent.map(|spent| joules(spent.energy_total_pj)));
        table.add_row(cells);
    }
    add_totals(&mut table, totals);
    writeln!(out, "{}", table.trim_fmt())?;
    Ok(())
}

fn add_totals(table: &mut Table, totals: &Totals) {
    let mut cells = vec![
        "total".into(),
        String::new(),
        String::new(),
        String::new(),
        totals.cycles.to_string(),
        totals.scale_sim_total_cycles.to_string(),
        totals.stall_cycles.to_string(),
        table::percent(totals.utilization),
        totals.sram_ifmap_reads.to_string(),
        totals.sram_filter_reads.to_string(),
        totals.sram_ofmap_writes.to_string(),
        bytes(totals.dram_read_bits),
        bytes(totals.dram_write_bits),
    ];
    cells.extend(totals.spent.map(|spent| joules(spent.energy_total_pj)));
    table.add_row(cells);
}

/// Where the energy goes, and where the figures behind it come from.
pub(super) fn print_energy(device: &Hardware, spent: &Spent, out: &mut impl Write) -> Result<()> {
    let (area, dram) = (device.area()?, device.dram);
    writeln!(
        out,
        "\n  time {}, area {:.2} mm2 before place and route",
        table::time(spent.seconds),
        area.total_um2() * 1e-6
    )?;
    writeln!(
        out,
        "  energy {}: static {}, DRAM {} (at {} pJ per bit read and {} written;\n    published values differ sixtyfold), \
         buffers {}, elements {}, scales and zero points {}",
        joules(spent.energy_total_pj),
        joules(spent.energy_static_pj),
        joules(spent.energy_dram_pj),
        dram.read_pj_per_bit,
        dram.write_pj_per_bit,
        joules(spent.energy_buffers_pj),
        joules(spent.energy_core_pj),
        joules(spent.energy_dequantisation_pj),
    )?;
    writeln!(out, "\n  what the figures rest on")?;
    for origin in device.origins()? {
        writeln!(
            out,
            "  {} ({}): {}",
            origin.name,
            origin.provenance.name(),
            origin.source
        )?;
    }
    Ok(())
}
