//! Styles, scripts and icons of the pages, built into the program. The name of their folder is a hash of their content,
//! so browsers may cache them forever. If one file changes, the addresses of all files change, because scripts import
//! one another by relative names.

use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use rust_embed::Embed;
use sha2::{Digest, Sha256};

use crate::api::{Api, Problem};

/// Scripts of the start page. The first one runs; the others are listed so that the browser fetches them early.
/// Those of live sessions (`live_panel.js` and what it imports) are fetched when someone begins one.
pub const START: &[&str] = &[
    "app.js",
    "api.js",
    "boxes.js",
    "camera.js",
    "chart.js",
    "compare.js",
    "dom.js",
    "figures.js",
    "labels.js",
    "library.js",
    "orientation.js",
    "person.js",
    "player.js",
    "result.js",
    "runs.js",
    "shelf.js",
    "start.js",
    "take.js",
    "thumbnails.js",
    "upload.js",
    "words.js",
    "work.js",
];
/// Scripts of the page for operators.
pub const ADMIN: &[&str] = &["admin.js", "api.js", "dom.js", "words.js"];

/// Caches a file for a year.
const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

#[derive(Embed)]
#[folder = "assets"]
struct Files;

/// The files of the pages.
#[derive(Debug)]
pub struct Assets {
    version: String,
    /// The stylesheet with the colours of the operator.
    brand: String,
}

impl Assets {
    pub fn new(brand: String) -> Self {
        let mut digest = Sha256::new();
        digest.update(&brand);
        for name in Files::iter() {
            digest.update(name.as_bytes());
            digest.update(Files::get(&name).map(|file| file.metadata.sha256_hash()).unwrap_or_default());
        }
        let version = hex::encode(&digest.finalize()[..8]);
        Self { version, brand }
    }

    /// The address of the folder, without a slash at its end.
    pub fn folder(&self) -> String {
        format!("/assets/{}", self.version)
    }
}

/// `GET /assets/{version}/{name}`: a file of the pages. Another version is unknown, because it belongs to another
/// release.
pub(in crate::api) async fn handle(
    State(api): State<Api>,
    Path((version, name)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let missing = || Problem::of_status(axum::http::StatusCode::NOT_FOUND);
    if version != api.assets.version {
        return Err(missing());
    }
    let kind = match name.rsplit('.').next() {
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => return Err(missing()),
    };
    let headers = [(header::CONTENT_TYPE, HeaderValue::from_static(kind)), (header::CACHE_CONTROL, IMMUTABLE)];
    if name == "brand.css" {
        return Ok((headers, api.assets.brand.clone()).into_response());
    }
    let file = Files::get(&name).ok_or_else(missing)?;
    Ok((headers, file.data.into_owned()).into_response())
}

/// `GET /favicon.ico`: the icon for browsers that ask for it without a link, such as on a page of JSON.
pub(in crate::api) async fn favicon() -> Result<Response, Problem> {
    let icon = Files::get("favicon.ico").ok_or_else(|| Problem::of_status(axum::http::StatusCode::NOT_FOUND))?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("image/vnd.microsoft.icon")),
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=86400")),
    ];
    Ok((headers, icon.data.into_owned()).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_of_a_page_exists_and_imports_only_listed_scripts() {
        let live = ["live.js", "live_history.js", "live_panel.js", "live_view.js", "microphone.js"];
        for script in START.iter().chain(ADMIN).chain(&live) {
            let file = Files::get(script).unwrap_or_else(|| panic!("{script} is missing"));
            let text = String::from_utf8(file.data.into_owned()).unwrap();
            for import in text.split("from \"./").skip(1) {
                let name = import.split('"').next().unwrap();
                let list = if ADMIN.contains(script) && !START.contains(script) { ADMIN } else { START };
                let is_listed = list.contains(&name) || (live.contains(script) && live.contains(&name));
                assert!(is_listed, "{script} imports {name}, which its page does not name");
            }
        }
    }

    #[test]
    fn other_colours_give_another_address() {
        assert_ne!(Assets::new("a".to_owned()).folder(), Assets::new("b".to_owned()).folder());
    }
}
