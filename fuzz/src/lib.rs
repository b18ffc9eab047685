//! What the fuzz targets share: arbitrary operands of `mixgemm`, and what must be true of them.
#![forbid(unsafe_code)]

pub mod product;
pub mod weights;
pub mod words;
