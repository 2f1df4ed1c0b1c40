//! Tests of both blob stores.

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

/// A store and its backend.
struct TestStore {
    store: Arc<dyn BlobStore>,
    backend: Backend,
}

enum Backend {
    Folder(TempDir),
    S3(S3Server),
}

impl TestStore {
    async fn folder() -> Self {
        let folder = TempDir::new().unwrap();
        let defaults = Settings::defaults().unwrap().storage;
        let storage = Storage { folder: folder.path().join("videos"), ..defaults };
        Self { store: blob::open(&storage, Arc::new(SystemClock)).await.unwrap(), backend: Backend::Folder(folder) }
    }

    async fn s3() -> Self {
        let server = S3Server::start().await;
        let storage = Storage { kind: StorageKind::S3, s3: server.settings(), ..Settings::defaults().unwrap().storage };
        Self { store: blob::open(&storage, Arc::new(SystemClock)).await.unwrap(), backend: Backend::S3(server) }
    }

    /// Counts files or objects, including unfinished uploads.
    fn count(&self) -> usize {
        match &self.backend {
            Backend::Folder(folder) => files(folder.path()).len(),
            Backend::S3(server) => server.objects().len() + server.open_uploads(),
        }
    }

    /// Waits until `left` files or objects are left. A dropped upload is removed in the background.
    async fn settles_at(&self, left: usize) {
        for _ in 0..500 {
            if self.count() == left {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} files or objects instead of {left}", self.count());
    }

    async fn put(&self, key: &str, bytes: &Bytes) -> u64 {
        let mut upload = self.store.begin(key).await.unwrap();
        // The pieces do not match the part size.
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

/// Returns bytes without repetition, so that swapped parts are detected.
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

/// Runs each test on both stores.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod folder {
            $(#[tokio::test] async fn $name() { super::$name(super::TestStore::folder().await).await; })+
        }
        mod s3 {
            $(#[tokio::test] async fn $name() { super::$name(super::TestStore::s3().await).await; })+
        }
    };
}

on_both!(
    a_blob_is_read_back_unchanged,
    a_blob_of_many_parts_is_read_back_unchanged,
    an_empty_blob_can_be_stored,
    a_blob_exists_only_after_it_is_finished,
    an_aborted_upload_leaves_nothing,
    a_dropped_upload_leaves_nothing,
    writing_a_key_again_replaces_it,
    deleting_twice_is_not_an_error,
    a_missing_blob_is_not_found,
    keys_that_point_outside_the_store_are_refused,
    only_older_blobs_are_listed,
    abandoned_uploads_are_aborted_and_finished_ones_stay,
    the_source_of_a_blob_can_be_read,
    a_working_store_passes_the_check_and_keeps_no_files_of_it,
);

async fn a_blob_is_read_back_unchanged(fixture: TestStore) {
    let bytes = noise(100_000);
    assert_eq!(fixture.put("videos/one", &bytes).await, 100_000);
    assert_eq!(fixture.get("videos/one").await.unwrap(), bytes);
}

async fn a_blob_of_many_parts_is_read_back_unchanged(fixture: TestStore) {
    // One length needs a partial last part, the other ends exactly at the end of a part.
    for length in [(16 << 20) + 12_345, 16 << 20] {
        let bytes = noise(length);
        assert_eq!(fixture.put("big", &bytes).await, length as u64);
        assert!(fixture.get("big").await.unwrap() == bytes, "{length} bytes were changed");
    }
    fixture.settles_at(1).await;
}

async fn an_empty_blob_can_be_stored(fixture: TestStore) {
    assert_eq!(fixture.put("empty", &Bytes::new()).await, 0);
    assert_eq!(fixture.get("empty").await.unwrap(), b"");
}

async fn a_blob_exists_only_after_it_is_finished(fixture: TestStore) {
    let mut upload = fixture.store.begin("late").await.unwrap();
    upload.write(noise(9 << 20)).await.unwrap();
    assert!(matches!(fixture.get("late").await, Err(BlobError::NotFound)));
    assert_eq!(fixture.store.list_older(soon(), 10).await.unwrap(), []);
    upload.finish().await.unwrap();
    assert_eq!(fixture.get("late").await.unwrap().len(), 9 << 20);
}

async fn an_aborted_upload_leaves_nothing(fixture: TestStore) {
    for length in [10, 9 << 20] {
        let mut upload = fixture.store.begin("gone").await.unwrap();
        upload.write(noise(length)).await.unwrap();
        upload.abort().await.unwrap();
        assert_eq!(fixture.count(), 0, "after {length} bytes");
    }
}

async fn a_dropped_upload_leaves_nothing(fixture: TestStore) {
    for length in [10, 9 << 20] {
        let mut upload = fixture.store.begin("gone").await.unwrap();
        upload.write(noise(length)).await.unwrap();
        drop(upload);
        fixture.settles_at(0).await;
    }
}

async fn writing_a_key_again_replaces_it(fixture: TestStore) {
    fixture.put("same", &noise(5_000)).await;
    fixture.put("same", &Bytes::from_static(b"new")).await;
    assert_eq!(fixture.get("same").await.unwrap(), b"new");
    fixture.settles_at(1).await;
}

async fn deleting_twice_is_not_an_error(fixture: TestStore) {
    fixture.put("a/b", &noise(10)).await;
    fixture.store.delete("a/b").await.unwrap();
    fixture.store.delete("a/b").await.unwrap();
    assert_eq!(fixture.count(), 0);
}

async fn a_missing_blob_is_not_found(fixture: TestStore) {
    let error = fixture.get("nothing").await.unwrap_err();
    assert!(matches!(error, BlobError::NotFound), "{error}");
}

async fn keys_that_point_outside_the_store_are_refused(fixture: TestStore) {
    for key in ["../x", "/etc/x", "a/../../x", "A", ".hidden", ""] {
        assert!(matches!(fixture.store.begin(key).await, Err(BlobError::BadKey(_))), "begin {key}");
        assert!(matches!(fixture.store.source(key).await, Err(BlobError::BadKey(_))), "source {key}");
        assert!(matches!(fixture.get(key).await, Err(BlobError::BadKey(_))), "fetch {key}");
        assert!(matches!(fixture.store.delete(key).await, Err(BlobError::BadKey(_))), "delete {key}");
    }
}

async fn only_older_blobs_are_listed(fixture: TestStore) {
    if let Backend::S3(server) = &fixture.backend {
        server.put_foreign("elsewhere/report");
        server.put_foreign("visage/Not Ours");
    }
    for name in ["x/a", "x/b", "x/c", "d", "e"] {
        fixture.put(name, &noise(7)).await;
    }
    let mut found = fixture.store.list_older(soon(), 100).await.unwrap();
    found.sort_by(|one, other| one.key.cmp(&other.key));
    let keys: Vec<_> = found.iter().map(|blob| blob.key.as_str()).collect();
    assert_eq!(keys, ["d", "e", "x/a", "x/b", "x/c"]);
    assert!(found.iter().all(|blob| blob.size_bytes == 7));
    assert_eq!(fixture.store.list_older(soon(), 3).await.unwrap().len(), 3);
    assert_eq!(fixture.store.list_older(SystemClock.now() - 1.hour(), 100).await.unwrap(), []);
}

async fn abandoned_uploads_are_aborted_and_finished_ones_stay(fixture: TestStore) {
    fixture.put("whole", &noise(10)).await;
    let mut uploads = Vec::new();
    for name in ["one", "two", "three", "four", "five"] {
        let mut upload = fixture.store.begin(name).await.unwrap();
        upload.write(noise(8 << 20)).await.unwrap();
        uploads.push(upload);
    }
    // Forget the uploads without running `drop`, as a killed process does.
    for upload in uploads {
        std::mem::forget(upload);
    }
    assert_eq!(
        fixture.store.abort_abandoned(SystemClock.now() - 1.hour(), &HashSet::new()).await.unwrap(),
        0,
        "they are too recent"
    );
    // This upload may still get parts.
    let kept = HashSet::from(["three".to_owned()]);
    assert_eq!(fixture.store.abort_abandoned(soon(), &kept).await.unwrap(), 4);
    assert_eq!(fixture.store.abort_abandoned(soon(), &HashSet::new()).await.unwrap(), 1);
    assert_eq!(fixture.count(), 1);
    assert_eq!(fixture.get("whole").await.unwrap().len(), 10);
}

async fn the_source_of_a_blob_can_be_read(fixture: TestStore) {
    let bytes = noise(50_000);
    fixture.put("clip", &bytes).await;
    match fixture.store.source("clip").await.unwrap() {
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
        Source::Opened(_) => panic!("storage opens no files"),
    }
}

async fn a_working_store_passes_the_check_and_keeps_no_files_of_it(fixture: TestStore) {
    fixture.store.check().await.unwrap();
    assert_eq!(fixture.count(), 0);
}

#[tokio::test]
async fn only_the_owner_can_read_the_files() {
    let fixture = TestStore::folder().await;
    let Backend::Folder(folder) = &fixture.backend else { unreachable!() };
    fixture.put("deep/in/face", &noise(10)).await;
    let mode = |path: &str| std::fs::metadata(folder.path().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("videos/deep/in/face"), 0o600);
    assert_eq!([mode("videos"), mode("videos/deep"), mode("videos/deep/in")], [0o700; 3]);
}

#[tokio::test]
async fn a_removed_folder_fails_the_check() {
    let fixture = TestStore::folder().await;
    let Backend::Folder(folder) = &fixture.backend else { unreachable!() };
    std::fs::remove_dir(folder.path().join("videos")).unwrap();
    std::fs::write(folder.path().join("videos"), b"a file in its place").unwrap();
    fixture.store.check().await.unwrap_err();
}

#[tokio::test]
async fn foreign_uploads_in_the_bucket_are_not_aborted() {
    let fixture = TestStore::s3().await;
    let Backend::S3(server) = &fixture.backend else { unreachable!() };
    server.begin_foreign("elsewhere/film");
    assert_eq!(fixture.store.abort_abandoned(soon(), &HashSet::new()).await.unwrap(), 0);
    assert_eq!(server.open_uploads(), 1);
}

#[tokio::test]
async fn the_error_for_a_wrong_secret_does_not_contain_it() {
    let server = S3Server::start().await;
    let settings =
        visage::config::S3 { secret_key: Secret::new("wrong-secret"), read: S3Read::Stream, ..server.settings() };
    let storage = Storage { kind: StorageKind::S3, s3: settings, ..Settings::defaults().unwrap().storage };
    let store = blob::open(&storage, Arc::new(SystemClock)).await.unwrap();
    let error = store.check().await.unwrap_err().to_string();
    assert!(error.starts_with("storage: put: SignatureDoesNotMatch"), "{error}");
    assert!(!error.contains("wrong-secret"), "{error}");
}
