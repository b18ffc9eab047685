//! The one memory map: a file's bytes without reading it into memory first.

use memmap2::{Mmap, MmapOptions};
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;

/// A regular file's bytes, mapped for reading.
#[derive(Debug)]
pub struct Map {
    bytes: Mmap,
}

impl Map {
    /// Maps a whole file.
    ///
    /// The file's length is fixed at this call. Shortening the file while it is mapped makes the operating system end
    /// the process at the next read of a lost page; no reader of mapped files can turn that into an error.
    ///
    /// # Errors
    /// The operating system's error when the file cannot be opened or mapped, and [`io::ErrorKind::InvalidInput`] for
    /// a directory, pipe or device.
    #[allow(unsafe_code, reason = "mapping a file")]
    pub fn open(path: &Path) -> io::Result<Self> {
        // A pipe would block in `open`.
        if !path.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let file = File::open(path)?;
        // SAFETY: Obligation: the mapped bytes do not change and do not go away while they are borrowed. Why it holds:
        // the map is read-only and this program never writes a file in place: every output is a new file that is
        // renamed over the old name, which leaves the mapped one whole. Other programs can break it; then plain bytes
        // are read that are checked after they were copied, or the process ends. Which test would notice:
        // `output_may_replace_its_own_input` in tests/cli.
        let bytes = unsafe { MmapOptions::new().map(&file)? };
        Ok(Self { bytes })
    }
}

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_map_holds_the_bytes_of_the_file_even_after_its_name_is_gone() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"mapped").unwrap();
        let map = Map::open(file.path()).unwrap();
        drop(file);
        assert_eq!(&map[..], b"mapped");
    }

    #[test]
    fn empty_files_map_and_directories_do_not() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(Map::open(file.path()).unwrap().is_empty());
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(
            Map::open(directory.path()).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
    }
}
