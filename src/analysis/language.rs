//! The languages of pages, reports and mails. Field names, labels and codes are not translated.

use std::borrow::Cow;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

// `TAGS`: the names of the files of `locales/`, in alphabetical order.
include!(concat!(env!("OUT_DIR"), "/languages.rs"));

/// A language of pages, reports and mails, as a BCP 47 tag. Each file of `locales/` is one language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Language(&'static str);

impl Language {
    pub const EN: Self = Self("en");

    /// Returns all languages in alphabetical order of their tags.
    pub fn all() -> impl Iterator<Item = Self> {
        TAGS.into_iter().map(Self)
    }

    /// Returns the BCP 47 tag.
    pub const fn tag(self) -> &'static str {
        self.0
    }

    /// Returns the language of a tag such as `de` or `de-AT`, or `None` if there is no file for it.
    pub fn from_tag(tag: &str) -> Option<Self> {
        let primary = tag.trim().split(['-', '_']).next().unwrap_or_default();
        Self::all().find(|language| language.tag().eq_ignore_ascii_case(primary))
    }

    /// Reads a stored language. Returns `None` for a language that this version no longer has.
    pub(super) fn stored<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Self>, D::Error> {
        let tag = Option::<Cow<'de, str>>::deserialize(deserializer)?;
        Ok(tag.and_then(|tag| Self::from_tag(&tag)))
    }

    /// Returns the tags for use in a sentence: "de, en or fr".
    pub fn choice() -> String {
        match TAGS.split_last() {
            Some((last, [])) => (*last).to_owned(),
            Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
            None => String::new(),
        }
    }

    /// Returns the language with the highest weight in a list in the format of the header `Accept-Language` (RFC
    /// 9110, 12.5.4), or `None` if the list names none of the languages.
    pub fn accepted(list: &str) -> Option<Self> {
        let mut best = None;
        for entry in list.split(',') {
            let (tag, parameters) = entry.split_once(';').unwrap_or((entry, ""));
            let weight = parameters.trim().strip_prefix("q=").map_or(Some(1.0), |text| text.trim().parse::<f32>().ok());
            let (Some(language), Some(weight)) = (Self::from_tag(tag), weight) else { continue };
            // The first of several languages with the same weight wins.
            if weight > 0.0 && best.is_none_or(|(_, most)| weight > most) {
                best = Some((language, weight));
            }
        }
        best.map(|(language, _)| language)
    }
}

impl Default for Language {
    fn default() -> Self {
        Self::EN
    }
}

impl Serialize for Language {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0)
    }
}

impl<'de> Deserialize<'de> for Language {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let tag = Cow::<'de, str>::deserialize(deserializer)?;
        Self::from_tag(&tag).ok_or_else(|| D::Error::custom(format!("the language must be {}", Self::choice())))
    }
}

impl PartialSchema for Language {
    fn schema() -> RefOr<Schema> {
        let tags = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(TAGS));
        tags.description(Some("A language of pages, reports and mails.")).into()
    }
}

impl ToSchema for Language {}

#[cfg(test)]
mod tests {
    use super::*;

    fn de() -> Language {
        Language::from_tag("de").unwrap()
    }

    #[test]
    fn the_language_with_the_highest_weight_wins() {
        for (list, language) in [
            ("de-AT,de;q=0.9,en;q=0.8", Some(de())),
            ("en-GB,de;q=0.9", Some(Language::EN)),
            ("xx, de;q=0.3, en;q=0.7", Some(Language::EN)),
            ("xx,de;q=0.3", Some(de())),
            ("de;q=0, en;q=0.1", Some(Language::EN)),
            ("xx,*", None),
            ("", None),
            ("de;q=high", None),
        ] {
            assert_eq!(Language::accepted(list), language, "{list}");
        }
    }

    #[test]
    fn a_tag_may_name_a_region() {
        assert_eq!(Language::from_tag("de_CH"), Some(de()));
        assert_eq!(Language::from_tag("EN"), Some(Language::EN));
        assert_eq!(Language::from_tag("deutsch"), None);
    }
}
