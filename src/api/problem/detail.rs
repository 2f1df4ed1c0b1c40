//! What is wrong with a request, as data. The words are in the section `problem` of `locales/`.
//!
//! A function makes each [`Detail`]. Its arguments are the values of the placeholders, so none can be missing. A test
//! compares the list with the texts of every language.

use std::fmt;

use crate::analysis::Language;
use crate::config::ByteSize;
use crate::locale;

/// What is wrong with a request, and how to fix it.
#[derive(Debug, Clone)]
pub struct Detail {
    /// Stable snake_case code for clients.
    pub code: &'static str,
    /// The key of the text in the section `problem`.
    key: &'static str,
    /// The names and values of the placeholders.
    values: Vec<(&'static str, Value)>,
}

/// The value of a placeholder.
#[derive(Debug, Clone)]
pub enum Value {
    /// A number, a name or code. It is the same in every language.
    Plain(String),
    /// The text with this key in the section `problem.part`.
    Part(&'static str),
    /// Values of which the client sends one.
    Choice(Vec<&'static str>),
}

impl Detail {
    /// Returns the sentences in a language.
    pub fn text(&self, language: Language) -> String {
        let values: Vec<_> = self.values.iter().map(|(name, value)| (*name, value.text(language))).collect();
        let values: Vec<_> = values.iter().map(|(name, text)| (*name, text.as_str())).collect();
        locale::fill(language, &format!("problem.{}", self.key), &values)
    }
}

/// In English, for logs and tests.
impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(Language::EN))
    }
}

impl Value {
    fn text(&self, language: Language) -> String {
        match self {
            Self::Plain(text) => text.clone(),
            Self::Part(key) => locale::text(language, &format!("problem.part.{key}")).into_owned(),
            Self::Choice(values) => match values.as_slice() {
                [] => String::new(),
                [one] => (*one).to_owned(),
                [most @ .., last] => {
                    locale::fill(language, "problem.part.or", &[("most", &most.join(", ")), ("last", last)])
                }
            },
        }
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Plain(text)
    }
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Plain(text.to_owned())
    }
}

/// Numbers are written without separators.
macro_rules! numbers {
    ($($number:ty),*) => {
        $(impl From<$number> for Value {
            fn from(number: $number) -> Self {
                Self::Plain(number.to_string())
            }
        })*
    };
}

numbers!(u32, u64, usize, ByteSize);

/// The code of a detail: its own name, or the code that is given.
macro_rules! code {
    ($key:ident) => {
        stringify!($key)
    };
    ($key:ident $code:ident) => {
        stringify!($code)
    };
}

/// Defines a function for each detail. `key(values) = code` has another code than its key.
macro_rules! details {
    ($($key:ident($($value:ident),*) $(= $code:ident)?;)*) => {
        $(pub fn $key($($value: impl Into<Value>),*) -> Detail {
            let values = vec![$((stringify!($value), $value.into())),*];
            Detail { code: code!($key $($code)?), key: stringify!($key), values }
        })*

        /// The key, the code and the placeholders of each detail.
        #[cfg(test)]
        const ALL: &[(&str, &str, &[&str])] =
            &[$((stringify!($key), code!($key $($code)?), &[$(stringify!($value)),*])),*];
    };
}

details! {
    internal();
    database_unavailable();
    storage_unavailable();
    storage_unavailable_erased() = storage_unavailable;
    not_found();
    method_not_allowed();
    too_large();
    unsupported_media_type();
    request_timeout();
    timeout();
    bad_request();
    unknown_link();
    link_expired();
    bad_share_link();
    bad_ticket();
    foreign_origin();
    live_off();
    not_a_websocket();
    too_many_sessions(seconds);
    live_not_configured();
    live_configured_before();
    live_message_too_large(limit);
    live_time_out_of_range(seconds);
    live_out_of_order();
    live_without_sound();
    live_sound_overlap();
    live_sound_busy();
    bad_live_message_header() = bad_live_message;
    bad_live_message_time() = bad_live_message;
    bad_live_message_sound(seconds) = bad_live_message;
    share_link_expired();
    key_required();
    wrong_key();
    scope_required(scope);
    too_many_at_once(limit);
    rate_limited_key(limit, seconds) = rate_limited;
    rate_limited_address(limit, seconds) = rate_limited;
    not_ready(parts);
    notice_missing(statement);
    notice_outdated();
    bad_option_notice(statement) = bad_option;
    bad_option_range(field, least, most) = bad_option;
    bad_option_choice(field, choices) = bad_option;
    unknown_token();
    expired();
    cancelled();
    not_finished();
    bad_wait();
    too_few_frames(frames);
    no_face();
    deadline(seconds);
    deadline_content(seconds) = deadline;
    model_unavailable();
    model_unavailable_failed() = model_unavailable;
    encoder_unavailable();
    too_busy(seconds);
    too_little_memory();
    not_json();
    bad_json();
    bad_body(reason);
    bad_body_size() = bad_body;
    bad_body_name() = bad_body;
    bad_body_scopes() = bad_body;
    bad_body_rates() = bad_body;
    bad_body_limit(limit) = bad_body;
    bad_body_days(limit) = bad_body;
    own_key();
    unknown_key();
    video_gone();
    not_failed_job() = not_failed;
    not_failed_message() = not_failed;
    unknown_message();
    recipient_gone();
    bad_parameter_jobs() = bad_parameter;
    bad_parameter_timeline() = bad_parameter;
    bad_parameter_analyses() = bad_parameter;
    bad_parameter_batches() = bad_parameter;
    bad_parameter_erase() = bad_parameter;
    bad_parameter_compare(limit) = bad_parameter;
    not_comparable_no_face() = not_comparable;
    not_comparable_person(person) = not_comparable;
    not_comparable_intervals() = not_comparable;
    unknown_batch();
    empty_batch();
    too_many_items(limit);
    no_item_accepted();
    missing_token();
    bad_form();
    bad_form_stray() = bad_form;
    upload_too_large(limit, advice);
    upload_too_large_video(limit, size) = upload_too_large;
    upload_stalled(seconds);
    upload_too_slow(seconds);
    upload_too_slow_rate(rate) = upload_too_slow;
    upload_broken_off();
    unsupported_encoding();
    broken_encoding();
    not_a_form();
    not_a_form_frame() = not_a_form;
    missing_video();
    missing_video_json() = missing_video;
    two_videos();
    two_videos_address() = two_videos;
    two_videos_json() = two_videos;
    video_urls_off();
    bad_video_url();
    bad_video_url_plain() = bad_video_url;
    bad_video_url_private() = bad_video_url;
    bad_video_url_host(host) = bad_video_url;
    bad_video_url_bucket(bucket) = bad_video_url;
    unknown_field();
    too_many_fields(limit);
    encoded_field();
    field_too_large(field, limit);
    not_text(field);
    empty_video(file);
    not_a_video(file);
    bad_query();
    unknown_parameter();
    contradiction();
    contradiction_json() = contradiction;
    bad_email();
    bad_email_json() = bad_email;
    bad_email_local_part() = bad_email;
    bad_email_quoted() = bad_email;
    bad_email_host() = bad_email;
    bad_email_domain() = bad_email;
    too_many_recipients(limit);
    too_many_recipients_without_key() = too_many_recipients;
    mail_off();
    webhooks_off();
    bad_webhook_url();
    bad_webhook_url_plain() = bad_webhook_url;
    bad_webhook_url_private() = bad_webhook_url;
    bad_idempotency_key();
    idempotency_key_reused();
    too_many_uploads(seconds);
    too_many_uploads_client(limit, seconds) = too_many_uploads;
    too_many_uploads_open(limit, seconds) = too_many_uploads;
    too_many_mails_recipient(limit, seconds) = too_many_mails;
    too_many_mails_domain(limit, seconds) = too_many_mails;
    too_many_mails_address(limit, seconds) = too_many_mails;
    too_many_mails_key(limit, seconds) = too_many_mails;
    storage_full();
    storage_quota_used_up(limit);
    quota_used_up_day(limit, seconds) = quota_used_up;
    quota_used_up_month(limit, seconds) = quota_used_up;
    unknown_upload();
    unknown_part(parts);
    upload_started();
    wrong_part_size(bytes);
    upload_incomplete();
    upload_busy();
    missing_frame();
    two_frames();
    not_a_picture();
    unknown_frame();
    clip_not_json(line, column) = bad_request;
    clip_member(line, column) = bad_request;
    clip_encoding() = bad_request;
    clip_fps() = bad_request;
    clip_empty() = bad_request;
    clip_not_base64() = bad_request;
    clip_data_not_base64() = bad_request;
    clip_data_no_comma() = bad_request;
    clip_duration() = bad_request;
    clip_duration_range() = bad_request;
    clip_format(formats) = bad_request;
    filter_query() = bad_request;
    filter_body() = bad_request;
    filter_json() = bad_request;
    filter_date(filter) = bad_request;
    filter_status_code() = bad_request;
    filter_success() = bad_request;
    filter_client_id() = bad_request;
    filter_limit(limit) = bad_request;
    bad_body_notice() = bad_body;
    bad_body_type(line, column) = bad_body;
    unsupported_media_type_pictures() = unsupported_media_type;
    missing_picture();
    missing_picture_img() = missing_picture;
    too_many_pictures(limit);
    unknown_field_pictures() = unknown_field;
    bad_face_state();
    deadline_pictures(seconds) = deadline;
    too_busy_pictures(seconds) = too_busy;
    too_little_memory_pictures() = too_little_memory;
    upload_too_large_pictures(limit) = upload_too_large;
    empty_picture();
    not_a_picture_format() = not_a_picture;
    not_a_picture_video() = not_a_picture;
    picture_format_not_supported(format);
    picture_damaged();
    not_base64();
    not_base64_img() = not_base64;
    picture_urls_off();
    picture_address_refused();
    picture_unreachable(host);
    picture_refused(host, status);
    action_not_supported(actions);
    bad_option_actions() = bad_option;
    anti_spoofing_not_supported();
    no_face_detected() = no_face;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::api::file_source::FileSource;
    use crate::api::problem::FAILED;

    fn keys(language: Language, section: &str) -> BTreeSet<String> {
        locale::keys(language, section).into_iter().filter(|key| !key.contains('.')).collect()
    }

    #[test]
    fn every_detail_and_code_has_words_with_its_placeholders_in_every_language() {
        let details: BTreeSet<String> = ALL.iter().map(|(key, ..)| (*key).to_owned()).collect();
        let codes: BTreeSet<String> = ALL.iter().map(|(_, code, _)| *code).chain([FAILED]).map(str::to_owned).collect();
        for language in Language::all() {
            assert_eq!(keys(language, "problem"), details, "{}", language.tag());
            assert_eq!(keys(language, "problem.title"), codes, "{}", language.tag());
            for (key, _, names) in ALL {
                let text = locale::text(language, &format!("problem.{key}"));
                let used: BTreeSet<&str> =
                    text.split("%{").skip(1).map(|rest| rest.split('}').next().unwrap()).collect();
                assert_eq!(used, names.iter().copied().collect(), "{}: {key}", language.tag());
                assert!(text.ends_with('.') || text.ends_with("%{advice}"), "{}: {text}", language.tag());
            }
        }
    }

    #[test]
    fn every_part_of_a_sentence_has_words_in_every_language() {
        let sources = FileSource::ALL.iter();
        let parts = sources.flat_map(|source| [Value::Part(source.subject().0), Value::Part(source.smaller())]);
        let used: BTreeSet<String> = parts
            .map(|part| if let Value::Part(key) = part { key.to_owned() } else { String::new() })
            .chain(["or".to_owned()])
            .collect();
        for language in Language::all() {
            assert_eq!(keys(language, "problem.part"), used, "{}", language.tag());
        }
    }

    #[test]
    fn values_are_written_in_the_language_of_the_text() {
        let german = Language::from_tag("de").unwrap();
        let choice = |choices: &[&'static str]| bad_option_choice("gaze", Value::Choice(choices.to_vec()));
        assert_eq!(choice(&["on", "off"]).text(german), "Setzen Sie gaze auf on oder off, oder lassen Sie es weg.");
        assert_eq!(choice(&["a", "b", "c"]).to_string(), "Set gaze to a, b or c, or leave it out.");
        assert_eq!(choice(&["on"]).to_string(), "Set gaze to on, or leave it out.");
        let large = upload_too_large(ByteSize(5_000_000), Value::Part(FileSource::Frame.smaller()));
        assert_eq!(large.text(german), "Eine Anfrage darf höchstens 5 MB haben. Senden Sie ein kleineres Bild.");
    }
}
