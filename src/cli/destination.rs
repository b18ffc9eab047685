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
    /// Without links.
    path: PathBuf,
    force: bool,
}

impl Destination {
    /// Checks before any work that the file could be written. A link stays, and what it leads to is replaced.
    pub(crate) fn new(argument: &'static str, path: &Path, force: bool) -> Result<Self> {
        let Some(name) = path.file_name() else {
            return Err(refusal(argument, "a file name", format_args!("`{}`", path.display())));
        };
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let Some(real) = directory.canonicalize().ok().filter(|d| d.is_dir()) else {
            let found = format_args!("{} (no such directory)", directory.display()).to_string();
            return Err(refusal(argument, "a path in an existing directory", found));
        };
        let mut place = real.join(name);
        if place.symlink_metadata().is_ok() {
            if let Some(kind) = irregular(&place) {
                let found = format_args!("{}, which is {kind}", path.display()).to_string();
                return Err(refusal(argument, "a regular file", found));
            }
            if !force {
                return Err(exists(argument, path));
            }
            let resolved = place.canonicalize();
            place = resolved.map_err(|error| unreadable(argument, "a regular file", path, &error))?;
        }
        Ok(Self {
            argument,
            path: place,
            force,
        })
    }

    /// Where it is, without links.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether both are the same file.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.path == other.path
    }

    /// Refuses to replace a file that is read.
    pub(crate) fn check_apart(&self, argument: &str, read: &Path) -> Result<()> {
        if read.canonicalize().is_ok_and(|read| read == self.path) {
            let found = format!("{}, which is read", self.path.display());
            return Err(refusal(self.argument, format!("another file than {argument}"), found));
        }
        Ok(())
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
        let file = builder.tempfile_in(self.path.parent().unwrap_or(Path::new(".")))?;
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

/// What an existing path leads to, where that is no regular file.
fn irregular(path: &Path) -> Option<&'static str> {
    let Ok(metadata) = path.metadata() else {
        return Some("a link that cannot be followed");
    };
    let kind = metadata.file_type();
    if kind.is_file() {
        return None;
    }
    if kind.is_dir() {
        return Some("a directory");
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return Some("a pipe");
        }
        if kind.is_char_device() || kind.is_block_device() {
            return Some("a device");
        }
        if kind.is_socket() {
            return Some("a socket");
        }
    }
    Some("of another kind")
}

fn exists(argument: &str, path: &Path) -> anyhow::Error {
    refusal(
        argument,
        "a new file, or --force",
        format_args!("{}, which exists", path.display()),
    )
}
