//! A multilayer perceptron of two layers, in candle's f32, in candle's quantised types and with mixgemm's weights: how far
//! each is from f32, and how long one token (decode) and many (prefill) take.
#![forbid(unsafe_code)]

use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
use candle_core::{DType, Device, Module, Result, Tensor};
use candle_linear::{Error, Linear};
use mixgemm::{Host, Mode, Par, Scheme};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

const WIDTH: usize = 1024;
const HIDDEN: usize = 2048;
const PREFILL: usize = 64;
const ROUNDS: usize = 15;

/// `down(gelu(up(x)))` with two layers of any kind.
struct Mlp {
    name: &'static str,
    bits: f64,
    up: Box<dyn Module>,
    down: Box<dyn Module>,
}

impl Mlp {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.down.forward(&self.up.forward(x)?.gelu()?)
    }
}

fn mixgemm(name: &'static str, host: &Host, [up, down]: &[Tensor; 2], scheme: Scheme, mode: Mode) -> Result<Mlp> {
    let up = Linear::quantize(host, up, None, scheme, mode)?;
    let down = Linear::quantize(host, down, None, scheme, mode)?;
    Ok(Mlp {
        name,
        bits: up.gemm().bits_per_weight(),
        up: Box::new(up),
        down: Box::new(down),
    })
}

fn candle(name: &'static str, [up, down]: &[Tensor; 2], dtype: GgmlDType) -> Result<Mlp> {
    let layer =
        |w: &Tensor| Ok::<_, candle_core::Error>(Box::new(QMatMul::from_qtensor(QTensor::quantize(w, dtype)?)?));
    Ok(Mlp {
        name,
        bits: 8.0 * dtype.type_size() as f64 / dtype.block_size() as f64,
        up: layer(up)?,
        down: layer(down)?,
    })
}

fn float([up, down]: &[Tensor; 2]) -> Result<Mlp> {
    let layer = |w: &Tensor| {
        let transposed = w.t()?;
        Ok::<_, candle_core::Error>(Box::new(move |x: &Tensor| x.matmul(&transposed)))
    };
    Ok(Mlp {
        name: "candle f32",
        bits: 32.0,
        up: layer(up)?,
        down: layer(down)?,
    })
}

/// Signal to quantisation noise in decibels.
fn sqnr(exact: &Tensor, y: &Tensor) -> Result<f64> {
    let energy = |t: &Tensor| t.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar::<f64>();
    Ok(10.0 * (energy(exact)? / energy(&(exact - y)?)?).log10())
}

fn time(mlp: &Mlp, x: &Tensor) -> Result<Duration> {
    let start = Instant::now();
    mlp.forward(x)?;
    Ok(start.elapsed())
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e6
}

fn main() -> std::result::Result<(), Error> {
    let device = Device::Cpu;
    let weights = [
        Tensor::randn(0f32, 0.05, (HIDDEN, WIDTH), &device)?,
        Tensor::randn(0f32, 0.05, (WIDTH, HIDDEN), &device)?,
    ];
    let (one, many) = (
        Tensor::randn(0f32, 1.0, (1, WIDTH), &device)?,
        Tensor::randn(0f32, 1.0, (PREFILL, WIDTH), &device)?,
    );
    let threads = NonZeroUsize::new(candle_core::utils::get_num_threads()).unwrap_or(NonZeroUsize::MIN);
    let host = Host::new().par(Par::Rayon(threads));
    let (four, eight) = (Scheme::int(4).group(32).asymmetric(), Scheme::int(8).group(32));
    let mlps = [
        float(&weights)?,
        candle("candle q4_K", &weights, GgmlDType::Q4K)?,
        mixgemm("mixgemm 4 bits, a8", &host, &weights, four, Mode::A8)?,
        mixgemm("mixgemm 4 bits, a16", &host, &weights, four, Mode::A16)?,
        candle("candle q8_0", &weights, GgmlDType::Q8_0)?,
        mixgemm("mixgemm 8 bits, a8", &host, &weights, eight, Mode::A8)?,
        mixgemm("mixgemm 8 bits, a16", &host, &weights, eight, Mode::A16)?,
    ];

    let mut times = mlps.each_ref().map(|_| (Vec::new(), Vec::new()));
    for round in 0..=ROUNDS {
        for (mlp, (decode, prefill)) in mlps.iter().zip(&mut times) {
            let (one, many) = (time(mlp, &one)?, time(mlp, &many)?);
            // The first round warms up.
            if round > 0 {
                decode.push(one);
                prefill.push(many);
            }
        }
    }

    let exact = mlps[0].forward(&many)?;
    println!(
        "{WIDTH} -> {HIDDEN} -> {WIDTH}, Gaussian weights and f32 input, {} threads",
        threads
    );
    println!(
        "{:22} {:>10} {:>10} {:>12} {:>12}",
        "", "bits/w", "SQNR dB", "decode us", "prefill us"
    );
    for (mlp, (decode, prefill)) in mlps.iter().zip(&mut times) {
        let sqnr = sqnr(&exact, &mlp.forward(&many)?)?;
        let sqnr = if sqnr.is_finite() {
            format!("{sqnr:.1}")
        } else {
            "-".into()
        };
        let (decode, prefill) = (median(decode), median(prefill));
        println!(
            "{:22} {:10.2} {sqnr:>10} {decode:12.0} {prefill:12.0}",
            mlp.name, mlp.bits
        );
    }
    println!("decode: 1 row; prefill: {PREFILL} rows; medians of {ROUNDS} rounds, every line once a round");
    println!("weights stay in cache from round to round; RAYON_NUM_THREADS sets the threads of both crates");
    Ok(())
}
