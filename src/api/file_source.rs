//! The part of a request that holds its file, and its name in problems.

/// The part of a request that holds its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSource {
    /// The form field `video`.
    Field,
    /// The whole body.
    Body,
    /// The JSON member `content`, in base64.
    Content,
    /// An upload in parts, or a JSON body that refers to one.
    Upload,
    /// A picture in the form field `frame`.
    Frame,
}

impl FileSource {
    /// The file as the subject of a sentence, and the field or member that holds it.
    pub const fn subject(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Field => ("The file in the field video", Some("video")),
            Self::Body => ("The body", None),
            Self::Content => ("The video in content", Some("content")),
            Self::Upload => ("The uploaded file", Some("upload")),
            Self::Frame => ("The file in the field frame", Some("frame")),
        }
    }

    /// Tells the client how to send fewer bytes.
    pub const fn smaller(self) -> &'static str {
        match self {
            Self::Field | Self::Body | Self::Content => "Send a shorter or smaller video.",
            Self::Upload => "Send only the members that the call has.",
            Self::Frame => "Send a smaller picture.",
        }
    }
}
