//! `simulate --compat mixpe-sim` against the runs of the simulator that it follows.

use crate::Bench;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;

type Case = BTreeMap<&'static str, &'static str>;

/// Rows, columns, widest and narrowest bits of the designs.
const DESIGNS: [(&str, [u32; 4]); 6] = [
    ("MixPE-W4A8", [64, 64, 8, 4]),
    ("MixPE-W4A16", [32, 32, 16, 8]),
    ("BitFusion", [32, 40, 8, 4]),
    ("INT8", [32, 32, 8, 4]),
    ("FP16", [32, 28, 16, 16]),
    ("ANT", [32, 32, 8, 4]),
];
const HEAD: &str = "layer,count,kernel,output,input_channels,output_channels,batch,bits\n";

fn cases(text: &'static str) -> Vec<Case> {
    let mut lines = text.lines().filter(|l| !l.starts_with('#'));
    let heads: Vec<&str> = lines.next().unwrap().split(',').collect();
    lines
        .map(|line| heads.iter().copied().zip(line.split(',')).collect())
        .collect()
}

fn ini([rows, cols, high, low]: [u32; 4]) -> String {
    format!(
        "[system]\nif_width = 1024\n\n[accelerator]\n# in Hz\nfrequency = 500000000\n# in Bytes\nWgt_SRAM = 131072\n\
         Act_SRAM = 262144\nOut_SRAM = 131072\na = {rows}\nc = {cols}\nhigh_prec = {high}\nlow_prec = {low}\n"
    )
}

/// The rows of a design and network as a topology.
fn topology(cases: &[&Case]) -> String {
    let mut text = HEAD.to_string();
    for (i, case) in cases.iter().enumerate() {
        let or_one = |column: &str| if case[column].is_empty() { "1" } else { case[column] };
        text += &format!(
            "{i},{},{},{},{},{},{},{}\n",
            case["count"],
            or_one("K"),
            or_one("O"),
            case["IC"],
            case["OC"],
            case["batch"],
            case["bits"]
        );
    }
    text
}

fn simulate(b: &Bench, design: [u32; 4], topology: &str) -> Value {
    fs::write(b.path("conf.ini"), ini(design)).unwrap();
    fs::write(b.path("layers.csv"), topology).unwrap();
    let out = b.run("simulate --compat mixpe-sim --config conf.ini --topology layers.csv --json");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

fn close(found: f64, expected: f64, share: f64) -> bool {
    (found - expected).abs() <= share * expected.abs()
}

/// All 112 rows, fully connected and convolutions: every count exactly, every energy to a billionth; and the totals over
/// FP16's within half a percent of those of the run, whose times are the published ones.
#[test]
fn counts_and_energies_are_those_of_the_authors_simulator() {
    let b = Bench::new();
    let all = cases(include_str!("../data/mixpe_sim_layers.csv"));
    let mut totals = BTreeMap::new();
    let mut count = 0;
    for (design, machine) in DESIGNS {
        for net in ["vit", "opt"] {
            let of = |case: &&Case| case["design"] == design && case["net"] == net;
            let own: Vec<&Case> = all.iter().filter(of).collect();
            let report = simulate(&b, machine, &topology(&own));
            for (case, row) in own.iter().zip(report["rows"].as_array().unwrap()) {
                for (column, name) in [
                    ("cycles", "cycles"),
                    ("stall", "stall_cycles"),
                    ("act_rd", "sram_ifmap_read_bits"),
                    ("wgt_rd", "sram_filter_read_bits"),
                    ("out_rd", "sram_ofmap_read_bits"),
                    ("act_wr", "sram_ifmap_write_bits"),
                    ("wgt_wr", "sram_filter_write_bits"),
                    ("out_wr", "sram_ofmap_write_bits"),
                    ("dram_rd", "dram_read_bits"),
                    ("dram_wr", "dram_write_bits"),
                ] {
                    assert_eq!(
                        row[name].as_u64().unwrap(),
                        case[column].parse::<u64>().unwrap(),
                        "{column} of {case:?}"
                    );
                }
                for (column, name) in [
                    ("e_static_nJ", "energy_static_pj"),
                    ("e_dram_nJ", "energy_dram_pj"),
                    ("e_sram_nJ", "energy_buffers_pj"),
                    ("e_core_nJ", "energy_core_pj"),
                ] {
                    let (found, nanojoules) = (row[name].as_f64().unwrap(), case[column].parse::<f64>().unwrap());
                    assert!(close(found, 1e3 * nanojoules, 1e-9), "{column} of {case:?}: {found}");
                }
                count += 1;
            }
            totals.insert((net, design), report["totals"].clone());
        }
    }
    assert_eq!(count, 112);
    for case in cases(include_str!("../data/mixpe_sim_totals.csv")) {
        let (own, fp16) = (&totals[&(case["net"], case["design"])], &totals[&(case["net"], "FP16")]);
        assert_eq!(
            own["cycles"].as_u64().unwrap(),
            case["total_cycles"].parse::<u64>().unwrap(),
            "{case:?}"
        );
        for (column, name, whole) in [
            ("time_vs_fp16", "cycles", "cycles"),
            ("e_static_vs_fp16", "energy_static_pj", "energy_total_pj"),
            ("e_dram_vs_fp16", "energy_dram_pj", "energy_total_pj"),
            ("e_buffer_vs_fp16", "energy_buffers_pj", "energy_total_pj"),
            ("e_core_vs_fp16", "energy_core_pj", "energy_total_pj"),
            ("e_total_vs_fp16", "energy_total_pj", "energy_total_pj"),
        ] {
            let found = own[name].as_f64().unwrap() / fp16[whole].as_f64().unwrap();
            assert!(
                close(found, case[column].parse().unwrap(), 0.005),
                "{column} of {case:?}: {found}"
            );
        }
        let time = own["cycles"].as_f64().unwrap() / fp16["cycles"].as_f64().unwrap();
        let committed: f64 = case["committed_time_vs_fp16"].parse().unwrap();
        assert!((time - committed).abs() <= 0.005, "{case:?}: {time}");
    }
}

#[test]
fn tables_and_files_name_what_they_follow() {
    let b = Bench::new();
    fs::write(b.path("conf.ini"), ini(DESIGNS[0].1)).unwrap();
    fs::write(b.path("layers.csv"), format!("{HEAD}up,12,1,1,768,3072,64,4\n")).unwrap();
    let out = b.run("simulate --compat mixpe-sim --config conf.ini --topology layers.csv --csv rows.csv");
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(
        text.contains("mixpe_simulator") && text.contains("64 x 64 elements"),
        "{text}"
    );
    let rows = fs::read_to_string(b.path("rows.csv")).unwrap();
    let (head, row) = rows.split_once('\n').unwrap();
    assert!(
        head.starts_with("layer,count,kernel,output,") && head.contains(",energy_core_pj,"),
        "{head}"
    );
    assert!(row.starts_with("up,12,1,1,768,3072,64,4,18752,18432,320,"), "{row}");
}

#[test]
fn wrong_files_are_refused_in_one_line() {
    let b = Bench::new();
    let line = "simulate --compat mixpe-sim --config conf.ini --topology layers.csv";
    let good = format!("{HEAD}up,12,1,1,768,3072,64,4\n");
    let design = DESIGNS[0].1;
    let small = ini(design).replace("262144", "16384");
    for (config, topology, argument, found) in [
        (ini([64, 64, 8, 2]), good.clone(), "--config", "8/2 in conf.ini"),
        (
            ini(design).replace("a = 64", "a = 0"),
            good.clone(),
            "--config",
            "a: a whole number from 1",
        ),
        (
            ini(design).replace("500000000", "1000"),
            good.clone(),
            "--config",
            "frequency: 500000000",
        ),
        (
            ini(design).replace("262144", "262145"),
            good.clone(),
            "--config",
            "Act_SRAM: a multiple of 2048",
        ),
        (
            ini(design).replace("Out_SRAM = 131072", "Out_SRAM = 65536"),
            good.clone(),
            "--config",
            "Out_SRAM: 131072",
        ),
        (
            small,
            good.clone(),
            "--config",
            "Act_SRAM: 32 banks that CACTI's table has",
        ),
        (
            ini(design),
            "Layer, M, N, K,\na, 1, 2, 3,\n".into(),
            "--topology",
            "Layer,M,N,K,",
        ),
        (
            ini(design),
            format!("{HEAD}up,12,1,1,768,3072,64,16\n"),
            "--topology",
            "bits = 16 of layer `up`",
        ),
        (
            ini(design),
            format!("{HEAD}up,12,1,1,0,3072,64,4\n"),
            "--topology",
            "input_channels = 0",
        ),
        (
            ini(design),
            format!("{HEAD}up,12,1,1,x,3072,64,4\n"),
            "--topology",
            "line: 2",
        ),
        (ini(design), HEAD.into(), "--topology", "none in layers.csv"),
        (
            ini(design),
            format!("{HEAD}up,1,1024,16384,4194304,4194304,65536,8\n"),
            "--config",
            "layer `up`",
        ),
    ] {
        fs::write(b.path("conf.ini"), config).unwrap();
        fs::write(b.path("layers.csv"), topology).unwrap();
        b.refused(line, argument, found);
    }
    b.refused(&format!("{line} --device mixpe-w4a8"), "--device", "both");
    b.refused(&format!("{line} --svg a.svg"), "--svg", "both");
}
