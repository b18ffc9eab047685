//! Threads that wait for work: awake for a short while, then asleep.
//!
//! A product of a decode step takes some 50 µs, and waking a thread that sleeps takes as long. Between two products of
//! one step there is less time than that: threads that look for work a little longer before they sleep are there at once.

use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::hint;
use core::mem;
use core::num::NonZeroUsize;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

/// How long a thread looks for work before it sleeps.
const AWAKE: Duration = Duration::from_micros(100);

/// A thread pool: the threads that it started, and the caller's.
///
/// Threads without work look out for it for 0.1 ms and sleep then. A call works on the calling thread too and waits only
/// for what others have begun: a thread that wakes late costs nothing. While one caller has the threads, the tasks of
/// another, or of a task itself, run on the thread that asks.
///
/// ```
/// use mixgemm::{Host, Mat, Mode, Par, QuantMatrix, Scheme, Threads};
/// use std::num::NonZeroUsize;
/// use std::sync::Arc;
/// let threads = Arc::new(Threads::new(NonZeroUsize::new(2).unwrap()));
/// let host = Host::new().par(Par::Pool(threads)); // All that it prepares works on these threads.
/// let w = QuantMatrix::quantize(Mat::from_fn(64, 32, |n, k| (n * k % 7) as f32).view(), Scheme::int(4))?;
/// let (x, mut y) = (Mat::from_fn(1, 32, |_, k| k as f32), Mat::<f32>::zeros(1, 64));
/// host.prepare(&w)?.run(x.view(), Mode::A8, y.view_mut())?;
/// # Ok::<(), mixgemm::Error>(())
/// ```
pub struct Threads {
    shared: Arc<Shared>,
    started: Vec<JoinHandle<()>>,
}

/// What the threads are to do, borrowed for the time of a call.
type Task = &'static (dyn Fn(usize) + Sync);

#[derive(Default)]
struct Shared {
    /// Held for the whole of a call.
    turn: Mutex<()>,
    work: Mutex<Work>,
    /// Some thread sleeps until there is work.
    posted: Condvar,
    /// The caller sleeps until nobody works.
    finished: Condvar,
    /// Counts calls: it tells a waiting thread when to look at `work`, and decides nothing.
    calls: AtomicUsize,
    /// What `work.running` is: it tells a waiting caller when to look there, and decides nothing.
    running: AtomicUsize,
}

/// Tasks `next..last` are to be begun.
#[derive(Default)]
struct Work {
    task: Option<Task>,
    next: usize,
    last: usize,
    /// Tasks that were begun and have not returned.
    running: usize,
    /// Threads that sleep until there is work.
    asleep: usize,
    /// Whether the caller sleeps until nobody works.
    awaited: bool,
    /// The first panic of a task.
    panic: Option<Box<dyn Any + Send>>,
    stop: bool,
}

impl Threads {
    /// So many threads, the caller's included: one fewer is started, or fewer still where the system refuses.
    #[must_use]
    pub fn new(threads: NonZeroUsize) -> Self {
        let shared = Arc::<Shared>::default();
        let mut started = Vec::new();
        for i in 1..threads.get() {
            let shared = shared.clone();
            let name = format!("mixgemm-{i}");
            match thread::Builder::new().name(name).spawn(move || shared.serve()) {
                Ok(thread) => started.push(thread),
                Err(_) => break,
            }
        }
        Self { shared, started }
    }

    /// How many threads can work at once, the caller's included.
    #[must_use]
    pub fn threads(&self) -> NonZeroUsize {
        NonZeroUsize::MIN.saturating_add(self.started.len())
    }

    /// Calls `task(0)` to `task(tasks − 1)`, each once, and returns when all have returned. A panic of a task is passed on
    /// when no other runs any more.
    pub fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        let _turn = match self.shared.turn.try_lock() {
            Ok(turn) => turn,
            Err(TryLockError::Poisoned(turn)) => turn.into_inner(),
            Err(TryLockError::WouldBlock) => return (0..tasks).for_each(task),
        };
        // SAFETY: the reference must not be used after this call. A thread copies it only while `next < last` and
        // counts itself as running under the same lock; `finish` returns when all tasks are begun and none runs, and
        // takes it away. Nothing between can unwind: panics of tasks are caught, and none is dropped. The tests
        // `no_task_runs_after_its_call` and `panics_that_panic_when_dropped_end_no_call_early` would notice a thread
        // that still has it.
        let task = unsafe { core::mem::transmute::<&(dyn Fn(usize) + Sync), Task>(task) };
        self.shared.post(task, tasks);
        self.shared.work();
        if let Some(panic) = self.shared.finish() {
            resume_unwind(panic);
        }
    }
}

impl Shared {
    /// The work; a panic that poisoned it left it whole.
    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands tasks to the threads.
    fn post(&self, task: Task, tasks: usize) {
        let mut work = self.lock();
        (work.task, work.next, work.last) = (Some(task), 0, tasks);
        let wake = tasks > 1 && work.asleep > 0;
        drop(work);
        self.calls.fetch_add(1, Ordering::Relaxed);
        if wake {
            self.posted.notify_all();
        }
    }

    /// Runs tasks until all are begun.
    fn work(&self) {
        let mut work = self.lock();
        while let Some(task) = work.task.filter(|_| work.next < work.last) {
            let i = work.next;
            work.next += 1;
            work.running += 1;
            self.running.store(work.running, Ordering::Relaxed);
            drop(work);
            let result = catch_unwind(AssertUnwindSafe(|| task(i)));
            work = self.lock();
            work.running -= 1;
            self.running.store(work.running, Ordering::Relaxed);
            match result {
                Err(panic) if work.panic.is_none() => work.panic = Some(panic),
                // To drop it is the caller's code, and may panic in turn.
                Err(panic) => mem::forget(panic),
                Ok(()) => {}
            }
            if work.running == 0 && work.awaited {
                self.finished.notify_all();
            }
        }
    }

    /// Waits until no task runs, when all are begun; gives the first panic.
    fn finish(&self) -> Option<Box<dyn Any + Send>> {
        stay_awake(|| self.running.load(Ordering::Relaxed) == 0);
        let mut work = self.lock();
        while work.running > 0 {
            work.awaited = true;
            work = self.finished.wait(work).unwrap_or_else(PoisonError::into_inner);
        }
        work.awaited = false;
        work.task = None;
        work.panic.take()
    }

    /// The life of a thread.
    fn serve(&self) {
        loop {
            let seen = self.calls.load(Ordering::Relaxed);
            self.work();
            if stay_awake(|| self.calls.load(Ordering::Relaxed) != seen) {
                continue;
            }
            let mut work = self.lock();
            if work.stop {
                return;
            }
            // Whoever is woken too late for this call is awake for the next.
            if work.next == work.last {
                work.asleep += 1;
                work = self.posted.wait(work).unwrap_or_else(PoisonError::into_inner);
                work.asleep -= 1;
            }
        }
    }
}

/// Waits for `ready` for a short while; whether it was.
fn stay_awake(ready: impl Fn() -> bool) -> bool {
    let begin = Instant::now();
    loop {
        for _ in 0..64 {
            if ready() {
                return true;
            }
            hint::spin_loop();
        }
        if begin.elapsed() >= AWAKE {
            return false;
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.posted.notify_all();
        for thread in self.started.drain(..) {
            // Tasks' panics are caught, so a thread ends without one.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Threads({})", self.threads())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicBool;
    use std::thread::{scope, sleep};

    fn threads(count: usize) -> Threads {
        Threads::new(NonZeroUsize::new(count).unwrap())
    }

    /// How often each of `tasks` tasks runs.
    fn counts(pool: &Threads, tasks: usize) -> Vec<usize> {
        let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
        pool.run(tasks, &|i| {
            counts[i].fetch_add(1, Ordering::Relaxed);
        });
        counts.into_iter().map(AtomicUsize::into_inner).collect()
    }

    /// Waits until all threads of the pool sleep.
    fn fall_asleep(pool: &Threads) {
        let begin = Instant::now();
        while pool.shared.lock().asleep < pool.started.len() {
            assert!(begin.elapsed() < Duration::from_secs(10), "threads stay awake");
            sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn every_task_runs_once() {
        for count in [1, 2, 5] {
            let pool = threads(count);
            assert_eq!(pool.threads().get(), count);
            for tasks in [0, 1, 2, 7, 1000] {
                assert_eq!(counts(&pool, tasks), vec![1; tasks], "on {count}");
            }
        }
    }

    /// Two tasks that each wait for the other end only when two threads run them.
    #[test]
    fn tasks_run_at_the_same_time_whether_threads_were_awake_or_asleep() {
        let pool = threads(2);
        for round in 0..20 {
            if round % 2 == 1 {
                fall_asleep(&pool);
            }
            let arrived = AtomicUsize::new(0);
            pool.run(2, &|_| {
                arrived.fetch_add(1, Ordering::SeqCst);
                while arrived.load(Ordering::SeqCst) < 2 {
                    thread::yield_now();
                }
            });
        }
    }

    /// The task and what it borrows are gone after the call; a thread that came late must not have taken it.
    #[test]
    fn no_task_runs_after_its_call() {
        let pool = threads(3);
        for round in 0..2000 {
            let open = AtomicBool::new(true);
            let tasks = round % 5;
            let ran = AtomicUsize::new(0);
            pool.run(tasks, &|_| {
                ran.fetch_add(1, Ordering::SeqCst);
                if round % 7 == 0 {
                    thread::yield_now();
                }
                assert!(open.load(Ordering::SeqCst));
            });
            open.store(false, Ordering::SeqCst);
            assert_eq!(ran.load(Ordering::SeqCst), tasks);
            let work = pool.shared.lock();
            assert!(work.task.is_none() && work.running == 0);
        }
    }

    #[test]
    fn panics_are_passed_on_and_the_threads_live() {
        let pool = threads(3);
        for which in 0..4 {
            let ran = AtomicUsize::new(0);
            let panics = AssertUnwindSafe(|| {
                pool.run(4, &|i| {
                    ran.fetch_add(1, Ordering::SeqCst);
                    if i == which {
                        resume_unwind(Box::new(i));
                    }
                });
            });
            let panic = catch_unwind(panics).unwrap_err();
            assert_eq!(panic.downcast_ref(), Some(&which));
            assert_eq!(ran.load(Ordering::SeqCst), 4, "the others run");
            assert_eq!(counts(&pool, 9), [1; 9]);
        }
    }

    /// Two panics on the calling thread, while the other thread works.
    #[test]
    fn panics_that_panic_when_dropped_end_no_call_early() {
        struct Again;
        impl Drop for Again {
            fn drop(&mut self) {
                resume_unwind(Box::new("dropped"));
            }
        }
        let pool = threads(2);
        let (begun, ended) = (AtomicBool::new(false), AtomicBool::new(false));
        let caller = thread::current().id();
        let panics = AssertUnwindSafe(|| {
            pool.run(3, &|_| {
                if thread::current().id() == caller {
                    while !begun.load(Ordering::SeqCst) {
                        thread::yield_now();
                    }
                    resume_unwind(Box::new(Again));
                }
                begun.store(true, Ordering::SeqCst);
                sleep(Duration::from_millis(50));
                ended.store(true, Ordering::SeqCst);
            });
        });
        let panic = catch_unwind(panics).unwrap_err();
        assert!(ended.load(Ordering::SeqCst), "a task outlived its call");
        assert!(panic.is::<Again>());
        mem::forget(panic);
        assert_eq!(counts(&pool, 9), [1; 9]);
    }

    #[test]
    fn several_callers_and_tasks_that_call_are_served() {
        let pool = threads(2);
        let total = AtomicUsize::new(0);
        scope(|s| {
            for _ in 0..4 {
                s.spawn(|| {
                    for _ in 0..200 {
                        assert_eq!(counts(&pool, 5), [1; 5]);
                        pool.run(3, &|_| {
                            pool.run(3, &|_| {
                                total.fetch_add(1, Ordering::Relaxed);
                            });
                        });
                    }
                });
            }
        });
        assert_eq!(total.into_inner(), 4 * 200 * 9);
    }

    #[test]
    fn threads_end_with_the_pool() {
        for round in 0..40 {
            let pool = threads(4);
            if round % 2 == 0 {
                fall_asleep(&pool);
            } else {
                pool.run(2, &|_| {});
            }
            let shared = pool.shared.clone();
            drop(pool);
            assert_eq!(Arc::strong_count(&shared), 1, "all threads have ended");
        }
    }
}
