//! What accelerators cost to ask: the closed form of a product of 4096 × 4096 × 512, which should take less than a
//! millisecond, and values of a device in fast mode, which should take at most 1.2 times what the host takes: MixPE's and
//! the NPU's, whose ratio to the host's is printed, the median of rounds in which both take turns.
//!
//! ```sh
//! cargo bench --all-features --bench devices
//! ```
#![forbid(unsafe_code)]
#![expect(missing_docs, reason = "`criterion_group` makes a function without")]

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use mixgemm::accel::array::Extents;
use mixgemm::accel::catalogue::named;
use mixgemm::accel::hardware::Hardware;
use mixgemm::testing::{Draw, weights};
use mixgemm::{AnyBackend, Epilogue, Host, Mat, Mode, QuantMatrix, Scheme, f16};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Cycles alone, cycles and bits with tiles chosen, and everything.
fn closed_form(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("closed-form.4096x4096x512");
    group.sample_size(20);
    group.warm_up_time(Duration::from_millis(200));
    group.measurement_time(Duration::from_millis(500));
    let (hardware, e) = (Hardware::named("mixpe-w4a8").unwrap(), Extents::new(512, 4096, 4096));
    let (memory, widths) = (hardware.memory.memory(), hardware.widths(e.k));
    group.bench_function("cycles", |b| b.iter(|| hardware.array.walk(black_box(e))));
    group.bench_function("cycles-and-traffic", |b| {
        b.iter(|| memory.traffic(&hardware.array, black_box(e), &widths).unwrap());
    });
    group.bench_function("estimate", |b| b.iter(|| hardware.estimate(black_box(e)).unwrap()));
    group.finish();
}

/// Rounds in which a host and a device take turns.
const ROUNDS: usize = 15;

/// Products of one side of a round.
const REPEATS: usize = 4;

fn product(backend: &dyn AnyBackend, w: &QuantMatrix, x: &Mat<f16>, mode: Mode) -> impl FnMut(&mut Mat<f32>) {
    let prepared = backend.prepare(w).unwrap();
    backend.compile(&prepared, x.rows()).unwrap();
    move |y| {
        let (x, out) = (x.view().into(), y.view_mut().into());
        backend.run(&prepared, x, mode, &Epilogue::new(), out).unwrap();
    }
}

/// The median over rounds of the device's time over the host's.
fn ratio(mut host: impl FnMut(), mut device: impl FnMut()) -> f64 {
    let time = |run: &mut dyn FnMut()| {
        let start = Instant::now();
        (0..REPEATS).for_each(|_| run());
        start.elapsed().as_secs_f64()
    };
    let mut ratios: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let host = time(&mut host);
            time(&mut device) / host
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    ratios[ROUNDS / 2]
}

/// The same product by the host, and by a device with the host's values.
fn fast_mode(criterion: &mut Criterion) {
    let draw = &mut Draw::new(1);
    let npu_mode = Mode::A8Static {
        scale: 1.0 / 64.0,
        saturate: true,
    };
    let cases = [
        (
            "mixpe-w4a8",
            Scheme::int(4).group(128).asymmetric(),
            Mode::A8,
            (1536, 384),
        ),
        ("npu", Scheme::int(8).per_tensor(), npu_mode, (1536, 384)),
        ("npu", Scheme::int(8).per_tensor(), npu_mode, (4096, 4096)),
    ];
    for (name, scheme, mode, (n, k)) in cases {
        let w = weights(draw, scheme, n, k);
        let own = Host::new();
        let fast = named(name).unwrap().with_values_from(Box::new(Host::new())).unwrap();
        let mut group = criterion.benchmark_group(format!("values.{n}x{k}.{name}"));
        group.sample_size(10);
        group.warm_up_time(Duration::from_millis(200));
        group.measurement_time(Duration::from_millis(500));
        for m in [1, 16, 256] {
            let x = Mat::from_fn(m, k, |_, _| f16::from_f32(draw.signed()));
            let (mut host, mut device) = (product(&own, &w, &x, mode), product(fast.as_ref(), &w, &x, mode));
            let (mut y, mut z) = (Mat::<f32>::zeros(m, n), Mat::<f32>::zeros(m, n));
            host(&mut y);
            device(&mut z);
            assert_eq!(y, z);
            let ratio = ratio(|| host(&mut y), || device(&mut z));
            println!("values.{n}x{k}: {name} in fast mode over the host, M = {m}: {ratio:.3}");
            group.bench_function(BenchmarkId::new("host", m), |b| b.iter(|| host(&mut y)));
            group.bench_function(BenchmarkId::new("fast", m), |b| b.iter(|| device(&mut z)));
        }
        group.finish();
    }
}

criterion_group!(devices, closed_form, fast_mode);
criterion_main!(devices);
