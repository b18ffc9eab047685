//! `mixgemm calibrate`: scales, counts and shadows, and samples that are refused.

use crate::{Bench, K, M};
use mixgemm::Mat;
use safetensors::tensor::{Dtype, TensorView, serialize};
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
        (
            "sparse",
            Mat::from_fn(M, K, |r, k| if k == 9 { 1.0 + r as f32 } else { 0.0 }),
        ),
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

/// The file that [`CALIBRATE`] writes.
pub(crate) fn file(b: &Bench) -> Value {
    serde_json::from_slice(&fs::read(b.path("CAL.json")).unwrap()).unwrap()
}

pub(crate) const CALIBRATE: &str = "calibrate --weights t.safetensors:w32 --input a.safetensors:x --output CAL.json";

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
            "expected samples of layer `w32` that are not all 0, or none of this layer, found nothing but 0 in \
             a.safetensors:none",
        ),
        (
            format!("{w} --input a.safetensors:sparse --scale percentile:90 -o C.json"),
            "--scale",
            "expected for layer `w32` a scale of at least 2^-23 of the largest magnitude, as the maximum or a higher \
             percentile has, such as --scale max, found percentile:90: 0 for 5",
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
