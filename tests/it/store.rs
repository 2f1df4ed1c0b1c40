//! Tests of the store on both databases.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sqlx::{AnyPool, AssertSqlSafe, Connection};
use uuid::Uuid;
use visage::analysis::{
    Analysis, BBox, FailureReason, Findings, METRICS_VERSION, Notice, Options, Probabilities, ShownNotice, Summary,
    Timeline, TimelineRow, VideoFacts,
};
use visage::clock::{Clock, ManualClock, RandomTokens, Tokens};
use visage::config::{Database, Secret, Settings};
use visage::report::{Context, Reporter};
use visage::store::{
    Backoff, Claim, ClaimState, JobFailure, JobProgress, JobVideo, MailKind, NewJob, NewMail, Origin, PieceCounts,
    Priority, Resent, Revived, Status, Store, StoreError, Wake,
};

use crate::support::postgres::TestDatabase;

const LEASE: Duration = Duration::from_secs(30);
const BACKOFF: Backoff = Backoff { base: Duration::from_secs(5), max: Duration::from_secs(60) };

/// A database for one test, and a manual clock.
struct Harness {
    database: Database,
    clock: ManualClock,
    on_postgres: bool,
    _lives: Box<dyn std::any::Any + Send + Sync>,
}

impl Harness {
    fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/new folder/visage.db", folder.path().display());
        Self::new(url, false, Box::new(folder))
    }

    async fn postgres() -> Self {
        let database = TestDatabase::create().await;
        Self::new(database.url(), true, Box::new(database))
    }

    fn new(url: String, on_postgres: bool, lives: Box<dyn std::any::Any + Send + Sync>) -> Self {
        let mut database = Settings::defaults().unwrap().database;
        database.url = Secret::new(url);
        database.max_connections = 8;
        let clock = ManualClock::at("2026-01-02T03:04:05Z".parse().unwrap());
        Self { database, clock, on_postgres, _lives: lives }
    }

    async fn store(&self) -> Store {
        Store::open(&self.database).await.unwrap()
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    async fn add(&self, store: &Store, recipients: &[&str]) -> Uuid {
        let token = RandomTokens.next();
        store.enqueue(&new_job(token, recipients), self.now()).await.unwrap();
        token
    }

    async fn claim(&self, store: &Store, worker: &str) -> Option<Claim> {
        store.release_lost(self.now(), BACKOFF).await.unwrap();
        store.claim(worker, self.now(), LEASE).await.unwrap()
    }

    /// Completes a job with one mail for each recipient.
    async fn complete(&self, store: &Store, claim: &Claim) -> ClaimState {
        store.complete(claim, &findings(), &mails(claim), self.now(), None).await.unwrap()
    }

    /// Runs a statement that counts, without the store.
    async fn count(&self, sql: &str) -> i64 {
        let pool = AnyPool::connect(self.database.url.expose()).await.unwrap();
        let count = sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&pool).await.unwrap();
        pool.close().await;
        count
    }
}

fn new_job(token: Uuid, recipients: &[&str]) -> NewJob {
    NewJob {
        token,
        video: JobVideo::Stored(format!("videos/{token}")),
        options: Options::new(7, 3),
        recipients: recipients.iter().map(|&recipient| recipient.to_owned()).collect(),
        webhook: None,
        origin: Origin::default(),
        notice: Some(notice()),
        priority: Priority::Normal,
    }
}

fn notice() -> Notice {
    let shown =
        ShownNotice { version: "v1".to_owned(), language: "de".to_owned(), text: "Ein Computer liest mit.".to_owned() };
    Notice { given_at: "2026-11-21T10:44:00Z".parse().unwrap(), shown: Some(shown) }
}

fn mails(claim: &Claim) -> Vec<NewMail> {
    claim.recipients.iter().map(|to| NewMail { id: RandomTokens.next(), recipient: to.clone() }).collect()
}

fn findings() -> Findings {
    let video = VideoFacts {
        duration_s: 2.4,
        fps: 29.97,
        width: 640,
        height: 360,
        codec: "h264".to_owned(),
        frames_total: 72,
        frames_analyzed: 4,
        has_audio: true,
        start_s: 0.0,
        turned: 0,
        stream_orientation: None,
    };
    let summary = Summary::default();
    let warnings = vec!["no \"face\" — 顔 \u{1f642}".to_owned()];
    let analysis = Analysis {
        video,
        summary,
        speech: None,
        faces: vec![],
        models: vec![],
        metrics_version: METRICS_VERSION,
        warnings,
        warning_codes: vec![],
    };
    Findings { analysis, timeline: Timeline { interval_s: 0.667, rows: vec![] } }
}

fn failure() -> JobFailure {
    let reason = FailureReason::VideoTooLong { duration_s: 7200.5, limit_s: 3600.0 };
    JobFailure { code: reason.code().to_owned(), detail: "Send a shorter video.".to_owned(), reason: Some(reason) }
}

/// Runs each test on both databases.
macro_rules! on_both {
    ($($name:ident,)*) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(super::Harness::sqlite()).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(super::Harness::postgres().await).await;
            })*
        }
    };
}

on_both! {
    a_job_is_read_back_unchanged,
    a_token_can_be_used_only_once,
    an_unknown_token_has_no_job,
    jobs_are_claimed_in_the_order_of_arrival,
    two_workers_never_claim_the_same_job,
    another_worker_gets_the_job_after_the_lease_has_expired,
    a_heartbeat_renews_the_lease_and_records_progress,
    a_lost_claim_cannot_write,
    a_worker_that_claims_its_own_job_again_cannot_write_with_the_old_claim,
    a_job_that_loses_many_workers_waits_longer_each_time_and_never_fails,
    a_late_worker_can_renew_or_finish_a_job_that_nobody_has_claimed,
    a_run_that_ended_through_the_fault_of_the_service_does_not_count,
    an_unreadable_job_stays_queued_and_does_not_block_other_jobs,
    the_check_of_the_database_writes,
    only_one_process_claims_the_storage_of_a_database,
    a_retry_waits_until_it_is_due,
    a_returned_job_keeps_its_attempts_and_its_place_in_the_queue,
    completing_twice_changes_nothing,
    parts_of_an_analysis_are_kept_until_its_job_ends,
    pieces_of_a_job_are_done_once_each_by_any_worker,
    pieces_of_dead_and_failing_workers_are_left_to_the_worker_of_the_job,
    findings_are_read_back_unchanged,
    a_long_timeline_is_written_once_and_read_in_pages,
    a_result_of_an_older_version_can_be_read,
    giving_up_a_job_stores_the_reason_and_queues_the_mails,
    every_change_increases_the_version,
    erasing_deletes_all_rows_of_a_token,
    erasing_a_running_job_invalidates_its_claim,
    an_expired_job_keeps_only_its_token,
    videos_are_due_for_deletion_some_time_after_their_job_has_ended,
    a_video_given_by_address_is_fetched_before_its_job_is_analyzed,
    of_one_client_only_some_videos_are_fetched_at_the_same_time,
    addresses_of_videos_are_forgotten,
    mails_are_leased_and_sent_again_after_the_lease,
    a_sent_mail_is_never_due_again_and_its_recipient_is_deleted,
    a_recipient_given_twice_gets_one_mail,
    a_late_failure_of_a_mail_does_not_undo_a_later_success,
    a_mail_waits_for_the_consent_of_its_recipient,
    a_mail_without_consent_is_dropped_in_the_end,
    nothing_is_sent_to_a_recipient_who_has_withdrawn_until_the_next_confirmation,
    a_recipient_is_asked_again_only_after_hours,
    ten_stores_can_start_at_the_same_time,
    old_tables_are_refused_if_migration_is_off,
    tables_of_a_newer_version_are_refused,
    one_process_at_a_time_looks_for_lost_jobs,
    the_queue_reports_its_length,
    a_change_wakes_all_waiters,
    the_place_in_the_queue_follows_the_order_of_claims,
    a_sender_with_many_jobs_holds_up_others_by_one_job_a_turn,
    of_the_jobs_of_a_turn_the_short_ones_go_first,
    urgent_jobs_go_before_all_others_and_unimportant_ones_last,
    a_job_that_runs_again_keeps_its_turn,
    jobs_of_an_earlier_version_go_first,
    the_place_in_a_long_queue_is_rounded_down,
    a_reading_of_the_queue_serves_for_some_seconds,
}

async fn a_job_is_read_back_unchanged(h: Harness) {
    let store = h.store().await;
    store.ping().await.unwrap();
    let token = h.add(&store, &["a@example.org"]).await;
    let job = store.job(token).await.unwrap().unwrap();
    assert_eq!((job.token, job.status, job.attempts), (token, Status::Queued, 0));
    assert_eq!(job.options, Options::new(7, 3));
    assert_eq!((job.created_at, job.notice), (h.now(), Some(notice())));
    assert_eq!((job.started_at, job.finished_at, job.expires_at, job.failure), (None, None, None, None));
    assert_eq!(store.findings(token).await.unwrap(), None);
}

async fn a_token_can_be_used_only_once(h: Harness) {
    let store = h.store().await;
    let token = h.add(&store, &[]).await;
    let again = store.enqueue(&new_job(token, &[]), h.now()).await;
    assert!(matches!(again, Err(StoreError::Sql(_))));
    assert_eq!(h.count("SELECT COUNT(*) FROM jobs").await, 1);
}

async fn an_unknown_token_has_no_job(h: Harness) {
    let store = h.store().await;
    let token = RandomTokens.next();
    assert!(store.job(token).await.unwrap().is_none());
    assert!(store.findings(token).await.unwrap().is_none());
    assert!(store.analysis(token).await.unwrap().is_none());
    assert_eq!(store.erase(token, h.clock.now()).await.unwrap(), None);
}

async fn jobs_are_claimed_in_the_order_of_arrival(h: Harness) {
    let store = h.store().await;
    let mut came = Vec::new();
    for number in 0..12 {
        came.push(h.add(&store, &[]).await);
        // Some jobs arrive within the same millisecond.
        if number % 4 == 0 {
            h.clock.advance(Duration::from_millis(1));
        }
    }
    let mut taken = Vec::new();
    while let Some(claim) = h.claim(&store, "w").await {
        taken.push(claim.token);
    }
    assert_eq!(taken, came);
}

async fn two_workers_never_claim_the_same_job(h: Harness) {
    let store = h.store().await;
    let mut came = HashSet::new();
    for _ in 0..50 {
        came.insert(h.add(&store, &[]).await);
    }
    let h = Arc::new(h);
    let workers: Vec<_> = (0..8)
        .map(|number| {
            let (h, store) = (h.clone(), store.clone());
            tokio::spawn(async move {
                let mut taken = Vec::new();
                while let Some(claim) = h.claim(&store, &format!("w{number}")).await {
                    taken.push(claim.token);
                }
                taken
            })
        })
        .collect();
    let mut taken = Vec::new();
    for worker in workers {
        taken.extend(worker.await.unwrap());
    }
    assert_eq!(taken.len(), 50);
    assert_eq!(taken.into_iter().collect::<HashSet<_>>(), came);
}

async fn another_worker_gets_the_job_after_the_lease_has_expired(h: Harness) {
    let store = h.store().await;
    let token = h.add(&store, &["a@example.org"]).await;
    let first = h.claim(&store, "dead").await.unwrap();
    assert_eq!((first.token, first.attempt), (token, 1));
    h.clock.advance(LEASE - Duration::from_millis(1));
    assert!(h.claim(&store, "alive").await.is_none());
    h.clock.advance(Duration::from_millis(1));
    let second = h.claim(&store, "alive").await.unwrap();
    // The lost run counts as a death and not as an attempt.
    assert_eq!((second.token, second.attempt, second.deaths), (token, 1, 1));
    assert_eq!(second.recipients, ["a@example.org"]);
    assert_eq!(second.video, first.video);
}

async fn a_heartbeat_renews_the_lease_and_records_progress(h: Harness) {
    let store = h.store().await;
    let token = h.add(&store, &[]).await;
    let claim = h.claim(&store, "w").await.unwrap();
    h.clock.advance(LEASE / 2);
    let progress = JobProgress { frames_done: 20, frames_total: 72 };
    assert_eq!(store.heartbeat(&claim, progress, h.now(), LEASE).await.unwrap(), ClaimState::Held);
    h.clock.advance(LEASE - Duration::from_millis(1));
    assert!(h.claim(&store, "other").await.is_none());
    let job = store.job(token).await.unwrap().unwrap();
    assert_eq!((job.status, job.progress), (Status::Running, progress));
    // A late heartbeat renews the lease if nobody has claimed the job.
    h.clock.advance(LEASE);
    assert_eq!(store.heartbeat(&claim, progress, h.now(), LEASE).await.unwrap(), ClaimState::Held);
    assert!(h.claim(&store, "other").await.is_none());
}

async fn a_lost_claim_cannot_write(h: Harness) {
    let store = h.store().await;
    let token = h.add(&store, &["a@example.org"]).await;
    let stale = h.claim(&store, "slow").await.unwrap();
    h.clock.advance(LEASE);
    let fresh = h.claim(&store, "fast").await.unwrap();
    let before = store.job(token).await.unwrap().unwrap().version;

    let progress = JobProgress { frames_done: 1, frames_total: 2 };
    assert_eq!(store.heartbeat(&stale, progress, h.now(), LEASE).await.unwrap(), ClaimState::Lost);
    assert_eq!(h.complete(&store, &stale).await, ClaimState::Lost);
    let given_up = store.give_up(&stale, &failure(), &mails(&stale), h.now(), None).await.unwrap();
    assert_eq!(given_up, ClaimState::Lost);
    assert_eq!(store.retry(&stale, h.now()).await.unwrap(), ClaimState::Lost);
    assert_eq!(store.hand_back(&stale).await.unwrap(), ClaimState::Lost);

    let job = store.job(token).await.unwrap().unwrap();
    assert_eq!((job.status, job.version, job.attempts), (Status::Running, before, 1));
    assert_eq!(h.count("SELECT COUNT(*) FROM results").await, 0);
    assert_eq!(h.count("SELECT COUNT(*) FROM outbox").await, 0);
    assert_eq!(h.complete(&store, &fresh).await, ClaimState::Held);
    // The stale claim cannot complete the job after another one has completed it.
    assert_eq!(h.complete(&store, &stale).await, ClaimState::Lost);
    assert_eq!(h.count("SELECT COUNT(*) FROM outbox").await, 1);
}

async fn a_worker_that_claims_its_own_job_again_cannot_write_with_the_old_claim(h: Harness) {
    let store = h.store().await;
    h.add(&store, &[]).await;
    let old = h.claim(&store, "w").await.unwrap();
    store.hand_back(&old).await.unwrap();
    let new = h.claim(&store, "w").await.unwrap();
    assert_eq!(new.attempt, old.attempt);
    assert_eq!(h.complete(&store, &old).await, ClaimState::Lost);
    assert_eq!(h.complete(&store, &new).await, ClaimState::Held);
}

async fn a_job_that_loses_many_workers_waits_longer_each_time_and_never_fails(h: Harness) {
    let store = h.store().await;
    let token = h.add(&store, &["a@example.org"]).await;
    for (deaths, wait_s) in [(0, 0), (1, 0), (2, 5), (3, 10), (4, 20), (5, 40), (6, 60), (7, 60)] {
        if wait_s > 0 {
            assert!(h.claim(&store, "w").await.is_none(), "{deaths}");
            h.clock.advance(Duration::from_secs(wait_s) - Duration::from_millis(1));
            assert!(h.claim(&store, "w").await.is_none(), "{deaths}");
            h.clock.advance(Duration::from_millis(1));
        }
        let claim = h.claim(&store, "w").await.unwrap();
        assert_eq!((claim.attempt, claim.deaths, claim.setbacks), (1, deaths, 0));
        h.clock.advance(LEASE);
    }
    assert_eq!(store.job(token).await.unwrap().unwrap().attempts, 1);
}

async fn a_late_worker_can_renew_or_finish_a_job_that_nobody_has_claimed(h: Harness) {
    let store = h.store().await;
    let token = h.add(&store, &["a@example.org"]).await;
    for finishes in [false, true] {
        let claim = h.claim(&store, "slow").await.unwrap();
        h.clock.advance(LEASE);
        assert_eq!(store.release_lost(h.now(), BACKOFF).await.unwrap().len(), 1);
        assert_eq!(store.job(token).await.unwrap().unwrap().status, Status::Queued);
        if finishes {
            assert_eq!(h.complete(&store, &claim).await, ClaimState::Held);
            continue;
        }
        let progress = JobProgress { frames_done: 1, frames_total: 2 };
        assert_eq!(store.heartbeat(&claim, progress, h.now(), LEASE).await.unwrap(), ClaimState::Held);
        let job = store.job(token).await.unwrap().unwrap();
        assert_eq!((job.status, job.attempts), (Status::Running, 1));
        assert!(h.claim(&store, "other").await.is_none());
        assert_eq!(h.count("SELECT deaths FROM jobs").await, 0);
        store.hand_back(&claim).await.unwrap();
    }
    assert_eq!(store.job(token).await.unwrap().unwrap().status, Status::Done);
    assert_eq!(h.count("SELECT COUNT(*) FROM outbox").await, 1);
}

async fn a_run_that_ended_through_the_fault_of_the_service_does_not_count(h: Harness) {
    let store = h.store().await;
    let token = h.add(&store, &[]).await;
    for setbacks in 0..3 {
        let claim = h.claim(&store, "w").await.unwrap();
        assert_eq!((claim.attempt, claim.setbacks), (1, setbacks));
        assert_eq!(store.set_back(&claim, h.now() + Duration::from_secs(7)).await.unwrap(), ClaimState::Held);
        // A repeated call, as after a lost answer, has no effect.
        assert_eq!(store.set_back(&claim, h.now()).await.unwrap(), ClaimState::Lost);
        assert_eq!(store.job(token).await.unwrap().unwrap().attempts, 0);
        assert!(h.claim(&store, "w").await.is_none());
        h.clock.advance(Duration::from_secs(7));
    }
}

async fn an_unreadable_job_stays_queued_and_does_not_block_other_jobs(h: Harness) {
    let store = h.store().await;
    let unread = h.add(&store, &[]).await;
    let pool = AnyPool::connect(h.database.url.expose()).await.unwrap();
    let update = "UPDATE jobs SET options = '{\"sample_every\": \"of a newer version\"}'";
    sqlx::query(update).execute(&pool).await.unwrap();
    pool.close().await;
    let read = h.add(&store, &[]).await;
    assert!(matches!(store.claim("w", h.now(), LEASE).await, Err(StoreError::Corrupt { .. })));
    assert_eq!(h.claim(&store, "w").await.unwrap().token, read);
    assert_eq!(h.count("SELECT attempts FROM jobs ORDER BY id LIMIT 1").await, 0);
    assert_eq!(h.count("SELECT COUNT(*) FROM jobs WHERE status = 'queued'").await, 1);
    assert_ne!(unread, read);
}

async fn the_check_of_the_database_writes(h: Harness) {
    let store = h.store().await;
    store.check(h.now()).await.unwrap();
    h.clock.advance(LEASE);
    store.check(h.now()).await.unwrap();
    let written = h.count("SELECT value FROM counters WHERE name = 'check'").await;
    assert_eq!(written, h.now().as_millisecond());
}

async fn only_one_process_claims_the_storage_of_a_database(h: Harness) {
    let store = h.store().await;
    let (first, second, patience) = (RandomTokens.next(), RandomTokens.next(), Duration::from_secs(15));
    assert_eq!(store.known_storage().await.unwrap(), None);
    assert!(store.claim_storage(first, h.now(), patience).await.unwrap());
    assert!(!store.claim_storage(second, h.now(), patience).await.unwrap());
    assert!(!store.known_storage().await.unwrap().unwrap().is_written);
    // The first process dies before it has written the storage.
    h.clock.advance(patience);
    assert!(store.claim_storage(second, h.now(), patience).await.unwrap());
    assert!(!store.storage_written(first).await.unwrap());
    assert!(store.storage_written(second).await.unwrap());
    h.clock.advance(patience * 2);
    assert!(!store.claim_storage(first, h.now(), patience).await.unwrap());
    let known = store.known_storage().await.unwrap().unwrap();
    assert_eq!((known.id, known.is_written), (second, true));
    store.set_storage(first, h.now()).await.unwrap();
    assert_eq!(store.known_storage().await.unwrap().unwrap().id, first);
}

async fn a_retry_waits_until_it_is_due(h: Harness) {
    let store = h.store().await;
    let token = h.add(&store, &[]).await;
    let claim = h.claim(&store, "w").await.unwrap();
    let due = h.now() + Duration::from_secs(60);
    assert_eq!(store.retry(&claim, due).await.unwrap(), ClaimState::Held);
    assert_eq!(store.job(token).await.unwrap().unwrap().status, Status::Queued);
    h.clock.advance(Duration::from_millis(59_999));
    assert!(h.claim(&store, "w").await.is_none());
    let other = h.add(&store, &[]).await;
    h.clock.advance(Duration::from_millis(1));
    let again = h.claim(&store, "w").await.unwrap();
    assert_eq!((again.token, again.attempt), (token, 2));
    assert_eq!(h.claim(&store, "w").await.unwrap().token, other);
}

async fn a_returned_job_keeps_its_attempts_and_its_place_in_the_queue(h: Harness) {
    let store = h.store().await;
    let first = h.add(&store, &[]).await;
    h.clock.advance(Duration::from_secs(1));
    h.add(&store, &[]).await;
    for _ in 0..5 {
        let claim = h.claim(&store, "w").await.unwrap();
        assert_eq!((claim.token, claim.attempt), (first, 1));
        assert_eq!(store.hand_back(&claim).await.unwrap(), ClaimState::Held);
    }
}

async fn completing_twice_changes_nothing(h: Harness) {
    let store = h.store().await;
    let token = h.add(&store, &["a@example.org", "b@example.org"]).await;
    let claim = h.claim(&store, "w").await.unwrap();
    assert_eq!(h.complete(&store, &claim).await, ClaimState::Held);
    let version = store.job(token).await.unwrap().unwrap().version;
    assert_eq!(h.complete(&store, &claim).await, ClaimState::Held);
    assert_eq!(store.job(token).await.unwrap().unwrap().version, version);
    assert_eq!(h.count("SELECT COUNT(*) FROM results").await, 1);
    assert_eq!(h.count("SELECT COUNT(*) FROM outbox").await, 2);
}

async fn parts_of_an_analysis_are_kept_until_its_job_ends(h: Harness) {
    let store = h.store().await;
    let rows = async || h.count("SELECT COUNT(*) FROM analysis_parts").await;
    let done = h.add(&store, &[]).await;
    let first = h.claim(&store, "w").await.unwrap();
    assert_eq!(first.parts, 0);
    for (number, content) in [(0, "a"), (1, "b"), (2, "c"), (1, "d")] {
        assert_eq!(store.keep_part(&first, number, content).await.unwrap(), ClaimState::Held);
    }
    assert_eq!(store.parts(done).await.unwrap(), ["a", "d"], "a part replaces all later ones");
    store.hand_back(&first).await.unwrap();
    let second = h.claim(&store, "v").await.unwrap();
    assert_eq!((second.token, second.parts), (done, 2));
    assert_eq!(store.keep_part(&first, 2, "late").await.unwrap(), ClaimState::Lost);
    // A part of a claim whose lease ran out is kept, until another worker has the job.
    h.clock.advance(2 * LEASE);
    store.release_lost(h.now(), BACKOFF).await.unwrap();
    assert_eq!(store.keep_part(&second, 2, "e").await.unwrap(), ClaimState::Held);
    assert_eq!(rows().await, 3);
    assert_eq!(h.complete(&store, &second).await, ClaimState::Held);
    assert_eq!(rows().await, 0);

    let failed = h.add(&store, &[]).await;
    let claim = h.claim(&store, "w").await.unwrap();
    store.keep_part(&claim, 0, "a").await.unwrap();
    let failure = JobFailure { code: "c".to_owned(), detail: "d".to_owned(), reason: None };
    assert_eq!(store.give_up(&claim, &failure, &[], h.now(), None).await.unwrap(), ClaimState::Held);
    assert_eq!((store.parts(failed).await.unwrap().len(), rows().await), (0, 0));

    let erased = h.add(&store, &[]).await;
    let claim = h.claim(&store, "w").await.unwrap();
    store.keep_part(&claim, 0, "a").await.unwrap();
    store.erase(erased, h.now()).await.unwrap();
    assert_eq!(rows().await, 0);
    assert_eq!(store.keep_part(&claim, 1, "b").await.unwrap(), ClaimState::Lost);
}

async fn pieces_of_a_job_are_done_once_each_by_any_worker(h: Harness) {
    let store = h.store().await;
    let claim_shared = async || store.claim_shared_piece(h.now(), LEASE).await.unwrap();
    assert!(claim_shared().await.is_none());
    let token = h.add(&store, &[]).await;
    let job = h.claim(&store, "w").await.unwrap();
    assert_eq!(store.put_pieces(&job, &["a", "b", "c"].map(str::to_owned)).await.unwrap(), ClaimState::Held);
    assert_eq!(store.put_pieces(&job, &["other".to_owned()]).await.unwrap(), ClaimState::Held);
    assert_eq!(store.pieces(token).await.unwrap(), ["a", "b", "c"], "those that are there stay");

    let own = store.claim_own_piece(&job, h.now(), LEASE).await.unwrap().unwrap();
    let others = claim_shared().await.unwrap();
    assert_eq!((own.number, own.piece.as_str(), others.number, others.piece.as_str()), (0, "a", 1, "b"));
    let of_piece = store.job_of_piece(others.token).await.unwrap().unwrap();
    assert_eq!((of_piece.token, of_piece.video.clone(), of_piece.options), (token, job.video.clone(), job.options));
    assert_eq!(store.renew_piece(&others, 70, h.now(), LEASE).await.unwrap(), ClaimState::Held);
    assert_eq!(store.finish_piece(&own, "A").await.unwrap(), ClaimState::Held);
    let counts = PieceCounts { all: 3, done: 1, frames_done: 70 };
    assert_eq!(store.piece_counts(token).await.unwrap(), counts);
    assert_eq!(store.piece_results(token).await.unwrap(), None, "two are missing");

    // A worker that stops gives its piece back with what it has read, and another one may do it.
    assert_eq!((others.begun.as_deref(), store.keep_begun(&others, "half").await.unwrap()), (None, ClaimState::Held));
    assert_eq!(store.release_piece(&others, true).await.unwrap(), ClaimState::Held);
    let (second, third) = (claim_shared().await.unwrap(), claim_shared().await.unwrap());
    assert_eq!((second.number, second.begun.as_deref(), third.number), (1, Some("half"), 2));
    assert_eq!(store.keep_begun(&others, "late").await.unwrap(), ClaimState::Lost);
    assert!(claim_shared().await.is_none() && store.claim_own_piece(&job, h.now(), LEASE).await.unwrap().is_none());
    assert_eq!(store.finish_piece(&others, "late").await.unwrap(), ClaimState::Lost);
    for (task, result) in [(second, "B"), (third, "C")] {
        assert_eq!(store.finish_piece(&task, result).await.unwrap(), ClaimState::Held);
    }
    assert_eq!(store.piece_results(token).await.unwrap().unwrap(), ["A", "B", "C"]);

    // A task that did not fit is done again.
    store.redo_piece(&job, 1, Some("b again"), true).await.unwrap();
    assert_eq!(store.piece_results(token).await.unwrap(), None);
    let again = claim_shared().await.unwrap();
    assert_eq!((again.number, again.piece.as_str(), &again.begun), (1, "b again", &None));
    store.finish_piece(&again, "B again").await.unwrap();
    assert_eq!(store.piece_results(token).await.unwrap().unwrap(), ["A", "B again", "C"]);

    store.redo_piece(&job, 2, None, false).await.unwrap();
    assert!(claim_shared().await.is_none(), "only for the worker of the job");
    let again = store.claim_own_piece(&job, h.now(), LEASE).await.unwrap().unwrap();
    assert_eq!((again.number, again.piece.as_str()), (2, "c"));
    store.finish_piece(&again, "C again").await.unwrap();

    // A worker that has lost the job changes nothing.
    store.hand_back(&job).await.unwrap();
    let (late, job) = (job, h.claim(&store, "x").await.unwrap());
    store.redo_piece(&late, 0, None, true).await.unwrap();
    store.drop_pieces(&late).await.unwrap();
    assert_eq!(store.piece_results(token).await.unwrap().unwrap(), ["A", "B again", "C again"]);

    let rows = async || h.count("SELECT COUNT(*) FROM analysis_pieces").await;
    store.drop_pieces(&job).await.unwrap();
    assert_eq!(rows().await, 0);
    assert_eq!(store.put_pieces(&job, &["whole".to_owned()]).await.unwrap(), ClaimState::Held);
    assert_eq!(h.complete(&store, &job).await, ClaimState::Held);
    assert_eq!(rows().await, 0);
    let erased = h.add(&store, &[]).await;
    let job = h.claim(&store, "w").await.unwrap();
    store.put_pieces(&job, &["a".to_owned()]).await.unwrap();
    let task = claim_shared().await.unwrap();
    store.erase(erased, h.now()).await.unwrap();
    assert_eq!(store.renew_piece(&task, 0, h.now(), LEASE).await.unwrap(), ClaimState::Lost);
    assert_eq!(store.put_pieces(&job, &["a".to_owned()]).await.unwrap(), ClaimState::Lost);
    assert_eq!(rows().await, 0);
}

async fn pieces_of_dead_and_failing_workers_are_left_to_the_worker_of_the_job(h: Harness) {
    let store = h.store().await;
    let claim_shared = async || store.claim_shared_piece(h.now(), LEASE).await.unwrap();
    h.add(&store, &[]).await;
    let job = h.claim(&store, "w").await.unwrap();
    let tasks: Vec<String> = (0..8).map(|number| number.to_string()).collect();
    store.put_pieces(&job, &tasks).await.unwrap();
    // A task that failed.
    let failing = claim_shared().await.unwrap();
    assert_eq!(store.release_piece(&failing, false).await.unwrap(), ClaimState::Held);
    // Three tasks whose workers died.
    let dead = [claim_shared().await.unwrap(), claim_shared().await.unwrap(), claim_shared().await.unwrap()];
    assert_eq!(dead.each_ref().map(|task| task.number), [1, 2, 3]);
    h.clock.advance(2 * LEASE);
    let next = claim_shared().await.unwrap();
    assert_eq!(next.number, 4, "other workers leave them");
    for number in 0..4 {
        let own = store.claim_own_piece(&job, h.now(), LEASE).await.unwrap().unwrap();
        assert_eq!(own.number, number);
    }
    assert_eq!(store.finish_piece(&dead[0], "late").await.unwrap(), ClaimState::Lost);
    assert!(claim_shared().await.is_none(), "three workers have died");
    assert_eq!(store.finish_piece(&next, "in time").await.unwrap(), ClaimState::Held);
    assert_eq!(store.claim_own_piece(&job, h.now(), LEASE).await.unwrap().unwrap().number, 5);
}

async fn findings_are_read_back_unchanged(h: Harness) {
    let store = h.store().await;
    let token = h.add(&store, &[]).await;
    let claim = h.claim(&store, "w").await.unwrap();
    h.clock.advance(Duration::from_secs(5));
    let expires_at = h.now() + Duration::from_secs(3600);
    store.complete(&claim, &findings(), &[], h.now(), Some(expires_at)).await.unwrap();
    assert_eq!(store.findings(token).await.unwrap(), Some(findings()));
    assert_eq!(store.analysis(token).await.unwrap(), Some(findings().analysis));
    let job = store.job(token).await.unwrap().unwrap();
    assert_eq!((job.status, job.finished_at, job.expires_at), (Status::Done, Some(h.now()), Some(expires_at)));
    assert!(job.started_at.unwrap() < h.now());
}

/// Returns findings with a timeline of so many rows.
fn with_rows(rows: u32) -> Findings {
    let row = |n: u32| TimelineRow {
        time_s: f64::from(n),
        face: 1,
        bbox: BBox { x: 1.0, y: 2.0, width: 30.0, height: 40.0 },
        emotions: Probabilities([0.0, 0.0, 0.0, 0.75, 0.0, 0.0, 0.25]),
        pose: None,
        eye_contact: None,
        quality: 0.5,
        gaze: None,
        eyes_shut: None,
        covered: None,
        expressions: None,
        relative: None,
    };
    Findings { timeline: Timeline { interval_s: 1.0, rows: (0..rows).map(row).collect() }, ..findings() }
}

async fn a_long_timeline_is_written_once_and_read_in_pages(h: Harness) {
    let store = h.store().await;
    let token = h.add(&store, &[]).await;
    assert_eq!(store.timeline(token, 0, 10).await.unwrap(), None);
    let claim = h.claim(&store, "w").await.unwrap();
    let found = with_rows(2500);
    store.complete(&claim, &found, &[], h.now(), None).await.unwrap();
    assert_eq!(store.findings(token).await.unwrap().unwrap(), found);
    for (from, limit) in [(0, 1), (999, 2), (1000, 1000), (1500, 1000), (2499, 1), (2500, 5), (9000, 5), (0, 2500)] {
        let page = store.timeline(token, from, limit).await.unwrap().unwrap();
        let expected: Vec<_> = found.timeline.rows.iter().skip(from).take(limit).cloned().collect();
        assert_eq!((page.rows, page.more), (expected, from + limit < 2500), "{from} {limit}");
    }
    assert_eq!(h.count("SELECT COUNT(*) FROM timeline_parts").await, 3);
    store.erase(token, h.clock.now()).await.unwrap();
    assert_eq!(h.count("SELECT COUNT(*) FROM timeline_parts").await, 0);
}

/// The result has the form of the first version: no scores, parts, intervals and segments, and the timeline in one
/// piece.
async fn a_result_of_an_older_version_can_be_read(h: Harness) {
    let store = h.store().await;
    let token = h.add(&store, &[]).await;
    let claim = h.claim(&store, "w").await.unwrap();
    h.complete(&store, &claim).await;
    let shares = r#"{"angry":0.0,"disgust":0.0,"fear":0.0,"happy":80.0,"sad":0.0,"surprise":0.0,"neutral":20.0}"#;
    let analysis = format!(
        r#"{{"video":{{"duration_s":2.0,"fps":25.0,"width":640,"height":360,"codec":"h264","frames_total":50,
            "frames_analyzed":3,"has_audio":true}},
            "summary":{{"dominant_emotion":"happy","emotions":{shares},"calmness":50.0,"eye_contact":100.0,
            "model_confidence":0.8,"valence":0.6,"arousal":0.4}},
            "speech":{{"ratio":0.5,"clarity":50.0,"quality_mos":{{"sig":3.0,"bak":3.0,"ovr":3.0}},
            "syllables_per_s":null,"pauses":1,"longest_pause_s":0.5}},
            "faces":[{{"id":1,"first_s":0.0,"last_s":1.6,"frames":3,"dominant_emotion":"happy","emotions":{shares},
            "emotion_counts":{{"happy":3}},"average_confidence":{{"happy":0.8}},"embeddings_shape":[3,7],
            "example_embedding":[0.0,0.0,0.0,0.8,0.0,0.0,0.2],"eye_contact":100.0,"calmness":50.0,"valence":0.6,
            "arousal":0.4}}],"models":[],"warnings":[]}}"#
    );
    let row = |time_s: f64| format!("[{time_s},1,[1.0,2.0,3.0,4.0],[0,0,0,0.8,0,0,0.2],null,true,0.5]");
    let timeline = format!(r#"{{"interval_s":0.8,"rows":[{},{},{}]}}"#, row(0.0), row(0.8), row(1.6));
    let pool = AnyPool::connect(h.database.url.expose()).await.unwrap();
    sqlx::query("UPDATE results SET analysis = $1, timeline = $2")
        .bind(analysis)
        .bind(timeline)
        .execute(&pool)
        .await
        .unwrap();
    pool.close().await;
    let found = store.findings(token).await.unwrap().unwrap();
    assert_eq!((found.timeline.rows.len(), found.analysis.summary.presence), (3, None));
    assert!(found.analysis.faces[0].segments.is_empty() && found.analysis.summary.feedback.is_empty());
    let page = store.timeline(token, 1, 1).await.unwrap().unwrap();
    assert_eq!((page.rows[0].time_s, page.rows.len(), page.more), (0.8, 1, true));
    // The report can be rendered as well.
    let created_at = h.now();
    let reporter = Reporter::new(&Settings::defaults().unwrap()).unwrap();
    let page = reporter
        .html(
            &found,
            &Context {
                token,
                created_at,
                language: visage::analysis::Language::EN,
                file_name: None,
                result_url: None,
                withdraw_url: None,
                notice: None,
            },
        )
        .unwrap();
    assert!(page.contains("happy"), "{page}");
    // A result without a version keeps its figures, and the report names the definitions that they are of.
    assert_eq!((found.analysis.metrics_version, found.analysis.summary.calmness), (1, Some(50.0)));
    assert!(page.contains("version 1") && page.contains("an earlier definition"), "{page}");
}

async fn giving_up_a_job_stores_the_reason_and_queues_the_mails(h: Harness) {
    let store = h.store().await;
    let token = h.add(&store, &["a@example.org"]).await;
    let claim = h.claim(&store, "w").await.unwrap();
    for _ in 0..2 {
        let held = store.give_up(&claim, &failure(), &mails(&claim), h.now(), None).await.unwrap();
        assert_eq!(held, ClaimState::Held);
    }
    assert_eq!(store.job(token).await.unwrap().unwrap().failure, Some(failure()));
    assert_eq!(h.count("SELECT COUNT(*) FROM outbox WHERE kind = 'failure' AND status = 'queued'").await, 1);
    assert_eq!(h.count("SELECT COUNT(*) FROM jobs WHERE recipients IS NOT NULL").await, 0);
    assert_eq!(h.count("SELECT COUNT(*) FROM results").await, 0);
}

async fn every_change_increases_the_version(h: Harness) {
    let store = h.store().await;
    let token = h.add(&store, &[]).await;
    let mut versions = vec![store.job(token).await.unwrap().unwrap().version];
    let mut look = async |store: &Store| {
        let version = store.job(token).await.unwrap().unwrap().version;
        assert!(version > *versions.last().unwrap(), "{versions:?} then {version}");
        versions.push(version);
    };
    let claim = h.claim(&store, "w").await.unwrap();
    look(&store).await;
    store.heartbeat(&claim, JobProgress { frames_done: 1, frames_total: 9 }, h.now(), LEASE).await.unwrap();
    look(&store).await;
    store.retry(&claim, h.now()).await.unwrap();
    look(&store).await;
    let claim = h.claim(&store, "w").await.unwrap();
    store.hand_back(&claim).await.unwrap();
    look(&store).await;
    let claim = h.claim(&store, "w").await.unwrap();
    look(&store).await;
    store.complete(&claim, &findings(), &[], h.now(), Some(h.now())).await.unwrap();
    look(&store).await;
    store.expire(h.now(), 10).await.unwrap();
    look(&store).await;
}

async fn erasing_deletes_all_rows_of_a_token(h: Harness) {
    let store = h.store().await;
    let kept = h.add(&store, &["kept@example.org"]).await;
    let token = h.add(&store, &["a@example.org"]).await;
    for _ in 0..2 {
        let claim = h.claim(&store, "w").await.unwrap();
        h.complete(&store, &claim).await;
    }
    assert_eq!(store.erase(token, h.clock.now()).await.unwrap(), Some(Some(format!("videos/{token}"))));
    assert!(store.job(token).await.unwrap().is_none());
    for table in ["jobs", "results", "outbox"] {
        assert_eq!(h.count(&format!("SELECT COUNT(*) FROM {table}")).await, 1, "{table}");
        assert_eq!(h.count(&format!("SELECT COUNT(*) FROM {table} WHERE token = '{kept}'")).await, 1, "{table}");
    }
    assert_eq!(store.erase(token, h.clock.now()).await.unwrap(), None);
    store.video_deleted(kept).await.unwrap();
    assert_eq!(store.erase(kept, h.clock.now()).await.unwrap(), Some(None));
}

async fn erasing_a_running_job_invalidates_its_claim(h: Harness) {
    let store = h.store().await;
    let token = h.add(&store, &["a@example.org"]).await;
    let claim = h.claim(&store, "w").await.unwrap();
    assert!(store.erase(token, h.clock.now()).await.unwrap().is_some());
    assert_eq!(store.heartbeat(&claim, JobProgress::default(), h.now(), LEASE).await.unwrap(), ClaimState::Lost);
    assert_eq!(h.complete(&store, &claim).await, ClaimState::Lost);
    for table in ["jobs", "results", "outbox"] {
        assert_eq!(h.count(&format!("SELECT COUNT(*) FROM {table}")).await, 0, "{table}");
    }
}

async fn an_expired_job_keeps_only_its_token(h: Harness) {
    let store = h.store().await;
    let done = h.add(&store, &["a@example.org"]).await;
    let failed = h.add(&store, &["b@example.org"]).await;
    let waiting = h.add(&store, &["c@example.org"]).await;
    let expires_at = Some(h.now() + Duration::from_secs(10));
    let claim = h.claim(&store, "w").await.unwrap();
    store.complete(&claim, &findings(), &mails(&claim), h.now(), expires_at).await.unwrap();
    let claim = h.claim(&store, "w").await.unwrap();
    store.give_up(&claim, &failure(), &mails(&claim), h.now(), expires_at).await.unwrap();

    h.clock.advance(Duration::from_millis(9_999));
    assert_eq!(store.expire(h.now(), 10).await.unwrap(), 0);
    h.clock.advance(Duration::from_millis(1));
    assert_eq!(store.expire(h.now(), 1).await.unwrap(), 1);
    assert_eq!(store.expire(h.now(), 10).await.unwrap(), 1);
    assert_eq!(store.expire(h.now(), 10).await.unwrap(), 0);
    for token in [done, failed] {
        let job = store.job(token).await.unwrap().unwrap();
        assert_eq!((job.status, job.failure, job.notice), (Status::Expired, None, None));
        assert_eq!(job.options, Options::new(0, 0));
        assert_eq!(store.findings(token).await.unwrap(), None);
    }
    assert_eq!(h.count("SELECT COUNT(*) FROM results").await, 0);
    assert_eq!(h.count("SELECT COUNT(*) FROM outbox").await, 0);
    assert_eq!(store.job(waiting).await.unwrap().unwrap().status, Status::Queued);
    // The video remains listed until it is deleted.
    assert_eq!(store.due_videos(h.now(), h.now(), 10).await.unwrap().len(), 2);
}

async fn videos_are_due_for_deletion_some_time_after_their_job_has_ended(h: Harness) {
    let store = h.store().await;
    let token = h.add(&store, &[]).await;
    h.add(&store, &[]).await;
    let claim = h.claim(&store, "w").await.unwrap();
    assert!(store.due_videos(h.now(), h.now(), 10).await.unwrap().is_empty());
    h.complete(&store, &claim).await;
    let ended = h.now();
    assert!(store.due_videos(ended - Duration::from_millis(1), ended, 10).await.unwrap().is_empty());
    let due = store.due_videos(ended, ended, 10).await.unwrap();
    assert_eq!(due.iter().map(|video| video.token).collect::<Vec<_>>(), [token]);
    assert_eq!(store.video_keys().await.unwrap().len(), 2);
    store.video_deleted(token).await.unwrap();
    assert!(store.due_videos(ended, ended, 10).await.unwrap().is_empty());
    assert_eq!(store.video_count().await.unwrap(), 1);
    let JobVideo::Stored(key) = &due[0].video else { panic!("{due:?}") };
    assert!(!store.video_keys().await.unwrap().contains(key));
}

/// Queues a job whose video is at an address.
async fn add_remote(h: &Harness, store: &Store, client: &str) -> Uuid {
    let token = RandomTokens.next();
    let origin = Origin { client: Some(client.to_owned()), ..Origin::default() };
    let video = JobVideo::Remote(Secret::new(format!("https://example.org/{token}")));
    store.enqueue(&NewJob { video, origin, ..new_job(token, &[]) }, h.now()).await.unwrap();
    token
}

async fn a_video_given_by_address_is_fetched_before_its_job_is_analyzed(h: Harness) {
    let store = h.store().await;
    let token = add_remote(&h, &store, "ann").await;
    assert!(h.claim(&store, "w").await.is_none(), "a worker analyzed a job without a video");
    let fetch = async |worker: &str| store.claim_unfetched(worker, 0, h.now(), LEASE).await.unwrap();
    let killed = fetch("killed").await.unwrap();
    assert_eq!(killed.video, JobVideo::Remote(Secret::new(format!("https://example.org/{token}"))));
    assert!(store.job(token).await.unwrap().unwrap().is_unfetched);
    assert!(fetch("other").await.is_none());
    h.clock.advance(LEASE);
    store.release_lost(h.now(), BACKOFF).await.unwrap();
    let claim = fetch("w").await.unwrap();
    assert_eq!(store.fetched(&killed, "old", 5).await.unwrap(), ClaimState::Lost);
    assert_eq!(store.fetched(&claim, "new", 7).await.unwrap(), ClaimState::Held);
    assert_eq!(store.fetched(&claim, "new", 7).await.unwrap(), ClaimState::Held, "the first answer may be lost");
    assert_eq!(store.stored_bytes("ann", h.now()).await.unwrap().client, 7);
    let job = store.job(token).await.unwrap().unwrap();
    assert_eq!((job.status, job.attempts, job.started_at, job.is_unfetched), (Status::Queued, 0, None, false));
    assert!(fetch("w").await.is_none());
    let analysis = h.claim(&store, "w").await.unwrap();
    assert_eq!((analysis.video.clone(), analysis.attempt, analysis.deaths), (JobVideo::Stored("new".to_owned()), 1, 0));
    assert_eq!(store.fetched(&claim, "new", 7).await.unwrap(), ClaimState::Held, "also when it runs already");
    assert_eq!(store.fetched(&claim, "another", 7).await.unwrap(), ClaimState::Lost);
    h.complete(&store, &analysis).await;
    assert_eq!(store.fetched(&claim, "new", 7).await.unwrap(), ClaimState::Held);
}

async fn of_one_client_only_some_videos_are_fetched_at_the_same_time(h: Harness) {
    let store = h.store().await;
    let mut tokens = Vec::new();
    for client in ["ann", "ann", "ann", "bob"] {
        tokens.push(add_remote(&h, &store, client).await);
    }
    let fetch = async |most| store.claim_unfetched("w", most, h.now(), LEASE).await.unwrap();
    let first = fetch(2).await.unwrap();
    let claimed = [first.token, fetch(2).await.unwrap().token, fetch(2).await.unwrap().token];
    // The clients take turns.
    assert_eq!(claimed, [tokens[0], tokens[3], tokens[1]]);
    assert!(fetch(2).await.is_none());
    store.fetched(&first, "key", 1).await.unwrap();
    assert_eq!(fetch(2).await.unwrap().token, tokens[2]);
}

async fn addresses_of_videos_are_forgotten(h: Harness) {
    let store = h.store().await;
    let known =
        async || h.count("SELECT COUNT(*) FROM jobs WHERE video_url IS NOT NULL OR video_object IS NOT NULL").await;
    let mut tokens = Vec::new();
    for video in ["a", "b"].map(|name| JobVideo::Object(format!("s3://films/{name}"))) {
        let token = RandomTokens.next();
        store.enqueue(&NewJob { video, ..new_job(token, &[]) }, h.now()).await.unwrap();
        tokens.push(token);
    }
    tokens.push(add_remote(&h, &store, "ann").await);
    let done = h.claim(&store, "w").await.unwrap();
    h.complete(&store, &done).await;
    let expires_at = Some(h.now() + Duration::from_secs(10));
    let failed = h.claim(&store, "w").await.unwrap();
    store.give_up(&failed, &failure(), &mails(&failed), h.now(), expires_at).await.unwrap();
    let unfetched = store.claim_unfetched("w", 0, h.now(), LEASE).await.unwrap().unwrap();
    store.give_up(&unfetched, &failure(), &[], h.now(), expires_at).await.unwrap();
    let due = store.due_videos(h.now(), h.now(), 10).await.unwrap();
    assert_eq!((due.len(), store.video_count().await.unwrap()), (3, 0));
    let done: Vec<_> = due.iter().filter(|due| due.is_done).map(|due| &due.video).collect();
    assert_eq!(done, [&JobVideo::Object("s3://films/a".to_owned())]);
    assert_eq!(store.failed_jobs().await.unwrap().iter().filter(|job| job.has_video).count(), 2);
    store.video_deleted(tokens[0]).await.unwrap();
    assert_eq!(known().await, 2);
    assert_eq!(store.revive(tokens[2], h.now()).await.unwrap(), Revived::Queued);
    let again = store.claim_unfetched("w", 0, h.now(), LEASE).await.unwrap().unwrap();
    store.give_up(&again, &failure(), &[], h.now(), expires_at).await.unwrap();
    h.clock.advance(Duration::from_secs(10));
    assert_eq!(store.expire(h.now(), 10).await.unwrap(), 2);
    assert_eq!(known().await, 0);
}

async fn mails_are_leased_and_sent_again_after_the_lease(h: Harness) {
    let store = h.store().await;
    h.add(&store, &["a@example.org"]).await;
    assert!(store.claim_mail(h.now(), LEASE).await.unwrap().is_none());
    let claim = h.claim(&store, "w").await.unwrap();
    h.complete(&store, &claim).await;
    let first = store.claim_mail(h.now(), LEASE).await.unwrap().unwrap();
    assert_eq!((first.token, first.recipient.as_str(), first.attempt), (claim.token, "a@example.org", 1));
    assert!(store.claim_mail(h.now(), LEASE).await.unwrap().is_none());
    let due = h.now() + Duration::from_secs(5);
    store.mail_failed(&first, "down", due, true).await.unwrap();
    assert!(store.claim_mail(h.now(), LEASE).await.unwrap().is_none());
    h.clock.advance(Duration::from_secs(5));
    let second = store.claim_mail(h.now(), LEASE).await.unwrap().unwrap();
    assert_eq!((second.id, second.attempt), (first.id, 2));
    // The process that sends the mail dies.
    h.clock.advance(LEASE);
    let third = store.claim_mail(h.now(), LEASE).await.unwrap().unwrap();
    assert_eq!((third.id, third.attempt), (first.id, 3));
    store.mail_given_up(&third, "refused", h.now()).await.unwrap();
    h.clock.advance(LEASE * 100);
    assert!(store.claim_mail(h.now(), LEASE).await.unwrap().is_none());
    let [failed] = &store.failed_messages(10).await.unwrap()[..] else { panic!("one message failed") };
    assert_eq!((failed.id, failed.attempts, failed.error.as_str()), (first.id, 3, "refused"));
    assert!(failed.is_given_up && failed.has_recipient, "{failed:?}");
    assert_eq!(store.resend(first.id, h.now()).await.unwrap(), Resent::Queued);
    let again = store.claim_mail(h.now(), LEASE).await.unwrap().unwrap();
    assert_eq!((again.recipient.as_str(), again.attempt), ("a@example.org", 1), "the attempts start again");
    store.mail_failed(&again, "down", h.now() + LEASE * 2, true).await.unwrap();
    let [failed] = &store.failed_messages(10).await.unwrap()[..] else { panic!("one message failed") };
    assert_eq!((failed.is_given_up, failed.run_at), (false, h.now() + LEASE * 2));
    assert_eq!(store.resend(first.id, h.now()).await.unwrap(), Resent::Queued, "it need not wait");
    let again = store.claim_mail(h.now(), LEASE).await.unwrap().unwrap();
    store.mail_given_up(&again, "refused", h.now()).await.unwrap();
    h.clock.advance(LEASE);
    assert_eq!(store.forget_recipients(h.now() - LEASE * 2).await.unwrap(), 0);
    assert_eq!(store.forget_recipients(h.now() - LEASE).await.unwrap(), 1);
    assert_eq!(store.resend(first.id, h.now()).await.unwrap(), Resent::NoRecipient);
    assert_eq!(store.resend(RandomTokens.next(), h.now()).await.unwrap(), Resent::Unknown);
}

async fn a_sent_mail_is_never_due_again_and_its_recipient_is_deleted(h: Harness) {
    let store = h.store().await;
    h.add(&store, &["a@example.org"]).await;
    let claim = h.claim(&store, "w").await.unwrap();
    h.complete(&store, &claim).await;
    let mail = store.claim_mail(h.now(), LEASE).await.unwrap().unwrap();
    store.mail_sent(&mail, h.now()).await.unwrap();
    h.clock.advance(LEASE * 100);
    assert!(store.claim_mail(h.now(), LEASE).await.unwrap().is_none());
    assert_eq!(h.count("SELECT COUNT(*) FROM outbox WHERE status = 'sent' AND recipient IS NULL").await, 1);
    assert_eq!(h.count("SELECT COUNT(*) FROM jobs WHERE recipients IS NOT NULL").await, 0);
}

async fn a_recipient_given_twice_gets_one_mail(h: Harness) {
    let store = h.store().await;
    h.add(&store, &["a@example.org", "a@example.org"]).await;
    let claim = h.claim(&store, "w").await.unwrap();
    h.complete(&store, &claim).await;
    assert_eq!(h.count("SELECT COUNT(*) FROM outbox").await, 1);
}

async fn a_late_failure_of_a_mail_does_not_undo_a_later_success(h: Harness) {
    let store = h.store().await;
    h.add(&store, &["a@example.org"]).await;
    let claim = h.claim(&store, "w").await.unwrap();
    h.complete(&store, &claim).await;
    let first = store.claim_mail(h.now(), LEASE).await.unwrap().unwrap();
    h.clock.advance(LEASE);
    let second = store.claim_mail(h.now(), LEASE).await.unwrap().unwrap();
    store.mail_failed(&first, "slow", h.now(), true).await.unwrap();
    store.mail_given_up(&first, "slow", h.now()).await.unwrap();
    assert!(store.claim_mail(h.now(), LEASE).await.unwrap().is_none());
    store.mail_sent(&second, h.now()).await.unwrap();
    assert_eq!(h.count("SELECT COUNT(*) FROM outbox WHERE status = 'sent'").await, 1);
}

/// Adds a job whose recipient must confirm, and returns its token.
async fn add_unconfirmed(h: &Harness, store: &Store) -> Uuid {
    let token = RandomTokens.next();
    let origin = Origin { consent: Some("ann".to_owned()), ..Origin::default() };
    store.enqueue(&NewJob { origin, ..new_job(token, &["ann@example.org"]) }, h.now()).await.unwrap();
    token
}

async fn a_mail_waits_for_the_consent_of_its_recipient(h: Harness) {
    let store = h.store().await;
    let token = add_unconfirmed(&h, &store).await;
    let asked = store.claim_mail(h.now(), LEASE).await.unwrap().unwrap();
    assert_eq!((asked.kind, asked.token, asked.recipient.as_str()), (MailKind::Confirm, token, "ann@example.org"));
    store.mail_sent(&asked, h.now()).await.unwrap();
    let claim = h.claim(&store, "a").await.unwrap();
    h.complete(&store, &claim).await;
    assert!(store.claim_mail(h.now(), LEASE).await.unwrap().is_none());
    store.confirm_recipient("bob", h.now()).await.unwrap();
    assert!(store.claim_mail(h.now(), LEASE).await.unwrap().is_none(), "another person has confirmed");
    store.confirm_recipient("ann", h.now()).await.unwrap();
    let report = store.claim_mail(h.now(), LEASE).await.unwrap().unwrap();
    assert_eq!((report.kind, report.recipient.as_str()), (MailKind::Report, "ann@example.org"));
    add_unconfirmed(&h, &store).await;
    assert!(store.claim_mail(h.now(), LEASE).await.unwrap().is_none(), "who has confirmed is not asked again");
}

async fn a_mail_without_consent_is_dropped_in_the_end(h: Harness) {
    let store = h.store().await;
    add_unconfirmed(&h, &store).await;
    let claim = h.claim(&store, "a").await.unwrap();
    h.complete(&store, &claim).await;
    assert_eq!(store.forget_unconfirmed(h.now() - Duration::from_secs(1)).await.unwrap(), 0);
    assert_eq!(store.forget_unconfirmed(h.now()).await.unwrap(), 2, "the report and the question");
    assert_eq!(h.count("SELECT COUNT(*) FROM outbox WHERE kind = 'report' AND recipient IS NULL").await, 1);
    assert_eq!(h.count("SELECT COUNT(*) FROM mail_consents").await, 0);
}

async fn nothing_is_sent_to_a_recipient_who_has_withdrawn_until_the_next_confirmation(h: Harness) {
    let store = h.store().await;
    add_unconfirmed(&h, &store).await;
    store.confirm_recipient("ann", h.now()).await.unwrap();
    let claim = h.claim(&store, "a").await.unwrap();
    h.complete(&store, &claim).await;
    assert!(!store.has_withdrawn("ann").await.unwrap());
    // The question and the report wait.
    for _ in 0..2 {
        store.withdraw_recipient("ann", h.now()).await.unwrap();
        assert!(store.has_withdrawn("ann").await.unwrap() && !store.has_withdrawn("bob").await.unwrap());
        assert_eq!(h.count("SELECT COUNT(*) FROM outbox WHERE status = 'dead' AND recipient IS NULL").await, 2);
    }
    h.clock.advance(Duration::from_secs(48 * 3600));
    add_unconfirmed(&h, &store).await;
    let claim = h.claim(&store, "a").await.unwrap();
    h.complete(&store, &claim).await;
    assert!(store.claim_mail(h.now(), LEASE).await.unwrap().is_none(), "neither a question nor a report");
    // The withdrawal outlives the mails.
    assert_eq!(store.forget_unconfirmed(h.now()).await.unwrap(), 1);
    assert!(store.has_withdrawn("ann").await.unwrap());
    store.confirm_recipient("ann", h.now()).await.unwrap();
    assert!(!store.has_withdrawn("ann").await.unwrap());
    add_unconfirmed(&h, &store).await;
    let claim = h.claim(&store, "a").await.unwrap();
    h.complete(&store, &claim).await;
    let report = store.claim_mail(h.now(), LEASE).await.unwrap().unwrap();
    assert_eq!((report.kind, report.consent.as_deref()), (MailKind::Report, Some("ann")));
}

async fn a_recipient_is_asked_again_only_after_hours(h: Harness) {
    let store = h.store().await;
    for (after_h, asked) in [(0, 1), (5, 1), (1, 2)] {
        h.clock.advance(Duration::from_secs(after_h * 3600));
        add_unconfirmed(&h, &store).await;
        assert_eq!(h.count("SELECT COUNT(*) FROM outbox WHERE kind = 'confirm'").await, asked);
    }
}

async fn ten_stores_can_start_at_the_same_time(h: Harness) {
    let mut database = h.database.clone();
    database.max_connections = 2;
    let opening: Vec<_> = (0..10)
        .map(|_| {
            let database = database.clone();
            tokio::spawn(async move { Store::open(&database).await.map(|_| ()) })
        })
        .collect();
    for opened in opening {
        opened.await.unwrap().unwrap();
    }
    let store = h.store().await;
    h.add(&store, &[]).await;
    assert!(h.claim(&store, "w").await.is_some());
}

async fn tables_of_a_newer_version_are_refused(mut h: Harness) {
    drop(h.store().await);
    let pool = AnyPool::connect(h.database.url.expose()).await.unwrap();
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         SELECT 9999, description, success, checksum, execution_time FROM _sqlx_migrations WHERE version = 1",
    )
    .execute(&pool)
    .await
    .unwrap();
    pool.close().await;
    for migrate in [true, false] {
        h.database.migrate = migrate;
        let refused = Store::open(&h.database).await.err().unwrap();
        assert!(matches!(refused, StoreError::NewerTables(9999)), "{refused}");
        assert!(refused.to_string().contains("a newer version of visage"), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_does_not_wait_for_ever_for_a_lock() {
    let h = Harness::postgres().await;
    drop(h.store().await);
    let mut other = sqlx::PgConnection::connect(h.database.url.expose()).await.unwrap();
    let mut held = other.begin().await.unwrap();
    sqlx::query("LOCK TABLE _sqlx_migrations IN ACCESS EXCLUSIVE MODE").execute(&mut *held).await.unwrap();
    let refused = tokio::time::timeout(Duration::from_secs(60), Store::open(&h.database)).await;
    assert!(matches!(refused.unwrap().err(), Some(StoreError::Locked)));
    held.rollback().await.unwrap();
    Store::open(&h.database).await.unwrap();
}

async fn old_tables_are_refused_if_migration_is_off(h: Harness) {
    let mut fixed = h.database.clone();
    fixed.migrate = false;
    assert!(matches!(Store::open(&fixed).await, Err(StoreError::OldTables)));
    let store = h.store().await;
    Store::open(&fixed).await.unwrap().ping().await.unwrap();
    drop(store);
    // Restore the state of a program that is one migration older.
    let pool = AnyPool::connect(h.database.url.expose()).await.unwrap();
    sqlx::query("DELETE FROM _sqlx_migrations WHERE version = 3").execute(&pool).await.unwrap();
    pool.close().await;
    assert!(matches!(Store::open(&fixed).await, Err(StoreError::OldTables)));
}

impl Harness {
    /// Adds a job of this cost.
    async fn add_costing(&self, store: &Store, cost: Option<u64>) -> Uuid {
        let token = RandomTokens.next();
        let origin = Origin { cost, client: Some("ann".to_owned()), ..Origin::default() };
        store.enqueue(&NewJob { origin, ..new_job(token, &[]) }, self.now()).await.unwrap();
        token
    }

    /// Returns the number of jobs before this one and the estimated seconds until it starts, as a new process sees
    /// them.
    async fn place(&self, token: Uuid) -> Option<(u64, Option<f64>)> {
        let store = self.store().await;
        let job = store.job(token).await.unwrap().unwrap();
        let place = store.queue_place(&job, self.now()).await?;
        store.close().await;
        Some((place.ahead, place.starts_in.map(|time| time.as_secs_f64())))
    }
}

async fn the_place_in_the_queue_follows_the_order_of_claims(h: Harness) {
    let store = h.store().await;
    let mut tokens = Vec::new();
    for cost in [Some(10), Some(20), None, Some(30)] {
        tokens.push(h.add_costing(&store, cost).await);
        h.clock.advance(Duration::from_secs(1));
    }
    for (ahead, token) in (0..).zip(&tokens) {
        assert_eq!(h.place(*token).await, Some((ahead, None)), "nothing was measured yet");
    }
    let first = h.claim(&store, "w").await.unwrap();
    h.clock.advance(Duration::from_secs(5));
    h.complete(&store, &first).await;
    assert_eq!(h.place(tokens[1]).await, Some((0, None)), "no worker is alive");

    store.worker_seen("w", 1, h.now()).await.unwrap();
    assert_eq!(h.place(tokens[1]).await, Some((0, Some(0.0))), "a place is free");
    let second = h.claim(&store, "w").await.unwrap();
    let half = JobProgress { frames_done: 5, frames_total: 10 };
    store.heartbeat(&second, half, h.now(), LEASE).await.unwrap();
    assert_eq!(h.place(tokens[0]).await, None, "it is done");
    assert_eq!(h.place(tokens[1]).await, None, "it is running");
    // 5 s for a cost of 10; 10 are left of the running job, and the job of unknown cost counts as 10.
    assert_eq!(h.place(tokens[2]).await, Some((0, Some(5.0))));
    assert_eq!(h.place(tokens[3]).await, Some((1, Some(10.0))));
    store.worker_seen("v", 1, h.now()).await.unwrap();
    assert_eq!(h.place(tokens[3]).await, Some((1, Some(5.0))), "two workers share the work");

    let due = h.now() + Duration::from_secs(60);
    assert_eq!(store.retry(&second, due).await.unwrap(), ClaimState::Held);
    assert_eq!(h.place(tokens[3]).await, Some((1, Some(0.0))));
    assert_eq!(h.place(tokens[1]).await, Some((2, Some(60.0))), "a job that runs again later waits for its time");
    let order: Vec<_> = [h.claim(&store, "w").await, h.claim(&store, "w").await].into_iter().flatten().collect();
    assert_eq!(order.iter().map(|claim| claim.token).collect::<Vec<_>>(), [tokens[2], tokens[3]]);
}

impl Harness {
    /// Adds jobs of this sender, cost and priority. Each is known by `name` and its number.
    async fn send(&self, store: &Store, sender: &str, jobs: usize, cost: u64, priority: Priority) {
        for _ in 0..jobs {
            let origin = Origin {
                cost: Some(cost),
                client: Some(sender.to_owned()),
                request_id: Some(sender.to_owned()),
                ..Origin::default()
            };
            let job = NewJob { origin, priority, ..new_job(RandomTokens.next(), &[]) };
            store.enqueue(&job, self.now()).await.unwrap();
        }
    }

    /// Claims this many jobs, and returns the first letters of their senders in the order of the claims.
    async fn served(&self, store: &Store, jobs: usize) -> String {
        let mut senders = String::new();
        for _ in 0..jobs {
            let Some(claim) = self.claim(store, "w").await else { break };
            senders.push_str(&claim.request_id.unwrap()[..1]);
        }
        senders
    }
}

async fn a_sender_with_many_jobs_holds_up_others_by_one_job_a_turn(h: Harness) {
    let store = h.store().await;
    h.send(&store, "ann", 200, 100, Priority::Normal).await;
    assert_eq!(h.served(&store, 5).await, "aaaaa");
    h.send(&store, "bob", 3, 100, Priority::Normal).await;
    h.send(&store, "cora", 2, 100, Priority::Normal).await;
    assert_eq!(h.served(&store, 10).await, "abcabcabaa");
    // Who has had nothing for a while gets no more than a fair share afterwards.
    h.send(&store, "cora", 4, 100, Priority::Normal).await;
    assert_eq!(h.served(&store, 9).await, "acacacaca");
    // A sender whose next video comes only when the last one runs gets its turn, too.
    for _ in 0..3 {
        h.send(&store, "dan", 1, 100, Priority::Normal).await;
        assert_eq!(h.served(&store, 2).await, "ad");
    }
    while h.claim(&store, "w").await.is_some() {}
    h.send(&store, "ann", 2, 100, Priority::Normal).await;
    h.send(&store, "bob", 2, 100, Priority::Normal).await;
    assert_eq!(h.served(&store, 5).await, "abab", "an empty queue forgets the past");
}

async fn of_the_jobs_of_a_turn_the_short_ones_go_first(h: Harness) {
    let store = h.store().await;
    h.send(&store, "long", 2, 100_000, Priority::Normal).await;
    h.send(&store, "middle", 2, 1_000, Priority::Normal).await;
    h.send(&store, "short", 3, 10, Priority::Normal).await;
    // Others wait for one long job a turn, and it waits for one of theirs.
    assert_eq!(h.served(&store, 9).await, "smlsmls");
    // Lengths that differ by less than a factor of 2 are alike: the older job goes first.
    h.send(&store, "older", 1, 127, Priority::Normal).await;
    h.send(&store, "newer", 1, 64, Priority::Normal).await;
    assert_eq!(h.served(&store, 2).await, "on");
}

async fn urgent_jobs_go_before_all_others_and_unimportant_ones_last(h: Harness) {
    let store = h.store().await;
    h.send(&store, "low", 2, 1, Priority::Low).await;
    h.send(&store, "normal", 3, 10, Priority::Normal).await;
    assert_eq!(h.served(&store, 1).await, "n");
    h.send(&store, "high", 2, 1_000, Priority::High).await;
    h.send(&store, "urgent", 1, 1_000, Priority::High).await;
    assert_eq!(h.served(&store, 9).await, "huhnnll");
    let token = RandomTokens.next();
    store.enqueue(&NewJob { priority: Priority::Low, ..new_job(token, &[]) }, h.now()).await.unwrap();
    assert_eq!(store.job(token).await.unwrap().unwrap().priority, Priority::Low);
}

async fn a_job_that_runs_again_keeps_its_turn(h: Harness) {
    let store = h.store().await;
    h.send(&store, "ann", 1, 100, Priority::Normal).await;
    let failed = h.claim(&store, "w").await.unwrap();
    let due = h.now() + Duration::from_secs(60);
    assert_eq!(store.set_back(&failed, due).await.unwrap(), ClaimState::Held);
    h.send(&store, "bob", 40, 100, Priority::Normal).await;
    assert_eq!(h.served(&store, 20).await, "b".repeat(20));
    // Jobs that are not due count for nobody's turn: cora comes in at that of bob's next job.
    h.send(&store, "cora", 2, 100, Priority::Normal).await;
    assert_eq!(h.served(&store, 4).await, "bcbc");
    h.clock.advance(Duration::from_secs(60));
    assert_eq!(h.served(&store, 3).await, "abb");
}

async fn jobs_of_an_earlier_version_go_first(h: Harness) {
    let store = h.store().await;
    h.send(&store, "ann", 2, 100, Priority::Normal).await;
    h.send(&store, "old", 1, 100, Priority::Low).await;
    let pool = AnyPool::connect(h.database.url.expose()).await.unwrap();
    sqlx::query("UPDATE jobs SET rank = 0 WHERE request_id = 'old'").execute(&pool).await.unwrap();
    pool.close().await;
    assert_eq!(h.served(&store, 3).await, "oaa");
}

async fn the_place_in_a_long_queue_is_rounded_down(h: Harness) {
    let store = h.store().await;
    let mut tokens = Vec::new();
    for _ in 0..1250 {
        tokens.push(h.add_costing(&store, Some(1)).await);
    }
    for (at, ahead) in [(0, 0), (999, 999), (1000, 1000), (1001, 1000), (1234, 1200), (1249, 1200)] {
        assert_eq!(h.place(tokens[at]).await, Some((ahead, None)), "{at}");
    }
}

async fn a_reading_of_the_queue_serves_for_some_seconds(h: Harness) {
    let store = h.store().await;
    let ahead = async |token| {
        let job = store.job(token).await.unwrap().unwrap();
        store.queue_place(&job, h.now()).await.map(|place| place.ahead)
    };
    let first = h.add(&store, &[]).await;
    assert_eq!(ahead(first).await, Some(0));
    let second = h.add(&store, &[]).await;
    assert_eq!(ahead(second).await, None, "newer than the reading");
    assert_eq!(ahead(first).await, Some(0));
    // Longer if the reading was slow.
    let waited = async {
        while ahead(second).await.is_none() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waited).await.expect("the queue is not read again");
    assert_eq!(ahead(second).await, Some(1));
}

async fn one_process_at_a_time_looks_for_lost_jobs(h: Harness) {
    let (one, other, every) = (h.store().await, h.store().await, Duration::from_secs(10));
    assert!(one.takes_turn_at_lost_jobs(h.now(), every).await.unwrap());
    assert!(!other.takes_turn_at_lost_jobs(h.now(), every).await.unwrap());
    h.clock.advance(Duration::from_secs(9));
    assert!(!one.takes_turn_at_lost_jobs(h.now(), every).await.unwrap());
    h.clock.advance(Duration::from_secs(1));
    assert!(other.takes_turn_at_lost_jobs(h.now(), every).await.unwrap());
    assert!(!one.takes_turn_at_lost_jobs(h.now(), every).await.unwrap());
    // A process whose clock was an hour ahead does not keep the others from looking.
    let ahead = h.now().saturating_add(Duration::from_secs(3600)).unwrap();
    assert!(other.takes_turn_at_lost_jobs(ahead, every).await.unwrap());
    assert!(one.takes_turn_at_lost_jobs(h.now(), every).await.unwrap());
}

async fn the_queue_reports_its_length(h: Harness) {
    let store = h.store().await;
    assert_eq!(store.queue_depth().await.unwrap(), (0, 0));
    for _ in 0..3 {
        h.add(&store, &[]).await;
    }
    let claim = h.claim(&store, "w").await.unwrap();
    assert_eq!(store.queue_depth().await.unwrap(), (2, 1));
    h.complete(&store, &claim).await;
    assert_eq!(store.queue_depth().await.unwrap(), (2, 0));
}

/// On Postgres, this includes waiters in another process.
async fn a_change_wakes_all_waiters(h: Harness) {
    const LONG: Duration = Duration::from_secs(60);
    let here = h.store().await;
    let waiting = if h.on_postgres { h.store().await } else { here.clone() };
    let (mut work, mut job, mut mail) = (waiting.subscribe(), waiting.subscribe(), waiting.subscribe());

    let token = h.add(&here, &["a@example.org"]).await;
    assert!(work.wait(Wake::Work, LONG).await);
    let claim = h.claim(&here, "w").await.unwrap();
    assert!(job.wait(Wake::Job(token), LONG).await);
    assert_eq!(waiting.job(token).await.unwrap().unwrap().status, Status::Running);
    h.complete(&here, &claim).await;
    assert!(mail.wait(Wake::Mail, LONG).await);
    assert!(job.wait(Wake::Job(token), LONG).await);
    assert_eq!(waiting.job(token).await.unwrap().unwrap().status, Status::Done);
    here.erase(token, h.clock.now()).await.unwrap();
    assert!(job.wait(Wake::Job(token), LONG).await);
    assert!(waiting.job(token).await.unwrap().is_none());
}
