//! What the program says when it refuses: always one line, `argument: expected this, found that`.
#![forbid(unsafe_code)]

use clap::error::{ContextKind, ContextValue, ErrorKind};
use mixgemm::Error;
use mixgemm::quant::activation::A8STATIC_INSIDE;
use std::fmt::Display;
use std::path::Path;

/// An error that names the argument, what was expected and what was found.
pub(crate) fn refusal(argument: impl Display, expected: impl Display, found: impl Display) -> anyhow::Error {
    anyhow::anyhow!("{argument}: expected {expected}, found {found}")
}

/// An operating system error about a file.
pub(crate) fn unreadable(argument: &str, expected: &str, path: &Path, error: &std::io::Error) -> anyhow::Error {
    let found = match error.kind() {
        std::io::ErrorKind::NotFound => "no such file".into(),
        _ => error.to_string(),
    };
    refusal(argument, expected, format_args!("{} ({found})", path.display()))
}

/// A library error with its argument spelled as the option that holds it.
pub(crate) fn option(error: Error) -> anyhow::Error {
    if !matches!(
        error,
        Error::Shape { .. } | Error::Value { .. } | Error::Unsupported { .. }
    ) {
        return error.into();
    }
    let (argument, expected, found) = error.parts();
    if expected == A8STATIC_INSIDE {
        let expected = "activations within 127 scales in mode a8static; beyond them --split shadow keeps the whole value, \
                        and --split none --saturate clamps it to 127 scales";
        return refusal("--input", expected, found);
    }
    let option = match argument {
        "x" => "--input",
        "weights" | "w" => "--weights",
        "book" => "--format",
        "zero" => "--asym, --float-zero",
        "scale of a8static" | "input scale" | "input scales" => "--input-scale",
        "bits" | "group" | "mode" | "isa" | "bias" => return refusal(format_args!("--{argument}"), expected, found),
        _ => return error.into(),
    };
    refusal(option, expected, found)
}

fn text(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::Strings(parts) => Some(parts.join(", ")),
        other => Some(other.to_string()),
    }
}

/// A usage error of the command line as one line. Value parsers of this program say in their error what they expect.
pub(crate) fn usage(error: &clap::Error) -> String {
    let argument = text(error, ContextKind::InvalidArg).map(|a| match a.split_once([' ', '=']) {
        Some((name, _)) if name.starts_with('-') && error.kind() != ErrorKind::MissingRequiredArgument => name.into(),
        _ => a,
    });
    let value = text(error, ContextKind::InvalidValue).filter(|v| !v.is_empty());
    let argument_or = |default: &str| argument.clone().unwrap_or_else(|| default.into());
    let (argument, expected, found) = match error.kind() {
        ErrorKind::InvalidValue => {
            let allowed = text(error, ContextKind::ValidValue).filter(|v| !v.is_empty());
            let allowed = allowed.unwrap_or_else(|| "a value".into());
            (argument_or("argument"), allowed, value.unwrap_or_else(|| "none".into()))
        }
        ErrorKind::ValueValidation => {
            let expected = std::error::Error::source(error).map_or_else(|| "another value".into(), |e| e.to_string());
            (
                argument_or("argument"),
                expected,
                value.unwrap_or_else(|| "none".into()),
            )
        }
        ErrorKind::UnknownArgument => {
            let near =
                text(error, ContextKind::SuggestedArg).map_or_else(String::new, |near| format!(", perhaps {near}"));
            let expected = format!("an option that --help lists{near}");
            ("arguments".into(), expected, argument_or("another"))
        }
        ErrorKind::InvalidSubcommand => {
            let found = text(error, ContextKind::InvalidSubcommand).unwrap_or_else(|| "another".into());
            ("command".into(), "a command that --help lists".into(), found)
        }
        ErrorKind::MissingRequiredArgument => (argument_or("arguments"), "a value".into(), "none".into()),
        ErrorKind::ArgumentConflict => {
            let other = text(error, ContextKind::PriorArg).unwrap_or_else(|| "the others".into());
            let name = argument_or("arguments");
            if other.starts_with(&name) {
                (name, "once".into(), "more than once".into())
            } else {
                (name, format!("not together with {other}"), "both".into())
            }
        }
        kind => {
            let expected = kind.as_str().unwrap_or("a valid command line");
            (
                argument_or("arguments"),
                format!("valid usage ({expected})"),
                value.unwrap_or_else(|| "another".into()),
            )
        }
    };
    format!("{argument}: expected {expected}, found {found}")
}
