//! Packed weights in a file are the weights that were saved; anything else is an error that says what is wrong.
#![deny(unsafe_code)]
#![cfg(all(feature = "testing", feature = "pack-file"))]

use mixgemm::base::map::Unchanging;
use mixgemm::pack::file::PackFile;
use mixgemm::pack::layout::{PACKING, PanelLayout};
use mixgemm::pack::page::PAGE;
use mixgemm::pack::weights::PackedWeights;
use mixgemm::testing::{Draw, Inputs, book_schemes, schemes, weights};
use mixgemm::{Epilogue, Error, Floats, Host, Mat, QuantMatrix, Scheme, Workspace, Zeros};
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;

const N: usize = 40;
const K: usize = 50;

fn fixture() -> QuantMatrix {
    weights(&mut Draw::new(91), Scheme::int(4).group(16).asymmetric(), N, K)
}

/// The same file, to be mapped.
#[expect(unsafe_code, reason = "a promise about files of these tests")]
fn mapped(file: &PackFile) -> PackFile {
    // SAFETY: nobody else writes to a test's temporary directory, and tests replace files that they have mapped.
    file.clone().mapped(unsafe { Unchanging::promise() })
}

/// A directory, and a file in it with the fixture for this CPU.
fn saved() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("weights.pack");
    let gemm = Host::new().prepare(&fixture()).unwrap();
    gemm.save(&PackFile::new(&path).source(7)).unwrap();
    (directory, path)
}

/// What is said when the file holds these bytes.
fn refusal(bytes: &[u8]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("other.pack");
    fs::write(&path, bytes).unwrap();
    let error = Host::new().load(&PackFile::new(&path).source(7)).unwrap_err();
    let message = error.to_string();
    assert!(message.contains("expected") && message.contains("found"), "{message}");
    assert!(message.contains(path.to_str().unwrap()), "{message}");
    message
}

/// Makes the first page's checksum right again.
fn seal(bytes: &mut [u8]) {
    let checksum = crc32fast::hash(&bytes[..PAGE - 4]);
    bytes[PAGE - 4..PAGE].copy_from_slice(&checksum.to_le_bytes());
}

#[test]
fn loaded_weights_multiply_to_the_same_bits() {
    let directory = tempfile::tempdir().unwrap();
    let (path, draw) = (directory.path().join("w.pack"), &mut Draw::new(92));
    let inputs = Inputs::new(draw, 3, K);
    for scheme in schemes(K, 0).into_iter().chain(book_schemes(K, 0)) {
        let w = weights(draw, scheme, N, K);
        let host = Host::new();
        let packed = host.prepare(&w).unwrap();
        packed.save(&PackFile::new(&path)).unwrap();
        let [verified, trusted] = [PackFile::new(&path), PackFile::new(&path).trusted()];
        for file in [mapped(&verified), mapped(&trusted), verified, trusted] {
            let loaded = host.load(&file).unwrap();
            assert_eq!(loaded.weights().layout(), packed.weights().layout());
            assert_eq!(loaded.shape(), packed.shape());
            let panels = packed.weights().layout().panels();
            assert_eq!(loaded.weights().panels(0..panels), packed.weights().panels(0..panels));
            assert_eq!(loaded.weights().panels(0..panels).as_ptr().addr() % 64, 0);
            for (mode, x) in inputs.cases() {
                let [mut y, mut z] = [Mat::<f32>::zeros(3, N), Mat::zeros(3, N)];
                let (workspace, epilogue) = (&mut Workspace::new(), Epilogue::new());
                let from_memory = packed.run_with(workspace, x, mode, &epilogue, y.view_mut());
                let from_file = loaded.run_with(workspace, x, mode, &epilogue, z.view_mut());
                assert_eq!(from_memory.is_ok(), from_file.is_ok());
                let same = y.data().iter().zip(z.data()).all(|(y, z)| y.to_bits() == z.to_bits());
                assert!(same, "{scheme:?} {mode:?}");
            }
        }
    }
}

#[test]
fn empty_matrices_are_saved_and_loaded() {
    let directory = tempfile::tempdir().unwrap();
    let file = PackFile::new(directory.path().join("w.pack"));
    for (n, k) in [(0, 5), (5, 0), (0, 0)] {
        let w = weights(&mut Draw::new(93), Scheme::int(4).group(16), n, k);
        Host::new().prepare(&w).unwrap().save(&file).unwrap();
        let loaded = Host::new().load(&file).unwrap();
        assert_eq!((loaded.shape().n, loaded.shape().k, loaded.packed_bytes()), (n, k, 0));
    }
}

/// Rows without columns take no byte, so a short file can have any number of them.
#[test]
fn rows_without_end_are_loaded_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let file = PackFile::new(directory.path().join("w.pack"));
    let (scheme, n) = (Scheme::int(4), usize::MAX / 16);
    let w = QuantMatrix::from_parts(scheme, n, 0, vec![], Floats::F16(vec![]), Zeros::Symmetric).unwrap();
    Host::new().prepare(&w).unwrap().save(&file).unwrap();
    assert_eq!(Host::new().load(&file).unwrap().shape().n, n);
}

/// Every byte of the first page, each bit of it in turn, and every 37th of the panels.
#[test]
fn every_changed_byte_is_noticed() {
    let (_directory, path) = saved();
    let mut bytes = fs::read(&path).unwrap();
    let places = (0..80).chain((80..PAGE - 4).step_by(97)).chain(PAGE - 4..PAGE);
    for place in places.chain((PAGE..bytes.len()).step_by(37)) {
        let bit = 1 << (place % 8);
        bytes[place] ^= bit;
        refusal(&bytes);
        bytes[place] ^= bit;
    }
}

/// Each field with another value, in a page that is whole.
#[test]
fn other_fields_are_named() {
    let (_directory, path) = saved();
    let original = fs::read(&path).unwrap();
    let cases: [(usize, &[u8], &str); 17] = [
        (0, b"\x89PNG", "a file of another kind"),
        (8, &[3], "expected version 2 of the format, found version 3"),
        (12, &[9], "expected version 1 of the packing, found version 9"),
        (16, &[200], "bytes of panels for 200 x 50"),
        (16, &[0xFF; 8], "expected a packed size that fits usize"),
        (24, &[90], "bytes of panels for 40 x 90"),
        (32, &[8], "bytes of panels for 40 x 50"),
        (32, &[0], "group: expected at least 1 weight, found 0"),
        (40, &[3], "expected groups of kind 0 to 2, found kind 3"),
        (41, &[9], "bits: expected 1 to 8, found 9"),
        (41, &[5], "bytes of panels"),
        (
            42,
            &[0],
            "expected a place for zero points that are Symmetric, found Byte",
        ),
        (42, &[7], "expected zero points of kind 0 to 2, found kind 7"),
        (43, &[3], "expected scales of kind 0 to 2, found kind 3"),
        (44, &[2], "expected rounding of kind 0 to 1, found kind 2"),
        (45, &[5], "expected zero points in a panel of kind 0 to 4, found kind 5"),
        (46, &[65], "expected 1 to 64 lanes, found 65"),
    ];
    for (at, value, expected) in cases {
        let mut bytes = original.clone();
        bytes[at..at + value.len()].copy_from_slice(value);
        seal(&mut bytes);
        let message = refusal(&bytes);
        assert!(message.contains(expected), "{at}: {message}");
    }
    for (at, expected) in [
        (48, "expected source 7, found source 8"),
        (64, "expected panels of checksum"),
    ] {
        let mut bytes = original.clone();
        bytes[at] = bytes[at].wrapping_add(1);
        seal(&mut bytes);
        assert!(refusal(&bytes).contains(expected));
    }
}

#[test]
fn files_of_another_length_are_refused() {
    let (_directory, path) = saved();
    let bytes = fs::read(&path).unwrap();
    for len in [
        0,
        1,
        7,
        8,
        64,
        PAGE - 1,
        PAGE,
        PAGE + 1,
        PAGE + 64,
        bytes.len() - 64,
        bytes.len() - 1,
    ] {
        let message = refusal(&bytes[..len]);
        let expected = if len < PAGE {
            "at least 4096 bytes"
        } else {
            "bytes of panels after the first page"
        };
        assert!(message.contains(expected), "{len}: {message}");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert!(refusal(&longer).contains("bytes of panels after the first page"));
}

/// Scales and zero points that no matrix can have are refused although their checksum is right.
#[test]
fn values_outside_their_domain_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.pack");
    let draw = &mut Draw::new(94);
    // For one group, the zero points come first and the scales after 64 bytes.
    for (scheme, at, value) in [
        (Scheme::int(4), 0, [0x00, 0x7C]),
        (Scheme::int(3).asymmetric(), 64, [0xFF, 0x7F]),
        (Scheme::int(3).asymmetric(), 0, [0x99, 0x99]),
        (Scheme::int(4).float_zero(), 0, [0x00, 0x7C]),
    ] {
        let w = weights(draw, scheme, N, K);
        Host::new().prepare(&w).unwrap().save(&PackFile::new(&path)).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        bytes[PAGE + at..PAGE + at + 2].copy_from_slice(&value);
        let checksum = crc32fast::hash(&bytes[PAGE..]);
        bytes[64..68].copy_from_slice(&checksum.to_le_bytes());
        seal(&mut bytes);
        fs::write(&path, &bytes).unwrap();
        let error = Host::new().load(&PackFile::new(&path)).unwrap_err();
        assert!(error.to_string().contains("finite scales and zero points"), "{error}");
        assert!(Host::new().load(&PackFile::new(&path).trusted()).is_ok());
    }
}

#[test]
fn weights_for_other_lanes_are_refused_by_the_host_alone() {
    let directory = tempfile::tempdir().unwrap();
    let file = PackFile::new(directory.path().join("w.pack"));
    let w = fixture();
    let own = Host::new().prepare(&w).unwrap().weights().layout().panel.lanes;
    let packed = PackedWeights::pack(
        &w,
        PanelLayout {
            lanes: own + 1,
            bits: 4,
            book: false,
        },
    )
    .unwrap();
    packed.save(&file).unwrap();
    assert_eq!(PackedWeights::load(&file).unwrap().layout(), packed.layout());
    let path = file.path();
    let expected = format!(
        "file: expected weights packed for {own} lanes, found {} lanes in {}",
        own + 1,
        path.display()
    );
    assert_eq!(Host::new().load(&file).unwrap_err().to_string(), expected);
    // The first page is enough to know.
    let mut bytes = fs::read(path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(path, &bytes).unwrap();
    assert_eq!(Host::new().load(&file).unwrap_err().to_string(), expected);
    let damaged = PackedWeights::load(&file).unwrap_err().to_string();
    assert!(damaged.contains("expected panels of checksum"), "{damaged}");
}

/// What may be replaced: pack files in whatever state, and nothing else.
#[test]
fn pack_files_are_known_by_their_first_bytes() {
    let (_directory, path) = saved();
    let (file, whole) = (PackFile::new(&path), fs::read(&path).unwrap());
    for (bytes, ours) in [
        (&whole[..], true),
        (&whole[..100], true),
        (&whole[..8], true),
        (&whole[..7], false),
        (b"", false),
        (b"\x89PNG\r\n\x1a\n and more", false),
    ] {
        fs::write(&path, bytes).unwrap();
        assert_eq!(file.is_one(), Ok(ours), "{} bytes", bytes.len());
    }
    fs::remove_file(&path).unwrap();
    assert_eq!(file.is_one(), Ok(false));
    let directory = PackFile::new(path.parent().unwrap());
    assert!(matches!(directory.is_one(), Err(Error::File { .. })));
}

#[test]
fn places_that_are_no_files_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let gemm = Host::new().prepare(&fixture()).unwrap();
    let nowhere = PackFile::new(directory.path().join("no/such/file"));
    assert!(matches!(gemm.save(&nowhere), Err(Error::File { .. })));
    let error = Host::new().load(&nowhere).unwrap_err();
    assert!(
        error.to_string().contains("expected a readable file, found "),
        "{error}"
    );
    let itself = PackFile::new(directory.path());
    assert!(matches!(gemm.save(&itself), Err(Error::File { .. })));
    assert!(matches!(Host::new().load(&itself), Err(Error::File { .. })));
    assert_eq!(
        fs::read_dir(directory.path()).unwrap().count(),
        0,
        "nothing is left behind"
    );
}

/// Who has loaded a file keeps it when another takes its place.
#[test]
fn a_replaced_file_stays_as_it_was() {
    let (directory, path) = saved();
    let file = mapped(&PackFile::new(&path).source(7));
    let loaded = Host::new().load(&file).unwrap();
    let panels = 0..loaded.weights().layout().panels();
    let before = loaded.weights().panels(panels.clone()).to_vec();
    let other = weights(&mut Draw::new(95), Scheme::int(4).group(16).asymmetric(), N, K);
    Host::new().prepare(&other).unwrap().save(&file).unwrap();
    assert_eq!(loaded.weights().panels(panels.clone()), before);
    assert_ne!(Host::new().load(&file).unwrap().weights().panels(panels), before);
    assert_eq!(
        fs::read_dir(directory.path()).unwrap().count(),
        1,
        "nothing is left behind"
    );
}

/// Files outlive this program. Where this fails, the picture of a panel has changed: raise `PACKING` and set these anew.
#[test]
fn panels_are_those_of_this_version() {
    let mut all = crc32fast::Hasher::new();
    let draw = &mut Draw::new(96);
    for scheme in schemes(70, 3) {
        let w = weights(draw, scheme, 33, 70);
        for lanes in [4, 8, 16] {
            let layout = PanelLayout {
                lanes,
                bits: scheme.bits,
                book: scheme.book.is_some(),
            };
            let packed = PackedWeights::pack(&w, layout).unwrap();
            all.update(packed.panels(0..packed.layout().panels()));
        }
    }
    assert_eq!((PACKING, all.finalize()), (1, 0x9D4F_BC83));
}
