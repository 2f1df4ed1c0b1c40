//! JSON bodies: reads them, and reads numbers and switches that clients write in more than one way.

use std::ops::RangeInclusive;
use std::time::Duration;

use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use serde::de::{DeserializeOwned, Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, OneOf, OneOfBuilder, Schema, Type};

use super::file_source::FileSource;
use super::problem::detail::{self, Detail};
use super::upload;
use super::upload::body::{IncomingBody, Pace};
use super::upload::encoding::announced;
use super::upload::error::{BodyError, UploadError};
use super::{Api, Problem};

/// Maximum number of bytes of a JSON body without a video.
pub const MAX_BYTES: u64 = 64 << 10;

/// Maximum number of bytes of an error of the parser that is repeated in an answer.
const MAX_ERROR: usize = 300;

/// Up to this limit, a floating-point number represents every whole number exactly.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// Reads the JSON body of a request.
pub async fn json<T: DeserializeOwned>(api: &Api, request: Request) -> Result<T, Problem> {
    json_up_to(api, request, MAX_BYTES).await
}

/// Reads the JSON body of a request, of at most this many bytes.
pub async fn json_up_to<T: DeserializeOwned>(api: &Api, request: Request, limit: u64) -> Result<T, Problem> {
    let (head, body) = request.into_parts();
    let incoming = IncomingBody::new(&head.headers, body, limit, Pace::of(&api.app.settings.http));
    if !is_json(&head.headers) {
        incoming.drain(head.headers.contains_key(header::EXPECT));
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail::not_json()));
    }
    let bytes = bytes(api, &head.headers, &incoming, limit).await.map_err(|error| {
        upload::reject(&error, &head.headers, incoming);
        UploadError::from(error).problem(FileSource::Upload)
    })?;
    parse(&bytes)
}

/// Parses a JSON body.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(without_byte_order_mark(bytes)).map_err(|error| {
        if error.is_data() {
            let text = error.to_string();
            // The text repeats a value of a wrong type, which may be a whole file.
            if text.len() > MAX_ERROR {
                return wrong(detail::bad_body_type(error.line(), error.column()));
            }
            return wrong(detail::bad_body(first_upper(&text)));
        }
        Problem::new(StatusCode::BAD_REQUEST, detail::bad_json())
    })
}

/// The problem of a body with an invalid member.
pub fn wrong(detail: Detail) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
}

/// Reads a whole body into memory.
pub async fn bytes(api: &Api, headers: &HeaderMap, incoming: &IncomingBody, limit: u64) -> Result<Bytes, BodyError> {
    let limit_s = api.app.settings.http.max_upload_s;
    incoming.in_field();
    let read = async {
        upload::check_announced(headers, limit)?;
        // Allocates the announced size at once, which is within the limit, so that the buffer need not grow.
        let announced = announced(headers).and_then(|bytes| usize::try_from(bytes).ok());
        let (mut chunks, mut bytes) = (incoming.clone(), BytesMut::with_capacity(announced.unwrap_or(0)));
        while let Some(chunk) = chunks.try_next().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.freeze())
    };
    let read = tokio::time::timeout(Duration::from_secs(limit_s), read).await;
    read.unwrap_or(Err(BodyError::TooSlow { limit_s }))
}

/// The bytes of a JSON text without a byte order mark, which a parser may ignore (RFC 8259, section 8.1).
pub fn without_byte_order_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes)
}

/// Parses a decimal number such as `20`, `0.5` or `2e1`, with or without white space around it. Ambiguous text (`1,5`,
/// `0x10`, `1 000`) is not a number.
pub fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    let known = |byte| matches!(byte, b'0'..=b'9' | b'.' | b'+' | b'-' | b'e' | b'E');
    text.parse().ok().filter(|number: &f64| text.bytes().all(known) && number.is_finite())
}

/// Parses a whole number: `20`, `20.0` and `2e1` are the same number.
pub fn whole(text: &str) -> Option<u64> {
    text.trim().parse().ok().or_else(|| whole_part(number(text)?))
}

fn whole_part(number: f64) -> Option<u64> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is whole and in range")]
    (number.fract() == 0.0 && (0.0..=MAX_EXACT).contains(&number)).then_some(number as u64)
}

/// A number that is written as a JSON number or as text.
enum Written {
    Whole(u64),
    Fraction(f64),
}

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Written;

            fn expecting(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                to.write_str("a number")
            }

            fn visit_u64<E: Error>(self, given: u64) -> Result<Written, E> {
                Ok(Written::Whole(given))
            }

            fn visit_i64<E: Error>(self, given: i64) -> Result<Written, E> {
                #[expect(clippy::cast_precision_loss, reason = "it is negative, which no call accepts")]
                Ok(Written::Fraction(given as f64))
            }

            fn visit_f64<E: Error>(self, given: f64) -> Result<Written, E> {
                Ok(Written::Fraction(given))
            }

            fn visit_str<E: Error>(self, given: &str) -> Result<Written, E> {
                let whole = given.trim().parse().ok().map(Written::Whole);
                let written = whole.or_else(|| number(given).map(Written::Fraction));
                written.ok_or_else(|| E::invalid_value(Unexpected::Other("text that is no number"), &self))
            }
        }
        from.deserialize_any(Reader)
    }
}

/// Deserializes a whole number: `20`, `20.0`, `2e1` and `"20"` are the same number.
pub fn whole_number<'de, D: Deserializer<'de>, T: TryFrom<u64>>(from: D) -> Result<T, D::Error> {
    whole_of(&Written::deserialize(from)?)
}

/// Deserializes a whole number like [`whole_number`], or null.
pub fn maybe_whole<'de, D: Deserializer<'de>, T: TryFrom<u64>>(from: D) -> Result<Option<T>, D::Error> {
    Option::<Written>::deserialize(from)?.as_ref().map(whole_of).transpose()
}

/// Deserializes a whole number or null. Unlike [`maybe_whole`], it does not accept text. `20` and `20.0` are the same
/// number.
pub fn maybe_integer<'de, D: Deserializer<'de>, T: TryFrom<u64>>(from: D) -> Result<Option<T>, D::Error> {
    let given = Option::<serde_json::Number>::deserialize(from)?;
    let written = given.map(|number| match number.as_u64() {
        Some(whole) => Written::Whole(whole),
        None => Written::Fraction(number.as_f64().unwrap_or(f64::NAN)),
    });
    written.as_ref().map(whole_of).transpose()
}

fn whole_of<T: TryFrom<u64>, E: Error>(given: &Written) -> Result<T, E> {
    let whole = match *given {
        Written::Whole(whole) => Some(whole),
        Written::Fraction(number) => whole_part(number),
    };
    let wrong = || E::invalid_value(Unexpected::Other("a number out of range"), &"a whole number");
    whole.and_then(|whole| T::try_from(whole).ok()).ok_or_else(wrong)
}

/// Deserializes a number, a number as text, or null.
pub fn maybe_number<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
    #[expect(clippy::cast_precision_loss, reason = "numbers of a request are small")]
    Ok(Option::<Written>::deserialize(from)?.map(|given| match given {
        Written::Whole(whole) => whole as f64,
        Written::Fraction(number) => number,
    }))
}

/// Deserializes a switch (`true`, `false`, or a word that [`switch`] knows) or null.
pub fn maybe_switch<'de, D: Deserializer<'de>>(from: D) -> Result<Option<bool>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected true or false")]
    enum Given {
        Plain(bool),
        Text(String),
    }
    Option::<Given>::deserialize(from)?.map_or(Ok(None), |given| match given {
        Given::Plain(on) => Ok(Some(on)),
        Given::Text(text) => {
            let wrong = || D::Error::invalid_value(Unexpected::Other("another text"), &"true or false");
            switch(&text).map(Some).ok_or_else(wrong)
        }
    })
}

/// Parses a switch.
pub fn switch(text: &str) -> Option<bool> {
    match text.trim() {
        "on" | "true" => Some(true),
        "off" | "false" => Some(false),
        _ => None,
    }
}

/// The schema of a member that is a whole number in this range, such a number as text, or null.
pub fn whole_schema(range: RangeInclusive<u32>, pattern: &str, description: &str) -> RefOr<Schema> {
    let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(*range.start()));
    written_schema(number.maximum(Some(*range.end())), pattern, description).item(null()).into()
}

/// The schema of a member that is a switch, a word for one, or null.
pub fn switch_schema(description: &str) -> RefOr<Schema> {
    let words = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["on", "off", "true", "false"]));
    let plain = ObjectBuilder::new().schema_type(Type::Boolean);
    OneOf::builder().item(plain).item(words).item(null()).description(Some(description)).into()
}

/// The schema of a member that is such a number, or text with this pattern.
pub fn written_schema(number: ObjectBuilder, pattern: &str, description: &str) -> OneOfBuilder {
    let text = ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern));
    OneOf::builder().item(number).item(text).description(Some(description))
}

pub fn null() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Null)
}

pub fn is_json(headers: &HeaderMap) -> bool {
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
    fn an_integer_is_no_text() {
        #[derive(Deserialize)]
        struct Body {
            #[serde(default, deserialize_with = "maybe_integer")]
            count: Option<u32>,
        }
        let count = |text: &str| serde_json::from_str::<Body>(text).map(|body| body.count).ok();
        assert_eq!(count(r#"{"count": 20}"#), Some(Some(20)));
        assert_eq!(count(r#"{"count": 20.0}"#), Some(Some(20)));
        assert_eq!((count(r#"{"count": null}"#), count("{}")), (Some(None), Some(None)));
        for wrong in ["20.5", "-1", "4294967296", "\"20\"", "true"] {
            assert_eq!(count(&format!(r#"{{"count": {wrong}}}"#)), None, "{wrong}");
        }
    }

    #[test]
    fn a_whole_number_may_be_written_in_several_ways() {
        let read = |text: &str| {
            let mut from = serde_json::Deserializer::from_str(text);
            maybe_whole::<_, u32>(&mut from).map_err(|error| error.to_string())
        };
        for text in ["20", "20.0", "2e1", "\"20\"", "\" 20.0 \"", "\"2e1\"", "\"020\""] {
            assert_eq!(read(text), Ok(Some(20)), "{text}");
        }
        assert_eq!(read("null"), Ok(None));
        for text in [
            "20.5",
            "-1",
            "1e300",
            "4294967296",
            "true",
            "[20]",
            "\"\"",
            "\"-1\"",
            "\"20.5\"",
            "\"1,000\"",
            "\"1 000\"",
            "\"0x14\"",
            "\"twenty\"",
            "\"inf\"",
            "\"NaN\"",
            "\"4294967296\"",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_number_may_be_text_and_a_switch_may_be_a_word() {
        let number = |text: &str| maybe_number(&mut serde_json::Deserializer::from_str(text)).ok();
        for (text, given) in [("2.5", 2.5), ("\"2.5\"", 2.5), ("3", 3.0), ("\"3\"", 3.0), ("\".5\"", 0.5), ("-1", -1.0)]
        {
            assert_eq!(number(text), Some(Some(given)), "{text}");
        }
        assert_eq!(
            (number("null"), number("\"2,5\""), number("\"infinity\""), number("{}")),
            (Some(None), None, None, None)
        );
        let switch = |text: &str| maybe_switch(&mut serde_json::Deserializer::from_str(text)).ok();
        for (text, given) in [("true", Some(true)), ("\"off\"", Some(false)), ("\"true\"", Some(true)), ("null", None)]
        {
            assert_eq!(switch(text), Some(given), "{text}");
        }
        assert_eq!((switch("1"), switch("\"maybe\""), switch("\"\"")), (None, None, None));
    }
}
