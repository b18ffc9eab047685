//! Rows of several products, on a small model.
#![forbid(unsafe_code)]

use crate::cli::arguments::{ModeName, spelled};
use crate::cli::bench::model::{Layer, Model};
use crate::cli::bench::pattern::Patterns;
use crate::cli::bench::report::Findings;
use crate::cli::bench::rounds::Bench;
use crate::cli::bench::{Args, workload};
use crate::cli::machine::Machine;
use crate::cli::progress::Progress;
use mixgemm::Isa;
use mixgemm::base::buffer::AlignedBuf;
use mixgemm::simd::roof::DramRoof;

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

/// A model with queries, keys of another shape, and values of the keys' shape.
fn small() -> Vec<Layer> {
    let mut layers: Vec<Layer> = [(40, 64), (24, 64)].map(Layer::alone).into();
    layers[0].names = Some("q".into());
    layers[1].names = Some("k, v".into());
    layers.push(Layer {
        n: 40 + 24 + 24,
        k: 64,
        names: Some("q/k/v".into()),
        count: 2,
        parts: vec![0, 1, 1],
    });
    layers
}

#[test]
fn products_of_one_input_are_measured_together_and_in_turn() {
    let layers = small();
    let line = "bench --m 1,20 --bits 4 --group 32 --mode a8,exact --rounds 1";
    let args = <Line as clap::Parser>::try_parse_from(line.split(' ')).unwrap().args;
    let machine = Machine::here().unwrap();
    let cases = args.cases(&machine, &layers).unwrap();
    assert_eq!(
        cases.len(),
        3 * 4 + 4,
        "two layers alone, and three products in both ways"
    );
    let progress = Progress::new(0);
    let isa = Isa::Scalar;
    let (mut rows, mut copies) = args.prepare(cases, &layers, (isa, 4000), &progress).unwrap();
    assert!(copies.len() == 2 && copies[1].all.len() > 2, "copies rotate");
    let mut buffer = AlignedBuf::zeroed(1 << 20).unwrap();
    let threads = (args.threads.as_slice(), args.pool);
    let mut bench = Bench::new(isa, DramRoof::new(&mut buffer), threads, Patterns::new(&[])).unwrap();
    for row in &mut rows {
        bench.check(row, &copies).unwrap();
        bench.sample(row, &mut copies).unwrap();
        // The reference is not only asked about the products that `check` did itself.
        let (case, last) = (row.case, row.last_copies(&copies));
        for ((y, &w), which) in row.outputs.iter().zip(&row.weights).zip(last) {
            copies[w]
                .check(which, case.scheme, row.input.view(), case.mode, y)
                .unwrap();
        }
    }
    let findings = Findings::new(
        machine,
        ("scalar", "own"),
        (&rows, &copies),
        &layers,
        Some(Model::Llama3),
    );
    let found = serde_json::to_value(&findings).unwrap();
    let several: Vec<_> = found["rows"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|r| r["together"].is_boolean())
        .collect();
    assert_eq!(several.len(), 8);
    for (i, row) in several.iter().enumerate() {
        assert_eq!(row["together"], i % 2 == 1);
        assert_eq!(row["products"], serde_json::json!([40, 24, 24]));
        assert_eq!((row["n"].as_u64(), row["layer"].as_str()), (Some(88), Some("q/k/v")));
        assert_eq!(row["weight_bytes"], 88.0 * 64.0 / 2.0 + 88.0 * 2.0 * 2.0);
    }
    assert!(
        found["passes"]
            .as_array()
            .unwrap()
            .iter()
            .all(|p| p["seconds_together"].is_number())
    );
    let mut table = Vec::new();
    findings.print(&rows, &copies, &mut table).unwrap();
    let table = String::from_utf8(table).unwrap();
    let (_, table) = table.split_once("(40+24+24)x64 (q/k/v: 2 in all)").unwrap();
    let ways: Vec<_> = table
        .lines()
        .filter_map(|l| l.split_once("exact"))
        .map(|(way, _)| way.trim())
        .collect();
    assert_eq!(ways[..4], ["in turn", "together", "in turn", "together"], "{table}");
}

#[test]
fn modes_keep_their_names() {
    for name in <ModeName as clap::ValueEnum>::value_variants() {
        assert_eq!(workload::mode(*name).name(), spelled(*name));
    }
}
