//! The run over a design space: its numbering, its file, and what happens when it is interrupted, cut and put together.
#![cfg(feature = "lab")]
#![forbid(unsafe_code)]

use mixgemm::accel::hardware::Hardware;
use mixgemm::dse::evaluate::Evaluator;
use mixgemm::dse::explore::{Run, explore};
use mixgemm::dse::heading::{Heading, Shard};
use mixgemm::dse::kept::Kept;
use mixgemm::dse::outcome::{Entry, Infeasible, Outcome, Row};
use mixgemm::dse::pareto::Tolerance;
use mixgemm::dse::points::{Shards, entries};
use mixgemm::dse::space::{Point, Space};
use mixgemm::dse::view::{best_at_one_peak, cell, frontiers};
use mixgemm::dse::workload::Workload;
use mixgemm::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const ARITHMETIC: &str = "device = ['mixpe-w4a8', 'tpu-int8']\nbits = [4]\nzero = ['integer']\ninput = ['a8']\n\
                          accumulator = ['i24']\ndequantisation = ['after']\n";

/// A space of 2 · 2 · 3 · 1 · … = `2·2·3·2·2·7 = 336` points.
fn toml() -> String {
    format!(
        "[axes]\nm = [1, 2, 3, 4, 5, 6, 7]\ndram_pj_per_bit = [0.7, 20.0]\n[[design]]\n{ARITHMETIC}group = [32, 'channel']\n\
         array = ['8x8', '16x16', '32x28']\ndataflow = ['os']\nbandwidth_bits_per_cycle = [64, 100.5]\n"
    )
}

fn heading(toml: &str, shard: &str) -> Heading {
    let workload = Workload::built_in("vit").unwrap();
    Heading::new(
        Space::from_toml(toml).unwrap(),
        workload,
        "none".into(),
        shard.parse().unwrap(),
    )
}

/// Figures that follow from the point, with digits that a careless reader loses.
fn evaluate(point: &Point) -> Result<Row> {
    let outcome = Outcome {
        fidelity_db: 1.0 / (point.id + 3) as f64,
        seconds: point.bandwidth_bits_per_cycle / 3e9 * point.m as f64,
        macs: u64::MAX - point.id,
        ..Outcome::default()
    };
    Ok(Row {
        point: point.clone(),
        outcome,
    })
}

fn run(heading: &Heading, path: &Path) -> Vec<u8> {
    explore(heading, path, evaluate, |_, _| {}).unwrap();
    fs::read(path).unwrap()
}

fn file(directory: &TempDir, name: &str) -> PathBuf {
    directory.path().join(name)
}

/// What points share is computed by whichever comes first, so it may not depend on anything else of them.
#[test]
fn a_point_has_the_same_figures_whoever_comes_before_it() {
    let axes = "m = [1, 64]\narray = ['8x8', '13x7']\ndataflow = ['os', 'ws']\nbuffers_kib = ['64/32/32', '256/128/128']\n\
                bandwidth_bits_per_cycle = [64, 1024]\nnode_nm = [28, 45]\ndram_pj_per_bit = [0.7, 20.0]\n";
    let arithmetic = ARITHMETIC.replace("zero = ['integer']", "zero = ['symmetric', 'integer']");
    let space = Space::from_toml(&format!("[axes]\n{axes}[[design]]\n{arithmetic}group = [32, 64]\n")).unwrap();
    let points: Vec<Point> = (0..space.len()).map(|id| space.point(id).unwrap()).collect();
    let known = points
        .iter()
        .map(|point| (point.format(), Ok(20.0)))
        .collect::<std::collections::HashMap<_, _>>();
    let evaluator = || Evaluator::new(Workload::built_in("vit").unwrap(), known.clone());
    let (forwards, backwards) = (evaluator(), evaluator());
    let first: Vec<Row> = points.iter().map(|point| forwards.evaluate(point).unwrap()).collect();
    let mut last: Vec<Row> = points
        .iter()
        .rev()
        .map(|point| backwards.evaluate(point).unwrap())
        .collect();
    last.reverse();
    assert!(points.len() >= 256 && first.iter().any(|row| row.outcome.efficiency_equal_area > 2.0));
    for (first, last) in first.iter().zip(&last) {
        assert_eq!(first.outcome, last.outcome, "{:?}", first.point);
    }
}

#[test]
fn points_are_numbered_with_the_last_axis_fastest() {
    let space = Space::from_toml(&toml()).unwrap();
    assert_eq!(space.len(), 336);
    let points: Vec<Point> = (0..space.len()).map(|id| space.point(id).unwrap()).collect();
    for (id, point) in points.iter().enumerate() {
        assert_eq!((point.id, point.m), (id as u64, id as u64 % 7 + 1));
        assert_eq!(point.dram_pj_per_bit, [0.7, 20.0][id / 7 % 2]);
        assert_eq!(point.bandwidth_bits_per_cycle, [64.0, 100.5][id / 14 % 2]);
        assert_eq!(point.array.to_string(), ["8x8", "16x16", "32x28"][id / 28 % 3]);
        assert_eq!(point.group.to_string(), ["32", "channel"][id / 84 % 2]);
        assert_eq!(point.device, ["mixpe-w4a8", "tpu-int8"][id / 168]);
    }
    assert_eq!(space.point(336), None);
    for (i, a) in points.iter().enumerate() {
        let same = |b: &&Point| {
            Point {
                id: a.id,
                ..(*b).clone()
            } == *a
        };
        assert_eq!(points.iter().filter(same).count(), 1, "point {i}");
    }
    assert_eq!(space.clone().without_m().len(), 48);
}

#[test]
fn the_built_in_space_is_one() {
    let space = Space::built_in().unwrap();
    assert!((1000..100_000).contains(&space.len()), "{}", space.len());
    let devices: Vec<_> = space.designs().iter().flat_map(|d| d.device.clone().unwrap()).collect();
    for device in ["mixpe-w4a8", "mixpe-w4a16", "tpu-int8", "fp16", "dequant-w4a16"] {
        assert!(devices.iter().any(|d| d == device), "{device}");
    }
}

#[test]
fn a_space_that_is_none_is_refused_by_key() {
    let whole = toml();
    assert!(Space::from_toml(&whole).is_ok());
    for (from, to, expected) in [
        (
            "bits = [4]",
            "bits = [9]",
            "bits: expected 1 to 8, or 16 for f16 weights, found 9 in design 1",
        ),
        ("bits = [4]", "bits = []", "bits: expected at least one value"),
        (
            "bits = [4]",
            "bits = [4, 3, 4]",
            "bits: expected distinct values, found 4 twice",
        ),
        (
            "bits = [4]\n",
            "",
            "bits: expected a list of values, found none in design 1",
        ),
        ("bits = [4]", "bits = 4", "line 6: invalid type"),
        ("bits = [4]", "bit = [4]", "unknown field `bit`"),
        ("[[design]]", "[[designs]]", "unknown field `designs`"),
        ("['os']", "['xs']", "unknown variant `xs`"),
        ("32x28", "32*28", "array: expected ROWSxCOLUMNS"),
        ("'i24'", "'24'", "accumulator: expected"),
        (
            "100.5",
            "0",
            "bandwidth_bits_per_cycle: expected bits per cycle above 0",
        ),
        (
            "100.5",
            "nan",
            "bandwidth_bits_per_cycle: expected bits per cycle above 0",
        ),
        ("20.0", "-20.0", "dram_pj_per_bit: expected pJ per bit above 0"),
        ("[1, 2, 3", "[0, 2, 3", "m: expected 1 to 16777216"),
        ("32, 'channel'", "32, 'row'", "group: expected"),
        ("32, 'channel'", "0, 'channel'", "group: expected"),
    ] {
        assert!(whole.contains(from), "{from}");
        let error = Space::from_toml(&whole.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(error.contains(expected), "{to}: {error}");
    }
    assert!(
        Space::from_toml("[axes]\nm = [1]")
            .unwrap_err()
            .to_string()
            .contains("design")
    );
    let many = (1..=4096).map(|m| format!("{m},")).collect::<String>();
    let vast = whole
        .replace("[1, 2, 3, 4, 5, 6, 7]", &format!("[{many}]"))
        .replace("['os']", "['os','ws','is']")
        + &format!("clock_mhz = [{many}]\nnode_nm = [{many}]\n");
    assert!(
        Space::from_toml(&vast)
            .unwrap_err()
            .to_string()
            .contains("at most 4294967296 points")
    );
}

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

/// A space that is written out is the same space, and a run of it the same file.
#[test]
fn a_run_is_reproduced_from_its_saved_space() {
    let directory = tempfile::tempdir().unwrap();
    for text in [
        toml(),
        mixgemm::dse::space::DEFAULT.replace("m = [1, 16, 128, 2048]", "m = [7]"),
    ] {
        let own = heading(&text, "1/1");
        let saved = own.space.to_toml().unwrap();
        assert_eq!(Space::from_toml(&saved).unwrap(), own.space, "{saved}");
        let paths = [file(&directory, "own"), file(&directory, "again")];
        assert!(run(&own, &paths[0]) == run(&heading(&saved, "1/1"), &paths[1]));
        paths.iter().for_each(|path| fs::remove_file(path).unwrap());
    }
}

/// Whatever was thrown away on the way, frontiers, the best of devices, and the first row of every cell are the same.
#[test]
fn kept_rows_have_all_that_drawings_need() {
    let space = Space::from_toml(&toml()).unwrap();
    let rows: Vec<Row> = (0..space.len()).map(|id| tangled(&space.point(id).unwrap())).collect();
    let view = |rows: &[Row]| -> Vec<(Vec<u64>, Vec<u64>, Vec<u64>)> {
        let ids = |places: &[usize]| places.iter().map(|&place| rows[place].point.id).collect::<Vec<u64>>();
        let frontiers = frontiers(rows, Tolerance::DEFAULT).unwrap();
        let mut all = Vec::new();
        for frontier in &frontiers {
            let places = frontier.conditions.places(rows);
            let (_, best) = best_at_one_peak(rows, &places, frontier.view).unwrap().unwrap();
            let mut cells = std::collections::HashSet::new();
            let first = places
                .iter()
                .filter(|&&i| cells.insert((cell(frontier.view, &rows[i]), &rows[i].point.device)));
            let first: Vec<usize> = first.copied().collect();
            all.push((ids(&frontier.places), ids(&best), ids(&first)));
        }
        all
    };
    let expected = view(&rows);
    assert!(
        expected
            .iter()
            .any(|(frontier, _, first)| frontier.len() > 2 && first.len() < 24)
    );
    for least in [1, 10, 100, 1000] {
        let mut kept = Kept::new(Tolerance::DEFAULT, least);
        rows.iter().for_each(|row| kept.push(row.clone()).unwrap());
        let kept = kept.into_rows();
        assert!(kept.len() < rows.len() || least == 1000);
        assert_eq!(view(&kept), expected, "{least}");
    }
}

/// Figures on a coarse grid, so that rows tie, fall into one cell, and dominate each other.
fn tangled(point: &Point) -> Row {
    let h = point.id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    let outcome = Outcome {
        fidelity_db: (h % 7) as f64 * 0.2,
        efficiency_equal_peak: 1.0 + (h / 7 % 9) as f64 * 0.004,
        efficiency_equal_area: 1.0 + (h / 63 % 5) as f64 * 0.5,
        ..Outcome::default()
    };
    Row {
        point: point.clone(),
        outcome,
    }
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

/// The page on adding an accelerator: its data is an accelerator, and the lines next to which it says to write exist.
#[test]
fn the_page_on_adding_an_accelerator_holds() {
    let page = include_str!("../docs/adding-an-accelerator.md");
    let block = |kind: &str| -> Vec<&str> {
        let parts = page.split("```").skip(1).step_by(2);
        parts.filter_map(|part| part.strip_prefix(kind)).collect()
    };
    let data: Vec<&str> = block("toml\n");
    let toy = Hardware::from_toml(data[0]).unwrap();
    let mixpe = Hardware::named("mixpe-w4a8").unwrap();
    assert_eq!((&*toy.name, toy.formats.weight_bits), ("toy-w2a8", 2));
    assert!(toy.area().unwrap().core_um2 < mixpe.area().unwrap().core_um2);
    let lists = [
        include_str!("../src/accel/hardware/catalogue.rs"),
        include_str!("../src/accel/catalogue/mod.rs"),
    ];
    let diffs: Vec<&str> = block("diff\n");
    assert_eq!(diffs.len(), lists.len());
    for (diff, list) in diffs.iter().zip(lists) {
        let old = diff.lines().filter(|line| !line.starts_with('+')).map(str::trim);
        assert!(
            old.filter(|line| !line.is_empty()).all(|line| list.contains(line)),
            "{diff}"
        );
    }
}
