//! Every kernel there is; the only list. Dispatch, tests, benches and documentation are loops over it.
//!
//! Tiles are chosen by register count. On AVX-512 the tile's lhs rows times two vectors are 24 accumulators of 32
//! registers; two unpacked vectors, two raw ones and a broadcast fit beside them, and y lives in the first-level cache,
//! touched once per group.
#![forbid(unsafe_code)]

use crate::kernel::name::Name;
use crate::kernel::sweep::Direct;
use crate::kernel::{Family, Kernel, enter};
use crate::pack::layout::{PanelLayout, unit};
use crate::simd::isa::Simd;
use crate::simd::scalar::Scalar;

impl Kernel {
    const fn direct<
        S: Simd,
        const B: usize,
        const U: usize,
        const P: usize,
        const SL: usize,
        const MR: usize,
        const R: usize,
    >() -> Self {
        assert!(U == unit(B as u8));
        Self {
            family: Family::Direct,
            isa: S::ISA,
            layout: PanelLayout {
                lanes: S::LANES,
                bits: B as u8,
            },
            unit: U,
            slices: SL,
            mr: MR,
            name: Name::new()
                .text(Family::Direct.name())
                .text("-a")
                .number(8 * SL)
                .text(".w")
                .number(B)
                .text(".i32-")
                .number(MR)
                .text("x")
                .number(2 * S::LANES)
                .text("c")
                .number(U)
                .text("g-")
                .text(S::ISA.name()),
            run: enter::<S, Direct<B, U, P, SL, MR, R>>,
        }
    }
}

/// The tiles of one tier for one width, as (slices, rows, slices × rows).
macro_rules! tiles {
    ($name:ident, $count:literal: $(($sl:literal, $mr:literal, $r:literal)),*) => {
        const fn $name<S: Simd, const B: usize, const U: usize, const P: usize>() -> [Kernel; $count] {
            [$(Kernel::direct::<S, B, U, P, $sl, $mr, $r>()),*]
        }
    };
}

tiles!(tiles_of_32_registers, 16:
    (1, 12, 12), (1, 8, 8), (1, 4, 4), (1, 2, 2), (1, 1, 1),
    (2, 6, 12), (2, 4, 8), (2, 2, 4), (2, 1, 2),
    (3, 4, 12), (3, 2, 6), (3, 1, 3),
    (4, 2, 8), (4, 1, 4),
    (5, 1, 5),
    (6, 1, 6)
);

tiles!(tiles_of_few_registers, 8:
    (1, 4, 4), (1, 1, 1), (2, 2, 4), (2, 1, 2), (3, 1, 3), (4, 1, 4), (5, 1, 5), (6, 1, 6)
);

/// A tier's tiles for every width.
macro_rules! widths {
    ($tiles:ident, $simd:ty) => {
        [
            $tiles::<$simd, 1, 32, 1>(),
            $tiles::<$simd, 2, 16, 1>(),
            $tiles::<$simd, 3, 32, 3>(),
            $tiles::<$simd, 4, 8, 1>(),
            $tiles::<$simd, 5, 32, 5>(),
            $tiles::<$simd, 6, 16, 3>(),
            $tiles::<$simd, 7, 32, 7>(),
            $tiles::<$simd, 8, 4, 1>(),
        ]
    };
}

#[cfg(target_arch = "x86_64")]
static AVX512VNNI: [[Kernel; 16]; 8] = widths!(tiles_of_32_registers, crate::simd::avx512vnni::Avx512Vnni);

/// Portable kernels on the layout of the 16-lane tiers.
static SCALAR16: [[Kernel; 8]; 8] = widths!(tiles_of_few_registers, Scalar<16>);

/// Odd lane counts, which shake packing and loops on any machine.
#[cfg(any(test, feature = "testing"))]
static SCALAR_ODD: [[[Kernel; 8]; 8]; 2] = [
    widths!(tiles_of_few_registers, Scalar<3>),
    widths!(tiles_of_few_registers, Scalar<5>),
];

/// All kernels, those that this CPU cannot run included.
pub fn kernels() -> impl Iterator<Item = &'static Kernel> {
    let scalar = SCALAR16.iter().flatten();
    #[cfg(target_arch = "x86_64")]
    let all = AVX512VNNI.iter().flatten().chain(scalar);
    #[cfg(not(target_arch = "x86_64"))]
    let all = scalar;
    #[cfg(any(test, feature = "testing"))]
    let all = all.chain(SCALAR_ODD.iter().flatten().flatten());
    all
}
