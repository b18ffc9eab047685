//! Mixed-precision matrix multiplication for low-bit LLM inference: `Y[M,N] = X[M,K] · W[N,K]ᵀ` with weights of 1 to 8
//! bits and activations in f32, f16, bf16 or int8.
//!
//! **The promise: the same bits everywhere.** Every group's dot product is formed in exact integers, rounded once, and
//! folded in one fixed order. The result therefore does not depend on the instruction set, the number of threads, the
//! batch a row is in, or the blocking; and the emulated accelerators behind the same trait return it too, except where
//! hardware rounds on the way and a mode of its own says so. What the bits are is defined by short scalar loops in [`mod@reference`] and [`quant::activation`].
//!
//! ```
//! use mixgemm::{Host, Mat, MatRef, Mode, QuantMatrix, Scheme};
//! # let (n, k) = (48, 256);
//! # let weights: Vec<f32> = (0..n * k).map(|i| (i as f32 * 0.37).sin()).collect();
//! # let x = Mat::from_fn(2, k, |m, k| (m + k) as f32 * 0.01);
//! # let mut y = Mat::<f32>::zeros(2, n);
//! let w = QuantMatrix::quantize(MatRef::row_major(&weights, n, k)?, Scheme::int(4).group(128).asymmetric())?;
//! let gemm = Host::new().prepare(&w)?;                 // packs for this CPU
//! gemm.run(x.view(), Mode::A16, y.view_mut())?;        // Y = X · Wᵀ
//! # Ok::<(), mixgemm::Error>(())
//! ```
//!
//! # What to use
//!
//! * [`QuantMatrix`]: weights as integer codes with scales and zero points, quantised here or brought along
//!   ([`QuantMatrix::from_parts`]). Their 4-bit codes may stand for the levels of a [`CodeBook`]: MXFP4, flint, or sixteen
//!   integers of your own.
//! * [`Mode`]: how activations become integers: [`Mode::A16`] by default, [`Mode::A8`] for speed, [`Mode::Exact`] for f16
//!   input without any rounding before the group's sum.
//! * [`Host`]: the backend for this CPU. [`Plan`] with a [`Workspace`] is the loop of a runtime: nothing is allocated,
//!   and [`Par`] says who works: [`Threads`], or a [`Pool`] of the runtime's own. [`Plan::run_all`] does several
//!   products on one input at once.
//! * [`MixPe`]: the shift-and-add accelerator of arXiv 2411.16158, emulated bit for bit; the other accelerators are in
//!   [`accel::catalogue`]. Those that round compute in [`Mode::Native`], within a [bound](accel::bound).
//! * [`Split`]: around any backend, 8-bit activations with one scale that keep their outliers; see [`outlier`].
//! * [`Backend`] and its object-safe twin [`AnyBackend`]: the one trait over all of them.
//!
//! # Vocabulary
//!
//! *Activations* and *weights* are the public operands; from packing down they are *lhs* and *rhs*. A weight's integer
//! is its *code*, unless codes are numbers of *levels* in a *book*; a *group* of consecutive codes shares a *scale* and
//! a *zero* point. A code is a sum of *digits* (8, 4, 2, 1 bits), an activation's integer a sum of signed 8-bit *slices*;
//! kernels multiply codes by one slice at a time. Four consecutive k are a *quad*, and a *unit* is as many k as fill
//! whole bytes of every digit.
//!
//! A *panel* is a strip of weights in kernel order, a *tile* the `mr × nr` outputs that a kernel holds, a *sweep* its
//! run over the depth, the *fold* what happens at a group's end, the *epilogue* what happens after the last. A *tier*
//! is a set of instructions ([`Isa`]), a *rule* what one step of a sweep means; a *row* of the
//! [catalogue](kernel::catalogue) is a kernel: one rule on one tier, for one width, tile height and number of slices. A
//! *backend* multiplies; a *device* is an emulated one, an *element* its arithmetic unit.
//!
//! # Tiers and rules
//!
//! | architecture | tier | lanes | rule |
//! |---|---|---|---|
//! | any | `scalar` | 16, and 8 and 4 for panels of the other tiers | [direct](kernel::rule::direct) |
//! | x86-64 | `avx2` | 8 | [short](kernel::rule::short): sums in 16 bits first; table for codes of one bit |
//! | | `avxvnni` | 8 | direct: dot products of bytes |
//! | | `avx512` | 16 | short |
//! | | `avx512vnni` | 16 | direct; with VBMI [table](kernel::rule::table) for codes of one bit |
//! | AArch64 | `neon` | 4 | short |
//! | | `neondot` | 4 | direct |
//! | | `neoni8mm` | 4 | [matrix](kernel::rule::matrix): products of byte matrices; direct for odd tiles |
//!
//! Rows of the table rule on `neon`, and of the [plane](kernel::rule::plane) rule on `avx2`, `avx512vnni` and `neon`, are taken
//! only where they are [preferred](Plan::prefer).
//!
//! The last of an architecture's tiers that the CPU has is found at run time; the environment variable `MIXGEMM_ISA`
//! caps it, [`Host::isa`] and [`Plan::isa`] name one. [`Plan::explain`] says which kernels a product takes and what
//! speaks against the others ([`Explanation`]), [`Kernel::calls`](kernel::Kernel::calls) what really ran.
//!
//! # The house
//!
//! Formats mean, layouts arrange, kernels multiply, epilogues finish, backends place. A module imports only from lower
//! floors, and siblings on a floor do not know each other; a test reads the `use` lines.
//!
//! ```text
//! 5  host | dse                                fast execution: plan, walk, threads, explanations | design spaces
//! 4  kernel | accel | outlier                  SIMD micro-kernels | emulated accelerators | the outlier split
//! 3  backend | pack | reference                the one trait | panels and tiles | the definition
//! 2  quant | epilogue                          what numbers mean | finishing a tile
//! 1  base | simd                               views, buffers, errors | what the machine can do
//! ```
//!
//! Of these, `simd` has the operations ([`simd::isa`]), their definition ([`simd::scalar`]), a file for each tier, and
//! the machine's peaks (`simd::roof`); `kernel` the loop ([`kernel::sweep`]), a page for each rule
//! ([`kernel::rule`]), the two folds ([`kernel::fold`] in 32 bits, [`kernel::wide`] from stored sums), the catalogue
//! and the choice from it ([`kernel::select`]).
//!
//! # Features
//!
//! * `std` (default): CPU detection at run time, huge pages, roofs. Without it the crate is `no_std` with `alloc`, and its
//!   tiers are those enabled at compile time.
//! * `rayon` (default): `Par::Rayon`, threads of the current rayon pool.
//! * `ndarray`, `faer`: their views as matrix views, in place, and back.
//! * `pack-file`: packed weights in files that may be memory-mapped (`Gemm::save`, `Host::load`).
//! * `lab`: accelerators as data, what they cost, the NPU with its graphs and latency model (`accel::npu`), and the
//!   exploration of design spaces (`dse`).
//! * `cli`: the program `mixgemm`.
//! * `testing`: fixtures, and loops over all kernels and backends; portable rows with odd lane counts join the catalogue.
#![cfg_attr(not(feature = "std"), no_std)]
#![deny(unsafe_code)]

extern crate alloc;
#[cfg(all(test, not(feature = "std")))]
extern crate std;

/// The README's examples, compiled and run as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The accelerator of the page on adding one, compiled and run as a test.
#[cfg(all(doctest, feature = "lab"))]
#[doc = include_str!("../docs/adding-an-accelerator.md")]
struct AddingAnAccelerator;

pub mod accel;
pub mod backend;
pub mod base;
#[cfg(feature = "lab")]
pub mod dse;
pub mod epilogue;
pub mod host;
pub mod kernel;
pub mod outlier;
pub mod pack;
pub mod quant;
pub mod reference;
pub mod simd;
#[cfg(feature = "testing")]
pub mod testing;

pub use accel::catalogue::mixpe::MixPe;
pub use backend::{AnyBackend, Backend, Capabilities, Counters, Prepared, Report};
pub use base::error::{Error, Result};
pub use base::float::Element;
pub use base::mat::Mat;
pub use base::parallel::{Par, Pool};
#[cfg(feature = "std")]
pub use base::threads::Threads;
pub use base::view::{MatMut, MatRef};
pub use epilogue::{Activation, Epilogue, Output};
pub use half::{bf16, f16};
pub use host::Host;
pub use host::explain::Explanation;
pub use host::gemm::{Gemm, Plan};
pub use host::products::Product;
pub use host::workspace::{Workspace, Workspaces};
pub use outlier::split::Split;
pub use quant::book::CodeBook;
pub use quant::figures::Figures;
pub use quant::input::{Activations, InputScale, Mode};
pub use quant::matrix::{Floats, QuantMatrix, Zeros};
pub use quant::scheme::{Group, Rounding, ScaleType, Scheme, ZeroPoint};
pub use quant::sums::{GroupSums, WeightShape};
pub use simd::cpu::Isa;
