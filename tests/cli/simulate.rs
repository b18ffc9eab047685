//! `simulate` on SCALE-Sim's files. Devices have a file of their own.

use crate::Bench;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;

pub(crate) const PRODUCTS: &str = "Layer, M, N, K,\n";
const CONVOLUTIONS: &str =
    "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,\n";

/// A configuration of 64 KiB a scratchpad.
pub(crate) fn config(rows: &str, cols: &str, dataflow: &str, presets: &str, mode: &str) -> String {
    format!(
        "[general]\nrun_name = test\n[architecture_presets]\nArrayHeight: {rows}\nArrayWidth: {cols}\n\
         IfmapSramSzkB: 64\nFilterSramSzkB: 64\nOfmapSramSzkB: 64\nIfmapOffset: 0\nFilterOffset: 10000000\n\
         OfmapOffset: 20000000\nDataflow: {dataflow}\n{presets}\nMemoryBanks: 1\n[run_presets]\n\
         InterfaceBandwidth: {mode}\n"
    )
}

pub(crate) fn json(b: &Bench, arguments: &str) -> Value {
    let out = b.run(&format!("simulate {arguments} --json"));
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && stderr.is_empty(), "{arguments}: {stderr}");
    serde_json::from_slice(&out.stdout).unwrap()
}

/// `15x15x3 f5x5 n12 s2` as a row of a topology.
fn convolution(name: &str, shape: &str) -> String {
    let numbers: Vec<&str> = shape
        .split(['x', ' ', 'f', 'n', 's'])
        .filter(|part| !part.is_empty())
        .collect();
    let [height, width, channels, filter_height, filter_width, filters, stride] = numbers[..] else {
        panic!("{shape}")
    };
    format!("{name}, {height}, {width}, {filter_height}, {filter_width}, {channels}, {filters}, {stride},\n")
}

/// All stall-free cases of both versions, by way of their files.
#[test]
fn reports_are_those_of_scale_sim() {
    let b = Bench::new();
    let mut lines = include_str!("../data/scalesim_cases.csv")
        .lines()
        .filter(|l| !l.starts_with('#'));
    let heads: Vec<&str> = lines.next().unwrap().split(',').collect();
    let cases = lines.map(|line| heads.iter().copied().zip(line.split(',')).collect::<BTreeMap<_, _>>());
    // Cases of one array and kind are layers of one topology.
    let mut groups = BTreeMap::<_, Vec<_>>::new();
    for case in cases.filter(|case| case["mode"] == "CALC") {
        let key = (
            case["tool"],
            case["array_rows"],
            case["array_cols"],
            case["dataflow"],
            case["conv"].is_empty(),
        );
        groups.entry(key).or_default().push(case);
    }
    let mut count = 0;
    for ((_, rows, cols, dataflow, products), cases) in groups {
        fs::write(
            b.path("scale.cfg"),
            config(rows, cols, dataflow, "Bandwidth: 10", "CALC"),
        )
        .unwrap();
        let mut topology = if products {
            PRODUCTS.to_string()
        } else {
            CONVOLUTIONS.into()
        };
        for case in &cases {
            topology += &if products {
                format!("{}, {}, {}, {},\n", case["id"], case["m"], case["n"], case["k"])
            } else {
                convolution(case["id"], case["conv"])
            };
        }
        fs::write(b.path("layers.csv"), topology).unwrap();
        let own = json(&b, "--config scale.cfg --topology layers.csv");
        let theirs = json(&b, "--config scale.cfg --topology layers.csv --compat scale-sim");
        for (i, case) in cases.iter().enumerate() {
            let number = |column: &str| case[column].parse::<u64>().unwrap();
            let (own, theirs) = (&own["rows"][i], &theirs["rows"][i]);
            for row in [own, theirs] {
                assert_eq!(row["layer"], case["id"]);
                assert_eq!(row["cycles"], number("total_cycles") + 1, "{}", case["id"]);
                assert_eq!(row["scale_sim_total_cycles"], number("total_cycles"), "{}", case["id"]);
                assert_eq!(row["stall_cycles"], 0, "{}", case["id"]);
                assert_eq!(row["sram_ifmap_reads"], number("sram_ifmap_reads"), "{}", case["id"]);
                assert_eq!(row["sram_filter_reads"], number("sram_filter_reads"), "{}", case["id"]);
                let percent = case["overall_util_pct"].parse::<f64>().unwrap();
                let found = row["scale_sim_utilization_percent"].as_f64().unwrap();
                assert!(
                    (found / percent - 1.0).abs() < 1e-12,
                    "{}: {found} for {percent}",
                    case["id"]
                );
                let utilization = row["utilization"].as_f64().unwrap();
                let cycles = number("total_cycles") as f64;
                assert!((100.0 * utilization * (cycles + 1.0) / cycles / percent - 1.0).abs() < 1e-12);
            }
            assert_eq!(
                theirs["sram_ofmap_writes"],
                number("sram_ofmap_writes"),
                "{}",
                case["id"]
            );
            let excess = if dataflow == "os" {
                number("array_rows") + number("array_cols")
            } else {
                0
            };
            let folds = number("m").div_ceil(number("array_rows")) * number("n").div_ceil(number("array_cols"));
            assert_eq!(
                own["sram_ofmap_writes"],
                number("sram_ofmap_writes") - folds * excess,
                "{}",
                case["id"]
            );
            count += 1;
        }
    }
    assert_eq!(count, 100);
}

#[test]
fn bandwidth_and_scratchpads_only_ever_cost_cycles() {
    let b = Bench::new();
    fs::write(
        b.path("layers.csv"),
        format!("{PRODUCTS}a, 512, 384, 1000\nb, 1, 300, 1000\n"),
    )
    .unwrap();
    for dataflow in ["os", "ws", "is"] {
        let mut before = 0;
        for (kib, bandwidth) in [(256, 1000), (256, 64), (64, 64), (16, 64), (16, 8), (8, 1)] {
            let presets = format!("Bandwidth: {bandwidth}");
            let text = config("32", "16", dataflow, &presets, "USER").replace(": 64\n", &format!(": {kib}\n"));
            fs::write(
                b.path("scale.cfg"),
                text.replace("Bandwidth: 64\n", &format!("{presets}\n")),
            )
            .unwrap();
            let report = json(&b, "--config scale.cfg --topology layers.csv");
            let cycles = report["totals"]["cycles"].as_u64().unwrap();
            assert!(
                cycles > before,
                "{dataflow} {kib} KiB, {bandwidth} bytes: {cycles} after {before}"
            );
            before = cycles;
            let sums = |key: &str| {
                report["rows"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|row| row[key].as_u64().unwrap())
                    .sum::<u64>()
            };
            for key in ["cycles", "stall_cycles", "sram_filter_reads", "sram_ofmap_writes"] {
                assert_eq!(report["totals"][key], sums(key), "{key}");
            }
            let row = &report["rows"][0];
            assert!(row["dram_ifmap_read_bits"].as_f64().unwrap() >= 512.0 * 1000.0 * 8.0);
            let compute = row["compute_cycles"].as_u64().unwrap();
            assert_eq!(row["cycles"], compute + row["stall_cycles"].as_u64().unwrap());
        }
    }
}

#[test]
fn tables_files_and_drawings() {
    let b = Bench::new();
    fs::write(b.path("scale.cfg"), config("8", "8", "ws", "Bandwidth: 4", "USER")).unwrap();
    fs::write(
        b.path("layers.csv"),
        format!("{PRODUCTS}\"first, quoted\",16,16,16\nsecond,64,1,9\n"),
    )
    .unwrap();
    let out = b.run("simulate --config scale.cfg --topology layers.csv --csv rows.csv --svg cycles.svg");
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success() && out.stderr.is_empty());
    for expected in [
        "8 x 8 elements, ws",
        "DRAM 32 bits per cycle",
        "first, quoted",
        "total",
        "SCALE-Sim",
    ] {
        assert!(text.contains(expected), "{expected}:\n{text}");
    }
    let rows = fs::read_to_string(b.path("rows.csv")).unwrap();
    let mut lines = rows.lines();
    assert!(
        lines
            .next()
            .unwrap()
            .starts_with("layer,m,n,k,cycles,scale_sim_total_cycles,")
    );
    assert!(lines.next().unwrap().starts_with("\"first, quoted\",16,16,16,"));
    assert_eq!(lines.count(), 1);
    let svg = fs::read_to_string(b.path("cycles.svg")).unwrap();
    for expected in ["<svg", "Cycles by layer", "second", "stalls"] {
        assert!(svg.contains(expected), "{expected}");
    }
    // No file is replaced unasked.
    b.refused(
        "simulate --config scale.cfg --topology layers.csv --csv rows.csv",
        "--csv",
        "exists",
    );
    let again = b.run("simulate --config scale.cfg --topology layers.csv --csv rows.csv --force");
    assert!(again.status.success());
    assert_eq!(fs::read_to_string(b.path("rows.csv")).unwrap(), rows);
}

#[test]
fn wrong_files_are_refused_in_one_line() {
    let b = Bench::new();
    let good = config("16", "16", "os", "Bandwidth: 10", "USER");
    fs::write(b.path("good.cfg"), &good).unwrap();
    fs::write(b.path("good.csv"), format!("{PRODUCTS}a,64,64,64,\n")).unwrap();
    fs::write(b.path("binary"), [0xFF, 0xFE, 0, 1]).unwrap();
    fs::create_dir(b.path("directory")).unwrap();
    for (old, new, found) in [
        ("ArrayHeight: 16", "ArrayHeight: -1", "found `-1` in line 4 of bad.cfg"),
        ("ArrayWidth: 16\n", "", "found no such key in bad.cfg"),
        (
            "Dataflow: os",
            "Dataflow: rs",
            "Dataflow: os, ws or is, found `rs` in line 12",
        ),
        (
            "OfmapSramSzkB: 64",
            "OfmapSramSzkB: ",
            "OfmapSramSzkB: a whole number from 1",
        ),
        ("Bandwidth: 10", "Bandwidth: 0", "found `0` in line 13"),
        ("Bandwidth: USER", "Bandwidth: both", "found `both` in line 16"),
        ("[run_presets]", "[run]", "InterfaceBandwidth in section [run_presets]"),
    ] {
        fs::write(b.path("bad.cfg"), good.replace(old, new)).unwrap();
        b.refused("simulate --config bad.cfg --topology good.csv", "--config", found);
    }
    for (text, found) in [
        (
            "Layer,M,N,K\na,1,2\n",
            "K: a whole number from 1 to 4294967296, found nothing in line 2 of bad.csv",
        ),
        ("Layer,M,N,K\n\n\na,1,2,three\n", "found `three` in line 4 of bad.csv"),
        ("layer;m;n;k\n", "found `layer;m;n;k` in line 1 of bad.csv"),
        ("", "found nothing in bad.csv"),
        ("Layer,M,N,K\na,1,2,3,1:4\n", "found `1:4` in line 2"),
    ] {
        fs::write(b.path("bad.csv"), text).unwrap();
        b.refused("simulate --config good.cfg --topology bad.csv", "--topology", found);
    }
    for (file, found) in [
        ("gone", "no such file"),
        ("directory", "not a regular file"),
        ("binary", "binary"),
    ] {
        b.refused(
            &format!("simulate --config {file} --topology good.csv"),
            "--config",
            found,
        );
        b.refused(
            &format!("simulate --config good.cfg --topology {file}"),
            "--topology",
            found,
        );
    }
    b.refused(
        "simulate --config good.cfg --topology good.csv --compat timeloop",
        "--compat",
        "timeloop",
    );
    b.refused(
        "simulate --config good.cfg --topology good.csv --svg a.x --csv a.x",
        "--csv",
        "the same",
    );
    // Half of 1 KiB holds no 32 x 32 outputs of a byte, finished or not.
    let small = config("32", "32", "os", "Bandwidth: 10", "USER").replace("OfmapSramSzkB: 64", "OfmapSramSzkB: 1");
    fs::write(b.path("bad.cfg"), small).unwrap();
    let found = "OfmapSramSzkB: at least 2048 bytes, twice a tile of 32 x 32 x 1 of layer `a`, found 1024 bytes";
    b.refused("simulate --config bad.cfg --topology good.csv", "--config", found);
}
