//! Which kernels a product takes: a pure function of the tier, the layout of the weights and the mode.
#![forbid(unsafe_code)]

use crate::base::error::{Error, Result};
use crate::kernel::Kernel;
use crate::kernel::catalogue;
use crate::pack::activations::MAX_SLICES;
use crate::pack::layout::PanelLayout;
use crate::quant::input::Mode;
use crate::simd::cpu::Isa;
use alloc::format;

/// Most tile heights of a tier.
const MAX_HEIGHTS: usize = 8;

/// The kernels of one product, by tile height and slice count.
#[derive(Debug, Clone, Copy)]
pub struct Selection {
    heights: [usize; MAX_HEIGHTS],
    kernels: [[Option<&'static Kernel>; MAX_SLICES + 1]; MAX_HEIGHTS],
}

/// Chooses kernels for the mode on weights of this layout.
///
/// The tile heights are those of the mode's usual slice count (1 for 8-bit activations, 2 for `a16`, 3 for `exact`). A
/// tile whose group needs another count is cut into the highest sub-tiles that divide it.
///
/// # Errors
/// [`Error::Unsupported`] when the tier has no kernels for the layout or this CPU lacks the tier.
pub fn select(isa: Isa, layout: PanelLayout, mode: Mode) -> Result<Selection> {
    if !isa.supported() {
        return Err(Error::unsupported("isa", "a tier of this CPU", isa.name()));
    }
    let matching =
        |slices: usize| catalogue::kernels().filter(move |k| k.isa == isa && k.layout == layout && k.slices == slices);
    let (usual, counts) = match mode {
        Mode::A16 => (2, 2..=2),
        Mode::Exact => (3, 1..=MAX_SLICES),
        _ => (1, 1..=1),
    };
    let mut selection = Selection {
        heights: [0; MAX_HEIGHTS],
        kernels: [[None; MAX_SLICES + 1]; MAX_HEIGHTS],
    };
    let mut below = usize::MAX;
    for i in 0..MAX_HEIGHTS {
        let Some(mr) = matching(usual).map(|k| k.mr).filter(|&mr| mr < below).max() else {
            break;
        };
        selection.heights[i] = mr;
        for slices in counts.clone() {
            let divides = matching(slices).filter(|k| mr % k.mr == 0);
            selection.kernels[i][slices] = divides.max_by_key(|k| k.mr);
        }
        below = mr;
    }
    if below != 1 {
        let found = format!("{}-bit weights packed for {} lanes", layout.bits, layout.lanes);
        return Err(Error::unsupported(
            "isa",
            format!("weights packed for tier {isa}"),
            found,
        ));
    }
    Ok(selection)
}

impl Selection {
    /// The height of the next tile when `rows` rows are left: the highest that has no idle row.
    #[must_use]
    pub fn height(&self, rows: usize) -> usize {
        self.heights
            .iter()
            .copied()
            .find(|&mr| mr > 0 && mr <= rows)
            .unwrap_or(1)
    }

    /// The kernel for a tile of this height whose group has so many slices.
    #[must_use]
    pub fn kernel(&self, height: usize, slices: usize) -> &'static Kernel {
        let i = self
            .heights
            .iter()
            .position(|&mr| mr == height)
            .expect("a height of this selection");
        self.kernels[i][slices].expect("every height has a kernel for every slice count of its mode")
    }

    /// Rows of a sub-tile by slice count, for tiles of this height.
    #[must_use]
    pub fn sub_rows(&self, height: usize) -> [usize; MAX_SLICES + 1] {
        let i = self
            .heights
            .iter()
            .position(|&mr| mr == height)
            .expect("a height of this selection");
        self.kernels[i].map(|k| k.map_or(0, |k| k.mr))
    }
}
