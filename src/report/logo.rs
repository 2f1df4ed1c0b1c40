//! The operator's logo, as the pages and the mails need it.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Error as SvgError, Options, Tree, roxmltree};

use super::ReportError;

/// Largest logo file, in bytes. The logo is part of every page and every mail.
const MAX_BYTES: u64 = 200_000;
/// Height of the logo in page and mail, in CSS pixels.
pub const HEIGHT: u32 = 40;

/// The logo, ready for page and mail.
#[derive(Debug, Clone)]
pub struct Logo {
    /// The file as a `data:` address, for pages.
    pub data_url: String,
    /// The logo as PNG, for mails, since mail programs do not show SVG.
    pub png: Vec<u8>,
    /// Width at [`HEIGHT`], in CSS pixels.
    pub width: u32,
}

/// An error while converting an SVG to PNG.
#[derive(Debug, thiserror::Error)]
enum SvgToPngError {
    #[error("it is neither PNG nor SVG: {0}")]
    Xml(#[from] roxmltree::Error),
    #[error("it is not an SVG that can be drawn: {0}")]
    Svg(#[from] SvgError),
    #[error("it has letters as text, which need a font; convert them to paths in your drawing program")]
    Text,
    #[error("cannot make a picture of {width} x {height} pixels")]
    Size { width: f32, height: f32 },
    #[error("cannot encode the PNG: {0}")]
    Png(#[from] png::EncodingError),
}

impl Logo {
    /// Reads a PNG or SVG file.
    pub fn read(path: &Path) -> Result<Self, ReportError> {
        let refuse = |reason: String| ReportError::Logo { path: path.to_owned(), reason };
        let size = std::fs::metadata(path).map_err(|error| refuse(error.to_string()))?.len();
        if size > MAX_BYTES {
            return Err(refuse(format!("it has {size} bytes; the limit is {MAX_BYTES}")));
        }
        let file = std::fs::read(path).map_err(|error| refuse(error.to_string()))?;
        if file.starts_with(b"\x89PNG") {
            let header = png::Decoder::new(std::io::Cursor::new(&file)).read_info();
            let (width, height) = header
                .map(|reader| (reader.info().width, reader.info().height))
                .map_err(|error| refuse(error.to_string()))?;
            let shown = (u64::from(width) * u64::from(HEIGHT)).div_ceil(u64::from(height.max(1)));
            let data_url = format!("data:image/png;base64,{}", STANDARD.encode(&file));
            return Ok(Self { data_url, png: file, width: u32::try_from(shown).unwrap_or(u32::MAX) });
        }
        let svg = std::str::from_utf8(&file).map_err(|_| refuse("it is neither PNG nor SVG".to_owned()))?;
        // Twice the displayed size, for high-resolution screens.
        let (png, width) = svg_to_png(svg, 2 * HEIGHT).map_err(|error| refuse(error.to_string()))?;
        let data_url = format!("data:image/svg+xml;base64,{}", STANDARD.encode(&file));
        Ok(Self { data_url, png, width: width.div_ceil(2) })
    }
}

/// Converts an SVG to a PNG with a transparent background, `height` pixels high. Returns also its width in pixels.
///
/// Text is refused: browsers would draw it in a font of the reader's machine, so page and mail would differ.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole pixels of a checked size")]
#[expect(clippy::cast_precision_loss, reason = "heights of pictures are small")]
fn svg_to_png(svg: &str, height: u32) -> Result<(Vec<u8>, u32), SvgToPngError> {
    let document = roxmltree::Document::parse(svg)?;
    let tree = Tree::from_xmltree(&document, &Options::default())?;
    if document.descendants().any(|node| node.tag_name().name() == "text") {
        return Err(SvgToPngError::Text);
    }
    let scale = height as f32 / tree.size().height();
    let size = tree.size().scale_by(scale).unwrap_or_else(|| tree.size());
    let (width, height) = (size.width().round(), size.height().round());
    let fits = width <= 4096.0 && height <= 4096.0;
    let picture = if fits { Pixmap::new(width as u32, height as u32) } else { None };
    let mut picture = picture.ok_or(SvgToPngError::Size { width, height })?;
    resvg::render(&tree, Transform::from_scale(scale, scale), &mut picture.as_mut());
    Ok((picture.encode_png()?, picture.width()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(logo: &[u8]) -> Result<Logo, ReportError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), logo).unwrap();
        Logo::read(file.path())
    }

    fn svg(attributes: &str, content: &str) -> String {
        format!(r#"<svg xmlns="http://www.w3.org/2000/svg" {attributes}>{content}</svg>"#)
    }

    #[test]
    fn png_and_svg_logos_are_shown_at_the_same_height() {
        let from_svg = read(svg(r#"viewBox="0 0 30 10""#, r#"<rect width="30" height="10"/>"#).as_bytes()).unwrap();
        assert_eq!(from_svg.width, 120);
        let from_png = read(&from_svg.png).unwrap();
        assert_eq!(from_png.width, 120);
        assert!(from_png.data_url.starts_with("data:image/png;base64,iVBOR"));
    }

    #[test]
    fn an_svg_is_drawn_at_the_height_asked_for() {
        let (png, width) = svg_to_png(&svg(r#"viewBox="0 0 30 10""#, r#"<rect width="15" height="10"/>"#), 20).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let picture = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((picture.width, picture.height, width), (60, 20, 60));
        let alpha = |x: usize| pixels[4 * x + 3];
        assert_eq!((alpha(10), alpha(50)), (255, 0), "the left half is drawn, the right one is transparent");
    }

    #[test]
    fn a_logo_that_cannot_be_read_or_drawn_is_an_error_with_its_reason() {
        let huge = vec![b' '; 200_001];
        let text = svg(r#"viewBox="0 0 90 30""#, r#"<g><text y="20">Acme</text></g>"#);
        let flat = svg(r#"width="90000" height="1""#, "");
        let wrong = [
            (&b"\x89PNG nonsense"[..], ""),
            (b"<html>", "neither PNG nor SVG"),
            (b"<html></html>", "not an SVG"),
            (b"\xff\xd8\xff", "neither PNG nor SVG"),
            (&huge, "200001 bytes"),
            (text.as_bytes(), "convert them to paths"),
            (flat.as_bytes(), "cannot make a picture"),
        ];
        for (file, reason) in wrong {
            let error = read(file).unwrap_err();
            assert!(matches!(error, ReportError::Logo { .. }));
            assert!(error.to_string().contains(reason), "{error}");
        }
        assert!(Logo::read(Path::new("/nowhere.png")).unwrap_err().to_string().contains("/nowhere.png"));
    }
}
