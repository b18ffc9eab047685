//! Packed weights hold every code, scale and zero point, in as many bytes as their layout says, for any number of lanes.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use mixgemm::pack::layout::{PanelLayout, WeightLayout, ZeroLayout, blocks, unit};
use mixgemm::pack::weights::PackedWeights;
use mixgemm::{QuantMatrix, ScaleType, Zeros};
use mixgemm_fuzz::weights::Weights;
use mixgemm_fuzz::words::{seldom, up_to};

#[derive(Debug, Arbitrary)]
struct Case {
    #[arbitrary(with = up_to::<150>)]
    n: usize,
    #[arbitrary(with = up_to::<319>)]
    k: usize,
    /// 0 and more than 64 are refused.
    #[arbitrary(with = up_to::<66>)]
    lanes: usize,
    /// Added to the layout's bits, which are then another width's.
    #[arbitrary(with = seldom)]
    other_bits: Option<u8>,
    weights: Weights,
}

/// The zero points' layout as its documentation chooses it.
fn zero_layout(zeros: &Zeros) -> ZeroLayout {
    match zeros {
        Zeros::Symmetric => ZeroLayout::None,
        Zeros::Float(_) => ZeroLayout::Float,
        Zeros::Integer(z) if z.iter().all(|&z| z < 16) => ZeroLayout::Nibble,
        Zeros::Integer(z) if z.iter().all(|&z| z < 256) => ZeroLayout::Byte,
        Zeros::Integer(_) => ZeroLayout::Word,
    }
}

/// The bytes of all panels, added up from the picture at the top of the layout's documentation.
fn bytes(w: &QuantMatrix, layout: &WeightLayout) -> usize {
    let (lanes, bits) = (layout.panel.lanes, w.scheme().bits);
    let scale = match w.scheme().scale {
        ScaleType::F32 => 4 * lanes,
        ScaleType::F16 | ScaleType::Bf16 => 2 * lanes,
    };
    let zero = match layout.zero {
        ZeroLayout::None => 0,
        ZeroLayout::Nibble => lanes.div_ceil(2),
        ZeroLayout::Byte => lanes,
        ZeroLayout::Word => 2 * lanes,
        ZeroLayout::Float => scale,
    };
    let codes = |g: usize| w.group_range(g).len().div_ceil(unit(bits)) * blocks(bits) * 4 * lanes;
    let zeros = (w.groups() * 2 * zero).next_multiple_of(64);
    let records: usize = (0..w.groups()).map(|g| 2 * (scale + codes(g))).sum();
    w.n().div_ceil(2 * lanes) * (zeros + records).next_multiple_of(64)
}

fn check(w: &QuantMatrix, packed: &PackedWeights) {
    let layout = packed.layout();
    assert_eq!((packed.n(), packed.k(), packed.scheme()), (w.n(), w.k(), w.scheme()));
    assert_eq!(layout.zero, zero_layout(w.zeros()));
    assert_eq!((packed.bytes(), layout.bytes()), (bytes(w, layout), bytes(w, layout)));
    let panels = (0..layout.panels()).map(|p| packed.panels(p..p + 1).len());
    assert_eq!(panels.sum::<usize>(), packed.bytes(), "panels are all there is");
    for n in 0..w.n() {
        for (k, &code) in w.code_row(n).iter().enumerate() {
            assert_eq!(packed.code(n, k), code, "code at ({n}, {k})");
        }
        for g in 0..w.groups() {
            let bits = |scale: f32, zero: f32, int: i32, fraction: f32| {
                (scale.to_bits(), zero.to_bits(), int, fraction.to_bits())
            };
            assert_eq!(
                bits(
                    packed.scale(n, g),
                    packed.zero(n, g),
                    packed.zero_int(n, g),
                    packed.zero_fraction(n, g)
                ),
                bits(w.scale(n, g), w.zero(n, g), w.zero_int(n, g), w.zero_fraction(n, g)),
                "group ({n}, {g})"
            );
        }
    }
}

fuzz_target!(|case: Case| {
    // A long row or many rows, not both.
    let n = if case.k > 64 { case.n % 40 } else { case.n };
    let Some(w) = case.weights.matrix(n, case.k) else {
        return;
    };
    let bits = w.scheme().bits.wrapping_add(case.other_bits.unwrap_or(0));
    let packed = PackedWeights::pack(
        &w,
        PanelLayout {
            lanes: case.lanes,
            bits,
            book: w.scheme().book.is_some(),
        },
    );
    let fits = (1..=64).contains(&case.lanes) && bits == w.scheme().bits;
    assert_eq!(packed.is_ok(), fits, "{} lanes, {bits} bits", case.lanes);
    if let Ok(packed) = packed {
        check(&w, &packed);
    }
});
