//! A worker: one peer, one shape, one number of threads, for as long as the driver has questions.

use crate::operands::Operands;
use crate::peers::{self, Peer, Product};
use crate::protocol::{Hello, Reply, Request, Roofs, SHOWN};
use anyhow::{Context, Result, bail};
use mixgemm::Isa;
use mixgemm::base::buffer::AlignedBuf;
use mixgemm::simd::roof::{self, DramRoof};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Bytes that the memory roof is read from.
const ROOF_BUFFER: usize = 1 << 30;

/// Answer the driver's questions about one peer (started by the driver)
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The peer
    name: String,
    /// Output channels
    n: usize,
    /// Input channels
    k: usize,
    /// Threads
    threads: usize,
    /// Where the operands are
    directory: PathBuf,
}

/// Serves until the input ends.
pub(crate) fn run(args: &Args) -> Result<()> {
    // The driver's end is this worker's too, even while it is stopped.
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
    if args.name == peers::ROOFS {
        return roofs(args.threads);
    }
    // Peers that use rayon find the pool of this thread.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(args.threads).build()?;
    pool.install(|| match peers::find(&args.name, args.threads) {
        Ok(peer) => serve(peer, &Operands::load(&args.directory, args.n, args.k)?),
        Err(error) => say(&Hello::Missing(format!("{error:#}"))),
    })
}

/// The worker that measures what the machine can do at most.
fn roofs(threads: usize) -> Result<()> {
    let mut buffer = AlignedBuf::zeroed(ROOF_BUFFER)?;
    let mut dram = DramRoof::new(&mut buffer);
    let isa = best_isa();
    say(&Hello::Peer {
        version: isa.name().into(),
        variants: Vec::new(),
    })?;
    answers(|request| {
        let Request::Roofs { slice } = request else {
            bail!("request: expected one for roofs, found {request:?}")
        };
        let slice = Duration::from_secs_f64(slice);
        Ok(Reply::Roofs(Roofs {
            dram: dram.sample(threads),
            integer: roof::integer_peak(isa, threads, slice),
            float: roof::f32_peak(isa, threads, slice),
        }))
    })
}

/// The tier that products take.
fn best_isa() -> Isa {
    let supported = Isa::ALL.into_iter().filter(|isa| isa.supported());
    supported.fold(Isa::Scalar, |_, best| best)
}

/// A prepared variant, and the copy that was used last.
struct Prepared {
    product: Box<dyn Product>,
    last: usize,
}

fn serve(mut peer: Box<dyn Peer>, operands: &Operands) -> Result<()> {
    let (version, variants) = (peer.version(), peer.variants());
    say(&Hello::Peer { version, variants })?;
    let mut prepared = BTreeMap::new();
    answers(|request| answer(peer.as_mut(), operands, &mut prepared, request))
}

/// One reply for every line.
fn answers(mut answer: impl FnMut(Request) -> Result<Reply>) -> Result<()> {
    for line in io::stdin().lock().lines() {
        let reply = answer(serde_json::from_str(&line?)?);
        say(&reply.unwrap_or_else(|error| Reply::Error(format!("{error:#}"))))?;
    }
    Ok(())
}

fn say(message: &impl Serialize) -> Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, message)?;
    writeln!(out)?;
    Ok(out.flush()?)
}

fn answer(
    peer: &mut dyn Peer,
    operands: &Operands,
    prepared: &mut BTreeMap<String, Prepared>,
    request: Request,
) -> Result<Reply> {
    let unprepared = |variant: &str| format!("variant: expected a prepared one, found {variant}");
    match request {
        Request::Prepare { variant, bytes } => {
            let product = peer.prepare(&variant, operands, bytes)?;
            let (copies, bits) = (product.copies(), product.bits());
            prepared.insert(variant, Prepared { product, last: 0 });
            Ok(Reply::Prepared { copies, bits })
        }
        Request::Check { variant, m, copy, .. } => {
            let product = &mut prepared
                .get_mut(&variant)
                .with_context(|| unprepared(&variant))?
                .product;
            product.run(m, copy)?;
            let y = product.output()?;
            let row = y.chunks(operands.n).nth(m - 1).context("output: expected M rows")?;
            Ok(Reply::Outputs(row[..SHOWN.min(row.len())].to_vec()))
        }
        Request::Sample {
            variant,
            m,
            rotate,
            slice,
        } => {
            let found = prepared.get_mut(&variant).with_context(|| unprepared(&variant))?;
            Ok(Reply::Seconds(sample(found, m, rotate, slice)?))
        }
        Request::Roofs { .. } => bail!("request: expected one for a peer, found one for roofs"),
    }
}

/// The median seconds of the calls that fit into `slice`, after one that is not counted.
fn sample(prepared: &mut Prepared, m: usize, rotate: bool, slice: f64) -> Result<f64> {
    let mut call = || -> Result<f64> {
        prepared.last = if rotate {
            (prepared.last + 1) % prepared.product.copies()
        } else {
            0
        };
        let begin = Instant::now();
        prepared.product.run(m, prepared.last)?;
        Ok(begin.elapsed().as_secs_f64())
    };
    call()?;
    let begin = Instant::now();
    let mut times = vec![call()?];
    while begin.elapsed().as_secs_f64() < slice {
        times.push(call()?);
    }
    Ok(median(times))
}

/// The middle value, or the mean of the two in the middle; NaN of nothing.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match (values.len(), values.len() / 2) {
        (0, _) => f64::NAN,
        (n, half) if n % 2 == 1 => values[half],
        (_, half) => f64::midpoint(values[half - 1], values[half]),
    }
}
