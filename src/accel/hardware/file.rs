//! An accelerator of one's own, as TOML.
//!
//! The keys are the fields of [`Hardware`]. `base = "tpu-int8"` starts from a built-in accelerator, at any depth: what
//! the file does not say is as there. `dram = "lpddr4"` stands for the figures of that name in
//! [`dram::published`]. `examples/device.toml` has every key with a remark.
#![forbid(unsafe_code)]

use crate::accel::catalogue;
use crate::accel::cost::dram;
use crate::accel::hardware::Hardware;
use crate::base::error::{Error, Result};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use toml::{Table, Value};

/// What a refused file should have been.
const EXPECTED: &str = "an accelerator in TOML";

/// Where an error of the reader lies, and what it says, in one line.
fn refusal(error: &toml::de::Error, text: &str) -> Error {
    let message = error.to_string();
    // Errors with a place come with a picture of it; those with a key come as `message\nin `key``.
    let found = match error.span() {
        Some(span) => {
            let before = &text[..span.start.min(text.len())];
            let line = before.matches('\n').count() + 1;
            format!("line {line}: {}", error.message())
        }
        None => message.trim().replace('\n', " "),
    };
    Error::value("device", EXPECTED, found)
}

/// Puts `over` on top of `base`; tables are merged key by key.
fn merge(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(base)), Value::Table(over)) => merge(base, over),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// The file's own table on top of its base's.
fn resolve(text: &str) -> Result<Table> {
    let mut own: Table = toml::from_str(text).map_err(|error| refusal(&error, text))?;
    if let Some(Value::String(name)) = own.get("dram") {
        let found = dram::published().iter().find(|row| row.name == *name);
        let row = found.ok_or_else(|| {
            let names: Vec<&str> = dram::published().iter().map(|row| row.name.as_str()).collect();
            Error::value("dram", format!("a table, or one of {}", names.join(", ")), name.clone())
        })?;
        let figures = Table::try_from(row.energy()).expect("numbers fit a table");
        own.insert("dram".into(), Value::Table(figures));
    }
    match own.remove("base") {
        None => Ok(own),
        Some(Value::String(name)) => {
            let base = catalogue::named(&name).map_err(|error| match error {
                Error::Value { expected, found, .. } => Error::value("base", expected, found),
                other => other,
            })?;
            let mut table = resolve(base.cost_file().unwrap_or_default())?;
            merge(&mut table, own);
            Ok(table)
        }
        Some(other) => Err(Error::value("base", "the name of an accelerator", other.to_string())),
    }
}

impl Hardware {
    /// Reads an accelerator.
    ///
    /// ```
    /// use mixgemm::accel::hardware::Hardware;
    /// let mine = Hardware::from_toml(
    ///     r#"
    ///     name = "mine"
    ///     base = "tpu-int8"
    ///     clock_mhz = 940
    ///     array = { rows = 128, cols = 128, dataflow = "ws" }
    ///     "#,
    /// )?;
    /// assert_eq!((mine.array.rows(), mine.clock_mhz), (128, 940.0));
    /// assert_eq!(mine.element, Hardware::named("tpu-int8")?.element);
    /// let error = Hardware::from_toml("base = 'tpu-int8'\nclock = 940").unwrap_err();
    /// assert!(error.to_string().contains("unknown field `clock`"));
    /// # Ok::<(), mixgemm::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Value`] names the key or the line, what was expected there and what was found.
    pub fn from_toml(text: &str) -> Result<Self> {
        let table = resolve(text)?;
        let hardware: Self = Value::Table(table).try_into().map_err(|error| refusal(&error, text))?;
        hardware.check()?;
        hardware.area()?;
        Ok(hardware)
    }

    /// Writes every key, so that [`from_toml`](Self::from_toml) gives the same accelerator back.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("every field has a form in TOML")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        Hardware::from_toml(text).unwrap_err().to_string()
    }

    #[test]
    fn errors_name_the_key() {
        for (text, words) in [
            ("clock_mhz = ", "line 1"),
            ("name = 'x'\nname = 'y'", "line 2"),
            ("name = 'x'", "missing field"),
            ("base = 'tpu'", "base: expected mixpe-w4a8, "),
            ("base = 7", "base: expected the name"),
            ("base = 'fp16'\nclock_mhz = 'fast'", "clock_mhz"),
            (
                "base = 'fp16'\nclock_mhz = -1",
                "clock_mhz: expected a positive number, found -1",
            ),
            (
                "base = 'fp16'\nclock_mhz = nan",
                "clock_mhz: expected a positive number, found NaN",
            ),
            ("base = 'fp16'\nnode_nm = 7", "node_nm: expected"),
            (
                "base = 'fp16'\ndram = 'hbm9'",
                "dram: expected a table, or one of ant, hbm2",
            ),
            ("base = 'fp16'\n[dram]\nread_pj_per_bit = -1", "dram.read_pj_per_bit"),
            ("base = 'fp16'\n[dram]\nbanks = 2", "`banks`"),
            (
                "base = 'fp16'\n[array]\nrows = 0",
                "array.rows: expected at least 1, found 0",
            ),
            ("base = 'fp16'\n[array]\ncolums = 8", "unknown field `colums`"),
            ("base = 'fp16'\n[array]\nrows = -3", "rows"),
            (
                "base = 'fp16'\n[element]\naccumulator = 'i99'",
                "element.accumulator: expected i8 to i64, f16 or f32, found i99",
            ),
            (
                "base = 'fp16'\n[element]\nmultiplier = 'abacus'",
                "unknown variant `abacus`",
            ),
            (
                "base = 'tpu-int8'\n[formats]\nweight_bits = 9",
                "formats.weight_bits: expected 1 to 8, found 9",
            ),
            (
                "base = 'fp16'\n[memory.weight]\nbanks = 0",
                "memory.weight: expected at least 1 bank",
            ),
            (
                "base = 'fp16'\n[memory.weight]\nbytes = 64",
                "memory.weight: expected bytes of a bank in 2048",
            ),
            (
                "base = 'fp16'\n[memory.output]\nword_bytes = 128",
                "memory.output: expected word_bytes of a bank in 4 to 64, found 128",
            ),
            (
                "base = 'mixpe-w4a8'\n[dequantisation]\nscale_bits = 0",
                "dequantisation.scale_bits: expected 1 to 32, found 0",
            ),
            (
                "base = 'mixpe-w4a8'\n[dequantisation]\nposition = 'during'",
                "unknown variant `during`",
            ),
        ] {
            let error = refused(text);
            assert!(error.contains(words) && !error.contains('\n'), "{text:?}: {error}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for hardware in Hardware::catalogue() {
            assert_eq!(Hardware::from_toml(&hardware.to_toml()).as_ref(), Ok(hardware));
        }
    }

    #[test]
    fn parts_of_ones_own() {
        let text = "
            name = 'popcount'
            base = 'tpu-int8'
            dram = 'hbm2'
            [element]
            multiplier = 'parts'
            weight_bits = 1
            activation_bits = 1
            parts = [{ count = 64, part = 'and-gate' }, { count = 1, part = { adder = { bits = 7 } } }]
            [formats]
            weight_bits = 1
            activation_bits = 1
            ";
        let hardware = Hardware::from_toml(text).unwrap();
        assert_eq!(hardware.element.inventory().unwrap().len(), 3);
        assert_eq!(hardware.dram.read_pj_per_bit, 3.92);
        assert_eq!(Hardware::from_toml(&hardware.to_toml()), Ok(hardware));
    }

    #[test]
    fn the_example_is_the_built_in_it_describes() {
        let mut example = Hardware::from_toml(include_str!("../../../examples/device.toml")).unwrap();
        assert_eq!(example.name, "my-mixpe");
        example.name = "mixpe-w4a8".into();
        assert_eq!(example, Hardware::named("mixpe-w4a8").unwrap());
    }
}
