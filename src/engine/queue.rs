//! Requests of all callers on their way into one model.
//!
//! One thread takes requests, puts rows of the same shape together and runs them in one call. A caller who is alone
//! never waits: only when the last call served several requests, or others came while it ran, does the thread wait a
//! moment for more rows. A bounded queue holds callers back when the model cannot keep up.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ndarray::{ArrayD, Axis, Slice, concatenate};
use tokio::sync::oneshot;

use super::EngineError;

/// Rows in, one array an output out, each with as many rows.
pub(super) type Outputs = Vec<ArrayD<f32>>;

/// How batches are made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// Most rows in one call; no request holds more.
    pub max_rows: usize,
    /// Longest wait for more rows when several callers are at it.
    pub max_wait: Duration,
    /// Most requests that lie waiting, here and in the channel each.
    pub depth: usize,
}

struct Request {
    rows: ArrayD<f32>,
    reply: oneshot::Sender<Result<Outputs, EngineError>>,
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

/// The way in, and the thread behind it. Dropped, it serves what it still holds and ends the thread.
pub(super) struct Queue {
    model: String,
    requests: Option<SyncSender<Request>>,
    thread: Option<JoinHandle<()>>,
}

impl Queue {
    /// Starts the thread that calls `run` with the rows of a batch.
    pub fn start<F>(model: &str, rules: Rules, run: F) -> std::io::Result<Self>
    where
        F: FnMut(&ArrayD<f32>) -> Result<Outputs, EngineError> + Send + 'static,
    {
        let (requests, receiver) = sync_channel(rules.depth);
        let worker = Worker { model: model.to_owned(), rules, receiver, waiting: VecDeque::new(), run };
        let thread = std::thread::Builder::new().name(format!("model {model}")).spawn(move || worker.work())?;
        Ok(Self { model: model.to_owned(), requests: Some(requests), thread: Some(thread) })
    }

    /// Hands in the rows of one request, 1 to `max_rows`. Blocks while the queue is full.
    pub fn submit(&self, rows: ArrayD<f32>) -> Result<Ticket, EngineError> {
        let stopped = || EngineError::Stopped { model: self.model.clone() };
        let (reply, receiver) = oneshot::channel();
        self.requests.as_ref().ok_or_else(stopped)?.send(Request { rows, reply }).map_err(|_| stopped())?;
        Ok(Ticket { model: self.model.clone(), reply: receiver })
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        drop(self.requests.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(model = self.model, "the model's thread had panicked");
        }
    }
}

struct Worker<F> {
    model: String,
    rules: Rules,
    receiver: Receiver<Request>,
    /// In order of arrival.
    waiting: VecDeque<Request>,
    run: F,
}

impl<F: FnMut(&ArrayD<f32>) -> Result<Outputs, EngineError>> Worker<F> {
    fn work(mut self) {
        let mut crowded = false;
        loop {
            if self.waiting.is_empty() {
                let Ok(request) = self.receiver.recv() else { return };
                self.waiting.push_back(request);
            }
            self.gather(if crowded { self.rules.max_wait } else { Duration::ZERO });
            let batch = self.batch();
            let several = batch.len() > 1;
            self.serve(batch);
            self.gather(Duration::ZERO);
            crowded = several || !self.waiting.is_empty();
        }
    }

    /// Takes in what has come, and waits for more while the next batch has room.
    fn gather(&mut self, wait: Duration) {
        let deadline = Instant::now() + wait;
        while self.waiting.len() < self.rules.depth {
            match self.receiver.try_recv() {
                Ok(request) => self.waiting.push_back(request),
                Err(TryRecvError::Disconnected) => return,
                Err(TryRecvError::Empty) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() || self.ready() >= self.rules.max_rows {
                        return;
                    }
                    match self.receiver.recv_timeout(left) {
                        Ok(request) => self.waiting.push_back(request),
                        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
                    }
                }
            }
        }
    }

    /// Rows that could go into the next batch.
    fn ready(&self) -> usize {
        let Some(first) = self.waiting.front() else { return 0 };
        self.waiting
            .iter()
            .filter(|request| same_rows(first, request))
            .map(|request| request.rows.len_of(Axis(0)))
            .sum()
    }

    /// The next batch: the oldest request and those of the same row shape, as many as fit. Requests whose caller has
    /// left are dropped.
    fn batch(&mut self) -> Vec<Request> {
        self.waiting.retain(|request| !request.reply.is_closed());
        let mut batch: Vec<Request> = Vec::new();
        let mut rows = 0;
        let mut later = VecDeque::new();
        for request in self.waiting.drain(..) {
            let fits = batch.first().is_none_or(|first| same_rows(first, &request))
                && rows + request.rows.len_of(Axis(0)) <= self.rules.max_rows;
            if fits {
                rows += request.rows.len_of(Axis(0));
                batch.push(request);
            } else {
                later.push_back(request);
            }
        }
        self.waiting = later;
        batch
    }

    fn serve(&mut self, mut batch: Vec<Request>) {
        if batch.len() == 1 {
            if let Some(Request { rows, reply }) = batch.pop() {
                let outputs = (self.run)(&rows).and_then(|outputs| self.whole(outputs, rows.len_of(Axis(0))));
                // A caller who has left does not want it.
                let _ = reply.send(outputs);
            }
            return;
        }
        let views: Vec<_> = batch.iter().map(|request| request.rows.view()).collect();
        let Ok(rows) = concatenate(Axis(0), &views) else { return };
        drop(views);
        let outputs = (self.run)(&rows).and_then(|outputs| self.whole(outputs, rows.len_of(Axis(0))));
        let mut start = 0;
        for Request { rows, reply } in batch {
            let end = start + rows.len_of(Axis(0));
            let part = |output: &ArrayD<f32>| output.slice_axis(Axis(0), Slice::from(start..end)).to_owned();
            let share = outputs.as_ref().map(|outputs| outputs.iter().map(part).collect()).map_err(Clone::clone);
            let _ = reply.send(share);
            start = end;
        }
    }

    /// The outputs, if each has a row for each row that went in.
    fn whole(&self, outputs: Outputs, rows: usize) -> Result<Outputs, EngineError> {
        match outputs.iter().find(|output| output.shape().first() != Some(&rows)) {
            None => Ok(outputs),
            Some(output) => {
                let reason = format!("{rows} rows went in and an output of shape {:?} came out", output.shape());
                Err(EngineError::Run { model: self.model.clone(), reason })
            }
        }
    }
}

fn same_rows(a: &Request, b: &Request) -> bool {
    a.rows.shape().get(1..) == b.rows.shape().get(1..)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::sync::{Arc, Mutex};

    use ndarray::{IxDyn, array};

    use super::*;

    const RULES: Rules = Rules { max_rows: 4, max_wait: Duration::from_millis(1), depth: 8 };

    fn rows(values: &[f32]) -> ArrayD<f32> {
        ArrayD::from_shape_vec(IxDyn(&[values.len(), 1]), values.to_vec()).unwrap()
    }

    /// A queue whose model doubles every value, notes the shape of each call, and waits before each for a go-ahead.
    fn held(rules: Rules) -> (Queue, mpsc::Sender<()>, Receiver<Vec<usize>>) {
        let (go, gate) = mpsc::channel();
        let (seen, calls) = mpsc::channel();
        let queue = Queue::start("double", rules, move |rows| {
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
        let queue = Queue::start("fussy", RULES, move |rows: &ArrayD<f32>| {
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
        let queue = Queue::start("sum", RULES, |rows: &ArrayD<f32>| Ok(vec![array![rows.sum()].into_dyn()])).unwrap();
        assert!(queue.submit(rows(&[1.0])).unwrap().wait().is_ok());
        let error = queue.submit(rows(&[1.0, 2.0])).unwrap().wait().unwrap_err();
        assert!(error.to_string().contains("2 rows went in"), "{error}");
    }

    #[test]
    fn a_queue_that_is_dropped_serves_what_it_holds_and_ends_its_thread() {
        let held = Arc::new(Mutex::new(()));
        let inside = Arc::clone(&held);
        let queue = Queue::start("echo", RULES, move |rows: &ArrayD<f32>| {
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
        let queue = Queue::start("broken", RULES, |_: &ArrayD<f32>| panic!("meant")).unwrap();
        let ticket = queue.submit(rows(&[1.0])).unwrap();
        assert!(matches!(ticket.wait(), Err(EngineError::Stopped { model }) if model == "broken"));
    }

    #[test]
    fn many_callers_at_once_each_get_their_own_rows_back() {
        let queue = Queue::start("double", RULES, |rows: &ArrayD<f32>| Ok(vec![rows.mapv(|v| v * 2.0)])).unwrap();
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
}
