//! What an element adds up in.
#![forbid(unsafe_code)]

use crate::accel::cost::component::Part;
use crate::base::error::{Error, Result};
use alloc::format;
use alloc::string::{String, ToString};
use core::fmt::Display;
use core::ops::RangeInclusive;
use serde::{Deserialize, Serialize};

/// Bits of an integer accumulator.
pub(super) const WIDTHS: RangeInclusive<u32> = 8..=64;

/// What an element adds up in. In files `i8` to `i64`, `f16` or `f32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Accumulator {
    /// An integer of this many bits.
    Integer(u32),
    /// binary16.
    F16,
    /// binary32.
    F32,
}

impl Accumulator {
    /// Its width.
    #[must_use]
    pub const fn bits(self) -> u32 {
        match self {
            Self::Integer(bits) => bits,
            Self::F16 => 16,
            Self::F32 => 32,
        }
    }

    pub(crate) const fn adder(self) -> Part {
        match self {
            Self::Integer(bits) => Part::Adder { bits },
            Self::F16 => Part::F16Adder,
            Self::F32 => Part::F32Adder,
        }
    }
}

impl Display for Accumulator {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Integer(bits) => f.pad(&format!("i{bits}")),
            Self::F16 => f.pad("f16"),
            Self::F32 => f.pad("f32"),
        }
    }
}

impl core::str::FromStr for Accumulator {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let integer = || {
            let bits = name.strip_prefix('i')?.parse().ok()?;
            WIDTHS.contains(&bits).then_some(Self::Integer(bits))
        };
        match name {
            "f16" => Ok(Self::F16),
            "f32" => Ok(Self::F32),
            _ => integer().ok_or_else(|| Error::value("element.accumulator", "i8 to i64, f16 or f32", name)),
        }
    }
}

impl TryFrom<String> for Accumulator {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        name.parse()
    }
}

impl From<Accumulator> for String {
    fn from(accumulator: Accumulator) -> Self {
        accumulator.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_others_refused() {
        for accumulator in [
            Accumulator::Integer(8),
            Accumulator::Integer(64),
            Accumulator::F16,
            Accumulator::F32,
        ] {
            assert_eq!(accumulator.to_string().parse(), Ok(accumulator));
        }
        for name in ["i7", "i65", "i", "f64", "", "24"] {
            assert!(name.parse::<Accumulator>().is_err(), "{name}");
        }
    }
}
