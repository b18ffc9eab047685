//! Columns of weights in a file that is mapped into memory: the backing store behind [hot channels](crate::outlier::hot).
#![forbid(unsafe_code)]

use crate::base::error::{Error, Result};
use crate::base::map::Map;
use crate::outlier::columns::{Columns, InMemory, Order, Weight};
use alloc::format;
use core::fmt;
use std::path::Path;

/// All columns in a file without a name, which is gone with this value. The system reads its pages when columns of theirs
/// are first read, and may drop them again; readers wait for no one else.
///
/// ```
/// use mixgemm::outlier::columns::{Columns, InMemory};
/// use mixgemm::outlier::mapped::Mapped;
/// use mixgemm::{Mat, QuantMatrix, Scheme};
/// let w = QuantMatrix::quantize(Mat::from_fn(2, 3, |n, k| (n + k) as f32).view(), Scheme::int(8))?;
/// let columns = Mapped::new(InMemory::new(&w), &std::env::temp_dir())?;
/// let mut levels = [0; 2];
/// columns.read(2, &mut levels)?;
/// assert_eq!(levels.map(i32::from), [w.level(0, 2), w.level(1, 2)]);
/// assert_eq!(columns.bytes(), 0);
/// # Ok::<(), mixgemm::Error>(())
/// ```
pub struct Mapped<T = i16> {
    order: Order<T>,
    map: Map,
}

impl<T> Mapped<T> {
    /// Moves columns into a file in this directory.
    ///
    /// # Errors
    /// [`Error::File`] where the system refuses.
    pub fn new(columns: InMemory<T>, directory: &Path) -> Result<Self> {
        let InMemory { order, bytes } = columns;
        let map = Map::unnamed(directory, &bytes).map_err(|error| {
            let found = format!("{}: {error}", directory.display());
            Error::file("a directory with room for columns of weights", found)
        })?;
        Ok(Self { order, map })
    }
}

impl<T> fmt::Debug for Mapped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mapped({} bytes)", self.map.len())
    }
}

impl<T: Weight> Columns<T> for Mapped<T> {
    fn shape(&self) -> (usize, usize) {
        self.order.shape()
    }

    fn read(&self, k: usize, to: &mut [T]) -> Result<()> {
        self.order.read(&self.map, k, to)
    }

    /// None: the pages are the system's.
    fn bytes(&self) -> usize {
        0
    }
}
