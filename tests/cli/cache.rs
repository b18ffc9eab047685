//! `mixgemm matmul --pack-cache`: packed weights are taken from a file exactly when they are the right ones.

use crate::results::{bits, defined, floats};
use crate::{Bench, K, N, rounded, varied};
use mixgemm::kernel::catalogue;
use mixgemm::pack::file::PackFile;
use mixgemm::{Epilogue, Host, Isa, Mat, Mode, QuantMatrix, Scheme, f16};
use serde_json::Value;
use std::fs;

const OPTIONS: &str = "--input t.safetensors:x --group 32 --mode a8 --output y.safetensors --force";

fn scheme() -> Scheme {
    Scheme::int(4).group(32)
}

fn weights() -> QuantMatrix {
    QuantMatrix::quantize(rounded::<f16>(&varied(N, K, 1)).view(), scheme()).unwrap()
}

/// What became of the cache, and the bits of the output.
fn run(b: &Bench, arguments: &str) -> (Value, Vec<u32>) {
    let out = b.run(&format!("matmul {OPTIONS} --json {arguments}"));
    assert!(
        out.status.success() && out.stderr.is_empty(),
        "{arguments}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    let found: Value = serde_json::from_slice(&out.stdout).unwrap();
    let y = bits(&floats(&b.path("y.safetensors"), "output"));
    (found["rows"][0]["pack_cache"].clone(), y)
}

fn product(w: &QuantMatrix) -> Vec<u32> {
    let x: Mat<f16> = rounded(&varied(crate::M, K, 2));
    defined(w, x.view().into(), Mode::A8, &Epilogue::new())
}

const OWN: &str = "--weights t.safetensors:w --bits 4 --pack-cache w.pack";

#[test]
fn weights_are_written_once_and_then_loaded() {
    let b = Bench::new();
    assert_eq!(run(&b, "--weights t.safetensors:w --bits 4").0, Value::Null);
    let (written, first) = run(&b, OWN);
    let file = fs::read(b.path("w.pack")).unwrap();
    let (loaded, second) = run(&b, OWN);
    assert_eq!(
        (written["what"].as_str(), loaded["what"].as_str()),
        (Some("written"), Some("loaded"))
    );
    assert_eq!(written["file"], loaded["file"]);
    assert!(written["file"].as_str().unwrap().ends_with("w.pack"), "{written}");
    assert!(first == product(&weights()) && second == first);
    assert_eq!(fs::read(b.path("w.pack")).unwrap(), file);
    assert_eq!(
        b.files(),
        ["t.safetensors", "w.pack", "y.safetensors"],
        "nothing is left behind"
    );
    let out = b.run(&format!("matmul {OPTIONS} {OWN}"));
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(text.contains("w.pack (loaded)"), "{text}");
    // What is saved of quantised weights does not come from the file.
    run(&b, &format!("{OWN} --save-quantized"));
    let bytes = fs::read(b.path("y.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(tensors.tensor("codes").unwrap().data(), weights().codes());
}

/// The file is what is multiplied by: other weights under the same fingerprint give another product.
#[test]
fn loaded_weights_are_those_of_the_file() {
    let b = Bench::new();
    run(&b, OWN);
    let bytes = fs::read(b.path("w.pack")).unwrap();
    let source = u64::from_le_bytes(bytes[48..56].try_into().unwrap());
    let other = QuantMatrix::quantize(varied(N, K, 9).view(), scheme()).unwrap();
    let file = PackFile::new(b.path("w.pack")).source(source);
    Host::new().prepare(&other).unwrap().save(&file).unwrap();
    let (cache, y) = run(&b, OWN);
    assert_eq!(cache["what"], "loaded");
    assert!(y == product(&other) && y != product(&weights()));
    // And one bit of the fingerprint is enough for it not to be used.
    Host::new()
        .prepare(&other)
        .unwrap()
        .save(&file.source(source ^ 1))
        .unwrap();
    let (cache, y) = run(&b, OWN);
    assert_eq!(cache["what"], "replaced");
    assert!(y == product(&weights()));
}

#[test]
fn stale_and_broken_files_are_replaced_and_named() {
    let b = Bench::new();
    for (arguments, w) in [
        ("--weights t.safetensors:wbf --bits 4 --pack-cache w.pack", None),
        ("--weights t.safetensors:w --bits 3 --pack-cache w.pack", None),
        ("--weights t.safetensors:w --bits 4 --asym --pack-cache w.pack", None),
        (
            "--weights t.safetensors:w --bits 4 --scale-type f32 --pack-cache w.pack",
            None,
        ),
        (OWN, Some(product(&weights()))),
    ] {
        let (cache, y) = run(&b, arguments);
        let what = if arguments.contains("wbf") {
            "written"
        } else {
            "replaced"
        };
        assert_eq!(cache["what"], what, "{arguments}");
        assert_eq!(cache["reason"].is_string(), what == "replaced", "{arguments}: {cache}");
        assert!(w.is_none_or(|w| w == y));
        assert_eq!(run(&b, arguments).0["what"], "loaded", "{arguments}");
    }
    let whole = fs::read(b.path("w.pack")).unwrap();
    let mut damaged = whole.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let mut page = whole.clone();
    page[100] ^= 1;
    for (bytes, reason) in [
        (&damaged[..], "panels of checksum"),
        (&page[..], "first page of checksum"),
        (&whole[..whole.len() - 1], "bytes of panels after the first page"),
        (&whole[..20], "at least 4096 bytes"),
    ] {
        fs::write(b.path("w.pack"), bytes).unwrap();
        let (cache, y) = run(&b, OWN);
        assert_eq!(cache["what"], "replaced");
        assert!(cache["reason"].as_str().unwrap().contains(reason), "{cache}");
        assert!(y == product(&weights()));
        assert_eq!(fs::read(b.path("w.pack")).unwrap(), whole);
    }
}

#[test]
fn a_directory_keeps_a_file_for_each_matrix_scheme_and_layout() {
    let b = Bench::new();
    fs::create_dir(b.path("cache")).unwrap();
    let kept = || fs::read_dir(b.path("cache")).unwrap().count();
    let isas: Vec<Isa> = Isa::ALL.into_iter().filter(|isa| isa.supported()).collect();
    let mut lanes: Vec<usize> = isas
        .iter()
        .map(|&isa| catalogue::layout(isa, 4, false).unwrap().lanes)
        .collect();
    for _ in 0..2 {
        for isa in &isas {
            let (_, y) = run(
                &b,
                &format!("--weights t.safetensors:w --bits 4 --pack-cache cache --isa {isa}"),
            );
            assert!(y == product(&weights()), "{isa}");
        }
    }
    lanes.sort_unstable();
    lanes.dedup();
    assert_eq!(kept(), lanes.len());
    for (options, new) in [
        ("w --bits 5", 1),
        ("wbf --bits 4", 1),
        ("w --bits 5", 0),
        ("w --bits 4", 0),
    ] {
        let before = kept();
        let (cache, _) = run(&b, &format!("--weights t.safetensors:{options} --pack-cache cache/"));
        assert_eq!(cache["what"], if new == 1 { "written" } else { "loaded" }, "{options}");
        assert_eq!(kept(), before + new, "{options}");
    }
}

#[test]
fn files_of_others_are_refused_and_kept() {
    let b = Bench::new();
    fs::write(b.path("diary"), "dear diary").unwrap();
    fs::write(b.path("empty"), "").unwrap();
    let own = "matmul --weights t.safetensors:w --input t.safetensors:x --bits 4 --group 32 --output y.safetensors";
    for (cache, found) in [
        ("diary", "a file of another kind"),
        ("empty", "a file of another kind"),
        ("t.safetensors", "a file of another kind"),
        ("nowhere/w.pack", "no such directory"),
        ("nowhere/", "no such directory"),
        ("y.safetensors", "the same"),
        ("w.pack --backend mixpe --mode a8", "--backend mixpe"),
    ] {
        b.refused(&format!("{own} --pack-cache {cache}"), "--pack-cache", found);
    }
    assert_eq!(fs::read(b.path("diary")).unwrap(), b"dear diary");
}

/// A link stays, and what it leads to is the cache.
#[cfg(unix)]
#[test]
fn links_are_followed() {
    let b = Bench::new();
    run(&b, OWN);
    std::os::unix::fs::symlink("w.pack", b.path("link")).unwrap();
    assert_eq!(
        run(&b, "--weights t.safetensors:w --bits 4 --pack-cache link").0["what"],
        "loaded"
    );
    assert_eq!(
        run(&b, "--weights t.safetensors:w --bits 3 --pack-cache link").0["what"],
        "replaced"
    );
    assert!(b.path("link").symlink_metadata().unwrap().is_symlink());
    assert_eq!(run(&b, OWN).0["what"], "replaced");
}
