//! The one error type. Every variant names the argument and says what was expected and what was found.
#![forbid(unsafe_code)]

use alloc::format;
use alloc::string::String;
use core::fmt;

/// What can go wrong. A value of this type is returned for every bad input; panics mean a defect in this crate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A matrix, slice or count does not fit the others.
    #[error("{argument}: expected {expected}, found {found}")]
    Shape {
        /// The argument that does not fit.
        argument: &'static str,
        /// What would have fitted.
        expected: String,
        /// What was given.
        found: String,
    },
    /// A value is outside its domain: a code, scale, zero point, bit width, group length.
    #[error("{argument}: expected {expected}, found {found}")]
    Value {
        /// The argument that holds the value.
        argument: &'static str,
        /// The domain.
        expected: String,
        /// The value and its place.
        found: String,
    },
    /// The combination is legal but this backend, tier or mode does not take it.
    #[error("{argument}: expected {expected}, found {found}")]
    Unsupported {
        /// The argument that is refused.
        argument: &'static str,
        /// What is taken.
        expected: String,
        /// What was given.
        found: String,
    },
    /// Weights prepared by one backend were handed to another.
    #[error("{argument}: expected weights prepared by {expected}, found weights prepared by {found}")]
    ForeignWeights {
        /// The argument that holds the weights.
        argument: &'static str,
        /// The backend that was called.
        expected: String,
        /// The backend that prepared them.
        found: String,
    },
    /// The thread does floating-point arithmetic in a mode other than IEEE 754's default.
    #[error("{argument}: expected {expected}, found {found}")]
    FloatEnvironment {
        /// The register in question.
        argument: &'static str,
        /// The default mode.
        expected: String,
        /// What the probe saw.
        found: String,
    },
    /// The system refuses a file, or it holds something else.
    #[error("{argument}: expected {expected}, found {found}")]
    File {
        /// The file.
        argument: &'static str,
        /// What would have been taken.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The allocator has no such buffer.
    #[error("{argument}: expected {expected}, found {found}")]
    Memory {
        /// The buffer.
        argument: &'static str,
        /// Its size.
        expected: String,
        /// What the allocator said.
        found: String,
    },
}

/// `Result` with this crate's [`Error`].
pub type Result<T> = core::result::Result<T, Error>;

impl Error {
    /// [`Error::Shape`].
    pub fn shape(argument: &'static str, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::Shape {
            argument,
            expected: expected.into(),
            found: found.into(),
        }
    }

    /// [`Error::Value`].
    pub fn value(argument: &'static str, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::Value {
            argument,
            expected: expected.into(),
            found: found.into(),
        }
    }

    /// [`Error::Unsupported`].
    pub fn unsupported(argument: &'static str, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::Unsupported {
            argument,
            expected: expected.into(),
            found: found.into(),
        }
    }

    /// [`Error::File`].
    pub fn file(expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::File {
            argument: "file",
            expected: expected.into(),
            found: found.into(),
        }
    }

    /// [`Error::Memory`].
    pub fn memory(argument: &'static str, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::Memory {
            argument,
            expected: expected.into(),
            found: found.into(),
        }
    }

    /// The argument, what was expected, and what was found.
    #[must_use]
    pub fn parts(&self) -> (&'static str, &str, &str) {
        match self {
            Self::Shape {
                argument,
                expected,
                found,
            }
            | Self::Value {
                argument,
                expected,
                found,
            }
            | Self::Unsupported {
                argument,
                expected,
                found,
            }
            | Self::ForeignWeights {
                argument,
                expected,
                found,
            }
            | Self::FloatEnvironment {
                argument,
                expected,
                found,
            }
            | Self::File {
                argument,
                expected,
                found,
            }
            | Self::Memory {
                argument,
                expected,
                found,
            } => (argument, expected, found),
        }
    }

    /// This error with a place behind what was found.
    ///
    /// ```
    /// use mixgemm::Error;
    /// let error = Error::value("bits", "1 to 8", "9").at("in product 3");
    /// assert_eq!(error.to_string(), "bits: expected 1 to 8, found 9 in product 3");
    /// ```
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        let (Self::Shape { found, .. }
        | Self::Value { found, .. }
        | Self::Unsupported { found, .. }
        | Self::ForeignWeights { found, .. }
        | Self::FloatEnvironment { found, .. }
        | Self::File { found, .. }
        | Self::Memory { found, .. }) = &mut self;
        *found = format!("{found} {place}");
        self
    }
}
