//! Every use of `unsafe` is counted against a table, explained, and confined to a few files.
#![forbid(unsafe_code)]

mod source;

use source::{Source, all, code_only, line, words};

/// Uses of the keyword `unsafe` (blocks, functions, impls, attributes) in each file of `src/` that has any.
const BUDGET: &[(&str, usize)] = &[
    ("base/buffer.rs", 4),
    ("base/disjoint.rs", 6),
    ("base/faer.rs", 3),
    ("base/map.rs", 3),
    ("base/ndarray.rs", 3),
    ("base/threads.rs", 1),
    ("base/view.rs", 12),
    ("simd/avx2.rs", 1),
    ("simd/avx512.rs", 1),
    ("simd/neon.rs", 1),
    ("simd/roof.rs", 3),
];

/// Files that may have a budget, beside the tiers `simd/<isa>.rs` and `simd/roof.rs`.
const ALLOWED: [&str; 7] = [
    "base/buffer.rs",
    "base/disjoint.rs",
    "base/faer.rs",
    "base/map.rs",
    "base/ndarray.rs",
    "base/threads.rs",
    "base/view.rs",
];

fn may_hold_unsafe(path: &str) -> bool {
    let tier = path
        .strip_prefix("simd/")
        .is_some_and(|file| !["mod.rs", "cpu.rs", "elementwise.rs"].contains(&file));
    tier || ALLOWED.contains(&path)
}

/// `forbid` reaches into child modules, so the parents of allowed files go without; they hold no `unsafe` themselves.
fn is_parent(path: &str) -> bool {
    ["lib.rs", "base/mod.rs", "simd/mod.rs"].contains(&path)
}

fn unsafe_uses(code: &str) -> Vec<usize> {
    words(code, "unsafe").collect()
}

/// The comment lines directly above line `line` (from 1), attributes and the start of the statement left aside.
fn comment_above(text: &str, line: usize) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let mut comment: Vec<&str> = Vec::new();
    let own = lines[line - 1].split_once("//").map(|(_, c)| c);
    for above in lines[..line - 1].iter().rev() {
        match above.strip_prefix("//") {
            Some(c) => comment.insert(0, c),
            None if !comment.is_empty() => break,
            None if above.starts_with("#[") || above.ends_with(['=', '(', '|']) => {}
            None => break,
        }
    }
    comment.extend(own);
    comment.join("\n")
}

/// The three parts of a SAFETY comment are the obligation, why it holds here, and which test would notice. What can be
/// checked is that it takes at least two lines or three sentences to say them.
fn is_explained(comment: &str) -> bool {
    let Some((_, said)) = comment.split_once("SAFETY:") else {
        return false;
    };
    let sentences =
        said.matches(". ").count() + usize::from(said.trim_end().ends_with('.')) + said.matches(".\n").count();
    said.lines().filter(|l| !l.trim().is_empty()).count() >= 2 || sentences >= 3
}

/// Everything in this file that the rules do not allow, given its budget.
fn faults(file: &Source, budget: usize) -> Vec<String> {
    let Source { path, text } = file;
    let code = code_only(text);
    let uses = unsafe_uses(&code);
    let mut out = Vec::new();
    if uses.len() != budget {
        out.push(format!(
            "src/{path}: {} uses of `unsafe`, the table says {budget}",
            uses.len()
        ));
    }
    if budget > 0 && !may_hold_unsafe(path) {
        out.push(format!("src/{path}: this file may not have a budget"));
    }
    let guarded =
        text.contains("#![forbid(unsafe_code)]") || (path == "lib.rs" && text.contains("#![deny(unsafe_code)]"));
    if !guarded && !may_hold_unsafe(path) && (!is_parent(path) || path == "lib.rs") {
        out.push(format!("src/{path}: `#![forbid(unsafe_code)]` is missing"));
    }
    for at in uses {
        let block = code[at + 6..].trim_start().starts_with('{') || code[at + 6..].trim_start().starts_with("impl");
        let line = line(&code, at);
        if block && !is_explained(&comment_above(text, line)) {
            out.push(format!(
                "src/{path}:{line}: `unsafe` without a SAFETY comment of three parts"
            ));
        }
    }
    out
}

#[test]
fn unsafe_is_counted_and_explained() {
    let files = all();
    assert!(files.len() > 10, "only {} files found", files.len());
    let budget = |path: &str| BUDGET.iter().find(|(p, _)| *p == path).map_or(0, |(_, n)| *n);
    let mut faults: Vec<String> = files.iter().flat_map(|f| faults(f, budget(&f.path))).collect();
    for (path, _) in BUDGET {
        if !files.iter().any(|f| f.path == *path) {
            faults.push(format!("src/{path}: in the table, but there is no such file"));
        }
    }
    let counts: String = files
        .iter()
        .map(|f| (&f.path, unsafe_uses(&code_only(&f.text)).len()))
        .filter(|(_, n)| *n > 0)
        .map(|(path, n)| format!("    (\"{path}\", {n}),\n"))
        .collect();
    assert!(
        faults.is_empty(),
        "\n{}\nthe table would be\n{counts}",
        faults.join("\n")
    );
}

const GOOD: &str = "//! A tier.
fn f(p: *const f32) -> f32 {
    // SAFETY: p is valid for reads of one f32. The caller got it from a slice of at least one element.
    // `tests/kernels.rs` under the sanitiser would notice.
    #[allow(clippy::x)]
    let v = unsafe { *p };
    v // unsafe in a comment, and \"unsafe\" in a string: \"
}
";

fn found(path: &str, text: &str, budget: usize) -> Vec<String> {
    faults(
        &Source {
            path: path.into(),
            text: text.into(),
        },
        budget,
    )
}

#[test]
fn the_scanner_sees_what_is_wrong_and_only_that() {
    assert_eq!(found("simd/avx2.rs", GOOD, 1), [""; 0]);
    let terse = GOOD.replace("    // `tests/kernels.rs` under the sanitiser would notice.\n", "");
    let silent = GOOD.replace("SAFETY", "NOTE");
    for (path, text, budget, expected) in [
        ("simd/avx2.rs", GOOD, 2, "1 uses of `unsafe`, the table says 2"),
        ("simd/avx2.rs", GOOD, 0, "1 uses of `unsafe`, the table says 0"),
        ("quant/matrix.rs", GOOD, 1, "may not have a budget"),
        (
            "quant/matrix.rs",
            "//! Text.",
            0,
            "`#![forbid(unsafe_code)]` is missing",
        ),
        ("lib.rs", "//! Text.", 0, "`#![forbid(unsafe_code)]` is missing"),
        ("simd/mod.rs", "unsafe fn f() {}", 0, "1 uses"),
        (
            "simd/avx2.rs",
            &terse,
            1,
            "src/simd/avx2.rs:5: `unsafe` without a SAFETY comment",
        ),
        ("simd/avx2.rs", &silent, 1, "without a SAFETY comment"),
        (
            "base/disjoint.rs",
            "unsafe impl Send for X {}",
            1,
            "without a SAFETY comment",
        ),
    ] {
        let found = found(path, text, budget);
        assert!(found.iter().any(|f| f.contains(expected)), "{path}: {found:?}");
    }
    assert_eq!(found("base/mod.rs", "//! Parent of an allowed file.", 0), [""; 0]);
    assert_eq!(
        found("base/disjoint.rs", "/// # Safety\n/// Text.\nunsafe fn f() {}", 1),
        [""; 0]
    );
}
