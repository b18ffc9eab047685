//! Floor 1: what the machine can do. [`isa::Simd`] is the set of vector operations that kernels are written over,
//! [`scalar`] defines every one of them, and the files named after a tier implement them for it.

pub mod cpu;
pub mod isa;
#[cfg(feature = "std")]
pub mod roof;
pub mod scalar;

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "intrinsics behind a token that proves them")]
pub mod avx512vnni;

/// Runs a body in the frame of a tier. Panics where this CPU lacks the tier.
pub fn run<B: isa::Body>(isa: cpu::Isa, args: &mut B::Args<'_>) {
    use isa::Simd;
    match isa {
        cpu::Isa::Scalar => scalar::Scalar::<16>.frame::<B>(args),
        #[cfg(target_arch = "x86_64")]
        cpu::Isa::Avx512Vnni => avx512vnni::Avx512Vnni::detect()
            .expect("a supported tier")
            .frame::<B>(args),
        #[cfg(not(target_arch = "x86_64"))]
        cpu::Isa::Avx512Vnni => unreachable!("no tier of this architecture"),
    }
}
