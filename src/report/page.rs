//! The report as one HTML page: no script, nothing from elsewhere.

use askama::Template;

use super::brand::{Brand, LOGO_HEIGHT};
use super::chart::Size;
use super::colour::Colour;
use super::view::{self, Person, View};
use super::{Context, ReportError};
use crate::analysis::Findings;

/// People shown with charts of their own.
const MOST_PEOPLE: usize = 12;

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    brand: &'a Brand,
    logo_height: u32,
    accent: Colour,
    accent_ink: Colour,
    accent_text: Colour,
    accent_text_dark: Colour,
    view: &'a View,
    /// SVG, made by [`super::chart`], which escapes what it is given.
    bars: String,
    people: Vec<Shown<'a>>,
}

/// A person and the drawings.
struct Shown<'a> {
    person: &'a Person,
    wide: String,
    narrow: String,
}

pub fn render(brand: &Brand, findings: &Findings, context: &Context) -> Result<String, ReportError> {
    let view = View::new(findings, context, MOST_PEOPLE);
    let people = view.people.iter().map(|person| Shown {
        person,
        wide: view::timeline(findings, person, Size::WIDE),
        narrow: view::timeline(findings, person, Size::NARROW),
    });
    let page = Page {
        brand,
        logo_height: LOGO_HEIGHT,
        accent: brand.accent,
        accent_ink: brand.accent.ink(),
        accent_text: brand.accent.readable_on(Colour::WHITE),
        accent_text_dark: brand.accent.readable_on(Colour::NIGHT),
        bars: view::bars(&view.shares),
        people: people.collect(),
        view: &view,
    };
    Ok(page.render()?)
}
