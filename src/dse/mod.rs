//! Floor 5: design-space exploration. Which accelerator gives how much fidelity for how much area and power?
//!
//! A [space] lists values for every axis of a design and of the conditions it works under, and so spans points. The
//! fidelity of a point's format is [measured](fidelity) on tensors; cycles, energy and area of a [workload]
//! on it come from [`accel`](crate::accel). The [run](explore) over all points writes a [file](points) that can be resumed
//! and merged from shards, and the [frontier](pareto) is what no other point beats.
#![forbid(unsafe_code)]

pub mod axis;
pub mod evaluate;
pub mod explore;
pub mod fidelity;
pub mod format;
pub mod heading;
pub mod kept;
pub mod measured;
pub mod outcome;
pub mod pareto;
pub mod points;
pub mod space;
pub mod view;
pub mod workload;
