//! Both blob stores, by one suite.

use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::{Timestamp, ToSpan};
use tempfile::TempDir;
use visage::blob::{self, BlobError, BlobStore};
use visage::clock::{Clock, SystemClock};
use visage::config::{S3Read, Secret, Settings, Storage, StorageKind};
use visage::media::Source;

use crate::support::s3::S3Server;

/// A store and a look behind it.
struct Place {
    store: Arc<dyn BlobStore>,
    behind: Behind,
}

enum Behind {
    Folder(TempDir),
    S3(S3Server),
}

impl Place {
    async fn folder() -> Self {
        let folder = TempDir::new().unwrap();
        let defaults = Settings::defaults().unwrap().storage;
        let storage = Storage { folder: folder.path().join("videos"), ..defaults };
        Self { store: blob::open(&storage, Arc::new(SystemClock)).await.unwrap(), behind: Behind::Folder(folder) }
    }

    async fn s3() -> Self {
        let server = S3Server::start().await;
        let storage = Storage { kind: StorageKind::S3, s3: server.settings(), ..Settings::defaults().unwrap().storage };
        Self { store: blob::open(&storage, Arc::new(SystemClock)).await.unwrap(), behind: Behind::S3(server) }
    }

    /// Everything that lies there, unfinished uploads included.
    fn count(&self) -> usize {
        match &self.behind {
            Behind::Folder(folder) => files(folder.path()).len(),
            Behind::S3(server) => server.objects().len() + server.open_uploads(),
        }
    }

    /// Waits until only `left` things lie there: what a drop leaves to the background takes a moment.
    async fn settles_at(&self, left: usize) {
        for _ in 0..500 {
            if self.count() == left {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} things lie there instead of {left}", self.count());
    }

    async fn put(&self, key: &str, bytes: &Bytes) -> u64 {
        let mut upload = self.store.begin(key).await.unwrap();
        // In pieces that fit no part size.
        for piece in bytes.chunks(700_001) {
            upload.write(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        upload.finish().await.unwrap()
    }

    async fn get(&self, key: &str) -> Result<Vec<u8>, BlobError> {
        let folder = TempDir::new().unwrap();
        let copied = self.store.fetch(key, &folder.path().join("copy")).await?;
        let bytes = std::fs::read(folder.path().join("copy")).unwrap();
        assert_eq!(copied, bytes.len() as u64);
        Ok(bytes)
    }
}

fn files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

/// Bytes that repeat nowhere, so that swapped parts would show.
fn noise(length: usize) -> Bytes {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

fn soon() -> Timestamp {
    SystemClock.now() + 1.hour()
}

/// The same tests on each store.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod folder {
            $(#[tokio::test] async fn $name() { super::$name(super::Place::folder().await).await; })+
        }
        mod s3 {
            $(#[tokio::test] async fn $name() { super::$name(super::Place::s3().await).await; })+
        }
    };
}

on_both!(
    a_blob_comes_back_as_it_went_in,
    a_blob_of_many_parts_comes_back_as_it_went_in,
    an_empty_blob_is_a_blob,
    a_blob_is_there_only_when_it_is_finished,
    an_aborted_upload_leaves_nothing,
    a_dropped_upload_leaves_nothing,
    writing_a_key_again_replaces_it,
    deleting_twice_is_no_error,
    what_is_not_there_is_not_found,
    keys_that_lead_outside_are_refused,
    older_blobs_are_listed_and_younger_are_not,
    abandoned_uploads_are_ended_and_finished_ones_stay,
    the_decoder_gets_an_address_that_it_can_read,
    a_place_that_works_passes_the_check_and_stays_clean,
);

async fn a_blob_comes_back_as_it_went_in(place: Place) {
    let bytes = noise(100_000);
    assert_eq!(place.put("videos/one", &bytes).await, 100_000);
    assert_eq!(place.get("videos/one").await.unwrap(), bytes);
}

async fn a_blob_of_many_parts_comes_back_as_it_went_in(place: Place) {
    // Two whole parts, and one that ends exactly with a part.
    for length in [(16 << 20) + 12_345, 16 << 20] {
        let bytes = noise(length);
        assert_eq!(place.put("big", &bytes).await, length as u64);
        assert!(place.get("big").await.unwrap() == bytes, "{length} bytes came back changed");
    }
    place.settles_at(1).await;
}

async fn an_empty_blob_is_a_blob(place: Place) {
    assert_eq!(place.put("empty", &Bytes::new()).await, 0);
    assert_eq!(place.get("empty").await.unwrap(), b"");
}

async fn a_blob_is_there_only_when_it_is_finished(place: Place) {
    let mut upload = place.store.begin("late").await.unwrap();
    upload.write(noise(9 << 20)).await.unwrap();
    assert!(matches!(place.get("late").await, Err(BlobError::NotFound)));
    assert_eq!(place.store.list_older(soon(), 10).await.unwrap(), []);
    upload.finish().await.unwrap();
    assert_eq!(place.get("late").await.unwrap().len(), 9 << 20);
}

async fn an_aborted_upload_leaves_nothing(place: Place) {
    for length in [10, 9 << 20] {
        let mut upload = place.store.begin("gone").await.unwrap();
        upload.write(noise(length)).await.unwrap();
        upload.abort().await.unwrap();
        assert_eq!(place.count(), 0, "after {length} bytes");
    }
}

async fn a_dropped_upload_leaves_nothing(place: Place) {
    for length in [10, 9 << 20] {
        let mut upload = place.store.begin("gone").await.unwrap();
        upload.write(noise(length)).await.unwrap();
        drop(upload);
        place.settles_at(0).await;
    }
}

async fn writing_a_key_again_replaces_it(place: Place) {
    place.put("same", &noise(5_000)).await;
    place.put("same", &Bytes::from_static(b"new")).await;
    assert_eq!(place.get("same").await.unwrap(), b"new");
    place.settles_at(1).await;
}

async fn deleting_twice_is_no_error(place: Place) {
    place.put("a/b", &noise(10)).await;
    place.store.delete("a/b").await.unwrap();
    place.store.delete("a/b").await.unwrap();
    assert_eq!(place.count(), 0);
}

async fn what_is_not_there_is_not_found(place: Place) {
    let error = place.get("nothing").await.unwrap_err();
    assert!(matches!(error, BlobError::NotFound), "{error}");
}

async fn keys_that_lead_outside_are_refused(place: Place) {
    for key in ["../x", "/etc/x", "a/../../x", "A", ".hidden", ""] {
        assert!(matches!(place.store.begin(key).await, Err(BlobError::BadKey(_))), "begin {key}");
        assert!(matches!(place.store.source(key).await, Err(BlobError::BadKey(_))), "source {key}");
        assert!(matches!(place.get(key).await, Err(BlobError::BadKey(_))), "fetch {key}");
        assert!(matches!(place.store.delete(key).await, Err(BlobError::BadKey(_))), "delete {key}");
    }
}

async fn older_blobs_are_listed_and_younger_are_not(place: Place) {
    if let Behind::S3(server) = &place.behind {
        server.put_foreign("elsewhere/report");
        server.put_foreign("visage/Not Ours");
    }
    for name in ["x/a", "x/b", "x/c", "d", "e"] {
        place.put(name, &noise(7)).await;
    }
    let mut found = place.store.list_older(soon(), 100).await.unwrap();
    found.sort_by(|one, other| one.key.cmp(&other.key));
    let keys: Vec<_> = found.iter().map(|blob| blob.key.as_str()).collect();
    assert_eq!(keys, ["d", "e", "x/a", "x/b", "x/c"]);
    assert!(found.iter().all(|blob| blob.size_bytes == 7));
    assert_eq!(place.store.list_older(soon(), 3).await.unwrap().len(), 3);
    assert_eq!(place.store.list_older(SystemClock.now() - 1.hour(), 100).await.unwrap(), []);
}

async fn abandoned_uploads_are_ended_and_finished_ones_stay(place: Place) {
    place.put("whole", &noise(10)).await;
    let mut uploads = Vec::new();
    for name in ["one", "two", "three", "four", "five"] {
        let mut upload = place.store.begin(name).await.unwrap();
        upload.write(noise(8 << 20)).await.unwrap();
        uploads.push(upload);
    }
    // As a killed process leaves them: nothing runs when they go.
    for upload in uploads {
        std::mem::forget(upload);
    }
    assert_eq!(
        place.store.abort_abandoned(SystemClock.now() - 1.hour(), &HashSet::new()).await.unwrap(),
        0,
        "they are young"
    );
    // Parts of this one may still come.
    let kept = HashSet::from(["three".to_owned()]);
    assert_eq!(place.store.abort_abandoned(soon(), &kept).await.unwrap(), 4);
    assert_eq!(place.store.abort_abandoned(soon(), &HashSet::new()).await.unwrap(), 1);
    assert_eq!(place.count(), 1);
    assert_eq!(place.get("whole").await.unwrap().len(), 10);
}

async fn the_decoder_gets_an_address_that_it_can_read(place: Place) {
    let bytes = noise(50_000);
    place.put("clip", &bytes).await;
    match place.store.source("clip").await.unwrap() {
        Source::File(path) => {
            assert!(path.is_absolute());
            assert_eq!(std::fs::read(path).unwrap(), bytes);
        }
        Source::Url(url) => {
            let part = crate::support::http().get(&url).header("range", "bytes=100-199").send().await.unwrap();
            assert_eq!(part.status(), 206);
            assert_eq!(part.bytes().await.unwrap(), bytes[100..200]);
            let other = url.replace("/clip", "/clap");
            assert_eq!(
                crate::support::http().get(other).send().await.unwrap().status(),
                403,
                "the signature is for one object"
            );
        }
    }
}

async fn a_place_that_works_passes_the_check_and_stays_clean(place: Place) {
    place.store.check().await.unwrap();
    assert_eq!(place.count(), 0);
}

#[tokio::test]
async fn files_are_for_their_owner_alone() {
    let place = Place::folder().await;
    let Behind::Folder(folder) = &place.behind else { unreachable!() };
    place.put("deep/in/face", &noise(10)).await;
    let mode = |path: &str| std::fs::metadata(folder.path().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("videos/deep/in/face"), 0o600);
    assert_eq!([mode("videos"), mode("videos/deep"), mode("videos/deep/in")], [0o700; 3]);
}

#[tokio::test]
async fn a_folder_that_went_away_fails_the_check() {
    let place = Place::folder().await;
    let Behind::Folder(folder) = &place.behind else { unreachable!() };
    std::fs::remove_dir(folder.path().join("videos")).unwrap();
    std::fs::write(folder.path().join("videos"), b"a file in its place").unwrap();
    place.store.check().await.unwrap_err();
}

#[tokio::test]
async fn uploads_of_others_in_the_bucket_are_left_alone() {
    let place = Place::s3().await;
    let Behind::S3(server) = &place.behind else { unreachable!() };
    server.begin_foreign("elsewhere/film");
    assert_eq!(place.store.abort_abandoned(soon(), &HashSet::new()).await.unwrap(), 0);
    assert_eq!(server.open_uploads(), 1);
}

#[tokio::test]
async fn a_wrong_secret_is_an_error_that_does_not_hold_it() {
    let server = S3Server::start().await;
    let settings =
        visage::config::S3 { secret_key: Secret::new("wrong-secret"), read: S3Read::Stream, ..server.settings() };
    let storage = Storage { kind: StorageKind::S3, s3: settings, ..Settings::defaults().unwrap().storage };
    let store = blob::open(&storage, Arc::new(SystemClock)).await.unwrap();
    let error = store.check().await.unwrap_err().to_string();
    assert!(error.starts_with("storage: put: SignatureDoesNotMatch"), "{error}");
    assert!(!error.contains("wrong-secret"), "{error}");
}
