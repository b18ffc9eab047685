//! What a benchmark says: a table for people, JSON for programs.
#![forbid(unsafe_code)]

use super::model::{Layer, Model};
use super::passes::{Pass, passes};
use super::rounds::{Row, Sample, Way};
use super::workload::{Copies, is_decode};
use crate::cli::arguments::{self, FormatName, spelled};
use crate::cli::machine::Machine;
use crate::cli::measure::{median, operations};
use crate::cli::table;
use mixgemm::{Mat, ZeroPoint};
use serde::Serialize;
use std::io::Write;

/// Everything that was found.
#[derive(Debug, Serialize)]
pub(super) struct Findings {
    pub(super) machine: Machine,
    pub(super) rows: Vec<Figures>,
    /// Of a model: the time of all its layers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    passes: Vec<Pass>,
    #[serde(skip)]
    pub(super) roofs: Vec<Roof>,
}

/// The roofs on so many threads: medians over all samples.
#[derive(Debug)]
pub(super) struct Roof {
    pub(super) threads: usize,
    pub(super) integer_gops: f64,
    f32_gflops: f64,
    pub(super) dram_gbps: f64,
    /// The slowest and the fastest sample of memory.
    dram_range: (f64, f64),
}

/// One row. Figures are medians over rounds, fractions medians of each round's own ratio.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    pub(super) backend: &'static str,
    pub(super) kernel: &'static str,
    pub(super) isa: &'static str,
    pub(super) mode: &'static str,
    pub(super) n: usize,
    pub(super) k: usize,
    pub(super) m: usize,
    pub(super) bits: u8,
    /// What codes stand for where they are numbers of levels; none for integers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) format: Option<String>,
    pub(super) group: usize,
    pub(super) asym: bool,
    pub(super) threads: usize,
    /// Whose threads work; none where the calling thread does alone, or a device is emulated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pool: Option<String>,
    pub(super) seconds: f64,
    pub(super) gops: f64,
    pub(super) peak_gops: f64,
    /// Of an emulated backend there is none.
    pub(super) fraction_of_peak: Option<f64>,
    pub(super) f32_peak_gops: f64,
    pub(super) weight_bytes: f64,
    pub(super) bits_per_weight: f64,
    pub(super) gbps: f64,
    pub(super) dram_gbps: f64,
    pub(super) fraction_of_dram: Option<f64>,
    /// What the matrices of this shape are called in the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) layer: Option<String>,
    /// How many of them a pass through the model multiplies by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) layer_count: Option<usize>,
    /// Of several products on the same input: the outputs of each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) products: Option<Vec<usize>>,
    /// Whether they are one piece of work, or follow each other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) together: Option<bool>,
}

impl Figures {
    fn new(row: &Row, copies: &[Copies], (isa, pool): (&'static str, &str), layer: &Layer) -> Self {
        let over_rounds = |f: &dyn Fn(&Sample) -> f64| median(row.samples.iter().map(f).collect());
        let (case, device, several) = (row.case, &copies[row.weights[0]].all[0], row.case.way != Way::Alone);
        let bytes: f64 = row.weights.iter().map(|&w| copies[w].source_bytes).sum();
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
            format: FormatName::of(&case.scheme).map(spelled),
            group: case.scheme.group_length(case.k),
            asym: case.scheme.zero != ZeroPoint::Symmetric,
            threads: case.threads.get(),
            pool: (case.threads.get() > 1 && !device.emulated).then(|| pool.into()),
            seconds,
            gops: operations / seconds / 1e9,
            peak_gops: over_rounds(&|s| s.integer_peak) / 1e9,
            fraction_of_peak: share(&|s| operations / s.seconds / s.integer_peak),
            f32_peak_gops: over_rounds(&|s| s.f32_peak) / 1e9,
            weight_bytes: bytes,
            bits_per_weight: bits_per_weight(row, copies),
            gbps: bytes / seconds / 1e9,
            dram_gbps: over_rounds(&|s| s.dram) / 1e9,
            fraction_of_dram: share(&|s| bytes / s.seconds / s.dram),
            layer: layer.names.clone(),
            layer_count: layer.names.is_some().then_some(layer.count),
            products: several.then(|| row.outputs.iter().map(Mat::cols).collect()),
            together: several.then_some(case.way == Way::Together),
        }
    }

    /// The matrix or matrices, and what they are called in the model.
    fn shape(&self) -> String {
        let ns: Vec<String> = self.products.iter().flatten().map(ToString::to_string).collect();
        let n = if ns.is_empty() {
            self.n.to_string()
        } else {
            format!("({})", ns.join("+"))
        };
        match (&self.layer, self.layer_count) {
            (Some(names), Some(count)) => format!("{n}x{} ({names}: {count} in all)", self.k),
            _ => format!("{n}x{}", self.k),
        }
    }

    /// What the products are called beside those of other rows.
    pub(super) fn way(&self) -> Option<&'static str> {
        let together = self.together?;
        Some(if together { Way::Together } else { Way::InTurn }.name())
    }
}

/// Bits of all the row's weights over their number.
fn bits_per_weight(row: &Row, copies: &[Copies]) -> f64 {
    let bits = |(y, &w): (&Mat<f32>, &usize)| copies[w].all[0].bits_per_weight * y.cols() as f64;
    row.outputs.iter().zip(&row.weights).map(bits).sum::<f64>() / row.case.n.max(1) as f64
}

const HEADS: [&str; 10] = [
    "backend", "mode", "kernel", "M", "thr", "time", "GOPS", "of peak", "GB/s", "of DRAM",
];

const LEGEND: &str = "
  GOPS     10^9 operations a second, 2 per multiply-add       GB/s     stored bytes of the weights over the time
  of peak  share of the integer peak of the same moment       of DRAM  share of the memory's rate of the same moment";

impl Findings {
    pub(super) fn new(
        machine: Machine,
        names: (&'static str, &str),
        (rows, copies): (&[Row], &[Copies]),
        layers: &[Layer],
        model: Option<Model>,
    ) -> Self {
        let figures = |row: &Row| Figures::new(row, copies, names, &layers[row.case.layer]);
        let figures: Vec<Figures> = rows.iter().map(figures).collect();
        Self {
            machine,
            passes: model.map_or_else(Vec::new, |model| passes(&arguments::spelled(model), &figures)),
            rows: figures,
            roofs: roofs(rows),
        }
    }

    /// One table for each set of weights, and the roofs.
    pub(super) fn print(&self, rows: &[Row], copies: &[Copies], out: &mut impl Write) -> anyhow::Result<()> {
        writeln!(out, "mixgemm bench on {}", self.machine)?;
        let mut sets: Vec<&[usize]> = Vec::new();
        for row in rows {
            if !sets.contains(&row.weights.as_slice()) {
                sets.push(&row.weights);
            }
        }
        for set in sets {
            let own = self.rows.iter().zip(rows).filter(|(_, row)| row.weights == set);
            let own: Vec<(&Figures, &Row)> = own.collect();
            let Some((figures, first)) = own.first() else { continue };
            let bytes: usize = set.iter().map(|&w| copies[w].all[0].bytes).sum();
            writeln!(
                out,
                "\n{}, {}: {:.2} bits per weight, {:.1} MB, {}",
                figures.shape(),
                table::scheme(&first.case.scheme),
                figures.bits_per_weight,
                bytes as f64 / 1e6,
                copies_of(set, copies, own.iter().any(|(f, _)| is_decode(f.m))),
            )?;
            let mut table = table::columns(&HEADS, 3);
            if figures.way().is_some() {
                table.set_header(HEADS.map(|head| if head == "backend" { "products" } else { head }));
            }
            for (f, _) in own {
                table.add_row([
                    f.way().unwrap_or(f.backend).to_owned(),
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
        for pass in &self.passes {
            writeln!(out, "{pass}")?;
        }
        if !self.passes.is_empty() {
            writeln!(out)?;
        }
        let isa = self.rows.first().map_or("", |f| f.isa);
        let isa = if isa == "emulated" { self.machine.isa } else { isa };
        for roof in &self.roofs {
            let (low, high) = roof.dram_range;
            writeln!(
                out,
                "Roofs, {}: {isa} integer {:.0} GOPS, f32 {:.0} GFLOPS, DRAM {:.1} GB/s ({low:.1} to {high:.1})",
                table::threads(roof.threads),
                roof.integer_gops,
                roof.f32_gflops,
                roof.dram_gbps,
            )?;
        }
        if let Some(pool) = self.rows.iter().find_map(|f| f.pool.as_ref()) {
            writeln!(out, "Several threads are those of the pool `{pool}`.")?;
        }
        if copies.iter().any(|c| c.all[0].emulated) {
            writeln!(out, "Times of an emulated backend are those of the emulation.")?;
        }
        Ok(())
    }
}

/// The roofs of each thread count, fewest threads first.
fn roofs(rows: &[Row]) -> Vec<Roof> {
    let mut threads: Vec<usize> = rows.iter().map(|r| r.case.threads.get()).collect();
    threads.sort_unstable();
    threads.dedup();
    let roof = |threads| {
        let of = |f: fn(&Sample) -> f64| -> Vec<f64> {
            let own = rows.iter().filter(|r| r.case.threads.get() == threads);
            own.flat_map(|r| &r.samples).map(|s| f(s) / 1e9).collect()
        };
        let dram = of(|s| s.dram);
        let low = dram.iter().copied().fold(f64::INFINITY, f64::min);
        let high = dram.iter().copied().fold(0.0, f64::max);
        Roof {
            threads,
            integer_gops: median(of(|s| s.integer_peak)),
            f32_gflops: median(of(|s| s.f32_peak)),
            dram_gbps: median(dram),
            dram_range: (low, high),
        }
    };
    threads.into_iter().map(roof).collect()
}

/// How many copies of each matrix there are.
fn copies_of(set: &[usize], copies: &[Copies], decode: bool) -> String {
    let mut counts: Vec<usize> = set.iter().map(|&w| copies[w].all.len()).collect();
    counts.dedup();
    let counts: Vec<String> = counts.iter().map(ToString::to_string).collect();
    match counts.join(" and ").as_str() {
        "1" => "1 copy".into(),
        counts if decode => format!("{counts} different copies for M up to 16"),
        counts => format!("{counts} different copies"),
    }
}
