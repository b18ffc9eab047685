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
            "product.launch_ms: expected a number from 0 to 1e12, found -0.1",
        ),
        (
            "macs_per_ms = 1e9",
            "macs_per_ms = 0",
            "product.macs_per_ms: expected a number from 1e-6 to 1e18, found 0",
        ),
        (
            "weight_bytes_per_ms = 1e7",
            "weight_bytes_per_ms = nan",
            "product.weight_bytes_per_ms: expected a number from 1e-6 to 1e18, found NaN",
        ),
        (
            "sum_ns = 1",
            "sum_ns = inf",
            "groups.sum_ns: expected a number from 0 to 1e12, found inf",
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
    let refused = |text: String, key: &str| {
        let error = Profile::from_toml(&text).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{key}: expected ")), "{key}: {error}");
    };
    assert!(Profile::from_toml(&format!("{good}\n[published]\nshapes = []")).is_err());
    // Whatever would make a cost infinite, or take for ever.
    for (key, value) in [
        ("setup_ms", "1e300"),
        ("product.launch_ms", "nan"),
        ("product.weight_bytes_per_ms", "1e-300"),
        ("product.weight_bytes_per_ms", "-1"),
        ("product.macs_per_ms", "inf"),
        ("product.flat_penalty", "1e300"),
        ("graph.build_ms", "1e300"),
        ("graph.optimise_ms", "-inf"),
        ("graph.optimise_exponent", "1e300"),
        ("graph.free_ms", "-1"),
        ("groups.sum_ns", "1e300"),
    ] {
        let name = key.rsplit('.').next().unwrap();
        let start = good.find(&format!("{name} =")).unwrap();
        let end = start + good[start..].find([',', '}', '\n']).unwrap();
        refused(format!("{}{name} = {value} {}", &good[..start], &good[end..]), key);
    }
    let product = |m: &str, ms: &str| format!("products = [{{ m = {m}, k = 1, n = 1, ms = {ms}, source = 'x' }}]");
    let groups = |group: &str, times: &str| format!("groups = {{ group = {group}, times = {times}, source = 'x' }}");
    let one = product("1", "1");
    for (published, key) in [
        (product("1", "0"), "published.products.ms"),
        (product("1", "1e-300"), "published.products.ms"),
        (product("0", "1"), "published.products.m"),
        (product("9223372036854775807", "1"), "published.products.m"),
        (groups("128", "[8.0, 10.0]"), "published.groups"),
        (
            format!("{one}\n{}", groups("0", "[8.0, 10.0]")),
            "published.groups.group",
        ),
        (
            format!("{one}\n{}", groups("128", "[10.0, 8.0]")),
            "published.groups.times",
        ),
        (
            format!("{one}\n{}", groups("128", "[nan, 8.0]")),
            "published.groups.times",
        ),
        (
            "rearranged = [{ m = 1, k = 1, n = 4294967296, times = 1, source = 'x' }]".into(),
            "published.rearranged.n",
        ),
        (
            "models = [{ model = 'x', layers = 1, linears = [[1, 0]], build_ms = 1, optimise_ms = 1, free_ms = 1, \
             source = 'x' }]"
                .into(),
            "published.models.linears",
        ),
        (
            "models = [{ model = 'x', layers = 1, linears = [], build_ms = 1, optimise_ms = 1, free_ms = 1, \
             source = 'x' }]"
                .into(),
            "published.models.linears",
        ),
    ] {
        refused(format!("{good}\n[published]\n{published}"), key);
    }
    let all = format!("{good}\n[published]\n{one}\n{}", groups("1", "[1.0, 1.0]"));
    let comparisons = Profile::from_toml(&all).unwrap().comparisons();
    assert!(comparisons.len() == 3 && comparisons.iter().all(|row| row.profile.is_finite()));
}

/// The widest numbers that are taken give finite times for the widest shapes, and none for no outputs.
#[test]
fn costs_are_finite() {
    let widest = "
        name = 'w'
        source = 'w'
        window_bytes = 1
        setup_ms = 1e12
        product = { launch_ms = 1e12, weight_bytes_per_ms = 1e-6, macs_per_ms = 1e-6, flat_penalty = 1e6 }
        graph = { build_ms = 1e12, optimise_ms = 1e12, optimise_exponent = 4, free_ms = 1e12 }
        groups = { sum_ns = 1e12 }
        ";
    let widest = Profile::from_toml(widest).unwrap();
    let most = usize::MAX;
    assert!(widest.product_ms(most, most, most, Arrangement::flat(most)).is_finite());
    assert!(widest.optimise_ms(most, most).is_finite() && widest.group_sums_ms(most, most, most).is_finite());
    for (m, n) in [(0, 5), (5, 0)] {
        let hexagon = Profile::hexagon_8gen3();
        assert_eq!(
            (
                hexagon.product_ms(m, n, 8, hexagon.best(m, n, 8)),
                hexagon.grouped_ms(m, n, 8, 4)
            ),
            (0.0, 0.0)
        );
    }
}
