//! Renders the report as one HTML page, without scripts and without other files.

use askama::Template;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::brand::Brand;
use super::chart::Size;
use super::logo;
use super::notice::{NoticeTexts, Rights};
use super::people::{self, Person};
use super::shares;
use super::view::View;
use super::{Context, ReportError};
use crate::analysis::Findings;

/// The largest number of people with charts of their own.
const MOST_PEOPLE: usize = 12;

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    brand: &'a Brand,
    logo_height: u32,
    style: &'a str,
    style_hash: &'a str,
    view: &'a View,
    /// SVG made by [`super::chart`], which escapes all texts.
    bars: String,
    people: Vec<PersonCharts<'a>>,
    rights: Rights<'a>,
}

/// The style sheet, the same for every report of an operator.
#[derive(Debug)]
pub struct Style {
    pub text: String,
    /// Its hash, in the form of a content security policy.
    pub source: String,
}

impl Style {
    pub fn new(brand: &Brand) -> Self {
        let text = brand.stylesheet() + include_str!("../../templates/report.css");
        let source = format!("sha256-{}", STANDARD.encode(Sha256::digest(&text)));
        Self { text, source }
    }
}

/// A person and the person's charts for wide and narrow screens.
struct PersonCharts<'a> {
    person: &'a Person,
    /// The ribbon of expressions over the time of the video.
    ribbon: String,
    wide: String,
    narrow: String,
}

pub fn render(
    brand: &Brand,
    notice: &NoticeTexts,
    style: &Style,
    findings: &Findings,
    context: &Context,
) -> Result<String, ReportError> {
    let view = View::new(findings, context, MOST_PEOPLE);
    let people = view.people.iter().map(|person| PersonCharts {
        person,
        ribbon: people::ribbon(person),
        wide: people::timeline(view.words, findings, person, Size::WIDE),
        narrow: people::timeline(view.words, findings, person, Size::NARROW),
    });
    let page = Page {
        brand,
        logo_height: logo::HEIGHT,
        style: &style.text,
        style_hash: &style.source,
        bars: shares::bars(view.words, &view.shares),
        people: people.collect(),
        rights: Rights::new(notice, context),
        view: &view,
    };
    Ok(page.render()?)
}
