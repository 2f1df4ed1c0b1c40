//! The log lines of a test.

use std::io;
use std::sync::{Arc, Mutex};

use tracing::Dispatch;
use tracing::subscriber::DefaultGuard;

/// Records the log lines of the current thread until it is dropped. A test on a single-threaded runtime runs its
/// service on the same thread.
pub struct RecordedLog {
    lines: Arc<Mutex<Vec<u8>>>,
    _guard: DefaultGuard,
    /// While there is only one dispatcher, a log statement that another thread reaches first, without a dispatcher, is
    /// disabled for all threads. A second dispatcher prevents that.
    _second: Dispatch,
}

impl RecordedLog {
    pub fn start() -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let writer = Writer(lines.clone());
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        let second = Dispatch::new(tracing_subscriber::registry());
        Self { lines, _guard: tracing::subscriber::set_default(subscriber), _second: second }
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.lines.lock().unwrap().clone()).unwrap()
    }
}

#[derive(Clone)]
struct Writer(Arc<Mutex<Vec<u8>>>);

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
