//! What becomes of outliers, as a command line asks for it: a split by name, and a calibration behind it.
#![forbid(unsafe_code)]

use crate::cli::arguments::{ModeName, spelled};
use crate::cli::device::Device;
use crate::cli::refusal::{refusal, unreadable};
use crate::cli::samples::percent;
use crate::cli::stored;
use crate::cli::table;
use anyhow::Result;
use clap::ValueEnum;
use mixgemm::backend::Erased;
use mixgemm::outlier::calibration::{Calibration, LayerCalibration};
use mixgemm::outlier::find::limit;
use mixgemm::outlier::importance;
use mixgemm::outlier::mixed::Outlying;
use mixgemm::outlier::share::rounded_down;
use mixgemm::outlier::treatment::{Hot, Kept, Treatment};
use mixgemm::{Error, MatRef, Mode, Par, QuantMatrix};
use serde::Serialize;
use std::env;
use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

/// Magnitudes above this are outliers in LLM.int8() (arXiv 2208.07339, section 3.2).
const LLM_INT8: f32 = 6.0;

/// A split as it is spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum SplitName {
    /// Outliers are refused, or clamped with --saturate
    #[default]
    None,
    /// What clamping would lose joins the integers: the bits of the product that was never clamped
    Shadow,
    /// Outliers stay floats
    Mixed,
}

/// What `--split mixed` takes for outliers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum OutlyingName {
    /// Magnitudes above this.
    Above(f32),
    /// This share of every row.
    Top(f64),
    /// The channels of the calibration, at most so many, the most frequent first.
    Calibrated(usize),
}

fn outlying(s: &str) -> Result<OutlyingName, String> {
    let (name, value) = s.split_once(':').map_or((s, None), |(name, value)| (name, Some(value)));
    let found = match (name, value) {
        ("above", Some(x)) => x.parse().ok().filter(|x| *x >= 0.0).map(OutlyingName::Above),
        ("top", Some(p)) => {
            let share = percent(p).filter(|p| (0.0..=1.0).contains(p));
            share.map(OutlyingName::Top)
        }
        ("calibrated", None) => Some(OutlyingName::Calibrated(usize::MAX)),
        ("calibrated", Some(n)) => n.parse().ok().map(OutlyingName::Calibrated),
        _ => None,
    };
    found.ok_or_else(|| "above:MAGNITUDE, top:PERCENT, calibrated or calibrated:CHANNELS".into())
}

/// What outliers that stay floats are multiplied by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum OutlierWeightsName {
    /// The quantised weights, as floats
    #[default]
    Quantised,
    /// The weights before they were quantised, as f16
    F16,
}

/// How many input channels are hot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum HotName {
    /// So many.
    Channels(usize),
    /// This share of all.
    Share(f64),
}

fn hot(s: &str) -> Result<HotName, String> {
    let found = match s.strip_suffix('%') {
        Some(p) => {
            let share = percent(p.trim_end()).filter(|p| (0.0..=1.0).contains(p));
            share.map(HotName::Share)
        }
        None => s.parse().ok().map(HotName::Channels),
    };
    found.ok_or_else(|| "a number of channels, or a share of them such as 3%".into())
}

/// Options of every command that multiplies with a split.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub(crate) struct SplitArgs {
    /// What becomes of activations beyond 127 scales: shadow with a8static; mixed with a8, a8row, a8static, a16
    #[arg(long, value_enum, default_value = "none")]
    pub(crate) split: SplitName,
    /// What --split mixed leaves to floats: above:MAGNITUDE, top:PERCENT of a row, or calibrated[:CHANNELS]; by default
    /// what lies beyond 127 scales in a8static, and above:6 else
    #[arg(long, value_name = "WHAT", value_parser = outlying)]
    pub(crate) outlying: Option<OutlyingName>,
    /// What outliers are multiplied by in --split mixed, where they themselves stay f32
    #[arg(long, value_enum, default_value = "quantised", value_name = "WEIGHTS")]
    pub(crate) outlier_weights: OutlierWeightsName,
    /// Keep the columns of weights that outliers meet in memory for so many channels alone, the calibration's most
    /// frequent; all lie in a memory-mapped file without a name in the directory for temporary ones (TMPDIR)
    #[arg(long, value_name = "N|P%", value_parser = hot)]
    pub(crate) hot: Option<HotName>,
}

/// Where the weights are that outliers meet.
#[derive(Debug, Serialize)]
pub(crate) struct Columns {
    /// What outliers are multiplied by.
    weights: String,
    /// Bytes of them in memory.
    bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    hot: Option<Hits>,
}

/// Reads of columns.
#[derive(Debug, Serialize)]
struct Hits {
    /// Of columns in memory.
    hits: u64,
    /// Of columns in the mapped file.
    misses: u64,
}

impl fmt::Display for Columns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = table::bytes(8.0 * self.bytes as f64);
        write!(f, "{} weights, {bytes} in memory", self.weights)?;
        self.hot.as_ref().map_or(Ok(()), |Hits { hits, misses }| {
            write!(f, "; read {hits} times there and {misses} times in a mapped file")
        })
    }
}

impl SplitArgs {
    /// Where devices have the weights that outliers meet, and how often these were read by each of so many products.
    pub(crate) fn columns<'a>(&self, devices: impl Iterator<Item = &'a Device>, products: u64) -> Columns {
        let (mut bytes, mut hits, mut misses) = (0, 0, 0);
        for (own, reads) in devices.map(Device::columns) {
            bytes += own;
            hits += reads.hits;
            misses += reads.misses;
        }
        let of_one = |reads: u64| reads / products.max(1);
        Columns {
            weights: spelled(self.outlier_weights),
            bytes,
            hot: self.hot.map(|_| Hits {
                hits: of_one(hits),
                misses: of_one(misses),
            }),
        }
    }

    /// What can be refused before a file is opened.
    pub(crate) fn check(&self, mode: ModeName, saturate: bool) -> Result<()> {
        let taken: &[ModeName] = match self.split {
            SplitName::None => ModeName::value_variants(),
            SplitName::Shadow => &[ModeName::A8Static],
            SplitName::Mixed => &[ModeName::A8, ModeName::A8Row, ModeName::A8Static, ModeName::A16],
        };
        if !taken.contains(&mode) {
            let names: Vec<_> = taken.iter().map(|&mode| spelled(mode)).collect();
            let expected = format!("--mode {} with --split {}", names.join(", "), spelled(self.split));
            return Err(refusal("--split", expected, spelled(mode)));
        }
        if self.outlying.is_some() && self.split != SplitName::Mixed {
            return Err(refusal("--outlying", "--split mixed", spelled(self.split)));
        }
        if self.outlier_weights != OutlierWeightsName::Quantised && self.split != SplitName::Mixed {
            return Err(refusal(
                "--outlier-weights",
                "--split mixed with f16",
                spelled(self.split),
            ));
        }
        if self.hot.is_some() && self.split == SplitName::None {
            return Err(refusal("--hot", "--split shadow or mixed", "none"));
        }
        if saturate && self.split == SplitName::Shadow {
            return Err(refusal("--saturate", "another --split, which loses nothing", "shadow"));
        }
        Ok(())
    }

    /// Whether a calibration says what is an outlier, or which channels are hot.
    pub(crate) fn takes_calibration(&self) -> bool {
        self.hot.is_some() || matches!(self.outlying, Some(OutlyingName::Calibrated(_)))
    }

    /// Whether outliers meet the weights as they were before they were quantised.
    pub(crate) fn takes_floats(&self) -> bool {
        self.outlier_weights == OutlierWeightsName::F16
    }

    /// The mode of a layer. A layer that calibration took the shadow from is clamped, as a shadow split has it.
    pub(crate) fn mode(
        &self,
        name: ModeName,
        scale: f32,
        saturate: bool,
        calibrated: Option<&LayerCalibration>,
    ) -> Mode {
        let pruned = self.split == SplitName::Shadow && calibrated.is_some_and(|layer| !layer.shadow);
        match name.mode(scale, saturate) {
            Mode::A8Static { scale, .. } if pruned => importance::mode(scale, false),
            mode => mode,
        }
    }

    /// A backend with the treatment of a layer's outliers around it, and the layer's weights for both: quantised, and the
    /// floats where the split [takes](SplitArgs::takes_floats) them.
    pub(crate) fn around(
        &self,
        (w, floats): (&QuantMatrix, Option<MatRef<'_, f32>>),
        treatment: &Treatment,
        calibrated: Option<&LayerCalibration>,
        backend: impl Into<Erased>,
        par: &Par,
    ) -> Result<mixgemm::Result<Device>> {
        let hot = self.hot.map(|hot| {
            let missing = || refusal("--hot", "--calibration with it", "none");
            let most = match hot {
                HotName::Channels(channels) => channels,
                HotName::Share(share) => rounded_down(share, w.k() as u64) as usize,
            };
            calibrated.map_or_else(|| Err(missing()), |layer| Ok(hottest(layer, most)))
        });
        let (hot, directory) = (hot.transpose()?, env::temp_dir());
        let hot = hot.as_deref().map(|channels| Hot {
            channels,
            directory: &directory,
        });
        Ok(Device::around(w, backend, treatment, &Kept { floats, hot }, par))
    }

    /// The treatment of a layer's outliers.
    pub(crate) fn treatment(&self, mode: Mode, calibrated: Option<&LayerCalibration>) -> Result<Treatment> {
        Ok(match self.split {
            SplitName::None => Treatment::None,
            SplitName::Shadow => Treatment::Shadow,
            SplitName::Mixed => Treatment::Mixed(match (self.outlying, mode) {
                (Some(OutlyingName::Above(x)), _) => Outlying::Above(x),
                (Some(OutlyingName::Top(share)), _) => Outlying::Top(share),
                (Some(OutlyingName::Calibrated(most)), _) => {
                    let missing = || refusal("--outlying", "--calibration with calibrated", "none");
                    let layer = calibrated.ok_or_else(missing)?;
                    let mut channels = hottest(layer, most);
                    channels.sort_unstable();
                    Outlying::Channels(channels)
                }
                (None, Mode::A8Static { scale, .. }) if scale.is_finite() && scale > 0.0 => {
                    Outlying::Above(limit(scale))
                }
                (None, _) => Outlying::Above(LLM_INT8),
            }),
        })
    }
}

/// The channels of a calibration that have most outliers.
fn hottest(layer: &LayerCalibration, most: usize) -> Vec<u32> {
    layer.channels.iter().take(most).map(|&(k, _)| k).collect()
}

/// Whether a file is a calibration, by its first bytes. JSON begins with a brace and has no byte 0; a safetensors file has
/// some among its first eight, the length of its header.
pub(crate) fn is_calibration(path: &Path) -> io::Result<bool> {
    let mut first = Vec::new();
    stored::open(path)?.0.take(64).read_to_end(&mut first)?;
    Ok(first.trim_ascii_start().starts_with(b"{") && !first.contains(&0))
}

/// Reads a file of calibrations.
pub(crate) fn read(argument: &str, path: &Path) -> Result<Calibration> {
    const EXPECTED: &str = "a file by `mixgemm calibrate`";
    let unreadable = |error| unreadable(argument, EXPECTED, path, &error);
    if !is_calibration(path).map_err(unreadable)? {
        return Err(refusal(
            argument,
            EXPECTED,
            format_args!("{}, which is no JSON", path.display()),
        ));
    }
    let text = fs::read_to_string(path).map_err(unreadable)?;
    Calibration::from_json(&text).map_err(|error| of_file(argument, path, error))
}

/// A refusal of a calibration with its option and file.
pub(crate) fn of_file(argument: &str, path: &Path, error: Error) -> anyhow::Error {
    let error = error.at(format_args!("in {}", path.display()));
    let (_, expected, found) = error.parts();
    refusal(argument, expected, found)
}
