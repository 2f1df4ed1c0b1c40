//! Chooses the video stream and the sound stream of a container, and reads their properties.

use ffmpeg_next as ffmpeg;
use ffmpeg_next::codec::Id;
use ffmpeg_next::format::context::Input;
use ffmpeg_next::format::stream::Disposition;
use ffmpeg_next::{Stream, ffi as sys, media};

use super::ffi::{self, extradata};
use super::nal::parameter_sets;
use super::{ProbeError, codecs};
use crate::config::Video;

/// Streams that start further apart than this do not share a clock, in seconds.
const MAX_START_DIFFERENCE_S: f64 = 7200.0;

/// The name of an unknown codec.
const UNKNOWN_CODEC: &str = "unknown";

/// Whether a stream is sound, or video other than a cover or thumbnails.
pub(super) fn is_timed(stream: &Stream<'_>) -> bool {
    let still = sys::AV_DISPOSITION_ATTACHED_PIC | sys::AV_DISPOSITION_TIMED_THUMBNAILS;
    let disposition = ffi::disposition(stream);
    match stream.parameters().medium() {
        media::Type::Audio => true,
        media::Type::Video => disposition & still == 0,
        _ => false,
    }
}

/// The video stream: preferably one with several frames and a usual codec, then as FFmpeg chooses (the default stream,
/// the higher bit rate, the first). Covers are ignored.
pub(super) fn video(input: &Input) -> Option<Stream<'_>> {
    let candidates =
        input.streams().filter(|stream| stream.parameters().medium() == media::Type::Video && is_timed(stream));
    candidates.max_by_key(|stream| {
        let disposition = stream.disposition();
        let is_impaired = disposition.intersects(Disposition::HEARING_IMPAIRED | Disposition::VISUAL_IMPAIRED);
        let is_default = disposition.contains(Disposition::DEFAULT);
        let (width, height) = size(stream);
        let bit_rate = ffi::bit_rate(&stream.parameters());
        (
            width > 0 && height > 0,
            has_several_frames(stream),
            codecs::is_default(stream.parameters().id()),
            has_decoder(stream.parameters().id()),
            u8::from(!is_impaired) + u8::from(is_default),
            bit_rate,
            std::cmp::Reverse(stream.index()),
        )
    })
}

/// The coded width and height of a video stream; 0 if unknown.
pub(super) fn size(stream: &Stream<'_>) -> (u32, u32) {
    let (width, height) = ffi::coded_size(&stream.parameters());
    (width.try_into().unwrap_or(0), height.try_into().unwrap_or(0))
}

/// Whether a stream has more than one frame, by the header of the container.
fn has_several_frames(stream: &Stream<'_>) -> bool {
    // FFmpeg estimates a mean frame rate only if there are at least two frames.
    let rate = stream.avg_frame_rate();
    stream.frames() > 1 || (stream.frames() == 0 && rate.numerator() > 0 && rate.denominator() > 0)
}

/// The sound stream, as FFmpeg chooses.
pub(super) fn sound(input: &Input) -> Option<Stream<'_>> {
    input.streams().best(media::Type::Audio)
}

/// The maximum number of streams that are tried in place of the default one.
const MAX_OTHERS: usize = 4;

/// The n-th choice of the sound streams: first that of [`sound`], then those in its language, then the others, in the
/// order of the file.
pub(super) fn sound_choice<'a>(input: &'a Input, choice: usize, limits: &Video) -> Option<Stream<'a>> {
    let default = sound(input)?;
    let Some(other) = choice.checked_sub(1) else { return Some(default) };
    let language = |stream: &Stream<'_>| stream.metadata().get("language").unwrap_or("und").to_owned();
    let excluded = Disposition::HEARING_IMPAIRED
        | Disposition::VISUAL_IMPAIRED
        | Disposition::COMMENT
        | Disposition::KARAOKE
        | Disposition::LYRICS;
    let mut others: Vec<Stream<'_>> = input
        .streams()
        .filter(|stream| stream.parameters().medium() == media::Type::Audio && stream.index() != default.index())
        .filter(|stream| !stream.disposition().intersects(excluded) && check(stream, limits).is_ok())
        .collect();
    others.sort_by_key(|stream| (language(stream) != language(&default), stream.index()));
    others.into_iter().take(MAX_OTHERS).nth(other)
}

/// The time stamp at which a video starts, in seconds. It is the earliest start of video and sound, as in Chromium
/// (`FFmpegDemuxer`). Sound before time stamp 0 is encoder priming and does not count.
pub(super) fn start_s(input: &Input) -> f64 {
    let video_start = video(input).as_ref().and_then(stream_start_s);
    let sounds = input.streams().filter(|stream| stream.parameters().medium() == media::Type::Audio);
    let sound_start = sounds.filter_map(|stream| stream_start_s(&stream)).map(|start| start.max(0.0)).reduce(f64::min);
    match (video_start, sound_start) {
        (Some(video), Some(sound)) if (video - sound).abs() <= MAX_START_DIFFERENCE_S => video.min(sound),
        (Some(video), _) => video,
        (None, sound) => sound.unwrap_or(0.0),
    }
}

/// The time of the first frame in seconds, if the container has decoding time stamps only (AVI).
pub(super) fn first_frame_s(input: &Input) -> Option<f64> {
    let start = video(input).as_ref().and_then(stream_start_s)?;
    input.format().name().contains("avi").then(|| (start - start_s(input)).max(0.0))
}

/// The duration in the header of the container, from the start of the video to the end of its longest stream, in
/// seconds; 0 if unknown.
pub(super) fn duration_s(input: &Input) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "seconds need no 53 bits")]
    let header_s = input.duration() as f64 / f64::from(sys::AV_TIME_BASE);
    // MP4, Matroska and FLV measure the duration from time stamp 0, the others from the first time stamp.
    let counts_from_zero = ["matroska", "mov", "flv"].iter().any(|kind| input.format().name().contains(kind));
    let before_start_s = if counts_from_zero { start_s(input).max(0.0) } else { 0.0 };
    if input.duration() > 0 && header_s > before_start_s { header_s - before_start_s } else { 0.0 }
}

fn stream_start_s(stream: &Stream<'_>) -> Option<f64> {
    let ticks = stream.start_time();
    #[expect(clippy::cast_precision_loss, reason = "seconds need no 53 bits")]
    let start = ticks as f64 * f64::from(stream.time_base());
    (ticks != sys::AV_NOPTS_VALUE && start.is_finite()).then_some(start)
}

/// The frame rate in the sequence parameter set of H.264 (ITU-T H.264, section E.2.1).
pub(super) fn coded_fps(stream: &Stream<'_>) -> Option<f64> {
    let parameters = stream.parameters();
    if parameters.id() != Id::H264 {
        return None;
    }
    let context = parameter_sets(extradata(&parameters))?;
    let timing = context.sps().next()?.vui_parameters.as_ref()?.timing_info.as_ref()?;
    let fps = f64::from(timing.time_scale) / (2.0 * f64::from(timing.num_units_in_tick));
    (1.0..=240.0).contains(&fps).then_some(fps)
}

fn has_decoder(id: Id) -> bool {
    ffmpeg::decoder::find(id).is_some()
}

/// FFmpeg's name of the codec, or the codec tag of the file if FFmpeg does not know the codec.
pub(super) fn codec_name(stream: &Stream<'_>) -> String {
    let parameters = stream.parameters();
    if parameters.id() != Id::None {
        return parameters.id().name().to_owned();
    }
    let tag = ffi::codec_tag(&parameters);
    let letters: String = tag.to_le_bytes().iter().map(|byte| char::from(*byte)).collect();
    if tag != 0 && letters.chars().all(|letter| letter.is_ascii_graphic() || letter == ' ') {
        letters.trim().to_owned()
    } else {
        UNKNOWN_CODEC.to_owned()
    }
}

/// Whether a stream is encrypted by Matroska's `ContentEncryption`.
pub(super) fn is_encrypted_stream(stream: &Stream<'_>) -> bool {
    stream.metadata().get("enc_key_id").is_some()
}

/// Returns an error if a stream cannot be decoded, or must not be.
pub(super) fn check(stream: &Stream<'_>, limits: &Video) -> Result<(), ProbeError> {
    if is_encrypted_stream(stream) {
        return Err(ProbeError::Encrypted);
    }
    let id = stream.parameters().id();
    match codec_name(stream) {
        _ if has_decoder(id) && codecs::is_allowed(id, limits) => Ok(()),
        codec if has_decoder(id) => Err(ProbeError::CodecNotAllowed { codec }),
        // The header is truncated.
        codec if codec == UNKNOWN_CODEC => Err(ProbeError::NotAVideo),
        codec => Err(ProbeError::NoDecoder { codec }),
    }
}
