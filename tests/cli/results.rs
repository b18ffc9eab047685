//! What the program computes and writes.

use crate::{Bench, K, M, N, int8, rounded, varied};
use mixgemm::{
    Activation, Activations, CodeBook, Epilogue, Host, InputScale, Isa, Mat, Mode, QuantMatrix, ScaleType, Scheme,
};
use mixgemm::{bf16, f16, reference};
use safetensors::tensor::{Dtype, SafeTensors};
use std::fs;
use std::path::Path;

pub(crate) fn floats(file: &Path, name: &str) -> Mat<f32> {
    let bytes = fs::read(file).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = tensors.tensor(name).unwrap();
    assert_eq!(tensor.dtype(), Dtype::F32, "{name}");
    let values = tensor
        .data()
        .as_chunks::<4>()
        .0
        .iter()
        .map(|&b| f32::from_le_bytes(b))
        .collect();
    Mat::from_vec(values, tensor.shape()[0], tensor.shape()[1]).unwrap()
}

pub(crate) fn bits(m: &Mat<f32>) -> Vec<u32> {
    m.data().iter().map(|v| v.to_bits()).collect()
}

pub(crate) fn defined(w: &QuantMatrix, x: Activations<'_>, mode: Mode, epilogue: &Epilogue<'_>) -> Vec<u32> {
    let mut y = Mat::zeros(x.shape().0, w.n());
    reference::run(w, x, mode, epilogue, y.view_mut().into()).unwrap();
    bits(&y)
}

/// Without `--kernel` the program multiplies as the library does.
#[test]
fn products_take_the_kernels_of_a_plan() {
    let b = Bench::new();
    let w = QuantMatrix::quantize(rounded::<f16>(&varied(N, K, 1)).view(), Scheme::int(4).group(32)).unwrap();
    for isa in Isa::ALL.into_iter().filter(|isa| isa.supported()) {
        let plan = Host::new().isa(isa).unwrap().prepare(&w).unwrap().plan(Mode::A8);
        let options = format!("--bits 4 --group 32 --mode a8 --isa {isa} --force --json");
        let out = b.run(&format!("matmul {FILES} {options}"));
        let found: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        assert_eq!(found["rows"][0]["kernel"], plan.unwrap().kernel(M));
    }
}

const FILES: &str = "--weights t.safetensors:w --input t.safetensors:x --output y.safetensors";

#[test]
fn the_output_has_the_bits_of_the_reference() {
    let b = Bench::new();
    let (w, x) = (rounded::<f16>(&varied(N, K, 1)), rounded::<f16>(&varied(M, K, 2)));
    let schemes = [
        ("--bits 4 --group 32 --asym", Scheme::int(4).group(32).asymmetric()),
        (
            "--bits 4 --group channel --float-zero --scale-type f32",
            Scheme::int(4).float_zero().scales(ScaleType::F32),
        ),
        (
            "--bits 3 --group 16 --clip-search --scale-type bf16",
            Scheme::int(3).group(16).clip_search().scales(ScaleType::Bf16),
        ),
        ("--bits 1 --group tensor", Scheme::int(1).per_tensor()),
        ("--bits 8 --group 128", Scheme::int(8).group(128)),
        ("--format mxfp4 --group 32", Scheme::book(CodeBook::MXFP4).group(32)),
        (
            "--format iq4nl --group 32 --scale-type f16 --clip-search",
            Scheme::book(CodeBook::IQ4_NL)
                .group(32)
                .scales(ScaleType::F16)
                .clip_search(),
        ),
    ];
    let modes = [
        ("a8", Mode::A8),
        ("a8row", Mode::A8Row),
        ("a16", Mode::A16),
        ("exact", Mode::Exact),
    ];
    for (options, scheme) in schemes {
        let w = QuantMatrix::quantize(w.view(), scheme).unwrap();
        for (name, mode) in modes {
            let expected = defined(&w, x.view().into(), mode, &Epilogue::new());
            let mut where_to = vec!["--threads 2".to_string(), "--threads 1".into()];
            where_to.extend(
                Isa::ALL
                    .iter()
                    .filter(|isa| isa.supported())
                    .map(|isa| format!("--isa {isa}")),
            );
            if scheme.bits <= 4 && scheme.book.is_none() && mode != Mode::A16 {
                where_to.extend(["--backend mixpe".into(), "--backend mixpe --fast".into()]);
            }
            if scheme.book.is_none() && matches!(mode, Mode::A8 | Mode::A8Row) {
                where_to.push("--backend tpu".into());
            }
            for place in where_to {
                b.matmul(&format!("{FILES} {options} --mode {name} {place} --force"));
                assert_eq!(
                    bits(&floats(&b.path("y.safetensors"), "output")),
                    expected,
                    "{options} {name} {place}"
                );
            }
        }
    }
}

#[test]
fn every_element_type_bias_and_activation_reach_the_library_unchanged() {
    let b = Bench::new();
    let (w, x, bias) = (varied(N, K, 1), varied(M, K, 2), varied(1, N, 4));
    let scheme = Scheme::int(4).group(32);
    let wbf = QuantMatrix::quantize(rounded::<bf16>(&w).view(), scheme).unwrap();
    let w32 = QuantMatrix::quantize(w.view(), scheme).unwrap();
    let epilogue = Epilogue::new().bias(bias.data()).activation(Activation::Gelu);
    let tail = "--bits 4 --group 32 --bias t.safetensors:bias --activation gelu --output y.safetensors --force";
    b.matmul(&format!(
        "--weights t.safetensors:wbf --input t.safetensors:x32 --mode a16 {tail}"
    ));
    let y = bits(&floats(&b.path("y.safetensors"), "output"));
    assert_eq!(y, defined(&wbf, x.view().into(), Mode::A16, &epilogue));
    b.matmul(&format!(
        "--weights t.safetensors:w32 --input t.safetensors:xbf --mode a8 {tail}"
    ));
    let y = bits(&floats(&b.path("y.safetensors"), "output"));
    assert_eq!(y, defined(&w32, rounded::<bf16>(&x).view().into(), Mode::A8, &epilogue));

    let given = int8();
    let rows = [0.1, 0.2, 0.3, 0.4, 0.5];
    for (file, scale) in [
        ("scale", InputScale::Tensor(0.0625)),
        ("scales", InputScale::Rows(&rows)),
    ] {
        for backend in ["host", "mixpe"] {
            b.matmul(&format!(
                "--weights t.safetensors:w32 --input t.safetensors:x8 --mode a8given --input-scale \
                 t.safetensors:{file} --backend {backend} {tail}"
            ));
            let x = Activations::I8 {
                values: given.view(),
                scale,
            };
            let y = bits(&floats(&b.path("y.safetensors"), "output"));
            assert_eq!(y, defined(&w32, x, Mode::A8Given, &epilogue), "{file}");
        }
    }
    let fixed = Mode::A8Static {
        scale: 0.0625,
        saturate: true,
    };
    b.matmul(&format!(
        "--weights t.safetensors:w32 --input t.safetensors:x32 --mode a8static --saturate --input-scale \
         t.safetensors:scale {tail}"
    ));
    let y = bits(&floats(&b.path("y.safetensors"), "output"));
    assert_eq!(y, defined(&w32, x.view().into(), fixed, &epilogue));
}

#[test]
fn saved_codes_scales_and_zeros_are_the_weights() {
    let b = Bench::new();
    let w = rounded::<f16>(&varied(N, K, 1));
    for (options, scheme) in [
        ("--bits 4 --group 32 --asym", Scheme::int(4).group(32).asymmetric()),
        ("--bits 5 --group channel", Scheme::int(5)),
        (
            "--bits 2 --group tensor --float-zero",
            Scheme::int(2).per_tensor().float_zero(),
        ),
        ("--bits 1 --group 16", Scheme::int(1).group(16)),
    ] {
        b.matmul(&format!("{FILES} {options} --save-quantized --force"));
        let file = b.path("y.safetensors");
        let (scales, zeros) = (floats(&file, "scales"), floats(&file, "zeros"));
        let bytes = fs::read(&file).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let codes = tensors.tensor("codes").unwrap();
        assert_eq!((codes.dtype(), codes.shape()), (Dtype::U8, &[N, K][..]));
        let quantised = QuantMatrix::quantize(w.view(), scheme).unwrap();
        assert_eq!((scales.rows(), scales.cols()), (N, quantised.groups()), "{options}");
        let group = scheme.group_length(K);
        let back = Mat::from_fn(N, K, |n, k| {
            let code = f32::from(codes.data()[n * K + k]);
            scales.view().row(n)[k / group] * (code - zeros.view().row(n)[k / group])
        });
        assert_eq!(back.data(), quantised.dequantize().data(), "{options}");
    }
}

#[test]
fn saved_codes_scales_and_levels_are_the_weights() {
    let b = Bench::new();
    let w = rounded::<f16>(&varied(N, K, 1));
    for (format, book) in [
        ("mxfp4", CodeBook::MXFP4),
        ("flint4", CodeBook::FLINT4),
        ("uflint4", CodeBook::FLINT4_UNSIGNED),
        ("power4", CodeBook::POWER4),
        ("iq4nl", CodeBook::IQ4_NL),
    ] {
        b.matmul(&format!(
            "{FILES} --format {format} --group 32 --save-quantized --force"
        ));
        let file = b.path("y.safetensors");
        let (scales, bytes) = (floats(&file, "scales"), fs::read(&file).unwrap());
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let (codes, levels) = (tensors.tensor("codes").unwrap(), tensors.tensor("levels").unwrap());
        assert_eq!((levels.dtype(), levels.shape()), (Dtype::I8, &[1, 16][..]));
        assert!(tensors.tensor("zeros").is_err());
        let back = Mat::from_fn(N, K, |n, k| {
            let level = levels.data()[usize::from(codes.data()[n * K + k])] as i8;
            scales.view().row(n)[k / 32] * f32::from(level)
        });
        let quantised = QuantMatrix::quantize(w.view(), Scheme::book(book).group(32)).unwrap();
        assert_eq!(back.data(), quantised.dequantize().data(), "{format}");
    }
}

#[test]
fn tensors_at_odd_addresses_are_read() {
    let b = Bench::new();
    let x = varied(M, K, 2);
    let mut bytes = format!(
        r#"{{"x":{{"dtype":"F32","shape":[{M},{K}],"data_offsets":[0,{}]}}}}"#,
        4 * M * K
    );
    bytes += if bytes.len() % 2 == 0 { " " } else { "" };
    let mut file = (bytes.len() as u64).to_le_bytes().to_vec();
    file.extend(bytes.as_bytes());
    assert_eq!(file.len() % 2, 1);
    file.extend(x.data().iter().flat_map(|v| v.to_le_bytes()));
    fs::write(b.path("odd.safetensors"), file).unwrap();
    let tail = "--weights t.safetensors:w --bits 4 --group 32";
    b.matmul(&format!("{tail} --input odd.safetensors:x --output odd-y.safetensors"));
    b.matmul(&format!("{tail} --input t.safetensors:x32 --output y.safetensors"));
    assert_eq!(
        bits(&floats(&b.path("odd-y.safetensors"), "output")),
        bits(&floats(&b.path("y.safetensors"), "output"))
    );
}

#[test]
fn output_may_replace_its_own_input() {
    let b = Bench::new();
    let tail = "--weights t.safetensors:w --input t.safetensors:x --bits 4 --group 32 --save-quantized --force";
    b.matmul(&format!("{tail} --output y.safetensors"));
    b.matmul(&format!("{tail} --output t.safetensors"));
    assert_eq!(
        fs::read(b.path("t.safetensors")).unwrap(),
        fs::read(b.path("y.safetensors")).unwrap()
    );
    assert_eq!(b.files(), ["t.safetensors", "y.safetensors"]);
}

#[test]
fn json_is_json_and_carries_the_figures() {
    let b = Bench::new();
    let out = b.run(&format!("matmul {FILES} --bits 8 --group 32 --mode exact --json"));
    let json: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let row = &json["rows"][0];
    assert_eq!(
        (row["m"].as_u64(), row["n"].as_u64(), row["k"].as_u64()),
        (Some(5), Some(9), Some(70))
    );
    assert!(row["sqnr_db"].as_f64().unwrap() > 30.0 && row["seconds"].as_f64().unwrap() > 0.0);
    assert!(json["machine"]["threads"].as_u64().unwrap() > 0);
}

#[test]
fn every_accelerator_of_the_catalogue_is_a_backend() {
    let b = Bench::new();
    for accelerator in mixgemm::accel::catalogue::ACCELERATORS {
        let (name, capabilities) = (accelerator.name(), accelerator.device().capabilities());
        if capabilities.static_shapes {
            continue; // Has tests of its own.
        }
        let mode = match (capabilities.native, capabilities.exact) {
            (true, _) => "native",
            (_, true) => "exact",
            _ => "a8",
        };
        let matmul = format!("{FILES} --bits 4 --group 32 --asym --mode {mode} --backend {name} --force");
        let row = |options: &str| {
            let out = b.run(&format!("matmul {matmul} --json {options}"));
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
            let json: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
            let row = json["rows"][0].clone();
            assert_eq!(
                (row["backend"].as_str(), row["mode"].as_str()),
                (Some(name), Some(mode))
            );
            assert_eq!(
                (&row["emulated"], &row["counters"]["overflows"]),
                (&true.into(), &0.into())
            );
            assert!(row["sqnr_db"].as_f64() > Some(15.0), "{row}");
            (row, fs::read(b.path("y.safetensors")).unwrap())
        };
        let (own, values) = row("");
        let before = matches!(name.split('-').next(), Some("fp16" | "dequant" | "tpu"));
        assert_eq!(
            own["counters"]["weight_conversions"].as_u64(),
            Some(if before { 9 * 70 } else { 0 }),
            "{name}"
        );
        // What it costs, and for those that dequantise first how far that is from scaling after the group.
        let estimate = &own["cost"]["estimated"]["estimate"];
        assert_eq!(
            estimate["macs"].as_u64(),
            own["counters"]["macs"].as_u64(),
            "{name}: {}",
            own["cost"]
        );
        let first = name.starts_with("dequant");
        let difference = own["after_the_group"]["sqnr_db"].as_f64();
        assert_eq!(
            difference.is_some_and(|db| db > 20.0 && db < 100.0),
            first,
            "{name}: {difference:?}"
        );
        if capabilities.native {
            b.refused(&format!("matmul {matmul} --fast"), "--fast", name);
            continue;
        }
        let (fast, of_host) = row("--fast");
        assert!(values == of_host && own["counters"] == fast["counters"], "{name}");
        assert_ne!(own["kernel"], fast["kernel"], "{name}");
    }
}

#[test]
fn demo_finds_the_same_bits_everywhere() {
    let b = Bench::new();
    let out = b.run("demo --json --rows 3");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let json: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let rows = json["rows"].as_array().unwrap();
    for row in rows {
        let expected = if row["mode"] == "native" {
            serde_json::Value::Null
        } else {
            true.into()
        };
        assert_eq!(row["bits_equal_reference"], expected, "{row}");
        assert!(
            row["mode"] != "native"
                || row["sqnr_kernel_db"].as_f64() > Some(if row["backend"] == "dequant-w4a8" { 25.0 } else { 40.0 }),
            "{row}"
        );
    }
    for backend in [
        "host",
        "mixpe-w4a8",
        "mixpe-w4a16",
        "mixpe-w4a16-fused",
        "tpu-int8",
        "fp16",
        "dequant-w4a16",
    ] {
        assert!(rows.iter().any(|row| row["backend"] == backend), "{backend}");
    }
    // The host's clamped rows have the reference's bits, a device's rows the host's.
    for row in json["outliers"].as_array().unwrap() {
        let compared = row["backend"] != "host" || row["outliers"] == "clamped";
        assert_eq!(
            row["bits_equal"],
            if compared { true.into() } else { serde_json::Value::Null },
            "{row}"
        );
        assert_eq!(
            row["share_of_work"].as_f64() > Some(0.0),
            row["outliers"] != "clamped",
            "{row}"
        );
    }
    for (backend, outliers) in ["host", "npu"]
        .into_iter()
        .flat_map(|b| ["clamped", "shadow", "mixed"].map(|o| (b, o)))
    {
        let mut rows = json["outliers"].as_array().unwrap().iter();
        let row = rows
            .find(|row| (&row["backend"], &row["outliers"]) == (&backend.into(), &outliers.into()))
            .unwrap();
        assert!(row["outlier_channels"].as_u64() > Some(0), "{row}");
        assert_eq!(row["emulated_ms"].as_f64() > Some(0.0), backend == "npu", "{row}");
    }
    assert!(
        rows.iter()
            .filter(|row| row["mode"] == "exact")
            .all(|row| row["sqnr_kernel_db"].as_f64() > Some(120.0))
    );
}

#[test]
fn a_drawing_replaces_a_file_only_by_force() {
    let b = Bench::new();
    let out = b.run("demo --rows 1 --svg demo.svg");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let drawing = fs::read_to_string(b.path("demo.svg")).unwrap();
    assert!(drawing.starts_with("<svg") && drawing.trim_end().ends_with("</svg>"));
    assert!(
        ["a8static", "exact", "8 bits, group 128"]
            .iter()
            .all(|text| drawing.contains(text))
    );
    assert_eq!(b.files(), ["demo.svg", "t.safetensors"]);
    b.refused("demo --rows 1 --svg demo.svg", "--svg", "exists");
    assert!(b.run("demo --rows 1 --svg demo.svg --force").status.success());
}

#[test]
fn bench_prints_exactly_the_promised_keys() {
    let b = Bench::new();
    for (backend, modes) in [("host", 2), ("mixpe", 1)] {
        let modes = ["a8", "exact"][..modes].join(",");
        let out = b.run(&format!(
            "bench --shape 24x40 --m 1,17 --bits 3 --group 16 --asym --mode {modes} --backend {backend} --rounds 1 --json"
        ));
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let json: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        let keys = |value: &serde_json::Value| {
            let mut keys: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
            keys.sort();
            keys.join(" ")
        };
        assert_eq!(keys(&json), "machine rows");
        let rows = json["rows"].as_array().unwrap();
        assert_eq!(rows.len(), 2 * modes.split(',').count());
        for row in rows {
            assert_eq!(
                keys(row),
                "asym backend bits bits_per_weight dram_gbps f32_peak_gops fraction_of_dram fraction_of_peak gbps \
                 gops group isa k kernel m mode n peak_gops seconds threads weight_bytes"
            );
            for positive in ["seconds", "gops", "gbps", "peak_gops", "f32_peak_gops", "dram_gbps"] {
                assert!(row[positive].as_f64() > Some(0.0), "{positive}: {row}");
            }
            // 3 bits a code; 24 rows of 3 groups with an f16 scale and a 3-bit zero point.
            let bytes = f64::from(24 * 40 * 3 + 24 * 3 * (16 + 3)) / 8.0;
            assert_eq!(row["weight_bytes"].as_f64(), Some(bytes));
            assert_eq!(row["fraction_of_peak"].is_number(), backend == "host");
        }
    }
}

#[test]
fn every_help_has_an_example() {
    let b = Bench::new();
    for command in [
        "",
        "demo",
        "matmul",
        "calibrate",
        "outliers",
        "bench",
        "doctor",
        "explore",
    ] {
        let out = b.run(&format!("{command} --help"));
        assert!(
            out.status.success() && String::from_utf8(out.stdout).unwrap().contains("Example"),
            "{command}"
        );
    }
}
