//! Fidelities that were measured before, in a file that runs share.
//!
//! A line of JSON for each: the program, the tensors with their digest, the [key](crate::dse::format::Values::key) of the
//! values, and the fidelity. Lines of other programs and tensors are left alone. The file is locked as long as it is open,
//! so of several runs one measures and the others wait for it.
#![forbid(unsafe_code)]

use crate::base::error::Result;
use crate::dse::explore::has_no_locks;
use crate::dse::heading::PROGRAM;
use crate::dse::points::{failed, to_line, wrong};
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A line of the file.
#[derive(Serialize, Deserialize)]
struct Line {
    program: String,
    tensors: String,
    values: String,
    fidelity_db: f64,
}

/// What every line starts with.
const START: &[u8] = b"{\"program\":";

/// Fidelities on some tensors by the key of the values.
#[derive(Debug, Default)]
pub struct Measured {
    known: BTreeMap<String, f64>,
    file: Option<(File, PathBuf)>,
    tensors: String,
}

impl Measured {
    /// None yet, and no file.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Those in the file at `path` that this version of the program measured on tensors of this
    /// [name](crate::dse::fidelity::Tensors::name); the file is made where there is none. Waits while another run has it.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) for a file that cannot be read or written.
    pub fn open(path: &Path, tensors: &str) -> Result<Self> {
        let fail = |e: io::Error| failed(path, &e);
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false);
        let mut file = file.open(path).map_err(fail)?;
        match file.lock() {
            Err(e) if !has_no_locks(&e) => return Err(fail(e)),
            _ => {}
        }
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(fail)?;
        // A run that was killed may have left half a line.
        let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        let torn = &text[whole..];
        if !torn.starts_with(&START[..torn.len().min(START.len())]) {
            let found = String::from_utf8_lossy(&torn[..torn.len().min(40)]).into_owned();
            return Err(wrong(
                path,
                "fidelities that this program wrote",
                format_args!("`{found}`"),
            ));
        }
        file.set_len(whole as u64).map_err(fail)?;
        file.seek(SeekFrom::End(0)).map_err(fail)?;
        let lines = text[..whole].split(|&byte| byte == b'\n');
        let lines = lines.filter_map(|line| serde_json::from_slice::<Line>(line).ok());
        let own = lines.filter(|line| line.program == PROGRAM && line.tensors == tensors);
        Ok(Self {
            known: own.map(|line| (line.values, line.fidelity_db)).collect(),
            file: Some((file, path.into())),
            tensors: tensors.into(),
        })
    }

    /// The fidelity of values that were measured before.
    #[must_use]
    pub fn get(&self, values: &str) -> Option<f64> {
        self.known.get(values).copied()
    }

    /// Keeps a fidelity.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) for a file that cannot be written.
    pub fn keep(&mut self, values: String, fidelity_db: f64) -> Result<()> {
        if let Some((file, path)) = &mut self.file {
            let line = to_line(&Line {
                program: PROGRAM.to_string(),
                tensors: self.tensors.clone(),
                values: values.clone(),
                fidelity_db,
            })?;
            file.write_all((line + "\n").as_bytes()).map_err(|e| failed(path, &e))?;
        }
        self.known.insert(values, fidelity_db);
        Ok(())
    }
}
