//! `mixgemm simulate`: cycles and traffic of the layers of a SCALE-Sim topology on a systolic array.
#![forbid(unsafe_code)]

mod config;
mod device;
mod mixpe_sim;
mod plot;
mod report;
mod scaling;
mod topology;

use crate::cli::arguments::spelled;
use crate::cli::destination::Destination;
use crate::cli::refusal::{refusal, unreadable};
use anyhow::Result;
use clap::ValueEnum;
use config::{Config, SCRATCHPADS};
use mixgemm::Error;
use mixgemm::accel::hardware::Hardware;
use mixgemm::accel::memory::Widths;
use report::{Counts, Row, Spent, Totals};
use scaling::Scaled;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use topology::Layer;

/// Files of this many bytes and more are not read.
const MOST_BYTES: u64 = 1 << 28;

/// Count cycles and traffic of a topology on a systolic array
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Reads SCALE-Sim's own files: a configuration (.cfg) and a topology (.csv) of matrix products or \
                  convolutions. Counts the cycles of a systolic array (output, weight or input stationary) with \
                  double-buffered scratchpads and one DRAM channel, and the words and bits that move.\n\n\
                  `cycles` is a count: computation and stalls. `scale_sim_total_cycles` is what SCALE-Sim prints, the \
                  index of the last cycle. With InterfaceBandwidth CALC nothing stalls and both are exact; with USER \
                  all operands share one channel of Bandwidth bytes per cycle, and the stalls are those of \
                  mixgemm's own model.\n\n\
                  A device brings the widths of what moves, and energies; the array, its dataflow, the sizes of \
                  scratchpads and the bandwidth are those of the configuration.",
    after_help = "Examples:\n  mixgemm simulate --config scale.cfg --topology layers.csv --svg cycles.svg\n  \
                  mixgemm simulate --config scale.cfg --topology layers.csv --device mixpe-w4a8 --json"
)]
pub(crate) struct Args {
    /// Array, dataflow, scratchpads and bandwidth, as SCALE-Sim has them
    #[arg(long, value_name = "FILE.cfg")]
    config: PathBuf,
    /// Layers: `Layer, M, N, K,` or convolutions, as SCALE-Sim has them
    #[arg(long, value_name = "FILE.csv")]
    topology: PathBuf,
    /// Whose element widths, formats and energies: a name that `matmul --backend` takes, or a file of your own. int8 without
    #[arg(long, value_name = "NAME|FILE.toml")]
    device: Option<String>,
    /// Count as another simulator does
    #[arg(long, value_enum)]
    compat: Option<Compat>,
    /// Also draw the cycles of each layer into this SVG file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Also write the rows into this CSV file
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Replace existing files
    #[arg(long)]
    force: bool,
}

/// Whose counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Compat {
    /// Versions 2 and 3: words of one byte unless a device says otherwise, folds never cut in time, and R + C output
    /// writes too many in every fold of an output-stationary array
    ScaleSim,
    /// The simulator of MixPE's authors: CONFIG is its .ini file, TOPOLOGY has the first line
    /// layer,count,kernel,output,input_channels,output_channels,batch,bits
    MixpeSim,
}

/// Operands and outputs of one byte, sums of four.
const INT8: Widths = Widths {
    activation: 8.0,
    weight: 8.0,
    output: 8.0,
    partial: 32.0,
};

/// SCALE-Sim knows only words of one byte.
const BYTES: Widths = Widths { partial: 8.0, ..INT8 };

/// Runs the command.
pub(crate) fn run(args: &Args, json: bool, out: &mut (impl Write + Send)) -> Result<ExitCode> {
    let (svg, csv) = args.files()?;
    let (config_name, config_text) = read("--config", &args.config)?;
    let (topology_name, topology_text) = read("--topology", &args.topology)?;
    if args.compat == Some(Compat::MixpeSim) {
        args.refuse_other_options()?;
        let simulated = mixpe_sim::simulate(&mixpe_sim::Texts {
            config: (&config_name, &config_text),
            topology: (&topology_name, &topology_text),
        })?;
        if let Some(file) = csv {
            let text = simulated.csv()?;
            file.write(|out| out.write_all(&text))?;
        }
        simulated.print(json, out)?;
        return Ok(ExitCode::SUCCESS);
    }
    let config = config::parse(&config_name, &config_text)?;
    let layers = topology::parse(&topology_name, &topology_text)?;
    let device = args.device.as_deref().map(device::find).transpose()?;
    let device = device.map(|device| device::placed(device, &config)).transpose()?;
    let array = device.as_ref().map_or(config.array, |device| device.array);
    let rows = layers
        .into_iter()
        .map(|layer| args.row(&config, device.as_ref(), layer));
    let rows = rows.collect::<Result<Vec<Row>>>()?;
    let totals = Totals::new(&rows, &array);
    if let Some(file) = csv {
        let text = report::csv(&rows)?;
        file.write(|out| out.write_all(&text))?;
    }
    if let Some(file) = svg {
        let name = device
            .as_ref()
            .map_or(String::new(), |device| format!("{}: ", device.name));
        let drawing = plot::draw(&rows, name + &describe(&config))?;
        file.write(|out| out.write_all(drawing.as_bytes()))?;
    }
    if json {
        let report = serde_json::json!({
            "array": array,
            "memory": config.memory,
            "widths_bits": device.is_none().then(|| args.widths()),
            "device": device,
            "area_mm2": device.as_ref().map(|device| device.area().map(|area| area.total_um2() * 1e-6)).transpose()?,
            "origins": device.as_ref().map(Hardware::origins).transpose()?,
            "compat": args.compat.map(spelled),
            "rows": rows,
            "totals": totals,
            "scaling": device.is_some().then(|| scaling::lines(&rows)),
        });
        serde_json::to_writer_pretty(&mut *out, &report)?;
        writeln!(out)?;
    } else {
        writeln!(out, "{}", describe(&config))?;
        match &device {
            None => {
                let Widths {
                    activation,
                    weight,
                    output,
                    partial,
                } = args.widths();
                let sums = format!("outputs {output}, partial sums {partial}");
                writeln!(
                    out,
                    "simulated; bits: activations {activation}, weights {weight}, {sums}\n"
                )?;
            }
            Some(device) => {
                let formats = &device.formats;
                let bits = format!(
                    "activations {}, weights {}",
                    formats.activation_bits, formats.weight_bits
                );
                writeln!(
                    out,
                    "{}, simulated at {} MHz and {} nm; bits: {bits}\n",
                    device.name, device.clock_mhz, device.node_nm
                )?;
            }
        }
        report::print(&rows, &totals, out)?;
        if let (Some(device), Some(spent)) = (&device, &totals.spent) {
            scaling::print(&rows, out)?;
            report::print_energy(device, spent, out)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The machine in a line.
fn describe(config: &Config) -> String {
    let Config { array, memory } = config;
    let kib = |bytes: u64| format!("{} KiB", bytes / 1024);
    let bandwidth = if memory.dram_bits_per_cycle == f64::INFINITY {
        "DRAM without limit (CALC)".into()
    } else {
        format!("DRAM {} bits per cycle", memory.dram_bits_per_cycle)
    };
    format!(
        "{} x {} elements, {}; scratchpads: ifmap {}, filter {}, ofmap {}, half usable; {bandwidth}",
        array.rows(),
        array.cols(),
        array.dataflow(),
        kib(memory.activation_bytes),
        kib(memory.weight_bytes),
        kib(memory.output_bytes),
    )
}

impl Args {
    /// Where to draw and where to write rows.
    fn files(&self) -> Result<(Option<Destination>, Option<Destination>)> {
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

    /// Refuses what the simulator of MixPE's authors has no place for.
    fn refuse_other_options(&self) -> Result<()> {
        for (option, given) in [("--device", self.device.is_some()), ("--svg", self.svg.is_some())] {
            if given {
                return Err(refusal(option, "not together with --compat mixpe-sim", "both"));
            }
        }
        Ok(())
    }

    /// What moves where no device says so.
    fn widths(&self) -> Widths {
        if self.compat == Some(Compat::ScaleSim) {
            BYTES
        } else {
            INT8
        }
    }

    fn row(&self, config: &Config, device: Option<&Hardware>, layer: Layer) -> Result<Row> {
        let Layer { name, extents } = layer;
        let scale_sim = self.compat == Some(Compat::ScaleSim);
        if let Some(device) = device {
            let estimate = device::estimate(device, &name, extents)?;
            return Ok(Row {
                counts: Counts::new(name, &device.array, extents, &estimate.traffic, scale_sim),
                spent: Some(Spent::new(device, &estimate)),
                scaled: Some(Scaled::new(device, extents, &estimate)?),
            });
        }
        let traffic = config.memory.traffic(&config.array, extents, &self.widths());
        let traffic = traffic.map_err(|error| scratchpad(error, &name))?;
        Ok(Row {
            counts: Counts::new(name, &config.array, extents, &traffic, scale_sim),
            spent: None,
            scaled: None,
        })
    }
}

/// The refusal of a scratchpad under its name in the configuration.
fn scratchpad(error: Error, layer: &str) -> anyhow::Error {
    let names = ["memory.activation_bytes", "memory.weight_bytes", "memory.output_bytes"];
    let Error::Unsupported {
        argument,
        expected,
        found,
    } = error
    else {
        return error.into();
    };
    let key = names
        .iter()
        .position(|name| *name == argument)
        .map_or(argument, |i| SCRATCHPADS[i]);
    refusal(
        "--config",
        format_args!("{key}: {expected} of layer `{layer}`"),
        format_args!("{found} bytes"),
    )
}

/// A text file and its name.
fn read(option: &'static str, path: &Path) -> Result<(String, String)> {
    let content = || {
        let metadata = path.metadata()?;
        // A pipe would block.
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        if metadata.len() >= MOST_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "256 MiB or more"));
        }
        std::fs::read_to_string(path)
    };
    let text = content().map_err(|error| unreadable(option, "a readable text file", path, &error))?;
    Ok((path.display().to_string(), text))
}
