//! The problems (RFC 9457) of calls that take pictures: of a whole request, and of one of its pictures.

use axum::http::StatusCode;

use super::remote::download_problem;
use super::{CapacityError, ImmediateError, PicturesError};
use crate::analysis::FailureReason;
use crate::api::Problem;
use crate::api::file_source::FileSource;
use crate::api::problem::detail::{self, Detail};
use crate::api::upload::error::{BodyError, FormError, UploadError};
use crate::api::upload_permits::NoPermit;
use crate::config::ByteSize;
use crate::pipeline::PictureError;

/// A problem with status 422.
fn unprocessable(detail: Detail) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
}

impl From<PicturesError> for Problem {
    fn from(error: PicturesError) -> Self {
        match error {
            PicturesError::Json(problem) => problem,
            PicturesError::OtherType => {
                Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail::unsupported_media_type_pictures())
            }
            PicturesError::Missing => unprocessable(detail::missing_picture()),
            PicturesError::TooMany { most } => unprocessable(detail::too_many_pictures(most)).with("limit", most),
            PicturesError::UnknownField { field } => {
                unprocessable(detail::unknown_field_pictures()).with("field", field)
            }
            PicturesError::Download(error) => download_problem(error),
            PicturesError::Downloads(_) => Self::internal(),
            PicturesError::BadFaceState => unprocessable(detail::bad_face_state()).with("field", "face_state"),
            PicturesError::Immediate(error) => of_immediate(error),
        }
    }
}

/// The problem of an error that calls with videos have too, with a text about pictures where theirs is about videos.
fn of_immediate(error: ImmediateError) -> Problem {
    let detail = match &error {
        ImmediateError::Deadline { limit_s } => Some(detail::deadline_pictures(*limit_s)),
        ImmediateError::Capacity(CapacityError::NoPermit(
            NoPermit::Full { wait_s } | NoPermit::Client { wait_s, .. },
        )) => Some(detail::too_busy_pictures(*wait_s)),
        ImmediateError::Capacity(CapacityError::Memory { .. }) => Some(detail::too_little_memory_pictures()),
        ImmediateError::Upload(UploadError::Body(BodyError::TooLarge { limit })) => {
            Some(detail::upload_too_large_pictures(ByteSize(*limit)))
        }
        ImmediateError::Upload(UploadError::Form(FormError::NotMultipart)) => return PicturesError::OtherType.into(),
        _ => None,
    };
    let problem = error.problem(FileSource::Frame);
    match detail {
        Some(detail) => problem.telling(detail),
        None => problem,
    }
}

/// The problem of one picture. An error of the service fails the whole request.
pub fn picture_problem(error: PictureError) -> Result<Problem, PicturesError> {
    Ok(match error {
        PictureError::Pipeline(error) => return Err(ImmediateError::from(error).into()),
        PictureError::Empty => unprocessable(detail::empty_picture()),
        PictureError::NotAPicture => unprocessable(detail::not_a_picture_format()),
        PictureError::OtherFormat { format } => {
            unprocessable(detail::picture_format_not_supported(format.clone())).with("format", format)
        }
        PictureError::Video => unprocessable(detail::not_a_picture_video()),
        PictureError::TooLarge { width, height, limit } => {
            let reason = FailureReason::PictureTooLarge { width, height, limit };
            Problem::of_failure(StatusCode::UNPROCESSABLE_ENTITY, reason).with("limit_pixels", limit)
        }
        PictureError::Damaged { reason } => {
            tracing::info!(reason, "a picture could not be decoded");
            unprocessable(detail::picture_damaged())
        }
    })
}

/// The problem of a picture whose base64 cannot be decoded.
pub fn base64_problem() -> Problem {
    unprocessable(detail::not_base64())
}
