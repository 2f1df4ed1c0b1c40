//! The connection of a live session.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use axum::http::StatusCode;
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use super::analyst::{Picture, PictureReader, Report, SoundReader};
use super::ending;
use super::message::{
    Answer, Capture, Command, Configure, Configured, EndReason, Faces, Failed, Finished, Limits, Skipped,
};
use super::setup::{Begun, Sender};
use crate::analysis::{FailureReason, Language};
use crate::api::Problem;
use crate::api::immediate;
use crate::api::json_body;
use crate::api::problem::detail;
use crate::api::upload_permits::UploadPermit;
use crate::api::view::Links;
use crate::pipeline::{LiveAnalysis, LiveLosses, LivePicture, LiveSound, PictureError};
use crate::store::{Claim, ClaimState};
use crate::telemetry::{metrics, trace};

/// A client that does not take an answer for this time has lost its connection.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// A live session.
pub struct Session {
    pub sender: Sender,
    /// Language of the errors.
    pub language: Language,
    pub permit: UploadPermit,
}

/// The connection of the client.
struct Line {
    socket: WebSocket,
    is_open: bool,
}

impl Line {
    async fn send(&mut self, answer: &Answer) {
        if !self.is_open {
            return;
        }
        let text = match serde_json::to_string(answer) {
            Ok(text) => text,
            Err(error) => {
                tracing::error!(%error, "an answer of a live session cannot be written");
                return;
            }
        };
        let sent = timeout(SEND_TIMEOUT, self.socket.send(Message::Text(text.into()))).await;
        self.is_open = matches!(sent, Ok(Ok(())));
    }

    /// Returns the next message with a content; `None` if the client has closed the connection or it broke.
    async fn receive(&mut self) -> Option<Message> {
        loop {
            match self.socket.recv().await {
                Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => return Some(message),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(_))) | None => {
                    self.is_open = false;
                    return None;
                }
                Some(Err(error)) => {
                    tracing::info!(%error, "the connection of a live session broke");
                    return None;
                }
            }
        }
    }

    async fn close(mut self, code: u16) {
        if self.is_open {
            let frame = CloseFrame { code, reason: "".into() };
            // The client may have closed it in the same moment.
            let _ = timeout(SEND_TIMEOUT, self.socket.send(Message::Close(Some(frame)))).await;
        }
    }
}

/// What a session has so far.
struct Progress {
    /// The time of the client at the beginning of the session.
    zero_s: Option<f64>,
    /// Time of the last picture in seconds of the session.
    last_s: Option<f64>,
    /// Number of pictures.
    pictures: Arc<AtomicU64>,
    losses: LiveLosses,
}

impl Session {
    /// Serves the session until its result is stored.
    pub async fn run(mut self, socket: WebSocket) {
        let _counted = metrics().live_session();
        let mut line = Line { socket, is_open: true };
        let Some((begun, asked)) = self.configure(&mut line).await else {
            return line.close(close_code::POLICY).await;
        };
        self.language = asked.language.unwrap_or(self.language);
        let claim = begun.claim.clone();
        let span = tracing::info_span!("live", job = claim.id);
        trace::attribute(&span, "visage.job.id", claim.id);
        self.serve(line, begun).instrument(span).await;
    }

    /// Waits for the first message, and begins the job of the session. `None` if there is no valid one in time.
    async fn configure(&self, line: &mut Line) -> Option<(Begun, Configure)> {
        let deadline = Instant::now() + Duration::from_secs(self.sender.api.app.settings.live.idle_s);
        loop {
            let stop = &self.sender.api.app.stop;
            let message = tokio::select! {
                message = timeout_at(deadline, line.receive()) => message.ok()??,
                () = stop.cancelled() => return None,
            };
            let begun = match &message {
                Message::Text(text) => match json_body::parse(text.as_bytes()) {
                    Ok(Command::Configure(asked)) => self.sender.begin(&asked).await.map(|begun| (begun, *asked)),
                    Ok(Command::Finish) => Err(conflict(detail::live_not_configured())),
                    Err(problem) => Err(problem),
                },
                _ => Err(conflict(detail::live_not_configured())),
            };
            match begun {
                Ok(begun) => return Some(begun),
                Err(problem) => self.refuse(line, None, &problem).await,
            }
            if !line.is_open {
                return None;
            }
        }
    }

    /// Serves a session whose job has begun.
    async fn serve(self, mut line: Line, Begun { claim, analysis, sound }: Begun) {
        let live = &self.sender.api.app.settings.live;
        tracing::info!("a live session has begun");
        let links = || Links::new(&self.sender.api.app, claim.token);
        let configured = Configured {
            token: claim.token,
            links: links(),
            models: analysis.models(),
            limits: Limits {
                max_session_s: live.max_session_s,
                idle_s: live.idle_s,
                max_message: live.max_message.0,
                max_pixels: live.max_pixels,
            },
        };
        line.send(&Answer::Configured(configured)).await;
        let (reports, mut arriving) = mpsc::unbounded_channel();
        let sound = sound.map(|track| SoundReader::start(track, reports.clone())).transpose();
        let readers = sound.and_then(|sound| Ok((PictureReader::start(analysis, reports)?, sound)));
        let mut progress =
            Progress { zero_s: None, last_s: None, pictures: Arc::default(), losses: LiveLosses::default() };
        let (reason, read) = match readers {
            Ok((mut pictures, sound)) => {
                let talk = self.talk(&mut line, &claim, &mut pictures, sound.as_ref(), &mut arriving, &mut progress);
                let reason = talk.await;
                let wanted = !matches!(reason, EndReason::Erased | EndReason::Failed);
                let read = if wanted {
                    self.drain(&mut line, pictures, sound, &mut arriving, &mut progress).await
                } else {
                    None
                };
                (reason, read)
            }
            Err(error) => {
                tracing::error!(%error, "the threads of a live session could not be started");
                (EndReason::Failed, None)
            }
        };
        let losses = progress.losses;
        let outcome = match (reason, read) {
            (EndReason::Erased, _) => None,
            (_, Some((analysis, sound))) => Some(ending::findings(analysis, losses, sound).await),
            (_, None) => Some(Err(FailureReason::LiveSessionLost)),
        };
        let (status, people, warning_codes) = match outcome {
            None => (None, Vec::new(), Vec::new()),
            Some(outcome) => {
                let _keeper = self.keep(&claim, &progress, CancellationToken::new());
                let status = ending::store(&self.sender.api.app, &claim, &outcome).await;
                let found = outcome.ok().map(|found| (found.people, found.findings.analysis.warning_codes));
                let (people, warnings) = found.unwrap_or_default();
                (status, people, warnings)
            }
        };
        let pictures = progress.pictures.load(Ordering::Relaxed);
        tracing::info!(?reason, ?status, pictures, skipped = losses.skipped, "a live session has ended");
        let people = people.into_iter().map(super::message::Person::from).collect();
        let token = claim.token;
        line.send(&Answer::Finished(Finished { reason, token, status, links: links(), people, warning_codes })).await;
        let code = if reason == EndReason::Shutdown { close_code::AWAY } else { close_code::NORMAL };
        drop(self.permit);
        line.close(code).await;
    }

    /// Answers the messages of the client until the session ends. Returns the reason.
    async fn talk(
        &self,
        line: &mut Line,
        claim: &Claim,
        pictures: &mut PictureReader,
        sound: Option<&SoundReader>,
        reports: &mut UnboundedReceiver<Report>,
        progress: &mut Progress,
    ) -> EndReason {
        let live = &self.sender.api.app.settings.live;
        let (idle, now) = (Duration::from_secs(live.idle_s), Instant::now());
        let (mut idle_at, ends_at) = (now + idle, now + Duration::from_secs(live.max_session_s));
        let lost = CancellationToken::new();
        let _keeper = self.keep(claim, progress, lost.clone());
        loop {
            tokio::select! {
                Some(report) = reports.recv() => self.answer(line, report, progress).await,
                message = line.receive() => {
                    let Some(message) = message else { return EndReason::LineLost };
                    idle_at = Instant::now() + idle;
                    match message {
                        Message::Binary(bytes) => self.take(line, bytes, pictures, sound, progress).await,
                        Message::Text(text) => match json_body::parse(text.as_bytes()) {
                            Ok(Command::Finish) => return EndReason::Finish,
                            Ok(Command::Configure(_)) => {
                                self.refuse(line, None, &conflict(detail::live_configured_before())).await;
                            }
                            Err(problem) => self.refuse(line, None, &problem).await,
                        },
                        _ => {}
                    }
                }
                () = sleep_until(idle_at) => return EndReason::Idle,
                () = sleep_until(ends_at) => return EndReason::TooLong,
                () = self.sender.api.app.stop.cancelled() => return EndReason::Shutdown,
                () = lost.cancelled() => {
                    let job = self.sender.api.app.store.job(claim.token).await;
                    return if matches!(job, Ok(None)) { EndReason::Erased } else { EndReason::Failed };
                }
                _ = pictures.has_ended() => return EndReason::Failed,
            }
            if !line.is_open {
                return EndReason::LineLost;
            }
        }
    }

    /// Renews the claim until the returned handle is dropped. Cancels `lost` if the claim is lost.
    fn keep(&self, claim: &Claim, progress: &Progress, lost: CancellationToken) -> AbortOnDropHandle<()> {
        let (app, claim, pictures) = (self.sender.api.app.clone(), claim.clone(), progress.pictures.clone());
        let lease = app.settings.queue.lease();
        let keep = async move {
            // A session that is erased should end soon.
            let mut ticks = tokio::time::interval((lease / 3).min(Duration::from_secs(3)));
            loop {
                ticks.tick().await;
                let count = pictures.load(Ordering::Relaxed);
                match app.store.keep_live(&claim, count, app.clock.now(), lease).await {
                    Ok(ClaimState::Held) => {}
                    Ok(ClaimState::Lost) => return lost.cancel(),
                    Err(error) => tracing::warn!(%error, "a live session could not be renewed"),
                }
            }
        };
        AbortOnDropHandle::new(tokio::spawn(keep.in_current_span()))
    }

    /// Lets the threads read what waits, and answers it.
    async fn drain(
        &self,
        line: &mut Line,
        mut pictures: PictureReader,
        sound: Option<SoundReader>,
        reports: &mut UnboundedReceiver<Report>,
        progress: &mut Progress,
    ) -> Option<(LiveAnalysis, LiveSound)> {
        pictures.close();
        let sound = async {
            match sound {
                Some(sound) => sound.finish().await,
                None => Some(LiveSound::default()),
            }
        };
        let ended = async { (pictures.has_ended().await, sound.await) };
        tokio::pin!(ended);
        let (analysis, sound) = loop {
            tokio::select! {
                biased;
                Some(report) = reports.recv() => self.answer(line, report, progress).await,
                both = &mut ended => break both,
            }
        };
        while let Ok(report) = reports.try_recv() {
            self.answer(line, report, progress).await;
        }
        Some((analysis?, sound.unwrap_or_default()))
    }

    /// Takes a picture or sound of the client.
    async fn take(
        &self,
        line: &mut Line,
        message: Bytes,
        pictures: &PictureReader,
        sound: Option<&SoundReader>,
        progress: &mut Progress,
    ) {
        let arrived = Instant::now();
        let is_picture = Capture::is_picture(&message);
        let number = is_picture.then(|| progress.pictures.fetch_add(1, Ordering::Relaxed) + 1);
        match self.placed(&message, sound, progress) {
            Ok(Some((time_s, file))) => {
                let picture = Picture { number: number.unwrap_or_default(), time_s, file, arrived };
                if let Some(Picture { number: picture, time_s, .. }) = pictures.offer(picture) {
                    progress.losses.skipped += 1;
                    metrics().live_answer("skipped", None);
                    line.send(&Answer::Skipped(Skipped { picture, time_s })).await;
                }
            }
            Ok(None) => {}
            Err(problem) => {
                progress.losses.failed += u64::from(is_picture);
                self.refuse(line, number, &problem).await;
            }
        }
    }

    /// Returns the time of a picture in the session, and the picture. Hands sound over at once.
    fn placed(
        &self,
        message: &Bytes,
        sound: Option<&SoundReader>,
        progress: &mut Progress,
    ) -> Result<Option<(f64, Bytes)>, Problem> {
        let live = &self.sender.api.app.settings.live;
        if message.len() as u64 > live.max_message.0 {
            let problem = Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail::live_message_too_large(live.max_message));
            return Err(problem.with("limit_bytes", live.max_message.0));
        }
        let capture = Capture::parse(message)?;
        let (Capture::Picture { at_s, .. } | Capture::Sound { at_s, .. }) = &capture;
        let time_s = at_s - *progress.zero_s.get_or_insert(*at_s);
        #[expect(clippy::cast_precision_loss, reason = "seconds")]
        if !(0.0..=live.max_session_s as f64).contains(&time_s) {
            return Err(unprocessable(detail::live_time_out_of_range(live.max_session_s)));
        }
        match capture {
            Capture::Picture { file, .. } => {
                if progress.last_s.is_some_and(|last| time_s <= last) {
                    return Err(unprocessable(detail::live_out_of_order()));
                }
                progress.last_s = Some(time_s);
                Ok(Some((time_s, file)))
            }
            Capture::Sound { samples, .. } => match sound {
                None => Err(conflict(detail::live_without_sound())),
                Some(sound) => sound.offer(time_s, samples).map(|()| None),
            },
        }
    }

    /// Answers a picture that was read.
    async fn answer(&self, line: &mut Line, report: Report, progress: &mut Progress) {
        let (Picture { number, time_s, arrived, .. }, result) = match report {
            Report::Read { picture, result } => (picture, result),
            Report::Overlap(overlap) => {
                tracing::debug!(%overlap, "a block of sound was refused");
                return self.refuse(line, None, &unprocessable(detail::live_sound_overlap())).await;
            }
        };
        match result {
            Ok(LivePicture { width, height, faces }) => {
                let latency = arrived.elapsed();
                let latency_ms = (latency.as_secs_f64() * 1e4).round() / 10.0;
                metrics().live_answer("faces", Some(latency));
                line.send(&Answer::Faces(Faces { picture: number, time_s, width, height, faces, latency_ms })).await;
            }
            Err(error) => {
                progress.losses.failed += 1;
                self.refuse(line, Some(number), &problem_of(error)).await;
            }
        }
    }

    async fn refuse(&self, line: &mut Line, picture: Option<u64>, problem: &Problem) {
        if picture.is_some() {
            metrics().live_answer("error", None);
        }
        line.send(&Answer::Error(Failed { picture, problem: problem.body(self.language) })).await;
    }
}

fn problem_of(error: PictureError) -> Problem {
    immediate::picture_problem(error).unwrap_or_else(Problem::from)
}

fn unprocessable(detail: detail::Detail) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
}

/// The message does not fit to the state of the session.
fn conflict(detail: detail::Detail) -> Problem {
    Problem::new(StatusCode::CONFLICT, detail)
}
