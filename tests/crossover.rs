//! From which M on weights should be scaled before the array: by trying, on every dataflow and with scratchpads of two sizes.
#![cfg(feature = "lab")]
#![forbid(unsafe_code)]

use mixgemm::accel::array::{Array, Dataflow, Extents};
use mixgemm::accel::hardware::Hardware;
use mixgemm::accel::hardware::dequantise::Position;
use mixgemm::accel::hardware::formats::ActivationScale;

fn named(name: &str) -> Hardware {
    Hardware::named(name).unwrap()
}

/// The most rows that are tried here.
const TRIED: u64 = 600;

/// The first M at which scaling weights takes fewer multiplications by a group's scale, and less energy: by trying, with
/// the tiles that the scratchpads allow. Multiplications by a channel's scale come in the end and are not counted.
fn first_cheaper(hardware: &Hardware, n: u64, k: u64) -> [Option<u64>; 2] {
    let ways = [Position::Before, Position::After].map(|position| hardware.scaling_at(position));
    let mut first = [None; 2];
    for m in 1..=TRIED {
        let e = Extents::new(m, n, k);
        let [before, after] = ways.each_ref().map(|hardware| {
            let memory = hardware.memory.memory();
            let traffic = memory.traffic(&hardware.array, e, &hardware.widths(k)).unwrap();
            let scalings = hardware.scalings(e, traffic.walk.weight_reads);
            (scalings, hardware.scaling_pj(&scalings).total())
        });
        for (first, cheaper) in first
            .iter_mut()
            .zip([before.0.weights < after.0.sums, before.1 < after.1])
        {
            if cheaper && first.is_none() {
                *first = Some(m);
            }
        }
    }
    first
}

#[test]
fn the_crossover_is_where_scaling_before_begins_to_take_less() {
    let (mut seen, mut cut) = ([0; 2], 0);
    for name in [
        "mixpe-w4a8",
        "mixpe-w4a16",
        "mixpe-w4a16-fused",
        "dequant-w4a8",
        "tpu-int8",
    ] {
        for dataflow in Dataflow::ALL {
            for (rows, cols, group, zero_bits, k) in [
                (32, 32, 128, 4, 1024),
                (32, 32, 16, 0, 1000),
                (8, 64, 32, 4, 96),
                (64, 8, 32, 4, 96),
                (256, 256, 128, 4, 4096),
                (32, 32, 0, 4, 512),
                (600, 600, 512, 4, 512),
            ] {
                let mut hardware = named(name);
                hardware.array = Array::new(rows, cols, dataflow).unwrap();
                hardware.formats.weight_bits = 4;
                (hardware.memory.activation.bytes, hardware.memory.activation.banks) = (1 << 22, 512);
                (hardware.dequantisation.group, hardware.dequantisation.zero_bits) = (group, zero_bits);
                let n = 32;
                let large = first_cheaper(&hardware, n, k);
                // Half of 8 KiB does not hold a fold of every array that keeps sums.
                let least = if dataflow == Dataflow::OutputStationary { 128 } else { 8 };
                for kib in [128, least] {
                    (hardware.memory.output.bytes, hardware.memory.output.banks) = (kib * 1024, 2);
                    let tried = first_cheaper(&hardware, n, k);
                    let found = hardware.crossover(n, k).unwrap().unwrap();
                    let found = [found.by_count, found.by_energy];
                    assert_eq!(found.map(|m| m.filter(|&m| m <= TRIED)), tried, "{hardware:?}");
                    seen[0] += usize::from(tried[0].is_some());
                    seen[1] += usize::from(tried[1].is_some());
                    cut += usize::from(tried != large);
                }
            }
        }
    }
    // Small scratchpads make a difference.
    assert!(seen.iter().all(|&seen| seen > 10) && cut > 3, "{seen:?} {cut}");
    // Groups of 128 on an array that keeps its weights: after the group takes fewer as long as M < 128.
    let mut kept = named("mixpe-w4a8");
    kept.array = Array::new(32, 32, Dataflow::WeightStationary).unwrap();
    assert_eq!(kept.crossover(4096, 4096).unwrap().unwrap().by_count, Some(129));
    assert_eq!(named("fp16").crossover(4096, 4096), Ok(None));
    // Scratchpads that hold nothing have an estimate as little as a crossover.
    kept.memory.output.bytes = 8;
    let error = kept.crossover(4096, 4096).unwrap_err().to_string();
    assert!(error.starts_with("memory.output_bytes: expected at least"), "{error}");
}

/// There and back is where it was, but for the scales of groups of activations, which integers summed over all of K cannot
/// have.
#[test]
fn scaling_elsewhere_and_back_is_the_same_accelerator() {
    for hardware in Hardware::catalogue() {
        let own = hardware.dequantisation.position;
        let other = match own {
            Position::None => continue,
            Position::Before => Position::After,
            Position::After => Position::Before,
        };
        assert_eq!(&hardware.scaling_at(own), hardware);
        let mut back = hardware.scaling_at(other).scaling_at(own);
        assert_ne!(&hardware.scaling_at(other), hardware);
        if hardware.name == "mixpe-w4a8" {
            assert_eq!(back.formats.activation_scale, ActivationScale::Row);
            back.formats.activation_scale = ActivationScale::Group;
        }
        assert_eq!(&back, hardware);
    }
    let first = named("dequant-w4a8");
    assert_eq!(first.dequantisation.scale_bits, 8);
    assert_eq!(first.scaling_at(Position::After).dequantisation.scale_bits, 16);
}
