//! What an output file of `matmul` says about itself.
#![forbid(unsafe_code)]

use super::Args;
use crate::cli::arguments::{self, spelled};
use crate::cli::split::SplitName;
use std::collections::BTreeMap;

/// Its metadata.
pub(super) fn of(args: &Args) -> BTreeMap<&'static str, String> {
    let zero_point = match (args.asym, args.float_zero) {
        (true, _) => "integer",
        (_, true) => "float",
        _ => "symmetric",
    };
    let format = args.format.map(|format| ("format", spelled(format)));
    let known = [
        ("program", concat!("mixgemm ", env!("CARGO_PKG_VERSION")).to_string()),
        ("mode", spelled(args.mode_name())),
        ("bits", args.scheme().bits.to_string()),
        ("group", arguments::group_name(args.scheme().group)),
        ("zero_point", zero_point.to_string()),
        ("scale_type", spelled(args.scale_type)),
        ("activation", spelled(args.activation)),
        ("weights", args.weights.tensor.clone()),
        ("input", args.input.tensor.clone()),
    ];
    let split = args.splitting.split;
    let split = (split != SplitName::None).then(|| ("split", spelled(split)));
    let floats = args.splitting.takes_floats();
    let floats = floats.then(|| ("outlier_weights", spelled(args.splitting.outlier_weights)));
    known.into_iter().chain(format).chain(split).chain(floats).collect()
}
