//! Requests of all callers on their way into one model.
//!
//! Threads with a session each take requests, put rows of the same shape together and run them in one call. There is one at
//! first; one more starts when a request finds all of them at work, up to a limit. A caller who is alone never waits: only
//! when the last call served several requests, or others came while it ran, does a thread wait a moment for more rows. A
//! bounded queue holds callers back when the model cannot keep up.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ndarray::{ArrayD, Axis, Slice, concatenate};
use tokio::sync::oneshot;

use super::EngineError;

/// Rows in, one array an output out, each with as many rows.
pub(super) type Outputs = Vec<ArrayD<f32>>;

/// The call that a thread makes for each batch.
pub(super) type Run = Box<dyn FnMut(&ArrayD<f32>) -> Result<Outputs, EngineError> + Send>;

/// How batches are made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// Most rows in one call; no request holds more.
    pub max_rows: usize,
    /// Longest wait for more rows when several callers are at it.
    pub max_wait: Duration,
    /// Most requests that lie waiting.
    pub depth: usize,
    /// Most threads, each with a session of its own.
    pub sessions: usize,
}

/// To whom outputs go.
type Reply = oneshot::Sender<Result<Outputs, EngineError>>;
type Answer = (Reply, Result<Outputs, EngineError>);

struct Request {
    rows: ArrayD<f32>,
    reply: Reply,
}

/// A request under way. Dropping it takes the request back if it has not run yet.
#[derive(Debug)]
pub struct Ticket {
    model: String,
    reply: oneshot::Receiver<Result<Outputs, EngineError>>,
}

impl Ticket {
    /// Blocks until the outputs are there: one array an output of the model, in its order, with a row for each row.
    pub fn wait(self) -> Result<Vec<ArrayD<f32>>, EngineError> {
        let model = self.model;
        self.reply.blocking_recv().unwrap_or(Err(EngineError::Stopped { model }))
    }
}

/// The way in, and the threads behind it. Dropped, it serves what it still holds and ends the threads.
pub(super) struct Queue {
    shared: Arc<Shared>,
    more: Arc<dyn Fn() -> Result<Run, EngineError> + Send + Sync>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    model: String,
    rules: Rules,
    state: Mutex<State>,
    /// Something waits, or the queue is closed.
    come: Condvar,
    /// There is room for a request, or the queue is closed.
    room: Condvar,
}

struct State {
    /// In order of arrival.
    waiting: VecDeque<Request>,
    threads: usize,
    /// Threads that run a batch.
    busy: usize,
    /// Lower than the rules say where another session could not be had.
    most_threads: usize,
    is_closed: bool,
}

impl Queue {
    /// Starts the first thread, which calls `run` with the rows of a batch; `more` makes the same call for another thread.
    pub fn start(
        model: &str,
        rules: Rules,
        run: Run,
        more: impl Fn() -> Result<Run, EngineError> + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let most_threads = rules.sessions.max(1);
        let state = State { waiting: VecDeque::new(), threads: 1, busy: 0, most_threads, is_closed: false };
        let (state, come, room) = (Mutex::new(state), Condvar::new(), Condvar::new());
        let shared = Arc::new(Shared { model: model.to_owned(), rules, state, come, room });
        let first = spawn(Worker { shared: shared.clone(), run })?;
        Ok(Self { shared, more: Arc::new(more), threads: Mutex::new(vec![first]) })
    }

    /// Hands in the rows of one request, 1 to `max_rows`. Blocks while the queue is full.
    pub fn submit(&self, rows: ArrayD<f32>) -> Result<Ticket, EngineError> {
        let Shared { model, rules, room, come, .. } = &*self.shared;
        let (reply, receiver) = oneshot::channel();
        let mut state = self.shared.state();
        while state.waiting.len() >= rules.depth && !state.is_closed {
            state = room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.is_closed {
            return Err(EngineError::Stopped { model: model.clone() });
        }
        state.waiting.push_back(Request { rows, reply });
        let is_short = state.waiting.len() + state.busy > state.threads && state.threads < state.most_threads;
        state.threads += usize::from(is_short);
        drop(state);
        come.notify_one();
        if is_short {
            self.grow();
        }
        Ok(Ticket { model: model.clone(), reply: receiver })
    }

    /// One more thread. Its session is made there, so nobody waits for it.
    fn grow(&self) {
        let (shared, more) = (self.shared.clone(), self.more.clone());
        let work = move || match more() {
            Ok(run) => Worker { shared, run }.work(),
            Err(error) => shared.stays_small(&error),
        };
        match std::thread::Builder::new().name(format!("model {}", self.shared.model)).spawn(work) {
            Ok(thread) => self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread),
            Err(error) => self.shared.stays_small(&error),
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.shared.close();
        for thread in self.threads.get_mut().unwrap_or_else(PoisonError::into_inner).drain(..) {
            if thread.join().is_err() {
                tracing::error!(model = self.shared.model, "a thread of the model had panicked");
            }
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.state().is_closed = true;
        self.come.notify_all();
        self.room.notify_all();
    }

    /// No further thread will be tried for.
    fn stays_small(&self, why: &dyn std::fmt::Display) {
        let mut state = self.state();
        state.threads -= 1;
        state.most_threads = state.threads;
        tracing::warn!(model = self.model, sessions = state.threads, %why, "no further session for this model");
    }

    /// Rows that could go into the next batch.
    fn ready(waiting: &VecDeque<Request>) -> usize {
        let Some(first) = waiting.front() else { return 0 };
        waiting.iter().filter(|request| same_rows(first, request)).map(|request| request.rows.len_of(Axis(0))).sum()
    }

    /// Waits for the next batch: the oldest request and those of the same row shape, as many as fit. Requests whose caller
    /// has left are dropped. `None`: the queue is closed and empty.
    fn take(&self, mut wait: Duration) -> Option<Vec<Request>> {
        let mut state = self.state();
        loop {
            state.waiting.retain(|request| !request.reply.is_closed());
            if state.waiting.is_empty() {
                if state.is_closed {
                    return None;
                }
                state = self.come.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            if wait.is_zero() || state.is_closed || Self::ready(&state.waiting) >= self.rules.max_rows {
                break;
            }
            let since = Instant::now();
            (state, _) = self.come.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner);
            wait = wait.saturating_sub(since.elapsed());
        }
        let mut batch: Vec<Request> = Vec::new();
        let mut rows = 0;
        let mut later = VecDeque::new();
        for request in state.waiting.drain(..) {
            let fits = batch.first().is_none_or(|first| same_rows(first, &request))
                && rows + request.rows.len_of(Axis(0)) <= self.rules.max_rows;
            if fits {
                rows += request.rows.len_of(Axis(0));
                batch.push(request);
            } else {
                later.push_back(request);
            }
        }
        state.waiting = later;
        if !state.waiting.is_empty() {
            self.come.notify_one();
        }
        state.busy += 1;
        drop(state);
        self.room.notify_all();
        Some(batch)
    }
}

struct Worker {
    shared: Arc<Shared>,
    run: Run,
}

/// Nobody is left hanging by a model that panics: what waits is dropped, and what comes is refused.
struct Guard<'a>(&'a Shared);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.state().waiting.clear();
            self.0.close();
        }
    }
}

fn spawn(worker: Worker) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(format!("model {}", worker.shared.model)).spawn(move || worker.work())
}

impl Worker {
    fn work(mut self) {
        let shared = self.shared.clone();
        let _guard = Guard(&shared);
        let mut crowded = false;
        while let Some(batch) = shared.take(if crowded { shared.rules.max_wait } else { Duration::ZERO }) {
            let several = batch.len() > 1;
            let answers = self.serve(batch);
            let mut state = shared.state();
            state.busy -= 1;
            crowded = several || !state.waiting.is_empty();
            drop(state);
            // Only now: a caller who comes back at once must find this thread free.
            for (reply, outputs) in answers {
                // A caller who has left does not want it.
                let _ = reply.send(outputs);
            }
        }
    }

    /// What each caller of a batch is to be told.
    fn serve(&mut self, mut batch: Vec<Request>) -> Vec<Answer> {
        if batch.len() == 1 {
            let one = batch.pop().map(|Request { rows, reply }| {
                let outputs = (self.run)(&rows).and_then(|outputs| self.whole(outputs, rows.len_of(Axis(0))));
                (reply, outputs)
            });
            return one.into_iter().collect();
        }
        let views: Vec<_> = batch.iter().map(|request| request.rows.view()).collect();
        let Ok(rows) = concatenate(Axis(0), &views) else { return Vec::new() };
        drop(views);
        let outputs = (self.run)(&rows).and_then(|outputs| self.whole(outputs, rows.len_of(Axis(0))));
        let mut start = 0;
        let answers = batch.into_iter().map(|Request { rows, reply }| {
            let end = start + rows.len_of(Axis(0));
            let part = |output: &ArrayD<f32>| output.slice_axis(Axis(0), Slice::from(start..end)).to_owned();
            let share = outputs.as_ref().map(|outputs| outputs.iter().map(part).collect()).map_err(Clone::clone);
            start = end;
            (reply, share)
        });
        answers.collect()
    }

    /// The outputs, if each has a row for each row that went in.
    fn whole(&self, outputs: Outputs, rows: usize) -> Result<Outputs, EngineError> {
        match outputs.iter().find(|output| output.shape().first() != Some(&rows)) {
            None => Ok(outputs),
            Some(output) => {
                let reason = format!("{rows} rows went in and an output of shape {:?} came out", output.shape());
                Err(EngineError::Run { model: self.shared.model.clone(), reason })
            }
        }
    }
}

fn same_rows(a: &Request, b: &Request) -> bool {
    a.rows.shape().get(1..) == b.rows.shape().get(1..)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Receiver};
    use std::sync::{Arc, Mutex};

    use ndarray::{IxDyn, array};

    use super::*;

    const RULES: Rules = Rules { max_rows: 4, max_wait: Duration::from_millis(1), depth: 8, sessions: 1 };

    fn rows(values: &[f32]) -> ArrayD<f32> {
        ArrayD::from_shape_vec(IxDyn(&[values.len(), 1]), values.to_vec()).unwrap()
    }

    /// A queue with one thread.
    fn alone(
        model: &str,
        rules: Rules,
        run: impl FnMut(&ArrayD<f32>) -> Result<Outputs, EngineError> + Send + 'static,
    ) -> std::io::Result<Queue> {
        Queue::start(model, rules, Box::new(run), || panic!("one session is enough"))
    }

    /// A queue whose model doubles every value, notes the shape of each call, and waits before each for a go-ahead.
    fn held(rules: Rules) -> (Queue, mpsc::Sender<()>, Receiver<Vec<usize>>) {
        let (go, gate) = mpsc::channel();
        let (seen, calls) = mpsc::channel();
        let queue = alone("double", rules, move |rows| {
            let _ = seen.send(rows.shape().to_vec());
            let _ = gate.recv();
            Ok(vec![rows.mapv(|value| value * 2.0)])
        });
        (queue.unwrap(), go, calls)
    }

    #[test]
    fn requests_that_come_while_the_model_runs_share_the_next_call_up_to_its_limit() {
        let (queue, go, calls) = held(RULES);
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
    fn a_caller_who_comes_back_at_once_finds_the_thread_free() {
        let rules = Rules { sessions: 8, ..RULES };
        let run = |rows: &ArrayD<f32>| Ok(vec![rows.clone()]);
        let started = Arc::new(Mutex::new(0));
        let more = {
            let started = started.clone();
            move || {
                *started.lock().unwrap() += 1;
                Ok::<Run, _>(Box::new(run))
            }
        };
        let queue = Queue::start("same", rules, Box::new(run), more).unwrap();
        for n in 0..5000_u16 {
            queue.submit(rows(&[f32::from(n)])).unwrap().wait().unwrap();
        }
        drop(queue);
        assert_eq!(*started.lock().unwrap(), 0, "sessions that nobody needed");
    }

    #[test]
    fn rows_of_another_shape_get_a_call_of_their_own() {
        let (queue, go, calls) = held(RULES);
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
    fn a_request_whose_caller_has_left_is_not_run() {
        let (queue, go, calls) = held(RULES);
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
    fn a_failing_call_reaches_every_caller_of_its_batch_and_no_other() {
        let (seen, calls) = mpsc::channel();
        let (go, gate) = mpsc::channel::<()>();
        let queue = alone("fussy", RULES, move |rows: &ArrayD<f32>| {
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
    fn a_model_that_mixes_rows_up_is_an_error() {
        let queue = alone("sum", RULES, |rows: &ArrayD<f32>| Ok(vec![array![rows.sum()].into_dyn()])).unwrap();
        assert!(queue.submit(rows(&[1.0])).unwrap().wait().is_ok());
        let error = queue.submit(rows(&[1.0, 2.0])).unwrap().wait().unwrap_err();
        assert!(error.to_string().contains("2 rows went in"), "{error}");
    }

    #[test]
    fn a_queue_that_is_dropped_serves_what_it_holds_and_ends_its_thread() {
        let held = Arc::new(Mutex::new(()));
        let inside = Arc::clone(&held);
        let queue = alone("echo", RULES, move |rows: &ArrayD<f32>| {
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
    fn a_model_that_panics_stops_and_says_so() {
        let queue = alone("broken", RULES, |_: &ArrayD<f32>| panic!("meant")).unwrap();
        let ticket = queue.submit(rows(&[1.0])).unwrap();
        assert!(matches!(ticket.wait(), Err(EngineError::Stopped { model }) if model == "broken"));
    }

    #[test]
    fn many_callers_at_once_each_get_their_own_rows_back() {
        let queue = alone("double", RULES, |rows: &ArrayD<f32>| Ok(vec![rows.mapv(|v| v * 2.0)])).unwrap();
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

    /// A model that gives the number of its session for each row, once it is let.
    fn numbered(session: f32, seen: mpsc::Sender<f32>, gate: Arc<Mutex<Receiver<()>>>) -> Run {
        Box::new(move |rows: &ArrayD<f32>| {
            let _ = seen.send(session);
            let _ = gate.lock().unwrap().recv();
            Ok(vec![rows.mapv(|_| session)])
        })
    }

    #[test]
    fn a_request_that_finds_all_sessions_at_work_starts_another_up_to_the_limit() {
        let (seen, calls) = mpsc::channel();
        let (go, gate) = mpsc::channel();
        let gate = Arc::new(Mutex::new(gate));
        let more = {
            let (seen, gate) = (seen.clone(), gate.clone());
            move || Ok(numbered(2.0, seen.clone(), gate.clone()))
        };
        let queue = Queue::start("two", Rules { sessions: 2, ..RULES }, numbered(1.0, seen, gate), more).unwrap();
        let first = queue.submit(rows(&[0.0])).unwrap();
        assert_eq!(calls.recv(), Ok(1.0));
        let second = queue.submit(rows(&[0.0])).unwrap();
        assert_eq!(calls.recv(), Ok(2.0), "it does not wait for the first");
        let third = queue.submit(rows(&[0.0])).unwrap();
        assert_eq!(queue.threads.lock().unwrap().len(), 2);
        for _ in 0..3 {
            go.send(()).unwrap();
        }
        assert_eq!((first.wait().unwrap(), second.wait().unwrap()), (vec![rows(&[1.0])], vec![rows(&[2.0])]));
        assert!(third.wait().is_ok());
    }

    #[test]
    fn without_another_session_the_first_serves_all() {
        let (seen, calls) = mpsc::channel();
        let (go, gate) = mpsc::channel();
        let run = numbered(1.0, seen, Arc::new(Mutex::new(gate)));
        let more = || Err(EngineError::Run { model: "one".to_owned(), reason: "no memory".to_owned() });
        let queue = Queue::start("one", Rules { sessions: 2, ..RULES }, run, more).unwrap();
        let first = queue.submit(rows(&[0.0])).unwrap();
        calls.recv().unwrap();
        let second = queue.submit(rows(&[0.0])).unwrap();
        drop(go);
        assert_eq!((first.wait().unwrap(), second.wait().unwrap()), (vec![rows(&[1.0])], vec![rows(&[1.0])]));
    }
}
