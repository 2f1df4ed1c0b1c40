//! The calls of the services that visage takes over from, one file an endpoint, in the shapes that their clients know.
//! Errors are `{"error": "<sentence>", "code": "<code>"}`. `docs/MIGRATING.md` says what differs.

mod facial_analysis;
mod get_stats;
mod predict;
mod process_frame;
mod save_frame;
mod thumbnail;
mod upload;

use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;

/// What the form may hold; other fields are read over.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `form` reads")]
pub struct PlainVideoForm {
    /// The file: MP4, MOV, AVI, MKV or WebM.
    #[schema(value_type = String, format = Binary, content_media_type = "video/mp4")]
    video: Vec<u8>,
    /// Look at every n-th frame.
    #[schema(minimum = 1, maximum = 10_000)]
    sample_every: Option<u32>,
    /// Read at most so many faces a frame.
    #[schema(minimum = 1, maximum = 100)]
    max_faces: Option<u32>,
}

/// How a video is written in JSON.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "describes what `sync::with_clip` reads")]
pub enum Encoding {
    Base64,
}

/// How a video is packed.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "describes what `sync::with_clip` reads")]
pub enum Container {
    Mp4,
    Mov,
    M4v,
    Avi,
    Mkv,
    Webm,
}

/// How a video is packed, or in which format a thumbnail of it is wanted.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "describes what `sync::with_clip` reads")]
pub enum ThumbnailFormat {
    Mp4,
    Mov,
    M4v,
    Avi,
    Mkv,
    Webm,
    Gif,
    Webp,
}

/// A video in base64; other members are read over.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `sync::with_clip` reads")]
pub struct ClipBody {
    /// Which is also meant without it.
    encoding: Option<Encoding>,
    /// Which is not relied on.
    format: Option<Container>,
    /// Frames a second, which are taken from the video itself.
    #[schema(exclusive_minimum = 0)]
    fps: Option<f64>,
    /// The video in base64, with or without `data:video/mp4;base64,` in front.
    #[schema(content_encoding = "base64", content_media_type = "video/mp4")]
    content: String,
}

/// A video in base64, and what is wanted of it; other members are read over.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `sync::with_clip` reads")]
pub struct ThumbnailBody {
    /// Which is also meant without it.
    encoding: Option<Encoding>,
    /// The container, which is not relied on; or the format in which the thumbnail is wanted.
    format: Option<ThumbnailFormat>,
    /// Frames a second, which are taken from the video itself.
    #[schema(exclusive_minimum = 0)]
    fps: Option<f64>,
    /// The video in base64, with or without `data:video/mp4;base64,` in front.
    #[schema(content_encoding = "base64", content_media_type = "video/mp4")]
    content: String,
    /// In seconds; 3 without it.
    #[schema(minimum = 0.1, maximum = 10)]
    duration: Option<f64>,
}

pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(facial_analysis::handle))
        .routes(routes!(process_frame::handle))
        .routes(routes!(upload::handle))
        .routes(routes!(upload::recorded))
        .routes(routes!(get_stats::handle))
        .routes(routes!(predict::handle))
        .routes(routes!(thumbnail::handle))
        .routes(routes!(save_frame::handle))
        .routes(routes!(save_frame::show, save_frame::erase))
}
