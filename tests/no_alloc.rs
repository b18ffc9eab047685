//! A plan that is run again allocates nothing, alone or on a caller's threads, and `Par::Seq` touches no pool.
#![cfg(feature = "testing")]

use mixgemm::testing::{Draw, Inputs, weights};
use mixgemm::{Activation, AnyBackend, Epilogue, Host, Mat, Mode, Par, Plan, Pool, QuantMatrix, Scheme, Workspace};
use std::alloc::{GlobalAlloc, Layout, System};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

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

type Task = &'static (dyn Fn(usize) + Sync);

#[derive(Default)]
struct Work {
    task: Option<Task>,
    next: usize,
    last: usize,
    running: usize,
    stop: bool,
}

/// Threads that were started before and wait.
struct Waiting {
    work: Arc<(Mutex<Work>, Condvar)>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Waiting {
    fn new(threads: usize) -> Self {
        let work: Arc<(Mutex<Work>, Condvar)> = Arc::default();
        let start = |_| {
            let work = work.clone();
            std::thread::spawn(move || wait_for_work(&work.0, &work.1))
        };
        Self {
            threads: (0..threads).map(start).collect(),
            work: work.clone(),
        }
    }
}

fn wait_for_work(work: &Mutex<Work>, changed: &Condvar) {
    let mut state = work.lock().unwrap();
    while !state.stop {
        let Some(task) = state.task.filter(|_| state.next < state.last) else {
            state = changed.wait(state).unwrap();
            continue;
        };
        let i = state.next;
        state.next += 1;
        state.running += 1;
        drop(state);
        task(i);
        state = work.lock().unwrap();
        state.running -= 1;
        changed.notify_all();
    }
}

impl Pool for Waiting {
    fn threads(&self) -> NonZeroUsize {
        NonZeroUsize::new(self.threads.len()).unwrap()
    }

    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        // SAFETY: the reference must not be used after this call. It is taken back below, and this call waits until
        // every task that got it has returned.
        let task = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), Task>(task) };
        let mut state = self.work.0.lock().unwrap();
        (state.task, state.next, state.last) = (Some(task), 0, tasks);
        self.work.1.notify_all();
        while state.next < state.last || state.running > 0 {
            state = self.work.1.wait(state).unwrap();
        }
        state.task = None;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.work.0.lock().unwrap().stop = true;
        self.work.1.notify_all();
        self.threads.drain(..).for_each(|t| t.join().unwrap());
    }
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
    check_without_a_workspace(&schemes[0]);
    assert_eq!(threads_of_this_process(), threads);
    let global = rayon::ThreadPoolBuilder::new().num_threads(1).build_global();
    assert!(global.is_ok(), "the global pool was never started: {global:?}");
    check(&schemes, &Par::Pool(Arc::new(Waiting::new(2))));
}
