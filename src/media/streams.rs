//! Which streams of a container are the video's pictures and its sound, where its time begins, and whether they can be
//! decoded.

use ffmpeg_next as ffmpeg;
use ffmpeg_next::codec::Id;
use ffmpeg_next::codec::packet::Ref;
use ffmpeg_next::format::context::Input;
use ffmpeg_next::format::stream::Disposition;
use ffmpeg_next::{Packet, Stream, ffi, media};
use h264_reader::avcc::AvcDecoderConfigurationRecord;

use super::ProbeError;
use super::nal::extradata;

/// Tracks that begin further apart than this do not belong to one clock, in seconds.
const APART_S: f64 = 7200.0;

/// The name of a codec that the file does not tell.
const UNKNOWN: &str = "unknown";

/// Whether a stream has times that count: pictures that move, or sound.
pub(super) fn is_timed(stream: &Stream<'_>) -> bool {
    let still = ffi::AV_DISPOSITION_ATTACHED_PIC | ffi::AV_DISPOSITION_TIMED_THUMBNAILS;
    // SAFETY: the stream belongs to an open container.
    let disposition = unsafe { (*stream.as_ptr()).disposition };
    match stream.parameters().medium() {
        media::Type::Audio => true,
        media::Type::Video => disposition & still == 0,
        _ => false,
    }
}

/// The stream with the video's pictures: one that moves rather than a poster of one frame, then as FFmpeg chooses (the
/// default track, the higher bit rate, the first). A cover is none.
pub(super) fn pictures(input: &Input) -> Option<Stream<'_>> {
    let candidates =
        input.streams().filter(|stream| stream.parameters().medium() == media::Type::Video && is_timed(stream));
    candidates.max_by_key(|stream| {
        let disposition = stream.disposition();
        let is_impaired = disposition.intersects(Disposition::HEARING_IMPAIRED | Disposition::VISUAL_IMPAIRED);
        let is_default = disposition.contains(Disposition::DEFAULT);
        let (width, height) = size(stream);
        // SAFETY: the parameters live as long as the stream's container.
        let bit_rate = unsafe { (*stream.parameters().as_ptr()).bit_rate };
        (
            width > 0 && height > 0,
            moves(stream),
            has_decoder(stream.parameters().id()),
            u8::from(!is_impaired) + u8::from(is_default),
            bit_rate,
            std::cmp::Reverse(stream.index()),
        )
    })
}

/// Width and height of a stream's pictures as stored; 0 where they are not known or the stream has none.
pub(super) fn size(stream: &Stream<'_>) -> (u32, u32) {
    let parameters = stream.parameters();
    // SAFETY: the parameters live as long as the stream's container, which `stream` borrows.
    let (width, height) = unsafe { ((*parameters.as_ptr()).width, (*parameters.as_ptr()).height) };
    (width.try_into().unwrap_or(0), height.try_into().unwrap_or(0))
}

/// Whether a stream has more than one frame, as far as the container tells.
fn moves(stream: &Stream<'_>) -> bool {
    // FFmpeg works out a mean rate of what has at least two frames.
    let rate = stream.avg_frame_rate();
    stream.frames() > 1 || (stream.frames() == 0 && rate.numerator() > 0 && rate.denominator() > 0)
}

/// The stream with the sound, as FFmpeg chooses.
pub(super) fn sound(input: &Input) -> Option<Stream<'_>> {
    input.streams().best(media::Type::Audio)
}

/// Most tracks that are listened to where the default one is silent.
const MOST_OTHERS: usize = 4;

/// Sound tracks that may stand in for `chosen`: those in its language first, then in the order of the file.
pub(super) fn other_sounds(input: &Input, chosen: &Stream<'_>) -> Vec<usize> {
    let language = |stream: &Stream<'_>| stream.metadata().get("language").unwrap_or("und").to_owned();
    let apart = Disposition::HEARING_IMPAIRED
        | Disposition::VISUAL_IMPAIRED
        | Disposition::COMMENT
        | Disposition::KARAOKE
        | Disposition::LYRICS;
    let mut others: Vec<(bool, usize)> = input
        .streams()
        .filter(|stream| stream.parameters().medium() == media::Type::Audio && stream.index() != chosen.index())
        .filter(|stream| !stream.disposition().intersects(apart) && check(stream).is_ok())
        .map(|stream| (language(&stream) != language(chosen), stream.index()))
        .collect();
    others.sort_unstable();
    others.into_iter().map(|(_, index)| index).take(MOST_OTHERS).collect()
}

/// The time stamp, in seconds, at which a video begins: where players have zero. That is the earliest start of pictures
/// and sound, as in Chromium (`FFmpegDemuxer`), which leaves out the lead-in of sound below zero as well.
pub(super) fn zero_s(input: &Input) -> f64 {
    let pictures = pictures(input);
    let of_pictures = pictures.as_ref().and_then(start_s);
    let others = input.streams().filter(is_timed).filter(|stream| stream.parameters().medium() == media::Type::Audio);
    let of_sound = others.filter_map(|stream| start_s(&stream)).map(|start| start.max(0.0)).reduce(f64::min);
    match (of_pictures, of_sound) {
        (Some(pictures), Some(sound)) if (pictures - sound).abs() <= APART_S => pictures.min(sound),
        (Some(pictures), _) => pictures,
        (None, sound) => sound.unwrap_or(0.0),
    }
}

/// The time of the first picture in seconds, where the time stamp of that does not tell: AVI has those of decoding alone.
pub(super) fn first_s(input: &Input) -> Option<f64> {
    let start = pictures(input).as_ref().and_then(start_s)?;
    input.format().name().contains("avi").then(|| (start - zero_s(input)).max(0.0))
}

/// From the start of the video to the end of its longest track, in seconds, as the container says; 0 where it does not.
pub(super) fn duration_s(input: &Input) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "seconds need no 53 bits")]
    let told = input.duration() as f64 / f64::from(ffi::AV_TIME_BASE);
    // MP4, Matroska and FLV count from time stamp 0, the others from the first one.
    let counts_from_zero = ["matroska", "mov", "flv"].iter().any(|kind| input.format().name().contains(kind));
    let before_start_s = if counts_from_zero { zero_s(input).max(0.0) } else { 0.0 };
    if input.duration() > 0 && told > before_start_s { told - before_start_s } else { 0.0 }
}

fn start_s(stream: &Stream<'_>) -> Option<f64> {
    let ticks = stream.start_time();
    #[expect(clippy::cast_precision_loss, reason = "seconds need no 53 bits")]
    let start = ticks as f64 * f64::from(stream.time_base());
    (ticks != ffi::AV_NOPTS_VALUE && start.is_finite()).then_some(start)
}

/// The frame rate that the pictures themselves tell (ITU-T H.264, E.2.1).
pub(super) fn coded_fps(stream: &Stream<'_>) -> Option<f64> {
    let parameters = stream.parameters();
    if parameters.id() != Id::H264 {
        return None;
    }
    let context = AvcDecoderConfigurationRecord::try_from(extradata(&parameters)).ok()?.create_context().ok()?;
    let timing = context.sps().next()?.vui_parameters.as_ref()?.timing_info.as_ref()?;
    let fps = f64::from(timing.time_scale) / (2.0 * f64::from(timing.num_units_in_tick));
    (1.0..=240.0).contains(&fps).then_some(fps)
}

fn has_decoder(id: Id) -> bool {
    ffmpeg::decoder::find(id).is_some()
}

/// The codec as FFmpeg calls it, or as the file does where FFmpeg does not know it.
pub(super) fn codec_name(stream: &Stream<'_>) -> String {
    let parameters = stream.parameters();
    if parameters.id() != Id::None {
        return parameters.id().name().to_owned();
    }
    // SAFETY: the parameters live as long as the stream's container.
    let tag = unsafe { (*parameters.as_ptr()).codec_tag };
    let letters: String = tag.to_le_bytes().iter().map(|byte| char::from(*byte)).collect();
    if tag != 0 && letters.chars().all(|letter| letter.is_ascii_graphic() || letter == ' ') {
        letters.trim().to_owned()
    } else {
        UNKNOWN.to_owned()
    }
}

/// Whether no frame of a stream can be read without a key: a track of Matroska with a content encryption.
pub(super) fn is_encrypted(stream: &Stream<'_>) -> bool {
    stream.metadata().get("enc_key_id").is_some()
}

/// Whether a packet can only be read with a key (ISO/IEC 23001-7).
pub(super) fn is_locked(packet: &Packet) -> bool {
    let kind = ffi::AVPacketSideDataType::AV_PKT_DATA_ENCRYPTION_INFO;
    // SAFETY: the packet is borrowed for as long as the pointer is used; nobody asks for the size.
    !unsafe { ffi::av_packet_get_side_data(packet.as_ptr(), kind, std::ptr::null_mut()) }.is_null()
}

/// Refuses a stream that cannot be decoded, and says why.
pub(super) fn check(stream: &Stream<'_>) -> Result<(), ProbeError> {
    if is_encrypted(stream) {
        return Err(ProbeError::Encrypted);
    }
    if has_decoder(stream.parameters().id()) {
        return Ok(());
    }
    match codec_name(stream) {
        // A header that ends in the middle.
        codec if codec == UNKNOWN => Err(ProbeError::NotAVideo),
        codec => Err(ProbeError::NoDecoder { codec }),
    }
}
