//! The notice: what people are told before their faces and voices are analyzed, in each language.

use sha2::{Digest, Sha256};

use super::Context;
use super::brand::own_or;
use super::words::Words;
use crate::analysis::{Language, ShownNotice};
use crate::config::{Retention, Settings};
use crate::locale;

/// The notice of a service. A changed text, setting or retention time changes its version.
#[derive(Debug, Clone)]
pub struct NoticeTexts {
    pub version: String,
    /// Name of the person or organisation that uses the service.
    pub operator: String,
    /// Address of the operator's privacy information; empty if there is none.
    pub link: String,
    texts: Vec<(Language, String)>,
}

impl NoticeTexts {
    pub fn new(settings: &Settings) -> Self {
        let own = &settings.notice;
        let operator = if own.operator.is_empty() { &settings.report.product } else { &own.operator };
        let text = |language: Language| {
            let text = own_or(own.text_in(language), language, "notice.text");
            let purpose = own_or(own.purpose_in(language), language, "notice.purpose");
            let kept = kept(language, &settings.retention);
            locale::replace(&text, &[("operator", operator), ("purpose", &purpose), ("kept", &kept)]).trim().to_owned()
        };
        let texts: Vec<_> = Language::all().map(|language| (language, text(language))).collect();
        let version = if own.version.is_empty() { checksum(&own.link, &texts) } else { own.version.clone() };
        Self { version, operator: operator.clone(), link: own.link.clone(), texts }
    }

    /// Returns the text in a language. Paragraphs are separated by empty lines.
    pub fn text(&self, language: Language) -> &str {
        self.texts.iter().find(|(known, _)| *known == language).map_or("", |(_, text)| text)
    }

    /// Returns the record of a notice that was shown in a language.
    pub fn shown(&self, language: Language) -> ShownNotice {
        ShownNotice {
            version: self.version.clone(),
            language: language.tag().to_owned(),
            text: self.text(language).to_owned(),
        }
    }
}

/// The part of a report about the rights of the people in the video.
pub struct Rights<'a> {
    /// The entitlements, one a sentence.
    pub sentences: Vec<String>,
    /// The entitlements in short, for mails.
    pub short: String,
    pub operator: &'a str,
    /// Address of the operator's privacy information; empty if there is none.
    pub link: &'a str,
    /// The notice that the people got before the video was sent.
    pub told: Option<Told<'a>>,
}

/// The record of a notice that the people in the video got.
pub struct Told<'a> {
    /// The time and the version, as text.
    pub when: String,
    /// The text that they were shown; empty if the sender informed them in another way.
    pub paragraphs: Vec<&'a str>,
}

impl<'a> Rights<'a> {
    pub fn new(notice: &'a NoticeTexts, context: &'a Context) -> Self {
        let words = Words(context.language);
        let operator = [("operator", notice.operator.as_str())];
        let told = context.notice.as_ref().map(|given| {
            let date = words.date(given.given_at);
            let when = match &given.shown {
                None => words.fill("rights.stated", &[("date", &date)]),
                Some(shown) => words.fill("rights.shown", &[("date", &date), ("version", &shown.version)]),
            };
            Told { when, paragraphs: given.shown.iter().flat_map(|shown| paragraphs(&shown.text)).collect() }
        });
        Self {
            sentences: vec![
                words.say("rights.what"),
                words.fill("rights.ask", &operator),
                words.say("rights.complain"),
            ],
            short: words.fill("rights.short", &operator),
            operator: &notice.operator,
            link: &notice.link,
            told,
        }
    }
}

/// Splits a text at its empty lines.
pub fn paragraphs(text: &str) -> impl Iterator<Item = &str> {
    text.split("\n\n").map(str::trim).filter(|paragraph| !paragraph.is_empty())
}

/// Tells how long the video and the result are kept, according to the settings.
fn kept(language: Language, retention: &Retention) -> String {
    let video = match (retention.videos_h, retention.failed_videos_h()) {
        (0, 0) => locale::text(language, "notice.kept_at_once").into_owned(),
        (0, failed_h) => locale::count(language, "notice.kept_if_failed", failed_h, &[]),
        (videos_h, failed_h) if failed_h == videos_h => locale::count(language, "notice.kept_for", videos_h, &[]),
        (_, failed_h) => locale::count(language, "notice.kept_for_at_most", failed_h, &[]),
    };
    let result = match retention.results_d {
        0 => locale::text(language, "notice.kept_result").into_owned(),
        days => locale::count(language, "notice.kept_result_for", days, &[]),
    };
    format!("{video} {result}")
}

/// Returns 12 digits that differ for different texts.
fn checksum(link: &str, texts: &[(Language, String)]) -> String {
    let mut digest = Sha256::new();
    for part in texts.iter().flat_map(|(language, text)| [language.tag(), text]).chain([link]) {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    hex::encode(&digest.finalize()[..6])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings::defaults().unwrap()
    }

    #[test]
    fn the_built_in_notice_is_complete_in_every_language() {
        let mut settings = settings();
        settings.notice.operator = "Example Ltd & Co".to_owned();
        let notice = NoticeTexts::new(&settings);
        for language in Language::all() {
            let text = notice.text(language);
            assert!(!text.contains("%{") && text.contains("Example Ltd & Co"), "{text}");
            assert!(text.contains(&*locale::text(language, "notice.purpose")), "{text}");
            assert!(text.contains(&*locale::text(language, "notice.kept_at_once")), "{text}");
            assert!(text.contains("30") && paragraphs(text).count() >= 5, "{text}");
        }
        assert!(notice.text(Language::EN).contains("You may say no."));
    }

    #[test]
    fn the_text_of_the_operator_is_filled_in() {
        let mut settings = settings();
        settings.notice.text.insert("de".to_owned(), "%{operator} liest Gesichter: %{purpose}".to_owned());
        settings.notice.purpose.insert("de".to_owned(), "Probe".to_owned());
        let notice = NoticeTexts::new(&settings);
        assert_eq!(notice.text(Language::from_tag("de").unwrap()), "visage liest Gesichter: Probe");
        assert!(notice.text(Language::EN).contains("A computer program"));
    }

    #[test]
    fn the_version_changes_with_everything_that_people_are_told() {
        let built_in = NoticeTexts::new(&settings()).version;
        assert_eq!(built_in.len(), 12);
        let changes: [fn(&mut Settings); 6] = [
            |settings| settings.notice.operator = "Ann".to_owned(),
            |settings| settings.notice.link = "https://example.org/privacy".to_owned(),
            |settings| drop(settings.notice.purpose.insert("fr".to_owned(), "rien".to_owned())),
            |settings| settings.retention.videos_h = 2,
            |settings| settings.retention.failed_videos_h = 2,
            |settings| settings.retention.results_d = 0,
        ];
        let mut versions = vec![built_in];
        for change in changes {
            let mut settings = settings();
            change(&mut settings);
            versions.push(NoticeTexts::new(&settings).version);
        }
        let distinct: std::collections::BTreeSet<_> = versions.iter().collect();
        assert_eq!(distinct.len(), versions.len(), "{versions:?}");
        let mut settings = settings();
        settings.notice.version = "2026-11".to_owned();
        assert_eq!(NoticeTexts::new(&settings).version, "2026-11");
    }

    #[test]
    fn the_notice_tells_how_long_videos_are_kept() {
        let told = |videos_h, failed_videos_h| {
            let mut settings = settings();
            (settings.retention.videos_h, settings.retention.failed_videos_h) = (videos_h, failed_videos_h);
            kept(Language::EN, &settings.retention)
        };
        assert!(told(0, 0).starts_with("The video is erased as soon as it is analyzed. "), "{}", told(0, 0));
        assert!(told(0, 24).contains("24 hours"), "{}", told(0, 24));
        assert!(told(48, 48).starts_with("The video is erased 48 hours after its analysis."), "{}", told(48, 48));
        assert!(told(2, 72).contains("at most 72 hours"), "{}", told(2, 72));
    }
}
