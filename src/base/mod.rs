//! Floor 1: views, owned matrices, buffers, float elements, disjoint output tiles, file maps and errors.

pub mod buffer;
#[expect(unsafe_code, reason = "one output written by many threads")]
pub mod disjoint;
pub mod error;
pub mod float;
#[cfg(feature = "cli")]
pub mod map;
pub mod mat;
pub mod view;
