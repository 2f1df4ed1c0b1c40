//! Converts SVG to PNG. The font is embedded, so the picture is the same on every machine.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use resvg::tiny_skia::{Color, Pixmap, PremultipliedColorU8, Transform};
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

/// Converts a chart to an opaque PNG on white, `width` pixels wide.
pub fn png(svg: &str, width: u32) -> Result<Vec<u8>, RasterError> {
    let tree = read(svg)?;
    let picture = draw(&tree, tree.size().width(), f64::from(width), Some(Color::WHITE))?;
    Ok(encode(&picture)?)
}

/// Converts an SVG to a PNG with a transparent background, `height` pixels high. Returns also its width in pixels.
pub fn svg_to_png(svg: &str, height: u32) -> Result<(Vec<u8>, u32), RasterError> {
    let tree = read(svg)?;
    let picture = draw(&tree, tree.size().height(), f64::from(height), None)?;
    Ok((picture.encode_png()?, picture.width()))
}

/// Draws at the scale at which `side` of the drawing is `pixels` long.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole pixels of a checked size")]
fn draw(tree: &Tree, side: f32, pixels: f64, background: Option<Color>) -> Result<Pixmap, RasterError> {
    let scale = (pixels / f64::from(side)) as f32;
    let size = tree.size().scale_by(scale).unwrap_or_else(|| tree.size());
    let (width, height) = (size.width().round(), size.height().round());
    let fits = width <= 4096.0 && height <= 4096.0;
    let picture = if fits { Pixmap::new(width as u32, height as u32) } else { None };
    let mut picture = picture.ok_or(RasterError::Size { width, height })?;
    if let Some(background) = background {
        picture.fill(background);
    }
    resvg::render(tree, Transform::from_scale(scale, scale), &mut picture.as_mut());
    Ok(picture)
}

/// Encodes an opaque picture with a palette of its 256 most frequent colours. Other colours, such as shades at edges,
/// become the nearest colour of the palette. The file is a third as large as with full colour.
fn encode(picture: &Pixmap) -> Result<Vec<u8>, png::EncodingError> {
    // Handles runs of one colour at once, since most of a chart is flat.
    let runs = || picture.pixels().chunk_by(|a, b| a == b).map(|run| (rgb(run[0]), run.len()));
    let mut counts: HashMap<[u8; 3], usize> = HashMap::new();
    for (colour, length) in runs() {
        *counts.entry(colour).or_default() += length;
    }
    let mut colours: Vec<([u8; 3], usize)> = counts.into_iter().collect();
    colours.sort_by_key(|&(colour, count)| (Reverse(count), colour));
    let palette: Vec<[u8; 3]> = colours.iter().take(256).map(|&(colour, _)| colour).collect();
    let nearest = |colour: [u8; 3]| {
        let distance =
            |other: &[u8; 3]| -> u32 { other.iter().zip(colour).map(|(&a, b)| u32::from(a.abs_diff(b)).pow(2)).sum() };
        (0..=u8::MAX).zip(&palette).min_by_key(|(_, other)| distance(other)).map_or(0, |(index, _)| index)
    };
    let mut indexes: HashMap<[u8; 3], u8> = palette.iter().copied().zip(0..=u8::MAX).collect();
    indexes.extend(colours.iter().skip(256).map(|&(colour, _)| (colour, nearest(colour))));
    let mut indexed = Vec::with_capacity(picture.pixels().len());
    for (colour, length) in runs() {
        indexed.extend(std::iter::repeat_n(indexes.get(&colour).copied().unwrap_or_default(), length));
    }
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, picture.width(), picture.height());
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_palette(palette.concat());
    encoder.set_filter(png::Filter::NoFilter);
    encoder.set_compression(png::Compression::High);
    encoder.write_header()?.write_image_data(&indexed)?;
    Ok(file)
}

/// Returns the colour of an opaque pixel.
fn rgb(pixel: PremultipliedColorU8) -> [u8; 3] {
    [pixel.red(), pixel.green(), pixel.blue()]
}

#[cfg(test)]
mod tests {
    use super::super::{Size, timeline};
    use super::*;
    use crate::analysis::Language;
    use crate::report::sample;
    use crate::report::words::Words;

    fn pixels(file: &[u8]) -> (u32, u32, Vec<u8>) {
        let mut decoder = png::Decoder::new(std::io::Cursor::new(file));
        decoder.set_transformations(png::Transformations::EXPAND);
        let mut reader = decoder.read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        (info.width, info.height, pixels)
    }

    #[test]
    fn pictures_of_charts_are_small_and_contain_letters() {
        for findings in [sample::two(), sample::long()] {
            let svg = timeline(Words(Language::EN), &findings, 1, Size::MAIL, "chart");
            let file = png(&svg, 1120).unwrap();
            assert!(file.len() < 60_000, "{} bytes", file.len());
            let (width, _, drawn) = pixels(&file);
            assert_eq!(width, 1120);
            let (_, _, bare) = pixels(&png(&svg.replace("<text", "<desc").replace("</text", "</desc"), 1120).unwrap());
            assert_ne!(drawn, bare, "no letters were drawn");
        }
    }

    #[test]
    fn the_same_drawing_gives_the_same_bytes() {
        let svg = timeline(Words(Language::EN), &sample::one(), 1, Size::MAIL, "chart");
        assert_eq!(png(&svg, 480).unwrap(), png(&svg, 480).unwrap());
    }

    #[test]
    fn an_invalid_drawing_is_an_error() {
        assert!(matches!(png("<html>", 100), Err(RasterError::Svg(_))));
        let flat = r#"<svg xmlns="http://www.w3.org/2000/svg" width="90000" height="1"/>"#;
        assert!(matches!(svg_to_png(flat, 40), Err(RasterError::Size { .. })));
    }
}
