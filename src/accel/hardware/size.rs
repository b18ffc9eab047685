//! The same accelerator at another size, so that machines are compared at equal peak or at equal area.
#![forbid(unsafe_code)]

use crate::accel::array::{Array, Extents};
use crate::accel::hardware::Hardware;
use crate::accel::hardware::estimate::Bounds;
use crate::base::error::{Error, Result};
use alloc::format;
use alloc::string::ToString;

/// The largest array that is searched: four times what a space of designs may have.
const MOST: u64 = 1 << 30;

/// Rows and columns of at most `elements` elements: as many as possible with rows : columns within a factor of 1.5 of
/// `aspect`, of these the closest to it, of these the fewest rows.
fn shape(elements: u64, aspect: f64) -> (u32, u32) {
    let ideal = libm::sqrt(elements as f64 * aspect);
    let least = (libm::floor(ideal / libm::sqrt(1.5)) as u64).max(1);
    let most = (libm::ceil(ideal * libm::sqrt(1.5)) as u64).clamp(least, elements.max(least));
    let mut best = (0, f64::INFINITY, 1, 1);
    for rows in least..=most {
        let cols = (elements / rows).max(1);
        let off = libm::fabs(libm::log(rows as f64 / cols as f64 / aspect));
        if rows * cols <= elements && (rows * cols > best.0 || rows * cols == best.0 && off < best.1 - 1e-9) {
            best = (rows * cols, off, rows, cols);
        }
    }
    let extent = |x: u64| u32::try_from(x).unwrap_or(u32::MAX);
    (extent(best.2), extent(best.3))
}

impl Hardware {
    /// The same accelerator with at most this many elements, in about the same proportion of rows to columns.
    fn with_elements(&self, elements: u64) -> Result<Self> {
        let aspect = f64::from(self.array.rows()) / f64::from(self.array.cols());
        let (rows, cols) = shape(elements, aspect);
        let array = Array::new(rows, cols, self.array.dataflow())?.per_element(self.array.products())?;
        Ok(Self { array, ..self.clone() })
    }

    /// The same accelerator with an array that peaks at this many multiply-accumulates a cycle, or the next lower number
    /// that about the same proportion of rows to columns allows. Scratchpads and channel stay.
    ///
    /// ```
    /// use mixgemm::accel::hardware::Hardware;
    /// let large = Hardware::named("tpu-int8")?.with_peak(4096)?;
    /// assert_eq!((large.array.rows(), large.array.cols()), (64, 64));
    /// # Ok::<(), mixgemm::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Value`]: a peak below one element's, or of more than 2³⁰ elements.
    pub fn with_peak(&self, macs_per_cycle: u64) -> Result<Self> {
        let elements = macs_per_cycle / self.array.products().macs();
        if !(1..=MOST).contains(&elements) {
            let per_element = self.array.products().macs();
            let expected = format!("{per_element} to {}", MOST.saturating_mul(per_element));
            return Err(Error::value("macs_per_cycle", expected, macs_per_cycle.to_string()));
        }
        self.with_elements(elements)
    }

    /// The same accelerator with the largest array that takes no more than this area, in about the same proportion of
    /// rows to columns. Scratchpads and channel stay.
    ///
    /// ```
    /// use mixgemm::accel::hardware::Hardware;
    /// use mixgemm::accel::hardware::estimate::Bounds;
    /// let fp16 = Hardware::named("fp16")?;
    /// let int8 = Hardware::named("tpu-int8")?.with_area_mm2(fp16.area()?.within_mm2(Bounds::Array), Bounds::Array)?;
    /// assert!(int8.array.elements() > 8 * fp16.array.elements());
    /// # Ok::<(), mixgemm::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Value`]: not even one element fits, or more than 2³⁰ do.
    pub fn with_area_mm2(&self, mm2: f64, bounds: Bounds) -> Result<Self> {
        let fits = |elements| -> Result<bool> { Ok(self.with_elements(elements)?.area()?.within_mm2(bounds) <= mm2) };
        let refuse = |expected: &str, elements| -> Result<Self> {
            let area = self.with_elements(elements)?.area()?.within_mm2(bounds);
            Err(Error::value("mm2", format!("{expected} {area}"), mm2.to_string()))
        };
        if !fits(1)? {
            return refuse("at least", 1);
        }
        let (mut least, mut most) = (1, 2);
        while fits(most)? {
            if most == MOST {
                return refuse("less than", MOST);
            }
            (least, most) = (most, 2 * most);
        }
        while most - least > 1 {
            let middle = least.midpoint(most);
            if fits(middle)? { least = middle } else { most = middle }
        }
        self.with_elements(least)
    }

    /// The catalogue's FP16 accelerator with this one's array, clock, node, scratchpads and channel: what relative
    /// efficiency at equal peak is relative to.
    ///
    /// # Errors
    /// None for the built-in catalogue and an array of at most 2³⁰ products a cycle.
    pub fn fp16_twin(&self) -> Result<Self> {
        let fp16 = Self::named("fp16")?;
        let twin = Self {
            array: self.array.per_element(Extents::new(1, 1, 1))?,
            clock_mhz: self.clock_mhz,
            node_nm: self.node_nm,
            memory: self.memory,
            dram: self.dram,
            ..fp16
        };
        twin.with_peak(self.array.macs_per_cycle())
    }

    /// As [`fp16_twin`](Self::fp16_twin), with the largest array that takes no more area than this accelerator.
    ///
    /// # Errors
    /// [`Error::Value`]: not even one element fits.
    pub fn fp16_of_equal_area(&self, bounds: Bounds) -> Result<Self> {
        let area = self.area()?.within_mm2(bounds);
        self.fp16_twin()?.with_area_mm2(area, bounds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_full_and_keep_their_proportion() {
        for (elements, aspect, expected) in [
            (1, 1.0, (1, 1)),
            (1024, 1.0, (32, 32)),
            (896, 32.0 / 28.0, (32, 28)),
            (4096, 1.0, (64, 64)),
            (512, 0.5, (16, 32)),
            // A prime: one less.
            (127, 1.0, (9, 14)),
        ] {
            assert_eq!(shape(elements, aspect), expected, "{elements}");
        }
        for elements in 1..5000_u64 {
            let (rows, cols) = shape(elements, 1.0);
            let product = u64::from(rows) * u64::from(cols);
            assert!(
                product <= elements && product as f64 >= 0.9 * elements as f64 - 2.0,
                "{elements}: {rows}x{cols}"
            );
        }
    }
}
