//! The operator's name, colours, logo and wording.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::ReportError;
use super::chart;
use super::colour::{self, Colour};
use crate::analysis::{Emotion, Language};
use crate::config::Report;
use crate::locale;

/// Largest logo file, in bytes. The logo is part of every page and every mail.
const MAX_LOGO: u64 = 200_000;
/// Height of the logo in page and mail, in CSS pixels.
pub const LOGO_HEIGHT: u32 = 40;

/// The operator's branding of pages and mails.
#[derive(Debug, Clone)]
pub struct Brand {
    pub product: String,
    pub greeting: String,
    pub footer: String,
    pub contact: String,
    pub link: Option<Link>,
    pub accent: Colour,
    pub logo: Option<Logo>,
}

/// A link of the operator.
#[derive(Debug, Clone)]
pub struct Link {
    pub text: String,
    pub url: String,
}

/// The logo, ready for page and mail.
#[derive(Debug, Clone)]
pub struct Logo {
    /// The file as a `data:` address, for pages.
    pub data_url: String,
    /// The logo as PNG, for mails, since mail programs do not show SVG.
    pub png: Vec<u8>,
    /// Width at [`LOGO_HEIGHT`], in CSS pixels.
    pub width: u32,
}

impl Brand {
    pub fn new(settings: &Report) -> Result<Self, ReportError> {
        let accent = Colour::parse(&settings.accent);
        let link = (!settings.link_url.is_empty())
            .then(|| Link { text: settings.link_text.clone(), url: settings.link_url.clone() });
        Ok(Self {
            product: settings.product.clone(),
            greeting: settings.greeting.clone(),
            footer: settings.footer.clone(),
            contact: settings.contact.clone(),
            link,
            accent: accent.ok_or_else(|| ReportError::Accent(settings.accent.clone()))?,
            logo: if settings.logo.is_empty() { None } else { Some(Logo::read(Path::new(&settings.logo))?) },
        })
    }
}

impl Brand {
    /// Returns the first sentence of a report: the operator's, or the default one.
    pub fn greeting_in(&self, language: &Language) -> String {
        own_or(&self.greeting, *language, "report.greeting")
    }

    /// Returns the sentence at the end of every page and mail: the operator's, or the default one.
    pub fn footer_in(&self, language: &Language) -> String {
        own_or(&self.footer, *language, "report.footer")
    }

    /// Returns the colours as CSS custom properties: the accent, its variants for text on light and dark backgrounds,
    /// and one colour for each expression.
    pub fn stylesheet(&self) -> String {
        let mut css = format!(
            ":root{{--accent:{};--on-accent:{};--accent-light:{};--accent-dark:{}",
            self.accent,
            self.accent.ink(),
            self.accent.readable_on(Colour::DAY),
            self.accent.readable_on(Colour::NIGHT)
        );
        for emotion in Emotion::ALL {
            css.push_str(&format!(";--e-{emotion}:{}", colour::of_emotion(emotion)));
        }
        css.push_str("}\n");
        css
    }
}

/// Returns the operator's text, or the default text if it is empty.
pub(super) fn own_or(own: &str, language: Language, key: &str) -> String {
    if own.is_empty() { locale::text(language, key).into_owned() } else { own.to_owned() }
}

impl Logo {
    fn read(path: &Path) -> Result<Self, ReportError> {
        let refuse = |reason: String| ReportError::Logo { path: path.to_owned(), reason };
        let size = std::fs::metadata(path).map_err(|error| refuse(error.to_string()))?.len();
        if size > MAX_LOGO {
            return Err(refuse(format!("it has {size} bytes; the limit is {MAX_LOGO}")));
        }
        let file = std::fs::read(path).map_err(|error| refuse(error.to_string()))?;
        if file.starts_with(b"\x89PNG") {
            let header = png::Decoder::new(std::io::Cursor::new(&file)).read_info();
            let (width, height) = header
                .map(|reader| (reader.info().width, reader.info().height))
                .map_err(|error| refuse(error.to_string()))?;
            let shown = (u64::from(width) * u64::from(LOGO_HEIGHT)).div_ceil(u64::from(height.max(1)));
            let data_url = format!("data:image/png;base64,{}", STANDARD.encode(&file));
            return Ok(Self { data_url, png: file, width: u32::try_from(shown).unwrap_or(u32::MAX) });
        }
        let svg = std::str::from_utf8(&file).map_err(|_| refuse("it is neither PNG nor SVG".to_owned()))?;
        // Twice the displayed size, for high-resolution screens.
        let (png, width) = chart::svg_to_png(svg, 2 * LOGO_HEIGHT).map_err(|error| refuse(error.to_string()))?;
        let data_url = format!("data:image/svg+xml;base64,{}", STANDARD.encode(&file));
        Ok(Self { data_url, png, width: width.div_ceil(2) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn brand(logo: &[u8]) -> Result<Brand, ReportError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), logo).unwrap();
        let settings = Settings::defaults().unwrap().report;
        Brand::new(&Report { logo: file.path().to_str().unwrap().to_owned(), ..settings })
    }

    const SVG: &[u8] =
        br#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 30 10"><rect width="30" height="10"/></svg>"#;

    #[test]
    fn png_and_svg_logos_are_shown_at_the_same_height() {
        let from_svg = brand(SVG).unwrap().logo.unwrap();
        assert_eq!(from_svg.width, 120);
        let from_png = brand(&from_svg.png).unwrap().logo.unwrap();
        assert_eq!(from_png.width, 120);
        assert!(from_png.data_url.starts_with("data:image/png;base64,iVBOR"));
    }

    #[test]
    fn a_logo_that_cannot_be_read_is_an_error() {
        let huge = vec![b' '; 200_001];
        for wrong in [&b"\x89PNG nonsense"[..], b"<html>", b"\xff\xd8\xff", &huge] {
            assert!(matches!(brand(wrong), Err(ReportError::Logo { .. })));
        }
        let settings = Report { logo: "/nowhere.png".to_owned(), ..Settings::defaults().unwrap().report };
        assert!(Brand::new(&settings).unwrap_err().to_string().contains("/nowhere.png"));
    }
}
