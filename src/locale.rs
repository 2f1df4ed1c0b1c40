//! What is said to people, in the languages of [`Language`]: the texts of `locales/`, by key. Page, report and mail all take
//! theirs from here.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::analysis::Language;

/// Keys that the scripts of the page get to see begin with this; `emotion.` goes along.
const PAGE: &str = "page.";
const EMOTION: &str = "emotion.";
/// Sentences that results carry in English.
const SENTENCE: &str = "sentence.";

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

/// A sentence that a result carries in English, in this language. One that `locales/` does not know stays as it is.
pub fn sentence(language: Language, english: &str) -> String {
    let known = crate::_rust_i18n_backend().messages_for_locale(Language::En.tag()).unwrap_or_default();
    for (key, template) in known.iter().filter(|(key, _)| key.starts_with(SENTENCE)) {
        if let Some(values) = values(template, english) {
            let shown: Vec<(&str, String)> =
                values.into_iter().map(|(name, value)| (name, number(language, value))).collect();
            let shown: Vec<(&str, &str)> = shown.iter().map(|(name, value)| (*name, value.as_str())).collect();
            return fill(language, key, &shown);
        }
    }
    english.to_owned()
}

/// What stands in the places of a template, if the sentence is one of its making.
fn values<'a>(template: &'a str, sentence: &'a str) -> Option<Vec<(&'a str, &'a str)>> {
    let mut pieces = template.split("%{");
    let mut rest = sentence.strip_prefix(pieces.next()?)?;
    let mut values = Vec::new();
    for piece in pieces {
        let (name, after) = piece.split_once('}')?;
        let end = if after.is_empty() { rest.len() } else { rest.find(after)? };
        values.push((name, &rest[..end]));
        rest = &rest[end + after.len()..];
    }
    rest.is_empty().then_some(values)
}

/// A number of an English sentence as this language writes it.
fn number(language: Language, text: &str) -> String {
    let bare = text.trim_end_matches('%');
    if language != Language::De || bare.parse::<f64>().is_err() {
        return text.to_owned();
    }
    bare.replace('.', ",") + if bare.len() < text.len() { "\u{a0}%" } else { "" }
}

/// The texts that the scripts of the page need, by their keys there.
pub fn for_page(language: Language) -> BTreeMap<String, String> {
    let messages = crate::_rust_i18n_backend().messages_for_locale(language.tag()).unwrap_or_default();
    let shown = |key: &str| match key.strip_prefix(PAGE) {
        Some(rest) => Some(rest.to_owned()),
        None => key.starts_with(EMOTION).then(|| key.to_owned()),
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
        let english = all(Language::En);
        assert!(english.len() > 100);
        for language in Language::ALL {
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
        let text = fill(Language::De, "page.result.mostly", &[("emotion", "%{x} & <b>")]);
        assert_eq!(text, "Meist %{x} & <b>");
    }

    #[test]
    fn sentences_of_results_are_told_in_the_readers_language() {
        let text = "The file is damaged or cut off: it should last 19.7 s, but its pictures end after 4.0 s. The figures \
                    cover the part before.";
        let german = sentence(Language::De, text);
        assert!(german.contains("19,7 s dauern") && german.contains("nach 4,0 s"), "{german}");
        assert_eq!(sentence(Language::En, text), text);
        for (english, german) in [
            (
                "The file says that it lasts 3.0 s, but its pictures and sound last 19.7 s. The figures cover what is there.",
                "3,0 s an",
            ),
            (
                "The eyes were covered in 38% of the time in which a face was seen: where they looked is not known.",
                "38\u{a0}% der Zeit verdeckt",
            ),
            (
                "The mouth was covered in 100% of the time in which a face was seen: expressions are less certain there.",
                "100\u{a0}% der Zeit verdeckt",
            ),
            (
                "The time stamps of the file begin anew, first after 4.0 s, as in recordings that were joined. What follows is \
              taken to go on from there.",
                "nach 4,0 s",
            ),
            (
                "Some pictures are damaged: 6 of the 12 that were to be looked at, between 1.0 s and 1.8 s. They were left out.",
                "6 der 12",
            ),
            ("The sound track is encrypted, so nothing is said about speech.", "verschlüsselt"),
        ] {
            let told = sentence(Language::De, english);
            assert!(told.contains(german), "{told}");
        }
        let share = "The eyes could be read in 38% of the time in which a face was seen: eye contact speaks of that part \
                     alone.";
        assert!(sentence(Language::De, share).contains("38\u{a0}% der Zeit"));
        for unknown in ["", "Something new %{x}.", "The file is damaged"] {
            assert_eq!(sentence(Language::De, unknown), unknown);
        }
    }

    #[test]
    fn the_page_gets_its_own_texts_alone() {
        let words = for_page(Language::En);
        assert_eq!(words["emotion.happy"], "Happy");
        assert!(words.contains_key("error.connection") && !words.contains_key("start.title"));
    }
}
