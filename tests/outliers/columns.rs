//! Where the weights that outliers meet are: results do not depend on it.
#![forbid(unsafe_code)]

use crate::{activations, run};
#[cfg(feature = "lab")]
use mixgemm::accel::catalogue::npu;
use mixgemm::outlier::columns::{Columns, InMemory, Weight};
use mixgemm::outlier::hot::{HotColumns, Reads};
use mixgemm::outlier::mapped::Mapped;
use mixgemm::outlier::mixed::{Mixed, OutlierWeights, Outlying};
use mixgemm::testing::{Draw, weights};
use mixgemm::{Backend, Host, Mat, MixPe, Mode, QuantMatrix, Scheme, Split, f16};
use std::fs;
use std::thread;

const N: usize = 300;
const K: usize = 64;
const SHADOW: Mode = Mode::A8Static {
    scale: 0.02,
    saturate: false,
};
const CLAMPED: Mode = Mode::A8Static {
    scale: 0.02,
    saturate: true,
};
/// The channels that [`activations`] have outliers in, the most frequent first.
const HOTTEST: [u32; 3] = [3, 50, 20];

/// A cache of so many hot columns before a mapped file, and what one product reads there.
fn stores<T: Weight>(columns: &InMemory<T>) -> Vec<(Box<dyn Columns<T>>, Reads)> {
    let of = |(size, hits)| {
        let all = Mapped::new(columns.clone(), &std::env::temp_dir()).unwrap();
        let hot = HotColumns::new(Box::new(all), &HOTTEST, size).unwrap();
        let (resident, width) = (size.min(3), size_of::<T>());
        assert_eq!(hot.bytes(), resident * N * width);
        let store: Box<dyn Columns<T>> = Box::new(hot);
        (store, Reads { hits, misses: 3 - hits })
    };
    [(0, 0), (2, 2), (3, 3), (99, 3)].map(of).into()
}

/// Products with each store, by one thread and by four at once, which all read the store as often.
fn check<B: Backend>(
    name: &str,
    backend: &B,
    prepared: &B::Prepared,
    (x, mode): (&Mat<f32>, Mode),
    expected: &Mat<f32>,
    found: impl Fn(&B::Prepared) -> Reads,
    reads: Reads,
) {
    backend.compile(prepared, x.rows()).unwrap();
    assert!(run(backend, prepared, x, mode, N) == *expected, "{name}");
    assert_eq!(found(prepared), reads, "{name}");
    thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| assert!(run(backend, prepared, x, mode, N) == *expected, "{name}, four at once"));
        }
    });
    let five = Reads {
        hits: 5 * reads.hits,
        misses: 5 * reads.misses,
    };
    assert_eq!(found(prepared), five, "{name}, four at once");
}

fn check_all<B: Backend>(name: &str, backend: impl Fn() -> B, scheme: Scheme) {
    let draw = &mut Draw::new(5);
    let (w, x) = (weights(draw, scheme, N, K), activations(draw, 12, K));
    let split = Split::new(backend());
    let whole = split.prepare(&w).unwrap();
    split.compile(&whole, 12).unwrap();
    let expected = run(&split, &whole, &x, SHADOW, N);
    for (store, reads) in stores(&InMemory::new(&w)) {
        let both = split.prepare_with(&w, store).unwrap();
        check(
            name,
            &split,
            &both,
            (&x, SHADOW),
            &expected,
            |w| w.columns().reads(),
            reads,
        );
    }
    let halves = InMemory::halves(Mat::from_fn(N, K, |_, _| draw.signed()).view()).unwrap();
    let mixed = Mixed::new(backend(), Outlying::Above(6.0)).unwrap();
    let of_mixed = |weights: OutlierWeights| mixed.prepare_with(&w, weights).unwrap();
    let product = |weights: OutlierWeights| {
        let prepared = of_mixed(weights);
        mixed.compile(&prepared, 12).unwrap();
        run(&mixed, &prepared, &x, CLAMPED, N)
    };
    let integers = product(OutlierWeights::Quantised(Box::new(InMemory::new(&w))));
    let floats = product(OutlierWeights::Halves(Box::new(halves.clone())));
    assert!(integers != floats);
    for ((a, reads), (b, _)) in stores(&InMemory::new(&w)).into_iter().zip(stores(&halves)) {
        let (a, b) = (
            of_mixed(OutlierWeights::Quantised(a)),
            of_mixed(OutlierWeights::Halves(b)),
        );
        check(name, &mixed, &a, (&x, CLAMPED), &integers, |w| w.reads(), reads);
        check(name, &mixed, &b, (&x, CLAMPED), &floats, |w| w.reads(), reads);
    }
}

#[test]
fn results_do_not_depend_on_what_is_resident() {
    for scheme in [
        Scheme::int(8).per_tensor(),
        Scheme::int(8).group(16),
        Scheme::int(8).group(24).asymmetric(),
        Scheme::int(4).per_channel(),
        Scheme::int(1).group(16),
    ] {
        check_all("host", Host::new, scheme);
        if scheme.bits <= 4 {
            check_all("mixpe", MixPe::w4a8, scheme);
        }
    }
}

#[cfg(feature = "lab")]
#[test]
fn nor_around_an_npu() {
    check_all("npu", npu::int8, Scheme::int(8).per_tensor());
    check_all("npu by groups", npu::grouped, Scheme::int(8).group(16));
}

/// What a store holds, against the weights themselves, column by column.
fn check_store<T: Weight + PartialEq + std::fmt::Debug>(columns: InMemory<T>, weight: impl Fn(usize, usize) -> T) {
    let directory = tempfile::tempdir().unwrap();
    let mapped = Mapped::new(columns.clone(), directory.path()).unwrap();
    if cfg!(unix) {
        let names = fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(names, 0, "the file has no name");
    }
    let alone = HotColumns::new(Box::new(columns.clone()), &[7, 2], 9).unwrap().alone();
    let (n, k) = columns.shape();
    assert_eq!((mapped.shape(), alone.shape()), ((n, k), (n, k)));
    for k in 0..k {
        let expected: Vec<T> = (0..n).map(|n| weight(n, k)).collect();
        let mut found = vec![T::default(); n];
        for store in [&columns as &dyn Columns<T>, &mapped] {
            store.read(k, &mut found).unwrap();
            assert_eq!(found, expected, "channel {k}");
        }
        let resident = alone.read(k, &mut found);
        match resident.map_err(|error| error.to_string()) {
            Ok(()) => assert!([2, 7].contains(&k) && found == expected, "channel {k}"),
            Err(error) => assert_eq!(
                error,
                format!("columns: expected a resident channel, found channel {k}")
            ),
        }
    }
    assert_eq!(alone.reads().hits, 2);
    let mut long = vec![T::default(); n + 1];
    for store in [&columns as &dyn Columns<T>, &mapped, &alone] {
        let error = store.read(k, &mut long[..n]).unwrap_err().to_string();
        let expected = format!("columns: expected a channel below {k} into {n} weights, found channel {k} into {n}");
        assert_eq!(error, expected);
        assert!(store.read(0, &mut long).is_err());
    }
    let error = HotColumns::new(Box::new(columns), &[k as u32], 1)
        .unwrap_err()
        .to_string();
    assert_eq!(error, format!("hottest: expected channels below {k}, found {k}"));
}

#[test]
fn stores_hold_the_weights() {
    let draw = &mut Draw::new(6);
    for scheme in [
        Scheme::int(8).group(16).asymmetric(),
        Scheme::int(8).per_channel(),
        Scheme::int(8).group(16).float_zero(),
        Scheme::int(3).group(24).asymmetric(),
        Scheme::int(1).per_tensor(),
    ] {
        let w: QuantMatrix = weights(draw, scheme, 130, 70);
        check_store(InMemory::new(&w), |n, k| w.level(n, k) as i16);
    }
    let floats = Mat::from_fn(130, 70, |_, _| draw.signed());
    let half = |n: usize, k: usize| f16::from_f32(floats.view().row(n)[k]);
    check_store(InMemory::halves(floats.view()).unwrap(), half);
    let large = Mat::from_fn(2, 3, |n, k| if (n, k) == (1, 2) { 65520.0 } else { 1.0f32 });
    let error = InMemory::halves(large.view()).unwrap_err().to_string();
    assert_eq!(
        error,
        "weights: expected weights that are finite as f16, found 65520.0 at (1, 2)"
    );
    let none = InMemory::new(&weights(draw, Scheme::int(4), 0, 8));
    Mapped::new(none, &std::env::temp_dir())
        .unwrap()
        .read(7, &mut [])
        .unwrap();
    let nowhere = Mapped::new(
        InMemory::new(&weights(draw, Scheme::int(4), 4, 8)),
        "no/such/directory".as_ref(),
    );
    let error = nowhere.unwrap_err().to_string();
    assert!(
        error.starts_with("file: expected a directory with room for columns of weights, found no/such/directory: "),
        "{error}"
    );
}
