//! The first page of a file of packed weights: what they are.
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
//! | 48–55 | the caller's [source](crate::pack::file::PackFile::source) | u64 |
//! | 56–63 | bytes of all panels | u64 |
//! | 64–67 | CRC-32 of all panels | u32 |
//! | 68 | book: none, plain, microscaling | 0, 1, 2 |
//! | 69–84 | levels of the book, or 0 | i8 each |
//! | 85–4091 | 0 | |
//! | 4092–4095 | CRC-32 of bytes 0 to 4091 | u32 |
//! | from 4096 | the panels | |
#![forbid(unsafe_code)]

use crate::base::error::{Error, Result};
use crate::pack::layout::{PACKING, PanelLayout, WeightLayout, ZeroLayout};
use crate::pack::weights::layout_of;
use crate::quant::book::CodeBook;
use crate::quant::scheme::{Group, MAX_GROUP, Rounding, ScaleType, Scheme, ZeroPoint};
use alloc::format;
use alloc::string::String;

/// The version of the file's first page.
pub const FORMAT: u32 = 2;

/// Bytes before the panels: a page, so that they begin at one.
pub const PAGE: usize = 4096;

/// The first bytes.
pub(super) const MAGIC: [u8; 8] = *b"\x89mixgemm";

/// What the first page says.
pub(super) struct Head {
    pub(super) n: usize,
    pub(super) k: usize,
    pub(super) scheme: Scheme,
    pub(super) layout: WeightLayout,
    pub(super) source: u64,
    pub(super) checksum: u32,
}

/// Something in the page is not as it has to be.
pub(super) fn other(expected: impl Into<String>, found: impl Into<String>) -> Error {
    Error::file(expected, found)
}

impl Head {
    /// The page's bytes.
    pub(super) fn page(&self) -> [u8; PAGE] {
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

    /// What a page says, if all of it can be.
    pub(super) fn read(page: &[u8; PAGE]) -> Result<Self> {
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
