//! A drawing: fidelity against efficiency of every point, with the frontier and what MixPE's authors published.
#![forbid(unsafe_code)]

use super::colours::of_device;
use super::report::shown;
use crate::cli::drawing::{Drawing, FONT, INK, axes, head};
use mixgemm::dse::heading::Heading;
use mixgemm::dse::outcome::Row;
use mixgemm::dse::view::{Conditions, Frontier, View, cell};
use plotters::coord::Shift;
use plotters::prelude::*;
use std::collections::BTreeSet;
use std::error::Error;

/// Width of a panel.
const WIDTH: u32 = 470;
/// Height of a panel.
const HEIGHT: u32 = 330;
/// Height of title and subtitle.
const TOP: u32 = 76;
/// Width of the legend.
const LEGEND: u32 = 230;
/// Fidelity at the upper edge of panels, in dB: what is above stands at the edge with its figure.
const EDGE: f64 = 60.0;
/// Most panels above each other.
const MOST_PANELS: usize = 3;
const LINE: RGBColor = RGBColor(30, 30, 30);
const PUBLISHED: RGBColor = RGBColor(150, 0, 60);

/// The six points of MixPE's authors: relative area × power efficiency of an element, and a score that they call SNR in
/// dB but made up as a product of 1.5 for int4, 3 for int8 and 4.5 for f16 (the first commit of their simulator).
const POINTS: [(&str, &str, f64, f64); 6] = [
    ("a", "FP16 x FP16", 1.0, 20.25),
    ("b", "INT4 x FP16 dequantised", 1.0, 6.75),
    ("c", "MixPE W4A16", 4.82, 6.75),
    ("d", "INT8 x INT8", 58.28, 9.0),
    ("e", "INT4 x INT8 dequantised", 58.28, 4.5),
    ("f", "MixPE W4A8", 133.38, 4.5),
];

/// The drawing.
pub(super) struct Scatter<'a> {
    heading: &'a Heading,
    rows: &'a [Row],
    frontiers: &'a [Frontier],
    conditions: Vec<Conditions>,
    devices: Vec<&'a str>,
}

/// Devices in the order in which they first appear.
pub(super) fn devices(rows: &[Row]) -> Vec<&str> {
    let mut devices: Vec<&str> = Vec::new();
    for row in rows {
        if !devices.contains(&&*row.point.device) {
            devices.push(&row.point.device);
        }
    }
    devices
}

/// The first, a middle and the last of several conditions.
pub(super) fn some(all: &[Conditions]) -> Vec<Conditions> {
    match all.len() {
        n if n <= MOST_PANELS => all.to_vec(),
        n => vec![all[0], all[n / 2], all[n - 1]],
    }
}

impl<'a> Scatter<'a> {
    pub(super) fn new(heading: &'a Heading, rows: &'a [Row], frontiers: &'a [Frontier]) -> Self {
        Self {
            heading,
            rows,
            frontiers,
            conditions: some(&shown(rows)),
            devices: devices(rows),
        }
    }

    /// Least and most efficiency and the most fidelity of all panels and of what is published.
    fn limits(&self) -> (f64, f64, f64) {
        let (mut least, mut most, mut fidelity) = (0.8f64, 140.0f64, 21.0f64);
        for row in self
            .rows
            .iter()
            .filter(|row| self.conditions.contains(&Conditions::of(row)))
        {
            for view in View::ALL {
                least = least.min(view.efficiency(row));
                most = most.max(view.efficiency(row));
            }
            fidelity = fidelity.max(row.outcome.fidelity_db);
        }
        (
            least.max(1e-6).log2().floor(),
            most.log2().ceil(),
            fidelity.min(EDGE) * 1.08,
        )
    }

    fn panel<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
        conditions: &Conditions,
        view: View,
    ) -> Result<(), Box<dyn Error>>
    where
        B::ErrorType: 'static,
    {
        let (least, most, fidelity) = self.limits();
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .margin_right(14)
            .caption(
                format!("M = {}, {}", conditions.m, view.name()),
                (FONT, 15).into_font().color(&INK),
            )
            .x_label_area_size(42)
            .y_label_area_size(50)
            .build_cartesian_2d(least..most, 0.0..fidelity)?;
        // So many labels find room.
        let step = ((most - least) / 9.0).ceil().max(1.0) as i32;
        let mut mesh = chart.configure_mesh();
        axes(&mut mesh);
        mesh.x_desc(format!("efficiency, FP16 array of {} = 1", view.name()))
            .y_desc("fidelity in dB")
            .x_labels((most - least) as usize + 1)
            .x_label_formatter(&|x| power(*x, step))
            .y_label_formatter(&|db| format!("{db:.0}"))
            .draw()?;
        let at = |row: &Row| {
            let db = row.outcome.fidelity_db.min(EDGE);
            (view.efficiency(row).max(1e-9).log2(), db)
        };
        // Marks that would lie on each other are drawn once.
        let mut drawn = BTreeSet::new();
        for row in self.rows.iter().filter(|row| Conditions::of(row) == *conditions) {
            let (x, y) = at(row);
            if drawn.insert((cell(view, row), &row.point.device)) && y >= 0.0 {
                chart.draw_series([Circle::new((x, y), 3, of_device(&row.point.device).mix(0.35).filled())])?;
            }
        }
        let own = self
            .frontiers
            .iter()
            .find(|f| f.conditions == *conditions && f.view == view);
        let places = own.map_or(&[][..], |frontier| &frontier.places);
        let mut steps: Vec<(f64, f64)> = Vec::new();
        for &place in places {
            let (x, y) = at(&self.rows[place]);
            if let Some(&(last, _)) = steps.last() {
                steps.push((last, y));
            }
            steps.push((x, y));
        }
        chart.draw_series([PathElement::new(steps, LINE.stroke_width(1))])?;
        let mut over = BTreeSet::new();
        for &place in places {
            let row = &self.rows[place];
            chart.draw_series([Circle::new(at(row), 4, of_device(&row.point.device).filled())])?;
            chart.draw_series([Circle::new(at(row), 4, LINE.stroke_width(1))])?;
            let db = row.outcome.fidelity_db;
            if db > EDGE && over.insert(db.to_bits()) {
                let text = Text::new(format!("{db:.0} dB"), (9, -6), (FONT, 12).into_font().color(&INK));
                chart.draw_series([EmptyElement::at(at(row)) + text])?;
            }
        }
        for (letter, _, x, y) in POINTS {
            let x = f64::log2(x);
            chart.draw_series([EmptyElement::at((x, y)) + diamond((0, 0))])?;
            let font = (FONT, 12).into_font().color(&PUBLISHED);
            chart.draw_series([EmptyElement::at((x, y)) + Text::new(letter, (8, -5), font)])?;
        }
        Ok(())
    }

    fn legend<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result<(), Box<dyn Error>>
    where
        B::ErrorType: 'static,
    {
        let font = (FONT, 13).into_font().color(&INK);
        let text = |x: i32, y: i32, text: &str| area.draw(&Text::new(text.to_string(), (x, y - 6), font.clone()));
        let mut y = 24;
        text(2, y, "Device")?;
        for device in &self.devices {
            y += 22;
            area.draw(&Circle::new((10, y), 4, of_device(device).filled()))?;
            text(26, y, device)?;
        }
        y += 36;
        area.draw(&PathElement::new(vec![(2, y), (18, y)], LINE.stroke_width(1)))?;
        area.draw(&Circle::new((10, y), 4, LINE.stroke_width(1)))?;
        text(26, y, "frontier: no other point beats it")?;
        y += 28;
        area.draw(&(EmptyElement::at((10, y)) + diamond((0, 0))))?;
        text(26, y, "published (heuristic)")?;
        let published = [
            "MixPE's authors, arXiv 2411.16158:",
            "elements alone; their dB are scores,",
            "not measurements",
        ];
        for line in published {
            y += 18;
            text(26, y, line)?;
        }
        for (letter, name, x, _) in POINTS {
            y += 18;
            text(26, y, &format!("{letter}  {name}: {x}x"))?;
        }
        y += 32;
        for line in [
            "fidelity: measured",
            "efficiency: estimated; operations",
            "per second, mm2 and watt",
            "above 60 dB: at the edge",
        ] {
            text(2, y, line)?;
            y += 18;
        }
        Ok(())
    }
}

/// 2 to a whole power that is a multiple of `step`, as a number or a fraction.
fn power(exponent: f64, step: i32) -> String {
    match exponent.round() as i32 {
        e if e % step != 0 || (exponent - f64::from(e)).abs() > 1e-6 => String::new(),
        e @ 0..=30 => format!("{}", 1u64 << e),
        e @ -30..0 => format!("1/{}", 1u64 << -e),
        e => format!("2^{e}"),
    }
}

fn diamond((x, y): (i32, i32)) -> PathElement<(i32, i32)> {
    const R: i32 = 5;
    PathElement::new(
        vec![(x - R, y), (x, y - R), (x + R, y), (x, y + R), (x - R, y)],
        PUBLISHED.stroke_width(2),
    )
}

impl Drawing for Scatter<'_> {
    fn size(&self) -> (u32, u32) {
        let panels = self.conditions.len().max(1) as u32;
        (2 * WIDTH + LEGEND, TOP + panels * HEIGHT)
    }

    fn onto<B: DrawingBackend>(&self, root: &DrawingArea<B, Shift>) -> Result<(), Box<dyn Error>>
    where
        B::ErrorType: 'static,
    {
        let condition = self.conditions.first();
        let dram = condition.map_or(String::new(), |c| {
            format!("{} nm, DRAM {} pJ/bit", c.node_nm, c.dram_pj_per_bit)
        });
        let subtitle = format!(
            "{} points, workload {}, {dram}; fidelity on {}",
            self.heading.points,
            self.heading.workload.name,
            self.heading.tensors.split(':').next().unwrap_or("")
        );
        head(
            root,
            24,
            "Fidelity against efficiency of accelerators for low-bit products",
            subtitle,
        )?;
        let (_, below) = root.split_vertically(TOP);
        let (panels, legend) = below.split_horizontally(2 * WIDTH);
        for (area, conditions) in panels
            .split_evenly((self.conditions.len().max(1), 1))
            .iter()
            .zip(&self.conditions)
        {
            for (view, area) in View::ALL.into_iter().zip(area.split_evenly((1, 2))) {
                self.panel(&area, conditions, view)?;
            }
        }
        self.legend(&legend)
    }
}
