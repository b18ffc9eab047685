//! The commit that reports name.

use std::fs;
use std::path::Path;
use std::process::Command;

#[path = "../../build.rs"]
#[allow(dead_code, reason = "cargo runs the rest")]
mod build;

fn git(root: &Path, arguments: &str) -> String {
    let mut git = Command::new("git");
    git.current_dir(root)
        .args(["-c", "user.name=a", "-c", "user.email=a@b.example"]);
    let out = git.args(arguments.split_whitespace()).output().unwrap();
    let error = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{arguments}: {error}");
    String::from_utf8(out.stdout).unwrap().trim().into()
}

#[test]
fn only_the_commit_of_this_tree_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    let inner = root.join("inner");
    fs::create_dir_all(&inner).unwrap();
    assert_eq!((build::commit(&root), build::history(&root)), (None, None));
    git(&root, "init -q");
    fs::write(inner.join("file"), "a").unwrap();
    git(&root, "add .");
    git(&root, "commit -q -m a --no-gpg-sign");
    git(&root, "tag -m a --no-sign a");
    let commit = git(&root, "rev-parse --short HEAD");
    assert_eq!(build::commit(&root), Some(commit.clone()));
    assert!(root.join(build::history(&root).unwrap()).is_file());
    // Inside another tree, as a vendored copy is.
    assert_eq!((build::commit(&inner), build::history(&inner)), (None, None));

    fs::write(root.join("untracked"), "a").unwrap();
    assert_eq!(build::commit(&root), Some(commit.clone()));
    fs::write(inner.join("file"), "b").unwrap();
    assert_eq!(build::commit(&root), Some(format!("{commit}-dirty")));

    let other = directory.path().join("other");
    git(&root, "worktree add -q ../other");
    assert!(other.join(".git").is_file());
    assert_eq!(build::commit(&other), Some(commit));
    assert!(other.join(build::history(&other).unwrap()).is_file());
}
