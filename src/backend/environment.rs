//! The tier that a backend takes by itself.
#![forbid(unsafe_code)]

use crate::base::error::{Error, Result};
use crate::simd::cpu::{self, Isa};

/// The fastest tier of this CPU that the environment variable `MIXGEMM_ISA` allows.
///
/// # Errors
/// [`Error::Value`] for a variable that names no tier of this architecture.
pub(crate) fn isa_from_environment() -> Result<Isa> {
    cpu::cap_from_environment()
        .map(Isa::best)
        .map_err(|found| Error::value("MIXGEMM_ISA", Isa::names(), found))
}
