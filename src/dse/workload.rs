//! Workloads: the matrix products of a model, and how often each occurs.
#![forbid(unsafe_code)]

use crate::base::error::{Error, Result};
use alloc::string::{String, ToString};
use alloc::{format, vec::Vec};
use serde::{Deserialize, Serialize};

/// One product `Y[M,N] = X[M,K] · W[N,K]ᵀ` of a workload.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    /// Its name in tables and drawings.
    #[serde(rename = "layer")]
    pub name: String,
    /// Rows of X; without, as many as the point of the design space says.
    pub m: Option<u64>,
    /// Rows of W: output channels.
    pub n: u64,
    /// Columns of W: input channels.
    pub k: u64,
    /// How often the product occurs.
    pub count: u64,
}

/// The products of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// `llama2-7b`, `vit`, or the name of a file.
    pub name: String,
    /// The products in order.
    pub layers: Vec<Layer>,
}

/// Layers of one shape: name, n, k, count.
type Shapes = [(&'static str, u64, u64, u64)];

/// Llama-2-7B: 32 blocks of hidden size 4096 and MLP size 11 008 (Touvron et al., arXiv 2307.09288, and the model's
/// configuration file).
const LLAMA2_7B: &Shapes = &[
    ("q, k, v, o", 4096, 4096, 4 * 32),
    ("gate, up", 11_008, 4096, 2 * 32),
    ("down", 4096, 11_008, 32),
];

/// ViT-Base/16: 12 blocks of hidden size 768 and MLP size 3072, patches of 16 × 16 × 3 (Dosovitskiy et al.,
/// arXiv 2010.11929, table 1).
const VIT_BASE: &Shapes = &[
    ("patches", 768, 16 * 16 * 3, 1),
    ("q, k, v", 3 * 768, 768, 12),
    ("attention output", 768, 768, 12),
    ("MLP up", 3072, 768, 12),
    ("MLP down", 768, 3072, 12),
];

impl Workload {
    /// Names of the built-in workloads.
    pub const NAMES: [&'static str; 2] = ["llama2-7b", "vit"];
    /// What the built-in workloads leave out.
    pub const LEFT_OUT: &'static str = "products of activations with activations (attention), the embedding and the \
                                        output head are left out";

    /// A built-in workload: the products with weights of one pass through all blocks.
    ///
    /// ```
    /// use mixgemm::dse::workload::Workload;
    /// let llama = Workload::built_in("llama2-7b")?;
    /// assert_eq!(llama.weights(), 32 * (4 * 4096 * 4096 + 3 * 11008 * 4096));
    /// # Ok::<(), mixgemm::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Value`] for another name.
    pub fn built_in(name: &str) -> Result<Self> {
        let shapes = match name {
            "llama2-7b" => LLAMA2_7B,
            "vit" => VIT_BASE,
            _ => return Err(Error::value("workload", Self::NAMES.join(", "), name)),
        };
        let layer = |&(name, n, k, count): &(&str, u64, u64, u64)| Layer {
            name: name.into(),
            m: None,
            n,
            k,
            count,
        };
        Ok(Self {
            name: name.into(),
            layers: shapes.iter().map(layer).collect(),
        })
    }

    /// Reads comma-separated values with the head `layer,m,n,k,count`. An empty `m` takes the rows of the design
    /// space's axis.
    ///
    /// ```
    /// use mixgemm::dse::workload::Workload;
    /// let own = Workload::from_csv("mine", "layer,m,n,k,count\nup,,3072,768,12\nhead,1,1000,768,1\n")?;
    /// assert_eq!((own.layers[0].m, own.layers[1].m), (None, Some(1)));
    /// # Ok::<(), mixgemm::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::File`] with the line for another head, for a value that is no whole number, and for 0.
    pub fn from_csv(name: &str, text: &str) -> Result<Self> {
        const HEAD: [&str; 5] = ["layer", "m", "n", "k", "count"];
        let mut reader = csv::ReaderBuilder::new()
            .trim(csv::Trim::All)
            .comment(Some(b'#'))
            .from_reader(text.as_bytes());
        let head = reader
            .headers()
            .map_err(|e| Error::file("lines of text", e.to_string()))?;
        if head.iter().ne(HEAD) {
            let found = head.iter().collect::<Vec<_>>().join(",");
            return Err(Error::file(format!("the head {}", HEAD.join(",")), found));
        }
        let mut layers = Vec::new();
        for row in reader.deserialize() {
            let row: Layer = row.map_err(|e| Error::file("layer,m,n,k,count with whole numbers", e.to_string()))?;
            let extents = [
                ("m", row.m.unwrap_or(1)),
                ("n", row.n),
                ("k", row.k),
                ("count", row.count),
            ];
            for (column, value) in extents {
                if value == 0 || value > u64::from(u32::MAX) {
                    let found = format!("{column} = {value} in layer `{}`", row.name);
                    return Err(Error::file(format!("{column} from 1 to {}", u32::MAX), found));
                }
            }
            layers.push(row);
        }
        if layers.is_empty() {
            return Err(Error::file("at least one layer", "none"));
        }
        Ok(Self {
            name: name.to_string(),
            layers,
        })
    }

    /// Whether some layer takes its rows from the design space.
    #[must_use]
    pub fn takes_m(&self) -> bool {
        self.layers.iter().any(|layer| layer.m.is_none())
    }

    /// The most input channels of a layer: the longest sum.
    #[must_use]
    pub fn longest(&self) -> u64 {
        self.layers.iter().map(|layer| layer.k).max().unwrap_or(0)
    }

    /// Weights of all layers: Σ N·K·count.
    #[must_use]
    pub fn weights(&self) -> u64 {
        self.layers
            .iter()
            .map(|l| l.n.saturating_mul(l.k).saturating_mul(l.count))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_workloads_have_the_published_sizes() {
        // 6.74e9 parameters less embedding and head (2 · 32000 · 4096) and norms.
        let llama = Workload::built_in("llama2-7b").unwrap();
        assert_eq!(llama.weights() + 2 * 32_000 * 4096 + 65 * 4096, 6_738_415_616);
        // 86.6e6 parameters: less biases, norms, positions, class token and head.
        let vit = Workload::built_in("vit").unwrap();
        assert_eq!(vit.weights(), 12 * (4 * 768 * 768 + 2 * 768 * 3072) + 768 * 768);
        assert!(Workload::built_in("gpt").is_err() && llama.takes_m());
    }

    #[test]
    fn errors_say_what_is_wrong_and_where() {
        for (text, expected) in [
            ("", "head"),
            ("layer,m,n,k\na,1,2,3\n", "head layer,m,n,k,count"),
            ("layer,m,n,k,count\n", "at least one layer"),
            ("layer,m,n,k,count\na,1,0,3,1\n", "n = 0 in layer `a`"),
            ("layer,m,n,k,count\na,1,-2,3,1\n", "line: 2"),
            ("layer,m,n,k,count\na,1,2,3\n", "line: 2"),
            ("layer,m,n,k,count\na,x,2,3,1\n", "line: 2"),
            ("layer,m,n,k,count\na,1,99999999999,3,1\n", "n = 99999999999"),
        ] {
            let error = Workload::from_csv("f", text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }
}
