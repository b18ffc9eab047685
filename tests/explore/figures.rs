//! Figures of points: FP16 beside them, and what every required accelerator has.

use crate::ARITHMETIC;
use mixgemm::dse::evaluate::Evaluator;
use mixgemm::dse::outcome::Outcome;
use mixgemm::dse::space::{Point, Space};
use mixgemm::dse::workload::Workload;
use std::collections::HashMap;

/// The figures of a point of Llama-2-7B or ViT, at a made-up fidelity.
fn figures(point: &Point, workload: &str) -> mixgemm::Result<Outcome> {
    let known = HashMap::from([(point.format(), Ok(20.0))]);
    let evaluator = Evaluator::new(Workload::built_in(workload).unwrap(), known);
    evaluator.evaluate(point).map(|row| row.outcome)
}

/// Every required accelerator is in the built-in space and has all figures there, in both views, for decode and prefill,
/// small and large groups, cheap and dear DRAM; and at every node.
#[test]
fn every_required_accelerator_has_all_figures() {
    let space = Space::built_in().unwrap();
    let points: Vec<Point> = (0..space.len()).map(|id| space.point(id).unwrap()).collect();
    for device in [
        "mixpe-w4a8",
        "mixpe-w4a16",
        "mixpe-w4a16-fused",
        "mixpe-w4a16-fused-f16",
        "tpu-int8",
        "fp16",
        "fp16-f16",
        "dequant-w4a16",
        "dequant-w4a8",
    ] {
        let own: Vec<&Point> = points.iter().filter(|point| point.device == device).collect();
        let values = |of: fn(&Point) -> String| {
            let all: std::collections::BTreeSet<String> = own.iter().map(|point| of(point)).collect();
            all.len()
        };
        assert_eq!(
            (values(|p| p.m.to_string()), values(|p| p.dram_pj_per_bit.to_string())),
            (4, 3)
        );
        let groups = if device.starts_with("fp16") { 1 } else { 3 };
        assert!(values(|p| p.group.to_string()) >= groups, "{device}");
        for point in own.iter().step_by(7).take(40) {
            let found = figures(point, "llama2-7b").unwrap();
            assert_eq!(found.not_finite(), None);
            for figure in [
                found.area_mm2,
                found.power_mw,
                found.energy_pj(),
                found.cycles as f64,
                found.efficiency_equal_peak,
                found.efficiency_equal_area,
                found.element_efficiency,
            ] {
                assert!(figure > 0.0, "{device}: {found:?}");
            }
        }
        let mut last = 0.0;
        for node_nm in [22, 28, 45, 65] {
            let found = figures(
                &Point {
                    node_nm,
                    ..own[0].clone()
                },
                "vit",
            )
            .unwrap();
            assert!(found.area_mm2 > last, "{device} at {node_nm} nm");
            last = found.area_mm2;
        }
    }
}

/// FP16 beside a point: of its area where that has room for more than one element, else one; and of any size that a space has.
#[test]
fn fp16_of_equal_area_is_as_large_as_the_area_allows() {
    let fp16 = "device = ['fp16']\nbits = [16]\nzero = ['symmetric']\ninput = ['f16']\naccumulator = ['f32']\n\
                dequantisation = ['none']\n";
    let of = |arithmetic: &str, array: &str| {
        let axes = format!(
            "m = [1]\nnode_nm = [28]\ndram_pj_per_bit = [8]\nbandwidth_bits_per_cycle = [1024]\ndataflow = ['os']\n\
                            buffers_kib = ['256/128/128']\narray = ['{array}']\n"
        );
        let space = Space::from_toml(&format!("[axes]\n{axes}[[design]]\n{arithmetic}group = ['channel']\n")).unwrap();
        figures(&space.point(0).unwrap(), "vit")
    };
    let int8 = ARITHMETIC
        .replace("'mixpe-w4a8', 'tpu-int8'", "'tpu-int8'")
        .replace("'a8'", "'a8row'");
    let int8 = int8.replace("'i24'", "'i32'");
    // An element that adds in f16 is smaller than one that adds in f32, and there is no half of one.
    let small = fp16.replace("fp16", "fp16-f16").replace("f32", "f16");
    let small = of(&small, "1x1").unwrap();
    assert_eq!(small.efficiency_equal_peak, small.efficiency_equal_area);
    assert!(of(&int8, "32x32").unwrap().efficiency_equal_area < of(&int8, "32x32").unwrap().efficiency_equal_peak);
    // FP16 beside itself, up to the largest array that a space may have.
    for array in ["1x1", "32x32", "4096x4096", "8192x8192", "16384x16384"] {
        let own = of(fp16, array).unwrap();
        assert!(
            (own.efficiency_equal_peak - 1.0).abs() < 0.2,
            "{array}: {}",
            own.efficiency_equal_peak
        );
        assert!(
            (own.efficiency_equal_area - 1.0).abs() < 0.2,
            "{array}: {}",
            own.efficiency_equal_area
        );
    }
    // What is wrong with a point is said, not taken for a lack of room.
    let error = of(&int8.replace("'i32'", "'i16'"), "1x1").unwrap_err().to_string();
    assert!(error.starts_with("element.accumulator"), "{error}");
}
