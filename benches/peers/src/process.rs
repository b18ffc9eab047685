//! Worker processes. One runs while the driver waits for its reply; all others are stopped, so that no pool that spins
//! disturbs the one that is measured.

use crate::protocol::{Hello, Reply, Request};
use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::de::DeserializeOwned;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A worker, stopped unless it is asked.
pub(crate) struct Worker {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Worker {
    /// Starts a worker and hears what it is.
    pub(crate) fn start(mut command: Command) -> Result<(Self, Hello)> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take().context("a pipe to the worker")?;
        let output = BufReader::new(child.stdout.take().context("a pipe from the worker")?);
        let mut worker = Self { child, input, output };
        let hello = worker.hear()?;
        worker.signal(Signal::SIGSTOP)?;
        Ok((worker, hello))
    }

    /// One request and its reply.
    pub(crate) fn ask(&mut self, request: &Request) -> Result<Reply> {
        self.signal(Signal::SIGCONT)?;
        serde_json::to_writer(&mut self.input, request)?;
        writeln!(self.input)?;
        let reply = self.hear()?;
        self.signal(Signal::SIGSTOP)?;
        match reply {
            Reply::Error(error) => bail!(error),
            reply => Ok(reply),
        }
    }

    fn hear<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            bail!("worker: expected a line, found its end ({})", self.child.wait()?);
        }
        serde_json::from_str(&line).with_context(|| format!("worker: expected JSON, found {line:?}"))
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(self.child.id().try_into()?), signal)?)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // A worker that has ended by itself is as good.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
