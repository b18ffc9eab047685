//! Which problems a backend takes, and what it can do with them.
#![forbid(unsafe_code)]

use crate::base::error::{Error, Result};
use crate::quant::input::Mode;
use crate::quant::scheme::{Group, Scheme, ZeroPoint};
use alloc::{format, string::String};

/// What a backend can do beyond [`Backend::run`](crate::Backend::run), and which problems it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// The narrowest weight codes it takes, in bits.
    pub min_bits: u8,
    /// The widest weight codes it takes, in bits.
    pub max_bits: u8,
    /// Whether it takes only one scale for all weights, without zero points, and one scale for all activations that is
    /// known beforehand: symmetric schemes per tensor, and of the 8-bit modes `a8given` and `a8static`.
    pub per_tensor: bool,
    /// Whether it takes codes of a [book](crate::CodeBook).
    pub books: bool,
    /// Whether it takes 8-bit activations: modes `a8`, `a8row`, `a8given`, `a8static`.
    pub a8: bool,
    /// Whether it takes mode `a16`.
    pub a16: bool,
    /// Whether it takes mode `exact`.
    pub exact: bool,
    /// Whether it takes mode `native`: its own floating-point arithmetic, within a bound of the exact product instead of
    /// equal to [`reference`](crate::reference), as it is in every other mode.
    pub native: bool,
    /// Whether [`Backend::group_sums`](crate::Backend::group_sums) works.
    pub group_sums: bool,
    /// Whether [`Backend::accumulate`](crate::Backend::accumulate) works.
    pub accumulate: bool,
    /// Whether products of M rows need [`Backend::compile`](crate::Backend::compile) for this M first.
    pub static_shapes: bool,
    /// Whether the time it takes says nothing about the hardware it stands for.
    pub emulated: bool,
}

impl Capabilities {
    /// Those of an emulated device that rounds on the way: mode `native` alone, integer codes of at most so many bits.
    #[must_use]
    pub const fn rounding(max_bits: u8) -> Self {
        Self {
            min_bits: 1,
            max_bits,
            per_tensor: false,
            books: false,
            a8: false,
            a16: false,
            exact: false,
            native: true,
            group_sums: false,
            accumulate: false,
            static_shapes: false,
            emulated: true,
        }
    }

    /// Whether the mode is among those taken.
    #[must_use]
    pub fn takes(&self, mode: Mode) -> bool {
        match mode {
            Mode::A16 => self.a16,
            Mode::Exact => self.exact,
            Mode::Native => self.native,
            Mode::A8 | Mode::A8Row => self.a8 && !self.per_tensor,
            Mode::A8Given | Mode::A8Static { .. } => self.a8,
        }
    }

    /// The names of the modes that are taken, as a list for people.
    #[must_use]
    pub fn mode_names(&self) -> String {
        let mut names = String::new();
        for (taken, more) in [
            (self.a8 && !self.per_tensor, "a8, a8row"),
            (self.a8, "a8given, a8static"),
            (self.a16, "a16"),
            (self.exact, "exact"),
            (self.native, "native"),
        ] {
            if taken {
                names.push_str(if names.is_empty() { "" } else { ", " });
                names.push_str(more);
            }
        }
        names
    }

    /// Checks a mode.
    ///
    /// # Errors
    /// [`Error::Unsupported`] with the modes that are taken.
    pub fn check_mode(&self, mode: Mode) -> Result<()> {
        if self.takes(mode) {
            return Ok(());
        }
        Err(Error::unsupported("mode", self.mode_names(), mode.name()))
    }

    /// Checks the width of weight codes, and whether a book, groups and zero points are taken.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when the codes are narrower or wider than the backend takes, or of a book and it takes none,
    /// or when it takes one scale alone and the scheme has several, or zero points.
    pub fn check_scheme(&self, scheme: &Scheme) -> Result<()> {
        if scheme.book.is_some() && !self.books {
            return Err(Error::unsupported(
                "book",
                "codes that are integers themselves",
                "codes of a book",
            ));
        }
        if !(self.min_bits..=self.max_bits).contains(&scheme.bits) {
            let expected = match (self.min_bits, self.max_bits) {
                (0 | 1, max) => format!("at most {max}"),
                (min, max) if min == max => format!("{max}"),
                (min, max) => format!("{min} to {max}"),
            };
            return Err(Error::unsupported("bits", expected, format!("{}", scheme.bits)));
        }
        if self.per_tensor && scheme.group != Group::Tensor {
            let found = match scheme.group {
                Group::Length(length) => format!("a scale for every {length} weights of a row"),
                _ => "a scale for every row".into(),
            };
            return Err(Error::unsupported("group", "one scale for the whole matrix", found));
        }
        if self.per_tensor && scheme.zero != ZeroPoint::Symmetric {
            let found = format!("{:?} zero points", scheme.zero).to_lowercase();
            return Err(Error::unsupported("zero", "symmetric weights", found));
        }
        Ok(())
    }
}
