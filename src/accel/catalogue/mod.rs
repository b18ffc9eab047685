//! The accelerators: one file each, data and a choice of processing element.
#![forbid(unsafe_code)]

pub mod mixpe;
