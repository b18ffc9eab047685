//! Hot channels: a few columns of weights stay in memory, the others are read where they lie when an outlier needs them.
//! Under 3 % of channels have over 80 % of the outliers (arXiv 2407.05858, section 3.3).
#![forbid(unsafe_code)]

use crate::base::error::{Error, Result};
use crate::outlier::columns::{Columns, Weight, check_request};
use alloc::{boxed::Box, format, vec, vec::Vec};
use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};

/// No resident column.
const COLD: u32 = u32::MAX;

/// A bounded set of resident columns, of two bytes a weight, before a backing store. What is read never depends on which are resident, and reading
/// takes no lock.
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
/// assert_eq!((hot.reads().hits, hot.reads().misses), (3, 1));
/// # Ok::<(), mixgemm::Error>(())
/// ```
pub struct HotColumns<T = i16> {
    backing: Box<dyn Columns<T>>,
    slots: Vec<u32>,
    resident: Vec<T>,
    hits: AtomicUsize,
    misses: AtomicUsize,
}

/// How often columns were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reads {
    /// Reads of resident columns.
    pub hits: u64,
    /// Reads that went to the backing store.
    pub misses: u64,
}

impl<T: Weight> fmt::Debug for HotColumns<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HotColumns({} bytes, {:?})", self.bytes(), self.reads())
    }
}

impl<T: Weight> HotColumns<T> {
    /// Keeps at most `size` of the channels of `hottest` resident: the first, as
    /// [`ChannelCounts::hottest`](crate::outlier::calibration::ChannelCounts::hottest) has them.
    ///
    /// # Errors
    /// [`Error::Value`] for a channel that the store does not have; the store's own.
    pub fn new(backing: Box<dyn Columns<T>>, hottest: &[u32], size: usize) -> Result<Self> {
        let (n, k) = backing.shape();
        let hottest = &hottest[..size.min(hottest.len())];
        let (mut slots, mut resident) = (vec![COLD; k], vec![T::default(); hottest.len() * n]);
        for (slot, &channel) in hottest.iter().enumerate() {
            let Some(own) = slots.get_mut(channel as usize) else {
                let expected = format!("channels below {k}");
                return Err(Error::value("hottest", expected, format!("{channel}")));
            };
            *own = slot as u32;
            backing.read(channel as usize, &mut resident[slot * n..][..n])?;
        }
        Ok(Self {
            backing,
            slots,
            resident,
            hits: AtomicUsize::new(0),
            misses: AtomicUsize::new(0),
        })
    }

    /// Without the backing store: columns that are not resident cannot be read.
    #[must_use]
    pub fn alone(self) -> Self {
        let backing = Box::new(Nothing(self.backing.shape()));
        Self { backing, ..self }
    }
}

/// A store of no columns.
struct Nothing((usize, usize));

impl<T> Columns<T> for Nothing {
    fn shape(&self) -> (usize, usize) {
        self.0
    }

    fn read(&self, k: usize, _: &mut [T]) -> Result<()> {
        Err(Error::value("columns", "a resident channel", format!("channel {k}")))
    }

    fn bytes(&self) -> usize {
        0
    }
}

impl<T: Weight> Columns<T> for HotColumns<T> {
    fn shape(&self) -> (usize, usize) {
        self.backing.shape()
    }

    fn read(&self, k: usize, to: &mut [T]) -> Result<()> {
        check_request(self.shape(), k, to.len())?;
        let slot = self.slots[k];
        if slot == COLD {
            self.misses.fetch_add(1, Ordering::Relaxed);
            return self.backing.read(k, to);
        }
        self.hits.fetch_add(1, Ordering::Relaxed);
        to.copy_from_slice(&self.resident[slot as usize * to.len()..][..to.len()]);
        Ok(())
    }

    /// Those of the resident columns and of the backing store.
    fn bytes(&self) -> usize {
        size_of_val(&*self.resident) + self.backing.bytes()
    }

    fn reads(&self) -> Reads {
        Reads {
            hits: self.hits.load(Ordering::Relaxed) as u64,
            misses: self.misses.load(Ordering::Relaxed) as u64,
        }
    }
}
