//! Profiles of one's own.

use mixgemm::accel::npu::profile::{Arrangement, Profile};

#[test]
fn profiles_name_the_key_that_is_wrong() {
    let good = "
        name = 'mine'
        source = 'measured by me'
        window_bytes = 1_000_000
        setup_ms = 1
        product = { launch_ms = 0.1, weight_bytes_per_ms = 1e7, macs_per_ms = 1e9, flat_penalty = 0 }
        graph = { build_ms = 1, optimise_ms = 1, optimise_exponent = 1, free_ms = 1 }
        groups = { sum_ns = 1 }
        ";
    let mine = Profile::from_toml(good).unwrap();
    assert_eq!((mine.name.as_str(), mine.comparisons().len()), ("mine", 0));
    // Without a penalty all grids take the same time.
    assert_eq!(mine.best(1024, 64, 64), Arrangement::flat(1024));
    for (from, to, words) in [
        (
            "launch_ms = 0.1",
            "launch_ms = -0.1",
            "product.launch_ms: expected 0 or more, found -0.1",
        ),
        (
            "macs_per_ms = 1e9",
            "macs_per_ms = 0",
            "product.macs_per_ms: expected a positive number, found 0",
        ),
        (
            "weight_bytes_per_ms = 1e7",
            "weight_bytes_per_ms = nan",
            "product.weight_bytes_per_ms: expected a positive",
        ),
        (
            "sum_ns = 1",
            "sum_ns = inf",
            "groups.sum_ns: expected 0 or more, found inf",
        ),
        ("setup_ms = 1", "", "missing field `setup_ms`"),
        (
            "setup_ms = 1",
            "setup_ms = 'long'",
            "line 5 `setup_ms = 'long'`: invalid type",
        ),
        ("free_ms = 1 }", "free = 1 }", "unknown field `free`"),
        (
            "window_bytes = 1_000_000",
            "window_bytes = -1",
            "line 4 `window_bytes = -1`",
        ),
        ("setup_ms = 1", "setup_ms = ", "line 5"),
    ] {
        let text = good.replace(from, to);
        let error = Profile::from_toml(&text).unwrap_err().to_string();
        assert!(error.contains(words) && !error.contains('\n'), "{to:?}: {error}");
    }
    let text = format!("{good}\n[published]\nproducts = [{{ m = 1, k = 1, n = 1, ms = 0, source = 'x' }}]");
    let error = Profile::from_toml(&text).unwrap_err().to_string();
    assert_eq!(error, "published.products.ms: expected a positive number, found 0");
    assert!(Profile::from_toml(&format!("{good}\n[published]\nshapes = []")).is_err());
}
