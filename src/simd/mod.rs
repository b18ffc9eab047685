//! Floor 1: what the machine can do. [`isa::Simd`] is the set of vector operations that kernels are written over,
//! [`scalar`] defines every one of them, and the files named after a tier implement them for it.

pub mod cpu;
pub mod isa;
#[cfg(feature = "std")]
mod peak;
#[cfg(feature = "std")]
pub mod roof;
pub mod scalar;
mod scalarbits;

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "intrinsics behind a token that proves them")]
pub mod avx2bits;
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "intrinsics behind a token that proves them")]
pub mod avx512vbmi;
#[cfg(target_arch = "aarch64")]
#[expect(unsafe_code, reason = "intrinsics behind a token that proves them")]
pub mod neonbits;

/// The tiers of an architecture beside the portable one: their modules, which bodies run on all of them, and running.
macro_rules! tiers {
    ($($(#[$doc:meta])* $isa:ident: $module:ident),*) => {
        $(
            $(#[$doc])*
            #[expect(unsafe_code, reason = "intrinsics behind a token that proves them")]
            pub mod $module;
        )*

        /// Code that is compiled for every tier of this architecture.
        pub trait EveryTier: isa::Body<scalar::Scalar<16>> $(+ isa::Body<$module::$isa>)* {}

        impl<B: isa::Body<scalar::Scalar<16>> $(+ isa::Body<$module::$isa>)*> EveryTier for B {}

        /// Runs a body in the frame of a tier. Panics where this CPU lacks the tier.
        pub fn run<B: EveryTier>(isa: cpu::Isa, args: &mut B::Args<'_>) {
            use isa::Simd;
            match isa {
                cpu::Isa::Scalar => scalar::Scalar::<16>.frame::<B>(args),
                $(cpu::Isa::$isa => $module::$isa::detect().expect("a supported tier").frame::<B>(args),)*
                #[allow(unreachable_patterns, reason = "every architecture has its own tiers")]
                _ => panic!("isa: expected a tier of this architecture, found {isa}"),
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
tiers!(Avx2: avx2, AvxVnni: avxvnni, Avx512: avx512, Avx512Vnni: avx512vnni);
#[cfg(target_arch = "aarch64")]
tiers!(Neon: neon, NeonDot: neondot, NeonI8mm: neoni8mm);
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
tiers!();
