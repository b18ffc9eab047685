//! A BERT encoder over texts of any lengths (Devlin et al., arXiv 1810.04805; post-layer-norm, GELU by erf), whose linears
//! somebody else multiplies.
//!
//! The tokens of all texts stand below each other in one matrix, so nothing is padded: linears and norms take it whole,
//! attention takes the rows of each text by themselves, which is what a mask is for. Every sum has one order, so embeddings
//! have the same bits with every number of threads and texts.
#![forbid(unsafe_code)]

use super::model::{LINEARS, Model, Norm};
use super::tokens::{Text, shortened};
use crate::cli::measure::timed;
use crate::cli::refusal::refusal;
use anyhow::Result;
use mixgemm::Mat;
use rayon::prelude::*;
use serde::Serialize;
use std::ops::Range;

/// Who multiplies.
pub(super) trait Linears {
    /// Is shown the inputs `[M, K]` of a linear, and which rows are those of each text, before its product; outside of the
    /// time that is measured.
    fn see(&mut self, linear: usize, x: &Mat<f32>, texts: &[Range<usize>]) -> Result<()>;

    /// `Y = act(X · Wᵀ + bias)`, `[M, N]`, of the linear with this number.
    fn product(&mut self, linear: usize, x: &Mat<f32>) -> Result<Mat<f32>>;
}

/// Seconds by what they went to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct Seconds {
    /// Products with weights, quantisation of their inputs, bias and GELU.
    pub(super) linears: f64,
    /// Scores, softmax, and the product with values.
    pub(super) attention: f64,
    /// Embeddings, norms, residuals, pooling.
    pub(super) rest: f64,
}

impl Seconds {
    /// All of them.
    pub(super) fn total(&self) -> f64 {
        self.linears + self.attention + self.rest
    }
}

/// Most tokens that go through the linears at once, unless a text is longer.
const BATCH: usize = 4096;

/// The embeddings of texts, of length 1 each, and the time that they took. `step` hears of every layer of every batch.
pub(super) fn embed(
    model: &Model,
    texts: &[Text],
    linears: &mut dyn Linears,
    seconds: &mut Seconds,
    step: &dyn Fn(),
) -> Result<Vec<Vec<f32>>> {
    let mut embeddings = Vec::with_capacity(texts.len());
    for batch in batches(texts) {
        embeddings.extend(encode(model, batch, linears, seconds, step)?);
    }
    Ok(embeddings)
}

/// Texts in runs of at most [`BATCH`] tokens.
pub(super) fn batches(texts: &[Text]) -> Vec<&[Text]> {
    let (mut runs, mut start, mut tokens) = (Vec::new(), 0, 0);
    for (i, text) in texts.iter().enumerate() {
        if i > start && tokens + text.ids.len() > BATCH {
            runs.push(&texts[start..i]);
            (start, tokens) = (i, 0);
        }
        tokens += text.ids.len();
    }
    runs.push(&texts[start..]);
    runs
}

/// One batch.
fn encode(
    model: &Model,
    texts: &[Text],
    linears: &mut dyn Linears,
    seconds: &mut Seconds,
    step: &dyn Fn(),
) -> Result<Vec<Vec<f32>>> {
    let mut end = 0;
    let rows = texts.iter().map(|text| {
        let start = end;
        end += text.ids.len();
        start..end
    });
    let rows: Vec<Range<usize>> = rows.collect();
    let epsilon = model.config.epsilon;
    let (mut x, took) = timed(|| look_up(model, texts));
    seconds.rest += took;
    for layer in 0..model.config.layers {
        let mut product = |i: usize, x: &Mat<f32>, seconds: &mut Seconds| {
            let linear = LINEARS * layer + i;
            linears.see(linear, x, &rows)?;
            let (y, took) = timed(|| linears.product(linear, x));
            seconds.linears += took;
            y
        };
        let (q, k, v) = (
            product(0, &x, seconds)?,
            product(1, &x, seconds)?,
            product(2, &x, seconds)?,
        );
        let (mixed, took) = timed(|| attention([&q, &k, &v], &rows, model.config.heads));
        seconds.attention += took;
        let [after_attention, after] = &model.norms[layer];
        let y = product(3, &mixed, seconds)?;
        seconds.rest += timed(|| add_and_norm(&mut x, &y, after_attention, epsilon)).1;
        let inner = product(4, &x, seconds)?;
        let y = product(5, &inner, seconds)?;
        seconds.rest += timed(|| add_and_norm(&mut x, &y, after, epsilon)).1;
        step();
    }
    let pooled = |(text, rows): (&Text, Range<usize>)| {
        pool(&x, rows).map_err(|length| {
            let argument = format!("embedding of `{}`", shortened(&text.text, 40));
            refusal(argument, "a finite length above 0", length)
        })
    };
    let (pooled, took) = timed(|| texts.iter().zip(rows).map(pooled).collect());
    seconds.rest += took;
    pooled
}

/// Embeddings of words, positions and segments, added and normed.
fn look_up(model: &Model, texts: &[Text]) -> Mat<f32> {
    let hidden = model.config.hidden_size;
    let mut data = Vec::new();
    for text in texts {
        for (position, (&id, &kind)) in text.ids.iter().zip(&text.types).enumerate() {
            let (words, types) = (model.words.view(), model.types.view());
            let parts = words.row(id as usize).iter().zip(types.row(kind as usize));
            let row = parts
                .zip(model.positions.view().row(position))
                .map(|((w, t), p)| w + t + p);
            let start = data.len();
            data.extend(row);
            norm(&mut data[start..], &model.norm, model.config.epsilon);
        }
    }
    let rows = data.len() / hidden;
    Mat::from_vec(data, rows, hidden).expect("whole rows")
}

/// `x = norm(x + y)`, row by row.
fn add_and_norm(x: &mut Mat<f32>, y: &Mat<f32>, after: &Norm, epsilon: f64) {
    let (rows, y) = (x.rows(), y.view());
    let mut x = x.view_mut();
    for r in 0..rows {
        let row = x.row_mut(r);
        row.iter_mut().zip(y.row(r)).for_each(|(x, y)| *x += y);
        norm(row, after, epsilon);
    }
}

/// Layer norm (arXiv 1607.06450) of one row, its statistics in f64.
fn norm(row: &mut [f32], by: &Norm, epsilon: f64) {
    let count = row.len() as f64;
    let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
    let variance = row
        .iter()
        .map(|&x| (f64::from(x) - mean) * (f64::from(x) - mean))
        .sum::<f64>()
        / count;
    let scale = 1.0 / (variance + epsilon).sqrt();
    for ((x, w), b) in row.iter_mut().zip(&by.weight).zip(&by.bias) {
        *x = ((f64::from(*x) - mean) * scale) as f32 * w + b;
    }
}

/// `softmax(Q·Kᵀ/√d)·V` for every text and head, `[M, hidden]`.
fn attention([q, k, v]: [&Mat<f32>; 3], texts: &[Range<usize>], heads: usize) -> Mat<f32> {
    let (rows, hidden) = (q.rows(), q.cols());
    let width = hidden / heads;
    let scale = 1.0 / (width as f32).sqrt();
    let tokens: Vec<(usize, &Range<usize>)> = texts
        .iter()
        .flat_map(|text| text.clone().map(move |row| (row, text)))
        .collect();
    let mut mixed = vec![0.0; rows * hidden];
    let outputs = mixed.par_chunks_exact_mut(hidden);
    outputs
        .zip(tokens)
        .for_each_init(Vec::new, |weights, (y, (row, text))| {
            for head in 0..heads {
                let columns = head * width..(head + 1) * width;
                let query = &q.view().row(row)[columns.clone()];
                weights.clear();
                weights.extend(
                    text.clone()
                        .map(|key| scale * dot(query, &k.view().row(key)[columns.clone()])),
                );
                softmax(weights);
                let y = &mut y[columns.clone()];
                for (key, weight) in text.clone().zip(&*weights) {
                    let value = &v.view().row(key)[columns.clone()];
                    y.iter_mut().zip(value).for_each(|(y, v)| *y += weight * v);
                }
            }
        });
    Mat::from_vec(mixed, rows, hidden).expect("whole rows")
}

/// `Σ a·b` in eight interleaved partial sums.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; 8];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a.iter().zip(b) {
        for i in 0..8 {
            sums[i] += a[i] * b[i];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

/// `e^(s − max s) / Σ e^(s − max s)`, in place.
fn softmax(scores: &mut [f32]) {
    let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    scores.iter_mut().for_each(|s| *s = libm::expf(*s - most));
    let sum: f32 = scores.iter().sum();
    scores.iter_mut().for_each(|s| *s /= sum);
}

/// The mean of a text's rows, scaled to length 1; or the length that cannot be scaled.
fn pool(x: &Mat<f32>, rows: Range<usize>) -> Result<Vec<f32>, f64> {
    // The sum has the direction of the mean.
    let mut sums = vec![0f64; x.cols()];
    for row in rows {
        sums.iter_mut()
            .zip(x.view().row(row))
            .for_each(|(sum, x)| *sum += f64::from(*x));
    }
    let length = sums.iter().map(|s| s * s).sum::<f64>().sqrt();
    if length.is_normal() {
        Ok(sums.iter().map(|s| (s / length) as f32).collect())
    } else {
        Err(length)
    }
}
