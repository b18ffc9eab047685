//! How wide the integers of a group's fold are; the bounds are proved in [`fold`](crate::kernel::fold).
#![forbid(unsafe_code)]

/// How a group's slices are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Width {
    /// In the kernel, in 32 bits.
    Narrow,
    /// From the kernel's sums, in f64.
    Wide,
    /// From the kernel's raw sums, in wide integers.
    Raw,
}

impl Width {
    /// The width for weights of this [span](crate::Scheme::span) in groups of `group`, where activations have so many
    /// slices.
    pub(super) fn of(group: usize, span: u32, slices: usize) -> Self {
        let weight = group as u128 * u128::from(span);
        let fits = weight * 128 < 1 << 31;
        match slices {
            1 if fits => Self::Narrow,
            2..=4 if weight * 32_896 < (1 << 31) - (1 << 16) => Self::Narrow,
            2..=3 if fits => Self::Wide,
            4 if fits && weight < 1 << 22 => Self::Wide,
            _ => Self::Raw,
        }
    }
}
