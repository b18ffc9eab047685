//! What drawings have in common.
#![forbid(unsafe_code)]

use crate::cli::pixels::{Pixels, pixels};
use plotters::chart::MeshStyle;
use plotters::coord::Shift;
use plotters::coord::ranged1d::Ranged;
use plotters::prelude::{DrawingArea, DrawingBackend, IntoDrawingArea, IntoFont, SVGBackend, Text, WHITE};
use plotters::style::{Color, RGBColor, ShapeStyle};
use std::error::Error;

/// Modes and their colours, distinct for colour-blind readers too.
pub(crate) const MODES: [(&str, RGBColor); 6] = [
    ("a8", RGBColor(0, 114, 178)),
    ("a8row", RGBColor(86, 180, 233)),
    ("a8given", RGBColor(0, 158, 115)),
    ("a8static", RGBColor(204, 121, 167)),
    ("a16", RGBColor(230, 159, 0)),
    ("exact", RGBColor(213, 94, 0)),
];

/// Lines and text.
pub(crate) const INK: RGBColor = RGBColor(51, 51, 51);
/// Lines in the background.
const GRID: RGBColor = RGBColor(230, 230, 230);
/// The font.
pub(crate) const FONT: &str = "sans-serif";
/// Radius of a mark.
pub(crate) const MARK: i32 = 5;

/// Solid for one thread, pale for several.
pub(crate) fn style(colour: RGBColor, threads: usize) -> ShapeStyle {
    colour.mix(if threads == 1 { 0.9 } else { 0.4 }).filled()
}

/// Something that can be drawn as vectors and as pixels.
pub(crate) trait Drawing {
    /// Width and height.
    fn size(&self) -> (u32, u32);

    /// Draws it.
    fn onto<B: DrawingBackend>(&self, root: &DrawingArea<B, Shift>) -> Result<(), Box<dyn Error>>
    where
        B::ErrorType: 'static;

    /// The text of an SVG file.
    fn svg(&self) -> Result<String, Box<dyn Error>> {
        let mut svg = String::new();
        let root = SVGBackend::with_string(&mut svg, self.size()).into_drawing_area();
        self.onto(&root)?;
        root.present()?;
        drop(root);
        Ok(svg)
    }

    /// The bytes of a PNG file, with two pixels for each unit of the drawing.
    fn png(&self) -> Result<Vec<u8>, Box<dyn Error>> {
        let mut map = pixels(self.size()).ok_or("a drawing of another size")?;
        let root = Pixels::on(&mut map).ok_or("the built-in font")?.into_drawing_area();
        self.onto(&root)?;
        drop(root);
        Ok(map.encode_png()?)
    }
}

/// Fills the drawing with white and heads it, from `left` on.
pub(crate) fn head<B: DrawingBackend>(
    root: &DrawingArea<B, Shift>,
    left: i32,
    title: &str,
    subtitle: String,
) -> Result<(), Box<dyn Error>>
where
    B::ErrorType: 'static,
{
    root.fill(&WHITE)?;
    root.draw(&Text::new(title, (left, 18), (FONT, 20).into_font().color(&INK)))?;
    root.draw(&Text::new(subtitle, (left, 44), (FONT, 13).into_font().color(&INK)))?;
    Ok(())
}

/// Lines and fonts of axes.
pub(crate) fn axes<X: Ranged, Y: Ranged, B: DrawingBackend>(mesh: &mut MeshStyle<'_, '_, X, Y, B>) {
    mesh.bold_line_style(GRID)
        .light_line_style(WHITE)
        .axis_style(INK)
        .label_style((FONT, 13).into_font().color(&INK))
        .axis_desc_style((FONT, 14).into_font().color(&INK));
}

/// The label of a tick on a logarithmic axis: only 1, 2 and 5 times powers of ten have one.
pub(crate) fn tick(value: f64) -> String {
    let digits = if value < 1.0 { 2 } else { 0 };
    let text = format!("{value:.digits$}");
    if text.trim_start_matches(['0', '.']).starts_with(['1', '2', '5']) {
        text
    } else {
        String::new()
    }
}

/// A number in three digits with `k`, `M`, `G`, `T` for powers of a thousand, without zeros that say nothing.
pub(crate) fn short(value: f64) -> String {
    let suffixes = [(1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")];
    let suffix = suffixes.into_iter().find(|(unit, _)| value.abs() >= 0.9995 * unit);
    let (unit, suffix) = suffix.unwrap_or((1.0, ""));
    let scaled = value / unit;
    let digits = match scaled.abs() {
        v if v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        _ => 2,
    };
    let text = format!("{scaled:.digits$}");
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    // A negative zero has lost its digits.
    format!("{}{suffix}", if text == "-0" { "0" } else { text })
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn numbers_are_short_and_keep_their_size() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (0.25, "0.25"),
            (1.5, "1.5"),
            (20.0, "20"),
            (99.96, "100"),
            (999.0, "999"),
            (999.9, "1 k"),
            (1200.0, "1.2 k"),
            (2e6, "2 M"),
            (12_340_000.0, "12.3 M"),
            (5e9, "5 G"),
            (1e15, "1000 T"),
        ] {
            assert_eq!(short(value), text, "{value}");
        }
    }
}
