//! Shapes and schemes at which kernels have gone wrong.
#![forbid(unsafe_code)]

use crate::kernel::catalogue;
use crate::pack::layout::PanelLayout;
use crate::quant::book::CodeBook;
use crate::quant::scheme::{Group, ScaleType, Scheme, ZeroPoint};
use alloc::{collections::BTreeSet, vec, vec::Vec};

/// `Y[M,N] = X[M,K] · W[N,K]ᵀ`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Problem {
    /// Rows of activations.
    pub m: usize,
    /// Output channels.
    pub n: usize,
    /// Input channels.
    pub k: usize,
}

/// Shapes that hurt: every dimension 0 and 1, one less and one more than every kernel's rows and columns and than its
/// unit of k, and odd counts. Each value of one dimension comes with several of the others, not with all.
#[must_use]
pub fn hurtful_shapes() -> Vec<Problem> {
    let (mut m, mut n, mut k) = (
        BTreeSet::from([25]),
        BTreeSet::from([77]),
        BTreeSet::from([50, 100, 131]),
    );
    for kernel in catalogue::kernels() {
        for d in 0..3 {
            m.insert(kernel.mr + d - 1);
            n.extend([kernel.layout.lanes + d - 1, kernel.nr() + d - 1]);
            k.insert(kernel.unit + d - 1);
        }
    }
    let (m, n, k): (Vec<_>, Vec<_>, Vec<_>) = (
        m.into_iter().collect(),
        n.into_iter().collect(),
        k.into_iter().collect(),
    );
    let mut shapes = vec![
        Problem { m: 0, n: 5, k: 8 },
        Problem { m: 3, n: 0, k: 8 },
        Problem { m: 3, n: 33, k: 0 },
        Problem { m: 0, n: 0, k: 0 },
        Problem { m: 1, n: 1, k: 1 },
    ];
    let longest = m.len().max(n.len()).max(k.len());
    for i in 0..2 * longest {
        // Other strides through the lists in the second round give other neighbours.
        let (a, b) = if i < longest { (1, 1) } else { (3, 5) };
        shapes.push(Problem {
            m: m[i * a % m.len()],
            n: n[i % n.len()],
            k: k[i * b % k.len()],
        });
    }
    shapes
}

/// Schemes of every width and kind of zero point for rows of `k` weights. Scale types and groupings (ragged and odd
/// ones, one longer than a row, per channel, per tensor) take turns, beginning with the `turn`-th.
#[must_use]
pub fn schemes(k: usize, turn: usize) -> Vec<Scheme> {
    let mut out = Vec::new();
    for bits in 1..=8 {
        for zero in [ZeroPoint::Symmetric, ZeroPoint::Integer, ZeroPoint::Float] {
            let scheme = Scheme {
                zero,
                ..Scheme::int(bits)
            };
            out.push(in_turn(scheme, k, turn + out.len()));
        }
    }
    out
}

/// The scheme with the scale type and the grouping whose turn it is.
fn in_turn(scheme: Scheme, k: usize, turn: usize) -> Scheme {
    let groups = [
        Group::Length(16),
        Group::Channel,
        Group::Length(32),
        Group::Length(5),
        Group::Tensor,
        Group::Length(k + 3),
        Group::Length(33),
    ];
    let scales = [ScaleType::F16, ScaleType::F32, ScaleType::Bf16];
    Scheme {
        group: groups[(turn + turn / 7) % groups.len()],
        ..scheme.scales(scales[(turn + turn / 3) % 3])
    }
}

/// Code books whose entries, as they are carried, reach from 0 to 255, among them the ones that have names: the rules that
/// add up in 16 bits take some of them whole and others in nibbles.
pub const BOOKS: [CodeBook; 8] = [
    CodeBook::MXFP4,
    CodeBook::FLINT4,
    CodeBook::FLINT4_UNSIGNED,
    CodeBook::POWER4,
    CodeBook::IQ4_NL,
    CodeBook::new([-128, 127, 0, 1, -1, 2, -2, 3, -3, 64, -64, 126, -127, 32, -32, 5]),
    CodeBook::new([
        -7, -100, -9, -10, -90, -12, -13, -14, -15, -16, -17, -18, -19, -20, -21, -22,
    ]),
    CodeBook::new([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 127]),
];

/// As [`schemes`], with every one of [`BOOKS`].
#[must_use]
pub fn book_schemes(k: usize, turn: usize) -> Vec<Scheme> {
    let books = BOOKS.iter().enumerate();
    books
        .map(|(i, &book)| in_turn(Scheme::book(book), k, turn + i))
        .collect()
}

/// A scheme of the codes that a layout is for, per channel.
#[must_use]
pub fn scheme_of(layout: PanelLayout) -> Scheme {
    if layout.book {
        Scheme::book(CodeBook::IQ4_NL)
    } else {
        Scheme::int(layout.bits)
    }
}
