//! Decodes the first packets of a file within the limits, before FFmpeg decodes the same packets to find the properties
//! of the streams.
//!
//! FFmpeg takes limits for the decoders of streams that are in the header of the container. MPEG-TS, MPEG-PS and FLV
//! have no such header: FFmpeg finds their streams while it reads packets, and opens decoders without limits. 200 kB of
//! H.264 then take more than a gigabyte. In a file with many video streams, each decoder alone is within the limits,
//! but not their sum.

use std::collections::HashMap;
use std::sync::Arc;

use ffmpeg_next as ffmpeg;
use ffmpeg_next::codec::{self, Id};
use ffmpeg_next::format::context::Input;
use ffmpeg_next::{Packet, Stream, media};

use super::budget::{self, Budget};
use super::ffi::{self, ChargedDecoder, OpenInput};
use super::limits::check_pixels;
use super::{ProbeError, codecs};
use crate::config::Video;

/// FFmpeg reads packets of this size in total to find the properties of streams (its option `probesize`).
pub(super) const PROBE_BYTES: usize = 5_000_000;

/// Whether FFmpeg might exceed the limits to find the properties of the streams of an open container.
pub(super) fn is_needed(input: &Input) -> bool {
    let videos = input.streams().filter(|stream| stream.parameters().medium() == media::Type::Video);
    ffi::finds_streams_late(input) || videos.count() > 1
}

/// Decodes the frames that FFmpeg would decode to find the properties of the streams.
pub(super) fn decode(mut input: OpenInput, limits: &Video) -> Result<(), ProbeError> {
    let budget = Budget::with_cpu(limits, budget::FIRST_FRAME_CPU);
    let mut decoders: HashMap<usize, StreamDecoder> = HashMap::new();
    let mut bytes_read = 0;
    while bytes_read < PROBE_BYTES {
        let mut packet = Packet::empty();
        match packet.read(&mut input) {
            Ok(()) => {}
            Err(ffmpeg::Error::Other { errno: ffmpeg::util::error::EAGAIN }) => continue,
            // If the source failed, the next read reports it.
            Err(_) => break,
        }
        bytes_read += packet.size();
        let Some(stream) = input.stream(packet.stream()) else { continue };
        let id = stream.parameters().id();
        if stream.parameters().medium() != media::Type::Video || !codecs::is_allowed(id, limits) {
            continue;
        }
        let decoder = match decoders.remove(&stream.index()).filter(|decoder| decoder.id == id) {
            Some(decoder) => Some(decoder),
            None => StreamDecoder::open(&stream, limits, &budget).ok(),
        };
        if let Some(mut decoder) = decoder {
            decoder.decode(&packet, limits, &budget)?;
            decoders.insert(stream.index(), decoder);
        }
    }
    for decoder in decoders.values_mut() {
        decoder.finish(limits, &budget)?;
    }
    Ok(())
}

/// The decoder of one stream.
struct StreamDecoder {
    decoder: ChargedDecoder,
    id: Id,
    frames: u32,
}

impl StreamDecoder {
    fn open(stream: &Stream<'_>, limits: &Video, budget: &Arc<Budget>) -> Result<Self, ffmpeg::Error> {
        let (parameters, id) = (stream.parameters(), stream.parameters().id());
        let mut context = codec::Context::from_parameters(parameters)?;
        ffi::set_codec_whitelist(&mut context, &codecs::decoders(limits))?;
        // Without a limit on the size of frames, because FFmpeg would have none. The budget refuses large ones.
        Ok(Self { decoder: ffi::open_decoder(context, None, budget)?, id, frames: 0 })
    }

    fn decode(&mut self, packet: &Packet, limits: &Video, budget: &Budget) -> Result<(), ProbeError> {
        if self.frames < self.frames_needed() {
            let _ = self.decoder.send_packet(packet);
            self.receive(limits, budget)?;
        }
        Ok(())
    }

    /// Decodes the frames that the decoder holds back.
    fn finish(&mut self, limits: &Video, budget: &Budget) -> Result<(), ProbeError> {
        let _ = self.decoder.send_eof();
        self.receive(limits, budget)
    }

    fn receive(&mut self, limits: &Video, budget: &Budget) -> Result<(), ProbeError> {
        let mut frame = ffmpeg::frame::Video::empty();
        while self.decoder.receive_frame(&mut frame).is_ok() {
            self.frames += 1;
        }
        check_pixels(self.decoder.width(), self.decoder.height(), limits)?;
        budget.check()
    }

    /// The number of frames after which FFmpeg knows the properties. It learns the delay of H.264 from several frames
    /// (`has_decode_delay_been_guessed` of libavformat).
    fn frames_needed(&self) -> u32 {
        match (self.id, ffi::reorder_delay(&self.decoder)) {
            (Id::H264, ..3) => 7,
            (Id::H264, 3) => 18,
            (Id::H264, _) => 20,
            _ => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use super::super::{Source, container, probe};
    use super::*;
    use crate::analysis::Resource;
    use crate::config::{ByteSize, Settings};

    fn limits() -> Video {
        Settings::defaults().unwrap().video
    }

    fn make(folder: &Path, name: &str, arguments: &str) -> PathBuf {
        let path = folder.join(name);
        let made = Command::new("ffmpeg")
            .args(["-loglevel", "error", "-nostdin", "-y"])
            .args(arguments.split_whitespace())
            .arg(&path)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        path
    }

    fn rehearsed(path: &Path, limits: &Video) -> Result<(), ProbeError> {
        let input = container::open_demuxer(&Source::File(path.to_owned()), limits, || false)?;
        assert!(is_needed(&input), "{}", path.display());
        decode(input, limits)
    }

    #[test]
    fn streams_that_ffmpeg_finds_late_are_decoded_within_the_limits_first() {
        let folder = tempfile::tempdir().unwrap();
        // As many packets as FFmpeg reads of the header of MPEG-TS, with nothing in them.
        let empty = [&[0x47, 0x1F, 0xFF, 0x10][..], &[0xFF; 184]].concat().repeat(PROBE_BYTES / 188 + 100);
        // Bytes that are too few for the frames that are decoded. A frame has 3.1 MB, and takes 2.1 MB beside it.
        for (codec, bytes) in [
            ("-c:v libx264 -preset ultrafast -x264-params ref=16:keyint=1000:log-level=none", 26_000_000),
            ("-c:v mpeg2video -g 1000 -bf 2", 6_000_000),
            ("-c:v flv", 5_000_000),
        ] {
            let source = format!("-f lavfi -i color=gray:size=1920x1088:rate=25 -frames:v 20 -pix_fmt yuv420p {codec}");
            for name in ["bomb.flv", "bomb.mpg", "bomb.ts", "late.ts"] {
                let fits = match name {
                    "bomb.flv" => !codec.contains("mpeg2"),
                    _ => !codec.contains("flv"),
                };
                if !fits {
                    continue;
                }
                let path = if name == "late.ts" {
                    let video = std::fs::read(folder.path().join("bomb.ts")).unwrap();
                    let path = folder.path().join(name);
                    std::fs::write(&path, [empty.as_slice(), &video].concat()).unwrap();
                    path
                } else {
                    make(folder.path(), name, &source)
                };
                rehearsed(&path, &limits()).unwrap();
                assert_eq!(probe(&Source::File(path.clone()), &limits()).unwrap().width, 1920, "{name} {codec}");
                let tight = Video { max_decoder_memory: ByteSize(bytes), ..limits() };
                let error = rehearsed(&path, &tight).unwrap_err();
                assert!(
                    matches!(error, ProbeError::TooCostly { resource: Resource::Memory, .. }),
                    "{name} {codec}: {error}"
                );
                let small = Video { max_pixels: 2_000_000, ..limits() };
                let error = rehearsed(&path, &small).unwrap_err();
                assert!(matches!(error, ProbeError::TooLarge { width: 1920, .. }), "{name} {codec}: {error}");
                let opened = container::open(&Source::File(path), &small, || false).map(|_| ());
                assert!(matches!(opened, Err(ProbeError::TooLarge { .. })), "{name} {codec}: {opened:?}");
            }
        }
    }

    #[test]
    fn the_memory_of_many_streams_is_added_up() {
        let folder = tempfile::tempdir().unwrap();
        let source = "-f lavfi -i color=gray:size=640x480:rate=25 -frames:v 20 -pix_fmt yuv420p -c:v libx264 -preset \
                      ultrafast -x264-params ref=16:keyint=1000:log-level=none";
        let maps = "-map 0 ".repeat(8);
        for name in ["many.mp4", "many.mkv"] {
            let path = make(folder.path(), name, &format!("{source} {maps}"));
            rehearsed(&path, &limits()).unwrap();
            // Enough for 7 frames of one stream.
            let tight = Video { max_decoder_memory: ByteSize(10 * 640 * 480 * 5 / 2), ..limits() };
            let error = rehearsed(&path, &tight).unwrap_err();
            assert!(matches!(error, ProbeError::TooCostly { resource: Resource::Memory, .. }), "{name}: {error}");
            let opened = container::open(&Source::File(path), &tight, || false).map(|_| ());
            assert!(matches!(opened, Err(ProbeError::TooCostly { .. })), "{name}: {opened:?}");
        }
    }
}
