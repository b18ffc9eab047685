//! Provenance for reports: what compiled this, for what, from which commit. Writes no Rust.

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    set("MIXGEMM_RUSTC", first_line(&rustc, &["--version"]));
    set("MIXGEMM_TARGET", env::var("TARGET").ok());
    set("MIXGEMM_COMMIT", first_line("git", &["rev-parse", "--short", "HEAD"]));
    println!("cargo::rerun-if-changed=build.rs");
    let log = Path::new(".git/logs/HEAD"); // grows with every commit and checkout
    // Only the program reports the commit; the library alone is not worth compiling anew for it.
    if env::var_os("CARGO_FEATURE_CLI").is_some() && log.exists() {
        println!("cargo::rerun-if-changed={}", log.display());
    }
}

fn set(name: &str, value: Option<String>) {
    println!("cargo::rustc-env={name}={}", value.unwrap_or_else(|| "unknown".into()));
}

fn first_line(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines()
        .next()
        .filter(|_| output.status.success())
        .map(str::to_owned)
}
