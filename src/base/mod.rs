//! Floor 1: views, owned matrices, buffers, float elements, disjoint output tiles, threads and errors.

pub mod buffer;
#[expect(unsafe_code, reason = "one output written by many threads")]
pub mod disjoint;
pub mod error;
#[cfg(feature = "faer")]
#[expect(unsafe_code, reason = "views over a matrix whose columns are padded")]
mod faer;
pub mod float;
pub mod idle;
#[cfg(feature = "pack-file")]
#[expect(unsafe_code, reason = "files as memory")]
pub mod map;
pub mod mat;
#[cfg(feature = "ndarray")]
#[expect(unsafe_code, reason = "views over an array with gaps")]
mod ndarray;
pub mod parallel;
#[cfg(feature = "std")]
#[expect(unsafe_code, reason = "a task that threads borrow for the time of a call")]
pub mod threads;
#[expect(unsafe_code, reason = "rows of a matrix whose gaps belong to others")]
pub mod view;
