//! A drawing of a benchmark: the rate of every row over the operations that it does with each byte of weights, under
//! the roofs of memory and of integer arithmetic.
#![forbid(unsafe_code)]

use super::report::{Figures, Findings, Roof};
use crate::cli::drawing::{FONT, INK, MARK, MODES, axes, head, style, tick};
use crate::cli::table;
use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use std::error::Error;

const WIDTH: u32 = 1120;
/// Width of the key.
const KEY: u32 = 380;
/// Height without rows.
const HEIGHT: u32 = 600;
/// Height of a line of the key.
const LINE: i32 = 20;
/// Lines of the key beside those of rows and roofs.
const HEADS: usize = 8;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// The SVG file's text.
pub(super) fn draw(findings: &Findings) -> Result<String> {
    let mut svg = String::new();
    onto(findings, &mut svg).map_err(|error| anyhow!("--svg: expected a drawing, found {error}"))?;
    Ok(svg)
}

/// Operations for each stored byte of the weights, and 10^9 operations a second.
fn place(row: &Figures) -> (f64, f64) {
    (row.gops / row.gbps, row.gops)
}

fn colour(row: &Figures) -> RGBColor {
    MODES.iter().find(|(name, _)| *name == row.mode).map_or(INK, |m| m.1)
}

/// The roofs of the fewest threads are the darkest.
fn shade(i: usize) -> ShapeStyle {
    INK.mix(0.9 / (1.0 + 0.8 * i as f64)).stroke_width(2)
}

fn onto(findings: &Findings, svg: &mut String) -> Result<(), Box<dyn Error>> {
    let lines = (findings.rows.len() + findings.roofs.len() + HEADS) as u32;
    let height = HEIGHT.max(lines * LINE as u32 + 80);
    let root = SVGBackend::with_string(svg, (WIDTH, height)).into_drawing_area();
    let title = "Products under the roofs of this machine";
    head(&root, 78, title, findings.machine.to_string())?;
    let (_, below) = root.split_vertically(60);
    let (left, right) = below.split_horizontally(WIDTH - KEY);

    let (xs, ys) = ranges(findings);
    let mut chart = ChartBuilder::on(&left)
        .margin(12)
        .x_label_area_size(46)
        .y_label_area_size(66)
        .build_cartesian_2d((xs.0..xs.1).log_scale(), (ys.0..ys.1).log_scale())?;
    let mut mesh = chart.configure_mesh();
    axes(&mut mesh);
    mesh.x_desc("operations per stored byte of weights, logarithmic")
        .y_desc("10^9 operations a second (GOPS), logarithmic")
        .x_labels(16)
        .y_labels(16)
        .x_label_formatter(&|x| tick(*x))
        .y_label_formatter(&|y| tick(*y))
        .draw()?;
    for (i, roof) in findings.roofs.iter().enumerate() {
        let ridge = roof.integer_gops / roof.dram_gbps;
        let start = xs.0.max(ys.0 / roof.dram_gbps);
        let corners = [
            (start, start * roof.dram_gbps),
            (ridge, roof.integer_gops),
            (xs.1, roof.integer_gops),
        ];
        chart.draw_series([PathElement::new(corners, shade(i))])?;
    }
    let marks: Vec<(i32, i32)> = findings.rows.iter().map(|r| chart.backend_coord(&place(r))).collect();
    let (x, y) = chart.plotting_area().get_pixel_range();
    let bounds = Frame {
        left: x.start,
        top: y.start,
        right: x.end,
        bottom: y.end,
    };
    let labels = labels(&marks, bounds);
    for (mark, label) in marks.iter().zip(&labels) {
        root.draw(&PathElement::new([*mark, label.nearest(*mark)], INK.stroke_width(1)))?;
        let corners = [(label.left, label.top), (label.right, label.bottom)];
        root.draw(&Rectangle::new(corners, WHITE.mix(0.8).filled()))?;
    }
    for (row, mark) in findings.rows.iter().zip(&marks) {
        root.draw(&Circle::new(*mark, MARK, WHITE.filled()))?;
        root.draw(&Circle::new(*mark, MARK, style(colour(row), row.threads)))?;
        root.draw(&Circle::new(*mark, MARK, colour(row).stroke_width(1)))?;
    }
    let font = (FONT, 13).into_font().color(&INK);
    for (i, label) in labels.iter().enumerate() {
        root.draw(&Text::new(
            (i + 1).to_string(),
            (label.left + 2, label.top + 1),
            font.clone(),
        ))?;
    }
    key(&right, findings)?;
    root.present()?;
    Ok(())
}

/// The axes: all rows and the ridges, with room around them.
fn ranges(findings: &Findings) -> ((f64, f64), (f64, f64)) {
    let rows = findings.rows.iter().map(place);
    let ridge = |r: &Roof| (r.integer_gops / r.dram_gbps, r.integer_gops);
    let (mut xs, mut ys) = ((f64::INFINITY, 0.0f64), (f64::INFINITY, 0.0f64));
    for (x, y) in rows.chain(findings.roofs.iter().map(ridge)) {
        xs = (xs.0.min(x), xs.1.max(x));
        ys = (ys.0.min(y), ys.1.max(y));
    }
    ((xs.0 / 2.0, xs.1 * 2.0), (ys.0 / 2.0, ys.1 * 1.6))
}

/// A rectangle of pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Frame {
    left: i32,
    top: i32,
    right: i32,
    bottom: i32,
}

impl Frame {
    fn around((x, y): (i32, i32), width: i32, height: i32) -> Self {
        Self {
            left: x - width / 2,
            top: y - height / 2,
            right: x + width / 2,
            bottom: y + height / 2,
        }
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.left < other.right && other.left < self.right && self.top < other.bottom && other.top < self.bottom
    }

    /// Its point nearest to another.
    fn nearest(&self, (x, y): (i32, i32)) -> (i32, i32) {
        (x.clamp(self.left, self.right), y.clamp(self.top, self.bottom))
    }

    fn inside(&self, outer: &Self) -> bool {
        self.left >= outer.left && self.right <= outer.right && self.top >= outer.top && self.bottom <= outer.bottom
    }
}

/// Places for the numbers of marks: the nearest of some rings on which a number covers no mark and no other number.
fn labels(marks: &[(i32, i32)], bounds: Frame) -> Vec<Frame> {
    let mut taken: Vec<Frame> = marks
        .iter()
        .map(|&mark| Frame::around(mark, 2 * MARK, 2 * MARK))
        .collect();
    let mut labels = Vec::new();
    for (i, &(x, y)) in marks.iter().enumerate() {
        let width = 4 + 8 * (i + 1).to_string().len() as i32;
        let ring = |radius: i32| {
            (0..16).map(move |step| {
                let angle = f64::from(step) * core::f64::consts::TAU / 16.0;
                let (sin, cos) = angle.sin_cos();
                let r = f64::from(radius);
                Frame::around((x + (r * cos) as i32, y - (r * sin) as i32), width, 14)
            })
        };
        let free = |frame: &Frame| frame.inside(&bounds) && !taken.iter().any(|t| t.overlaps(frame));
        let place = (14..200).step_by(6).flat_map(ring).find(free);
        let place = place.unwrap_or_else(|| Frame::around((x + 14, y), width, 14));
        taken.push(place);
        labels.push(place);
    }
    labels
}

/// What lines, colours and numbers stand for.
fn key(area: &Area<'_>, findings: &Findings) -> Result<(), Box<dyn Error>> {
    let font = (FONT, 13).into_font().color(&INK);
    let bold = (FONT, 14).into_font().color(&INK);
    let mut y = 24;
    let text = |y: i32, text: String| area.draw(&Text::new(text, (52, y - 6), font.clone()));
    let head = |y: i32, text: &str| area.draw(&Text::new(text.to_owned(), (4, y - 6), bold.clone()));
    head(y, "Roofs: memory, then integer arithmetic")?;
    for (i, roof) in findings.roofs.iter().enumerate() {
        y += LINE;
        area.draw(&PathElement::new([(6, y), (44, y)], shade(i)))?;
        let threads = table::threads(roof.threads);
        text(
            y,
            format!("{threads}: {:.1} GB/s, {:.0} GOPS", roof.dram_gbps, roof.integer_gops),
        )?;
    }
    y += 2 * LINE;
    head(y, "Products: solid on one thread, pale on several")?;
    let first = findings.rows.first();
    let one_shape = findings
        .rows
        .iter()
        .all(|r| first.is_some_and(|f| (r.n, r.k) == (f.n, f.k)));
    let one_width = findings.rows.iter().all(|r| first.is_some_and(|f| r.bits == f.bits));
    if let (Some(f), true) = (first, one_shape || one_width) {
        y += LINE;
        let shape = one_shape.then(|| format!("weights {}x{}", f.n, f.k));
        let width = one_width.then(|| format!("{} bits", f.bits));
        let parts: Vec<String> = shape.into_iter().chain(width).collect();
        text(y, format!("all: {}", parts.join(", ")))?;
    }
    for (i, row) in findings.rows.iter().enumerate() {
        y += LINE;
        area.draw(&Circle::new((34, y), MARK, style(colour(row), row.threads)))?;
        area.draw(&Circle::new((34, y), MARK, colour(row).stroke_width(1)))?;
        area.draw(&Text::new((i + 1).to_string(), (6, y - 6), font.clone()))?;
        let shape = match &row.layer {
            _ if one_shape => String::new(),
            Some(names) => format!(
                "{names}{}, ",
                row.way().map_or_else(String::new, |way| format!(" {way}"))
            ),
            None => format!("{}x{}, ", row.n, row.k),
        };
        let width = if one_width {
            String::new()
        } else {
            format!("{} bits, ", row.bits)
        };
        let threads = table::threads(row.threads);
        text(
            y,
            format!(
                "{shape}{width}{}, M = {}, {threads}: {:.0} GOPS",
                row.mode, row.m, row.gops
            ),
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_cover_no_mark_and_no_other_number() {
        let bounds = Frame {
            left: 0,
            top: 0,
            right: 600,
            bottom: 400,
        };
        // Twelve marks on nearly one spot, and some at the edges.
        let mut marks: Vec<(i32, i32)> = (0..12).map(|i| (300 + i % 3, 200 + i / 3)).collect();
        marks.extend([(1, 1), (599, 399), (3, 399)]);
        let labels = labels(&marks, bounds);
        for (i, label) in labels.iter().enumerate() {
            assert!(label.inside(&bounds), "{label:?}");
            let mark = |m: &(i32, i32)| Frame::around(*m, 2 * MARK, 2 * MARK).overlaps(label);
            assert!(!marks.iter().any(mark), "{label:?}");
            assert!(!labels[..i].iter().any(|l| l.overlaps(label)), "{label:?}");
        }
    }
}
