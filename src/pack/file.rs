//! Packed weights in a file: a page that says what they are, and their panels as they lie in memory.
//!
//! | bytes | what | |
//! |---|---|---|
//! | 0–7 | `89 "mixgemm"` | |
//! | 8–11 | version of this table, [`FORMAT`] | u32, as all numbers little-endian |
//! | 12–15 | version of the panels, [`PACKING`] | u32 |
//! | 16–23 | N | u64 |
//! | 24–31 | K | u64 |
//! | 32–39 | length of a group, or 0 | u64 |
//! | 40 | groups of a length, of a channel, of the tensor | 0, 1, 2 |
//! | 41 | bits of a code | 1 to 8 |
//! | 42 | zero points: symmetric, integer, float | 0, 1, 2 |
//! | 43 | scales: f32, f16, bf16 | 0, 1, 2 |
//! | 44 | rounding: nearest, clip search | 0, 1 |
//! | 45 | zero points in a panel: none, nibble, byte, word, float | 0 to 4 |
//! | 46–47 | lanes of a vector | u16 |
//! | 48–55 | the caller's [source](PackFile::source) | u64 |
//! | 56–63 | bytes of all panels | u64 |
//! | 64–67 | CRC-32 of all panels | u32 |
//! | 68 | book: none, plain, microscaling | 0, 1, 2 |
//! | 69–84 | levels of the book, or 0 | i8 each |
//! | 85–4091 | 0 | |
//! | 4092–4095 | CRC-32 of bytes 0 to 4091 | u32 |
//! | from 4096 | the panels | |
#![forbid(unsafe_code)]

use crate::base::buffer::AlignedBuf;
use crate::base::error::{Error, Result};
use crate::base::map::{Map, Unchanging};
use crate::pack::layout::{PACKING, PanelLayout, WeightLayout, ZeroLayout};
use crate::pack::weights::{Bytes, PackedWeights, layout_of};
use crate::quant::book::CodeBook;
use crate::quant::matrix::split_float_zero;
use crate::quant::scheme::{Group, MAX_GROUP, Rounding, ScaleType, Scheme, ZeroPoint};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// The version of the file's first page.
pub const FORMAT: u32 = 2;

/// Bytes before the panels: a page, so that they begin at one.
pub const PAGE: usize = 4096;

const MAGIC: [u8; 8] = *b"\x89mixgemm";

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

    fn failed(&self, expected: &str, error: &io::Error) -> Error {
        Error::file(expected, format!("{}: {error}", self.path.display()))
    }
}

/// What the first page says.
struct Head {
    n: usize,
    k: usize,
    scheme: Scheme,
    layout: WeightLayout,
    source: u64,
    checksum: u32,
}

/// Something in the page is not as it has to be.
fn other(expected: impl Into<String>, found: impl Into<String>) -> Error {
    Error::file(expected, found)
}

impl Head {
    fn page(&self) -> [u8; PAGE] {
        let Scheme {
            bits,
            book,
            group,
            zero,
            scale,
            rounding,
        } = self.scheme;
        let (kind, length) = match group {
            Group::Length(length) => (0, length),
            Group::Channel => (1, 0),
            Group::Tensor => (2, 0),
        };
        let mut page = [0; PAGE];
        page[..8].copy_from_slice(&MAGIC);
        page[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        page[12..16].copy_from_slice(&PACKING.to_le_bytes());
        for (at, value) in [(16, self.n), (24, self.k), (32, length), (56, self.layout.bytes())] {
            page[at..at + 8].copy_from_slice(&(value as u64).to_le_bytes());
        }
        page[40] = kind;
        page[41] = bits;
        page[42] = place(&ZEROS, &zero);
        page[43] = place(&SCALES, &scale);
        page[44] = place(&ROUNDINGS, &rounding);
        page[45] = place(&ZERO_LAYOUTS, &self.layout.zero);
        page[46..48].copy_from_slice(&(self.layout.panel.lanes as u16).to_le_bytes());
        page[48..56].copy_from_slice(&self.source.to_le_bytes());
        page[64..68].copy_from_slice(&self.checksum.to_le_bytes());
        if let Some(book) = book {
            page[68] = 1 + u8::from(book.is_microscaling());
            page[69..85].copy_from_slice(&book.levels().map(|v| v as u8));
        }
        let checksum = crc32fast::hash(&page[..PAGE - 4]);
        page[PAGE - 4..].copy_from_slice(&checksum.to_le_bytes());
        page
    }

    fn read(page: &[u8; PAGE]) -> Result<Self> {
        if page[..8] != MAGIC {
            return Err(other("a pack file of mixgemm", "a file of another kind"));
        }
        let word = |at: usize| u32::from_le_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]]);
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        for (what, at, version) in [("format", 8, FORMAT), ("packing", 12, PACKING)] {
            if word(at) != version {
                let found = format!("version {}", word(at));
                return Err(other(format!("version {version} of the {what}"), found));
            }
        }
        let checksum = crc32fast::hash(&page[..PAGE - 4]);
        if word(PAGE - 4) != checksum {
            let found = format!("{checksum:08x}");
            return Err(other(format!("a first page of checksum {:08x}", word(PAGE - 4)), found));
        }
        let size = |what: &str, at: usize| {
            let value = usize::try_from(long(at));
            value.map_err(|_| other(format!("{what} in the range of usize"), format!("{}", long(at))))
        };
        let (n, k) = (size("N", 16)?, size("K", 24)?);
        let group = match page[40] {
            0 => Group::Length(size("a group", 32)?),
            1 => Group::Channel,
            2 => Group::Tensor,
            kind => return Err(other("groups of kind 0 to 2", format!("kind {kind}"))),
        };
        let levels = || CodeBook::new(core::array::from_fn(|i| page[69 + i] as i8));
        let scheme = Scheme {
            bits: page[41],
            book: match page[68] {
                0 => None,
                1 => Some(levels()),
                2 => Some(levels().microscaling()),
                kind => return Err(other("a book of kind 0 to 2", format!("kind {kind}"))),
            },
            group,
            zero: at(&ZEROS, page[42], "zero points")?,
            scale: at(&SCALES, page[43], "scales")?,
            rounding: at(&ROUNDINGS, page[44], "rounding")?,
        };
        scheme.check()?;
        if scheme.group_length(k) > MAX_GROUP {
            let expected = format!("groups of at most {MAX_GROUP} weights");
            return Err(other(expected, format!("{}", scheme.group_length(k))));
        }
        let zero = at(&ZERO_LAYOUTS, page[45], "zero points in a panel")?;
        let fits = match scheme.zero {
            ZeroPoint::Symmetric => zero == ZeroLayout::None,
            ZeroPoint::Integer => matches!(zero, ZeroLayout::Nibble | ZeroLayout::Byte | ZeroLayout::Word),
            ZeroPoint::Float => zero == ZeroLayout::Float,
        };
        if !fits {
            let expected = format!("a place for zero points that are {:?}", scheme.zero);
            return Err(other(expected, format!("{zero:?}")));
        }
        let panel = PanelLayout {
            lanes: u16::from_le_bytes([page[46], page[47]]).into(),
            bits: scheme.bits,
            book: scheme.book.is_some(),
        };
        let layout = layout_of(&scheme, (n, k), panel, zero)?;
        if long(56) != layout.bytes() as u64 {
            let expected = format!("{} bytes of panels for {n} x {k}", layout.bytes());
            return Err(other(expected, format!("{}", long(56))));
        }
        Ok(Self {
            n,
            k,
            scheme,
            layout,
            source: long(48),
            checksum: word(64),
        })
    }
}

const ZEROS: [ZeroPoint; 3] = [ZeroPoint::Symmetric, ZeroPoint::Integer, ZeroPoint::Float];
const SCALES: [ScaleType; 3] = [ScaleType::F32, ScaleType::F16, ScaleType::Bf16];
const ROUNDINGS: [Rounding; 2] = [Rounding::Nearest, Rounding::ClipSearch];
const ZERO_LAYOUTS: [ZeroLayout; 5] = [
    ZeroLayout::None,
    ZeroLayout::Nibble,
    ZeroLayout::Byte,
    ZeroLayout::Word,
    ZeroLayout::Float,
];

/// The number of a value among all there are.
fn place<T: PartialEq>(all: &[T], value: &T) -> u8 {
    all.iter().position(|v| v == value).expect("a value of the list") as u8
}

/// The value of a number.
fn at<T: Copy>(all: &[T], number: u8, what: &str) -> Result<T> {
    let value = all.get(usize::from(number)).copied();
    value.ok_or_else(|| {
        other(
            format!("{what} of kind 0 to {}", all.len() - 1),
            format!("kind {number}"),
        )
    })
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
    pub fn load(from: &PackFile) -> Result<Self> {
        let unreadable = |error: io::Error| from.failed("a readable file", &error);
        let mut file = File::open(&from.path).map_err(unreadable)?;
        let len = file.metadata().map_err(unreadable)?.len();
        if len < PAGE as u64 {
            let expected = format!("a pack file of at least {PAGE} bytes");
            return Err(other(expected, format!("{len} bytes")));
        }
        let mut page = [0; PAGE];
        file.read_exact(&mut page).map_err(unreadable)?;
        let head = Head::read(&page)?;
        let panels = len - PAGE as u64;
        if panels != head.layout.bytes() as u64 {
            let expected = format!("{} bytes of panels after the first page", head.layout.bytes());
            return Err(other(expected, format!("{panels}")));
        }
        if head.source != from.source {
            return Err(other(
                format!("source {}", from.source),
                format!("source {}", head.source),
            ));
        }
        let bytes = if let Some(promise) = from.mapped {
            let map = Map::new(&file, promise).map_err(unreadable)?;
            if map.len() as u64 != len {
                return Err(other(format!("a file of {len} bytes"), format!("{} bytes", map.len())));
            }
            Bytes::Mapped(Arc::new(map))
        } else {
            let mut bytes = AlignedBuf::zeroed(head.layout.bytes())?;
            file.read_exact(&mut bytes).map_err(unreadable)?;
            Bytes::Owned(bytes)
        };
        let found = if from.verified {
            crc32fast::hash(&bytes)
        } else {
            head.checksum
        };
        if found != head.checksum {
            let expected = format!("panels of checksum {:08x}", head.checksum);
            return Err(other(expected, format!("{found:08x}")));
        }
        let weights = Self::from_bytes(head.layout, head.scheme, head.k, bytes);
        if from.verified {
            weights.check_values()?;
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
