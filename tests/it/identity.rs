//! Which storage belongs to which database.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use visage::analysis::Options;
use visage::blob::{self, BlobStore};
use visage::clock::{Clock, RandomTokens, SystemClock, Tokens};
use visage::config::{Secret, Settings, Storage, StorageKind};
use visage::identity::{IdentityError, StorageIdentity};
use visage::store::{JobVideo, NewJob, Origin, Priority, Store};

use crate::support::postgres::TestDatabase;
use crate::support::s3::S3Server;

/// Opens a new SQLite database in a folder.
async fn database(folder: &Path) -> Store {
    let mut database = Settings::defaults().unwrap().database;
    database.url = Secret::new(format!("sqlite://{}/visage.db", folder.display()));
    Store::open(&database).await.unwrap()
}

async fn open(storage: &Storage) -> Arc<dyn BlobStore> {
    blob::open(storage, Arc::new(SystemClock)).await.unwrap()
}

async fn folder(path: &Path) -> Arc<dyn BlobStore> {
    open(&Storage { folder: path.to_owned(), ..Settings::defaults().unwrap().storage }).await
}

async fn establish(store: &Store, blobs: &Arc<dyn BlobStore>) -> Result<StorageIdentity, IdentityError> {
    StorageIdentity::establish(store, blobs, &SystemClock, &RandomTokens).await
}

async fn adopt(store: &Store, blobs: &Arc<dyn BlobStore>) -> StorageIdentity {
    StorageIdentity::adopt(store, blobs, &SystemClock, &RandomTokens).await.unwrap()
}

/// Adds a job with its video in the storage.
async fn add(store: &Store, blobs: &Arc<dyn BlobStore>) -> String {
    let token = RandomTokens.next();
    let video_key = format!("videos/{token}");
    let mut upload = blobs.begin(&video_key).await.unwrap();
    upload.write(Bytes::from_static(b"a video")).await.unwrap();
    upload.finish().await.unwrap();
    let options = Options::new(5, 10);
    let job = NewJob {
        token,
        video: JobVideo::Stored(video_key.clone()),
        options,
        recipients: vec![],
        webhook: None,
        origin: Origin::default(),
        notice: None,
        priority: Priority::Normal,
    };
    store.enqueue(&job, SystemClock.now()).await.unwrap();
    video_key
}

/// Checks the rules for two storages of the same kind.
async fn one_storage_belongs_to_one_database(store: &Store, (ours, other): (Arc<dyn BlobStore>, Arc<dyn BlobStore>)) {
    let identity = establish(store, &ours).await.unwrap();
    assert_eq!(establish(store, &ours).await.unwrap(), identity);
    identity.verify(ours.as_ref()).await.unwrap();
    assert!(identity.verify(other.as_ref()).await.is_err());
    assert!(matches!(establish(store, &other).await, Err(IdentityError::Missing { .. })));

    // The storage of another database is refused.
    let home = tempfile::tempdir().unwrap();
    let foreign = database(home.path()).await;
    let theirs = establish(&foreign, &other).await.unwrap();
    let refused = establish(store, &other).await.unwrap_err();
    assert!(matches!(&refused, IdentityError::Other { found, .. } if *found == theirs.id()), "{refused}");
    assert!(refused.to_string().contains("visage storage adopt"), "{refused}");
    // A new database refuses a storage that belongs to another one.
    let home = tempfile::tempdir().unwrap();
    let fresh = database(home.path()).await;
    assert!(matches!(establish(&fresh, &ours).await, Err(IdentityError::OfAnotherDatabase { .. })));

    // After `adopt`, processes with the other database find that their storage has another identity.
    assert_eq!(adopt(store, &other).await, identity);
    assert_eq!(establish(store, &other).await.unwrap(), identity);
    assert!(theirs.verify(other.as_ref()).await.is_err());
    let after_restore = adopt(&fresh, &ours).await;
    assert_ne!(after_restore, identity);
    assert_eq!(establish(&fresh, &ours).await.unwrap(), after_restore);
    assert!(identity.verify(ours.as_ref()).await.is_err());
    // The file with the identity is not listed as a video.
    let later = "9999-01-01T00:00:00Z".parse().unwrap();
    assert_eq!(ours.list_older(later, 100).await.unwrap(), []);
}

#[tokio::test]
async fn a_folder_belongs_to_one_database() {
    let home = tempfile::tempdir().unwrap();
    let store = database(home.path()).await;
    let folders = (folder(&home.path().join("videos")).await, folder(&home.path().join("other")).await);
    one_storage_belongs_to_one_database(&store, folders).await;
}

#[tokio::test]
async fn a_bucket_belongs_to_one_database() {
    let (postgres, server) = (TestDatabase::create().await, S3Server::start().await);
    let mut settings = Settings::defaults().unwrap();
    settings.database.url = Secret::new(postgres.url());
    let store = Store::open(&settings.database).await.unwrap();
    let mut storage = Storage { kind: StorageKind::S3, s3: server.settings(), ..settings.storage };
    let ours = open(&storage).await;
    storage.s3.prefix = "other".to_owned();
    let other = open(&storage).await;
    one_storage_belongs_to_one_database(&store, (ours, other)).await;
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_with_another_folder_refuse_when_several_start_at_once() {
    let home = tempfile::tempdir().unwrap();
    let store = database(home.path()).await;
    let starts: Vec<_> = (0..8)
        .map(|number| {
            let (store, path) = (store.clone(), home.path().join(if number % 2 == 0 { "videos" } else { "other" }));
            tokio::spawn(async move { (number % 2, establish(&store, &folder(&path).await).await) })
        })
        .collect();
    let mut agreed = std::collections::BTreeMap::<u32, Vec<_>>::new();
    for start in starts {
        let (place, identity) = start.await.unwrap();
        agreed.entry(place).or_default().extend(identity.ok());
    }
    agreed.retain(|_, identities| !identities.is_empty());
    let places: Vec<_> = agreed.values().collect();
    assert_eq!(places.len(), 1, "{agreed:?}");
    assert_eq!(places[0].len(), 4);
    assert!(places[0].iter().all(|identity| *identity == places[0][0]));
}

#[tokio::test]
async fn an_installation_without_identity_accepts_only_the_storage_with_its_videos() {
    let home = tempfile::tempdir().unwrap();
    let store = database(home.path()).await;
    let (ours, empty) = (folder(&home.path().join("videos")).await, folder(&home.path().join("empty")).await);
    let lost = add(&store, &ours).await;
    ours.delete(&lost).await.unwrap();
    add(&store, &ours).await;
    assert!(matches!(establish(&store, &empty).await, Err(IdentityError::Empty)));
    assert_eq!(empty.identity().await.unwrap(), None);
    establish(&store, &ours).await.unwrap();
}
