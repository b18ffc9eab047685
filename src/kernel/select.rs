//! Which kernels a product takes: a pure function of the tier, the layout of the weights and the mode, and of what this
//! CPU has beyond its tier.
#![forbid(unsafe_code)]

use crate::base::error::{Error, Result};
use crate::kernel::catalogue;
use crate::kernel::{Family, Kernel};
use crate::pack::activations::MAX_SLICES;
use crate::pack::layout::PanelLayout;
use crate::quant::input::Mode;
use crate::simd::cpu::Isa;
use alloc::format;
use core::array::from_fn;
use core::ops::RangeInclusive;
#[cfg(feature = "std")]
use std::sync::OnceLock;

/// Most slices of a kernel.
const MAX_FOLDED: usize = 3;

/// Most tile heights of a tier.
const MAX_HEIGHTS: usize = 8;

/// The kernels of one product, by tile height and slice count.
#[derive(Debug, Clone, Copy)]
pub struct Selection {
    usual: usize,
    heights: [usize; MAX_HEIGHTS],
    kernels: [[Option<&'static Kernel>; MAX_SLICES + 1]; MAX_HEIGHTS],
}

/// One worker's calls of the kernels of a selection.
#[derive(Debug, Default)]
pub struct Tally([[usize; MAX_SLICES + 1]; MAX_HEIGHTS]);

/// The slice count that tile heights are made for in a mode, and all counts that its groups may have: 1 for 8-bit
/// activations, 2 for `a16`, 3 of 2 to 6 for `exact`.
#[must_use]
pub fn slice_counts(mode: Mode) -> (usize, RangeInclusive<usize>) {
    match mode {
        Mode::A16 => (2, 2..=2),
        Mode::Exact => (3, 2..=MAX_SLICES),
        _ => (1, 1..=1),
    }
}

/// The rows of a tier for weights of this layout and so many slices.
fn rows(isa: Isa, layout: PanelLayout, slices: usize) -> impl Iterator<Item = &'static Kernel> {
    catalogue::kernels().filter(move |k| k.isa == isa && k.layout == layout && k.slices == slices)
}

/// Whether tables are faster than other rules of their tier, as measured: for one-bit codes on Zen 5 and groups of 128, half
/// as fast again with `vpermb` (48 rows), by a sixth with `vpshufb` (64 rows). The tiers of AArch64 have not been measured.
fn table_wins(kernel: &Kernel) -> bool {
    let measured = matches!(kernel.isa, Isa::Avx2 | Isa::Avx512Vnni);
    kernel.family == Family::Table && measured && kernel.supported()
}

fn lowest_table(isa: Isa, layout: PanelLayout, slices: usize) -> Option<usize> {
    rows(isa, layout, slices).filter(|k| table_wins(k)).map(|k| k.mr).min()
}

fn stands(kernel: &Kernel, lowest_table: Option<usize>) -> bool {
    match kernel.family {
        Family::Plane => false,
        Family::Table => table_wins(kernel),
        _ => lowest_table.is_none_or(|lowest| kernel.mr < lowest),
    }
}

/// Whether a kernel is one of those chosen where nothing else is preferred. Where tables win, others serve only the tiles
/// that are too low for them; planes never win.
#[must_use]
pub fn usual(kernel: &Kernel) -> bool {
    stands(kernel, lowest_table(kernel.isa, kernel.layout, kernel.slices))
}

/// Chooses kernels for the mode on weights of this layout; see [`choose`].
///
/// # Errors
/// [`Error::Unsupported`] when the tier has no kernels for the layout or this CPU lacks the tier.
pub fn select(isa: Isa, layout: PanelLayout, mode: Mode) -> Result<Selection> {
    if !isa.supported() {
        return Err(Error::unsupported("isa", "a tier of this CPU", isa.name()));
    }
    if mode == Mode::Native {
        let expected = "a8, a8row, a8given, a8static, a16, exact";
        return Err(Error::unsupported("mode", expected, mode.name()));
    }
    chosen(isa, layout, mode).ok_or_else(|| {
        let weights = if layout.book { "weights of a book" } else { "weights" };
        let found = format!("{}-bit {weights} packed for {} lanes", layout.bits, layout.lanes);
        Error::unsupported("isa", format!("weights packed for tier {isa}"), found)
    })
}

/// What [`choose`] takes where nothing is preferred. The catalogue is looked through once for each tier, layout and number
/// of slices: that takes some 10 µs, a small product without it less than one.
#[cfg(feature = "std")]
fn chosen(isa: Isa, layout: PanelLayout, mode: Mode) -> Option<Selection> {
    const LANES: [usize; 3] = [4, 8, 16];
    type Modes = [OnceLock<Option<Selection>>; 3];
    type Widths = [[Modes; 2]; 8];
    static CHOSEN: [[Widths; LANES.len()]; Isa::ALL.len()] =
        [const { [const { [const { [const { [const { OnceLock::new() }; 3] }; 2] }; 8] }; LANES.len()] };
            Isa::ALL.len()];
    let choose = || choose(isa, layout, mode, |_| false);
    let lanes = LANES.iter().position(|&lanes| lanes == layout.lanes);
    let (Some(lanes), 1..=8) = (lanes, layout.bits) else {
        return choose();
    };
    let modes = &CHOSEN[isa as usize][lanes][usize::from(layout.bits) - 1][usize::from(layout.book)];
    *modes[slice_counts(mode).0 - 1].get_or_init(choose)
}

/// What [`choose`] takes where nothing is preferred.
#[cfg(not(feature = "std"))]
fn chosen(isa: Isa, layout: PanelLayout, mode: Mode) -> Option<Selection> {
    choose(isa, layout, mode, |_| false)
}

/// The kernels of a tier for weights of this layout, whether or not this CPU has the tier. `None` when there are none.
///
/// The tile heights are those of the mode's [usual slice count](slice_counts). A tile whose group needs another count is
/// cut into the highest sub-tiles that divide it. Rows that `prefer` wants are taken where they fit, [`usual`] ones
/// elsewhere: below the lowest preferred tile, and for slice counts without a preferred row.
pub fn choose(
    isa: Isa,
    layout: PanelLayout,
    mode: Mode,
    prefer: impl Fn(&'static Kernel) -> bool,
) -> Option<Selection> {
    let (usual, counts) = slice_counts(mode);
    let rows = |slices| rows(isa, layout, slices);
    let lowest_table: [_; MAX_FOLDED + 1] = from_fn(|slices| lowest_table(isa, layout, slices));
    let of = |slices: usize| rows(slices).filter(move |k| stands(k, lowest_table[slices]));
    let wanted = |slices: usize| rows(slices).filter(|k| prefer(k));
    let lowest = wanted(usual).map(|k| k.mr).min();
    let mut selection = Selection {
        usual,
        heights: [0; MAX_HEIGHTS],
        kernels: [[None; MAX_SLICES + 1]; MAX_HEIGHTS],
    };
    let mut below = usize::MAX;
    for i in 0..MAX_HEIGHTS {
        let lower = |k: &&Kernel| k.mr < below;
        let next = wanted(usual).filter(lower).map(|k| k.mr).max();
        let next = next.or_else(|| {
            of(usual)
                .filter(lower)
                .map(|k| k.mr)
                .filter(|mr| lowest.is_none_or(|l| *mr < l))
                .max()
        });
        let Some(mr) = next else { break };
        selection.heights[i] = mr;
        for slices in counts.clone() {
            let divides = |k: &&Kernel| mr % k.mr == 0;
            selection.kernels[i][slices] = if slices <= MAX_FOLDED {
                let highest = wanted(slices).filter(divides).max_by_key(|k| k.mr);
                highest.or_else(|| of(slices).filter(divides).max_by_key(|k| k.mr))
            } else {
                // More slices than kernels fold are multiplied one by one, as they are, and folded from stored sums.
                let one = || rows(1).filter(divides).filter(|k| k.lhs == 1);
                let highest = one().filter(|k| prefer(k)).max_by_key(|k| k.mr);
                highest.or_else(|| one().filter(|k| stands(k, None)).max_by_key(|k| k.mr))
            };
        }
        below = mr;
    }
    (below == 1).then_some(selection)
}

impl Selection {
    /// Slices of most groups.
    #[must_use]
    pub fn usual(&self) -> usize {
        self.usual
    }

    /// The tile heights, highest first.
    pub fn heights(&self) -> impl Iterator<Item = usize> {
        self.heights.into_iter().take_while(|&mr| mr > 0)
    }

    /// The height of the next tile when `rows` rows are left: the highest that has no idle row.
    #[must_use]
    pub fn height(&self, rows: usize) -> usize {
        self.heights().find(|&mr| mr <= rows).unwrap_or(1)
    }

    /// The tiles that `m` rows are cut into, as (first row, height).
    pub fn tiles(&self, m: usize) -> impl Iterator<Item = (usize, usize)> {
        let mut first = 0;
        core::iter::from_fn(move || {
            let height = (first < m).then(|| self.height(m - first))?;
            first += height;
            Some((first - height, height))
        })
    }

    /// The same tiles as (height, how many), highest first.
    pub fn tile_counts(&self, m: usize) -> impl Iterator<Item = (usize, usize)> {
        let mut left = m;
        self.heights().filter_map(move |height| {
            let count = left / height;
            left %= height;
            (count > 0).then_some((height, count))
        })
    }

    fn index(&self, height: usize) -> usize {
        let index = self.heights.iter().position(|&mr| mr == height);
        index.expect("a height of this selection")
    }

    /// The kernel for a tile of this height whose group has so many slices.
    #[must_use]
    pub fn kernel(&self, height: usize, slices: usize) -> &'static Kernel {
        self.kernels[self.index(height)][slices].expect("every height has a kernel for every slice count of its mode")
    }

    /// All kernels for tiles of this height, by slice count.
    pub fn kernels(&self, height: usize) -> impl Iterator<Item = (usize, &'static Kernel)> {
        let row = self.kernels[self.index(height)];
        row.into_iter().enumerate().filter_map(|(slices, k)| Some((slices, k?)))
    }

    /// Whether the kernels for tiles of this height take a group of a run of panels together.
    #[must_use]
    pub fn runs(&self, height: usize) -> bool {
        self.kernel(height, self.usual).lhs > 1
    }

    /// Lhs rows of the kernel by slice count, for tiles of this height.
    #[must_use]
    pub fn lhs_rows(&self, height: usize) -> [usize; MAX_SLICES + 1] {
        self.kernels[self.index(height)].map(|k| k.map_or(0, |k| k.mr * k.slices))
    }

    /// Notes calls of the kernel for tiles of this height and slice count.
    pub fn count(&self, tally: &mut Tally, height: usize, slices: usize, calls: usize) {
        tally.0[self.index(height)][slices] += calls;
    }

    /// Adds what was noted to the kernels' counts and forgets it.
    pub fn record(&self, tally: &mut Tally) {
        for (calls, kernels) in tally.0.iter().flatten().zip(self.kernels.iter().flatten()) {
            if let (Some(kernel), 1..) = (kernels, *calls) {
                kernel.count(*calls);
            }
        }
        *tally = Tally::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn what_was_chosen_before_is_what_would_be_chosen() {
        let what = |selection: Selection| -> Vec<_> {
            let kernels = |height| selection.kernels(height).map(|(slices, k)| (slices, k.name()));
            selection
                .heights()
                .flat_map(move |h| kernels(h).map(move |k| (h, k)).collect::<Vec<_>>())
                .collect()
        };
        let scale = 1.0;
        let given = Mode::A8Static { scale, saturate: true };
        let mut found = 0;
        for _ in 0..2 {
            for kernel in catalogue::kernels() {
                for mode in [Mode::A8, Mode::A16, Mode::Exact, given] {
                    let [chosen, choice] = [
                        chosen(kernel.isa, kernel.layout, mode),
                        choose(kernel.isa, kernel.layout, mode, |_| false),
                    ]
                    .map(|selection| selection.map(what));
                    assert_eq!(chosen, choice, "{} {mode:?}", kernel.name());
                    found += usize::from(chosen.is_some());
                }
            }
        }
        assert!(found > 100);
    }
}
