//! The languages in which visage speaks to people. What programs read (names of fields, labels, codes) has none.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A language that page, report and mail can be had in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    #[default]
    En,
    De,
}

impl Language {
    pub const ALL: [Self; 2] = [Self::En, Self::De];

    /// As BCP 47 writes it.
    pub const fn tag(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::De => "de",
        }
    }

    /// The language of a tag such as `de` or `de-AT`, if it is one of ours.
    pub fn from_tag(tag: &str) -> Option<Self> {
        let primary = tag.trim().split(['-', '_']).next().unwrap_or_default();
        Self::ALL.into_iter().find(|language| language.tag().eq_ignore_ascii_case(primary))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_that_is_liked_best_wins() {
        for (list, language) in [
            ("de-AT,de;q=0.9,en;q=0.8", Some(Language::De)),
            ("en-GB,de;q=0.9", Some(Language::En)),
            ("fr, de;q=0.3, en;q=0.7", Some(Language::En)),
            ("fr,de;q=0.3", Some(Language::De)),
            ("de;q=0, en;q=0.1", Some(Language::En)),
            ("fr,*", None),
            ("", None),
            ("de;q=high", None),
        ] {
            assert_eq!(Language::accepted(list), language, "{list}");
        }
    }

    #[test]
    fn a_tag_may_name_a_region() {
        assert_eq!(Language::from_tag("de_CH"), Some(Language::De));
        assert_eq!(Language::from_tag("EN"), Some(Language::En));
        assert_eq!(Language::from_tag("deutsch"), None);
    }
}
