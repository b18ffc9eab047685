//! Emulated devices on the command line: what they bring to `simulate`, what `matmul` says they cost, and their names.

use crate::Bench;
use crate::simulate::{PRODUCTS, config, json};
use serde_json::Value;
use std::fs;

/// A device's widths and prices on the configuration's array.
#[test]
fn devices_bring_widths_and_energies() {
    let b = Bench::new();
    fs::write(b.path("scale.cfg"), config("32", "32", "os", "Bandwidth: 16", "USER")).unwrap();
    fs::write(b.path("layers.csv"), format!("{PRODUCTS}a,4,512,512\nb,64,512,256\n")).unwrap();
    let files = "--config scale.cfg --topology layers.csv";
    let tpu = json(&b, &format!("{files} --device tpu"));
    let mixpe = json(&b, &format!("{files} --device mixpe-w4a8"));
    assert_eq!(tpu["device"]["name"], "tpu-int8");
    assert_eq!(tpu["device"]["memory"]["output"]["bytes"], 65_536);
    assert!(!tpu["origins"].as_array().unwrap().is_empty() && tpu["area_mm2"].as_f64().unwrap() > 0.0);
    for (key, least, most) in [
        // Weights of half the bits, and then some for scales.
        ("dram_filter_read_bits", 0.5, 0.55),
        // An f32 scale for 128 activations in place of one for a row of 512.
        ("dram_ifmap_read_bits", 8.25 / 8.0625, 8.25 / 8.0625),
        ("energy_core_pj", 0.1, 0.99),
    ] {
        let ratio = mixpe["rows"][0][key].as_f64().unwrap() / tpu["rows"][0][key].as_f64().unwrap();
        assert!((least..=most).contains(&ratio), "{key}: {ratio}");
    }
    let number = |report: &Value, key: &str| report[key].as_f64().unwrap();
    for report in [&tpu, &mixpe] {
        for part in report["rows"].as_array().unwrap().iter().chain([&report["totals"]]) {
            let names = ["static", "dram", "buffers", "core", "dequantisation"];
            let sum: f64 = names
                .iter()
                .map(|name| number(part, &format!("energy_{name}_pj")))
                .sum();
            assert!((sum / number(part, "energy_total_pj") - 1.0).abs() < 1e-12);
        }
        let row = &report["rows"][1];
        assert_eq!(
            (
                number(row, "dram_read_pj_per_bit"),
                number(row, "dram_write_pj_per_bit")
            ),
            (15.0, 15.0)
        );
        assert_eq!(number(row, "seconds"), number(row, "cycles") / 500e6);
        let power = 1e-9 * number(row, "energy_total_pj") / number(row, "seconds");
        assert!((power / number(row, "power_mw") - 1.0).abs() < 1e-12);
    }
    // Scales and zero points one by one, and the M from which on they should be applied before the array.
    let scaling = mixpe["scaling"].as_array().unwrap();
    let sum: f64 = scaling.iter().map(|line| number(line, "energy_pj")).sum();
    assert!((sum / number(&mixpe["totals"], "energy_dequantisation_pj") - 1.0).abs() < 1e-12);
    assert_eq!(scaling[0]["work"], "sums scaled");
    assert_eq!(scaling[0]["count"], (4 + 64 / 2) * 512 * 4);
    assert_eq!(mixpe["rows"][0]["crossover_m_by_count"], Value::Null);
    fs::write(b.path("ws.cfg"), config("32", "32", "ws", "Bandwidth: 16", "USER")).unwrap();
    let kept = json(&b, "--config ws.cfg --topology layers.csv --device mixpe-w4a8");
    assert_eq!(kept["rows"][0]["crossover_m_by_count"], 129);
    let first = json(&b, "--config ws.cfg --topology layers.csv --device dequant-w4a8");
    assert_eq!(first["scaling"][0]["work"], "weights scaled before the array");
    assert_eq!(first["scaling"][0]["count"], 512 * 512 + 512 * 256);
    let out = b.run("simulate --config ws.cfg --topology layers.csv --device mixpe-w4a8");
    let text = String::from_utf8(out.stdout).unwrap();
    for expected in ["zero points corrected", "from M on", "129"] {
        assert!(text.contains(expected), "{expected}:\n{text}");
    }
    // The same in a file of one's own, and in a table.
    fs::write(b.path("own.toml"), "name = 'own'\nbase = 'tpu-int8'\nclock_mhz = 1000").unwrap();
    let own = json(&b, &format!("{files} --device own.toml"));
    assert_eq!(
        number(&own["rows"][0], "seconds"),
        number(&tpu["rows"][0], "seconds") / 2.0
    );
    let out = b.run(&format!("simulate {files} --device own.toml --csv rows.csv"));
    let text = String::from_utf8(out.stdout).unwrap();
    for expected in [
        "own, simulated at 1000 MHz",
        "energy",
        "pJ per bit read",
        "what the figures rest on",
        "(published)",
    ] {
        assert!(text.contains(expected), "{expected}:\n{text}");
    }
    // Tables fit a terminal.
    let tables = text.split("what the figures rest on").next().unwrap();
    assert!(tables.lines().all(|line| line.chars().count() <= 120), "{tables}");
    assert!(
        fs::read_to_string(b.path("rows.csv"))
            .unwrap()
            .lines()
            .next()
            .unwrap()
            .ends_with(",power_mw,crossover_m_by_count,crossover_m_by_energy")
    );

    fs::write(b.path("bad.toml"), "base = 'tpu-int8'\n[memory.weight]\nbyte = 1").unwrap();
    for (device, found) in [
        ("mix", "found `mix`"),
        (
            "npu",
            "is the time of its latency model); `matmul --backend npu` prints its times, found npu",
        ),
        ("npu+groups", "`matmul --backend npu+groups` prints its times"),
        ("abacus", "FILE.toml, or one of mixpe, mixpe-w4a8, "),
        ("gone.toml", "no such file"),
        ("bad.toml", "unknown field `byte`"),
    ] {
        b.refused(&format!("simulate {files} --device {device}"), "--device", found);
    }
}

/// One set of names: what `matmul --backend` takes beside the host, `simulate --device` takes, and the names of a series stand
/// for its usual accelerator.
#[test]
fn backends_and_devices_have_the_same_names() {
    let b = Bench::new();
    fs::write(b.path("scale.cfg"), config("32", "32", "os", "Bandwidth: 16", "USER")).unwrap();
    fs::write(b.path("layers.csv"), format!("{PRODUCTS}a,4,512,512\n")).unwrap();
    let files = "--config scale.cfg --topology layers.csv";
    let listed = |arguments: &str, before: &str| {
        let out = b.run(arguments);
        let line = String::from_utf8(out.stderr).unwrap();
        let list = line.split_once(before).unwrap_or_else(|| panic!("{line}")).1;
        let list = list.split_once(", found").unwrap().0.to_string();
        list.split(", ").map(str::to_string).collect::<Vec<String>>()
    };
    let devices = listed(&format!("simulate {files} --device abacus"), "FILE.toml, or one of ");
    let tensors =
        "--weights t.safetensors:w --input t.safetensors:x --bits 4 --group 32 --output y.safetensors --force";
    let backends = listed(&format!("matmul {tensors} --backend abacus"), "--backend: expected ");
    assert_eq!(backends[0], "host");
    assert_eq!(backends[1..], devices);
    assert!(devices.len() > 18, "{devices:?}");
    for name in devices.iter().filter(|name| !name.starts_with("npu")) {
        let found = json(&b, &format!("{files} --device {name}"));
        let expected = match name.as_str() {
            "mixpe" => "mixpe-w4a8",
            "tpu" => "tpu-int8",
            "dequant" => "dequant-w4a16",
            whole => whole,
        };
        assert_eq!(found["device"]["name"], expected);
        // Without a mode both mean the same device.
        let out = b.run(&format!("matmul {tensors} --backend {name} --json"));
        let report: Value = serde_json::from_slice(&out.stdout).unwrap();
        let mode = match expected {
            "mixpe-w4a8" | "tpu-int8" => "a8",
            "mixpe-w4a16" => "exact",
            _ => "native",
        };
        let row = &report["rows"][0];
        assert_eq!(
            (&row["backend"], &row["mode"]),
            (&expected.into(), &mode.into()),
            "{name}"
        );
    }
    let npu = format!(
        "matmul {} --backend npu",
        tensors.replace("--group 32", "--group tensor")
    );
    b.refused(&npu, "--calibration", "none");
}

/// Codes of 4 bits on the INT8 array are widened once for every pass over them, which is a line of its own.
#[test]
fn widening_is_a_line_of_its_own() {
    let b = Bench::new();
    let tensors = "--weights t.safetensors:w --input t.safetensors:x --group 32 --output y.safetensors --force";
    for (bits, widened) in [(4, 9 * 70), (8, 0)] {
        let command = format!("matmul {tensors} --bits {bits} --backend tpu");
        let out = b.run(&format!("{command} --json"));
        let report: Value = serde_json::from_slice(&out.stdout).unwrap();
        let estimate = &report["rows"][0]["cost"]["estimated"]["estimate"];
        assert_eq!(estimate["scalings"]["widenings"], widened);
        assert_eq!(estimate["scaling_pj"]["widenings"].as_f64() > Some(0.0), widened > 0);
        let text = String::from_utf8(b.run(&command).stdout).unwrap();
        let line = text
            .lines()
            .find(|line| line.contains("codes widened before the array"));
        assert_eq!(
            line.map(|line| line.contains(" 630 codes")),
            (widened > 0).then_some(true),
            "{text}"
        );
        assert!(text.contains("sums scaled"), "{text}");
    }
}
