//! Checks what a session asks for, loads the models, and begins its job.

use super::message::Configure;
use crate::analysis::{Detail, Options};
use crate::api::file_source::FileSource;
use crate::api::immediate::ImmediateError;
use crate::api::limits::Client;
use crate::api::notice::NoticeStatement;
use crate::api::upload::enqueue::{self, AnalysisRequest, Video};
use crate::api::upload::error::{OptionError, UploadError};
use crate::api::upload::form::{self, MAX_FACES};
use crate::api::{Api, Caller, Problem, quota};
use crate::pipeline::{LiveAnalysis, LiveOptions, LiveSoundTrack};
use crate::store::{Claim, JobVideo, Priority};

/// The worker of a live job, for operators.
const WORKER: &str = "live session";

/// A session whose job has begun.
pub struct Begun {
    pub claim: Claim,
    pub analysis: LiveAnalysis,
    /// `None` if the session has no sound.
    pub sound: Option<LiveSoundTrack>,
}

/// The sender of a session.
pub struct Sender {
    pub api: Api,
    pub caller: Caller,
    pub client: Client,
    pub request_id: Option<String>,
}

impl Sender {
    /// Begins the job of the session.
    pub async fn begin(&self, asked: &Configure) -> Result<Begun, Problem> {
        self.try_to_begin(asked).await.map_err(|error| error.problem(FileSource::Upload))
    }

    async fn try_to_begin(&self, asked: &Configure) -> Result<Begun, ImmediateError> {
        let Self { api, caller, client, .. } = self;
        let mut request = self.requested(asked)?;
        if let Some(url) = &request.webhook {
            enqueue::check_webhook(&api.app, url).await?;
        }
        let mut statement = NoticeStatement::default();
        statement.set_members(asked.notice.as_deref(), asked.notice_version.as_deref()).map_err(UploadError::from)?;
        request.notice = statement.record(&api.app, asked.language).map_err(UploadError::from)?;
        let counted = quota::count(api, caller).await?;
        let counted_mails = quota::count_mails(api, caller, client, &request.recipients).await?;
        let options = LiveOptions {
            max_faces: request.options.max_faces,
            gaze: request.options.gaze,
            expressions: request.options.detail == Some(Detail::Expressions),
            max_pixels: api.app.settings.live.max_pixels,
        };
        let (analyzer, with_sound) = (api.app.analyzer.clone(), request.options.speech);
        let load = move || {
            let sound = with_sound.then(|| analyzer.live_sound()).transpose()?;
            Ok::<_, ImmediateError>((analyzer.live(options)?, sound))
        };
        let (analysis, sound) = tokio::task::spawn_blocking(load).await.map_err(|_| ImmediateError::Thread)??;
        let video = Video { place: JobVideo::Live, size_bytes: 0, cost: None };
        let job = enqueue::new_job(api, caller, &request, video).await?;
        let (now, lease) = (api.app.clock.now(), api.app.settings.queue.lease());
        let begun = api.app.store.begin_live(caller.owner(), &job, WORKER, now, lease).await;
        let claim = begun.map_err(UploadError::from)?;
        counted.keep();
        counted_mails.keep();
        Ok(Begun { claim, analysis, sound })
    }

    fn requested(&self, asked: &Configure) -> Result<AnalysisRequest, UploadError> {
        let video = &self.api.app.settings.video;
        if asked.max_faces.is_some_and(|given| !MAX_FACES.contains(&given)) {
            let (least, most) = (*MAX_FACES.start(), *MAX_FACES.end());
            return Err(OptionError::OutOfRange { field: "max_faces", least, most }.into());
        }
        let options = Options {
            gaze: asked.gaze.unwrap_or(true),
            speech: asked.speech.unwrap_or(false),
            detail: asked.detail,
            language: asked.language,
            ..Options::new(1, asked.max_faces.unwrap_or(video.max_faces))
        };
        if options.is_contradiction() {
            return Err(OptionError::Contradiction.into());
        }
        let mut recipients = Vec::new();
        form::add_recipient(asked.email.as_deref().unwrap_or_default().trim(), &mut recipients)?;
        enqueue::check_mail(&self.api.app, &self.caller, &recipients)?;
        Ok(AnalysisRequest {
            client: self.client.clone(),
            options,
            notice: None,
            priority: Priority::Normal,
            recipients,
            webhook: asked.webhook_url.clone(),
            idempotency_key_sha256: None,
            content_sha256: String::new(),
            file_name: asked.name.as_deref().and_then(form::plain_file_name),
            request_id: self.request_id.clone(),
        })
    }
}
