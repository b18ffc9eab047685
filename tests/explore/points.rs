//! The file of points: whoever writes it, however often it is interrupted, cut and put together.

use crate::{evaluate, file, heading, run, toml};
use mixgemm::Error;
use mixgemm::dse::explore::{Run, explore};
use mixgemm::dse::heading::Shard;
use mixgemm::dse::outcome::{Entry, Infeasible};
use mixgemm::dse::points::{Shards, entries};
use mixgemm::dse::space::Point;
use mixgemm::dse::workload::Workload;
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn the_file_does_not_depend_on_threads() {
    let directory = tempfile::tempdir().unwrap();
    let heading = heading(&toml(), "1/1");
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| run(&heading, &file(&directory, &threads.to_string())))
    };
    let one = on(1);
    assert_eq!(one.iter().filter(|&&b| b == b'\n').count(), 337);
    assert!(on(2) == one && on(7) == one);
}

#[test]
fn a_run_goes_on_where_it_was_torn() {
    let directory = tempfile::tempdir().unwrap();
    let heading = heading(&toml(), "1/1");
    let whole = run(&heading, &file(&directory, "whole"));
    let path = file(&directory, "torn");
    let ends: Vec<usize> = whole
        .iter()
        .enumerate()
        .filter(|(_, b)| **b == b'\n')
        .map(|(i, _)| i + 1)
        .collect();
    for cut in [
        0,
        1,
        ends[0] - 1,
        ends[0],
        ends[0] + 1,
        ends[9],
        ends[9] + 30,
        ends[100] - 1,
        whole.len() - 1,
        whole.len(),
    ] {
        fs::write(&path, &whole[..cut]).unwrap();
        let (mut begun, mut calls) = (None, Vec::new());
        let counted = std::sync::atomic::AtomicUsize::new(0);
        let counting = |point: &Point| {
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            evaluate(point)
        };
        explore(&heading, &path, counting, |done, all| {
            begun.get_or_insert(done);
            calls.push((done, all));
        })
        .unwrap();
        assert!(fs::read(&path).unwrap() == whole, "cut at {cut}");
        let kept = ends[1..].iter().filter(|&&end| end <= cut).count();
        assert_eq!(
            (begun, counted.into_inner()),
            (Some(kept as u64), 336 - kept),
            "cut at {cut}"
        );
        assert_eq!(calls.last(), Some(&(336, 336)));
    }
}

#[test]
fn an_error_leaves_what_was_done() {
    let directory = tempfile::tempdir().unwrap();
    let (heading, path) = (heading(&toml(), "1/1"), file(&directory, "f"));
    let fails = |point: &Point| match point.id {
        200.. => Err(Error::file("less", point.id.to_string())),
        _ => evaluate(point),
    };
    let error = explore(&heading, &path, fails, |_, _| {}).unwrap_err();
    assert_eq!(error, Error::file("less", "200"));
    let whole = run(&heading, &file(&directory, "whole"));
    assert!(run(&heading, &path) == whole);
    let infinite = |point: &Point| {
        let mut row = evaluate(point)?;
        row.outcome.power_mw = f64::INFINITY;
        Ok(row)
    };
    let error = explore(&heading, &file(&directory, "g"), infinite, |_, _| {}).unwrap_err();
    assert!(error.to_string().contains("power_mw"), "{error}");
}

/// A point that no machine is at is an entry with the reason; the run goes on, and is resumed and read like any other.
#[test]
fn what_is_infeasible_is_kept_with_its_reason() {
    let directory = tempfile::tempdir().unwrap();
    let (heading, path) = (heading(&toml(), "1/1"), file(&directory, "f"));
    let picky = |point: &Point| match point.id % 3 {
        1 => Err(Error::unsupported("array", "another", point.array.to_string())),
        _ => evaluate(point),
    };
    explore(&heading, &path, picky, |_, _| {}).unwrap();
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    explore(&heading, &path, picky, |_, _| {}).unwrap();
    assert!(fs::read(&path).unwrap() == whole);
    let (_, found) = entries(&path).unwrap();
    for (id, entry) in (0..).zip(found) {
        let point = heading.space.point(id).unwrap();
        let expected = match picky(&point) {
            Ok(row) => Entry::Feasible(row),
            Err(error) => Entry::Infeasible(Infeasible {
                point,
                infeasible: error.to_string(),
            }),
        };
        assert_eq!(entry.unwrap(), expected);
    }
}

/// As long as one run has the file open, another is refused; a file that a run left behind is not locked.
#[test]
fn two_runs_do_not_write_one_file() {
    let directory = tempfile::tempdir().unwrap();
    let (heading, path) = (heading(&toml(), "1/1"), file(&directory, "f"));
    let first = Run::open(&heading, &path).unwrap();
    let error = Run::open(&heading, &path).unwrap_err().to_string();
    assert!(
        error.contains("no other run is writing") && error.contains("another run at work"),
        "{error}"
    );
    first.explore(evaluate, |_, _| {}).unwrap();
    let whole = fs::read(&path).unwrap();
    drop(Run::open(&heading, &path).unwrap());
    assert!(run(&heading, &path) == whole);
}

#[test]
fn another_configuration_is_never_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory, "f");
    let own = heading(&toml(), "1/1");
    let before = run(&own, &path);
    let mut other_workload = own.clone();
    other_workload.workload = Workload::built_in("llama2-7b").unwrap();
    let mut other_tensors = own.clone();
    other_tensors.tensors = "others".into();
    for (other, what) in [
        (heading(&toml().replace("0.7", "0.8"), "1/1"), "space"),
        (heading(&toml(), "1/2"), "shard"),
        (other_workload, "workload"),
        (other_tensors, "tensors"),
    ] {
        let error = explore(&other, &path, evaluate, |_, _| {}).unwrap_err().to_string();
        assert!(error.contains(&format!("the same {what}")), "{what}: {error}");
    }
    for (wreck, what) in [("not points\n", "heading"), ("{}\n", "heading")] {
        fs::write(file(&directory, "g"), wreck).unwrap();
        let error = explore(&own, &file(&directory, "g"), evaluate, |_, _| {})
            .unwrap_err()
            .to_string();
        assert!(error.contains(what), "{error}");
        assert_eq!(fs::read_to_string(file(&directory, "g")).unwrap(), wreck);
    }
    assert!(fs::read(&path).unwrap() == before);
    // A line in the middle that is another point's.
    let text = String::from_utf8(before).unwrap();
    fs::write(&path, text.replacen("{\"id\":5,", "{\"id\":6,", 1)).unwrap();
    assert!(
        explore(&own, &path, evaluate, |_, _| {})
            .unwrap_err()
            .to_string()
            .contains("point 5")
    );
}

#[test]
fn merged_shards_are_one_run() {
    let directory = tempfile::tempdir().unwrap();
    let whole = run(&heading(&toml(), "1/1"), &file(&directory, "whole"));
    for of in [1u64, 2, 5, 336, 340] {
        let paths: Vec<PathBuf> = (1..=of).map(|i| file(&directory, &format!("{i}of{of}"))).collect();
        for (i, path) in paths.iter().enumerate() {
            run(&heading(&toml(), &format!("{}/{of}", i + 1)), path);
        }
        // In any order.
        let turned: Vec<&Path> = paths.iter().rev().map(PathBuf::as_path).collect();
        let mut merged = Vec::new();
        Shards::open(&turned).unwrap().write(&mut merged).unwrap();
        assert!(merged == whole, "{of} shards");
    }
    let two = [file(&directory, "1of2"), file(&directory, "2of2")];
    let refused = |paths: &[&Path], expected: &str| {
        let merged = Shards::open(paths).and_then(|shards| shards.write(&mut Vec::new()));
        let error = merged.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    refused(&[], "at least one");
    refused(&[&two[0]], "shard 2/2 once");
    refused(&[&two[0], &two[1], &two[0]], "shard 1/2 once");
    refused(&[&two[0], &file(&directory, "2of5")], "one of 2 shards");
    let other = file(&directory, "other");
    run(&heading(&toml().replace("0.7", "0.9"), "2/2"), &other);
    refused(&[&two[0], &other], "another space");
    let text = fs::read_to_string(&two[1]).unwrap();
    fs::write(&two[1], &text[..text.len() - 200]).unwrap();
    refused(&[&two[0], &two[1]], "expected");
}

#[test]
fn what_was_written_is_read_back_bit_for_bit() {
    let directory = tempfile::tempdir().unwrap();
    let (heading, path) = (heading(&toml(), "1/1"), file(&directory, "f"));
    run(&heading, &path);
    let (found, rows) = entries(&path).unwrap();
    assert_eq!(found, heading);
    for (id, row) in rows.enumerate() {
        let expected = evaluate(&heading.space.point(id as u64).unwrap()).unwrap();
        assert_eq!(row.unwrap(), Entry::Feasible(expected));
    }
    for bad in ["0/2", "3/2", "1", "1/0", "a/b", ""] {
        assert!(bad.parse::<Shard>().is_err(), "{bad}");
    }
}
