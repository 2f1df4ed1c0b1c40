//! The sound stage: one thread beside those of the pictures. What is wrong with the sound becomes a warning; only a source
//! that breaks off fails the analysis, since another run can read all of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::Cancel;
use crate::analysis::{ModelUsed, Speech, Warning};
use crate::config::Video;
use crate::engine::EngineError;
use crate::fault::Fault;
use crate::media::{ProbeError, SOUND_RATE, Sound, SoundError, Source};
use crate::speech::{self, Hearing};

// What the one gives is what the other takes.
const _: () = assert!(SOUND_RATE == speech::RATE);

/// What the sound track gave.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub speech: Option<Speech>,
    pub models: Vec<ModelUsed>,
    pub warnings: Vec<Warning>,
    /// Storage broke off while the sound was read: no result may be made of what was heard until then.
    pub broke_off: Option<ProbeError>,
    pub busy: Duration,
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Sound(#[from] SoundError),
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Runs `pictures` here and listens to the sound track on a thread of its own. When the pictures fail, listening stops
/// too: nobody will read what it gives. `wanted`: whether the sound track is to be listened to, where there is one.
pub(super) fn beside<T, E>(
    hearing: &Hearing,
    source: &Source,
    limits: &Video,
    wanted: Option<bool>,
    cancel: &Cancel,
    pictures: impl FnOnce() -> Result<T, E>,
) -> (Result<T, E>, Heard) {
    let Some(is_wanted) = wanted else { return (pictures(), Heard::default()) };
    if !is_wanted {
        return (pictures(), Heard::only(Warning::SpeechLeftOut));
    }
    if !hearing.is_enabled() {
        return (pictures(), Heard::only(Warning::SpeechDisabled));
    }
    let given_up = Arc::new(AtomicBool::new(false));
    let stop = {
        let (given_up, cancel) = (given_up.clone(), cancel.clone());
        move || given_up.load(Ordering::Relaxed) || cancel.is_cancelled()
    };
    std::thread::scope(|scope| {
        let listen = move || listen(hearing, source, limits, &stop);
        let listening = std::thread::Builder::new().name("listen".to_owned()).spawn_scoped(scope, listen);
        let seen = pictures();
        given_up.store(seen.is_err(), Ordering::Relaxed);
        let heard =
            listening.ok().and_then(|thread| thread.join().ok()).unwrap_or_else(|| Heard::only(Warning::SpeechFailed));
        (seen, heard)
    })
}

impl Heard {
    /// Nothing, and why.
    fn only(warning: Warning) -> Self {
        Self { warnings: vec![warning], ..Self::default() }
    }
}

fn listen(
    hearing: &Hearing,
    source: &Source,
    limits: &Video,
    stop: &(impl Fn() -> bool + Clone + Send + 'static),
) -> Heard {
    let started = Instant::now();
    let heard = match hear(hearing, source, limits, stop) {
        Ok(Some(heard)) => heard,
        // The probe saw a sound track, so there is one.
        Ok(None) => return Heard::only(Warning::SoundUnreadable),
        Err(Failed::Sound(SoundError::Cancelled)) => return Heard::default(),
        Err(Failed::Sound(SoundError::Source(error))) if matches!(error.fault(), Fault::Ours(_)) => {
            return Heard { broke_off: Some(error), ..Heard::default() };
        }
        Err(error) => {
            tracing::warn!(%error, "the sound track was not analyzed");
            return Heard::only(match &error {
                Failed::Sound(SoundError::Encrypted) => Warning::SoundEncrypted,
                Failed::Sound(_) => Warning::SoundUndecodable,
                Failed::Engine(error) if error.is_missing() => {
                    Warning::SpeechModelMissing { model: speech::VAD_MODEL.to_owned() }
                }
                Failed::Engine(_) => Warning::SpeechModelFailed,
            });
        }
    };
    let speech::Heard { speech, models, warnings } = heard;
    Heard { speech: Some(speech), models, warnings, broke_off: None, busy: started.elapsed() }
}

fn hear(
    hearing: &Hearing,
    source: &Source,
    limits: &Video,
    stop: &(impl Fn() -> bool + Clone + Send + 'static),
) -> Result<Option<speech::Heard>, Failed> {
    let Some(mut sound) = Sound::open(source, limits, stop.clone())? else { return Ok(None) };
    let heard = hear_track(hearing, &mut sound, stop)?;
    if sound.is_silent() {
        // Only a track without any sound gives way, and only to one that has some.
        for track in sound.others() {
            match hear_other(hearing, source, limits, *track, stop) {
                Ok(Some(mut heard)) => {
                    heard.warnings.push(Warning::OtherSoundTrack { stream: *track });
                    return Ok(Some(heard));
                }
                Ok(None) | Err(Failed::Sound(SoundError::Undecodable { .. } | SoundError::Encrypted)) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(Some(heard))
}

/// `None`: that track is silent, too.
fn hear_other(
    hearing: &Hearing,
    source: &Source,
    limits: &Video,
    track: usize,
    stop: &(impl Fn() -> bool + Clone + Send + 'static),
) -> Result<Option<speech::Heard>, Failed> {
    let Some(mut sound) = Sound::open_track(source, limits, Some(track), stop.clone())? else { return Ok(None) };
    let heard = hear_track(hearing, &mut sound, stop)?;
    Ok((!sound.is_silent()).then_some(heard))
}

/// From beginning to end.
fn hear_track(hearing: &Hearing, sound: &mut Sound, stop: &impl Fn() -> bool) -> Result<speech::Heard, Failed> {
    let mut listener = hearing.listen()?;
    while let Some(samples) = sound.next(stop)? {
        listener.push(&samples)?;
    }
    Ok(listener.finish()?)
}
