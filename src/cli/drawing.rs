//! What drawings have in common.
#![forbid(unsafe_code)]

use plotters::style::{Color, RGBColor, ShapeStyle};

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
pub(crate) const GRID: RGBColor = RGBColor(230, 230, 230);
/// The font.
pub(crate) const FONT: &str = "sans-serif";
/// Radius of a mark.
pub(crate) const MARK: i32 = 5;

/// Solid for one thread, pale for several.
pub(crate) fn style(colour: RGBColor, threads: usize) -> ShapeStyle {
    colour.mix(if threads == 1 { 0.9 } else { 0.4 }).filled()
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
