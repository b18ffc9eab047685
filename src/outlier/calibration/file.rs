//! Calibrations of a model's matrices as one JSON file.
//!
//! ```json
//! { "version": 1,
//!   "layers": { "up.weight": { "k": 384, "rule": { "percentile": 0.999 }, "scale": 0.05, "max": 12.7, "p999": 6.35,
//!               "importance": 254.0, "shadow": true, "rows": 290, "channels": [[17, 288], [301, 4]] } } }
//! ```
#![forbid(unsafe_code)]

use crate::base::error::{Error, Result};
use crate::outlier::calibration::LayerCalibration;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use serde::Deserialize;
use serde_json::Value;

/// The version of the format that is written and read.
const VERSION: u64 = 1;

/// Calibrations of a model's matrices by the names of their weights; what `CAL.json` holds.
///
/// ```
/// use mixgemm::Mat;
/// use mixgemm::outlier::calibration::{Calibration, ScaleRule, calibrate};
/// let x = Mat::from_fn(50, 100, |m, k| if k == 3 { 90.0 } else { (m + k) as f32 / 150.0 });
/// let mut all = Calibration::default();
/// all.layers.insert("up.weight".into(), calibrate(100, ScaleRule::LeastError, || [x.view().into()])?);
/// assert_eq!(Calibration::from_json(&all.to_json()?)?, all);
/// assert_eq!(all.layer("up.weight", 100)?.k, 100);
/// assert!(all.layer("down.weight", 100).is_err());
/// # Ok::<(), mixgemm::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Calibration {
    /// The matrices.
    pub layers: BTreeMap<String, LayerCalibration>,
}

/// What is wrong with a key.
fn refused(key: &str, expected: &str, found: impl ToString) -> Error {
    Error::value("calibration", format!("{expected} at key `{key}`"), found.to_string())
}

impl Calibration {
    /// As JSON.
    ///
    /// # Errors
    /// [`Error::Value`] for a value that JSON has no number for.
    pub fn to_json(&self) -> Result<String> {
        for (name, layer) in &self.layers {
            check(name, layer)?;
        }
        let value = serde_json::json!({ "version": VERSION, "layers": self.layers });
        serde_json::to_string_pretty(&value).map_err(|error| refused("layers", "finite values", error))
    }

    /// From JSON.
    ///
    /// # Errors
    /// [`Error::Value`] that names the key, for text that is no calibration, one of another version, and one with values
    /// that no calibration could have found.
    pub fn from_json(text: &str) -> Result<Self> {
        let whole = |error: serde_json::Error| Error::value("calibration", "whole JSON", format!("{error}"));
        let Value::Object(mut keys) = serde_json::from_str(text).map_err(whole)? else {
            return Err(Error::value("calibration", "an object in JSON", "another value"));
        };
        let version = keys.remove("version").unwrap_or_default();
        if version != VERSION {
            return Err(refused("version", &format!("{VERSION}"), version));
        }
        let Some(Value::Object(entries)) = keys.remove("layers") else {
            return Err(refused("layers", "an object", "none"));
        };
        if let Some(key) = keys.keys().next() {
            return Err(refused(key, "only `version` and `layers`", "another key"));
        }
        let mut layers = BTreeMap::new();
        for (name, entry) in entries {
            let key = format!("layers.{name}");
            let layer =
                LayerCalibration::deserialize(entry).map_err(|error| refused(&key, "a calibrated layer", error))?;
            check(&name, &layer)?;
            layers.insert(name, layer);
        }
        Ok(Self { layers })
    }

    /// The calibration of the matrix of this name with K input channels.
    ///
    /// # Errors
    /// [`Error::Value`] where there is none; [`Error::Shape`] for one of another K.
    pub fn layer(&self, name: &str, k: usize) -> Result<&LayerCalibration> {
        const SHOWN: usize = 12;
        let Some(layer) = self.layers.get(name) else {
            let mut names = self
                .layers
                .keys()
                .take(SHOWN)
                .cloned()
                .collect::<alloc::vec::Vec<_>>()
                .join(", ");
            if self.layers.len() > SHOWN {
                names += &format!(" and {} more", self.layers.len() - SHOWN);
            }
            let expected = format!("one with an entry for `{name}`");
            let found = if names.is_empty() {
                "no entries".into()
            } else {
                format!("entries for {names}")
            };
            return Err(Error::value("calibration", expected, found));
        };
        if layer.k != k {
            let expected = format!("an entry `{name}` for K = {k}");
            return Err(Error::shape("calibration", expected, format!("K = {}", layer.k)));
        }
        Ok(layer)
    }
}

/// Checks that a calibration could have found these values.
fn check(name: &str, layer: &LayerCalibration) -> Result<()> {
    let refused =
        |key: &str, expected: &str, found: String| Err(refused(&format!("layers.{name}.{key}"), expected, found));
    if !(layer.scale.is_finite() && layer.scale > 0.0) {
        return refused("scale", "a finite positive scale", format!("{}", layer.scale));
    }
    for (key, value) in [
        ("max", layer.max),
        ("p999", layer.p999),
        ("importance", layer.importance),
    ] {
        if !(value.is_finite() && value >= 0.0) {
            return refused(key, "a finite magnitude", format!("{value}"));
        }
    }
    let mut seen: alloc::vec::Vec<u32> = layer.channels.iter().map(|&(k, _)| k).collect();
    seen.sort_unstable();
    let last = seen.last().copied();
    if seen.windows(2).any(|pair| pair[0] == pair[1]) || last.is_some_and(|k| k as usize >= layer.k) {
        let expected = format!("different channels below {}", layer.k);
        return refused(
            "channels",
            &expected,
            format!("{} of them, the last {last:?}", seen.len()),
        );
    }
    if let Some((k, count)) = layer.channels.iter().find(|(_, count)| *count > layer.rows) {
        let expected = format!("at most {} outliers a channel", layer.rows);
        return refused("channels", &expected, format!("{count} in channel {k}"));
    }
    Ok(())
}
