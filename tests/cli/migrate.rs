//! `mixgemm migrate`: the definition of the factors, and products that they do not change.

use crate::calibration::{bench, json, outlying};
use crate::results::{bits, floats};
use crate::{K, M, N, varied};

const MIGRATE: &str = "migrate --weights t.safetensors:w32 --input a.safetensors:x --output s.safetensors";

#[test]
fn channels_are_divided_and_columns_multiplied() {
    let b = bench();
    let (w, x) = (varied(N, K, 1), outlying());
    let most = |of: &mixgemm::Mat<f32>, k: usize| {
        (0..of.rows())
            .map(|r| f64::from(of.view().row(r)[k].abs()))
            .fold(0.0, f64::max)
    };
    for (options, alpha) in [("", 0.5), ("--alpha 0.75", 0.75)] {
        let found = json(&b, &format!("{MIGRATE} --force {options}"));
        let of = |name: &str| floats(&b.path("s.safetensors"), name);
        let (factors, columns, channels) = (of("w32.factors"), of("w32"), of("x"));
        for k in 0..K {
            // Equation 4 of arXiv 2211.10438; a channel without activations keeps its weights.
            let (s, expected) = (
                factors.data()[k],
                most(&x, k).powf(alpha) / most(&w, k).powf(1.0 - alpha),
            );
            let expected = if most(&x, k) == 0.0 { 1.0 } else { expected };
            assert!((f64::from(s) / expected - 1.0).abs() < 1e-5, "{k}: {s} for {expected}");
            for n in 0..N {
                assert_eq!(columns.view().row(n)[k], w.view().row(n)[k] * s);
            }
            for m in 0..M {
                assert_eq!(channels.view().row(m)[k], x.view().row(m)[k] / s);
            }
        }
        let row = &found["rows"][1];
        assert_eq!((&row["tensor"], &row["max_before"]), (&"x".into(), &508.0.into()));
        assert!(row["max_after"].as_f64().unwrap() < 100.0, "{row}");
    }
}

#[test]
fn powers_of_two_change_no_product() {
    let b = bench();
    json(&b, &format!("{MIGRATE} --powers-of-two"));
    // Weights of which each has a scale of its own are quantised alike.
    let product = |file: &str, input: &str| {
        b.matmul(&format!(
            "--weights {file}:w32 --input {input}:x --bits 8 --group 1 --scale-type f32 --mode a16 --output y.safetensors --force"
        ));
        bits(&floats(&b.path("y.safetensors"), "output"))
    };
    assert_eq!(
        product("t.safetensors", "a.safetensors"),
        product("s.safetensors", "s.safetensors")
    );
}

#[test]
fn bad_tensors_and_options_are_refused() {
    let b = bench();
    let w = "migrate --weights t.safetensors:w32 --output s.safetensors";
    for (arguments, argument, found) in [
        (
            format!("{w} --input a.safetensors:xnan"),
            "--input",
            "NaN at row 1, column 6 in a.safetensors:xnan",
        ),
        (
            format!("{w} --input t.safetensors:short"),
            "--input",
            "K = 69 in t.safetensors:short",
        ),
        (format!("{w} --input t.safetensors:x8"), "--input", "i8"),
        (
            format!("{w} --input a.safetensors:x --input a.safetensors:x"),
            "--input",
            "`x`",
        ),
        (
            format!("{w} --input a.safetensors:w32.factors"),
            "--input",
            "`w32.factors`",
        ),
        (format!("{w} --input a.safetensors:x --alpha 2"), "--alpha", "2"),
        (
            format!("{w} --input a.safetensors:x").replace("w32", "wnan"),
            "--weights",
            "NaN at (3, 4)",
        ),
        (
            format!("{w} --input a.safetensors:x").replace("s.safetensors", "a.safetensors --force"),
            "--output",
            "read",
        ),
        (w.into(), "--input <FILE:TENSOR>", "none"),
    ] {
        b.refused(&arguments, argument, found);
    }
}
