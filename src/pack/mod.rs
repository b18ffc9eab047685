//! Floor 3: operands in the order that kernels read them. A kernel dictates the layout, the packers obey, and a packed
//! operand is accepted because its layout equals the one that the kernel asks for.
#![forbid(unsafe_code)]

pub mod activations;
mod columns;
#[cfg(feature = "pack-file")]
pub mod file;
pub mod layout;
#[cfg(feature = "pack-file")]
pub mod page;
mod panel;
pub mod weights;
