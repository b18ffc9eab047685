//! The loop of a runtime: three layers, one token at a time, nothing allocated once it is warm.
//!
//! ```sh
//! cargo run --release --example runtime_loop
//! ```
#![forbid(unsafe_code)]

use mixgemm::{Activation, Epilogue, Host, Mat, Mode, Plan, Product, QuantMatrix, Result, Scheme, Workspace};
use std::time::Instant;

const WIDTH: usize = 512;
const HIDDEN: usize = 2048;
const TOKENS: usize = 50;

/// `x + down(silu(gate(x)) · up(x))`, with a bias.
struct Layer {
    gate: Plan,
    up: Plan,
    down: Plan,
    bias: Vec<f32>,
}

impl Layer {
    fn new(host: &Host, seed: usize) -> Result<Self> {
        let scheme = Scheme::int(4).group(128).asymmetric();
        let plan = |n: usize, k: usize| {
            let value =
                |n: usize, k: usize| (((n * 31 + k * 17 + seed) % 101) as f32 - 50.0) / (50.0 * k as f32 + 500.0);
            let weights = QuantMatrix::quantize(Mat::from_fn(n, k, value).view(), scheme)?;
            host.prepare(&weights)?.plan(Mode::A8) // The plan keeps the packed weights alive.
        };
        Ok(Self {
            gate: plan(HIDDEN, WIDTH)?,
            up: plan(HIDDEN, WIDTH)?,
            down: plan(WIDTH, HIDDEN)?,
            bias: vec![-0.01; WIDTH],
        })
    }
}

fn main() -> Result<()> {
    let host = Host::new();
    let layers = [Layer::new(&host, 1)?, Layer::new(&host, 2)?, Layer::new(&host, 3)?];
    // Products follow each other, so all of them share one workspace.
    let mut workspace = Workspace::new();
    let (mut x, mut next) = (Mat::<f32>::zeros(1, WIDTH), Mat::<f32>::zeros(1, WIDTH));
    let (mut gated, mut lifted) = (Mat::<f32>::zeros(1, HIDDEN), Mat::<f32>::zeros(1, HIDDEN));
    let silu = Epilogue::new().activation(Activation::Silu);

    let start = Instant::now();
    for token in 0..TOKENS {
        for (k, x) in x.view_mut().row_mut(0).iter_mut().enumerate() {
            *x = ((k * (token + 1)) % 13) as f32 * 0.1;
        }
        for layer in &layers {
            // Two products on one input: quantised once, and threads, if there were any, woken once.
            let both = &mut [
                Product::new(&layer.gate, gated.view_mut()).epilogue(silu),
                Product::new(&layer.up, lifted.view_mut()),
            ];
            Plan::run_all(&mut workspace, x.view().into(), both)?;
            for (gated, lifted) in gated.view_mut().row_mut(0).iter_mut().zip(lifted.data()) {
                *gated *= lifted;
            }
            let down = Epilogue::new().bias(&layer.bias).residual(x.view());
            layer
                .down
                .run(&mut workspace, gated.view().into(), &down, next.view_mut().into())?;
            std::mem::swap(&mut x, &mut next);
        }
    }
    let each = start.elapsed() / TOKENS as u32;
    println!("{TOKENS} tokens through 3 layers of {WIDTH} x {HIDDEN}: {each:?} each");
    println!("the last begins {:?}", &x.data()[..4]);
    Ok(())
}
