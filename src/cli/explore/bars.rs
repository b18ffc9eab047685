//! What drawings of horizontal bars have in common: one panel for each of some conditions, devices at one peak.
#![forbid(unsafe_code)]

use super::report::shown;
use super::scatter::some;
use crate::cli::drawing::{FONT, INK, axes, short};
use anyhow::Result;
use mixgemm::dse::outcome::Row;
use mixgemm::dse::view::{Conditions, View, best_at_one_peak};
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::error::Error;

/// Width of a drawing.
pub(super) const WIDTH: u32 = 1000;
/// Height of title, subtitle and legend.
pub(super) const TOP: u32 = 96;
/// Width of labels beside bars.
const LABELS: u32 = 250;
/// Height of a panel's caption and margin, and of its axis.
const CAPTION: u32 = 36;
const AXIS: u32 = 50;

/// The best designs of devices at one peak under one set of conditions.
pub(super) struct Panel<'a> {
    conditions: Conditions,
    /// Multiply-accumulates a cycle.
    peak: u64,
    pub(super) best: Vec<&'a Row>,
    /// Devices without an array of that peak.
    missing: Vec<&'a str>,
}

/// The panels of some conditions.
pub(super) fn panels(rows: &[Row]) -> Result<Vec<Panel<'_>>> {
    let mut panels = Vec::new();
    for conditions in some(&shown(rows)) {
        let places = conditions.places(rows);
        let Some((peak, best)) = best_at_one_peak(rows, &places, View::EqualPeak)? else {
            continue;
        };
        let best: Vec<&Row> = best.into_iter().map(|place| &rows[place]).collect();
        let mut missing: Vec<&str> = Vec::new();
        for &place in &places {
            let device = &*rows[place].point.device;
            if !missing.contains(&device) && best.iter().all(|row| row.point.device != device) {
                missing.push(device);
            }
        }
        panels.push(Panel {
            conditions,
            peak,
            best,
            missing,
        });
    }
    Ok(panels)
}

impl Panel<'_> {
    fn caption(&self) -> String {
        let Conditions {
            node_nm,
            dram_pj_per_bit,
            m,
        } = self.conditions;
        let missing = if self.missing.is_empty() {
            String::new()
        } else {
            format!(" (none of {})", self.missing.join(", "))
        };
        format!(
            "M = {m}, {node_nm} nm, DRAM {dram_pj_per_bit} pJ/bit; arrays of {} MACs a cycle{missing}",
            self.peak
        )
    }

    /// Design and array.
    pub(super) fn design(row: &Row) -> [String; 2] {
        let point = &row.point;
        let array = format!(
            "{} {}, {} bits a cycle",
            point.array, point.dataflow, point.bandwidth_bits_per_cycle
        );
        [point.format().to_string(), array]
    }
}

/// The height of a panel whose bars take so much.
pub(super) const fn height(bars: u32) -> u32 {
    CAPTION + bars + AXIS
}

/// A chart whose vertical coordinate is a number of pixels below its upper edge.
pub(super) type Bars<'a, B> = ChartContext<'a, B, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// An empty chart for bars of this height altogether, and lines of text beside it at their vertical middles.
pub(super) fn chart<'a, B: DrawingBackend + 'a>(
    root: &DrawingArea<B, Shift>,
    area: &DrawingArea<B, Shift>,
    panel: &Panel<'_>,
    (most, unit): (f64, &str),
    (bars, labels): (u32, &[(f64, String)]),
) -> Result<Bars<'a, B>, Box<dyn Error>>
where
    B::ErrorType: 'static,
{
    let mut chart = ChartBuilder::on(area)
        .margin_left(16)
        .margin_right(24)
        .margin_bottom(6)
        .margin_top(CAPTION)
        .x_label_area_size(AXIS - 6)
        .y_label_area_size(LABELS)
        .build_cartesian_2d(0.0..most.max(f64::MIN_POSITIVE) * 1.12, f64::from(bars)..0.0)?;
    let mut mesh = chart.configure_mesh();
    axes(&mut mesh);
    mesh.disable_y_mesh()
        .y_labels(0)
        .x_labels(8)
        .x_desc(unit.to_string())
        .x_label_formatter(&|x| short(*x))
        .draw()?;
    let font = |size: i32| (FONT, size).into_font().color(&INK);
    area.draw(&Text::new(panel.caption(), (24, 14), font(15)))?;
    for (y, text) in labels {
        let (x, y) = chart.backend_coord(&(0.0, *y));
        let style = font(12).pos(Pos::new(HPos::Right, VPos::Center));
        root.draw(&Text::new(text.clone(), (x - 8, y + 2), style))?;
    }
    Ok(chart)
}

/// Draws a bar of parts one behind the other, from the left on, and its length behind it.
pub(super) fn bar<'a, B: DrawingBackend + 'a>(
    chart: &mut Bars<'a, B>,
    (top, bottom): (f64, f64),
    parts: impl IntoIterator<Item = (f64, RGBAColor)>,
    labelled: bool,
) -> Result<(), Box<dyn Error>>
where
    B::ErrorType: 'static,
{
    let mut from = 0.0;
    for (length, colour) in parts {
        chart.draw_series([Rectangle::new([(from, top), (from + length, bottom)], colour.filled())])?;
        from += length;
    }
    if labelled {
        let style = (FONT, 12).into_font().color(&INK);
        let label = Text::new(short(from), (5, 2), style.pos(Pos::new(HPos::Left, VPos::Center)));
        chart.draw_series([EmptyElement::at((from, (top + bottom) / 2.0)) + label])?;
    }
    Ok(())
}

/// Colours and their names in a line below the title.
pub(super) fn swatches<'a, B: DrawingBackend>(
    root: &DrawingArea<B, Shift>,
    names: impl Iterator<Item = (&'a str, RGBColor)>,
) -> Result<(), Box<dyn Error>>
where
    B::ErrorType: 'static,
{
    let mut x = 24;
    for (name, colour) in names {
        root.draw(&Rectangle::new([(x, 72), (x + 12, 84)], colour.filled()))?;
        let style = (FONT, 13).into_font().color(&INK);
        root.draw(&Text::new(name.to_string(), (x + 18, 71), style))?;
        x += 40 + 8 * name.len() as i32;
    }
    Ok(())
}

/// The areas of panels of these heights, from top to bottom.
pub(super) fn areas<B: DrawingBackend>(
    root: &DrawingArea<B, Shift>,
    heights: impl IntoIterator<Item = u32>,
) -> Vec<DrawingArea<B, Shift>> {
    let (_, mut below) = root.split_vertically(TOP);
    let mut areas = Vec::new();
    for height in heights {
        let (area, rest) = below.split_vertically(height);
        areas.push(area);
        below = rest;
    }
    areas
}
