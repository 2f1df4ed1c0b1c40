//! What is said to people, in the languages of [`Language`]: the texts of `locales/`, by key. Page, report and mail all take
//! theirs from here.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::analysis::Language;

/// Keys that the scripts of the page get to see begin with this; those of [`ALONG`] go along.
const PAGE: &str = "page.";
const ALONG: [&str; 2] = ["emotion.", "format."];

/// The text of a key.
pub fn text(language: Language, key: &str) -> Cow<'static, str> {
    find(language, key).unwrap_or_else(|| Cow::Owned(key.to_owned()))
}

/// The text of a key, if there is one.
pub fn find(language: Language, key: &str) -> Option<Cow<'static, str>> {
    crate::_rust_i18n_backend().translate(language.tag(), key)
}

/// The text of a key with each `%{name}` replaced by its value.
pub fn fill(language: Language, key: &str, values: &[(&str, &str)]) -> String {
    let (names, texts): (Vec<&str>, Vec<String>) =
        values.iter().map(|(name, value)| (*name, (*value).to_owned())).unzip();
    rust_i18n::replace_patterns(&text(language, key), &names, &texts)
}

/// The keys of a section, without its name.
#[cfg(test)]
pub fn keys(language: Language, section: &str) -> Vec<String> {
    let messages = crate::_rust_i18n_backend().messages_for_locale(language.tag()).unwrap_or_default();
    let own = |key: &str| Some(key.strip_prefix(section)?.strip_prefix('.')?.to_owned());
    messages.into_iter().filter_map(|(key, _)| own(&key)).collect()
}

/// The texts that the scripts of the page need, by their keys there.
pub fn for_page(language: Language) -> BTreeMap<String, String> {
    let messages = crate::_rust_i18n_backend().messages_for_locale(language.tag()).unwrap_or_default();
    let shown = |key: &str| match key.strip_prefix(PAGE) {
        Some(rest) => Some(rest.to_owned()),
        None => ALONG.iter().any(|section| key.starts_with(section)).then(|| key.to_owned()),
    };
    messages.into_iter().filter_map(|(key, text)| Some((shown(&key)?, text.into_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(language: Language) -> BTreeMap<String, String> {
        let messages = crate::_rust_i18n_backend().messages_for_locale(language.tag()).unwrap();
        messages.into_iter().map(|(key, text)| (key.into_owned(), text.into_owned())).collect()
    }

    /// The `%{name}`s of a text.
    fn places(text: &str) -> Vec<String> {
        let mut places: Vec<_> =
            text.split("%{").skip(1).map(|rest| rest.split('}').next().unwrap().to_owned()).collect();
        places.sort();
        places.dedup();
        places
    }

    #[test]
    fn every_language_says_everything_with_the_same_values() {
        let english = all(Language::EN);
        assert!(english.len() > 100);
        for language in Language::all() {
            let own = all(language);
            let keys = |texts: &BTreeMap<String, String>| texts.keys().cloned().collect::<Vec<_>>();
            assert_eq!(keys(&own), keys(&english), "{}", language.tag());
            for (key, text) in &own {
                assert!(!text.trim().is_empty(), "{key}");
                assert_eq!(places(text), places(&english[key]), "{}: {key}", language.tag());
            }
        }
    }

    #[test]
    fn values_take_their_places() {
        let text = fill(Language::from_tag("de").unwrap(), "page.result.mostly", &[("emotion", "%{x} & <b>")]);
        assert_eq!(text, "Meist %{x} & <b>");
    }
    #[test]
    fn the_page_gets_its_own_texts_alone() {
        let words = for_page(Language::EN);
        assert_eq!(words["emotion.happy"], "Happy");
        assert!(words.contains_key("error.connection") && !words.contains_key("start.title"));
    }
}
