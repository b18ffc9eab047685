//! Formats: the part of a design that decides values, and the backends that compute them.
//!
//! | device | input | accumulator | values |
//! |---|---|---|---|
//! | `mixpe-w4a8`, `tpu-int8` | `a8`, `a8row` | any integer that cannot overflow | exact integers: the caller's backend, which gives the devices' bits |
//! | `mixpe-w4a16` | `f16` | `f32`, `f16` | the fused element, emulated |
//! | `fp16` | `f16`, bits = 16 | `f32`, `f16` | f16 weights through the f16 multiplier, emulated |
//! | `dequant-w4a16` | `f16` | `f32`, `f16` | weights dequantised to f16, then the same multiplier |
//! | any other of the [catalogue](crate::accel::catalogue) | what it takes | | the caller's backend where it is exact, else the device |
//!
//! `tpu-int8` with dequantisation `before` has the group's weights dequantised and rounded once more, to symmetric 8 bits
//! with one scale per channel, so that its array sums over all of K. QServe (arXiv 2405.04532) rounds to 8 bits first and splits these into groups with
//! integer scales; its values are not these.
#![forbid(unsafe_code)]

use crate::accel::catalogue::dequant;
use crate::accel::catalogue::fp16;
use crate::accel::catalogue::mixpe::MixPe;
use crate::accel::catalogue::{ACCELERATORS, Accelerator};
use crate::accel::cost::element::Accumulator;
use crate::accel::element::float::FloatElement;
use crate::accel::element::half::Accumulator as Sum;
use crate::accel::float_device::FloatDevice;
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
        /// Weights are rounded to this scheme before they are rounded to the other.
        first: Option<Scheme>,
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
            Self::Backend {
                first,
                scheme,
                mode,
                backend,
            } => format!("{} {mode:?} {first:?} {scheme:?}", backend.name()),
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
        let scheme = Scheme {
            group: self.group.0,
            zero: self.zero.into(),
            ..Scheme::int(self.bits)
        };
        match self.device.as_str() {
            "mixpe-w4a8" => {
                self.expect(1..=4, Position::After)?;
                self.integers(None, scheme, host)
            }
            "tpu-int8" if self.dequantisation == Position::Before => {
                self.expect(1..=7, Position::Before)?;
                self.integers(Some(scheme), Scheme::int(8), host)
            }
            "tpu-int8" => {
                self.expect(1..=8, Position::After)?;
                self.integers(None, scheme, host)
            }
            "mixpe-w4a16" => {
                self.expect(1..=4, Position::After)?;
                let backend: Arc<dyn AnyBackend> = match self.float()? {
                    Sum::F32 => Arc::new(MixPe::w4a16_fused()),
                    Sum::F16 => Arc::new(MixPe::w4a16_fused_f16()),
                };
                Ok(native(scheme, backend))
            }
            "fp16" => {
                self.expect(16..=16, Position::None)?;
                Ok(match self.float()? {
                    Sum::F32 => Values::Whole("f32", |x, w, y| whole(&fp16::array(), x, w, y)),
                    Sum::F16 => Values::Whole("f16", |x, w, y| whole(&fp16::array_f16(), x, w, y)),
                })
            }
            "dequant-w4a16" => {
                self.expect(1..=4, Position::Before)?;
                let backend: Arc<dyn AnyBackend> = match self.float()? {
                    Sum::F32 => Arc::new(dequant::w4a16()),
                    Sum::F16 => {
                        let mut element = *dequant::w4a16().element();
                        element.accumulator = Sum::F16;
                        Arc::new(FloatDevice::new("dequant-w4a16-f16", element))
                    }
                };
                Ok(native(scheme, backend))
            }
            _ => self.of_catalogue(scheme, host),
        }
    }

    /// Who computes the values on any other device: the host where it is exact, else its own emulation.
    fn of_catalogue(&self, scheme: Scheme, host: &Arc<dyn AnyBackend>) -> Result<Values> {
        let named = |accelerator: &&Accelerator| accelerator.name() == self.device;
        let Some(accelerator) = ACCELERATORS.iter().find(named) else {
            let names: Vec<&str> = ACCELERATORS.iter().map(Accelerator::name).collect();
            return Err(Error::unsupported("device", names.join(", "), self.device.as_str()));
        };
        let backend: Arc<dyn AnyBackend> = accelerator.device().into();
        let capabilities = backend.capabilities();
        self.expect(capabilities.min_bits..=capabilities.max_bits, self.dequantisation)?;
        capabilities.check_scheme(&scheme)?;
        match self.input {
            Input::F16 if capabilities.native => self.float().map(|_| native(scheme, backend)),
            Input::A8 | Input::A8Row if capabilities.takes(Mode::A8) => self.integers(None, scheme, host),
            _ => {
                let expected = match (capabilities.takes(Mode::A8), capabilities.native) {
                    (true, _) => "a8 or a8row",
                    (_, true) => "f16",
                    _ => "another device, as this one takes none of the inputs",
                };
                Err(Error::unsupported("input", expected, format!("{:?}", self.input)))
            }
        }
    }

    fn expect(&self, bits: core::ops::RangeInclusive<u8>, dequantisation: Position) -> Result<()> {
        if !bits.contains(&self.bits) {
            let expected = format!("{} to {}", bits.start(), bits.end());
            return Err(Error::unsupported("bits", expected, format!("{}", self.bits)));
        }
        if self.dequantisation != dequantisation {
            let name = |position| match position {
                Position::None => "none",
                Position::Before => "before",
                Position::After => "after",
            };
            let (expected, found) = (name(dequantisation), name(self.dequantisation));
            return Err(Error::unsupported("dequantisation", expected, found));
        }
        Ok(())
    }

    fn float(&self) -> Result<Sum> {
        if self.input != Input::F16 {
            return Err(Error::unsupported("input", "f16", format!("{:?}", self.input)));
        }
        match self.accumulator {
            Accumulator::F32 => Ok(Sum::F32),
            Accumulator::F16 => Ok(Sum::F16),
            Accumulator::Integer(_) => Err(Error::unsupported(
                "accumulator",
                "f16 or f32",
                format!("{}", self.accumulator),
            )),
        }
    }

    fn integers(&self, first: Option<Scheme>, scheme: Scheme, host: &Arc<dyn AnyBackend>) -> Result<Values> {
        let mode = match self.input {
            Input::A8 if first.is_none() => Mode::A8,
            Input::A8Row => Mode::A8Row,
            _ => {
                let expected = if first.is_none() { "a8 or a8row" } else { "a8row" };
                return Err(Error::unsupported("input", expected, format!("{:?}", self.input)));
            }
        };
        if !matches!(self.accumulator, Accumulator::Integer(_)) {
            return Err(Error::unsupported(
                "accumulator",
                "i8 to i64",
                format!("{}", self.accumulator),
            ));
        }
        Ok(Values::Backend {
            first,
            scheme,
            mode,
            backend: Arc::clone(host),
        })
    }
}

fn native(scheme: Scheme, backend: Arc<dyn AnyBackend>) -> Values {
    Values::Backend {
        first: None,
        scheme,
        mode: Mode::Native,
        backend,
    }
}
