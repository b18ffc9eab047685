//! Fidelity as it is measured, against known signal-to-noise ratios, and formats that devices refuse.
#![cfg(feature = "lab")]
#![forbid(unsafe_code)]

use mixgemm::accel::catalogue::ACCELERATORS;
use mixgemm::dse::fidelity::{LEAST_DB, Matrix, Tensors, qsnr_db};
use mixgemm::dse::format::{Format, Values};
use mixgemm::dse::measured::Measured;
use mixgemm::dse::space::Space;
use mixgemm::{AnyBackend, Host, Mat, MixPe};
use std::sync::Arc;

/// The quantile function of the Gaussian distribution, to a relative error of 1e-9: P. J. Acklam's rational
/// approximation.
fn quantile(p: f64) -> f64 {
    const A: [f64; 6] = [
        -3.969683028665376e1,
        2.209460984245205e2,
        -2.759285104469687e2,
        1.38357751867269e2,
        -3.066479806614716e1,
        2.506628277459239,
    ];
    const B: [f64; 6] = [
        -5.447609879822406e1,
        1.615858368580409e2,
        -1.556989798598866e2,
        6.680131188771972e1,
        -1.328068155288572e1,
        1.0,
    ];
    const C: [f64; 6] = [
        -7.784894002430293e-3,
        -3.223964580411365e-1,
        -2.400758277161838,
        -2.549732539343734,
        4.374664141464968,
        2.938163982698783,
    ];
    const D: [f64; 5] = [
        7.784695709041462e-3,
        3.224671290700398e-1,
        2.445134137142996,
        3.754408661907416,
        1.0,
    ];
    let of = |c: &[f64], x: f64| c.iter().fold(0.0, |sum, c| sum * x + c);
    if p > 0.5 {
        return -quantile(1.0 - p);
    }
    if p < 0.02425 {
        let q = (-2.0 * p.ln()).sqrt();
        return of(&C, q) / of(&D, q);
    }
    let (q, r) = (p - 0.5, (p - 0.5) * (p - 0.5));
    q * of(&A, r) / of(&B, r)
}

/// SNR of the best mid-rise uniform quantiser of a Gaussian, 1 to 8 bits: J. Max, Quantizing for minimum distortion.
#[test]
fn qsnr_of_the_optimal_uniform_quantiser_is_the_classical_one() {
    // 2^22 quantiles: the tail beyond the last one is worth less than 0.003 dB at eight bits.
    const N: usize = 1 << 22;
    let half: Vec<f64> = (0..N / 2).map(|i| quantile((i as f64 + 0.5) / N as f64)).collect();
    let gaussian = Mat::from_fn(2, N / 2, |sign, i| if sign == 0 { half[i] } else { -half[i] });
    let table = include_str!("data/gaussian_uniform_quantiser.csv");
    let rows = table.lines().filter(|l| l.starts_with(|c: char| c.is_ascii_digit()));
    let mut compared = 0;
    for (row, published) in rows.zip([4.40, 9.25, 14.27, 19.38, 24.57, 29.83, 35.17, 40.57]) {
        let fields: Vec<f64> = row.split(',').map(|f| f.parse().unwrap()).collect();
        let (levels, step) = (fields[1], fields[2]);
        let quantised = Mat::from_fn(2, N / 2, |r, c| {
            let cell = (gaussian.view().row(r)[c] / step)
                .floor()
                .clamp(-levels / 2.0, levels / 2.0 - 1.0);
            ((cell + 0.5) * step) as f32
        });
        let found = qsnr_db(gaussian.view(), quantised.view()).unwrap();
        println!("{levels} levels: {found:.4} dB, published {published}");
        assert!(
            (found - published).abs() < 0.01,
            "{levels} levels: {found} dB, published {published}"
        );
        compared += 1;
    }
    assert_eq!(compared, 8);
}

fn host() -> Arc<dyn AnyBackend> {
    Arc::new(Host::new())
}

fn format(device: &str, bits: u8, rest: &str) -> Format {
    let toml = format!("[[design]]\ndevice = ['{device}']\nbits = [{bits}]\nzero = ['integer']\n{rest}\n");
    let space = Space::from_toml(&toml).unwrap();
    let points = space.designs()[0].one_of_each_format();
    assert_eq!(points.len(), 1);
    points[0].format()
}

fn int8(device: &str, bits: u8, group: &str) -> Format {
    let rest = format!("group = [{group}]\ninput = ['a8row']\naccumulator = ['i32']\ndequantisation = ['after']");
    format(device, bits, &rest)
}

fn f16(device: &str, bits: u8, accumulator: &str, dequantisation: &str) -> Format {
    let rest = format!(
        "group = [128]\ninput = ['f16']\naccumulator = ['{accumulator}']\ndequantisation = ['{dequantisation}']"
    );
    format(device, bits, &rest)
}

fn fidelity(tensors: &Tensors, format: &Format) -> f64 {
    tensors.fidelity(&format.values(&host()).unwrap()).unwrap()
}

#[test]
fn more_bits_and_smaller_groups_are_more_faithful() {
    for tensors in [Tensors::gaussian(16).unwrap(), Tensors::outliers(16).unwrap()] {
        let of = |bits, group| fidelity(&tensors, &int8("tpu-int8", bits, group));
        let ladder = [
            of(8, "'channel'"),
            of(4, "32"),
            of(4, "128"),
            of(4, "'channel'"),
            of(4, "'tensor'"),
        ];
        println!("{}: {ladder:.2?}", tensors.name());
        assert!(ladder.is_sorted_by(|a, b| a > b), "{ladder:?}");
        let mut bits = (2..=8).map(|bits| of(bits, "128"));
        let mut last = bits.next().unwrap();
        for next in bits {
            assert!(next > last + 1.0, "{next} after {last}");
            last = next;
        }

        let floats = [("fp16", "f32"), ("fp16-f16", "f16")]
            .map(|(device, sum)| fidelity(&tensors, &f16(device, 16, sum, "none")));
        println!("fp16, accumulators f32 and f16: {floats:.2?}");
        assert!(
            floats[0] > 60.0 && floats[0] > floats[1] + 6.0 && floats[1] > 30.0,
            "{floats:?}"
        );
    }
    // What outliers do to one scale for everything.
    let of = |tensors: &Tensors| fidelity(tensors, &int8("tpu-int8", 4, "'tensor'"));
    assert!(of(&Tensors::gaussian(16).unwrap()) > of(&Tensors::outliers(16).unwrap()) + 6.0);
}

/// Round-to-nearest over the range of 128 Gaussian weights (on average 5.2 standard deviations, 15 steps) has an error
/// of one twelfth of a squared step: about 20 dB; inputs in 8 bits add next to nothing.
#[test]
fn four_bits_in_groups_of_128_give_about_twenty_decibels() {
    let found = fidelity(&Tensors::gaussian(16).unwrap(), &int8("mixpe-w4a8", 4, "128"));
    assert!((found - 19.9).abs() < 0.5, "{found}");
}

#[test]
fn the_host_gives_the_values_of_the_device() {
    let tensors = Tensors::outliers(16).unwrap();
    let format = int8("mixpe-w4a8", 4, "64");
    let emulated: Arc<dyn AnyBackend> = Arc::new(MixPe::w4a8());
    let own = tensors.fidelity(&format.values(&emulated).unwrap()).unwrap();
    assert_eq!(own.to_bits(), fidelity(&tensors, &format).to_bits());
}

#[test]
fn formats_with_equal_values_are_measured_once() {
    let tensors = Tensors::gaussian(16).unwrap();
    let formats = [
        int8("mixpe-w4a8", 4, "64"),
        int8("tpu-int8", 4, "64"),
        int8("mixpe-w4a8", 3, "64"),
    ];
    let measured = std::cell::Cell::new(0);
    let values = |format: &Format| {
        measured.set(measured.get() + 1);
        format.values(&host())
    };
    let mut steps = Vec::new();
    let found = tensors
        .fidelities(&formats, values, &mut Measured::none(), |done, all| {
            steps.push((done, all))
        })
        .unwrap();
    assert_eq!(found[&formats[0]], found[&formats[1]]);
    assert!(found[&formats[0]].clone().unwrap() > found[&formats[2]].clone().unwrap());
    assert_eq!((measured.get(), steps), (3, vec![(0, 3), (1, 3), (2, 3), (3, 3)]));
    let keys: Vec<String> = formats.iter().map(|f| f.values(&host()).unwrap().key()).collect();
    assert!(keys[0] == keys[1] && keys[0] != keys[2]);
}

/// A file of fidelities saves measuring again, on these tensors and no others; a torn line is measured again.
#[test]
fn what_was_measured_is_read_and_not_measured_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fidelities.jsonl");
    let tensors = [Tensors::gaussian(16).unwrap(), Tensors::outliers(16).unwrap()];
    let formats = [
        int8("tpu-int8", 4, "64"),
        int8("tpu-int8", 3, "64"),
        int8("mixpe-w4a8", 5, "64"),
    ];
    let measure = |tensors: &Tensors| {
        let mut measured = Measured::open(&path, &tensors.name()).unwrap();
        let values = |format: &Format| format.values(&host());
        tensors.fidelities(&formats, values, &mut measured, |_, _| {}).unwrap()
    };
    let first = tensors.each_ref().map(measure);
    assert!(first[0][&formats[0]] != first[1][&formats[0]] && first[0][&formats[2]].is_err());
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 4);
    assert_eq!(tensors.each_ref().map(measure), first);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    std::fs::write(&path, &text[..text.len() - 5]).unwrap();
    assert_eq!(tensors.each_ref().map(measure), first);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    // What the file says is believed, bit for bit.
    let own = first[0][&formats[0]].clone().unwrap().to_string();
    std::fs::write(&path, text.replace(&own, "12.5")).unwrap();
    assert_eq!(measure(&tensors[0])[&formats[0]], Ok(12.5));
}

/// Formats differ in some field: their labels do.
#[test]
fn labels_of_formats_differ() {
    let axes = "bits = [3, 4, 16]\ngroup = [32, 64, 'channel', 'tensor']\nzero = ['symmetric', 'integer']\n\
                input = ['a8', 'a8row', 'f16']\naccumulator = ['i24', 'i32', 'f16', 'f32']\n\
                dequantisation = ['none', 'before', 'after']\ndevice = ['mixpe-w4a8', 'tpu-int8']";
    let space = Space::from_toml(&format!("[[design]]\n{axes}\n")).unwrap();
    let points = space.designs()[0].one_of_each_format();
    let labels: std::collections::HashSet<String> = points.iter().map(|point| point.format().to_string()).collect();
    assert_eq!((points.len(), labels.len()), (1728, 1728));
    assert!(
        labels.contains("mixpe-w4a8 W4A8 g32 i24")
            && labels.contains("tpu-int8 W4A8 per channel row i32 symmetric before")
    );
}

/// Every rounding more costs fidelity: products exact, rounded to f16 once, summed in f16, formed by f16 adders.
#[test]
fn every_device_of_the_catalogue_has_a_fidelity() {
    let tensors = Tensors::gaussian(16).unwrap();
    let of =
        |device: &str, accumulator: &str, position: &str| fidelity(&tensors, &f16(device, 4, accumulator, position));
    let exact = of("mixpe-w4a16", "i52", "after");
    let fused = of("mixpe-w4a16-fused", "f32", "after");
    let [half, naive, flush, saturate] = ["fused-f16", "naive", "flush", "saturate"]
        .map(|reading| of(&format!("mixpe-w4a16-{reading}"), "f16", "after"));
    println!("exact {exact:.4} dB, fused {fused:.4} dB, in f16 {half:.3} dB, term by term {naive:.3} dB");
    assert!((exact - fused).abs() < 0.01 && half < fused && naive < half && naive > half - 3.0);
    assert!((flush - naive).abs() < 0.1 && (saturate - naive).abs() < 0.1);
    for (device, accumulator) in [
        ("dequant-w4a16", "f32"),
        ("dequant-w4a16-f16", "f16"),
        ("dequant-w4a16-rescaled", "f32"),
        ("dequant-w4a16-quantised", "f32"),
    ] {
        let found = of(device, accumulator, "before");
        assert!(found > exact - 1.0 && found < exact + 0.1, "{device}: {found}");
    }
    // Of the catalogue's accelerators with parts these are all but MixPE W4A8, the INT8 array and the two FP16 arrays, and
    // the INT8 array behind integer scales, which have tests of their own.
    let parts = ACCELERATORS
        .iter()
        .filter(|accelerator| accelerator.cost_file().is_some());
    assert_eq!(parts.count(), 6 + 4 + 5);
}

/// An INT8 array with weights of 4 bits: integer scales of groups lose a little, and a matrix that has such scales
/// loses nothing but what inputs in 8 bits lose.
#[test]
fn integer_scales_lose_a_little() {
    let tensors = Tensors::gaussian(16).unwrap();
    let after = fidelity(&tensors, &int8("tpu-int8", 4, "128"));
    let rest = "group = [128]\ninput = ['a8row']\naccumulator = ['i32']\ndequantisation = ['before']";
    let before = fidelity(&tensors, &format("dequant-w4a8", 4, rest));
    assert!(before < after && before > after - 1.0, "{before} before, {after} after");
}

#[test]
fn what_a_device_does_not_take_is_refused_by_axis() {
    let before = "group = [128]\ninput = ['a8']\naccumulator = ['i32']\ndequantisation = ['before']";
    for (format, expected) in [
        (int8("mixpe-w4a8", 5, "64"), "bits: expected 1 to 4, found 5"),
        (int8("fp16", 16, "64"), "dequantisation: expected none, found after"),
        (f16("tpu-int8", 4, "i32", "after"), "input: expected a8 or a8row"),
        (f16("tpu-int8", 4, "i32", "before"), "dequantisation: expected after"),
        (f16("mixpe-w4a8", 4, "f32", "after"), "input: expected a8 or a8row"),
        (
            f16("mixpe-w4a16-fused", 4, "i32", "after"),
            "accumulator: expected f32, found i32",
        ),
        (
            f16("mixpe-w4a16-fused", 4, "f16", "after"),
            "accumulator: expected f32, found f16",
        ),
        (f16("fp16", 16, "f16", "none"), "accumulator: expected f32"),
        (f16("mixpe-w4a16-naive", 4, "f32", "after"), "accumulator: expected f16"),
        (f16("mixpe-w4a16", 4, "f32", "after"), "accumulator: expected i8 to i64"),
        (f16("mixpe-w4a16", 4, "i52", "before"), "dequantisation: expected after"),
        (
            f16("dequant-w4a16", 4, "f32", "after"),
            "dequantisation: expected before",
        ),
        (format("dequant-w4a8", 4, before), "input: expected a8row, found A8"),
        (f16("fp16", 4, "f32", "none"), "bits: expected 16, found 4"),
    ] {
        let tensors = Tensors::gaussian(16).unwrap();
        let values = |format: &Format| -> mixgemm::Result<Values> { format.values(&host()) };
        let found = tensors
            .fidelities(std::slice::from_ref(&format), values, &mut Measured::none(), |_, _| {})
            .unwrap();
        let error = found[&format].clone().unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains(&format.device), "{error}");
    }
}

#[test]
fn tensors_without_a_product_are_refused() {
    let matrix = |n, k, value: f32| Matrix::new("w", Mat::from_fn(n, k, |_, _| value), Mat::from_fn(2, k, |_, _| 1.0));
    assert!(matrix(3, 4, 1.0).is_ok());
    for (n, k, value) in [
        (0, 4, 1.0),
        (3, 0, 1.0),
        (3, 4, 0.0),
        (3, 4, f32::NAN),
        (3, 4, f32::INFINITY),
    ] {
        assert!(matrix(n, k, value).is_err(), "{n} {k} {value}");
    }
    assert!(Tensors::new("none", Vec::new()).is_err());
    assert!(Tensors::gaussian(0).is_err() && Tensors::outliers(0).is_err());
    // f16 inputs overflow: the product is not finite, and the fidelity the least there is.
    let large = Matrix::new(
        "w",
        Mat::from_fn(2, 128, |_, k| k as f32),
        Mat::from_fn(1, 128, |_, _| 1e5),
    )
    .unwrap();
    let tensors = Tensors::new("large", vec![large]).unwrap();
    assert_eq!(fidelity(&tensors, &f16("fp16", 16, "f32", "none")), LEAST_DB);
}
