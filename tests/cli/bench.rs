//! `mixgemm bench` beside its table: chosen kernels, drawings, rows for spreadsheets, and whole models.

use crate::Bench;
use mixgemm::kernel::catalogue;
use serde_json::Value;
use std::fs;

const SMALL: &str = "bench --shape 40x64 --group 32 --rounds 1 --isa scalar";

fn json(b: &Bench, arguments: &str) -> Value {
    let out = b.run(&format!("{arguments} --json"));
    assert!(
        out.status.success(),
        "{arguments}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    serde_json::from_slice(&out.stdout).unwrap()
}

#[test]
fn patterns_choose_kernels_where_they_fit() {
    let b = Bench::new();
    let names = |arguments: &str| -> Vec<String> {
        let rows = json(&b, arguments);
        let rows = rows["rows"].as_array().unwrap().iter();
        rows.map(|row| row["kernel"].as_str().unwrap().to_owned()).collect()
    };
    let free = format!("{SMALL} --m 8 --mode a8,a16");
    assert_eq!(
        names(&free),
        ["direct-a8.w4.i32-4x32c8g-scalar", "direct-a16.w4.i32-2x32c8g-scalar"]
    );
    // Repeated, and as a list; the first row's tiles are too high for one row.
    let forced = ["direct-a8.w4.i32-1x32c8g-scalar", "direct-a16.w4.i32-1x32c8g-scalar"];
    assert_eq!(
        names(&format!("{free} --kernel direct-a8*-1x* --kernel *a16*-1x*")),
        forced
    );
    assert_eq!(names(&format!("{free} --kernel direct-a8*-1x*,*a16*-1x*")), forced);
    let low = format!("{SMALL} --m 1 --mode a8 --kernel *-4x*");
    assert_eq!(names(&low), ["direct-a8.w4.i32-1x32c8g-scalar"]);
}

/// Rows of several threads say whose they are, and rows of one have none.
#[test]
fn pools_are_chosen_and_named() {
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        return; // More threads than the machine has are refused.
    }
    let b = Bench::new();
    for (option, pool) in [("", "own"), ("--pool own", "own"), ("--pool rayon", "rayon")] {
        let found = json(&b, &format!("{SMALL} --m 1 --mode a8 --threads 1,2 {option}"));
        assert_eq!(found["rows"][0]["pool"], Value::Null);
        assert_eq!(found["rows"][1]["pool"], pool);
    }
    b.refused(&format!("{SMALL} --pool other"), "--pool", "other");
}

#[test]
fn patterns_without_kernels_are_refused_with_near_names() {
    let b = Bench::new();
    for (arguments, found) in [
        (
            "--mode a8 --kernel direct-a8.w4.i32-5x32c8g-scalar",
            "direct-a8.w4.i32-4x32c8g-scalar",
        ),
        ("--mode a8 --kernel direct-a8.w5*", "direct-a8.w4.i32"),
        ("--mode a8,a16 --kernel direct-a8*", "mode a16"),
        ("--mode a8 --kernel *-4x*,nonsense", "`nonsense`, which matches none"),
        ("--mode a8 --kernel *-scalarx", "direct-a8.w4.i32"),
        ("--mode a8 --backend mixpe --isa auto --kernel *", "--backend mixpe"),
    ] {
        let base = if arguments.contains("mixpe") {
            "bench --shape 8x8"
        } else {
            SMALL
        };
        b.refused(&format!("{base} {arguments}"), "--kernel", found);
    }
    let empty = b
        .command(SMALL)
        .args(["--mode", "a8", "--kernel", ""])
        .output()
        .unwrap();
    let line = String::from_utf8(empty.stderr).unwrap();
    assert_eq!(empty.status.code(), Some(2), "{line}");
    assert!(line.ends_with("found ``, which match none\n"), "{line}");
    let any = catalogue::kernels().find(|k| k.isa.name() != "scalar");
    if let Some(other) = any {
        b.refused(
            &format!("{SMALL} --mode a8 --kernel {}", other.name()),
            "--kernel",
            "on scalar",
        );
    }
}

/// The cells of a line without quoted line breaks.
fn cells(line: &str) -> Vec<String> {
    let (mut cells, mut quoted) = (vec![String::new()], false);
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => cells.push(String::new()),
            c => cells.last_mut().unwrap().push(c),
        }
    }
    cells
}

/// Codes that are numbers of levels are told from integers of as many bits.
#[test]
fn formats_of_weights_have_a_column() {
    let b = Bench::new();
    for (weights, format) in [("--format mxfp4", "mxfp4"), ("--bits 4 --group 32", "")] {
        let shape = "bench --shape 40x64 --rounds 1 --isa scalar --m 1 --mode a8";
        let rows = json(&b, &format!("{shape} {weights} --csv r.csv --force"));
        assert_eq!(rows["rows"][0]["format"].as_str().unwrap_or_default(), format);
        // The format implies its groups.
        assert_eq!(rows["rows"][0]["group"], 32);
        let text = fs::read_to_string(b.path("r.csv")).unwrap();
        let lines: Vec<Vec<String>> = text.lines().map(cells).collect();
        let column = lines[0].iter().position(|head| head == "format (weights)").unwrap();
        assert_eq!(lines[1][column], format);
    }
    let matmul = "matmul --weights t.safetensors:w --input t.safetensors:x --mode a8 --output y.safetensors --force";
    for (weights, group) in [("", 32), ("--group 16", 16)] {
        let rows = json(&b, &format!("{matmul} --format mxfp4 {weights}"));
        assert_eq!(rows["rows"][0]["group"], group);
    }
}

#[test]
fn rows_and_drawing_are_written_and_never_lost() {
    let b = Bench::new();
    let bench = format!("{SMALL} --m 1,5 --mode a8,exact --svg r.svg --csv r.csv");
    let rows = json(&b, &bench);
    let text = fs::read_to_string(b.path("r.csv")).unwrap();
    let lines: Vec<Vec<String>> = text.lines().map(cells).collect();
    assert_eq!(lines.len(), 1 + 4);
    let column = |head: &str| {
        lines[0]
            .iter()
            .position(|h| h == head)
            .unwrap_or_else(|| panic!("{head} in {text}"))
    };
    let (row, machine) = (
        rows["rows"][0].as_object().unwrap(),
        rows["machine"].as_object().unwrap(),
    );
    assert_eq!(
        lines[0].len(),
        row.len() + 6 + machine.len(),
        "layers and several products, which no shape has, the pool, which one thread has not, the format, which integers \
         have not, and all other fields"
    );
    for (line, row) in lines[1..].iter().zip(rows["rows"].as_array().unwrap()) {
        assert_eq!(line.len(), lines[0].len());
        assert_eq!(line[column("kernel")], row["kernel"].as_str().unwrap());
        let seconds: f64 = line[column("time (s)")].parse().unwrap();
        assert!(
            (seconds / row["seconds"].as_f64().unwrap() - 1.0).abs() < 1e-9,
            "{text}"
        );
        assert_eq!(line[column("M")].parse().ok(), row["m"].as_u64());
        assert_eq!(line[column("machine: processor")], machine["cpu"].as_str().unwrap());
        assert_eq!(line[column("program: commit")], machine["commit"].as_str().unwrap());
    }
    let drawing = fs::read_to_string(b.path("r.svg")).unwrap();
    assert!(drawing.starts_with("<svg") && drawing.trim_end().ends_with("</svg>"));
    for part in [
        "operations per stored byte",
        "GOPS",
        "GB/s",
        "a8, M = 1, 1 thread",
        "exact, M = 5, 1 thread",
    ] {
        assert!(drawing.contains(part), "{part}");
    }
    assert_eq!(b.files(), ["r.csv", "r.svg", "t.safetensors"]);
    b.refused(&bench, "--svg", "exists");
    b.refused(&format!("{SMALL} --csv r.csv"), "--csv", "exists");
    assert_eq!(fs::read_to_string(b.path("r.csv")).unwrap(), text);
    assert!(
        b.run(&format!("{SMALL} --m 1 --mode a8 --csv r.csv --force"))
            .status
            .success()
    );
    assert_eq!(fs::read_to_string(b.path("r.csv")).unwrap().lines().count(), 2);
    for (arguments, argument, found) in [
        ("--svg nowhere/r.svg", "--svg", "no such directory"),
        ("--csv nowhere/r.csv", "--csv", "no such directory"),
        ("--csv same --svg same", "--csv", "the same"),
        ("--csv ./same --svg same", "--csv", "the same"),
        ("--svg m.svg --backend mixpe --mode a8", "--svg", "mixpe"),
    ] {
        b.refused(&format!("bench --shape 8x8 {arguments}"), argument, found);
    }
}

#[test]
fn one_scale_serves_a_whole_matrix() {
    let b = Bench::new();
    for options in ["", " --asym", " --backend mixpe"] {
        let rows = json(
            &b,
            &format!("bench --shape 64x64 --m 1 --mode a8 --rounds 1 --group tensor{options}"),
        );
        assert_eq!(rows["rows"].as_array().unwrap().len(), 1, "{options}");
    }
}

#[cfg(unix)]
#[test]
fn links_do_not_hide_that_two_files_are_one() {
    let b = Bench::new();
    std::os::unix::fs::symlink(".", b.path("here")).unwrap();
    b.refused("bench --shape 8x8 --svg same --csv here/same", "--csv", "the same");
    fs::write(b.path("old"), "old").unwrap();
    std::os::unix::fs::symlink("old", b.path("link")).unwrap();
    b.refused("bench --shape 8x8 --svg old --csv link --force", "--csv", "the same");
    assert_eq!(fs::read(b.path("old")).unwrap(), b"old");
}

#[test]
fn models_are_refused_where_they_do_not_fit() {
    let b = Bench::new();
    b.refused("bench --model gpt", "--model", "gpt");
    b.refused("bench --model llama2-7b --shape 8x8", "--model", "both");
}
