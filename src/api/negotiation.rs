//! Content negotiation: the format and the language that a request prefers (RFC 9110, section 12.5).

use axum::extract::{Query, Request};
use axum::http::{HeaderMap, header};
use serde::Deserialize;

use crate::analysis::Language;

/// Whether `Accept` ranks HTML above JSON and above event streams. `*/*`, which programs send, does not count as HTML.
pub fn prefers_html(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let weight = |wanted: &str| {
        let entries = accept.split(',').map(|entry| entry.split_once(';').unwrap_or((entry, "")));
        let entry = entries.into_iter().find(|(kind, _)| kind.trim().eq_ignore_ascii_case(wanted));
        let q = |parameters: &str| {
            let q = parameters.split(';').find_map(|parameter| parameter.trim().strip_prefix("q="));
            q.map_or(1.0, |q| q.trim().parse().unwrap_or(0.0))
        };
        entry.map_or(0.0, |(_, parameters)| q(parameters))
    };
    weight("text/html") > f32::max(weight("application/json"), weight("text/event-stream"))
}

/// Whether `Accept` ranks CSV higher than JSON, or lists CSV and not JSON.
pub fn prefers_csv(headers: &HeaderMap) -> bool {
    let accept: Vec<&str> = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let quality = |names: &[&str]| {
        let ranges = accept.iter().flat_map(|value| value.split(',')).filter_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next()?.to_ascii_lowercase();
            let rank = parts.find_map(|part| part.strip_prefix("q=")).map_or(Some(1.0), |q| q.parse::<f32>().ok())?;
            names.contains(&name.as_str()).then_some(rank)
        });
        ranges.fold(0.0, f32::max)
    };
    let csv = quality(&["text/csv"]);
    csv > 0.0 && csv >= quality(&["application/json"])
}

#[derive(Deserialize)]
struct Parameters {
    language: Option<String>,
}

/// The language that a request asks for, by the parameter `language` or by `Accept-Language`.
pub fn language_of(request: &Request) -> Language {
    let query = Query::<Parameters>::try_from_uri(request.uri()).ok();
    let asked = query.and_then(|Query(parameters)| parameters.language);
    language(asked.as_deref(), request.headers())
}

/// The language of the query; without one, the most preferred language of `Accept-Language`; otherwise English.
pub fn language(query: Option<&str>, headers: &HeaderMap) -> Language {
    let accepted = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
    query.and_then(Language::from_tag).or_else(|| Language::accepted(accepted?)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn html(accept: &str) -> bool {
        prefers_html(&HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]))
    }

    #[test]
    fn html_is_preferred_only_if_accept_ranks_it_first() {
        assert!(html("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"));
        assert!(html("text/html"));
        assert!(!html("*/*") && !html("") && !html("application/json") && !html("text/event-stream"));
        assert!(!html("application/json, text/html;q=0.5") && !html("text/html;q=0"));
        assert!(!prefers_html(&HeaderMap::new()));
    }

    #[test]
    fn csv_is_preferred_only_if_accept_ranks_it_first() {
        let accept = |text: &'static str| HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(text))]);
        for text in ["text/csv", "Text/CSV; charset=utf-8", "text/csv, */*;q=0.1", "application/json;q=0.5, text/csv"] {
            assert!(prefers_csv(&accept(text)), "{text}");
        }
        for text in ["*/*", "application/json", "text/csv;q=0", "application/json, text/csv;q=0.9", "text/html"] {
            assert!(!prefers_csv(&accept(text)), "{text}");
        }
        assert!(!prefers_csv(&HeaderMap::new()));
    }
}
