//! Shapes and schemes at which kernels have gone wrong.
#![forbid(unsafe_code)]

use crate::kernel::catalogue;
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
    let mut out = Vec::new();
    for bits in 1..=8 {
        for zero in [ZeroPoint::Symmetric, ZeroPoint::Integer, ZeroPoint::Float] {
            let turn = turn + out.len();
            let scheme = Scheme::int(bits).scales(scales[(turn + turn / 3) % 3]);
            let group = groups[(turn + turn / 7) % groups.len()];
            out.push(Scheme { group, zero, ..scheme });
        }
    }
    out
}
