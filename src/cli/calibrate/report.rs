//! What `calibrate` says: a table for people, JSON for programs.
#![forbid(unsafe_code)]

use crate::cli::samples::rule_name;
use crate::cli::table;
use anyhow::Result;
use mixgemm::outlier::calibration::Calibration;
use std::io::Write;
use std::path::Path;

const HEADS: [&str; 11] = [
    "layer",
    "scale by",
    "rows",
    "K",
    "scale",
    "max",
    "p99.9",
    "max/scale",
    "outliers\n(share)",
    "in\nchannels",
    "shadow",
];

/// Prints a row for every layer.
pub(super) fn print<'a>(
    calibration: &Calibration,
    order: impl Iterator<Item = &'a str>,
    file: &Path,
    out: &mut impl Write,
) -> Result<()> {
    let mut table = table::columns(&HEADS, 2);
    for (name, layer) in order.filter_map(|name| calibration.layers.get_key_value(name)) {
        table.add_row([
            name.clone(),
            rule_name(layer.rule),
            layer.rows.to_string(),
            layer.k.to_string(),
            format!("{:.4e}", layer.scale),
            format!("{:.4}", layer.max),
            format!("{:.4}", layer.p999),
            format!("{:.1}", layer.importance),
            format!("{} ({:.3} %)", layer.outliers(), 100.0 * layer.outlier_share()),
            layer.channels.len().to_string(),
            if layer.shadow { "yes" } else { "no" }.into(),
        ]);
    }
    writeln!(
        out,
        "mixgemm calibrate\n\n{}\n\nwritten: {}",
        table.trim_fmt(),
        file.display()
    )?;
    Ok(())
}

/// Prints an object with a row for every layer.
pub(super) fn json<'a>(
    calibration: &Calibration,
    order: impl Iterator<Item = &'a str>,
    file: &Path,
    out: &mut impl Write,
) -> Result<()> {
    let rows = order.filter_map(|name| calibration.layers.get_key_value(name));
    let rows = rows.map(|(name, layer)| {
        serde_json::json!({
            "layer": name, "scale_by": rule_name(layer.rule), "rows": layer.rows, "k": layer.k,
            "scale": layer.scale, "max": layer.max, "p999": layer.p999, "importance": layer.importance,
            "outliers": layer.outliers(), "outlier_share": layer.outlier_share(), "outlier_channels": layer.channels.len(),
            "shadow": layer.shadow,
        })
    });
    let value = serde_json::json!({ "output": file.display().to_string(), "rows": rows.collect::<Vec<_>>() });
    serde_json::to_writer_pretty(&mut *out, &value)?;
    writeln!(out)?;
    Ok(())
}
