//! The OpenAPI description, and the page that shows it.

use std::collections::BTreeSet;
use std::path::Path;

use reqwest::{StatusCode, header};
use serde_json::Value;
use visage::api;
use visage::config::Settings;

use crate::support::service::Service;

/// The description is compared piece by piece: one file for each path, one for each schema, one for the rest. The files
/// are in `snapshots/openapi`.
#[test]
fn the_description_reads_as_it_did() {
    let mut rest = serde_json::to_value(api::description(&Settings::defaults().unwrap())).unwrap();
    for (folder, pointer) in [("paths", "/paths"), ("schemas", "/components/schemas")] {
        let Value::Object(pieces) = rest.pointer_mut(pointer).unwrap().take() else { panic!("{pointer}") };
        let expected: BTreeSet<String> = pieces.keys().map(|name| file_name(name)).collect();
        assert_eq!(expected.len(), pieces.len(), "two pieces of {pointer} have the same file name");
        for (name, piece) in pieces {
            assert_piece(folder, &file_name(&name), &piece);
        }
        assert_eq!(snapshots_in(folder), expected, "delete the snapshots of pieces that are gone from {pointer}");
    }
    assert_piece("", "rest", &rest);
}

fn assert_piece(folder: &str, name: &str, piece: &Value) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(Path::new("snapshots/openapi").join(folder));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, serde_json::to_string_pretty(piece).unwrap()));
}

/// `/results/{token}/events` is stored as `results_token_events`.
fn file_name(piece: &str) -> String {
    let words: Vec<&str> = piece.split(['/', '{', '}']).filter(|word| !word.is_empty()).collect();
    if words.is_empty() { "root".to_owned() } else { words.join("_") }
}

fn snapshots_in(folder: &str) -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/snapshots/openapi").join(folder);
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    files.filter_map(|file| file.strip_suffix(".snap").map(str::to_owned)).collect()
}

#[test]
fn every_reference_exists_and_every_operation_id_is_unique() {
    let document: Value = serde_json::to_value(api::description(&Settings::defaults().unwrap())).unwrap();
    let mut refs = Vec::new();
    collect(&document, "$ref", &mut refs);
    assert!(refs.len() > 50);
    for reference in refs {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    let paths = document["paths"].as_object().unwrap().values();
    let calls = paths.flat_map(|path| path.as_object().unwrap().values());
    let mut ids: Vec<&str> = calls.filter_map(|call| call["operationId"].as_str()).collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((ids.len(), document["openapi"].as_str()), (count, Some("3.1.0")));
    // Links refer to operation ids as well.
    let mut named = Vec::new();
    collect(&document["paths"], "operationId", &mut named);
    assert!(named.len() > count);
    for name in named {
        assert!(ids.contains(&name.as_str()), "{name}");
    }
}

/// Collects all strings with this member name, at any depth.
fn collect(value: &Value, name: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get(name).and_then(Value::as_str).map(str::to_owned));
            members.values().for_each(|member| collect(member, name, found));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, name, found)),
        _ => {}
    }
}

#[tokio::test]
async fn the_description_requires_keys_where_the_service_does() {
    let of = |required: bool, path: &str, method: &str| {
        let mut settings = Settings::defaults().unwrap();
        settings.auth.required = required;
        let document = serde_json::to_value(api::description(&settings)).unwrap();
        document["paths"][path][method]["security"]
            .as_array()
            .map(|ways| ways.iter().any(|way| way == &serde_json::json!({})))
    };
    assert_eq!(of(false, "/analyze-video", "post"), Some(true), "a key is optional");
    assert_eq!(of(true, "/analyze-video", "post"), Some(false));
    assert_eq!(of(false, "/logs", "get"), Some(false));
    assert_eq!(of(true, "/healthz", "get"), Some(false), "an empty list: no key is needed");
}

#[tokio::test]
async fn the_description_and_its_page_load_nothing_from_other_hosts() {
    let service = Service::start(|settings| settings.auth.required = true).await;
    let document: Value = service.get("/openapi.json").await.json().await.unwrap();
    assert_eq!(document, serde_json::to_value(api::description(&service.settings)).unwrap());
    for path in ["/docs", "/docs/"] {
        let page = service.get(path).await;
        assert_eq!(page.status(), StatusCode::OK);
        let policy = page.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
        assert!(policy.contains("default-src 'none'") && !policy.contains("http"), "{policy}");
        assert!(!policy.contains("unsafe-inline"), "{policy}");
        let page = page.text().await.unwrap();
        assert!(!page.contains("//"), "the page loads something from another host: {page}");
        let named: Vec<_> = page.split('"').filter(|text| text.starts_with("/docs/")).collect();
        assert_eq!(named.len(), 6);
        for path in named {
            let file = service.get(path).await;
            assert_eq!(file.status(), StatusCode::OK, "{path}");
            assert!(file.headers()[header::CONTENT_TYPE].to_str().unwrap().starts_with("text/"), "{path}");
            assert!(!file.bytes().await.unwrap().is_empty());
        }
    }
    assert_eq!(service.get("/docs/nothing.js").await.status(), StatusCode::NOT_FOUND);
    let start = service.get("/docs/swagger-initializer.js").await.text().await.unwrap();
    assert!(start.contains("/openapi.json") && !start.contains("http"), "{start}");
}
