//! What `outliers` says: a table for people, JSON for programs.
#![forbid(unsafe_code)]

use super::Layer;
use crate::cli::samples::rule_name;
use crate::cli::table;
use anyhow::Result;
use std::io::Write;
use std::path::Path;

const HEADS: [&str; 9] = [
    "layer",
    "scale by",
    "hottest channels\n(share of rows)",
    "rows",
    "K",
    "max/scale",
    "outliers\n(share)",
    "in\nchannels",
    "80 % of\nthem in",
];
/// Channels that a table names.
const HOTTEST: usize = 4;
/// The share of outliers whose channels are counted: hot channels have it in llm.npu's figures.
const MOST: f64 = 0.8;

/// Layers, and the drawings that were made of them.
pub(super) struct Report<'a> {
    pub(super) layers: &'a [Layer],
    pub(super) files: &'a [&'a Path],
    /// Whether a drawing was asked for, and there was nothing to draw.
    pub(super) undrawn: bool,
}

impl Report<'_> {
    /// Prints a row for every layer.
    pub(super) fn print(&self, out: &mut impl Write) -> Result<()> {
        let mut table = table::columns(&HEADS, 3);
        for layer in self.layers {
            let found = &layer.found;
            let rows = found.rows.max(1) as f64;
            let hot = found.channels.iter().take(HOTTEST);
            let hot: Vec<_> = hot
                .map(|&(k, count)| format!("{k} ({:.0} %)", 100.0 * count as f64 / rows))
                .collect();
            table.add_row([
                layer.name.clone(),
                rule_name(found.rule),
                hot.join(", "),
                found.rows.to_string(),
                found.k.to_string(),
                format!("{:.1}", found.importance),
                format!("{} ({:.3} %)", found.outliers(), 100.0 * found.outlier_share()),
                found.channels.len().to_string(),
                layer.channels_with(MOST).to_string(),
            ]);
        }
        writeln!(out, "mixgemm outliers\n\n{}\n", table.trim_fmt())?;
        let with = self.layers.iter().filter(|layer| layer.found.outliers() > 0).count();
        match (with, self.layers.len()) {
            (0, 1) => writeln!(out, "The layer has no outliers: nothing lies beyond 127 scales.")?,
            (0, all) => writeln!(
                out,
                "None of {all} layers has outliers: nothing lies beyond 127 scales."
            )?,
            (with, all) => writeln!(
                out,
                "{with} of {all} layers have outliers, activations beyond 127 scales."
            )?,
        }
        if self.undrawn {
            writeln!(out, "Nothing was drawn.")?;
        }
        for file in self.files {
            writeln!(out, "written: {}", file.display())?;
        }
        Ok(())
    }

    /// Prints an object with all counts.
    pub(super) fn json(&self, out: &mut impl Write) -> Result<()> {
        let rows = self.layers.iter().map(|layer| {
            let found = &layer.found;
            serde_json::json!({
                "file": layer.file, "layer": layer.name, "scale_by": rule_name(found.rule), "scale": found.scale,
                "rows": found.rows, "k": found.k, "max": found.max, "p999": found.p999,
                "importance": found.importance, "shadow": found.shadow, "outliers": found.outliers(),
                "outlier_channels": found.channels.len(), "channels_with_80_percent": layer.channels_with(MOST),
                "channels": found.channels,
            })
        });
        let files: Vec<_> = self.files.iter().map(|file| file.display().to_string()).collect();
        let value = serde_json::json!({ "rows": rows.collect::<Vec<_>>(), "files": files });
        serde_json::to_writer_pretty(&mut *out, &value)?;
        writeln!(out)?;
        Ok(())
    }
}
