//! The driver: rounds over every number of rows and every variant, forwards and backwards in turn, each slice beside
//! the roofs of the same moment.

use crate::operands::Operands;
use crate::peers;
use crate::process::Worker;
use crate::protocol::{Hello, Reply, Request, Roofs, SHOWN, Variant};
use crate::report::{self, Row};
use crate::worker::median;
use anyhow::{Result, bail};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// Peers that come as wheels.
const WHEELS: [&str; 3] = ["onnxruntime", "openvino", "torch"];

/// All peers, in the order in which they are measured.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    peers::NAMES.into_iter().chain(WHEELS)
}

/// Most rows for which the weights come from memory at every product, as when a model decodes token after token.
const DECODE: usize = 16;

/// One shape on one number of threads.
pub(crate) struct Job<'a> {
    pub(crate) shape: (usize, usize),
    pub(crate) threads: usize,
    pub(crate) m: &'a [usize],
    pub(crate) only: &'a [String],
    pub(crate) python: &'a Path,
    pub(crate) rounds: usize,
    /// Seconds.
    pub(crate) slice: f64,
    /// Bytes of weights that rotate.
    pub(crate) bytes: usize,
}

/// A peer at work.
struct Peer {
    name: String,
    version: String,
    worker: Worker,
}

/// A variant that is measured.
struct Entry {
    peer: usize,
    variant: Variant,
    bits: f64,
    /// For each number of rows the samples of all rounds.
    samples: Vec<Vec<Sample>>,
}

struct Sample {
    seconds: f64,
    roofs: Roofs,
    /// Something else was running.
    disturbed: bool,
}

impl Job<'_> {
    /// Measures all peers that are installed.
    pub(crate) fn run(&self) -> Result<Vec<Row>> {
        let (n, k) = self.shape;
        let directory = tempfile::tempdir()?;
        let operands = Operands::new(n, k, self.m.iter().copied().max().unwrap_or(1));
        operands.save(directory.path())?;
        let (mut roofs, _) = Worker::start(self.command(peers::ROOFS, directory.path())?)?;
        let (mut peers, mut entries) = self.start(&operands, directory.path())?;
        let mut watch = Watch::default();
        for round in 0..self.rounds {
            eprintln!(
                "{n}x{k}, {} threads: round {} of {}",
                self.threads,
                round + 1,
                self.rounds
            );
            let mut turns: Vec<(usize, usize)> = (0..self.m.len())
                .flat_map(|m| (0..entries.len()).map(move |entry| (m, entry)))
                .collect();
            if round % 2 == 1 {
                turns.reverse();
            }
            for (m, entry) in turns {
                let entry = &mut entries[entry];
                let request = Request::Sample {
                    variant: entry.variant.name.clone(),
                    m: self.m[m],
                    rotate: self.m[m] <= DECODE,
                    slice: self.slice,
                };
                let sample = watch.undisturbed(|| {
                    let Reply::Roofs(roofs) = roofs.ask(&Request::Roofs {
                        slice: self.slice / 8.0,
                    })?
                    else {
                        bail!("reply: expected roofs")
                    };
                    let Reply::Seconds(seconds) = peers[entry.peer].worker.ask(&request)? else {
                        bail!("reply: expected seconds")
                    };
                    Ok(Sample {
                        seconds,
                        roofs,
                        disturbed: false,
                    })
                })?;
                entry.samples[m].push(sample);
            }
        }
        if watch.disturbed > 0 {
            let Watch { samples, disturbed } = watch;
            eprintln!("{disturbed} of {samples} samples were taken while something else was running");
        }
        Ok(self.rows(&peers, &entries))
    }

    /// Starts, prepares and checks every peer; those that are not installed or not right are left out.
    fn start(&self, operands: &Operands, directory: &Path) -> Result<(Vec<Peer>, Vec<Entry>)> {
        let (mut peers, mut entries) = (Vec::new(), Vec::new());
        let wanted = |name: &&str| self.only.is_empty() || self.only.iter().any(|only| only == name);
        for name in names().filter(wanted) {
            let started = self.command(name, directory).and_then(Worker::start);
            let (worker, version, variants) = match started {
                Ok((worker, Hello::Peer { version, variants })) => (worker, version, variants),
                Ok((_, Hello::Missing(how))) => {
                    eprintln!("{name}: skipped: {how}");
                    continue;
                }
                Err(error) => {
                    eprintln!("{name}: skipped: {error:#}");
                    continue;
                }
            };
            let name = name.to_owned();
            let mut peer = Peer { name, version, worker };
            for variant in variants {
                eprintln!("{} {}: preparing", peer.name, variant.name);
                match self.prepare(&mut peer.worker, &variant, operands) {
                    Ok(bits) => entries.push(Entry {
                        peer: peers.len(),
                        variant,
                        bits,
                        samples: self.m.iter().map(|_| Vec::new()).collect(),
                    }),
                    Err(error) => eprintln!("{} {}: skipped: {error:#}", peer.name, variant.name),
                }
            }
            peers.push(peer);
        }
        Ok((peers, entries))
    }

    /// Makes the copies and checks every one of them, and every number of rows; gives the bits a weight.
    fn prepare(&self, worker: &mut Worker, variant: &Variant, operands: &Operands) -> Result<f64> {
        let rotates = |m: usize| m <= DECODE;
        let prepare = Request::Prepare {
            variant: variant.name.clone(),
            bytes: if self.m.iter().any(|&m| rotates(m)) {
                self.bytes
            } else {
                0
            },
        };
        let Reply::Prepared { copies, bits } = worker.ask(&prepare)? else {
            bail!("reply: expected copies")
        };
        let least = self.m.iter().copied().min().unwrap_or(1);
        let first = self.m.iter().map(|&m| (m, 0));
        let others = (1..copies).map(|copy| (least, copy));
        for (m, copy) in first.chain(others) {
            let check = Request::Check {
                variant: variant.name.clone(),
                m,
                copy,
                rotate: rotates(m),
            };
            let Reply::Outputs(y) = worker.ask(&check)? else {
                bail!("reply: expected outputs")
            };
            let error = error(&y, &operands.reference(m - 1, copy, SHOWN));
            if error.is_nan() || error > variant.tolerance {
                bail!(
                    "M = {m}, copy {copy}: expected an error of at most {}, found {error:.4}",
                    variant.tolerance
                );
            }
        }
        Ok(bits)
    }

    fn command(&self, name: &str, directory: &Path) -> Result<Command> {
        let (n, k) = self.shape;
        let mut command = if WHEELS.contains(&name) {
            if !self.python.exists() {
                bail!("no {}: README.md tells how to install wheels", self.python.display());
            }
            let mut command = Command::new(self.python);
            command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("wheels.py"));
            command
        } else {
            let mut command = Command::new(std::env::current_exe()?);
            command.arg("worker");
            command
        };
        let threads = self.threads.to_string();
        command
            .arg(name)
            .args([n.to_string(), k.to_string(), threads.clone()])
            .arg(directory);
        command
            .env("OMP_NUM_THREADS", &threads)
            .env("RAYON_NUM_THREADS", threads);
        Ok(command)
    }

    /// Medians over the rounds in which nothing disturbed the variant or the one that it is compared with; over all
    /// rounds where there are none. A ratio is the median of each round's own.
    fn rows(&self, peers: &[Peer], entries: &[Entry]) -> Vec<Row> {
        let (n, k) = self.shape;
        let row = |entry: &Entry, m: usize| {
            let samples = &entry.samples[m];
            let operations = 2.0 * (self.m[m] * n * k) as f64;
            let bytes = (n * k) as f64 * entry.bits / 8.0;
            let ours = |e: &&Entry| peers[e.peer].name == peers::NAMES[0] && e.variant.name == entry.variant.rival;
            let rival = entries.iter().find(ours).map(|e| &e.samples[m]);
            let disturbed = |i: &usize| samples[*i].disturbed || rival.is_some_and(|rival| rival[*i].disturbed);
            let mut rounds: Vec<usize> = (0..samples.len()).filter(|i| !disturbed(i)).collect();
            if rounds.is_empty() {
                rounds.extend(0..samples.len());
            }
            let over = |f: &dyn Fn(usize, &Sample) -> f64| median(rounds.iter().map(|&i| f(i, &samples[i])).collect());
            let (peer, seconds) = (&peers[entry.peer], over(&|_, s| s.seconds));
            Row {
                date: report::today(),
                cpu: report::cpu(),
                threads: self.threads,
                shape: format!("{n}x{k}"),
                m: self.m[m],
                peer: peer.name.clone(),
                version: peer.version.clone(),
                variant: entry.variant.name.clone(),
                bits: entry.bits,
                microseconds: rounded(seconds * 1e6),
                gops: rounded(operations / seconds / 1e9),
                of_peak: rounded(over(&|_, s| operations / s.seconds / s.roofs.integer)),
                gbps: rounded(bytes / seconds / 1e9),
                of_dram: rounded(over(&|_, s| bytes / s.seconds / s.roofs.dram)),
                rival: entry.variant.rival.clone(),
                ratio: rival.map(|rival| rounded(over(&|i, s| s.seconds / rival[i].seconds))),
            }
        };
        (0..self.m.len())
            .flat_map(|m| entries.iter().map(move |e| row(e, m)))
            .collect()
    }
}

/// Five significant digits.
fn rounded(value: f64) -> f64 {
    format!("{value:.4e}").parse().unwrap_or(value)
}

/// Whether something else is running, as the kernel tells: tasks then wait for a CPU.
#[derive(Default)]
struct Watch {
    samples: usize,
    disturbed: usize,
}

/// Most tries for one sample.
const TRIES: usize = 3;
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(100);
/// Share of a sample in which tasks wait for a CPU on an idle machine, and some more.
const WAITING: f64 = 0.15;

impl Watch {
    /// Measures again until nothing else was running meanwhile, or it has been tried often enough.
    fn undisturbed(&mut self, mut measure: impl FnMut() -> Result<Sample>) -> Result<Sample> {
        self.samples += 1;
        let mut tries = 1;
        loop {
            let (begin, before) = (Instant::now(), stalled());
            let mut sample = measure()?;
            let waited = stalled().zip(before).map_or(0.0, |(after, before)| after - before);
            sample.disturbed = waited > WAITING * begin.elapsed().as_secs_f64();
            if !sample.disturbed || tries == TRIES {
                self.disturbed += usize::from(sample.disturbed);
                return Ok(sample);
            }
            tries += 1;
            thread::sleep(PAUSE);
        }
    }
}

/// Seconds since the system's start in which a task waited for a CPU, where the kernel counts them.
fn stalled() -> Option<f64> {
    let pressure = std::fs::read_to_string("/proc/pressure/cpu").ok()?;
    let total = pressure.lines().next()?.rsplit_once("total=")?.1;
    Some(total.parse::<f64>().ok()? / 1e6)
}

/// The root of the squared errors' sum over that of the squares.
fn error(found: &[f32], expected: &[f64]) -> f64 {
    if found.len() != expected.len() {
        return f64::INFINITY;
    }
    let errors: f64 = found
        .iter()
        .zip(expected)
        .map(|(&y, e)| (f64::from(y) - e).powi(2))
        .sum();
    (errors / expected.iter().map(|e| e * e).sum::<f64>()).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_relative_and_missing_outputs_infinite() {
        assert_eq!(error(&[3.0, 4.0], &[3.0, 4.0]), 0.0);
        assert_eq!(error(&[0.0, 0.0], &[3.0, 4.0]), 1.0);
        assert_eq!(error(&[3.0], &[3.0, 4.0]), f64::INFINITY);
        assert!(error(&[f32::NAN], &[1.0]).is_nan());
    }

    #[test]
    fn figures_keep_five_digits() {
        assert_eq!(rounded(4.505_999_999_999_999), 4.506);
        assert_eq!(rounded(123_456.7), 123_460.0);
    }
}
