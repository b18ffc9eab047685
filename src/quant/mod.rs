//! Floor 2: what the numbers mean. Weights as integer codes with scales and zero points, activations as integers with
//! a scale; everything here is plain scalar code and is the definition that every backend equals bit for bit.
#![forbid(unsafe_code)]

pub mod activation;
pub mod book;
pub mod figures;
pub mod input;
pub mod matrix;
pub mod rest;
pub mod rounding;
pub mod scheme;
pub mod sums;
