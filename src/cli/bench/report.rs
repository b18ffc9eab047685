//! What a benchmark says: a table for people, JSON for programs.
#![forbid(unsafe_code)]

use super::rounds::{Row, Sample};
use super::workload::Copies;
use crate::cli::machine::Machine;
use crate::cli::measure::{median, operations};
use crate::cli::table;
use mixgemm::ZeroPoint;
use serde::Serialize;
use std::io::Write;

/// Everything that was found.
#[derive(Debug, Serialize)]
pub(super) struct Findings {
    machine: Machine,
    rows: Vec<Figures>,
}

/// One row. Figures are medians over rounds, fractions medians of each round's own ratio.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    backend: &'static str,
    kernel: &'static str,
    isa: &'static str,
    mode: &'static str,
    n: usize,
    k: usize,
    m: usize,
    bits: u8,
    group: usize,
    asym: bool,
    threads: usize,
    seconds: f64,
    gops: f64,
    peak_gops: f64,
    /// Of an emulated backend there is none.
    fraction_of_peak: Option<f64>,
    f32_peak_gops: f64,
    weight_bytes: f64,
    bits_per_weight: f64,
    gbps: f64,
    dram_gbps: f64,
    fraction_of_dram: Option<f64>,
}

impl Figures {
    fn new(row: &Row, copies: &Copies, isa: &'static str) -> Self {
        let over_rounds = |f: &dyn Fn(&Sample) -> f64| median(row.samples.iter().map(f).collect());
        let (case, bytes, device) = (row.case, copies.source_bytes, &copies.all[0]);
        let operations = operations(case.m, case.n, case.k);
        let share = |f: &dyn Fn(&Sample) -> f64| (!device.emulated).then(|| over_rounds(f));
        let seconds = over_rounds(&|s| s.seconds);
        Self {
            backend: device.name,
            kernel: row.kernel,
            isa,
            mode: case.mode.name(),
            n: case.n,
            k: case.k,
            m: case.m,
            bits: case.scheme.bits,
            group: case.scheme.group_length(case.k),
            asym: case.scheme.zero != ZeroPoint::Symmetric,
            threads: case.threads.get(),
            seconds,
            gops: operations / seconds / 1e9,
            peak_gops: over_rounds(&|s| s.integer_peak) / 1e9,
            fraction_of_peak: share(&|s| operations / s.seconds / s.integer_peak),
            f32_peak_gops: over_rounds(&|s| s.f32_peak) / 1e9,
            weight_bytes: bytes,
            bits_per_weight: device.bits_per_weight,
            gbps: bytes / seconds / 1e9,
            dram_gbps: over_rounds(&|s| s.dram) / 1e9,
            fraction_of_dram: share(&|s| bytes / s.seconds / s.dram),
        }
    }
}

const HEADS: [&str; 10] = [
    "backend", "mode", "kernel", "M", "thr", "time", "GOPS", "of peak", "GB/s", "of DRAM",
];

const LEGEND: &str = "
  GOPS     10^9 operations a second, 2 per multiply-add       GB/s     stored bytes of the weights over the time
  of peak  share of the integer peak of the same moment       of DRAM  share of the memory's rate of the same moment";

impl Findings {
    pub(super) fn new(machine: Machine, isa: &'static str, rows: &[Row], copies: &[Copies]) -> Self {
        let figures = |row: &Row| Figures::new(row, &copies[row.weights], isa);
        Self {
            machine,
            rows: rows.iter().map(figures).collect(),
        }
    }

    /// One table for each set of weights, and the roofs.
    pub(super) fn print(&self, rows: &[Row], copies: &[Copies], out: &mut impl Write) -> anyhow::Result<()> {
        writeln!(out, "mixgemm bench on {}", self.machine)?;
        for (i, copies) in copies.iter().enumerate() {
            let own = || self.rows.iter().zip(rows).filter(|(_, row)| row.weights == i);
            let Some((_, first)) = own().next() else { continue };
            let device = &copies.all[0];
            let count = match copies.all.len() {
                1 => "1 copy".into(),
                count => format!("{count} different copies for M up to 16"),
            };
            writeln!(
                out,
                "\n{}x{}, {}: {:.2} bits per weight, {:.1} MB, {count}",
                first.case.n,
                first.case.k,
                table::scheme(&first.case.scheme),
                device.bits_per_weight,
                device.bytes as f64 / 1e6,
            )?;
            let mut table = table::columns(&HEADS, 3);
            for (f, _) in own() {
                table.add_row([
                    f.backend.to_owned(),
                    f.mode.to_owned(),
                    f.kernel.to_owned(),
                    f.m.to_string(),
                    f.threads.to_string(),
                    table::time(f.seconds),
                    format!("{:.1}", f.gops),
                    f.fraction_of_peak.map_or_else(|| "-".into(), table::percent),
                    format!("{:.1}", f.gbps),
                    f.fraction_of_dram.map_or_else(|| "-".into(), table::percent),
                ]);
            }
            writeln!(out, "{}", table.trim_fmt())?;
        }
        writeln!(out, "{LEGEND}\n")?;
        self.roofs(rows).iter().try_for_each(|line| writeln!(out, "{line}"))?;
        if copies.iter().any(|c| c.all[0].emulated) {
            writeln!(out, "Times of an emulated backend are those of the emulation.")?;
        }
        Ok(())
    }

    /// The roofs of each thread count: medians over all samples, memory with its range.
    fn roofs(&self, rows: &[Row]) -> Vec<String> {
        let mut threads: Vec<usize> = rows.iter().map(|r| r.case.threads.get()).collect();
        threads.sort_unstable();
        threads.dedup();
        let isa = self.rows.first().map_or("", |f| f.isa);
        let isa = if isa == "emulated" { self.machine.isa } else { isa };
        let line = |t| {
            let of = |f: fn(&Sample) -> f64| -> Vec<f64> {
                let own = rows.iter().filter(|r| r.case.threads.get() == t);
                own.flat_map(|r| &r.samples).map(|s| f(s) / 1e9).collect()
            };
            let dram = of(|s| s.dram);
            let low = dram.iter().copied().fold(f64::INFINITY, f64::min);
            let high = dram.iter().copied().fold(0.0, f64::max);
            format!(
                "Roofs, {t} thread{}: {isa} integer {:.0} GOPS, f32 {:.0} GFLOPS, DRAM {:.1} GB/s ({low:.1} to {high:.1})",
                if t == 1 { "" } else { "s" },
                median(of(|s| s.integer_peak)),
                median(of(|s| s.f32_peak)),
                median(dram),
            )
        };
        threads.into_iter().map(line).collect()
    }
}
