//! The loop of a runtime: three layers, one token at a time, nothing allocated once it is warm.
//!
//! ```sh
//! cargo run --release --example runtime_loop
//! ```
#![forbid(unsafe_code)]

use mixgemm::{Activation, Epilogue, Host, Mat, Mode, Plan, QuantMatrix, Result, Scheme, Workspace};
use std::time::Instant;

const WIDTH: usize = 512;
const HIDDEN: usize = 2048;
const TOKENS: usize = 50;

/// `x + down(gelu(up(x)))`, with biases.
struct Layer {
    up: Plan,
    up_bias: Vec<f32>,
    down: Plan,
    down_bias: Vec<f32>,
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
            up: plan(HIDDEN, WIDTH)?,
            up_bias: vec![0.01; HIDDEN],
            down: plan(WIDTH, HIDDEN)?,
            down_bias: vec![-0.01; WIDTH],
        })
    }
}

fn main() -> Result<()> {
    let host = Host::new();
    let layers = [Layer::new(&host, 1)?, Layer::new(&host, 2)?, Layer::new(&host, 3)?];
    // Products follow each other, so all of them share one workspace.
    let mut workspace = Workspace::new();
    let (mut x, mut next) = (Mat::<f32>::zeros(1, WIDTH), Mat::<f32>::zeros(1, WIDTH));
    let mut hidden = Mat::<f32>::zeros(1, HIDDEN);

    let start = Instant::now();
    for token in 0..TOKENS {
        for (k, x) in x.view_mut().row_mut(0).iter_mut().enumerate() {
            *x = ((k * (token + 1)) % 13) as f32 * 0.1;
        }
        for layer in &layers {
            let up = Epilogue::new().bias(&layer.up_bias).activation(Activation::Gelu);
            layer
                .up
                .run(&mut workspace, x.view().into(), &up, hidden.view_mut().into())?;
            let down = Epilogue::new().bias(&layer.down_bias).residual(x.view());
            layer
                .down
                .run(&mut workspace, hidden.view().into(), &down, next.view_mut().into())?;
            std::mem::swap(&mut x, &mut next);
        }
    }
    let each = start.elapsed() / TOKENS as u32;
    println!("{TOKENS} tokens through 3 layers of {WIDTH} x {HIDDEN}: {each:?} each");
    println!("the last begins {:?}", &x.data()[..4]);
    Ok(())
}
