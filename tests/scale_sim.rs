//! Cycles and words against SCALE-Sim's own reports.
#![forbid(unsafe_code)]

use mixgemm::accel::array::{Array, Dataflow, Extents};
use mixgemm::accel::memory::{Memory, Widths};
use std::collections::HashMap;

/// Rows of the table by column.
fn cases() -> Vec<HashMap<&'static str, &'static str>> {
    let mut lines = include_str!("data/scalesim_cases.csv")
        .lines()
        .filter(|l| !l.starts_with('#'));
    let heads: Vec<&str> = lines.next().unwrap().split(',').collect();
    lines
        .map(|line| heads.iter().copied().zip(line.split(',')).collect())
        .collect()
}

fn number(case: &HashMap<&str, &str>, column: &str) -> u64 {
    case[column]
        .parse()
        .unwrap_or_else(|_| panic!("{column} of {}", case["id"]))
}

fn of(case: &HashMap<&str, &str>) -> (Array, Extents, Memory) {
    let number = |column| number(case, column);
    let dataflow: Dataflow = case["dataflow"].parse().unwrap();
    let array = Array::new(number("array_rows") as u32, number("array_cols") as u32, dataflow).unwrap();
    let memory = Memory {
        activation_bytes: 1024 * number("ifmap_kb"),
        weight_bytes: 1024 * number("filter_kb"),
        output_bytes: 1024 * number("ofmap_kb"),
        dram_bits_per_cycle: 8.0 * number("bandwidth_cfg") as f64,
    };
    (array, Extents::new(number("m"), number("n"), number("k")), memory)
}

/// Every one of the hundred stall-free cases, of both versions.
#[test]
fn cycles_and_words_are_those_of_scale_sim() {
    let mut count = 0;
    for case in cases().iter().filter(|case| case["mode"] == "CALC") {
        let (array, e, _) = of(case);
        let walk = array.walk(e);
        let found = [walk.cycles - 1, walk.activation_reads, walk.weight_reads];
        let expected = ["total_cycles", "sram_ifmap_reads", "sram_filter_reads"].map(|c| number(case, c));
        assert_eq!(found, expected, "{} of {}", case["id"], case["tool"]);
        // SCALE-Sim's outputs have R + C too many in every fold of an output-stationary array.
        let excess = match array.dataflow() {
            Dataflow::OutputStationary => walk.folds * u64::from(array.rows() + array.cols()),
            _ => 0,
        };
        assert_eq!(
            walk.output_writes + excess,
            number(case, "sram_ofmap_writes"),
            "{}",
            case["id"]
        );
        let utilisation: f64 = case["overall_util_pct"].parse().unwrap();
        let found = 100.0 * e.macs() as f64 / ((walk.cycles - 1) as f64 * array.elements() as f64);
        assert!(
            (found / utilisation - 1.0).abs() < 1e-12,
            "{}: {found} for {utilisation}",
            case["id"]
        );
        count += 1;
    }
    assert_eq!(count, 100);
}

/// SCALE-Sim's words are the same where the bandwidth is fixed, and so is what the array does in between.
#[test]
fn words_do_not_depend_on_the_bandwidth() {
    let bytes = Widths {
        activation: 8.0,
        weight: 8.0,
        output: 8.0,
        partial: 8.0,
    };
    let mut count = 0;
    for case in cases().iter().filter(|case| case["mode"] == "USER") {
        let (array, e, memory) = of(case);
        let walk = array.walk(e);
        assert_eq!(
            walk.activation_reads,
            number(case, "sram_ifmap_reads"),
            "{}",
            case["id"]
        );
        assert_eq!(walk.weight_reads, number(case, "sram_filter_reads"), "{}", case["id"]);
        if case["tool"] == "SCALE-Sim v2" {
            assert_eq!(
                walk.cycles - 1,
                number(case, "total_cycles") - number(case, "stall_cycles"),
                "{}",
                case["id"]
            );
        }
        let traffic = memory.traffic(&array, e, &bytes).unwrap();
        // Three operands cross one channel here, where SCALE-Sim gives each a channel of its own.
        assert!(traffic.cycles as f64 >= traffic.dram.total() / memory.dram_bits_per_cycle);
        count += 1;
    }
    assert_eq!(count, 48);
}
