//! The emulated NPU: values are the reference's, refusals are a real NPU's, times are its profile's.
#![forbid(unsafe_code)]
#![cfg(all(feature = "testing", feature = "lab"))]

mod fit;
mod graphs;
mod profile;
mod repair;
mod values;

use mixgemm::{AnyBackend, Host, Isa, Mat, Mode};

pub(crate) fn host() -> Box<dyn AnyBackend> {
    Box::new(Host::new().isa(Isa::Scalar).unwrap())
}

pub(crate) fn bits(y: &Mat<f32>) -> Vec<u32> {
    y.data().iter().map(|y| y.to_bits()).collect()
}

/// Activations beyond ±127 halves are clamped.
const CLAMPED: Mode = Mode::A8Static {
    scale: 0.5,
    saturate: true,
};

pub(crate) fn message<T>(result: mixgemm::Result<T>) -> String {
    result.err().map_or_else(String::new, |error| error.to_string())
}
