//! Who does the work: the calling thread, rayon's pool, or a pool of the caller's.
#![forbid(unsafe_code)]

use alloc::sync::Arc;
use core::fmt;
use core::num::NonZeroUsize;

/// A thread pool of the caller's.
///
/// A runtime keeps its own threads and hands them to every product as [`Par::Pool`]. Here two threads wait on a condition
/// variable, and three products of one layer take turns on them. Each product has its plan and its workspace, so from
/// the second token on nothing is allocated:
///
/// ```
/// use mixgemm::{Epilogue, Host, Mat, Mode, Par, Plan, Pool, QuantMatrix, Scheme, Workspace};
/// use std::num::NonZeroUsize;
/// use std::panic::{AssertUnwindSafe, catch_unwind};
/// use std::sync::{Arc, Condvar, Mutex};
/// use std::thread::{JoinHandle, spawn};
///
/// type Task = &'static (dyn Fn(usize) + Sync);
///
/// /// What the threads are to do: tasks `next..last` of `task`.
/// #[derive(Default)]
/// struct Work {
///     task: Option<Task>,
///     next: usize,
///     last: usize,
///     running: usize,
///     panicked: bool,
///     stop: bool,
/// }
///
/// #[derive(Default)]
/// struct Shared {
///     /// Held for the whole of a call: one call at a time.
///     turn: Mutex<()>,
///     work: Mutex<Work>,
///     changed: Condvar,
/// }
///
/// struct Threads {
///     shared: Arc<Shared>,
///     threads: Vec<JoinHandle<()>>,
/// }
///
/// impl Threads {
///     fn new(count: NonZeroUsize) -> Self {
///         let shared = Arc::<Shared>::default();
///         let start = |_| {
///             let shared = shared.clone();
///             spawn(move || wait_for_work(&shared))
///         };
///         Self { threads: (0..count.get()).map(start).collect(), shared }
///     }
/// }
///
/// fn wait_for_work(shared: &Shared) {
///     let mut work = shared.work.lock().unwrap();
///     while !work.stop {
///         let Some(task) = work.task.filter(|_| work.next < work.last) else {
///             work = shared.changed.wait(work).unwrap();
///             continue;
///         };
///         let i = work.next;
///         work.next += 1;
///         work.running += 1;
///         drop(work);
///         let result = catch_unwind(AssertUnwindSafe(|| task(i)));
///         work = shared.work.lock().unwrap();
///         work.running -= 1;
///         work.panicked |= result.is_err();
///         shared.changed.notify_all();
///     }
/// }
///
/// impl Pool for Threads {
///     fn threads(&self) -> NonZeroUsize {
///         NonZeroUsize::new(self.threads.len()).unwrap()
///     }
///
///     fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
///         // A panic below leaves nothing half done, so a poisoned turn is as good as any.
///         let _turn = self.shared.turn.lock().unwrap_or_else(|e| e.into_inner());
///         // SAFETY: the reference must not be used after this call. No thread takes a task once `next` is `last`, and
///         // this call returns only then and when no task runs any more, whether one of them panicked or not.
///         let task = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), Task>(task) };
///         let mut work = self.shared.work.lock().unwrap();
///         (work.task, work.next, work.last) = (Some(task), 0, tasks);
///         self.shared.changed.notify_all();
///         while work.next < work.last || work.running > 0 {
///             work = self.shared.changed.wait(work).unwrap();
///         }
///         work.task = None;
///         let panicked = std::mem::take(&mut work.panicked);
///         drop(work);
///         assert!(!panicked, "a task panicked");
///     }
/// }
///
/// impl Drop for Threads {
///     fn drop(&mut self) {
///         self.shared.work.lock().unwrap().stop = true;
///         self.shared.changed.notify_all();
///         self.threads.drain(..).for_each(|thread| thread.join().unwrap());
///     }
/// }
///
/// struct Product {
///     plan: Plan,
///     workspace: Workspace,
///     y: Mat<f32>,
/// }
///
/// # let weights = |seed: usize| Mat::from_fn(64, 128, |n, k| ((n * k + seed) % 17) as f32 - 8.0);
/// let par = Par::Pool(Arc::new(Threads::new(NonZeroUsize::new(2).unwrap())));
/// let host = Host::new().par(par); // Every plan below works on these threads.
/// let product = |weights: &Mat<f32>| -> mixgemm::Result<Product> {
///     let gemm = host.prepare(&QuantMatrix::quantize(weights.view(), Scheme::int(4).group(64))?)?;
///     Ok(Product { plan: gemm.plan(Mode::A8)?, workspace: Workspace::new(), y: Mat::zeros(1, 64) })
/// };
/// let mut qkv = [product(&weights(1))?, product(&weights(2))?, product(&weights(3))?];
/// for token in 0..3 {
///     let x = Mat::from_fn(1, 128, |_, k| (k + token) as f32 * 0.01);
///     for Product { plan, workspace, y } in &mut qkv {
///         plan.run(workspace, x.view().into(), &Epilogue::new(), y.view_mut().into())?;
///     }
/// }
/// # let mut alone = Mat::zeros(1, 64);
/// # let x = Mat::from_fn(1, 128, |_, k| (k + 2) as f32 * 0.01);
/// # let plan = qkv[2].plan.clone().par(Par::Seq);
/// # plan.run(&mut Workspace::new(), x.view().into(), &Epilogue::new(), alone.view_mut().into())?;
/// # assert_eq!(alone, qkv[2].y);
/// # Ok::<(), mixgemm::Error>(())
/// ```
pub trait Pool: Send + Sync {
    /// How many tasks to start: the threads that can run at once. Read once per product.
    fn threads(&self) -> NonZeroUsize;

    /// Calls `task(0)` to `task(tasks − 1)`, each once and on any threads, and returns when all have returned. Tasks do
    /// not wait for each other, so running them one after the other is allowed. A product calls this at most twice: to
    /// pack many activations, and to multiply; several products may call it at the same time.
    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync));
}

/// Who does the work. Results never depend on it.
///
/// A backend has a default ([`Host::par`](crate::Host::par)), a plan may differ ([`Plan::par`](crate::Plan::par)):
///
/// | | threads | for |
/// |---|---|---|
/// | [`Par::Seq`] | the caller's | products side by side, one per thread of the caller's, each with its [`Workspace`] |
/// | `Par::Rayon` | the current rayon pool's | programs that use rayon already |
/// | [`Par::Pool`] | whatever the [`Pool`] starts | runtimes with threads of their own |
///
/// ```
/// use mixgemm::{Epilogue, Host, Mat, Mode, Par, QuantMatrix, Scheme, Workspace};
/// let w = QuantMatrix::quantize(Mat::from_fn(64, 32, |n, k| (n * k % 7) as f32 - 3.0).view(), Scheme::int(4))?;
/// let plan = Host::new().par(Par::Seq).prepare(&w)?.plan(Mode::A8)?;
/// let x = Mat::from_fn(2, 32, |m, k| (m + k) as f32);
/// let mut rows = [Mat::<f32>::zeros(1, 64), Mat::zeros(1, 64)];
/// std::thread::scope(|s| {
///     for (m, y) in rows.iter_mut().enumerate() {
///         let (plan, x) = (&plan, x.view().sub_rows(m, 1)); // One plan serves all threads.
///         s.spawn(move || plan.run(&mut Workspace::new(), x?.into(), &Epilogue::new(), y.view_mut().into()));
///     }
/// });
/// # let mut both = Mat::<f32>::zeros(2, 64);
/// # plan.run(&mut Workspace::new(), x.view().into(), &Epilogue::new(), both.view_mut().into())?;
/// # assert_eq!(both.data(), [rows[0].data(), rows[1].data()].concat());
/// # Ok::<(), mixgemm::Error>(())
/// ```
///
/// [`Workspace`]: crate::Workspace
#[derive(Clone, Default)]
pub enum Par {
    /// The calling thread alone; no pool is touched.
    #[default]
    Seq,
    /// At most this many threads of the current rayon pool: the one the caller runs in, else the global one.
    #[cfg(feature = "rayon")]
    Rayon(NonZeroUsize),
    /// A pool of the caller's.
    Pool(Arc<dyn Pool>),
}

impl fmt::Debug for Par {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seq => f.write_str("Seq"),
            #[cfg(feature = "rayon")]
            Self::Rayon(n) => write!(f, "Rayon({n})"),
            Self::Pool(pool) => write!(f, "Pool({})", pool.threads()),
        }
    }
}

impl Par {
    /// All threads of the current rayon pool.
    #[cfg(feature = "rayon")]
    #[must_use]
    pub fn rayon() -> Self {
        Self::Rayon(NonZeroUsize::new(rayon::current_num_threads()).unwrap_or(NonZeroUsize::MIN))
    }

    /// How many threads work at once, at most 1024.
    #[must_use]
    pub fn threads(&self) -> usize {
        let threads = match self {
            Self::Seq => 1,
            #[cfg(feature = "rayon")]
            Self::Rayon(n) => n.get(),
            Self::Pool(pool) => pool.threads().get(),
        };
        threads.min(1024)
    }

    /// Who does the work of one call.
    pub(super) fn team(&self) -> Team<'_> {
        Team {
            par: self,
            threads: self.threads(),
        }
    }
}

/// Who does the work of one call. The number of threads is read once: buffers, claims and tasks agree on it even when a
/// pool changes its mind.
#[derive(Debug, Clone, Copy)]
pub(super) struct Team<'a> {
    par: &'a Par,
    threads: usize,
}

impl Team<'_> {
    /// How many threads work at once.
    pub(super) fn threads(self) -> usize {
        self.threads
    }

    /// Calls `task` once on each of at most `tasks` workers and waits for all. One task runs on the calling thread.
    pub(super) fn run(self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        let tasks = tasks.min(self.threads);
        if tasks <= 1 {
            return task(0);
        }
        match self.par {
            Par::Seq => task(0),
            #[cfg(feature = "rayon")]
            Par::Rayon(_) => halve(0, tasks, task),
            Par::Pool(pool) => {
                pool.run(tasks, task);
                // Work is claimed, not assigned: whatever a pool left undone is done here.
                task(tasks);
            }
        }
    }
}

/// Tasks `first..last` by nested joins, which allocate nothing.
#[cfg(feature = "rayon")]
fn halve(first: usize, last: usize, task: &(dyn Fn(usize) + Sync)) {
    if last - first <= 1 {
        return task(first);
    }
    let middle = first.midpoint(last);
    rayon::join(|| halve(first, middle, task), || halve(middle, last, task));
}
