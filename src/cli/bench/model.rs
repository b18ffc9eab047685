//! The linear layers of public models, from their published configurations.
#![forbid(unsafe_code)]

use clap::ValueEnum;

/// A model whose linear layers are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Model {
    /// meta-llama/Llama-2-7b
    #[value(name = "llama2-7b")]
    Llama2,
    /// meta-llama/Meta-Llama-3-8B
    #[value(name = "llama3-8b")]
    Llama3,
    /// Qwen/Qwen1.5-1.8B
    #[value(name = "qwen1.5-1.8b")]
    Qwen,
}

/// The sizes in a model's `config.json`.
struct Config {
    /// `num_hidden_layers`
    layers: usize,
    /// `hidden_size`
    hidden: usize,
    /// `intermediate_size`
    intermediate: usize,
    /// `num_key_value_heads` times `hidden_size / num_attention_heads`
    key_value: usize,
    /// `vocab_size`
    vocabulary: usize,
}

/// Matrices of one shape, or several that are multiplied by the same input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layer {
    /// Output channels.
    pub(super) n: usize,
    /// Input channels.
    pub(super) k: usize,
    /// What they are called in the model.
    pub(super) names: Option<String>,
    /// How often a pass through the model multiplies by it.
    pub(super) count: usize,
    /// Of several matrices: the layers of each; `n` is then the sum of theirs.
    pub(super) parts: Vec<usize>,
}

impl Layer {
    /// One matrix of no model.
    pub(super) fn alone((n, k): (usize, usize)) -> Self {
        Self {
            n,
            k,
            names: None,
            count: 1,
            parts: Vec::new(),
        }
    }
}

/// Matrices that are multiplied by the same input, one after the other in the list of [`Model::layers`].
const SAME_INPUT: [&[&str]; 2] = [&["q", "k", "v"], &["gate", "up"]];

impl Model {
    const fn config(self) -> Config {
        match self {
            // huggingface.co/meta-llama/Llama-2-7b-hf: 32 heads, each with keys and values of its own.
            Self::Llama2 => Config {
                layers: 32,
                hidden: 4096,
                intermediate: 11_008,
                key_value: 4096,
                vocabulary: 32_000,
            },
            // huggingface.co/meta-llama/Meta-Llama-3-8B: 32 heads of 128, 8 of them with keys and values.
            Self::Llama3 => Config {
                layers: 32,
                hidden: 4096,
                intermediate: 14_336,
                key_value: 1024,
                vocabulary: 128_256,
            },
            // huggingface.co/Qwen/Qwen1.5-1.8B: 16 heads, each with keys and values of its own.
            Self::Qwen => Config {
                layers: 24,
                hidden: 2048,
                intermediate: 5504,
                key_value: 2048,
                vocabulary: 151_936,
            },
        }
    }

    /// All linear layers of a pass; matrices of the same shape are one entry. After them come those that are multiplied by
    /// the same input.
    pub(super) fn layers(self) -> Vec<Layer> {
        let c = self.config();
        let linear = [
            ("q", c.hidden, c.hidden, c.layers),
            ("k", c.key_value, c.hidden, c.layers),
            ("v", c.key_value, c.hidden, c.layers),
            ("o", c.hidden, c.hidden, c.layers),
            ("gate", c.intermediate, c.hidden, c.layers),
            ("up", c.intermediate, c.hidden, c.layers),
            ("down", c.hidden, c.intermediate, c.layers),
            ("lm_head", c.vocabulary, c.hidden, 1),
        ];
        let mut layers: Vec<Layer> = Vec::new();
        for (name, n, k, count) in linear {
            match layers.iter_mut().find(|l| (l.n, l.k) == (n, k)) {
                Some(same) => {
                    same.count += count;
                    same.names = same.names.take().map(|names| format!("{names}, {name}"));
                }
                None => layers.push(Layer {
                    n,
                    k,
                    names: Some(name.into()),
                    count,
                    parts: Vec::new(),
                }),
            }
        }
        for names in SAME_INPUT {
            let own = || linear.iter().filter(|(name, ..)| names.contains(name));
            let place = |&(_, n, k, _): &(&str, usize, usize, usize)| layers.iter().position(|l| (l.n, l.k) == (n, k));
            layers.push(Layer {
                n: own().map(|(_, n, ..)| n).sum(),
                k: c.hidden,
                names: Some(names.join("/")),
                count: c.layers,
                parts: own().filter_map(place).collect(),
            });
        }
        layers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Weights of all linear layers: the published parameter counts less embeddings, norms and biases.
    #[test]
    fn the_layers_have_the_published_number_of_weights() {
        for (model, weights) in [
            (Model::Llama2, 6_607_077_376),
            (Model::Llama3, 7_504_658_432),
            (Model::Qwen, 1_525_415_936),
        ] {
            let layers = model.layers();
            let alone = layers.iter().filter(|l| l.parts.is_empty());
            let found: usize = alone.map(|l| l.n * l.k * l.count).sum();
            assert_eq!(found, weights, "{model:?}");
        }
    }

    #[test]
    fn matrices_of_one_shape_are_one_entry() {
        let names = |model: Model| -> Vec<_> { model.layers().into_iter().map(|l| (l.names, l.count)).collect() };
        let named = |names: &str, count| (Some(names.to_string()), count);
        assert_eq!(names(Model::Llama2)[0], named("q, k, v, o", 128));
        assert_eq!(
            names(Model::Llama3),
            [
                named("q, o", 64),
                named("k, v", 64),
                named("gate, up", 64),
                named("down", 32),
                named("lm_head", 1),
                named("q/k/v", 32),
                named("gate/up", 32)
            ]
        );
    }

    /// Queries have 32 heads of 128, keys and values 8 in Llama 3 and 32 in Llama 2.
    #[test]
    fn matrices_of_one_input_have_their_own_shapes() {
        let parts = |model: Model| -> Vec<(usize, Vec<(usize, usize)>)> {
            let layers = model.layers();
            let several = layers.iter().filter(|l| !l.parts.is_empty());
            let shape = |&p: &usize| (layers[p].n, layers[p].k);
            several.map(|l| (l.n, l.parts.iter().map(shape).collect())).collect()
        };
        assert_eq!(
            parts(Model::Llama3),
            [
                (6144, vec![(4096, 4096), (1024, 4096), (1024, 4096)]),
                (28_672, vec![(14_336, 4096); 2])
            ]
        );
        assert_eq!(
            parts(Model::Llama2),
            [(12_288, vec![(4096, 4096); 3]), (22_016, vec![(11_008, 4096); 2])]
        );
    }
}
