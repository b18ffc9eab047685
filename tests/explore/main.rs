//! The run over a design space: its numbering, its file, and what happens when it is interrupted, cut and put together.
#![cfg(feature = "lab")]
#![forbid(unsafe_code)]

mod figures;
mod kept;
mod points;
mod space;

use mixgemm::Result;
use mixgemm::dse::evaluate::Evaluator;
use mixgemm::dse::explore::explore;
use mixgemm::dse::heading::Heading;
use mixgemm::dse::outcome::{Outcome, Row};
use mixgemm::dse::space::{Point, Space};
use mixgemm::dse::workload::Workload;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const ARITHMETIC: &str = "device = ['mixpe-w4a8', 'tpu-int8']\nbits = [4]\nzero = ['integer']\ninput = ['a8']\n\
                          accumulator = ['i24']\ndequantisation = ['after']\n";

/// A space of 2 · 2 · 3 · 1 · … = `2·2·3·2·2·7 = 336` points.
fn toml() -> String {
    format!(
        "[axes]\nm = [1, 2, 3, 4, 5, 6, 7]\ndram_pj_per_bit = [0.7, 20.0]\n[[design]]\n{ARITHMETIC}group = [32, 'channel']\n\
         array = ['8x8', '16x16', '32x28']\ndataflow = ['os']\nbandwidth_bits_per_cycle = [64, 100.5]\n"
    )
}

fn heading(toml: &str, shard: &str) -> Heading {
    let workload = Workload::built_in("vit").unwrap();
    Heading::new(
        Space::from_toml(toml).unwrap(),
        workload,
        "none".into(),
        shard.parse().unwrap(),
    )
}

/// Figures that follow from the point, with digits that a careless reader loses.
fn evaluate(point: &Point) -> Result<Row> {
    let outcome = Outcome {
        fidelity_db: 1.0 / (point.id + 3) as f64,
        seconds: point.bandwidth_bits_per_cycle / 3e9 * point.m as f64,
        macs: u64::MAX - point.id,
        ..Outcome::default()
    };
    Ok(Row {
        point: point.clone(),
        outcome,
    })
}

fn run(heading: &Heading, path: &Path) -> Vec<u8> {
    explore(heading, path, evaluate, |_, _| {}).unwrap();
    fs::read(path).unwrap()
}

fn file(directory: &TempDir, name: &str) -> PathBuf {
    directory.path().join(name)
}

/// What points share is computed by whichever comes first, so it may not depend on anything else of them.
#[test]
fn a_point_has_the_same_figures_whoever_comes_before_it() {
    let axes = "m = [1, 64]\narray = ['8x8', '13x7']\ndataflow = ['os', 'ws']\nbuffers_kib = ['64/32/32', '256/128/128']\n\
                bandwidth_bits_per_cycle = [64, 1024]\nnode_nm = [28, 45]\ndram_pj_per_bit = [0.7, 20.0]\n";
    let arithmetic = ARITHMETIC.replace("zero = ['integer']", "zero = ['symmetric', 'integer']");
    let space = Space::from_toml(&format!("[axes]\n{axes}[[design]]\n{arithmetic}group = [32, 64]\n")).unwrap();
    let points: Vec<Point> = (0..space.len()).map(|id| space.point(id).unwrap()).collect();
    let known = points
        .iter()
        .map(|point| (point.format(), Ok(20.0)))
        .collect::<std::collections::HashMap<_, _>>();
    let evaluator = || Evaluator::new(Workload::built_in("vit").unwrap(), known.clone());
    let (forwards, backwards) = (evaluator(), evaluator());
    let first: Vec<Row> = points.iter().map(|point| forwards.evaluate(point).unwrap()).collect();
    let mut last: Vec<Row> = points
        .iter()
        .rev()
        .map(|point| backwards.evaluate(point).unwrap())
        .collect();
    last.reverse();
    assert!(points.len() >= 256 && first.iter().any(|row| row.outcome.efficiency_equal_area > 2.0));
    for (first, last) in first.iter().zip(&last) {
        assert_eq!(first.outcome, last.outcome, "{:?}", first.point);
    }
}

/// The page on adding an accelerator, which is compiled and run as a test of its own: the lines next to which it says to
/// write exist.
#[test]
fn the_page_on_adding_an_accelerator_holds() {
    let page = include_str!("../../docs/adding-an-accelerator.md");
    let list = include_str!("../../src/accel/catalogue/mod.rs");
    let blocks = page.split("```").skip(1).step_by(2);
    let diffs: Vec<&str> = blocks.filter_map(|block| block.strip_prefix("diff\n")).collect();
    assert_eq!(diffs.len(), 2);
    for diff in diffs {
        let old = diff.lines().filter(|line| !line.starts_with('+')).map(str::trim);
        assert!(
            old.filter(|line| !line.is_empty()).all(|line| list.contains(line)),
            "{diff}"
        );
    }
}
