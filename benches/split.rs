//! What outlier splits cost: products of W8A8 whose activations have outliers in 0.3 % of their channels, beside the same
//! products without a split: clamped for the shadow split, in mode `a8row` for the mixed one. Both take turns; the ratio
//! is the median of those of every round. Up to M = 16 the weights rotate over copies beyond the last-level cache, as when
//! a model decodes.
#![forbid(unsafe_code)]

use mixgemm::outlier::mixed::{Mixed, Outlying};
use mixgemm::testing::{Draw, weights};
use mixgemm::{Backend, Epilogue, Group, Host, Mat, Mode, Par, Scheme, Split, Threads};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

const N: usize = 4096;
const K: usize = 4096;
const CHANNELS: usize = 12;
const COPIES: usize = 8;
const ROUNDS: usize = 15;
const TWO: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1);
const SCALE: f32 = 4.0 / 127.0;

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

/// Sums of four uniform values; those of some channels lie beyond ±127 steps, up to five times as far.
fn activations(draw: &mut Draw, m: usize, channels: usize) -> Mat<f32> {
    let every = K / CHANNELS;
    Mat::from_fn(m, K, |_, k| {
        let x: f32 = (0..4).map(|_| draw.signed()).sum();
        if k % every == every / 2 && k / every < channels {
            x.signum() * (4.0 + x.abs() * 4.0)
        } else {
            x
        }
    })
}

const GROUPS: [(&str, Group); 3] = [
    ("tensor", Group::Tensor),
    ("channel", Group::Channel),
    ("128", Group::Length(128)),
];

/// Weights of every grouping, prepared several times by a split.
fn prepared<B: Backend>(draw: &mut Draw, split: &B, group: Group) -> Vec<B::Prepared> {
    let scheme = Scheme {
        group,
        ..Scheme::int(8)
    };
    let weights = |_| {
        split
            .prepare(&weights(draw, scheme, N, K))
            .expect("weights of the host")
    };
    (0..COPIES).map(weights).collect()
}

/// Times `with` and `without` in turn, on inputs and copies of the weights by number, and prints their ratio.
fn compare(name: &str, draw: &mut Draw, mut product: impl FnMut(&Mat<f32>, usize, bool, &mut Mat<f32>)) {
    for (m, channels) in [(1, 0), (1, CHANNELS), (16, CHANNELS), (256, 0), (256, CHANNELS)] {
        let x = activations(draw, m, channels);
        let mut y = Mat::<f32>::zeros(m, N);
        let mut which = 0;
        let mut time = |with| {
            let mut seconds = 0.0;
            for _ in 0..(2048 / m).clamp(4, 64) {
                which = if m <= 16 { (which + 1) % COPIES } else { 0 };
                let start = Instant::now();
                product(&x, which, with, &mut y);
                seconds += start.elapsed().as_secs_f64();
            }
            seconds
        };
        let _warm = (time(false), time(true));
        let rounds: Vec<(f64, f64)> = (0..ROUNDS).map(|_| (time(false), time(true))).collect();
        let ratio = median(rounds.iter().map(|(without, with)| with / without).collect());
        println!("{name}, M = {m:3}, {channels:2} channels: {ratio:.3}");
    }
}

fn main() {
    let only = std::env::args().nth(1).filter(|name| !name.starts_with('-'));
    let runs = |name: &str| only.as_ref().is_none_or(|only| only == name);
    let threads = std::thread::available_parallelism().map_or(NonZeroUsize::MIN, |t| t.min(TWO));
    let pool = Par::Pool(Arc::new(Threads::new(threads)));
    let host = || Host::new().par(pool.clone());
    let (draw, epilogue) = (&mut Draw::new(1), Epilogue::new());
    println!("{N}x{K}, W8A8, {CHANNELS} outlier channels, {threads} threads: time / that without a split");
    for (name, group) in GROUPS.into_iter().filter(|_| runs("shadow")) {
        let split = Split::new(host()).par(pool.clone());
        let prepared = prepared(draw, &split, group);
        compare(&format!("shadow, group {name:8}"), draw, |x, which, with, y| {
            let mode = Mode::A8Static {
                scale: SCALE,
                saturate: !with,
            };
            let (x, y) = (x.view().into(), y.view_mut().into());
            split.run(&prepared[which], x, mode, &epilogue, y).expect("a product");
        });
    }
    for (name, group) in GROUPS.into_iter().filter(|_| runs("mixed")) {
        let outlying = Outlying::Above(127.0 * SCALE);
        let split = Mixed::new(host(), outlying).expect("a threshold").par(pool.clone());
        let prepared = prepared(draw, &split, group);
        compare(&format!("mixed,  group {name:8}"), draw, |x, which, with, y| {
            let (x, y) = (x.view().into(), y.view_mut().into());
            let run = if with {
                split.run(&prepared[which], x, Mode::A8Row, &epilogue, y)
            } else {
                let host = split.backend();
                Backend::run(host, prepared[which].prepared(), x, Mode::A8Row, &epilogue, y)
            };
            run.expect("a product");
        });
    }
}
