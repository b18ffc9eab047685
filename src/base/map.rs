//! Files as memory: their pages are read when they are first used, and shared by all processes that use them.

use core::fmt;
use core::ops::Deref;
use memmap2::Mmap;
use std::fs::File;
use std::io;

/// The bytes of a file, for reading. The first is at the start of a page.
///
/// The file must not change while it is mapped: what is read then is unspecified, and reading past the end of a file
/// that became shorter ends the process. A file that is replaced, as by a rename, stays as it was for those who have it.
pub struct Map(Mmap);

impl Map {
    /// Maps a whole file.
    ///
    /// # Errors
    /// Those of the system.
    pub fn new(file: &File) -> io::Result<Self> {
        // SAFETY: the bytes behind a `&[u8]` must not change. Nobody writes through this map, which is private and for
        // reading only, and the documentation asks for a file that nobody writes to; pack files are replaced, never
        // written in place. `a_replaced_file_stays_as_it_was` would notice a save in place.
        unsafe { Mmap::map(file) }.map(Self)
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
