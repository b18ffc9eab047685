//! The closed form, the array that is stepped through, and the product as everyone writes it agree.
#![forbid(unsafe_code)]

use super::{Array, Dataflow, Extents};
use alloc::vec::Vec;

/// `X · Wᵀ` as everyone writes it.
fn plain(e: Extents, x: &[i64], w: &[i64]) -> Vec<i64> {
    let (n, k) = (e.n as usize, e.k as usize);
    let dot = |m: usize, n: usize| (0..k).map(|i| x[m * k + i] * w[n * k + i]).sum();
    (0..e.m as usize * n).map(|i| dot(i / n, i % n)).collect()
}

fn agrees(array: &Array, e: Extents) {
    let values = |count: u64, step: i64| (0..count as i64).map(|i| i * step % 251 - 125).collect::<Vec<_>>();
    let (x, w) = (values(e.m * e.k, 37), values(e.n * e.k, 101));
    let stepped = array.step(e, &x, &w).unwrap();
    assert_eq!(stepped.walk, array.walk(e), "{array:?} {e:?}");
    assert_eq!(stepped.product, plain(e, &x, &w), "{array:?} {e:?}");
}

fn shapes(most: u64) -> impl Iterator<Item = Extents> {
    let extents = move |i: u64| Extents::new(i / most / most + 1, i / most % most + 1, i % most + 1);
    (0..most * most * most).map(extents)
}

#[test]
fn the_closed_form_holds_for_every_small_shape_on_every_small_array() {
    for dataflow in Dataflow::ALL {
        for (rows, cols) in (0..16).map(|i| (i / 4 + 1, i % 4 + 1)) {
            let array = Array::new(rows, cols, dataflow).unwrap();
            shapes(9).for_each(|e| agrees(&array, e));
        }
    }
}

#[test]
fn it_holds_for_elements_that_multiply_several_pairs() {
    for dataflow in Dataflow::ALL {
        for per in shapes(3) {
            let array = Array::new(2, 3, dataflow).unwrap().per_element(per).unwrap();
            shapes(6).for_each(|e| agrees(&array, e));
        }
    }
}

#[test]
fn empty_products_and_absurd_arrays_do_no_harm() {
    let array = Array::new(2, 3, Dataflow::OutputStationary).unwrap();
    for e in [Extents::new(0, 1, 0), Extents::new(1, 0, 0), Extents::new(2, 2, 0)] {
        let stepped = array.step(e, &[], &[]).unwrap();
        assert_eq!((stepped.walk.cycles, stepped.product.len() as u64), (0, e.m * e.n));
    }
    assert!(array.step(Extents::new(2, 2, 2), &[0; 4], &[0; 3]).is_err());
    assert!(array.step(Extents::new(u64::MAX, u64::MAX, 0), &[], &[]).is_err());
    let huge = Array::new(u32::MAX, u32::MAX, Dataflow::InputStationary).unwrap();
    assert!(huge.step(Extents::new(1, 1, 1), &[1], &[1]).is_err());
    let per = Extents::new(u32::MAX.into(), u32::MAX.into(), u32::MAX.into());
    agrees(&array.per_element(per).unwrap(), Extents::new(3, 4, 5));
    assert_eq!(huge.per_element(per).unwrap().macs_per_cycle(), u64::MAX);
    assert!(Array::new(0, 1, Dataflow::OutputStationary).is_err() && array.per_element(Extents::new(1, 0, 1)).is_err());
}

/// What is moved in pieces is what is moved for as many products.
#[test]
fn pieces_move_as_much_as_products_of_their_own() {
    for dataflow in Dataflow::ALL {
        let array = Array::new(3, 2, dataflow).unwrap();
        let time = dataflow.axes()[2];
        for e in shapes(7) {
            let mut list = e.list();
            let tile = 3;
            let whole = array.walk_in_pieces(e, list[time].div_ceil(tile));
            let (mut reads, mut writes) = ([0, 0], 0);
            let mut left = list[time];
            while left > 0 {
                list[time] = left.min(tile);
                let piece = array.walk(Extents::new(list[0], list[1], list[2]));
                reads = [reads[0] + piece.activation_reads, reads[1] + piece.weight_reads];
                writes += piece.output_writes;
                left -= list[time];
            }
            assert_eq!([whole.activation_reads, whole.weight_reads], reads, "{array:?} {e:?}");
            assert_eq!(whole.output_writes, writes, "{array:?} {e:?}");
            assert_eq!(whole.partial_reads, writes - e.m * e.n, "{array:?} {e:?}");
            assert_eq!(whole.cycles, array.walk(e).cycles);
        }
    }
}
