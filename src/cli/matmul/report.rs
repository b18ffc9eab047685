//! What `matmul` says: a list for people, JSON for programs.
#![forbid(unsafe_code)]

use super::difference::Difference;
use super::pack_cache::Outcome;
use super::product::Outliers;
use crate::cli::cost::Costed;
use crate::cli::machine::Machine;
use crate::cli::npu::Section;
use crate::cli::table;
use anyhow::Result;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;

/// A row of the report.
#[derive(Debug, Serialize)]
pub(super) struct Row {
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
    pub(super) emulated: bool,
    pub(super) seconds: f64,
    pub(super) gops: f64,
    pub(super) bits_per_weight: f64,
    pub(super) sqnr_db: f64,
    pub(super) relative_error: f64,
    pub(super) worst_error: f64,
    pub(super) worst_at: (usize, usize),
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) counters: Option<BTreeMap<&'static str, u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) npu: Option<Section>,
    /// What the product costs on the emulated accelerator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cost: Option<Costed>,
    /// How far dequantising first is from scaling after the group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) after_the_group: Option<Difference>,
    pub(super) output: String,
    /// What became of `--pack-cache`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pack_cache: Option<Outcome>,
    /// What a split did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) outliers: Option<Outliers>,
}

/// Prints a row for people.
pub(super) fn print(machine: &Machine, row: &Row, out: &mut impl Write) -> Result<()> {
    let time = table::time(row.seconds);
    let lines = [
        (
            "shape",
            format!(
                "[{}, {}] x [{}, {}]^T = [{}, {}]",
                row.m, row.k, row.n, row.k, row.m, row.n
            ),
        ),
        ("backend", format!("{} ({})", row.backend, row.isa)),
        ("kernel", row.kernel.to_string()),
        ("mode", row.mode.to_string()),
        ("threads", row.threads.to_string()),
        (
            "time",
            if row.emulated {
                format!("{time} to emulate")
            } else {
                time
            },
        ),
        (
            "GOPS",
            if row.emulated {
                "emulated".into()
            } else {
                format!("{:.1}", row.gops)
            },
        ),
        ("bits per weight", format!("{:.3}", row.bits_per_weight)),
        (
            "SQNR",
            format!(
                "{} dB against the f64 product of the original tensors",
                table::decibels(row.sqnr_db)
            ),
        ),
        (
            "worst error",
            format!(
                "{:.3e} at {:?}, before bias and activation",
                row.worst_error, row.worst_at
            ),
        ),
        ("written", row.output.clone()),
    ];
    let cache = row.pack_cache.as_ref().map(|cache| ("pack cache", cache.to_string()));
    let after = row.after_the_group.as_ref().map(|difference| {
        let text = format!(
            "{} dB, worst {:.3e}: dequantised first against scaled after the group",
            table::decibels(difference.sqnr_db),
            difference.worst_error
        );
        ("difference", text)
    });
    let cost = row.cost.as_ref().map(Costed::lines).unwrap_or_default();
    let outliers = row.outliers.as_ref().map(|outliers| {
        [
            ("outliers", outliers.to_string()),
            ("their weights", outliers.columns().to_string()),
            ("time of parts", outliers.parts()),
        ]
    });
    writeln!(out, "mixgemm matmul on {machine}\n")?;
    lines
        .iter()
        .chain(&cache)
        .chain(&after)
        .chain(&cost)
        .chain(outliers.iter().flatten())
        .try_for_each(|(name, value)| writeln!(out, "  {name:<16} {value}"))?;
    row.npu.as_ref().map_or(Ok(()), |npu| npu.print(out))
}
