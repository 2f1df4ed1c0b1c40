//! The request queue of one model, and the threads that run its batches.
//!
//! Each thread has a session of its own. It takes requests from the queue and runs rows of the same shape in one call.
//! A queue starts with one thread. If a request arrives while all threads are busy, one more thread starts, up to a
//! limit.
//!
//! A single caller never waits for a batch to fill. A thread waits for more rows only if its last call served several
//! requests, or if requests arrived during that call. The queue is bounded: callers block when the model cannot keep
//! up.
//!
//! Requests of [live pictures](live) run first. They never block, and a batch that has one does not wait for more rows.
//! Other requests share its batch.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ndarray::{ArrayD, Axis, Slice, concatenate};
use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::oneshot;

use super::EngineError;

/// One array for each output of the model, each with one row for each input row.
pub(super) type Outputs = Vec<ArrayD<f32>>;

/// The call that a thread makes for each batch.
pub(super) type Run = Box<dyn FnMut(&ArrayD<f32>) -> Result<Outputs, EngineError> + Send>;

/// The limits of a queue and its batches.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Maximum number of rows in one call. No request has more.
    pub max_rows: usize,
    /// Maximum wait for more rows when several callers are active.
    pub max_wait: Duration,
    /// Maximum number of waiting requests.
    pub depth: usize,
    /// Maximum number of threads. Each has a session of its own.
    pub sessions: usize,
}

/// Sends the outputs to the caller.
type Reply = oneshot::Sender<Result<Outputs, EngineError>>;
type Answer = (Reply, Result<Outputs, EngineError>);

struct Request {
    rows: ArrayD<f32>,
    is_live: bool,
    reply: Reply,
}

thread_local! {
    /// Whether this thread analyzes live pictures.
    static IS_LIVE: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` on this thread. Its requests to models go before those of other threads.
pub fn live<T>(work: impl FnOnce() -> T) -> T {
    /// Restores the earlier value even if `work` panics.
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            IS_LIVE.set(self.0);
        }
    }
    let _restore = Restore(IS_LIVE.replace(true));
    work()
}

/// A submitted request. Dropping it cancels the request if it has not run yet.
#[derive(Debug)]
pub struct Ticket {
    model: String,
    reply: oneshot::Receiver<Result<Outputs, EngineError>>,
}

impl Ticket {
    /// Blocks until the outputs are ready. Returns one array for each output of the model, in the model's order, with
    /// one row for each input row.
    pub fn wait(self) -> Result<Vec<ArrayD<f32>>, EngineError> {
        let model = self.model;
        self.reply.blocking_recv().unwrap_or(Err(EngineError::Stopped { model }))
    }
}

/// The queue and its threads. Dropping it runs the waiting requests and then ends the threads.
pub(super) struct Queue {
    shared: Arc<Shared>,
    new_session: Arc<dyn Fn() -> Result<Run, EngineError> + Send + Sync>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    model: String,
    limits: Limits,
    state: Mutex<State>,
    /// Signals that a request has arrived or that the queue is closed.
    arrived: Condvar,
    /// Signals that the queue has space for a request or that it is closed.
    capacity_freed: Condvar,
}

struct State {
    /// Live requests first, and both kinds in order of arrival.
    waiting: VecDeque<Request>,
    threads: usize,
    /// Number of threads that are running a batch.
    busy: usize,
    /// Lower than [`Limits::sessions`] if another session could not be created.
    max_threads: usize,
    is_closed: bool,
}

impl Queue {
    /// Starts the first thread, which calls `run` with the rows of each batch. `new_session` returns an equal function
    /// for each further thread.
    pub fn start(
        model: &str,
        limits: Limits,
        run: Run,
        new_session: impl Fn() -> Result<Run, EngineError> + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let max_threads = limits.sessions.max(1);
        let state = State { waiting: VecDeque::new(), threads: 1, busy: 0, max_threads, is_closed: false };
        let (state, arrived, capacity_freed) = (Mutex::new(state), Condvar::new(), Condvar::new());
        let shared = Arc::new(Shared { model: model.to_owned(), limits, state, arrived, capacity_freed });
        let first = spawn(SessionThread { shared: shared.clone(), run })?;
        Ok(Self { shared, new_session: Arc::new(new_session), threads: Mutex::new(vec![first]) })
    }

    /// Submits one request with 1 to `max_rows` rows. Blocks while the queue is full, unless the request is live.
    pub fn submit(&self, rows: ArrayD<f32>) -> Result<Ticket, EngineError> {
        let Shared { model, limits, capacity_freed, arrived, .. } = &*self.shared;
        let (reply, receiver) = oneshot::channel();
        let is_live = IS_LIVE.get();
        let mut state = self.shared.state();
        while !is_live && state.waiting.len() >= limits.depth && !state.is_closed {
            capacity_freed.wait(&mut state);
        }
        if state.is_closed {
            return Err(EngineError::Stopped { model: model.clone() });
        }
        let request = Request { rows, is_live, reply };
        if is_live {
            let place = state.waiting.partition_point(|other| other.is_live);
            state.waiting.insert(place, request);
        } else {
            state.waiting.push_back(request);
        }
        let needs_thread = state.waiting.len() + state.busy > state.threads && state.threads < state.max_threads;
        state.threads += usize::from(needs_thread);
        drop(state);
        arrived.notify_one();
        if needs_thread {
            self.grow();
        }
        Ok(Ticket { model: model.clone(), reply: receiver })
    }

    /// Starts one more thread. The thread itself creates its session, so that no caller waits for that.
    fn grow(&self) {
        let (shared, new_session) = (self.shared.clone(), self.new_session.clone());
        let run = move || match new_session() {
            Ok(run) => SessionThread { shared, run }.run_batches(),
            Err(error) => shared.stop_growing(&error),
        };
        match std::thread::Builder::new().name(format!("model {}", self.shared.model)).spawn(run) {
            Ok(thread) => self.threads.lock().push(thread),
            Err(error) => self.shared.stop_growing(&error),
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.shared.close();
        for thread in self.threads.get_mut().drain(..) {
            if thread.join().is_err() {
                tracing::error!(model = self.shared.model, "a thread of the model panicked");
            }
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    fn close(&self) {
        self.state().is_closed = true;
        self.arrived.notify_all();
        self.capacity_freed.notify_all();
    }

    /// Gives up on the thread being started and on all further ones.
    fn stop_growing(&self, why: &dyn std::fmt::Display) {
        let mut state = self.state();
        state.threads -= 1;
        state.max_threads = state.threads;
        tracing::warn!(model = self.model, sessions = state.threads, %why, "cannot create another session");
    }

    /// Counts the waiting rows that could go into the next batch.
    fn batchable_rows(waiting: &VecDeque<Request>) -> usize {
        let Some(first) = waiting.front() else { return 0 };
        waiting
            .iter()
            .filter(|request| same_row_shape(first, request))
            .map(|request| request.rows.len_of(Axis(0)))
            .sum()
    }

    /// Waits for the next batch: the first request and as many others of the same row shape as fit. Drops requests
    /// whose caller has gone. Returns `None` when the queue is closed and empty.
    fn next_batch(&self, mut wait: Duration) -> Option<Vec<Request>> {
        let mut state = self.state();
        loop {
            state.waiting.retain(|request| !request.reply.is_closed());
            if state.waiting.is_empty() {
                if state.is_closed {
                    return None;
                }
                self.arrived.wait(&mut state);
                continue;
            }
            let is_live = state.waiting.front().is_some_and(|first| first.is_live);
            if wait.is_zero()
                || is_live
                || state.is_closed
                || Self::batchable_rows(&state.waiting) >= self.limits.max_rows
            {
                break;
            }
            let since = Instant::now();
            self.arrived.wait_for(&mut state, wait);
            wait = wait.saturating_sub(since.elapsed());
        }
        let mut batch: Vec<Request> = Vec::new();
        let mut rows = 0;
        let mut later = VecDeque::new();
        for request in state.waiting.drain(..) {
            let fits = batch.first().is_none_or(|first| same_row_shape(first, &request))
                && rows + request.rows.len_of(Axis(0)) <= self.limits.max_rows;
            if fits {
                rows += request.rows.len_of(Axis(0));
                batch.push(request);
            } else {
                later.push_back(request);
            }
        }
        state.waiting = later;
        if !state.waiting.is_empty() {
            self.arrived.notify_one();
        }
        state.busy += 1;
        drop(state);
        self.capacity_freed.notify_all();
        Some(batch)
    }
}

struct SessionThread {
    shared: Arc<Shared>,
    run: Run,
}

/// Closes the queue if the model panics. Waiting requests are dropped and new ones are refused, so that no caller
/// blocks forever.
struct PanicGuard<'a>(&'a Shared);

impl Drop for PanicGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.state().waiting.clear();
            self.0.close();
        }
    }
}

fn spawn(worker: SessionThread) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(format!("model {}", worker.shared.model)).spawn(move || worker.run_batches())
}

impl SessionThread {
    fn run_batches(mut self) {
        let shared = self.shared.clone();
        let _guard = PanicGuard(&shared);
        let mut others_wait = false;
        while let Some(batch) = shared.next_batch(if others_wait { shared.limits.max_wait } else { Duration::ZERO }) {
            let several = batch.len() > 1;
            let answers = self.serve(batch);
            let mut state = shared.state();
            state.busy -= 1;
            others_wait = several || !state.waiting.is_empty();
            drop(state);
            // Reply only after `busy` was lowered: a caller may submit its next request at once, and that request must
            // not start another session.
            for (reply, outputs) in answers {
                // Sending fails if the caller has gone.
                let _ = reply.send(outputs);
            }
        }
    }

    /// Runs a batch and splits the outputs by caller.
    fn serve(&mut self, mut batch: Vec<Request>) -> Vec<Answer> {
        if batch.len() == 1 {
            let one = batch.pop().map(|Request { rows, reply, .. }| {
                let outputs = (self.run)(&rows).and_then(|outputs| self.check_rows(outputs, rows.len_of(Axis(0))));
                (reply, outputs)
            });
            return one.into_iter().collect();
        }
        let views: Vec<_> = batch.iter().map(|request| request.rows.view()).collect();
        let Ok(rows) = concatenate(Axis(0), &views) else { return Vec::new() };
        drop(views);
        let outputs = (self.run)(&rows).and_then(|outputs| self.check_rows(outputs, rows.len_of(Axis(0))));
        let mut start = 0;
        let answers = batch.into_iter().map(|Request { rows, reply, .. }| {
            let end = start + rows.len_of(Axis(0));
            let part = |output: &ArrayD<f32>| output.slice_axis(Axis(0), Slice::from(start..end)).to_owned();
            let share = outputs.as_ref().map(|outputs| outputs.iter().map(part).collect()).map_err(Clone::clone);
            start = end;
            (reply, share)
        });
        answers.collect()
    }

    /// Checks that each output has one row for each input row.
    fn check_rows(&self, outputs: Outputs, rows: usize) -> Result<Outputs, EngineError> {
        match outputs.iter().find(|output| output.shape().first() != Some(&rows)) {
            None => Ok(outputs),
            Some(output) => {
                let reason = format!("{rows} input rows gave an output of shape {:?}", output.shape());
                Err(EngineError::Run { model: self.shared.model.clone(), reason })
            }
        }
    }
}

fn same_row_shape(a: &Request, b: &Request) -> bool {
    a.rows.shape().get(1..) == b.rows.shape().get(1..)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Receiver};

    use ndarray::{IxDyn, array};

    use super::*;

    const LIMITS: Limits = Limits { max_rows: 4, max_wait: Duration::from_millis(1), depth: 8, sessions: 1 };

    fn rows(values: &[f32]) -> ArrayD<f32> {
        ArrayD::from_shape_vec(IxDyn(&[values.len(), 1]), values.to_vec()).unwrap()
    }

    /// Starts a queue with one thread.
    fn single_session(
        model: &str,
        limits: Limits,
        run: impl FnMut(&ArrayD<f32>) -> Result<Outputs, EngineError> + Send + 'static,
    ) -> std::io::Result<Queue> {
        Queue::start(model, limits, Box::new(run), || panic!("one session is enough"))
    }

    /// Starts a queue whose model doubles every value. It sends the shape of each call to the returned receiver, and
    /// waits before each call until the returned sender sends or is dropped.
    fn gated(limits: Limits) -> (Queue, mpsc::Sender<()>, Receiver<Vec<usize>>) {
        let (go, gate) = mpsc::channel();
        let (seen, calls) = mpsc::channel();
        let queue = single_session("double", limits, move |rows| {
            let _ = seen.send(rows.shape().to_vec());
            let _ = gate.recv();
            Ok(vec![rows.mapv(|value| value * 2.0)])
        });
        (queue.unwrap(), go, calls)
    }

    #[test]
    fn requests_that_arrive_during_a_call_share_the_next_call_up_to_its_limit() {
        let (queue, go, calls) = gated(LIMITS);
        let first = queue.submit(rows(&[1.0])).unwrap();
        assert_eq!(calls.recv().unwrap(), [1, 1]);
        let others: Vec<Ticket> =
            [&[2.0_f32, 3.0][..], &[4.0], &[5.0, 6.0]].map(|values| queue.submit(rows(values)).unwrap()).into();
        drop(go);
        assert_eq!(first.wait().unwrap(), [rows(&[2.0])]);
        let results: Vec<_> = others.into_iter().map(|ticket| ticket.wait().unwrap().remove(0)).collect();
        assert_eq!(results, [rows(&[4.0, 6.0]), rows(&[8.0]), rows(&[10.0, 12.0])]);
        assert_eq!(calls.iter().take(2).collect::<Vec<_>>(), [[3, 1], [2, 1]]);
    }

    #[test]
    fn a_single_caller_with_requests_in_a_row_never_starts_a_second_session() {
        let limits = Limits { sessions: 8, ..LIMITS };
        let run = |rows: &ArrayD<f32>| Ok(vec![rows.clone()]);
        let started = Arc::new(Mutex::new(0));
        let new_session = {
            let started = started.clone();
            move || {
                *started.lock() += 1;
                Ok::<Run, _>(Box::new(run))
            }
        };
        let queue = Queue::start("same", limits, Box::new(run), new_session).unwrap();
        for n in 0..5000_u16 {
            queue.submit(rows(&[f32::from(n)])).unwrap().wait().unwrap();
        }
        drop(queue);
        assert_eq!(*started.lock(), 0, "unneeded sessions were started");
    }

    #[test]
    fn live_requests_run_first_share_the_batch_and_do_not_wait_for_a_full_queue() {
        let limits = Limits { depth: 2, ..LIMITS };
        let (queue, go, calls) = gated(limits);
        let first = queue.submit(rows(&[1.0])).unwrap();
        calls.recv().unwrap();
        // The queue is full now.
        let others = [[2.0, 3.0, 4.0], [5.0, 6.0, 7.0]].map(|values| queue.submit(rows(&values)).unwrap());
        let urgent = [8.0, 9.0].map(|value| live(|| queue.submit(rows(&[value]))).unwrap());
        assert!(!IS_LIVE.get());
        drop(go);
        assert_eq!(first.wait().unwrap(), [rows(&[2.0])]);
        assert_eq!(urgent.map(|ticket| ticket.wait().unwrap()), [[rows(&[16.0])], [rows(&[18.0])]]);
        assert_eq!(others.map(|ticket| ticket.wait().unwrap().len()), [1, 1]);
        // Two rows of live requests leave no room for three others, and the next calls have three rows each.
        assert_eq!(calls.iter().take(3).collect::<Vec<_>>(), [[2, 1], [3, 1], [3, 1]]);
        let (queue, go, calls) = gated(LIMITS);
        let first = queue.submit(rows(&[1.0])).unwrap();
        calls.recv().unwrap();
        let other = queue.submit(rows(&[2.0, 3.0])).unwrap();
        let urgent = live(|| queue.submit(rows(&[4.0]))).unwrap();
        drop(go);
        assert_eq!(urgent.wait().unwrap(), [rows(&[8.0])]);
        assert_eq!((first.wait().unwrap(), other.wait().unwrap()), (vec![rows(&[2.0])], vec![rows(&[4.0, 6.0])]));
        assert_eq!(calls.recv().unwrap(), [3, 1]);
    }

    #[test]
    fn rows_of_different_shapes_run_in_separate_calls() {
        let (queue, go, calls) = gated(LIMITS);
        let first = queue.submit(rows(&[1.0])).unwrap();
        calls.recv().unwrap();
        let narrow = queue.submit(rows(&[2.0])).unwrap();
        let wide = queue.submit(array![[3.0_f32, 4.0]].into_dyn()).unwrap();
        let narrow_too = queue.submit(rows(&[5.0])).unwrap();
        drop(go);
        first.wait().unwrap();
        assert_eq!(wide.wait().unwrap(), [array![[6.0_f32, 8.0]].into_dyn()]);
        assert_eq!((narrow.wait().unwrap(), narrow_too.wait().unwrap()), (vec![rows(&[4.0])], vec![rows(&[10.0])]));
        assert_eq!(calls.iter().take(2).collect::<Vec<_>>(), [[2, 1], [1, 2]]);
    }

    #[test]
    fn a_request_whose_ticket_was_dropped_is_not_run() {
        let (queue, go, calls) = gated(LIMITS);
        let first = queue.submit(rows(&[1.0])).unwrap();
        calls.recv().unwrap();
        drop(queue.submit(rows(&[2.0])).unwrap());
        let last = queue.submit(rows(&[3.0])).unwrap();
        drop(go);
        first.wait().unwrap();
        assert_eq!(last.wait().unwrap(), [rows(&[6.0])]);
        assert_eq!(calls.recv().unwrap(), [1, 1]);
    }

    #[test]
    fn a_failing_call_returns_its_error_to_every_caller_of_its_batch_only() {
        let (seen, calls) = mpsc::channel();
        let (go, gate) = mpsc::channel::<()>();
        let queue = single_session("fussy", LIMITS, move |rows: &ArrayD<f32>| {
            let _ = seen.send(());
            let _ = gate.recv();
            match rows.iter().any(|&value| value < 0.0) {
                true => Err(EngineError::Run { model: "fussy".to_owned(), reason: "negative".to_owned() }),
                false => Ok(vec![rows.clone()]),
            }
        })
        .unwrap();
        let before = queue.submit(rows(&[1.0])).unwrap();
        calls.recv().unwrap();
        let (with, bad) = (queue.submit(rows(&[2.0])).unwrap(), queue.submit(rows(&[-3.0])).unwrap());
        drop(go);
        assert!(before.wait().is_ok());
        assert!(matches!(with.wait(), Err(EngineError::Run { reason, .. }) if reason == "negative"));
        assert!(bad.wait().is_err());
        assert!(queue.submit(rows(&[4.0])).unwrap().wait().is_ok());
    }

    #[test]
    fn an_output_with_another_number_of_rows_is_an_error() {
        let queue =
            single_session("sum", LIMITS, |rows: &ArrayD<f32>| Ok(vec![array![rows.sum()].into_dyn()])).unwrap();
        assert!(queue.submit(rows(&[1.0])).unwrap().wait().is_ok());
        let error = queue.submit(rows(&[1.0, 2.0])).unwrap().wait().unwrap_err();
        assert!(error.to_string().contains("2 input rows gave"), "{error}");
    }

    #[test]
    fn dropping_a_queue_runs_its_requests_and_ends_its_thread() {
        let held = Arc::new(Mutex::new(()));
        let inside = Arc::clone(&held);
        let queue = single_session("echo", LIMITS, move |rows: &ArrayD<f32>| {
            let _alive = inside.lock();
            Ok(vec![rows.clone()])
        })
        .unwrap();
        let tickets: Vec<Ticket> = (0..5_u8).map(|value| queue.submit(rows(&[value.into()])).unwrap()).collect();
        drop(queue);
        assert_eq!(Arc::strong_count(&held), 1, "the thread still holds the model");
        for (value, ticket) in (0..5_u8).zip(tickets) {
            assert_eq!(ticket.wait().unwrap(), [rows(&[value.into()])]);
        }
    }

    #[test]
    fn a_model_that_panics_returns_a_stopped_error() {
        let queue = single_session("broken", LIMITS, |_: &ArrayD<f32>| panic!("meant")).unwrap();
        let ticket = queue.submit(rows(&[1.0])).unwrap();
        assert!(matches!(ticket.wait(), Err(EngineError::Stopped { model }) if model == "broken"));
    }

    #[test]
    fn concurrent_callers_each_get_the_outputs_of_their_own_rows() {
        let queue = single_session("double", LIMITS, |rows: &ArrayD<f32>| Ok(vec![rows.mapv(|v| v * 2.0)])).unwrap();
        std::thread::scope(|scope| {
            for caller in 0..8_u16 {
                let queue = &queue;
                scope.spawn(move || {
                    for turn in 0..50_u16 {
                        let value = f32::from(caller * 100 + turn);
                        // Two row shapes, one to three rows.
                        let shape = [usize::from(turn % 3 + 1), usize::from(caller % 2 + 1)];
                        let given = ArrayD::from_elem(IxDyn(&shape), value);
                        let got = queue.submit(given.clone()).unwrap().wait().unwrap();
                        assert_eq!(got, [given * 2.0]);
                    }
                });
            }
        });
    }

    /// Returns a model that gives the number of its session for each row. It waits for `gate` before each call.
    fn numbered(session: f32, seen: mpsc::Sender<f32>, gate: Arc<Mutex<Receiver<()>>>) -> Run {
        Box::new(move |rows: &ArrayD<f32>| {
            let _ = seen.send(session);
            let _ = gate.lock().recv();
            Ok(vec![rows.mapv(|_| session)])
        })
    }

    #[test]
    fn a_request_starts_another_session_up_to_the_limit_if_all_are_busy() {
        let (seen, calls) = mpsc::channel();
        let (go, gate) = mpsc::channel();
        let gate = Arc::new(Mutex::new(gate));
        let new_session = {
            let (seen, gate) = (seen.clone(), gate.clone());
            move || Ok(numbered(2.0, seen.clone(), gate.clone()))
        };
        let queue =
            Queue::start("two", Limits { sessions: 2, ..LIMITS }, numbered(1.0, seen, gate), new_session).unwrap();
        let first = queue.submit(rows(&[0.0])).unwrap();
        assert_eq!(calls.recv(), Ok(1.0));
        let second = queue.submit(rows(&[0.0])).unwrap();
        assert_eq!(calls.recv(), Ok(2.0), "the second request does not wait for the first");
        let third = queue.submit(rows(&[0.0])).unwrap();
        assert_eq!(queue.threads.lock().len(), 2);
        for _ in 0..3 {
            go.send(()).unwrap();
        }
        assert_eq!((first.wait().unwrap(), second.wait().unwrap()), (vec![rows(&[1.0])], vec![rows(&[2.0])]));
        assert!(third.wait().is_ok());
    }

    #[test]
    fn the_first_session_serves_all_requests_if_no_other_can_be_created() {
        let (seen, calls) = mpsc::channel();
        let (go, gate) = mpsc::channel();
        let run = numbered(1.0, seen, Arc::new(Mutex::new(gate)));
        let new_session = || Err(EngineError::Run { model: "one".to_owned(), reason: "no memory".to_owned() });
        let queue = Queue::start("one", Limits { sessions: 2, ..LIMITS }, run, new_session).unwrap();
        let first = queue.submit(rows(&[0.0])).unwrap();
        calls.recv().unwrap();
        let second = queue.submit(rows(&[0.0])).unwrap();
        drop(go);
        assert_eq!((first.wait().unwrap(), second.wait().unwrap()), (vec![rows(&[1.0])], vec![rows(&[1.0])]));
    }
}
