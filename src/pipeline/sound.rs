//! Analyzes the sound on one thread beside those of the pictures. Defects of the sound become warnings. An error of the
//! storage fails the analysis, because another run may read the whole sound track. So does sound that takes too much
//! CPU time to decode.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::Cancel;
use crate::analysis::{ModelUsed, Speech, Warning};
use crate::engine::EngineError;
use crate::fault::Fault;
use crate::isolation::{Sound, VideoFile};
use crate::media::{ProbeError, SOUND_RATE, SoundError};
use crate::speech::{self, SpeechModels};
use crate::telemetry::step;

// Decoded sound has the sample rate that the speech models need.
const _: () = assert!(SOUND_RATE == speech::RATE);

/// Result of the sound stage.
#[derive(Debug, Default)]
pub struct SoundResult {
    pub(super) speech: Option<Speech>,
    pub(super) models: Vec<ModelUsed>,
    pub(super) warnings: Vec<Warning>,
    /// Storage failed while the sound was read, so that it is incomplete, or decoding the sound is too costly. The
    /// analysis fails.
    pub(super) error: Option<ProbeError>,
    pub(super) busy: Duration,
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Sound(#[from] SoundError),
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl Error {
    /// Whether the sound track is the cause, so that another track may be readable.
    const fn is_of_track(&self) -> bool {
        use SoundError::{CodecNotAllowed, Encrypted, Undecodable};
        matches!(self, Self::Sound(Undecodable { .. } | CodecNotAllowed { .. } | Encrypted))
    }
}

/// Runs `pictures` on this thread and analyzes the sound track on another one. If `pictures` fails, the analysis of the
/// sound stops, because its result is not needed. `wanted`: whether to analyze the sound track, or `None` without a
/// sound track.
pub(super) fn run_beside<T, E>(
    speech_models: &SpeechModels,
    video: &VideoFile,
    wanted: Option<bool>,
    cancel: &Cancel,
    pictures: impl FnOnce() -> Result<T, E>,
) -> (Result<T, E>, SoundResult) {
    let Some(is_wanted) = wanted else { return (pictures(), SoundResult::default()) };
    if !is_wanted {
        return (pictures(), SoundResult::only(Warning::SpeechLeftOut));
    }
    if !speech_models.is_enabled() {
        return (pictures(), SoundResult::only(Warning::SpeechDisabled));
    }
    let pictures_failed = Arc::new(AtomicBool::new(false));
    let stop = {
        let (pictures_failed, cancel) = (pictures_failed.clone(), cancel.clone());
        move || pictures_failed.load(Ordering::Relaxed) || cancel.is_cancelled()
    };
    std::thread::scope(|scope| {
        let span = tracing::Span::current();
        let analyze = || sound_result(speech_models, video, &stop);
        let analyze = move || span.in_scope(|| step!("analyze sound").in_scope(analyze));
        let thread = std::thread::Builder::new().name("sound".to_owned()).spawn_scoped(scope, analyze);
        let seen = pictures();
        pictures_failed.store(seen.is_err(), Ordering::Relaxed);
        let result = thread
            .ok()
            .and_then(|thread| thread.join().ok())
            .unwrap_or_else(|| SoundResult::only(Warning::SpeechFailed));
        (seen, result)
    })
}

impl SoundResult {
    /// Returns a result without speech, with the reason as a warning.
    fn only(warning: Warning) -> Self {
        Self { warnings: vec![warning], ..Self::default() }
    }
}

fn sound_result(
    speech_models: &SpeechModels,
    video: &VideoFile,
    stop: &(impl Fn() -> bool + Clone + Send + 'static),
) -> SoundResult {
    let started = Instant::now();
    let result = match analyze_sound(speech_models, video, stop) {
        Ok(Some(result)) => result,
        // The probe found a sound track, but it could not be opened.
        Ok(None) => return SoundResult::only(Warning::SoundUnreadable),
        Err(Error::Sound(SoundError::Cancelled)) => return SoundResult::default(),
        Err(Error::Sound(SoundError::Source(error))) if fails_analysis(&error) => {
            return SoundResult { error: Some(error), ..SoundResult::default() };
        }
        Err(error) => {
            tracing::warn!(%error, "the sound track was not analyzed");
            return SoundResult::only(match &error {
                Error::Sound(SoundError::CodecNotAllowed { codec }) => {
                    Warning::SoundCodecNotAllowed { codec: codec.clone() }
                }
                Error::Sound(SoundError::Encrypted) => Warning::SoundEncrypted,
                Error::Sound(_) => Warning::SoundUndecodable,
                Error::Engine(error) if error.is_missing() => {
                    Warning::SpeechModelMissing { model: speech::VAD_MODEL.to_owned() }
                }
                Error::Engine(_) => Warning::SpeechModelFailed,
            });
        }
    };
    let speech::SpeechResult { speech, models, warnings } = result;
    SoundResult { speech: Some(speech), models, warnings, error: None, busy: started.elapsed() }
}

/// Whether an error of reading the sound fails the whole analysis.
const fn fails_analysis(error: &ProbeError) -> bool {
    matches!(error, ProbeError::TooCostly { .. }) || matches!(error.fault(), Fault::Ours(_))
}

/// Analyzes the default sound track. If that is silent, encrypted or undecodable, the first other track with sound
/// replaces it.
fn analyze_sound(
    speech_models: &SpeechModels,
    video: &VideoFile,
    stop: &(impl Fn() -> bool + Clone + Send + 'static),
) -> Result<Option<speech::SpeechResult>, Error> {
    let choice = |choice| analyze_choice(speech_models, video, choice, stop);
    let default = match choice(0) {
        Ok(Some(track)) if track.is_silent => Ok(track.result),
        Ok(track) => return Ok(track.map(|track| track.result)),
        Err(error) if error.is_of_track() => Err(error),
        Err(error) => return Err(error),
    };
    for other in 1.. {
        match choice(other) {
            Ok(None) => break,
            Ok(Some(track)) if track.is_silent => {}
            Ok(Some(Track { mut result, stream, .. })) => {
                result.warnings.push(match default {
                    Ok(_) => Warning::OtherSoundTrack { stream },
                    Err(_) => Warning::ReadableSoundTrack { stream },
                });
                return Ok(Some(result));
            }
            Err(error) if error.is_of_track() => {}
            Err(error) => return Err(error),
        }
    }
    default.map(Some)
}

/// An analyzed sound track.
struct Track {
    result: speech::SpeechResult,
    /// Its index in the file.
    stream: usize,
    is_silent: bool,
}

/// Analyzes the n-th choice of the sound tracks ([`VideoFile::sound`]). Returns `None` if there are fewer.
fn analyze_choice(
    speech_models: &SpeechModels,
    video: &VideoFile,
    choice: usize,
    stop: &(impl Fn() -> bool + Clone + Send + 'static),
) -> Result<Option<Track>, Error> {
    let Some(mut sound) = video.sound(choice, stop.clone())? else { return Ok(None) };
    let result = analyze_track(speech_models, &mut sound, stop)?;
    Ok(Some(Track { result, stream: sound.stream(), is_silent: sound.is_silent() }))
}

/// Analyzes a sound track from beginning to end.
fn analyze_track(
    speech_models: &SpeechModels,
    sound: &mut Sound,
    stop: &impl Fn() -> bool,
) -> Result<speech::SpeechResult, Error> {
    let mut analyzer = speech_models.analyzer()?;
    while let Some(samples) = sound.next(stop)? {
        analyzer.push(&samples)?;
    }
    Ok(analyzer.finish()?)
}
