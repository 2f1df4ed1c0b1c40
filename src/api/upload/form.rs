//! The multipart form of an upload, read once from front to back: the video goes straight to where it is to lie, the
//! other fields are small.

use async_trait::async_trait;
use axum::extract::Query;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, header};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, TryStreamExt};
use multer::{Field, Multipart};
use sha2::{Digest, Sha256};

use super::body::{BodyError, Incoming};
use super::error::{FormError, OptionError, RecipientError, UploadError, VideoError};
use crate::analysis::{Detail, Language, Options, Sampling};
use crate::api::json_body;
use crate::blob::{BlobError, BlobStore, Upload};
use crate::media;
use crate::report::sendable;

/// Most bytes of a field that is no file.
const MAX_TEXT: usize = 2048;
/// Most fields of one form, whatever they are.
const MAX_FIELDS: usize = 32;
/// Most addresses that get the report.
pub const MAX_RECIPIENTS: usize = 10;
/// What `sample_every` may be, in frames.
pub const SAMPLE_EVERY: std::ops::RangeInclusive<u32> = 1..=10_000;
/// What `max_faces` may be.
pub const MAX_FACES: std::ops::RangeInclusive<u32> = 1..=100;
/// Options, as fields of a form and as parameters of a query.
const OPTIONS: [&str; 7] = ["sample_every", "sampling", "max_faces", "language", "gaze", "speech", "detail"];

/// So many bytes tell most containers.
const FIRST: usize = 64;

/// What a form held.
pub struct Form {
    /// Written, but not finished: it appears only when the rest is found to be good.
    pub video: Box<dyn Upload>,
    pub options: Options,
    pub recipients: Vec<String>,
    /// Where a program wants to hear of the end; as it came.
    pub webhook: Option<String>,
    /// SHA-256 of all fields in their order, in hexadecimal: names and contents, not how they were packed, since every
    /// client draws a new boundary for every try.
    pub digest: String,
}

/// Of the fields, as they come.
#[derive(Default)]
struct Fingerprint(Sha256);

impl Fingerprint {
    /// Each with its length, so that no two lists of fields are told alike.
    fn field(&mut self, name: &str, content: &[u8]) {
        for part in [name.as_bytes(), content] {
            self.0.update((part.len() as u64).to_be_bytes());
            self.0.update(part);
        }
    }

    fn hex(self) -> String {
        hex(&self.0.finalize())
    }
}

/// In hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Where the video of a form goes.
#[async_trait]
pub trait Shelf: Send + Sync {
    /// Called once, when the first bytes look like a video.
    async fn begin(&self) -> Result<Box<dyn Upload>, BlobError>;
}

/// A place in the blob store.
pub struct Stored<'a> {
    pub blobs: &'a dyn BlobStore,
    pub key: &'a str,
}

#[async_trait]
impl Shelf for Stored<'_> {
    async fn begin(&self) -> Result<Box<dyn Upload>, BlobError> {
        self.blobs.begin(self.key).await
    }
}

/// What happens to fields that are not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// Refused by name, so that a misspelt option does not pass for a taken one.
    Refuse,
    /// Read over, as services do that clients already know. Known are the video and the options, no addresses.
    Skip,
}

/// Reads the whole form of a request, which starts from these options. Those in its address come next, and those in its
/// fields count most. After an error nothing stays of the video.
pub async fn read(
    head: &Parts,
    incoming: &Incoming,
    shelf: &dyn Shelf,
    mut options: Options,
    unknown: Unknown,
) -> Result<Form, UploadError> {
    let mut multipart = Multipart::new(incoming.clone(), boundary(&head.headers)?);
    let (mut video, mut recipients, mut webhook, mut fields) = (None, Vec::new(), None, 0);
    let mut digest = Fingerprint::default();
    let Query(parameters) =
        Query::<Vec<(String, String)>>::try_from_uri(&head.uri).map_err(|_| OptionError::BadQuery)?;
    for (name, given) in parameters {
        match OPTIONS.into_iter().find(|known| *known == name) {
            Some(name) => {
                set(&mut options, name, given.trim())?;
                digest.field(name, given.as_bytes());
            }
            None if unknown == Unknown::Skip => {}
            None => return Err(OptionError::UnknownParameter { parameter: shown(&name) }.into()),
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
                let (upload, content) = store(field.map_err(unreadable), shelf).await?;
                digest.field("video", &content);
                video = Some(upload);
            }
            Some(name) if let Some(name) = OPTIONS.into_iter().find(|known| *known == name) => {
                let given = text(&mut field, name).await?;
                set(&mut options, name, &given)?;
                digest.field(name, given.as_bytes());
            }
            Some("webhook_url") if unknown == Unknown::Refuse => {
                let url = text(&mut field, "webhook_url").await?;
                digest.field("webhook_url", url.as_bytes());
                webhook = Some(url).filter(|url| !url.is_empty());
            }
            _ if unknown == Unknown::Skip => while chunk(&mut field).await?.is_some() {},
            Some("email") => {
                let address = text(&mut field, "email").await?;
                digest.field("email", address.as_bytes());
                add_recipient(&address, &mut recipients)?;
            }
            name => return Err(FormError::UnknownField { field: name.map_or_else(String::new, shown) }.into()),
        }
    }
    let video = video.ok_or(FormError::MissingVideo)?;
    if options.is_contradiction() {
        return Err(OptionError::Contradiction.into());
    }
    Ok(Form { video, options, recipients, webhook, digest: digest.hex() })
}

/// Refuses a field whose bytes are encoded (RFC 7578, 4.7, deprecates that): they would be stored as they came.
pub fn check_plain(field: &Field<'_>) -> Result<(), UploadError> {
    for name in [header::CONTENT_ENCODING, HeaderName::from_static("content-transfer-encoding")] {
        let value = field.headers().get(name).map(|value| value.to_str().unwrap_or("?").trim().to_ascii_lowercase());
        if value.is_some_and(|value| !matches!(value.as_str(), "" | "identity" | "binary" | "8bit" | "7bit")) {
            return Err(FormError::EncodedField { field: field.name().map_or_else(String::new, shown) }.into());
        }
    }
    Ok(())
}

pub fn boundary(headers: &HeaderMap) -> Result<String, UploadError> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    match multer::parse_boundary(given.unwrap_or_default()) {
        // RFC 2046, 5.1.1: 1 to 70 characters.
        Ok(boundary) if (1..=70).contains(&boundary.len()) => Ok(boundary),
        Ok(_) | Err(multer::Error::NoBoundary) => Err(FormError::Malformed.into()),
        Err(_) => Err(FormError::NotMultipart.into()),
    }
}

/// Streams a video to its place, once its first bytes look like one; the SHA-256 of its bytes.
pub async fn store(
    mut chunks: impl Stream<Item = Result<Bytes, UploadError>> + Unpin + Send,
    shelf: &dyn Shelf,
) -> Result<(Box<dyn Upload>, [u8; 32]), UploadError> {
    let mut head = BytesMut::new();
    // MPEG-TS alone is not known by its very first bytes.
    while head.len() < media::HEAD && (head.len() < FIRST || media::sniff(&head).is_err()) {
        let Some(chunk) = chunks.try_next().await? else { break };
        head.extend_from_slice(&chunk);
    }
    if head.is_empty() {
        return Err(VideoError::Empty.into());
    }
    media::sniff(&head).map_err(VideoError::Unusable)?;
    let mut upload = shelf.begin().await?;
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

async fn text(field: &mut Field<'_>, name: &'static str) -> Result<String, UploadError> {
    let mut bytes = BytesMut::new();
    while let Some(chunk) = chunk(field).await? {
        if bytes.len() + chunk.len() > MAX_TEXT {
            return Err(FormError::FieldTooLarge { field: name, most: MAX_TEXT }.into());
        }
        bytes.extend_from_slice(&chunk);
    }
    let text = String::from_utf8(bytes.to_vec());
    Ok(text.map_err(|_| FormError::NotText { field: name })?.trim().to_owned())
}

/// Takes one option of [`OPTIONS`] from its text.
fn set(options: &mut Options, name: &'static str, given: &str) -> Result<(), UploadError> {
    let number = |range: std::ops::RangeInclusive<u32>| {
        let number = json_body::whole(given).and_then(|number| u32::try_from(number).ok());
        let number = number.filter(|number| range.contains(number));
        number.ok_or(OptionError::OutOfRange { field: name, least: *range.start(), most: *range.end() })
    };
    let switch = || json_body::switch(given).ok_or(OptionError::UnknownChoice { field: name, choices: "on or off" });
    match name {
        "sample_every" => options.sample_every = number(SAMPLE_EVERY)?,
        "sampling" => {
            let unknown = OptionError::UnknownChoice { field: name, choices: "exact or fast" };
            options.sampling = Sampling::from_name(given).ok_or(unknown)?;
        }
        "max_faces" => options.max_faces = number(MAX_FACES)?,
        "gaze" => options.gaze = switch()?,
        "speech" => options.speech = switch()?,
        // An empty field is what a web form sends when nothing was chosen.
        "language" if given.is_empty() => options.language = None,
        "language" => options.language = Some(Language::from_tag(given).ok_or(OptionError::UnknownLanguage)?),
        _ => {
            options.detail = match given {
                "" => None,
                "expressions" => Some(Detail::Expressions),
                _ => return Err(OptionError::UnknownChoice { field: name, choices: "expressions" }.into()),
            }
        }
    }
    Ok(())
}

/// Adds an address as a mail server takes it. An empty field is what a web form sends when nobody typed one.
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

/// A field's name as it may stand in an answer.
fn shown(name: &str) -> String {
    name.chars().filter(char::is_ascii_graphic).take(40).collect()
}

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
    fn requests_are_told_apart_by_their_fields() {
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
    fn addresses_are_single_mailboxes() {
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
    fn addresses_are_counted() {
        let mut recipients: Vec<_> = (0..MAX_RECIPIENTS).map(|n| format!("{n}@b.c")).collect();
        assert!(matches!(
            add_recipient("x@b.c", &mut recipients),
            Err(UploadError::Recipient(RecipientError::TooMany { .. }))
        ));
    }

    #[test]
    fn names_of_fields_are_shown_without_what_could_do_harm() {
        assert_eq!(shown("sample_evry"), "sample_evry");
        assert_eq!(shown("a\r\nb\u{202e}c\0"), "abc");
        assert_eq!(shown(&"x".repeat(1000)).len(), 40);
    }
}
