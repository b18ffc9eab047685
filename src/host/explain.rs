//! Why a product runs as it does: the tier, the tiles and kernels, and what speaks against the others.
#![forbid(unsafe_code)]

use crate::host::walk::rectangle;
use crate::host::width::Width;
use crate::kernel::select::{Selection, choose, slice_counts, usual};
use crate::kernel::{Kernel, catalogue};
use crate::pack::layout::WeightLayout;
use crate::pack::weights::PackedWeights;
use crate::quant::input::Mode;
use crate::simd::cpu::Isa;
use alloc::vec::Vec;
use core::fmt;

/// Who chose a tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Choice {
    /// It is the fastest that this CPU has.
    Fastest,
    /// It is the fastest that the environment variable `MIXGEMM_ISA` allows.
    Capped,
    /// The caller named it.
    Asked,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fastest => "the fastest of this CPU",
            Self::Capped => "capped by MIXGEMM_ISA",
            Self::Asked => "asked for",
        })
    }
}

/// Tiles of one height.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tiles {
    /// Rows of a tile.
    pub height: usize,
    /// How many there are.
    pub count: usize,
}

/// What happens to the groups of one slice count in tiles of one height.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Taken {
    /// Rows of the tile; a lower kernel runs once for each sub-tile of its own height.
    pub height: usize,
    /// Activation slices of the group. In mode `exact` they depend on its inputs.
    pub slices: usize,
    /// The kernel.
    pub kernel: &'static Kernel,
    /// How its sums are put together.
    pub width: Width,
}

impl Taken {
    /// Calls of the kernel for one tile and group.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.height * self.slices / (self.kernel.mr * self.kernel.slices)
    }
}

/// Why a row of the catalogue that reads the same weights is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// It belongs to another tier.
    OtherTier,
    /// This CPU lacks what it needs beyond its tier.
    Unsupported,
    /// The mode has no groups of so many slices.
    OtherSlices,
    /// The caller preferred other rows.
    NotPreferred,
    /// Another rule is faster here, so it is taken only where the caller prefers it and it fits.
    OnRequest,
    /// So many rows of activations were left when its turn came, fewer than it has.
    TooHigh {
        /// Rows left.
        left: usize,
    },
    /// No tile's height is a multiple of its own.
    NoMultiple,
    /// A higher row divides the tiles too.
    Lower,
}

/// What a [`Plan`](crate::Plan) does with M rows, and why.
///
/// ```
/// use mixgemm::{Host, Mat, Mode, QuantMatrix, Scheme};
/// let w = QuantMatrix::quantize(Mat::from_fn(64, 256, |n, k| (n * k % 7) as f32).view(), Scheme::int(4).group(32))?;
/// let gemm = Host::new().prepare(&w)?;
/// let explanation = gemm.plan(Mode::A16)?.explain(29);
/// assert_eq!(explanation.tiles.iter().map(|t| t.height * t.count).sum::<usize>(), 29);
/// println!("{explanation}");
/// # Ok::<(), mixgemm::Error>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Explanation {
    /// The tier.
    pub isa: Isa,
    /// Who chose it.
    pub choice: Choice,
    /// How activations become integers.
    pub mode: Mode,
    /// Rows of activations.
    pub m: usize,
    /// Length of K.
    pub k: usize,
    /// Weights that share a scale.
    pub group: usize,
    /// How the weights lie in memory.
    pub layout: WeightLayout,
    /// The tiles of M, highest first.
    pub tiles: Vec<Tiles>,
    /// The kernels, by tile height and slice count.
    pub taken: Vec<Taken>,
    /// All other rows of the catalogue that read these weights.
    pub passed_over: Vec<(&'static Kernel, Reason)>,
    /// Strips of columns that a kernel takes at once, the last of which may be narrower.
    pub panels: usize,
    /// Threads that work.
    pub threads: usize,
    /// Rectangles of the output that threads claim one by one.
    pub rectangles: usize,
}

/// Everything that a plan knows.
pub(super) struct Facts<'a> {
    pub(super) weights: &'a PackedWeights,
    pub(super) selection: &'a Selection,
    pub(super) isa: Isa,
    pub(super) choice: Choice,
    pub(super) mode: Mode,
    pub(super) threads: usize,
}

impl Explanation {
    /// Explains a product with `m` rows.
    pub(super) fn new(facts: &Facts<'_>, m: usize) -> Self {
        let &Facts {
            weights,
            selection,
            isa,
            choice,
            mode,
            threads,
        } = facts;
        let layout = weights.layout();
        let tiles = selection.tile_counts(m).map(|(height, count)| Tiles { height, count });
        let tiles: Vec<Tiles> = tiles.collect();
        let mut taken = Vec::new();
        for &Tiles { height, .. } in &tiles {
            taken.extend(selection.kernels(height).map(|(slices, kernel)| {
                let width = Width::of(weights.group(), weights.scheme().span(), slices);
                // Where kernels fold, those for three slices take the fourth along.
                let folds_four = slices == 4 && width == Width::Narrow;
                Taken {
                    height,
                    slices,
                    kernel: if folds_four {
                        selection.kernel(height, 3)
                    } else {
                        kernel
                    },
                    width,
                }
            }));
        }
        let count = tiles.iter().map(|t| t.count).sum();
        let (rows, cols) = rectangle(layout, selection, (m, count), threads);
        let mut explanation = Self {
            isa,
            choice,
            mode,
            m,
            k: weights.k(),
            group: weights.group(),
            layout: *layout,
            tiles,
            taken,
            passed_over: Vec::new(),
            panels: layout.panels(),
            threads,
            rectangles: if m == 0 {
                0
            } else {
                m.div_ceil(rows) * weights.n().div_ceil(cols)
            },
        };
        let free = choose(isa, layout.panel, mode, |_| false);
        let others = catalogue::kernels().filter(|k| k.layout == layout.panel && !explanation.takes(k));
        explanation.passed_over = others
            .map(|k| (k, explanation.reason(k, selection, free.as_ref())))
            .collect();
        explanation
    }

    /// Whether the product may call this kernel.
    #[must_use]
    pub fn takes(&self, kernel: &Kernel) -> bool {
        self.taken.iter().any(|t| core::ptr::eq(t.kernel, kernel))
    }

    /// Why this row is not used. `free` is what the tier would choose without preferences.
    fn reason(&self, kernel: &'static Kernel, selection: &Selection, free: Option<&Selection>) -> Reason {
        let (usual_slices, counts) = slice_counts(self.mode);
        if kernel.isa != self.isa {
            return Reason::OtherTier;
        }
        if !counts.contains(&kernel.slices) {
            return Reason::OtherSlices;
        }
        if !kernel.supported() {
            return Reason::Unsupported;
        }
        if !usual(kernel) {
            return Reason::OnRequest;
        }
        let would_take = |free: &Selection| {
            let mut tiles = free.tile_counts(self.m);
            tiles.any(|(height, _)| core::ptr::eq(free.kernel(height, kernel.slices), kernel))
        };
        if free.is_some_and(would_take) {
            return Reason::NotPreferred;
        }
        let higher = |height: usize| self.tiles.iter().filter(move |t| t.height > height);
        let left = |height: usize| self.m - higher(height).map(|t| t.height * t.count).sum::<usize>();
        if kernel.slices == usual_slices {
            let left = left(kernel.mr);
            return if left < kernel.mr {
                Reason::TooHigh { left }
            } else {
                Reason::NotPreferred
            };
        }
        let rival = |height: usize| selection.kernel(height, kernel.slices);
        if let Some(height) = selection.heights().filter(|&h| core::ptr::eq(rival(h), kernel)).last() {
            return Reason::TooHigh { left: left(height) };
        }
        let mut rivals = selection.heights().filter(|h| h % kernel.mr == 0).map(rival);
        match rivals.next() {
            None => Reason::NoMultiple,
            Some(first) if first.mr > kernel.mr && rivals.all(|rival| rival.mr > kernel.mr) => Reason::Lower,
            Some(_) => Reason::NotPreferred,
        }
    }
}

fn plural(count: usize, what: &str) -> impl fmt::Display {
    let ending = if count == 1 { "" } else { "s" };
    alloc::format!("{count} {what}{ending}")
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let panel = self.layout.panel;
        writeln!(f, "Tier {}: {}.", self.isa, self.choice)?;
        writeln!(
            f,
            "Weights [{}, {}]: {}{}, groups of {}, in {} of {} columns, units of {} k.",
            self.layout.n,
            self.k,
            plural(panel.bits.into(), "bit"),
            if panel.book { " of a book" } else { "" },
            self.group,
            plural(self.panels, "panel"),
            panel.nr(),
            crate::pack::layout::unit(panel.bits),
        )?;
        writeln!(
            f,
            "Mode {}, M = {}: {} on {}.",
            self.mode.name(),
            self.m,
            plural(self.rectangles, "rectangle"),
            plural(self.threads, "thread"),
        )?;
        for tiles in &self.tiles {
            writeln!(f, "{} of {}:", plural(tiles.count, "tile"), plural(tiles.height, "row"))?;
            for taken in self.taken.iter().filter(|t| t.height == tiles.height) {
                let width = match taken.width {
                    Width::Narrow => "folded in 32 bits",
                    Width::Wide => "folded in f64",
                    Width::Raw => "raw sums, folded outside",
                };
                write!(
                    f,
                    "  {}: {}, {width}",
                    plural(taken.slices, "slice"),
                    taken.kernel.name()
                )?;
                match taken.calls() {
                    1 => writeln!(f)?,
                    times => writeln!(f, ", {times} times a tile")?,
                }
            }
        }
        let count = |reason| self.passed_over.iter().filter(|(_, r)| *r == reason).count();
        writeln!(
            f,
            "Not taken: {} of other tiers, {} of other slice counts.",
            plural(count(Reason::OtherTier), "row"),
            count(Reason::OtherSlices),
        )?;
        for (kernel, reason) in &self.passed_over {
            match reason {
                Reason::OtherTier | Reason::OtherSlices => continue,
                Reason::Unsupported => writeln!(f, "  {}: not on this CPU", kernel.name())?,
                Reason::NotPreferred => writeln!(f, "  {}: other rows are preferred", kernel.name())?,
                Reason::OnRequest => writeln!(f, "  {}: other rules are faster here", kernel.name())?,
                Reason::TooHigh { left: 0 } => writeln!(f, "  {}: higher tiles take all rows", kernel.name())?,
                Reason::TooHigh { left } => writeln!(f, "  {}: only {} left", kernel.name(), plural(*left, "row"))?,
                Reason::NoMultiple => writeln!(
                    f,
                    "  {}: no tile of this product has a multiple of its rows",
                    kernel.name()
                )?,
                Reason::Lower => writeln!(f, "  {}: a higher one divides the tiles", kernel.name())?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::disjoint::TileGrid;
    use crate::base::mat::Mat;
    use crate::host::Host;
    use crate::quant::matrix::QuantMatrix;
    use crate::quant::scheme::Scheme;

    #[test]
    fn rectangles_are_those_that_threads_claim() {
        for (m, n, threads) in [(1, 100, 1), (1, 300, 2), (13, 33, 1), (50, 65, 3), (96, 31, 4)] {
            let w = Mat::from_fn(n, 32, |n, k| (n * k % 7) as f32);
            let w = QuantMatrix::quantize(w.view(), Scheme::int(4)).unwrap();
            let gemm = Host::new().prepare(&w).unwrap();
            let plan = gemm.plan(Mode::A8).unwrap();
            let selection = choose(gemm.isa, gemm.weights.layout().panel, Mode::A8, |_| false).unwrap();
            let facts = Facts {
                weights: &gemm.weights,
                selection: &selection,
                isa: gemm.isa,
                choice: Choice::Fastest,
                mode: Mode::A8,
                threads,
            };
            let explanation = Explanation::new(&facts, m);
            let tiles = selection.tiles(m).count();
            let (rows, cols) = rectangle(gemm.weights.layout(), &selection, (m, tiles), threads);
            let mut y = Mat::<f32>::zeros(m, n);
            let grid = TileGrid::new(y.view_mut(), rows, cols);
            let claimed = core::iter::from_fn(|| grid.next()).count();
            assert_eq!(explanation.rectangles, claimed, "{m} x {n} on {threads}");
            assert_eq!(plan.explain(0).rectangles, 0);
        }
    }
}
