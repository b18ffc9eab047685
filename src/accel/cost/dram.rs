//! Energy per bit of a DRAM channel. What tools and papers assume differs sixtyfold and decides every ranking by
//! energy, so it is a parameter, and [`published`] is printed beside what depends on it.
#![forbid(unsafe_code)]

use crate::accel::cost::Provenance;
use crate::base::error::{Error, Result};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use std::sync::LazyLock;

/// What a channel costs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DramEnergy {
    /// Energy of a bit that is read, pJ.
    pub read_pj_per_bit: f64,
    /// Energy of a bit that is written, pJ.
    pub write_pj_per_bit: f64,
    /// Power that flows whether or not anything moves, mW.
    #[serde(default)]
    pub background_mw: f64,
}

impl DramEnergy {
    /// The same for both directions, and nothing in the background.
    #[must_use]
    pub const fn per_bit(pj: f64) -> Self {
        Self {
            read_pj_per_bit: pj,
            write_pj_per_bit: pj,
            background_mw: 0.0,
        }
    }

    /// # Errors
    /// [`Error::Value`]: a figure is negative or not finite.
    pub fn check(&self) -> Result<()> {
        for (argument, value) in [
            ("dram.read_pj_per_bit", self.read_pj_per_bit),
            ("dram.write_pj_per_bit", self.write_pj_per_bit),
            ("dram.background_mw", self.background_mw),
        ] {
            if !(value.is_finite() && value >= 0.0) {
                return Err(Error::value(argument, "a finite number, 0 or more", format!("{value}")));
            }
        }
        Ok(())
    }
}

/// What someone assumes of a channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedDram {
    /// A short name: `lpddr4`.
    pub name: String,
    /// Energy of a bit that is read, pJ.
    pub read_pj_per_bit: f64,
    /// Energy of a bit that is written, pJ.
    pub write_pj_per_bit: f64,
    /// Power that flows whether or not anything moves, mW.
    pub background_mw: f64,
    /// How the figures came about.
    pub provenance: Provenance,
    /// Where they stand.
    pub source: String,
}

impl PublishedDram {
    /// The figures alone.
    #[must_use]
    pub const fn energy(&self) -> DramEnergy {
        DramEnergy {
            read_pj_per_bit: self.read_pj_per_bit,
            write_pj_per_bit: self.write_pj_per_bit,
            background_mw: self.background_mw,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    dram: Vec<PublishedDram>,
}

static TABLE: LazyLock<Table> =
    LazyLock::new(|| toml::from_str(include_str!("data/dram.toml")).expect("the built-in table is well-formed"));

/// Published values, from the cheapest to the dearest.
///
/// ```
/// use mixgemm::accel::cost::dram::published;
/// let values: Vec<f64> = published().iter().map(|dram| dram.read_pj_per_bit).collect();
/// assert!(values.is_sorted() && values[values.len() - 1] > 30.0 * values[0]);
/// ```
#[must_use]
pub fn published() -> &'static [PublishedDram] {
    &TABLE.dram
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_their_sources() {
        let per_64_bits = |name: &str| {
            let dram = published().iter().find(|dram| dram.name == name).unwrap();
            assert!(dram.energy().check().is_ok());
            dram.read_pj_per_bit * 64.0
        };
        assert_eq!(per_64_bits("horowitz-low"), 1300.0);
        assert_eq!(per_64_bits("horowitz-high"), 2600.0);
        assert_eq!(per_64_bits("bitmod"), 1200.0);
        assert_eq!(per_64_bits("lpddr4"), 512.0);
        assert_eq!(per_64_bits("bitfusion"), 960.0);
        let ant = published()[0].energy();
        assert_eq!(
            (ant.read_pj_per_bit, ant.write_pj_per_bit),
            (0.629_203_125, 0.765_726_562_5)
        );
        // 0.96923 nJ per cycle at 500 MHz.
        assert!((ant.background_mw - 0.96923 * 500.0).abs() < 1e-9);
    }

    #[test]
    fn what_is_no_energy_is_refused() {
        for bad in [-1.0, f64::NAN, f64::INFINITY] {
            let error = DramEnergy::per_bit(bad).check().unwrap_err();
            assert!(error.to_string().starts_with("dram.read_pj_per_bit: expected"));
        }
    }
}
