//! Renders [`Findings`] for people: the HTML report, its charts, and mails. It computes no figures, and does not import
//! the database.

mod brand;
mod chart;
mod colour;
mod feedback;
mod logo;
mod mail;
mod notice;
mod page;
mod people;
#[cfg(test)]
mod sample;
mod sentences;
mod shares;
#[cfg(test)]
mod tests;
mod view;
pub mod webhook;
mod words;

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use crate::analysis::{Analysis, FailureReason, Findings, Language, Notice};
use crate::config::Settings;

pub use brand::Brand;

pub use mail::{MailError, Mailer, Unsendable, sendable};
pub use notice::{NoticeTexts, paragraphs};

/// An error while making a report or a mail.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    #[error("report.logo = {}: {reason}", path.display())]
    Logo { path: PathBuf, reason: String },
    #[error("report.accent = {0:?} is not a colour of the form #3457d5")]
    Accent(String),
    #[error("report: cannot render the page: {0}")]
    Page(#[from] askama::Error),
    #[error("mail.{key}: {reason}")]
    Mail { key: &'static str, reason: String },
    #[error("mail: cannot assemble the message: {0}")]
    Message(#[from] lettre::error::Error),
}

/// The facts of a report that are not in the findings.
#[derive(Debug, Clone)]
pub struct Context {
    pub token: Uuid,
    pub created_at: Timestamp,
    pub language: Language,
    /// The name of the client's file, if it is known and shown.
    pub file_name: Option<String>,
    /// The address of the result; `None` for a report made on the command line.
    pub result_url: Option<String>,
    /// The address at which the recipient of a mail withdraws the consent; `None` if no consent is needed.
    pub withdraw_url: Option<String>,
    /// The notice that the people in the video got; `None` if the sender did not state that they got one.
    pub notice: Option<Notice>,
}

/// Renders reports with the operator's branding. Cheap to clone.
#[derive(Clone)]
pub struct Reporter {
    brand: Arc<Brand>,
    style: Arc<page::Style>,
    notice: Arc<NoticeTexts>,
}

impl Reporter {
    /// Reads the branding.
    ///
    /// # Errors
    /// The logo file cannot be read, or the accent is not a colour.
    pub fn new(settings: &Settings) -> Result<Self, ReportError> {
        let brand = Brand::new(&settings.report)?;
        let (style, notice) = (page::Style::new(&brand), NoticeTexts::new(settings));
        Ok(Self { style: Arc::new(style), brand: Arc::new(brand), notice: Arc::new(notice) })
    }

    /// Returns the operator's name, colours and wording, for other pages.
    pub fn brand(&self) -> &Brand {
        &self.brand
    }

    /// Returns the notice that people get before their faces are analyzed.
    pub fn notice(&self) -> &NoticeTexts {
        &self.notice
    }

    /// Returns the hash of the style sheet of a report, for the `style-src` of its content security policy.
    pub fn style_source(&self) -> &str {
        &self.style.source
    }

    /// Renders the report as one HTML page that loads no other files.
    pub fn html(&self, findings: &Findings, context: &Context) -> Result<String, ReportError> {
        page::render(&self.brand, &self.notice, &self.style, findings, context)
    }
}

/// Writes the sentences of feedback and warnings into a result.
pub fn tell(analysis: &mut Analysis, language: Language) {
    let words = words::Words(language);
    if !analysis.summary.remarks.is_empty() {
        analysis.summary.feedback = feedback::sentences(words, analysis);
    }
    analysis.warnings = words.warnings(analysis);
}

/// Returns the sentence for the reason of a failure.
pub fn failure(reason: &FailureReason, language: Language) -> String {
    words::Words(language).failure(reason)
}

/// The content of a mail.
#[derive(Debug, Clone, Copy)]
pub enum Message<'a> {
    Report(&'a Findings),
    /// The analysis failed for good.
    Failure {
        /// `None` for failures stored by older versions.
        reason: Option<&'a FailureReason>,
        /// The sentence in English.
        detail: &'a str,
    },
    /// Asks the recipient to confirm the address at this link.
    Confirm {
        url: &'a str,
    },
}
