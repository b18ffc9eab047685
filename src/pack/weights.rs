//! Weights in panels: packing, and reading single weights back.
#![forbid(unsafe_code)]

use crate::base::buffer::{AlignedBuf, Task};
use crate::base::error::{Error, Result};
#[cfg(feature = "pack-file")]
use crate::base::map::Map;
use crate::pack::layout::{PANEL_VECTORS, PanelLayout, WeightLayout, ZeroLayout, digits, unit};
#[cfg(feature = "pack-file")]
use crate::pack::page::PAGE;
use crate::pack::panel::write_panel;
use crate::quant::matrix::{QuantMatrix, Zeros, split_float_zero};
use crate::quant::scheme::{ScaleType, Scheme};
use alloc::format;
#[cfg(feature = "pack-file")]
use alloc::sync::Arc;
use core::ops::Deref;
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};
use half::{bf16, f16};

/// Packed weights; the source may be dropped.
#[derive(Debug, Clone)]
pub struct PackedWeights {
    layout: WeightLayout,
    scheme: Scheme,
    k: usize,
    group: usize,
    bytes: Bytes,
}

/// Where the panels are.
#[derive(Debug, Clone)]
pub(super) enum Bytes {
    /// In memory of their own.
    Owned(AlignedBuf),
    /// In a file, after its first page.
    #[cfg(feature = "pack-file")]
    Mapped(Arc<Map>),
}

impl Deref for Bytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            #[cfg(feature = "pack-file")]
            Self::Mapped(map) => &map[PAGE..],
        }
    }
}

impl PackedWeights {
    /// Packs a matrix.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when the layout is for another width or for plain codes instead of a book's, or the reverse;
    /// [`Error::Shape`] when the size overflows.
    pub fn pack(weights: &QuantMatrix, panel: PanelLayout) -> Result<Self> {
        Self::pack_on(weights, panel, &|_, task| task(0), &|_, _| {})
    }

    /// As [`PackedWeights::pack`], panel by panel on as many threads as `run` calls its task on: it is given the number of
    /// panels, the most tasks that are of use. `progress` is told from any of them after each panel how many are done,
    /// and how many there are.
    ///
    /// # Errors
    /// As [`PackedWeights::pack`].
    pub fn pack_on(
        weights: &QuantMatrix,
        panel: PanelLayout,
        run: &dyn Fn(usize, &Task<'_>),
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Self> {
        let (scheme, n, k) = (*weights.scheme(), weights.n(), weights.k());
        if panel.bits != scheme.bits {
            let expected = format!("{}-bit codes, as the layout holds", panel.bits);
            return Err(Error::unsupported("bits", expected, format!("{}", scheme.bits)));
        }
        if panel.book != scheme.book.is_some() {
            let name = |book| if book { "codes of a book" } else { "plain codes" };
            return Err(Error::unsupported(
                "book",
                name(panel.book),
                name(scheme.book.is_some()),
            ));
        }
        let layout = layout_of(&scheme, (n, k), panel, zero_layout(weights.zeros()))?;
        let done = AtomicUsize::new(0);
        let bytes = AlignedBuf::in_parts((layout.panels(), layout.panel_bytes()), run, &|p, bytes| {
            write_panel(weights, &layout, p, bytes);
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, layout.panels());
        })?;
        Ok(Self::from_bytes(layout, scheme, k, Bytes::Owned(bytes)))
    }

    /// Weights whose panels are there.
    pub(super) fn from_bytes(layout: WeightLayout, scheme: Scheme, k: usize, bytes: Bytes) -> Self {
        Self {
            layout,
            scheme,
            k,
            group: scheme.group_length(k),
            bytes,
        }
    }

    /// The code of output channel `n`, input channel `k`.
    #[must_use]
    pub fn code(&self, n: usize, k: usize) -> u8 {
        let at = self.layout.place(n);
        let (g, kk) = (k / self.group, k % self.group);
        let bits = self.layout.panel.bits;
        let (u, quad, i) = (kk / unit(bits), kk % unit(bits) / 4, kk % 4);
        let from = at.codes(&self.layout, g, u);
        digits(bits).iter().take_while(|d| d.width > 0).fold(0, |code, d| {
            let per_block = 8 / usize::from(d.width);
            let byte = self.bytes[from + (d.block + quad / per_block) * self.layout.panel.block_bytes() + i];
            let digit = (byte >> (quad % per_block * usize::from(d.width))) & ((1u32 << d.width) - 1) as u8;
            code | digit << d.position
        })
    }

    /// The scale of output channel `n`, group `g`.
    #[must_use]
    pub fn scale(&self, n: usize, g: usize) -> f32 {
        read_float(
            self.layout.scale,
            &self.bytes[self.layout.place(n).scale(&self.layout, g)..],
        )
    }

    /// The zero point of output channel `n`, group `g`, as [`QuantMatrix::zero`] gives it.
    #[must_use]
    pub fn zero(&self, n: usize, g: usize) -> f32 {
        let at = self.layout.place(n);
        let bytes = &self.bytes[at.zeros(&self.layout, g)..];
        match self.layout.zero {
            ZeroLayout::None if self.scheme.is_sign_only() => 0.5,
            ZeroLayout::None => f32::from(self.scheme.symmetric_zero()),
            ZeroLayout::Nibble => f32::from(bytes[at.lane / 2] >> (4 * (at.lane % 2)) & 15),
            ZeroLayout::Byte => f32::from(bytes[at.lane]),
            ZeroLayout::Word => f32::from(u16::from_le_bytes([bytes[2 * at.lane], bytes[2 * at.lane + 1]])),
            ZeroLayout::Float => read_float(self.layout.scale, &bytes[at.lane * self.layout.scale.bytes()..]),
        }
    }

    /// The integer zero point of output channel `n`, group `g`, as [`QuantMatrix::zero_int`] gives it.
    #[must_use]
    pub fn zero_int(&self, n: usize, g: usize) -> i32 {
        match self.layout.zero {
            ZeroLayout::None => i32::from(self.scheme.symmetric_zero()),
            ZeroLayout::Float => split_float_zero(self.zero(n, g), self.scheme.bits).0,
            _ => self.zero(n, g) as i32,
        }
    }

    /// The fractional part of a float zero point, as [`QuantMatrix::zero_fraction`] gives it.
    #[must_use]
    pub fn zero_fraction(&self, n: usize, g: usize) -> f32 {
        match self.layout.zero {
            ZeroLayout::Float => split_float_zero(self.zero(n, g), self.scheme.bits).1,
            _ => 0.0,
        }
    }

    /// The layout.
    #[must_use]
    pub fn layout(&self) -> &WeightLayout {
        &self.layout
    }

    /// The scheme of the source.
    #[must_use]
    pub fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    /// Output channels.
    #[must_use]
    pub fn n(&self) -> usize {
        self.layout.n
    }

    /// Input channels.
    #[must_use]
    pub fn k(&self) -> usize {
        self.k
    }

    /// Input channels in a full group.
    #[must_use]
    pub fn group(&self) -> usize {
        self.group
    }

    /// The bytes of neighbouring panels.
    #[must_use]
    pub fn panels(&self, panels: Range<usize>) -> &[u8] {
        let bytes = self.layout.panel_bytes();
        &self.bytes[panels.start * bytes..panels.end * bytes]
    }

    /// Bytes of all panels, padding included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Packed bits per weight, padding included; 0 for an empty matrix.
    #[must_use]
    pub fn bits_per_weight(&self) -> f64 {
        let weights = self.layout.n * self.k;
        if weights == 0 {
            0.0
        } else {
            self.bytes.len() as f64 * 8.0 / weights as f64
        }
    }
}

/// The layout of weights of a scheme, N × K.
pub(super) fn layout_of(
    scheme: &Scheme,
    (n, k): (usize, usize),
    panel: PanelLayout,
    zero: ZeroLayout,
) -> Result<WeightLayout> {
    if !(1..=64).contains(&panel.lanes) {
        return Err(Error::unsupported(
            "layout",
            "1 to 64 lanes",
            format!("{}", panel.lanes),
        ));
    }
    // Padding at most quadruples a group (unit 32 for a group of 1) and scales add at most 4 bytes a weight.
    if n.checked_add(panel.nr())
        .and_then(|n| n.checked_mul(k))
        .and_then(|x| x.checked_mul(64))
        .is_none()
    {
        return Err(Error::shape(
            "weights",
            "a packed size that fits usize",
            format!("{n} x {k}"),
        ));
    }
    let (group, groups) = (scheme.group_length(k), scheme.groups(k));
    let last = k - group * groups.saturating_sub(1);
    Ok(WeightLayout {
        panel,
        scale: scheme.scale,
        zero,
        n,
        groups,
        units: group.div_ceil(unit(panel.bits)),
        last_units: last.div_ceil(unit(panel.bits)),
    })
}

const _: () = assert!(PANEL_VECTORS == 2, "a panel is a pair of vectors");

fn zero_layout(zeros: &Zeros) -> ZeroLayout {
    match zeros {
        Zeros::Symmetric => ZeroLayout::None,
        Zeros::Float(_) => ZeroLayout::Float,
        Zeros::Integer(z) => match z.iter().fold(0, |most, &z| most.max(z)) {
            0..=15 => ZeroLayout::Nibble,
            16..=255 => ZeroLayout::Byte,
            _ => ZeroLayout::Word,
        },
    }
}

fn read_float(scale: ScaleType, from: &[u8]) -> f32 {
    match scale {
        ScaleType::F32 => f32::from_le_bytes([from[0], from[1], from[2], from[3]]),
        ScaleType::F16 => f16::from_le_bytes([from[0], from[1]]).to_f32(),
        ScaleType::Bf16 => f32::from(bf16::from_le_bytes([from[0], from[1]])),
    }
}
