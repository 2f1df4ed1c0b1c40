//! The codecs and containers that visage decodes.
//!
//! FFmpeg has decoders for some 500 codecs, most of them for formats that no camera, browser or messenger writes. Files
//! are untrusted, so only the codecs of this list are decoded. Settings add others ([`Video::extra_codecs`],
//! [`Video::extra_containers`]). visage checks the list before it opens a decoder. FFmpeg's own whitelists are a second
//! check: they also cover the decoders that FFmpeg opens to find the properties of a stream.

use std::sync::OnceLock;

use ffmpeg_next::{codec, decoder};

use super::limits::max_decoder_pixels;
use super::{ProbeError, ffi};
use crate::config::{Container, Video};

/// The codecs, by FFmpeg's names (`ffmpeg -codecs`). PCM is added by [`is_default`].
const CODECS: [&str; 28] = [
    "h264",
    "hevc",
    "vvc",
    "vp8",
    "vp9",
    "av1",
    "mpeg1video",
    "mpeg2video",
    "mpeg4",
    "mjpeg",
    "prores",
    "dvvideo",
    // Animations.
    "gif",
    "webp",
    // Old phones and FLV. FFmpeg decodes both with the decoder of MPEG-4.
    "h263",
    "flv1",
    // Sound.
    "aac",
    "aac_latm",
    "mp2",
    "mp3",
    "opus",
    "vorbis",
    "ac3",
    "eac3",
    "alac",
    "flac",
    // Sound of phones in 3GP.
    "amr_nb",
    "amr_wb",
];
/// The prefix of FFmpeg's names of PCM codecs.
const PCM: &str = "pcm_";
/// The demuxers, by FFmpeg's names.
const DEMUXERS: &str = "mov,mp4,matroska,webm,avi,mpegts,mpeg,flv,gif,webp_anim";

/// The setting `video.extra_codecs` has a codec that FFmpeg cannot decode.
#[derive(Debug, thiserror::Error)]
#[error("video.extra_codecs: this FFmpeg has no decoder for {0:?}; use names that `ffmpeg -codecs` lists")]
pub struct UnknownCodec(String);

/// Checks that FFmpeg has a decoder for each codec of the setting `video.extra_codecs`.
///
/// # Errors
/// The first codec without a decoder.
pub fn check_extra_codecs(limits: &Video) -> Result<(), UnknownCodec> {
    match limits.extra_codecs.iter().find(|name| ffi::codec_by_name(name).and_then(decoder::find).is_none()) {
        Some(name) => Err(UnknownCodec(name.clone())),
        None => Ok(()),
    }
}

/// Whether the codec is allowed without a setting.
pub(super) fn is_default(id: codec::Id) -> bool {
    let name = id.name();
    CODECS.contains(&name) || name.starts_with(PCM)
}

/// Whether the codec is allowed.
pub(super) fn is_allowed(id: codec::Id, limits: &Video) -> bool {
    is_default(id) || limits.extra_codecs.iter().any(|name| name == id.name())
}

/// FFmpeg's names of the decoders of the allowed codecs, separated by commas. If FFmpeg has several decoders for a
/// codec, only the one that it prefers is in the list.
pub(super) fn decoders(limits: &Video) -> String {
    static DEFAULT: OnceLock<String> = OnceLock::new();
    let preferred = |id| decoder::find(id).map(|codec| codec.name().to_owned());
    let default = DEFAULT.get_or_init(|| {
        let mut names: Vec<String> =
            ffi::decoder_ids().into_iter().filter(|id| is_default(*id)).filter_map(preferred).collect();
        // FFmpeg lists a decoder for a codec several times if libraries or devices decode it, too.
        names.sort_unstable();
        names.dedup();
        names.join(",")
    });
    let extra = limits.extra_codecs.iter().filter_map(|name| ffi::codec_by_name(name)).filter_map(preferred);
    std::iter::once(default.clone()).chain(extra).collect::<Vec<_>>().join(",")
}

/// Makes a decoder refuse other codecs, and frames that are larger than the limit.
pub(super) fn restrict(decoder: &mut codec::Context, limits: &Video) -> Result<(), ffmpeg_next::Error> {
    ffi::set_max_pixels(decoder, max_decoder_pixels(limits));
    ffi::set_codec_whitelist(decoder, &decoders(limits))
}

/// FFmpeg's names of the allowed demuxers, separated by commas.
pub(super) fn demuxers(limits: &Video) -> String {
    let extra = limits.extra_containers.iter().map(|container| signature(*container).demuxer);
    std::iter::once(DEMUXERS).chain(extra).collect::<Vec<_>>().join(",")
}

/// How a container is recognized and named.
struct Signature {
    first_bytes: &'static [u8],
    /// FFmpeg's name of the demuxer.
    demuxer: &'static str,
    /// The name for people.
    name: &'static str,
}

const fn signature(container: Container) -> Signature {
    let (first_bytes, demuxer, name): (&[u8], _, _) = match container {
        Container::Asf => (&[0x30, 0x26, 0xB2, 0x75, 0x8E, 0x66, 0xCF, 0x11], "asf", "ASF (WMV)"),
        Container::Dv => (&[0x1F, 0x07, 0x00], "dv", "raw DV"),
        Container::Ivf => (b"DKIF", "ivf", "IVF"),
        Container::Mxf => (&[0x06, 0x0E, 0x2B, 0x34, 0x02, 0x05, 0x01, 0x01], "mxf", "MXF"),
        Container::Nut => (b"nut/multimedia container\0", "nut", "NUT"),
        Container::Ogg => (b"OggS", "ogg", "Ogg"),
        Container::Rm => (b".RMF", "rm", "RealMedia"),
        Container::Wtv => (&[0xB7, 0xD8, 0x00, 0x20, 0x37, 0x49, 0xDA, 0x11], "wtv", "WTV"),
        Container::Y4m => (b"YUV4MPEG2 ", "yuv4mpegpipe", "YUV4MPEG2"),
    };
    Signature { first_bytes, demuxer, name }
}

/// Checks whether the first bytes are those of a container that the setting `video.extra_containers` may add. Returns
/// `None` if they are not.
pub(super) fn sniff_extra(head: &[u8], limits: &Video) -> Option<Result<(), ProbeError>> {
    let container = Container::ALL.into_iter().find(|it| head.starts_with(signature(*it).first_bytes))?;
    if limits.extra_containers.contains(&container) {
        return Some(Ok(()));
    }
    Some(Err(ProbeError::ContainerNotAllowed { container: signature(container).name.into() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn limits() -> Video {
        Settings::defaults().unwrap().video
    }

    #[test]
    fn the_list_has_a_decoder_for_each_codec_that_ffmpeg_knows_and_no_other() {
        let names = decoders(&limits());
        let names: Vec<&str> = names.split(',').collect();
        for codec in CODECS {
            let Some(id) = ffi::codec_by_name(codec) else { continue };
            let Some(found) = decoder::find(id) else { continue };
            assert!(names.contains(&found.name()), "{codec}: {}", found.name());
            assert!(is_allowed(id, &limits()), "{codec}");
        }
        assert!(names.contains(&"h264") && names.contains(&"pcm_s16le") && names.contains(&"mp3float"), "{names:?}");
        for decoder in ["theora", "ffv1", "wmv3", "cinepak", "rawvideo", "dca", "h264_cuvid", "magicyuv", "ass"] {
            assert!(!names.contains(&decoder), "{decoder}");
        }
        let unique: std::collections::BTreeSet<&&str> = names.iter().collect();
        assert!(names.len() == unique.len() && names.len() < 80, "{names:?}");
    }

    #[test]
    fn settings_add_codecs_and_containers() {
        let theora = ffi::codec_by_name("theora").unwrap();
        assert!(!is_allowed(theora, &limits()));
        let more =
            Video { extra_codecs: vec!["theora".to_owned()], extra_containers: vec![Container::Ogg], ..limits() };
        assert!(is_allowed(theora, &more) && decoders(&more).ends_with(",theora"));
        assert!(check_extra_codecs(&more).is_ok());
        assert!(demuxers(&more).ends_with(",ogg") && !demuxers(&limits()).contains("ogg"));
        assert!(matches!(sniff_extra(b"OggS\0\x02", &more), Some(Ok(()))));
        let refused = sniff_extra(b"OggS\0\x02", &limits());
        let Some(Err(ProbeError::ContainerNotAllowed { container })) = refused else { panic!("{refused:?}") };
        assert_eq!(container, "Ogg");
        assert!(sniff_extra(b"#EXTM3U\n", &more).is_none());
        let wrong = Video { extra_codecs: vec!["theoora".to_owned()], ..limits() };
        assert!(check_extra_codecs(&wrong).unwrap_err().to_string().contains("\"theoora\""));
    }
}
