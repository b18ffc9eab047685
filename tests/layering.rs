//! A module imports only from lower floors, one crate path per `use` line, and siblings on a floor do not know each
//! other. Reads the source text; test modules are exempt.
#![forbid(unsafe_code)]

mod source;

use source::{Source, all, code_only, line, words};

/// The floors, lowest first. `lib.rs` is the door and exempt; `testing` is above everything.
const FLOORS: [&[&str]; 8] = [
    &["base", "simd"],
    &["quant", "epilogue"],
    &["backend", "pack", "reference", "checkpoint"],
    &["kernel", "accel", "outlier"],
    &["host", "dse"],
    &["llm"],
    &["main", "cli"],
    &["testing"],
];

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|modules| modules.contains(&module))
}

/// The first segment of a path, without `.rs`.
fn module(path: &str) -> &str {
    path.split(['/', '.']).next().unwrap_or(path)
}

/// Code with the items under `#[cfg(test)]` (and `cfg(all(test, …))`) blanked as well.
fn without_tests(code: &str) -> String {
    let mut out = code.to_string();
    for marker in ["#[cfg(test)]", "#[cfg(all(test"] {
        while let Some(start) = out.find(marker) {
            let end = item_end(&out, start + marker.len());
            let blank: String = out[start..end]
                .chars()
                .map(|c| if c == '\n' { '\n' } else { ' ' })
                .collect();
            out.replace_range(start..end, &blank);
        }
    }
    out
}

/// Where the item after `from` ends: at its `;`, or behind the bracket that closes its first `{`.
fn item_end(code: &str, from: usize) -> usize {
    let mut depth = 0;
    for (i, c) in code[from..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if (c == '}' || c == ';') && depth == 0 {
            return from + i + 1;
        }
    }
    code.len()
}

/// Everything in this file that the house does not allow.
fn faults(file: &Source) -> Vec<String> {
    let own = module(&file.path);
    if file.path == "lib.rs" {
        return Vec::new();
    }
    let mut out = Vec::new();
    let code = without_tests(&code_only(&file.text));
    let mut fault = |at: usize, what: String| out.push(format!("src/{}:{}: {what}", file.path, line(&code, at)));
    let Some(own_floor) = floor(own) else {
        fault(
            0,
            format!("module `{own}` is on no floor; add it to the table in tests/layering.rs"),
        );
        return out;
    };
    for at in words(&code, "use") {
        let path: String = code[at + 3..]
            .chars()
            .take_while(|&c| c != ';')
            .filter(|c| !c.is_whitespace())
            .collect();
        let inside = ["crate::", "self::", "super::"].iter().any(|p| path.starts_with(p));
        if path.starts_with('{') || path.starts_with("crate::{") {
            fault(
                at,
                format!("grouped import `use {path}`; write one crate path per line"),
            );
        }
        if inside && path.ends_with('*') || path.contains("*,") || path.contains("*}") && inside {
            fault(at, format!("glob import `use {path}`"));
        }
    }
    for at in words(&code, "crate") {
        let rest = code[at + 5..].trim_start();
        let Some(path) = rest.strip_prefix("::") else { continue };
        let target: String = path
            .trim_start()
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect();
        if target.is_empty() || target == own {
            continue;
        }
        match floor(&target) {
            None => fault(
                at,
                format!("`crate::{target}` is on no floor; import from the module that defines it"),
            ),
            Some(f) if f > own_floor => fault(at, format!("`{own}` imports `{target}` from a floor above")),
            Some(f) if f == own_floor => fault(at, format!("`{own}` imports its sibling `{target}`")),
            Some(_) => {}
        }
    }
    if let Some(at) = code.find("super::super") {
        fault(at, "`super::super`; write the path from `crate`".into());
    }
    out
}

#[test]
fn every_import_points_down() {
    let files = all();
    assert!(files.len() > 10, "only {} files found", files.len());
    let faults: Vec<String> = files.iter().flat_map(faults).collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

fn found(path: &str, text: &str) -> Vec<String> {
    faults(&Source {
        path: path.into(),
        text: text.into(),
    })
}

#[test]
fn the_scanner_sees_what_is_wrong() {
    for (path, text, expected) in [
        (
            "quant/matrix.rs",
            "use crate::host::Host;",
            "src/quant/matrix.rs:1: `quant` imports `host` from a floor above",
        ),
        (
            "reference.rs",
            "\npub use crate::backend::Backend;",
            "src/reference.rs:2: `reference` imports its sibling `backend`",
        ),
        (
            "base/view.rs",
            "fn f() {\n    crate::quant::f();\n}",
            "src/base/view.rs:2: `base` imports `quant` from a floor above",
        ),
        (
            "host/mod.rs",
            "use crate::{base::view, quant};",
            "grouped import `use crate::{base::view,quant}`",
        ),
        (
            "host/mod.rs",
            "use crate::quant::matrix::*;",
            "glob import `use crate::quant::matrix::*`",
        ),
        (
            "host/mod.rs",
            "use crate::quant::{self,\n    matrix::*};",
            "glob import",
        ),
        ("host/mod.rs", "use super::*;", "glob import"),
        (
            "kernel/rule/direct.rs",
            "use super::super::super::host;",
            "super::super",
        ),
        (
            "llm/mod.rs",
            "use crate::QuantMatrix;",
            "`crate::QuantMatrix` is on no floor",
        ),
        ("helpers/mod.rs", "", "module `helpers` is on no floor"),
        (
            "dse/mod.rs",
            "use crate\n    ::host::Host;",
            "`dse` imports its sibling `host`",
        ),
        (
            "host/mod.rs",
            "#[cfg(test)]\nmod tests { use crate::cli; }\nuse crate::cli;",
            "src/host/mod.rs:3:",
        ),
    ] {
        let found = found(path, text);
        assert!(found.iter().any(|f| f.contains(expected)), "{text:?}: {found:?}");
    }
}

#[test]
fn the_scanner_leaves_the_rest_alone() {
    for (path, text) in [
        ("lib.rs", "pub use host::Host; use crate::cli;"),
        (
            "host/mod.rs",
            "use crate::kernel::catalogue::{self, Row};\nuse crate::host::plan;\nuse core::arch::x86_64::*;",
        ),
        (
            "quant/matrix.rs",
            "// use crate::host;\n/* use crate::cli; */ /// [`x`](crate::Backend)\nlet s = \"crate::host\";",
        ),
        (
            "quant/matrix.rs",
            "pub(crate) fn f() { let c = '\"'; let r = r#\"use crate::host \"; \"#; }",
        ),
        (
            "quant/matrix.rs",
            "#[cfg(test)]\nmod tests {\n    use super::*;\n    use crate::host::{Host};\n}",
        ),
        ("cli/mod.rs", "use crate::llm::prefill;\nuse crate::dse::pareto;"),
        ("testing/mod.rs", "use crate::cli;"),
    ] {
        assert_eq!(found(path, text), [""; 0], "{text}");
    }
}
