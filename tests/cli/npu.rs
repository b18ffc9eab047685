//! The emulated NPU on the command line.

use crate::results::{bits, defined, floats};
use crate::{Bench, K, M, N, rounded, varied};
use mixgemm::{Epilogue, Mode, QuantMatrix, Scheme, f16};
use std::fs;

const FILES: &str = "--weights t.safetensors:w --input t.safetensors:x --bits 8 --output y.safetensors --force";
const STATIC: &str = "--mode a8static --input-scale t.safetensors:scale --saturate";

const PROFILE: &str = "
    name = 'mine'
    source = 'made up'
    window_bytes = 2000
    setup_ms = 10
    product = { launch_ms = 0.5, weight_bytes_per_ms = 630, macs_per_ms = 3150, flat_penalty = 0 }
    graph = { build_ms = 2, optimise_ms = 0, optimise_exponent = 1, free_ms = 3 }
    groups = { sum_ns = 1e6 }
    ";

#[test]
fn products_have_the_bits_of_the_reference_and_the_costs_of_the_profile() {
    let b = Bench::new();
    fs::write(b.path("mine.toml"), PROFILE).unwrap();
    let (w, x) = (rounded::<f16>(&varied(N, K, 1)), rounded::<f16>(&varied(M, K, 2)));
    let scheme = Scheme::int(8).per_tensor();
    let mode = Mode::A8Static {
        scale: 0.0625,
        saturate: true,
    };
    let row = |arguments: &str| {
        let out = b.run(&format!("matmul {FILES} {STATIC} {arguments} --json"));
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let json: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        json["rows"][0].clone()
    };
    let expected = |scheme| {
        let w = QuantMatrix::quantize(w.view(), scheme).unwrap();
        defined(&w, x.view().into(), mode, &Epilogue::new())
    };
    for fast in ["", "--fast"] {
        let found = row(&format!("--group tensor --backend npu --profile mine.toml {fast}"));
        assert_eq!(bits(&floats(&b.path("y.safetensors"), "output")), expected(scheme));
        let npu = &found["npu"];
        // 0.5 + 9·70/630 + 5·9·70/3150, whichever way the rows stand.
        assert_eq!(
            (&npu["profile"], &npu["emulated"], npu["product_ms"].as_f64()),
            (&"mine".into(), &true.into(), Some(2.5))
        );
        for (key, ms) in [
            ("setup_ms", 10.0),
            ("build_ms", 2.0),
            ("optimise_ms", 0.0),
            ("free_ms", 3.0),
        ] {
            assert_eq!(npu[key].as_f64(), Some(ms), "{key}");
        }
        let found = row(&format!("--group 32 --backend npu+groups --profile mine.toml {fast}"));
        assert_eq!(
            bits(&floats(&b.path("y.safetensors"), "output")),
            expected(Scheme::int(8).group(32))
        );
        // Two groups of 32 and one of 6: three launches, the same weights and steps, and 5·9·3 sums of 1 ms.
        let (npu, ms) = (&found["npu"], 3.0 * 0.5 + 2.0 + 135.0);
        assert!((npu["product_ms"].as_f64().unwrap() - ms).abs() < 1e-9, "{npu}");
        assert_eq!(
            (npu["build_ms"].as_f64(), npu["free_ms"].as_f64()),
            (Some(6.0), Some(9.0))
        );
        assert!((npu["overhead"].as_f64().unwrap() - ms / 2.5).abs() < 1e-9);
    }
    let out = b.run(&format!("matmul {FILES} {STATIC} --group tensor --backend npu"));
    let text = String::from_utf8(out.stdout).unwrap();
    for words in [
        "emulated by the latency model hexagon-8gen3",
        "rows as 5 x 1",
        "setup 500 ms",
        "table 3, NPU INT8",
        "-5.4 %",
    ] {
        assert!(text.contains(words), "{words} in {text}");
    }
}

#[test]
fn what_the_npu_refuses_is_refused_under_its_option() {
    let b = Bench::new();
    fs::write(b.path("narrow.toml"), PROFILE.replace("2000", "1000")).unwrap();
    fs::write(b.path("bad.toml"), PROFILE.replace("launch_ms = 0.5", "launch_ms = -1")).unwrap();
    fs::write(b.path("key.toml"), PROFILE.replace("setup_ms", "set_up_ms")).unwrap();
    let npu = format!("matmul {FILES} {STATIC} --backend npu");
    for (arguments, option, found) in [
        (
            format!("{npu} --group 32"),
            "--group",
            "a scale for every 32 weights of a row",
        ),
        (format!("{npu} --group channel"), "--group", "a scale for every row"),
        (
            format!("{npu} --group tensor --asym"),
            "--asym, --float-zero",
            "integer zero points",
        ),
        (
            format!("matmul {FILES} --mode a8 --group tensor --backend npu"),
            "--mode",
            "a8",
        ),
        (
            format!("matmul {FILES} --mode exact --group tensor --backend npu+groups"),
            "--mode",
            "exact",
        ),
        (
            format!("{} --group tensor", npu.replace("--bits 8", "--bits 4")),
            "--bits",
            "4",
        ),
        (
            format!("{npu} --group tensor --profile narrow.toml"),
            "graph",
            "0 bytes, and 1160 more",
        ),
        (
            format!("{npu} --group tensor --profile bad.toml"),
            "--profile",
            "-1 in bad.toml",
        ),
        (
            format!("{npu} --group tensor --profile key.toml"),
            "--profile",
            "`set_up_ms",
        ),
        (
            format!("{npu} --group tensor --profile gone.toml"),
            "--profile",
            "no such file",
        ),
        (
            format!("{npu} --group tensor --profile ."),
            "--profile",
            "no regular file",
        ),
        (
            format!("matmul {FILES} --mode a8 --group 32 --profile bad.toml"),
            "--profile",
            "host",
        ),
        (
            format!("matmul {FILES} --mode a8 --group 32 --backend tpu --profile bad.toml"),
            "--profile",
            "tpu",
        ),
    ] {
        b.refused(&arguments, option, found);
    }
}
