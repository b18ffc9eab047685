//! Who multiplies the linears of a model: f32, or a backend with quantised weights.
#![forbid(unsafe_code)]

use super::encoder::Linears;
use super::model::Model;
use crate::cli::device::Device;
use crate::cli::refusal::refusal;
use anyhow::Result;
use mixgemm::quant::figures::product_f64;
use mixgemm::{Error, Mat, Mode, Workspace, f16};
use std::num::NonZeroUsize;
use std::ops::Range;

/// What is shown the inputs of the linears: see [`Linears::see`].
pub(super) type See<'a> = dyn FnMut(usize, &Mat<f32>, &[Range<usize>]) -> Result<()> + 'a;

/// The model as it is: products in f64, rounded once to f32.
pub(super) struct Floats<'a> {
    pub(super) model: &'a Model,
    pub(super) see: &'a mut See<'a>,
}

impl Linears for Floats<'_> {
    fn see(&mut self, linear: usize, x: &Mat<f32>, texts: &[Range<usize>]) -> Result<()> {
        (self.see)(linear, x, texts)
    }

    fn product(&mut self, linear: usize, x: &Mat<f32>) -> Result<Mat<f32>> {
        let linear = &self.model.linears[linear];
        let wide = product_f64(x.view(), linear.weights.view())?;
        let mut y: Vec<f32> = wide.data().iter().map(|&y| y as f32).collect();
        let (m, n) = (wide.rows(), wide.cols());
        for (row, y) in y.chunks_exact_mut(n).enumerate() {
            linear.epilogue().finish(y, row, 0, None);
        }
        Ok(Mat::from_vec(y, m, n)?)
    }
}

/// A quantised linear.
pub(super) struct Quantised {
    pub(super) device: Device,
    pub(super) mode: Mode,
}

/// Quantised linears.
pub(super) struct Integers<'a> {
    pub(super) model: &'a Model,
    pub(super) linears: &'a [Quantised],
    pub(super) threads: NonZeroUsize,
    pub(super) workspace: Workspace,
    pub(super) see: &'a mut See<'a>,
}

impl Linears for Integers<'_> {
    fn see(&mut self, linear: usize, x: &Mat<f32>, texts: &[Range<usize>]) -> Result<()> {
        (self.see)(linear, x, texts)
    }

    fn product(&mut self, linear: usize, x: &Mat<f32>) -> Result<Mat<f32>> {
        let Quantised { device, mode } = &self.linears[linear];
        let linear = &self.model.linears[linear];
        let epilogue = linear.epilogue();
        let mut y = Mat::zeros(x.rows(), linear.weights.rows());
        let halves = matches!(mode, Mode::Exact | Mode::Native).then(|| halves(x));
        let x = halves.as_ref().map_or_else(|| x.view().into(), |x| x.view().into());
        device
            .run(&mut self.workspace, self.threads, (x, *mode), &epilogue, y.view_mut())
            .map_err(|error| of_linear(&linear.name, error))?;
        Ok(y)
    }
}

/// Rounded to f16, as modes `exact` and `native` take their inputs.
fn halves(x: &Mat<f32>) -> Mat<f16> {
    Mat::from_fn(x.rows(), x.cols(), |r, c| f16::from_f32(x.data()[r * x.cols() + c]))
}

/// A library error with the option or, where it has none of its own, the linear that it is about.
pub(super) fn of_linear(linear: &str, error: Error) -> anyhow::Error {
    let (argument, expected, found) = error.parts();
    match argument {
        "bits" | "group" | "mode" | "isa" | "backend" => refusal(format_args!("--{argument}"), expected, found),
        argument => refusal(format_args!("{argument} of {linear}"), expected, found),
    }
}
