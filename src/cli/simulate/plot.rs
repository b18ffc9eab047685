//! A drawing of a simulation: cycles of computation and stalls, layer by layer.
#![forbid(unsafe_code)]

use super::report::Row;
use crate::cli::drawing::{FONT, INK, axes, head};
use anyhow::{Result, anyhow};
use plotters::prelude::*;
use std::error::Error;

const WIDTH: u32 = 1120;
/// Height of the bars' area at most, and of one bar at most.
const MOST: u32 = 4000;
const BAR: u32 = 22;
/// Bars below this height are not labelled.
const READABLE: u32 = 14;
/// Longest label, in characters.
const LABEL: usize = 28;

/// Computation and stalls.
const COLOURS: [(&str, RGBColor); 2] = [
    ("computation", RGBColor(0, 114, 178)),
    ("stalls", RGBColor(230, 159, 0)),
];

/// The SVG file's text.
pub(super) fn draw(rows: &[Row], subtitle: String) -> Result<String> {
    let mut svg = String::new();
    onto(rows, subtitle, &mut svg).map_err(|error| anyhow!("--svg: expected a drawing, found {error}"))?;
    Ok(svg)
}

fn onto(rows: &[Row], subtitle: String, svg: &mut String) -> Result<(), Box<dyn Error>> {
    let count = rows.len() as u32;
    let bar = (MOST / count.max(1)).clamp(1, BAR);
    let height = (bar * count).max(2 * BAR) + 160;
    let root = SVGBackend::with_string(svg, (WIDTH, height)).into_drawing_area();
    head(&root, 24, "Cycles by layer", subtitle)?;
    for (i, (name, colour)) in COLOURS.into_iter().enumerate() {
        let x = 24 + 130 * i as i32;
        root.draw(&Rectangle::new([(x, 72), (x + 14, 84)], colour.filled()))?;
        root.draw(&Text::new(name, (x + 20, 71), (FONT, 13).into_font().color(&INK)))?;
    }
    let (_, below) = root.split_vertically(90);
    let most = rows.iter().map(|row| row.counts.cycles).max().unwrap_or(1).max(1) as f64;
    let mut chart = ChartBuilder::on(&below)
        .margin(12)
        .x_label_area_size(46)
        .y_label_area_size(if bar < READABLE { 20 } else { 230 })
        .build_cartesian_2d(0.0..1.12 * most, f64::from(count)..0.0)?;
    let mut mesh = chart.configure_mesh();
    axes(&mut mesh);
    mesh.disable_y_mesh()
        .y_labels(0)
        .x_desc("cycles")
        .x_label_formatter(&|cycles| {
            if *cycles < 1e5 {
                format!("{cycles:.0}")
            } else {
                format!("{cycles:.1e}")
            }
        })
        .draw()?;
    for (i, row) in rows.iter().enumerate() {
        let (top, bottom) = (i as f64 + 0.15, i as f64 + 0.85);
        let (computed, all) = (row.counts.compute_cycles as f64, row.counts.cycles as f64);
        for ((from, to), (_, colour)) in [(0.0, computed), (computed, all)].into_iter().zip(COLOURS) {
            chart.draw_series([Rectangle::new([(from, top), (to, bottom)], colour.filled())])?;
        }
        if bar >= READABLE {
            let (x, y) = chart.backend_coord(&(0.0, i as f64 + 0.5));
            let font = (FONT, 13).into_font().color(&INK);
            let mut label: String = row.counts.layer.chars().take(LABEL).collect();
            if label.len() < row.counts.layer.len() {
                label.push('…');
            }
            root.draw(&Text::new(label, (24, y - 7), font.clone()))?;
            let end = chart.backend_coord(&(all, 0.0)).0.max(x);
            if end + 90 < WIDTH as i32 {
                root.draw(&Text::new(row.counts.cycles.to_string(), (end + 6, y - 7), font))?;
            }
        }
    }
    root.present()?;
    Ok(())
}
