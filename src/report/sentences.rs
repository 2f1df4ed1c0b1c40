//! Sentences for warnings and failures, in the language of the reader.

use super::words::Words;
use crate::analysis::{Analysis, FailureReason, Resource, Warning};
use crate::config::ByteSize;

impl Words {
    /// Returns the sentence of a warning; `None` for a warning of a newer version.
    pub fn warning(self, warning: &Warning) -> Option<String> {
        let seconds = |seconds: &f64| self.number(*seconds, 1);
        let (key, values): (&str, Vec<(&str, String)>) = match warning {
            Warning::NoFace => ("no_face", vec![]),
            Warning::VideoTurned { degrees } => ("video_turned", vec![("degrees", degrees.to_string())]),
            Warning::SmallFaces { pixels } => ("small_faces", vec![("pixels", pixels.to_string())]),
            Warning::SmallFacesRarelySought { pixels, rarely } => {
                let values = vec![("pixels", pixels.to_string()), ("rarely", rarely.to_string())];
                ("small_faces_rarely_sought", values)
            }
            Warning::NoSound => ("no_sound", vec![]),
            Warning::EyeContactByHead => ("eye_contact_by_head", vec![]),
            Warning::EyesRarelyRead { share } => ("eyes_rarely_read", vec![("share", self.share(*share))]),
            Warning::EyesCovered { share } => ("eyes_covered", vec![("share", self.share(*share))]),
            Warning::MouthCovered { share } => ("mouth_covered", vec![("share", self.share(*share))]),
            Warning::SpeechLeftOut => ("speech_left_out", vec![]),
            Warning::SpeechDisabled => ("speech_disabled", vec![]),
            Warning::SpeechFailed => ("speech_failed", vec![]),
            Warning::SoundUnreadable => ("sound_unreadable", vec![]),
            Warning::SoundUndecodable => ("sound_undecodable", vec![]),
            Warning::SoundEncrypted => ("sound_encrypted", vec![]),
            Warning::SoundCodecNotAllowed { codec } => ("sound_codec_not_allowed", vec![("codec", codec.clone())]),
            Warning::OtherSoundTrack { stream } => ("other_sound_track", vec![("stream", stream.to_string())]),
            Warning::ReadableSoundTrack { stream } => ("readable_sound_track", vec![("stream", stream.to_string())]),
            Warning::SpeechModelMissing { model } => ("speech_model_missing", vec![("model", model.clone())]),
            Warning::SpeechModelFailed => ("speech_model_failed", vec![]),
            Warning::SpeechQualityMissing { model } => ("speech_quality_missing", vec![("model", model.clone())]),
            Warning::SpeechQualityUnusable { model } => ("speech_quality_unusable", vec![("model", model.clone())]),
            Warning::NoSpeech => ("no_speech", vec![]),
            Warning::LittleSpeech => ("little_speech", vec![]),
            Warning::ExpressionsDisabled => ("expressions_disabled", vec![]),
            Warning::ExpressionsModelMissing { model } => ("expressions_model_missing", vec![("model", model.clone())]),
            Warning::ExpressionsModelUnusable { model } => {
                ("expressions_model_unusable", vec![("model", model.clone())])
            }
            Warning::VideoCutOff { expected_s, end_s } => {
                ("video_cut_off", vec![("expected", seconds(expected_s)), ("end", seconds(end_s))])
            }
            Warning::PicturesDamaged { damaged, sought, from_s, to_s } => {
                let pictures = [("damaged", damaged.to_string()), ("sought", sought.to_string())];
                ("pictures_damaged", [pictures, [("from", seconds(from_s)), ("to", seconds(to_s))]].concat())
            }
            Warning::WrongDuration { said_s, found_s } => {
                ("wrong_duration", vec![("said", seconds(said_s)), ("found", seconds(found_s))])
            }
            Warning::TimeStampsRestart { at_s } => ("time_stamps_restart", vec![("at", seconds(at_s))]),
            Warning::LivePicturesLost { lost, received } => {
                ("live_pictures_lost", vec![("lost", lost.to_string()), ("received", received.to_string())])
            }
            Warning::Unknown => return None,
        };
        Some(self.sentence("warning", key, &values))
    }

    /// Returns the sentences of the warnings of a result. The stored sentence is used for a warning unknown to this
    /// version, and for results without warning codes.
    pub fn warnings(self, analysis: &Analysis) -> Vec<String> {
        if analysis.warning_codes.is_empty() {
            return analysis.warnings.clone();
        }
        let stored = analysis.warnings.iter().cloned().map(Some).chain(std::iter::repeat(None));
        let told = analysis.warning_codes.iter().zip(stored);
        told.filter_map(|(code, stored)| self.warning(code).or(stored)).collect()
    }

    /// Returns the sentence for the reason of a failure, for the person who sent the video. It contains no path and no
    /// message of a library.
    pub fn failure(self, reason: &FailureReason) -> String {
        let minutes = |seconds: f64| {
            let minutes = seconds / 60.0;
            self.number(minutes, if minutes < 10.0 { 1 } else { 0 })
        };
        let values = match reason {
            FailureReason::CodecUnknown { codec }
            | FailureReason::CodecNotAllowed { codec }
            | FailureReason::Undecodable { codec } => vec![("codec", codec.clone())],
            FailureReason::ContainerNotAllowed { container } => vec![("container", container.clone())],
            FailureReason::StillPicture { format } => vec![("format", format.clone())],
            FailureReason::VideoTooLong { duration_s, limit_s } => {
                vec![("length", minutes(*duration_s)), ("limit", minutes(*limit_s))]
            }
            FailureReason::PictureTooLarge { width, height, limit } => {
                vec![("width", width.to_string()), ("height", height.to_string()), ("limit", limit.to_string())]
            }
            FailureReason::VideoTooCostly { resource, needed, limit } => {
                let (key, unit, decimals) = match resource {
                    Resource::Memory => ("video_too_costly_memory", 1e9, 1),
                    Resource::Pixels => ("video_too_costly_pixels", 1e9, 0),
                    Resource::CpuTime => ("video_too_costly_cpu_time", 60.0, 0),
                };
                #[expect(clippy::cast_precision_loss, reason = "rounded numbers for people")]
                let [needed, limit] = [*needed, *limit].map(|value| value as f64 / unit);
                // A limit below one unit would be rounded to 0.
                let decimals = if limit < 1.0 { decimals.max(2) } else { decimals };
                let number = |value| self.number(value, decimals);
                return self.sentence("failure", key, &[("needed", number(needed)), ("limit", number(limit))]);
            }
            FailureReason::AddressRefused { host } | FailureReason::VideoUnreachable { host } => {
                vec![("host", host.clone())]
            }
            FailureReason::TooManyRedirects { host, limit } => {
                vec![("host", host.clone()), ("limit", limit.to_string())]
            }
            FailureReason::VideoRefused { host, status } => {
                vec![("host", host.clone()), ("status", status.to_string())]
            }
            FailureReason::VideoTooSlow { host, limit_s } => {
                #[expect(clippy::cast_precision_loss, reason = "a rounded number for people")]
                let limit = minutes(*limit_s as f64);
                vec![("host", host.clone()), ("limit", limit)]
            }
            FailureReason::VideoTooLarge { limit } => vec![("limit", ByteSize(*limit).to_string())],
            FailureReason::DecoderFailed
            | FailureReason::VisionFailed
            | FailureReason::NotReady
            | FailureReason::InternalError => return self.sentence("failure", "service", &[]),
            FailureReason::Cancelled
            | FailureReason::NotAVideo
            | FailureReason::Encrypted
            | FailureReason::SourceUnreadable
            | FailureReason::VideoGone
            | FailureReason::StorageUnavailable
            | FailureReason::StorageFull
            | FailureReason::AnalysisCrashed
            | FailureReason::LiveSessionLost
            | FailureReason::LiveWithoutPictures
            | FailureReason::ResultNotStored => vec![],
        };
        self.sentence("failure", reason.code(), &values)
    }

    fn sentence(self, section: &str, key: &str, values: &[(&str, String)]) -> String {
        let values: Vec<(&str, &str)> = values.iter().map(|(name, value)| (*name, value.as_str())).collect();
        crate::locale::fill(self.0, &format!("{section}.{key}"), &values)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::analysis::Language;
    use crate::locale;

    /// Checks that the keys of the used texts are all keys of the section, and that every placeholder is replaced.
    fn check(language: Language, section: &str, told: &[(String, String)]) {
        for (key, text) in told {
            assert!(locale::find(language, &format!("{section}.{key}")).is_some(), "{}: {key}", language.tag());
            assert!(!text.contains("%{") && text.ends_with('.'), "{}: {text}", language.tag());
        }
        let used: BTreeSet<&str> = told.iter().map(|(key, _)| key.as_str()).collect();
        let known = locale::keys(language, section);
        assert_eq!(known.iter().map(String::as_str).collect::<BTreeSet<_>>(), used, "{}", language.tag());
    }

    #[test]
    fn every_warning_and_failure_has_a_sentence_in_every_language() {
        for language in Language::all() {
            let words = Words(language);
            let told = Warning::examples().into_iter().map(|warning| {
                let json = serde_json::to_value(&warning).unwrap();
                (json["code"].as_str().unwrap().to_owned(), words.warning(&warning).unwrap())
            });
            check(language, "warning", &told.collect::<Vec<_>>());
            let told = FailureReason::examples().into_iter().map(|reason| {
                let text = words.failure(&reason);
                let key = match &reason {
                    _ if text == words.sentence("failure", "service", &[]) => "service".to_owned(),
                    FailureReason::VideoTooCostly { resource, .. } => {
                        format!("{}_{}", reason.code(), serde_json::to_value(resource).unwrap().as_str().unwrap())
                    }
                    _ => reason.code().to_owned(),
                };
                (key, text)
            });
            check(language, "failure", &told.collect::<Vec<_>>());
        }
        assert_eq!(Words(Language::EN).warning(&Warning::Unknown), None);
    }

    #[test]
    fn numbers_use_the_format_of_the_language() {
        let told = |tag, warning| Words(Language::from_tag(tag).unwrap()).warning(&warning).unwrap();
        let cut_off = || Warning::VideoCutOff { expected_s: 19.69, end_s: 4.0 };
        assert!(told("en", cut_off()).contains("should last 19.7 s"), "{}", told("en", cut_off()));
        assert!(told("de", cut_off()).contains("19,7 s dauern"), "{}", told("de", cut_off()));
        assert!(told("de", Warning::EyesRarelyRead { share: 0.384 }).contains("38\u{a0}% der Zeit"));
        let long = FailureReason::VideoTooLong { duration_s: 10_801.0, limit_s: 90.0 };
        let text = Words(Language::EN).failure(&long);
        assert!(text.contains("180 minutes") && text.contains("1.5 minutes"), "{text}");
        let costly = |resource, needed, limit| {
            Words(Language::EN).failure(&FailureReason::VideoTooCostly { resource, needed, limit })
        };
        let memory = costly(Resource::Memory, 1_611_000_000, 1 << 30);
        assert!(memory.contains("needs 1.6 GB of memory; the limit is 1.1 GB"), "{memory}");
        let memory = costly(Resource::Memory, 104_000_000, 40_000_000);
        assert!(memory.contains("needs 0.10 GB of memory; the limit is 0.04 GB"), "{memory}");
        let time = costly(Resource::CpuTime, 31, 30);
        assert!(time.contains("more than 0.50 minutes"), "{time}");
    }
}
