//! The device whose widths and prices apply, on the array and scratchpads of the configuration.
#![forbid(unsafe_code)]

use super::config::{Config, SCRATCHPADS};
use super::read;
use crate::cli::refusal::refusal;
use anyhow::Result;
use mixgemm::Error;
use mixgemm::accel::array::{Array, Extents};
use mixgemm::accel::catalogue;
use mixgemm::accel::hardware::Hardware;
use mixgemm::accel::hardware::estimate::Estimate;
use std::path::Path;

/// The option that names the device.
const OPTION: &str = "--device";

/// What the library calls the scratchpads.
const PADS: [&str; 3] = ["memory.activation", "memory.weight", "memory.output"];

/// A built-in device by one of the names that `matmul --backend` takes, the usual one where several have it, or one of the
/// user's own in a file.
pub(super) fn find(name: &str) -> Result<Hardware> {
    if let Some(accelerator) = catalogue::family(name).next() {
        return accelerator.hardware().map_err(|error| match error {
            Error::Unsupported { expected, found, .. } => {
                let instead = format_args!("{expected}; `matmul --backend {name}` prints its times");
                refusal(OPTION, instead, found)
            }
            other => other.into(),
        });
    }
    if !name.to_ascii_lowercase().ends_with(".toml") {
        let names: Vec<&str> = catalogue::names().collect();
        let expected = format!("FILE.toml, or one of {}", names.join(", "));
        return Err(refusal(OPTION, expected, format_args!("`{name}`")));
    }
    let (file, text) = read(OPTION, Path::new(name))?;
    Hardware::from_toml(&text).map_err(|error| match error {
        Error::Value {
            argument: "device",
            expected,
            found,
        } => refusal(OPTION, expected, format_args!("{found} in {file}")),
        Error::Value {
            argument,
            expected,
            found,
        } => refusal(
            OPTION,
            format_args!("{argument}: {expected}"),
            format_args!("{found} in {file}"),
        ),
        other => other.into(),
    })
}

/// The device with the configuration's array, scratchpads and bandwidth. Elements and banks stay what they are; there
/// are as many as it takes.
pub(super) fn placed(mut device: Hardware, config: &Config) -> Result<Hardware> {
    let Config { array, memory } = config;
    device.array = Array::new(array.rows(), array.cols(), array.dataflow())?.per_element(device.array.products())?;
    for (pad, bytes) in [
        (&mut device.memory.activation, memory.activation_bytes),
        (&mut device.memory.weight, memory.weight_bytes),
        (&mut device.memory.output, memory.output_bytes),
    ] {
        let bank = (pad.bytes / u64::from(pad.banks)).max(1);
        pad.banks = u32::try_from(bytes.div_ceil(bank)).unwrap_or(u32::MAX);
        pad.bytes = bytes;
    }
    device.memory.dram_bits_per_cycle = memory.dram_bits_per_cycle;
    device.area().map_err(|error| match error {
        Error::Value {
            argument,
            expected,
            found,
        } if PADS.contains(&argument) => {
            let i = PADS.iter().position(|name| *name == argument).unwrap_or(0);
            refusal("--config", format_args!("{}: {expected}", SCRATCHPADS[i]), found)
        }
        other => other.into(),
    })?;
    Ok(device)
}

/// What a layer costs.
pub(super) fn estimate(device: &Hardware, layer: &str, extents: Extents) -> Result<Estimate> {
    device.estimate(extents).map_err(|error| match error {
        Error::Value {
            argument,
            expected,
            found,
        } => refusal(OPTION, format_args!("{argument}: {expected} of layer `{layer}`"), found),
        other => super::scratchpad(other, layer),
    })
}
