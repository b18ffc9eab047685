//! Every row of the catalogue that this CPU can run, called directly on packed operands, against the reference.
#![forbid(unsafe_code)]
#![cfg(feature = "testing")]

use mixgemm::kernel::{Family, Kernel, catalogue};
use mixgemm::pack::layout::{PanelLayout, ZeroLayout};
use mixgemm::quant::sums::GroupSums;
use mixgemm::testing::{
    BOOKS, Draw, Inputs, KernelCase, STATIC, exact_slices, for_each_kernel, weights, weights_with_zeros,
};
use mixgemm::{Activations, Isa, Mat, Mode, QuantMatrix, ScaleType, Scheme, ZeroPoint, reference};
use std::collections::BTreeSet;

/// Activations for a kernel of this many slices, and the modes that use it.
fn with_inputs(draw: &mut Draw, kernel: &Kernel, k: usize, group: usize, mut f: impl FnMut(Mode, Activations<'_>)) {
    let inputs = Inputs::new(draw, kernel.mr, k);
    let exact = exact_slices(draw, kernel.slices, kernel.mr, k, group);
    for (mode, x) in inputs.cases() {
        let slices = if mode == Mode::A16 { 2 } else { 1 };
        if mode != Mode::Exact && slices == kernel.slices {
            f(mode, x);
        }
    }
    if kernel.slices > 1 {
        f(Mode::Exact, exact.view().into());
    }
}

/// The kernel's own fold, in 32 bits or wide, continues y to the reference's bits.
fn check_fold(case: &KernelCase, w: &QuantMatrix, (mode, x): (Mode, Activations<'_>), wide: bool, what: &str) {
    let start = |r: usize, c: usize| ((r * 31 + c * 7) % 23) as f32 * 0.4 - 3.0;
    let mut y = Mat::from_fn(x.shape().0, w.n(), start);
    let mut expected = y.clone();
    reference::accumulate(w, x, mode, expected.view_mut()).unwrap();
    case.accumulate(wide, &mut y);
    for (i, (found, expected)) in y.data().iter().zip(expected.data()).enumerate() {
        let (r, c) = (i / w.n(), i % w.n());
        let same = found.to_bits() == expected.to_bits();
        assert!(same, "{what}: row {r} column {c}: {found} instead of {expected}");
    }
}

/// Kernels of three slices take groups of four along: here every other one.
fn check_apart(draw: &mut Draw, kernel: &'static Kernel, w: &QuantMatrix, group: usize) {
    let what = format!("{}, four slices, {:?}", kernel.name(), w.scheme());
    let [three, four] = [3, 4].map(|slices| exact_slices(draw, slices, kernel.mr, w.k(), group));
    for first in [0, 1] {
        let x = Mat::from_fn(kernel.mr, w.k(), |r, k| {
            let slices = if (k / group) % 2 == first { &four } else { &three };
            slices.data()[r * w.k() + k]
        });
        let case = KernelCase::new(kernel, w, x.view().into(), Mode::Exact);
        for (g, entry) in case.tile().groups.iter().enumerate() {
            assert_eq!((entry.slices, entry.apart), (3, g % 2 == first), "{what}");
        }
        check_fold(&case, w, (Mode::Exact, x.view().into()), false, &what);
    }
}

/// Integers beside the product's own: the kernel multiplies inputs cut at ±20, and what was cut off joins its sums. Every
/// other group is left as it is.
fn check_rest(draw: &mut Draw, kernel: &'static Kernel, w: &QuantMatrix, what: &str) {
    let whole = Inputs::new(draw, kernel.mr, w.k()).i8;
    let cut = Mat::from_fn(kernel.mr, w.k(), |r, k| {
        let x = whole.data()[r * w.k() + k];
        if k / w.scheme().group_length(w.k()) % 2 == 1 {
            x
        } else {
            x.clamp(-20, 20)
        }
    });
    let sums = |x: &Mat<i8>| {
        let mut sums = vec![0; kernel.mr * w.groups() * w.n()];
        let x = Activations::int8(x.view(), 0.25);
        reference::group_sums(w, x, Mode::A8Given, GroupSums::I32(&mut sums)).unwrap();
        sums
    };
    let rest: Vec<i32> = sums(&whole).iter().zip(sums(&cut)).map(|(a, b)| a - b).collect();
    assert!(rest.iter().any(|&sum| sum != 0), "{what}");
    let mut y = Mat::from_fn(kernel.mr, w.n(), |r, c| (r + c) as f32 * 0.3 - 1.0);
    let mut expected = y.clone();
    let x = Activations::int8(whole.view(), 0.25);
    reference::accumulate(w, x, Mode::A8Given, expected.view_mut()).unwrap();
    let case = KernelCase::new(kernel, w, Activations::int8(cut.view(), 0.25), Mode::A8Given);
    case.accumulate_rest(&rest, &mut y);
    let bits = |y: &Mat<f32>| y.data().iter().map(|y| y.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&y), bits(&expected), "{what}, with a rest");
}

/// Raw sums, put together and corrected, are the reference's group sums.
fn check_raw(case: &KernelCase, w: &QuantMatrix, (mode, x): (Mode, Activations<'_>), what: &str) {
    let mut expected = vec![0; x.shape().0 * w.groups() * w.n()];
    reference::group_sums(w, x, mode, GroupSums::I64(&mut expected)).unwrap();
    for (i, (found, expected)) in case.group_sums().iter().zip(&expected).enumerate() {
        let (r, g, c) = (i / w.n() / w.groups(), i / w.n() % w.groups(), i % w.n());
        assert_eq!(found, expected, "{what}: raw ({r}, {g}, {c})");
    }
}

/// Schemes of a width whose packed zero points take every layout there is for it, or those of all books.
fn schemes(PanelLayout { bits, book, .. }: PanelLayout) -> Vec<(Scheme, Option<ZeroLayout>)> {
    if book {
        return BOOKS.map(|book| (Scheme::book(book), Some(ZeroLayout::None))).to_vec();
    }
    let layouts = [
        (ZeroPoint::Symmetric, ZeroLayout::None, 1),
        (ZeroPoint::Integer, ZeroLayout::Nibble, 1),
        (ZeroPoint::Integer, ZeroLayout::Byte, 4),
        (ZeroPoint::Integer, ZeroLayout::Word, 8),
        (ZeroPoint::Float, ZeroLayout::Float, 1),
    ];
    let mut out = Vec::new();
    for scale in [ScaleType::F32, ScaleType::F16, ScaleType::Bf16] {
        for (zero, layout, least) in layouts {
            if bits >= least {
                let scheme = Scheme::int(bits).scales(scale);
                out.push((Scheme { zero, ..scheme }, Some(layout)));
            }
        }
    }
    out
}

fn matrix(draw: &mut Draw, scheme: Scheme, layout: Option<ZeroLayout>, n: usize, k: usize) -> QuantMatrix {
    let top = 1usize << scheme.bits;
    match layout {
        Some(ZeroLayout::Nibble) => {
            weights_with_zeros(draw, scheme, n, k, |i| ((i * 7 + 3) % (top + 1).min(16)) as u16)
        }
        Some(ZeroLayout::Byte) => weights_with_zeros(draw, scheme, n, k, |i| {
            if i == 0 {
                16
            } else {
                ((i * 37) % (top + 1).min(256)) as u16
            }
        }),
        Some(ZeroLayout::Word) => weights_with_zeros(draw, scheme, n, k, |i| (256 - i * 37 % 257) as u16),
        _ => weights(draw, scheme, n, k),
    }
}

#[test]
fn every_row_of_the_catalogue_gives_the_bits_of_the_reference() {
    let mut ran = BTreeSet::new();
    let mut seed = 0;
    for_each_kernel(|kernel| {
        for (i, (scheme, layout)) in schemes(kernel.layout).into_iter().enumerate() {
            seed += 1;
            let draw = &mut Draw::new(seed);
            // One or two full units and a part of one in a group; a ragged last group; a last panel that is not full.
            let group = kernel.unit + 1 + i % kernel.unit;
            let k = 2 * group + 2 + (i * 5) % (group - 2);
            let columns = [1, kernel.layout.lanes, kernel.nr() - 1, kernel.nr(), kernel.nr() + 1];
            let n = columns[seed as usize % columns.len()];
            let w = matrix(draw, scheme.group(group), layout, n, k);
            with_inputs(draw, kernel, k, group, |mode, x| {
                let case = KernelCase::new(kernel, &w, x, mode);
                if n > 1 {
                    assert_eq!(Some(case.packed().layout().zero), layout, "{scheme:?}");
                }
                assert!(case.tile().groups.iter().all(|g| g.slices == kernel.slices), "{mode:?}");
                let what = format!("{} {mode:?} {:?} n {n} k {k}", kernel.name(), w.scheme());
                check_raw(&case, &w, (mode, x), &what);
                check_fold(&case, &w, (mode, x), false, &what);
                if kernel.slices > 1 {
                    check_fold(&case, &w, (mode, x), true, &what);
                    let stored = KernelCase::stored(kernel, &w, x, mode);
                    let what = format!("{what}, no slices joined");
                    check_raw(&stored, &w, (mode, x), &what);
                    check_fold(&stored, &w, (mode, x), true, &what);
                }
                ran.insert((kernel.name(), kernel.layout.lanes));
            });
            // Negative sums of whole inputs belong to float zero points.
            if kernel.slices == 1 && scheme.zero != ZeroPoint::Float {
                check_rest(draw, kernel, &w, kernel.name());
            }
            if kernel.slices == 3 {
                check_apart(draw, kernel, &w, group);
            }
        }
    });
    let supported = catalogue::kernels().filter(|k| k.supported());
    let expected: BTreeSet<_> = supported.map(|k| (k.name(), k.layout.lanes)).collect();
    assert_eq!(ran, expected, "every supported row ran");
}

/// One of the calibrated mode's inputs is clamped, so the fixture tests the clamp.
#[test]
fn the_static_fixture_clamps() {
    let inputs = Inputs::new(&mut Draw::new(3), 1, 64);
    let Mode::A8Static { scale, saturate: true } = STATIC else {
        panic!("a mode that clamps")
    };
    assert!(inputs.f32.data().iter().any(|x| (x / scale).abs() > 128.0));
    assert!(inputs.f32.data().iter().any(|x| (x / scale).abs() < 127.0));
}

/// Takes a number off the front.
fn number<'a>(text: &mut &'a str) -> usize {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest): (&'a str, &'a str) = text.split_at(end);
    *text = rest;
    digits.parse().unwrap()
}

fn expect(text: &mut &str, word: &str) {
    *text = text.strip_prefix(word).unwrap_or_else(|| panic!("{word} in {text}"));
}

/// `kernel = family "-" lhs "." rhs "." acc "-" mr "x" nr "c" kr "g-" isa`
#[test]
fn names_are_unique_and_say_what_the_row_is() {
    let mut names = BTreeSet::new();
    for kernel in catalogue::kernels() {
        let mut name = kernel.name();
        assert!(names.insert(name), "{name} is there twice");
        match kernel.family {
            Family::Direct => expect(&mut name, "direct"),
            Family::Short => expect(&mut name, "short"),
            Family::Matrix => expect(&mut name, "matrix"),
            Family::Plane => expect(&mut name, "plane"),
            Family::Table => expect(&mut name, "table"),
        }
        expect(&mut name, "-a");
        assert_eq!(number(&mut name), 8 * kernel.slices);
        expect(&mut name, if kernel.layout.book { ".b" } else { ".w" });
        assert_eq!(number(&mut name), usize::from(kernel.layout.bits));
        expect(
            &mut name,
            if kernel.family == Family::Short {
                ".i16-"
            } else {
                ".i32-"
            },
        );
        assert_eq!(number(&mut name), kernel.mr);
        expect(&mut name, "x");
        assert_eq!(number(&mut name), kernel.nr());
        expect(&mut name, "c");
        assert_eq!(number(&mut name), kernel.unit);
        expect(&mut name, "g-");
        assert_eq!(name.parse(), Ok(kernel.isa));
    }
}

/// Selection relies on it: every tier has a row of one activation row for every width and slice count.
#[test]
fn every_width_and_slice_count_has_a_row_of_one() {
    for isa in Isa::ALL {
        for (bits, book) in (1..=8).map(|bits| (bits, false)).chain([(4, true)]) {
            for slices in 1..=3 {
                // No layout at all: a tier of another architecture.
                let layout = catalogue::layout(isa, bits, book);
                let row = |k: &Kernel| k.isa == isa && Some(k.layout) == layout && k.slices == slices && k.mr == 1;
                assert!(
                    layout.is_none() && !isa.supported() || catalogue::kernels().any(row),
                    "{isa}, {bits} bits, book {book}, {slices} slices"
                );
            }
        }
    }
}
