//! Writing one panel: the layout's picture, from rows of codes, scales and zero points.
#![forbid(unsafe_code)]

use crate::pack::columns::{Args, Columns};
use crate::pack::layout::{PANEL_VECTORS, WeightLayout, ZeroLayout};
use crate::quant::matrix::{Floats, QuantMatrix, Zeros};
use crate::simd;
use crate::simd::cpu::Isa;
use alloc::borrow::Cow;
use alloc::vec;
use core::ops::Range;
use half::{bf16, f16};

/// Writes panel `p` into its bytes, which are zero.
pub(super) fn write_panel(weights: &QuantMatrix, layout: &WeightLayout, p: usize, panel: &mut [u8]) {
    let nr = layout.panel.nr();
    let columns = p * nr..((p + 1) * nr).min(layout.n);
    let (scales, zeros) = (
        (layout.first_record(), layout.record_bytes()),
        (0, PANEL_VECTORS * layout.zero_bytes()),
    );
    let place = |to| Values {
        layout,
        columns: columns.clone(),
        to,
    };
    place(scales).floats(weights.scales(), panel);
    match weights.zeros() {
        Zeros::Symmetric => {}
        Zeros::Float(z) => place(zeros).floats(z, panel),
        Zeros::Integer(z) => match layout.zero {
            ZeroLayout::Nibble => place(zeros).nibbles(z, panel),
            ZeroLayout::Byte => place(zeros).write(z, panel, |z| [z as u8]),
            _ => place(zeros).write(z, panel, u16::to_le_bytes),
        },
    }
    let mut codes = Args {
        weights,
        layout,
        columns,
        panel,
    };
    simd::run::<Columns>(Isa::best(None), &mut codes);
}

/// Where the scales or zero points of a panel go.
struct Values<'a> {
    layout: &'a WeightLayout,
    columns: Range<usize>,
    /// Offset of those of the first group, and from each group to the next.
    to: (usize, usize),
}

impl Values<'_> {
    /// The columns' values, group by group in each. A single value serves all.
    fn of<'v, T: Copy>(&self, values: &'v [T]) -> Cow<'v, [T]> {
        let (groups, columns) = (self.layout.groups, self.columns.clone());
        match values {
            [one] => Cow::Owned(vec![*one; columns.len() * groups]),
            _ => Cow::Borrowed(&values[columns.start * groups..columns.end * groups]),
        }
    }

    /// Writes floats side by side.
    fn floats(&self, values: &Floats, panel: &mut [u8]) {
        match values {
            Floats::F32(v) => self.write(v, panel, f32::to_le_bytes),
            Floats::F16(v) => self.write(v, panel, f16::to_le_bytes),
            Floats::Bf16(v) => self.write(v, panel, bf16::to_le_bytes),
        }
    }

    /// Writes values side by side.
    #[inline(always)]
    fn write<T: Copy, const B: usize>(&self, values: &[T], panel: &mut [u8], bytes: impl Fn(T) -> [u8; B]) {
        let (values, groups) = (self.of(values), self.layout.groups);
        for g in 0..groups {
            let to = panel[self.to.0 + g * self.to.1..].as_chunks_mut::<B>().0;
            for (to, &value) in to.iter_mut().zip(values.iter().skip(g).step_by(groups)) {
                *to = bytes(value);
            }
        }
    }

    /// Writes values below 16, two to a byte. Either vector of the panel begins with a byte of its own.
    fn nibbles(&self, values: &[u16], panel: &mut [u8]) {
        let (values, groups) = (self.of(values), self.layout.groups);
        for g in 0..groups {
            let to = panel[self.to.0 + g * self.to.1..].chunks_exact_mut(self.layout.zero_bytes());
            for (vector, to) in values.chunks(groups * self.layout.panel.lanes).zip(to) {
                let mut lanes = vector.iter().skip(g).step_by(groups);
                for to in to {
                    let [low, high] = [(); 2].map(|()| lanes.next().map_or(0, |&z| z as u8));
                    *to = low | high << 4;
                }
            }
        }
    }
}
