//! Reads the packets of a video stream and sends them to the decoders, one group of pictures (GOP) after another.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use ffmpeg_next::codec::Parameters;
use ffmpeg_next::{Packet, Rational};

use super::clock::{StreamClock, stamp_s};
use super::decode::{DecodeJob, Decoded, Numbering};
use super::discontinuity::DiscontinuityCorrector;
use super::ffi::is_discarded;
use super::gop::{GopPart, ParsedPacket, PlannedPacket};
use super::limits::check_duration;
use super::opened::Packets;
use super::packet_info::{PacketParser, RandomAccess};
use super::pieces::{Pieces, Stretch, piece_at};
use super::plan::Planner;
use super::references::ReferenceTracker;
use super::selection::Selection;
use super::{FramesError, ProbeError};
use crate::analysis::Sampling;
use crate::config::Video;

/// Number of packets that are sent to a decoder together if all packets are decoded.
const PACKETS_PER_PART: usize = 8;

/// A message of the reader to [`super::Frames`]. GOPs are in presentation order.
pub(super) enum ReaderEvent {
    /// The receiver of the decoded frames of the next GOP, and the piece of the video to which it belongs.
    Gop(Receiver<Decoded>, u32),
    End(ReadSummary),
    Failed(FramesError),
}

/// Totals of all packets of a file.
#[derive(Debug, Clone, Default)]
pub(super) struct ReadSummary {
    /// Packets of the video stream.
    pub packets: u64,
    /// The number of frames, and the clock after the last one, if the packets could be parsed.
    pub numbered: Option<(u64, StreamClock)>,
    /// The end of the longest stream in seconds, if the packets of all streams were read.
    pub streams_end_s: Option<f64>,
    /// The times of discontinuities in the time stamps, in seconds.
    pub discontinuities: Vec<f64>,
}

/// Reads the video stream of an open file.
pub(super) struct Reader {
    packets: Packets,
    time_base: Rational,
    parameters: Parameters,
    /// `None` if the packets of this codec cannot be parsed.
    parser: Option<PacketParser>,
    references: Option<ReferenceTracker>,
    packets_read: u64,
    stretch: Stretch,
}

impl Reader {
    /// Only the packets of this stretch are sent to the decoders.
    pub fn new(packets: Packets, stretch: Stretch) -> Result<Self, ProbeError> {
        let stream = packets.stream()?;
        let (time_base, parameters) = (stream.time_base(), stream.parameters());
        let parser = PacketParser::new(&stream, &packets.container());
        let references = parser.and_then(|parser| parser.references(&parameters));
        Ok(Self { packets, time_base, parameters, parser, references, packets_read: 0, stretch })
    }

    /// The codec parameters of the stream.
    pub fn parameters(&self) -> Parameters {
        self.parameters.clone()
    }

    /// Whether packets can be parsed, so that frames are numbered before they are decoded.
    pub const fn parses_packets(&self) -> bool {
        self.parser.is_some()
    }

    pub const fn time_base(&self) -> Rational {
        self.time_base
    }

    /// Reads to the end of the file, or of the stretch. Sends each GOP to a decoder through `jobs`, and the receiver of its frames through
    /// `events`. Up to `frame_capacity` decoded frames of a GOP are buffered.
    pub fn run(
        mut self,
        (selection, sampling): (Selection, Sampling),
        clock: StreamClock,
        limits: &Video,
        frame_capacity: usize,
        jobs: &SyncSender<DecodeJob>,
        events: &SyncSender<ReaderEvent>,
    ) {
        let Stretch { start, pieces } = self.stretch;
        let mut sender = GopSender {
            jobs,
            events,
            frame_capacity,
            open_gop: None,
            pieces,
            piece_s: limits.piece_s,
            before: start.gops,
            piece: 0,
            is_inside: false,
        };
        let end = match self.parser {
            Some(parser) => self.read_planned(parser, (selection, sampling), clock, limits, &mut sender),
            None => self.read_unparsed(selection, clock, &mut sender),
        };
        // Closes the channel of the last GOP, so that its decoder finishes.
        sender.open_gop = None;
        let _ = match end {
            Ok(event) => events.send(event),
            Err(Stopped::Failed(error)) => events.send(ReaderEvent::Failed(error)),
            Err(Stopped::PiecesRead) => events.send(ReaderEvent::End(self.summary())),
            Err(Stopped::ReceiverGone) => Ok(()),
        };
    }

    /// Parses the packets and sends only those that are needed for the samples.
    fn read_planned(
        &mut self,
        parser: PacketParser,
        (selection, sampling): (Selection, Sampling),
        clock: StreamClock,
        limits: &Video,
        sender: &mut GopSender<'_>,
    ) -> Result<ReaderEvent, Stopped> {
        let mut planner = Planner::new(selection, sampling, f64::from(self.time_base), clock);
        let mut previous_pts = None;
        for decode_index in 0.. {
            let Some(packet) = self.next()? else { break };
            let mut parsed = parse(packet, parser, &mut previous_pts);
            let data = parsed.packet.data().unwrap_or_default();
            if let Some(references) = &mut self.references {
                parsed.dependencies = references.dependencies(decode_index, data);
                parsed.follows_gap = references.follows_gap(parsed.packet.is_key());
            }
            if let Some(part) = planner.push(parsed) {
                sender.send(part, Numbering::Planned)?;
            }
            check_duration(planner.clock().time(), limits)?;
        }
        if let Some(part) = planner.finish() {
            sender.send(part, Numbering::Planned)?;
        }
        check_duration(planner.clock().time(), limits)?;
        let numbered = Some((planner.frames_numbered(), planner.clock().clone()));
        Ok(ReaderEvent::End(ReadSummary { numbered, ..self.summary() }))
    }

    /// Sends all packets. The decoder counts the frames that it outputs.
    fn read_unparsed(
        &mut self,
        selection: Selection,
        clock: StreamClock,
        sender: &mut GopSender<'_>,
    ) -> Result<ReaderEvent, Stopped> {
        let mut numbering = Some(Numbering::Counted { selection, clock });
        let mut packets = Vec::new();
        loop {
            let packet = self.next()?;
            let is_end = packet.is_none();
            packets.extend(packet.map(PlannedPacket::unparsed));
            if is_end || packets.len() == PACKETS_PER_PART {
                let part = GopPart { packets: std::mem::take(&mut packets), ends_gop: is_end };
                sender.send(part, numbering.take().unwrap_or(Numbering::Planned))?;
            }
            if is_end {
                return Ok(ReaderEvent::End(self.summary()));
            }
        }
    }

    /// Reads to the end of the file and counts the frames that are shown.
    pub fn count_frames(mut self, clock: &StreamClock, stop: &dyn Fn() -> bool) -> Result<u64, FramesError> {
        let (mut previous_pts, mut shown, mut is_first_gop) = (None, 0, true);
        while let Some(packet) = self.packets.next()? {
            if stop() {
                return Err(FramesError::Cancelled);
            }
            let is_hidden = clock.hides(stamp_s(packet.pts(), f64::from(self.time_base)));
            let (is_shown, is_skipped_leading) = match self.parser {
                Some(parser) => {
                    let ParsedPacket { info, .. } = parse(packet, parser, &mut previous_pts);
                    is_first_gop &= info.random_access == RandomAccess::No || self.packets_read == 0;
                    (info.is_shown, info.is_skipped_leading)
                }
                None => (!is_discarded(&packet), false),
            };
            self.packets_read += 1;
            // At the start of the stream, the references of these frames are missing, and the decoder does not output
            // them.
            shown += u64::from(is_shown && !is_hidden && !(is_first_gop && is_skipped_leading));
        }
        Ok(shown)
    }

    /// The totals that are known for every codec.
    fn summary(&self) -> ReadSummary {
        let corrector = self.packets.corrector();
        ReadSummary {
            packets: self.packets_read,
            numbered: None,
            streams_end_s: corrector.map(DiscontinuityCorrector::end_s),
            discontinuities: corrector.map(|corrector| corrector.discontinuities().to_vec()).unwrap_or_default(),
        }
    }

    /// Returns the next packet of the video stream, or `None` at the end.
    fn next(&mut self) -> Result<Option<Packet>, Stopped> {
        let is_cancelled = |packets: &Packets| packets.cancelled().load(Ordering::Relaxed);
        if is_cancelled(&self.packets) {
            return Err(Stopped::ReceiverGone);
        }
        let next = self.packets.next();
        let next =
            next.map_err(|error| if is_cancelled(&self.packets) { Stopped::ReceiverGone } else { error.into() })?;
        self.packets_read += u64::from(next.is_some());
        Ok(next)
    }
}

/// Parses a packet for the planner. `previous_pts` is the position of the packet before, and is updated.
fn parse(packet: Packet, parser: PacketParser, previous_pts: &mut Option<i64>) -> ParsedPacket<Packet> {
    let in_order = parser.is_in_presentation_order();
    let pts = if in_order { packet.pts().or(packet.dts()) } else { packet.pts() };
    let is_valid = |pts: &i64| !in_order || previous_pts.is_none_or(|previous| *pts > previous);
    // A packet without a valid time stamp follows the packet before.
    let sort_pts =
        pts.filter(is_valid).unwrap_or_else(|| previous_pts.map_or(0, |previous| previous.saturating_add(1)));
    *previous_pts = Some(sort_pts);
    let mut info = parser.parse(packet.data().unwrap_or_default(), packet.is_key());
    info.is_shown &= !is_discarded(&packet);
    ParsedPacket {
        size: packet.size(),
        sort_pts,
        pts,
        info,
        packet,
        is_before_first_key: false,
        dependencies: None,
        follows_gap: false,
    }
}

/// Why reading stopped before the end of the file.
enum Stopped {
    /// The receiver of the frames was dropped.
    ReceiverGone,
    /// The rest of the file belongs to pieces that are not decoded.
    PiecesRead,
    Failed(FramesError),
}

impl From<ProbeError> for Stopped {
    fn from(error: ProbeError) -> Self {
        Self::Failed(error.into())
    }
}

/// Sends the parts of GOPs to decoders.
struct GopSender<'a> {
    jobs: &'a SyncSender<DecodeJob>,
    events: &'a SyncSender<ReaderEvent>,
    frame_capacity: usize,
    /// The channel to the decoder of the current GOP, if it is sent in parts.
    open_gop: Option<SyncSender<Vec<PlannedPacket<Packet>>>>,
    /// The pieces to decode.
    pieces: Pieces,
    /// Length of a piece in seconds.
    piece_s: u32,
    /// This many GOPs of these pieces are left out, because they were decoded before.
    before: u64,
    /// The piece of the current GOP.
    piece: u32,
    /// The current GOP has further parts.
    is_inside: bool,
}

impl GopSender<'_> {
    fn send(&mut self, part: GopPart<Packet>, numbering: Numbering) -> Result<(), Stopped> {
        if !std::mem::replace(&mut self.is_inside, !part.ends_gop) {
            let samples = part.packets.iter().filter(|packet| packet.is_sampled);
            let first_s = samples.filter_map(|packet| packet.shown).map(|(_, time_s)| time_s).reduce(f64::min);
            self.piece = first_s.map_or(0, |first_s| piece_at(first_s, self.piece_s)).max(self.piece);
        }
        if self.pieces.until.is_some_and(|until| self.piece >= until) {
            return Err(Stopped::PiecesRead);
        }
        if self.piece < self.pieces.from {
            return Ok(());
        }
        if self.before > 0 {
            self.before -= u64::from(part.ends_gop);
            return Ok(());
        }
        let open_gop = match self.open_gop.take() {
            Some(open_gop) => open_gop,
            None => {
                let (open_gop, gop) = sync_channel(1);
                let (output, decoded) = sync_channel(self.frame_capacity);
                self.events.send(ReaderEvent::Gop(decoded, self.piece)).map_err(|_| Stopped::ReceiverGone)?;
                let job = DecodeJob { gop, output, numbering, is_long: !part.ends_gop };
                self.jobs.send(job).map_err(|_| Stopped::ReceiverGone)?;
                open_gop
            }
        };
        open_gop.send(part.packets).map_err(|_| Stopped::ReceiverGone)?;
        self.open_gop = (!part.ends_gop).then_some(open_gop);
        Ok(())
    }
}
