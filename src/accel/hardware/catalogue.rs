//! The built-in accelerators: one file in `cost/data/devices/`, and one line here.
#![forbid(unsafe_code)]

use crate::accel::hardware::Hardware;
use crate::base::error::{Error, Result};
use alloc::vec::Vec;
use std::sync::LazyLock;

/// Reads `cost/data/devices/<name>.toml` at compile time.
macro_rules! devices {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../cost/data/devices/", $name, ".toml")))),*]
    };
}

/// Names and texts.
const DEVICES: &[(&str, &str)] = devices![
    "fp16",
    "fp16-f16",
    "dequant-w4a16",
    "mixpe-w4a16",
    "mixpe-w4a16-f16",
    "tpu-int8",
    "dequant-w4a8",
    "mixpe-w4a8",
];

static CATALOGUE: LazyLock<Vec<Hardware>> = LazyLock::new(|| {
    let read = |(name, text): &(&str, &str)| {
        let hardware = Hardware::from_toml(text).unwrap_or_else(|error| panic!("built-in {name}: {error}"));
        assert_eq!(hardware.name, *name, "a file is called what it holds");
        hardware
    };
    DEVICES.iter().map(read).collect()
});

/// The text of a built-in accelerator.
pub(super) fn text(name: &str) -> Result<&'static str> {
    let found = DEVICES.iter().find(|device| device.0 == name);
    found.map(|device| device.1).ok_or_else(|| {
        let names: Vec<&str> = DEVICES.iter().map(|device| device.0).collect();
        Error::value("device", names.join(", "), name)
    })
}

impl Hardware {
    /// The built-in accelerators: 32 × 32 elements each, 500 MHz, 28 nm, and the same scratchpads and channel, so that
    /// they differ in nothing but elements, formats and the place of scaling.
    ///
    /// ```
    /// use mixgemm::accel::hardware::Hardware;
    /// let names: Vec<&str> = Hardware::catalogue().iter().map(|hardware| &*hardware.name).collect();
    /// assert_eq!(names[0], "fp16");
    /// assert!(Hardware::catalogue().iter().all(|hardware| hardware.array.macs_per_cycle() == 1024));
    /// ```
    #[must_use]
    pub fn catalogue() -> &'static [Self] {
        &CATALOGUE
    }

    /// A built-in accelerator.
    ///
    /// # Errors
    /// [`Error::Value`]: there is none of this name; the names are listed.
    pub fn named(name: &str) -> Result<Self> {
        text(name)?;
        let found = CATALOGUE.iter().find(|hardware| hardware.name == name);
        Ok(found.expect("the catalogue has every text").clone())
    }
}
