//! The tiers, their detection, and the user's cap.
#![forbid(unsafe_code)]

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

/// Whether this CPU has all of these features of x86-64: asked at run time, without `std` known at compile time.
macro_rules! has {
    ($($feature:tt),*) => {{
        #[cfg(all(feature = "std", target_arch = "x86_64"))]
        let has = true $(&& std::is_x86_feature_detected!($feature))*;
        #[cfg(not(all(feature = "std", target_arch = "x86_64")))]
        let has = cfg!(all(target_arch = "x86_64", $(target_feature = $feature),*));
        has
    }};
}

/// As `has`, for AArch64. Its tiers are little-endian.
macro_rules! has_arm {
    ($($feature:tt),*) => {{
        #[cfg(all(feature = "std", target_arch = "aarch64"))]
        let has = cfg!(target_endian = "little") $(&& std::arch::is_aarch64_feature_detected!($feature))*;
        #[cfg(not(all(feature = "std", target_arch = "aarch64")))]
        let has = cfg!(all(target_arch = "aarch64", target_endian = "little", $(target_feature = $feature),*));
        has
    }};
}

/// An instruction-set tier that kernels exist for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Isa {
    /// Portable code, present everywhere.
    Scalar,
    /// AVX2, FMA and F16C.
    Avx2,
    /// AVX2, FMA, F16C and AVX-VNNI.
    AvxVnni,
    /// AVX-512 F, BW, VL and DQ.
    Avx512,
    /// AVX-512 F, BW, VL, DQ and VNNI.
    Avx512Vnni,
    /// Advanced SIMD, which every AArch64 CPU has.
    Neon,
    /// Advanced SIMD with signed dot products (FEAT_DotProd).
    NeonDot,
    /// Advanced SIMD with mixed-sign dot products and matrix products (FEAT_I8MM).
    NeonI8mm,
}

impl Isa {
    /// Every tier that this version knows, on any architecture; those of one architecture slowest first.
    pub const ALL: [Self; 8] = [
        Self::Scalar,
        Self::Avx2,
        Self::AvxVnni,
        Self::Avx512,
        Self::Avx512Vnni,
        Self::Neon,
        Self::NeonDot,
        Self::NeonI8mm,
    ];

    /// The name on the command line and in kernel names.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::AvxVnni => "avxvnni",
            Self::Avx512 => "avx512",
            Self::Avx512Vnni => "avx512vnni",
            Self::Neon => "neon",
            Self::NeonDot => "neondot",
            Self::NeonI8mm => "neoni8mm",
        }
    }

    /// The names of this architecture's tiers, for messages.
    #[must_use]
    pub fn names() -> String {
        let tiers = Self::ALL.into_iter().filter(|isa| isa.of_this_architecture());
        tiers.map(Self::name).collect::<Vec<_>>().join(", ")
    }

    /// Whether CPUs of this architecture can have the tier.
    #[must_use]
    pub const fn of_this_architecture(self) -> bool {
        match self {
            Self::Scalar => true,
            Self::Avx2 | Self::AvxVnni | Self::Avx512 | Self::Avx512Vnni => cfg!(target_arch = "x86_64"),
            Self::Neon | Self::NeonDot | Self::NeonI8mm => cfg!(target_arch = "aarch64"),
        }
    }

    /// Whether this CPU has the tier.
    #[must_use]
    pub fn supported(self) -> bool {
        match self {
            Self::Scalar => true,
            Self::Avx2 => has!("avx2", "fma", "f16c"),
            Self::AvxVnni => has!("avx2", "fma", "f16c", "avxvnni"),
            Self::Avx512 => has!("avx512f", "avx512bw", "avx512vl", "avx512dq"),
            Self::Avx512Vnni => has!("avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vnni"),
            Self::Neon => has_arm!("neon"),
            Self::NeonDot => has_arm!("neon", "dotprod"),
            Self::NeonI8mm => has_arm!("neon", "i8mm"),
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

/// Whether this CPU has AVX-512 VBMI, which no tier promises.
#[cfg(target_arch = "x86_64")]
#[must_use]
pub(super) fn has_vbmi() -> bool {
    has!("avx512vbmi")
}

/// How many bytes ahead of its loads a kernel should prefetch what it streams from memory on this CPU.
///
/// Four lines start loads earlier than the reorder window does; a little further ahead, the prefetcher of Zen 4, which
/// follows a stream within a page, loses it (256 bytes gain a fifth of the bandwidth, 1024 lose a fifth). Zen 5 has misses
/// to spare for streams of our own: two pages ahead, one row of 4-bit codes runs at 89 % of the memory's rate, at 76 % with
/// four lines and 84 % with one page. Zen 5 is so far the only CPU with both of these features.
#[must_use]
pub fn read_ahead() -> usize {
    if has!("avxvnni", "avx512vp2intersect") {
        8192
    } else {
        256
    }
}

/// The cap that `MIXGEMM_ISA` sets, `None` where it is unset or empty.
///
/// # Errors
/// The value, when it names no tier of this architecture: nothing would be capped, or everything.
pub fn cap_from_environment() -> Result<Option<Isa>, String> {
    #[cfg(feature = "std")]
    if let Some(value) = std::env::var_os("MIXGEMM_ISA") {
        let value = value.to_string_lossy();
        if value.is_empty() {
            return Ok(None);
        }
        let isa: Option<Isa> = value.parse().ok();
        let isa = isa.filter(|isa| isa.of_this_architecture());
        return isa.map(Some).ok_or_else(|| String::from(value));
    }
    Ok(None)
}
