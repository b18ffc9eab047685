//! What a benchmark says: a table for people, JSON for programs.
#![forbid(unsafe_code)]

use super::model::{Layer, Model};
use super::rounds::{Row, Sample};
use super::workload::Copies;
use crate::cli::arguments;
use crate::cli::machine::Machine;
use crate::cli::measure::{median, operations};
use crate::cli::table;
use mixgemm::ZeroPoint;
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

/// Every linear layer of a model, one after the other.
#[derive(Debug, Serialize)]
struct Pass {
    model: String,
    mode: &'static str,
    bits: u8,
    m: usize,
    threads: usize,
    seconds: f64,
    seconds_per_token: f64,
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
}

impl Figures {
    fn new(row: &Row, copies: &Copies, (isa, pool): (&'static str, &str), layer: &Layer) -> Self {
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
            pool: (case.threads.get() > 1 && !device.emulated).then(|| pool.into()),
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
            layer: layer.names.clone(),
            layer_count: layer.names.is_some().then_some(layer.count),
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
    pub(super) fn new(
        machine: Machine,
        names: (&'static str, &str),
        (rows, copies): (&[Row], &[Copies]),
        layers: &[Layer],
        model: Option<Model>,
    ) -> Self {
        let figures = |row: &Row| Figures::new(row, &copies[row.weights], names, &layers[row.case.layer]);
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
        for (i, copies) in copies.iter().enumerate() {
            let own = || self.rows.iter().zip(rows).filter(|(_, row)| row.weights == i);
            let Some((_, first)) = own().next() else { continue };
            let device = &copies.all[0];
            let count = match copies.all.len() {
                1 => "1 copy".into(),
                count => format!("{count} different copies for M up to 16"),
            };
            let figures = own().map(|(f, _)| f).next();
            let layer = figures.and_then(|f| Some((f.layer.as_ref()?, f.layer_count?)));
            let layer = layer.map_or_else(String::new, |(names, count)| format!(" ({names}: {count} in all)"));
            writeln!(
                out,
                "\n{}x{}{layer}, {}: {:.2} bits per weight, {:.1} MB, {count}",
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
        self.print_passes(out)?;
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

    /// The time of a whole model.
    fn print_passes(&self, out: &mut impl Write) -> std::io::Result<()> {
        for pass in &self.passes {
            writeln!(
                out,
                "All linear layers of {}, {}, {} bits, M = {}, {}: {}, {} a token",
                pass.model,
                pass.mode,
                pass.bits,
                pass.m,
                table::threads(pass.threads),
                table::time(pass.seconds),
                table::time(pass.seconds_per_token),
            )?;
        }
        if !self.passes.is_empty() {
            writeln!(out)?;
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

/// The sums over all layers, in the order of the first layer's rows.
fn passes(model: &str, rows: &[Figures]) -> Vec<Pass> {
    let mut passes: Vec<Pass> = Vec::new();
    for f in rows {
        let seconds = f.seconds * f.layer_count.unwrap_or(1) as f64;
        let same = |p: &&mut Pass| (p.mode, p.bits, p.m, p.threads) == (f.mode, f.bits, f.m, f.threads);
        match passes.iter_mut().find(same) {
            Some(pass) => pass.seconds += seconds,
            None => passes.push(Pass {
                model: model.into(),
                mode: f.mode,
                bits: f.bits,
                m: f.m,
                threads: f.threads,
                seconds,
                seconds_per_token: 0.0,
            }),
        }
    }
    for pass in &mut passes {
        pass.seconds_per_token = pass.seconds / pass.m as f64;
    }
    passes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(m: usize, seconds: f64, layer_count: usize) -> Figures {
        Figures {
            backend: "host",
            kernel: "",
            isa: "scalar",
            mode: "a8",
            n: 1,
            k: 1,
            m,
            bits: 4,
            group: 1,
            asym: false,
            threads: 1,
            pool: None,
            seconds,
            gops: 1.0,
            peak_gops: 1.0,
            fraction_of_peak: None,
            f32_peak_gops: 1.0,
            weight_bytes: 1.0,
            bits_per_weight: 4.0,
            gbps: 1.0,
            dram_gbps: 1.0,
            fraction_of_dram: None,
            layer: Some("q".into()),
            layer_count: Some(layer_count),
        }
    }

    #[test]
    fn a_pass_takes_every_layer_as_often_as_the_model_has_it() {
        let passes = passes(
            "llama",
            &[row(1, 2.0, 3), row(4, 5.0, 1), row(1, 0.5, 2), row(4, 1.0, 3)],
        );
        let found: Vec<_> = passes.iter().map(|p| (p.m, p.seconds, p.seconds_per_token)).collect();
        assert_eq!(found, [(1, 7.0, 7.0), (4, 8.0, 2.0)]);
    }
}
