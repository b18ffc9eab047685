//! `mixgemm explore` again: going on, shards, and runs that come to the same.

use crate::explore::{ARGUMENTS, SPACE, bench, explore, json};
use std::fs;

#[test]
fn a_run_goes_on_and_does_not_mix_configurations() {
    let b = bench();
    let first = json(&b, &format!("{ARGUMENTS} --out lab --threads 1"));
    assert_eq!((&first["points"], &first["points_costed"]), (&16.into(), &16.into()));
    let names = [
        "points.jsonl",
        "points.csv",
        "frontier.csv",
        "fidelity-efficiency.svg",
        "cycles-by-layer.png",
    ];
    let read = |directory: &str| names.map(|name| fs::read(b.path(directory).join(name)).unwrap());
    let before = read("lab");
    let text = String::from_utf8(before[0].clone()).unwrap();
    fs::write(b.path("lab/points.jsonl"), &text[..text.len() * 2 / 3]).unwrap();
    let second = json(&b, &format!("{ARGUMENTS} --out lab --threads 2"));
    let costed = second["points_costed"].as_u64().unwrap();
    assert!(0 < costed && costed < 12, "{costed}");
    assert!(read("lab") == before);
    assert_eq!(first["frontiers"], second["frontiers"]);

    b.refused(
        &format!("explore {ARGUMENTS} --out lab --tensors outliers"),
        "--tensors",
        "more than once",
    );
    let others = ARGUMENTS.replace("gaussian", "outliers");
    b.refused(&format!("explore {others} --out lab"), "--out", "another tensors");
    fs::write(b.path("space.toml"), SPACE.replace("[1, 32]", "[1, 33]")).unwrap();
    b.refused(&format!("explore {ARGUMENTS} --out lab"), "--out", "another space");
    for (name, text, found) in [
        ("points.csv", "mine", "points.csv without a points.jsonl"),
        ("points.jsonl", "{\"mine\":1}", "a file of another kind"),
    ] {
        fs::create_dir_all(b.path("others")).unwrap();
        fs::write(b.path("others").join(name), text).unwrap();
        b.refused(&format!("explore {ARGUMENTS} --out others"), "--out", found);
        assert_eq!(fs::read_to_string(b.path("others").join(name)).unwrap(), text);
        fs::remove_dir_all(b.path("others")).unwrap();
    }
    assert!(read("lab") == before);
}

/// Shards may have directories of their own or share one, in which fidelities are measured once.
#[test]
fn merged_shards_are_one_run() {
    let b = bench();
    explore(&b, &format!("{ARGUMENTS} --out whole"));
    for i in 1..=3 {
        let text = explore(&b, &format!("{ARGUMENTS} --out part{i} --shard {i}/3"));
        assert!(text.contains(&format!("shard {i}/3 is complete")), "{text}");
        explore(&b, &format!("{ARGUMENTS} --out parts --shard {i}/3"));
        let measured = fs::read_to_string(b.path("parts/fidelities.jsonl")).unwrap();
        assert_eq!(measured.lines().count(), 4);
    }
    b.refused("explore --merge part1 part3 --out merged", "--merge", "0 files of it");
    explore(&b, "--merge part3 part1 part2 --out merged");
    explore(&b, "--merge parts --out together");
    let names = [
        "points.jsonl",
        "points.csv",
        "fidelity.csv",
        "frontier.csv",
        "fidelity-efficiency.svg",
        "fidelity-efficiency.png",
        "energy-split.svg",
        "cycles-by-layer.svg",
    ];
    for name in names {
        let read = |directory: &str| fs::read(b.path(directory).join(name)).unwrap();
        assert!(read("whole") == read("merged"), "{name}");
        assert!(read("whole") == read("together"), "{name}");
    }
}

/// A merge that was interrupted, anywhere, is repeated; what is not its own is not replaced.
#[test]
fn an_interrupted_merge_can_be_repeated() {
    let b = bench();
    for i in 1..=2 {
        explore(&b, &format!("{ARGUMENTS} --out parts --shard {i}/2"));
    }
    let merge = "explore --merge parts --out whole";
    let before = json(&b, "--merge parts --out whole");
    let read = |name: &str| fs::read(b.path("whole").join(name)).unwrap();
    let names = ["points.jsonl", "points.csv", "frontier.csv", "cycles-by-layer.svg"];
    let first = names.map(read);
    // Before the tables, within the points, at once again.
    for cut in [first[0].len(), first[0].len() / 2, 0] {
        fs::remove_file(b.path("whole/frontier.csv")).unwrap();
        fs::write(b.path("whole/points.jsonl"), &first[0][..cut]).unwrap();
        assert_eq!(json(&b, "--merge parts --out whole")["frontiers"], before["frontiers"]);
        assert!(names.map(read) == first, "cut at {cut}");
    }
    let others = ARGUMENTS.replace("gaussian", "outliers");
    explore(&b, &format!("{others} --out other"));
    b.refused("explore --merge parts --out other", "--out", "another tensors");
    let file = fs::File::open(b.path("whole/points.jsonl")).unwrap();
    file.lock().unwrap();
    b.refused(merge, "--out", "another run at work");
}

/// Rows of inputs are an option for every source of tensors, and no option where nothing is measured.
#[test]
fn rows_of_inputs_are_those_asked_for() {
    let b = bench();
    for (tensors, expected) in [
        ("gaussian", "gaussian: gaussian (3, 256, 1024)"),
        ("outliers", "outliers: outliers (3, 256, 1024)"),
        ("layer", "layer 4: up (3, 1536, 384), down (3, 384, 1536)"),
    ] {
        let arguments = ARGUMENTS.replace("gaussian", tensors);
        let found = json(&b, &format!("{arguments} --rows 3 --out {tensors}"));
        let name = found["tensors"].as_str().unwrap();
        assert!(name.contains(expected), "{name}");
    }
    b.refused(
        "explore --merge gaussian --rows 3 --out merged",
        "--merge",
        "not together with --rows",
    );
}

/// From the space that a run leaves, and from another place, come the same files byte for byte.
#[test]
fn a_run_is_reproduced_from_what_it_leaves() {
    let b = bench();
    explore(&b, &format!("{ARGUMENTS} --out lab"));
    fs::create_dir_all(b.path("deep/er")).unwrap();
    fs::copy(b.path("small.csv"), b.path("deep/er/small.csv")).unwrap();
    explore(
        &b,
        "--space lab/explored-space.toml --workload deep/er/small.csv --tensors gaussian --out again --threads 1",
    );
    let names = |directory: &str| {
        let entries = fs::read_dir(b.path(directory)).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(names("lab"), names("again"));
    assert_eq!(names("lab").len(), 12);
    for name in names("lab") {
        let read = |directory: &str| fs::read(b.path(directory).join(&name)).unwrap();
        assert!(read("lab") == read("again"), "{name}");
    }
}

/// As long as a run has the file of points, another is refused.
#[test]
fn two_runs_do_not_share_a_directory() {
    let b = bench();
    explore(&b, &format!("{ARGUMENTS} --out lab"));
    let file = fs::File::open(b.path("lab/points.jsonl")).unwrap();
    file.lock().unwrap();
    b.refused(
        &format!("explore {ARGUMENTS} --out lab"),
        "--out",
        "another run at work in lab/points.jsonl",
    );
    drop(file);
    explore(&b, &format!("{ARGUMENTS} --out lab"));
}
