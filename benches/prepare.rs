//! What it takes to prepare weights, beside what their bytes take: reading a byte a code and writing the panels, both at
//! the memory roof. Each round measures the roof, fresh memory of the panels' size set to zeros, and the packing, of
//! copies of the weights in turn; the ratios are the medians of those of every round.
//!
//! ```sh
//! cargo bench --features testing --bench prepare
//! ```
#![forbid(unsafe_code)]

use mixgemm::base::buffer::{AlignedBuf, Task};
use mixgemm::simd::roof::DramRoof;
use mixgemm::testing::{Draw, weights};
use mixgemm::{CodeBook, Host, Par, QuantMatrix, Scheme, Threads};
use std::hint::spin_loop;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// N × K, and how many copies of the codes are together several times a last-level cache of 32 MiB.
const SHAPES: [(usize, usize, usize); 2] = [(4096, 4096, 6), (14_336, 4096, 2)];
const ROUNDS: usize = 7;
const TWO: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1);

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

/// Seconds of one of so many calls, each with the pool's threads awake. What they give is kept until all are done: fresh
/// memory is part of what is measured.
fn seconds<T>(pool: &Threads, copies: usize, call: impl Fn(usize) -> T) -> f64 {
    let (mut all, mut seconds) = (Vec::new(), 0.0);
    for copy in 0..copies {
        let arrived = AtomicUsize::new(0);
        let threads = pool.threads().get();
        pool.run(threads, &|_| {
            arrived.fetch_add(1, Ordering::SeqCst);
            let start = Instant::now();
            while arrived.load(Ordering::SeqCst) < threads && start.elapsed() < Duration::from_millis(20) {
                spin_loop();
            }
        });
        let start = Instant::now();
        all.push(call(copy));
        seconds += start.elapsed().as_secs_f64();
    }
    seconds / copies as f64
}

fn measure(name: &str, scheme: Scheme, (n, k, copies): (usize, usize, usize), roof: &mut DramRoof<'_>) {
    let draw = &mut Draw::new(1);
    let weights: Vec<QuantMatrix> = (0..copies).map(|_| weights(draw, scheme, n, k)).collect();
    for threads in [1, 2] {
        let pool = Arc::new(Threads::new(if threads == 1 { NonZeroUsize::MIN } else { TWO }));
        let host = match threads {
            1 => Host::new(),
            _ => Host::new().par(Par::Pool(pool.clone())),
        };
        let run = |tasks: usize, task: &Task<'_>| pool.run(tasks.min(threads), task);
        let prepare = |copy: usize| host.prepare(&weights[copy]).expect("weights of this host");
        let layout = *prepare(0).weights().layout();
        let parts = (layout.panels(), layout.panel_bytes());
        let fresh = |_| AlignedBuf::in_parts(parts, &run, &|_, _| {}).expect("memory of the panels");
        let rounds: Vec<[f64; 4]> = (0..ROUNDS)
            .map(|_| {
                let roof = roof.sample(threads);
                let memory = (n * k + layout.bytes()) as f64 / roof;
                let (fresh, prepare) = (seconds(&pool, copies, fresh), seconds(&pool, copies, prepare));
                [prepare, prepare / memory, fresh / memory, roof]
            })
            .collect();
        let [prepare, ratio, fresh, roof] =
            core::array::from_fn(|i| median(rounds.iter().map(|round| round[i]).collect()));
        println!(
            "{n}x{k} {name:8} {threads} threads: {:6.2} ms, {ratio:.2} x; fresh memory alone {fresh:.2} x; roof {:.1} GB/s",
            prepare * 1e3,
            roof * 1e-9
        );
    }
}

fn main() {
    // A virtual machine's host gives memory out when it is first touched, which is no part of what is measured.
    drop(AlignedBuf::zeroed(2 << 30).expect("two gibibytes"));
    let mut buffer = AlignedBuf::zeroed(1 << 30).expect("a gibibyte");
    let mut roof = DramRoof::new(&mut buffer);
    println!("prepare / (codes + panels at the memory roof)");
    let int = |bits| Scheme::int(bits).group(128).asymmetric();
    for shape in SHAPES {
        for (name, scheme) in [
            ("W4 g128", int(4)),
            ("W4 g32", int(4).group(32)),
            ("W8 g128", int(8)),
            ("W3 g128", int(3)),
            ("W1 g128", int(1)),
            ("MXFP4", Scheme::book(CodeBook::MXFP4).group(32)),
        ] {
            measure(name, scheme, shape, &mut roof);
        }
    }
}
