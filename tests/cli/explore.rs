//! `mixgemm explore` on a small space: its files, and what it refuses.

use crate::Bench;
use std::fs;

/// 2 designs of MixPE, one of INT8, one of FP16, on 2 arrays, for 2 numbers of rows: 16 points.
pub(crate) const SPACE: &str = "
[axes]
array = ['4x4', '8x8']
dataflow = ['os']
buffers_kib = ['64/32/32']
bandwidth_bits_per_cycle = [1024]
dram_pj_per_bit = [8]
m = [1, 32]
zero = ['integer']

[[design]]
device = ['mixpe-w4a8']
bits = [3, 4]
group = [32]
input = ['a8']
accumulator = ['i24']
dequantisation = ['after']

[[design]]
device = ['tpu-int8']
bits = [8]
group = ['channel']
zero = ['symmetric']
input = ['a8row']
accumulator = ['i32']
dequantisation = ['after']

[[design]]
device = ['fp16']
bits = [16]
group = ['channel']
input = ['f16']
accumulator = ['f32']
dequantisation = ['none']
";
const WORKLOAD: &str = "layer,m,n,k,count\nup,,96,64,2\ndown,,64,96,2\n";
pub(crate) const ARGUMENTS: &str = "--space space.toml --workload small.csv --tensors gaussian";

pub(crate) fn bench() -> Bench {
    let b = Bench::new();
    fs::write(b.path("space.toml"), SPACE).unwrap();
    fs::write(b.path("small.csv"), WORKLOAD).unwrap();
    b
}

pub(crate) fn explore(b: &Bench, arguments: &str) -> String {
    let out = b.run(&format!("explore {arguments}"));
    assert!(
        out.status.success(),
        "{arguments}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8(out.stdout).unwrap()
}

pub(crate) fn json(b: &Bench, arguments: &str) -> serde_json::Value {
    serde_json::from_str(&explore(b, &format!("{arguments} --json"))).unwrap()
}

/// The file's rows by the heads of its columns.
fn table(b: &Bench, name: &str) -> Vec<std::collections::HashMap<String, String>> {
    let mut reader = csv::Reader::from_path(b.path(name)).unwrap();
    reader.deserialize().map(|row| row.unwrap()).collect()
}

#[test]
fn a_small_space_gives_tables_drawings_and_a_frontier() {
    let b = bench();
    let text = explore(&b, &format!("{ARGUMENTS} --out lab"));
    let parts = [
        "16 points of small on mixgemm",
        "fidelity on gaussian",
        "frontier at equal peak, M = 32, 28 nm, DRAM 8 pJ/bit; efficiency is estimated, FP16 array = 1",
        "2.29",
        "4.82",
        "mixpe-w4a8 i24",
        "what the figures rest on",
        "scratchpads (generated): CACTI 7",
        "lab/points.csv",
    ];
    for part in parts {
        assert!(text.contains(part), "{part}: {text}");
    }
    let tables = text.split("what the figures rest on").next().unwrap();
    assert!(tables.lines().all(|line| line.chars().count() <= 120), "{tables}");
    let points = table(&b, "lab/points.csv");
    assert_eq!(points.len(), 16);
    for row in &points {
        let figure = |name: &str| -> f64 { row[name].parse().unwrap() };
        let energy: f64 = ["static_pj", "dram_pj", "buffers_pj", "core_pj", "dequantisation_pj"]
            .map(figure)
            .iter()
            .sum();
        assert!(
            (energy * 1e-9 / figure("seconds") / figure("power_mw") - 1.0).abs() < 1e-9,
            "{row:?}"
        );
        assert_eq!(figure("macs"), figure("m") * f64::from(4 * 96 * 64));
        assert!(figure("stall_cycles") < figure("cycles") && figure("area_mm2") > 0.0);
        assert!((figure("seconds") * 500e6 / figure("cycles") - 1.0).abs() < 1e-9);
        // FP16 of equal peak is FP16, and of equal area too.
        if row["device"] == "fp16" {
            assert_eq!(
                (figure("efficiency_equal_peak"), figure("efficiency_equal_area")),
                (1.0, 1.0)
            );
            assert!(figure("fidelity_db") > 60.0);
        }
        if row["device"] == "mixpe-w4a8" && row["bits"] == "4" {
            assert!(figure("efficiency_equal_peak") > 1.0 && figure("element_efficiency") > 10.0);
        }
    }
    let frontier = table(&b, "lab/frontier.csv");
    assert!(
        frontier
            .iter()
            .any(|row| row["view"] == "equal-area" && row["m"] == "32")
    );
    let beaten = |row: &std::collections::HashMap<String, String>| {
        let figures = |r: &std::collections::HashMap<String, String>| -> (f64, f64) {
            (
                r["fidelity_db"].parse().unwrap(),
                r["efficiency_equal_peak"].parse().unwrap(),
            )
        };
        let own = figures(row);
        points.iter().filter(|other| other["m"] == row["m"]).any(|other| {
            let other = figures(other);
            other.0 > own.0 + 0.01 && other.1 > own.1 * 1.001
        })
    };
    let on_frontier = |row: &&std::collections::HashMap<String, String>| row["view"] == "equal-peak";
    assert!(!frontier.iter().filter(on_frontier).any(beaten));
    let fidelities = table(&b, "lab/fidelity.csv");
    assert_eq!(fidelities.len(), 4);
    let first = ["zero", "input", "accumulator", "dequantisation"].map(|column| fidelities[0][column].as_str());
    assert_eq!(first, ["integer", "a8", "i24", "after"]);

    for name in ["fidelity-efficiency", "energy-split", "cycles-by-layer"] {
        let svg = fs::read_to_string(b.path(&format!("lab/{name}.svg"))).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>") && svg.contains("M = 32"));
        let png = fs::read(b.path(&format!("lab/{name}.png"))).unwrap();
        assert!(png.starts_with(b"\x89PNG\r\n\x1a\n") && png.len() > 10_000);
    }
    let drawing = fs::read_to_string(b.path("lab/fidelity-efficiency.svg")).unwrap();
    for part in [
        "published (heuristic)",
        "their dB are scores,",
        "a  FP16 x FP16: 1x",
        "b  INT4 x FP16 dequantised: 1x",
        "c  MixPE W4A16: 4.82x",
        "d  INT8 x INT8: 58.28x",
        "e  INT4 x INT8 dequantised: 58.28x",
        "f  MixPE W4A8: 133.38x",
        "equal area",
        "tpu-int8",
    ] {
        assert!(drawing.contains(part), "{part}");
    }
}

/// What is infeasible is counted by reason, and the rest explored: 5-bit weights that an element does not take, sums that
/// an accumulator does not hold.
#[test]
fn infeasible_points_are_counted_by_reason() {
    let b = bench();
    let space = SPACE
        .replace("bits = [3, 4]", "bits = [3, 5]")
        .replace("'i32'", "'i16'");
    fs::write(b.path("space.toml"), space).unwrap();
    let text = explore(&b, &format!("{ARGUMENTS} --out lab"));
    assert!(
        text.contains("8 points of small") && text.contains("8 more points are infeasible"),
        "{text}"
    );
    let bits = "4 x bits: expected 1 to 4, found 5 for mixpe-w4a8";
    assert!(
        text.contains(bits) && text.contains("4 x element.accumulator: "),
        "{text}"
    );
    let reasons = table(&b, "lab/infeasible.csv");
    assert_eq!(reasons.len(), 2);
    assert_eq!((&*reasons[0]["points"], &*reasons[0]["bits"]), ("4", "5"));
    let found = json(&b, &format!("{ARGUMENTS} --out lab"));
    assert_eq!((&found["points"], &found["points_infeasible"]), (&8.into(), &8.into()));
    assert_eq!(found["infeasible"][1]["points"], 4);
    assert!(!found["origins"].as_array().unwrap().is_empty());
    assert_eq!(table(&b, "lab/points.csv").len(), 8);

    let space = SPACE
        .replace("array = ['4x4', '8x8']", "array = ['4x4']")
        .replace("'64/32/32'", "'1/1/1'");
    fs::write(b.path("space.toml"), space).unwrap();
    let out = b.run(&format!("explore {ARGUMENTS} --out none"));
    let line = String::from_utf8(out.stderr).unwrap();
    assert!(
        out.status.code() == Some(2) && line.contains("--space: expected at least one point"),
        "{line}"
    );
}

/// An NPU has a latency model and no parts with prices: in a space it is infeasible, with that as the reason.
#[test]
fn an_npu_has_no_place_in_a_space() {
    let b = bench();
    let npu = SPACE.replace("['tpu-int8']", "['npu', 'tpu-int8']");
    fs::write(b.path("space.toml"), &npu).unwrap();
    let text = explore(&b, &format!("{ARGUMENTS} --out lab"));
    let reason = "4 x device: expected an accelerator with the cost of its parts (that of an NPU is the time of its latency \
                  model), found npu";
    assert!(text.contains("16 points of small") && text.contains(reason), "{text}");
    let alone = SPACE
        .split("[[design]]")
        .enumerate()
        .filter(|(i, _)| [0, 2].contains(i));
    let alone: Vec<&str> = alone.map(|(_, part)| part).collect();
    fs::write(
        b.path("space.toml"),
        alone.join("[[design]]").replace("tpu-int8", "npu"),
    )
    .unwrap();
    b.refused(&format!("explore {ARGUMENTS} --out none"), "device", "found npu");
}

#[test]
fn tensors_of_a_file_and_layers_with_rows_of_their_own() {
    let b = bench();
    // `down` has inputs of its own, `up` has none.
    let tensors = [
        ("up.weight", [6, 64]),
        ("down.weight", [5, 32]),
        ("down.input", [3, 32]),
        ("bias.weight", [1, 0]),
    ];
    let data = tensors.map(|(_, [r, c])| crate::rounded::<mixgemm::f16>(&crate::varied(r, c, r)));
    let bytes = data.map(|m| m.data().iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>());
    let views = tensors.iter().zip(&bytes).map(|((name, shape), bytes)| {
        let view = safetensors::tensor::TensorView::new(safetensors::tensor::Dtype::F16, shape.to_vec(), bytes);
        (*name, view.unwrap())
    });
    fs::write(
        b.path("own.safetensors"),
        safetensors::tensor::serialize(views, None).unwrap(),
    )
    .unwrap();
    fs::write(b.path("small.csv"), "layer,m,n,k,count\nhead,2,96,64,1\n").unwrap();
    let found = json(
        &b,
        "--space space.toml --workload small.csv --weights own.safetensors --out lab",
    );
    // One value of m is left, and the file's counts.
    assert_eq!(found["points"], 8);
    assert_eq!(found["frontiers"][0]["rows"][0]["macs"], 2 * 96 * 64);
    let (name, note) = (
        found["tensors"].as_str().unwrap(),
        found["tensors_note"].as_str().unwrap(),
    );
    assert!(
        name.contains("own.safetensors: down.weight (3, 5, 32), up.weight (16, 6, 64)"),
        "{name}"
    );
    assert!(
        note.contains("Gaussian inputs for up.weight") && !note.contains("down"),
        "{note}"
    );
    // A merge, and a run that goes on, know it too.
    for i in 1..=2 {
        let files = "--space space.toml --workload small.csv --weights own.safetensors";
        explore(&b, &format!("{files} --out parts --shard {i}/2"));
    }
    assert_eq!(json(&b, "--merge parts --out merged")["tensors_note"], note);
    let text = explore(&b, "--merge parts --out merged");
    assert!(text.contains(&format!("measured on {note}")), "{text}");
}

#[test]
fn the_built_in_space_can_be_printed_and_read() {
    let b = bench();
    let space = explore(&b, "--print-space");
    assert!(space.contains("[axes]") && mixgemm::dse::space::Space::from_toml(&space).is_ok());
}

#[test]
fn bad_input_gives_one_line_and_no_file() {
    let b = bench();
    fs::write(b.path("bad.toml"), SPACE.replace("bits = [8]", "bits = [12]")).unwrap();
    fs::write(b.path("odd.toml"), SPACE.replace("array =", "arrays =")).unwrap();
    let nothing = "[[design]]\ndevice = ['mixpe-w4a8']\nbits = [5]\ngroup = [32]\nzero = ['integer']\ninput = ['a8']\n\
                   accumulator = ['i24']\ndequantisation = ['after']\n";
    fs::write(b.path("wide.toml"), nothing).unwrap();
    fs::write(b.path("abacus.toml"), SPACE.replace("'tpu-int8'", "'abacus'")).unwrap();
    fs::write(b.path("bad.csv"), "layer,m,n,k,count\nup,,0,64,2\n").unwrap();
    for (arguments, argument, found) in [
        (String::new(), "--out <DIR>", "none"),
        (format!("{ARGUMENTS} --out t.safetensors"), "--out", "t.safetensors"),
        ("--workload gpt --out lab".into(), "--workload", "gpt"),
        ("--workload gone.csv --out lab".into(), "--workload", "no such file"),
        (
            "--workload bad.csv --out lab".into(),
            "--workload",
            "n = 0 in layer `up`",
        ),
        ("--space gone.toml --out lab".into(), "--space", "no such file"),
        ("--space bad.toml --out lab".into(), "--space: bits", "12 in design 2"),
        ("--space odd.toml --out lab".into(), "--space", "unknown field `arrays`"),
        (
            "--space wide.toml --tensors gaussian --out lab".into(),
            "bits",
            "found 5",
        ),
        (
            "--space abacus.toml --tensors gaussian --out lab".into(),
            "--space: device",
            "abacus in design 2",
        ),
        (
            "--weights t.safetensors --out lab".into(),
            "--weights",
            "none in t.safetensors",
        ),
        (
            "--weights gone.safetensors --out lab".into(),
            "--weights",
            "no such file",
        ),
        ("--shard 3/2 --out lab".into(), "--shard", "3/2"),
        ("--merge gone --out lab".into(), "--merge", "gone"),
        ("--merge gone --shard 1/2 --out lab".into(), "--merge", "both"),
        ("--tensors noise --out lab".into(), "--tensors", "noise"),
    ] {
        b.refused(&format!("explore {arguments}"), argument, found);
    }
}
