//! Drawings as PNG files, on a machine without fonts: what `plotters` draws, as smooth pixels.
#![forbid(unsafe_code)]

use plotters::style::text_anchor::{HPos, VPos};
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind, FontTransform,
};
use std::convert::Infallible;
use tiny_skia::{Color, FillRule, Paint, Path, PathBuilder, Pixmap, Rect, Stroke, Transform};
use ttf_parser::{Face, OutlineBuilder};

/// DejaVu Sans, cut to the characters that drawings need; its licence lies beside it.
const FONT: &[u8] = include_bytes!("font/DejaVuSans.ttf");
/// Pixels for each unit of a drawing.
const SCALE: f32 = 2.0;
/// `plotters` asks for heights of lines, which are so much larger than the font.
const LINE: f64 = 1.24;

/// A drawing in pixels.
pub(crate) struct Pixels<'a> {
    map: &'a mut Pixmap,
    face: Face<'static>,
}

type Done = Result<(), DrawingErrorKind<Infallible>>;

/// Empty pixels for a drawing of this size; none where it is 0 or too large.
pub(crate) fn pixels((width, height): (u32, u32)) -> Option<Pixmap> {
    Pixmap::new(width.checked_mul(SCALE as u32)?, height.checked_mul(SCALE as u32)?)
}

impl<'a> Pixels<'a> {
    /// Draws onto these pixels; none where the font cannot be read, which a test would notice.
    pub(crate) fn on(map: &'a mut Pixmap) -> Option<Self> {
        let face = Face::parse(FONT, 0).ok()?;
        Some(Self { map, face })
    }

    fn fill(&mut self, path: Option<Path>, color: BackendColor) -> Done {
        if let Some(path) = path {
            let scale = Transform::from_scale(SCALE, SCALE);
            self.map.fill_path(&path, &paint(color), FillRule::Winding, scale, None);
        }
        Ok(())
    }

    fn stroke(&mut self, path: Option<Path>, color: BackendColor, width: u32) -> Done {
        if let Some(path) = path {
            let stroke = Stroke {
                width: width as f32,
                ..Stroke::default()
            };
            let scale = Transform::from_scale(SCALE, SCALE);
            self.map.stroke_path(&path, &paint(color), &stroke, scale, None);
        }
        Ok(())
    }

    /// The width of a line of text in units of the font.
    fn advance(&self, text: &str) -> f32 {
        let glyphs = text.chars().filter_map(|c| self.face.glyph_index(c));
        glyphs
            .map(|glyph| f32::from(self.face.glyph_hor_advance(glyph).unwrap_or(0)))
            .sum()
    }
}

fn paint(color: BackendColor) -> Paint<'static> {
    let (r, g, b) = color.rgb;
    let mut paint = Paint::default();
    paint.set_color(Color::from_rgba8(
        r,
        g,
        b,
        (color.alpha.clamp(0.0, 1.0) * 255.0).round() as u8,
    ));
    paint
}

/// The middle of a pixel, where a line one pixel wide is sharp.
fn middle((x, y): BackendCoord) -> (f32, f32) {
    (x as f32 + 0.5, y as f32 + 0.5)
}

fn polyline(points: impl IntoIterator<Item = BackendCoord>, close: bool) -> Option<Path> {
    let mut path = PathBuilder::new();
    for (i, point) in points.into_iter().enumerate() {
        let (x, y) = middle(point);
        if i == 0 { path.move_to(x, y) } else { path.line_to(x, y) }
    }
    if close {
        path.close();
    }
    path.finish()
}

impl DrawingBackend for Pixels<'_> {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        (self.map.width() / SCALE as u32, self.map.height() / SCALE as u32)
    }

    fn ensure_prepared(&mut self) -> Done {
        Ok(())
    }

    fn present(&mut self) -> Done {
        Ok(())
    }

    fn draw_pixel(&mut self, (x, y): BackendCoord, color: BackendColor) -> Done {
        let rect = Rect::from_xywh(x as f32, y as f32, 1.0, 1.0);
        self.fill(rect.map(PathBuilder::from_rect), color)
    }

    fn draw_line<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S) -> Done {
        self.stroke(polyline([from, to], false), style.color(), style.stroke_width())
    }

    fn draw_rect<S: BackendStyle>(&mut self, a: BackendCoord, b: BackendCoord, style: &S, fill: bool) -> Done {
        if !fill {
            return self.draw_path([a, (b.0, a.1), b, (a.0, b.1), a], style);
        }
        let sides = [a.0.min(b.0), a.1.min(b.1), a.0.max(b.0), a.1.max(b.1)].map(|side| side as f32);
        let rect = Rect::from_ltrb(sides[0], sides[1], sides[2], sides[3]);
        self.fill(rect.map(PathBuilder::from_rect), style.color())
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(&mut self, path: I, style: &S) -> Done {
        self.stroke(polyline(path, false), style.color(), style.stroke_width())
    }

    fn draw_circle<S: BackendStyle>(&mut self, center: BackendCoord, radius: u32, style: &S, fill: bool) -> Done {
        let (x, y) = middle(center);
        let circle = PathBuilder::from_circle(x, y, radius as f32);
        if fill {
            self.fill(circle, style.color())
        } else {
            self.stroke(circle, style.color(), style.stroke_width())
        }
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(&mut self, corners: I, style: &S) -> Done {
        self.fill(polyline(corners, true), style.color())
    }

    fn draw_text<S: BackendTextStyle>(&mut self, text: &str, style: &S, at: BackendCoord) -> Done {
        let size = (style.size() / LINE) as f32 / f32::from(self.face.units_per_em());
        let left = match style.anchor().h_pos {
            HPos::Left => 0.0,
            HPos::Center => -self.advance(text) / 2.0,
            HPos::Right => -self.advance(text),
        };
        // As the SVG drawing has it: 0.76 em below the top, half a small letter below the middle and above the bottom.
        let em = f32::from(self.face.units_per_em());
        let half = f32::from(self.face.x_height().unwrap_or(0)) / 2.0;
        let base = match style.anchor().v_pos {
            VPos::Top => -0.76 * em,
            VPos::Center => -half,
            VPos::Bottom => half,
        };
        let mut outline = Outline {
            path: PathBuilder::new(),
            at: (left, base),
        };
        for glyph in text.chars().filter_map(|c| self.face.glyph_index(c)) {
            self.face.outline_glyph(glyph, &mut outline);
            outline.at.0 += f32::from(self.face.glyph_hor_advance(glyph).unwrap_or(0));
        }
        let turn = match style.transform() {
            FontTransform::None => 0.0,
            FontTransform::Rotate90 => 90.0,
            FontTransform::Rotate180 => 180.0,
            FontTransform::Rotate270 => 270.0,
        };
        // The font's y points up.
        let place = Transform::from_scale(size, -size)
            .post_rotate(turn)
            .post_translate(at.0 as f32, at.1 as f32);
        let path = outline.path.finish().and_then(|path| path.transform(place));
        self.fill(path, style.color())
    }
}

/// Glyphs side by side.
struct Outline {
    path: PathBuilder,
    at: (f32, f32),
}

impl OutlineBuilder for Outline {
    fn move_to(&mut self, x: f32, y: f32) {
        self.path.move_to(x + self.at.0, y + self.at.1);
    }

    fn line_to(&mut self, x: f32, y: f32) {
        self.path.line_to(x + self.at.0, y + self.at.1);
    }

    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        let (dx, dy) = self.at;
        self.path.quad_to(x1 + dx, y1 + dy, x + dx, y + dy);
    }

    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        let (dx, dy) = self.at;
        self.path.cubic_to(x1 + dx, y1 + dy, x2 + dx, y2 + dy, x + dx, y + dy);
    }

    fn close(&mut self) {
        self.path.close();
    }
}
