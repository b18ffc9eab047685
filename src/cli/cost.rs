//! What a product costs on an emulated accelerator, as it is printed beside its values.
#![forbid(unsafe_code)]

use crate::cli::table;
use mixgemm::accel::array::Extents;
use mixgemm::accel::catalogue::Accelerator;
use mixgemm::accel::cost::Origin;
use mixgemm::accel::hardware::Hardware;
use mixgemm::accel::hardware::crossover::{Crossover, MOST_ROWS};
use mixgemm::accel::hardware::estimate::Estimate;
use mixgemm::{Mode, Scheme};
use serde::Serialize;

/// The cost of a product: an estimate, and what it rests on.
#[derive(Debug, Serialize)]
pub(crate) struct Cost {
    /// The accelerator with the operands of the product.
    device: Hardware,
    estimate: Estimate,
    utilization: f64,
    power_mw: f64,
    crossover_m: Option<Crossover>,
    origins: Vec<Origin>,
}

/// A cost, or why there is none.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Costed {
    Estimated(Box<Cost>),
    Refused(String),
}

impl Costed {
    /// The cost of a product of these extents.
    pub(crate) fn new(accelerator: &Accelerator, scheme: &Scheme, mode: Mode, [m, n, k]: [usize; 3]) -> Self {
        let cost = || -> mixgemm::Result<Cost> {
            let device = accelerator.hardware()?.holding(scheme, mode);
            let e = Extents::new(m as u64, n as u64, k as u64);
            let estimate = device.estimate(e)?;
            Ok(Cost {
                utilization: estimate.utilization(&device.array),
                power_mw: estimate.power_mw(),
                // None too where the other position of scaling does not fit the scratchpads.
                crossover_m: device.crossover(e.n, e.k).ok().flatten(),
                origins: device.origins()?,
                estimate,
                device,
            })
        };
        match cost() {
            Ok(cost) => Self::Estimated(Box::new(cost)),
            Err(error) => Self::Refused(error.to_string()),
        }
    }

    /// Names and texts of lines for people.
    pub(crate) fn lines(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Refused(why) => vec![("emulated cost", format!("none: {why}"))],
            Self::Estimated(cost) => cost.lines(),
        }
    }
}

impl Cost {
    fn lines(&self) -> Vec<(&'static str, String)> {
        let Self { device, estimate, .. } = self;
        let (energy, sram, array) = (&estimate.energy, &estimate.traffic.sram, &device.array);
        let pads = [sram.activation, sram.weight, sram.output];
        let of_pads = pads.iter().map(|pad| pad.read + pad.written).sum();
        let mut lines = vec![
            (
                "emulated cost",
                format!(
                    "{} x {} elements {}, {} MHz, {} nm; an estimate, the prices are published, generated and assumed",
                    array.rows(),
                    array.cols(),
                    array.dataflow(),
                    device.clock_mhz,
                    device.node_nm
                ),
            ),
            (
                "  cycles",
                format!(
                    "{}, of these stalls {}; {}, utilization {}",
                    estimate.cycles,
                    estimate.stall_cycles,
                    table::time(estimate.seconds),
                    table::percent(self.utilization)
                ),
            ),
            (
                "  moved",
                format!(
                    "DRAM {} read, {} written; scratchpads {}",
                    table::bytes(estimate.traffic.dram.read()),
                    table::bytes(estimate.traffic.dram.output_written),
                    table::bytes(of_pads)
                ),
            ),
            (
                "  energy",
                format!(
                    "{}: elements {}, scratchpads {}, DRAM {} at {} pJ per bit, scaling {}, leakage {}; {:.0} mW",
                    table::joules(energy.total_pj()),
                    table::joules(energy.core_pj),
                    table::joules(energy.buffers_pj),
                    table::joules(energy.dram_pj),
                    device.dram.read_pj_per_bit,
                    table::joules(energy.dequantisation_pj),
                    table::joules(energy.static_pj()),
                    self.power_mw
                ),
            ),
        ];
        let kinds = estimate.scalings.list().into_iter().zip(estimate.scaling_pj.list());
        let kinds = kinds.filter(|((_, count), _)| *count > 0);
        lines.extend(
            kinds.map(|((what, count), (_, pj))| ("  scaling", format!("{count} {what}, {}", table::joules(pj)))),
        );
        let area = &estimate.area;
        lines.push((
            "  area",
            format!(
                "{:.3} mm2: elements {:.3}, scratchpads {:.3}, scaling {:.3}",
                1e-6 * area.total_um2(),
                1e-6 * area.core_um2,
                1e-6 * area.buffers_um2,
                1e-6 * area.dequantisation_um2
            ),
        ));
        lines.extend(
            self.crossover_m
                .map(|crossover| ("  crossover", crossover_text(&crossover))),
        );
        lines
    }
}

/// From which M on it pays to scale weights before the array.
pub(crate) fn crossover_text(crossover: &Crossover) -> String {
    let from = |m: Option<u64>| m.map_or_else(|| format!("for no M up to {MOST_ROWS}"), |m| format!("from M = {m} on"));
    format!(
        "scaling weights before the array takes fewer multiplications {}, less energy {}",
        from(crossover.by_count),
        from(crossover.by_energy)
    )
}
