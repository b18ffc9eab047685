//! Who multiplies the linears of a model: f32, or a backend with quantised weights.
#![forbid(unsafe_code)]

use super::encoder::Linears;
use super::model::Model;
use crate::cli::device::Device;
use crate::cli::refusal::refusal;
use anyhow::Result;
use mixgemm::quant::activation::a8static_value;
use mixgemm::quant::figures::product_f64;
use mixgemm::{Error, Mat, Mode, Workspace, f16};
use std::collections::BTreeSet;
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

/// The model with the inputs of one linear rounded to multiples of a scale, none of them clamped.
pub(super) struct Rounded<'a> {
    pub(super) floats: Floats<'a>,
    pub(super) linear: usize,
    pub(super) scale: f32,
}

impl Linears for Rounded<'_> {
    fn see(&mut self, linear: usize, x: &Mat<f32>, texts: &[Range<usize>]) -> Result<()> {
        self.floats.see(linear, x, texts)
    }

    fn product(&mut self, linear: usize, x: &Mat<f32>) -> Result<Mat<f32>> {
        if linear != self.linear {
            return self.floats.product(linear, x);
        }
        let t = self.scale;
        let rounded = x.data().iter().map(|&x| t * a8static_value(x, t)).collect();
        let rounded = Mat::from_vec(rounded, x.rows(), x.cols())?;
        self.floats.product(linear, &rounded)
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
    /// The numbers of rows that a device of static shapes may have graphs for.
    pub(super) shapes: BTreeSet<usize>,
}

impl Integers<'_> {
    /// Frees all graphs.
    pub(super) fn release(&mut self) -> mixgemm::Result<()> {
        for m in std::mem::take(&mut self.shapes) {
            self.linears.iter().try_for_each(|linear| linear.device.release(m))?;
        }
        Ok(())
    }
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
        let threads = self.threads;
        let mut run = |workspace: &mut Workspace| device.run(workspace, threads, (x, *mode), &epilogue, y.view_mut());
        let mut done = run(&mut self.workspace);
        if matches!(done, Err(Error::Memory { .. })) {
            // A device's window is full: what is in it makes room.
            self.release()?;
            done = run(&mut self.workspace);
        }
        done.map_err(|error| of_linear(&linear.name, error))?;
        self.shapes.insert(y.rows());
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
