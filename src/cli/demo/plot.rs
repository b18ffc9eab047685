//! A drawing of the demo: accuracy against speed of every row on this CPU.
#![forbid(unsafe_code)]

use super::Row;
use crate::cli::drawing::{FONT, INK, MARK, MODES, axes, head, style, tick};
use crate::cli::machine::Machine;
use anyhow::{Result, anyhow};
use mixgemm::Isa;
use plotters::coord::Shift;
use plotters::prelude::*;
use std::error::Error;

const SIZE: (u32, u32) = (960, 600);
/// Half the side of a square mark.
const SIDE: i32 = 4;
/// Bits and group of the schemes, in the order of circle, triangle and square.
const SCHEMES: [((u8, usize), &str); 3] = [
    ((4, 128), "4 bits, group 128"),
    ((4, 32), "4 bits, group 32"),
    ((8, 128), "8 bits, group 128"),
];

/// The SVG file's text.
pub(super) fn draw(machine: &Machine, rows: &[Row]) -> Result<String> {
    let mut svg = String::new();
    onto(machine, rows, &mut svg).map_err(|error| anyhow!("--svg: expected a drawing, found {error}"))?;
    Ok(svg)
}

/// One row as it is drawn.
struct Mark {
    at: (f64, f64),
    style: ShapeStyle,
    scheme: (u8, usize),
}

fn marks(rows: &[Row]) -> Vec<Mark> {
    let mark = |row: &Row| {
        let (_, colour) = *MODES.iter().find(|(name, _)| *name == row.mode)?;
        let decibels = Some(row.sqnr_kernel_db).filter(|db| db.is_finite())?;
        Some(Mark {
            at: (row.gops?, decibels),
            style: style(colour, row.threads),
            scheme: (row.bits, row.group),
        })
    };
    rows.iter().filter_map(mark).collect()
}

fn onto(machine: &Machine, rows: &[Row], svg: &mut String) -> Result<(), Box<dyn Error>> {
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    let m = rows.first().map_or(0, |row| row.m);
    let subtitle = format!("both feed-forward matrices of all-MiniLM-L6-v2, layer 4, {m} input rows, on {machine}");
    head(
        &root,
        70,
        "Accuracy against speed on a real transformer layer",
        subtitle,
    )?;
    let (_, below) = root.split_vertically(60);
    let (left, right) = below.split_horizontally(SIZE.0 - 190);

    let marks = marks(rows);
    let least = marks.iter().map(|m| m.at.0).fold(f64::INFINITY, f64::min).min(100.0);
    let most = marks.iter().map(|m| m.at.0).fold(100.0, f64::max);
    let mut chart = ChartBuilder::on(&left)
        .margin(12)
        .x_label_area_size(46)
        .y_label_area_size(58)
        .build_cartesian_2d((least / 1.5..most * 1.5).log_scale(), 0.0..160.0)?;
    let mut mesh = chart.configure_mesh();
    axes(&mut mesh);
    mesh.x_desc("10^9 operations a second (GOPS), logarithmic")
        .y_desc("kernel SQNR in dB: error of inputs and arithmetic")
        .x_label_formatter(&|gops| tick(*gops))
        .y_label_formatter(&|db| format!("{db:.0}"))
        .draw()?;
    let of = |scheme| marks.iter().filter(move |m| m.scheme == scheme);
    let [circles, triangles, squares] = SCHEMES;
    chart.draw_series(of(circles.0).map(|m| Circle::new(m.at, MARK, m.style)))?;
    chart.draw_series(of(triangles.0).map(|m| TriangleMarker::new(m.at, MARK + 1, m.style)))?;
    chart.draw_series(of(squares.0).map(|m| EmptyElement::at(m.at) + square((0, 0), m.style)))?;
    let portable = rows.iter().filter(|row| row.isa == Isa::Scalar.name());
    chart.draw_series(portable.filter_map(|row| {
        let font = (FONT, 12).into_font().color(&INK);
        let text = Text::new("portable code", (MARK + 5, -7), font);
        Some(EmptyElement::at((row.gops?, row.sqnr_kernel_db)) + text)
    }))?;
    legend(&right)?;
    root.present()?;
    Ok(())
}

fn square(centre: (i32, i32), style: ShapeStyle) -> Rectangle<(i32, i32)> {
    let (x, y) = centre;
    Rectangle::new([(x - SIDE, y - SIDE), (x + SIDE, y + SIDE)], style)
}

/// What colours, shapes and shades stand for.
fn legend(area: &DrawingArea<SVGBackend<'_>, Shift>) -> Result<(), Box<dyn Error>> {
    let font = (FONT, 14).into_font().color(&INK);
    let line = |y: i32, text: &str| area.draw(&Text::new(text.to_string(), (26, y - 6), font.clone()));
    let head = |y: i32, text: &str| area.draw(&Text::new(text.to_string(), (2, y - 6), font.clone()));
    let mut y = 24;
    head(y, "Mode of the inputs")?;
    for (name, colour) in MODES {
        y += 24;
        area.draw(&Circle::new((10, y), MARK, style(colour, 1)))?;
        line(y, name)?;
    }
    y += 40;
    head(y, "Weights")?;
    for (i, (_, name)) in SCHEMES.into_iter().enumerate() {
        y += 24;
        match i {
            0 => area.draw(&Circle::new((10, y), MARK, style(INK, 1)))?,
            1 => area.draw(&TriangleMarker::new((10, y), MARK + 1, style(INK, 1)))?,
            _ => area.draw(&square((10, y), style(INK, 1)))?,
        }
        line(y, name)?;
    }
    y += 40;
    head(y, "Threads")?;
    for (threads, name) in [(1, "one"), (2, "several")] {
        y += 24;
        area.draw(&Circle::new((10, y), MARK, style(INK, threads)))?;
        line(y, name)?;
    }
    Ok(())
}
