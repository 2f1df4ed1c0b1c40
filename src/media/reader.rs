//! Reads the packets of a video's pictures and hands them out in stretches.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use ffmpeg_next::codec::Parameters;
use ffmpeg_next::codec::packet::Ref;
use ffmpeg_next::{Packet, Rational, ffi};

use super::clock::{Joiner, StreamClock};
use super::decode::{Decoded, Job, Numbering};
use super::look::{Coding, Look, Start};
use super::opened::Packets;
use super::plan::{Part, Planned, Planner, Selection, Unit};
use super::probe::check_duration;
use super::references::References;
use super::{FramesError, ProbeError};
use crate::analysis::Sampling;
use crate::config::Video;

/// Packets that are handed on together where each is decoded.
const TOGETHER: usize = 8;

/// What the reader tells whoever waits for pictures, in the order in which they are shown.
pub(super) enum Item {
    /// The pictures of a stretch.
    Stretch(Receiver<Decoded>),
    End(Read),
    Failed(FramesError),
}

/// What the packets of a whole file told.
#[derive(Debug, Clone, Default)]
pub(super) struct Read {
    /// Packets of the pictures.
    pub packets: u64,
    /// Pictures, and the clock behind the last, where the packets tell which picture is which.
    pub numbered: Option<(u64, StreamClock)>,
    /// The end of all tracks in seconds, where they were seen.
    pub tracks_end_s: Option<f64>,
    /// Where time stamps began anew, in seconds.
    pub joints: Vec<f64>,
}

/// The picture track of an open video.
pub(super) struct Reader {
    packets: Packets,
    base: Rational,
    parameters: Parameters,
    coding: Option<Coding>,
    references: Option<References>,
    /// Packets read.
    count: u64,
}

impl Reader {
    pub fn new(packets: Packets) -> Result<Self, ProbeError> {
        let stream = packets.stream()?;
        let (base, parameters, coding) =
            (stream.time_base(), stream.parameters(), Coding::of(&stream, &packets.container()));
        let references = coding.and_then(|coding| coding.references(&parameters));
        Ok(Self { packets, base, parameters, coding, references, count: 0 })
    }

    /// What a decoder has to know of the stream.
    pub fn parameters(&self) -> Parameters {
        self.parameters.clone()
    }

    /// Whether packets tell which picture is which.
    pub const fn tells_what_is_shown(&self) -> bool {
        self.coding.is_some()
    }

    /// The unit of the stream's time stamps, in seconds.
    pub const fn base(&self) -> Rational {
        self.base
    }

    /// Reads to the end: hands stretches to the decoders that take from `jobs`, and tells `to` of each, in order. A
    /// stretch has room for so many pictures.
    pub fn run(
        mut self,
        which: (Selection, Sampling),
        clock: StreamClock,
        limits: &Video,
        room: usize,
        jobs: &SyncSender<Job>,
        to: &SyncSender<Item>,
    ) {
        let mut out = Out { jobs, to, room, open: None };
        let end = match self.coding {
            Some(coding) => self.planned(coding, which, clock, limits, &mut out),
            None => self.counted(which.0, clock, &mut out),
        };
        // Its stretch ends, so that those who decode it come to their end.
        out.open = None;
        let _ = match end {
            Ok(item) => to.send(item),
            Err(Stopped::Failed(error)) => to.send(Item::Failed(error)),
            Err(Stopped::Left) => Ok(()),
        };
    }

    /// Where packets tell which picture is which.
    fn planned(
        &mut self,
        coding: Coding,
        (selection, sampling): (Selection, Sampling),
        clock: StreamClock,
        limits: &Video,
        out: &mut Out<'_>,
    ) -> Result<Item, Stopped> {
        let mut planner = Planner::new(selection, sampling, f64::from(self.base), clock);
        let mut stamp = None;
        for place in 0.. {
            let Some(packet) = self.next()? else { break };
            let mut unit = unit(packet, coding, &mut stamp);
            let data = unit.packet.data().unwrap_or_default();
            unit.needs = self.references.as_mut().and_then(|references| references.of(place, data));
            if let Some(part) = planner.push(unit) {
                out.give(part, Numbering::Planned)?;
            }
            check_duration(planner.clock().time(), limits)?;
        }
        if let Some(part) = planner.finish() {
            out.give(part, Numbering::Planned)?;
        }
        check_duration(planner.clock().time(), limits)?;
        Ok(Item::End(Read { numbered: Some((planner.numbered(), planner.clock().clone())), ..self.read() }))
    }

    /// Reads to the end and counts the pictures that are shown.
    pub fn count_pictures(mut self, stop: &dyn Fn() -> bool) -> Result<u64, FramesError> {
        let (mut stamp, mut shown, mut is_first) = (None, 0, true);
        while let Some(packet) = self.packets.next()? {
            if stop() {
                return Err(FramesError::Cancelled);
            }
            let (is_shown, needs_before) = match self.coding {
                Some(coding) => {
                    let Unit { look, .. } = unit(packet, coding, &mut stamp);
                    is_first &= look.start == Start::No || self.count == 0;
                    (look.is_shown, look.needs_before)
                }
                None => (!is_hidden(&packet), false),
            };
            self.count += 1;
            // Nothing comes before the very start, and the decoder leaves such pictures out.
            shown += u64::from(is_shown && !(is_first && needs_before));
        }
        Ok(shown)
    }

    /// What is known at the end, whatever the codec.
    fn read(&self) -> Read {
        let joiner = self.packets.joiner();
        Read {
            packets: self.count,
            numbered: None,
            tracks_end_s: joiner.map(Joiner::end_s),
            joints: joiner.map(|joiner| joiner.joints().to_vec()).unwrap_or_default(),
        }
    }

    /// Where they do not: all is decoded, and what comes out is counted.
    fn counted(&mut self, selection: Selection, clock: StreamClock, out: &mut Out<'_>) -> Result<Item, Stopped> {
        let mut numbering = Some(Numbering::Counted { selection, clock });
        let mut packets = Vec::new();
        loop {
            let packet = self.next()?;
            let is_end = packet.is_none();
            packets.extend(packet.map(Planned::plain));
            if is_end || packets.len() == TOGETHER {
                let part = Part { packets: std::mem::take(&mut packets), is_end };
                out.give(part, numbering.take().unwrap_or(Numbering::Planned))?;
            }
            if is_end {
                return Ok(Item::End(self.read()));
            }
        }
    }

    /// The next packet of the pictures; `None` at the end.
    fn next(&mut self) -> Result<Option<Packet>, Stopped> {
        let is_given_up = |packets: &Packets| packets.given_up().load(Ordering::Relaxed);
        if is_given_up(&self.packets) {
            return Err(Stopped::Left);
        }
        let next = self.packets.next();
        let next = next.map_err(|error| if is_given_up(&self.packets) { Stopped::Left } else { error.into() })?;
        self.count += u64::from(next.is_some());
        Ok(next)
    }
}

/// What the planner wants to know of a packet. `before` is the time stamp of the one before.
fn unit(packet: Packet, coding: Coding, before: &mut Option<i64>) -> Unit<Packet> {
    let told = if coding.is_in_order() { packet.pts().or(packet.dts()) } else { packet.pts() };
    let follows = |told: &i64| !coding.is_in_order() || before.is_none_or(|before| *told > before);
    // One that has none, or none that can be, is taken to follow on the one before.
    let stamp = told.filter(follows).unwrap_or_else(|| before.map_or(0, |before| before.saturating_add(1)));
    *before = Some(stamp);
    let mut look: Look = coding.look(packet.data().unwrap_or_default(), packet.is_key());
    look.is_shown &= !is_hidden(&packet);
    Unit { bytes: packet.size(), stamp, told, look, packet, is_lead: false, needs: None }
}

/// Whether an edit list keeps the packet from being shown.
fn is_hidden(packet: &Packet) -> bool {
    // SAFETY: the packet is borrowed for as long as the pointer is used. The binding has no name for this flag.
    unsafe { (*packet.as_ptr()).flags & ffi::AV_PKT_FLAG_DISCARD != 0 }
}

/// Why reading stopped before the end.
enum Stopped {
    /// Nobody wants more.
    Left,
    Failed(FramesError),
}

impl From<ProbeError> for Stopped {
    fn from(error: ProbeError) -> Self {
        Self::Failed(error.into())
    }
}

/// Where stretches go.
struct Out<'a> {
    jobs: &'a SyncSender<Job>,
    to: &'a SyncSender<Item>,
    room: usize,
    /// The stretch that goes on.
    open: Option<SyncSender<Vec<Planned<Packet>>>>,
}

impl Out<'_> {
    fn give(&mut self, part: Part<Packet>, numbering: Numbering) -> Result<(), Stopped> {
        let open = match self.open.take() {
            Some(open) => open,
            None => {
                let (open, parts) = sync_channel(1);
                let (pictures, decoded) = sync_channel(self.room);
                self.to.send(Item::Stretch(decoded)).map_err(|_| Stopped::Left)?;
                let job = Job { parts, to: pictures, numbering, is_long: !part.is_end };
                self.jobs.send(job).map_err(|_| Stopped::Left)?;
                open
            }
        };
        open.send(part.packets).map_err(|_| Stopped::Left)?;
        self.open = (!part.is_end).then_some(open);
        Ok(())
    }
}
