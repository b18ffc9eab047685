//! What a product costs on an accelerator.
//!
//! ```text
//! elements   = MACs / products of an element and cycle · energy of an element      idle elements are gated
//! scratchpads = bits read · energy of a read + bits written · energy of a write    at the width of a bank's port
//! channel    = bits read, bits written · energy per bit + background · seconds
//! scaling    = see `scaling`
//! static     = leakage · seconds
//! ```
#![forbid(unsafe_code)]

use crate::accel::array::{Array, Extents};
use crate::accel::cost::component::Components;
use crate::accel::cost::node::{Factors, factors};
use crate::accel::cost::sram::SramCost;
use crate::accel::hardware::Hardware;
use crate::accel::hardware::dequantise::{Position, Scalings};
use crate::accel::memory::Traffic;
use crate::base::error::Result;
use serde::Serialize;

/// Energy of one product, pJ.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Energy {
    /// Leakage of the elements.
    pub static_core_pj: f64,
    /// Leakage of the scratchpads.
    pub static_buffers_pj: f64,
    /// Leakage of the units that scale.
    pub static_dequantisation_pj: f64,
    /// The DRAM channel, its background included.
    pub dram_pj: f64,
    /// Reads and writes of the scratchpads.
    pub buffers_pj: f64,
    /// The elements' operations.
    pub core_pj: f64,
    /// Scales and zero points.
    pub dequantisation_pj: f64,
}

impl Energy {
    /// All leakage.
    #[must_use]
    pub fn static_pj(&self) -> f64 {
        self.static_core_pj + self.static_buffers_pj + self.static_dequantisation_pj
    }

    /// Everything.
    #[must_use]
    pub fn total_pj(&self) -> f64 {
        self.static_pj() + self.dram_pj + self.buffers_pj + self.core_pj + self.dequantisation_pj
    }

    /// What is spent within these bounds.
    #[must_use]
    pub fn within_pj(&self, bounds: Bounds) -> f64 {
        match bounds {
            Bounds::Array => self.static_core_pj + self.core_pj,
            Bounds::Chip => self.total_pj() - self.dram_pj,
            Bounds::System => self.total_pj(),
        }
    }
}

/// Area of an accelerator, µm².
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Area {
    /// The elements.
    pub core_um2: f64,
    /// The scratchpads.
    pub buffers_um2: f64,
    /// The units that scale.
    pub dequantisation_um2: f64,
}

impl Area {
    /// Everything on the chip, µm².
    #[must_use]
    pub fn total_um2(&self) -> f64 {
        self.core_um2 + self.buffers_um2 + self.dequantisation_um2
    }

    /// What lies within these bounds, mm². The DRAM has none.
    #[must_use]
    pub fn within_mm2(&self, bounds: Bounds) -> f64 {
        1e-6 * match bounds {
            Bounds::Array => self.core_um2,
            Bounds::Chip | Bounds::System => self.total_um2(),
        }
    }
}

/// How much of a machine a comparison takes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Bounds {
    /// The elements alone.
    Array,
    /// Elements, scratchpads, units that scale.
    Chip,
    /// The chip and the energy of its DRAM channel.
    System,
}

/// What a product costs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// Multiply-accumulates.
    pub macs: u64,
    /// A count, stalls included.
    pub cycles: u64,
    /// Cycles in which the array waits for memory.
    pub stall_cycles: u64,
    /// Time.
    pub seconds: f64,
    /// Energy by consumer.
    pub energy: Energy,
    /// Area of the accelerator.
    pub area: Area,
    /// How often scales and zero points make what work.
    pub scalings: Scalings,
    /// What each kind takes, pJ; together it is `energy.dequantisation_pj`.
    pub scaling_pj: Scalings<f64>,
    /// Bits moved, tiles chosen.
    pub traffic: Traffic,
}

impl Estimate {
    /// Mean power, mW.
    #[must_use]
    pub fn power_mw(&self) -> f64 {
        self.power_within_mw(Bounds::System)
    }

    /// Mean power within these bounds, mW.
    #[must_use]
    pub fn power_within_mw(&self, bounds: Bounds) -> f64 {
        self.energy.within_pj(bounds) * 1e-9 / self.seconds
    }

    /// Operations per second; a multiply-accumulate is two.
    #[must_use]
    pub fn operations_per_second(&self) -> f64 {
        2.0 * self.macs as f64 / self.seconds
    }

    /// Operations per second for every mm² and watt. It falls with the size of an array, so it compares machines of
    /// equal peak or equal area only: see [`Hardware::fp16_twin`] and [`Hardware::with_area_mm2`].
    #[must_use]
    pub fn efficiency(&self, bounds: Bounds) -> f64 {
        let watts = self.power_within_mw(bounds) * 1e-3;
        self.operations_per_second() / (self.area.within_mm2(bounds) * watts)
    }

    /// Share of the array's peak that was used.
    #[must_use]
    pub fn utilization(&self, array: &Array) -> f64 {
        self.macs as f64 / (self.cycles as f64 * array.macs_per_cycle() as f64)
    }
}

impl Hardware {
    /// Cycles, energy and area of one product.
    ///
    /// ```
    /// use mixgemm::accel::array::Extents;
    /// use mixgemm::accel::hardware::Hardware;
    /// let mixpe = Hardware::named("mixpe-w4a16")?;
    /// let e = Extents::new(64, 4096, 4096);
    /// let estimate = mixpe.estimate(e)?;
    /// assert_eq!(estimate.macs, 64 * 4096 * 4096);
    /// assert_eq!(estimate.scalings.sums, 64 * 4096 * 4096 / 128);
    /// assert!(estimate.energy.core_pj < mixpe.fp16_twin()?.estimate(e)?.energy.core_pj);
    /// # Ok::<(), mixgemm::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) names the key that does not fit, [`Error::Unsupported`](crate::Error::Unsupported) the scratchpad that is too small.
    pub fn estimate(&self, e: Extents) -> Result<Estimate> {
        let banks = self.banks_of_whole()?;
        self.check_sum(match self.dequantisation.position {
            Position::After => self.dequantisation.group_in(e.k),
            Position::Before | Position::None => e.k,
        })?;
        let scale = factors(self.node_nm)?;
        let traffic = self.memory.memory().traffic(&self.array, e, &self.widths(e.k))?;
        let area = self.area_of(&banks, scale)?;
        let seconds = traffic.cycles as f64 / (self.clock_mhz * 1e6);
        let scalings = self.scalings(e, traffic.walk.weight_reads);
        let mut scaling_pj = self.scaling_pj(&scalings);
        scaling_pj.scale(scale.energy);

        let prices = Components::built_in();
        let element = self.element.cost(prices)?;
        let operations = e.macs() as f64 / self.array.products().macs() as f64;
        let leakage_nw_per_um2 = prices.leakage.nw_per_um2 * scale.energy / scale.area;
        // 1 nW for a second is 1000 pJ, 1 mW is 10⁹.
        let logic = |um2: f64| um2 * leakage_nw_per_um2 * seconds * 1e3;
        let moved = [traffic.sram.activation, traffic.sram.weight, traffic.sram.output];
        let (mut buffers_pj, mut leakage_mw) = (0.0, 0.0);
        for ((pad, bank), moved) in self.memory.list().into_iter().zip(banks).zip(moved) {
            let word_bits = f64::from(pad.word_bytes) * 8.0;
            buffers_pj += (moved.read * bank.read_pj + moved.written * bank.write_pj) / word_bits;
            leakage_mw += bank.leakage_mw * f64::from(pad.banks);
        }
        let dram = traffic.dram;
        let energy = Energy {
            static_core_pj: logic(area.core_um2),
            static_buffers_pj: leakage_mw * seconds * 1e9,
            static_dequantisation_pj: logic(area.dequantisation_um2),
            dram_pj: dram.read() * self.dram.read_pj_per_bit
                + dram.output_written * self.dram.write_pj_per_bit
                + self.dram.background_mw * seconds * 1e9,
            buffers_pj,
            core_pj: operations * element.energy_pj * scale.energy,
            dequantisation_pj: scaling_pj.total(),
        };
        Ok(Estimate {
            macs: e.macs(),
            cycles: traffic.cycles,
            stall_cycles: traffic.stall_cycles,
            seconds,
            energy,
            area,
            scalings,
            scaling_pj,
            traffic,
        })
    }

    /// Area of the accelerator, whatever it multiplies.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) names the key that does not fit.
    pub fn area(&self) -> Result<Area> {
        self.area_of(&self.memory.banks(self.node_nm)?, factors(self.node_nm)?)
    }

    fn area_of(&self, banks: &[SramCost; 3], scale: Factors) -> Result<Area> {
        let element = self.element.cost(Components::built_in())?;
        let pads = self.memory.list().into_iter().zip(banks);
        Ok(Area {
            core_um2: element.area_um2 * scale.area * self.array.elements() as f64,
            buffers_um2: pads.map(|(pad, bank)| bank.area_um2 * f64::from(pad.banks)).sum(),
            dequantisation_um2: self.scaling_um2() * scale.area,
        })
    }

    /// [Efficiency](Estimate::efficiency) relative to FP16 multipliers in an array of equal peak, with the same clock,
    /// node, scratchpads and channel.
    ///
    /// ```
    /// use mixgemm::accel::array::Extents;
    /// use mixgemm::accel::hardware::Hardware;
    /// use mixgemm::accel::hardware::estimate::Bounds;
    /// let int8 = Hardware::named("tpu-int8")?.relative_efficiency(Extents::new(64, 4096, 4096), Bounds::Array)?;
    /// // MixPE's authors have 58.28.
    /// assert!((50.0..60.0).contains(&int8));
    /// # Ok::<(), mixgemm::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`estimate`](Self::estimate).
    pub fn relative_efficiency(&self, e: Extents, bounds: Bounds) -> Result<f64> {
        Ok(self.estimate(e)?.efficiency(bounds) / self.fp16_twin()?.estimate(e)?.efficiency(bounds))
    }
}
