//! Floor 4: emulated accelerators. An accelerator is data plus a processing element: the element computes every value
//! bit-accurately, the device walks rows, groups and columns through it and finishes the sums.
//!
//! Elements that are exact make a [`Device`](device::Device), whose results are those of
//! [`reference`](crate::reference); elements that round make a [`FloatDevice`](float_device::FloatDevice), whose results
//! lie within a [`bound`]. A device around one of these may add refusals and a clock, as `npu` does. All of them are in
//! the [`catalogue`].
#![forbid(unsafe_code)]

pub mod array;
mod blocks;
pub mod bound;
pub mod catalogue;
#[cfg(feature = "lab")]
pub mod cost;
pub mod device;
pub mod element;
pub mod fast;
pub mod float_device;
#[cfg(feature = "lab")]
pub mod hardware;
pub mod memory;
#[cfg(feature = "lab")]
pub mod npu;
pub mod two_level;
pub mod weights;
