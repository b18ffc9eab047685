//! The step from 45 nm to another node: factors of area and energy for logic, after Stillmaker and Baas.
#![forbid(unsafe_code)]

use crate::accel::cost::{Origin, Provenance};
use crate::base::error::{Error, Result};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde::Deserialize;
use std::sync::LazyLock;

/// What logic at some node costs, relative to 45 nm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Factors {
    /// Area.
    pub area: f64,
    /// Energy of an operation, and leakage of a gate.
    pub energy: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    provenance: Provenance,
    source: String,
    volts: f64,
    node: Vec<Node>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Node {
    nm: f64,
    area: f64,
    /// Of V², V and 1.
    energy: [f64; 3],
}

static TABLE: LazyLock<Table> =
    LazyLock::new(|| toml::from_str(include_str!("data/nodes.toml")).expect("the built-in table is well-formed"));

/// Factors of a node of 20 to 65 nm; between two rows of the table, logarithms are interpolated.
///
/// ```
/// use mixgemm::accel::cost::node::factors;
/// assert_eq!(factors(45.0)?.area, 1.0);
/// assert_eq!(factors(32.0)?.area, 0.46);
/// assert!(factors(28.0)?.energy < factors(32.0)?.energy);
/// # Ok::<(), mixgemm::Error>(())
/// ```
///
/// # Errors
/// [`Error::Value`]: a node that the table does not reach.
pub fn factors(node_nm: f64) -> Result<Factors> {
    let pair = TABLE
        .node
        .windows(2)
        .find(|pair| pair[1].nm <= node_nm && node_nm <= pair[0].nm)
        .ok_or_else(|| Error::value("node_nm", "20 to 65", format!("{node_nm}")))?;
    let volts = TABLE.volts;
    let polynomial = |[a, b, c]: [f64; 3]| (a * volts + b) * volts + c;
    let reference = TABLE.node.iter().find(|node| node.nm == 45.0).expect("45 nm is a row");
    let of = |node: &Node| Factors {
        area: node.area / reference.area,
        energy: polynomial(node.energy) / polynomial(reference.energy),
    };
    let (above, below) = (of(&pair[0]), of(&pair[1]));
    if node_nm == pair[0].nm {
        return Ok(above);
    }
    if node_nm == pair[1].nm {
        return Ok(below);
    }
    let t = libm::log(node_nm / pair[1].nm) / libm::log(pair[0].nm / pair[1].nm);
    let between = |below: f64, above: f64| below * libm::exp(t * libm::log(above / below));
    Ok(Factors {
        area: between(below.area, above.area),
        energy: between(below.energy, above.energy),
    })
}

/// Where the factors come from.
#[must_use]
pub fn origin() -> Origin {
    Origin {
        name: "scaling of logic to other nodes",
        provenance: TABLE.provenance,
        source: &TABLE.source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_exact_and_nodes_between_them_lie_between() {
        // By hand from the paper's coefficients, at 0.9 V: 0.6989, 1.0584, 0.4571, 0.2008 for 45, 65, 32, 20 nm.
        for (nm, area, energy) in [
            (65.0, 1.5, 1.514),
            (45.0, 1.0, 1.0),
            (32.0, 0.46, 0.654),
            (20.0, 0.21, 0.2873),
            (28.0, 0.368, 0.5177),
            (22.0, 0.246, 0.3395),
        ] {
            let found = factors(nm).unwrap();
            assert!((found.area / area - 1.0).abs() < 2e-3, "{nm}: {found:?}");
            assert!((found.energy / energy - 1.0).abs() < 2e-3, "{nm}: {found:?}");
        }
        let mut last = factors(20.0).unwrap();
        for tenth in 201..=650 {
            let next = factors(f64::from(tenth) / 10.0).unwrap();
            assert!(next.area > last.area && next.energy > last.energy, "{tenth}");
            last = next;
        }
    }

    #[test]
    fn nodes_out_of_reach_are_refused() {
        for nm in [19.9, 65.1, 0.0, -45.0, f64::NAN, f64::INFINITY] {
            assert!(
                factors(nm)
                    .unwrap_err()
                    .to_string()
                    .starts_with("node_nm: expected 20 to 65")
            );
        }
    }
}
