//! A tier from outside the crate multiplies packed weights, and `docs/adding-an-isa.md`, which is about it, quotes what
//! the sources say.
#![forbid(unsafe_code)]

mod toy;

use mixgemm::pack::layout::{PANEL_VECTORS, PanelLayout};
use mixgemm::pack::weights::PackedWeights;
use mixgemm::simd::isa::{Body, Dot, Work};
use mixgemm::simd::scalar::Scalar;
use mixgemm::{Activations, GroupSums, Mat, Mode, QuantMatrix, Scheme, reference};
use std::fs;
use std::path::Path;
use toy::Pairs;

/// The direct rule at its smallest: 4-bit codes of one panel with one group, times one row of bytes.
struct OneGroup;

struct OneGroupArgs<'a> {
    /// The units of codes.
    codes: &'a [u8],
    /// The row.
    lhs: &'a [i8],
    /// `Σ q·a` of every column.
    sums: &'a mut [i32],
}

impl Work for OneGroup {
    type Args<'a> = OneGroupArgs<'a>;
}

impl<S: Dot> Body<S> for OneGroup {
    #[inline(always)]
    fn body(simd: S, args: &mut OneGroupArgs<'_>) {
        let mut acc = [simd.splat_i32(0); PANEL_VECTORS];
        let units = S::blocks(args.codes).chunks_exact(PANEL_VECTORS);
        for (unit, lhs) in units.zip(args.lhs.as_chunks::<8>().0) {
            let [low, high] = [0, 4].map(|at| simd.splat_quad([0, 1, 2, 3].map(|i| lhs[at + i] as u8)));
            for (acc, block) in acc.iter_mut().zip(unit) {
                let codes = simd.load(block);
                *acc = simd.dot(*acc, simd.field(codes, 0, 0, 15), low);
                *acc = simd.dot(*acc, simd.field(codes, 4, 0, 15), high);
            }
        }
        for (acc, sums) in acc.into_iter().zip(S::ints(args.sums)) {
            simd.store_i32(acc, sums);
        }
    }
}

/// Packs weights for a tier's lanes and multiplies them on it.
fn sums_on<S: Dot>(w: &QuantMatrix, lhs: &[i8]) -> Vec<i32> {
    let packed = PackedWeights::pack(
        w,
        PanelLayout {
            lanes: S::LANES,
            bits: 4,
            book: false,
        },
    )
    .unwrap();
    let layout = packed.layout();
    let codes = layout.first_record() + PANEL_VECTORS * layout.scale_bytes();
    let mut sums = vec![0; layout.panel.nr()];
    S::detect().unwrap().frame::<OneGroup>(&mut OneGroupArgs {
        codes: &packed.panels(0..1)[codes..],
        lhs,
        sums: &mut sums,
    });
    sums.truncate(w.n());
    sums
}

#[test]
fn a_tier_from_outside_multiplies_a_panel() {
    let (n, k) = (8, 32);
    let floats = Mat::from_fn(n, k, |n, k| ((n * 37 + k * 11) % 29) as f32 - 9.0);
    let w = QuantMatrix::quantize(floats.view(), Scheme::int(4).group(k).asymmetric()).unwrap();
    let x = Mat::from_fn(1, k, |_, k| (k * 89 % 256) as u8 as i8);
    let row = x.view().row(0);
    let found = sums_on::<Pairs>(&w, row);
    assert_eq!(found, sums_on::<Scalar<4>>(&w, row));

    let mut expected = vec![0; n];
    let x = Activations::int8(x.view(), 1.0);
    reference::group_sums(&w, x, Mode::A8Given, GroupSums::I64(&mut expected)).unwrap();
    let total: i64 = row.iter().map(|&a| i64::from(a)).sum();
    for (c, expected) in expected.into_iter().enumerate() {
        let z = i64::from(w.zero_int(c, 0));
        assert_eq!(i64::from(found[c]) - z * total, expected, "column {c}");
    }
}

/// One block of code in the tutorial: the file that the line above it names, its language and its lines.
struct Quote<'a> {
    file: &'a str,
    language: &'a str,
    lines: Vec<&'a str>,
}

/// The file that a line names: alone, in backquotes, before a colon.
fn named(line: &str) -> Option<&str> {
    line.strip_prefix('`')?.strip_suffix("`:")
}

fn quotes(text: &str) -> Vec<Quote<'_>> {
    let (mut file, mut out, mut lines) = ("", Vec::new(), text.lines());
    while let Some(line) = lines.next() {
        file = named(line).unwrap_or(file);
        if let Some(language) = line.strip_prefix("```") {
            let lines = lines.by_ref().take_while(|line| *line != "```").collect();
            out.push(Quote { file, language, lines });
        }
    }
    out
}

/// Runs of lines that the file must contain: all of them, or those of a difference that are there before.
fn present(quote: &Quote<'_>) -> Vec<String> {
    let before = |line: &&str| !line.starts_with('+');
    match quote.language {
        "rust" => vec![quote.lines.join("\n")],
        "diff" => {
            let runs = quote.lines.split(|line| !before(line)).filter(|run| !run.is_empty());
            runs.map(|run| run.iter().map(|line| &line[1..]).collect::<Vec<_>>().join("\n"))
                .collect()
        }
        _ => Vec::new(),
    }
}

#[test]
fn the_tutorial_quotes_the_sources() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("docs/adding-an-isa.md")).unwrap();
    let quotes = quotes(&text);
    assert!(quotes.len() > 10, "only {} quotes found", quotes.len());
    for quote in &quotes {
        for expected in present(quote) {
            let source = fs::read_to_string(root.join(quote.file)).unwrap();
            let found = source.contains(&expected);
            assert!(found, "docs/adding-an-isa.md: expected in {}:\n{expected}", quote.file);
        }
    }
}
