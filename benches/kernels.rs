//! Every kernel that this CPU can run, on operands that stay in the first-level cache. Its answer is compared with the
//! scalar reference before it is timed. The ids are the kernels' names, so `-- w4.i32` picks a width and `-- avx512vnni`
//! a tier. One multiply-add counts as two operations.
#![forbid(unsafe_code)]
#![expect(missing_docs, reason = "`criterion_group` makes a function without")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mixgemm::kernel::{Kernel, TileOut};
use mixgemm::testing::{Draw, KernelCase, exact_slices, for_each_kernel, scheme_of, weights};
use mixgemm::{GroupSums, Mat, Mode, QuantMatrix, reference};
use std::hint::black_box;
use std::time::Duration;

const GROUP: usize = 128;
const K: usize = 2 * GROUP;

fn check(case: &KernelCase, kernel: &'static Kernel, w: &QuantMatrix, (mode, x): (Mode, &Mat<mixgemm::f16>)) {
    let (x, shape) = (x.view().into(), (kernel.mr, w.n()));
    let mut sums = vec![0; kernel.mr * w.groups() * w.n()];
    reference::group_sums(w, x, mode, GroupSums::I64(&mut sums)).unwrap();
    assert_eq!(case.group_sums(), sums, "{}", kernel.name());
    let (mut y, mut expected) = (Mat::zeros(shape.0, shape.1), Mat::zeros(shape.0, shape.1));
    case.accumulate(false, &mut y);
    reference::accumulate(w, x, mode, expected.view_mut()).unwrap();
    let same = y
        .data()
        .iter()
        .zip(expected.data())
        .all(|(y, e)| y.to_bits() == e.to_bits());
    assert!(same, "{} differs from the reference", kernel.name());
}

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("kernels");
    group.sample_size(10);
    group.warm_up_time(Duration::from_millis(50));
    group.measurement_time(Duration::from_millis(200));
    for_each_kernel(|kernel| {
        let (draw, scheme) = (&mut Draw::new(1), scheme_of(kernel.layout).group(GROUP));
        let w = weights(draw, scheme.asymmetric(), kernel.nr(), K);
        let x = exact_slices(draw, kernel.slices, kernel.mr, K, GROUP);
        let mode = [Mode::A8, Mode::A16]
            .get(kernel.slices - 1)
            .copied()
            .unwrap_or(Mode::Exact);
        // Packed and checked only where the filter lets it run.
        let mut case = None;
        group.throughput(Throughput::Elements((2 * kernel.mr * kernel.nr() * K) as u64));
        group.bench_function(kernel.name(), |b| {
            let case = case.get_or_insert_with(|| {
                let case = KernelCase::new(kernel, &w, x.view().into(), mode);
                check(&case, kernel, &w, (mode, &x));
                case
            });
            let mut y = vec![0.0; kernel.mr * kernel.nr()];
            b.iter(|| {
                black_box(&*case).call(0, 0..w.groups(), TileOut::Fold(black_box(&mut y)));
            });
        });
    });
    group.finish();
}

criterion_group!(kernels, bench);
criterion_main!(kernels);
