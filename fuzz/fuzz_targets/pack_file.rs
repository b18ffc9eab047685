//! A pack file gives back the weights that were saved; any other file is an error or weights that can be multiplied by.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use mixgemm::pack::file::PackFile;
use mixgemm::pack::page::PAGE;
use mixgemm::{Host, Mat, Mode};
use mixgemm_fuzz::weights::Weights;
use mixgemm_fuzz::words::up_to;

#[derive(Debug, Arbitrary)]
struct Case {
    #[arbitrary(with = up_to::<70>)]
    n: usize,
    #[arbitrary(with = up_to::<99>)]
    k: usize,
    weights: Weights,
    source: u64,
    /// Bytes that are replaced: the first page's fields, or those of the panels.
    changes: Vec<(bool, u8, u8)>,
    /// Whether checksums are made right again.
    sealed: bool,
    /// Bytes that are added or are missing at the end.
    longer: i8,
}

fn seal(bytes: &mut [u8]) {
    if bytes.len() >= PAGE {
        let checksum = crc32fast::hash(&bytes[PAGE..]);
        bytes[64..68].copy_from_slice(&checksum.to_le_bytes());
        let checksum = crc32fast::hash(&bytes[..PAGE - 4]);
        bytes[PAGE - 4..PAGE].copy_from_slice(&checksum.to_le_bytes());
    }
}

fuzz_target!(|case: Case| {
    let Some(w) = case.weights.matrix(case.n, case.k) else {
        return;
    };
    let (host, x) = (Host::new(), Mat::from_fn(2, case.k, |m, k| (m + k) as f32));
    let packed = host.prepare(&w).expect("a tier for every width");
    let path = std::env::temp_dir().join(format!("mixgemm-fuzz-{}.pack", std::process::id()));
    let file = PackFile::new(&path).source(case.source);
    packed.save(&file).expect("a directory for temporary files");
    let original = std::fs::read(&path).expect("the file");
    let mut bytes = original.clone();
    for &(page, at, value) in &case.changes {
        let at = if page {
            usize::from(at) % 72
        } else {
            PAGE + usize::from(at)
        };
        if let Some(byte) = bytes.get_mut(at) {
            *byte = value;
        }
    }
    bytes.resize(bytes.len().saturating_add_signed(case.longer.into()), 0);
    if case.sealed {
        seal(&mut bytes);
    }
    std::fs::write(&path, &bytes).expect("the file");
    let loaded = host.load(&file);
    if bytes == original {
        let (loaded, panels) = (
            loaded.as_ref().expect("what was saved"),
            packed.weights().layout().panels(),
        );
        assert_eq!(loaded.weights().panels(0..panels), packed.weights().panels(0..panels));
    } else if !case.sealed {
        assert!(loaded.is_err(), "a changed file");
    }
    // Without columns, rows are as many as the page says, and no output holds them.
    if let Ok(loaded) = loaded
        && loaded.shape().n < 1 << 20
    {
        let shape = loaded.shape();
        let mut y = Mat::<f32>::zeros(2, shape.n);
        let product = loaded.run(x.view(), Mode::A8, y.view_mut());
        assert_eq!(product.is_ok(), shape.k == case.k);
    }
    std::fs::remove_file(&path).expect("the file");
});
