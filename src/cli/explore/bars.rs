//! Drawings in bars: where energy goes, and how long each layer takes, on the best design of every device.
#![forbid(unsafe_code)]

use super::report::shown;
use super::scatter::{COLOURS, devices, some};
use super::title;
use crate::cli::drawing::{Drawing, FONT, INK, axes, head};
use anyhow::Result;
use mixgemm::dse::evaluate::Evaluator;
use mixgemm::dse::explore::Heading;
use mixgemm::dse::outcome::Row;
use mixgemm::dse::view::{Conditions, View, best_of_devices};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::error::Error;

const WIDTH: u32 = 1000;
const HEIGHT: u32 = 300;
const TOP: u32 = 100;
/// Where energy goes, from the bottom of a bar up.
const PARTS: [(&str, RGBColor); 5] = [
    ("elements", RGBColor(0, 114, 178)),
    ("scaling", RGBColor(230, 159, 0)),
    ("scratchpads", RGBColor(0, 158, 115)),
    ("leakage", RGBColor(150, 150, 150)),
    ("DRAM", RGBColor(213, 94, 0)),
];

/// The best designs under one set of conditions.
struct Panel<'a> {
    conditions: Conditions,
    best: Vec<&'a Row>,
}

fn panels(rows: &[Row]) -> Vec<Panel<'_>> {
    let panel = |conditions: Conditions| {
        let best = best_of_devices(rows, &conditions.places(rows), View::EqualPeak);
        Panel {
            conditions,
            best: best.into_iter().map(|place| &rows[place]).collect(),
        }
    };
    some(&shown(rows)).into_iter().map(panel).collect()
}

fn under(conditions: &Conditions) -> String {
    format!(
        "M = {}, {} nm, DRAM {} pJ/bit",
        conditions.m, conditions.node_nm, conditions.dram_pj_per_bit
    )
}

/// Energy of every multiply-accumulate by consumer.
pub(super) struct Energies<'a> {
    heading: &'a Heading,
    panels: Vec<Panel<'a>>,
}

impl<'a> Energies<'a> {
    pub(super) fn new(heading: &'a Heading, rows: &'a [Row]) -> Self {
        Self {
            heading,
            panels: panels(rows),
        }
    }
}

/// Energies in the order of [`PARTS`], pJ for each multiply-accumulate.
fn parts(row: &Row) -> [f64; 5] {
    let o = &row.outcome;
    [o.core_pj, o.dequantisation_pj, o.buffers_pj, o.static_pj, o.dram_pj].map(|pj| pj / o.macs.max(1) as f64)
}

impl Drawing for Energies<'_> {
    fn size(&self) -> (u32, u32) {
        (WIDTH, TOP + HEIGHT * self.panels.len().max(1) as u32)
    }

    fn onto<B: DrawingBackend>(&self, root: &DrawingArea<B, Shift>) -> Result<(), Box<dyn Error>>
    where
        B::ErrorType: 'static,
    {
        let subtitle = format!(
            "workload {}; for each device its most efficient design at equal peak with its widest weights; estimated",
            title(&self.heading.workload)
        );
        head(root, 24, "Where the energy of a multiply-accumulate goes", subtitle)?;
        swatches(root, PARTS.iter().copied())?;
        let (_, below) = root.split_vertically(TOP);
        for (area, panel) in below
            .split_evenly((self.panels.len().max(1), 1))
            .iter()
            .zip(&self.panels)
        {
            let most = panel
                .best
                .iter()
                .map(|row| parts(row).iter().sum::<f64>())
                .fold(0.0, f64::max);
            let mut chart = bars(
                area,
                &panel.conditions,
                panel.best.len(),
                most,
                "pJ per MAC",
                &|place| {
                    panel.best.get(place).map_or_else(String::new, |row| {
                        format!("{}\n{} {}", row.point.format(), row.point.array, row.point.dataflow)
                    })
                },
            )?;
            for (i, row) in panel.best.iter().enumerate() {
                let mut from = 0.0;
                for ((_, colour), pj) in PARTS.iter().zip(parts(row)) {
                    let bar = [(i as f64 + 0.2, from), (i as f64 + 0.8, from + pj)];
                    chart.draw_series([Rectangle::new(bar, colour.filled())])?;
                    from += pj;
                }
                let label = Text::new(format!("{from:.2}"), (0, -15), centred(12));
                chart.draw_series([EmptyElement::at((i as f64 + 0.5, from)) + label])?;
            }
        }
        Ok(())
    }
}

/// Cycles of a layer on a device: all, and those in which the array waits.
type Taken = (f64, f64);

/// The design of a device, and what each layer takes on it.
type Design<'a> = (&'a Row, Vec<Taken>);

/// Cycles of every layer.
pub(super) struct Cycles<'a> {
    heading: &'a Heading,
    devices: Vec<&'a str>,
    panels: Vec<(Conditions, Vec<Design<'a>>)>,
    layers: Vec<String>,
}

impl<'a> Cycles<'a> {
    pub(super) fn new(heading: &'a Heading, rows: &'a [Row], evaluator: &Evaluator) -> Result<Self> {
        let mut all = Vec::new();
        for panel in panels(rows) {
            let mut designs = Vec::new();
            for row in panel.best {
                let layers = evaluator.layers(&row.point)?;
                let taken = layers.iter().map(|(layer, one)| {
                    let times = layer.count as f64;
                    (times * one.cycles as f64, times * one.stall_cycles as f64)
                });
                designs.push((row, taken.collect()));
            }
            all.push((panel.conditions, designs));
        }
        let name = |layer: &mixgemm::dse::workload::Layer| format!("{} x{}", layer.name, layer.count);
        Ok(Self {
            heading,
            devices: devices(rows),
            panels: all,
            layers: heading.workload.layers.iter().map(name).collect(),
        })
    }
}

impl Drawing for Cycles<'_> {
    fn size(&self) -> (u32, u32) {
        (WIDTH, TOP + HEIGHT * self.panels.len().max(1) as u32)
    }

    fn onto<B: DrawingBackend>(&self, root: &DrawingArea<B, Shift>) -> Result<(), Box<dyn Error>>
    where
        B::ErrorType: 'static,
    {
        let subtitle = format!(
            "workload {}; for each device its most efficient design at equal peak with its widest weights; pale: the array waits \
             for memory; estimated",
            title(&self.heading.workload)
        );
        head(root, 24, "Cycles of every layer", subtitle)?;
        swatches(root, self.devices.iter().copied().zip(COLOURS.iter().copied().cycle()))?;
        let (_, below) = root.split_vertically(TOP);
        let layers = self.layers.len();
        for (area, (conditions, designs)) in below
            .split_evenly((self.panels.len().max(1), 1))
            .iter()
            .zip(&self.panels)
        {
            let cycles = designs.iter().flat_map(|(_, taken)| taken.iter().map(|taken| taken.0));
            let most = cycles.fold(0.0, f64::max);
            let name = |place: usize| self.layers.get(place).cloned().unwrap_or_default();
            let mut chart = bars(area, conditions, layers, most, "cycles", &name)?;
            let width = 0.84 / designs.len().max(1) as f64;
            for (d, (row, taken)) in designs.iter().enumerate() {
                let place = self.devices.iter().position(|device| *device == row.point.device);
                let colour = COLOURS[place.unwrap_or(0) % COLOURS.len()];
                for (layer, &(all, stalls)) in taken.iter().enumerate() {
                    let from = layer as f64 + 0.08 + d as f64 * width;
                    let bar = |low, high| [(from, low), (from + 0.9 * width, high)];
                    chart.draw_series([Rectangle::new(bar(0.0, all - stalls), colour.filled())])?;
                    chart.draw_series([Rectangle::new(bar(all - stalls, all), colour.mix(0.35).filled())])?;
                }
            }
        }
        Ok(())
    }
}

/// Colours and their names in a line below the title.
fn swatches<'a, B: DrawingBackend>(
    root: &DrawingArea<B, Shift>,
    names: impl Iterator<Item = (&'a str, RGBColor)>,
) -> Result<(), Box<dyn Error>>
where
    B::ErrorType: 'static,
{
    let mut x = 24;
    for (name, colour) in names {
        root.draw(&Rectangle::new([(x, 74), (x + 12, 86)], colour.filled()))?;
        root.draw(&Text::new(
            name.to_string(),
            (x + 18, 73),
            (FONT, 13).into_font().color(&INK),
        ))?;
        x += 40 + 8 * name.len() as i32;
    }
    Ok(())
}

/// A font whose text stands below the middle of its upper edge.
fn centred(size: i32) -> TextStyle<'static> {
    let font = (FONT, size).into_font().color(&INK);
    font.pos(Pos::new(HPos::Center, VPos::Top))
}

/// A chart of bars.
type Bars<'a, B> =
    ChartContext<'a, B, Cartesian2d<plotters::coord::types::RangedCoordf64, plotters::coord::types::RangedCoordf64>>;

/// An empty chart with so many places and their names below.
fn bars<'a, B: DrawingBackend + 'a>(
    area: &DrawingArea<B, Shift>,
    conditions: &Conditions,
    places: usize,
    most: f64,
    unit: &str,
    name: &dyn Fn(usize) -> String,
) -> Result<Bars<'a, B>, Box<dyn Error>>
where
    B::ErrorType: 'static,
{
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .caption(under(conditions), (FONT, 15).into_font().color(&INK))
        .x_label_area_size(42)
        .y_label_area_size(70)
        .build_cartesian_2d(0.0..places.max(1) as f64, 0.0..most.max(f64::MIN_POSITIVE) * 1.12)?;
    let mut mesh = chart.configure_mesh();
    axes(&mut mesh);
    mesh.disable_x_mesh()
        .x_labels(0)
        .y_desc(unit.to_string())
        .y_label_formatter(&|y| {
            if *y < 1000.0 {
                format!("{y:.2}")
            } else {
                format!("{y:.1e}")
            }
        })
        .draw()?;
    for place in 0..places {
        for (line, text) in name(place).split('\n').enumerate() {
            let label = Text::new(text.to_string(), (0, 7 + 15 * line as i32), centred(11));
            chart.draw_series([EmptyElement::at((place as f64 + 0.5, 0.0)) + label])?;
        }
    }
    Ok(chart)
}
