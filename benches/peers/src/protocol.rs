//! What the driver and its workers say to each other: JSON, a line each, over the worker's input and output.
//! `wheels.py` speaks the same.

use serde::{Deserialize, Serialize};

/// The first thing a worker says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Hello {
    Peer {
        version: String,
        variants: Vec<Variant>,
    },
    /// How to install what is not.
    Missing(String),
}

/// One format of a peer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Variant {
    pub(crate) name: String,
    /// Largest error, relative to the product of the f32 operands: root of the sums of squares. Most of it is what
    /// the weights lose.
    pub(crate) tolerance: f64,
    /// The variant of mixgemm that its time is compared with: as many bits, scales as often, activations as exact.
    pub(crate) rival: String,
}

/// What the driver asks. Every request has one reply.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// Make copies of the weights that together exceed so many bytes, at least one.
    Prepare { variant: String, bytes: usize },
    /// Multiply `m` rows by copy `copy`; show the first outputs of the last row.
    Check {
        variant: String,
        m: usize,
        copy: usize,
        rotate: bool,
    },
    /// Multiply `m` rows again and again for `slice` seconds, by copy after copy or only by the first.
    Sample {
        variant: String,
        m: usize,
        rotate: bool,
        slice: f64,
    },
    /// Measure what the machine can do at most.
    Roofs { slice: f64 },
}

/// What a worker answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    Prepared {
        copies: usize,
        bits: f64,
    },
    Outputs(Vec<f32>),
    /// The median of the calls.
    Seconds(f64),
    Roofs(Roofs),
    Error(String),
}

/// Operations a second, and bytes a second.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Roofs {
    pub(crate) integer: f64,
    pub(crate) float: f64,
    pub(crate) dram: f64,
}

/// Outputs that a check shows.
pub(crate) const SHOWN: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operands::TURN;

    #[test]
    fn the_worker_of_the_wheels_has_the_same_numbers() {
        let script = include_str!("../wheels.py");
        assert!(script.contains(&format!("\nTURN = {TURN} ")));
        assert!(script.contains(&format!("\nSHOWN = {SHOWN} ")));
    }

    #[test]
    fn requests_are_what_the_worker_of_the_wheels_takes_apart() {
        let request = Request::Prepare {
            variant: "q4".into(),
            bytes: 7,
        };
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(text, r#"{"prepare":{"variant":"q4","bytes":7}}"#);
    }
}
