//! A progress bar on the standard error stream: only on a terminal, and only for work that takes over a second.
#![forbid(unsafe_code)]

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Work below this long shows no bar.
const PATIENCE: Duration = Duration::from_secs(1);

/// Steps of some work. The bar vanishes when this is dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    appears: Option<(mpsc::Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    /// Work of this many steps.
    pub(crate) fn new(steps: usize) -> Self {
        let bar = ProgressBar::with_draw_target(Some(steps as u64), ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}") {
            bar.set_style(style);
        }
        let appears = io::stderr().is_terminal().then(|| {
            let (sender, finished) = mpsc::channel();
            let shown = bar.clone();
            let thread = thread::spawn(move || {
                if finished.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                    shown.set_draw_target(ProgressDrawTarget::stderr());
                    shown.tick();
                }
            });
            (sender, thread)
        });
        Self { bar, appears }
    }

    /// The next step begins.
    pub(crate) fn step(&self, what: impl Into<String>) {
        self.bar.set_message(what.into());
        self.bar.inc(1);
    }

    /// So much of this step is done.
    pub(crate) fn part(&self, what: &str, done: usize, all: usize) {
        self.bar.set_message(format!("{what}: {} %", 100 * done / all.max(1)));
    }

    /// The work has this many steps more.
    pub(crate) fn more(&self, steps: usize) {
        self.bar.inc_length(steps as u64);
    }

    /// Runs `print` with the bar out of the way.
    pub(crate) fn suspend<R>(&self, print: impl FnOnce() -> R) -> R {
        self.bar.suspend(print)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((sender, thread)) = self.appears.take() {
            drop(sender);
            let _ = thread.join();
        }
        self.bar.finish_and_clear();
    }
}
