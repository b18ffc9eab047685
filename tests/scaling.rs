//! What scales, zero points and groups take on an accelerator, by hand; and what does not go together.
#![cfg(feature = "lab")]
#![forbid(unsafe_code)]

use mixgemm::accel::array::{Array, Dataflow, Extents};
use mixgemm::accel::cost::element::Accumulator;
use mixgemm::accel::cost::sram::bank;
use mixgemm::accel::hardware::Hardware;
use mixgemm::accel::hardware::dequantise::Scalings;
use mixgemm::accel::hardware::formats::ActivationScale;

fn named(name: &str) -> Hardware {
    Hardware::named(name).unwrap()
}

fn close(found: f64, expected: f64) {
    assert!((found / expected - 1.0).abs() < 1e-9, "{found} instead of {expected}");
}

/// One product of 16 × 64 × 512 in groups of 128, counted by hand for every place and every dataflow.
#[test]
fn scalings_are_those_of_a_count_by_hand() {
    let e = Extents::new(16, 64, 512);
    let (outputs, reads) = (16 * 64, 64 * 512);
    let on = |name: &str, rows, dataflow| {
        let mut hardware = named(name);
        hardware.array = Array::new(rows, 32, dataflow).unwrap();
        hardware
    };
    let [os, ws, _] = Dataflow::ALL;
    let after = Scalings {
        sums: outputs * 4,
        zero_terms: outputs * 4,
        activation_sums: 16 * 512,
        ..Scalings::default()
    };
    let mixpe = on("mixpe-w4a8", 32, os);
    assert_eq!(mixpe.scalings(e, reads), after);
    // Symmetric codes are unsigned here all the same, and have their 2^(b−1) taken off.
    let mut symmetric = mixpe.clone();
    symmetric.dequantisation.zero_bits = 0;
    assert_eq!(symmetric.scalings(e, reads), after);
    assert!(symmetric.scaling_pj(&after).zero_terms < 0.5 * mixpe.scaling_pj(&after).zero_terms);
    // A column of 32 rows ends before its group does; one of 512 has four groups, of which one leaves at its foot.
    assert_eq!(on("mixpe-w4a8", 32, ws).scalings(e, reads).taps, 0);
    assert_eq!(on("mixpe-w4a8", 512, ws).scalings(e, reads).taps, outputs * 3);
    assert_eq!(on("mixpe-w4a8", 256, ws).scalings(e, reads).taps, outputs * 2);
    // The INT8 array with its own weights, with codes of 4 bits that it widens, and with codes that it scales first.
    let mut tpu = on("tpu-int8", 32, os);
    let channel = Scalings {
        sums: outputs,
        outputs,
        ..Scalings::default()
    };
    assert_eq!(tpu.scalings(e, reads), channel);
    tpu.formats.weight_bits = 4;
    let widened = Scalings {
        widenings: reads,
        ..channel
    };
    assert_eq!(tpu.scalings(e, reads), widened);
    let first = Scalings {
        weights: reads,
        ..channel
    };
    assert_eq!(on("dequant-w4a8", 32, os).scalings(e, reads), first);
    let float = Scalings {
        weights: reads,
        ..Scalings::default()
    };
    assert_eq!(on("dequant-w4a16", 32, os).scalings(e, reads), float);
    assert_eq!(on("fp16", 32, os).scalings(e, reads), Scalings::default());
    // Once for every pass: two fills of 32 rows with 64 rows of activations.
    let estimate = on("dequant-w4a8", 32, os).estimate(Extents::new(64, 64, 512)).unwrap();
    assert_eq!(estimate.scalings.weights, 2 * reads);
    assert!(estimate.scaling_pj.weights > 0.0 && estimate.scaling_pj.widenings == 0.0);
}

/// What a scaling takes, from the table of parts: 45 nm, no node to scale to.
#[test]
fn scalings_are_priced_by_the_table() {
    let one = Scalings {
        weights: 1,
        widenings: 1,
        sums: 1,
        taps: 1,
        outputs: 1,
        zero_terms: 1,
        activation_sums: 1,
    };
    let adder = |bits: f64| bits * 0.0033;
    let fit = |a: f64, b: f64| a * b * 23.0 / 7680.0 + (a + b) / 2.0 / 960.0;
    let narrow = |b: f64| 3.7 - fit(24.0, 24.0) + fit(24.0, b);
    let conversion = |bits: f64| bits * 5.0 * 0.00042 + adder(8.0);
    let mixpe = named("mixpe-w4a8").scaling_pj(&one);
    // Scale of weights by scale of activations, the sum by both, the running sum and its register.
    close(mixpe.sums, conversion(24.0) + narrow(11.0) + 3.7 + 0.9 + 32.0 * 0.00106);
    close(mixpe.zero_terms, fit(4.0, 15.0) + adder(24.0));
    close(mixpe.activation_sums, adder(15.0));
    close(mixpe.taps, 24.0 * 0.00106);
    close(mixpe.outputs, 3.7);
    let mut other = named("mixpe-w4a8");
    other.formats.activation_scale = ActivationScale::Row;
    close(mixpe.sums - other.scaling_pj(&one).sums, 3.7);
    // No register where sums leave the array; no running sum where a row has one scale.
    other.array = Array::new(32, 32, Dataflow::WeightStationary).unwrap();
    close(other.scaling_pj(&one).sums, conversion(24.0) + narrow(11.0) + 0.9);
    other.dequantisation.group = 0;
    close(other.scaling_pj(&one).sums, conversion(24.0) + narrow(11.0));
    // The width of a scale counts: 32 bits have 24 significant ones.
    other.dequantisation.scale_bits = 32;
    close(other.scaling_pj(&one).sums, conversion(24.0) + 3.7);
    let two_level = named("dequant-w4a8").scaling_pj(&one);
    close(two_level.weights, fit(4.0, 8.0) + adder(8.0));
    close(two_level.sums, conversion(32.0) + 3.7);
    close(named("tpu-int8").scaling_pj(&one).widenings, adder(8.0));
    let float = named("dequant-w4a16").scaling_pj(&one);
    close(float.weights, 1.1 + 0.4);
    let fused = named("mixpe-w4a16-fused-f16").scaling_pj(&one);
    close(fused.zero_terms, narrow(4.0) + 0.9);
    close(fused.activation_sums, 0.4);
    // 41 bits of fixed point and 7 of carries, shifted by one of 30 exponents.
    close(
        named("mixpe-w4a16").scaling_pj(&one).activation_sums,
        adder(48.0) + 48.0 * 5.0 * 0.00042,
    );
}

/// Area that groups take beside the elements: running sums for all outputs that stay, taps in columns that do not.
#[test]
fn groups_take_area() {
    let area = |array, group| {
        let mut hardware = named("mixpe-w4a8");
        (hardware.array, hardware.dequantisation.group) = (array, group);
        hardware.scaling_um2()
    };
    let array = |rows, dataflow| Array::new(rows, 32, dataflow).unwrap();
    let [os, ws, _] = Dataflow::ALL;
    // As many scalers and lanes either way: rows and columns are 32.
    close(
        area(array(32, os), 128) - area(array(32, ws), 128),
        1024.0 * 32.0 * 5.98,
    );
    // 128 rows with groups of 128 have no taps, with groups of 32 three a column, of 24 bits; and four times the scalers.
    let (few, many) = (area(array(128, ws), 128), area(array(128, ws), 32));
    let unit = (few - 128.0 * 15.0 * 4.35) / 32.0;
    assert!(
        many - few > 96.0 * unit * 0.9 && many - few < 96.0 * unit * 1.1 + 96.0 * 24.0 * 5.98,
        "{unit} {few} {many}"
    );
}

#[test]
fn widths_count_scales_and_sums() {
    let widths = |name: &str| named(name).widths(512);
    // A scale and a zero point for 128 codes; an f32 scale for 128 activations; scaled groups are added in f32.
    let mixpe = widths("mixpe-w4a8");
    assert_eq!(
        (mixpe.weight, mixpe.activation, mixpe.partial),
        (4.0 + 20.0 / 128.0, 8.0 + 0.25, 32.0)
    );
    // Sums that no group ends are as wide as the accumulator.
    let mut narrow = named("tpu-int8");
    narrow.element.accumulator = Accumulator::Integer(26);
    let narrow = narrow.widths(512);
    assert_eq!(
        (narrow.weight, narrow.activation, narrow.partial),
        (8.0 + 16.0 / 512.0, 8.0 + 32.0 / 512.0, 26.0)
    );
    assert_eq!((widths("fp16").partial, widths("fp16-f16").partial), (32.0, 16.0));
    assert_eq!(widths("fp16-f16").activation, 16.0);
    // An 8-bit scale and a 4-bit zero point a group, an f32 scale a channel.
    let two_level = widths("dequant-w4a8");
    assert_eq!(
        (two_level.weight, two_level.partial),
        (4.0 + 12.0 / 128.0 + 32.0 / 512.0, 32.0)
    );
    assert_eq!(widths("dequant-w4a16").weight, 4.0 + 32.0 / 128.0);
    assert_eq!(widths("dequant-w4a16-quantised").weight, 4.0 + 20.0 / 128.0);
}

/// The accelerator as a whole: what its parts allow each by themselves may not go together.
#[test]
fn what_does_not_go_together_is_refused_by_key() {
    for (text, expected) in [
        (
            "base = 'mixpe-w4a8'\ndequantisation = { position = 'before' }",
            "dequantisation.position: expected none or after, as elements that shift and add take codes, found before",
        ),
        (
            "base = 'mixpe-w4a16-fused'\ndequantisation = { position = 'before' }",
            "dequantisation.position: expected none or after",
        ),
        (
            "base = 'fp16'\nformats = { activation_scale = 'row' }",
            "formats.activation_scale: expected none with activations in floating point, found row",
        ),
        (
            "base = 'dequant-w4a8'\nformats = { activation_scale = 'group' }",
            "formats.activation_scale: expected none or row",
        ),
        (
            "base = 'mixpe-w4a8'\nelement = { accumulator = 'i18' }",
            "element.accumulator: expected one that holds sums of 128 products, found i18",
        ),
        (
            "base = 'mixpe-w4a16'\nelement = { accumulator = 'i51' }",
            "element.accumulator: expected one that holds sums of 128 products, found i51",
        ),
        (
            "base = 'fp16'\nformats = { weight_bits = 32 }",
            "formats.weight_bits: expected 1 to 16, found 32",
        ),
        ("base = 'fp16'\nclock_mhz = 5000", "clock_mhz: expected at most "),
        (
            "base = 'fp16'\nformats = { partial_bits = 32 }",
            "unknown field `partial_bits`",
        ),
    ] {
        let error = Hardware::from_toml(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
    // A bank of 4 KiB with words of 64 bytes is read in 0.224 ns at 28 nm by CACTI.
    let slowest = bank(8192.0, 64.0, 28.0).unwrap().access_ns;
    let mut fast = named("tpu-int8");
    fast.clock_mhz = 1e3 / slowest;
    assert!(fast.check().is_ok());
    fast.clock_mhz *= 1.0001;
    let error = fast.estimate(Extents::new(1, 1, 1)).unwrap_err().to_string();
    assert!(
        error.contains("an access of a bank of memory.activation takes"),
        "{error}"
    );
}
