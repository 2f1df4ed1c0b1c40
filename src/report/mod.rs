//! Views of [`Findings`] for people: the HTML report, its charts, and the mail that carries it. Renders what `analysis`
//! computed and computes nothing; knows no database.

mod brand;
mod chart;
mod colour;
mod feedback;
mod mail;
mod page;
mod people;
#[cfg(test)]
mod sample;
mod sentences;
#[cfg(test)]
mod tests;
mod view;
pub mod webhook;
mod words;

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use crate::analysis::{Analysis, FailureReason, Findings, Language};
use crate::config::Settings;

pub use brand::Brand;

pub use mail::{MailError, Mailer, Unsendable, sendable};

/// Why a report or mail could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    #[error("report.logo = {}: {reason}", path.display())]
    Logo { path: PathBuf, reason: String },
    #[error("report.accent = {0:?} is no colour such as #3457d5")]
    Accent(String),
    #[error("report: the page cannot be written: {0}")]
    Page(#[from] askama::Error),
    #[error("report: a chart cannot be drawn: {0}")]
    Chart(#[from] chart::RasterError),
    #[error("mail.{key}: {reason}")]
    Mail { key: &'static str, reason: String },
    #[error("mail: the message cannot be put together: {0}")]
    Message(#[from] lettre::error::Error),
}

/// What a report says beside the findings.
#[derive(Debug, Clone)]
pub struct Context {
    pub token: Uuid,
    pub created_at: Timestamp,
    pub language: Language,
    /// Where the result is on the web; `None` for a report made on the command line.
    pub result_url: Option<String>,
}

/// Renders reports with the operator's branding. Cheap to clone.
#[derive(Clone)]
pub struct Reporter {
    brand: Arc<Brand>,
    style: Arc<page::Style>,
}

impl Reporter {
    /// Reads the branding (a logo file that cannot be read is an error).
    pub fn new(settings: &Settings) -> Result<Self, ReportError> {
        let brand = Brand::new(&settings.report)?;
        Ok(Self { style: Arc::new(page::Style::new(&brand)), brand: Arc::new(brand) })
    }

    /// The operator's name, colours and wording, for other pages.
    pub fn brand(&self) -> &Brand {
        &self.brand
    }

    /// What the policy of a report's page has to allow as its style: the hash of the one that is in it.
    pub fn style_source(&self) -> &str {
        &self.style.source
    }

    /// The whole report as one HTML page that needs nothing else.
    pub fn html(&self, findings: &Findings, context: &Context) -> Result<String, ReportError> {
        page::render(&self.brand, &self.style, findings, context)
    }
}

/// Puts feedback and warnings of a result into sentences.
pub fn tell(analysis: &mut Analysis, language: Language) {
    let words = words::Words(language);
    if !analysis.summary.remarks.is_empty() {
        analysis.summary.feedback = feedback::sentences(words, analysis);
    }
    analysis.warnings = words.warnings(analysis);
}

/// Why an analysis failed, in a sentence.
pub fn failure(reason: &FailureReason, language: Language) -> String {
    words::Words(language).failure(reason)
}

/// What a mail tells.
#[derive(Debug, Clone, Copy)]
pub enum Message<'a> {
    Report(&'a Findings),
    /// The analysis failed for good.
    Failure {
        /// `None` for failures of older versions.
        reason: Option<&'a FailureReason>,
        /// The same in English.
        detail: &'a str,
    },
}
