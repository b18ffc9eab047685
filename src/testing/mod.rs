//! Material for tests, benches and fuzzing: fixtures whose groups all differ, shapes that hurt, and loops over every
//! kernel and every backend. A new row, tier or device is tested by the tests that are already there.
//!
//! ```
//! use mixgemm::testing::{Draw, Inputs, for_each_backend, weights};
//! use mixgemm::{Epilogue, Mat, Scheme, reference};
//! let mut draw = Draw::new(1);
//! let w = weights(&mut draw, Scheme::int(4).group(16).asymmetric(), 33, 50);
//! let inputs = Inputs::new(&mut draw, 3, 50);
//! for_each_backend(|name, backend| {
//!     let prepared = backend.prepare(&w).unwrap();
//!     for (mode, x) in inputs.cases() {
//!         let (mut y, mut expected) = (Mat::<f32>::zeros(3, 33), Mat::<f32>::zeros(3, 33));
//!         reference::run(&w, x, mode, &Epilogue::new(), expected.view_mut().into()).unwrap();
//!         if backend.capabilities().takes(mode) {
//!             backend.run(&prepared, x, mode, &Epilogue::new(), y.view_mut().into()).unwrap();
//!             assert!(y.data().iter().zip(expected.data()).all(|(a, b)| a.to_bits() == b.to_bits()), "{name}");
//!         }
//!     }
//! });
//! ```
#![forbid(unsafe_code)]

mod draw;
mod each;
mod fixture;
mod kernel_case;
mod shapes;

pub use draw::Draw;
pub use each::{Backwards, for_each_backend, for_each_kernel, for_each_native_device};
pub use fixture::{Inputs, STATIC, exact_slices, weights, weights_with_zeros};
pub use kernel_case::{KernelCase, pack_tile, tile_spec};
pub use shapes::{BOOKS, Problem, book_schemes, hurtful_shapes, scheme_of, schemes};
