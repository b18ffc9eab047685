//! What stands around the splits: calibration, importance, hot channels, outliers that stay floats, scale migration.
#![forbid(unsafe_code)]
#![cfg(feature = "testing")]

mod calibration;
#[cfg(feature = "pack-file")]
mod columns;
mod importance;
mod migrate;
mod mixed;

use mixgemm::testing::Draw;
use mixgemm::{Backend, Epilogue, Mat, Mode};

/// Rows of which a few channels are large: 3 and 50 often, 20 once.
fn activations(draw: &mut Draw, m: usize, k: usize) -> Mat<f32> {
    Mat::from_fn(m, k, |r, c| {
        let large = match c {
            3 => r % 2 == 0,
            50 => r % 3 == 0,
            20 => r == 5,
            _ => false,
        };
        draw.signed() + if large { 40.0 } else { 0.0 }
    })
}

fn run<B: Backend>(backend: &B, w: &B::Prepared, x: &Mat<f32>, mode: Mode, n: usize) -> Mat<f32> {
    let mut y = Mat::<f32>::zeros(x.rows(), n);
    let out = y.view_mut().into();
    backend.run(w, x.view().into(), mode, &Epilogue::new(), out).unwrap();
    y
}
