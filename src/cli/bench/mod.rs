//! `mixgemm bench`: times products of random operands beside the machine's roofs.
#![forbid(unsafe_code)]

mod csv;
mod model;
mod passes;
mod pattern;
mod report;
mod roofline;
mod rounds;
#[cfg(test)]
mod tests;
mod workload;

use crate::cli::arguments::{self, FormatName, HOST, MXFP4_GROUP, ModeName, PoolName};
use crate::cli::destination::Destination;
use crate::cli::device;
use crate::cli::machine::{self, Machine};
use crate::cli::measure;
use crate::cli::progress::Progress;
use crate::cli::refusal::{option, refusal};
use crate::cli::table;
use anyhow::{Context, Result};
use mixgemm::base::buffer::AlignedBuf;
use mixgemm::simd::roof::DramRoof;
use mixgemm::{Group, Host, Isa, Mat, Mode, Scheme};
use model::{Layer, Model};
use pattern::Patterns;
use report::Findings;
use rounds::{Bench, Case, Row, Way};
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use workload::{Copies, Input, is_decode};

/// Time products of random operands beside the roofs of this machine
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Times products of random operands in rounds: every row in turn, in slices of 50 ms. The integer \
                  peak, the f32 peak and the rate of memory are sampled right before each slice, on as many threads, \
                  and shares are medians of each round's own ratio. Up to M = 16 the weights rotate over different \
                  copies beyond the last-level cache, as when a model decodes. Every row's answer is compared with \
                  the reference first.",
    after_help = "Examples:\n  mixgemm bench --shape 4096x4096 --m 1,256 --bits 4 --group 128 --asym \\\n    \
                  --mode a8,a16,exact --threads 1,2\n  \
                  mixgemm bench --model llama3-8b --m 1 --mode a16 --svg roofline.svg --csv rows.csv\n  \
                  mixgemm bench --mode a8 --kernel 'direct-a8*-8x*'"
)]
pub(crate) struct Args {
    /// Shapes of the weights: output x input channels
    #[arg(long, value_delimiter = ',', default_value = "4096x4096", value_name = "NxK", value_parser = arguments::shape)]
    shape: Vec<(usize, usize)>,
    /// All linear layers of a model instead of shapes; those of one input (q/k/v, gate/up) also together, beside the same
    /// products one after the other
    #[arg(long, value_enum, conflicts_with = "shape")]
    model: Option<Model>,
    /// Numbers of activation rows
    #[arg(long, value_delimiter = ',', default_value = "1,256", value_parser = arguments::count)]
    m: Vec<NonZeroUsize>,
    /// Bits per weight, 1 to 8
    #[arg(long, value_delimiter = ',', default_value = "4", value_parser = arguments::bits)]
    bits: Vec<u8>,
    /// A code book instead of plain codes
    #[arg(long, value_enum, conflicts_with_all = ["bits", "asym"])]
    format: Option<FormatName>,
    /// Weights along K that share a scale: a number, channel (a row of W) or tensor (all of W); 32 with --format mxfp4
    /// unless given
    #[arg(long, default_value = "128", value_parser = arguments::group)]
    #[arg(default_value_if("format", "mxfp4", MXFP4_GROUP))]
    group: Group,
    /// Integer zero points instead of a symmetric scheme
    #[arg(long)]
    asym: bool,
    /// How activations become integers
    #[arg(long, value_enum, value_delimiter = ',', default_value = "a8,a16,exact")]
    mode: Vec<ModeName>,
    /// Numbers of threads
    #[arg(long, value_name = "T", value_delimiter = ',', default_value = "1", value_parser = arguments::threads)]
    threads: Vec<NonZeroUsize>,
    /// Whose threads work, where it is more than one
    #[arg(long, value_enum, default_value = "own")]
    pool: PoolName,
    /// Instruction-set tier of the host and of the peaks
    #[arg(long, default_value = "auto", value_parser = arguments::isa_names())]
    isa: String,
    /// Who multiplies: this CPU, or an emulated accelerator, by its name or the beginning of it
    #[arg(long, default_value = HOST, value_parser = arguments::backend_names())]
    backend: String,
    /// Rounds [default: 6, or 1 on an emulated backend]
    #[arg(long, value_name = "R", value_parser = arguments::count)]
    rounds: Option<NonZeroUsize>,
    /// Kernels to prefer where they fit, first pattern first; what is left over is chosen as without. * stands for any
    /// run of characters
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    kernel: Vec<String>,
    /// Also draw the rows under the roofs into this SVG file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Also write the rows, with everything known about this machine, into this CSV file
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Replace existing files
    #[arg(long)]
    force: bool,
}

/// Copies of decode's weights together exceed this, and twice the last-level cache.
const BEYOND_CACHE: usize = 288 << 20;

/// Bytes of the buffer that the memory roof is read from.
const ROOF_BUFFER: usize = 1 << 30;

/// Memory of a machine that does not say.
const SOME_MEMORY: u64 = 8 << 30;

/// Runs the command.
pub(crate) fn run(args: &Args, json: bool, out: &mut (impl Write + Send)) -> Result<ExitCode> {
    let machine = Machine::here()?;
    let isa = args.tier()?;
    let layers = args.layers();
    let cases = args.cases(&machine, &layers)?;
    let patterns = args.patterns(isa, &cases)?;
    let (svg, csv) = args.files()?;
    let cache = usize::try_from(machine.last_level_cache.unwrap_or(0)).unwrap_or(0);
    let emulated = args.backend != HOST;
    let rounds = args.rounds.map_or(if emulated { 1 } else { 6 }, NonZeroUsize::get);

    let progress = Progress::new(cases.len() * (rounds + 1));
    let (mut rows, mut copies) = args.prepare(cases, &layers, (isa, BEYOND_CACHE.max(2 * cache)), &progress)?;
    let mut buffer = AlignedBuf::zeroed(ROOF_BUFFER)?;
    let mut bench = Bench::new(isa, DramRoof::new(&mut buffer), (&args.threads, args.pool), patterns)?;
    for row in &mut rows {
        progress.step(format!("checking {}", describe(&row.case)));
        let checked = bench.check(row, &copies);
        checked.with_context(|| format!("{} differs from the reference", describe(&row.case)))?;
    }
    for round in 0..rounds {
        for i in measure::order(round, rows.len()) {
            let row = &mut rows[i];
            progress.step(describe(&row.case));
            bench.sample(row, &mut copies)?;
        }
    }
    drop(progress);
    let tier = if emulated { "emulated" } else { isa.name() };
    let pool = arguments::spelled(args.pool);
    let findings = Findings::new(machine, (tier, &pool), (&rows, &copies), &layers, args.model);
    if let Some(file) = csv {
        let text = csv::text(&findings)?;
        file.write(|out| out.write_all(text.as_bytes()))?;
    }
    if let Some(file) = svg {
        let drawing = roofline::draw(&findings)?;
        file.write(|out| out.write_all(drawing.as_bytes()))?;
    }
    if json {
        serde_json::to_writer_pretty(&mut *out, &findings)?;
        writeln!(out)?;
    } else {
        findings.print(&rows, &copies, out)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(case: &Case) -> String {
    let way = match case.way {
        Way::Alone => String::new(),
        way => format!(" {}", way.name()),
    };
    format!(
        "{}x{}{way}, {}, M = {}, {}, threads {}",
        case.n,
        case.k,
        table::scheme(&case.scheme),
        case.m,
        case.mode.name(),
        case.threads
    )
}

impl Args {
    /// The tier of the kernels and of the peaks.
    fn tier(&self) -> Result<Isa> {
        let Ok(isa) = self.isa.parse() else {
            return machine::best_isa();
        };
        if self.backend != HOST {
            return Err(refusal("--isa", "auto with an emulated --backend", &self.isa));
        }
        Host::new().isa(isa).map_err(option)?;
        Ok(isa)
    }

    /// The matrices to multiply by.
    fn layers(&self) -> Vec<Layer> {
        match self.model {
            Some(model) => model.layers(),
            None => self.shape.iter().copied().map(Layer::alone).collect(),
        }
    }

    /// The kernels to prefer, all of which could be used.
    fn patterns(&self, isa: Isa, cases: &[Case]) -> Result<Patterns> {
        let patterns = Patterns::new(&self.kernel);
        if self.backend != HOST && !self.kernel.is_empty() {
            return Err(refusal(
                "--kernel",
                "--backend host",
                format_args!("--backend {}", self.backend),
            ));
        }
        patterns.check(isa, cases)?;
        Ok(patterns)
    }

    /// Where to draw and where to write rows.
    fn files(&self) -> Result<(Option<Destination>, Option<Destination>)> {
        if self.backend != HOST && self.svg.is_some() {
            let found = format!("--backend {}, whose times are those of the emulation", self.backend);
            return Err(refusal("--svg", "--backend host", found));
        }
        let file = |option, path: &Option<PathBuf>| {
            let path = path.as_deref();
            path.map(|path| Destination::new(option, path, self.force)).transpose()
        };
        let (svg, csv) = (file("--svg", &self.svg)?, file("--csv", &self.csv)?);
        match (&svg, &csv) {
            (Some(svg), Some(csv)) if svg.is(csv) => Err(refusal("--csv", "another file than --svg", "the same")),
            _ => Ok((svg, csv)),
        }
    }

    /// All rows that the arguments ask for, checked before anything large is made.
    fn cases(&self, machine: &Machine, layers: &[Layer]) -> Result<Vec<Case>> {
        if let Some(&threads) = self.threads.iter().find(|t| t.get() > machine.threads) {
            let expected = format!("1 to {}, the threads of this machine", machine.threads);
            return Err(refusal("--threads", expected, threads));
        }
        self.check_memory(layers, machine.memory.unwrap_or(SOME_MEMORY) as f64 / 2.0)?;
        let mut cases = Vec::new();
        for (layer, &Layer { n, k, ref parts, .. }) in layers.iter().enumerate() {
            let ways: &[Way] = match (parts.is_empty(), self.backend.as_str()) {
                (true, _) => &[Way::Alone],
                (_, HOST) => &[Way::InTurn, Way::Together],
                _ => &[],
            };
            for &bits in &self.bits {
                let mut scheme = Scheme {
                    group: self.group,
                    ..FormatName::scheme(self.format, bits)
                };
                if self.asym {
                    scheme = scheme.asymmetric();
                }
                for &m in &self.m {
                    for &mode in &self.mode {
                        let mode = workload::mode(mode);
                        if mode == Mode::Native {
                            return Err(refusal("--mode", "a mode whose results can be checked", mode.name()));
                        }
                        Input::new(0, k, mode).view().check(mode, k, &scheme).map_err(option)?;
                        if self.backend != HOST {
                            let backend = device::emulated(&self.backend, mode, None)?;
                            backend.capabilities().check_scheme(&scheme).map_err(option)?;
                        }
                        let each = |&threads| ways.iter().map(move |&way| (threads, way));
                        cases.extend(self.threads.iter().flat_map(each).map(|(threads, way)| Case {
                            n,
                            k,
                            m: m.get(),
                            scheme,
                            mode,
                            threads,
                            layer,
                            way,
                        }));
                    }
                }
            }
        }
        Ok(cases)
    }

    /// Refuses operands that together take more than `limit` bytes.
    fn check_memory(&self, layers: &[Layer], limit: f64) -> Result<()> {
        const GIB: f64 = (1 << 30) as f64;
        let alone: Vec<&Layer> = layers.iter().filter(|l| l.parts.is_empty()).collect();
        // Codes take a byte each while a copy is made, and packed ones no more.
        let codes: f64 = alone.iter().map(|l| l.n as f64 * l.k as f64).sum();
        let weights = 4.0 * codes + alone.len() as f64 * BEYOND_CACHE as f64;
        let weights = weights * self.bits.len() as f64 + ROOF_BUFFER as f64;
        // Inputs take 4 bytes, 8 while one form is made from another; so does output where the reference looks on.
        let rows: f64 = self.m.iter().map(|m| m.get() as f64).sum();
        let variants = (self.bits.len() * self.mode.len() * self.threads.len()) as f64;
        let ways = |l: &Layer| if l.parts.is_empty() { 1.0 } else { 2.0 };
        let sides: f64 = layers.iter().map(|l| ways(l) * (l.n as f64 + l.k as f64)).sum();
        let activations = 8.0 * rows * variants * sides;
        if weights + activations <= limit {
            return Ok(());
        }
        let expected = format!("products within half of the memory, {:.1} GiB", limit / GIB);
        let found = format!("{:.1} GiB", (weights + activations) / GIB);
        let (argument, value) = if let (Some(model), true) = (self.model, weights > limit) {
            ("--model", arguments::spelled(model))
        } else if weights > limit {
            let shapes: Vec<String> = self.shape.iter().map(|(n, k)| format!("{n}x{k}")).collect();
            ("--shape", shapes.join(","))
        } else {
            let rows: Vec<String> = self.m.iter().map(ToString::to_string).collect();
            ("--m", rows.join(","))
        };
        Err(refusal(argument, expected, format_args!("{value} ({found})")))
    }

    /// Makes the operands of all rows. Rows of the same shape and scheme share their weights; emulated ones those of
    /// the same mode, as each mode has its element.
    fn prepare(
        &self,
        cases: Vec<Case>,
        layers: &[Layer],
        (isa, beyond_cache): (Isa, usize),
        progress: &Progress,
    ) -> Result<(Vec<Row>, Vec<Copies>)> {
        let emulated = self.backend != HOST;
        let key = |c: &Case| (c.n, c.k, c.scheme, emulated.then(|| c.mode.name()));
        let decodes: Vec<_> = cases.iter().filter(|c| is_decode(c.m)).map(key).collect();
        let (mut keys, mut copies, mut rows) = (Vec::new(), Vec::new(), Vec::new());
        for case in cases {
            let parts = match layers[case.layer].parts.as_slice() {
                [] => vec![case],
                parts => parts
                    .iter()
                    .map(|&part| Case {
                        n: layers[part].n,
                        ..case
                    })
                    .collect(),
            };
            let mut weights = Vec::new();
            for part in &parts {
                let own = key(part);
                weights.push(match keys.iter().position(|k| *k == own) {
                    Some(found) => found,
                    None => {
                        let bytes = if decodes.contains(&own) { beyond_cache } else { 0 };
                        let least = most_at_once(layers, part);
                        copies.push(Copies::new(part, (&self.backend, isa), (least, bytes), progress)?);
                        keys.push(own);
                        copies.len() - 1
                    }
                });
            }
            rows.push(Row {
                case,
                weights,
                input: Input::new(case.m, case.k, case.mode),
                outputs: parts.iter().map(|part| Mat::zeros(case.m, part.n)).collect(),
                kernel: "",
                samples: Vec::new(),
            });
        }
        Ok((rows, copies))
    }
}

/// How many matrices of a shape are multiplied by the same input.
fn most_at_once(layers: &[Layer], shape: &Case) -> usize {
    let same = |&&part: &&usize| (layers[part].n, layers[part].k) == (shape.n, shape.k);
    let counts = layers.iter().map(|layer| layer.parts.iter().filter(same).count());
    counts.max().unwrap_or(0).max(1)
}
