//! The built-in profile of an NPU is the fit that docs/npu.md describes, done again here from the published figures alone.

use mixgemm::accel::npu::profile::{Arrangement, Profile};

/// Least squares of `rows · p = 1` in three unknowns, by elimination.
fn solve(rows: &[[f64; 3]]) -> [f64; 3] {
    let mut a = [[0.0; 4]; 3];
    for (i, a) in a.iter_mut().enumerate() {
        for (j, a) in a.iter_mut().enumerate() {
            *a = rows.iter().map(|row| row[i] * row.get(j).unwrap_or(&1.0)).sum();
        }
    }
    for i in 0..3 {
        for j in (0..3).filter(|&j| j != i) {
            let factor = a[j][i] / a[i][i];
            let pivot = a[i];
            a[j].iter_mut().zip(pivot).for_each(|(a, p)| *a -= factor * p);
        }
    }
    core::array::from_fn(|i| a[i][3] / a[i][i])
}

/// Where an increasing function crosses a value.
fn crossing(f: impl Fn(f64) -> f64, value: f64, mut range: [f64; 2]) -> f64 {
    for _ in 0..200 {
        let middle = (range[0] + range[1]) / 2.0;
        range[usize::from(f(middle) > value)] = middle;
    }
    range[0]
}

/// `c` with the least `Σ (c·x/y − 1)²`.
fn proportion(pairs: &[[f64; 2]]) -> f64 {
    let ratios = pairs.iter().map(|[x, y]| x / y);
    ratios.clone().sum::<f64>() / ratios.map(|r| r * r).sum::<f64>()
}

fn near(what: &str, found: f64, expected: f64) {
    println!("{what:<28} {found:.6e}, fitted {expected:.6e}");
    assert!(
        (found / expected - 1.0).abs() < 1e-4,
        "{what}: {found}, fitted {expected}"
    );
}

#[test]
fn the_parameters_are_those_of_the_fit() {
    let profile = Profile::hexagon_8gen3();
    let published = &profile.published;
    let short_of_square = |m: usize| {
        let best = Arrangement::all(m).last().unwrap();
        1.0 - best.height.min(best.width) as f64 / best.height.max(best.width) as f64
    };
    // Launch, weights and steps: relative least squares over all products and the model's. The penalty of flat rows follows
    // from the others by the one figure about it; both are repeated until they agree.
    let (mut penalty, mut p) = (0.0, [0.0; 3]);
    for _ in 0..200 {
        let row = |m: usize, linears: &[[usize; 2]], times: f64, ms: f64| {
            let weights: f64 = linears.iter().map(|[n, k]| (n * k) as f64).sum();
            let steps = m as f64 * weights * (1.0 + penalty * short_of_square(m));
            // Steps in 10^6 keep the three columns at like sizes.
            [linears.len() as f64, weights * 1e-6, steps * 1e-9].map(|x| x * times / ms)
        };
        let mut rows: Vec<_> = published
            .products
            .iter()
            .map(|row_of| row(row_of.m, &[[row_of.n, row_of.k]], 1.0, row_of.ms))
            .collect();
        for model in &published.models {
            if let Some(prefill) = &model.prefill {
                rows.push(row(prefill.rows, &model.linears, model.layers as f64, prefill.ms));
            }
        }
        p = solve(&rows);
        let flat = &published.rearranged[0];
        let weights = (flat.n * flat.k) as f64;
        let steps = p[2] * 1e-9 * weights * flat.m as f64;
        let square = p[0] + p[1] * 1e-6 * weights + steps;
        penalty = (flat.times - 1.0) * square / (steps * (1.0 - 1.0 / flat.m as f64));
    }
    near("launch_ms", profile.product.launch_ms, p[0]);
    near("weight_bytes_per_ms", profile.product.weight_bytes_per_ms, 1e6 / p[1]);
    near("macs_per_ms", profile.product.macs_per_ms, 1e9 / p[2]);
    near("flat_penalty", profile.product.flat_penalty, penalty);

    // Graphs: proportional to their number, but for the optimiser, whose two parameters meet its two figures.
    let [qwen, gemma] = &published.models[..] else {
        panic!("two models");
    };
    let count = |model: &mixgemm::accel::npu::published::Model| (model.layers * model.linears.len()) as f64;
    let build = [[count(qwen), qwen.build_ms], [count(gemma), gemma.build_ms]];
    near("build_ms", profile.graph.build_ms, proportion(&build));
    let free = [[count(qwen), qwen.free_ms], [count(gemma), gemma.free_ms]];
    near("free_ms", profile.graph.free_ms, proportion(&free));
    let powers = |model: &mixgemm::accel::npu::published::Model, exponent: f64| {
        let mib = model.linears.iter().map(|[n, k]| (n * k) as f64 / 1_048_576.0);
        model.layers as f64 * mib.map(|mib| mib.powf(exponent)).sum::<f64>()
    };
    let ratio = gemma.optimise_ms / qwen.optimise_ms;
    let exponent = crossing(|e| powers(gemma, e) / powers(qwen, e), ratio, [0.5, 3.0]);
    near("optimise_exponent", profile.graph.optimise_exponent, exponent);
    near(
        "optimise_ms",
        profile.graph.optimise_ms,
        qwen.optimise_ms / powers(qwen, exponent),
    );

    // Sums of groups: the geometric mean of the overheads is that of the published range.
    let groups = published.groups.as_ref().unwrap();
    let mean = |sum_ns: f64| {
        let mut with = profile.clone();
        with.groups.sum_ns = sum_ns;
        let overheads = published.products.iter().map(|row| {
            let best = with.best(row.m, row.n, row.k);
            with.grouped_ms(row.m, row.n, row.k, groups.group) / with.product_ms(row.m, row.n, row.k, best)
        });
        overheads.map(f64::ln).sum::<f64>() / published.products.len() as f64
    };
    let middle = (groups.times[0] * groups.times[1]).sqrt().ln();
    near("sum_ns", profile.groups.sum_ns, crossing(mean, middle, [0.0, 100.0]));
}

#[test]
fn residuals_are_those_that_the_file_states() {
    let comparisons = Profile::hexagon_8gen3().comparisons();
    for row in &comparisons {
        let off = row.off_percent();
        let (what, published, model) = (&row.what, row.published, row.profile);
        println!(
            "{what:<48} {published:>9.3} {model:>9.3} {:<3} {off:>+7.2} %   {}",
            row.unit, row.source
        );
        let stated = row
            .stated_percent
            .unwrap_or_else(|| panic!("{what} states no residual"));
        assert!(
            (off - stated).abs() < 0.051,
            "{what}: off by {off} %, not by {stated} %"
        );
    }
    assert_eq!(comparisons.len(), 6 + 1 + 4 + 3 + 2);
    assert!(comparisons.iter().all(|row| row.off_percent().abs() < 20.0));
}
