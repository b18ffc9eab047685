//! Layers for the simulator of MixPE's authors, which has its own in Python: one row each, with the precision of both
//! operands. A fully connected layer has a kernel and an output of 1.
#![forbid(unsafe_code)]

use crate::cli::refusal::refusal;
use anyhow::Result;
use serde::{Deserialize, Serialize};

/// The option that names the file.
const OPTION: &str = "--topology";
/// The first line.
const HEAD: [&str; 8] = [
    "layer",
    "count",
    "kernel",
    "output",
    "input_channels",
    "output_channels",
    "batch",
    "bits",
];

/// A square convolution, or a product where kernel and output are 1.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Layer {
    pub(super) layer: String,
    /// How often it occurs.
    pub(super) count: u64,
    /// Height and width of the window.
    pub(super) kernel: u64,
    /// Height and width of the output.
    pub(super) output: u64,
    pub(super) input_channels: u64,
    pub(super) output_channels: u64,
    pub(super) batch: u64,
    /// Bits of activations and of weights.
    pub(super) bits: u32,
}

/// The layers in this text of this file, for elements of at most so many bits.
pub(super) fn parse(file: &str, text: &str, most_bits: u32) -> Result<Vec<Layer>> {
    let refused = |expected: String, found: String| refusal(OPTION, expected, format_args!("{found} in {file}"));
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .comment(Some(b'#'))
        .from_reader(text.as_bytes());
    let head = reader.headers().cloned().unwrap_or_default();
    if head.iter().ne(HEAD) {
        let found = head.iter().collect::<Vec<_>>().join(",");
        return Err(refused(
            format!("the first line {}", HEAD.join(",")),
            format!("`{found}`"),
        ));
    }
    let mut layers = Vec::new();
    for row in reader.deserialize() {
        let layer: Layer = row.map_err(|e| refused(format!("{} with whole numbers", HEAD.join(",")), e.to_string()))?;
        // Within these bounds no count overflows 128 bits.
        for (column, value, most) in [
            ("count", layer.count, 1 << 20),
            ("kernel", layer.kernel, 1 << 10),
            ("output", layer.output, 1 << 14),
            ("input_channels", layer.input_channels, 1 << 22),
            ("output_channels", layer.output_channels, 1 << 22),
            ("batch", layer.batch, 1 << 16),
            ("bits", u64::from(layer.bits), u64::from(most_bits)),
        ] {
            if !(1..=most).contains(&value) {
                let found = format!("{column} = {value} of layer `{}`", layer.layer);
                return Err(refused(format!("{column} from 1 to {most}"), found));
            }
        }
        layers.push(layer);
    }
    if layers.is_empty() {
        return Err(refused("at least one layer".into(), "none".into()));
    }
    Ok(layers)
}
