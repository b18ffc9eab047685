//! What others measured on a device, beside what its profile says.
#![forbid(unsafe_code)]

use crate::accel::npu::profile::{Arrangement, Profile, check_range};
use crate::base::error::{Error, Result};
use alloc::string::{String, ToString};
use alloc::{format, vec::Vec};
use core::ops::RangeInclusive;
use serde::{Deserialize, Serialize};

/// Sides of matrices, numbers of layers: far beyond any model, and few enough to try all grids of so many rows.
const SIZES: RangeInclusive<f64> = 1.0..=16_777_216.0;

/// Milliseconds or ratios that somebody measured.
const FIGURES: RangeInclusive<f64> = 1e-9..=1e12;

/// Percent.
const RESIDUALS: RangeInclusive<f64> = -1e6..=1e6;

/// Measured figures. `off_percent` is how far the profile is off, as its fit left it.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Published {
    /// Products.
    pub products: Vec<Product>,
    /// How much faster M rows are in the best grid than one after the other.
    pub rearranged: Vec<Rearranged>,
    /// Graphs of whole models.
    pub models: Vec<Model>,
    /// How much longer products with scales by group take.
    pub groups: Option<Groups>,
}

/// Milliseconds of [M, K] x [K, N].
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "M, K, N, and what the struct says")]
pub struct Product {
    pub m: usize,
    pub k: usize,
    pub n: usize,
    pub ms: f64,
    pub source: String,
    pub off_percent: Option<f64>,
}

/// Flat time over best time of [M, K] x [K, N].
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "M, K, N, and what the struct says")]
pub struct Rearranged {
    pub m: usize,
    pub k: usize,
    pub n: usize,
    pub times: f64,
    pub source: String,
    pub off_percent: Option<f64>,
}

/// The graphs of a model's linear layers.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Its name.
    pub model: String,
    /// Layers.
    pub layers: usize,
    /// `[N, K]` of the linear layers in one of them.
    pub linears: Vec<[usize; 2]>,
    /// Building all graphs.
    pub build_ms: f64,
    /// Optimising all graphs.
    pub optimise_ms: f64,
    /// Freeing all graphs.
    pub free_ms: f64,
    /// Executing all graphs.
    pub prefill: Option<Prefill>,
    /// Where the costs of graphs stand.
    pub source: String,
    /// For build, optimise, free and, where it is there, prefill.
    #[serde(default)]
    pub off_percent: Vec<f64>,
}

/// Milliseconds of all linear layers of a model with so many rows.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the struct says it")]
pub struct Prefill {
    pub rows: usize,
    pub ms: f64,
    pub source: String,
}

/// Least and most time of the published products with scales by group, over their time with one scale.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Groups {
    /// The group length that is assumed.
    pub group: usize,
    /// Least and most.
    pub times: [f64; 2],
    /// Where they stand.
    pub source: String,
    /// For both.
    #[serde(default)]
    pub off_percent: Vec<f64>,
}

/// A published figure and the profile's.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// What was measured.
    pub what: String,
    /// `ms` or `x`.
    pub unit: &'static str,
    /// The published figure.
    pub published: f64,
    /// The profile's.
    pub profile: f64,
    /// Where the published one stands.
    pub source: String,
    /// How far the profile says it is off.
    pub stated_percent: Option<f64>,
}

impl Comparison {
    /// How far the profile is off, in percent of the published figure.
    #[must_use]
    pub fn off_percent(&self) -> f64 {
        (self.profile / self.published - 1.0) * 100.0
    }
}

impl Published {
    pub(super) fn check(&self) -> Result<()> {
        let size = |key, value: usize| check_range(key, value as f64, SIZES);
        let time = |key, value| check_range(key, value, FIGURES);
        let off = |key, value: Option<f64>| value.map_or(Ok(()), |value| check_range(key, value, RESIDUALS));
        for row in &self.products {
            size("published.products.m", row.m)?;
            size("published.products.k", row.k)?;
            size("published.products.n", row.n)?;
            time("published.products.ms", row.ms)?;
            off("published.products.off_percent", row.off_percent)?;
        }
        for row in &self.rearranged {
            size("published.rearranged.m", row.m)?;
            size("published.rearranged.k", row.k)?;
            size("published.rearranged.n", row.n)?;
            time("published.rearranged.times", row.times)?;
            off("published.rearranged.off_percent", row.off_percent)?;
        }
        for row in &self.models {
            size("published.models.layers", row.layers)?;
            size("published.models.linears", row.linears.len())?;
            for side in row.linears.iter().flatten() {
                size("published.models.linears", *side)?;
            }
            time("published.models.build_ms", row.build_ms)?;
            time("published.models.optimise_ms", row.optimise_ms)?;
            time("published.models.free_ms", row.free_ms)?;
            for &residual in &row.off_percent {
                off("published.models.off_percent", Some(residual))?;
            }
            if let Some(prefill) = &row.prefill {
                size("published.models.prefill.rows", prefill.rows)?;
                time("published.models.prefill.ms", prefill.ms)?;
            }
        }
        let Some(groups) = &self.groups else {
            return Ok(());
        };
        size("published.groups.group", groups.group)?;
        let [least, most] = groups.times;
        time("published.groups.times", least)?;
        time("published.groups.times", most)?;
        if least > most {
            let found = format!("{least} and {most}");
            return Err(Error::value(
                "published.groups.times",
                "the least, then the most",
                found,
            ));
        }
        for &residual in &groups.off_percent {
            off("published.groups.off_percent", Some(residual))?;
        }
        if self.products.is_empty() {
            let expected = "published.products, which its times are over";
            return Err(Error::value("published.groups", expected, "none"));
        }
        Ok(())
    }
}

impl Profile {
    /// Every published figure beside the profile's.
    #[must_use]
    pub fn comparisons(&self) -> Vec<Comparison> {
        let shape = |m: usize, k: usize, n: usize| format!("{m}x{k} x {k}x{n}");
        let ms = |m, n, k| self.product_ms(m, n, k, self.best(m, n, k));
        let mut all = Vec::new();
        let mut add = |what: String, unit, figures: [f64; 2], source: &str, stated: Option<f64>| {
            all.push(Comparison {
                what,
                unit,
                published: figures[0],
                profile: figures[1],
                source: source.to_string(),
                stated_percent: stated,
            });
        };
        for row in &self.published.products {
            let figures = [row.ms, ms(row.m, row.n, row.k)];
            add(shape(row.m, row.k, row.n), "ms", figures, &row.source, row.off_percent);
        }
        for row in &self.published.rearranged {
            let (best, flat) = (self.best(row.m, row.n, row.k), Arrangement::flat(row.m));
            let times = self.product_ms(row.m, row.n, row.k, flat) / self.product_ms(row.m, row.n, row.k, best);
            let what = format!("{}: rows {flat} over {best}", shape(row.m, row.k, row.n));
            add(what, "x", [row.times, times], &row.source, row.off_percent);
        }
        for row in &self.published.models {
            let sum = |of: &dyn Fn(usize, usize) -> f64| {
                row.layers as f64 * row.linears.iter().map(|&[n, k]| of(n, k)).sum::<f64>()
            };
            let costs = [
                ("build", row.build_ms, sum(&|_, _| self.graph.build_ms)),
                ("optimise", row.optimise_ms, sum(&|n, k| self.optimise_ms(n, k))),
                ("free", row.free_ms, sum(&|_, _| self.graph.free_ms)),
            ];
            for (i, (what, published, profile)) in costs.into_iter().enumerate() {
                let stated = row.off_percent.get(i).copied();
                add(
                    format!("{}: {what}", row.model),
                    "ms",
                    [published, profile],
                    &row.source,
                    stated,
                );
            }
            if let Some(prefill) = &row.prefill {
                let figures = [prefill.ms, sum(&|n, k| ms(prefill.rows, n, k))];
                let what = format!("{}: {} rows", row.model, prefill.rows);
                add(what, "ms", figures, &prefill.source, row.off_percent.get(3).copied());
            }
        }
        if let Some(row) = &self.published.groups {
            let times = self.published.products.iter().map(|product| {
                let (m, n, k) = (product.m, product.n, product.k);
                self.grouped_ms(m, n, k, row.group) / ms(m, n, k)
            });
            let (least, most) = (times.clone().fold(f64::INFINITY, f64::min), times.fold(0.0, f64::max));
            for (i, (what, profile)) in [("least", least), ("most", most)].into_iter().enumerate() {
                let what = format!("groups of {} over one scale, {what}", row.group);
                add(
                    what,
                    "x",
                    [row.times[i], profile],
                    &row.source,
                    row.off_percent.get(i).copied(),
                );
            }
        }
        all
    }
}
