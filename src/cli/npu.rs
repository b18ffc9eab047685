//! The emulated NPU on the command line: its profile, and what a product cost by it.
#![forbid(unsafe_code)]

use crate::cli::device::{self, Device};
use crate::cli::refusal::{refusal, unreadable};
use crate::cli::table;
use anyhow::Result;
use mixgemm::accel::npu::Npu;
use mixgemm::accel::npu::grouped::Grouped;
use mixgemm::accel::npu::profile::{Arrangement, Profile};
use mixgemm::accel::npu::published::Comparison;
use mixgemm::backend::DeviceTime;
use mixgemm::{AnyBackend, Error, Host, Isa, Mode, Par, Scheme};
use serde::Serialize;
use std::io::{self, Write};
use std::path::Path;

/// The option that names a profile.
const OPTION: &str = "--profile";

/// The backends that have one.
const NPU: &str = "npu";
const GROUPED: &str = "npu+groups";

/// Profiles of this many bytes and more are not read.
const MOST_BYTES: u64 = 1 << 20;

/// The latency model of a backend: the built-in one or the user's own. None for backends that have none.
pub(crate) fn profile(backend: &str, file: Option<&Path>) -> Result<Option<Profile>> {
    if ![NPU, GROUPED].contains(&backend) {
        return match file {
            Some(_) => Err(refusal(OPTION, format_args!("--backend {NPU} or {GROUPED}"), backend)),
            None => Ok(None),
        };
    }
    let Some(file) = file else {
        return Ok(Some(Profile::hexagon_8gen3().clone()));
    };
    let text = || {
        let metadata = file.metadata()?;
        // A pipe would block.
        if !metadata.is_file() || metadata.len() >= MOST_BYTES {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "no regular file below 1 MiB",
            ));
        }
        std::fs::read_to_string(file)
    };
    let text = text().map_err(|error| unreadable(OPTION, "a readable text file", file, &error))?;
    let profile = Profile::from_toml(&text).map_err(|error| match error {
        Error::Value {
            argument,
            expected,
            found,
        } => {
            let found = format!("{found} in {}", file.display());
            refusal(OPTION, format_args!("{argument}: {expected}"), found)
        }
        other => other.into(),
    });
    profile.map(Some)
}

/// The backend of this name that takes the mode, as [`device::backend`]; an NPU has the latency model of this file.
pub(crate) fn backend(
    (name, mode): (&str, Mode),
    file: Option<&Path>,
    fast: bool,
    isa: Option<Isa>,
    par: &Par,
) -> Result<Box<dyn AnyBackend>> {
    let Some(profile) = profile(name, file)? else {
        return device::backend(name, mode, fast, isa, par);
    };
    device::accelerator(name, mode)?;
    let npu = Npu::new(profile);
    let npu = match fast {
        true => npu.fast(Box::new(Host::new().par(par.clone()))),
        false => npu,
    };
    Ok(match name {
        GROUPED => Box::new(Grouped::new(npu)),
        _ => Box::new(npu),
    })
}

/// A latency model, and what the life of graphs cost by it. All times are emulated.
#[derive(Debug, Serialize)]
struct Model {
    profile: String,
    source: String,
    emulated: bool,
    setup_ms: f64,
    build_ms: f64,
    optimise_ms: f64,
    free_ms: f64,
    published: Vec<Row>,
}

/// A published figure beside the profile's.
#[derive(Debug, Serialize)]
struct Row {
    #[serde(flatten)]
    figures: Comparison,
    off_percent: f64,
}

impl Model {
    fn new(profile: &Profile, time: DeviceTime) -> Self {
        let rows = profile.comparisons().into_iter().map(|figures| Row {
            off_percent: figures.off_percent(),
            figures,
        });
        Self {
            profile: profile.name.clone(),
            source: profile.source.clone(),
            emulated: true,
            setup_ms: time.setup_ms,
            build_ms: time.build_ms,
            optimise_ms: time.optimise_ms,
            free_ms: time.free_ms,
            published: rows.collect(),
        }
    }

    /// For people: what was executed, what graphs cost, and the published figures.
    fn print(&self, executed: (&str, String), out: &mut impl Write) -> Result<()> {
        let (name, executed) = executed;
        writeln!(out, "\nOn the device, emulated by the latency model {}:", self.profile)?;
        writeln!(out, "  {name:<16} {executed}")?;
        writeln!(
            out,
            "  {:<16} setup {}, build {}, optimise {}, free {}",
            "graphs",
            ms(self.setup_ms),
            ms(self.build_ms),
            ms(self.optimise_ms),
            ms(self.free_ms)
        )?;
        if self.published.is_empty() {
            return Ok(());
        }
        let mut table = table::columns(&["published", "where", "figure", "model", "off by"], 2);
        for Row { figures, off_percent } in &self.published {
            let value = |value: f64| match figures.unit {
                "ms" => ms(value),
                unit => format!("{value:.2} {unit}"),
            };
            table.add_row([
                figures.what.clone(),
                figures.source.clone(),
                value(figures.published),
                value(figures.profile),
                // Without a sign where it rounds to nothing.
                format!("{:+.1} %", (off_percent * 10.0).round() / 10.0 + 0.0),
            ]);
        }
        writeln!(
            out,
            "\nThe model, {}, beside figures of real hardware:\n{}",
            self.source,
            table.trim_fmt()
        )?;
        Ok(())
    }
}

fn ms(ms: f64) -> String {
    table::time(ms * 1e-3)
}

/// What a product costs by the latency model.
#[derive(Debug, Serialize)]
pub(crate) struct Section {
    #[serde(flatten)]
    model: Model,
    /// One product with all that it takes on the device and on the host; 0 where there are no outputs.
    product_ms: f64,
    /// The same with one scale for the matrix.
    one_scale_ms: f64,
    /// How many times this.
    overhead: Option<f64>,
    /// How the rows stand; none of one group at a time, and of no rows.
    rows: Option<[usize; 2]>,
}

impl Section {
    /// Of a product that a device has done in this time, if it is an NPU, with the profile of this file.
    pub(crate) fn of(
        device: &Device,
        time: Option<DeviceTime>,
        file: Option<&Path>,
        (m, n, k): (usize, usize, usize),
        scheme: &Scheme,
    ) -> Result<Option<Self>> {
        let Some((profile, time)) = profile(device.name, file)?.zip(time) else {
            return Ok(None);
        };
        let best = profile.best(m, n, k);
        let one_scale_ms = profile.product_ms(m, n, k, best);
        let grouped = device.name == GROUPED;
        let product_ms = match grouped {
            true => profile.grouped_ms(m, n, k, scheme.group_length(k)),
            false => one_scale_ms,
        };
        let executed = m > 0 && n > 0;
        Ok(Some(Self {
            model: Model::new(&profile, time),
            product_ms,
            one_scale_ms,
            overhead: executed
                .then(|| product_ms / one_scale_ms)
                .filter(|overhead| overhead.is_finite()),
            rows: (executed && !grouped).then_some([best.height, best.width]),
        }))
    }

    /// For people.
    pub(crate) fn print(&self, out: &mut impl Write) -> Result<()> {
        let how = match (self.rows, self.overhead) {
            (Some([height, width]), _) => format!("rows as {}", Arrangement { height, width }),
            (None, Some(overhead)) => format!(
                "group by group: {overhead:.1} times the {} of one scale",
                ms(self.one_scale_ms)
            ),
            (None, None) => "nothing was executed".into(),
        };
        self.model
            .print(("product", format!("{}, {how}", ms(self.product_ms))), out)
    }
}

/// What all products of a run cost by the latency model.
#[derive(Debug, Serialize)]
pub(crate) struct Whole {
    #[serde(flatten)]
    model: Model,
    /// Products on the device.
    execute_ms: f64,
    /// Sums of groups on the host.
    host_ms: f64,
}

impl Whole {
    /// Of what the device of this name has spent, if it is an NPU, with the profile of this file.
    pub(crate) fn of(name: &str, time: Option<DeviceTime>, file: Option<&Path>) -> Result<Option<Self>> {
        let Some((profile, time)) = profile(name, file)?.zip(time) else {
            return Ok(None);
        };
        Ok(Some(Self {
            model: Model::new(&profile, time),
            execute_ms: time.execute_ms,
            host_ms: time.host_ms,
        }))
    }

    /// For people.
    pub(crate) fn print(&self, out: &mut impl Write) -> Result<()> {
        let host = match self.host_ms {
            0.0 => String::new(),
            host => format!(", sums of groups on the host {}", ms(host)),
        };
        let executed = format!("{}{host}", ms(self.execute_ms));
        self.model.print(("all linears", executed), out)
    }
}
