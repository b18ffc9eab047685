//! `mixgemm doctor`: facts, choices and checks, as tables and as JSON.

use crate::Bench;
use mixgemm::Isa;
use mixgemm::kernel::catalogue;
use serde_json::Value;

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn every_kernel_of_this_cpu_is_checked_and_passes() {
    let b = Bench::new();
    let out = b.run("doctor --json");
    assert!(out.status.success(), "{}", text(&out.stderr));
    let json: Value = serde_json::from_slice(&out.stdout).unwrap();
    let mut keys: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["checks", "classes", "machine", "roofs", "system", "tiers"]);

    let checks = json["checks"].as_array().unwrap();
    let supported = catalogue::kernels().filter(|k| k.supported());
    let mut expected: Vec<_> = supported.map(|k| k.name()).collect();
    let mut checked: Vec<_> = checks.iter().map(|c| c["kernel"].as_str().unwrap()).collect();
    expected.sort_unstable();
    checked.sort_unstable();
    assert_eq!(checked, expected);
    for check in checks {
        assert!(check["pass"] == true && check["fault"].is_null(), "{check}");
        assert!(
            check["checks"].as_u64() > Some(0) && check["calls"].as_u64() > Some(0),
            "{check}"
        );
    }

    let best = Isa::best(None);
    for tier in json["tiers"].as_array().unwrap() {
        let isa: Isa = tier["isa"].as_str().unwrap().parse().unwrap();
        assert_eq!(tier["supported"], isa.supported());
        assert_eq!(tier["chosen"], isa == best);
        assert_eq!(tier["why"].as_str(), (isa == best).then_some("the fastest of this CPU"));
        let peaks = json["roofs"]["peaks"].as_array().unwrap().iter();
        assert_eq!(peaks.filter(|p| p["isa"] == tier["isa"]).count() > 0, isa.supported());
    }
    for dram in json["roofs"]["dram"].as_array().unwrap() {
        assert!(dram["gbps"].as_f64() > Some(0.0), "{dram}");
    }
    let classes = json["classes"].as_array().unwrap();
    assert_eq!(classes.len(), (8 + 1) * 3);
    for class in classes {
        for kernel in class["kernels"].as_array().unwrap() {
            assert!(expected.contains(&kernel.as_str().unwrap()), "{kernel}");
        }
    }
    for fact in ["rustc", "target", "commit"] {
        assert!(json["machine"][fact].as_str().is_some_and(|f| !f.is_empty()), "{fact}");
    }
    assert!(json["machine"]["rustc"].as_str().unwrap().starts_with("rustc "));
}

#[test]
fn a_cap_is_said_and_tables_are_complete() {
    let b = Bench::new();
    let out = b.command("doctor").env("MIXGEMM_ISA", "scalar").output().unwrap();
    assert!(out.status.success() && out.stderr.is_empty(), "{}", text(&out.stderr));
    let text = text(&out.stdout);
    let why = if Isa::best(None) == Isa::Scalar {
        "the fastest of this CPU"
    } else {
        "capped by MIXGEMM_ISA"
    };
    for part in [
        why,
        "processor",
        "caches",
        "huge page",
        "weights get",
        "built by",
        "DRAM on 1 thread: ",
        "kernel for M = 256",
        "PASS",
        "have the bits of the reference",
    ] {
        let caches = part == "caches" && text.contains("L1 data");
        assert!(caches || text.contains(part), "{part:?} in\n{text}");
    }
    assert!(!text.contains("FAIL") && !text.contains("DEFECT"), "{text}");
    for isa in Isa::ALL {
        let compiled = catalogue::kernels().any(|k| k.isa == isa);
        assert_eq!(text.contains(isa.name()), compiled, "{isa} in\n{text}");
    }
}

#[test]
fn one_problem_is_explained() {
    let b = Bench::new();
    let explain = "doctor --explain 70x64 --m 3 --bits 4 --group 32 --isa scalar";
    let out = b.run(&format!("{explain} --mode a16 --threads 2"));
    assert!(out.status.success(), "{}", text(&out.stderr));
    let shown = text(&out.stdout);
    assert!(
        shown.contains("asked for") && shown.contains("direct-a16.w4.i32-2x32c8g-scalar"),
        "{shown}"
    );

    let out = b.run("doctor --explain 70x64 --m 3 --format mxfp4 --group 32 --isa scalar");
    let shown = text(&out.stdout);
    assert!(
        shown.contains("4 bits of a book") && shown.contains("direct-a16.b4.i32-"),
        "{shown}"
    );

    let out = b.run(&format!("{explain} --mode exact --json"));
    let json: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(
        (&json["m"], &json["n"], &json["isa"]),
        (&3.into(), &70.into(), &"scalar".into())
    );
    assert_eq!(
        json["taken"].as_array().unwrap().len(),
        5 * json["tiles"].as_array().unwrap().len()
    );
    for row in json["passed_over"].as_array().unwrap() {
        assert_ne!(row["reason"], "unknown", "{row}");
    }
}

#[test]
fn any_number_of_rows_is_explained() {
    let b = Bench::new();
    for m in [100_000_000_000, usize::MAX] {
        for threads in [1, 7] {
            let out = b.run(&format!("doctor --explain 64x64 --m {m} --threads {threads} --json"));
            assert!(out.status.success(), "{}", text(&out.stderr));
            let json: Value = serde_json::from_slice(&out.stdout).unwrap();
            let rows = |t: &Value| t["height"].as_u64().unwrap() * t["count"].as_u64().unwrap();
            let tiles = json["tiles"].as_array().unwrap().iter();
            assert_eq!(tiles.map(rows).sum::<u64>(), m as u64);
        }
    }
}

#[test]
fn what_cannot_be_explained_is_refused() {
    let b = Bench::new();
    for (arguments, argument, found) in [
        ("--explain 4096", "--explain", "4096"),
        ("--explain 0x4", "--explain", "0x4"),
        ("--explain 99999999x99999999", "--explain", "99999999x99999999"),
        ("--explain 1073741824x1", "--explain", "1073741824x1"),
        ("--explain 1x536870912", "--explain", "1x536870912"),
        ("--explain 16384x16384 --group 1", "--explain", "group 1"),
        ("--explain 4x4 --bits 9", "--bits", "9"),
        ("--explain 4x4 --mode a9", "--mode", "a9"),
        ("--explain 4x4 --m 0", "--m", "0"),
        ("--explain 4x4 --group 0", "--group", "0"),
        ("--explain 4x4 --threads 0", "--threads", "0"),
        ("--explain 4x4 --isa mmx", "--isa", "mmx"),
        ("--m 3", "--m", "none"),
        ("--bits 3", "--bits", "none"),
        ("--format mxfp4", "--format", "none"),
        ("--group 3", "--group", "none"),
        ("--mode a8", "--mode", "none"),
        ("--threads 1", "--threads", "none"),
        ("--isa auto", "--isa", "none"),
        ("--sideways", "arguments", "--sideways"),
    ] {
        b.refused(&format!("doctor {arguments}"), argument, found);
    }
    let line = b.run("doctor --m 3").stderr;
    assert_eq!(
        text(&line),
        "error: --m: expected --explain NxK beside it, found none\n"
    );
    for isa in Isa::ALL.into_iter().filter(|isa| !isa.supported()) {
        b.refused(&format!("doctor --explain 4x4 --isa {isa}"), "--isa", isa.name());
    }
}
