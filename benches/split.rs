//! What the outlier split costs: products of W8A8 whose activations have outliers in 0.3 % of their channels, beside the
//! same products clamped. Both take turns; the ratio is the median of those of every round. Up to M = 16 the weights
//! rotate over copies beyond the last-level cache, as when a model decodes.
#![forbid(unsafe_code)]

use mixgemm::outlier::split::SplitWeights;
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

fn main() {
    let threads = std::thread::available_parallelism().map_or(NonZeroUsize::MIN, |t| t.min(TWO));
    let pool = Par::Pool(Arc::new(Threads::new(threads)));
    let draw = &mut Draw::new(1);
    println!("{N}x{K}, W8A8 static, {CHANNELS} outlier channels, {threads} threads: time / clamped product's");
    for (name, group) in [
        ("tensor", Group::Tensor),
        ("channel", Group::Channel),
        ("128", Group::Length(128)),
    ] {
        let split = Split::new(Host::new().par(pool.clone())).par(pool.clone());
        let scheme = Scheme {
            group,
            ..Scheme::int(8)
        };
        let prepared: Vec<SplitWeights<_>> = (0..COPIES)
            .map(|_| {
                split
                    .prepare(&weights(draw, scheme, N, K))
                    .expect("weights of the host")
            })
            .collect();
        for (m, channels) in [(1, 0), (1, CHANNELS), (16, CHANNELS), (256, 0), (256, CHANNELS)] {
            let x = activations(draw, m, channels);
            let mut y = Mat::<f32>::zeros(m, N);
            let mut which = 0;
            let mut time = |saturate| {
                let mode = Mode::A8Static { scale: SCALE, saturate };
                let mut seconds = 0.0;
                for _ in 0..(2048 / m).clamp(4, 64) {
                    which = if m <= 16 { (which + 1) % COPIES } else { 0 };
                    let start = Instant::now();
                    split
                        .run(
                            &prepared[which],
                            x.view().into(),
                            mode,
                            &Epilogue::new(),
                            y.view_mut().into(),
                        )
                        .expect("a product");
                    seconds += start.elapsed().as_secs_f64();
                }
                seconds
            };
            let _warm = (time(true), time(false));
            let rounds: Vec<(f64, f64)> = (0..ROUNDS).map(|_| (time(true), time(false))).collect();
            let ratio = median(rounds.iter().map(|(clamped, split)| split / clamped).collect());
            println!("group {name:8} M = {m:3}, {channels:2} channels: {ratio:.3}");
        }
    }
}
