//! Floor 4: emulated accelerators. An accelerator is data plus a processing element: the element computes every value
//! bit-accurately, the device walks rows, groups and columns through it and finishes the sums.
#![forbid(unsafe_code)]

pub mod array;
pub mod catalogue;
#[cfg(feature = "lab")]
pub mod cost;
pub mod device;
pub mod element;
#[cfg(feature = "lab")]
pub mod hardware;
pub mod memory;
pub mod weights;
