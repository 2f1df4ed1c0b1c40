//! The calls of the services that visage takes over from, in the shapes that their clients expect. Each endpoint has a
//! file of its own. [`error`] has the shapes of errors. `docs/MIGRATING.md` lists the differences.

mod deepface;
mod erase_frame;
pub mod error;
mod facial_analysis;
mod frame;
mod frames;
mod get_stats;
pub mod logs;
mod predict;
mod process_frame;
mod save_frame;
mod send_video;
mod thumbnail;

use utoipa::ToSchema;

use super::endpoint::Endpoint;
use super::notice::NoticeValue;

/// The fields of the form. Other fields are ignored.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `form` reads")]
pub struct PlainVideoForm {
    /// The file: MP4, MOV, AVI, MKV or WebM.
    #[schema(value_type = String, format = Binary, content_media_type = "video/mp4")]
    video: Vec<u8>,
    /// Analyze every n-th frame.
    #[schema(minimum = 1, maximum = 10_000)]
    sample_every: Option<u32>,
    /// Analyze about this many frames a second, instead of every n-th.
    #[schema(minimum = 1, maximum = 60)]
    samples_per_second: Option<u32>,
    /// Largest number of faces to read in a frame. The largest faces are read first.
    #[schema(minimum = 1, maximum = 100)]
    max_faces: Option<u32>,
    /// `given` states that the people in the video were told that a computer reads their faces and voices.
    notice: Option<NoticeValue>,
}

/// The encoding of a video in JSON.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "describes what `immediate::with_clip` reads")]
pub enum Encoding {
    Base64,
    Base64url,
}

/// Schemas of members of [`ClipBody`] and [`ThumbnailBody`] that clients write in more than one way.
mod members {
    use utoipa::openapi::RefOr;
    use utoipa::openapi::schema::{ObjectBuilder, OneOf, OneOfBuilder, Schema, Type};

    use crate::api::immediate::{CONTAINERS, CONTENT_TYPES};
    use crate::api::json_body::{null, written_schema};

    fn one_of(names: Vec<&'static str>, description: &str) -> OneOfBuilder {
        let types = CONTENT_TYPES.map(|(content_type, _)| content_type.replace('.', "[.]")).join("|");
        let content_type =
            ObjectBuilder::new().schema_type(Type::String).pattern(Some(format!("^({types})?(;[ -~]*)?$")));
        let name = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names));
        OneOf::builder().item(name).item(content_type).item(null()).description(Some(description))
    }

    pub fn container() -> RefOr<Schema> {
        one_of(
            CONTAINERS.to_vec(),
            "The container, or its content type. It need not match: the content of the video decides.",
        )
        .into()
    }

    pub fn thumbnail_format() -> RefOr<Schema> {
        let mut names = CONTAINERS.to_vec();
        names.extend(["gif", "webp"]);
        let description = "`gif` or `webp`: the format of the thumbnail. Another value: the container of the video, or \
                           its content type, which need not match.";
        one_of(names, description).into()
    }

    pub fn fps() -> RefOr<Schema> {
        let number = ObjectBuilder::new().schema_type(Type::Number).exclusive_minimum(Some(0.0));
        let pattern = "^[1-9][0-9]{0,3}([.][0-9]{1,6})?$";
        written_schema(number, pattern, "Ignored. The frame rate is read from the video.").item(null()).into()
    }

    pub fn duration() -> RefOr<Schema> {
        let number = ObjectBuilder::new().schema_type(Type::Number).minimum(Some(0.1)).maximum(Some(10.0));
        let pattern = "^([1-9]([.][0-9]{1,6})?|0[.][1-9][0-9]{0,5}|10)$";
        written_schema(number, pattern, "Duration in seconds; 3 by default.").item(null()).into()
    }
}

/// A video in base64. Other members are ignored.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `immediate::with_clip` reads")]
pub struct ClipBody {
    /// `base64` by default. Either value accepts both alphabets.
    encoding: Option<Encoding>,
    #[schema(schema_with = members::container)]
    format: Option<String>,
    #[schema(schema_with = members::fps)]
    fps: Option<f64>,
    /// The video in base64 (standard or URL-safe), with or without `data:video/mp4;base64,` or the like in front.
    #[schema(content_encoding = "base64", content_media_type = "video/mp4")]
    content: String,
    /// `given` states that the people in the video were told that a computer reads their faces and voices.
    notice: Option<NoticeValue>,
}

/// A video in base64, and the thumbnail to make of it. Other members are ignored.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `immediate::with_clip` reads")]
pub struct ThumbnailBody {
    /// `base64` by default. Either value accepts both alphabets.
    encoding: Option<Encoding>,
    #[schema(schema_with = members::thumbnail_format)]
    format: Option<String>,
    #[schema(schema_with = members::fps)]
    fps: Option<f64>,
    /// The video in base64 (standard or URL-safe), with or without `data:video/mp4;base64,` or the like in front.
    #[schema(content_encoding = "base64", content_media_type = "video/mp4")]
    content: String,
    /// `given` states that the people in the video were told that a computer reads their faces and voices.
    notice: Option<NoticeValue>,
    #[schema(schema_with = members::duration)]
    duration: Option<f64>,
}

pub fn endpoints() -> Vec<Endpoint> {
    vec![
        facial_analysis::endpoint(),
        process_frame::endpoint(),
        send_video::upload_endpoint(),
        send_video::record_video_endpoint(),
        get_stats::endpoint(),
        predict::endpoint(),
        thumbnail::endpoint(),
        save_frame::endpoint(),
        frame::endpoint(),
        erase_frame::endpoint(),
        deepface::endpoint(),
    ]
}
