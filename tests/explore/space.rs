//! Spaces: how points are numbered, what is refused, and what is saved.

use crate::{file, heading, run, toml};
use mixgemm::dse::space::{Point, Space};
use std::fs;

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
    // What the README says of it.
    let readme = include_str!("../../README.md");
    let said = format!("({} {:03} designs,", space.len() / 1000, space.len() % 1000);
    assert!(readme.contains(&said), "README.md: expected `{said}`");
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
