//! Kernels count their calls. With the counts, every row of the catalogue is shown to be of use, no tier to borrow rows
//! from another, and explanations to be true.
#![cfg(feature = "testing")]
#![forbid(unsafe_code)]

use mixgemm::host::explain::{Choice, Explanation, Reason};
use mixgemm::host::width::Width;
use mixgemm::kernel::select::{choose, slice_counts, usual};
use mixgemm::kernel::{Family, Kernel, catalogue};
use mixgemm::pack::activations::MAX_SLICES;
use mixgemm::pack::layout::PanelLayout;
use mixgemm::testing::{Draw, Inputs, STATIC, exact_slices, scheme_of, weights};
use mixgemm::{Activations, Epilogue, Gemm, Host, Isa, Mat, Mode, Plan, QuantMatrix, Scheme, Workspace};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

const MODES: [Mode; 6] = [Mode::A8, Mode::A8Row, Mode::A8Given, STATIC, Mode::A16, Mode::Exact];

/// Counts belong to the process, so its tests take turns.
static TURN: Mutex<()> = Mutex::new(());

/// Every tier of the catalogue with every layout that it reads.
fn layouts(supported: bool) -> BTreeMap<(Isa, usize, u8, bool), PanelLayout> {
    let rows = catalogue::kernels().filter(|k| k.supported() || !supported);
    rows.map(|k| ((k.isa, k.layout.lanes, k.layout.bits, k.layout.book), k.layout))
        .collect()
}

fn counts() -> BTreeMap<&'static str, u64> {
    catalogue::kernels().map(|k| (k.name(), k.calls())).collect()
}

/// Calls of each kernel during `f`, those without any left out.
fn calls(f: impl FnOnce()) -> BTreeMap<&'static str, u64> {
    let before = counts();
    f();
    let after = counts().into_iter().map(|(name, n)| (name, n - before[name]));
    after.filter(|&(_, n)| n > 0).collect()
}

fn packed(w: &QuantMatrix, isa: Isa, layout: PanelLayout) -> Gemm {
    Host::new().isa(isa).unwrap().prepare_as(w, layout).unwrap()
}

fn run(plan: &Plan, x: Activations<'_>, n: usize) {
    let mut y = Mat::<f32>::zeros(x.shape().0, n);
    plan.run(&mut Workspace::new(), x, &Epilogue::new(), y.view_mut().into())
        .unwrap();
}

/// Heights of tiles, and what is left over beside them.
fn rows(isa: Isa) -> BTreeSet<usize> {
    let heights = catalogue::kernels().filter(|k| k.isa == isa).map(|k| k.mr);
    heights.flat_map(|mr| [mr, 2 * mr + 1]).collect()
}

#[test]
fn every_row_is_reached_by_some_product() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let reached = calls(|| {
        let draw = &mut Draw::new(91);
        for ((isa, lanes, _, book), layout) in layouts(true) {
            for (i, m) in rows(isa).into_iter().enumerate() {
                let scheme = scheme_of(layout).group(9);
                let kinds = [scheme, scheme.asymmetric(), scheme.float_zero()];
                let scheme = if book { scheme } else { kinds[i % 3] };
                let w = weights(draw, scheme, 2 * lanes + 1, 20);
                let gemm = packed(&w, isa, layout);
                for (mode, x) in Inputs::new(draw, m, 20).cases() {
                    let plan = gemm.plan(mode).unwrap();
                    run(&plan, x, w.n());
                    // Rules that are not the fastest here, one at a time.
                    for family in [Family::Direct, Family::Short, Family::Plane, Family::Table] {
                        run(&plan.clone().prefer(|k| k.family == family && !usual(k)), x, w.n());
                    }
                }
                for slices in 2..=MAX_SLICES {
                    let x = exact_slices(draw, slices, m, 20, 9);
                    run(&gemm.plan(Mode::Exact).unwrap(), x.view().into(), w.n());
                }
            }
        }
    });
    let unreached = catalogue::kernels().filter(|k| k.supported() && !reached.contains_key(k.name()));
    assert_eq!(unreached.map(Kernel::name).collect::<Vec<_>>(), [""; 0]);
}

/// For tiers that this CPU lacks too. Zero points are no argument of the choice, so no kind of them can change it.
#[test]
fn no_tier_takes_a_row_of_another() {
    let tiers: BTreeSet<Isa> = catalogue::kernels().map(|k| k.isa).collect();
    for isa in &tiers {
        let own = layouts(false).into_keys().filter(|l| l.0 == *isa);
        let widths: BTreeSet<(u8, bool)> = own.map(|l| (l.2, l.3)).collect();
        let all = (1..=8).map(|bits| (bits, false)).chain([(4, true)]);
        assert_eq!(widths, all.collect(), "{isa}");
    }
    for ((isa, ..), layout) in layouts(false) {
        for mode in MODES {
            let what = format!("{isa} {layout:?} {mode:?}");
            let selection = choose(isa, layout, mode, |_| false).expect(&what);
            let (usual, counts) = slice_counts(mode);
            assert_eq!(selection.usual(), usual);
            for height in selection.heights() {
                let taken: Vec<_> = selection.kernels(height).collect();
                let slices: Vec<usize> = taken.iter().map(|t| t.0).collect();
                assert_eq!(slices, counts.clone().collect::<Vec<_>>(), "{what}");
                for (taken_slices, kernel) in taken {
                    // Four slices and more are multiplied one by one.
                    let slices = if taken_slices > 3 { 1 } else { taken_slices };
                    assert_eq!(
                        (kernel.isa, kernel.layout, kernel.slices),
                        (isa, layout, slices),
                        "{what}"
                    );
                    assert_eq!(height % kernel.mr, 0, "{what}");
                    if slices < taken_slices {
                        // One by one they are no usual product, so that tables do not stand in the way of higher rows.
                        let rows = catalogue::kernels().filter(|k| (k.isa, k.layout, k.slices) == (isa, layout, 1));
                        let fit = rows.filter(|k| k.lhs == 1 && k.family != Family::Plane && height % k.mr == 0);
                        assert_eq!(fit.map(|k| k.mr).max(), Some(kernel.mr), "{what}");
                    }
                }
            }
        }
    }
}

/// Calls that follow from an explanation, where every group has `slices` slices, rectangles are one panel wide, and
/// groups are of equal length.
fn predicted(e: &Explanation, slices: usize) -> BTreeMap<&'static str, u64> {
    let mut out = BTreeMap::new();
    for tiles in &e.tiles {
        for taken in e
            .taken
            .iter()
            .filter(|t| (t.height, t.slices) == (tiles.height, slices))
        {
            let runs = if taken.width == Width::Narrow {
                1
            } else {
                e.layout.groups
            };
            *out.entry(taken.kernel.name()).or_default() += (tiles.count * e.panels * runs * taken.calls()) as u64;
        }
    }
    out
}

/// Every other row that reads the weights is named once, with a reason that can be seen to hold.
fn check_reasons(e: &Explanation, forced: bool) {
    let same = catalogue::kernels().filter(|k| k.layout == e.layout.panel).count();
    let taken: BTreeSet<_> = e.taken.iter().map(|t| t.kernel.name()).collect();
    assert_eq!(taken.len() + e.passed_over.len(), same);
    let (_, counts) = slice_counts(e.mode);
    for &(kernel, reason) in &e.passed_over {
        let what = format!("{} {reason:?} in {e}", kernel.name());
        assert!(!taken.contains(kernel.name()), "{what}");
        assert_eq!(kernel.isa != e.isa, reason == Reason::OtherTier, "{what}");
        let slices = kernel.isa == e.isa && !counts.contains(&kernel.slices);
        assert_eq!(slices, reason == Reason::OtherSlices, "{what}");
        match reason {
            Reason::Unsupported => assert!(!kernel.supported(), "{what}"),
            Reason::NotPreferred => assert!(forced, "{what}"),
            Reason::OnRequest => assert!(!usual(kernel), "{what}"),
            Reason::TooHigh { left } => {
                let higher = e.tiles.iter().filter(|t| t.height > kernel.mr);
                let others: usize = higher.map(|t| t.height * t.count).sum();
                assert!(left < kernel.mr || kernel.slices != slice_counts(e.mode).0, "{what}");
                assert!(left <= e.m - others, "{what}");
            }
            Reason::NoMultiple => assert!(e.tiles.iter().all(|t| t.height % kernel.mr != 0), "{what}"),
            Reason::Lower => {
                let higher = |t: &&mixgemm::host::explain::Taken| t.slices == kernel.slices && t.kernel.mr > kernel.mr;
                assert!(e.m < kernel.mr || e.taken.iter().any(|t| higher(&t)), "{what}");
            }
            _ => {}
        }
    }
}

#[test]
fn explanations_are_what_happens() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let draw = &mut Draw::new(92);
    let mut widths = BTreeSet::new();
    for ((isa, lanes, bits, book), layout) in layouts(true) {
        for m in rows(isa) {
            // The long groups of 8-bit codes are folded in f64.
            let group = if bits == 8 { 256 } else { 8 + usize::from(bits) };
            let k = 2 * group;
            let scheme = scheme_of(layout).group(group);
            let scheme = if book { scheme } else { scheme.asymmetric() };
            let w = weights(draw, scheme, 3 * 2 * lanes, k);
            let gemm = packed(&w, isa, layout);
            let inputs = Inputs::new(draw, m, k);
            let check = |plan: &Plan, x: Activations<'_>, slices: usize, forced: bool| {
                let e = plan.explain(m);
                assert_eq!(e.tiles.iter().map(|t| t.height * t.count).sum::<usize>(), m);
                assert_eq!((e.isa, e.choice, e.threads), (isa, Choice::Asked, 1));
                assert_eq!(calls(|| run(plan, x, w.n())), predicted(&e, slices), "{e}");
                check_reasons(&e, forced);
                e
            };
            // Every row can be made to run where the tiles fit it.
            let mut check_all = |mode: Mode, x: Activations<'_>, slices: usize| {
                let e = check(&gemm.plan(mode).unwrap(), x, slices, false);
                widths.extend(e.taken.iter().map(|t| format!("{:?}", t.width)));
                let of_tier = |k: &&Kernel| k.isa == isa && k.layout == e.layout.panel && k.slices == slices;
                for kernel in catalogue::kernels().filter(|k| k.supported()).filter(of_tier) {
                    let forced = gemm.plan(mode).unwrap().prefer(|k| std::ptr::eq(k, kernel));
                    let e = check(&forced, x, slices, true);
                    let fits = e.tiles.iter().any(|t| t.height % kernel.mr == 0);
                    assert_eq!(e.takes(kernel), fits, "{} in {e}", kernel.name());
                }
            };
            for (mode, x) in inputs.cases().into_iter().filter(|c| c.0 != Mode::Exact) {
                check_all(mode, x, slice_counts(mode).0);
            }
            for slices in 2..=MAX_SLICES {
                check_all(
                    Mode::Exact,
                    exact_slices(draw, slices, m, k, group).view().into(),
                    slices,
                );
            }
        }
    }
    assert_eq!(widths.len(), 3, "32 bits, f64 and raw: {widths:?}");
}

#[test]
fn tiles_are_counted_as_they_are_walked() {
    for ((isa, ..), layout) in layouts(false) {
        for mode in MODES {
            let selection = choose(isa, layout, mode, |_| false).unwrap();
            for m in 0..100 {
                let mut walked = BTreeMap::new();
                for (_, height) in selection.tiles(m) {
                    *walked.entry(height).or_insert(0) += 1;
                }
                let walked: Vec<_> = walked.into_iter().rev().collect();
                let counted: Vec<_> = selection.tile_counts(m).collect();
                assert_eq!(counted, walked, "{isa} {layout:?}, {mode:?}, M = {m}");
            }
        }
    }
}

#[test]
fn any_number_of_rows_is_explained() {
    let w = weights(&mut Draw::new(94), Scheme::int(4).group(32), 70, 64);
    let gemm = Host::new().prepare(&w).unwrap();
    for mode in MODES {
        for m in [usize::MAX, usize::MAX - 1, 1 << 40] {
            let e = gemm.plan(mode).unwrap().explain(m);
            assert_eq!(e.tiles.iter().map(|t| t.height * t.count).sum::<usize>(), m);
            assert!(e.rectangles > 0);
        }
    }
}

#[test]
fn an_explanation_says_who_chose_the_tier_and_reads_as_text() {
    let w = weights(&mut Draw::new(93), Scheme::int(4).group(32), 70, 64);
    let gemm = Host::new().isa(Isa::Scalar).unwrap().prepare(&w).unwrap();
    let plan = gemm.plan(Mode::A16).unwrap();
    let text = plan.explain(3).to_string();
    for part in [
        "Tier scalar: asked for.",
        "Weights [70, 64]: 4 bits, groups of 32, in 3 panels of 32 columns",
        "Mode a16, M = 3: ",
        "1 tile of 2 rows:\n  2 slices: direct-a16.w4.i32-2x32c8g-scalar, folded in 32 bits\n",
        "1 tile of 1 row:\n  2 slices: direct-a16.w4.i32-1x32c8g-scalar, folded in 32 bits\n",
    ] {
        assert!(text.contains(part), "{part:?} in\n{text}");
    }
    assert!(plan.explain(0).tiles.is_empty());
    let gemm = Host::new().prepare(&w).unwrap();
    let best = gemm.plan(Mode::A16).unwrap();
    assert_ne!(best.explain(1).choice, Choice::Asked);
    assert_eq!(best.isa(Isa::Scalar).unwrap().explain(1).choice, Choice::Asked);
}
