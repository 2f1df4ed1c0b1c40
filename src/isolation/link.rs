//! A connection between two processes that keeps the boundaries of messages and can carry open files.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The maximum size of a message in bytes.
pub const MAX_MESSAGE: usize = 128 << 10;
/// The maximum number of files in a message.
const MAX_FILES: usize = 3;

/// One end of a connection.
#[derive(Debug)]
pub struct Link(OwnedFd);

/// The outcome of waiting for a message.
pub enum Received<T> {
    Message(T, Vec<OwnedFd>),
    /// The other end is closed.
    Closed,
    TimedOut,
}

impl Link {
    /// Returns both ends of a new connection.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(one), Self(other)))
    }

    pub const fn new(socket: OwnedFd) -> Self {
        Self(socket)
    }

    pub fn into_socket(self) -> OwnedFd {
        self.0
    }

    /// Sends a value as JSON, and open files. Waits while the other end does not receive.
    pub fn send(&self, value: &impl Serialize, files: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.send_bytes(&serde_json::to_vec(value)?, files)
    }

    pub fn send_bytes(&self, bytes: &[u8], files: &[BorrowedFd<'_>]) -> io::Result<()> {
        if bytes.len() > MAX_MESSAGE {
            return Err(io::Error::other("a message is too large"));
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !files.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(files)) {
            return Err(io::Error::other("too many files in a message"));
        }
        loop {
            match sendmsg(&self.0, &[io::IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Receives a value in JSON. Waits until one arrives, or until the timeout.
    pub fn receive<T: DeserializeOwned>(&self, timeout: Option<Duration>) -> io::Result<Received<T>> {
        Ok(match self.receive_bytes(timeout)? {
            Received::Message(bytes, files) => Received::Message(serde_json::from_slice(&bytes)?, files),
            Received::Closed => Received::Closed,
            Received::TimedOut => Received::TimedOut,
        })
    }

    pub fn receive_bytes(&self, timeout: Option<Duration>) -> io::Result<Received<Vec<u8>>> {
        if let Some(timeout) = timeout
            && !self.wait(PollFlags::IN, timeout)?
        {
            return Ok(Received::TimedOut);
        }
        let mut bytes = vec![0; MAX_MESSAGE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let message = loop {
            let mut parts = [io::IoSliceMut::new(&mut bytes)];
            match recvmsg(&self.0, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
                Ok(message) => break message,
                // The other end was closed with messages that it had not read. Linux reports this once, before messages
                // that it sent are received.
                Err(Errno::INTR | Errno::CONNRESET) => {}
                Err(error) => return Err(error.into()),
            }
        };
        // No message is empty.
        if message.bytes == 0 {
            return Ok(Received::Closed);
        }
        let files = ancillary.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(files) => Some(files),
            _ => None,
        });
        let files = files.flatten().collect();
        bytes.truncate(message.bytes);
        Ok(Received::Message(bytes, files))
    }

    /// Whether the other end is closed.
    pub fn is_closed(&self) -> bool {
        let mut sockets = [PollFd::new(&self.0, PollFlags::empty())];
        let none = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut sockets, Some(&none)).is_ok() && sockets[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
    }

    /// Waits for an event. Returns whether it came before the timeout.
    fn wait(&self, event: PollFlags, timeout: Duration) -> io::Result<bool> {
        let mut sockets = [PollFd::new(&self.0, event)];
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        match poll(&mut sockets, Some(&timeout)) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, Write};

    use super::*;

    const SOON: Option<Duration> = Some(Duration::from_millis(10));

    #[test]
    fn messages_keep_their_boundaries_and_carry_files() {
        let (one, other) = Link::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"content").unwrap();
        one.send(&"first", &[file.as_fd()]).unwrap();
        one.send(&vec![0.1, 1.0 / 3.0], &[]).unwrap();
        let Received::Message(text, mut files) = other.receive::<String>(None).unwrap() else { panic!("closed") };
        assert_eq!((text.as_str(), files.len()), ("first", 1));
        let mut sent = std::fs::File::from(files.remove(0));
        sent.rewind().unwrap();
        let mut text = String::new();
        sent.read_to_string(&mut text).unwrap();
        assert_eq!(text, "content");
        let Received::Message(numbers, _) = other.receive::<Vec<f64>>(SOON).unwrap() else { panic!("closed") };
        assert_eq!(numbers, [0.1, 1.0 / 3.0], "numbers arrive exactly");
        assert!(matches!(other.receive::<String>(SOON).unwrap(), Received::TimedOut));
    }

    #[test]
    fn a_closed_end_is_noticed_after_the_last_message() {
        let (one, other) = Link::pair().unwrap();
        one.send(&1, &[]).unwrap();
        assert!(!other.is_closed());
        drop(one);
        assert!(other.is_closed());
        assert!(matches!(other.receive::<u32>(None).unwrap(), Received::Message(1, _)));
        assert!(matches!(other.receive::<u32>(None).unwrap(), Received::Closed));
        assert!(other.send(&1, &[]).is_err());
    }

    #[test]
    fn the_last_message_of_an_end_that_read_nothing_arrives() {
        let (one, other) = Link::pair().unwrap();
        other.send(&"unread", &[]).unwrap();
        one.send(&1, &[]).unwrap();
        drop(one);
        assert!(matches!(other.receive::<u32>(SOON).unwrap(), Received::Message(1, _)));
        assert!(matches!(other.receive::<u32>(SOON).unwrap(), Received::Closed));
    }

    #[test]
    fn too_large_and_garbled_messages_are_errors() {
        let (one, other) = Link::pair().unwrap();
        assert!(one.send_bytes(&vec![0; MAX_MESSAGE + 1], &[]).is_err());
        one.send_bytes(&vec![7; MAX_MESSAGE], &[]).unwrap();
        assert!(other.receive::<String>(None).is_err());
    }
}
