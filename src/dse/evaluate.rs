//! From a point to its figures: the accelerator that a point stands for, a workload on it, and FP16 beside it.
//!
//! *Efficiency* is operations per second for every mm² and watt, and so falls with the size of an array. It is therefore
//! taken relative to the catalogue's FP16 accelerator (f32 accumulation, output stationary, its channel) with the point's
//! scratchpads and clock, under the point's conditions, that is as large in one of two senses: of the same peak in
//! multiply-accumulates a cycle, or of the same chip area (one element where not even that fits).
#![forbid(unsafe_code)]

use crate::accel::array::{Array, Extents};
use crate::accel::cost::dram::DramEnergy;
use crate::accel::hardware::estimate::{Bounds, Estimate};
use crate::accel::hardware::{Hardware, Scratchpad, Scratchpads};
use crate::base::error::{Error, Result};
use crate::dse::format::Format;
use crate::dse::outcome::{Outcome, Row};
use crate::dse::space::Point;
use crate::dse::workload::{Layer, Workload};
use alloc::string::String;
use alloc::{format, vec::Vec};
use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

impl Point {
    /// The accelerator of this point: that of the catalogue with the point's values.
    ///
    /// # Errors
    /// [`Error::Unsupported`] naming the axis whose value the device does not have.
    pub fn hardware(&self) -> Result<Hardware> {
        let format = self.format();
        format.check()?;
        let mut hardware = Hardware::named(&self.device)?.holding(&format.scheme(), format.mode());
        hardware.array = Array::new(self.array.rows, self.array.cols, self.dataflow)?;
        hardware.clock_mhz = self.clock_mhz;
        hardware.node_nm = f64::from(self.node_nm);
        hardware.element.accumulator = self.accumulator;
        resize(&mut hardware.memory.activation, self.buffers_kib.activation);
        resize(&mut hardware.memory.weight, self.buffers_kib.weight);
        resize(&mut hardware.memory.output, self.buffers_kib.output);
        hardware.memory.dram_bits_per_cycle = self.bandwidth_bits_per_cycle;
        hardware.dram = DramEnergy::per_bit(self.dram_pj_per_bit);
        Ok(hardware)
    }
}

/// A scratchpad of this size in banks as large as before, or in one smaller bank.
fn resize(pad: &mut Scratchpad, kib: u32) {
    let bank = pad.bytes / u64::from(pad.banks.max(1));
    pad.bytes = u64::from(kib) * 1024;
    pad.banks = u32::try_from(pad.bytes / bank.max(1)).unwrap_or(u32::MAX).max(1);
}

/// The catalogue's FP16 accelerator with scratchpads, clock and conditions of another.
fn fp16_beside(hardware: &Hardware) -> Result<Hardware> {
    let fp16 = Hardware::named("fp16")?;
    Ok(Hardware {
        clock_mhz: hardware.clock_mhz,
        node_nm: hardware.node_nm,
        dram: hardware.dram,
        memory: Scratchpads {
            dram_bits_per_cycle: fp16.memory.dram_bits_per_cycle,
            ..hardware.memory
        },
        ..fp16
    })
}

/// Sums over the layers of a workload.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    outcome: Outcome,
    /// Operations per second for every mm² and watt, of the system and of the array alone.
    efficiency: [f64; 2],
}

/// A workload and the fidelities of formats, with what was computed before.
#[derive(Debug)]
pub struct Evaluator {
    workload: Workload,
    fidelities: HashMap<Format, Result<f64>>,
    /// FP16 arrays of equal area, by what the area depends on.
    twins: RwLock<HashMap<String, Array>>,
    /// Figures of FP16 accelerators.
    references: RwLock<HashMap<String, [f64; 2]>>,
}

/// What is stored under a key, or what `make` makes of it. Values do not depend on who makes them.
fn cached<V: Clone>(map: &RwLock<HashMap<String, V>>, key: String, make: impl FnOnce() -> Result<V>) -> Result<V> {
    if let Some(value) = map.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
        return Ok(value.clone());
    }
    let value = make()?;
    map.write()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(key, value.clone());
    Ok(value)
}

impl Evaluator {
    /// An evaluator of this workload. Points of other formats than those given are refused, and so, with its error, is
    /// a format that has no fidelity.
    #[must_use]
    pub fn new(workload: Workload, fidelities: HashMap<Format, Result<f64>>) -> Self {
        Self {
            workload,
            fidelities,
            twins: RwLock::default(),
            references: RwLock::default(),
        }
    }

    /// The figures of a point.
    ///
    /// # Errors
    /// [`Error::Value`] and [`Error::Unsupported`] naming the axis or key that does not fit.
    pub fn evaluate(&self, point: &Point) -> Result<Row> {
        let outcome = self.outcome(point)?;
        Ok(Row {
            point: point.clone(),
            outcome,
        })
    }

    fn outcome(&self, point: &Point) -> Result<Outcome> {
        let fidelity = self.fidelities.get(&point.format()).cloned();
        let fidelity_db = fidelity.ok_or_else(|| Error::value("points", "a format with a fidelity", "none"))??;
        let hardware = point.hardware()?;
        let own = self.sums(&hardware, point.m)?;
        let peer = fp16_beside(&hardware)?.with_peak(hardware.array.macs_per_cycle())?;
        let of_equal_peak = self.reference(&peer, point)?;
        let area_key = format!(
            "{:?} {:?} {:?} {}",
            point.format(),
            point.array,
            point.dataflow,
            point.buffers_kib
        );
        let array = cached(
            &self.twins,
            format!("{area_key} {} {:?}", point.node_nm, point.dequantisation),
            || {
                let area = hardware.area()?.within_mm2(Bounds::Chip);
                let one = peer.with_peak(1)?;
                let twin = if one.area()?.within_mm2(Bounds::Chip) > area {
                    one
                } else {
                    peer.with_area_mm2(area, Bounds::Chip)?
                };
                Ok(twin.array)
            },
        )?;
        let of_equal_area = self.reference(&Hardware { array, ..peer }, point)?;
        Ok(Outcome {
            fidelity_db,
            efficiency_equal_peak: own.efficiency[0] / of_equal_peak[0],
            efficiency_equal_area: own.efficiency[0] / of_equal_area[0],
            element_efficiency: own.efficiency[1] / of_equal_peak[1],
            ..own.outcome
        })
    }

    /// Efficiencies of an FP16 accelerator under the conditions of a point.
    fn reference(&self, fp16: &Hardware, point: &Point) -> Result<[f64; 2]> {
        let array = (fp16.array.rows(), fp16.array.cols());
        let conditions = (point.clock_mhz, point.node_nm, point.dram_pj_per_bit, point.m);
        let key = format!("{array:?} {} {conditions:?}", point.buffers_kib);
        cached(&self.references, key, || Ok(self.sums(fp16, point.m)?.efficiency))
    }

    /// The cost of each layer of the workload at a point, once.
    ///
    /// # Errors
    /// As [`Evaluator::evaluate`].
    pub fn layers(&self, point: &Point) -> Result<Vec<(&Layer, Estimate)>> {
        let hardware = point.hardware()?;
        let layers = self.workload.layers.iter();
        layers
            .map(|layer| Ok((layer, hardware.estimate(extents(layer, point.m))?)))
            .collect()
    }

    /// The workload on an accelerator.
    fn sums(&self, hardware: &Hardware, m: u64) -> Result<Sums> {
        let mut sum = Outcome::default();
        let (mut area, mut array_area, mut array_pj) = (0.0, 0.0, 0.0);
        for layer in &self.workload.layers {
            let one = hardware.estimate(extents(layer, m))?;
            let times = layer.count as f64;
            let count = |value: u64, of: u64| of.saturating_add(value.saturating_mul(layer.count));
            sum.macs = count(one.macs, sum.macs);
            sum.cycles = count(one.cycles, sum.cycles);
            sum.stall_cycles = count(one.stall_cycles, sum.stall_cycles);
            sum.seconds += times * one.seconds;
            sum.static_pj += times * one.energy.static_pj();
            sum.dram_pj += times * one.energy.dram_pj;
            sum.buffers_pj += times * one.energy.buffers_pj;
            sum.core_pj += times * one.energy.core_pj;
            sum.dequantisation_pj += times * one.energy.dequantisation_pj;
            array_pj += times * one.energy.within_pj(Bounds::Array);
            area = one.area.within_mm2(Bounds::Chip);
            array_area = one.area.within_mm2(Bounds::Array);
        }
        sum.area_mm2 = area;
        // 1 pJ a second is 1e-9 mW.
        sum.power_mw = sum.energy_pj() * 1e-9 / sum.seconds;
        // Operations per second over area × power are operations over area × energy.
        let operations = 2.0 * sum.macs as f64;
        let efficiency = [
            operations / (area * sum.energy_pj() * 1e-12),
            operations / (array_area * array_pj * 1e-12),
        ];
        Ok(Sums {
            outcome: sum,
            efficiency,
        })
    }
}

fn extents(layer: &Layer, m: u64) -> Extents {
    Extents::new(layer.m.unwrap_or(m), layer.n, layer.k)
}
