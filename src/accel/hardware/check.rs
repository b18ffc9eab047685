//! Whether the parts of an accelerator go together.
//!
//! * Element, scales, channel and clock are what they can be at all.
//! * What is stored is no wider than what the element takes.
//! * Elements that shift and add take codes, so nothing is scaled before them. Activations in floating point have no
//!   scales, and those of integers that are summed over all of K have none of groups.
//! * An integer accumulator holds the sum of a group.
//! * Banks are within the table of prices, and one access of each fits into a cycle.
#![forbid(unsafe_code)]

use crate::accel::cost::element::Multiplier;
use crate::accel::cost::sram::SramCost;
use crate::accel::hardware::Hardware;
use crate::accel::hardware::PADS;
use crate::accel::hardware::dequantise::Position;
use crate::accel::hardware::formats::ActivationScale;
use crate::base::error::{Error, Result};
use alloc::format;
use alloc::string::ToString;

impl Hardware {
    /// Whether the parts go together.
    ///
    /// ```
    /// use mixgemm::accel::hardware::Hardware;
    /// let mut tpu = Hardware::named("tpu-int8")?;
    /// tpu.clock_mhz = 20_000.0;
    /// let error = tpu.check().unwrap_err().to_string();
    /// assert!(error.starts_with("clock_mhz: expected at most "), "{error}");
    /// # Ok::<(), mixgemm::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Value`] names the key that does not fit.
    pub fn check(&self) -> Result<()> {
        self.banks_of_whole().map(drop)
    }

    /// The banks, once everything has been checked.
    pub(super) fn banks_of_whole(&self) -> Result<[SramCost; 3]> {
        self.element.check()?;
        self.dequantisation.check()?;
        self.dram.check()?;
        let clock = self.clock_mhz;
        if !(clock.is_finite() && clock > 0.0) {
            return Err(Error::value("clock_mhz", "a positive number", clock.to_string()));
        }
        self.check_scaling()?;
        self.check_formats()?;
        let banks = self.memory.banks(self.node_nm)?;
        for (name, bank) in PADS.iter().zip(&banks) {
            let most = 1e3 / bank.access_ns;
            if clock > most {
                let expected = format!(
                    "at most {most:.0}, as an access of a bank of {name} takes {:.3} ns",
                    bank.access_ns
                );
                return Err(Error::value("clock_mhz", expected, clock.to_string()));
            }
        }
        Ok(banks)
    }

    fn check_formats(&self) -> Result<()> {
        let (stored, taken) = (&self.formats, &self.element);
        for (argument, bits, most) in [
            ("formats.weight_bits", stored.weight_bits, taken.weight_bits),
            ("formats.activation_bits", stored.activation_bits, taken.activation_bits),
            ("formats.output_bits", stored.output_bits, 64),
        ] {
            if bits == 0 || bits > most {
                return Err(Error::value(argument, format!("1 to {most}"), bits.to_string()));
            }
        }
        let float = matches!(taken.multiplier, Multiplier::Float | Multiplier::ShiftAddFloat);
        let summed = self.dequantisation.position == Position::Before;
        let (expected, found) = match stored.activation_scale {
            ActivationScale::Row if float => ("none with activations in floating point", "row"),
            ActivationScale::Group if float => ("none with activations in floating point", "group"),
            ActivationScale::Group if summed => ("none or row where weights are scaled before the array", "group"),
            _ => return Ok(()),
        };
        Err(Error::value("formats.activation_scale", expected, found))
    }

    fn check_scaling(&self) -> Result<()> {
        let (own, element) = (&self.dequantisation, &self.element);
        let takes_codes = matches!(element.multiplier, Multiplier::ShiftAdd | Multiplier::ShiftAddFloat);
        if takes_codes && own.position == Position::Before {
            let expected = "none or after, as elements that shift and add take codes";
            return Err(Error::value("dequantisation.position", expected, "before"));
        }
        if self.adds_groups() {
            self.check_sum(own.group)?;
        }
        Ok(())
    }

    /// Whether the accumulator holds sums of so many products.
    pub(super) fn check_sum(&self, products: u64) -> Result<()> {
        match self.element.longest_sum() {
            Some(longest) if products > longest => Err(Error::value(
                "element.accumulator",
                format!("one that holds sums of {products} products"),
                self.element.accumulator.to_string(),
            )),
            _ => Ok(()),
        }
    }
}
