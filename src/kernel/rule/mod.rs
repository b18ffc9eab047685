//! What one step over k means.
#![forbid(unsafe_code)]

pub mod direct;
