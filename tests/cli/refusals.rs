//! What the program refuses, and what it says then.

use crate::Bench;
use mixgemm::Isa;
use std::fs;
use std::process::Stdio;

#[test]
fn every_bad_input_gives_one_line_and_no_file() {
    let b = Bench::new();
    fs::write(b.path("old.safetensors"), "old").unwrap();
    fs::write(b.path("garbage.safetensors"), "\u{10}\0\0\0\0\0\0\0{\"w\": [not json}").unwrap();
    fs::write(b.path("huge.safetensors"), [0xFF; 64]).unwrap();
    fs::write(b.path("empty.safetensors"), "").unwrap();
    fs::create_dir(b.path("directory")).unwrap();
    let (w, x, y) = (
        "--weights t.safetensors:w",
        "--input t.safetensors:x",
        "--output y.safetensors",
    );
    let (s, wx) = ("--bits 4 --group 32", format!("{w} {x}"));
    let cases = [
        (format!("{w} --input t.safetensors:short {s} {y}"), "--input", "[5, 69]"),
        (format!("{wx} --bits 4 --group 0 {y}"), "--group", "0"),
        (format!("{wx} --bits 9 --group 32 {y}"), "--bits", "9"),
        (format!("{wx} --bits 0 --group 32 {y}"), "--bits", "0"),
        (format!("{wx} --bits four --group 32 {y}"), "--bits", "four"),
        (
            format!("--weights t.safetensors:nope {x} {s} {y}"),
            "--weights",
            "`nope`",
        ),
        (
            format!("--weights gone.safetensors:w {x} {s} {y}"),
            "--weights",
            "no such file",
        ),
        (
            format!("--weights t.safetensors {x} {s} {y}"),
            "--weights",
            "t.safetensors",
        ),
        (
            format!("--weights directory:w {x} {s} {y}"),
            "--weights",
            "not a regular file",
        ),
        (
            format!("--weights garbage.safetensors:w {x} {s} {y}"),
            "--weights",
            "garbage",
        ),
        (format!("--weights huge.safetensors:w {x} {s} {y}"), "--weights", "huge"),
        (
            format!("--weights empty.safetensors:w {x} {s} {y}"),
            "--weights",
            "empty",
        ),
        (format!("--weights t.safetensors:wide {x} {s} {y}"), "--weights", "I64"),
        (
            format!("--weights t.safetensors:cube {x} {s} {y}"),
            "--weights",
            "[1, 5, 70]",
        ),
        (format!("--weights t.safetensors:wnan {x} {s} {y}"), "--weights", "NaN"),
        (
            format!("--weights t.safetensors:wlarge {x} {s} {y}"),
            "--scale-type",
            "inf",
        ),
        (
            format!("{w} --input t.safetensors:cube {s} {y}"),
            "--input",
            "[1, 5, 70]",
        ),
        (format!("{w} --input t.safetensors:x8 {s} {y}"), "--mode", "a16"),
        (format!("{wx} {s} --bias t.safetensors:scales {y}"), "--bias", "5"),
        (format!("{wx} {s} --bias t.safetensors:x8 {y}"), "--bias", "I8"),
        (format!("{wx} {s} --mode a9 {y}"), "--mode", "a9"),
        (format!("{wx} {s} --isa mmx {y}"), "--isa", "mmx"),
        (format!("{wx} {s} --backend gpu {y}"), "--backend", "gpu"),
        (format!("{wx} {s} --mode native {y}"), "--mode", "native"),
        (format!("{wx} {s} --mode exact --backend fp16 {y}"), "--mode", "exact"),
        (format!("{wx} {s} --mode native --backend tpu {y}"), "--mode", "native"),
        (format!("{wx} {s} --mode a8 --fast {y}"), "--fast", "host"),
        (
            format!("{wx} {s} --mode native --backend fp16 --fast {y}"),
            "--fast",
            "fp16",
        ),
        (format!("{wx} {s} --threads 0 {y}"), "--threads", "0"),
        (
            format!("{wx} --bits 8 --group 32 --mode a8 --backend mixpe {y}"),
            "--bits",
            "8",
        ),
        (format!("{wx} {s} --mode a16 --backend mixpe {y}"), "--mode", "a16"),
        (
            format!("{wx} {s} --mode a8 --isa scalar --backend mixpe {y}"),
            "--isa",
            "scalar",
        ),
        (
            format!("{w} --input t.safetensors:x32 {s} --mode exact {y}"),
            "--input",
            "f32",
        ),
        (
            format!("{w} --input t.safetensors:xbf {s} --mode exact {y}"),
            "--input",
            "bf16",
        ),
        (
            format!("{wx} {s} --mode a8given --input-scale t.safetensors:scale {y}"),
            "--input",
            "f16",
        ),
        (
            format!("{w} --input t.safetensors:x8 {s} --mode a8given {y}"),
            "--input-scale",
            "none",
        ),
        (format!("{wx} {s} --mode a8static {y}"), "--calibration", "none"),
        (
            format!("{wx} {s} --mode a8static --input-scale t.safetensors:scales {y}"),
            "--input-scale",
            "5 values",
        ),
        (
            format!("{wx} {s} --mode a8static --input-scale t.safetensors:zero {y}"),
            "--input-scale",
            "0",
        ),
        (
            format!("{wx} {s} --mode a8static --input-scale t.safetensors:scale {y}"),
            "--input",
            "--split shadow keeps the whole value, and --split none --saturate clamps it to 127 scales, found ",
        ),
        (format!("{wx} --format flint4 --mode a8 {y}"), "--group", "none"),
        (
            format!("{w} --input t.safetensors:x8 {s} --mode a8given --input-scale t.safetensors:bias {y}"),
            "--input-scale",
            "9",
        ),
        (
            format!("{wx} {s} --mode a8 --input-scale t.safetensors:scale {y}"),
            "--input-scale",
            "a8",
        ),
        (format!("{wx} {s} --mode a8 --saturate {y}"), "--saturate", "a8"),
        (format!("{wx} {s} --asym --float-zero {y}"), "--asym", "both"),
        (format!("{wx} {s} --bits 3 {y}"), "--bits", "more than once"),
        (format!("{wx} {s} --format mxfp4 {y}"), "--bits", "both"),
        (format!("{wx} --group 32 --format mxfp4 --asym {y}"), "--format", "both"),
        (format!("{wx} --group 32 --format fp3 {y}"), "--format", "fp3"),
        (format!("{wx} --group 32 {y}"), "--bits <BITS>", "none"),
        (
            format!("{wx} --group 32 --format mxfp4 --mode a8 --backend mixpe {y}"),
            "--format",
            "codes of a book",
        ),
        (
            format!("{wx} {s} --output nowhere/y.safetensors"),
            "--output",
            "no such directory",
        ),
        (format!("{wx} {s} --output old.safetensors"), "--output", "exists"),
        (format!("{wx} {s} --output directory --force"), "--output", "directory"),
        (format!("{wx} {s}"), "--output <FILE>", "none"),
        (format!("{wx} {s} {y} --sideways"), "arguments", "--sideways"),
    ];
    for (arguments, argument, found) in &cases {
        b.refused(&format!("matmul {arguments}"), argument, found);
    }
    b.refused("multiply", "command", "multiply");
    b.refused("demo --rows", "--rows", "none");
    b.refused("demo --rows 0", "--rows", "0");
    b.refused("demo --threads 99999999", "--threads", "99999999");
    b.refused("demo --rows 1 --svg old.safetensors", "--svg", "exists");
    b.refused("demo --rows 1 --svg nowhere/d.svg", "--svg", "no such directory");
    b.refused("demo --rows 1 --svg directory --force", "--svg", "directory");
    assert_eq!(fs::read(b.path("old.safetensors")).unwrap(), b"old");
}

#[cfg(unix)]
#[test]
fn only_regular_files_are_replaced() {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::process::Command;
    let b = Bench::new();
    fs::create_dir(b.path("directory")).unwrap();
    assert!(Command::new("mkfifo").arg(b.path("pipe")).status().unwrap().success());
    let _socket = UnixListener::bind(b.path("socket")).unwrap();
    for (target, link) in [
        ("/dev/null", "to-device"),
        ("pipe", "to-pipe"),
        ("directory", "to-directory"),
        ("nowhere", "to-nowhere"),
        ("to-itself", "to-itself"),
    ] {
        symlink(target, b.path(link)).unwrap();
    }
    let matmul = "matmul --weights t.safetensors:w --input t.safetensors:x --bits 4 --group 32 --output";
    for (name, found) in [
        ("pipe", "pipe, which is a pipe"),
        ("socket", "socket, which is a socket"),
        ("to-device", "to-device, which is a device"),
        ("to-pipe", "to-pipe, which is a pipe"),
        ("to-directory", "to-directory, which is a directory"),
        ("to-nowhere", "to-nowhere, which is a link that cannot be followed"),
        ("to-itself", "to-itself, which is a link that cannot be followed"),
    ] {
        let kind = fs::symlink_metadata(b.path(name)).unwrap().file_type();
        for force in ["", " --force"] {
            b.refused(&format!("{matmul} {name}{force}"), "--output", found);
            b.refused(
                &format!("demo --rows 1 --svg {name}{force}"),
                "--svg",
                "expected a regular file",
            );
            assert_eq!(fs::symlink_metadata(b.path(name)).unwrap().file_type(), kind, "{name}");
        }
    }
}

#[cfg(unix)]
#[test]
fn what_a_link_leads_to_is_replaced_by_force() {
    let b = Bench::new();
    fs::create_dir(b.path("directory")).unwrap();
    fs::write(b.path("directory/y"), "old").unwrap();
    std::os::unix::fs::symlink("directory/y", b.path("link")).unwrap();
    let matmul = "matmul --weights t.safetensors:w --input t.safetensors:x --bits 4 --group 32 --output";
    b.refused(&format!("{matmul} link"), "--output", "link, which exists");
    b.matmul(&format!("{} link --force", matmul.trim_start_matches("matmul ")));
    assert!(fs::symlink_metadata(b.path("link")).unwrap().is_symlink());
    assert_ne!(fs::read(b.path("directory/y")).unwrap(), b"old");
    assert_eq!(b.files(), ["directory", "link", "t.safetensors"]);
}

#[test]
fn benchmarks_refuse_before_they_allocate() {
    let b = Bench::new();
    for (arguments, argument, found) in [
        ("--shape 0x4", "--shape", "0x4"),
        ("--shape 4096", "--shape", "4096"),
        ("--shape 99999999x99999999", "--shape", "99999999x99999999"),
        ("--shape 18446744073709551615x18446744073709551615", "--shape", "GiB"),
        ("--shape 99999999999999999999x4", "--shape", "99999999999999999999x4"),
        ("--shape 4x4,8x", "--shape", "8x"),
        ("--m 0", "--m", "0"),
        ("--m 1,none", "--m", "none"),
        ("--m 9999999999", "--m", "9999999999"),
        ("--bits 9", "--bits", "9"),
        ("--bits 4,0", "--bits", "0"),
        ("--group 0", "--group", "0"),
        ("--mode a9", "--mode", "a9"),
        ("--isa mmx", "--isa", "mmx"),
        ("--backend gpu", "--backend", "gpu"),
        ("--threads 0", "--threads", "0"),
        ("--threads 99999999", "--threads", "99999999"),
        ("--threads 4096", "--threads", "4096"),
        ("--rounds 0", "--rounds", "0"),
        ("--backend mixpe --mode a16", "--mode", "a16"),
        ("--backend mixpe --mode native", "--mode", "native"),
        ("--mode native", "--mode", "native"),
        ("--backend mixpe --mode a8 --bits 8", "--bits", "8"),
        ("--backend mixpe --mode a8 --isa scalar", "--isa", "scalar"),
        (
            "--backend mixpe --mode a8 --format flint4",
            "--format",
            "codes of a book",
        ),
        ("--format mxfp4 --asym", "--format", "both"),
        ("--shape 1x99999 --group channel --bits 8 --mode a8", "--group", "99999"),
    ] {
        b.refused(&format!("bench {arguments}"), argument, found);
    }
    for isa in Isa::ALL.into_iter().filter(|isa| !isa.supported()) {
        b.refused(&format!("bench --isa {isa}"), "--isa", isa.name());
    }
}

#[test]
fn an_unknown_cap_is_refused_before_any_work() {
    let b = Bench::new();
    let matmul = "matmul --weights t.safetensors:w --input t.safetensors:x --bits 4 --group 32";
    for arguments in [
        "demo",
        "bench",
        &format!("{matmul} --isa scalar --output y.safetensors"),
    ] {
        let before = b.files();
        let out = b.command(arguments).env("MIXGEMM_ISA", "nonsense").output().unwrap();
        assert_eq!(out.status.code(), Some(2), "{arguments}");
        assert_eq!(
            String::from_utf8(out.stderr).unwrap(),
            format!("error: MIXGEMM_ISA: expected {}, found nonsense\n", Isa::names())
        );
        assert!(out.stdout.is_empty() && b.files() == before, "{arguments}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let b = Bench::new();
    let mut program = b.command("demo --rows 1");
    let mut child = program.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success() && out.stderr.is_empty(), "{out:?}");
}

#[test]
fn a_file_cut_short_anywhere_is_refused() {
    let b = Bench::new();
    let whole = fs::read(b.path("t.safetensors")).unwrap();
    let header = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize + 8;
    let ends = (0..10)
        .chain([header / 2, header - 1, header, header + 1])
        .chain((header..whole.len()).step_by(1501));
    for end in ends.chain([whole.len() - 1]) {
        fs::write(b.path("cut.safetensors"), &whole[..end]).unwrap();
        let arguments = "matmul --weights cut.safetensors:w --input t.safetensors:x --bits 4 --group 32";
        b.refused(
            &format!("{arguments} --output y.safetensors"),
            "--weights",
            "cut.safetensors",
        );
    }
}
