//! What was measured: rows of a CSV file, tables, and one drawing for every shape and number of threads.

use crate::drawing;
use anyhow::{Context, Result};
use comfy_table::{Table, presets};
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use std::fs;
use std::path::Path;
use time::OffsetDateTime;

/// One product of one variant: medians over the rounds. Shares are ratios to the roof that was sampled just before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) date: String,
    pub(crate) cpu: String,
    pub(crate) threads: usize,
    /// N x K.
    pub(crate) shape: String,
    pub(crate) m: usize,
    pub(crate) peer: String,
    pub(crate) version: String,
    pub(crate) variant: String,
    #[serde(rename = "bits per weight")]
    pub(crate) bits: f64,
    #[serde(rename = "time us")]
    pub(crate) microseconds: f64,
    #[serde(rename = "GOPS")]
    pub(crate) gops: f64,
    #[serde(rename = "share of peak")]
    pub(crate) of_peak: f64,
    #[serde(rename = "GB/s")]
    pub(crate) gbps: f64,
    #[serde(rename = "share of DRAM roof")]
    pub(crate) of_dram: f64,
    /// Its time over that of the variant of mixgemm in the next column.
    #[serde(rename = "ratio to mixgemm")]
    pub(crate) ratio: Option<f64>,
    #[serde(rename = "compared with")]
    pub(crate) rival: String,
}

/// Today, in UTC.
pub(crate) fn today() -> String {
    OffsetDateTime::now_utc().date().to_string()
}

/// The processor's name, family and model.
pub(crate) fn cpu() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let value = |key: &str| {
        let lines = info.lines().filter_map(|line| line.split_once(':'));
        let mut values = lines.filter(|(k, _)| k.trim() == key).map(|(_, value)| value.trim());
        values.next().map(String::from)
    };
    match (value("model name"), value("cpu family"), value("model")) {
        (Some(name), Some(family), Some(model)) => format!("{name} family {family} model {model}"),
        _ => std::env::consts::ARCH.into(),
    }
}

/// Writes `DATE-CPU.csv`, `.md` and a drawing for every shape and number of threads. Rows that the file has already
/// stay unless there are new ones of the same product; all are returned.
pub(crate) fn write(directory: &Path, new: Vec<Row>) -> Result<Vec<Row>> {
    let Some(first) = new.first() else { return Ok(new) };
    fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
    let words = first
        .cpu
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty());
    let name = format!("{}-{}", first.date, words.collect::<Vec<_>>().join("-").to_lowercase());
    let path = directory.join(format!("{name}.csv"));
    let mut rows: Vec<Row> = match csv::Reader::from_path(&path) {
        Ok(mut reader) => reader.deserialize().collect::<Result<_, _>>()?,
        Err(_) => Vec::new(),
    };
    let product = |row: &Row| {
        (
            row.threads,
            row.shape.clone(),
            row.m,
            row.peer.clone(),
            row.variant.clone(),
        )
    };
    rows.retain(|old| !new.iter().any(|row| product(row) == product(old)));
    rows.extend(new);
    let mut writer = csv::Writer::from_path(&path)?;
    rows.iter().try_for_each(|row| writer.serialize(row))?;
    writer.flush()?;
    fs::write(path.with_extension("md"), text(&rows))?;
    for group in groups(&rows) {
        let name = format!("{name}-{}-{}t.svg", group[0].shape, group[0].threads);
        fs::write(directory.join(name), drawing::draw(&group)?)?;
    }
    Ok(rows)
}

/// The rows of each shape and number of threads.
fn groups(rows: &[Row]) -> Vec<Vec<&Row>> {
    let mut groups: Vec<Vec<&Row>> = Vec::new();
    for row in rows {
        let same = |group: &&mut Vec<&Row>| (&group[0].shape, group[0].threads) == (&row.shape, row.threads);
        match groups.iter_mut().find(same) {
            Some(group) => group.push(row),
            None => groups.push(vec![row]),
        }
    }
    groups
}

/// The numbers of rows that there are, in order.
pub(crate) fn columns(group: &[&Row]) -> Vec<usize> {
    let mut m: Vec<usize> = group.iter().map(|row| row.m).collect();
    m.sort_unstable();
    m.dedup();
    m
}

/// The variants, those that are compared with each other side by side, mixgemm's first: one row of each.
pub(crate) fn variants<'a>(group: &[&'a Row]) -> Vec<&'a Row> {
    let mut found: Vec<&Row> = Vec::new();
    for &row in group {
        if !found.iter().any(|f| (&f.peer, &f.variant) == (&row.peer, &row.variant)) {
            found.push(row);
        }
    }
    let ours: Vec<&String> = found
        .iter()
        .filter(|f| f.variant == f.rival)
        .map(|f| &f.rival)
        .collect();
    found.sort_by_key(|f| (ours.iter().position(|&rival| *rival == f.rival), f.variant != f.rival));
    found
}

/// Everything in words and tables.
pub(crate) fn text(rows: &[Row]) -> String {
    let mut out = String::new();
    for group in groups(rows) {
        // Writing to a string does not fail.
        _ = writeln!(out, "## {}\n", title(&group));
        _ = writeln!(
            out,
            "Time, and how many times as long as the variant of mixgemm above it takes:\n"
        );
        _ = writeln!(
            out,
            "{}\n",
            table(&group, |row| {
                let ratio = row.ratio.filter(|_| row.variant != row.rival);
                time(row.microseconds) + &ratio.map_or_else(String::new, |ratio| format!(" ({ratio:.2})"))
            })
        );
        _ = writeln!(
            out,
            "Share of the integer peak / of the memory's rate, both sampled just before:\n"
        );
        let share = |row: &Row| format!("{:.0} % / {:.0} %", 100.0 * row.of_peak, 100.0 * row.of_dram);
        _ = writeln!(out, "{}\n", table(&group, share));
    }
    out
}

/// A group in words.
pub(crate) fn title(group: &[&Row]) -> String {
    let Row {
        shape,
        threads,
        date,
        cpu,
        ..
    } = group[0];
    let plural = if *threads == 1 { "" } else { "s" };
    format!("{shape}, {threads} thread{plural}, {cpu}, {date}")
}

fn table(group: &[&Row], cell: impl Fn(&Row) -> String) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    let columns = columns(group);
    let heads = ["peer", "variant", "bits"].map(String::from);
    table.set_header(heads.into_iter().chain(columns.iter().map(|m| format!("M = {m}"))));
    for variant in variants(group) {
        let find = |m: usize| {
            let same = |row: &&&Row| (row.m, &row.peer, &row.variant) == (m, &variant.peer, &variant.variant);
            group.iter().find(same)
        };
        let first = [
            format!("{} {}", variant.peer, variant.version),
            variant.variant.clone(),
            format!("{:.2}", variant.bits),
        ];
        let cells = columns
            .iter()
            .map(|&m| find(m).map_or_else(String::new, |row| cell(row)));
        table.add_row(first.into_iter().chain(cells));
    }
    table
}

/// Three significant digits and a unit.
pub(crate) fn time(microseconds: f64) -> String {
    let (value, unit) = if microseconds < 1e3 {
        (microseconds, "us")
    } else {
        (microseconds / 1e3, "ms")
    };
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(m: usize, peer: &str, variant: &str, rival: &str, microseconds: f64) -> Row {
        Row {
            date: "2026-01-31".into(),
            cpu: "A CPU, model 7".into(),
            threads: 2,
            shape: "64x256".into(),
            m,
            peer: peer.into(),
            version: "1.0".into(),
            variant: variant.into(),
            bits: 4.5,
            microseconds,
            gops: 1.0,
            of_peak: 0.5,
            gbps: 1.0,
            of_dram: 0.25,
            ratio: Some(microseconds),
            rival: rival.into(),
        }
    }

    #[test]
    fn rows_measured_again_replace_their_own_and_others_stay() {
        let directory = tempfile::tempdir().unwrap();
        let old = [row(1, "a", "q4", "w4", 2.0), row(4, "a", "q4", "w4", 3.0)];
        write(directory.path(), old.to_vec()).unwrap();
        let rows = write(directory.path(), vec![row(4, "a", "q4", "w4", 0.5)]).unwrap();
        assert_eq!(rows, [old[0].clone(), row(4, "a", "q4", "w4", 0.5)]);
        let name = directory.path().join("2026-01-31-a-cpu-model-7");
        assert!(
            fs::read_to_string(name.with_extension("md"))
                .unwrap()
                .contains("0.50 us (0.50)")
        );
        let drawing = fs::read_to_string(format!("{}-64x256-2t.svg", name.display())).unwrap();
        assert!(drawing.contains("M = 4") && drawing.contains("a q4 (4.50 bits)"));
    }

    #[test]
    fn variants_follow_those_that_they_are_compared_with() {
        let rows = [
            row(1, "mixgemm", "w4", "w4", 1.0),
            row(1, "mixgemm", "w8", "w8", 1.0),
            row(1, "a", "q8", "w8", 1.0),
            row(1, "b", "q4", "w4", 1.0),
        ];
        let order: Vec<&str> = variants(&rows.iter().collect::<Vec<_>>())
            .iter()
            .map(|v| &*v.variant)
            .collect();
        assert_eq!(order, ["w4", "q4", "w8", "q8"]);
    }

    #[test]
    fn times_have_three_digits() {
        assert_eq!(time(123.4), "123 us");
        assert_eq!(time(12_345.0), "12.3 ms");
    }
}
