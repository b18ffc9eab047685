//! Values that options take, and how they are spelled. Parsers return what they expect as their error.
#![forbid(unsafe_code)]

use crate::cli::refusal::refusal;
use clap::ValueEnum;
use clap::builder::PossibleValuesParser;
use mixgemm::accel::catalogue;
use mixgemm::{Activation, CodeBook, Group, Isa, Mode, ScaleType, Scheme};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::thread;

/// A tensor in a file: `FILE.safetensors:TENSOR`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TensorPath {
    /// The file.
    pub(crate) file: PathBuf,
    /// The tensor's name in it.
    pub(crate) tensor: String,
}

/// Splits at the colon after `.safetensors`, or else at the last one.
pub(crate) fn tensor_path(s: &str) -> Result<TensorPath, String> {
    const EXTENSION: &str = ".safetensors:";
    let colon = s
        .find(EXTENSION)
        .map(|at| at + EXTENSION.len() - 1)
        .or_else(|| s.rfind(':'));
    match colon.map(|at| (&s[..at], &s[at + 1..])) {
        Some((file, tensor)) if !file.is_empty() && !tensor.is_empty() => Ok(TensorPath {
            file: file.into(),
            tensor: tensor.into(),
        }),
        _ => Err("FILE.safetensors:TENSOR".into()),
    }
}

/// Weight bits.
pub(crate) fn bits(s: &str) -> Result<u8, String> {
    let bits = s.parse().ok().filter(|b| (1..=8).contains(b));
    bits.ok_or_else(|| "1 to 8".into())
}

/// A code book instead of plain codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FormatName {
    /// E2M1 with power-of-two scales, of OCP Microscaling; its groups have 32 weights
    Mxfp4,
    /// ANT's flint with a sign
    Flint4,
    /// ANT's flint without a sign
    Uflint4,
    /// Powers of two
    Power4,
    /// The nonlinear levels of ggml's IQ4_NL
    #[value(name = "iq4nl")]
    Iq4Nl,
}

impl FormatName {
    /// What its codes stand for.
    fn book(self) -> CodeBook {
        match self {
            Self::Mxfp4 => CodeBook::MXFP4,
            Self::Flint4 => CodeBook::FLINT4,
            Self::Uflint4 => CodeBook::FLINT4_UNSIGNED,
            Self::Power4 => CodeBook::POWER4,
            Self::Iq4Nl => CodeBook::IQ4_NL,
        }
    }

    /// The scheme of a format, or of plain codes of so many bits.
    pub(crate) fn scheme(format: Option<Self>, bits: u8) -> Scheme {
        format.map_or_else(|| Scheme::int(bits), |format| Scheme::book(format.book()))
    }

    /// The format whose book a scheme has.
    pub(crate) fn of(scheme: &Scheme) -> Option<Self> {
        let book = scheme.book?;
        Self::value_variants()
            .iter()
            .copied()
            .find(|format| format.book() == book)
    }
}

/// Weights that share a scale in `--format mxfp4`, as its definition has it: an option's value.
pub(crate) const MXFP4_GROUP: &str = "32";

/// A group length, `channel` or `tensor`.
pub(crate) fn group(s: &str) -> Result<Group, String> {
    match s {
        "channel" => Ok(Group::Channel),
        "tensor" => Ok(Group::Tensor),
        _ => match s.parse() {
            Ok(length) if length > 0 => Ok(Group::Length(length)),
            _ => Err("at least 1 weight, or channel, or tensor".into()),
        },
    }
}

/// How a group is spelled.
pub(crate) fn group_name(group: Group) -> String {
    match group {
        Group::Length(length) => length.to_string(),
        Group::Channel => "channel".into(),
        Group::Tensor => "tensor".into(),
    }
}

/// N x K: output and input channels of weights.
pub(crate) fn shape(s: &str) -> Result<(usize, usize), String> {
    let sides = s.split_once(['x', 'X']);
    let sides = sides.and_then(|(n, k)| Some((count(n.trim()).ok()?.get(), count(k.trim()).ok()?.get())));
    sides.ok_or_else(|| "N x K from 1 on, such as 4096x4096".into())
}

/// A count of at least one.
pub(crate) fn count(s: &str) -> Result<NonZeroUsize, String> {
    s.parse().map_err(|_| "a whole number, 1 or more".into())
}

/// Rows of inputs that are made or read for a measurement.
pub(crate) fn rows(s: &str) -> Result<NonZeroUsize, String> {
    let rows = count(s).ok().filter(|m| m.get() <= 65_536);
    rows.ok_or_else(|| "1 to 65536".into())
}

/// A thread count.
pub(crate) fn threads(s: &str) -> Result<NonZeroUsize, String> {
    let threads = count(s).ok().filter(|t| t.get() <= 4096);
    threads.ok_or_else(|| "1 to 4096".into())
}

/// The threads of this machine, or the number asked for.
pub(crate) fn threads_or_all(threads: Option<NonZeroUsize>) -> NonZeroUsize {
    threads
        .or_else(|| thread::available_parallelism().ok())
        .unwrap_or(NonZeroUsize::MIN)
}

/// A pool of that many threads.
pub(crate) fn pool(threads: NonZeroUsize) -> anyhow::Result<ThreadPool> {
    let pool = ThreadPoolBuilder::new().num_threads(threads.get()).build();
    pool.map_err(|e| refusal("--threads", "a number of threads that can be started", e))
}

/// `auto` or the name of a tier.
pub(crate) fn isa_names() -> PossibleValuesParser {
    PossibleValuesParser::new(std::iter::once("auto").chain(Isa::ALL.map(Isa::name)))
}

/// The backend that is this CPU; all others are emulated.
pub(crate) const HOST: &str = "host";

/// `host` or what names accelerators of the catalogue.
pub(crate) fn backend_names() -> PossibleValuesParser {
    PossibleValuesParser::new(std::iter::once(HOST).chain(catalogue::names()))
}

/// A mode as it is spelled; `a8static` takes its scale from the input scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModeName {
    /// 8-bit activations, scale per row and group
    A8,
    /// 8-bit activations, scale per row
    #[value(name = "a8row")]
    A8Row,
    /// int8 input with given scales
    #[value(name = "a8given")]
    A8Given,
    /// 8-bit activations with one calibrated scale
    #[value(name = "a8static")]
    A8Static,
    /// 16-bit activations, scale per row and group
    A16,
    /// f16 input without rounding
    Exact,
    /// f16 input in an emulated device's own floating point
    Native,
}

impl ModeName {
    /// The mode; `a8static` with this scale.
    pub(crate) fn mode(self, scale: f32, saturate: bool) -> Mode {
        match self {
            Self::A8 => Mode::A8,
            Self::A8Row => Mode::A8Row,
            Self::A8Given => Mode::A8Given,
            Self::A8Static => Mode::A8Static { scale, saturate },
            Self::A16 => Mode::A16,
            Self::Exact => Mode::Exact,
            Self::Native => Mode::Native,
        }
    }
}

/// Whose threads work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PoolName {
    /// mixgemm's, which wait 0.1 ms for work before they sleep
    Own,
    /// rayon's
    Rayon,
}

/// A stored width of scales.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ScaleName {
    /// 32 bits
    F32,
    /// 16 bits, IEEE 754
    F16,
    /// 16 bits, the upper half of an f32
    Bf16,
}

impl From<ScaleName> for ScaleType {
    fn from(name: ScaleName) -> Self {
        match name {
            ScaleName::F32 => Self::F32,
            ScaleName::F16 => Self::F16,
            ScaleName::Bf16 => Self::Bf16,
        }
    }
}

/// An activation function after the bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ActivationName {
    /// None
    None,
    /// max(x, 0)
    Relu,
    /// x times the Gaussian distribution function (the erf form)
    Gelu,
    /// x / (1 + e^-x)
    Silu,
}

impl From<ActivationName> for Activation {
    fn from(name: ActivationName) -> Self {
        match name {
            ActivationName::None => Self::Identity,
            ActivationName::Relu => Self::Relu,
            ActivationName::Gelu => Self::Gelu,
            ActivationName::Silu => Self::Silu,
        }
    }
}

/// An option's value as it is spelled.
pub(crate) fn spelled(value: impl ValueEnum) -> String {
    value
        .to_possible_value()
        .map_or_else(String::new, |v| v.get_name().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensor_paths_split_where_the_file_name_ends() {
        let split = |s| tensor_path(s).map(|p| (p.file.display().to_string(), p.tensor));
        assert_eq!(split("a.safetensors:w"), Ok(("a.safetensors".into(), "w".into())));
        assert_eq!(
            split("d:x.safetensors:a:b"),
            Ok(("d:x.safetensors".into(), "a:b".into()))
        );
        assert_eq!(split("plain:w"), Ok(("plain".into(), "w".into())));
        for bad in ["a.safetensors", "a.safetensors:", ":w", ""] {
            assert!(split(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn shapes_are_n_by_k() {
        assert_eq!(shape("4096x11008"), Ok((4096, 11008)));
        assert!(
            ["4096", "0x4", "4x", "x", "-1x4"]
                .into_iter()
                .all(|s| shape(s).is_err())
        );
    }

    #[test]
    fn groups_and_counts_are_at_least_one() {
        assert_eq!(group("32"), Ok(Group::Length(32)));
        assert_eq!(group("channel").map(group_name), Ok("channel".into()));
        assert!(group("0").is_err() && group("-1").is_err() && bits("9").is_err() && threads("0").is_err());
    }
}
