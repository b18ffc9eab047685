//! Every row of the catalogue that this CPU can run, called directly on packed operands, against the reference.
#![forbid(unsafe_code)]
#![cfg(feature = "testing")]

use mixgemm::base::float::pow2;
use mixgemm::kernel::catalogue;
use mixgemm::kernel::{Family, FoldKind, Kernel, TileArgs, TileOut};
use mixgemm::pack::activations::{LhsTile, MAX_SLICES, PackArgs, PackTile, TileSpec};
use mixgemm::pack::layout::ZeroLayout;
use mixgemm::pack::weights::PackedWeights;
use mixgemm::quant::sums::GroupSums;
use mixgemm::testing::{Draw, Inputs, STATIC, for_each_kernel, weights, weights_with_zeros};
use mixgemm::{Activations, Isa, Mat, MatMut, Mode, QuantMatrix, ScaleType, Scheme, ZeroPoint, f16, reference, simd};
use std::collections::BTreeSet;
use std::ops::Range;

/// f16 input of which every group of `group` columns needs exactly `slices` slices in mode `exact`.
fn exact_input(draw: &mut Draw, slices: usize, m: usize, k: usize, group: usize) -> Mat<f16> {
    let unit = 2f64.powi(-24);
    // 2^(8s − 9) is above what s − 1 balanced slices hold; the sum of all bits below 2^(8s − 1) needs no more than s.
    let top = 2f64.powi(8 * slices as i32 - 9).max(1.0);
    let span = (8 * slices - 2).min(40);
    Mat::from_fn(m, k, |r, c| {
        let magnitude = match (c + r) % group.min(k - c / group * group) {
            0 => top,
            1 => 1.0,
            _ => {
                let exponent = draw.below(span);
                let kept = exponent.min(10);
                (draw.below(1 << kept) as f64 + 2f64.powi(kept as i32)) * 2f64.powi((exponent - kept) as i32)
            }
        };
        let negative = magnitude != top && draw.below(2) == 0;
        f16::from_f64(if negative { -magnitude } else { magnitude } * unit)
    })
}

/// Activations for a kernel of this many slices, and the modes that use it.
fn with_inputs(draw: &mut Draw, kernel: &Kernel, k: usize, group: usize, mut f: impl FnMut(Mode, Activations<'_>)) {
    let inputs = Inputs::new(draw, kernel.mr, k);
    let exact = exact_input(draw, kernel.slices, kernel.mr, k, group);
    for (mode, x) in inputs.cases() {
        let slices = if mode == Mode::A16 { 2 } else { 1 };
        if mode != Mode::Exact && slices == kernel.slices {
            f(mode, x);
        }
    }
    f(Mode::Exact, exact.view().into());
}

fn pack_tile(kernel: &Kernel, w: &QuantMatrix, x: Activations<'_>, mode: Mode) -> LhsTile {
    let symmetric = w.scheme().zero == ZeroPoint::Symmetric;
    let spec = TileSpec {
        unit: kernel.unit,
        k: w.k(),
        group: w.scheme().group_length(w.k()),
        zero: symmetric.then(|| 1 << (w.scheme().bits - 1)),
        sub_rows: [kernel.mr; MAX_SLICES + 1],
    };
    let mut tile = LhsTile::default();
    tile.rows = kernel.mr;
    let mut args = PackArgs {
        spec: &spec,
        x,
        mode,
        tile: &mut tile,
    };
    simd::run::<PackTile>(Isa::Scalar, &mut args);
    assert_eq!(tile.refused, None);
    tile
}

/// One kernel on one problem.
struct Case<'a> {
    kernel: &'static Kernel,
    packed: &'a PackedWeights,
    tile: &'a LhsTile,
    mode: Mode,
    what: String,
}

impl Case<'_> {
    /// Calls the kernel on panel `p` and a run of groups.
    fn call(&self, p: usize, groups: Range<usize>, wide: bool, out: TileOut<'_>) {
        let (kernel, layout, tile) = (self.kernel, self.packed.layout(), self.tile);
        let (panel, vectors) = (self.packed.panels(p..p + 1), layout.vectors(p));
        let (units, entry) = (layout.group_units(groups.start), tile.groups[groups.start]);
        let lhs_rows = kernel.mr * kernel.slices;
        kernel.run(&mut TileArgs {
            panels: 1,
            panel_bytes: 0,
            wide,
            groups: groups.len(),
            units,
            records: &panel[layout.first_record(vectors) + groups.start * layout.record_bytes(vectors)..],
            record_bytes: layout.record_bytes(vectors),
            zeros: &panel[groups.start * vectors * layout.zero_bytes()..],
            vectors,
            scale: layout.scale,
            zero: layout.zero,
            sign_only: self.packed.scheme().is_sign_only(),
            lhs: &tile.bytes[entry.offset..],
            lhs_bytes: units * kernel.unit * lhs_rows,
            bias: (&tile.bias[entry.bias..], lhs_rows),
            factor: (&tile.factor[groups.start * kernel.mr..], kernel.mr),
            negative_sum: &tile.negative_sum[groups.start * kernel.mr..],
            fold: match self.mode {
                Mode::A8 | Mode::A16 => FoldKind::GroupScale,
                Mode::Exact => FoldKind::Unit,
                _ => FoldKind::Plain,
            },
            out,
        });
    }

    /// The full groups in one run, then a ragged last one.
    fn runs(&self) -> Vec<Range<usize>> {
        let groups = self.packed.layout().groups;
        vec![0..groups - 1, groups - 1..groups]
    }

    /// The kernel's own fold, in 32 bits or wide, continues a tile of y to the reference's bits.
    fn check_fold(&self, w: &QuantMatrix, x: Activations<'_>, wide: bool) {
        let (mr, nr, n) = (self.kernel.mr, self.kernel.nr(), w.n());
        let start = |r: usize, c: usize| ((r * 31 + c * 7) % 23) as f32 * 0.4 - 3.0;
        let mut expected = Mat::from_fn(mr, n, start);
        reference::accumulate(w, x, self.mode, expected.view_mut()).unwrap();
        for p in 0..self.packed.layout().panels() {
            let mut y = Mat::from_fn(mr, nr, |r, c| start(r, p * nr + c));
            let mut bits: Vec<f32> = y.data().to_vec();
            for run in self.runs() {
                self.call(p, run, wide, TileOut::Fold(&mut bits));
            }
            let mut view: MatMut<'_, f32> = y.view_mut();
            for r in 0..mr {
                view.row_mut(r).copy_from_slice(&bits[r * nr..][..nr]);
                for c in 0..nr.min(n - p * nr) {
                    let (found, expected) = (bits[r * nr + c], expected.view().row(r)[p * nr + c]);
                    assert_eq!(
                        found.to_bits(),
                        expected.to_bits(),
                        "{}: row {r} column {c} of panel {p}: {found} instead of {expected}",
                        self.what
                    );
                }
            }
        }
    }

    /// Raw sums, put together and corrected here, are the reference's group sums.
    fn check_raw(&self, w: &QuantMatrix, x: Activations<'_>) {
        let (mr, nr, n, groups) = (self.kernel.mr, self.kernel.nr(), w.n(), w.groups());
        let mut expected = vec![0i64; mr * groups * n];
        reference::group_sums(w, x, self.mode, GroupSums::I64(&mut expected)).unwrap();
        let lhs_rows = mr * self.kernel.slices;
        for p in 0..self.packed.layout().panels() {
            for run in self.runs() {
                let mut raw = vec![i32::MIN; run.len() * lhs_rows * nr];
                self.call(p, run.clone(), false, TileOut::Raw(&mut raw));
                for (i, g) in run.enumerate() {
                    for (r, c) in (0..mr).flat_map(|r| (0..nr.min(n - p * nr)).map(move |c| (r, c))) {
                        let place = |j: usize| (i * lhs_rows + r * self.kernel.slices + j) * nr + c;
                        let slices = 0..self.kernel.slices;
                        let d: i64 = slices.clone().map(|j| i64::from(raw[place(j)]) << (8 * j)).sum();
                        // Biases are −B, or −z·B for symmetric weights.
                        let bias = |j: usize| {
                            i64::from(self.tile.bias[self.tile.groups[g].bias + r * self.kernel.slices + j]) << (8 * j)
                        };
                        let b: i64 = slices.map(bias).sum();
                        let sum = match w.scheme().zero {
                            _ if w.scheme().is_sign_only() => 2 * d + b,
                            ZeroPoint::Symmetric => d + b,
                            _ => d + i64::from(w.zero_int(p * nr + c, g)) * b,
                        };
                        let factor = self.tile.factor[g * mr + r];
                        let unit = if self.mode == Mode::Exact {
                            (factor / pow2(-24)) as i64
                        } else {
                            1
                        };
                        let expected = expected[(r * groups + g) * n + p * nr + c];
                        assert_eq!(sum * unit, expected, "{}: raw ({r}, {g}, {c}) of panel {p}", self.what);
                    }
                }
            }
        }
    }
}

/// Schemes of a width whose packed zero points take every layout there is for it.
fn schemes(bits: u8) -> Vec<(Scheme, Option<ZeroLayout>)> {
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
        for (i, (scheme, layout)) in schemes(kernel.layout.bits).into_iter().enumerate() {
            seed += 1;
            let draw = &mut Draw::new(seed);
            // One or two full units and a part of one in a group; a ragged last group; a last panel of one vector.
            let group = kernel.unit + 1 + i % kernel.unit;
            let k = 2 * group + 2 + (i * 5) % (group - 2);
            let columns = [1, kernel.layout.lanes, kernel.nr() - 1, kernel.nr(), kernel.nr() + 1];
            let n = columns[seed as usize % columns.len()];
            let w = matrix(draw, scheme.group(group), layout, n, k);
            let packed = PackedWeights::pack(&w, kernel.layout).unwrap();
            if n > 1 {
                assert_eq!(Some(packed.layout().zero), layout, "{scheme:?}");
            }
            with_inputs(draw, kernel, k, group, |mode, x| {
                let tile = pack_tile(kernel, &w, x, mode);
                assert!(tile.groups.iter().all(|g| g.slices == kernel.slices), "{mode:?}");
                let case = Case {
                    kernel,
                    packed: &packed,
                    tile: &tile,
                    mode,
                    what: format!("{} {mode:?} {:?} n {n} k {k}", kernel.name(), w.scheme()),
                };
                case.check_raw(&w, x);
                if kernel.slices <= 4 {
                    case.check_fold(&w, x, false);
                    case.check_fold(&w, x, true);
                }
                ran.insert((kernel.name(), kernel.layout.lanes));
            });
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
        }
        expect(&mut name, "-a");
        assert_eq!(number(&mut name), 8 * kernel.slices);
        expect(&mut name, ".w");
        assert_eq!(number(&mut name), usize::from(kernel.layout.bits));
        expect(&mut name, ".i32-");
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
        for bits in 1..=8 {
            for slices in 1..=MAX_SLICES {
                let row = |k: &&Kernel| {
                    k.isa == isa && k.layout.bits == bits && k.layout.lanes == 16 && k.slices == slices && k.mr == 1
                };
                assert!(
                    catalogue::kernels().any(|k| row(&k)),
                    "{isa}, {bits} bits, {slices} slices"
                );
            }
        }
    }
}
