//! Output files that appear whole or not at all.
#![forbid(unsafe_code)]

use crate::cli::refusal::{refusal, unreadable};
use anyhow::Result;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// A place for an output file. It appears there whole or not at all.
#[derive(Debug)]
pub(crate) struct Destination {
    argument: &'static str,
    path: PathBuf,
    directory: PathBuf,
    force: bool,
}

impl Destination {
    /// Checks before any work that the file could be written.
    pub(crate) fn new(argument: &'static str, path: &Path, force: bool) -> Result<Self> {
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        if path.file_name().is_none() {
            return Err(refusal(argument, "a file name", format_args!("`{}`", path.display())));
        }
        if !directory.is_dir() {
            let found = format_args!("{} (no such directory)", directory.display()).to_string();
            return Err(refusal(argument, "a path in an existing directory", found));
        }
        if path.is_dir() {
            return Err(refusal(
                argument,
                "a file",
                format_args!("the directory {}", path.display()),
            ));
        }
        if !force && path.symlink_metadata().is_ok() {
            return Err(exists(argument, path));
        }
        Ok(Self {
            argument,
            path: path.into(),
            directory: directory.into(),
            force,
        })
    }

    /// Writes a file beside the destination and renames it.
    pub(crate) fn write(&self, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
        self.replace(content).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists if !self.force => exists(self.argument, &self.path),
            _ => unreadable(self.argument, "a writable path", &self.path, &error),
        })
    }

    fn replace(&self, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(".mixgemm-");
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666)); // less the umask
        let file = builder.tempfile_in(&self.directory)?;
        let mut out = BufWriter::with_capacity(1 << 20, file.as_file());
        content(&mut out)?;
        out.flush()?;
        drop(out);
        file.as_file().sync_all()?;
        let persisted = if self.force {
            file.persist(&self.path)
        } else {
            file.persist_noclobber(&self.path)
        };
        persisted.map(drop).map_err(|e| e.error)
    }
}

fn exists(argument: &str, path: &Path) -> anyhow::Error {
    refusal(
        argument,
        "a new file, or --force",
        format_args!("{}, which exists", path.display()),
    )
}
