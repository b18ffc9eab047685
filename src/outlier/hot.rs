//! Hot channels: a few columns of weights stay in memory, the others are read where they lie when an outlier needs them.
//! Under 3 % of channels have over 80 % of the outliers (arXiv 2407.05858, section 3.3).
#![forbid(unsafe_code)]

use crate::base::error::{Error, Result};
use crate::outlier::columns::{Columns, check_request};
use alloc::sync::Arc;
use alloc::{boxed::Box, format, vec, vec::Vec};
use core::sync::atomic::{AtomicUsize, Ordering};

/// No resident column.
const COLD: u32 = u32::MAX;

/// A bounded set of resident columns before a backing store. What is read never depends on which are resident.
///
/// ```
/// use mixgemm::outlier::columns::{Columns, InMemory};
/// use mixgemm::outlier::hot::HotColumns;
/// use mixgemm::{Mat, QuantMatrix, Scheme};
/// let w = QuantMatrix::quantize(Mat::from_fn(2, 9, |n, k| (n + k) as f32).view(), Scheme::int(8))?;
/// let hot = HotColumns::new(Box::new(InMemory::new(&w)), &[7, 2, 5], 2)?; // The first two become resident.
/// let mut levels = [0; 2];
/// for k in [7, 7, 2, 5] {
///     hot.read(k, &mut levels)?;
/// }
/// assert_eq!((hot.counts().hits(), hot.counts().misses()), (3, 1));
/// # Ok::<(), mixgemm::Error>(())
/// ```
pub struct HotColumns {
    backing: Box<dyn Columns>,
    slots: Vec<u32>,
    levels: Vec<i16>,
    reads: Arc<Reads>,
}

/// How often columns were read.
#[derive(Debug, Default)]
pub struct Reads {
    hits: AtomicUsize,
    misses: AtomicUsize,
}

impl Reads {
    /// Reads of resident columns.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed) as u64
    }

    /// Reads that went to the backing store.
    #[must_use]
    pub fn misses(&self) -> u64 {
        self.misses.load(Ordering::Relaxed) as u64
    }
}

impl core::fmt::Debug for HotColumns {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "HotColumns({} bytes, {:?})", self.bytes(), self.reads)
    }
}

impl HotColumns {
    /// Keeps at most `size` of the channels of `hottest` resident: the first, as
    /// [`ChannelCounts::hottest`](crate::outlier::calibration::ChannelCounts::hottest) has them.
    ///
    /// # Errors
    /// [`Error::Value`] for a channel that the store does not have; the store's own.
    pub fn new(backing: Box<dyn Columns>, hottest: &[u32], size: usize) -> Result<Self> {
        let (n, k) = backing.shape();
        let resident = &hottest[..size.min(hottest.len())];
        let (mut slots, mut levels) = (vec![COLD; k], vec![0; resident.len() * n]);
        for (slot, &channel) in resident.iter().enumerate() {
            let Some(own) = slots.get_mut(channel as usize) else {
                return Err(Error::value(
                    "hottest",
                    format!("channels below {k}"),
                    format!("{channel}"),
                ));
            };
            *own = slot as u32;
            backing.read(channel as usize, &mut levels[slot * n..][..n])?;
        }
        Ok(Self {
            backing,
            slots,
            levels,
            reads: Arc::default(),
        })
    }

    /// How often columns were read so far; it may be asked for beforehand and kept.
    #[must_use]
    pub fn counts(&self) -> Arc<Reads> {
        self.reads.clone()
    }
}

impl Columns for HotColumns {
    fn shape(&self) -> (usize, usize) {
        self.backing.shape()
    }

    fn read(&self, k: usize, to: &mut [i16]) -> Result<()> {
        check_request(self.shape(), k, to)?;
        let slot = self.slots[k];
        if slot == COLD {
            self.reads.misses.fetch_add(1, Ordering::Relaxed);
            return self.backing.read(k, to);
        }
        self.reads.hits.fetch_add(1, Ordering::Relaxed);
        to.copy_from_slice(&self.levels[slot as usize * to.len()..][..to.len()]);
        Ok(())
    }

    /// Those of the resident columns and of the backing store.
    fn bytes(&self) -> usize {
        2 * self.levels.len() + self.backing.bytes()
    }
}
