//! The operator's name, colours, logo and wording.

use std::path::Path;

use super::ReportError;
use super::colour::{self, Colour};
use super::logo::Logo;
use crate::analysis::{Emotion, Language};
use crate::config::Report;
use crate::locale;

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
