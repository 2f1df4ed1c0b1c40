//! Pictures that a request gives by address. They are fetched like videos ([`crate::sources`]), into memory, and not
//! kept.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::http::StatusCode;
use bytes::{Bytes, BytesMut};

use super::PicturesError;
use crate::api::problem::detail;
use crate::api::{AppState, Problem};
use crate::config::{ByteSize, Secret};
use crate::sources::{AddressError, DownloadError, Downloads};

/// Longest time of a download. The client waits for it.
const LONGEST: Duration = Duration::from_secs(20);

/// A picture of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum GivenPicture {
    Bytes(Bytes),
    /// It has to be fetched. The address may have a signature.
    Address(Secret),
}

/// A parsed request, whose picture may have to be fetched.
pub trait MayFetch {
    fn by_address(&mut self) -> Option<&mut GivenPicture> {
        None
    }
}

/// Fetches pictures. Cheap to clone. Reads certificates at the first use.
#[derive(Clone, Default)]
pub struct PictureDownloads(Arc<OnceLock<Downloads>>);

impl PictureDownloads {
    /// Replaces the address of a picture by its bytes, at most `limit`.
    pub async fn fetch(&self, app: &AppState, picture: &mut GivenPicture, limit: u64) -> Result<(), PicturesError> {
        let GivenPicture::Address(address) = picture else { return Ok(()) };
        let downloads = match self.0.get() {
            Some(downloads) => downloads,
            None => {
                let new = Downloads::new(&app.settings)?;
                self.0.get_or_init(|| new)
            }
        };
        let mut download = downloads.limited(limit, LONGEST).open(address.expose()).await?;
        let mut bytes = BytesMut::new();
        while let Some(chunk) = download.chunk().await? {
            bytes.extend_from_slice(&chunk);
        }
        tracing::info!(host = download.host(), size_bytes = bytes.len(), "a picture was fetched");
        *picture = GivenPicture::Bytes(bytes.freeze());
        Ok(())
    }
}

/// The problem of a picture that could not be fetched.
pub fn download_problem(error: DownloadError) -> Problem {
    let mut status = StatusCode::UNPROCESSABLE_ENTITY;
    let detail = match error {
        DownloadError::Refused { reason: AddressError::Off, .. } => detail::picture_urls_off(),
        DownloadError::Refused { .. } | DownloadError::TooManyRedirects { .. } => detail::picture_address_refused(),
        DownloadError::Unreachable { host, .. } | DownloadError::TooSlow { host, .. } => {
            detail::picture_unreachable(host)
        }
        DownloadError::Status { host, status } => detail::picture_refused(host, u32::from(status)),
        DownloadError::TooLarge { limit } => {
            status = StatusCode::PAYLOAD_TOO_LARGE;
            detail::upload_too_large_pictures(ByteSize(limit))
        }
    };
    Problem::new(status, detail)
}
