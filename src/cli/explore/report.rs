//! Tables of an exploration: as files, on a terminal, as JSON.
#![forbid(unsafe_code)]

use super::found::{Found, Reason};
use crate::cli::table;
use anyhow::Result;
use mixgemm::accel::cost::Origin;
use mixgemm::accel::cost::dram;
use mixgemm::accel::cost::element::Accumulator;
use mixgemm::accel::cost::published::{Assumption, Comparison, comparisons};
use mixgemm::accel::hardware::Hardware;
use mixgemm::accel::hardware::dequantise::Position;
use mixgemm::dse::axis::{Grouping, Input, Zero};
use mixgemm::dse::format::Format;
use mixgemm::dse::outcome::Row;
use mixgemm::dse::space::Space;
use mixgemm::dse::view::{Conditions, Frontier, View};
use mixgemm::dse::workload::Workload;
use serde::Serialize;
use serde_json::json;
use std::io::Write;
use std::path::PathBuf;

/// Most lines of a frontier on a terminal.
const MOST_LINES: usize = 16;

fn csv<T: Serialize>(rows: impl IntoIterator<Item = T>) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.serialize(row)?;
    }
    Ok(writer.into_inner()?)
}

/// Why points are infeasible, how many, and the first of them.
pub(super) fn infeasible_csv(infeasible: &[Reason]) -> Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Head<'a> {
        reason: &'a str,
        points: u64,
    }
    csv(infeasible.iter().map(|Reason { reason, points, first }| {
        (
            Head {
                reason,
                points: *points,
            },
            first,
        )
    }))
}

/// Every format and its fidelity.
pub(super) fn fidelity_csv(fidelities: &[(Format, f64)]) -> Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Line<'a> {
        format: String,
        device: &'a str,
        bits: u8,
        group: Grouping,
        zero: Zero,
        input: Input,
        accumulator: Accumulator,
        dequantisation: Position,
        fidelity_db: f64,
    }
    csv(fidelities.iter().map(|(format, fidelity_db)| Line {
        format: format.to_string(),
        device: &format.device,
        bits: format.bits,
        group: format.group,
        zero: format.zero,
        input: format.input,
        accumulator: format.accumulator,
        dequantisation: format.dequantisation,
        fidelity_db: *fidelity_db,
    }))
}

/// The frontier of every view under all conditions.
pub(super) fn frontier_csv(rows: &[Row], frontiers: &[Frontier]) -> Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Head {
        view: View,
    }
    let line = |f: &Frontier, place: usize| (Head { view: f.view }, &rows[place].point, &rows[place].outcome);
    csv(frontiers
        .iter()
        .flat_map(|f| f.places.iter().map(move |&place| line(f, place))))
}

/// The conditions that terminal and drawings show: the first node, the middle DRAM energy, every m.
pub(super) fn shown(rows: &[Row]) -> Vec<Conditions> {
    let all = Conditions::all(rows);
    let Some(first) = all.first() else { return Vec::new() };
    let mut energies: Vec<f64> = all.iter().map(|c| c.dram_pj_per_bit).collect();
    energies.sort_by(f64::total_cmp);
    energies.dedup();
    let middle = energies[energies.len() / 2];
    let fits = |c: &Conditions| c.node_nm == first.node_nm && c.dram_pj_per_bit == middle;
    all.iter().copied().filter(fits).collect()
}

/// Published channels, as text.
fn channels() -> String {
    let published = dram::published().iter();
    let list: Vec<String> = published
        .map(|p| format!("{} {:.2}", p.name, p.read_pj_per_bit))
        .collect();
    list.join(", ")
}

/// MixPE's advantages as they are computed here, beside the published ones: datapaths whose gates cost nothing, whole
/// datapaths, and with registers.
fn advantages() -> Vec<Comparison> {
    let shown = [Assumption::FreeGates, Assumption::Datapath, Assumption::Registers];
    comparisons()
        .into_iter()
        .filter(|row| shown.contains(&row.assumption))
        .collect()
}

/// Prints frontier, comparison and files.
pub(super) fn print(found: &Found, frontiers: &[Frontier], files: &[PathBuf], out: &mut impl Write) -> Result<()> {
    let (heading, rows) = (&found.heading, &found.rows);
    let [fidelity, points] = found.seconds;
    writeln!(
        out,
        "{} points of {} on {}\nfidelity on {}",
        found.feasible, heading.workload.name, heading.program, heading.tensors
    )?;
    if let Some(note) = &heading.tensors_note {
        writeln!(out, "measured on {note}")?;
    }
    if heading.workload.layers.iter().all(|layer| layer.m.is_none()) {
        writeln!(out, "{}", Workload::LEFT_OUT)?;
    }
    if found.without() > 0 {
        writeln!(out, "{} more points are infeasible:", found.without())?;
        for reason in found.infeasible.iter().take(MOST_LINES) {
            writeln!(out, "  {} x {}", reason.points, reason.reason)?;
        }
        if found.infeasible.len() > MOST_LINES {
            let more = found.infeasible.len() - MOST_LINES;
            writeln!(out, "  and {more} more reasons in infeasible.csv")?;
        }
    }
    if found.costed > 0 {
        writeln!(
            out,
            "{} formats measured in {}, {} points costed in {}: {:.0} points a second",
            found.fidelities.len(),
            table::time(fidelity),
            found.costed,
            table::time(points),
            found.costed as f64 / points.max(1e-9)
        )?;
    }
    for conditions in shown(rows) {
        let wanted = |f: &&Frontier| f.conditions == conditions && f.view == View::EqualPeak;
        if let Some(frontier) = frontiers.iter().find(wanted) {
            writeln!(
                out,
                "\nfrontier at equal peak, M = {}, {} nm, DRAM {} pJ/bit; efficiency is estimated, FP16 array = 1",
                conditions.m, conditions.node_nm, conditions.dram_pj_per_bit
            )?;
            print_frontier(rows, &frontier.places, out)?;
        }
    }
    writeln!(
        out,
        "\nDRAM decides rankings by energy; in pJ/bit others assume:\n  {}",
        channels()
    )?;
    print_advantages(out)?;
    writeln!(out, "\nwhat the figures rest on")?;
    for origin in origins(&heading.space)? {
        writeln!(
            out,
            "  {} ({}): {}",
            origin.name,
            origin.provenance.name(),
            origin.source
        )?;
    }
    writeln!(out, "\nfiles:")?;
    for file in files {
        writeln!(out, "  {}", file.display())?;
    }
    Ok(())
}

/// Where the constants of a space's accelerators come from, each once.
fn origins(space: &Space) -> Result<Vec<Origin>> {
    let mut origins: Vec<Origin> = Vec::new();
    for device in space.designs().iter().flat_map(|design| design.device.iter().flatten()) {
        // Accelerators without a cost have no feasible point either.
        let Ok(hardware) = Hardware::named(device) else {
            continue;
        };
        for origin in hardware.origins()? {
            if !origins.contains(&origin) {
                origins.push(origin);
            }
        }
    }
    Ok(origins)
}

fn print_frontier(rows: &[Row], places: &[usize], out: &mut impl Write) -> Result<()> {
    let heads = [
        "format",
        "array\n+ ties",
        "bits a\ncycle",
        "fidelity\ndB",
        "equal\npeak",
        "equal\narea",
        "pJ a\nMAC",
        "mm2",
        "cycles",
        "stalls",
    ];
    let mut table = table::columns(&heads, 3);
    // Points of one format that are all on the frontier tie.
    let mut formats: Vec<(Format, &Row, usize)> = Vec::new();
    for row in places.iter().map(|&place| &rows[place]) {
        let format = row.point.format();
        match formats.iter_mut().find(|(known, _, _)| *known == format) {
            Some((_, _, ties)) => *ties += 1,
            None => formats.push((format, row, 0)),
        }
    }
    for (format, Row { point, outcome }, ties) in formats.iter().take(MOST_LINES) {
        let and = if *ties == 0 {
            String::new()
        } else {
            format!(" + {ties}")
        };
        table.add_row([
            format.to_string(),
            format!("{} {}{and}", point.array, point.dataflow),
            point.bandwidth_bits_per_cycle.to_string(),
            format!("{:.2}", outcome.fidelity_db),
            format!("{:.3}", outcome.efficiency_equal_peak),
            format!("{:.3}", outcome.efficiency_equal_area),
            format!("{:.2}", outcome.energy_pj() / outcome.macs as f64),
            format!("{:.3}", outcome.area_mm2),
            format!("{:.3e}", outcome.cycles as f64),
            table::percent(outcome.stall_cycles as f64 / outcome.cycles.max(1) as f64),
        ]);
    }
    writeln!(out, "{}", table.trim_fmt())?;
    if formats.len() > MOST_LINES {
        writeln!(out, "  and {} more formats in frontier.csv", formats.len() - MOST_LINES)?;
    }
    Ok(())
}

fn print_advantages(out: &mut impl Write) -> Result<()> {
    writeln!(
        out,
        "\narea x energy of one element against another, at 45 nm, by the accumulators that make or break it\n(published: by \
         MixPE's authors, arXiv 2411.16158, who state neither accumulator nor node)"
    )?;
    let mut table = table::columns(
        &[
            "element",
            "against",
            "what is counted",
            "area",
            "energy",
            "product",
            "published",
        ],
        3,
    );
    for row in advantages() {
        table.add_row([
            format!("{} {}", row.element, row.accumulator),
            format!("{} {}", row.baseline, row.baseline_accumulator),
            row.assumption.name().to_string(),
            format!("{:.2}", row.area_ratio),
            format!("{:.2}", row.energy_ratio),
            format!("{:.2}", row.efficiency_ratio),
            format!("{:.2}", row.published_ratio),
        ]);
    }
    writeln!(out, "{}", table.trim_fmt())?;
    Ok(())
}

/// Prints one JSON object.
pub(super) fn json(found: &Found, frontiers: &[Frontier], files: &[PathBuf], out: &mut impl Write) -> Result<()> {
    let rows = |frontier: &Frontier| -> Vec<&Row> { frontier.places.iter().map(|&place| &found.rows[place]).collect() };
    let frontiers: Vec<_> = frontiers
        .iter()
        .map(|f| json!({ "view": f.view, "conditions": f.conditions, "rows": rows(f) }))
        .collect();
    let fidelities: Vec<_> = found
        .fidelities
        .iter()
        .map(|(format, db)| json!({ "format": format.to_string(), "fidelity_db": db }))
        .collect();
    let infeasible: Vec<_> = found
        .infeasible
        .iter()
        .map(|r| json!({ "reason": r.reason, "points": r.points, "first": r.first }))
        .collect();
    let [fidelity_seconds, points_seconds] = found.seconds;
    let value = json!({
        "program": found.heading.program,
        "workload": found.heading.workload,
        "tensors": found.heading.tensors,
        "tensors_note": found.heading.tensors_note,
        "points": found.feasible,
        "points_infeasible": found.without(),
        "infeasible": infeasible,
        "points_costed": found.costed,
        "fidelity_seconds": fidelity_seconds,
        "points_seconds": points_seconds,
        "provenance": "fidelity: measured; cycles, energy, area: estimated by a model from published, generated and \
                       assumed figures",
        "origins": origins(&found.heading.space)?,
        "fidelities": fidelities,
        "frontiers": frontiers,
        "element_comparisons": comparisons(),
        "published_dram": dram::published(),
        "files": files.iter().map(|f| f.display().to_string()).collect::<Vec<_>>(),
    });
    serde_json::to_writer_pretty(&mut *out, &value)?;
    writeln!(out)?;
    Ok(())
}
