//! `mixgemm calibrate`, and products that use what it found: with outliers clamped, as integers, as floats.

use crate::results::{bits, floats};
use crate::{Bench, K, M, N};
use mixgemm::Mat;
use mixgemm::base::float::fma;
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use serde_json::Value;
use std::fs;

/// Activations with one outlier each in channels 3 and 40: the largest magnitude is 508, all others are below 13.
pub(crate) fn outlying() -> Mat<f32> {
    Mat::from_fn(M, K, |r, k| match (r, k) {
        (2, 3) => -508.0,
        (4, 40) => 254.0,
        _ => ((r * 7 + k * 5) % 13) as f32 * if k % 2 == 0 { 1.0 } else { -0.75 },
    })
}

/// A bench whose `a.safetensors` has activations `x`, and others that are refused.
pub(crate) fn bench() -> Bench {
    let b = Bench::new();
    let x = outlying();
    let with = |value: f32| {
        let mut x = x.clone();
        x.view_mut().row_mut(1)[6] = value;
        x
    };
    let tensors = [
        ("x", x.clone()),
        ("xnan", with(f32::NAN)),
        ("xinf", with(f32::NEG_INFINITY)),
        ("none", Mat::zeros(M, K)),
    ];
    let bytes = tensors.map(|(name, x)| {
        let bytes: Vec<u8> = x.data().iter().flat_map(|v| v.to_le_bytes()).collect();
        (name, bytes)
    });
    let views = bytes
        .iter()
        .map(|(name, bytes)| (*name, TensorView::new(Dtype::F32, vec![M, K], bytes).unwrap()));
    fs::write(b.path("a.safetensors"), serialize(views, None).unwrap()).unwrap();
    b
}

/// Runs a command that prints JSON.
pub(crate) fn json(b: &Bench, arguments: &str) -> Value {
    let out = b.run(&format!("{arguments} --json"));
    assert!(
        out.status.success(),
        "{arguments}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    serde_json::from_slice(&out.stdout).unwrap()
}

fn file(b: &Bench) -> Value {
    serde_json::from_slice(&fs::read(b.path("CAL.json")).unwrap()).unwrap()
}

const CALIBRATE: &str = "calibrate --weights t.safetensors:w32 --input a.safetensors:x --output CAL.json";

#[test]
fn scales_and_counts_are_those_of_the_samples() {
    let b = bench();
    let report = json(&b, &format!("{CALIBRATE} --scale max"));
    assert_eq!(report["rows"][0]["outliers"], 0);
    let found = file(&b);
    assert_eq!(found["version"], 1);
    let layer = &found["layers"]["w32"];
    assert_eq!(
        (&layer["scale"], &layer["max"], &layer["k"]),
        (&4.0.into(), &508.0.into(), &K.into())
    );
    assert_eq!((&layer["rows"], &layer["shadow"]), (&M.into(), &true.into()));

    // 12 and less but for two of 350: 99 % of all magnitudes.
    let report = json(&b, &format!("{CALIBRATE} --scale percentile:99 --force"));
    assert_eq!(
        (&report["rows"][0]["outliers"], &report["rows"][0]["outlier_channels"]),
        (&2.into(), &2.into())
    );
    let layer = file(&b)["layers"]["w32"].clone();
    let scale = layer["scale"].as_f64().unwrap();
    assert!((12.0..12.1).contains(&(127.0 * scale)), "{scale}");
    assert_eq!(layer["channels"], serde_json::json!([[3, 1], [40, 1]]));

    // Twice the samples, in two tensors, have twice the rows and outliers.
    json(
        &b,
        &format!("{CALIBRATE} --input a.safetensors:x --scale percentile:99 --force"),
    );
    let twice = file(&b)["layers"]["w32"].clone();
    assert_eq!(
        (&twice["rows"], &twice["channels"]),
        (&(2 * M).into(), &serde_json::json!([[3, 2], [40, 2]]))
    );
    assert_eq!(twice["scale"], layer["scale"]);

    let least = json(&b, &format!("{CALIBRATE} --scale least-error --force"));
    assert_eq!(least["rows"][0]["scale_by"], "least-error");
    let text = String::from_utf8(b.run(&format!("{CALIBRATE} --force")).stdout).unwrap();
    assert!(
        text.contains("w32") && text.contains("percentile:99.9") && text.contains("CAL.json"),
        "{text}"
    );
}

#[test]
fn shadows_are_taken_from_layers_that_need_them_least() {
    let b = bench();
    let two = "calibrate --weights t.safetensors:w32 --input a.safetensors:x --weights t.safetensors:w --input \
               t.safetensors:x --output CAL.json --scale percentile:99 --force";
    let kept = |options: &str| {
        json(&b, &format!("{two} {options}"));
        let layers = file(&b)["layers"].clone();
        ["w", "w32"].map(|name| layers[name]["shadow"].as_bool().unwrap())
    };
    assert_eq!(kept(""), [true, true]);
    assert_eq!(kept("--prune 0.5"), [false, true], "w32's outliers lie farther out");
    assert_eq!(kept("--prune"), [false, false], "0.85 of 2 is 2");
    assert_eq!(kept("--prune 0"), [true, true]);
    // The 99.9th percentile is the maximum: 508 * 1 <= 508, and 508 * 1.5 > 508.
    assert_eq!(kept("--ratio 1"), [true, true]);
    assert!(!kept("--ratio 1.5")[1]);
}

/// What the files of a product say: levels `q − z` and scales of weights with one group, and the output.
struct Saved {
    levels: Vec<i64>,
    scales: Mat<f32>,
    output: Mat<f32>,
}

fn saved(b: &Bench) -> Saved {
    let path = b.path("y.safetensors");
    let bytes = fs::read(&path).unwrap();
    let codes = SafeTensors::deserialize(&bytes)
        .unwrap()
        .tensor("codes")
        .unwrap()
        .data()
        .to_vec();
    let zeros = floats(&path, "zeros");
    Saved {
        levels: codes
            .iter()
            .enumerate()
            .map(|(i, &q)| i64::from(q) - zeros.data()[i / K] as i64)
            .collect(),
        scales: floats(&path, "scales"),
        output: floats(&path, "output"),
    }
}

/// `rne(Σ level·v)·s·t` for integers v of the activations, then `fma(x, s·level, y)` for the floats taken out of them.
fn product(w: &Saved, x: &Mat<f32>, t: f32, keep: impl Fn(f32) -> (i64, bool)) -> Mat<f32> {
    Mat::from_fn(M, N, |m, n| {
        let (levels, s) = (&w.levels[n * K..][..K], w.scales.data()[n]);
        let row = x.view().row(m).iter().zip(levels);
        let sum: i64 = row.clone().map(|(x, level)| keep(x / t).0 * level).sum();
        let y = fma(sum as f32, s, 0.0) * t;
        row.filter(|(x, _)| keep(**x / t).1)
            .fold(y, |y, (x, &level)| fma(*x, s * level as f32, y))
    })
}

#[test]
fn a_calibrated_product_clamps_or_keeps_outliers() {
    let b = bench();
    json(&b, &format!("{CALIBRATE} --scale percentile:99"));
    let t = file(&b)["layers"]["w32"]["scale"].as_f64().unwrap() as f32;
    let matmul = |options: &str| {
        json(
            &b,
            &format!(
                "matmul --weights t.safetensors:w32 --input a.safetensors:x --bits 8 --group channel --mode a8static \
                 --calibration CAL.json --output y.safetensors --save-quantized --force {options}"
            ),
        )["rows"][0]
            .clone()
    };
    let x = outlying();
    let integer = |v: f32| v.round_ties_even() as i64;
    let far = |v: f32| integer(v).abs() > 127;

    let clamped = matmul("--saturate");
    let w = saved(&b);
    assert_eq!(
        bits(&w.output),
        bits(&product(&w, &x, t, |v| (integer(v).clamp(-127, 127), false)))
    );
    assert_eq!(clamped["outliers"], Value::Null);

    for options in [
        "--split shadow",
        "--split shadow --threads 1",
        "--split shadow --backend tpu-int8",
    ] {
        let row = matmul(options);
        let w = saved(&b);
        assert_eq!(
            bits(&w.output),
            bits(&product(&w, &x, t, |v| (integer(v), false))),
            "{options}"
        );
        let outliers = &row["outliers"];
        assert_eq!(
            (&outliers["channels"], &outliers["activations"]),
            (&2.into(), &2.into())
        );
        assert_eq!(outliers["share_of_work"], 2.0 / (M * K) as f64);
        assert!(
            row["sqnr_db"].as_f64() > clamped["sqnr_db"].as_f64().map(|db| db + 10.0),
            "{row}"
        );
    }
    for options in [
        "--split mixed",
        "--split mixed --outlying calibrated:2",
        "--split mixed --outlying above:100",
    ] {
        matmul(options);
        let w = saved(&b);
        let expected = product(&w, &x, t, |v| if far(v) { (0, true) } else { (integer(v), false) });
        // Channels of the calibration leave whole, with their small values.
        let same = bits(&w.output) == bits(&expected);
        assert_eq!(same, !options.contains("calibrated"), "{options}");
        let error = w
            .output
            .data()
            .iter()
            .zip(expected.data())
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(error < 5.0, "{options}: {error}");
    }

    // A layer without a shadow is clamped.
    json(&b, &format!("{CALIBRATE} --scale percentile:99 --prune 1 --force"));
    let row = matmul("--split shadow");
    let w = saved(&b);
    assert_eq!(
        bits(&w.output),
        bits(&product(&w, &x, t, |v| (integer(v).clamp(-127, 127), false)))
    );
    assert_eq!(
        (&row["outliers"]["activations"], &row["outliers"]["pruned"]),
        (&0.into(), &true.into())
    );
}

#[test]
fn a_report_for_people_has_outliers_and_the_time_of_parts() {
    let b = bench();
    json(&b, &format!("{CALIBRATE} --scale percentile:99"));
    let out = b.run(
        "matmul --weights t.safetensors:w32 --input a.safetensors:x --bits 8 --group tensor --mode a8static \
         --calibration CAL.json --split shadow --output y.safetensors",
    );
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(
        text.contains("2 (0.6 % of the multiply-adds) in 2 of 70 channels (2.9 %), split: shadow"),
        "{text}"
    );
    assert!(
        text.contains("time of parts") && text.contains("more for outliers"),
        "{text}"
    );
}

#[test]
fn bad_samples_and_options_are_refused() {
    let b = bench();
    let w = "calibrate --weights t.safetensors:w32";
    for (arguments, argument, found) in [
        (
            format!("{w} --input a.safetensors:xnan -o C.json"),
            "--input",
            "NaN at row 1, column 6 in a.safetensors:xnan",
        ),
        (
            format!("{w} --input a.safetensors:xinf -o C.json"),
            "--input",
            "-inf at row 1",
        ),
        (
            format!("{w} --input a.safetensors:none -o C.json"),
            "--input",
            "a.safetensors:none",
        ),
        (
            format!("{w} --input t.safetensors:short -o C.json"),
            "--input",
            "K = 69 in t.safetensors:short",
        ),
        (
            format!("{w} --input t.safetensors:cube -o C.json"),
            "--input",
            "[1, 5, 70]",
        ),
        (format!("{w} --input t.safetensors:x8 -o C.json"), "--input", "i8"),
        (
            format!("{w} --input a.safetensors:nothing -o C.json"),
            "--input",
            "`nothing`",
        ),
        (
            format!("{w} --input missing.safetensors:x -o C.json"),
            "--input",
            "no such file",
        ),
        (
            "calibrate --weights t.safetensors:bias --input a.safetensors:x -o C.json".into(),
            "--weights",
            "[9]",
        ),
        (
            "calibrate --weights t.safetensors:nothing --input a.safetensors:x -o C.json".into(),
            "--weights",
            "`nothing`",
        ),
        (
            format!("calibrate --input a.safetensors:x {} -o C.json", &w[10..]),
            "--input",
            "before any",
        ),
        (
            format!("{w} {} --input a.safetensors:x -o C.json", &w[10..]),
            "--weights",
            "none after `w32`",
        ),
        (
            format!("{CALIBRATE} {} --input a.safetensors:x", &w[10..]),
            "--weights",
            "twice",
        ),
        (format!("{CALIBRATE} --scale percentile:0"), "--scale", "percentile:0"),
        (format!("{CALIBRATE} --scale middle"), "--scale", "middle"),
        (format!("{CALIBRATE} --prune 1.5"), "--prune", "1.5"),
        (format!("{CALIBRATE} --ratio 0"), "--ratio", "0"),
        (format!("{CALIBRATE} --output no/C.json"), "--output", "more than once"),
        (
            format!("{w} --input a.safetensors:x -o no/C.json"),
            "--output",
            "no such directory",
        ),
    ] {
        b.refused(&arguments, argument, found);
    }
    assert!(b.run(CALIBRATE).status.success());
    let before = fs::read(b.path("CAL.json")).unwrap();
    b.refused(CALIBRATE, "--output", "exists");
    assert_eq!(fs::read(b.path("CAL.json")).unwrap(), before);
}

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
        (format!("{s} --calibration list.json"), "--calibration", "another value"),
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
