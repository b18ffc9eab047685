//! The drawing: for every variant of a peer and every number of rows a bar, to the right where mixgemm is faster and to
//! the left where it is slower.

use crate::report::{self, Row};
use anyhow::{Result, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

const INK: RGBColor = RGBColor(51, 51, 51);
const GRID: RGBColor = RGBColor(215, 215, 215);
/// Distinct for colour-blind readers too.
const FASTER: RGBColor = RGBColor(0, 114, 178);
const SLOWER: RGBColor = RGBColor(213, 94, 0);

/// Pixels.
const LABELS: i32 = 236;
const PANEL: i32 = 112;
const ROW: i32 = 19;
const HEAD: i32 = 130;
/// What the title takes.
const TITLE: i32 = 780;
/// Powers of two to the left and to the right of a panel's line.
const REACH: (f64, f64) = (1.0, 3.0);

const LEGEND: [(&str, RGBColor); 3] = [
    ("to the right: mixgemm is faster, by this factor", FASTER),
    ("to the left: mixgemm is slower", SLOWER),
    (
        "mixgemm's own rows: time, and share of the nearer roof (integer peak or memory)",
        INK,
    ),
];

/// A drawing of one shape on one number of threads.
pub(crate) fn draw(group: &[&Row]) -> Result<String> {
    let (columns, variants) = (report::columns(group), report::variants(group));
    let size = (
        (LABELS + PANEL * columns.len() as i32 + 20).max(TITLE),
        HEAD + ROW * variants.len() as i32 + 20,
    );
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (size.0 as u32, size.1 as u32)).into_drawing_area();
        let fail = |error| anyhow!("drawing: {error}");
        let text = |text: String, at: (i32, i32), size: i32, colour: RGBColor| {
            let anchor = Pos::new(HPos::Left, VPos::Center);
            let style = ("sans-serif", size).into_font().color(&colour).pos(anchor);
            root.draw(&Text::new(text, at, style)).map_err(fail)
        };
        root.fill(&WHITE).map_err(fail)?;
        text(
            format!("Time of a peer over that of mixgemm: {}", report::title(group)),
            (16, 22),
            17,
            INK,
        )?;
        for (i, (line, colour)) in LEGEND.into_iter().enumerate() {
            text(line.into(), (16, 46 + 18 * i as i32), 13, colour)?;
        }
        for (c, m) in columns.iter().enumerate() {
            text(format!("M = {m}"), (line(c), HEAD - 20), 14, INK)?;
        }
        for (r, variant) in variants.iter().enumerate() {
            let y = HEAD + ROW * r as i32 + ROW / 2;
            let own = variant.variant == variant.rival;
            let label = format!("{} {} ({:.2} bits)", variant.peer, variant.variant, variant.bits);
            text(label, (if own { 16 } else { 28 }, y), if own { 13 } else { 12 }, INK)?;
            for (c, &m) in columns.iter().enumerate() {
                let same = |row: &&&Row| (row.m, &row.peer, &row.variant) == (m, &variant.peer, &variant.variant);
                let Some(row) = group.iter().find(same) else { continue };
                let x = line(c);
                root.draw(&PathElement::new([(x, y - ROW / 2), (x, y + ROW / 2)], GRID))
                    .map_err(fail)?;
                if own {
                    let roof = 100.0 * row.of_peak.max(row.of_dram);
                    let figures = format!("{}, {roof:.0} %", report::time(row.microseconds));
                    text(figures, (x + 4, y), 12, INK)?;
                } else if let Some(ratio) = row.ratio {
                    let length = ratio.log2().clamp(-REACH.0, REACH.1) * f64::from(PANEL) / (REACH.0 + REACH.1 + 1.0);
                    let colour = if ratio < 1.0 { SLOWER } else { FASTER };
                    let bar = [(x, y - 6), (x + length as i32, y + 6)];
                    root.draw(&Rectangle::new(bar, colour.filled())).map_err(fail)?;
                    let beside = x + (length as i32).max(0) + 4;
                    text(format!("{ratio:.2}"), (beside, y), 12, colour)?;
                }
            }
        }
        root.present().map_err(fail)?;
    }
    Ok(svg)
}

/// Where the line of a panel is.
fn line(column: usize) -> i32 {
    LABELS + PANEL * column as i32 + 24
}
