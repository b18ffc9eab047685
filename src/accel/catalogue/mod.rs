//! The accelerators: one file each, data and a choice of processing element, and one line in [`ACCELERATORS`].
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
use mixpe::MixPe;

/// A backend behind the object-safe trait.
type Boxed = Box<dyn AnyBackend>;

/// One accelerator of the catalogue.
#[derive(Debug, Clone, Copy)]
pub struct Accelerator {
    device: fn() -> Boxed,
    fast: Option<fn(Boxed) -> Boxed>,
}

/// An exact device; other backends can compute its values.
macro_rules! exact {
    ($device:expr) => {
        Accelerator {
            device: || Box::new($device),
            fast: Some(|values| $device.with_values_from(values)),
        }
    };
}

/// A device that rounds.
macro_rules! rounding {
    ($device:expr) => {
        Accelerator {
            device: || Box::new($device),
            fast: None,
        }
    };
}

/// All accelerators. Those whose names begin alike stand together, the usual one first.
pub static ACCELERATORS: &[Accelerator] = &[
    exact!(MixPe::w4a8()),
    exact!(MixPe::w4a16()),
    rounding!(MixPe::w4a16_fused()),
    rounding!(MixPe::w4a16_fused_f16()),
    rounding!(MixPe::w4a16_naive()),
    rounding!(MixPe::w4a16_flush()),
    rounding!(MixPe::w4a16_saturate()),
    exact!(tpu::int8()),
    rounding!(fp16::array()),
    rounding!(fp16::array_f16()),
    rounding!(dequant::w4a16()),
    rounding!(dequant::w4a16_rescaled()),
    rounding!(dequant::w4a16_quantised()),
    #[cfg(feature = "lab")]
    exact!(npu::int8()),
    #[cfg(feature = "lab")]
    exact!(npu::grouped()),
];

impl Accelerator {
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

/// The first accelerator of this name, or whose name goes on after it with a hyphen, that takes the mode.
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
    let named = |accelerator: &&Accelerator| {
        let rest = accelerator.name().strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    let mut taken: Option<Capabilities> = None;
    for accelerator in ACCELERATORS.iter().filter(named) {
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
