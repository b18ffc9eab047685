//! Packed weights in a file: a [page](crate::pack::page) that says what they are, and their panels as they lie in memory.
#![forbid(unsafe_code)]

use crate::base::buffer::AlignedBuf;
use crate::base::error::{Error, Result};
use crate::base::map::{Map, Unchanging};
use crate::pack::layout::PanelLayout;
use crate::pack::page::{Head, MAGIC, PAGE, other};
use crate::pack::weights::{Bytes, PackedWeights};
use crate::quant::matrix::split_float_zero;
use crate::quant::scheme::{Scheme, ZeroPoint};
use alloc::format;
use alloc::sync::Arc;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// A file of packed weights: where it is, and how far it is trusted.
///
/// Packing is quick, but reads the weights as they come; a program that starts often keeps them packed instead. A file is
/// read, or [memory-mapped](PackFile::mapped), which costs no copy and lets processes share it. It fits the tier that packed
/// it (and its neighbours with as many lanes) and no other; whoever finds that out from the error packs again:
///
/// ```
/// use mixgemm::pack::file::PackFile;
/// use mixgemm::{Gemm, Host, Mat, Mode, QuantMatrix, Scheme};
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("up.pack");
/// let weights = || QuantMatrix::quantize(Mat::from_fn(64, 32, |n, k| (n * k % 7) as f32).view(), Scheme::int(4));
/// let prepared = |host: &Host| -> mixgemm::Result<Gemm> {
///     let file = PackFile::new(&path).source(20_261_121); // Such as a hash of the checkpoint.
///     host.load(&file).or_else(|_| {
///         let gemm = host.prepare(&weights()?)?;
///         gemm.save(&file)?;
///         Ok(gemm)
///     })
/// };
/// let x = Mat::from_fn(1, 32, |_, k| k as f32);
/// let [mut packed, mut loaded] = [Mat::<f32>::zeros(1, 64), Mat::zeros(1, 64)];
/// prepared(&Host::new())?.run(x.view(), Mode::A8, packed.view_mut())?;
/// prepared(&Host::new())?.run(x.view(), Mode::A8, loaded.view_mut())?;
/// assert_eq!(packed, loaded);
/// # Ok::<(), mixgemm::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct PackFile {
    path: PathBuf,
    source: u64,
    verified: bool,
    mapped: Option<Unchanging>,
}

impl PackFile {
    /// A file, whose contents are verified when it is loaded.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            source: 0,
            verified: true,
            mapped: None,
        }
    }

    /// A number that says which weights these are, such as a hash of the checkpoint: it is saved, and a file with another
    /// is refused. It is 0 unless given.
    #[must_use]
    pub fn source(self, source: u64) -> Self {
        Self { source, ..self }
    }

    /// Maps the file into memory instead of reading it. Its pages are read when they are first used.
    ///
    /// ```
    /// use mixgemm::base::map::Unchanging;
    /// use mixgemm::pack::file::PackFile;
    /// // SAFETY: only this program writes such files, and `Gemm::save` replaces them.
    /// let file = PackFile::new("up.pack").mapped(unsafe { Unchanging::promise() });
    /// ```
    #[must_use]
    pub fn mapped(self, promise: Unchanging) -> Self {
        Self {
            mapped: Some(promise),
            ..self
        }
    }

    /// Loads without verifying the panels: their checksum is not compared and their scales and zero points not checked, so
    /// damage shows as a wrong product. A mapped file's panels are then read when they are first multiplied by.
    #[must_use]
    pub fn trusted(self) -> Self {
        Self {
            verified: false,
            ..self
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file begins as pack files do, of any version and in whatever state: one that does not is somebody
    /// else's, and a cache must not replace it. False where there is none.
    ///
    /// ```
    /// use mixgemm::pack::file::PackFile;
    /// use mixgemm::{Host, Mat, QuantMatrix, Scheme};
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("up.pack");
    /// let file = PackFile::new(&path);
    /// assert!(!file.is_one()?);
    /// let w = QuantMatrix::quantize(Mat::from_fn(64, 32, |n, k| (n * k % 7) as f32).view(), Scheme::int(4))?;
    /// Host::new().prepare(&w)?.save(&file)?;
    /// assert!(file.is_one()?);
    /// # Ok::<(), mixgemm::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::File`] when the system refuses to read it.
    pub fn is_one(&self) -> Result<bool> {
        let mut first = Vec::new();
        let read = File::open(&self.path).and_then(|file| file.take(MAGIC.len() as u64).read_to_end(&mut first));
        match read {
            Ok(_) => Ok(first == MAGIC),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.failed("a readable file", &error)),
        }
    }

    fn failed(&self, expected: &str, error: &io::Error) -> Error {
        Error::file(expected, format!("{}: {error}", self.path.display()))
    }

    /// An error about the contents, with the name of the file.
    fn within(&self, error: Error) -> Error {
        error.at(format_args!("in {}", self.path.display()))
    }
}

impl PackedWeights {
    /// Writes the weights into a file, which then is there as a whole or, after an error, as it was.
    ///
    /// # Errors
    /// [`Error::File`] when the system refuses.
    pub fn save(&self, to: &PackFile) -> Result<()> {
        let panels = self.panels(0..self.layout().panels());
        let head = Head {
            n: self.n(),
            k: self.k(),
            scheme: *self.scheme(),
            layout: *self.layout(),
            source: to.source,
            checksum: crc32fast::hash(panels),
        };
        let directory = match to.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let write = || {
            let mut builder = tempfile::Builder::new();
            builder.prefix(".mixgemm-");
            #[cfg(unix)]
            builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666)); // less the umask
            let mut file = builder.tempfile_in(directory)?;
            file.write_all(&head.page())?;
            file.write_all(panels)?;
            file.as_file().sync_all()?;
            file.persist(&to.path).map_err(|error| error.error)
        };
        write().map(drop).map_err(|error| to.failed("a writable path", &error))
    }

    /// Reads or maps a file that [`PackedWeights::save`] wrote.
    ///
    /// # Errors
    /// [`Error::File`] when the system refuses, or the file is none of this version, of another source, cut short, or
    /// damaged; [`Error::Shape`], [`Error::Value`] and [`Error::Unsupported`] for weights that could not have been packed.
    /// All of them name the file.
    pub fn load(from: &PackFile) -> Result<Self> {
        Self::load_where(from, &|_, _| Ok(()))
    }

    /// As [`PackedWeights::load`]. What `fits` has against the layout is found before the panels are read.
    pub(crate) fn load_where(from: &PackFile, fits: &dyn Fn(&Scheme, PanelLayout) -> Result<()>) -> Result<Self> {
        let unreadable = |error: io::Error| from.failed("a readable file", &error);
        let unfit = |expected: String, found: String| from.within(other(expected, found));
        let mut file = File::open(&from.path).map_err(unreadable)?;
        let len = file.metadata().map_err(unreadable)?.len();
        if len < PAGE as u64 {
            let expected = format!("a pack file of at least {PAGE} bytes");
            return Err(unfit(expected, format!("{len} bytes")));
        }
        let mut page = [0; PAGE];
        file.read_exact(&mut page).map_err(unreadable)?;
        let head = Head::read(&page).map_err(|error| from.within(error))?;
        let panels = len - PAGE as u64;
        if panels != head.layout.bytes() as u64 {
            let expected = format!("{} bytes of panels after the first page", head.layout.bytes());
            return Err(unfit(expected, format!("{panels}")));
        }
        if head.source != from.source {
            let expected = format!("source {}", from.source);
            return Err(unfit(expected, format!("source {}", head.source)));
        }
        fits(&head.scheme, head.layout.panel).map_err(|error| from.within(error))?;
        let bytes = if let Some(promise) = from.mapped {
            let map = Map::new(&file, promise).map_err(unreadable)?;
            if map.len() as u64 != len {
                return Err(unfit(format!("a file of {len} bytes"), format!("{} bytes", map.len())));
            }
            Bytes::Mapped(Arc::new(map))
        } else {
            let mut bytes = AlignedBuf::zeroed(head.layout.bytes())?;
            file.read_exact(&mut bytes).map_err(unreadable)?;
            Bytes::Owned(bytes)
        };
        if from.verified {
            let found = crc32fast::hash(&bytes);
            if found != head.checksum {
                let expected = format!("panels of checksum {:08x}", head.checksum);
                return Err(unfit(expected, format!("{found:08x}")));
            }
        }
        let weights = Self::from_bytes(head.layout, head.scheme, head.k, bytes);
        if from.verified {
            weights.check_values().map_err(|error| from.within(error))?;
        }
        Ok(weights)
    }

    /// Checks what [`QuantMatrix::from_parts`](crate::QuantMatrix::from_parts) checks of scales and zero points.
    fn check_values(&self) -> Result<()> {
        let (bits, groups) = (self.scheme().bits, self.layout().groups);
        // Without inputs, any number of outputs takes no byte.
        let n = if groups == 0 { 0 } else { self.n() };
        for (n, g) in (0..n).flat_map(|n| (0..groups).map(move |g| (n, g))) {
            let (scale, zero) = (self.scale(n, g), self.zero(n, g));
            let fine = match self.scheme().zero {
                ZeroPoint::Symmetric => true,
                ZeroPoint::Integer => zero <= (1u32 << bits) as f32,
                ZeroPoint::Float => zero.is_finite() && (scale * split_float_zero(zero, bits).1).is_finite(),
            };
            if !(scale.is_finite() && fine) {
                let found = format!("scale {scale} and zero point {zero} of ({n}, {g})");
                return Err(other("finite scales and zero points in their domain", found));
            }
        }
        Ok(())
    }
}
