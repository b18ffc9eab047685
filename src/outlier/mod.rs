//! Floor 4: activations with outliers: splits over any backend, and the calibration behind them.
//!
//! A few input channels of a language model carry values far beyond all others. One 8-bit scale for the tensor then
//! either clips them or wastes its codes on them. Two splits keep them apart:
//!
//! * [`split`]: the shadow execution of llm.npu (arXiv 2407.05858). `v = rne(x/t)` is cut into `c = clamp(v, ±127)`, which
//!   the wrapped backend multiplies, and `r = v − c`, whose compact product joins the integers of every group. The result
//!   has the bits of a product that was never cut. [`find`] looks for outliers at run time; [`columns`] are the weights
//!   that they meet, in memory, or with only the [`hot`] ones there and all of
//!   them in a file (`mapped`).
//! * [`mixed`]: in the manner of LLM.int8() (arXiv 2208.07339) and OLAccel (ISCA 2018): outliers keep their floats, and
//!   continue the fold of the others.
//!
//! [`treatment`] puts either of them around a backend that is chosen at run time.
//!
//! What they need to know beforehand comes from samples: [`calibration`] has static scales and counts of outliers by
//! channel, [`budget`] shares outlier channels out among the linears of a model, [`importance`] says which matrices of a model keep their shadow, and [`migrate`] moves outliers into the
//! weights instead.
#![forbid(unsafe_code)]

pub mod budget;
pub mod calibration;
pub mod columns;
pub mod find;
mod fold;
pub mod hot;
pub mod importance;
#[cfg(feature = "pack-file")]
pub mod mapped;
pub mod migrate;
pub mod mixed;
pub mod share;
pub mod split;
pub mod treatment;
mod work;
