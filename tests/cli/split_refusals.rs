//! Calibrations and options of splits that are refused.

use crate::calibration::{CALIBRATE, bench, file};
use serde_json::Value;
use std::fs;

#[test]
fn bad_calibrations_and_splits_are_refused() {
    let b = bench();
    let calibrated = b.run(&format!("{CALIBRATE} --scale percentile:99"));
    assert!(calibrated.status.success());
    let text = fs::read_to_string(b.path("CAL.json")).unwrap();
    let mut layers = file(&b);
    layers["layers"]["w32"]["k"] = 99.into();
    layers["layers"]["w32"]["channels"] = serde_json::json!([]);
    let edited = |key: &str, value: Value| {
        let mut found = file(&b);
        found["layers"]["w32"][key] = value;
        found.to_string()
    };
    for (name, text) in [
        ("short.json", text[..text.len() / 2].to_string()),
        ("old.json", text.replace("\"version\": 1", "\"version\": 7")),
        ("k.json", layers.to_string()),
        ("scale.json", edited("scale", (-1.0).into())),
        ("huge.json", edited("max", 1e39.into())),
        ("channel.json", edited("channels", serde_json::json!([[70, 1]]))),
        ("count.json", edited("channels", serde_json::json!([[7, 6]]))),
        ("extra.json", edited("colour", "red".into())),
        ("empty.json", r#"{"version": 1, "layers": {}}"#.into()),
        ("list.json", "[]".into()),
    ] {
        fs::write(b.path(name), text).unwrap();
    }
    let a = "matmul --weights t.safetensors:w32 --input a.safetensors:x --bits 8 --group tensor --output y.safetensors";
    let s = format!("{a} --mode a8static");
    for (arguments, argument, found) in [
        (format!("{s} --calibration short.json"), "--calibration", "short.json"),
        (format!("{s} --calibration old.json"), "--calibration", "7"),
        (format!("{s} --calibration k.json"), "--calibration", "K = 99"),
        (
            format!("{s} --calibration scale.json"),
            "--calibration",
            "`layers.w32.scale`",
        ),
        (
            format!("{s} --calibration huge.json"),
            "--calibration",
            "`layers.w32.max`",
        ),
        (
            format!("{s} --calibration channel.json"),
            "--calibration",
            "`layers.w32.channels`",
        ),
        (
            format!("{s} --calibration count.json"),
            "--calibration",
            "`layers.w32.channels`",
        ),
        (format!("{s} --calibration extra.json"), "--calibration", "colour"),
        (format!("{s} --calibration empty.json"), "--calibration", "no entries"),
        (
            format!("{s} --calibration a.safetensors"),
            "--calibration",
            "a.safetensors, which is no JSON",
        ),
        (
            format!("{s} --calibration CAL.json --split shadow --outlier-weights f16"),
            "--outlier-weights",
            "shadow",
        ),
        (format!("{s} --calibration CAL.json --hot 3"), "--hot", "none"),
        (
            format!("{s} --calibration CAL.json --split shadow --hot few"),
            "--hot",
            "few",
        ),
        (
            format!("{s} --calibration CAL.json --split shadow --hot 101%"),
            "--hot",
            "101%",
        ),
        (
            format!("{s} --input-scale t.safetensors:scale --split shadow --hot 3"),
            "--hot",
            "none",
        ),
        (format!("{a} --mode a8 --split mixed --hot 3"), "--hot", "none"),
        (
            format!("{s} --calibration list.json"),
            "--calibration",
            "list.json, which is no JSON",
        ),
        (
            format!("{s} --calibration missing.json"),
            "--calibration",
            "no such file",
        ),
        (
            format!("{} --calibration CAL.json", s.replace("w32", "wbf")),
            "--calibration",
            "entries for w32",
        ),
        (
            format!("{s} --calibration CAL.json --input-scale t.safetensors:scale"),
            "--calibration",
            "both",
        ),
        (format!("{s} --calibration CAL.json"), "--input", "at column 3"),
        (s.clone(), "--calibration", "none"),
        (format!("{a} --mode a8 --calibration CAL.json"), "--calibration", "a8"),
        (format!("{a} --mode a8 --split shadow"), "--split", "a8"),
        (format!("{a} --mode exact --split mixed"), "--split", "exact"),
        (
            format!("{s} --calibration CAL.json --split shadow --saturate"),
            "--saturate",
            "shadow",
        ),
        (
            format!("{s} --calibration CAL.json --split shadow --outlying above:3"),
            "--outlying",
            "shadow",
        ),
        (
            format!("{s} --calibration CAL.json --split mixed --outlying far"),
            "--outlying",
            "far",
        ),
        (
            format!("{s} --calibration CAL.json --split mixed --outlying above:-1"),
            "--outlying",
            "above:-1",
        ),
        (
            format!("{a} --mode a8 --split mixed --outlying calibrated"),
            "--outlying",
            "none",
        ),
        (
            format!("{s} --calibration CAL.json --split shadow --pack-cache ."),
            "--pack-cache",
            "--split shadow",
        ),
    ] {
        b.refused(&arguments, argument, found);
    }
}

#[test]
fn a_split_refuses_a_tier_that_there_is_not() {
    let b = bench();
    assert!(b.run(CALIBRATE).status.success());
    let mut program = b.command(
        "matmul --weights t.safetensors:w32 --input a.safetensors:x --bits 8 --group tensor --mode a8static \
         --calibration CAL.json --split shadow --backend tpu-int8 --output y.safetensors",
    );
    let out = program.env("MIXGEMM_ISA", "abacus").output().unwrap();
    let line = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(2), "{line}");
    assert!(
        line.starts_with("error: MIXGEMM_ISA: expected ") && line.contains("abacus"),
        "{line}"
    );
}
