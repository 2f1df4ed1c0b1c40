//! What a caller may ask of one analysis.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Language;

/// Options of one analysis, as stored with the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Options {
    /// Look at every n-th frame, from 1.
    pub sample_every: u32,
    /// How the frames between are passed over.
    #[serde(default)]
    pub sampling: Sampling,
    /// Read at most this many faces a frame, the largest first.
    pub max_faces: u32,
    /// Of report and mail; `None`: as the reader's browser asks, and English where nobody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<Language>,
}

/// Which frames are looked at, of those that could be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Sampling {
    /// Every n-th frame, the very ones.
    #[default]
    Exact,
    /// Frames near those that cost less to decode, at the times that the result says.
    Fast,
}

impl Sampling {
    /// The name that requests and settings use: `exact` or `fast`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "exact" => Some(Self::Exact),
            "fast" => Some(Self::Fast),
            _ => None,
        }
    }
}
