//! Gives a child, which has no network, the bytes of a video on a server.

use std::sync::Arc;

use parking_lot::Mutex;

use super::link::{Link, MAX_MESSAGE, Received};
use super::message::ReadRequest;
use crate::media::{ReadAt, ReadDeadline, ReadError, Source};

/// The size of the status, a number at the start of each answer.
const STATUS: usize = size_of::<i64>();
/// The status for a size that is unknown.
const UNKNOWN: i64 = i64::MIN;

/// In the parent: answers the requests of a child until it closes the socket. A request that fails closes the
/// connection to the server, and the next request opens a new one.
pub fn serve(source: &Source, socket: Link) {
    let (socket, deadline) = (Arc::new(socket), ReadDeadline::start());
    let mut opened: Option<Arc<dyn ReadAt>> = None;
    while let Ok(Received::Message(request, _)) = socket.receive(None) {
        deadline.restart();
        let mut answer = vec![0; STATUS];
        let mut respond = || -> Result<i64, ReadError> {
            let bytes = if let Some(bytes) = &opened {
                bytes
            } else {
                let (deadline, socket) = (deadline.clone(), socket.clone());
                opened.insert(source.open(move || deadline.is_over() || socket.is_closed())?)
            };
            match request {
                ReadRequest::Size => Ok(bytes.size().map_or(UNKNOWN, u64::cast_signed)),
                ReadRequest::Bytes { at, length } => {
                    answer.resize(STATUS + length.min(MAX_MESSAGE - STATUS), 0);
                    let read = bytes.read_at(&mut answer[STATUS..], at)?;
                    answer.truncate(STATUS + read);
                    Ok(i64::try_from(read).unwrap_or(0))
                }
            }
        };
        let status = respond().unwrap_or_else(|ReadError(code)| {
            opened = None;
            answer.truncate(STATUS);
            code.into()
        });
        answer[..STATUS].copy_from_slice(&status.to_le_bytes());
        if socket.send_bytes(&answer, &[]).is_err() {
            return;
        }
    }
}

/// In the child: the bytes that [`serve`] sends.
pub struct ServedBytes {
    socket: Mutex<Link>,
    size: Option<u64>,
}

impl ServedBytes {
    /// Asks for the size, which opens the connection to the server.
    pub fn open(socket: Link) -> Result<Self, ReadError> {
        let (status, _) = request(&socket, ReadRequest::Size)?;
        let size = (status != UNKNOWN).then_some(status.cast_unsigned());
        Ok(Self { socket: Mutex::new(socket), size })
    }
}

impl ReadAt for ServedBytes {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> Result<usize, ReadError> {
        let socket = self.socket.lock();
        let (_, bytes) = request(&socket, ReadRequest::Bytes { at, length: buffer.len() })?;
        let bytes = bytes.get(STATUS..).unwrap_or_default();
        let read = bytes.len().min(buffer.len());
        buffer[..read].copy_from_slice(&bytes[..read]);
        Ok(read)
    }

    fn size(&self) -> Option<u64> {
        self.size
    }

    fn is_remote(&self) -> bool {
        true
    }
}

/// Returns the status and the whole answer.
fn request(socket: &Link, request: ReadRequest) -> Result<(i64, Vec<u8>), ReadError> {
    socket.send(&request, &[])?;
    let Received::Message(answer, _) = socket.receive_bytes(None)? else { return Err(ReadError(-libc::EPIPE)) };
    let status = answer.first_chunk().map_or(-i64::from(libc::EIO), |status| i64::from_le_bytes(*status));
    match i32::try_from(status) {
        Ok(code) if code < 0 => Err(ReadError(code)),
        _ => Ok((status, answer)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Numbers;

    impl ReadAt for Numbers {
        fn read_at(&self, buffer: &mut [u8], at: u64) -> Result<usize, ReadError> {
            let left = 1000_usize.saturating_sub(usize::try_from(at).unwrap_or(usize::MAX)).min(buffer.len());
            if at == 77 {
                return Err(ReadError(-libc::ECONNRESET));
            }
            for (number, byte) in (at..).zip(&mut buffer[..left]) {
                *byte = u8::try_from(number % 251).unwrap();
            }
            Ok(left)
        }

        fn size(&self) -> Option<u64> {
            Some(1000)
        }
    }

    #[test]
    fn bytes_sizes_and_errors_cross_the_socket() {
        let (parent, child) = Link::pair().unwrap();
        let server = std::thread::spawn(move || serve(&Source::Opened(Arc::new(Numbers)), parent));
        let bytes = ServedBytes::open(child).unwrap();
        assert_eq!(bytes.size(), Some(1000));
        let mut buffer = [0; 10];
        assert_eq!(bytes.read_at(&mut buffer, 249), Ok(10));
        assert_eq!(buffer, [249, 250, 0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!((bytes.read_at(&mut buffer, 995), bytes.read_at(&mut buffer, 1000)), (Ok(5), Ok(0)));
        assert_eq!(bytes.read_at(&mut buffer, 77), Err(ReadError(-libc::ECONNRESET)));
        assert_eq!(bytes.read_at(&mut buffer, 0), Ok(10), "after an error");
        let mut large = vec![0; 1 << 20];
        assert_eq!(bytes.read_at(&mut large, 0), Ok(1000));
        drop(bytes);
        server.join().unwrap();
    }
}
