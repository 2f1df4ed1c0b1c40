//! Computes the result of a live session and stores it.

use std::time::Duration;

use crate::analysis::{FailureReason, Language};
use crate::api::AppState;
use crate::config::MailTransport;
use crate::fault::Fault;
use crate::pipeline::{LiveAnalysis, LiveFindings, LiveLosses, LiveSound};
use crate::report;
use crate::store::{Claim, ClaimState, NewMail, Status, StoreError};
use crate::telemetry::metrics;
use crate::worker::{failure, result_expiry};

/// Pause between two attempts to store a result.
const PAUSE: Duration = Duration::from_secs(2);

/// Computes the findings of a session.
pub async fn findings(
    analysis: LiveAnalysis,
    losses: LiveLosses,
    sound: LiveSound,
) -> Result<LiveFindings, FailureReason> {
    let compute = move || {
        let mut found = analysis.finish(losses, sound)?;
        report::tell(&mut found.findings.analysis, Language::EN);
        Some(found)
    };
    let computed = tokio::task::spawn_blocking(compute).await.map_err(|_| FailureReason::InternalError)?;
    computed.ok_or(FailureReason::LiveWithoutPictures)
}

/// Stores the outcome of a session, with its mails and its webhook. Tries until the database answers. Returns the status
/// of the job, or `None` if the job was erased meanwhile.
pub async fn store(app: &AppState, claim: &Claim, outcome: &Result<LiveFindings, FailureReason>) -> Option<Status> {
    let sends_mails = app.settings.mail.transport != MailTransport::None;
    let mails: Vec<NewMail> = claim
        .recipients
        .iter()
        .filter(|_| sends_mails)
        .map(|recipient| NewMail { id: app.tokens.next(), recipient: recipient.clone() })
        .collect();
    let mut reason = outcome.as_ref().err();
    loop {
        let stored = match (outcome, reason) {
            (Ok(found), None) => {
                let (now, findings) = (app.clock.now(), &found.findings);
                let expires_at = result_expiry(&app.settings.retention, now);
                app.store.complete(claim, findings, &mails, now, expires_at).await
            }
            (_, why) => give_up(app, claim, why.unwrap_or(&FailureReason::InternalError), &mails).await,
        };
        match stored {
            Ok(ClaimState::Lost) => return None,
            Ok(ClaimState::Held) => break,
            Err(error) if matches!(error.fault(), Fault::Ours(_)) => {
                tracing::warn!(%error, "the result of a live session could not be stored yet");
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) if reason.is_none() => {
                tracing::error!(%error, "the database refuses the result of a live session");
                reason = Some(&FailureReason::ResultNotStored);
            }
            Err(error) => {
                tracing::error!(%error, "the database refuses the outcome of a live session");
                return None;
            }
        }
    }
    if let Err(error) = app.store.video_deleted(claim.token).await {
        tracing::warn!(%error, "the client of a live session could not be forgotten yet");
    }
    match (outcome, reason) {
        (Ok(found), None) => {
            let video = &found.findings.analysis.video;
            metrics().analyzed(video.frames_analyzed, video.duration_s);
            Some(Status::Done)
        }
        _ => Some(Status::Failed),
    }
}

async fn give_up(
    app: &AppState,
    claim: &Claim,
    reason: &FailureReason,
    mails: &[NewMail],
) -> Result<ClaimState, StoreError> {
    let now = app.clock.now();
    app.store.give_up(claim, &failure(reason.clone()), mails, now, result_expiry(&app.settings.retention, now)).await
}
