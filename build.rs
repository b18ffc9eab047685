//! Provenance for reports: what compiled this, for what, from which commit. Writes no Rust.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Only the program reports this; the library alone is not worth compiling anew for it.
    if env::var_os("CARGO_FEATURE_CLI").is_none() {
        return;
    }
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    set("MIXGEMM_RUSTC", first_line(Command::new(rustc).arg("--version")));
    set("MIXGEMM_TARGET", env::var("TARGET").ok());
    let root = env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| ".".into());
    let root = Path::new(&root);
    set("MIXGEMM_COMMIT", commit(root));
    let sources = ["src", "Cargo.toml", "Cargo.lock"].map(String::from);
    for path in sources.into_iter().chain(history(root)) {
        println!("cargo::rerun-if-changed={path}");
    }
}

fn set(name: &str, value: Option<String>) {
    println!("cargo::rustc-env={name}={}", value.unwrap_or_else(|| "unknown".into()));
}

/// The commit that is checked out at `root`, with `-dirty` where tracked files differ from it.
pub(crate) fn commit(root: &Path) -> Option<String> {
    is_repository(root).then(|| git(root, &["describe", "--always", "--dirty", "--exclude=*"]))?
}

/// A file that grows with every commit and checkout at `root`.
pub(crate) fn history(root: &Path) -> Option<String> {
    is_repository(root).then(|| git(root, &["rev-parse", "--git-path", "logs/HEAD"]))?
}

/// Whether a work tree starts at `root`. A copy of this crate inside another repository has no commit.
fn is_repository(root: &Path) -> bool {
    let top = git(root, &["rev-parse", "--show-toplevel"]).and_then(|top| fs::canonicalize(top).ok());
    top.is_some() && top == fs::canonicalize(root).ok()
}

fn git(root: &Path, arguments: &[&str]) -> Option<String> {
    first_line(Command::new("git").current_dir(root).args(arguments))
}

fn first_line(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines()
        .next()
        .filter(|_| output.status.success())
        .map(str::to_owned)
}
