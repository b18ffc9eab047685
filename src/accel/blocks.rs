//! Blocks of activation rows, on all threads of the current rayon pool where there is one.
#![forbid(unsafe_code)]

use crate::backend::Counters;
use crate::base::error::Result;
use alloc::vec::Vec;
use core::ops::Range;

#[cfg(feature = "rayon")]
use rayon::iter::{IntoParallelIterator, ParallelIterator};

/// Rows that share the weights of one column while they are expanded. No result depends on it.
const BLOCK: usize = 8;

/// What a block of rows came to.
pub(super) type Block<T> = Result<(Range<usize>, Vec<T>, Counters)>;

/// Runs `f` over all blocks of `m` rows, in the current rayon pool where there is one; results in ascending order.
pub(super) fn in_blocks<T: Send>(m: usize, f: impl Fn(Range<usize>) -> Block<T> + Sync + Send) -> Vec<Block<T>> {
    let block = |i: usize| f(i * BLOCK..((i + 1) * BLOCK).min(m));
    let blocks = 0..m.div_ceil(BLOCK);
    #[cfg(feature = "rayon")]
    return blocks.into_par_iter().map(block).collect();
    #[cfg(not(feature = "rayon"))]
    return blocks.map(block).collect();
}

/// Hands every row of every block to `take`, in ascending order, and adds up the counters. `width` values a row.
pub(super) fn gather<T>(blocks: Vec<Block<T>>, width: usize, mut take: impl FnMut(usize, &[T])) -> Result<Counters> {
    let mut total = Counters::default();
    for block in blocks {
        let (rows, values, counters) = block?;
        for (i, m) in rows.enumerate() {
            take(m, &values[i * width..][..width]);
        }
        total += counters;
    }
    Ok(total)
}
