//! Reads the multipart form of an upload as a stream. The video is written straight to storage; the other fields are
//! small and are kept in memory.

use async_trait::async_trait;
use axum::extract::Query;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, header};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, TryStreamExt};
use multer::{Field, Multipart};
use sha2::{Digest, Sha256};

use super::body::IncomingBody;
use super::error::{BodyError, FormError, OptionError, RecipientError, UploadError, VideoError};
use crate::analysis::{Detail, Language, Options, Sampling};
use crate::api::json_body;
use crate::api::notice::NoticeStatement;
use crate::blob::{BlobError, BlobStore, Upload};
use crate::config::Video;
use crate::media;
use crate::report::sendable;
use crate::store::Priority;

/// Maximum number of bytes of a text field.
pub const MAX_TEXT: usize = 2048;
/// Maximum number of characters of the name of a file.
pub const MAX_FILE_NAME: usize = 120;
/// Maximum number of fields of a form.
pub const MAX_FIELDS: usize = 32;
/// Maximum number of mail addresses of a request.
pub const MAX_RECIPIENTS: usize = 10;
/// Range of `sample_every`, in frames.
pub const SAMPLE_EVERY: std::ops::RangeInclusive<u32> = 1..=10_000;
/// Range of `samples_per_second`.
pub const SAMPLES_PER_SECOND: std::ops::RangeInclusive<u32> = 1..=60;
/// Range of `max_faces`.
pub const MAX_FACES: std::ops::RangeInclusive<u32> = 1..=100;
/// Names of the options, which may be fields of the form or parameters of the query.
const OPTIONS: [&str; 8] =
    ["sample_every", "samples_per_second", "sampling", "max_faces", "language", "gaze", "speech", "detail"];

/// The field or parameter with the priority. It is not an option of the analysis.
const PRIORITY: &str = "priority";

/// The video of a form.
pub enum FormVideo {
    /// Written, but not finished. The caller finishes it if the rest of the request is valid.
    File(Box<dyn Upload>),
    /// Not yet checked.
    Address(String),
}

impl FormVideo {
    /// The file, for calls that take no address.
    pub fn file(self) -> Result<Box<dyn Upload>, UploadError> {
        match self {
            Self::File(upload) => Ok(upload),
            Self::Address(_) => Err(FormError::MissingVideo.into()),
        }
    }
}

/// The content of a form.
pub struct Form {
    pub video: FormVideo,
    pub options: Options,
    /// Not yet checked against the scopes of the caller.
    pub priority: Priority,
    /// Not yet checked against the settings.
    pub notice: NoticeStatement,
    pub recipients: Vec<String>,
    /// The address of the webhook, not yet checked.
    pub webhook: Option<String>,
    /// SHA-256 of the names and contents of all fields in their order, in hexadecimal. The multipart encoding is left
    /// out, because clients choose a new boundary for each try.
    pub content_sha256: String,
    /// The name of the file, as the client gave it.
    pub file_name: Option<String>,
}

/// The hash of the fields read so far.
#[derive(Default)]
struct Fingerprint(Sha256);

impl Fingerprint {
    /// Adds a field. The lengths are hashed too, so that different lists of fields have different hashes.
    fn field(&mut self, name: &str, content: &[u8]) {
        for part in [name.as_bytes(), content] {
            self.0.update((part.len() as u64).to_be_bytes());
            self.0.update(part);
        }
    }

    fn hex(self) -> String {
        hex::encode(self.0.finalize())
    }
}

/// Where the video of a form is written.
#[async_trait]
pub trait VideoSink: Send + Sync {
    /// Begins to write. Called once, when the first bytes were recognized as a video.
    async fn begin(&self) -> Result<Box<dyn Upload>, BlobError>;
}

/// Writes the video to the blob store, under this key.
pub struct BlobSink<'a> {
    pub blobs: &'a dyn BlobStore,
    pub key: &'a str,
}

#[async_trait]
impl VideoSink for BlobSink<'_> {
    async fn begin(&self) -> Result<Box<dyn Upload>, BlobError> {
        self.blobs.begin(self.key).await
    }
}

/// How unknown fields are handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownFields {
    /// Reject the request and name the field, so that the client notices a misspelt option.
    Reject,
    /// Ignore them, as the services do whose calls visage takes over. Of the known fields, `email`, `webhook_url`,
    /// `video_url` and `priority` are ignored too.
    Ignore,
}

/// Reads the whole form of a request. Options in the fields override those in the query, and these override `options`.
/// After an error, nothing of the video stays in storage.
pub async fn read(
    head: &Parts,
    incoming: &IncomingBody,
    sink: &dyn VideoSink,
    limits: &Video,
    mut options: Options,
    unknown: UnknownFields,
) -> Result<Form, UploadError> {
    let mut multipart = Multipart::new(incoming.clone(), boundary(&head.headers)?);
    let (mut video, mut recipients, mut webhook, mut fields) = (None, Vec::new(), None, 0);
    let (mut address, mut is_empty, mut file_name) = (None, false, None);
    let mut priority = Priority::default();
    let (mut digest, mut notice) = (Fingerprint::default(), NoticeStatement::default());
    let Query(parameters) =
        Query::<Vec<(String, String)>>::try_from_uri(&head.uri).map_err(|_| OptionError::BadQuery)?;
    for (name, given) in parameters {
        match OPTIONS.into_iter().find(|known| *known == name) {
            Some(name) => {
                set(&mut options, name, given.trim())?;
                digest.field(name, given.as_bytes());
            }
            None if let Some(name) = NoticeStatement::field(&name) => {
                notice.set(name, &given)?;
                digest.field(name, given.as_bytes());
            }
            None if unknown == UnknownFields::Ignore => {}
            None if name == PRIORITY => {
                priority = read_priority(&given)?;
                digest.field(PRIORITY, given.as_bytes());
            }
            None => return Err(OptionError::UnknownParameter { parameter: printable(&name) }.into()),
        }
    }
    loop {
        incoming.between_fields();
        let Some(mut field) = multipart.next_field().await.map_err(unreadable)? else { break };
        incoming.in_field();
        fields += 1;
        if fields > MAX_FIELDS {
            return Err(FormError::TooManyFields { most: MAX_FIELDS }.into());
        }
        check_plain(&field)?;
        match field.name().map(str::to_owned).as_deref() {
            Some("video") if video.is_some() => return Err(FormError::SeveralVideos.into()),
            Some("video") => {
                let name = field.file_name().and_then(plain_file_name);
                match store(field.map_err(unreadable), sink, limits).await {
                    Ok((upload, content)) => {
                        digest.field("video", &content);
                        (video, file_name) = (Some(upload), name);
                    }
                    // A web form sends an empty file if none was chosen. That is no error beside an address.
                    Err(UploadError::Video(VideoError::Empty)) => is_empty = true,
                    Err(error) => return Err(error),
                }
            }
            Some(name) if let Some(name) = OPTIONS.into_iter().find(|known| *known == name) => {
                let given = text(&mut field, name).await?;
                set(&mut options, name, &given)?;
                digest.field(name, given.as_bytes());
            }
            Some(name) if let Some(name) = NoticeStatement::field(name) => {
                let given = text(&mut field, name).await?;
                notice.set(name, &given)?;
                digest.field(name, given.as_bytes());
            }
            Some("webhook_url") if unknown == UnknownFields::Reject => {
                let url = text(&mut field, "webhook_url").await?;
                digest.field("webhook_url", url.as_bytes());
                webhook = Some(url).filter(|url| !url.is_empty());
            }
            Some("video_url") if unknown == UnknownFields::Reject => {
                let given = text(&mut field, "video_url").await?;
                digest.field("video_url", given.as_bytes());
                if !given.is_empty() && address.replace(given).is_some() {
                    return Err(FormError::SeveralVideos.into());
                }
            }
            _ if unknown == UnknownFields::Ignore => while chunk(&mut field).await?.is_some() {},
            Some(PRIORITY) => {
                let given = text(&mut field, PRIORITY).await?;
                priority = read_priority(&given)?;
                digest.field(PRIORITY, given.as_bytes());
            }
            Some("email") => {
                let address = text(&mut field, "email").await?;
                digest.field("email", address.as_bytes());
                add_recipient(&address, &mut recipients)?;
            }
            name => return Err(FormError::UnknownField { field: name.map_or_else(String::new, printable) }.into()),
        }
    }
    let video = match (video, address) {
        (Some(_), Some(_)) => return Err(FormError::VideoAndAddress.into()),
        (Some(upload), None) => FormVideo::File(upload),
        (None, Some(address)) => FormVideo::Address(address),
        (None, None) if is_empty => return Err(VideoError::Empty.into()),
        (None, None) => return Err(FormError::MissingVideo.into()),
    };
    if options.is_contradiction() {
        return Err(OptionError::Contradiction.into());
    }
    Ok(Form { video, options, priority, notice, recipients, webhook, content_sha256: digest.hex(), file_name })
}

/// Returns the name of a file without its folders, without control characters and marks that change the direction of
/// writing, and cut to [`MAX_FILE_NAME`] characters with its end kept. Returns `None` if nothing remains.
pub fn plain_file_name(given: &str) -> Option<String> {
    let turns =
        |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    let name = given.rsplit(['/', '\\']).next().unwrap_or_default();
    let name: String = name.chars().map(|c| if c.is_control() { ' ' } else { c }).filter(|c| !turns(*c)).collect();
    let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
    let letters: Vec<char> = name.chars().collect();
    if letters.len() <= MAX_FILE_NAME {
        return Some(name).filter(|name| !name.is_empty());
    }
    let (start, end) = (&letters[..MAX_FILE_NAME - 21], &letters[letters.len() - 20..]);
    Some(start.iter().chain(&['…']).chain(end).collect())
}

/// Rejects a field with an encoding, which RFC 7578, section 4.7, deprecates. Its bytes would be stored undecoded.
pub fn check_plain(field: &Field<'_>) -> Result<(), UploadError> {
    for name in [header::CONTENT_ENCODING, HeaderName::from_static("content-transfer-encoding")] {
        let value = field.headers().get(name).map(|value| value.to_str().unwrap_or("?").trim().to_ascii_lowercase());
        if value.is_some_and(|value| !matches!(value.as_str(), "" | "identity" | "binary" | "8bit" | "7bit")) {
            return Err(FormError::EncodedField { field: field.name().map_or_else(String::new, printable) }.into());
        }
    }
    Ok(())
}

/// The multipart boundary that the `Content-Type` names.
pub fn boundary(headers: &HeaderMap) -> Result<String, UploadError> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    match multer::parse_boundary(given.unwrap_or_default()) {
        // A boundary has 1 to 70 characters (RFC 2046, section 5.1.1).
        Ok(boundary) if (1..=70).contains(&boundary.len()) => Ok(boundary),
        Ok(_) | Err(multer::Error::NoBoundary) => Err(FormError::Malformed.into()),
        Err(_) => Err(FormError::NotMultipart.into()),
    }
}

/// Checks that the first bytes are those of a video, and then streams the video to `sink`. Returns the SHA-256 of its
/// bytes.
pub async fn store(
    mut chunks: impl Stream<Item = Result<Bytes, UploadError>> + Unpin + Send,
    sink: &dyn VideoSink,
    limits: &Video,
) -> Result<(Box<dyn Upload>, [u8; 32]), UploadError> {
    let mut head = BytesMut::new();
    while media::needs_more(&head, limits) {
        let Some(chunk) = chunks.try_next().await? else { break };
        head.extend_from_slice(&chunk);
    }
    if head.is_empty() {
        return Err(VideoError::Empty.into());
    }
    media::sniff(&head, limits).map_err(VideoError::Unusable)?;
    let mut upload = sink.begin().await?;
    let mut digest = Sha256::new();
    digest.update(&head);
    upload.write(head.freeze()).await?;
    while let Some(chunk) = chunks.try_next().await? {
        digest.update(&chunk);
        upload.write(chunk).await?;
    }
    Ok((upload, digest.finalize().into()))
}

async fn chunk(field: &mut Field<'_>) -> Result<Option<Bytes>, UploadError> {
    field.chunk().await.map_err(unreadable)
}

pub async fn text(field: &mut Field<'_>, name: &'static str) -> Result<String, UploadError> {
    text_up_to(field, name, MAX_TEXT).await
}

/// Reads a text field of at most this many bytes.
pub async fn text_up_to(field: &mut Field<'_>, name: &'static str, most: usize) -> Result<String, UploadError> {
    let mut bytes = BytesMut::new();
    while let Some(chunk) = chunk(field).await? {
        if bytes.len() + chunk.len() > most {
            return Err(FormError::FieldTooLarge { field: name, most }.into());
        }
        bytes.extend_from_slice(&chunk);
    }
    let text = String::from_utf8(bytes.to_vec());
    Ok(text.map_err(|_| FormError::NotText { field: name })?.trim().to_owned())
}

/// Parses the text of one of [`OPTIONS`].
pub fn set(options: &mut Options, name: &'static str, given: &str) -> Result<(), UploadError> {
    let number = |range: std::ops::RangeInclusive<u32>| {
        let number = json_body::whole(given).and_then(|number| u32::try_from(number).ok());
        let number = number.filter(|number| range.contains(number));
        number.ok_or(OptionError::OutOfRange { field: name, least: *range.start(), most: *range.end() })
    };
    let unknown = |choices: &[&'static str]| OptionError::UnknownChoice { field: name, choices: choices.to_vec() };
    let switch = || json_body::switch(given).ok_or_else(|| unknown(&["on", "off"]));
    match name {
        "sample_every" => options.sample_every = number(SAMPLE_EVERY)?,
        "samples_per_second" => options.samples_per_second = Some(number(SAMPLES_PER_SECOND)?),
        "sampling" => {
            options.sampling = Sampling::from_name(given).ok_or_else(|| unknown(&["exact", "fast"]))?;
        }
        "max_faces" => options.max_faces = number(MAX_FACES)?,
        "gaze" => options.gaze = switch()?,
        "speech" => options.speech = switch()?,
        // A web form sends an empty field if nothing was chosen.
        "language" if given.is_empty() => options.language = None,
        "language" => {
            let tags: Vec<_> = Language::all().map(Language::tag).collect();
            options.language = Some(Language::from_tag(given).ok_or_else(|| unknown(&tags))?);
        }
        _ => {
            options.detail = match given {
                "" => None,
                "expressions" => Some(Detail::Expressions),
                _ => return Err(unknown(&["expressions"]).into()),
            }
        }
    }
    Ok(())
}

/// A web form sends an empty field if nothing was chosen.
fn read_priority(given: &str) -> Result<Priority, OptionError> {
    let given = given.trim();
    if given.is_empty() {
        return Ok(Priority::default());
    }
    let choices = || Priority::ALL.map(Priority::name).to_vec();
    Priority::from_name(given).ok_or_else(|| OptionError::UnknownChoice { field: PRIORITY, choices: choices() })
}

/// Checks and adds a mail address. Ignores an empty one, which a web form sends if nothing was typed.
pub fn add_recipient(address: &str, recipients: &mut Vec<String>) -> Result<(), UploadError> {
    if address.is_empty() {
        return Ok(());
    }
    let address = sendable(address)?.to_string();
    if recipients.contains(&address) {
        return Ok(());
    }
    if recipients.len() == MAX_RECIPIENTS {
        return Err(RecipientError::TooMany { most: MAX_RECIPIENTS }.into());
    }
    recipients.push(address);
    Ok(())
}

/// The name of a field, shortened and without special characters, for an answer.
pub fn printable(name: &str) -> String {
    name.chars().filter(char::is_ascii_graphic).take(40).collect()
}

/// The reason why the form could not be read.
pub fn unreadable(error: multer::Error) -> UploadError {
    match error {
        multer::Error::StreamReadFailed(cause) => match cause.downcast::<BodyError>() {
            Ok(cause) => UploadError::Body(*cause),
            Err(_) => FormError::Malformed.into(),
        },
        _ => FormError::Malformed.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_are_plain_and_short() {
        let plain = |given: &str| plain_file_name(given);
        assert_eq!(plain("talk.mp4").as_deref(), Some("talk.mp4"));
        assert_eq!(plain("C:\\Users\\ann\\my  talk.mp4").as_deref(), Some("my talk.mp4"));
        assert_eq!(plain("../../etc/pass\r\nwd").as_deref(), Some("pass wd"));
        assert_eq!(plain("a\u{202e}4pm.exe").as_deref(), Some("a4pm.exe"));
        assert_eq!((plain(""), plain("a/"), plain(" \u{7} ")), (None, None, None));
        let long = plain(&format!("{}.mp4", "ä".repeat(500))).unwrap();
        assert_eq!((long.chars().count(), long.ends_with("ä.mp4")), (MAX_FILE_NAME, true));
    }

    #[test]
    fn different_fields_have_different_hashes() {
        let of = |fields: &[(&str, &str)]| {
            let mut digest = Fingerprint::default();
            for (name, content) in fields {
                digest.field(name, content.as_bytes());
            }
            digest.hex()
        };
        assert_eq!(of(&[("email", "a@b.c"), ("video", "x")]), of(&[("email", "a@b.c"), ("video", "x")]));
        let all = [
            of(&[("email", "a@b.c"), ("video", "x")]),
            of(&[("email", "a@b.cv"), ("ideo", "x")]),
            of(&[("video", "x"), ("email", "a@b.c")]),
            of(&[("email", "a@b.c")]),
            of(&[]),
        ];
        let distinct: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
    }

    #[test]
    fn only_single_mailboxes_are_accepted() {
        let mut recipients = Vec::new();
        for address in ["a@b.c", "", "a@b.c", "ann.lee+x@mail.example.org"] {
            add_recipient(address, &mut recipients).unwrap();
        }
        assert_eq!(recipients, ["a@b.c", "ann.lee+x@mail.example.org"]);
        let long = format!("{}@b.c", "a".repeat(300));
        for address in ["a", "a@", "@b", "a b@c", "Ann <a@b.c>", "a@b.c, d@e.f", "a@b.c\r\nBcc: x@y.z", &long] {
            assert!(
                matches!(
                    add_recipient(address, &mut recipients),
                    Err(UploadError::Recipient(RecipientError::BadAddress(_)))
                ),
                "{address}"
            );
        }
    }

    #[test]
    fn the_number_of_addresses_is_limited() {
        let mut recipients: Vec<_> = (0..MAX_RECIPIENTS).map(|n| format!("{n}@b.c")).collect();
        assert!(matches!(
            add_recipient("x@b.c", &mut recipients),
            Err(UploadError::Recipient(RecipientError::TooMany { .. }))
        ));
    }

    #[test]
    fn field_names_are_shortened_and_lose_special_characters() {
        assert_eq!(printable("sample_evry"), "sample_evry");
        assert_eq!(printable("a\r\nb\u{202e}c\0"), "abc");
        assert_eq!(printable(&"x".repeat(1000)).len(), 40);
    }
}
