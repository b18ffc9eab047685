//! Names of kernels, computed from their rows:
//!
//! ```text
//! kernel = family "-" lhs "." rhs "." acc "-" mr "x" nr "c" kr "g-" isa
//! direct-a8.w4.i32-12x32c8g-avx512vnni
//! ```
//!
//! acc is the width of the sums that products are added to, or where there are none, of a group's sums. lhs is a8, a16 or
//! a24 for one to three slices, rhs the width of codes, `w4` of plain ones and `b4` of those of a book, kr the k of a unit,
//! `g` stands for grouped scales.
#![forbid(unsafe_code)]

use crate::kernel::{Family, Kernel};
use core::fmt;

/// A kernel's name, written while the catalogue is compiled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Name {
    bytes: [u8; 48],
    len: usize,
}

impl Name {
    /// An empty name.
    pub(super) const fn new() -> Self {
        Self { bytes: [0; 48], len: 0 }
    }

    pub(super) const fn text(mut self, text: &str) -> Self {
        let text = text.as_bytes();
        let mut i = 0;
        while i < text.len() {
            self.bytes[self.len] = text[i];
            self.len += 1;
            i += 1;
        }
        self
    }

    pub(super) const fn number(mut self, number: usize) -> Self {
        if number >= 10 {
            self = self.number(number / 10);
        }
        self.bytes[self.len] = b'0' + (number % 10) as u8;
        self.len += 1;
        self
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.len]).expect("names are ASCII")
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Family {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Short => "short",
            Self::Matrix => "matrix",
            Self::Plane => "plane",
            Self::Table => "table",
        }
    }

    /// The width of the sums that products are added to; of a group's sums where there are no products.
    pub(super) const fn sums(self) -> &'static str {
        match self {
            Self::Direct | Self::Matrix | Self::Plane | Self::Table => "i32",
            Self::Short => "i16",
        }
    }
}

impl Kernel {
    /// The name.
    #[must_use]
    pub fn name(&'static self) -> &'static str {
        self.name.as_str()
    }
}
