//! Counters of this process since its start, for `GET /metrics`. Labels have few, fixed values, such as route
//! templates, model names and ends of jobs. They never contain a token, an address or a key.

use std::sync::LazyLock;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::fault::Part;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answer {
    method: String,
    route: String,
    status: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct End {
    end: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    part: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Named {
    model: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct By {
    by: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Live {
    answer: &'static str,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// The state of the queues in the database, for all processes together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Queues {
    pub jobs_waiting: u64,
    pub jobs_running: u64,
    pub mails_waiting: u64,
    pub workers: u64,
    /// Seconds for which the first waiting job has been due; 0 if none is due.
    pub oldest_waiting_job_s: u64,
    /// Age of the oldest unsent mail or webhook in seconds; 0 if there is none.
    pub oldest_waiting_message_s: u64,
}

/// The counters of this process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    answers: Family<Answer, Counter>,
    answer_s: Histograms<Route>,
    jobs: Family<End, Counter>,
    job_s: Histogram,
    setbacks: Family<Of, Counter>,
    runs_lost: Counter,
    messages_put_off: Family<Of, Counter>,
    paused: Family<Of, Gauge>,
    frames: Counter,
    video_s: Counter<f64, std::sync::atomic::AtomicU64>,
    decoded: Family<By, Counter>,
    decoders: Family<End, Counter>,
    call_rows: Histograms<Named>,
    call_s: Histograms<Named>,
    live_sessions: Gauge,
    live_answers: Family<Live, Counter>,
    live_s: Histogram,
}

/// Counts a live session until it is dropped.
#[derive(Debug)]
pub struct LiveSessionCount(Gauge);

impl Drop for LiveSessionCount {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The counters of one model.
#[derive(Debug, Clone)]
pub struct ModelMeter {
    rows: Histogram,
    seconds: Histogram,
}

impl ModelMeter {
    /// Counts one call of the model with this number of rows.
    pub fn called(&self, rows: usize, taken: Duration) {
        #[expect(clippy::cast_precision_loss, reason = "no batch has 2^52 rows")]
        self.rows.observe(rows as f64);
        self.seconds.observe(taken.as_secs_f64());
    }
}

/// Returns the counters of this process.
pub fn metrics() -> &'static Metrics {
    static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);
    &METRICS
}

impl Metrics {
    fn new() -> Self {
        let mut registry = Registry::with_prefix("visage");
        let version = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The program", version);
        let metrics = Self {
            answers: Family::default(),
            answer_s: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 4.0, 9))),
            jobs: Family::default(),
            job_s: Histogram::new(exponential_buckets(0.5, 2.0, 14)),
            setbacks: Family::default(),
            runs_lost: Counter::default(),
            messages_put_off: Family::default(),
            paused: Family::default(),
            frames: Counter::default(),
            video_s: Counter::default(),
            decoded: Family::default(),
            decoders: Family::default(),
            call_rows: Family::new_with_constructor(|| Histogram::new(exponential_buckets(1.0, 2.0, 8))),
            call_s: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.0005, 2.0, 14))),
            live_sessions: Gauge::default(),
            live_answers: Family::default(),
            live_s: Histogram::new(exponential_buckets(0.002, 2.0, 11)),
            registry: Registry::default(),
        };
        registry.register("http_answers", "Responses to HTTP requests", metrics.answers.clone());
        let help = "Time until the headers of the response, by route";
        registry.register_with_unit("http_answer", help, Unit::Seconds, metrics.answer_s.clone());
        registry.register("jobs_ended", "Runs of jobs that ended in this process, by outcome", metrics.jobs.clone());
        registry.register_with_unit(
            "job",
            "Duration of a run that ended in this process",
            Unit::Seconds,
            metrics.job_s.clone(),
        );
        let help = "Runs of jobs that failed because of a part of the service; they do not count as attempts";
        registry.register("job_setbacks", help, metrics.setbacks.clone());
        let help = "Runs with an expired lease whose jobs this process put back into the queue";
        registry.register("runs_lost", help, metrics.runs_lost.clone());
        let help =
            "Attempts to send a mail or webhook that reached no server; they do not count as attempts of the message";
        registry.register("messages_put_off", help, metrics.messages_put_off.clone());
        let help = "1 while this process claims no jobs because this part fails its check";
        registry.register("claims_paused", help, metrics.paused.clone());
        metrics.paused(Part::Storage, false);
        registry.register("frames_analyzed", "Frames analyzed in finished jobs", metrics.frames.clone());
        let help = "Length of the videos of finished jobs";
        registry.register_with_unit("videos_analyzed", help, Unit::Seconds, metrics.video_s.clone());
        let help = "Frames analyzed, by decoder: cpu or gpu";
        registry.register("frames_decoded", help, metrics.decoded.clone());
        let help = "Decoder processes that ended, by cause; all but done cost their video an attempt";
        registry.register("decoder_processes_ended", help, metrics.decoders.clone());
        registry.register("model_call_rows", "Rows in a call of a model (batch size)", metrics.call_rows.clone());
        let help = "Duration of a call of a model; the rate of its sum is the share of time that the model is busy";
        registry.register_with_unit("model_call", help, Unit::Seconds, metrics.call_s.clone());
        registry.register("live_sessions", "Open live sessions", metrics.live_sessions.clone());
        let help = "Answers to pictures of live sessions: faces, skipped or error";
        registry.register("live_answers", help, metrics.live_answers.clone());
        let help = "Time from the arrival of a live picture to its faces";
        registry.register_with_unit("live_answer", help, Unit::Seconds, metrics.live_s.clone());
        for answer in ["faces", "skipped", "error"] {
            metrics.live_answers.get_or_create(&Live { answer }).inc_by(0);
        }
        // A counter that begins with its first event hides that event from `increase()`.
        for part in Part::ALL {
            metrics.setbacks.get_or_create(&Of { part: part.name() }).inc_by(0);
            metrics.messages_put_off.get_or_create(&Of { part: part.name() }).inc_by(0);
        }
        for end in ["done", "failed"] {
            metrics.jobs.get_or_create(&End { end }).inc_by(0);
        }
        Self { registry, ..metrics }
    }

    /// Counts a response to a request. `route` is the route's template.
    pub fn answered(&self, method: &str, route: &str, status: u16, taken: Duration) {
        // Clients can send any text as the method, so unknown methods share one label.
        let method = match method {
            "GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "OPTIONS" => method,
            _ => "other",
        };
        let answer = Answer { method: method.to_owned(), route: route.to_owned(), status: status.into() };
        self.answers.get_or_create(&answer).inc();
        self.answer_s.get_or_create(&Route { route: route.to_owned() }).observe(taken.as_secs_f64());
    }

    /// Counts a run of a job that ended.
    pub fn job_ended(&self, end: &'static str, taken: Duration) {
        self.jobs.get_or_create(&End { end }).inc();
        self.job_s.observe(taken.as_secs_f64());
    }

    /// Counts a run that fetched a video from its address. Its time is that of another server.
    pub fn fetch_ended(&self, end: &'static str) {
        self.jobs.get_or_create(&End { end }).inc();
    }

    /// Counts a run that failed because of a part of the service.
    pub fn set_back(&self, part: Part) {
        self.setbacks.get_or_create(&Of { part: part.name() }).inc();
    }

    /// Counts a run whose lease expired and whose job was put back into the queue.
    pub fn run_lost(&self) {
        self.runs_lost.inc();
    }

    /// Counts an attempt to send a message that reached no server.
    pub fn message_put_off(&self, part: Part) {
        self.messages_put_off.get_or_create(&Of { part: part.name() }).inc();
    }

    /// Sets whether this process claims no jobs because a part fails its check.
    pub fn paused(&self, part: Part, is_paused: bool) {
        self.paused.get_or_create(&Of { part: part.name() }).set(is_paused.into());
    }

    /// Counts the analyzed frames and the video length of a finished job.
    pub fn analyzed(&self, frames: u64, video_s: f64) {
        self.frames.inc_by(frames);
        self.video_s.inc_by(video_s);
    }

    /// Counts a sampled frame, by its decoder: `cpu` or `gpu`.
    pub fn decoded(&self, by: &'static str) {
        self.decoded.get_or_create(&By { by }).inc();
    }

    /// Counts a decoder process that ended, by cause.
    pub fn decoder_ended(&self, end: &'static str) {
        self.decoders.get_or_create(&End { end }).inc();
    }

    /// Counts an open live session.
    pub fn live_session(&self) -> LiveSessionCount {
        self.live_sessions.inc();
        LiveSessionCount(self.live_sessions.clone())
    }

    /// Counts an answer to a live picture, and the time that it took if it has faces.
    pub fn live_answer(&self, answer: &'static str, taken: Option<Duration>) {
        self.live_answers.get_or_create(&Live { answer }).inc();
        if let Some(taken) = taken {
            self.live_s.observe(taken.as_secs_f64());
        }
    }

    /// Returns the counters of a model.
    pub fn model(&self, name: &str) -> ModelMeter {
        let named = Named { model: name.to_owned() };
        ModelMeter {
            rows: self.call_rows.get_or_create_owned(&named),
            seconds: self.call_s.get_or_create_owned(&named),
        }
    }

    /// Writes all counters and the state of the queues in the OpenMetrics text format.
    pub fn text(&self, queues: Queues) -> String {
        let mut now = Registry::with_prefix("visage");
        let job_age = "Time for which the first waiting job has been due, of all processes";
        let message_age = "Age of the oldest unsent mail or webhook, of all processes";
        for (name, help, value) in [
            ("oldest_waiting_job_seconds", job_age, queues.oldest_waiting_job_s),
            ("oldest_waiting_message_seconds", message_age, queues.oldest_waiting_message_s),
            ("jobs_waiting", "Waiting jobs, of all processes", queues.jobs_waiting),
            ("jobs_running", "Running jobs, of all processes", queues.jobs_running),
            ("mails_waiting", "Unsent mails, of all processes", queues.mails_waiting),
            ("workers", "Processes with workers that were seen in the last 30 seconds", queues.workers),
        ] {
            let gauge = Gauge::<i64>::default();
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
            now.register(name, help, gauge);
        }
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _ = encode_registry(&mut text, &self.registry)
            .and_then(|()| encode_registry(&mut text, &now))
            .and_then(|()| encode_eof(&mut text));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_written_in_the_text_format() {
        let metrics = Metrics::new();
        metrics.answered("GET", "/results/{token}", 200, Duration::from_millis(3));
        metrics.job_ended("done", Duration::from_secs(3));
        metrics.analyzed(24, 19.5);
        metrics.set_back(Part::Storage);
        metrics.paused(Part::Storage, true);
        metrics.decoded("cpu");
        metrics.decoder_ended("crashed");
        metrics.decoded("gpu");
        metrics.model("emotion").called(8, Duration::from_millis(6));
        metrics.model("emotion").called(2, Duration::from_millis(2));
        let _first = metrics.live_session();
        drop(metrics.live_session());
        metrics.live_answer("faces", Some(Duration::from_millis(9)));
        let text = metrics.text(Queues {
            jobs_waiting: 7,
            jobs_running: 2,
            mails_waiting: 1,
            workers: 3,
            oldest_waiting_job_s: 90,
            oldest_waiting_message_s: 5,
        });
        for line in [
            r#"visage_http_answers_total{method="GET",route="/results/{token}",status="200"} 1"#,
            r#"visage_http_answer_seconds_bucket{le="0.004",route="/results/{token}"} 1"#,
            r#"visage_jobs_ended_total{end="done"} 1"#,
            "visage_job_seconds_sum 3.0",
            r#"visage_job_setbacks_total{part="storage"} 1"#,
            r#"visage_claims_paused{part="storage"} 1"#,
            "visage_runs_lost_total 0",
            "visage_frames_analyzed_total 24",
            r#"visage_decoder_processes_ended_total{end="crashed"} 1"#,
            "visage_videos_analyzed_seconds_total 19.5",
            r#"visage_frames_decoded_total{by="gpu"} 1"#,
            r#"visage_model_call_rows_sum{model="emotion"} 10.0"#,
            r#"visage_model_call_rows_count{model="emotion"} 2"#,
            "visage_live_sessions 1",
            r#"visage_live_answers_total{answer="faces"} 1"#,
            r#"visage_live_answers_total{answer="skipped"} 0"#,
            r#"visage_live_answer_seconds_bucket{le="0.016"} 1"#,
            "visage_jobs_waiting 7",
            "visage_workers 3",
            "visage_oldest_waiting_job_seconds 90",
            "visage_oldest_waiting_message_seconds 5",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
