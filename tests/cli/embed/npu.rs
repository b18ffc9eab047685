//! `embed` on the emulated NPU: the bits of the host, and the time of one device for all linears.

use super::{TINY, embeddings, texts};
use crate::Bench;
use serde_json::Value;
use std::fs;

/// Linears of the model.
const LINEARS: f64 = 12.0;

fn profile(window: u64) -> String {
    format!(
        "name = 'mine'
        source = 'made up'
        window_bytes = {window}
        setup_ms = 100
        product = {{ launch_ms = 0.5, weight_bytes_per_ms = 1e6, macs_per_ms = 1e9, flat_penalty = 0 }}
        graph = {{ build_ms = 2, optimise_ms = 0, optimise_exponent = 1, free_ms = 3 }}
        groups = {{ sum_ns = 1000 }}"
    )
}

fn run(b: &Bench, arguments: &str) -> Value {
    let out = b.run(&format!("embed --model {TINY} --json {arguments}"));
    let error = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && error.is_empty(), "{arguments}: {error}");
    let mut found: Value = serde_json::from_slice(&out.stdout).unwrap();
    found["found"].take()
}

fn ms(found: &Value, key: &str) -> f64 {
    found["npu"][key]
        .as_f64()
        .unwrap_or_else(|| panic!("{key} in {}", found["npu"]))
}

#[test]
fn all_linears_share_one_device() {
    let b = Bench::new();
    // A linear of [M, 32] x [32, 32] takes 32·32 + M·32 + 4·M·32 bytes: 8000 hold two of some ten rows.
    fs::write(b.path("wide.toml"), profile(1 << 32)).unwrap();
    fs::write(b.path("one.toml"), profile(8000)).unwrap();
    let fixed = "@@cat 'the dog --mode a8static --group tensor --calibrate-on cats --scale percentile:97";
    for split in ["none", "shadow", "mixed"] {
        let host = run(&b, &format!("{fixed} --split {split}"));
        assert!(host.get("npu").is_none());
        for fast in ["", "--fast"] {
            for (file, window) in [
                ("", 500.0),
                ("--profile wide.toml", 100.0),
                ("--profile one.toml", 100.0),
            ] {
                let npu = run(&b, &format!("{fixed} --split {split} --backend npu {file} {fast}"));
                assert_eq!(embeddings(&npu), embeddings(&host), "{split} {file} {fast}");
                assert_eq!(
                    (&npu["backend"], &npu["npu"]["emulated"]),
                    (&"npu".into(), &true.into())
                );
                assert_eq!(ms(&npu, "setup_ms"), window, "one environment for all linears");
            }
        }
    }
    let rows = run(&b, &format!("{fixed} --backend npu --profile wide.toml"));
    assert_eq!(
        (ms(&rows, "build_ms"), ms(&rows, "free_ms")),
        (2.0 * LINEARS, 3.0 * LINEARS)
    );
    // 12 launches, four matrices of 32 x 32 and two of 32 x 64 in each of two layers at 10^6 bytes and 10^9 steps a ms.
    let tokens: usize = rows["texts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["ids"].as_array().unwrap().len())
        .sum();
    let weights = 2.0 * (4.0 * 32.0 * 32.0 + 2.0 * 32.0 * 64.0);
    let expected = LINEARS * 0.5 + weights / 1e6 + tokens as f64 * weights / 1e9;
    assert!((ms(&rows, "execute_ms") - expected).abs() < 1e-9, "{}", rows["npu"]);
    let out = b.run(&format!("embed --model {TINY} {fixed} --backend npu"));
    let text = String::from_utf8(out.stdout).unwrap();
    for words in [
        "emulated by the latency model hexagon-8gen3",
        "all linears",
        "setup 500 ms",
        "table 3, NPU INT8",
    ] {
        assert!(text.contains(words), "{words} in {text}");
    }
    let grouped = fixed.replace("--group tensor", "--group 16");
    let npu = run(
        &b,
        &format!("{grouped} --split shadow --backend npu+groups --profile wide.toml"),
    );
    assert_eq!(
        embeddings(&npu),
        embeddings(&run(&b, &format!("{grouped} --split shadow")))
    );
    // 2 groups of 16 in ten linears, 4 in the two with 64 inputs.
    assert_eq!(ms(&npu, "build_ms"), 2.0 * (10.0 * 2.0 + 2.0 * 4.0));
    assert!(ms(&npu, "host_ms") > 0.0);
}

/// Batches of one shape share graphs as long as the window holds them; else they are built again.
#[test]
fn batches_of_a_shape_share_its_graphs() {
    let b = Bench::new();
    // 16 tokens with those at both ends; 256 texts fill a batch.
    let line = vec!["cat"; 14].join(" ");
    let lines = |count: usize| vec![line.as_str(); count].join("\n");
    fs::write(b.path("two.txt"), lines(512)).unwrap();
    fs::write(b.path("more.txt"), lines(513)).unwrap();
    fs::write(b.path("wide.toml"), profile(1 << 32)).unwrap();
    // Room for one graph of 4096 rows with 64 outputs: 32·64 + 4096·32 + 4·4096·64 bytes.
    fs::write(b.path("one.toml"), profile(1_181_696)).unwrap();
    let fixed = "--mode a8static --group tensor --calibrate-on dogs --scale max --fast";
    let host = embeddings(&run(&b, &format!("@two.txt {}", fixed.replace("--fast", ""))));
    assert_eq!(host.len(), 512);
    for (file, profile, builds) in [
        ("two.txt", "wide", LINEARS),
        ("two.txt", "one", 2.0 * LINEARS),
        ("more.txt", "wide", 2.0 * LINEARS),
        ("more.txt", "one", 3.0 * LINEARS),
    ] {
        let npu = run(&b, &format!("@{file} {fixed} --backend npu --profile {profile}.toml"));
        assert_eq!(embeddings(&npu)[..512], host, "{file} {profile}");
        assert_eq!(ms(&npu, "build_ms"), 2.0 * builds, "{file} {profile}");
        assert_eq!(ms(&npu, "free_ms"), 3.0 * builds, "{file} {profile}");
    }
}

#[test]
fn what_the_npu_does_not_take_is_refused() {
    let b = Bench::new();
    fs::write(b.path("small.toml"), profile(2500)).unwrap();
    let fixed = format!("embed --model {TINY} cat --mode a8static --calibrate-on dogs --backend npu");
    for (line, argument, found) in [
        (fixed.clone(), "--group", "a scale for every row"),
        (format!("{fixed} --group tensor --bits 4"), "--bits", "4"),
        (
            format!("{fixed} --group tensor --profile small.toml"),
            "graph of encoder.layer.0.intermediate.dense",
            "0 bytes, and 2912 more",
        ),
        (
            format!("{fixed} --group tensor --profile gone.toml"),
            "--profile",
            "no such file",
        ),
        (
            format!("embed --model {TINY} cat --profile small.toml"),
            "--profile",
            "host",
        ),
        (
            format!("embed --model {TINY} cat --group tensor --backend npu"),
            "--mode",
            "a8",
        ),
    ] {
        b.refused(&line, argument, found);
    }
    assert_eq!(
        texts(run(&b, "@@cat @@@dog")["texts"].as_array().unwrap()),
        ["@cat", "@@dog"]
    );
}
