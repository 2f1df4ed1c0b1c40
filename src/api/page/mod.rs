//! HTML pages. At `GET /` and `GET /results/{token}`, a browser that asks for HTML gets a page, and a program gets
//! JSON. The page for operators is at `GET /admin`. An error is a page too if a browser asked for one.
//!
//! A page itself has no personal data, so it needs no key. Its scripts fetch the data with the key of the user.

pub mod assets;

use askama::Template;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};
use serde_json::json;

use super::negotiation::{self, prefers_html};
use super::problem::{OwnShape, Shape};
use super::view::NO_STORE;
use super::{Api, LogDetails, Problem};
use crate::analysis::{CERTAIN_UP_TO, Language};
use crate::config::{MailTransport, Retention, Storage, StorageKind};
use crate::locale;
use crate::report::{Brand, NoticeTexts, paragraphs};
use assets::Assets;

/// Routes that answer browsers with a page.
const NEGOTIATED: [&str; 2] = ["/", "/results/{token}"];

#[derive(Template)]
#[template(path = "page_start.html")]
struct Start<'a> {
    frame: Frame<'a>,
    /// The limits of files, as a sentence.
    limits: String,
    max_faces: String,
    /// The title and the text that tell how long the video is kept.
    privacy: (String, String),
    /// The notice that people get before they record or send a video.
    notice: Vec<&'a str>,
    /// Address of the operator's privacy information; empty if there is none.
    notice_link: &'a str,
    mails: bool,
    /// Whether the first mail to an address needs a confirmation.
    confirms: bool,
    /// Whether the page shows an analysis instead of the form.
    shows_analysis: bool,
}

#[derive(Template)]
#[template(path = "page_admin.html")]
struct Admin<'a> {
    frame: Frame<'a>,
}

/// The steps of the pages on which a recipient confirms a mail address or withdraws the consent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ConsentStep {
    AskToConfirm,
    Confirmed,
    AskToWithdraw,
    /// With the link, relative to the page, by which the recipient confirms again.
    Withdrawn(String),
    Invalid,
    Expired,
}

impl ConsentStep {
    const fn title(&self) -> &'static str {
        match self {
            Self::AskToConfirm => "confirm.title",
            Self::Confirmed => "confirm.done",
            Self::AskToWithdraw => "withdraw.title",
            Self::Withdrawn(_) => "withdraw.done",
            Self::Invalid => "confirm.invalid",
            Self::Expired => "confirm.expired",
        }
    }

    const fn text(&self) -> &'static str {
        match self {
            Self::AskToConfirm => "confirm.text",
            Self::Confirmed => "confirm.done_text",
            Self::AskToWithdraw => "withdraw.text",
            Self::Withdrawn(_) => "withdraw.done_text",
            Self::Invalid => "confirm.invalid_text",
            Self::Expired => "confirm.expired_text",
        }
    }

    /// The text of the button, and the address to which it posts. An empty one is the address of the page.
    fn button(&self) -> Option<(&'static str, &str)> {
        match self {
            Self::AskToConfirm => Some(("confirm.ok", "")),
            Self::AskToWithdraw => Some(("withdraw.ok", "")),
            Self::Withdrawn(link) => Some(("withdraw.again", link)),
            Self::Confirmed | Self::Invalid | Self::Expired => None,
        }
    }

    const fn status(&self) -> StatusCode {
        match self {
            Self::AskToConfirm | Self::Confirmed | Self::AskToWithdraw | Self::Withdrawn(_) => StatusCode::OK,
            Self::Invalid => StatusCode::NOT_FOUND,
            Self::Expired => StatusCode::GONE,
        }
    }
}

#[derive(Template)]
#[template(path = "page_consent.html")]
struct Consent<'a> {
    frame: Frame<'a>,
    step: &'a ConsentStep,
}

/// An error, for a browser that asks for a page.
#[derive(Template)]
#[template(path = "page_error.html")]
struct ErrorPage<'a> {
    frame: Frame<'a>,
    title: String,
    text: String,
}

/// The parts that all pages share.
struct Frame<'a> {
    brand: &'a Brand,
    language: Language,
    /// The address of the folder with styles and scripts.
    assets: String,
    /// JSON for the scripts, escaped for a `script` element.
    words: String,
    settings: String,
    scripts: &'static [&'static str],
}

impl Frame<'_> {
    fn text(&self, key: &str) -> String {
        locale::text(self.language, key).into_owned()
    }

    fn fill(&self, key: &str, name: &str, value: &str) -> String {
        locale::fill(self.language, key, &[(name, value)])
    }

    /// The other languages, for the switch: tag and name.
    fn others(&self) -> Vec<(&'static str, String)> {
        let others = Language::all().filter(|language| *language != self.language);
        others.map(|language| (language.tag(), locale::text(language, "format.name").into_owned())).collect()
    }
}

/// The middleware: answers browsers with pages, and passes other requests on.
pub(super) async fn negotiate(State(api): State<Api>, request: Request, next: Next) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return next.run(request).await;
    }
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let (has_page, is_root) = (NEGOTIATED.contains(&route), route == "/");
    let mut response = if !prefers_html(request.headers()) {
        next.run(request).await
    } else if has_page {
        start(&api, &request, !is_root).unwrap_or_else(|error| unrendered(&error))
    } else {
        let frame = frame(&api, &request, &[]);
        let response = next.run(request).await;
        return if is_problem(&response) { error_page(&api, frame, response) } else { response };
    };
    if has_page {
        response.headers_mut().append(header::VARY, HeaderValue::from_static("accept"));
    }
    response
}

/// Whether the response is an error that would be rendered as `application/problem+json`.
fn is_problem(response: &Response) -> bool {
    let extensions = response.extensions();
    let is_error = response.status().is_client_error() || response.status().is_server_error();
    match extensions.get::<Problem>() {
        Some(problem) => problem.shape() == Shape::Problem,
        None => is_error && extensions.get::<OwnShape>().is_none(),
    }
}

/// The page of an error, with the status and the headers that the problem would have.
fn error_page(api: &Api, frame: Frame<'_>, response: Response) -> Response {
    let (mut parts, _) = response.into_parts();
    let problem = parts.extensions.remove::<Problem>().unwrap_or_else(|| Problem::of_status(parts.status));
    let language = frame.language;
    let is_gone = matches!(problem.status, StatusCode::NOT_FOUND | StatusCode::GONE);
    // The texts of the page are for people, the details of problems for programmers.
    let text = match locale::find(language, &format!("page.error.{}", problem.code)) {
        Some(text) => text.into_owned(),
        None if problem.status.is_server_error() => locale::text(language, "page.error.internal").into_owned(),
        None => problem.detail(language),
    };
    let page = ErrorPage {
        title: locale::text(language, if is_gone { "error_page.gone_title" } else { "error_page.title" }).into_owned(),
        text,
        frame,
    };
    let mut page = match page.render() {
        Ok(html) => page_response(api, html),
        Err(error) => return unrendered(&error),
    };
    *page.status_mut() = problem.status;
    let headers = page.headers_mut();
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    if let Some(seconds) = problem.retry_after_s {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(challenge) = problem.challenge() {
        headers.insert(header::WWW_AUTHENTICATE, challenge);
    }
    if let Some(allow) = parts.headers.remove(header::ALLOW) {
        headers.insert(header::ALLOW, allow);
    }
    parts.extensions.insert(OwnShape);
    parts
        .extensions
        .insert(LogDetails { error_message: Some(problem.title(Language::EN).into_owned()), ..LogDetails::default() });
    *page.extensions_mut() = parts.extensions;
    page
}

fn unrendered(error: &askama::Error) -> Response {
    tracing::error!(%error, "a page could not be rendered");
    Problem::internal().into_response()
}

fn frame<'a>(api: &'a Api, request: &Request, scripts: &'static [&'static str]) -> Frame<'a> {
    let language = negotiation::language_of(request);
    let settings = &api.app.settings;
    let limits = json!({
        "max_upload": settings.http.max_upload.0,
        "max_duration_s": settings.video.max_duration_s,
        "mails": settings.mail.transport != MailTransport::None,
        "certain_up_to": CERTAIN_UP_TO,
        "sample_every": settings.video.sample_every,
        "notice_version": api.app.reporter.notice().version,
        "live": {"on": settings.live.max_sessions > 0, "needs_key": settings.auth.required},
    });
    Frame {
        brand: api.app.reporter.brand(),
        language,
        assets: api.assets.folder(),
        words: in_script(&json!(locale::for_page(language))),
        settings: in_script(&limits),
        scripts,
    }
}

/// JSON that cannot end the `script` element that contains it.
fn in_script(value: &serde_json::Value) -> String {
    value.to_string().replace('<', "\\u003c")
}

fn start(api: &Api, request: &Request, shows_analysis: bool) -> Result<Response, askama::Error> {
    let settings = &api.app.settings;
    let frame = frame(api, request, assets::START);
    let notice: &NoticeTexts = api.app.reporter.notice();
    let page = Start {
        notice: paragraphs(notice.text(frame.language)).collect(),
        notice_link: &notice.link,
        limits: locale::fill(
            frame.language,
            "start.or",
            &[("size", &settings.http.max_upload.to_string()), ("hours", &duration(settings.video.max_duration_s))],
        ),
        max_faces: settings.video.max_faces.to_string(),
        privacy: privacy(frame.language, &settings.retention),
        mails: settings.mail.transport != MailTransport::None,
        confirms: settings.mails_need_consent() && !settings.auth.required,
        shows_analysis,
        frame,
    };
    Ok(page_response(api, page.render()?))
}

/// The title and the text that tell how long a video is kept, according to the settings.
fn privacy(language: Language, retention: &Retention) -> (String, String) {
    let (always_h, failed_h) = (retention.videos_h, retention.failed_videos_h());
    let (title, text) = match (always_h, failed_h) {
        (0, 0) => ("private_title", None),
        (0, _) => ("private_title", Some("start.private_failed")),
        (_, _) => ("private_kept_title", Some("start.private_kept")),
    };
    let text = match text {
        None => locale::text(language, "start.private").into_owned(),
        Some(text) => locale::count(language, text, failed_h, &[]),
    };
    (locale::text(language, &format!("start.{title}")).into_owned(), text)
}

/// `GET /admin`: the page for operators. Its scripts use calls that need a key with the scope `admin`.
pub(super) async fn admin(State(api): State<Api>, request: Request) -> Response {
    let page = Admin { frame: frame(&api, &request, assets::ADMIN) }.render();
    page.map_or_else(|error| unrendered(&error), |page| page_response(&api, page))
}

/// The page on which a recipient confirms a mail address or withdraws the consent. It has no scripts.
pub(super) fn consent(api: &Api, request: &Request, step: &ConsentStep) -> Response {
    let page = Consent { frame: frame(api, request, &[]), step }.render();
    let mut response = page.map_or_else(|error| unrendered(&error), |page| page_response(api, page));
    if response.status().is_success() {
        *response.status_mut() = step.status();
        // Otherwise the error page of an invalid link would be replaced by a problem.
        response.extensions_mut().insert(OwnShape);
    }
    response.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
    response
}

/// The duration in hours if it is whole hours, otherwise in minutes.
fn duration(seconds: u64) -> String {
    if seconds.is_multiple_of(3600) { format!("{} h", seconds / 3600) } else { format!("{} min", seconds.div_ceil(60)) }
}

/// The response with a page and its headers.
fn page_response(api: &Api, page: String) -> Response {
    let mut response = Html(page).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, api.policy.clone());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::VARY, HeaderValue::from_static("accept-language"));
    headers.insert("permissions-policy", HeaderValue::from_static("camera=(self), microphone=(self), geolocation=()"));
    headers.insert("cross-origin-opener-policy", HeaderValue::from_static("same-origin"));
    response
}

/// The `Content-Security-Policy` of pages. A page may load its own files and the video that the user chose. If videos
/// are uploaded straight to a bucket, the page may also send to the bucket.
pub(super) fn policy(storage: &Storage) -> HeaderValue {
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; \
         connect-src 'self'{}; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
        bucket(storage)
    );
    HeaderValue::try_from(policy).unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"))
}

/// The address of the bucket, after a space. Empty if pages do not send to a bucket.
fn bucket(storage: &Storage) -> String {
    let s3 = &storage.s3;
    if storage.kind != StorageKind::S3 || !s3.direct_uploads {
        return String::new();
    }
    let endpoint = if s3.public_endpoint.is_empty() { &s3.endpoint } else { &s3.public_endpoint };
    if endpoint.is_empty() {
        return " https://*.amazonaws.com".to_owned();
    }
    let (scheme, rest) = endpoint.split_once("://").unwrap_or(("https", endpoint));
    let host = rest.split('/').next().unwrap_or_default();
    if s3.path_style { format!(" {scheme}://{host}") } else { format!(" {scheme}://{}.{host}", s3.bucket) }
}

/// The files of the pages.
pub(super) fn files(brand: &Brand) -> Assets {
    Assets::new(brand.stylesheet())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_may_send_to_the_bucket_only() {
        let mut storage = crate::config::Settings::defaults().unwrap().storage;
        assert!(policy(&storage).to_str().unwrap().contains("connect-src 'self';"));
        storage.kind = StorageKind::S3;
        storage.s3.bucket = "videos".to_owned();
        storage.s3.endpoint = "https://s3.example.org:9000/".to_owned();
        storage.s3.path_style = true;
        assert_eq!(bucket(&storage), " https://s3.example.org:9000");
        storage.s3.path_style = false;
        assert_eq!(bucket(&storage), " https://videos.s3.example.org:9000");
        storage.s3.public_endpoint = "https://media.example.org".to_owned();
        assert_eq!(bucket(&storage), " https://videos.media.example.org");
        storage.s3.direct_uploads = false;
        assert_eq!(bucket(&storage), "", "nothing is sent to the bucket");
    }

    #[test]
    fn the_page_tells_how_long_a_video_is_kept() {
        let mut retention = crate::config::Settings::defaults().unwrap().retention;
        let told = |retention: &Retention| privacy(Language::EN, retention).1;
        assert!(told(&retention).starts_with("The video is erased as soon as it is analyzed. "));
        retention.failed_videos_h = 24;
        assert!(told(&retention).contains("it is erased 24 hours later"));
        retention.videos_h = 48;
        assert!(told(&retention).contains("erased 48 hours after"));
        (retention.videos_h, retention.failed_videos_h) = (1, 0);
        assert!(told(&retention).contains("erased 1 hour after"));
    }

    #[test]
    fn text_cannot_end_its_script_element() {
        assert_eq!(in_script(&json!("</script>")), r#""\u003c/script>""#);
    }
}
