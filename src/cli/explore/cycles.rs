//! A drawing: how long each layer takes, on the best design of every device.
#![forbid(unsafe_code)]

use super::bars::{Panel, TOP, WIDTH, areas, bar, chart, height, panels, swatches};
use super::colours::of_device;
use super::scatter::devices;
use crate::cli::drawing::{Drawing, head};
use anyhow::Result;
use mixgemm::dse::evaluate::Evaluator;
use mixgemm::dse::heading::Heading;
use mixgemm::dse::outcome::Row;
use plotters::coord::Shift;
use plotters::prelude::*;
use std::error::Error;

/// Most layers with bars of their own.
const MOST_LAYERS: usize = 48;
/// Height that the bars of a panel take together, more or less, and the bounds of one.
const ALL: u32 = 360;
const LEAST: u32 = 4;
const MOST: u32 = 14;
/// Least height of a layer's bars, so that names fit, and the space between layers.
const LAYER: u32 = 14;
const SPACE: u32 = 6;
/// Longest name of a layer, in characters.
const NAME: usize = 30;

/// Cycles of a layer on a device: those in which the array works, and those in which it waits.
type Taken = [f64; 2];

/// Cycles of every layer.
pub(super) struct Cycles<'a> {
    heading: &'a Heading,
    devices: Vec<&'a str>,
    /// For every panel what layers take, design by design.
    panels: Vec<(Panel<'a>, Vec<Vec<Taken>>)>,
    layers: Vec<String>,
}

/// Layers with bars of their own, and how many others are taken together.
struct Chosen {
    own: Vec<usize>,
    others: usize,
}

impl Chosen {
    /// All layers, or those that take the most on all designs together.
    fn new(designs: &[Vec<Vec<Taken>>], layers: usize) -> Self {
        if layers <= MOST_LAYERS {
            return Self {
                own: (0..layers).collect(),
                others: 0,
            };
        }
        let taken = |layer: usize| {
            designs
                .iter()
                .flatten()
                .map(|design| design[layer].iter().sum::<f64>())
                .sum::<f64>()
        };
        let mut own: Vec<usize> = (0..layers).collect();
        own.sort_by(|&a, &b| taken(b).total_cmp(&taken(a)));
        own.truncate(MOST_LAYERS);
        own.sort_unstable();
        Self {
            own,
            others: layers - MOST_LAYERS,
        }
    }

    /// What these layers take, the others' sum behind them.
    fn of(&self, all: &[Taken]) -> Vec<Taken> {
        let mut taken: Vec<Taken> = self.own.iter().map(|&layer| all[layer]).collect();
        if self.others > 0 {
            let others = (0..all.len()).filter(|layer| self.own.binary_search(layer).is_err());
            taken.push(others.fold([0.0; 2], |[a, b], layer| [a + all[layer][0], b + all[layer][1]]));
        }
        taken
    }
}

impl<'a> Cycles<'a> {
    pub(super) fn new(heading: &'a Heading, rows: &'a [Row], evaluator: &Evaluator) -> Result<Self> {
        let panels = panels(rows)?;
        let mut all = Vec::new();
        for panel in &panels {
            let mut designs = Vec::new();
            for row in &panel.best {
                let layers = evaluator.layers(&row.point)?;
                let taken = layers.iter().map(|(layer, one)| {
                    let times = layer.count as f64;
                    [(one.cycles - one.stall_cycles) as f64, one.stall_cycles as f64].map(|cycles| times * cycles)
                });
                designs.push(taken.collect::<Vec<Taken>>());
            }
            all.push(designs);
        }
        let layers = &heading.workload.layers;
        let chosen = Chosen::new(&all, layers.len());
        let name = |&layer: &usize| {
            let layer = &layers[layer];
            let mut name: String = layer.name.chars().take(NAME).collect();
            if name.len() < layer.name.len() {
                name += "..";
            }
            format!("{name} x{}", layer.count)
        };
        let mut names: Vec<String> = chosen.own.iter().map(name).collect();
        if chosen.others > 0 {
            names.push(format!("{} other layers", chosen.others));
        }
        let of = |designs: Vec<Vec<Taken>>| designs.iter().map(|design| chosen.of(design)).collect();
        Ok(Self {
            heading,
            devices: devices(rows),
            panels: panels.into_iter().zip(all.into_iter().map(of)).collect(),
            layers: names,
        })
    }

    /// Height of a bar, and of a layer without the space around it.
    fn heights(&self, designs: usize) -> (u32, u32) {
        let designs = designs.max(1) as u32;
        let bar = (ALL / (designs * self.layers.len().max(1) as u32)).clamp(LEAST, MOST);
        (bar, (bar * designs).max(LAYER))
    }

    fn bars(&self, designs: usize) -> u32 {
        (self.heights(designs).1 + SPACE) * self.layers.len() as u32
    }
}

impl Drawing for Cycles<'_> {
    fn size(&self) -> (u32, u32) {
        let heights = self.panels.iter().map(|(_, designs)| height(self.bars(designs.len())));
        (WIDTH, TOP + heights.sum::<u32>())
    }

    fn onto<B: DrawingBackend>(&self, root: &DrawingArea<B, Shift>) -> Result<(), Box<dyn Error>>
    where
        B::ErrorType: 'static,
    {
        let subtitle = format!(
            "workload {}; for each device its most efficient design with its widest weights; pale: the array waits for \
             memory; estimated",
            self.heading.workload.name
        );
        head(root, 24, "Cycles of every layer", subtitle)?;
        swatches(root, self.devices.iter().map(|device| (*device, of_device(device))))?;
        let heights = self.panels.iter().map(|(_, designs)| height(self.bars(designs.len())));
        for (area, (panel, designs)) in areas(root, heights).iter().zip(&self.panels) {
            let sums = designs.iter().flatten().map(|taken| taken.iter().sum::<f64>());
            let most = sums.fold(0.0, f64::max);
            let (one, layer) = self.heights(designs.len());
            let step = f64::from(layer + SPACE);
            let middle = |i: usize| step * (i as f64 + 0.5);
            let labels: Vec<_> = self
                .layers
                .iter()
                .enumerate()
                .map(|(i, name)| (middle(i), name.clone()))
                .collect();
            let all = self.bars(designs.len());
            let mut chart = chart(root, area, panel, (most, "cycles"), (all, &labels))?;
            for (d, (row, taken)) in panel.best.iter().zip(designs).enumerate() {
                let colour = of_device(&row.point.device);
                for (i, parts) in taken.iter().enumerate() {
                    let first = middle(i) - f64::from(one) * designs.len() as f64 / 2.0;
                    let top = first + f64::from(one) * d as f64;
                    let colours = [colour.to_rgba(), colour.mix(0.35)];
                    let edges = (top, top + f64::from(one) - 1.0);
                    bar(&mut chart, edges, parts.iter().copied().zip(colours), one == MOST)?;
                }
            }
        }
        Ok(())
    }
}
