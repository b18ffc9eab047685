//! What must hold for every product, array and memory.
#![forbid(unsafe_code)]

use super::tiling::{ORDERS, Problem, fetches};
use super::{Memory, Moved, Widths};
use crate::accel::array::{Array, Dataflow, Extents};
use alloc::format;
use proptest::prelude::*;

const WIDTHS: Widths = Widths {
    activation: 8.0,
    weight: 4.25,
    output: 16.0,
    partial: 32.0,
};

fn array() -> impl Strategy<Value = Array> {
    let dataflow = prop::sample::select(Dataflow::ALL.to_vec());
    let per = (1u64..3, 1u64..3, 1u64..3);
    (1u32..20, 1u32..20, dataflow, per).prop_map(|(rows, cols, dataflow, (m, n, k))| {
        let array = Array::new(rows, cols, dataflow).unwrap();
        array.per_element(Extents::new(m, n, k)).unwrap()
    })
}

fn extents() -> impl Strategy<Value = Extents> {
    (1u64..400, 1u64..400, 1u64..400).prop_map(|(m, n, k)| Extents::new(m, n, k))
}

fn memory() -> impl Strategy<Value = Memory> {
    let bytes = || (4u32..18).prop_flat_map(|bits| 1u64 << bits..2u64 << bits);
    (bytes(), bytes(), bytes(), 0.25f64..600.0).prop_map(|(activation, weight, output, bandwidth)| Memory {
        activation_bytes: activation,
        weight_bytes: weight,
        output_bytes: output,
        dram_bits_per_cycle: bandwidth,
    })
}

/// Cycles, or more than any number of them where the product does not fit.
fn cycles(memory: &Memory, array: &Array, e: Extents) -> u64 {
    memory
        .traffic(array, e, &WIDTHS)
        .map_or(u64::MAX, |traffic| traffic.cycles)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn less_memory_is_never_faster(
        array in array(), e in extents(), memory in memory(), which in 0usize..4, share in 0.0f64..1.0
    ) {
        let mut smaller = memory;
        let shrunk = |bytes: u64| (bytes as f64 * share) as u64;
        match which {
            0 => smaller.activation_bytes = shrunk(memory.activation_bytes),
            1 => smaller.weight_bytes = shrunk(memory.weight_bytes),
            2 => smaller.output_bytes = shrunk(memory.output_bytes),
            _ => smaller.dram_bits_per_cycle *= share.max(1e-3),
        }
        prop_assert!(cycles(&memory, &array, e) <= cycles(&smaller, &array, e));
    }

    #[test]
    fn accounts_add_up(array in array(), e in extents(), memory in memory()) {
        let Ok(t) = memory.traffic(&array, e, &WIDTHS) else { return Ok(()) };
        let (m, n, k) = (e.m as f64, e.n as f64, e.k as f64);
        prop_assert_eq!(t.cycles, t.compute_cycles + t.stall_cycles);
        prop_assert_eq!(t.compute_cycles, array.walk(e).cycles);
        prop_assert!(t.cycles as f64 >= t.dram.total() / memory.dram_bits_per_cycle);
        // Everything crosses the channel at least once.
        prop_assert!(t.dram.activation_read >= m * k * 8.0);
        prop_assert!(t.dram.weight_read >= n * k * 4.25);
        prop_assert!(t.dram.output_written >= m * n * 16.0);
        prop_assert_eq!(t.dram.output_written - t.dram.output_read, m * n * 16.0);
        // The array reads whatever was brought, and at least as often.
        prop_assert!(t.sram.activation.read >= t.sram.activation.written.min(m * k * 8.0));
        let tile = t.tiling.tile;
        prop_assert!(tile.m * tile.k <= memory.activation_bytes / 2);
        prop_assert!((tile.n * tile.k) as f64 * 4.25 <= memory.weight_bytes as f64 * 4.0);
        prop_assert!(tile.m * tile.n * 2 <= memory.output_bytes / 2);
    }

    #[test]
    fn unlimited_bandwidth_leaves_no_stalls(array in array(), e in extents(), memory in memory()) {
        let memory = Memory { dram_bits_per_cycle: f64::INFINITY, ..memory };
        let Ok(t) = memory.traffic(&array, e, &WIDTHS) else { return Ok(()) };
        prop_assert_eq!(t.stall_cycles, 0);
    }

    /// The claim behind the search: it looks only at the largest tiles that fit.
    #[test]
    fn no_other_tiles_of_the_family_are_better(array in array(), e in extents(), memory in memory()) {
        let problem = Problem::new(&memory, &array, e, &WIDTHS);
        let [rows, cols, time] = array.dataflow().axes();
        let mut best: Option<f64> = None;
        for m in problem.extents_of_tiles(0) {
            for n in problem.extents_of_tiles(1) {
                for k in problem.extents_of_tiles(2) {
                    let tile = [m, n, k];
                    for (order, _) in ORDERS {
                        let fold = |axis: usize| Some(tile[axis]) == problem.extents_of_tiles(axis).next();
                        let streams = fold(rows) && fold(cols) && order[2] == time && problem.fits(tile, true);
                        if streams || problem.hides_changes(tile[time]) && problem.fits(tile, false) {
                            let bits = problem.dram(problem.trips(tile), order).total();
                            best = Some(best.map_or(bits, |best| bits.min(best)));
                        }
                    }
                }
            }
        }
        let found = memory.traffic(&array, e, &WIDTHS).ok();
        prop_assert_eq!(found.map(|t| t.dram.total()), best);
    }

    /// Fetches, spills and refills, counted by walking through the loops with tiles in hand.
    #[test]
    fn traffic_is_what_the_loops_do(trips in (1u64..4, 1u64..4, 1u64..4), order in prop::sample::select(ORDERS.to_vec())) {
        let (order, trips) = (order.0, [trips.0, trips.1, trips.2]);
        let mut held = [None; 3];
        let mut fetched = [0u64; 3];
        for step in 0..trips[0] * trips[1] * trips[2] {
            let mut at = [0; 3];
            let mut rest = step;
            for &axis in order.iter().rev() {
                at[axis] = rest % trips[axis];
                rest /= trips[axis];
            }
            for axis in 0..3 {
                // The tile of the operand without this axis.
                let tile = (at[(axis + 1) % 3], at[(axis + 2) % 3]);
                if held[axis] != Some(tile) {
                    held[axis] = Some(tile);
                    fetched[axis] += 1;
                }
            }
        }
        for axis in 0..3 {
            let tiles = trips[(axis + 1) % 3] * trips[(axis + 2) % 3];
            prop_assert_eq!(fetches(trips, order, axis) * tiles as f64, fetched[axis] as f64);
        }
    }
}

/// 64 × 64 × 64 on 16 × 16 with room for everything, worked out by hand.
#[test]
fn a_product_by_hand() {
    let array = Array::new(16, 16, Dataflow::WeightStationary).unwrap();
    let memory = Memory {
        activation_bytes: 1 << 16,
        weight_bytes: 1 << 16,
        output_bytes: 1 << 16,
        dram_bits_per_cycle: 8.0,
    };
    let widths = Widths {
        activation: 8.0,
        weight: 8.0,
        output: 8.0,
        partial: 32.0,
    };
    let t = memory.traffic(&array, Extents::new(64, 64, 64), &widths).unwrap();
    // 16 folds of 32 + 64 + 14 cycles; three matrices of 4096 bytes at a byte a cycle.
    assert_eq!((t.compute_cycles, t.cycles, t.stall_cycles), (1760, 12_288, 10_528));
    assert_eq!(t.dram.total(), 3.0 * 4096.0 * 8.0);
    assert_eq!(
        t.sram.activation,
        Moved {
            read: 4.0 * 4096.0 * 8.0,
            written: 4096.0 * 8.0
        }
    );
    assert_eq!(
        t.sram.weight,
        Moved {
            read: 4096.0 * 8.0,
            written: 4096.0 * 8.0
        }
    );
    // Three of four passes over the depth leave partial sums and find them again.
    let partial = 3.0 * 4096.0 * 32.0;
    assert_eq!(
        t.sram.output,
        Moved {
            read: partial + 4096.0 * 8.0,
            written: partial + 4096.0 * 8.0
        }
    );
    assert_eq!(t.tiling.tile, Extents::new(64, 64, 64));
    // At sixteen times the bandwidth the array decides: it waits for 16 × 16 weights and 64 × 16 activations, and
    // then for 64 × 16 outputs to leave.
    let fast = Memory {
        dram_bits_per_cycle: 128.0,
        ..memory
    };
    let t = fast.traffic(&array, Extents::new(64, 64, 64), &widths).unwrap();
    assert_eq!((t.compute_cycles, t.stall_cycles), (1760, 16 + 64 + 64));
}

#[test]
fn refusals_name_the_key() {
    let array = Array::new(16, 16, Dataflow::OutputStationary).unwrap();
    let good = Memory {
        activation_bytes: 4096,
        weight_bytes: 4096,
        output_bytes: 4096,
        dram_bits_per_cycle: 64.0,
    };
    let e = Extents::new(64, 64, 64);
    let refused = |memory: Memory, e, widths: Widths, key: &str| {
        let error = memory.traffic(&array, e, &widths).unwrap_err();
        assert!(format!("{error}").starts_with(&format!("{key}: expected ")), "{error}");
    };
    refused(
        Memory {
            activation_bytes: 8,
            ..good
        },
        e,
        WIDTHS,
        "memory.activation_bytes",
    );
    refused(
        Memory {
            weight_bytes: 0,
            ..good
        },
        e,
        WIDTHS,
        "memory.weight_bytes",
    );
    refused(
        Memory {
            output_bytes: 1023,
            ..good
        },
        e,
        WIDTHS,
        "memory.output_bytes",
    );
    for bandwidth in [0.0, -1.0, f64::NAN] {
        refused(
            Memory {
                dram_bits_per_cycle: bandwidth,
                ..good
            },
            e,
            WIDTHS,
            "memory.dram_bits_per_cycle",
        );
    }
    refused(good, Extents::new(64, 0, 64), WIDTHS, "extents.n");
    refused(good, e, Widths { partial: 0.0, ..WIDTHS }, "widths.partial");
    refused(
        good,
        e,
        Widths {
            weight: f64::INFINITY,
            ..WIDTHS
        },
        "widths.weight",
    );
    // As large as it gets.
    let most = Extents::new(u64::MAX, u64::MAX, u64::MAX);
    assert_eq!(good.traffic(&array, most, &WIDTHS).unwrap().cycles, u64::MAX);
}
