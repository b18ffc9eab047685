//! Values of axes that are no plain numbers, and how they are spelled in spaces, tables and JSON.
#![forbid(unsafe_code)]

use crate::quant::scheme::{Group, MAX_GROUP, ZeroPoint};
use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;
use serde::{Deserialize, Serialize};

/// Serialises a type as its text, through `Display` and `TryFrom<String>`.
macro_rules! spelled {
    ($($name:ident),*) => {$(
        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    )*};
}
spelled!(Grouping, Shape, Buffers);

/// Weights that share a scale: a number of them along K, `channel` (a row of W) or `tensor` (all of W).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "NumberOrText", into = "String")]
pub struct Grouping(pub Group);

/// What a group may be spelled as.
#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(u64),
    Text(String),
}

impl fmt::Display for Grouping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Group::Length(length) => write!(f, "{length}"),
            Group::Channel => f.write_str("channel"),
            Group::Tensor => f.write_str("tensor"),
        }
    }
}

impl TryFrom<NumberOrText> for Grouping {
    type Error = String;

    fn try_from(value: NumberOrText) -> Result<Self, String> {
        let (text, length) = match value {
            NumberOrText::Number(length) => (length.to_string(), Some(length)),
            NumberOrText::Text(text) => (text.clone(), text.parse().ok()),
        };
        match (text.as_str(), length) {
            ("channel", _) => Ok(Self(Group::Channel)),
            ("tensor", _) => Ok(Self(Group::Tensor)),
            (_, Some(length)) if (1..=MAX_GROUP as u64).contains(&length) => Ok(Self(Group::Length(length as usize))),
            _ => Err(format!(
                "group: expected 1 to {MAX_GROUP}, \"channel\" or \"tensor\", found `{text}`"
            )),
        }
    }
}

/// Rows and columns of an array, spelled `32x28`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Shape {
    /// Rows of elements.
    pub rows: u32,
    /// Columns of elements.
    pub cols: u32,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.rows, self.cols)
    }
}

impl TryFrom<String> for Shape {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        const MOST: u32 = 1 << 14;
        let side = |s: &str| s.trim().parse().ok().filter(|side| (1..=MOST).contains(side));
        let sides = text.split_once('x').and_then(|(r, c)| Some((side(r)?, side(c)?)));
        let (rows, cols) = sides.ok_or_else(|| {
            format!("array: expected ROWSxCOLUMNS such as \"32x32\", each 1 to {MOST}, found `{text}`")
        })?;
        Ok(Self { rows, cols })
    }
}

/// Sizes of the scratchpads for activations, weights and outputs in KiB, spelled `256/128/128`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Buffers {
    /// For activations, KiB.
    pub activation: u32,
    /// For weights, KiB.
    pub weight: u32,
    /// For outputs, KiB.
    pub output: u32,
}

impl fmt::Display for Buffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.activation, self.weight, self.output)
    }
}

impl TryFrom<String> for Buffers {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        const MOST: u32 = 1 << 20;
        let mut sizes = text
            .split('/')
            .map(|s| s.trim().parse().ok().filter(|kib| (1..=MOST).contains(kib)));
        match (
            sizes.next().flatten(),
            sizes.next().flatten(),
            sizes.next().flatten(),
            sizes.next(),
        ) {
            (Some(activation), Some(weight), Some(output), None) => Ok(Self {
                activation,
                weight,
                output,
            }),
            _ => Err(format!(
                "buffers_kib: expected ACTIVATIONS/WEIGHTS/OUTPUTS in KiB such as \"256/128/128\", each 1 to {MOST}, found \
                 `{text}`"
            )),
        }
    }
}

/// The zero point of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Zero {
    /// `2^(bits−1)` everywhere.
    Symmetric,
    /// An integer per group.
    Integer,
}

impl Zero {
    /// Stored bits of one zero point of codes of so many bits.
    #[must_use]
    pub fn bits(self, code: u8) -> u32 {
        match self {
            Self::Symmetric => 0,
            Self::Integer => u32::from(code),
        }
    }
}

impl From<Zero> for ZeroPoint {
    fn from(zero: Zero) -> Self {
        match zero {
            Zero::Symmetric => Self::Symmetric,
            Zero::Integer => Self::Integer,
        }
    }
}

/// What activations are for the element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Input {
    /// int8, scale per row and group.
    A8,
    /// int8, scale per row.
    A8Row,
    /// f16 as they are.
    F16,
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::fmt::Debug;
    use serde::de::DeserializeOwned;

    fn keeps<T: Serialize + DeserializeOwned + PartialEq + Debug>(json: &str) {
        let value: T = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&value).unwrap(), json);
    }

    fn refused<T: DeserializeOwned + Debug>(json: &str, expected: &str) {
        let error = serde_json::from_str::<T>(json).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("found"), "{json}: {error}");
    }

    #[test]
    fn spellings_survive() {
        keeps::<Grouping>("\"channel\"");
        keeps::<Grouping>("\"128\"");
        assert_eq!(
            serde_json::from_str::<Grouping>("128").unwrap(),
            Grouping(Group::Length(128))
        );
        keeps::<Shape>("\"32x28\"");
        keeps::<Buffers>("\"256/128/64\"");
        keeps::<Input>("\"a8row\"");
    }

    #[test]
    fn other_spellings_are_refused_by_name() {
        for bad in ["0", "70000", "\"row\"", "\"-1\""] {
            refused::<Grouping>(bad, "group: expected");
        }
        for bad in ["\"32\"", "\"0x4\"", "\"4x99999\"", "\"4x4x4\"", "\"\""] {
            refused::<Shape>(bad, "array: expected");
        }
        for bad in ["\"1/2\"", "\"1/2/3/4\"", "\"1/0/2\"", "\"a/b/c\""] {
            refused::<Buffers>(bad, "buffers_kib: expected");
        }
    }
}
