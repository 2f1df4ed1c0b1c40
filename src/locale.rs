//! The texts of `locales/` for users, by language and key. Page, report and mail use them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::analysis::Language;

// `TEXTS`: for each language its tag and its texts by key, in alphabetical order.
include!(concat!(env!("OUT_DIR"), "/texts.rs"));

/// The prefix of keys that the scripts of the page need.
const PAGE: &str = "page.";
/// Prefixes of further keys that the scripts need; these keep their prefix.
const SHARED_PREFIXES: [&str; 2] = ["emotion.", "format."];

/// Returns the text of a key; the key itself if there is no text.
pub fn text(language: Language, key: &str) -> Cow<'static, str> {
    find(language, key).unwrap_or_else(|| Cow::Owned(key.to_owned()))
}

/// Returns the text of a key, if there is one.
pub fn find(language: Language, key: &str) -> Option<Cow<'static, str>> {
    let texts = of(language);
    texts.binary_search_by_key(&key, |(own, _)| own).ok().map(|at| Cow::Borrowed(texts[at].1))
}

/// Returns all texts of a language.
fn of(language: Language) -> &'static [(&'static str, &'static str)] {
    TEXTS.iter().find(|(tag, _)| *tag == language.tag()).map_or(&[], |(_, texts)| texts)
}

/// Returns the text of a key with each `%{name}` replaced by its value.
pub fn fill(language: Language, key: &str, values: &[(&str, &str)]) -> String {
    replace(&text(language, key), values)
}

/// Returns the text of `{key}_one` or `{key}_many` with each `%{name}` replaced by its value, and `%{n}` by the number.
pub fn count(language: Language, key: &str, n: u64, values: &[(&str, &str)]) -> String {
    let number = n.to_string();
    let values: Vec<_> = values.iter().copied().chain([("n", number.as_str())]).collect();
    fill(language, &format!("{key}_{}", if n == 1 { "one" } else { "many" }), &values)
}

/// Replaces each `%{name}` of a text by its value. A name without a value stays as it is.
pub fn replace(text: &str, values: &[(&str, &str)]) -> String {
    let mut pieces = text.split("%{");
    let mut filled = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let value = piece.split_once('}').and_then(|(name, rest)| {
            let (_, value) = values.iter().find(|(own, _)| *own == name)?;
            Some((value, rest))
        });
        match value {
            Some((value, rest)) => filled.extend([value, rest]),
            None => filled.extend(["%{", piece]),
        }
    }
    filled
}

/// Returns the keys of a section, without the name of the section.
pub fn keys(language: Language, section: &str) -> Vec<String> {
    let own = |key: &str| Some(key.strip_prefix(section)?.strip_prefix('.')?.to_owned());
    of(language).iter().filter_map(|(key, _)| own(key)).collect()
}

/// Returns the texts that the scripts of the page need. Keys that start with `page.` lose that prefix.
pub fn for_page(language: Language) -> BTreeMap<String, String> {
    let shown = |key: &str| match key.strip_prefix(PAGE) {
        Some(rest) => Some(rest.to_owned()),
        None => SHARED_PREFIXES.iter().any(|section| key.starts_with(section)).then(|| key.to_owned()),
    };
    of(language).iter().filter_map(|(key, text)| Some((shown(key)?, (*text).to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(language: Language) -> BTreeMap<String, String> {
        of(language).iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect()
    }

    /// Returns the `%{name}`s of a text.
    fn placeholders(text: &str) -> Vec<String> {
        let mut names: Vec<_> =
            text.split("%{").skip(1).map(|rest| rest.split('}').next().unwrap().to_owned()).collect();
        names.sort();
        names.dedup();
        names
    }

    #[test]
    fn every_language_has_all_keys_with_the_same_placeholders() {
        let english = all(Language::EN);
        assert!(english.len() > 100);
        for language in Language::all() {
            let own = all(language);
            let keys = |texts: &BTreeMap<String, String>| texts.keys().cloned().collect::<Vec<_>>();
            assert_eq!(keys(&own), keys(&english), "{}", language.tag());
            for (key, text) in &own {
                assert!(!text.trim().is_empty(), "{key}");
                assert_eq!(placeholders(text), placeholders(&english[key]), "{}: {key}", language.tag());
            }
        }
    }

    /// Texts in which the number is never 1, or has decimals.
    const NEVER_ONE: [&str; 5] =
        ["page.admin.first", "page.admin.newest", "report.runs", "report.seconds", "report.feedback.several"];

    #[test]
    fn a_number_of_things_has_a_text_for_one_thing() {
        for (key, text) in all(Language::EN) {
            let mut nouns = ["%{n}", "%{hours}", "%{days}", "%{rows}"].iter().flat_map(|number| {
                text.split(number).skip(1).filter_map(|rest| rest.strip_prefix(' ')?.split([' ', '.', ',']).next())
            });
            let is_plural = nouns.any(|noun| noun.ends_with('s') || noun == "people");
            assert!(!is_plural || key.ends_with("_many") || NEVER_ONE.contains(&key.as_str()), "{key}: {text}");
        }
    }

    #[test]
    fn french_has_typographic_apostrophes_and_spanish_spells_video_as_in_spain() {
        let of = |tag| all(Language::from_tag(tag).unwrap());
        for (key, text) in of("fr") {
            assert!(!text.contains('\''), "{key}: {text}");
        }
        let is_word = |text: &str, word: &str| {
            text.to_lowercase().split(|c: char| !c.is_alphanumeric() && c != '_' && c != '/').any(|own| own == word)
        };
        // Names of fields, paths and parameters are not words.
        let literals = ["campo video", "video=@", "/analyze-video"];
        for (key, text) in of("es") {
            let text = literals.iter().fold(text, |text, literal| text.replace(literal, ""));
            assert!(!is_word(&text, "video") && !is_word(&text, "videos"), "{key}: {text}");
        }
    }

    /// Errors that a person can meet on the page, besides those of its own making.
    #[test]
    fn errors_of_uploads_and_share_links_have_words() {
        let codes = [
            "quota_used_up",
            "storage_quota_used_up",
            "too_many_mails",
            "upload_broken_off",
            "upload_stalled",
            "upload_too_slow",
            "bad_share_link",
        ];
        let english = keys(Language::EN, "page.error");
        for code in codes {
            assert!(english.iter().any(|key| key == code), "{code}");
        }
    }

    #[test]
    fn placeholders_are_replaced_by_values() {
        let text = fill(Language::from_tag("de").unwrap(), "page.result.mostly", &[("emotion", "%{x} & <b>")]);
        assert_eq!(text, "Meist %{x} & <b>");
        assert_eq!(replace("%{a}%{b}: %{c} %{", &[("a", "1"), ("c", "%{a}")]), "1%{b}: %{a} %{");
    }

    #[test]
    fn the_page_gets_only_the_texts_that_its_scripts_need() {
        let words = for_page(Language::EN);
        assert_eq!(words["emotion.happy"], "Happy");
        assert!(words.contains_key("error.connection") && !words.contains_key("start.title"));
    }
}
