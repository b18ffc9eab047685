//! The state of an emulated NPU: its graphs, the memory that they take, and its clock.
//!
//! A graph is built for one set of weights and one number of rows, then optimised, then executed any number of times, then
//! freed. One is executed at a time: the queue gives each execution a span of the device's own time.
#![forbid(unsafe_code)]

use crate::accel::npu::profile::{Arrangement, Profile};
use crate::backend::{DeviceTime, WeightShape};
use crate::base::error::{Error, Result};
use alloc::collections::BTreeMap;
use alloc::{format, string::String, vec::Vec};

/// When an execution starts and ends on the device's clock, ms.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// The device was idle and the input there.
    pub start_ms: f64,
    /// The output is there.
    pub end_ms: f64,
}

/// One graph.
#[derive(Debug)]
struct Graph {
    rows: Arrangement,
    bytes: u64,
    optimised: bool,
}

/// What a device remembers.
#[derive(Debug, Default)]
pub(super) struct Graphs {
    weights: u64,
    /// By weights and rows M.
    graphs: BTreeMap<(u64, usize), Graph>,
    pub(super) spent: DeviceTime,
    /// From when on the device is idle.
    idle_from_ms: f64,
}

/// Bytes of a graph: its weights, int8 inputs and 32-bit outputs.
fn bytes(m: usize, w: &WeightShape) -> u64 {
    let (m, n, k) = (m as u64, w.n as u64, w.k as u64);
    let product = |a: u64, b: u64| a.saturating_mul(b);
    product(n, k)
        .saturating_add(product(m, k))
        .saturating_add(product(product(m, n), 4))
}

fn shape(m: usize, w: &WeightShape) -> String {
    format!("[{m}, {}] x [{}, {}]^T", w.k, w.n, w.k)
}

impl Graphs {
    /// A number for a set of weights.
    pub(super) fn number(&mut self) -> u64 {
        self.weights += 1;
        self.weights
    }

    /// Bytes of all graphs.
    pub(super) fn bytes(&self) -> u64 {
        self.graphs.values().map(|graph| graph.bytes).sum()
    }

    pub(super) fn has(&self, weights: u64, m: usize) -> bool {
        self.graphs.contains_key(&(weights, m))
    }

    /// Builds a graph, in the fastest arrangement unless one is given; the first brings up the environment.
    pub(super) fn build(
        &mut self,
        profile: &Profile,
        weights: u64,
        w: &WeightShape,
        m: usize,
        rows: Option<Arrangement>,
    ) -> Result<()> {
        if self.has(weights, m) {
            let found = "the same graph a second time";
            return Err(Error::value(
                "graph",
                format!("a graph other than {}", shape(m, w)),
                found,
            ));
        }
        let (bytes, used) = (bytes(m, w), self.bytes());
        if used.checked_add(bytes).is_none_or(|total| total > profile.window_bytes) {
            let window = profile.window_bytes;
            let expected = format!("at most {window} bytes in all graphs, as far as the device's addresses reach");
            let found = format!("{used} bytes, and {bytes} more for {}; free others first", shape(m, w));
            return Err(Error::memory("graph", expected, found));
        }
        if self.spent.setup_ms == 0.0 {
            self.spent.setup_ms = profile.setup_ms;
        }
        self.spent.build_ms += profile.graph.build_ms;
        let graph = Graph {
            rows: rows.unwrap_or_else(|| profile.best(m, w.n, w.k)),
            bytes,
            optimised: false,
        };
        self.graphs.insert((weights, m), graph);
        Ok(())
    }

    /// The refusal of a product without a graph; it names the graphs that there are for these weights.
    fn missing(&self, argument: &'static str, weights: u64, w: &WeightShape, m: usize) -> Error {
        let built: Vec<String> = self
            .graphs
            .range((weights, 0)..=(weights, usize::MAX))
            .map(|((_, m), _)| shape(*m, w))
            .collect();
        let expected = match built.is_empty() {
            true => "a shape that a graph is built for; there is none for these weights".into(),
            false => format!("a shape that a graph is built for: {}", built.join(", ")),
        };
        Error::shape(argument, expected, shape(m, w))
    }

    pub(super) fn optimise(&mut self, profile: &Profile, weights: u64, w: &WeightShape, m: usize) -> Result<()> {
        let Some(graph) = self.graphs.get_mut(&(weights, m)) else {
            return Err(self.missing("m", weights, w, m));
        };
        graph.optimised = true;
        self.spent.optimise_ms += profile.optimise_ms(w.n, w.k);
        Ok(())
    }

    /// How the rows of a product stand, if its graph can be executed.
    pub(super) fn ready(&self, weights: u64, w: &WeightShape, m: usize) -> Result<Arrangement> {
        match self.graphs.get(&(weights, m)) {
            Some(graph) if graph.optimised => Ok(graph.rows),
            Some(_) => Err(Error::value(
                "graph",
                format!("an optimised graph of {}", shape(m, w)),
                "one that is only built",
            )),
            None => Err(self.missing("x", weights, w, m)),
        }
    }

    /// Takes the device for so long, once it is idle and not before `ready_ms`.
    pub(super) fn execute(&mut self, ready_ms: f64, ms: f64) -> Span {
        let start_ms = self.idle_from_ms.max(ready_ms);
        let end_ms = start_ms + ms;
        if ms > 0.0 {
            self.idle_from_ms = end_ms;
        }
        self.spent.execute_ms += ms;
        Span { start_ms, end_ms }
    }

    pub(super) fn free(&mut self, profile: &Profile, weights: u64, w: &WeightShape, m: usize) -> Result<()> {
        if self.graphs.remove(&(weights, m)).is_none() {
            return Err(self.missing("m", weights, w, m));
        }
        self.spent.free_ms += profile.graph.free_ms;
        Ok(())
    }

    /// Frees all graphs of some weights.
    pub(super) fn free_all(&mut self, profile: &Profile, weights: u64) {
        let before = self.graphs.len();
        self.graphs.retain(|&(of, _), _| of != weights);
        self.spent.free_ms += profile.graph.free_ms * (before - self.graphs.len()) as f64;
    }
}
