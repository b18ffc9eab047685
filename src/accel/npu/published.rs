//! What others measured on a device, beside what its profile says.
#![forbid(unsafe_code)]

use crate::accel::npu::profile::{Arrangement, Profile};
use crate::base::error::{Error, Result};
use alloc::string::{String, ToString};
use alloc::{format, vec::Vec};
use serde::{Deserialize, Serialize};

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
        let positive = |key, value: f64| {
            let ok = value.is_finite() && value > 0.0;
            let error = || Error::value(key, "a positive number", format!("{value}"));
            if ok { Ok(()) } else { Err(error()) }
        };
        let products = self.products.iter().map(|row| ("published.products.ms", row.ms));
        let rearranged = self
            .rearranged
            .iter()
            .map(|row| ("published.rearranged.times", row.times));
        let models = self.models.iter().flat_map(|row| {
            [
                ("published.models.build_ms", row.build_ms),
                ("published.models.optimise_ms", row.optimise_ms),
                ("published.models.free_ms", row.free_ms),
                (
                    "published.models.prefill.ms",
                    row.prefill.as_ref().map_or(1.0, |prefill| prefill.ms),
                ),
            ]
        });
        let groups = self.groups.iter().flat_map(|row| {
            let times = row.times.map(|times| ("published.groups.times", times));
            times.into_iter().chain([("published.groups.group", row.group as f64)])
        });
        let mut all = products.chain(rearranged).chain(models).chain(groups);
        all.try_for_each(|(key, value)| positive(key, value))
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
