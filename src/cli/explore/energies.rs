//! A drawing: where the energy of a multiply-accumulate goes, on the best design of every device.
#![forbid(unsafe_code)]

use super::bars::{Panel, TOP, WIDTH, areas, bar, chart, height, panels, swatches};
use crate::cli::drawing::{Drawing, head};
use anyhow::Result;
use mixgemm::dse::heading::Heading;
use mixgemm::dse::outcome::Row;
use plotters::coord::Shift;
use plotters::prelude::*;
use std::error::Error;

/// Height of a bar with the space around it.
const BAR: u32 = 40;
/// Where energy goes, from the left on.
const PARTS: [(&str, RGBColor); 5] = [
    ("elements", RGBColor(0, 114, 178)),
    ("scaling", RGBColor(230, 159, 0)),
    ("scratchpads", RGBColor(0, 158, 115)),
    ("leakage", RGBColor(150, 150, 150)),
    ("DRAM", RGBColor(213, 94, 0)),
];

/// Energy of every multiply-accumulate by consumer.
pub(super) struct Energies<'a> {
    heading: &'a Heading,
    panels: Vec<Panel<'a>>,
}

impl<'a> Energies<'a> {
    pub(super) fn new(heading: &'a Heading, rows: &'a [Row]) -> Result<Self> {
        Ok(Self {
            heading,
            panels: panels(rows)?,
        })
    }
}

/// Energies in the order of [`PARTS`], pJ for each multiply-accumulate.
fn parts(row: &Row) -> [f64; 5] {
    let o = &row.outcome;
    [o.core_pj, o.dequantisation_pj, o.buffers_pj, o.static_pj, o.dram_pj].map(|pj| pj / o.macs.max(1) as f64)
}

fn bars(panel: &Panel<'_>) -> u32 {
    BAR * panel.best.len() as u32
}

impl Drawing for Energies<'_> {
    fn size(&self) -> (u32, u32) {
        (
            WIDTH,
            TOP + self.panels.iter().map(|panel| height(bars(panel))).sum::<u32>(),
        )
    }

    fn onto<B: DrawingBackend>(&self, root: &DrawingArea<B, Shift>) -> Result<(), Box<dyn Error>>
    where
        B::ErrorType: 'static,
    {
        let subtitle = format!(
            "workload {}; for each device its most efficient design with its widest weights; estimated",
            self.heading.workload.name
        );
        head(root, 24, "Where the energy of a multiply-accumulate goes", subtitle)?;
        swatches(root, PARTS.iter().copied())?;
        let areas = areas(root, self.panels.iter().map(|panel| height(bars(panel))));
        for (area, panel) in areas.iter().zip(&self.panels) {
            let sums = panel.best.iter().map(|row| parts(row).iter().sum::<f64>());
            let most = sums.fold(0.0, f64::max);
            let mut labels = Vec::new();
            for (i, row) in panel.best.iter().enumerate() {
                let middle = f64::from(BAR) * (i as f64 + 0.5);
                let [design, array] = Panel::design(row);
                labels.extend([(middle - 8.0, design), (middle + 8.0, array)]);
            }
            let mut chart = chart(
                root,
                area,
                panel,
                (most, "pJ for each multiply-accumulate"),
                (bars(panel), &labels),
            )?;
            for (i, row) in panel.best.iter().enumerate() {
                let top = f64::from(BAR) * i as f64;
                let colours = PARTS.iter().map(|(_, colour)| colour.to_rgba());
                let edges = (top + 7.0, top + f64::from(BAR) - 7.0);
                bar(&mut chart, edges, parts(row).into_iter().zip(colours), true)?;
            }
        }
        Ok(())
    }
}
