//! The emulated NPU on the command line: its profile, and what a product cost by it.
#![forbid(unsafe_code)]

use crate::cli::device::Device;
use crate::cli::refusal::{option, refusal, unreadable};
use crate::cli::table;
use anyhow::Result;
use mixgemm::accel::npu::Npu;
use mixgemm::accel::npu::grouped::Grouped;
use mixgemm::accel::npu::profile::{Arrangement, Profile};
use mixgemm::accel::npu::published::Comparison;
use mixgemm::backend::DeviceTime;
use mixgemm::{AnyBackend, Error, Host, Scheme};
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

/// The device of this name with this profile, with values of its own or of this host.
pub(crate) fn device(backend: &str, profile: Profile, fast: Option<Host>) -> Box<dyn AnyBackend> {
    let npu = Npu::new(profile);
    let npu = match fast {
        Some(host) => npu.fast(Box::new(host)),
        None => npu,
    };
    if backend == GROUPED {
        Box::new(Grouped::new(npu))
    } else {
        Box::new(npu)
    }
}

/// What a product costs by the latency model. All times are emulated.
#[derive(Debug, Serialize)]
pub(crate) struct Section {
    profile: String,
    source: String,
    emulated: bool,
    /// One product with all that it takes on the device and on the host.
    product_ms: f64,
    /// The same with one scale for the matrix, and how many times this.
    one_scale_ms: f64,
    overhead: f64,
    /// How the rows stand; none of one group at a time.
    rows: Option<[usize; 2]>,
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

impl Section {
    /// Of the product that a device has done, if it is an NPU, with the profile of this file; its graph is freed.
    pub(crate) fn of(
        device: &Device,
        file: Option<&Path>,
        (m, n, k): (usize, usize, usize),
        scheme: &Scheme,
    ) -> Result<Option<Self>> {
        let time = device.time(m).map_err(option)?;
        let profile = profile(device.name, file)?.zip(time);
        Ok(profile.map(|(profile, time)| Self::new(&profile, time, device.name, (m, n, k), scheme)))
    }

    /// Of a product by the device of this name, which has spent this time.
    fn new(
        profile: &Profile,
        time: DeviceTime,
        device: &str,
        (m, n, k): (usize, usize, usize),
        scheme: &Scheme,
    ) -> Self {
        let best = profile.best(m, n, k);
        let one_scale_ms = profile.product_ms(m, n, k, best);
        let grouped = device == GROUPED;
        let product_ms = match grouped {
            true => profile.grouped_ms(m, n, k, scheme.group_length(k)),
            false => one_scale_ms,
        };
        let rows = profile.comparisons().into_iter().map(|figures| Row {
            off_percent: figures.off_percent(),
            figures,
        });
        Self {
            profile: profile.name.clone(),
            source: profile.source.clone(),
            emulated: true,
            product_ms,
            one_scale_ms,
            overhead: product_ms / one_scale_ms,
            rows: (!grouped).then_some([best.height, best.width]),
            setup_ms: time.setup_ms,
            build_ms: time.build_ms,
            optimise_ms: time.optimise_ms,
            free_ms: time.free_ms,
            published: rows.collect(),
        }
    }

    /// For people.
    pub(crate) fn print(&self, out: &mut impl Write) -> Result<()> {
        let ms = |ms: f64| table::time(ms * 1e-3);
        let how = match self.rows {
            Some([height, width]) => format!("rows as {}", Arrangement { height, width }),
            None => format!(
                "group by group: {:.1} times the {} of one scale",
                self.overhead,
                ms(self.one_scale_ms)
            ),
        };
        writeln!(out, "\nOn the device, emulated by the latency model {}:", self.profile)?;
        writeln!(out, "  {:<16} {}, {how}", "product", ms(self.product_ms))?;
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
