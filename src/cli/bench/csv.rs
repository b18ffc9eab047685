//! Rows as comma-separated values: one line a row, with what is known about the machine at its end.
#![forbid(unsafe_code)]

use super::report::Findings;
use anyhow::Result;
use serde::Serialize;
use serde_json::{Map, Value};

/// Fields of a row and their heads.
const ROW: [(&str, &str); 27] = [
    ("layer", "layer"),
    ("layer_count", "matrices of the layer"),
    ("products", "N of each product"),
    ("together", "products together"),
    ("n", "N"),
    ("k", "K"),
    ("bits", "bits"),
    ("format", "format (weights)"),
    ("group", "group (weights)"),
    ("asym", "asymmetric"),
    ("m", "M"),
    ("mode", "mode"),
    ("threads", "threads"),
    ("pool", "pool"),
    ("backend", "backend"),
    ("isa", "tier"),
    ("kernel", "kernel"),
    ("seconds", "time (s)"),
    ("gops", "rate (GOPS)"),
    ("peak_gops", "integer peak (GOPS)"),
    ("fraction_of_peak", "rate / integer peak"),
    ("f32_peak_gops", "f32 peak (GFLOPS)"),
    ("weight_bytes", "weights (bytes)"),
    ("bits_per_weight", "packed (bits/weight)"),
    ("gbps", "weight rate (GB/s)"),
    ("dram_gbps", "DRAM rate (GB/s)"),
    ("fraction_of_dram", "weight rate / DRAM rate"),
];

/// Facts about the machine and their heads.
const MACHINE: [(&str, &str); 15] = [
    ("cpu", "machine: processor"),
    ("cpu_family", "machine: family/model/stepping"),
    ("threads", "machine: threads"),
    ("isa", "machine: best tier"),
    ("isas", "machine: tiers"),
    ("last_level_cache", "machine: last-level cache (bytes)"),
    ("memory", "machine: memory (bytes)"),
    ("huge_pages", "machine: transparent huge pages"),
    ("os", "machine: system"),
    ("arch", "machine: architecture"),
    ("version", "program: version"),
    ("commit", "program: commit"),
    ("rustc", "program: compiler"),
    ("target", "program: target"),
    ("debug_build", "program: without optimisation"),
];

/// The file's text.
pub(super) fn text(findings: &Findings) -> Result<String> {
    let mut text = line(ROW.iter().chain(&MACHINE).map(|(_, head)| (*head).to_owned()));
    let machine = fields(&findings.machine)?;
    for row in &findings.rows {
        let row = fields(row)?;
        let values = ROW.iter().map(|(name, _)| cell(row.get(*name)));
        text += &line(values.chain(MACHINE.iter().map(|(name, _)| cell(machine.get(*name)))));
    }
    Ok(text)
}

fn fields(of: &impl Serialize) -> Result<Map<String, Value>> {
    match serde_json::to_value(of)? {
        Value::Object(fields) => Ok(fields),
        other => Ok(Map::from_iter([("value".into(), other)])),
    }
}

/// A value as it stands in a line; what is unknown or does not apply is empty.
fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(values)) => values.iter().map(|v| cell(Some(v))).collect::<Vec<_>>().join(" "),
        Some(other) => other.to_string(),
    }
}

/// One line, quoted as RFC 4180 says.
fn line(cells: impl Iterator<Item = String>) -> String {
    let quoted = |cell: String| {
        if cell.contains([',', '"', '\n', '\r']) {
            format!("\"{}\"", cell.replace('"', "\"\""))
        } else {
            cell
        }
    };
    cells.map(quoted).collect::<Vec<_>>().join(",") + "\r\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::machine::Machine;

    #[test]
    fn commas_and_quotes_are_quoted() {
        let cells = ["a", "b, c", "d \"e\"", ""].map(String::from);
        assert_eq!(line(cells.into_iter()), "a,\"b, c\",\"d \"\"e\"\"\",\r\n");
    }

    #[test]
    fn every_fact_about_the_machine_has_a_column() {
        let machine = fields(&Machine::here().unwrap()).unwrap();
        let missing = machine
            .keys()
            .filter(|key| !MACHINE.iter().any(|(name, _)| name == key));
        assert_eq!(missing.collect::<Vec<_>>(), [""; 0]);
        assert_eq!(machine.len(), MACHINE.len());
    }
}
