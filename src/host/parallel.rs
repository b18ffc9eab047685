//! Who does the work: the calling thread, rayon's pool, or a pool of the caller's.
#![forbid(unsafe_code)]

use alloc::sync::Arc;
use core::fmt;
use core::num::NonZeroUsize;

/// A thread pool of the caller's.
///
/// ```
/// use mixgemm::Pool;
/// use std::num::NonZeroUsize;
///
/// /// Starts threads for every call; a runtime would keep them.
/// struct Scoped(NonZeroUsize);
///
/// impl Pool for Scoped {
///     fn threads(&self) -> NonZeroUsize {
///         self.0
///     }
///     fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
///         std::thread::scope(|s| (0..tasks).for_each(|i| drop(s.spawn(move || task(i)))));
///     }
/// }
/// ```
pub trait Pool: Send + Sync {
    /// How many tasks to start: the threads that can run at once.
    fn threads(&self) -> NonZeroUsize;

    /// Calls `task(0)` to `task(tasks − 1)`, each once and on any threads, and returns when all have returned. Tasks do
    /// not wait for each other, so running them one after the other is allowed.
    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync));
}

/// Who does the work. Results never depend on it.
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

    /// Calls `task` once on each of at most `tasks` workers and waits for all. One task runs on the calling thread.
    pub(super) fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        let tasks = tasks.min(self.threads());
        if tasks <= 1 {
            return task(0);
        }
        match self {
            Self::Seq => task(0),
            #[cfg(feature = "rayon")]
            Self::Rayon(_) => halve(0, tasks, task),
            Self::Pool(pool) => {
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
