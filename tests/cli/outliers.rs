//! `mixgemm outliers`: counts by layer and channel, drawings, and files without any.

use crate::calibration::{bench, json};
use crate::{K, M};
use serde_json::json;
use std::fs;

const SAMPLES: &str = "outliers a.safetensors:x --scale percentile:99";

#[test]
fn counts_are_those_of_samples_and_of_calibrations() {
    let b = bench();
    let calibrated =
        b.run("calibrate --weights t.safetensors:w32 --input a.safetensors:x -o CAL.json --scale percentile:99");
    assert!(calibrated.status.success());
    let found = json(&b, "outliers CAL.json a.safetensors:x --scale percentile:99");
    let rows = found["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    for (row, (file, layer)) in rows.iter().zip([("CAL.json", "w32"), ("a.safetensors", "x")]) {
        assert_eq!((&row["file"], &row["layer"]), (&json!(file), &json!(layer)));
        assert_eq!(
            (&row["rows"], &row["k"], &row["outliers"]),
            (&json!(M), &json!(K), &json!(2))
        );
        assert_eq!(row["channels"], json!([[3, 1], [40, 1]]));
        assert_eq!(row["channels_with_80_percent"], 2);
    }
    let text = String::from_utf8(b.run(SAMPLES).stdout).unwrap();
    assert!(
        text.contains("3 (20 %), 40 (20 %)") && text.contains("2 (0.571 %)"),
        "{text}"
    );
    assert!(text.contains("1 of 1 layers have outliers"), "{text}");
    // A file without a tensor's name stands for all its float matrices; t.safetensors has one that is not finite.
    b.refused("outliers t.safetensors", "FILE", "t.safetensors:wnan");
}

/// Files are told apart by what they begin with, whatever their names.
#[test]
fn names_of_files_do_not_matter() {
    let b = bench();
    let calibrated =
        b.run("calibrate --weights t.safetensors:w32 --input a.safetensors:x -o found --scale percentile:99");
    assert!(calibrated.status.success());
    let text = fs::read_to_string(b.path("found")).unwrap();
    fs::write(b.path("indented.txt"), format!("\n  {text}")).unwrap();
    fs::copy(b.path("a.safetensors"), b.path("a.json")).unwrap();
    let found = json(&b, "outliers found indented.txt a.json:x --scale percentile:99");
    for row in found["rows"].as_array().unwrap() {
        assert_eq!(row["channels"], json!([[3, 1], [40, 1]]), "{row}");
    }
    assert_eq!(found["rows"].as_array().unwrap().len(), 3);
    let found = json(
        &b,
        "matmul --weights t.safetensors:w32 --input a.safetensors:x --bits 8 --group tensor --mode a8static \
         --calibration indented.txt --split shadow --output y.safetensors",
    );
    assert_eq!(found["rows"][0]["outliers"]["activations"], 2);
    b.refused("outliers a.json", "FILE", "a.json:none");
    b.refused("outliers a.json:x --svg a.json --force", "--svg", "which is read");
    b.refused("outliers found --png found --force", "--png", "which is read");
}

#[test]
fn drawings_are_written_once_and_have_the_layers() {
    let b = bench();
    let drawn = format!("{SAMPLES} --svg o.svg --png o.png");
    let out = b.run(&drawn);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let svg = fs::read_to_string(b.path("o.svg")).unwrap();
    assert!(
        svg.starts_with("<svg") && svg.contains("Outliers by layer and by channel") && svg.contains("\nx\n"),
        "{svg}"
    );
    assert!(svg.contains("2 activations beyond 127 scales in 1 layer"), "{svg}");
    let png = fs::read(b.path("o.png")).unwrap();
    assert!(png.starts_with(b"\x89PNG\r\n\x1a\n"));
    b.refused(&drawn, "--svg", "exists");
    assert!(b.run(&format!("{drawn} --force")).status.success());
    assert_eq!(fs::read(b.path("o.png")).unwrap(), png);
}

#[test]
fn without_outliers_nothing_is_drawn_and_the_report_says_so() {
    let b = bench();
    let before = b.files();
    let out = b.run("outliers a.safetensors:x --scale max --svg o.svg --png o.png");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(
        text.contains("The layer has no outliers") && text.contains("Nothing was drawn."),
        "{text}"
    );
    assert_eq!(b.files(), before);
    let found = json(&b, "outliers a.safetensors:x --scale max --svg o.svg");
    assert_eq!(
        (&found["rows"][0]["outliers"], &found["files"]),
        (&json!(0), &json!([]))
    );
}

#[test]
fn files_without_layers_and_bad_ones_are_refused() {
    let b = bench();
    fs::write(b.path("empty.json"), r#"{"version": 1, "layers": {}}"#).unwrap();
    fs::write(b.path("short.json"), r#"{"version": 1, "lay"#).unwrap();
    fs::write(b.path("none.safetensors"), b"\x02\0\0\0\0\0\0\0{}").unwrap();
    fs::write(b.path("short.safetensors"), b"\x02\0\0").unwrap();
    for (arguments, argument, found) in [
        ("outliers empty.json", "FILE", "empty.json without any"),
        ("outliers short.json", "FILE", "short.json"),
        ("outliers none.safetensors", "FILE", "none.safetensors without any"),
        ("outliers short.safetensors", "FILE", "short.safetensors"),
        ("outliers missing.safetensors", "FILE", "no such file"),
        ("outliers missing", "FILE", "no such file"),
        ("outliers .", "FILE", "not a regular file"),
        ("outliers a.safetensors:missing", "FILE", "`missing`"),
        ("outliers t.safetensors:bias", "FILE", "[9]"),
        ("outliers a.safetensors:xinf", "FILE", "a.safetensors:xinf"),
        ("outliers a.safetensors:none", "FILE", "a.safetensors:none"),
        ("outliers t.safetensors:x8", "FILE", "t.safetensors:x8"),
        ("outliers a.safetensors:x --svg o.svg --png o.svg", "--png", "the same"),
        ("outliers a.safetensors:x --scale 3", "--scale", "3"),
        ("outliers", "<FILE>...", "none"),
    ] {
        b.refused(arguments, argument, found);
    }
}
