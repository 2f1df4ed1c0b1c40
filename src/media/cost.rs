//! Estimates the cost of decoding a stream from its headers: the memory of its decoders, and its pixels.

use ffmpeg_next::codec::Parameters;
use h264_reader::nal::sps::SeqParameterSet;
use h264_reader::nal::{Nal as _, RefNal};

use super::budget::SIDE_BYTES;
use super::limits::max_total_pixels;
use super::nal::parameter_sets;
use super::{ProbeError, ffi};
use crate::analysis::Resource;
use crate::config::Video;

/// The largest number of reference frames in H.264, HEVC and VVC.
const MAX_REFERENCES: u64 = 16;
/// Frames of a decoder that are decoded and wait to be converted.
const WAITING_FRAMES: u64 = 3;
/// Several decoders are used only if their estimated memory is at most this share of the limit, as numerator and
/// denominator. The rest is a margin for the error of the estimate.
const SHARE_OF_SEVERAL: (u64, u64) = (2, 3);

/// Checks the cost of decoding a stream, by its headers. `frames` is the number of frames, if it is certain.
pub(super) fn check(parameters: &Parameters, frames: Option<u64>, limits: &Video) -> Result<(), ProbeError> {
    let limit = limits.max_decoder_memory.0;
    let needed = estimate(parameters, 1);
    if needed > limit {
        return Err(ProbeError::TooCostly { resource: Resource::Memory, needed, limit });
    }
    let limit = max_total_pixels(limits);
    let needed = frames.unwrap_or(0).saturating_mul(pixels(parameters));
    if needed > limit {
        return Err(ProbeError::TooCostly { resource: Resource::Pixels, needed, limit });
    }
    Ok(())
}

/// Checks the memory for decoding a stream of H.264 by the parameter sets in the header of the container, before FFmpeg
/// decodes frames to find the other properties.
pub(super) fn check_h264(parameters: &Parameters, limits: &Video) -> Result<(), ProbeError> {
    if parameters.id().name() != "h264" || ffi::extradata(parameters).is_empty() {
        return Ok(());
    }
    check(parameters, None, limits)
}

/// The number of decoders for a stream, at most `most`.
pub(super) fn decoders(parameters: &Parameters, most: usize, limits: &Video) -> usize {
    let (numerator, denominator) = SHARE_OF_SEVERAL;
    let limit = limits.max_decoder_memory.0 / denominator * numerator;
    (2..=most).take_while(|count| estimate(parameters, *count as u64) <= limit).last().unwrap_or(1)
}

fn pixels(parameters: &Parameters) -> u64 {
    let (width, height) = ffi::coded_size(parameters);
    u64::try_from(width).unwrap_or(0) * u64::try_from(height).unwrap_or(0)
}

/// The memory of this number of decoders, in bytes. If they decode one long group of pictures, each is a thread of one
/// decoder and adds a frame.
fn estimate(parameters: &Parameters, decoders: u64) -> u64 {
    let frame = ffi::frame_bytes(parameters).saturating_add(pixels(parameters) * SIDE_BYTES);
    (held_frames(parameters) + WAITING_FRAMES).saturating_mul(decoders).saturating_mul(frame)
}

/// The number of frames that a decoder holds: references, frames that wait to be output in order, and the current one.
fn held_frames(parameters: &Parameters) -> u64 {
    let references_and_delay = match parameters.id().name() {
        "h264" => h264_frames(parameters),
        "hevc" => hevc_frames(parameters),
        "vp8" => 3,
        "vp9" | "av1" => 8,
        "mpeg1video" | "mpeg2video" | "mpeg4" | "h263" | "flv1" => 2,
        _ if ffi::is_intra_only(parameters) => 0,
        _ => MAX_REFERENCES,
    };
    references_and_delay + 1
}

/// The reference frames of an H.264 stream (`max_num_ref_frames`) and its delay, by its sequence parameter sets.
/// Without these, the maximum.
fn h264_frames(parameters: &Parameters) -> u64 {
    let extradata = ffi::extradata(parameters);
    let found: Vec<(u64, Option<u64>)> = sequence_parameter_sets(extradata)
        .into_iter()
        .map(|sps| {
            let restrictions = sps.vui_parameters.as_ref().and_then(|vui| vui.bitstream_restrictions.as_ref());
            let delay = restrictions.map(|restrictions| u64::from(restrictions.max_num_reorder_frames));
            (u64::from(sps.max_num_ref_frames), delay)
        })
        .collect();
    // Without a delay in the stream, FFmpeg begins with none and increases it when frames are out of order.
    let probed = ffi::video_delay(parameters).max(1);
    let of = |(references, delay): &(u64, Option<u64>)| {
        references.clamp(&1, &MAX_REFERENCES) + delay.unwrap_or(probed).min(MAX_REFERENCES)
    };
    found.iter().map(of).max().unwrap_or(MAX_REFERENCES + probed)
}

/// The sequence parameter sets in an `avcC` record or in Annex B format.
fn sequence_parameter_sets(extradata: &[u8]) -> Vec<SeqParameterSet> {
    if extradata.first() == Some(&1) {
        return parameter_sets(extradata).map(|context| context.sps().cloned().collect()).unwrap_or_default();
    }
    let starts: Vec<usize> =
        extradata.windows(3).enumerate().filter(|(_, bytes)| bytes == &[0, 0, 1]).map(|(at, _)| at).collect();
    let ends = starts.iter().skip(1).copied().chain([extradata.len()]);
    let units = starts.iter().zip(ends).map(|(start, end)| &extradata[start + 3..end]);
    units
        .filter(|unit| unit.first().is_some_and(|header| header & 0x1F == 7))
        .filter_map(|unit| SeqParameterSet::from_bits(RefNal::new(unit, &[], true).rbsp_bits()).ok())
        .collect()
}

/// The decoded picture buffer that the level of an HEVC stream allows (ITU-T H.265, section A.4.2).
fn hevc_frames(parameters: &Parameters) -> u64 {
    /// `MaxLumaPs` by `general_level_idc`.
    const LEVELS: [(i32, u64); 9] = [
        (30, 36_864),
        (60, 122_880),
        (63, 245_760),
        (90, 552_960),
        (93, 983_040),
        (123, 2_228_224),
        (156, 8_912_896),
        (186, 35_651_584),
        (i32::MAX, 142_606_336),
    ];
    let (level, picture) = (ffi::level(parameters), pixels(parameters));
    let Some((_, most)) = LEVELS.into_iter().find(|(idc, _)| level <= *idc) else { return MAX_REFERENCES };
    match picture {
        // An unknown level, or one that the picture exceeds.
        _ if level <= 0 || picture > most => MAX_REFERENCES,
        _ if picture <= most / 4 => MAX_REFERENCES,
        _ if picture <= most / 2 => 12,
        _ if picture <= most / 4 * 3 => 8,
        _ => 6,
    }
}

#[cfg(test)]
mod tests {
    use ffmpeg_next::codec::Id;
    use ffmpeg_next::format::Pixel;

    use super::*;
    use crate::config::{ByteSize, Settings};
    use crate::media::ffi::testing;

    fn limits() -> Video {
        Settings::defaults().unwrap().video
    }

    fn stream(id: Id, format: Pixel, size: (i32, i32)) -> Parameters {
        testing::parameters(id, format, size)
    }

    #[test]
    fn estimates_follow_the_codec_the_level_and_the_pixel_format() {
        let uhd = (3840, 2160);
        let of = |parameters: &Parameters| estimate(parameters, 1) / 1_000_000;
        // A frame of 8.3 million pixels with 8 bits at 4:2:0 has 12.4 MB, and 8.3 MB beside it.
        assert_eq!(of(&stream(Id::MJPEG, Pixel::YUV420P, uhd)), 20_736 * 4 / 1000);
        assert_eq!(of(&stream(Id::VP9, Pixel::YUV420P, uhd)), 20_736 * 12 / 1000);
        assert_eq!(of(&stream(Id::VP9, Pixel::YUV444P10LE, uhd)), 58_060 * 12 / 1000);
        let mut hevc = stream(Id::HEVC, Pixel::YUV420P, uhd);
        for (level, frames) in [(153, 6), (186, 16), (150, 6), (120, 16), (0, 16)] {
            testing::set_level(&mut hevc, level);
            assert_eq!(held_frames(&hevc), frames + 1, "level {level}");
        }
        // Without a sequence parameter set, the most is assumed.
        assert_eq!(held_frames(&stream(Id::H264, Pixel::YUV420P, uhd)), 18);
    }

    #[test]
    fn the_default_limits_accept_the_videos_of_phones() {
        for (id, format, size, level) in [
            (Id::H264, Pixel::YUV420P, (3840, 2160), 52),
            (Id::HEVC, Pixel::YUV420P10LE, (3840, 2160), 153),
            (Id::HEVC, Pixel::YUV420P10LE, (4096, 2160), 156),
            (Id::HEVC, Pixel::YUV420P10LE, (5312, 2988), 183),
            (Id::AV1, Pixel::YUV420P10LE, (3840, 2160), 0),
            (Id::PRORES, Pixel::YUV422P10LE, (3840, 2160), 0),
        ] {
            let mut parameters = stream(id, format, size);
            testing::set_level(&mut parameters, level);
            // Two hours at 30 frames a second.
            let frames = if size.0 > 4096 { 60_000 } else { 2 * 3600 * 30 };
            assert!(check(&parameters, Some(frames), &limits()).is_ok(), "{id:?} {size:?}");
            assert!(u64::from(size.0.unsigned_abs()) * u64::from(size.1.unsigned_abs()) <= limits().max_pixels);
        }
    }

    #[test]
    fn too_many_bytes_or_pixels_are_refused_with_their_numbers() {
        let bomb = stream(Id::H264, Pixel::YUV420P, (5984, 5984));
        let refused = check(&bomb, None, &limits()).unwrap_err();
        let ProbeError::TooCostly { resource: Resource::Memory, needed, limit } = refused else { panic!("{refused}") };
        assert!(needed > 1_600_000_000 && limit == 1 << 30, "{needed} of {limit}");
        let long = stream(Id::H264, Pixel::YUV420P, (1920, 1080));
        assert!(check(&long, Some(900_000), &limits()).is_ok());
        let refused = check(&long, Some(1_000_000), &limits()).unwrap_err();
        assert!(matches!(refused, ProbeError::TooCostly { resource: Resource::Pixels, .. }), "{refused}");
    }

    #[test]
    fn decoders_share_the_memory() {
        let uhd = stream(Id::VP9, Pixel::YUV420P, (3840, 2160));
        assert_eq!(decoders(&uhd, 64, &limits()), 2);
        assert_eq!(decoders(&uhd, 1, &limits()), 1);
        assert_eq!(decoders(&stream(Id::VP9, Pixel::YUV420P, (640, 360)), 64, &limits()), 64);
        let small = Video { max_decoder_memory: ByteSize(1), ..limits() };
        assert_eq!(decoders(&uhd, 64, &small), 1);
    }
}
