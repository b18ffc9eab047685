//! Patterns of kernel names: `*` stands for any run of characters.
#![forbid(unsafe_code)]

use super::rounds::Case;
use crate::cli::refusal::{option, refusal};
use anyhow::Result;
use mixgemm::kernel::select::slice_counts;
use mixgemm::kernel::{Kernel, catalogue};
use mixgemm::{Floats, Host, Isa, QuantMatrix, Zeros};

/// The kernels that a benchmark is to use.
#[derive(Debug, Clone, Default)]
pub(super) struct Patterns(Vec<String>);

/// Whether a name is one of a pattern's.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(rest) = name.strip_prefix(head) else {
        return false;
    };
    rest.char_indices().any(|(i, _)| matches(tail, &rest[i..])) || matches(tail, "")
}

impl Patterns {
    pub(super) fn new(patterns: &[String]) -> Self {
        Self(patterns.to_vec())
    }

    /// Whether a kernel is preferred; without patterns none is.
    pub(super) fn prefer(&self, kernel: &'static Kernel) -> bool {
        self.0.iter().any(|p| matches(p, kernel.name()))
    }

    /// Refuses a pattern that no case has a kernel for, and a case whose kernels no pattern matches.
    pub(super) fn check(&self, isa: Isa, cases: &[Case]) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let mut all = Vec::new();
        for case in cases {
            let own = kernels(isa, case)?;
            if !own.iter().any(|k| self.prefer(k)) {
                let found = format!("`{}`, which match none", self.0.join(","));
                let expected = format!(
                    "kernels of {}-bit weights in mode {} on {isa}, such as {}",
                    case.scheme.bits,
                    case.mode.name(),
                    near(&self.0[0], &own)
                );
                return Err(refusal("--kernel", expected, found));
            }
            all.extend(own);
        }
        match self.0.iter().find(|p| !all.iter().any(|k| matches(p, k.name()))) {
            Some(idle) => {
                let expected = format!("patterns of kernels of these products, such as {}", near(idle, &all));
                Err(refusal(
                    "--kernel",
                    expected,
                    format_args!("`{idle}`, which matches none"),
                ))
            }
            None => Ok(()),
        }
    }
}

/// Everything that could be chosen for a case.
fn kernels(isa: Isa, case: &Case) -> Result<Vec<&'static Kernel>> {
    let scheme = case.scheme.per_channel().symmetric();
    let one = QuantMatrix::from_parts(
        scheme,
        1,
        1,
        vec![0],
        Floats::from_f32(scheme.scale, &[1.0]),
        Zeros::Symmetric,
    );
    let gemm = Host::new()
        .isa(isa)
        .and_then(|host| host.prepare(&one?))
        .map_err(option)?;
    let (layout, counts) = (gemm.weights().layout().panel, slice_counts(case.mode).1);
    let own = |k: &&Kernel| k.supported() && k.isa == isa && k.layout == layout && counts.contains(&k.slices);
    Ok(catalogue::kernels().filter(own).collect())
}

/// The three names that a pattern is nearest to.
fn near(pattern: &str, kernels: &[&'static Kernel]) -> String {
    let mut names: Vec<&str> = kernels.iter().map(|k| k.name()).collect();
    names.sort_by_key(|name| distance(pattern, name));
    names.dedup();
    names.truncate(3);
    names.join(", ")
}

/// Least number of characters to insert, delete or replace; those that a `*` stands for are free.
fn distance(pattern: &str, name: &str) -> usize {
    let name: Vec<char> = name.chars().collect();
    let mut last: Vec<usize> = (0..=name.len()).collect();
    for p in pattern.chars() {
        let mut row = vec![last[0] + usize::from(p != '*')];
        for (i, &c) in name.iter().enumerate() {
            row.push(if p == '*' {
                row[i].min(last[i + 1])
            } else {
                (row[i] + 1).min(last[i + 1] + 1).min(last[i] + usize::from(p != c))
            });
        }
        last = row;
    }
    last[name.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_run() {
        for pattern in ["abcabd", "*", "ab*", "*d", "a*bd", "*ab*ab*", "abcabd*", "**a*"] {
            assert!(matches(pattern, "abcabd"), "{pattern}");
        }
        for pattern in ["", "abc", "b*", "*c", "a*x*d", "abcabd?", "*abcabdd"] {
            assert!(!matches(pattern, "abcabd"), "{pattern}");
        }
        assert!(matches("*", "") && matches("", ""));
    }

    #[test]
    fn near_is_what_takes_few_changes() {
        assert_eq!(
            (distance("abc", "abd"), distance("", "ab"), distance("ab", "")),
            (1, 2, 2)
        );
        assert_eq!(
            (distance("a*d", "abcd"), distance("*", "abc"), distance("x*", "abc")),
            (0, 0, 1)
        );
    }
}
