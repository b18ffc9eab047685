//! The configuration file of SCALE-Sim: sections in brackets, `key: value` or `key = value`, keys in any case.
//!
//! The keys that decide something here are read; the others, those of memory layout and sparsity among them, are left
//! alone as SCALE-Sim leaves unknown ones.
#![forbid(unsafe_code)]

use crate::cli::refusal::refusal;
use anyhow::Result;
use mixgemm::accel::array::{Array, Dataflow};
use mixgemm::accel::memory::Memory;
use std::fmt::Display;
use std::str::FromStr;

/// The option that names the file.
const OPTION: &str = "--config";

/// What a configuration file says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Config {
    /// `ArrayHeight`, `ArrayWidth`, `Dataflow`.
    pub(super) array: Array,
    /// `IfmapSramSzkB`, `FilterSramSzkB`, `OfmapSramSzkB` in units of 1024 bytes; `Bandwidth` in bytes per cycle, or
    /// without a limit if `InterfaceBandwidth` is `CALC`.
    pub(super) memory: Memory,
}

/// The keys of scratchpads, in the order of activations, weights, outputs.
pub(super) const SCRATCHPADS: [&str; 3] = ["IfmapSramSzkB", "FilterSramSzkB", "OfmapSramSzkB"];

/// A value and where it stands.
struct Entry<'a> {
    section: String,
    key: String,
    value: &'a str,
    line: usize,
}

/// The lines of a file, and its name for refusals.
pub(super) struct Entries<'a> {
    file: &'a str,
    all: Vec<Entry<'a>>,
}

/// The configuration in this text of this file.
pub(super) fn parse(file: &str, text: &str) -> Result<Config> {
    let entries = Entries::parse(file, text)?;
    let presets = |key| entries.get("architecture_presets", key);
    let rows = presets("ArrayHeight")?.number(file, 1, u32::MAX)?;
    let cols = presets("ArrayWidth")?.number(file, 1, u32::MAX)?;
    let dataflow = presets("Dataflow")?;
    let dataflow = Dataflow::from_str(dataflow.value).map_err(|_| dataflow.refused(file, "os, ws or is"))?;
    let mut bytes = [0; 3];
    for (bytes, key) in bytes.iter_mut().zip(SCRATCHPADS) {
        *bytes = 1024 * presets(key)?.number(file, 1, 1u64 << 40)?;
    }
    let mode = entries.get("run_presets", "InterfaceBandwidth")?;
    let words = match mode.value.to_ascii_uppercase().as_str() {
        "CALC" => f64::INFINITY,
        "USER" => presets("Bandwidth")?.bandwidth(file)?,
        _ => return Err(mode.refused(file, "CALC or USER")),
    };
    let [activation_bytes, weight_bytes, output_bytes] = bytes;
    Ok(Config {
        array: Array::new(rows, cols, dataflow)?,
        memory: Memory {
            activation_bytes,
            weight_bytes,
            output_bytes,
            dram_bits_per_cycle: 8.0 * words,
        },
    })
}

impl<'a> Entries<'a> {
    pub(super) fn parse(file: &'a str, text: &'a str) -> Result<Self> {
        let (mut section, mut all) = (String::new(), Vec::<Entry<'_>>::new());
        for (line, content) in (1..).zip(text.trim_start_matches('\u{feff}').lines()) {
            let content = content.trim();
            if content.is_empty() || content.starts_with(['#', ';']) {
                continue;
            }
            if let Some(name) = content.strip_prefix('[') {
                let Some(name) = name.strip_suffix(']') else {
                    return Err(misplaced(
                        file,
                        line,
                        "a section such as [architecture_presets]",
                        content,
                    ));
                };
                section = name.trim().to_ascii_lowercase();
                continue;
            }
            let Some((key, value)) = content.split_once([':', '=']) else {
                return Err(misplaced(file, line, "key: value", content));
            };
            let key = key.trim().to_ascii_lowercase();
            if let Some(first) = all.iter().find(|e| e.section == section && e.key == key) {
                let expected = format!("one value, that of line {}", first.line);
                return Err(misplaced(file, line, expected, content));
            }
            all.push(Entry {
                section: section.clone(),
                key,
                value: value.trim(),
                line,
            });
        }
        Ok(Self { file, all })
    }

    pub(super) fn get(&self, section: &str, key: &'static str) -> Result<Found<'_>> {
        let found = self
            .all
            .iter()
            .find(|e| e.section == section && e.key == key.to_ascii_lowercase());
        found
            .map(|entry| Found {
                key,
                value: entry.value,
                line: entry.line,
            })
            .ok_or_else(|| {
                let expected = format!("{key} in section [{section}]");
                refusal(OPTION, expected, format_args!("no such key in {}", self.file))
            })
    }
}

/// An entry under the name that it is looked up by.
pub(super) struct Found<'a> {
    key: &'static str,
    value: &'a str,
    line: usize,
}

impl Found<'_> {
    pub(super) fn refused(&self, file: &str, expected: impl Display) -> anyhow::Error {
        misplaced(file, self.line, format_args!("{}: {expected}", self.key), self.value)
    }

    pub(super) fn number<T: FromStr + PartialOrd + Display>(&self, file: &str, least: T, most: T) -> Result<T> {
        let number = self
            .value
            .parse()
            .ok()
            .filter(|number| (&least..=&most).contains(&number));
        number.ok_or_else(|| self.refused(file, format_args!("a whole number from {least} to {most}")))
    }

    /// SCALE-Sim takes a list but uses the first.
    fn bandwidth(&self, file: &str) -> Result<f64> {
        let first = self.value.split(',').next().unwrap_or_default().trim();
        let number = first
            .parse()
            .ok()
            .filter(|words: &f64| *words > 0.0 && words.is_finite());
        number.ok_or_else(|| self.refused(file, "a positive number of words per cycle"))
    }
}

fn misplaced(file: &str, line: usize, expected: impl Display, found: &str) -> anyhow::Error {
    refusal(OPTION, expected, format_args!("`{found}` in line {line} of {file}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\u{feff}[general]\nrun_name = scale\n\n[architecture_presets]\nArrayHeight:    12\n\
                        ARRAYWIDTH = 14\nIfmapSramSzkB:   64 \n  FilterSramSzkB:36\nOfmapSramSzkB: 1\nDataflow : WS\n\
                        Bandwidth : 10, 20\nMemoryBanks:   1\n# a comment\n; another\n[layout]\nBandwidth: x\n\
                        [run_presets]\nInterfaceBandwidth: USER \n";

    #[test]
    fn keys_have_any_case_and_either_separator() {
        let expected = Config {
            array: Array::new(12, 14, Dataflow::WeightStationary).unwrap(),
            memory: Memory {
                activation_bytes: 65_536,
                weight_bytes: 36_864,
                output_bytes: 1024,
                dram_bits_per_cycle: 80.0,
            },
        };
        assert_eq!(parse("a.cfg", TEXT).unwrap(), expected);
        assert_eq!(parse("a.cfg", &TEXT.replace('\n', "\r\n")).unwrap(), expected);
        let calc = parse("a.cfg", &TEXT.replace("USER", "calc").replace("10, 20", "none")).unwrap();
        assert_eq!(calc.memory.dram_bits_per_cycle, f64::INFINITY);
    }

    #[test]
    fn refusals_name_file_line_and_key() {
        for (old, new, expected) in [
            (
                "    12",
                "0",
                "--config: expected ArrayHeight: a whole number from 1 to 4294967295, found `0` in line 5 of a.cfg",
            ),
            (
                "ARRAYWIDTH = 14\n",
                "",
                "--config: expected ArrayWidth in section [architecture_presets], found no such key in a.cfg",
            ),
            (
                "   64",
                "64k",
                "--config: expected IfmapSramSzkB: a whole number from 1 to 1099511627776, found `64k` in line 7 of a.cfg",
            ),
            (
                "WS",
                "rs",
                "--config: expected Dataflow: os, ws or is, found `rs` in line 10 of a.cfg",
            ),
            (
                "10, 20",
                "fast",
                "--config: expected Bandwidth: a positive number of words per cycle, found `fast` in line 11 of a.cfg",
            ),
            (
                "MemoryBanks:   1",
                "banks",
                "--config: expected key: value, found `banks` in line 12 of a.cfg",
            ),
            (
                "MemoryBanks:   1",
                "arraywidth: 3",
                "--config: expected one value, that of line 6, found `arraywidth: 3` in line 12 of a.cfg",
            ),
            (
                "[layout]",
                "[layout",
                "--config: expected a section such as [architecture_presets], found `[layout` in line 15 of a.cfg",
            ),
            (
                "USER",
                "MINE",
                "--config: expected InterfaceBandwidth: CALC or USER, found `MINE` in line 18 of a.cfg",
            ),
        ] {
            let error = parse("a.cfg", &TEXT.replacen(old, new, 1)).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }
}
