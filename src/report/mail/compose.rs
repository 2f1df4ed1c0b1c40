//! Composes mails: a text part and an HTML alternative that say the same. The ribbon of expressions consists of table
//! cells, so that it is visible without pictures. The report that the mail links to has charts and method.

use askama::Template;
use lettre::message::header::{ContentType, Header, HeaderName, HeaderValue};
use lettre::message::{Attachment, Mailbox, MultiPart, SinglePart};
use uuid::Uuid;

use super::Sender;
use crate::report::brand::Brand;
use crate::report::colour::Colour;
use crate::report::logo;
use crate::report::notice::{NoticeTexts, Rights};
use crate::report::view::{self, View};
use crate::report::words::{self, Words};
use crate::report::{Context, Message, ReportError};

/// The largest number of people shown one by one, to keep mails short.
const MOST_PEOPLE: usize = 4;

/// The texts of a mail.
pub struct Draft {
    id: Uuid,
    domain: String,
    date: std::time::SystemTime,
    subject: String,
    text: String,
    html: String,
    logo: Option<Vec<u8>>,
    withdraw_url: Option<String>,
}

#[derive(Template)]
#[template(path = "mail.txt")]
struct Text<'a> {
    brand: &'a Brand,
    rights: &'a Rights<'a>,
    view: &'a View,
    withdraw_url: Option<&'a str>,
}

#[derive(Template)]
#[template(path = "mail.html")]
struct Html<'a> {
    frame: Frame<'a>,
    view: &'a View,
}

#[derive(Template)]
#[template(path = "mail_failure.txt")]
struct FailureText<'a> {
    brand: &'a Brand,
    rights: &'a Rights<'a>,
    failure: &'a FailureView,
    withdraw_url: Option<&'a str>,
}

#[derive(Template)]
#[template(path = "mail_failure.html")]
struct FailureHtml<'a> {
    frame: Frame<'a>,
    failure: &'a FailureView,
}

#[derive(Template)]
#[template(path = "mail_confirm.txt")]
struct ConfirmText<'a> {
    brand: &'a Brand,
    confirm: &'a ConfirmView<'a>,
    withdraw_url: Option<&'a str>,
}

#[derive(Template)]
#[template(path = "mail_confirm.html")]
struct ConfirmHtml<'a> {
    frame: Frame<'a>,
    confirm: &'a ConfirmView<'a>,
}

/// The header and footer of every HTML mail.
struct Frame<'a> {
    brand: &'a Brand,
    rights: &'a Rights<'a>,
    words: Words,
    title: &'a str,
    preheader: &'a str,
    logo_cid: String,
    logo_height: u32,
    accent: Colour,
    accent_ink: Colour,
    accent_text: Colour,
    /// The accent for text in dark mode.
    accent_night: Colour,
    token: String,
    withdraw_url: Option<&'a str>,
}

/// The texts of a mail about a failed analysis.
struct FailureView {
    words: Words,
    detail: String,
    /// When the video was sent, with the name of its file if that is known.
    created: String,
    result_url: Option<String>,
    token: String,
}

/// The texts of a mail that asks for a confirmation. It has no token, since its recipient may be a stranger.
struct ConfirmView<'a> {
    words: Words,
    created: String,
    url: &'a str,
}

impl<'a> Frame<'a> {
    fn new(
        (brand, rights): (&'a Brand, &'a Rights<'a>),
        title: &'a str,
        preheader: &'a str,
        id: Uuid,
        domain: &str,
        context: &'a Context,
    ) -> Self {
        Self {
            brand,
            rights,
            words: Words(context.language),
            title,
            preheader,
            logo_cid: content_id("logo", id, domain),
            logo_height: logo::HEIGHT,
            accent: brand.accent,
            accent_ink: brand.accent.ink(),
            accent_text: brand.accent.readable_on(Colour::WHITE),
            accent_night: brand.accent.readable_on(Colour::NIGHT),
            token: context.token.to_string(),
            withdraw_url: context.withdraw_url.as_deref(),
        }
    }
}

fn content_id(name: &str, id: Uuid, domain: &str) -> String {
    format!("{name}.{}@{domain}", id.simple())
}

/// Renders the texts of a mail.
pub fn draft(
    brand: &Brand,
    notice: &NoticeTexts,
    sender: &Sender,
    id: Uuid,
    message: Message<'_>,
    context: &Context,
) -> Result<Draft, ReportError> {
    let domain = sender.from.email.domain().to_owned();
    let rights = Rights::new(notice, context);
    let withdraw_url = context.withdraw_url.as_deref();
    let (subject, text, html) = match message {
        Message::Report(findings) => {
            let view = View::new(findings, context, MOST_PEOPLE);
            let frame = Frame::new((brand, &rights), &view.headline, &view.lead, id, &domain, context);
            let html = Html { frame, view: &view }.render()?;
            let text = Text { brand, rights: &rights, view: &view, withdraw_url }.render()?;
            (sender.subject(&sender.subject, "subject.done", &view.subject, context), text, html)
        }
        Message::Failure { reason, detail } => {
            let words = Words(context.language);
            let failure = FailureView {
                words,
                detail: reason.map_or_else(|| detail.to_owned(), |reason| words.failure(reason)),
                created: sent(words, context),
                result_url: view::web_address(context),
                token: context.token.to_string(),
            };
            let title = words.say("failure.title");
            let frame = Frame::new((brand, &rights), &title, &failure.detail, id, &domain, context);
            let html = FailureHtml { frame, failure: &failure }.render()?;
            let text = FailureText { brand, rights: &rights, failure: &failure, withdraw_url }.render()?;
            (sender.subject(&sender.failure_subject, "subject.failed", &title, context), text, html)
        }
        Message::Confirm { url } => {
            let words = Words(context.language);
            let confirm = ConfirmView { words, created: words.date(context.created_at), url };
            let title = words.say("confirm.title");
            let frame =
                Frame { token: String::new(), ..Frame::new((brand, &rights), &title, &title, id, &domain, context) };
            let html = ConfirmHtml { frame, confirm: &confirm }.render()?;
            let text = ConfirmText { brand, confirm: &confirm, withdraw_url }.render()?;
            (sender.subject("", "subject.confirm", &title, context), text, html)
        }
    };
    Ok(Draft {
        id,
        date: context.created_at.into(),
        subject: one_line(&subject),
        text: tidy(&text),
        html,
        logo: brand.logo.as_ref().map(|logo| logo.png.clone()),
        withdraw_url: context.withdraw_url.clone(),
        domain,
    })
}

impl Draft {
    /// Assembles the mail. The same draft gives the same bytes, because date, ids and boundaries are derived from the
    /// id and the context.
    pub fn into_mail(self, sender: &Sender, to: Mailbox) -> Result<lettre::Message, ReportError> {
        let inline = |name: &str, png: Vec<u8>| -> Result<SinglePart, ReportError> {
            let cid = content_id(name, self.id, &self.domain);
            let attachment = Attachment::new_inline_with_name(cid, format!("{name}.png"));
            Ok(attachment.body(png, content_type("image/png")?))
        };
        let boundary = |kind: &str| format!("{kind}-{}", self.id.simple());
        let mut related =
            MultiPart::related().boundary(boundary("related")).singlepart(SinglePart::html(self.html.clone()));
        if let Some(logo) = &self.logo {
            related = related.singlepart(inline("logo", logo.clone())?);
        }
        let body = MultiPart::alternative()
            .boundary(boundary("alternative"))
            .singlepart(SinglePart::plain(self.text.clone()))
            .multipart(related);
        let mut mail = lettre::Message::builder()
            .from(sender.from.clone())
            .to(to)
            .subject(self.subject.clone())
            .date(self.date)
            .message_id(Some(format!("<{}@{}>", self.id, self.domain)))
            .header(AutoSubmitted);
        if let Some(reply_to) = &sender.reply_to {
            mail = mail.reply_to(reply_to.clone());
        }
        if let Some(url) = self.withdraw_url {
            // One click needs HTTPS (RFC 8058, section 3.1).
            if url.starts_with("https://") {
                mail = mail.header(ListUnsubscribePost);
            }
            mail = mail.header(ListUnsubscribe(url));
        }
        Ok(mail.multipart(body)?)
    }
}

/// Returns when the video was sent, with the name of its file if that is known.
fn sent(words: Words, context: &Context) -> String {
    let date = words.date(context.created_at);
    match &context.file_name {
        Some(name) => words.fill("failure.named", &[("file", name), ("date", &date)]),
        None => words.fill("failure.what", &[("date", &date)]),
    }
}

fn content_type(name: &'static str) -> Result<ContentType, ReportError> {
    ContentType::parse(name).map_err(|error| ReportError::Mail { key: "content type", reason: error.to_string() })
}

/// Marks the mail as automatic, so that automatic responders do not answer it (RFC 3834).
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

/// The address at which the recipient withdraws the consent (RFC 2369, section 3.2). Programs for mail show a button
/// for it.
#[derive(Clone)]
struct ListUnsubscribe(String);

impl Header for ListUnsubscribe {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("List-Unsubscribe")
    }

    fn parse(text: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self(text.trim_matches(['<', '>']).to_owned()))
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), format!("<{}>", self.0))
    }
}

/// Says that a POST request to that address withdraws the consent (RFC 8058).
#[derive(Clone)]
struct ListUnsubscribePost;

impl Header for ListUnsubscribePost {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("List-Unsubscribe-Post")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "List-Unsubscribe=One-Click".to_owned())
    }
}

/// Puts the text of a header on one line.
fn one_line(text: &str) -> String {
    text.split(|c: char| c.is_control() || c.is_whitespace())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Removes trailing spaces and repeated empty lines.
fn tidy(text: &str) -> String {
    let mut tidy = String::with_capacity(text.len());
    let mut empty = 2;
    for line in text.lines().map(str::trim_end) {
        empty = if line.is_empty() { empty + 1 } else { 0 };
        if empty < 2 {
            tidy.push_str(line);
            tidy.push('\n');
        }
    }
    tidy.truncate(tidy.trim_end().len());
    tidy.push('\n');
    tidy
}
