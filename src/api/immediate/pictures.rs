//! Calls that take pictures: reads the body of a request, which is a form or JSON, and analyzes its pictures on a
//! thread of their own. The body is in memory, limited by `pictures.max_upload`. Nothing is stored.

use std::time::Duration;

use axum::extract::Request;
use axum::http::header;
use axum::http::request::Parts;
use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use multer::Multipart;

use super::remote::MayFetch;
use super::{CapacityError, ImmediateAnalyzer, ImmediateError, check_memory, clip, run, take_permit};
use crate::api::json_body;
use crate::api::limits::Client;
use crate::api::notice::{NoticeError, NoticeStatement};
use crate::api::upload;
use crate::api::upload::body::{IncomingBody, Pace};
use crate::api::upload::error::{BodyError, FormError, OptionError, UploadError};
use crate::api::upload::form::{self, UnknownFields};
use crate::api::{Api, Caller, Problem, quota};
use crate::pipeline::Cancel;
use crate::sources::{DownloadError, SetupError};

/// Why a request with pictures has no result. The text of each error goes to the log.
/// [`picture_problems`](super::picture_problems) has the answers.
#[derive(Debug, thiserror::Error)]
pub enum PicturesError {
    #[error(transparent)]
    Immediate(#[from] ImmediateError),
    #[error("the body is neither a form nor JSON")]
    OtherType,
    /// The JSON of the body cannot be read, or a member is wrong.
    #[error("{0}")]
    Json(Problem),
    #[error("the request has no picture")]
    Missing,
    #[error("the request has more than {most} pictures")]
    TooMany { most: usize },
    #[error("the form has the unknown field {field:?}")]
    UnknownField { field: String },
    #[error("{0}")]
    Download(#[from] DownloadError),
    #[error("no picture can be fetched: {0}")]
    Downloads(#[from] SetupError),
    #[error("the face_state was not made by this version, or was changed")]
    BadFaceState,
}

impl From<UploadError> for PicturesError {
    fn from(error: UploadError) -> Self {
        ImmediateError::from(error).into()
    }
}

impl From<BodyError> for PicturesError {
    fn from(error: BodyError) -> Self {
        UploadError::from(error).into()
    }
}

impl From<FormError> for PicturesError {
    fn from(error: FormError) -> Self {
        UploadError::from(error).into()
    }
}

impl From<OptionError> for PicturesError {
    fn from(error: OptionError) -> Self {
        UploadError::from(error).into()
    }
}

impl From<NoticeError> for PicturesError {
    fn from(error: NoticeError) -> Self {
        UploadError::from(error).into()
    }
}

impl From<CapacityError> for PicturesError {
    fn from(error: CapacityError) -> Self {
        ImmediateError::from(error).into()
    }
}

/// The kinds of bodies that a call takes.
#[derive(Debug, Clone, Copy)]
pub struct RequestShape {
    /// The field of the form that has a picture.
    pub field: &'static str,
    /// Maximum number of such fields.
    pub max_count: usize,
    /// The other fields, and the maximum number of bytes of each.
    pub texts: &'static [(&'static str, usize)],
    pub unknown_fields: UnknownFields,
    /// Whether a body that is no form is read as JSON whatever its content type says.
    pub json_by_default: bool,
}

/// The body of a request with pictures.
pub enum PictureBody {
    Form(FormBody),
    Json(Bytes),
}

/// A form.
#[derive(Default)]
pub struct FormBody {
    pub pictures: Vec<FormPicture>,
    /// Names and texts of the other fields.
    pub texts: Vec<(&'static str, String)>,
}

impl PictureBody {
    /// Removes the fields of a form that are about the notice, and reads them.
    fn without_notice(mut self, statement: &mut NoticeStatement) -> Result<Self, NoticeError> {
        if let Self::Form(form) = &mut self {
            for (name, text) in form.texts.extract_if(.., |(name, _)| NoticeStatement::field(name).is_some()) {
                statement.set(name, &text)?;
            }
        }
        Ok(self)
    }
}

/// A picture in a field of a form.
pub struct FormPicture {
    /// `None` if the field has no name of a file.
    pub file_name: Option<String>,
    pub bytes: Bytes,
}

/// The content of a picture in a request.
pub enum Content {
    Bytes(Bytes),
    NotBase64,
}

/// Decodes a picture in base64 or base64url, with or without `data:image/...;base64,` in front.
pub fn base64_picture(text: &str) -> Content {
    clip::decode(text).map_or(Content::NotBase64, Content::Bytes)
}

/// Reads the pictures of a request and runs `work` on them. `parse` takes the body apart and reads the statement about
/// the notice from it, if it has one. The statement in the query is given.
pub async fn with_pictures<R, T, E>(
    api: &Api,
    caller: &Caller,
    request: Request,
    shape: RequestShape,
    parse: impl FnOnce(PictureBody, &mut NoticeStatement) -> Result<R, E> + Send + 'static,
    work: impl FnOnce(&dyn ImmediateAnalyzer, R, &Cancel) -> Result<T, E> + Send + 'static,
) -> Result<T, E>
where
    R: MayFetch + Send + 'static,
    T: Send + 'static,
    E: From<PicturesError> + std::fmt::Display + Send + 'static,
{
    let settings = &api.app.settings;
    let (head, body) = request.into_parts();
    let limit = settings.pictures.max_upload.0.min(settings.http.max_upload.0);
    let incoming = IncomingBody::new(&head.headers, body, limit, Pace::of(&settings.http));
    let limit_s = settings.sync.deadline_s;
    let done = async {
        let begin = async {
            let permit = take_permit(api, &Client::of(caller, &head.extensions))?;
            check_memory(api).await?;
            let counted = quota::count(api, caller).await?;
            let body = read(api, &head, &incoming, limit, shape).await?;
            let statement = NoticeStatement::from_query(&head.uri)?;
            Ok::<_, PicturesError>((permit, counted, body, statement))
        };
        let (permit, counted, body, mut statement) = begin.await?;
        let parse = move || {
            let body = body.without_notice(&mut statement).map_err(PicturesError::from)?;
            parse(body, &mut statement).map(|request| (request, statement))
        };
        let parsed = tokio::task::spawn_blocking(parse).await;
        let (mut request, statement) = parsed.map_err(|_| PicturesError::from(ImmediateError::Thread))??;
        statement.record(&api.app, None).map_err(PicturesError::from)?;
        if let Some(picture) = request.by_address() {
            api.pictures.fetch(&api.app, picture, limit).await?;
        }
        let result = run(api, permit, move |analyzer, cancel| Ok(work(analyzer, request, cancel)));
        let result = result.await.map_err(PicturesError::from)??;
        counted.keep();
        Ok(result)
    };
    let done = tokio::time::timeout(Duration::from_secs(limit_s), done).await;
    let done = done.unwrap_or_else(|_| Err(PicturesError::from(ImmediateError::Deadline { limit_s }).into()));
    done.inspect_err(|error| upload::reject(error, &head.headers, incoming))
}

async fn read(
    api: &Api,
    head: &Parts,
    incoming: &IncomingBody,
    limit: u64,
    shape: RequestShape,
) -> Result<PictureBody, PicturesError> {
    upload::check_announced(&head.headers, limit)?;
    let kind = head.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.trim_start().to_ascii_lowercase().starts_with("multipart/form-data") {
        let limit_s = api.app.settings.http.max_upload_s;
        let form = tokio::time::timeout(Duration::from_secs(limit_s), form_body(head, incoming, shape)).await;
        return Ok(PictureBody::Form(form.unwrap_or(Err(BodyError::TooSlow { limit_s }.into()))?));
    }
    if !shape.json_by_default && !json_body::is_json(&head.headers) {
        return Err(PicturesError::OtherType);
    }
    Ok(PictureBody::Json(json_body::bytes(api, &head.headers, incoming, limit).await?))
}

async fn form_body(head: &Parts, incoming: &IncomingBody, shape: RequestShape) -> Result<FormBody, PicturesError> {
    let mut multipart = Multipart::new(incoming.clone(), form::boundary(&head.headers)?);
    let mut form_body = FormBody::default();
    let mut fields = 0;
    let most = form::MAX_FIELDS + shape.max_count;
    loop {
        incoming.between_fields();
        let Some(mut field) = multipart.next_field().await.map_err(form::unreadable)? else { return Ok(form_body) };
        incoming.in_field();
        fields += 1;
        if fields > most {
            return Err(FormError::TooManyFields { most }.into());
        }
        form::check_plain(&field)?;
        if field.name() == Some(shape.field) {
            if form_body.pictures.len() == shape.max_count {
                return Err(PicturesError::TooMany { most: shape.max_count });
            }
            let file_name = field.file_name().map(str::to_owned);
            let mut bytes = BytesMut::new();
            while let Some(chunk) = field.try_next().await.map_err(form::unreadable)? {
                bytes.extend_from_slice(&chunk);
            }
            form_body.pictures.push(FormPicture { file_name, bytes: bytes.freeze() });
            continue;
        }
        let known = shape.texts.iter().find(|(name, _)| field.name() == Some(name));
        if let Some(&(name, most)) = known {
            form_body.texts.push((name, form::text_up_to(&mut field, name, most).await?));
        } else if shape.unknown_fields == UnknownFields::Ignore {
            while field.try_next().await.map_err(form::unreadable)?.is_some() {}
        } else {
            let field = field.name().map_or_else(String::new, form::printable);
            return Err(PicturesError::UnknownField { field });
        }
    }
}
