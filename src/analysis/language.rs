//! The languages in which visage speaks to people. What programs read (names of fields, labels, codes) has none.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

// `TAGS`: the names of the files of `locales/`, in alphabetical order.
include!(concat!(env!("OUT_DIR"), "/languages.rs"));

/// A language of page, report and mail: one of the files of `locales/`, by its tag as BCP 47 writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Language(&'static str);

impl Language {
    pub const EN: Self = Self("en");

    /// All that there are, in alphabetical order of their tags.
    pub fn all() -> impl Iterator<Item = Self> {
        TAGS.into_iter().map(Self)
    }

    /// As BCP 47 writes it.
    pub const fn tag(self) -> &'static str {
        self.0
    }

    /// The language of a tag such as `de` or `de-AT`, if it is one of ours.
    pub fn from_tag(tag: &str) -> Option<Self> {
        let primary = tag.trim().split(['-', '_']).next().unwrap_or_default();
        Self::all().find(|language| language.tag().eq_ignore_ascii_case(primary))
    }

    /// The tags in a sentence: "de, en or fr".
    pub fn choice() -> String {
        match TAGS.split_last() {
            Some((last, [])) => (*last).to_owned(),
            Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
            None => String::new(),
        }
    }

    /// Which of our languages a list as in the header `Accept-Language` (RFC 9110, 12.5.4) likes best; `None` where
    /// it names none of them.
    pub fn accepted(list: &str) -> Option<Self> {
        let mut best = None;
        for entry in list.split(',') {
            let (tag, parameters) = entry.split_once(';').unwrap_or((entry, ""));
            let weight = parameters.trim().strip_prefix("q=").map_or(Some(1.0), |text| text.trim().parse::<f32>().ok());
            let (Some(language), Some(weight)) = (Self::from_tag(tag), weight) else { continue };
            // The first of equals wins.
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
    /// A language that is no longer there is read as the default one: jobs outlive versions.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let tag = Cow::<'de, str>::deserialize(deserializer)?;
        Ok(Self::from_tag(&tag).unwrap_or_default())
    }
}

impl PartialSchema for Language {
    fn schema() -> RefOr<Schema> {
        let tags = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(TAGS));
        tags.description(Some("A language that page, report and mail can be had in.")).into()
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
    fn the_language_that_is_liked_best_wins() {
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
