//! Small bodies: JSON objects that say what to do.

use std::time::Duration;

use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use serde::de::{DeserializeOwned, Error, Unexpected};
use serde::{Deserialize, Deserializer};
use serde_json::Number;

use super::incoming::Incoming;
use super::v1::analyze_video;
use super::v1::refusal::AnalyzeError;
use super::{Api, Problem};

/// Most bytes of a JSON body that holds no video.
const SMALL: u64 = 64 << 10;

/// Up to here every whole number is one of floating point.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// The JSON body of a request.
pub async fn json<T: DeserializeOwned>(api: &Api, request: Request) -> Result<T, Problem> {
    let (head, body) = request.into_parts();
    let incoming = Incoming::new(body, SMALL, Duration::from_secs(api.app.settings.http.idle_timeout_s));
    if !is_json(&head.headers) {
        incoming.drain(head.headers.contains_key(header::EXPECT));
        let detail = "Send a JSON object with Content-Type: application/json.";
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Err(Problem::new(status, "not_json", "Not JSON", detail));
    }
    let bytes = whole(api, &head.headers, incoming, SMALL).await?;
    serde_json::from_slice(&bytes).map_err(|error| {
        if error.is_data() {
            return wrong(&format!("{}.", first_upper(&error.to_string())));
        }
        let detail = "The body is not a JSON object. Compare it with the documentation of the call.";
        Problem::new(StatusCode::BAD_REQUEST, "bad_json", "The body cannot be read", detail)
    })
}

/// A body whose members are not what the call wants.
pub fn wrong(detail: &str) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_body", "A member of the body is wrong", detail)
}

/// All bytes of a body, held in memory; what is refused is drained.
pub async fn whole(api: &Api, headers: &HeaderMap, incoming: Incoming, limit: u64) -> Result<Bytes, AnalyzeError> {
    let limit_s = api.app.settings.http.max_upload_s;
    incoming.in_field();
    let read = async {
        analyze_video::check_announced(headers, limit)?;
        // Room for what is announced, which is within the limit, so that it is not copied as it grows.
        let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let (mut chunks, mut bytes) = (incoming.clone(), BytesMut::with_capacity(announced.unwrap_or(0)));
        while let Some(chunk) = chunks.try_next().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.freeze())
    };
    let read = tokio::time::timeout(Duration::from_secs(limit_s), read).await;
    let read = read.unwrap_or(Err(AnalyzeError::TooSlow { limit_s }));
    read.inspect_err(|error| analyze_video::refuse(error, headers, incoming))
}

/// A whole number, however it is written: `20`, `20.0` and `2e1` are one number in JSON.
pub fn whole_number<'de, D: Deserializer<'de>, T: TryFrom<u64>>(from: D) -> Result<T, D::Error> {
    let given = Number::deserialize(from)?;
    let whole = given.as_u64().or_else(|| {
        let number = given.as_f64().filter(|number| number.fract() == 0.0 && (0.0..=EXACT).contains(number))?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is whole and in range")]
        Some(number as u64)
    });
    let wrong = || D::Error::invalid_value(Unexpected::Other("a number out of range"), &"a whole number");
    whole.and_then(|whole| T::try_from(whole).ok()).ok_or_else(wrong)
}

/// As [`whole_number`], or null.
pub fn maybe_whole<'de, D: Deserializer<'de>, T: TryFrom<u64>>(from: D) -> Result<Option<T>, D::Error> {
    match Option::<Number>::deserialize(from)? {
        None => Ok(None),
        Some(given) => whole_number(given).map(Some).map_err(D::Error::custom),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

fn first_upper(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    first + letters.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_number_is_one_however_it_is_written() {
        let read = |text: &str| {
            let mut from = serde_json::Deserializer::from_str(text);
            maybe_whole::<_, u32>(&mut from).map_err(|error| error.to_string())
        };
        for text in ["20", "20.0", "2e1"] {
            assert_eq!(read(text), Ok(Some(20)), "{text}");
        }
        assert_eq!(read("null"), Ok(None));
        for text in ["20.5", "-1", "1e300", "4294967296", "\"20\"", "true"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
