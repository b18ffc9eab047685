//! What can go wrong, in candle or in mixgemm, and how the one becomes the other.

use std::fmt;

/// An error of either crate.
#[derive(Debug)]
pub enum Error {
    /// candle's.
    Candle(candle_core::Error),
    /// mixgemm's.
    Mixgemm(mixgemm::Error),
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::Candle(error)
    }
}

impl From<mixgemm::Error> for Error {
    fn from(error: mixgemm::Error) -> Self {
        Self::Mixgemm(error)
    }
}

/// For `Module::forward` and custom operations, which return candle's errors.
impl From<Error> for candle_core::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Candle(error) => error,
            Error::Mixgemm(error) => Self::wrap(error),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Candle(error) => error.fmt(f),
            Self::Mixgemm(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {}
