//! The design space: lists of values for every axis, and the points they span.
//!
//! A space is written in TOML. Each `[[design]]` is a set of lists, one for each axis, and stands for every combination
//! of their values; `[axes]` has lists for all designs that do not have their own:
//!
//! ```toml
//! [axes]
//! m = [1, 2048]
//! array = ["32x32", "64x64"]
//!
//! [[design]]
//! device = ["mixpe-w4a8"]
//! bits = [4]
//! group = [32, 128]
//! accumulator = ["i24"]
//! ```
//!
//! Points are numbered from 0 in the order of the designs and, within one, in the order of the axes of [`Point`] with
//! the last axis turning fastest. The number is the point's name: it depends on the space alone.
#![forbid(unsafe_code)]

use crate::accel::array::Dataflow;
use crate::accel::catalogue::ACCELERATORS;
use crate::accel::cost::element::Accumulator;
use crate::accel::hardware::Hardware;
use crate::accel::hardware::dequantise::Position;
use crate::base::error::{Error, Result};
use crate::dse::axis::{Buffers, Grouping, Input, Shape, Zero};
use alloc::string::{String, ToString};
use alloc::{format, vec::Vec};
use serde::{Deserialize, Serialize};

/// The built-in space.
pub const DEFAULT: &str = include_str!("default.toml");

/// Most points of a space.
pub const MOST_POINTS: u64 = 1 << 32;

/// Defines lists and points from one list of axes.
macro_rules! axes {
    ($($(#[$doc:meta])* $axis:ident: $type:ty),* $(,)?) => {
        /// Lists of values, one for each axis; a list that is absent comes from elsewhere.
        #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Axes {
            $($(#[$doc])* #[serde(skip_serializing_if = "Option::is_none")] pub $axis: Option<Vec<$type>>,)*
        }

        /// One design under one set of conditions: a value of every axis.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub struct Point {
            /// Its number in the space.
            pub id: u64,
            $($(#[$doc])* pub $axis: $type,)*
        }

        impl Axes {
            /// These lists, with absent ones from `other`.
            #[must_use]
            pub fn or(self, other: &Self) -> Self {
                Self { $($axis: self.$axis.or_else(|| other.$axis.clone()),)* }
            }

            /// Checks that every axis has a list of distinct values.
            fn check(&self, design: usize) -> Result<()> {
                $({
                    let key = stringify!($axis);
                    let place = |what: String| format!("{what} in design {design}");
                    let Some(list) = &self.$axis else {
                        return Err(Error::value(key, "a list of values", place("none".into())));
                    };
                    if list.is_empty() {
                        return Err(Error::value(key, "at least one value", place("an empty list".into())));
                    }
                    for (i, value) in list.iter().enumerate() {
                        if list[..i].contains(value) {
                            return Err(Error::value(key, "distinct values", place(format!("{value:?} twice"))));
                        }
                    }
                })*
                Ok(())
            }

            /// Points of this design; `None` for more than 2^64.
            pub(crate) fn count(&self) -> Option<u64> {
                let mut count = 1u64;
                $(count = count.checked_mul(self.$axis.as_ref().map_or(0, Vec::len) as u64)?;)*
                Some(count)
            }

            /// The point at this place among those of the design. Every axis has a list, and the place is one.
            #[allow(clippy::cast_possible_truncation, reason = "a remainder by the length of a list")]
            pub(crate) fn at(&self, id: u64, place: u64) -> Point {
                let mut places = [0usize; [$(stringify!($axis)),*].len()];
                let lengths = [$(self.$axis.as_ref().map_or(1, Vec::len) as u64),*];
                let mut rest = place;
                for (place, length) in places.iter_mut().zip(lengths).rev() {
                    *place = (rest % length) as usize;
                    rest /= length;
                }
                let mut places = places.into_iter();
                let mut next = || places.next().unwrap_or(0);
                Point { id, $($axis: self.$axis.as_ref().expect("checked")[next()].clone(),)* }
            }
        }
    };
}

axes! {
    /// Name of an accelerator of the catalogue.
    device: String,
    /// Bits of a weight; 16 for f16 weights.
    bits: u8,
    /// Weights that share a scale.
    group: Grouping,
    /// Zero point of weights.
    zero: Zero,
    /// Activations.
    input: Input,
    /// What products are added in.
    accumulator: Accumulator,
    /// Where weights are dequantised.
    dequantisation: Position,
    /// Rows and columns of the array.
    array: Shape,
    /// What stays in the array.
    dataflow: Dataflow,
    /// Scratchpads in KiB.
    buffers_kib: Buffers,
    /// DRAM interface, bits per cycle.
    bandwidth_bits_per_cycle: f64,
    /// Clock in MHz.
    clock_mhz: f64,
    /// Process node in nm.
    node_nm: u32,
    /// DRAM energy in pJ per bit.
    dram_pj_per_bit: f64,
    /// Rows of X: 1 for decoding one sequence, the batch for decoding many, tokens for prefill.
    m: u64,
}

/// A space as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    axes: Axes,
    #[serde(default)]
    design: Vec<Axes>,
}

/// A design space. Equal spaces have equal points under equal numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Space {
    /// The designs, each with a list for every axis.
    designs: Vec<Axes>,
}

impl Space {
    /// Reads a space. Axes that neither a design nor `[axes]` lists have the values of the built-in space's `[axes]`.
    ///
    /// ```
    /// use mixgemm::dse::space::Space;
    /// let arithmetic = "[[design]]\ndevice = ['mixpe-w4a8']\nbits = [4]\ngroup = [32, 128]\nzero = ['integer']\n\
    ///                   input = ['a8']\naccumulator = ['i24']\ndequantisation = ['after']\n";
    /// let space = Space::from_toml(&format!("axes.array = ['8x8']\naxes.m = [1, 64]\n{arithmetic}"))?;
    /// assert_eq!(space.point(0).unwrap().array.to_string(), "8x8");
    /// assert!(Space::from_toml("[axes]\nbit = [4]").unwrap_err().to_string().contains("unknown field `bit`"));
    /// # Ok::<(), mixgemm::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::File`] for text that is no space, with line and key; [`Error::Value`] naming the axis for a list that is
    /// absent, empty, or has a value twice or outside its domain, for a device that the catalogue does not have, and for more than [`MOST_POINTS`] points.
    pub fn from_toml(text: &str) -> Result<Self> {
        let built_in = read(DEFAULT)?.axes;
        let written = read(text)?;
        if written.design.is_empty() {
            return Err(Error::value("design", "at least one [[design]]", "none"));
        }
        let shared = written.axes.or(&built_in);
        let designs: Vec<_> = written.design.into_iter().map(|design| design.or(&shared)).collect();
        for (i, design) in designs.iter().enumerate() {
            design.check(i + 1)?;
            check_domains(design, i + 1)?;
        }
        let space = Self { designs };
        let points = space
            .designs
            .iter()
            .try_fold(0u64, |sum, d| sum.checked_add(d.count()?));
        match points {
            Some(points) if points <= MOST_POINTS => Ok(space),
            points => Err(Error::value(
                "design",
                format!("at most {MOST_POINTS} points"),
                points.map_or_else(|| "more than 2^64".to_string(), |p| p.to_string()),
            )),
        }
    }

    /// The space as text that [`Space::from_toml`] reads as the same space, every list written out.
    ///
    /// # Errors
    /// [`Error::File`] if a value has no spelling; none does not.
    pub fn to_toml(&self) -> Result<String> {
        #[derive(Serialize)]
        struct Whole<'a> {
            design: &'a [Axes],
        }
        let whole = Whole { design: &self.designs };
        toml::to_string(&whole).map_err(|e| Error::file("values that TOML has", e.to_string()))
    }

    /// The built-in space.
    ///
    /// # Errors
    /// None that a test does not see.
    pub fn built_in() -> Result<Self> {
        Self::from_toml(DEFAULT)
    }

    /// This space with one value of m: for workloads whose layers state their rows.
    #[must_use]
    pub fn without_m(mut self) -> Self {
        for design in &mut self.designs {
            if let Some(list) = &mut design.m {
                list.truncate(1);
            }
        }
        self
    }

    /// Number of points.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.designs.iter().filter_map(Axes::count).sum()
    }

    /// Whether there is no point.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The point of that number.
    #[must_use]
    pub fn point(&self, id: u64) -> Option<Point> {
        let mut place = id;
        for design in &self.designs {
            let count = design.count().unwrap_or(0);
            if place < count {
                return Some(design.at(id, place));
            }
            place -= count;
        }
        None
    }

    /// The designs, each with a list for every axis.
    #[must_use]
    pub fn designs(&self) -> &[Axes] {
        &self.designs
    }
}

fn read(text: &str) -> Result<Written> {
    toml::from_str(text).map_err(|e| {
        let line = e
            .span()
            .map_or(0, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        let message = e.message().replace('\n', " ");
        Error::file("a design space in TOML", format!("line {line}: {message}"))
    })
}

/// Checks numbers that their types do not check.
fn check_domains(design: &Axes, number: usize) -> Result<()> {
    let place = |value: &dyn core::fmt::Display| format!("{value} in design {number}");
    for device in design.device.iter().flatten() {
        if ACCELERATORS.iter().all(|accelerator| accelerator.name() != device) {
            Hardware::named(device).map_err(|error| error.at(format_args!("in design {number}")))?;
        }
    }
    for bits in design.bits.iter().flatten() {
        if !matches!(bits, 1..=8 | 16) {
            return Err(Error::value("bits", "1 to 8, or 16 for f16 weights", place(bits)));
        }
    }
    let positive: [(&'static str, &Option<Vec<f64>>, f64, &str); 3] = [
        (
            "bandwidth_bits_per_cycle",
            &design.bandwidth_bits_per_cycle,
            1e6,
            "bits per cycle above 0, at most 1e6",
        ),
        ("clock_mhz", &design.clock_mhz, 1e5, "MHz above 0, at most 1e5"),
        (
            "dram_pj_per_bit",
            &design.dram_pj_per_bit,
            1e4,
            "pJ per bit above 0, at most 1e4",
        ),
    ];
    for (key, list, most, expected) in positive {
        for value in list.iter().flatten() {
            if !(*value > 0.0 && *value <= most) {
                return Err(Error::value(key, expected, place(value)));
            }
        }
    }
    for m in design.m.iter().flatten() {
        if !(1..=1 << 24).contains(m) {
            return Err(Error::value("m", "1 to 16777216", place(m)));
        }
    }
    Ok(())
}
