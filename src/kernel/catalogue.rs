//! Every kernel there is; the only list. Dispatch, tests, benches and documentation are loops over it.
//!
//! Tiles are chosen by register count. On AVX-512 the tile's lhs rows times two vectors are 24 accumulators of 32
//! registers; two unpacked vectors, two raw ones and a broadcast fit beside them, and y lives in the first-level cache,
//! touched once per group.
#![forbid(unsafe_code)]

use crate::kernel::name::Name;
use crate::kernel::rule::Rule;
use crate::kernel::rule::direct::Direct;
#[cfg(any(target_arch = "aarch64", test, feature = "testing"))]
use crate::kernel::rule::matrix::Matrix;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", test, feature = "testing"))]
use crate::kernel::rule::plane::Plane;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", test, feature = "testing"))]
use crate::kernel::rule::short::Short;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", test, feature = "testing"))]
use crate::kernel::rule::table::Table;
use crate::kernel::sweep::{Expand, Sweep};
use crate::kernel::wide::Wide;
use crate::kernel::{Kernel, enter, has};
use crate::pack::layout::{PanelLayout, unit};
use crate::simd::cpu::Isa;
use crate::simd::isa::Simd;
use crate::simd::scalar::Scalar;
use core::sync::atomic::AtomicUsize;

impl Kernel {
    const fn row<
        S: Simd,
        Q: Rule<S, B, U, P, R> + Rule<S, B, U, P, MR>,
        const B: usize,
        const U: usize,
        const P: usize,
        const SL: usize,
        const MR: usize,
        const R: usize,
    >() -> Self {
        let (family, lhs) = (<Q as Rule<S, B, U, P, R>>::FAMILY, <Q as Rule<S, B, U, P, R>>::LHS);
        let book = <Q as Rule<S, B, U, P, R>>::BOOK;
        assert!(U == lhs * unit(B as u8));
        let at_once = <Q as Rule<S, B, U, P, R>>::ROWS;
        // Of three slices, those that lie apart are lhs rows of their own.
        assert!(R.is_multiple_of(at_once) && (SL < 3 || lhs == 1 && MR.is_multiple_of(at_once)));
        Self {
            family,
            isa: S::ISA,
            layout: PanelLayout {
                lanes: S::LANES,
                bits: B as u8,
                book,
            },
            unit: unit(B as u8),
            lhs,
            slices: SL,
            mr: MR,
            name: Name::new()
                .text(family.name())
                .text("-a")
                .number(8 * SL)
                .text(if book { ".b" } else { ".w" })
                .number(B)
                .text(".")
                .text(family.sums())
                .text("-")
                .number(MR)
                .text("x")
                .number(2 * S::LANES)
                .text("c")
                .number(unit(B as u8))
                .text("g-")
                .text(S::ISA.name()),
            run: enter::<S, Sweep<Q, B, U, P, SL, MR, R>>,
            fold_wide: enter::<S, Wide>,
            supported: has::<S>,
            expand: if lhs > 1 {
                Some(enter::<S, Expand<Q, B, U, P, R>>)
            } else {
                None
            },
            calls: AtomicUsize::new(0),
        }
    }
}

/// The rows of one tier and rule: for every width, tiles given as (slices, rows, slices × rows). Widths that are one
/// binary digit come first; the others take a digit's unpacking more than once and have fewer tiles. Books come last.
macro_rules! rows {
    ($simd:ty, $rule:ident, [$($tile:tt),*], [$($sum_tile:tt),*]) => {
        (
            [
                rows!(@width $simd, $rule, 1, 32, 1, $($tile)*),
                rows!(@width $simd, $rule, 2, 16, 1, $($tile)*),
                rows!(@width $simd, $rule, 4, 8, 1, $($tile)*),
                rows!(@width $simd, $rule, 8, 4, 1, $($tile)*),
            ],
            [
                rows!(@width $simd, $rule, 3, 32, 3, $($sum_tile)*),
                rows!(@width $simd, $rule, 5, 32, 5, $($sum_tile)*),
                rows!(@width $simd, $rule, 6, 16, 3, $($sum_tile)*),
                rows!(@width $simd, $rule, 7, 32, 7, $($sum_tile)*),
            ],
            rows!(@width $simd, $rule<true>, 4, 8, 1, $($tile)*),
        )
    };
    (@width $simd:ty, $rule:ty, $b:literal, $u:literal, $p:literal, $($tile:tt)*) => {
        [$(rows!(@row $simd, $rule, $b, $u, $p, $tile)),*]
    };
    (@row $simd:ty, $rule:ty, $b:literal, $u:literal, $p:literal, ($sl:literal, $mr:literal, $r:literal)) => {
        Kernel::row::<$simd, $rule, $b, $u, $p, $sl, $mr, $r>()
    };
}

/// Rows of the plane rule, which has none for books.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", test, feature = "testing"))]
macro_rules! plane_rows {
    ($simd:ty, $tile:tt) => {
        [
            rows!(@row $simd, Plane, 1, 32, 1, $tile),
            rows!(@row $simd, Plane, 2, 16, 1, $tile),
            rows!(@row $simd, Plane, 3, 32, 3, $tile),
            rows!(@row $simd, Plane, 4, 8, 1, $tile),
            rows!(@row $simd, Plane, 5, 32, 5, $tile),
            rows!(@row $simd, Plane, 6, 16, 3, $tile),
            rows!(@row $simd, Plane, 7, 32, 7, $tile),
            rows!(@row $simd, Plane, 8, 4, 1, $tile),
        ]
    };
}

/// Rows of the table rule: it is for codes of one bit, whose 32 k in a unit take 256 bytes of tables.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", test, feature = "testing"))]
macro_rules! table_rows {
    ($simd:ty, $($tile:tt),*) => { rows!(@width $simd, Table, 1, 256, 1, $($tile)*) };
}

/// What [`rows`] makes: `W` tiles for each width of one digit and for books, `D` for each of the others.
type Rows<const W: usize, const D: usize> = ([[Kernel; W]; 4], [[Kernel; D]; 4], [Kernel; W]);

/// Rows of a tier with 32 registers.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[rustfmt::skip]
macro_rules! rows_of_32_registers {
    ($simd:ty, $rule:ident) => {
        rows!(
            $simd,
            $rule,
            [
                (1, 12, 12), (1, 8, 8), (1, 4, 4), (1, 2, 2), (1, 1, 1),
                (2, 6, 12), (2, 4, 8), (2, 2, 4), (2, 1, 2),
                (3, 4, 12), (3, 2, 6), (3, 1, 3)
            ],
            [
                (1, 12, 12), (1, 4, 4), (1, 1, 1),
                (2, 6, 12), (2, 2, 4), (2, 1, 2),
                (3, 4, 12), (3, 1, 3)
            ]
        )
    };
}

/// Rows of a tier with 16 registers.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[rustfmt::skip]
macro_rules! rows_of_16_registers {
    ($simd:ty, $rule:ident) => {
        rows!(
            $simd,
            $rule,
            [
                (1, 6, 6), (1, 4, 4), (1, 2, 2), (1, 1, 1),
                (2, 3, 6), (2, 2, 4), (2, 1, 2),
                (3, 2, 6), (3, 1, 3)
            ],
            [
                (1, 6, 6), (1, 2, 2), (1, 1, 1),
                (2, 3, 6), (2, 1, 2),
                (3, 2, 6), (3, 1, 3)
            ]
        )
    };
}

/// Rows of a tier with 16 registers whose products need registers of their own before they are added up.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
macro_rules! rows_of_16_registers_and_products {
    ($simd:ty, $rule:ident) => {
        rows!(
            $simd,
            $rule,
            [
                (1, 4, 4), (1, 2, 2), (1, 1, 1),
                (2, 2, 4), (2, 1, 2),
                (3, 1, 3)
            ],
            [
                (1, 4, 4), (1, 1, 1),
                (2, 2, 4), (2, 1, 2),
                (3, 1, 3)
            ]
        )
    };
}

/// Portable rows.
#[rustfmt::skip]
macro_rules! rows_in_memory {
    ($simd:ty, $rule:ident) => {
        rows!(
            $simd,
            $rule,
            [
                (1, 4, 4), (1, 1, 1),
                (2, 2, 4), (2, 1, 2),
                (3, 1, 3)
            ],
            [
                (1, 4, 4), (1, 1, 1),
                (2, 1, 2),
                (3, 1, 3)
            ]
        )
    };
}

/// The fewest portable rows.
#[rustfmt::skip]
macro_rules! single_rows {
    ($simd:ty, $rule:ident) => {
        rows!(
            $simd,
            $rule,
            [
                (1, 1, 1),
                (2, 1, 2),
                (3, 1, 3)
            ],
            [
                (1, 1, 1),
                (2, 1, 2),
                (3, 1, 3)
            ]
        )
    };
}

#[cfg(target_arch = "x86_64")]
mod tiers {
    use super::{Direct, Kernel, Plane, Rows, Short, Table, all};
    use crate::simd::avx512vbmi::Avx512Vbmi;
    use crate::simd::{avx2::Avx2, avx512::Avx512, avx512vnni::Avx512Vnni, avxvnni::AvxVnni};

    static AVX2: Rows<6, 5> = rows_of_16_registers_and_products!(Avx2, Short);
    static AVX_VNNI: Rows<9, 7> = rows_of_16_registers!(AvxVnni, Direct);
    static AVX512: Rows<12, 8> = rows_of_32_registers!(Avx512, Short);
    static AVX512_VNNI: Rows<12, 8> = rows_of_32_registers!(Avx512Vnni, Direct);

    static AVX2_PLANES: [Kernel; 8] = plane_rows!(Avx2, (1, 4, 4));
    static AVX512_VNNI_PLANES: [Kernel; 8] = plane_rows!(Avx512Vnni, (1, 8, 8));
    static AVX2_TABLES: [Kernel; 1] = table_rows!(Avx2, (1, 4, 4));
    static AVX512_VBMI_TABLES: [Kernel; 3] = table_rows!(Avx512Vbmi, (1, 8, 8), (1, 4, 4), (1, 2, 2));

    pub(super) fn kernels() -> impl Iterator<Item = &'static Kernel> {
        all(&AVX2)
            .chain(all(&AVX_VNNI))
            .chain(all(&AVX512))
            .chain(all(&AVX512_VNNI))
            .chain(&AVX2_PLANES)
            .chain(&AVX512_VNNI_PLANES)
            .chain(&AVX2_TABLES)
            .chain(&AVX512_VBMI_TABLES)
    }
}

#[cfg(target_arch = "aarch64")]
mod tiers {
    use super::{Direct, Kernel, Matrix, Plane, Rows, Short, Table, all};
    use crate::simd::{neon::Neon, neondot::NeonDot, neoni8mm::NeonI8mm};

    // The 16-bit sums of an accumulator take two of the 32 registers.
    static NEON: Rows<9, 7> = rows_of_16_registers!(Neon, Short);
    static NEON_DOT: Rows<12, 8> = rows_of_32_registers!(NeonDot, Direct);
    #[rustfmt::skip]
    static NEON_I8MM: Rows<10, 6> = rows!(
        NeonI8mm,
        Matrix,
        [
                (1, 12, 12), (1, 8, 8), (1, 4, 4), (1, 2, 2),
                (2, 6, 12), (2, 4, 8), (2, 2, 4), (2, 1, 2),
                (3, 4, 12), (3, 2, 6)
            ],
        [
                (1, 12, 12), (1, 4, 4),
                (2, 6, 12), (2, 2, 4), (2, 1, 2),
                (3, 4, 12)
            ]
    );
    static NEON_I8MM_ODD: Rows<2, 2> = rows!(NeonI8mm, Direct, [(1, 1, 1), (3, 1, 3)], [(1, 1, 1), (3, 1, 3)]);

    static NEON_PLANES: [Kernel; 8] = plane_rows!(Neon, (1, 4, 4));
    static NEON_TABLES: [Kernel; 1] = table_rows!(Neon, (1, 4, 4));

    pub(super) fn kernels() -> impl Iterator<Item = &'static Kernel> {
        all(&NEON)
            .chain(all(&NEON_DOT))
            .chain(all(&NEON_I8MM))
            .chain(all(&NEON_I8MM_ODD))
            .chain(&NEON_PLANES)
            .chain(&NEON_TABLES)
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod tiers {
    pub(super) use core::iter::empty as kernels;
}

/// Portable rows, and those for the layouts of the tiers with fewer lanes.
static SCALAR16: Rows<5, 4> = rows_in_memory!(Scalar<16>, Direct);
static SCALAR8: Rows<3, 3> = single_rows!(Scalar<8>, Direct);
static SCALAR4: Rows<3, 3> = single_rows!(Scalar<4>, Direct);

/// Odd lane counts, which shake packing and loops on any machine.
#[cfg(any(test, feature = "testing"))]
static SCALAR3: Rows<5, 4> = rows_in_memory!(Scalar<3>, Direct);
#[cfg(any(test, feature = "testing"))]
static SCALAR5: Rows<5, 4> = rows_in_memory!(Scalar<5>, Short);

/// The matrix rule on any machine.
#[cfg(any(test, feature = "testing"))]
#[rustfmt::skip]
static SCALAR12: Rows<4, 2> = rows!(
    Scalar<12>,
    Matrix,
    [
                (1, 4, 4), (1, 2, 2),
                (2, 1, 2),
                (3, 2, 6)
            ],
    [(1, 4, 4), (2, 1, 2)]
);
#[cfg(any(test, feature = "testing"))]
static SCALAR12_ODD: Rows<2, 2> = rows!(Scalar<12>, Direct, [(1, 1, 1), (3, 1, 3)], [(1, 1, 1), (3, 1, 3)]);

/// The rules over weight bits on any machine.
#[cfg(any(test, feature = "testing"))]
static SCALAR3_PLANES: [Kernel; 8] = plane_rows!(Scalar<3>, (1, 2, 2));
#[cfg(any(test, feature = "testing"))]
static SCALAR5_TABLES: [Kernel; 1] = table_rows!(Scalar<5>, (1, 2, 2));

fn all<const W: usize, const D: usize>(rows: &'static Rows<W, D>) -> impl Iterator<Item = &'static Kernel> {
    rows.0.iter().flatten().chain(rows.1.iter().flatten()).chain(&rows.2)
}

/// All kernels, those that this CPU cannot run included.
pub fn kernels() -> impl Iterator<Item = &'static Kernel> {
    let scalar = all(&SCALAR16).chain(all(&SCALAR8)).chain(all(&SCALAR4));
    #[cfg(any(test, feature = "testing"))]
    let scalar = scalar
        .chain(all(&SCALAR3))
        .chain(all(&SCALAR5))
        .chain(all(&SCALAR12))
        .chain(all(&SCALAR12_ODD))
        .chain(&SCALAR3_PLANES)
        .chain(&SCALAR5_TABLES);
    scalar.chain(tiers::kernels())
}

/// The layout that a tier's rows read codes of this width in, plain ones or those of a book: the widest where there are
/// several.
#[must_use]
pub fn layout(isa: Isa, bits: u8, book: bool) -> Option<PanelLayout> {
    let rows = kernels().filter(|k| k.isa == isa && k.layout.bits == bits && k.layout.book == book);
    rows.map(|k| k.layout).max_by_key(|l| l.lanes)
}
