//! Whole products of the host on the calling thread: activations quantised, multiplied and stored, at the shapes of real
//! layers. The first and the last row are compared with the reference before a product is timed. One multiply-add counts
//! as two operations. The same weights are used again and again: what fits the last-level cache stays in it, unlike in
//! `mixgemm bench`, which reads them from memory.
#![forbid(unsafe_code)]
#![expect(missing_docs, reason = "`criterion_group` makes a function without")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mixgemm::testing::{Draw, weights};
use mixgemm::{Activations, Epilogue, Host, Mat, Mode, QuantMatrix, Scheme, Workspace, f16, reference};
use std::time::Duration;

/// N, K, bits and group length: a MiniLM and a Llama layer at 4 bits, and the latter at 8.
const LAYERS: [(usize, usize, u8, usize); 3] = [(1536, 384, 4, 128), (4096, 4096, 4, 128), (4096, 4096, 8, 128)];

/// Sums of four uniform values: no row is far from the others in size, as in a real layer.
fn activations(draw: &mut Draw, m: usize, k: usize) -> Mat<f16> {
    Mat::from_fn(m, k, |_, _| f16::from_f32((0..4).map(|_| draw.signed()).sum()))
}

fn check(w: &QuantMatrix, x: Activations<'_>, mode: Mode, y: &Mat<f32>) {
    for m in [0, y.rows() - 1] {
        let mut expected = Mat::<f32>::zeros(1, w.n());
        let row = x.sub_rows(m, 1).unwrap();
        reference::run(w, row, mode, &Epilogue::new(), expected.view_mut().into()).unwrap();
        let same = y
            .view()
            .row(m)
            .iter()
            .zip(expected.data())
            .all(|(y, e)| y.to_bits() == e.to_bits());
        assert!(same, "{mode:?}, row {m}");
    }
}

fn bench(criterion: &mut Criterion) {
    for (n, k, bits, length) in LAYERS {
        let draw = &mut Draw::new(1);
        let w = weights(draw, Scheme::int(bits).group(length).asymmetric(), n, k);
        let gemm = Host::new().prepare(&w).unwrap();
        let mut group = criterion.benchmark_group(format!("{n}x{k}.w{bits}.g{length}"));
        group.sample_size(10);
        group.warm_up_time(Duration::from_millis(200));
        group.measurement_time(Duration::from_secs(1));
        for m in [1, 4, 16, 64, 256] {
            let x = activations(draw, m, k);
            for mode in [Mode::A8, Mode::A16, Mode::Exact] {
                let plan = gemm.plan(mode).unwrap();
                let (mut workspace, mut y) = (Workspace::new(), Mat::<f32>::zeros(m, n));
                group.throughput(Throughput::Elements(2 * (m * n * k) as u64));
                group.bench_function(BenchmarkId::new(mode.name(), m), |b| {
                    let x = Activations::from(x.view());
                    let mut product = |y: &mut Mat<f32>| {
                        plan.run(&mut workspace, x, &Epilogue::new(), y.view_mut().into())
                            .unwrap();
                    };
                    product(&mut y);
                    check(&w, x, mode, &y);
                    b.iter(|| product(&mut y));
                });
            }
        }
        group.finish();
    }
}

criterion_group!(products, bench);
criterion_main!(products);
