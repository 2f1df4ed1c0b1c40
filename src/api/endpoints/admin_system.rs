//! `GET /v1/admin/system`: versions of the program and its parts, and the space that videos take.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::analysis::ModelUsed;
use crate::api::access::{Admin, RequiredKey};
use crate::api::auth::Authorized;
use crate::api::endpoint::Endpoint;
use crate::api::openapi::NATIVE;
use crate::api::view::NO_STORE;
use crate::api::{Api, Problem};
use crate::config::{Settings, StorageKind};
use crate::engine::library;

type Rule = RequiredKey<Admin>;

pub(in crate::api) fn endpoint() -> Endpoint {
    Endpoint::new::<Rule>(routes!(handle))
}

#[derive(Serialize, ToSchema)]
struct System {
    /// Version of this process. Workers may run another one.
    version: &'static str,
    database: DatabaseView,
    storage: StorageView,
    /// The libraries of this process.
    libraries: Vec<LibraryView>,
    /// The models of the analysis that was finished last. Empty if there is none.
    models: Vec<ModelUsed>,
    /// Version of the definitions of the figures of the analysis that was finished last.
    metrics_version: Option<u32>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = DatabaseVersion)]
struct DatabaseView {
    /// `SQLite` or `Postgres`.
    kind: &'static str,
    /// The number of the last migration.
    migration: i64,
}

#[derive(Serialize, ToSchema)]
#[schema(as = StorageUse)]
struct StorageView {
    /// `folder` or `s3`.
    kind: &'static str,
    /// Number of stored videos, by the database. `video_bytes` is their total size.
    videos: u64,
    video_bytes: u64,
    /// `storage.quota`. Null: none.
    quota_bytes: Option<u64>,
    /// Free bytes on the disk of the folder. Null for a bucket. `disk_bytes` is the size of that disk.
    free_bytes: Option<u64>,
    disk_bytes: Option<u64>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = LibraryVersion)]
struct LibraryView {
    name: &'static str,
    /// Null if the library cannot be used.
    version: Option<String>,
}

/// Get versions and storage
///
/// Returns the versions of this process and its parts, and the space that stored videos take.
#[utoipa::path(get, path = "/v1/admin/system", operation_id = "admin_system", tag = NATIVE,
    responses((status = 200, description = "Versions and storage", body = System)))]
pub(in crate::api) async fn handle(State(api): State<Api>, _: Authorized<Rule>) -> Result<Response, Problem> {
    let store = &api.app.store;
    let (kind, migration) = store.version().await?;
    let (videos, video_bytes) = store.video_space().await?;
    let last = store.last_analysis().await?.map(|analysis| analysis.read()).transpose()?;
    let settings = api.app.settings.clone();
    // Looking for libraries and asking a disk may block.
    let local = tokio::task::spawn_blocking(move || (libraries(&settings), disk(&settings))).await;
    let (libraries, disk) = local.map_err(|_| Problem::internal())?;
    let storage = &api.app.settings.storage;
    let system = System {
        version: env!("CARGO_PKG_VERSION"),
        database: DatabaseView { kind, migration },
        storage: StorageView {
            kind: match storage.kind {
                StorageKind::Folder => "folder",
                StorageKind::S3 => "s3",
            },
            videos,
            video_bytes,
            quota_bytes: Some(storage.quota.0).filter(|quota| *quota > 0),
            free_bytes: disk.map(|(free, _)| free),
            disk_bytes: disk.map(|(_, all)| all),
        },
        libraries,
        metrics_version: last.as_ref().map(|analysis| analysis.metrics_version),
        models: last.map(|analysis| analysis.models).unwrap_or_default(),
    };
    Ok(([(header::CACHE_CONTROL, NO_STORE)], Json(system)).into_response())
}

fn libraries(settings: &Settings) -> Vec<LibraryView> {
    let dotted = |version: u32| Some(format!("{}.{}.{}", version >> 16, version >> 8 & 0xff, version & 0xff));
    vec![
        LibraryView { name: "libavformat", version: dotted(ffmpeg_next::format::version()) },
        LibraryView { name: "libavcodec", version: dotted(ffmpeg_next::codec::version()) },
        LibraryView { name: "OpenCV", version: opencv::core::get_version_string().ok() },
        LibraryView {
            name: "ONNX Runtime",
            version: library::find(&settings.engine.library).ok().map(|library| library.version),
        },
    ]
}

/// The free and all bytes of the disk on which the folder of videos lies.
fn disk(settings: &Settings) -> Option<(u64, u64)> {
    if settings.storage.kind != StorageKind::Folder {
        return None;
    }
    let numbers = rustix::fs::statvfs(&settings.storage.folder).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(numbers.f_frsize);
    Some((bytes(numbers.f_bavail), bytes(numbers.f_blocks)))
}
