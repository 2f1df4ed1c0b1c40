//! Uploads in parts: their errors, their lookup, and their view.
//!
//! With a bucket, each part goes straight to the bucket at a presigned address. With a folder, parts come to this
//! service, at an address that is as unguessable as the id of the upload and that needs no key. A client does the same
//! in both cases: it PUTs the bytes of a part to the `url` of the part, with no header of visage's.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::error::UploadError;
use crate::api::file_source::FileSource;
use crate::api::problem::detail;
use crate::api::{Api, Caller, Problem};
use crate::blob::Part;
use crate::config::ByteSize;
use crate::store::{PartedUpload, SentPart};

/// An upload in parts.
#[derive(Serialize, ToSchema)]
#[schema(as = Upload)]
pub struct UploadView {
    /// The id for `POST /v1/analyses`. Keep it secret, because it is enough to send parts.
    upload: Uuid,
    size_bytes: u64,
    /// Size of every part but the last, in bytes.
    part_size: u64,
    /// When the upload expires, unless its analysis was started.
    expires_at: Timestamp,
    parts: Vec<PartView>,
    links: UploadLinks,
}

#[derive(Serialize, ToSchema)]
#[schema(as = UploadPart)]
struct PartView {
    /// Number of the part, from 1.
    number: u32,
    /// Offset of its first byte in the video.
    offset: u64,
    size_bytes: u64,
    /// Whether the part was sent.
    done: bool,
    /// PUT the bytes of the part here, without a key. Sending a part again replaces it.
    url: String,
}

#[derive(Serialize, ToSchema)]
struct UploadLinks {
    #[serde(rename = "self")]
    this: String,
    /// POST {"upload": ...} here when all parts were sent.
    start: String,
}

/// Why an upload in parts, or one of its parts, is rejected.
#[derive(Debug, thiserror::Error)]
pub enum PartsError {
    #[error("no upload has this id")]
    Unknown,
    #[error("the number of the part is not from 1 to {parts}")]
    NoPart { parts: u32 },
    #[error("the analysis of the upload was started before")]
    Started,
    #[error("the part does not have {expected} bytes")]
    Size { expected: u64 },
    #[error("the client has {most} open uploads")]
    TooMany { most: u64, wait_s: u64 },
    #[error("a video of {size} bytes exceeds the limit of {limit} bytes")]
    TooLarge { size: u64, limit: u64 },
    #[error("{} parts are missing", .missing.len())]
    Incomplete { missing: Vec<u32> },
    #[error("another request is starting the upload")]
    Busy,
    #[error(transparent)]
    Upload(#[from] UploadError),
}

impl From<PartsError> for Problem {
    fn from(error: PartsError) -> Self {
        use PartsError as E;
        match error {
            E::Unknown => Self::new(StatusCode::NOT_FOUND, detail::unknown_upload()),
            E::NoPart { parts } => Self::new(StatusCode::NOT_FOUND, detail::unknown_part(parts)),
            E::Started => Self::new(StatusCode::CONFLICT, detail::upload_started()),
            E::Size { expected } => {
                let problem = Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail::wrong_part_size(expected));
                problem.with("expected_bytes", expected)
            }
            E::TooMany { most, wait_s } => {
                let problem = Self::new(StatusCode::TOO_MANY_REQUESTS, detail::too_many_uploads_open(most, wait_s));
                problem.with("limit", most).retry_after(wait_s)
            }
            E::TooLarge { size, limit } => {
                let detail = detail::upload_too_large_video(ByteSize(limit), ByteSize(size));
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, detail).with("limit_bytes", limit)
            }
            E::Incomplete { missing } => {
                Self::new(StatusCode::CONFLICT, detail::upload_incomplete()).with("missing", missing)
            }
            E::Busy => Self::new(StatusCode::CONFLICT, detail::upload_busy()).retry_after(2),
            E::Upload(error) => error.problem(FileSource::Upload),
        }
    }
}

impl UploadView {
    /// The state of an upload of which these parts are present.
    pub async fn new(api: &Api, upload: &PartedUpload, present: &BTreeMap<u32, Part>) -> Result<Self, Problem> {
        let (blobs, base, id) = (&api.app.blobs, api.app.settings.http.base_url(), upload.id);
        let left = upload.expires_at.duration_since(api.app.clock.now()).max(jiff::SignedDuration::from_secs(1));
        let lifetime = left.unsigned_abs();
        let mut parts = Vec::new();
        for number in 1..=upload.parts() {
            let Some(size_bytes) = upload.size_of(number) else { break };
            let url = blobs.part_address(&upload.video_key, &upload.handle, number, size_bytes, lifetime).await?;
            let url = url.unwrap_or_else(|| format!("{base}/v1/uploads/{id}/parts/{number}"));
            let offset = u64::from(number - 1) * upload.part_size;
            parts.push(PartView { number, offset, size_bytes, done: present.contains_key(&number), url });
        }
        let links = UploadLinks { this: format!("{base}/v1/uploads/{id}"), start: format!("{base}/v1/analyses") };
        let PartedUpload { size_bytes, part_size, expires_at, .. } = *upload;
        Ok(Self { upload: id, size_bytes, part_size, expires_at, parts, links })
    }
}

/// The upload with this id, if the caller may see it.
pub async fn find(api: &Api, caller: &Caller, id: Uuid) -> Result<PartedUpload, Problem> {
    let upload = api.app.store.upload(id, api.app.clock.now()).await?;
    let upload = upload.filter(|upload| caller.may_see(upload.owner.as_deref()));
    upload.ok_or_else(|| PartsError::Unknown.into())
}

/// The upload with this id, if the caller may see it and its analysis was not started.
pub async fn find_open(api: &Api, caller: &Caller, id: &str) -> Result<PartedUpload, Problem> {
    let id = Uuid::try_parse(id).map_err(|_| PartsError::Unknown)?;
    let upload = find(api, caller, id).await?;
    if upload.token.is_some() { Err(PartsError::Started.into()) } else { Ok(upload) }
}

/// The parts that were sent and have the right size.
pub async fn present(api: &Api, upload: &PartedUpload) -> Result<BTreeMap<u32, Part>, UploadError> {
    let mut parts = match api.app.blobs.parts(&upload.video_key, &upload.handle).await? {
        Some(parts) => parts,
        None => {
            let remembered = api.app.store.remembered_parts(upload.id).await?;
            remembered
                .into_iter()
                .map(|(number, SentPart { size_bytes, tag })| (number, Part { size_bytes, tag }))
                .collect()
        }
    };
    parts.retain(|number, part| upload.size_of(*number) == Some(part.size_bytes));
    Ok(parts)
}
