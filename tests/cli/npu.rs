//! The emulated NPU on the command line.

use crate::results::{bits, defined, floats};
use crate::{Bench, K, M, N, rounded, varied};
use mixgemm::{Epilogue, Mode, QuantMatrix, Scheme, f16};
use safetensors::tensor::{Dtype, TensorView, serialize};
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

/// A product without outputs takes no time on the device, and no graph.
#[test]
fn nothing_is_executed_for_no_rows() {
    let b = Bench::new();
    let scale = 0.0625f32.to_le_bytes();
    let weights = vec![1; 2 * 4 * K];
    let tensors = [
        ("x", Dtype::F16, vec![0, K], &[][..]),
        ("w", Dtype::F16, vec![0, K], &[][..]),
        ("one", Dtype::F16, vec![4, K], &weights[..]),
        ("scale", Dtype::F32, vec![1], &scale[..]),
    ];
    let views = tensors.map(|(name, dtype, shape, data)| (name, TensorView::new(dtype, shape, data).unwrap()));
    fs::write(b.path("e.safetensors"), serialize(views, None).unwrap()).unwrap();
    let options =
        "--bits 8 --mode a8static --input-scale e.safetensors:scale --saturate --output y.safetensors --force";
    for (w, x) in [("one", "x"), ("w", "one")] {
        for backend in ["npu --group tensor", "npu+groups --group 32"] {
            let line =
                format!("matmul --weights e.safetensors:{w} --input e.safetensors:{x} {options} --backend {backend}");
            let out = b.run(&format!("{line} --json"));
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
            let json: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
            let npu = &json["rows"][0]["npu"];
            for key in [
                "product_ms",
                "one_scale_ms",
                "setup_ms",
                "build_ms",
                "optimise_ms",
                "free_ms",
            ] {
                assert_eq!(npu[key].as_f64(), Some(0.0), "{line}: {key}");
            }
            assert!(npu["overhead"].is_null() && npu["rows"].is_null(), "{line}");
            let text = String::from_utf8(b.run(&line).stdout).unwrap();
            assert!(text.contains("nothing was executed"), "{text}");
        }
    }
}

/// Groups that do not fit the window together take turns, which is printed as builds and frees of graphs.
#[test]
fn groups_take_turns_in_the_window_of_a_profile() {
    let b = Bench::new();
    // A graph of 32: 9·32 + 5·32 + 4·9·5 bytes.
    fs::write(b.path("narrow.toml"), PROFILE.replace("2000", "628")).unwrap();
    let (w, x) = (rounded::<f16>(&varied(N, K, 1)), rounded::<f16>(&varied(M, K, 2)));
    let mode = Mode::A8Static {
        scale: 0.0625,
        saturate: true,
    };
    let w = QuantMatrix::quantize(w.view(), Scheme::int(8).group(32)).unwrap();
    let expected = defined(&w, x.view().into(), mode, &Epilogue::new());
    for fast in ["", "--fast"] {
        let line =
            format!("matmul {FILES} {STATIC} --group 32 --backend npu+groups --profile narrow.toml {fast} --json");
        let out = b.run(&line);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let json: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        assert_eq!(bits(&floats(&b.path("y.safetensors"), "output")), expected);
        // Two to find out that two do not fit, and the three of one product, however often it was repeated for its time.
        let npu = &json["rows"][0]["npu"];
        let (build, free) = (npu["build_ms"].as_f64().unwrap(), npu["free_ms"].as_f64().unwrap());
        assert_eq!((build, free), (5.0 * 2.0, 5.0 * 3.0), "{fast}");
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
