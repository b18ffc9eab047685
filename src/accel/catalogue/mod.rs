//! The accelerators: one file each, and one line in [`ACCELERATORS`].
//!
//! An [`Accelerator`] has two halves under one name. Its *values* come from a backend, bit for bit. Its *cost* (cycles,
//! bits moved, energy, area) follows from a file of data; with feature `lab` it is read by
//! [`Accelerator::hardware`], and [`Accelerator::run`] returns both for one product.
#![forbid(unsafe_code)]

pub mod dequant;
pub mod fp16;
pub mod mixpe;
#[cfg(feature = "lab")]
pub mod npu;
pub mod tpu;

use crate::backend::{AnyBackend, Capabilities};
use crate::base::error::{Error, Result};
use crate::quant::input::Mode;
use alloc::{boxed::Box, vec::Vec};

/// A backend behind the object-safe trait.
type Boxed = Box<dyn AnyBackend>;

/// One accelerator: what it returns, and what that costs.
///
/// ```
/// use mixgemm::accel::catalogue::{Accelerator, tpu};
/// const MINE: Accelerator = Accelerator::new(|| Box::new(tpu::int8()), "base = 'tpu-int8'\nname = 'tpu-int8'");
/// assert_eq!(MINE.name(), "tpu-int8");
/// assert!(MINE.device().capabilities().a8);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Accelerator {
    device: fn() -> Boxed,
    fast: Option<fn(Boxed) -> Boxed>,
    cost: Option<&'static str>,
}

/// All accelerators. Those whose names begin alike stand together, the usual one first.
pub static ACCELERATORS: &[Accelerator] = &[
    mixpe::W4A8,
    mixpe::W4A16,
    mixpe::W4A16_FUSED,
    mixpe::W4A16_FUSED_F16,
    mixpe::W4A16_NAIVE,
    mixpe::W4A16_FLUSH,
    mixpe::W4A16_SATURATE,
    tpu::INT8,
    fp16::F32,
    fp16::F16,
    dequant::W4A16,
    dequant::W4A16_F16,
    dequant::W4A16_RESCALED,
    dequant::W4A16_QUANTISED,
    dequant::W4A8,
    #[cfg(feature = "lab")]
    npu::INT8,
    #[cfg(feature = "lab")]
    npu::GROUPED,
];

impl Accelerator {
    /// An accelerator with this device. `cost` is a file in TOML, as
    #[cfg_attr(
        feature = "lab",
        doc = "[`Hardware::from_toml`](crate::accel::hardware::Hardware::from_toml) reads it;"
    )]
    #[cfg_attr(not(feature = "lab"), doc = "`Hardware::from_toml` of feature `lab` reads it;")]
    /// its `name` is the device's.
    #[must_use]
    pub const fn new(device: fn() -> Box<dyn AnyBackend>, cost: &'static str) -> Self {
        Self {
            device,
            fast: None,
            cost: Some(cost),
        }
    }

    /// An accelerator with this device that is not made of priced parts.
    #[must_use]
    pub const fn without_cost(device: fn() -> Box<dyn AnyBackend>) -> Self {
        Self {
            device,
            fast: None,
            cost: None,
        }
    }

    /// The same accelerator, whose device is exact: this is it with values of another backend.
    #[must_use]
    pub const fn exact(self, fast: fn(Box<dyn AnyBackend>) -> Box<dyn AnyBackend>) -> Self {
        Self {
            fast: Some(fast),
            ..self
        }
    }

    /// Its device.
    #[must_use]
    pub fn device(&self) -> Boxed {
        (self.device)()
    }

    /// Its device with values of another backend, see [`Fast`](crate::accel::fast::Fast); none where it rounds.
    #[must_use]
    pub fn with_values_from(&self, values: Boxed) -> Option<Boxed> {
        self.fast.map(|fast| fast(values))
    }

    /// Its device's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.device().name()
    }

    /// What it is made of, in TOML; none for an NPU, which has a latency model instead.
    #[must_use]
    pub const fn cost_file(&self) -> Option<&'static str> {
        self.cost
    }
}

/// The accelerator of this name.
///
/// ```
/// use mixgemm::accel::catalogue::named;
/// assert_eq!(named("mixpe-w4a8")?.name(), "mixpe-w4a8");
/// assert!(named("mixpe").unwrap_err().to_string().starts_with("device: expected mixpe-w4a8, mixpe-w4a16, "));
/// # Ok::<(), mixgemm::Error>(())
/// ```
///
/// # Errors
/// [`Error::Value`] for a name that there is not; all names are listed.
pub fn named(name: &str) -> Result<&'static Accelerator> {
    let found = ACCELERATORS.iter().find(|accelerator| accelerator.name() == name);
    found.ok_or_else(|| {
        let names: Vec<_> = ACCELERATORS.iter().map(Accelerator::name).collect();
        Error::value("device", names.join(", "), name)
    })
}

/// All names that [`find`] takes: before those of a series of accelerators what their names begin with.
///
/// ```
/// use mixgemm::accel::catalogue;
/// let names: Vec<_> = catalogue::names().collect();
/// assert_eq!(&names[..3], ["mixpe", "mixpe-w4a8", "mixpe-w4a16"]);
/// ```
pub fn names() -> impl Iterator<Item = &'static str> {
    let mut last = "";
    ACCELERATORS.iter().flat_map(move |accelerator| {
        let name = accelerator.name();
        let family = name.split('-').next().unwrap_or(name);
        let new = family != last && family != name;
        last = family;
        new.then_some(family).into_iter().chain([name])
    })
}

/// The accelerators that one of the [`names`] stands for: that of this name, then those whose names go on after it with a
/// hyphen.
///
/// ```
/// use mixgemm::accel::catalogue;
/// assert_eq!(catalogue::family("tpu").next().unwrap().name(), "tpu-int8");
/// assert_eq!(catalogue::family("mixpe-w4a16").count(), 6);
/// assert_eq!(catalogue::family("mix").count(), 0);
/// ```
pub fn family(name: &str) -> impl Iterator<Item = &'static Accelerator> {
    ACCELERATORS.iter().filter(move |accelerator| {
        let rest = accelerator.name().strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    })
}

/// The first accelerator of a [`family`] that takes the mode.
///
/// ```
/// use mixgemm::Mode;
/// use mixgemm::accel::catalogue::find;
/// assert_eq!(find("mixpe", Mode::A8)?.name(), "mixpe-w4a8");
/// assert_eq!(find("mixpe", Mode::Exact)?.name(), "mixpe-w4a16");
/// assert_eq!(find("tpu-int8", Mode::A8Row)?.name(), "tpu-int8");
/// assert!(find("abacus", Mode::A8).is_err());
/// # Ok::<(), mixgemm::Error>(())
/// ```
///
/// # Errors
/// [`Error::Unsupported`] for a name that there is not, and for a mode that none of these takes.
pub fn find(name: &str, mode: Mode) -> Result<&'static Accelerator> {
    let mut taken: Option<Capabilities> = None;
    for accelerator in family(name) {
        let of_this = accelerator.device().capabilities();
        if of_this.takes(mode) {
            return Ok(accelerator);
        }
        let taken = taken.get_or_insert(of_this);
        taken.a8 |= of_this.a8;
        taken.per_tensor &= of_this.per_tensor;
        taken.a16 |= of_this.a16;
        taken.exact |= of_this.exact;
        taken.native |= of_this.native;
    }
    let expected = || names().collect::<Vec<_>>().join(", ");
    let taken = taken.ok_or_else(|| Error::unsupported("backend", expected(), name))?;
    Err(Error::unsupported("mode", taken.mode_names(), mode.name()))
}
