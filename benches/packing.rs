//! Packing: weights into panels, in source bytes a second; activations into tiles of slices, quantisation included, in
//! inputs a second. What was packed is read back and compared with the definition before it is timed.
#![forbid(unsafe_code)]
#![expect(missing_docs, reason = "`criterion_group` makes a function without")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mixgemm::base::float::pow2;
use mixgemm::kernel::{Kernel, catalogue};
use mixgemm::pack::activations::{LhsTile, TileSpec};
use mixgemm::pack::weights::PackedWeights;
use mixgemm::quant::activation::integer_row;
use mixgemm::testing::{Draw, pack_tile, tile_spec, weights};
use mixgemm::{Activations, Host, Isa, Mat, Mode, QuantMatrix, Scheme, bf16, f16};
use std::time::Duration;

const K: usize = 4096;
const GROUP: usize = 128;

fn check_weights(w: &QuantMatrix, packed: &PackedWeights) {
    for n in 0..w.n() {
        assert!(
            (0..K).all(|k| packed.code(n, k) == w.code_row(n)[k]),
            "codes of row {n}"
        );
        for g in 0..w.groups() {
            assert_eq!((packed.scale(n, g), packed.zero(n, g)), (w.scale(n, g), w.zero(n, g)));
        }
    }
}

fn weight_packing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("weights");
    group.sample_size(10);
    group.warm_up_time(Duration::from_millis(100));
    group.measurement_time(Duration::from_millis(500));
    for bits in [1, 2, 3, 4, 5, 6, 7, 8] {
        let w = weights(&mut Draw::new(1), Scheme::int(bits).group(GROUP).asymmetric(), 256, K);
        group.throughput(Throughput::BytesDecimal(w.source_bytes() as u64));
        group.bench_function(BenchmarkId::from_parameter(format!("w{bits}")), |b| {
            let host = Host::new();
            check_weights(&w, host.prepare(&w).unwrap().weights());
            b.iter(|| host.prepare(&w).unwrap());
        });
    }
    group.finish();
}

/// The tile's integers, put together from their slices, are those of the definition.
fn check_tile(tile: &LhsTile, spec: &TileSpec, x: Activations<'_>, mode: Mode) {
    for m in 0..tile.rows {
        let expected = integer_row(x.row(m), mode, spec.group).unwrap();
        for (k, &expected) in expected.integers.iter().enumerate() {
            let (g, kk) = (k / spec.group, k % spec.group);
            let (entry, factor) = (tile.groups[g], tile.factor[g * tile.rows + m]);
            let unit = kk / spec.unit * tile.rows * entry.slices;
            let slice = |j: usize| {
                let lhs_row = unit + m * entry.slices + j;
                i64::from(tile.bytes[entry.offset + lhs_row * spec.unit + kk % spec.unit] as i8) << (8 * j)
            };
            let scale = if mode == Mode::Exact {
                (factor / pow2(-24)) as i64
            } else {
                1
            };
            let found = (0..entry.slices).map(slice).sum::<i64>() * scale;
            assert_eq!(found, expected, "{mode:?} at ({m}, {k})");
        }
    }
}

/// The kernel of the fastest tier with the most rows, on 4-bit weights: its tile is what a large product packs.
fn tallest() -> &'static Kernel {
    let isa = Isa::best(None);
    let rows = catalogue::kernels().filter(|k| k.isa == isa && k.layout.bits == 4 && k.slices == 1);
    rows.max_by_key(|k| k.mr).expect("a kernel for 4 bits on every tier")
}

fn activation_packing(criterion: &mut Criterion) {
    let kernel = tallest();
    let draw = &mut Draw::new(2);
    let w = weights(draw, Scheme::int(4).group(GROUP).asymmetric(), 1, K);
    let mut spec = tile_spec(kernel, &w);
    // All slices of a tile's rows side by side, however many a mode has.
    spec.lhs_rows = core::array::from_fn(|slices| kernel.mr * slices);
    let mut sum = || (0..4).map(|_| draw.signed()).sum::<f32>();
    let f32 = Mat::from_fn(kernel.mr, K, |_, _| sum());
    let f16 = Mat::from_fn(kernel.mr, K, |m, k| f16::from_f32(f32.view().row(m)[k]));
    let bf16 = Mat::from_fn(kernel.mr, K, |m, k| bf16::from_f32(f32.view().row(m)[k]));
    let i8 = Mat::from_fn(kernel.mr, K, |m, k| (f32.view().row(m)[k] * 30.0) as i8);
    let (scale, saturate) = (0.02, true);
    let cases: [(Mode, Activations<'_>); 9] = [
        (Mode::A8, f32.view().into()),
        (Mode::A8, f16.view().into()),
        (Mode::A8, bf16.view().into()),
        (Mode::A8Row, f16.view().into()),
        (Mode::A8Given, Activations::int8(i8.view(), 0.1)),
        (Mode::A8Static { scale, saturate }, f16.view().into()),
        (Mode::A16, f32.view().into()),
        (Mode::A16, f16.view().into()),
        (Mode::Exact, f16.view().into()),
    ];
    let mut group = criterion.benchmark_group("activations");
    group.sample_size(20);
    group.warm_up_time(Duration::from_millis(100));
    group.measurement_time(Duration::from_millis(500));
    group.throughput(Throughput::Elements((kernel.mr * K) as u64));
    for (mode, x) in cases {
        group.bench_function(BenchmarkId::new(mode.name(), x.element()), |b| {
            let mut tile = LhsTile::default();
            tile.rows = kernel.mr;
            pack_tile(kernel.isa, &spec, x, mode, &mut tile);
            check_tile(&tile, &spec, x, mode);
            b.iter(|| pack_tile(kernel.isa, &spec, x, mode, &mut tile));
        });
    }
    group.finish();
}

criterion_group!(packing, weight_packing, activation_packing);
criterion_main!(packing);
