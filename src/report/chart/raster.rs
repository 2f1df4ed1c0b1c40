//! Converts SVG to PNG. The font is embedded, so the picture is the same on every machine.

use std::sync::{Arc, LazyLock};

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree, fontdb};

/// An error while converting a drawing.
#[derive(Debug, thiserror::Error)]
pub enum RasterError {
    #[error("cannot read the SVG: {0}")]
    Svg(#[from] resvg::usvg::Error),
    #[error("cannot make a picture of {width} x {height} pixels")]
    Size { width: f32, height: f32 },
    #[error("cannot encode the PNG: {0}")]
    Png(#[from] png::EncodingError),
}

/// The only font: Ubuntu Light, from the crate epaint_default_fonts.
static FONTS: LazyLock<(Arc<fontdb::Database>, String)> = LazyLock::new(|| {
    let mut fonts = fontdb::Database::new();
    fonts.load_font_data(epaint_default_fonts::UBUNTU_LIGHT.to_vec());
    let family = fonts.faces().next().and_then(|face| face.families.first()).map(|(name, _)| name.clone());
    let family = family.unwrap_or_default();
    fonts.set_sans_serif_family(&family);
    (Arc::new(fonts), family)
});

fn read(svg: &str) -> Result<Tree, RasterError> {
    let (fonts, family) = &*FONTS;
    let options = Options { fontdb: fonts.clone(), font_family: family.clone(), ..Options::default() };
    Ok(Tree::from_str(svg, &options)?)
}

/// Converts an SVG to a PNG with a transparent background, `height` pixels high. Returns also its width in pixels.
pub fn svg_to_png(svg: &str, height: u32) -> Result<(Vec<u8>, u32), RasterError> {
    let tree = read(svg)?;
    let picture = draw(&tree, tree.size().height(), f64::from(height))?;
    Ok((picture.encode_png()?, picture.width()))
}

/// Draws at the scale at which `side` of the drawing is `pixels` long.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole pixels of a checked size")]
fn draw(tree: &Tree, side: f32, pixels: f64) -> Result<Pixmap, RasterError> {
    let scale = (pixels / f64::from(side)) as f32;
    let size = tree.size().scale_by(scale).unwrap_or_else(|| tree.size());
    let (width, height) = (size.width().round(), size.height().round());
    let fits = width <= 4096.0 && height <= 4096.0;
    let picture = if fits { Pixmap::new(width as u32, height as u32) } else { None };
    let mut picture = picture.ok_or(RasterError::Size { width, height })?;
    resvg::render(tree, Transform::from_scale(scale, scale), &mut picture.as_mut());
    Ok(picture)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_drawn_and_the_same_drawing_gives_the_same_bytes() {
        let svg = |text: &str| {
            format!(r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 90 30"><text y="20">{text}</text></svg>"#)
        };
        let drawn = svg_to_png(&svg("Acme"), 60).unwrap();
        assert_eq!((drawn.1, &drawn), (180, &svg_to_png(&svg("Acme"), 60).unwrap()));
        assert_ne!(drawn.0, svg_to_png(&svg(""), 60).unwrap().0, "no letters were drawn");
    }

    #[test]
    fn an_invalid_drawing_is_an_error() {
        assert!(matches!(svg_to_png("<html>", 100), Err(RasterError::Svg(_))));
        let flat = r#"<svg xmlns="http://www.w3.org/2000/svg" width="90000" height="1"/>"#;
        assert!(matches!(svg_to_png(flat, 40), Err(RasterError::Size { .. })));
    }
}
