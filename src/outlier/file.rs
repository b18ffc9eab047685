//! Columns of weights in a file, read by position: the backing store behind [hot channels](crate::outlier::hot).
#![forbid(unsafe_code)]

use crate::base::error::{Error, Result};
use crate::outlier::columns::{Columns, Stored, check_request, stored};
use crate::quant::matrix::QuantMatrix;
use alloc::{format, string::ToString, vec::Vec};
use std::fs::File;
use std::io::{BufWriter, Error as IoError, Read, Seek, SeekFrom, Write};
use std::sync::{Mutex, PoisonError};

/// Bytes that are read at a time.
const CHUNK: usize = 4096;

/// A file of nothing but integer weights, `[K, N]`, of one byte or two (little-endian) each.
///
/// It belongs to the matrix it was written from, whose shape and width are not in it. Nobody else may change it meanwhile.
#[derive(Debug)]
pub struct FileColumns {
    file: Mutex<File>,
    n: usize,
    k: usize,
    bytes: usize,
}

fn refused(what: &str, error: &IoError) -> Error {
    Error::file(what, error.to_string())
}

impl FileColumns {
    /// Writes the columns of weights into a file that is open for reading and writing, from its start.
    ///
    /// # Errors
    /// [`Error::File`] where the system refuses.
    pub fn write(w: &QuantMatrix, mut file: File) -> Result<Self> {
        let what = "a file to write columns to";
        file.rewind().map_err(|error| refused(what, &error))?;
        let mut to = BufWriter::new(&file);
        let (columns, n) = (stored(w), w.n().max(1));
        let mut write = |bytes: &[u8]| to.write_all(bytes).map_err(|error| refused(what, &error));
        let bytes = match &columns {
            Stored::Bytes(levels) => {
                for column in levels.chunks(n) {
                    write(&column.iter().map(|&level| level as u8).collect::<Vec<_>>())?;
                }
                1
            }
            Stored::Words(levels) => {
                for column in levels.chunks(n) {
                    write(&column.iter().flat_map(|level| level.to_le_bytes()).collect::<Vec<_>>())?;
                }
                2
            }
        };
        to.flush().map_err(|error| refused(what, &error))?;
        drop(to);
        Ok(Self {
            file: Mutex::new(file),
            n: w.n(),
            k: w.k(),
            bytes,
        })
    }
}

impl Columns for FileColumns {
    fn shape(&self) -> (usize, usize) {
        (self.n, self.k)
    }

    fn read(&self, k: usize, levels: &mut [i16]) -> Result<()> {
        check_request(self.shape(), k, levels)?;
        let what = format!("{} bytes at column {k}", self.n * self.bytes);
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let start = (k * self.n * self.bytes) as u64;
        file.seek(SeekFrom::Start(start))
            .map_err(|error| refused(&what, &error))?;
        let mut buffer = [0; CHUNK];
        for levels in levels.chunks_mut(CHUNK / self.bytes) {
            let bytes = &mut buffer[..levels.len() * self.bytes];
            file.read_exact(bytes).map_err(|error| refused(&what, &error))?;
            for (level, bytes) in levels.iter_mut().zip(bytes.chunks_exact(self.bytes)) {
                *level = match *bytes {
                    [byte] => i16::from(byte as i8),
                    [low, high] => i16::from_le_bytes([low, high]),
                    _ => unreachable!("one byte or two"),
                };
            }
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        0
    }
}
