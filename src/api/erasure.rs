//! Deletes the videos of erased analyses.

use crate::api::problem::detail;
use crate::api::{AppState, Problem};

/// Number of tries to delete a video. After that, the sweep deletes it.
const TRIES: u32 = 3;

/// Deletes the video of an analysis that was erased.
pub async fn delete_video(app: &AppState, key: &str) -> Result<(), Problem> {
    let mut tries = 1;
    while let Err(error) = app.blobs.delete(key).await {
        tracing::error!(%error, tries, "the video of an erased analysis could not be deleted");
        if tries == TRIES {
            return Err(Problem::unavailable(detail::storage_unavailable_erased()));
        }
        tries += 1;
    }
    Ok(())
}
