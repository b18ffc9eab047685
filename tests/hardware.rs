//! Accelerators as data: estimates against arithmetic by hand and published figures, and laws that hold for all.
#![cfg(feature = "lab")]
#![forbid(unsafe_code)]

use mixgemm::accel::array::{Array, Dataflow, Extents};
use mixgemm::accel::cost::Provenance;
use mixgemm::accel::cost::dram::{self, DramEnergy};
use mixgemm::accel::cost::element::{Accumulator, Multiplier};
use mixgemm::accel::hardware::Hardware;
use mixgemm::accel::hardware::dequantise::Scalings;
use mixgemm::accel::hardware::estimate::{Bounds, Estimate};
use proptest::prelude::*;

fn named(name: &str) -> Hardware {
    Hardware::named(name).unwrap()
}

fn close(found: f64, expected: f64) {
    assert!((found / expected - 1.0).abs() < 1e-9, "{found} instead of {expected}");
}

/// 64 × 64 × 256 on 32 × 32 INT8 elements at 45 nm, where nothing is scaled or interpolated: all from the tables.
#[test]
fn an_estimate_by_hand() {
    let mut int8 = named("tpu-int8");
    (int8.node_nm, int8.element.registers) = (45.0, false);
    let found = int8.estimate(Extents::new(64, 64, 256)).unwrap();
    // Two by two folds; the first load and the last store of a fold at 1024 bits a cycle.
    // An activation has a 256th of its row's f32 scale, a weight that of its channel's f16 scale.
    let first = 32.0 * 256.0 * 8.125 + 32.0 * 256.0 * 8.0625;
    assert_eq!(found.traffic.compute_cycles, 4 * (256 + 32 + 32 - 2));
    assert_eq!(
        found.stall_cycles,
        ((first + 32.0 * 32.0 * 16.0) / 1024.0_f64).ceil() as u64
    );
    close(found.seconds, found.cycles as f64 / 5e8);

    // An 8-bit multiplier of 0.2 pJ and 282 µm², a 32-bit adder of 3.3 fJ and 4.35 µm² a bit.
    close(found.energy.core_pj, 1_048_576.0 * (0.2 + 32.0 * 0.0033));
    close(found.area.core_um2, 1024.0 * (282.0 + 32.0 * 4.35));
    // Everything crosses the channel once at 15 pJ a bit.
    let (activations, weights, outputs) = (64.0 * 256.0 * 8.125, 64.0 * 256.0 * 8.0625, 64.0 * 64.0 * 16.0);
    close(found.energy.dram_pj, 15.0 * (activations + weights + outputs));
    // CACTI at 45 nm, 64-byte words: banks of 8 KiB, 4 KiB, 4 KiB. Operands enter the array twice.
    let (large, small) = ([39.0678, 56.107], [37.2974, 45.5543]);
    let of =
        |[read, write]: [f64; 2], bits_read: f64, bits_written: f64| (bits_read * read + bits_written * write) / 512.0;
    close(
        found.energy.buffers_pj,
        of(large, 2.0 * activations, activations) + of(small, 2.0 * weights, weights) + of(small, outputs, outputs),
    );
    // A scale per channel: five levels of 32 multiplexers, an exponent adder, an f32 multiplier without 13 of the 24 rows of
    // its significand. A scale per row of activations: an f32 multiplier.
    let fit = |b: f64| 24.0 * b * 23.0 / 7680.0 + (24.0 + b) / 2.0 / 960.0;
    let scaling = 160.0 * 0.00042 + 8.0 * 0.0033 + 3.7 - fit(24.0) + fit(11.0);
    let counted = Scalings {
        sums: 64 * 64,
        outputs: 64 * 64,
        ..Scalings::default()
    };
    assert_eq!(found.scalings, counted);
    close(found.scaling_pj.sums, 4096.0 * scaling);
    close(found.scaling_pj.outputs, 4096.0 * 3.7);
    close(found.energy.dequantisation_pj, 4096.0 * (scaling + 3.7));
    // 33.38 nW of every µm² of logic; 32 banks each.
    close(
        found.energy.static_core_pj,
        found.area.core_um2 * 33.38e-9 * found.seconds * 1e12,
    );
    let leakage_mw = 32.0 * (13.3429 + 2.0 * 7.10061);
    close(found.energy.static_buffers_pj, leakage_mw * 1e-3 * found.seconds * 1e12);
    close(found.power_mw(), found.energy.total_pj() * 1e-12 / found.seconds * 1e3);
    close(
        found.utilization(&int8.array),
        1_048_576.0 / (found.cycles as f64 * 1024.0),
    );
}

/// The figures of MixPE's authors are 58.28 for INT8, 133.38 for MixPE W4A8 and 4.82 for MixPE W4A16. The elements of
/// the catalogue, leakage included, come to these; the 4.82 needs f16 accumulation on both sides.
#[test]
fn efficiencies_beside_those_published() {
    let e = Extents::new(2048, 4096, 4096);
    let relative = |name: &str| named(name).relative_efficiency(e, Bounds::Array).unwrap();
    for (name, least, most) in [
        ("tpu-int8", 50.0, 58.0),
        ("mixpe-w4a8", 118.0, 133.0),
        ("mixpe-w4a16-fused", 2.0, 2.5),
        ("dequant-w4a16", 0.98, 1.04),
    ] {
        assert!((least..most).contains(&relative(name)), "{name}: {}", relative(name));
    }
    let over_int8 = relative("mixpe-w4a8") / relative("tpu-int8");
    assert!((2.2..2.4).contains(&over_int8), "{over_int8}");
    let over_f16 = relative("mixpe-w4a16-fused-f16") / relative("fp16-f16");
    assert!((4.0..4.4).contains(&over_f16), "{over_f16}");
    // What elements gain is a small part of a chip with its leakage and its DRAM.
    let system = named("mixpe-w4a8").relative_efficiency(e, Bounds::System).unwrap();
    assert!(system < 6.0, "{system}");
}

#[test]
fn sizes_fill_what_they_are_given() {
    for hardware in Hardware::catalogue() {
        for mm2 in [0.05, 0.3, 2.5] {
            let sized = hardware.with_area_mm2(mm2, Bounds::Array).unwrap();
            let area = sized.area().unwrap().within_mm2(Bounds::Array);
            let element = area / sized.array.elements() as f64;
            assert!(
                area <= mm2 && area + 1.1 * element > 0.9 * mm2,
                "{}: {area} of {mm2}",
                hardware.name
            );
            assert_eq!((&sized.element, sized.memory), (&hardware.element, hardware.memory));
            for more in 1..50 {
                let larger = hardware.with_peak(sized.array.macs_per_cycle() + more).unwrap();
                let grew = larger.array.elements() > sized.array.elements();
                assert!(
                    !grew || larger.area().unwrap().within_mm2(Bounds::Array) > mm2,
                    "{}: {larger:?}",
                    hardware.name
                );
            }
        }
        let chip = hardware.area().unwrap().within_mm2(Bounds::Chip);
        assert_eq!(
            hardware.with_area_mm2(chip * 1.0001, Bounds::Chip).unwrap().array,
            hardware.array
        );
        let tiny = hardware.with_area_mm2(1e-9, Bounds::Array).unwrap_err().to_string();
        assert!(tiny.starts_with("mm2: expected at least 0.00"), "{tiny}");
        assert!(
            hardware.with_area_mm2(1e9, Bounds::Array).is_err()
                && hardware.with_area_mm2(f64::NAN, Bounds::Chip).is_err()
        );
        assert!(hardware.with_peak(0).is_err() && hardware.with_peak(u64::MAX).is_err());
        let twin = hardware.fp16_twin().unwrap();
        assert_eq!(twin.array.macs_per_cycle(), hardware.array.macs_per_cycle());
        let equal = hardware.fp16_of_equal_area(Bounds::Array).unwrap();
        assert!(equal.area().unwrap().core_um2 <= hardware.area().unwrap().core_um2 * (1.0 + 1e-12));
    }
    let wide = Array::new(16, 16, Dataflow::OutputStationary)
        .unwrap()
        .per_element(Extents::new(2, 2, 1))
        .unwrap();
    let hardware = Hardware {
        array: wide,
        ..named("tpu-int8")
    };
    assert_eq!(hardware.fp16_twin().unwrap().array, named("fp16").array);
    assert_eq!(hardware.with_peak(64).unwrap().array.elements(), 16);
}

#[test]
fn sums_that_would_leave_the_accumulator_are_refused() {
    let mut int8 = named("tpu-int8");
    assert!(int8.estimate(Extents::new(1, 32, 131_071)).is_ok());
    let error = int8.estimate(Extents::new(1, 32, 131_072)).unwrap_err().to_string();
    assert_eq!(
        error,
        "element.accumulator: expected one that holds sums of 131072 products, found i32"
    );
    int8.element.accumulator = Accumulator::Integer(64);
    assert!(int8.estimate(Extents::new(1, 32, 131_072)).is_ok());
    // After each group of 128 an accumulator of 19 bits begins anew.
    let mut mixpe = named("mixpe-w4a8");
    mixpe.element.accumulator = Accumulator::Integer(19);
    assert!(mixpe.estimate(Extents::new(1, 32, 1 << 20)).is_ok());
    mixpe.dequantisation.group = 256;
    assert!(mixpe.estimate(Extents::new(1, 32, 1 << 20)).is_err());
}

#[test]
fn every_figure_has_an_origin() {
    for hardware in Hardware::catalogue() {
        let origins = hardware.origins().unwrap();
        assert!(
            origins.iter().all(|origin| origin.source.len() > 10),
            "{}",
            hardware.name
        );
        let has = |name: &str| origins.iter().any(|origin| origin.name == name);
        assert!(has("leakage of logic") && has("scratchpads") && has("energy of the DRAM channel"));
        assert_eq!(
            has("AND gate"),
            hardware.element.multiplier == Multiplier::ShiftAdd || hardware.name.contains("mixpe")
        );
        assert_eq!(
            has("f16 multiplier"),
            hardware.name.starts_with("fp16") || hardware.name.starts_with("dequant-w4a16")
        );
        let generated = origins
            .iter()
            .filter(|origin| origin.provenance == Provenance::Generated);
        assert_eq!(generated.count(), 1);
    }
}

/// One energy of the channel after the other decides what the machine costs.
#[test]
fn published_channels_differ_sixtyfold() {
    let mut hardware = named("mixpe-w4a8");
    let e = Extents::new(16, 4096, 4096);
    let mut energies: Vec<f64> = Vec::new();
    for row in dram::published() {
        hardware.dram = DramEnergy {
            background_mw: 0.0,
            ..row.energy()
        };
        energies.push(hardware.estimate(e).unwrap().energy.dram_pj);
    }
    assert!(energies.is_sorted() && energies[energies.len() - 1] > 60.0 * energies[0]);
}

/// Weights and activations have widths of their own in elements, scratchpads, on the channel and in energy.
#[test]
fn weights_and_activations_have_widths_of_their_own() {
    let e = Extents::new(64, 64, 256);
    let of = |weight, activation| {
        let mut hardware = named("tpu-int8");
        (hardware.element.weight_bits, hardware.element.activation_bits) = (weight, activation);
        (hardware.formats.weight_bits, hardware.formats.activation_bits) = (weight, activation);
        hardware.estimate(e).unwrap()
    };
    let (both, weights, activations) = (of(8, 8), of(4, 8), of(8, 4));
    let dram = |e: &Estimate| (e.traffic.dram.weight_read, e.traffic.dram.activation_read);
    let sram = |e: &Estimate| (e.traffic.sram.weight.read, e.traffic.sram.activation.read);
    // A 256th of a 16-bit and of a 32-bit scale come on top.
    let (values, scale) = (64.0 * 256.0, (0.0625, 0.125));
    for (found, w, a) in [(&both, 8.0, 8.0), (&weights, 4.0, 8.0), (&activations, 8.0, 4.0)] {
        assert_eq!(dram(found), (values * (w + scale.0), values * (a + scale.1)));
        assert_eq!(
            sram(found),
            (2.0 * values * (w + scale.0), 2.0 * values * (a + scale.1))
        );
        assert_eq!(found.macs, both.macs);
    }
    for narrow in [&weights, &activations] {
        assert!(narrow.energy.core_pj < both.energy.core_pj && narrow.area.core_um2 < both.area.core_um2);
        assert!(narrow.energy.buffers_pj < both.energy.buffers_pj && narrow.cycles < both.cycles);
        close((both.energy.dram_pj - narrow.energy.dram_pj) / 15.0, 4.0 * values);
    }
}

fn parts(estimate: &Estimate) -> [f64; 7] {
    let e = &estimate.energy;
    [
        e.static_core_pj,
        e.static_buffers_pj,
        e.static_dequantisation_pj,
        e.dram_pj,
        e.buffers_pj,
        e.core_pj,
        e.dequantisation_pj,
    ]
}

proptest! {
    #[test]
    fn estimates_keep_the_laws(
        which in 0..Hardware::catalogue().len(),
        (m, n, k) in (1..300_u64, 1..3000_u64, 1..3000_u64),
        (rows, cols) in (1..80_u32, 1..80_u32),
        dataflow in 0..3_usize,
        (node, clock) in (22.0..=65.0_f64, 10.0..700.0_f64),
        bandwidth in 1.0..4096.0_f64,
    ) {
        let mut hardware = Hardware::catalogue()[which].clone();
        hardware.array = Array::new(rows, cols, Dataflow::ALL[dataflow]).unwrap();
        (hardware.node_nm, hardware.clock_mhz) = (node, clock);
        hardware.memory.dram_bits_per_cycle = bandwidth;
        let e = Extents::new(m, n, k);
        let found = hardware.estimate(e).unwrap();
        let parts = parts(&found);
        prop_assert!(parts.iter().all(|pj| pj.is_finite() && *pj >= 0.0), "{found:?}");
        prop_assert!((found.energy.total_pj() / parts.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        for bounds in [Bounds::Array, Bounds::Chip, Bounds::System] {
            prop_assert!(found.efficiency(bounds).is_finite() && found.efficiency(bounds) > 0.0);
            prop_assert!(found.energy.within_pj(bounds) <= found.energy.total_pj() * (1.0 + 1e-12));
        }
        prop_assert!(found.utilization(&hardware.array) <= 1.0);

        // The channel is counted in bits per cycle, so the clock changes time and leakage and nothing else.
        let mut fast = hardware.clone();
        fast.clock_mhz *= 2.0;
        let faster = fast.estimate(e).unwrap();
        prop_assert_eq!(faster.cycles, found.cycles);
        prop_assert_eq!(faster.energy.core_pj, found.energy.core_pj);
        prop_assert!((2.0 * faster.energy.static_pj() / found.energy.static_pj() - 1.0).abs() < 1e-12);

        // Wider formats are never faster, wider accumulators never cheaper.
        let mut wide = hardware.clone();
        wide.formats.output_bits += 8;
        wide.dequantisation.scale_bits += 8;
        if let Accumulator::Integer(bits) = &mut wide.element.accumulator {
            *bits += 8;
        }
        let wider = wide.estimate(e).unwrap();
        prop_assert!(wider.cycles >= found.cycles);
        prop_assert!(wider.energy.core_pj >= found.energy.core_pj && wider.area.core_um2 >= found.area.core_um2);
        // For as many scalings: other widths may lead to other tiles.
        let pj = |hardware: &Hardware| hardware.scaling_pj(&found.scalings).total();
        prop_assert!(pj(&wide) >= pj(&hardware));

        // A smaller node is smaller and takes less for logic.
        let mut small = hardware.clone();
        small.node_nm = 22.0;
        let smaller = small.estimate(e).unwrap();
        prop_assert!(smaller.area.core_um2 <= found.area.core_um2 && smaller.energy.core_pj <= found.energy.core_pj);
        prop_assert_eq!(smaller.cycles, found.cycles);
    }
}
