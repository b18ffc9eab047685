//! What an NPU's work costs: a latency model of few parameters, as data.
//!
//! ```text
//! product [M, K] x [K, N]   launch + N·K / weight rate + M·N·K / MAC rate · (1 + penalty·(1 − short/long))
//! graph of one product      build; optimise · MiB^exponent of its weights; free
//! sums of groups            M·N·G · sum, on the host
//! ```
//!
//! `short` and `long` are the sides of the grid in which the M rows stand ([`Arrangement`]). `hexagon-8gen3` is built in;
//! other profiles are TOML with the same keys, of which `published` may be left out.
#![forbid(unsafe_code)]

use crate::accel::npu::published::Published;
use crate::base::error::{Error, Result};
use alloc::format;
use alloc::string::String;
use core::ops::RangeInclusive;
use serde::Deserialize;
use std::sync::LazyLock;

/// The parameters of a device, and the figures that they were fitted to.
///
/// ```
/// use mixgemm::accel::npu::profile::Profile;
/// let hexagon = Profile::hexagon_8gen3();
/// let ms = hexagon.product_ms(64, 2048, 2048, hexagon.best(64, 2048, 2048));
/// assert!((ms / 0.9 - 1.0).abs() < 0.06, "{ms} ms; 0.9 ms were measured");
/// let error = Profile::from_toml("name = 'mine'\nwindow = 5").unwrap_err().to_string();
/// assert!(error.contains("line 2") && error.contains("`window`"), "{error}");
/// ```
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// A name for reports.
    pub name: String,
    /// Where the parameters come from.
    pub source: String,
    /// Bytes of memory that the device can reach: those of all graphs, their weights and activations included.
    pub window_bytes: u64,
    /// Bringing up the environment, once, ms.
    pub setup_ms: f64,
    /// Executing.
    pub product: Product,
    /// What happens before and after.
    pub graph: Graph,
    /// Weights with scales by group.
    pub groups: Groups,
    /// Figures that others measured.
    #[serde(default)]
    pub published: Published,
}

/// Executing one product.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Product {
    /// Starting a graph, ms.
    pub launch_ms: f64,
    /// Bytes of weights that arrive in a millisecond.
    pub weight_bytes_per_ms: f64,
    /// Multiply-accumulate steps of a millisecond, rows in a square.
    pub macs_per_ms: f64,
    /// How much longer those steps take in a long row, as a share.
    pub flat_penalty: f64,
}

/// The life of a graph of one product but for its execution.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Graph {
    /// Building it, ms.
    pub build_ms: f64,
    /// Optimising it with 1 MiB of weights, ms.
    pub optimise_ms: f64,
    /// The power of weight bytes with which this grows.
    pub optimise_exponent: f64,
    /// Freeing it, ms.
    pub free_ms: f64,
}

/// What the host does where a device has no groups.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Groups {
    /// Adding a group's scaled sum to an output, ns.
    pub sum_ns: f64,
}

/// The M rows of an input as a grid: `[M, K]` and `[height, width, K]` are the same memory and the same product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrangement {
    /// Rows of the grid.
    pub height: usize,
    /// Columns of the grid.
    pub width: usize,
}

impl Arrangement {
    /// All rows one after the other.
    #[must_use]
    pub const fn flat(m: usize) -> Self {
        Self { height: m, width: 1 }
    }

    /// All grids of M rows, the flattest first: `[4, 1]`, `[2, 2]`. Which side is called height changes nothing.
    pub fn all(m: usize) -> impl Iterator<Item = Self> {
        let widths = (1..=m.isqrt()).filter(move |width| m.is_multiple_of(*width));
        widths.map(move |width| Self {
            height: m / width,
            width,
        })
    }

    /// The shorter side's share of the longer one.
    fn squareness(self) -> f64 {
        let (short, long) = (self.height.min(self.width), self.height.max(self.width));
        short as f64 / long.max(1) as f64
    }
}

impl core::fmt::Display for Arrangement {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} x {}", self.height, self.width)
    }
}

/// Times, ms or ns: up to 30 years.
const TIMES: RangeInclusive<f64> = 0.0..=1e12;

/// Rates for a millisecond: from one a quarter of an hour to beyond all chips.
const RATES: RangeInclusive<f64> = 1e-6..=1e18;

const PENALTIES: RangeInclusive<f64> = 0.0..=1e6;

const EXPONENTS: RangeInclusive<f64> = 0.0..=4.0;

/// Refuses a value outside of a range, NaN too. Within the ranges of profiles no cost is infinite, whatever the shape.
pub(super) fn check_range(key: &'static str, value: f64, range: RangeInclusive<f64>) -> Result<()> {
    if range.contains(&value) {
        return Ok(());
    }
    let [from, to] = [range.start(), range.end()].map(|&bound| match bound {
        0.0 => String::from("0"),
        bound => format!("{bound:e}"),
    });
    Err(Error::value(
        key,
        format!("a number from {from} to {to}"),
        format!("{value}"),
    ))
}

static HEXAGON_8GEN3: LazyLock<Profile> = LazyLock::new(|| {
    Profile::from_toml(include_str!("profiles/hexagon-8gen3.toml")).expect("the built-in profile is well-formed")
});

impl Profile {
    /// The Hexagon NPU of the Snapdragon 8 Gen 3, fitted to the figures of llm.npu (arXiv 2407.05858).
    #[must_use]
    pub fn hexagon_8gen3() -> &'static Self {
        &HEXAGON_8GEN3
    }

    /// Reads a profile.
    ///
    /// # Errors
    /// [`Error::Value`] names the key or the line, what was expected there and what was found.
    pub fn from_toml(text: &str) -> Result<Self> {
        let profile: Self = toml::from_str(text).map_err(|error| {
            let place = error.span().map(|span| {
                let (before, after) = text.split_at(span.start.min(text.len()));
                let start = before.rfind('\n').map_or(0, |i| i + 1);
                let end = after.find('\n').map_or(text.len(), |i| before.len() + i);
                format!(
                    "line {} `{}`: ",
                    before.matches('\n').count() + 1,
                    text[start..end].trim()
                )
            });
            let found = place.unwrap_or_default() + &error.message().replace('\n', " ");
            Error::value("profile", "the profile of an NPU in TOML", found)
        })?;
        profile.check()?;
        Ok(profile)
    }

    fn check(&self) -> Result<()> {
        let Self { product, graph, .. } = self;
        for (key, value, range) in [
            ("setup_ms", self.setup_ms, TIMES),
            ("product.launch_ms", product.launch_ms, TIMES),
            ("product.weight_bytes_per_ms", product.weight_bytes_per_ms, RATES),
            ("product.macs_per_ms", product.macs_per_ms, RATES),
            ("product.flat_penalty", product.flat_penalty, PENALTIES),
            ("graph.build_ms", graph.build_ms, TIMES),
            ("graph.optimise_ms", graph.optimise_ms, TIMES),
            ("graph.optimise_exponent", graph.optimise_exponent, EXPONENTS),
            ("graph.free_ms", graph.free_ms, TIMES),
            ("groups.sum_ns", self.groups.sum_ns, TIMES),
        ] {
            check_range(key, value, range)?;
        }
        self.published.check()
    }

    /// Milliseconds of one product [M, K] x [K, N]; 0 where it has no outputs, as nothing is executed then.
    #[must_use]
    pub fn product_ms(&self, m: usize, n: usize, k: usize, rows: Arrangement) -> f64 {
        if m == 0 || n == 0 {
            return 0.0;
        }
        let Product {
            launch_ms,
            weight_bytes_per_ms,
            macs_per_ms,
            flat_penalty,
        } = self.product;
        let weights = n as f64 * k as f64;
        let shape = 1.0 + flat_penalty * (1.0 - rows.squareness());
        launch_ms + weights / weight_bytes_per_ms + m as f64 * weights / macs_per_ms * shape
    }

    /// The fastest arrangement of M rows; among equals the flattest.
    #[must_use]
    pub fn best(&self, m: usize, n: usize, k: usize) -> Arrangement {
        let ms = |rows: &Arrangement| self.product_ms(m, n, k, *rows);
        let all = Arrangement::all(m);
        all.min_by(|a, b| ms(a).total_cmp(&ms(b)))
            .unwrap_or(Arrangement::flat(m))
    }

    /// Milliseconds to optimise the graph of a product with such weights.
    #[must_use]
    pub fn optimise_ms(&self, n: usize, k: usize) -> f64 {
        let mib = n as f64 * k as f64 / 1_048_576.0;
        self.graph.optimise_ms * mib.powf(self.graph.optimise_exponent)
    }

    /// Milliseconds in which the host scales and adds the sums of `groups` groups of M·N outputs.
    #[must_use]
    pub fn group_sums_ms(&self, m: usize, n: usize, groups: usize) -> f64 {
        m as f64 * n as f64 * groups as f64 * self.groups.sum_ns * 1e-6
    }

    /// Milliseconds of a product whose weights have scales by group: one product for each, and the sums on the host.
    #[must_use]
    pub fn grouped_ms(&self, m: usize, n: usize, k: usize, group: usize) -> f64 {
        let (whole, rest) = (k / group.max(1), k % group.max(1));
        let part = |k| self.product_ms(m, n, k, self.best(m, n, k));
        let last = if rest > 0 { part(rest) } else { 0.0 };
        whole as f64 * part(group) + last + self.group_sums_ms(m, n, k.div_ceil(group.max(1)))
    }
}
