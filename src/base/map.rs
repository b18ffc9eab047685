//! Files as memory: their pages are read when they are first used, and shared by all processes that use them.

use core::fmt;
use core::ops::Deref;
use memmap2::Mmap;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// The promise that mapped files do not change.
#[derive(Debug, Clone, Copy)]
pub struct Unchanging(());

impl Unchanging {
    /// Makes the promise.
    ///
    /// # Safety
    ///
    /// Nobody, in this process or another, writes to a file or cuts it short while it is mapped with this promise. What was
    /// read from it would change under a shared reference, and reading past its end ends the process. Replacing a file,
    /// as by a rename, is fine: it stays as it was for those who have it.
    #[must_use]
    pub const unsafe fn promise() -> Self {
        Self(())
    }
}

/// The bytes of a file, for reading. The first is at the start of a page.
pub struct Map(Mmap);

impl Map {
    /// Maps a whole file.
    ///
    /// # Errors
    /// Those of the system.
    pub fn new(file: &File, _: Unchanging) -> io::Result<Self> {
        // SAFETY: the bytes behind a `&[u8]` must not change. Nobody writes through this map, which is private and for
        // reading only, and `Unchanging` is the caller's promise that nobody writes to the file; pack files are
        // replaced, never written in place. `a_replaced_file_stays_as_it_was` would notice a save in place.
        unsafe { Mmap::map(file) }.map(Self)
    }

    /// Writes bytes into a file without a name in this directory, and maps it. The file is gone with the map.
    ///
    /// # Errors
    /// Those of the system.
    pub fn unnamed(directory: &Path, bytes: &[u8]) -> io::Result<Self> {
        let mut file = tempfile::tempfile_in(directory)?;
        file.write_all(bytes)?;
        // SAFETY: nobody may write to the file or cut it short from here on. It has no name to open it by (where
        // the system makes no such files, none after its first moment), and its one handle goes at the end of this
        // function. `stores_hold_the_weights` would notice other bytes.
        Self::new(&file, unsafe { Unchanging::promise() })
    }
}

impl Deref for Map {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Map({} bytes)", self.len())
    }
}
