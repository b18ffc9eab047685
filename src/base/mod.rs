//! Floor 1: views, owned matrices, buffers, float elements, disjoint output tiles and errors.

pub mod buffer;
#[expect(unsafe_code, reason = "one output written by many threads")]
pub mod disjoint;
pub mod error;
pub mod float;
pub mod mat;
#[cfg(feature = "ndarray")]
mod ndarray;
pub mod view;
