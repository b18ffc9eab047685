//! What a split has done with some weights so far.
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicUsize, Ordering};

/// What a split has done with some weights so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SplitWork {
    /// Products.
    pub products: u64,
    /// Those of them that had outliers.
    pub shadowed: u64,
    /// Input channels with outliers, added up over products.
    pub channels: u64,
    /// Outliers.
    pub outliers: u64,
}

/// Counts of [`SplitWork`] in its order, which many threads add to.
#[derive(Debug, Default)]
pub(super) struct WorkCounts([AtomicUsize; 4]);

impl WorkCounts {
    /// One product more, with so many outliers in so many channels.
    pub(super) fn add(&self, channels: usize, outliers: usize) {
        for (count, more) in self.0.iter().zip([1, usize::from(outliers > 0), channels, outliers]) {
            count.fetch_add(more, Ordering::Relaxed);
        }
    }

    /// The counts.
    pub(super) fn get(&self) -> SplitWork {
        let [products, shadowed, channels, outliers] =
            self.0.each_ref().map(|count| count.load(Ordering::Relaxed) as u64);
        SplitWork {
            products,
            shadowed,
            channels,
            outliers,
        }
    }
}
