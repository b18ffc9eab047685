//! Formats: the part of a design that decides values, and the backends that compute them.
//!
//! | device | input | values |
//! |---|---|---|
//! | exact, int8 activations | `a8`, `a8row` | the caller's backend, which gives the devices' bits |
//! | exact, f16 activations | `f16` | the same |
//! | rounding, f16 activations | `f16` | the device, emulated |
//! | `dequant-w4a8` | `a8row` | the device, emulated |
//! | without dequantisation (`fp16`), bits = 16 | `f16` | f16 weights through the f16 multiplier, emulated |
//!
//! Names are those of the [catalogue]. The place of dequantisation and a floating-point accumulator
//! are the device's own; an integer accumulator may be of any width that holds the sums, which changes no value.
#![forbid(unsafe_code)]

use crate::accel::catalogue;
use crate::accel::catalogue::fp16;
use crate::accel::cost::element::Accumulator;
use crate::accel::element::float::FloatElement;
use crate::accel::float_device::FloatDevice;
use crate::accel::hardware::Hardware;
use crate::accel::hardware::dequantise::Position;
use crate::backend::AnyBackend;
use crate::base::error::{Error, Result};
use crate::base::view::{MatMut, MatRef};
use crate::dse::axis::{Grouping, Input, Zero};
use crate::dse::space::{Axes, Point};
use crate::quant::input::Mode;
use crate::quant::scheme::{Group, Scheme};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::{format, vec::Vec};
use core::fmt;
use half::f16;

/// What the values of a product depend on, beside its operands.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Format {
    /// The accelerator.
    pub device: String,
    /// Bits of a weight; 16 for f16 weights.
    pub bits: u8,
    /// Weights that share a scale.
    pub group: Grouping,
    /// Zero point of weights.
    pub zero: Zero,
    /// Activations.
    pub input: Input,
    /// What products are added in.
    pub accumulator: Accumulator,
    /// Where weights are dequantised.
    pub dequantisation: Position,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let activations = match self.input {
            Input::A8 | Input::A8Row => 8,
            Input::F16 => 16,
        };
        write!(f, "{} W{}A{activations}", self.device, self.bits)?;
        // Of two formats the labels differ. What most formats have is left out: f16 weights have one scale per channel
        // and no zero point, others a zero point per group and scales after the group.
        let whole = self.bits == 16;
        match self.group.0 {
            Group::Length(length) => write!(f, " g{length}")?,
            Group::Channel if whole => {}
            Group::Channel | Group::Tensor => write!(f, " per {}", self.group)?,
        }
        if self.input == Input::A8Row {
            f.write_str(" row")?;
        }
        write!(f, " {}", self.accumulator)?;
        match (self.zero, whole) {
            (Zero::Symmetric, false) => f.write_str(" symmetric")?,
            (Zero::Integer, true) => f.write_str(" zero points")?,
            _ => {}
        }
        match (self.dequantisation, whole) {
            (Position::After, false) | (Position::None, true) => Ok(()),
            (Position::Before, _) => f.write_str(" before"),
            (Position::After, true) => f.write_str(" after"),
            (Position::None, false) => f.write_str(" unscaled"),
        }
    }
}

impl Point {
    /// Its format.
    #[must_use]
    pub fn format(&self) -> Format {
        Format {
            device: self.device.clone(),
            bits: self.bits,
            group: self.group,
            zero: self.zero,
            input: self.input,
            accumulator: self.accumulator,
            dequantisation: self.dequantisation,
        }
    }
}

impl Axes {
    /// One point for every format of a design: that with the first value of every other axis. Their numbers are not those
    /// of the space.
    #[must_use]
    pub fn one_of_each_format(&self) -> Vec<Point> {
        let mut narrow = self.clone();
        fn first<T>(list: &mut Option<Vec<T>>) {
            if let Some(list) = list {
                list.truncate(1);
            }
        }
        first(&mut narrow.array);
        first(&mut narrow.dataflow);
        first(&mut narrow.buffers_kib);
        first(&mut narrow.bandwidth_bits_per_cycle);
        first(&mut narrow.clock_mhz);
        first(&mut narrow.node_nm);
        first(&mut narrow.dram_pj_per_bit);
        first(&mut narrow.m);
        (0..narrow.count().unwrap_or(0))
            .map(|place| narrow.at(place, place))
            .collect()
    }
}

/// Multiplies f16 inputs and f16 weights into an output.
type Product = fn(MatRef<'_, f16>, MatRef<'_, f16>, MatMut<'_, f32>);

/// Who computes the values of a format.
pub enum Values {
    /// A backend on quantised weights.
    Backend {
        /// What is multiplied.
        scheme: Scheme,
        /// How inputs enter.
        mode: Mode,
        /// Who multiplies.
        backend: Arc<dyn AnyBackend>,
    },
    /// An f16 multiplier on f16 weights, by the name of its accumulator.
    Whole(&'static str, Product),
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key())
    }
}

impl Values {
    /// Equal keys, equal values.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Backend { scheme, mode, backend } => format!("{} {mode:?} {scheme:?}", backend.name()),
            Self::Whole(name, _) => format!("f16 {name}"),
        }
    }
}

/// Y = X · Wᵀ in the element of an f16 array.
fn whole<E>(device: &FloatDevice<E>, x: MatRef<'_, f16>, w: MatRef<'_, f16>, mut y: MatMut<'_, f32>)
where
    E: FloatElement<Operand = f32, Weight = f32>,
{
    let element = device.element();
    let operands = |row: &[f16]| row.iter().map(|&v| element.operand(v)).collect::<Vec<f32>>();
    let weights: Vec<Vec<f32>> = (0..w.rows()).map(|n| operands(w.row(n))).collect();
    for m in 0..x.rows() {
        let x = operands(x.row(m));
        for (y, w) in y.row_mut(m).iter_mut().zip(&weights) {
            *y = element.dot(0.0, w, &x, &mut false);
        }
    }
}

impl Format {
    /// Who computes the values of this format. `host` gives those of the devices that are exact; it may be one of them.
    ///
    /// # Errors
    /// [`Error::Unsupported`] naming the axis whose value the device does not take.
    pub fn values(&self, host: &Arc<dyn AnyBackend>) -> Result<Values> {
        self.check()?;
        if self.dequantisation == Position::None {
            return Ok(match self.accumulator {
                Accumulator::F16 => Values::Whole("f16", |x, w, y| whole(&fp16::array_f16(), x, w, y)),
                _ => Values::Whole("f32", |x, w, y| whole(&fp16::array(), x, w, y)),
            });
        }
        let own: Arc<dyn AnyBackend> = catalogue::named(&self.device)?.device().into();
        let native = own.capabilities().native;
        Ok(Values::Backend {
            scheme: self.scheme(),
            mode: if native { Mode::Native } else { self.mode() },
            backend: if native { own } else { Arc::clone(host) },
        })
    }

    /// The scheme of its weights.
    pub(crate) fn scheme(&self) -> Scheme {
        Scheme {
            group: self.group.0,
            zero: self.zero.into(),
            ..Scheme::int(self.bits)
        }
    }

    /// The mode of its activations on an exact device.
    pub(crate) const fn mode(&self) -> Mode {
        match self.input {
            Input::A8 => Mode::A8,
            Input::A8Row => Mode::A8Row,
            Input::F16 => Mode::Exact,
        }
    }

    /// Whether the device takes it.
    ///
    /// # Errors
    /// [`Error::Unsupported`] naming the axis, with what the device has there.
    pub fn check(&self) -> Result<()> {
        let refuse = |axis, expected: &str, found: String| Err(Error::unsupported(axis, expected, found));
        let accelerator = catalogue::named(&self.device).map_err(|error| match error {
            Error::Value { expected, found, .. } => Error::unsupported("device", expected, found),
            other => other,
        })?;
        let (own, capabilities) = (Hardware::named(&self.device)?, accelerator.device().capabilities());
        let position = own.dequantisation.position;
        let (bits, expected) = if position == Position::None {
            (16..=16, "16".into())
        } else {
            let (least, most) = (capabilities.min_bits, capabilities.max_bits);
            (least..=most, format!("{least} to {most}"))
        };
        if !bits.contains(&self.bits) {
            return refuse("bits", &expected, format!("{}", self.bits));
        }
        if self.dequantisation != position {
            return refuse("dequantisation", position.name(), self.dequantisation.name().into());
        }
        let integer = own.element.activation_bits == 8;
        let (inputs, expected): (&[Input], _) = match (integer, capabilities.native) {
            (true, true) => (&[Input::A8Row], "a8row"),
            (true, false) => (&[Input::A8, Input::A8Row], "a8 or a8row"),
            (false, _) => (&[Input::F16], "f16"),
        };
        if !inputs.contains(&self.input) {
            return refuse("input", expected, format!("{:?}", self.input));
        }
        match (own.element.accumulator, self.accumulator) {
            (Accumulator::Integer(_), Accumulator::Integer(_)) => Ok(()),
            (Accumulator::Integer(_), found) => refuse("accumulator", "i8 to i64", format!("{found}")),
            (own, found) if own == found => Ok(()),
            (own, found) => refuse("accumulator", &format!("{own}"), format!("{found}")),
        }
    }
}
