//! What `embed` says: tables for people, JSON for programs.
#![forbid(unsafe_code)]

use super::encoder::Seconds;
use super::outliers::Outliers;
use super::tokens::{Text, shortened};
use crate::cli::machine::Machine;
use crate::cli::npu::Whole;
use crate::cli::split::Columns;
use crate::cli::table;
use anyhow::Result;
use mixgemm::outlier::calibration::LayerCalibration;
use serde::Serialize;
use std::io::Write;

/// Characters of a text in the table.
const SHOWN: usize = 48;

/// Everything that a run found.
#[derive(Debug, Serialize)]
pub(super) struct Found {
    pub(super) model: String,
    pub(super) backend: &'static str,
    pub(super) emulated: bool,
    pub(super) mode: String,
    pub(super) split: String,
    pub(super) weights: String,
    pub(super) calibration_tokens: usize,
    /// The file that scales are from, where they are not from texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) calibration: Option<String>,
    pub(super) texts: Vec<TextRow>,
    pub(super) mean_cosine: f64,
    pub(super) least_cosine: f64,
    /// One for each linear where scales are static.
    pub(super) linears: Vec<LinearRow>,
    /// Of all linears.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) outliers: Option<Outliers>,
    /// The weights that outliers meet, of all linears.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) columns_of_weights: Option<Columns>,
    pub(super) seconds_f32: Seconds,
    pub(super) seconds: Seconds,
    /// Time on an emulated device with a latency model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) npu: Option<Whole>,
}

/// A text and its embeddings.
#[derive(Debug, Serialize)]
pub(super) struct TextRow {
    text: String,
    ids: Vec<u32>,
    pub(super) cosine: f64,
    f32: Vec<f32>,
    embedding: Vec<f32>,
}

impl TextRow {
    /// A row for the embeddings of both runs.
    pub(super) fn new(text: Text, truth: Vec<f32>, embedding: Vec<f32>) -> Self {
        Self {
            text: text.text,
            ids: text.ids,
            cosine: cosine(&truth, &embedding),
            f32: truth,
            embedding,
        }
    }
}

/// The cosine of the angle between two vectors.
pub(super) fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    (dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()).min(1.0)
}

/// A linear with static scales.
#[derive(Debug, Serialize)]
pub(super) struct LinearRow {
    pub(super) name: String,
    pub(super) calibrated: LayerCalibration,
    pub(super) met: Outliers,
}

/// Prints what was found for people.
pub(super) fn print(machine: &Machine, found: &Found, out: &mut impl Write) -> Result<()> {
    writeln!(out, "mixgemm embed on {machine}\n")?;
    writeln!(out, "{}", found.model)?;
    let Found {
        weights,
        mode,
        split,
        backend,
        ..
    } = found;
    writeln!(
        out,
        "Every linear on {backend}: {weights}; mode {mode}; split {split}.\n"
    )?;
    let mut rows = table::columns(&["text", "tokens", "cosine to f32"], 1);
    for row in &found.texts {
        rows.add_row([
            shortened(&row.text, SHOWN),
            row.ids.len().to_string(),
            format!("{:.5}", row.cosine),
        ]);
    }
    let tokens: usize = found.texts.iter().map(|row| row.ids.len()).sum();
    if found.texts.len() > 1 {
        rows.add_row(["mean".into(), tokens.to_string(), format!("{:.5}", found.mean_cosine)]);
        rows.add_row(["least".into(), String::new(), format!("{:.5}", found.least_cosine)]);
    }
    writeln!(out, "{rows}\n")?;
    if let Some(outliers) = &found.outliers {
        print_outliers(found, outliers, out)?;
    }
    if let Some(columns) = &found.columns_of_weights {
        writeln!(out, "Outliers meet {columns}.\n")?;
    }
    let quantised = if found.emulated {
        format!("{backend}, to emulate")
    } else {
        (*backend).into()
    };
    let mut times = table::columns(&["time", "f32", &quantised], 1);
    type Part = fn(&Seconds) -> f64;
    let parts: [(&str, Part); 4] = [
        ("linears", |s| s.linears),
        ("attention", |s| s.attention),
        ("embeddings, norms, pooling", |s| s.rest),
        ("all", Seconds::total),
    ];
    for (name, part) in parts {
        times.add_row([
            name.into(),
            table::time(part(&found.seconds_f32)),
            table::time(part(&found.seconds)),
        ]);
    }
    writeln!(
        out,
        "{times}\n\nThe f32 run is a yardstick, not a fast one: its products are formed in f64."
    )?;
    found.npu.as_ref().map_or(Ok(()), |npu| npu.print(out))
}

/// The linears' static scales and their outliers. Query, key and value have the same inputs.
fn print_outliers(found: &Found, all: &Outliers, out: &mut impl Write) -> Result<()> {
    let heads = [
        "inputs of",
        "scale",
        "max / scale",
        "outlier channels",
        "outliers",
        "shadow",
    ];
    // Only a shadow split has shadows to say something about.
    let columns = heads.len() - usize::from(found.split != "shadow");
    let mut rows = table::columns(&heads[..columns], 1);
    let repeats = [".self.key", ".self.value"];
    for row in found
        .linears
        .iter()
        .filter(|row| !repeats.iter().any(|name| row.name.ends_with(name)))
    {
        rows.add_row(
            [
                row.name.clone(),
                format!("{:.5}", row.calibrated.scale),
                format!("{:.0}", row.calibrated.importance),
                percent(row.met.channel_share()),
                percent(row.met.share()),
                if row.calibrated.shadow { "yes" } else { "no" }.into(),
            ]
            .into_iter()
            .take(columns),
        );
    }
    rows.add_row([
        "all".into(),
        String::new(),
        String::new(),
        percent(all.channel_share()),
        percent(all.share()),
    ]);
    writeln!(out, "{rows}\n")?;
    let from = match &found.calibration {
        Some(file) => file.clone(),
        None => {
            let tokens = found.calibration_tokens;
            format!("{tokens} tokens to calibrate on, which are not among the texts above")
        }
    };
    writeln!(out, "  scale, max       of {from}")?;
    writeln!(
        out,
        "  outlier channels share of channels with an input beyond 127 scales, mean over the texts above"
    )?;
    writeln!(
        out,
        "  outliers         share of inputs beyond 127 scales: {}\n",
        found.fate()
    )?;
    Ok(())
}

impl Found {
    /// What becomes of outliers.
    fn fate(&self) -> &'static str {
        match self.split.as_str() {
            "shadow" if self.linears.iter().all(|row| row.calibrated.shadow) => {
                "what clamping would lose is multiplied beside"
            }
            "shadow" => "with a shadow, what clamping would lose is multiplied beside; else clamped",
            "mixed" => "with --split mixed floats, or clamped where --outlying does not name them",
            _ => "clamped",
        }
    }
}

/// A share that may be small.
fn percent(share: f64) -> String {
    format!("{:.3} %", 100.0 * share)
}
