//! Who does the work never shows: threads of rayon's and of a caller's own, for few rows and for many.
#![forbid(unsafe_code)]

use crate::compare::{assert_bits, start};
use mixgemm::testing::{Backwards, Draw, Inputs, weights};
use mixgemm::{Epilogue, Host, Isa, Mat, Mode, Par, Pool, Scheme, Workspace, reference};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A thread for every task.
struct Spawning(NonZeroUsize);

impl Pool for Spawning {
    fn threads(&self) -> NonZeroUsize {
        self.0
    }

    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        std::thread::scope(|s| (0..tasks).for_each(|i| drop(s.spawn(move || task(i)))));
    }
}

/// Breaks its contract: it runs nothing.
struct Idle;

impl Pool for Idle {
    fn threads(&self) -> NonZeroUsize {
        NonZeroUsize::new(4).unwrap()
    }

    fn run(&self, _: usize, _: &(dyn Fn(usize) + Sync)) {}
}

fn workers() -> Vec<Par> {
    let mut out = vec![Par::Seq, Par::Pool(Arc::new(Idle))];
    for threads in [1, 2, 3, 7, 64].map(|n| NonZeroUsize::new(n).unwrap()) {
        out.push(Par::Pool(Arc::new(Backwards(threads))));
        if threads.get() <= 3 {
            out.push(Par::Pool(Arc::new(Spawning(threads))));
            out.push(Par::Rayon(threads));
        }
    }
    out
}

#[test]
fn threads_never_change_a_bit() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    // The last shape has enough activations for several threads to pack them.
    for (m, n, k) in [(1, 1, 1), (1, 300, 64), (5, 33, 50), (13, 170, 33), (50, 65, 700)] {
        let draw = &mut Draw::new((m * n) as u64);
        let inputs = Inputs::new(draw, m, k);
        let w = weights(draw, Scheme::int(4).group(32).asymmetric(), n, k);
        for (mode, x) in [
            (Mode::A8, inputs.f32.view().into()),
            (Mode::A16, inputs.f32.view().into()),
            (Mode::Exact, inputs.f16.view().into()),
        ] {
            let mut run = Mat::<f32>::zeros(m, n);
            reference::run(&w, x, mode, &Epilogue::new(), run.view_mut().into()).unwrap();
            let mut continued = Mat::from_fn(m, n, start);
            reference::accumulate(&w, x, mode, continued.view_mut()).unwrap();
            for isa in Isa::ALL.into_iter().filter(|isa| isa.supported()) {
                let gemm = Host::new().isa(isa).unwrap().prepare(&w).unwrap();
                let mut workspace = Workspace::new();
                for par in workers() {
                    let plan = gemm.plan(mode).unwrap().par(par.clone());
                    let what = || format!("{isa} {par:?} {mode:?} {m} x {n} x {k}");
                    let (mut y, mut z) = (Mat::<f32>::zeros(m, n), Mat::from_fn(m, n, start));
                    pool.install(|| {
                        plan.run(&mut workspace, x, &Epilogue::new(), y.view_mut().into())
                            .unwrap();
                        plan.accumulate(&mut workspace, x, z.view_mut()).unwrap();
                    });
                    assert_bits(y.data(), run.data(), n, &what);
                    assert_bits(z.data(), continued.data(), n, &what);
                }
            }
        }
    }
}

/// Plans of other tiers, modes and sizes take turns in one workspace.
#[test]
fn a_workspace_serves_any_products_in_any_order() {
    let draw = &mut Draw::new(31);
    let mut workspace = Workspace::new();
    let sizes = [
        (40, 70, 90),
        (1, 33, 33),
        (13, 100, 257),
        (2, 5, 1),
        (25, 64, 128),
        (0, 3, 3),
    ];
    let problems = sizes.map(|(m, n, k)| {
        let bits = 1 + draw.below(8) as u8;
        let scheme = Scheme::int(bits).group(1 + draw.below(k)).float_zero();
        (weights(draw, scheme, n, k), Inputs::new(draw, m, k))
    });
    for _ in 0..60 {
        let (w, inputs) = &problems[draw.below(sizes.len())];
        let (mode, x) = inputs.cases()[draw.below(12)];
        let isa = Isa::best(if draw.below(2) == 0 { Some(Isa::Scalar) } else { None });
        let (m, n) = (x.shape().0, w.n());
        let (mut y, mut expected) = (Mat::<f32>::zeros(m, n), Mat::<f32>::zeros(m, n));
        reference::run(w, x, mode, &Epilogue::new(), expected.view_mut().into()).unwrap();
        let gemm = Host::new().isa(isa).unwrap().prepare(w).unwrap();
        gemm.run_with(&mut workspace, x, mode, &Epilogue::new(), y.view_mut())
            .unwrap();
        assert_bits(y.data(), expected.data(), n, &|| format!("{isa} {mode:?}"));
    }
}

/// A pool of another size at every question.
struct Unsteady(AtomicUsize);

impl Pool for Unsteady {
    fn threads(&self) -> NonZeroUsize {
        NonZeroUsize::new(2 + self.0.fetch_add(1, Ordering::SeqCst)).unwrap()
    }

    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        (0..tasks).for_each(task);
    }
}

#[test]
fn a_pool_is_asked_for_its_size_once_per_product() {
    let draw = &mut Draw::new(32);
    let w = weights(draw, Scheme::int(4).group(32), 65, 700);
    let inputs = Inputs::new(draw, 50, 700);
    let pool = Arc::new(Unsteady(AtomicUsize::new(0)));
    let par = Par::Pool(pool.clone());
    let plan = Host::new().prepare(&w).unwrap().plan(Mode::A8).unwrap().par(par);
    let (x, mut y) = (inputs.f32.view().into(), Mat::<f32>::zeros(50, 65));
    for product in 1..=3 {
        let out = y.view_mut().into();
        plan.run(&mut Workspace::new(), x, &Epilogue::new(), out).unwrap();
        assert_eq!(pool.0.load(Ordering::SeqCst), product);
    }
}
