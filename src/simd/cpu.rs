//! The tiers, their detection, and the user's cap.
#![forbid(unsafe_code)]

use alloc::string::String;
use core::fmt;
use core::str::FromStr;

/// An instruction-set tier that kernels exist for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Isa {
    /// Portable code, present everywhere.
    Scalar,
    /// AVX-512 F, BW, VL, DQ and VNNI.
    Avx512Vnni,
}

impl Isa {
    /// Every tier that this version knows, slowest first.
    pub const ALL: [Self; 2] = [Self::Scalar, Self::Avx512Vnni];

    /// The name on the command line and in kernel names.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx512Vnni => "avx512vnni",
        }
    }

    /// The names of all tiers, for messages.
    #[must_use]
    pub fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// Whether this CPU has the tier.
    #[must_use]
    pub fn supported(self) -> bool {
        match self {
            Self::Scalar => true,
            Self::Avx512Vnni => avx512vnni(),
        }
    }

    /// The fastest supported tier, at most `cap`.
    #[must_use]
    pub fn best(cap: Option<Self>) -> Self {
        let allowed = |isa: &&Self| isa.supported() && cap.is_none_or(|cap| **isa <= cap);
        *Self::ALL.iter().rev().find(allowed).unwrap_or(&Self::Scalar)
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Isa {
    type Err = String;

    /// Parses a tier's name; the error lists them.
    fn from_str(s: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|isa| isa.name() == s)
            .ok_or_else(Self::names)
    }
}

#[cfg(all(feature = "std", target_arch = "x86_64"))]
fn avx512vnni() -> bool {
    use std::is_x86_feature_detected as has;
    has!("avx512f") && has!("avx512bw") && has!("avx512vl") && has!("avx512dq") && has!("avx512vnni")
}

#[cfg(not(all(feature = "std", target_arch = "x86_64")))]
fn avx512vnni() -> bool {
    cfg!(all(
        target_arch = "x86_64",
        target_feature = "avx512f",
        target_feature = "avx512bw",
        target_feature = "avx512vl",
        target_feature = "avx512dq",
        target_feature = "avx512vnni"
    ))
}

/// The cap that `MIXGEMM_ISA` sets, `None` where it is unset or empty. The error is the variable's unknown value.
///
/// # Errors
/// The value, when it names no tier.
pub fn cap_from_environment() -> Result<Option<Isa>, String> {
    #[cfg(feature = "std")]
    if let Some(value) = std::env::var_os("MIXGEMM_ISA") {
        let value = value.to_string_lossy();
        if value.is_empty() {
            return Ok(None);
        }
        return value.parse().map(Some).map_err(|_| String::from(value));
    }
    Ok(None)
}
