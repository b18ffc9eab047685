//! A plan that is run again allocates nothing, alone or on threads that were started before, and `Par::Seq` touches no pool.
#![cfg(feature = "testing")]

use mixgemm::outlier::mixed::{Mixed, Outlying};
use mixgemm::testing::{Draw, Inputs, weights};
use mixgemm::{
    Activation, AnyBackend, Backend, Epilogue, Host, Mat, Mode, Par, Plan, Product, QuantMatrix, Scheme, Split,
    Threads, Workspace, f16,
};
use std::alloc::{GlobalAlloc, Layout, System};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The system's allocator, counting.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: an allocator must hand out memory that fits the layout. Every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the caller keeps the obligations of `alloc`, which are those of the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the caller keeps the obligations of `realloc`, and `old` came from the system's allocator.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the obligations of `dealloc`, and `old` came from the system's allocator.
        unsafe { System.dealloc(old, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of all threads during `f`.
fn allocations(f: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    f();
    ALLOCATIONS.load(Ordering::SeqCst) - before
}

const N: usize = 150;
const K: usize = 1100;

/// Allocations of a run and of a continued fold.
fn run(plan: &Plan, workspace: &mut Workspace, inputs: &Inputs, case: usize, y: &mut Mat<f32>) -> usize {
    let bias = [0.5; N];
    let epilogue = Epilogue::new().bias(&bias).activation(Activation::Silu);
    let (cases, m) = (inputs.cases(), y.rows());
    let x = cases[case].1.sub_rows(0, m).unwrap();
    allocations(|| {
        plan.run(workspace, x, &epilogue, y.view_mut().into()).unwrap();
        plan.accumulate(workspace, x, y.view_mut()).unwrap();
    })
}

#[cfg(target_os = "linux")]
fn threads_of_this_process() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[cfg(not(target_os = "linux"))]
fn threads_of_this_process() -> usize {
    1
}

fn check(schemes: &[QuantMatrix], par: &Par) {
    let draw = &mut Draw::new(72);
    let (many, one) = (Inputs::new(draw, 40, K), Inputs::new(draw, 1, K));
    for w in schemes {
        let gemm = Host::new().prepare(w).unwrap();
        for (case, (mode, _)) in many.cases().into_iter().enumerate() {
            assert_eq!(allocations(|| drop(gemm.plan(mode))), 0, "a plan of {mode:?}");
            let plan = gemm.plan(mode).unwrap().par(par.clone());
            let what = format!("{par:?} {mode:?} {:?}", w.scheme());
            for inputs in [&one, &many] {
                let (mut workspace, mut y) = (Workspace::new(), Mat::zeros(inputs.f32.rows(), N));
                assert!(
                    run(&plan, &mut workspace, inputs, case, &mut y) > 0,
                    "the counter counts"
                );
                assert_eq!(run(&plan, &mut workspace, inputs, case, &mut y), 0, "{what}");
                // Fewer rows afterwards, of other values, fit into what is there. In `exact` other values may need more
                // slices, for which there is room, in tiles of other heights, for which there may be none.
                let mut fewer = Mat::zeros(inputs.f32.rows().div_ceil(7), N);
                if mode != Mode::Exact && inputs.f32.rows() > 1 {
                    assert_eq!(run(&plan, &mut workspace, inputs, case, &mut fewer), 0, "{what}");
                }
            }
        }
    }
}

/// Products that share a hand-off and packed activations, and one that shares only the hand-off.
fn check_together(schemes: &[QuantMatrix], par: &Par) {
    let inputs = Inputs::new(&mut Draw::new(74), 3, K);
    let plans = [0, 0, 2].map(|w: usize| {
        let gemm = Host::new().prepare(&schemes[w]).unwrap();
        gemm.plan(Mode::A16).unwrap().par(par.clone())
    });
    let mut outputs = [0; 3].map(|_| Mat::<f32>::zeros(3, N));
    let mut workspace = Workspace::new();
    let mut run = || {
        let [q, k, v] = &mut outputs;
        let products = &mut [
            Product::new(&plans[0], q.view_mut()),
            Product::new(&plans[1], k.view_mut()),
            Product::new(&plans[2], v.view_mut()),
        ];
        allocations(|| {
            Plan::run_all(&mut workspace, inputs.f32.view().into(), products).unwrap();
        })
    };
    assert!(run() > 0, "the counter counts");
    assert_eq!(run(), 0, "together on {par:?}");
}

/// Callers without a workspace borrow one of the host's, which is there from the second call on.
fn check_without_a_workspace(w: &QuantMatrix) {
    let (host, inputs) = (Host::new(), Inputs::new(&mut Draw::new(73), 5, K));
    let (gemm, backend): (_, Box<dyn AnyBackend>) = (host.prepare(w).unwrap(), Box::new(host));
    let prepared = backend.prepare(w).unwrap();
    let (mut y, epilogue) = (Mat::<f32>::zeros(5, N), Epilogue::new());
    for (mode, x) in inputs.cases() {
        let mut run = || {
            gemm.run(x, mode, y.view_mut()).unwrap();
            backend.run(&prepared, x, mode, &epilogue, y.view_mut().into()).unwrap();
        };
        run();
        assert_eq!(allocations(run), 0, "{mode:?}");
    }
}

/// A split finds outliers, gathers their weights and adds what is left of them in buffers that it keeps.
fn check_split(schemes: &[QuantMatrix], par: &Par) {
    let scale = 0.004;
    let mode = Mode::A8Static { scale, saturate: false };
    let x = Inputs::new(&mut Draw::new(75), 40, K).f32;
    let found = x.data().iter().filter(|x| (*x / scale).abs() > 128.0).count();
    assert!(found > 100, "{found} outliers");
    for w in schemes {
        let split = Split::new(Host::new().par(par.clone())).par(par.clone());
        let both = Backend::prepare(&split, w).unwrap();
        let (mut y, epilogue) = (Mat::<f32>::zeros(40, N), Epilogue::new());
        let mut run = || {
            let x = x.view().into();
            Backend::run(&split, &both, x, mode, &epilogue, y.view_mut().into()).unwrap();
        };
        assert!(allocations(&mut run) > 0, "the counter counts");
        assert_eq!(allocations(run), 0, "{par:?} {:?}", w.scheme());
        for outlying in [Outlying::Above(127.0 * scale), Outlying::Top(0.01)] {
            let mixed = Mixed::new(Host::new().par(par.clone()), outlying)
                .unwrap()
                .par(par.clone());
            let both = Backend::prepare(&mixed, w).unwrap();
            let mut halves = Mat::<f16>::zeros(40, N);
            let mut run = || {
                let x = x.view().into();
                Backend::run(&mixed, &both, x, Mode::A8Row, &epilogue, y.view_mut().into()).unwrap();
                Backend::run(&mixed, &both, x, Mode::A8Row, &epilogue, halves.view_mut().into()).unwrap();
            };
            assert!(allocations(&mut run) > 0, "the counter counts");
            assert_eq!(allocations(run), 0, "mixed, {par:?} {:?}", w.scheme());
        }
    }
}

/// The only test of this process, so that nobody else allocates meanwhile.
#[test]
fn a_warm_plan_allocates_nothing_and_one_thread_stays_one() {
    let draw = &mut Draw::new(71);
    let schemes = [
        Scheme::int(4).group(128).asymmetric(),
        Scheme::int(8).float_zero(), // One group of 1100, whose sums need more than 32 bits.
        Scheme::int(3).group(100),
    ]
    .map(|scheme| weights(draw, scheme, N, K));
    let threads = threads_of_this_process();
    check(&schemes, &Par::Seq);
    check_together(&schemes, &Par::Seq);
    check_split(&schemes, &Par::Seq);
    check_without_a_workspace(&schemes[0]);
    assert_eq!(threads_of_this_process(), threads);
    let global = rayon::ThreadPoolBuilder::new().num_threads(1).build_global();
    assert!(global.is_ok(), "the global pool was never started: {global:?}");
    let threads = Arc::new(Threads::new(NonZeroUsize::new(2).unwrap()));
    // A thread allocates when it starts, which is over when it has met another.
    let met = AtomicUsize::new(0);
    threads.run(2, &|_| {
        met.fetch_add(1, Ordering::SeqCst);
        while met.load(Ordering::SeqCst) < 2 {
            std::thread::yield_now();
        }
    });
    let threads = Par::Pool(threads);
    check(&schemes, &threads);
    check_together(&schemes, &threads);
    check_split(&schemes, &threads);
}
