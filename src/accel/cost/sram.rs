//! Scratchpads: area, energy and leakage from a table made with CACTI 7 (`data/README.md` says how).
//!
//! The table has sizes of powers of two up to 2 MiB, words of 4 to 64 bytes, nodes of 22, 28, 45 and 65 nm, and at
//! least 32 words. Between its rows the logarithms are interpolated: linearly over the node, and linearly over triangles
//! in the plane of size and word. A cell of that plane is cut from (small, narrow) to (large, wide), so that each
//! triangle has all three corners in the table. A value between rows lies between those of the corners; a row itself
//! is returned as it stands.
#![forbid(unsafe_code)]

use crate::accel::cost::{Origin, Provenance};
use crate::base::error::{Error, Result};
use alloc::format;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use std::sync::LazyLock;

/// What one bank costs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SramCost {
    /// Access time, ns.
    pub access_ns: f64,
    /// Energy of reading one word, pJ.
    pub read_pj: f64,
    /// Energy of writing one word, pJ.
    pub write_pj: f64,
    /// Leakage, mW.
    pub leakage_mw: f64,
    /// Area, µm².
    pub area_um2: f64,
}

/// Sizes in bytes.
const SIZES: [f64; 15] = {
    let mut sizes = [128.0; 15];
    let mut i = 1;
    while i < 15 {
        sizes[i] = sizes[i - 1] * 2.0;
        i += 1;
    }
    sizes
};
/// Words in bytes.
const WORDS: [f64; 5] = [4.0, 8.0, 16.0, 32.0, 64.0];
/// Nodes in nm.
const NODES: [f64; 4] = [22.0, 28.0, 45.0, 65.0];

/// A row as the file has it.
#[derive(Deserialize)]
struct Row {
    size_bytes: f64,
    block_bytes: f64,
    tech_um: f64,
    access_ns: f64,
    #[serde(rename = "read_nJ")]
    read_nj: f64,
    #[serde(rename = "write_nJ")]
    write_nj: f64,
    #[serde(rename = "leak_mW")]
    leak_mw: f64,
    area_mm2: f64,
}

/// Access time, read and write energy, leakage, area.
type Values = [f64; 5];

/// Values by node, word and size.
struct Table([[[Option<Values>; 15]; 5]; 4]);

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let mut table = Table([[[None; 15]; 5]; 4]);
    let place = |axis: &[f64], x: f64| axis.iter().position(|&a| a == x).expect("a row on the grid");
    for row in rows() {
        let (node, word) = (
            place(&NODES, (row.tech_um * 1e3).round()),
            place(&WORDS, row.block_bytes),
        );
        table.0[node][word][place(&SIZES, row.size_bytes)] = Some([
            row.access_ns,
            row.read_nj * 1e3,
            row.write_nj * 1e3,
            row.leak_mw,
            row.area_mm2 * 1e6,
        ]);
    }
    table
});

fn rows() -> Vec<Row> {
    csv::Reader::from_reader(include_str!("data/sram.csv").as_bytes())
        .deserialize()
        .collect::<core::result::Result<_, _>>()
        .expect("the built-in table is well-formed")
}

/// The lower neighbour of `x` on an axis, and how far `x` lies towards the upper one, in logarithms.
fn locate(axis: &[f64], x: f64) -> Option<(usize, f64)> {
    let i = axis.iter().rposition(|&a| a <= x)?;
    if axis[i] == x {
        return Some((i, 0.0));
    }
    let above = axis.get(i + 1)?;
    Some((i, libm::log(x / axis[i]) / libm::log(above / axis[i])))
}

/// One bank of this many bytes, read and written in words of this many.
///
/// ```
/// use mixgemm::accel::cost::sram::bank;
/// let exact = bank(4096.0, 64.0, 28.0)?;
/// assert!((exact.read_pj - 16.8924).abs() < 1e-12 && (exact.write_pj - 20.3422).abs() < 1e-12);
/// let between = bank(6000.0, 64.0, 28.0)?;
/// assert!(exact.read_pj < between.read_pj && between.read_pj < bank(8192.0, 64.0, 28.0)?.read_pj);
/// assert!(bank(4096.0, 64.0, 7.0).is_err());
/// # Ok::<(), mixgemm::Error>(())
/// ```
///
/// # Errors
/// [`Error::Value`]: the node, the word or the size is outside the table.
pub fn bank(bytes: f64, word_bytes: f64, node_nm: f64) -> Result<SramCost> {
    let refuse = |argument, expected: &str, found: f64| Error::value(argument, expected, format!("{found}"));
    let (node, up) = locate(&NODES, node_nm).ok_or_else(|| refuse("node_nm", "22 to 65", node_nm))?;
    let (word, wider) = locate(&WORDS, word_bytes).ok_or_else(|| refuse("word_bytes", "4 to 64", word_bytes))?;
    let located = locate(&SIZES, bytes).filter(|_| bytes >= 32.0 * word_bytes);
    let (size, larger) = located.ok_or_else(|| {
        let shortest = 32.0 * word_bytes;
        refuse("bytes", &format!("{shortest} (32 words) to 2097152"), bytes)
    })?;
    // Rounding may put a bank of exactly 32 words a hair outside its triangle.
    let larger = if size == word { larger.max(wider) } else { larger };
    let corners = if larger >= wider {
        [(0, 0, 1.0 - larger), (0, 1, larger - wider), (1, 1, wider)]
    } else {
        [(0, 0, 1.0 - wider), (1, 0, wider - larger), (1, 1, larger)]
    };
    let mut logarithms = [0.0; 5];
    for (above, share) in [(0, 1.0 - up), (1, up)] {
        for (wide, large, weight) in corners {
            let weight = weight * share;
            if weight == 0.0 {
                continue;
            }
            let row = TABLE.0[node + above][word + wide][size + large].expect("a row inside the table's bounds");
            if weight == 1.0 {
                return Ok(cost(row));
            }
            for (sum, value) in logarithms.iter_mut().zip(row) {
                *sum += weight * libm::log(value);
            }
        }
    }
    Ok(cost(logarithms.map(libm::exp)))
}

fn cost([access_ns, read_pj, write_pj, leakage_mw, area_um2]: Values) -> SramCost {
    SramCost {
        access_ns,
        read_pj,
        write_pj,
        leakage_mw,
        area_um2,
    }
}

/// Where the table comes from.
#[must_use]
pub const fn origin() -> Origin {
    Origin {
        name: "scratchpads",
        provenance: Provenance::Generated,
        source: "CACTI 7 (HewlettPackard/cacti): one read and one write port, high-performance transistors, 360 K.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_row_is_returned_as_it_stands() {
        let rows = rows();
        assert_eq!(rows.len(), 260);
        for row in rows {
            let nm = (row.tech_um * 1e3).round();
            let found = bank(row.size_bytes, row.block_bytes, nm).unwrap();
            assert_eq!(found.access_ns, row.access_ns);
            assert_eq!(found.read_pj, row.read_nj * 1e3);
            assert_eq!(found.write_pj, row.write_nj * 1e3);
            assert_eq!(found.leakage_mw, row.leak_mw);
            assert_eq!(found.area_um2, row.area_mm2 * 1e6);
        }
    }

    #[test]
    fn banks_of_the_published_simulators() {
        // clevercool/ANT-Quantization and yuzhang712/mixpe_simulator: bytes, word, pJ read, pJ written.
        for (bytes, word, read, write) in [(4096.0, 64.0, 16.892, 20.342), (8192.0, 64.0, 17.769, 24.887)] {
            let found = bank(bytes, word, 28.0).unwrap();
            assert!(
                (found.read_pj - read).abs() < 6e-4 && (found.write_pj - write).abs() < 6e-4,
                "{found:?}"
            );
        }
    }

    #[test]
    fn outside_is_refused_by_name() {
        for (bytes, word, nm, argument) in [
            (4096.0, 64.0, 21.9, "node_nm"),
            (4096.0, 64.0, 65.1, "node_nm"),
            (4096.0, 64.0, f64::NAN, "node_nm"),
            (4096.0, 3.9, 28.0, "word_bytes"),
            (4096.0, 64.1, 28.0, "word_bytes"),
            (2047.0, 64.0, 28.0, "bytes"),
            (127.0, 4.0, 28.0, "bytes"),
            (2_097_153.0, 4.0, 28.0, "bytes"),
            (f64::NAN, 4.0, 28.0, "bytes"),
            (0.0, 4.0, 28.0, "bytes"),
        ] {
            let error = bank(bytes, word, nm).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{argument}: expected")), "{error}");
        }
    }

    proptest! {
        #[test]
        fn between_rows_nothing_leaves_the_corners(
            node in 22.0..=65.0_f64,
            word in 4.0..=64.0_f64,
            depth in 32.0..=32_768.0_f64,
        ) {
            let bytes = (word * depth).min(2_097_152.0);
            let found = bank(bytes, word, node).unwrap();
            let (n, up) = locate(&NODES, node).unwrap();
            let (w, _) = locate(&WORDS, word).unwrap();
            let (s, _) = locate(&SIZES, bytes).unwrap();
            let corners: Vec<Values> = [n, (n + usize::from(up > 0.0)).min(3)].into_iter()
                .flat_map(|n| [w, (w + 1).min(4)].map(|w| (n, w)))
                .flat_map(|(n, w)| [s, (s + 1).min(14)].map(|s| (n, w, s)))
                .filter_map(|(n, w, s)| TABLE.0[n][w][s])
                .collect();
            let values = [found.access_ns, found.read_pj, found.write_pj, found.leakage_mw, found.area_um2];
            for (i, value) in values.into_iter().enumerate() {
                let least = corners.iter().map(|c| c[i]).fold(f64::INFINITY, f64::min);
                let most = corners.iter().map(|c| c[i]).fold(0.0, f64::max);
                prop_assert!(value >= least * (1.0 - 1e-12) && value <= most * (1.0 + 1e-12), "{i}: {value}");
            }
        }

        #[test]
        fn continuous_across_cells(word in 4.0..=64.0_f64, depth in 32.0..=20_000.0_f64, node in 22.0..=64.9_f64) {
            let bytes = (word * depth).min(2_000_000.0);
            let here = bank(bytes, word, node).unwrap();
            let there = bank(bytes * (1.0 + 1e-9), word, node * (1.0 + 1e-9)).unwrap();
            prop_assert!((here.read_pj / there.read_pj - 1.0).abs() < 1e-6);
            prop_assert!((here.area_um2 / there.area_um2 - 1.0).abs() < 1e-6);
        }
    }
}
