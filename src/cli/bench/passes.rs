//! The time of all linear layers of a model.
#![forbid(unsafe_code)]

use super::report::Figures;
use crate::cli::table;
use serde::Serialize;
use std::fmt;

/// Every linear layer of a model, one after the other.
#[derive(Debug, Serialize)]
pub(super) struct Pass {
    model: String,
    mode: &'static str,
    bits: u8,
    m: usize,
    threads: usize,
    seconds: f64,
    seconds_per_token: f64,
    /// With products of the same input as one piece of work.
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds_together: Option<f64>,
}

impl fmt::Display for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "All linear layers of {}, {}, {} bits, M = {}, {}: {}, {} a token",
            self.model,
            self.mode,
            self.bits,
            self.m,
            table::threads(self.threads),
            table::time(self.seconds),
            table::time(self.seconds_per_token),
        )?;
        match self.seconds_together {
            Some(seconds) => write!(f, "; {} with products of one input together", table::time(seconds)),
            None => Ok(()),
        }
    }
}

/// The sums over all layers, in the order of the first layer's rows.
pub(super) fn passes(model: &str, rows: &[Figures]) -> Vec<Pass> {
    let mut passes: Vec<Pass> = Vec::new();
    let like = |p: &Pass, f: &Figures| (p.mode, p.bits, p.m, p.threads) == (f.mode, f.bits, f.m, f.threads);
    for f in rows.iter().filter(|f| f.together.is_none()) {
        let seconds = f.seconds * f.layer_count.unwrap_or(1) as f64;
        match passes.iter_mut().find(|p| like(p, f)) {
            Some(pass) => pass.seconds += seconds,
            None => passes.push(Pass {
                model: model.into(),
                mode: f.mode,
                bits: f.bits,
                m: f.m,
                threads: f.threads,
                seconds,
                seconds_per_token: 0.0,
                seconds_together: None,
            }),
        }
    }
    for pass in &mut passes {
        pass.seconds_per_token = pass.seconds / pass.m as f64;
        let own: Vec<&Figures> = rows.iter().filter(|f| like(pass, f)).collect();
        for f in own.iter().filter(|f| f.together == Some(true)) {
            let single = |n: &usize| {
                let same = |r: &&&Figures| r.together.is_none() && (r.n, r.k) == (*n, f.k);
                own.iter().find(same).map_or(0.0, |r| r.seconds)
            };
            let alone: f64 = f.products.iter().flatten().map(single).sum();
            let saved = (alone - f.seconds) * f.layer_count.unwrap_or(1) as f64;
            pass.seconds_together = Some(pass.seconds_together.unwrap_or(pass.seconds) - saved);
        }
    }
    passes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(m: usize, seconds: f64, layer_count: usize) -> Figures {
        Figures {
            backend: "host",
            kernel: "",
            isa: "scalar",
            mode: "a8",
            n: 1,
            k: 1,
            m,
            bits: 4,
            format: None,
            group: 1,
            asym: false,
            threads: 1,
            pool: None,
            seconds,
            gops: 1.0,
            peak_gops: 1.0,
            fraction_of_peak: None,
            f32_peak_gops: 1.0,
            weight_bytes: 1.0,
            bits_per_weight: 4.0,
            gbps: 1.0,
            dram_gbps: 1.0,
            fraction_of_dram: None,
            layer: Some("q".into()),
            layer_count: Some(layer_count),
            products: None,
            together: None,
        }
    }

    #[test]
    fn a_pass_takes_every_layer_as_often_as_the_model_has_it() {
        let passes = passes(
            "llama",
            &[row(1, 2.0, 3), row(4, 5.0, 1), row(1, 0.5, 2), row(4, 1.0, 3)],
        );
        let found: Vec<_> = passes.iter().map(|p| (p.m, p.seconds, p.seconds_per_token)).collect();
        assert_eq!(found, [(1, 7.0, 7.0), (4, 8.0, 2.0)]);
        assert!(passes.iter().all(|p| p.seconds_together.is_none()));
    }

    /// A model of two layers with queries, keys and values, and one that they are followed by.
    #[test]
    fn products_together_take_the_place_of_those_alone() {
        let wide = |n: usize, f: Figures| Figures { n, ..f };
        let several = |together: bool, seconds: f64| Figures {
            products: Some(vec![4, 2, 2]),
            together: Some(together),
            ..wide(8, row(1, seconds, 2))
        };
        let passes = passes(
            "llama",
            &[
                wide(4, row(1, 3.0, 3)),
                wide(2, row(1, 1.0, 4)),
                several(false, 5.5),
                several(true, 4.0),
            ],
        );
        assert_eq!((passes.len(), passes[0].seconds), (1, 13.0));
        assert_eq!(passes[0].seconds_together, Some(2.0 * 4.0 + 3.0));
    }
}
