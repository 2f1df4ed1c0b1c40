//! The child: `visage decode-child`. It confines itself, and then opens and decodes one video at the parent's requests.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::process::ExitCode;
use std::sync::Arc;

use opencv::prelude::{MatTraitConst, MatTraitConstManual};

use super::bytes::ServedBytes;
use super::confine::confine;
use super::link::{Link, Received};
use super::message::{Answer, Block, Handed, Operation, PictureInSlot, Ready, Request, Setup, Start};
use super::slots::{SLOTS, slot_bytes};
use crate::config::{Isolation, Video};
use crate::media::{
    self, Frames, FramesError, OpenFile, Opened, ProbeError, ReadAt, Sample, Sound, SoundError, SoundFormat, Source,
};

/// Runs the child until the parent closes the connection.
pub fn run() -> ExitCode {
    let Ok(socket) = std::io::stdin().as_fd().try_clone_to_owned() else { return ExitCode::FAILURE };
    let control = Link::new(socket);
    let Ok(Received::Message(Setup { limits }, _)) = control.receive(None) else { return ExitCode::FAILURE };
    // The confined process cannot load anything.
    media::prepare();
    let confinement = confine(&limits, true);
    let is_enough = confinement.is_complete() || limits.isolation != Isolation::Require;
    if control.send(&Ready { confinement }, &[]).is_err() || !is_enough {
        return ExitCode::FAILURE;
    }
    while let Ok(Received::Message(start, files)) = control.receive(None) {
        let limits = limits.clone();
        let started =
            std::thread::Builder::new().name("operation".to_owned()).spawn(move || begin(start, files, &limits));
        if started.is_err() {
            return ExitCode::FAILURE;
        }
    }
    // Ends all threads.
    ExitCode::SUCCESS
}

/// Runs an operation to its end. Errors of sending are ignored: the parent no longer needs the answer.
fn begin(Start { operation, handed }: Start, files: Vec<OwnedFd>, limits: &Video) {
    let mut files = files.into_iter();
    let (Some(socket), Some(video)) = (files.next(), files.next()) else { return };
    let link = Arc::new(Link::new(socket));
    let bytes: Result<Arc<dyn ReadAt>, ProbeError> = match handed {
        Handed::File { size } => Ok(Arc::new(OpenFile::of_size(File::from(video), size))),
        Handed::Socket => match ServedBytes::open(Link::new(video)) {
            Ok(bytes) => Ok(Arc::new(bytes)),
            Err(error) => Err(error.into()),
        },
    };
    let source = bytes.map(Source::Opened);
    match operation {
        Operation::Probe => {
            let probe = source.and_then(|source| media::probe(&source, limits));
            let _ = link.send(&Answer::Opened(probe), &[]);
        }
        Operation::Count => {
            let stop = || link.is_closed();
            let count = source.map_err(FramesError::from).and_then(|it| media::count_frames(&it, limits, &stop));
            let _ = link.send(&Answer::Count(count), &[]);
        }
        Operation::Frames => {
            let Some(pictures) = files.next() else { return };
            let _ = frames(source, limits, &link, &File::from(pictures));
        }
        Operation::Sound { choice, format } => {
            let _ = sound(source, limits, (choice, format), &link);
        }
    }
}

/// Decodes pictures. Returns early if the parent closes the socket.
fn frames(
    source: Result<Source, ProbeError>,
    limits: &Video,
    link: &Arc<Link>,
    pictures: &File,
) -> std::io::Result<()> {
    let opened = match source.and_then(|source| Opened::open(&source, limits)) {
        Ok(opened) => opened,
        Err(error) => return link.send(&Answer::Opened(Err(error)), &[]),
    };
    link.send(&Answer::Opened(Ok(opened.probe().clone())), &[])?;
    let Received::Message(Request::Select { selection, sampling, turns, stretch, cores }, _) = link.receive(None)?
    else {
        return Ok(());
    };
    let stop = {
        let link = link.clone();
        move || link.is_closed()
    };
    let mut frames = match Frames::select(opened, selection, sampling, stretch, cores) {
        Ok(frames) => frames,
        Err(error) => return link.send(&Answer::Failed(error), &[]),
    };
    frames.turn(turns);
    let mut slots = Slots { free: (0..SLOTS).collect(), bytes: slot_bytes(limits) };
    loop {
        match frames.next(&stop) {
            Ok(Some(sample)) => {
                let Some(slot) = slots.take(link)? else { return Ok(()) };
                match slots.write(pictures, slot, &sample) {
                    Ok(()) => {}
                    Err(error) => return link.send(&Answer::Failed(FramesError::Decoder(error.to_string())), &[]),
                }
                let Sample { index, time_s, picture, placement, piece } = sample;
                let (rows, columns) = (picture.rows(), picture.cols());
                let (passed, position) = (frames.passed(), frames.position());
                let sample = PictureInSlot { slot, rows, columns, index, time_s, placement, piece, passed, position };
                link.send(&Answer::Sample(sample), &[])?;
            }
            Ok(None) => break,
            Err(error) => return link.send(&Answer::Failed(error), &[]),
        }
    }
    link.send(&Answer::Last { passed: frames.passed(), position: frames.position() }, &[])?;
    loop {
        match link.receive(None)? {
            Received::Message(Request::End, _) => return link.send(&Answer::End(frames.end(stop)), &[]),
            Received::Message(_, _) => {}
            Received::Closed | Received::TimedOut => return Ok(()),
        }
    }
}

/// The slots of the file for pictures.
struct Slots {
    free: Vec<usize>,
    bytes: u64,
}

impl Slots {
    /// Takes a free slot, and waits for one if needed. Returns `None` if the parent closed the socket.
    fn take(&mut self, link: &Link) -> std::io::Result<Option<usize>> {
        loop {
            if let Some(slot) = self.free.pop() {
                return Ok(Some(slot));
            }
            match link.receive(None)? {
                Received::Message(Request::FreeSlot { slot }, _) => self.free.push(slot),
                Received::Message(_, _) => {}
                Received::Closed | Received::TimedOut => return Ok(None),
            }
        }
    }

    fn write(&self, file: &File, slot: usize, sample: &Sample) -> Result<(), std::io::Error> {
        let whole;
        let picture = if sample.picture.is_continuous() {
            &sample.picture
        } else {
            whole = sample.picture.try_clone().map_err(std::io::Error::other)?;
            &whole
        };
        let bytes = picture.data_bytes().map_err(std::io::Error::other)?;
        if bytes.len() as u64 > self.bytes {
            return Err(std::io::Error::other("a picture is larger than its slot"));
        }
        file.write_all_at(bytes, slot as u64 * self.bytes)
    }
}

/// Decodes sound. Returns early if the parent closes the socket.
fn sound(
    source: Result<Source, ProbeError>,
    limits: &Video,
    (choice, format): (usize, SoundFormat),
    link: &Arc<Link>,
) -> std::io::Result<()> {
    let stop = {
        let link = link.clone();
        move || link.is_closed()
    };
    let opened = source.map_err(SoundError::from);
    let opened = opened.and_then(|source| Sound::open_choice(&source, limits, choice, format, stop.clone()));
    let mut sound = match opened {
        Ok(Some(sound)) => sound,
        Ok(None) => return link.send(&Answer::Sound(Ok(None)), &[]),
        Err(error) => return link.send(&Answer::Sound(Err(error)), &[]),
    };
    link.send(&Answer::Sound(Ok(Some(sound.stream()))), &[])?;
    loop {
        let block = match sound.next(&stop) {
            Ok(Some(samples)) => Block::Samples(samples),
            Ok(None) => Block::End { is_silent: sound.is_silent() },
            Err(error) => Block::Failed(error),
        };
        link.send_bytes(&block.to_bytes(), &[])?;
        if !matches!(block, Block::Samples(_)) {
            return Ok(());
        }
    }
}
