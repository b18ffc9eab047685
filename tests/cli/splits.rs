//! Products that use what `mixgemm calibrate` found: with outliers clamped, as integers, as floats.

use crate::calibration::{CALIBRATE, bench, file, json, outlying};
use crate::results::{bits, floats};
use crate::{Bench, K, M, N, varied};
use mixgemm::base::float::fma;
use mixgemm::{Mat, f16};
use safetensors::tensor::SafeTensors;
use serde_json::Value;
use std::fs;

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

    // No fraction of the layers is pruned: the full shadow.
    json(&b, &format!("{CALIBRATE} --scale percentile:99 --prune 0 --force"));
    matmul("--split shadow");
    let w = saved(&b);
    assert_eq!(bits(&w.output), bits(&product(&w, &x, t, |v| (integer(v), false))));

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

/// Outliers meet the f16 weights of the file, not the quantised ones.
#[test]
fn outliers_meet_f16_weights_where_they_are_asked_for() {
    let b = bench();
    json(&b, &format!("{CALIBRATE} --scale percentile:99"));
    let t = file(&b)["layers"]["w32"]["scale"].as_f64().unwrap() as f32;
    let (x, weights) = (outlying(), varied(N, K, 1));
    let far = |v: f32| v.round_ties_even().abs() > 127.0;
    let matmul = |options: &str| {
        let row = json(
            &b,
            &format!(
                "matmul --weights t.safetensors:w32 --input a.safetensors:x --bits 4 --group channel --mode a8static \
                 --calibration CAL.json --split mixed --output y.safetensors --save-quantized --force {options}"
            ),
        )["rows"][0]
            .clone();
        (saved(&b), row)
    };
    let expected = |w: &Saved| {
        Mat::from_fn(M, N, |m, n| {
            let (levels, s, row) = (&w.levels[n * K..][..K], w.scales.data()[n], x.view().row(m));
            let calm = |x: f32| {
                if far(x / t) {
                    0
                } else {
                    (x / t).round_ties_even() as i64
                }
            };
            let sum: i64 = row.iter().zip(levels).map(|(&x, level)| calm(x) * level).sum();
            let half = |k: usize| f16::from_f32(weights.view().row(n)[k]).to_f32();
            (0..K)
                .filter(|&k| far(row[k] / t))
                .fold(fma(sum as f32, s, 0.0) * t, |y, k| fma(row[k], half(k), y))
        })
    };
    let (w, row) = matmul("--outlier-weights f16");
    assert_eq!(bits(&w.output), bits(&expected(&w)));
    assert_eq!(
        (
            &row["outliers"]["columns_of_weights"]["weights"],
            &row["outliers"]["columns_of_weights"]["bytes"]
        ),
        (&"f16".into(), &(2 * N * K).into())
    );
    let (_, quantised) = matmul("");
    assert_eq!(
        (
            &quantised["outliers"]["columns_of_weights"]["weights"],
            &quantised["outliers"]["columns_of_weights"]["bytes"]
        ),
        (&"quantised".into(), &(N * K).into())
    );
    assert!(
        row["sqnr_db"].as_f64() > quantised["sqnr_db"].as_f64(),
        "{row} {quantised}"
    );
    // A calibrated set needs no other columns.
    let (_, row) = matmul("--outlier-weights f16 --outlying calibrated");
    assert_eq!(row["outliers"]["columns_of_weights"]["bytes"], 2 * 2 * N);
}

#[test]
fn hot_columns_change_where_weights_are_read_and_nothing_else() {
    let b = bench();
    json(&b, &format!("{CALIBRATE} --scale percentile:99"));
    for (split, width) in [("shadow", 1), ("mixed", 1), ("mixed --outlier-weights f16", 2)] {
        let matmul = |options: &str| {
            let row = json(
                &b,
                &format!(
                    "matmul --weights t.safetensors:w32 --input a.safetensors:x --bits 8 --group channel --mode a8static \
                     --calibration CAL.json --split {split} --output y.safetensors --force {options}"
                ),
            )["rows"][0]
                .clone();
            (
                bits(&floats(&b.path("y.safetensors"), "output")),
                row["outliers"]["columns_of_weights"].clone(),
            )
        };
        let (expected, whole) = matmul("");
        assert_eq!(
            (&whole["hot"], &whole["bytes"]),
            (&Value::Null, &(width * N * K).into())
        );
        // Two channels have outliers, the calibration says; 2 % of 70 are one.
        for (hot, resident) in [("0", 0), ("1", 1), ("2%", 1), ("9", 2), ("100%", 2)] {
            let before = b.files();
            let (found, row) = matmul(&format!("--hot {hot}"));
            assert_eq!(found, expected, "{split} {hot}");
            assert_eq!(row["bytes"], 2 * N * resident, "{split} {hot}");
            assert_eq!(
                row["hot"],
                serde_json::json!({ "hits": resident, "misses": 2 - resident }),
                "{split} {hot}"
            );
            assert_eq!(b.files(), before);
        }
    }
    let out = b.run(
        "matmul --weights t.safetensors:w32 --input a.safetensors:x --bits 8 --group tensor --mode a8static \
         --calibration CAL.json --split shadow --hot 1 --output y.safetensors --force",
    );
    let text = String::from_utf8(out.stdout).unwrap();
    let line = "quantised weights, 18 B in memory; read 1 times there and 1 times in a mapped file";
    assert!(text.contains(line), "{text}");
}
