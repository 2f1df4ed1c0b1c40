//! What a caller may ask of one analysis.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Language;

/// Options of one analysis, as stored with the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Options {
    /// Look at every n-th frame, from 1.
    pub sample_every: u32,
    /// Read at most this many faces a frame, the largest first.
    pub max_faces: u32,
    /// Of report and mail; `None`: as the reader's browser asks, and English where nobody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<Language>,
}
