//! The drawing of `outliers`: a strip for every layer, with its outliers as a bar and its channels as lines.
#![forbid(unsafe_code)]

use super::Layer;
use crate::cli::drawing::{Drawing, FONT, INK, axes, head};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::error::Error;

/// Width of names, bars and channels.
const WIDTHS: [u32; 3] = [230, 260, 560];
const TOP: u32 = 78;
/// Below the strips: the axis, its name and a margin.
const AXIS: u32 = 62;
const BOTTOM: u32 = 8;
/// The drawing's height, as long as strips are neither too high nor too low.
const HEIGHT: u32 = 900;
/// The least distance of two names.
const LINE: u32 = 13;
const MARGIN: u32 = 10;
const BARS: RGBColor = RGBColor(0, 114, 178);
const CHANNELS: RGBColor = RGBColor(213, 94, 0);
const STRIP: RGBColor = RGBColor(244, 244, 244);
/// Letters of a name that fit.
const LETTERS: usize = 30;

/// The strips of layers, the first on top.
pub(super) struct Strips<'a>(pub(super) &'a [Layer]);

impl Strips<'_> {
    /// The height of a strip.
    fn strip(&self) -> u32 {
        (HEIGHT / self.0.len().max(1) as u32).clamp(4, 60)
    }

    fn names<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result<(), Box<dyn Error>>
    where
        B::ErrorType: 'static,
    {
        let strip = self.strip();
        let font = (FONT, 13)
            .into_font()
            .color(&INK)
            .pos(Pos::new(HPos::Right, VPos::Center));
        for (i, layer) in self.0.iter().enumerate().step_by(LINE.div_ceil(strip) as usize) {
            let y = MARGIN + i as u32 * strip + strip / 2;
            let letters = layer.name.chars().count();
            let name = if letters > LETTERS {
                let end: String = layer.name.chars().skip(letters - LETTERS + 1).collect();
                format!("…{end}")
            } else {
                layer.name.clone()
            };
            area.draw(&Text::new(name, (WIDTHS[0] as i32 - 8, y as i32), font.clone()))?;
        }
        Ok(())
    }

    /// Bars: outliers of 1000 activations.
    fn bars<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result<(), Box<dyn Error>>
    where
        B::ErrorType: 'static,
    {
        let per_mille = |layer: &Layer| 1000.0 * layer.found.outlier_share();
        let most = self.0.iter().map(per_mille).fold(0.0, f64::max);
        let mut chart = ChartBuilder::on(area)
            .margin_top(MARGIN)
            .margin_right(14)
            .margin_bottom(BOTTOM)
            .x_label_area_size(AXIS - MARGIN - BOTTOM)
            .build_cartesian_2d(0.0..most.max(1e-6) * 1.08, self.0.len() as f64..0.0)?;
        let mut mesh = chart.configure_mesh();
        axes(&mut mesh);
        mesh.disable_y_mesh()
            .x_desc("outliers in 1000 activations")
            .x_labels(4)
            .x_label_formatter(&|x| format!("{}", (x * 1e4).round() / 1e4))
            .draw()?;
        chart.draw_series(self.0.iter().enumerate().map(|(i, layer)| {
            let (top, bottom) = (i as f64 + 0.15, i as f64 + 0.85);
            Rectangle::new([(0.0, top), (per_mille(layer), bottom)], BARS.filled())
        }))?;
        Ok(())
    }

    /// Lines: a channel's share of rows with an outlier in it, from the bottom of the strip up.
    fn channels<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result<(), Box<dyn Error>>
    where
        B::ErrorType: 'static,
    {
        let most = self.0.iter().map(|layer| layer.found.k).max().unwrap_or(1).max(1);
        let mut chart = ChartBuilder::on(area)
            .margin_top(MARGIN)
            .margin_right(16)
            .margin_bottom(BOTTOM)
            .x_label_area_size(AXIS - MARGIN - BOTTOM)
            .build_cartesian_2d(0.0..most as f64, self.0.len() as f64..0.0)?;
        let strips = self.0.iter().enumerate().map(|(i, layer)| {
            let corners = [(0.0, i as f64 + 0.06), (layer.found.k as f64, i as f64 + 0.94)];
            Rectangle::new(corners, STRIP.filled())
        });
        chart.draw_series(strips)?;
        let mut mesh = chart.configure_mesh();
        axes(&mut mesh);
        mesh.disable_mesh()
            .x_desc("input channel; a line as high as its strip: outliers in every row")
            .x_label_formatter(&|k| format!("{k:.0}"))
            .draw()?;
        for (i, layer) in self.0.iter().enumerate() {
            let bottom = i as f64 + 0.94;
            // Rare ones first: on the same pixels, the frequent ones stay on top.
            chart.draw_series(layer.found.channels.iter().rev().map(|&(k, count)| {
                let share = count as f64 / layer.found.rows.max(1) as f64;
                let (x, top) = (f64::from(k) + 0.5, bottom - 0.88 * share.clamp(0.08, 1.0));
                PathElement::new(vec![(x, bottom), (x, top)], CHANNELS.stroke_width(2))
            }))?;
        }
        Ok(())
    }
}

impl Drawing for Strips<'_> {
    fn size(&self) -> (u32, u32) {
        let strips = self.strip() * self.0.len() as u32;
        (WIDTHS.iter().sum(), TOP + strips + AXIS)
    }

    fn onto<B: DrawingBackend>(&self, root: &DrawingArea<B, Shift>) -> Result<(), Box<dyn Error>>
    where
        B::ErrorType: 'static,
    {
        let layers = self.0.len();
        let outliers: u64 = self.0.iter().map(|layer| layer.found.outliers()).sum();
        let plural = if layers == 1 { "" } else { "s" };
        let subtitle = format!("{outliers} activations beyond 127 scales in {layers} layer{plural}");
        head(root, 24, "Outliers by layer and by channel", subtitle)?;
        let (_, below) = root.split_vertically(TOP);
        let (names, right) = below.split_horizontally(WIDTHS[0]);
        let (bars, channels) = right.split_horizontally(WIDTHS[1]);
        self.names(&names)?;
        self.bars(&bars)?;
        self.channels(&channels)
    }
}
