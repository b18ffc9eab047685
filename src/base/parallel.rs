//! Who does the work: the calling thread, rayon's pool, or a pool of the caller's.
#![forbid(unsafe_code)]

#[cfg(feature = "std")]
use crate::base::threads::Threads;
use alloc::sync::Arc;
use core::fmt;
use core::num::NonZeroUsize;

/// A thread pool of the caller's.
///
/// A runtime with threads of its own hands them to every product as [`Par::Pool`]; one without takes [`Threads`]. All that
/// a pool has to do is to run tasks and wait for them:
///
/// ```
/// use mixgemm::{Host, Mat, Mode, Par, Pool, QuantMatrix, Scheme};
/// use std::num::NonZeroUsize;
/// use std::sync::Arc;
///
/// /// Starts a thread for every task.
/// struct Starts(NonZeroUsize);
///
/// impl Pool for Starts {
///     fn threads(&self) -> NonZeroUsize {
///         self.0
///     }
///
///     fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
///         std::thread::scope(|s| (0..tasks).for_each(|i| drop(s.spawn(move || task(i)))));
///     }
/// }
///
/// let host = Host::new().par(Par::Pool(Arc::new(Starts(NonZeroUsize::new(2).unwrap()))));
/// let w = QuantMatrix::quantize(Mat::from_fn(64, 128, |n, k| ((n * k) % 17) as f32).view(), Scheme::int(4).group(64))?;
/// let (x, mut y) = (Mat::from_fn(1, 128, |_, k| k as f32 * 0.01), Mat::<f32>::zeros(1, 64));
/// host.prepare(&w)?.run(x.view(), Mode::A8, y.view_mut())?;
/// # let mut alone = Mat::<f32>::zeros(1, 64);
/// # Host::new().prepare(&w)?.run(x.view(), Mode::A8, alone.view_mut())?;
/// # assert_eq!(alone, y);
/// # Ok::<(), mixgemm::Error>(())
/// ```
///
/// Threads that live on need more: a task is borrowed for the time of the call, so `run` must not return, nor unwind,
/// while any thread may still use it.
pub trait Pool: Send + Sync {
    /// How many tasks to start: the threads that can run at once. Read once per product.
    fn threads(&self) -> NonZeroUsize;

    /// Calls `task(0)` to `task(tasks − 1)`, each once and on any threads, and returns when all have returned. Tasks do
    /// not wait for each other, so running them one after the other is allowed. A product calls this at most twice: to
    /// pack many activations, and to multiply; several products may call it at the same time.
    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync));
}

#[cfg(feature = "std")]
impl Pool for Threads {
    fn threads(&self) -> NonZeroUsize {
        self.threads()
    }

    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        self.run(tasks, task);
    }
}

/// Who does the work. Results never depend on it.
///
/// A backend has a default ([`Host::par`](crate::Host::par)), a plan may differ ([`Plan::par`](crate::Plan::par)):
///
/// | | threads | for |
/// |---|---|---|
/// | [`Par::Seq`] | the caller's | products side by side, one per thread of the caller's, each with its [`Workspace`] |
/// | `Par::Rayon` | the current rayon pool's | programs that use rayon already |
/// | [`Par::Pool`] | those of [`Threads`] | decode loops: these threads wait a little before they sleep |
/// | | whatever the [`Pool`] starts | runtimes with threads of their own |
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
    pub(crate) fn team(&self) -> Team<'_> {
        Team {
            par: self,
            threads: self.threads(),
        }
    }
}

/// Who does the work of one call. The number of threads is read once: buffers, claims and tasks agree on it even when a
/// pool changes its mind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Team<'a> {
    par: &'a Par,
    threads: usize,
}

impl Team<'_> {
    /// How many threads work at once.
    pub(crate) fn threads(self) -> usize {
        self.threads
    }

    /// Calls `task` once on each of at most `tasks` workers and waits for all. One task runs on the calling thread.
    pub(crate) fn run(self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
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
