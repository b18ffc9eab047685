//! Where `embed` has static scales and shadows from.

use super::{TINY, embed, embeddings, published, texts};
use crate::Bench;
use serde_json::Value;
use std::fmt::Write;
use std::fs;

const FIXED: &str = "--mode a8static --split shadow";

fn mean(found: &Value) -> f64 {
    found["mean_cosine"].as_f64().unwrap()
}

/// The linears by whether they keep their shadow.
fn shadows(found: &Value) -> Vec<bool> {
    let linears = found["linears"].as_array().unwrap().iter();
    linears
        .map(|row| row["calibrated"]["shadow"].as_bool().unwrap())
        .collect()
}

/// `calibrate` on the inputs that `embed` saves finds what `embed` finds on the same text.
#[test]
fn a_file_by_calibrate_is_that_of_the_same_texts() {
    let b = Bench::new();
    assert!(
        b.run(&format!("embed --model {TINY} cats --save-activations a.safetensors"))
            .status
            .success()
    );
    let mut layers = String::new();
    for layer in 0..2 {
        for name in [
            "attention.self.query",
            "attention.self.key",
            "attention.self.value",
            "attention.output.dense",
            "intermediate.dense",
            "output.dense",
        ] {
            let name = format!("encoder.layer.{layer}.{name}");
            let file = format!("{TINY}/model.safetensors");
            write!(
                layers,
                " --weights {file}:{name}.weight --input a.safetensors:{name}.input"
            )
            .unwrap();
        }
    }
    let file = b.path("CAL.json").display().to_string();
    for options in [
        "--scale channels:5",
        "--scale percentile:97 --prune 0.5",
        "--scale max --prune 0.25",
        "--ratio 2",
    ] {
        let out = b.run(&format!("calibrate {layers} --output CAL.json --force {options}"));
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let of_file = embed(TINY, &["the cat", "dogs ran"], &format!("{FIXED} --calibration {file}"));
        let of_text = embed(
            TINY,
            &["the cat", "dogs ran"],
            &format!("{FIXED} --calibrate-on cats {options}"),
        );
        assert_eq!(embeddings(&of_file), embeddings(&of_text), "{options}");
        assert_eq!(of_file["linears"], of_text["linears"], "{options}");
        assert_eq!(of_file["calibration"], file.as_str());
    }
    let with = |from: &str, to: &str| {
        let text = fs::read_to_string(b.path("CAL.json")).unwrap();
        fs::write(b.path("bad.json"), text.replace(from, to)).unwrap();
    };
    with("encoder.layer.1.output.dense.weight", "other");
    let line = format!("embed --model {TINY} cat {FIXED} --calibration");
    b.refused(&format!("{line} bad.json"), "--calibration", "entries for ");
    with("\"k\": 64", "\"k\": 65");
    b.refused(&format!("{line} bad.json"), "--calibration", "K = 65");
    b.refused(&format!("{line} gone.json"), "--calibration", "no such file");
    b.refused(&format!("{line} CAL.json --calibrate-on dog"), "--calibration", "both");
    let wide = line.replace("a8static --split shadow", "a8");
    b.refused(&format!("{wide} CAL.json"), "--calibration", "a8");
}

/// Without any shadow the shadow split is clamping, with all of them it is the whole split.
#[test]
fn pruned_layers_are_clamped() {
    let rows = published("tiny-bert/embeddings.json");
    let fixed = "--mode a8static --calibrate-on cat --calibrate-on running --scale channels:3";
    let run = |options: &str| embed(TINY, &texts(&rows), &format!("{fixed} {options}"));
    let [none, shadow] = ["--split none", "--split shadow"].map(run);
    let [all, half, nobody] = ["1", "0.5", "0"].map(|f| run(&format!("--split shadow --prune {f}")));
    assert_eq!(embeddings(&all), embeddings(&none));
    assert_eq!(embeddings(&nobody), embeddings(&shadow));
    assert_eq!(shadows(&all), [false; 12]);
    assert_eq!(shadows(&half).iter().filter(|&&shadow| shadow).count(), 6);
    assert!(mean(&none) < mean(&half) && mean(&half) < mean(&shadow));
    let ratio = run("--split shadow --ratio 1e9");
    assert_eq!(shadows(&ratio), [false; 12]);
    let b = Bench::new();
    let out = b.run(&format!("embed --model {TINY} dogs {fixed} --split shadow --prune 0.5"));
    let text = String::from_utf8(out.stdout).unwrap();
    for words in ["shadow", " yes ", " no ", "else clamped"] {
        assert!(text.contains(words), "{words} in {text}");
    }
    let line = format!("embed --model {TINY} dogs");
    b.refused(&format!("{line} --prune 0.5"), "--prune", "none");
    b.refused(&format!("{line} --ratio 8"), "--ratio", "none");
    let fixed = format!("{line} --mode a8static --calibrate-on cat");
    b.refused(&format!("{fixed} --prune 2"), "--prune", "2");
    b.refused(&format!("{fixed} --prune 0.5"), "--prune", "none");
    b.refused(&format!("{fixed} --ratio 8 --scale budget:1"), "--ratio", "budget");
}

/// One budget for all linears: at most so many channels on the texts that it is calibrated on, and the more the closer.
#[test]
fn a_budget_of_channels_goes_where_it_helps() {
    let rows = published("tiny-bert/embeddings.json");
    let run = |options: &str| {
        let calibrated = "--calibrate-on cat --calibrate-on running";
        embed(TINY, &texts(&rows), &format!("{FIXED} {calibrated} --scale {options}"))
    };
    let channels = |found: &Value| -> usize {
        let linears = found["linears"].as_array().unwrap().iter();
        linears
            .map(|row| row["calibrated"]["channels"].as_array().unwrap().len())
            .sum()
    };
    let [none, few, many] = ["budget:0", "budget:3", "budget:10"].map(run);
    // 10 linears with 32 inputs and 2 with 64.
    assert_eq!(channels(&none), 0);
    assert!((1..=13).contains(&channels(&few)), "{}", channels(&few));
    assert!((14..=44).contains(&channels(&many)), "{}", channels(&many));
    assert_eq!(embeddings(&none), embeddings(&run("max")));
    assert!(mean(&none) < mean(&few) && mean(&few) < mean(&many));
    let b = Bench::new();
    let line = format!("embed --model {TINY} dogs {FIXED} --calibrate-on cat --scale");
    for bad in ["budget:100", "budget:-1", "budget:", "budget"] {
        b.refused(&format!("{line} {bad}"), "--scale", bad);
    }
}
