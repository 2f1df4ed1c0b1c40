//! Samples of calls in Shell and Python, which documentation pages show beside an operation (`x-codeSamples`).
//!
//! `scripts/check-api.sh` runs all of them.

use utoipa::openapi::extensions::ExtensionsBuilder;
use utoipa::openapi::path::Operation;

/// Where the samples expect the service. Replaced by `http.public_url`.
const ADDRESS: &str = "http://127.0.0.1:8000";

/// The id of an operation, its sample in Shell, and that in Python.
type Sample = (&'static str, &'static str, &'static str);

macro_rules! samples {
    ($($operation:literal),* $(,)?) => {
        [$((
            $operation,
            include_str!(concat!("samples/", $operation, ".sh")),
            include_str!(concat!("samples/", $operation, ".py")),
        )),*]
    };
}

const SAMPLES: [Sample; 13] = samples![
    "analyze_video",
    "begin_upload",
    "compare",
    "deepface_analyze",
    "erase",
    "events",
    "list_analyses",
    "pictures",
    "report",
    "result",
    "share",
    "start_batch",
    "timeline",
];

/// Adds the samples of an operation. `public_url` is the setting `http.public_url`.
pub(super) fn add_to(operation: &mut Operation, public_url: &str) {
    let of = |(id, ..): &&Sample| operation.operation_id.as_deref() == Some(*id);
    let Some((_, shell, python)) = SAMPLES.iter().find(of) else { return };
    let address = if public_url.is_empty() { ADDRESS } else { public_url };
    let sample =
        |language: &str, text: &str| serde_json::json!({"lang": language, "source": text.replace(ADDRESS, address)});
    let both = [sample("Shell", shell), sample("Python", python)];
    let extensions = ExtensionsBuilder::new().add("x-codeSamples", serde_json::json!(both)).build();
    operation.extensions.get_or_insert_default().merge(extensions);
}
