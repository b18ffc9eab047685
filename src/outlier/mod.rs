//! Floor 4: activations with outliers: a split over any backend, and the calibration behind it.
//!
//! A few input channels of a language model carry values far beyond all others. One 8-bit scale for the tensor then
//! either clips them or wastes its codes on them. Two splits keep them apart:
//!
//! * [`split`]: the shadow execution of llm.npu (arXiv 2407.05858). `v = rne(x/t)` is cut into `c = clamp(v, ±127)`, which
//!   the wrapped backend multiplies, and `r = v − c`, whose compact product joins the integers of every group. The result
//!   has the bits of a product that was never cut.
//! * [`find`] looks for outliers at run time; [`columns`] holds the weights that they meet.
#![forbid(unsafe_code)]

pub mod columns;
pub mod find;
mod fold;
pub mod split;
