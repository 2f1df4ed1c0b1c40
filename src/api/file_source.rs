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
    /// The key of the file as the subject of a sentence, and the field or member that holds it.
    pub const fn subject(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Field => ("file_field", Some("video")),
            Self::Body => ("file_body", None),
            Self::Content => ("file_content", Some("content")),
            Self::Upload => ("file_upload", Some("upload")),
            Self::Frame => ("file_frame", Some("frame")),
        }
    }

    /// The key of a sentence that tells the client how to send fewer bytes.
    pub const fn smaller(self) -> &'static str {
        match self {
            Self::Field | Self::Body | Self::Content => "smaller_video",
            Self::Upload => "smaller_json",
            Self::Frame => "smaller_frame",
        }
    }

    #[cfg(test)]
    pub const ALL: [Self; 5] = [Self::Field, Self::Body, Self::Content, Self::Upload, Self::Frame];
}
