//! Ensures that the storage belongs to the database. Both hold the same id: the database in the table
//! `storage_identity`, the storage in a small file or object. A process with the wrong folder or bucket in its settings
//! refuses to start: its workers would not find the videos, and its housekeeping would delete the videos of another
//! installation.
//!
//! At the first start, the process that inserts the id into the database also writes it to the storage. The other
//! processes wait until the storage has the id. If two processes have different folders, one of them therefore refuses
//! to start.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::blob::{BlobError, BlobStore};
use crate::clock::{Clock, Tokens};
use crate::store::{KnownStorage, Store, StoreError};

/// A process that has not finished writing the identity after this time counts as dead.
const WRITE_TIMEOUT: Duration = Duration::from_secs(15);
/// Pause between two checks while another process writes the identity.
const CHECK_PAUSE: Duration = Duration::from_millis(200);
/// Number of videos of waiting jobs that are searched in a storage without identity, before it is accepted.
const CHECKED_VIDEOS: u32 = 20;

/// The id of the storage that belongs to the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StorageIdentity(Uuid);

/// The reason why a process must not use its storage. The text is for the operator.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error(
        "the storage of the settings carries no identity, and the database belongs to the storage {expected}: this is \
         the wrong folder or bucket, or it is not mounted; if it was moved or emptied on purpose, run \
         `visage storage adopt`"
    )]
    Missing { expected: Uuid },
    #[error(
        "the storage of the settings is {found}, and the database belongs to the storage {expected}: this is the wrong \
         folder, bucket or database; to join them on purpose, run `visage storage adopt`"
    )]
    Other { expected: Uuid, found: Uuid },
    #[error(
        "the storage of the settings is {found} and belongs to another database; to join it to this one on purpose \
         (after a restore, say), run `visage storage adopt`"
    )]
    OfAnotherDatabase { found: Uuid },
    #[error(
        "none of the videos for which jobs wait lies in the storage of the settings: this is the wrong folder or \
         bucket; if they are lost, run `visage storage adopt`"
    )]
    Empty,
    #[error("the storage of the settings cannot be marked as that of this database: {0}")]
    NotWritten(BlobError),
}

impl StorageIdentity {
    /// Checks that storage and database have the same identity. At the first start, gives both a new one.
    ///
    /// # Errors
    /// The storage does not belong to the database, or one of them does not answer.
    pub async fn establish(
        store: &Store,
        blobs: &Arc<dyn BlobStore>,
        clock: &dyn Clock,
        tokens: &dyn Tokens,
    ) -> Result<Self, IdentityError> {
        loop {
            let (known, found) = (store.known_storage().await?, blobs.identity().await?);
            match (known, found) {
                (Some(KnownStorage { id, is_written: true }), Some(found)) if found == id => return Ok(Self(id)),
                (Some(KnownStorage { id: expected, is_written: true }), Some(found)) => {
                    return Err(IdentityError::Other { expected, found });
                }
                (Some(KnownStorage { id: expected, is_written: true }), None) => {
                    return Err(IdentityError::Missing { expected });
                }
                (None, Some(found)) => return Err(IdentityError::OfAnotherDatabase { found }),
                // The id is in the storage. The process that wrote it has not recorded that yet, or died before.
                (Some(KnownStorage { id, .. }), Some(found)) if found == id => {
                    if store.storage_written(id).await? {
                        return Ok(Self(id));
                    }
                }
                (Some(KnownStorage { is_written: false, .. }), Some(found)) => {
                    return Err(IdentityError::OfAnotherDatabase { found });
                }
                (None | Some(KnownStorage { is_written: false, .. }), None) => {
                    if known.is_none() {
                        check_videos_exist(store, blobs.as_ref()).await?;
                    }
                    let id = tokens.next();
                    if store.claim_storage(id, clock.now(), WRITE_TIMEOUT).await? {
                        blobs.set_identity(id).await.map_err(IdentityError::NotWritten)?;
                        if store.storage_written(id).await? {
                            tracing::info!(storage = %id, "gave the storage and the database a common identity");
                            return Ok(Self(id));
                        }
                    }
                }
            }
            tokio::time::sleep(CHECK_PAUSE).await;
        }
    }

    /// Gives the storage of the settings the identity of the database, and replaces an earlier one. Processes that use
    /// either with another identity claim no more jobs until they are restarted.
    pub async fn adopt(
        store: &Store,
        blobs: &Arc<dyn BlobStore>,
        clock: &dyn Clock,
        tokens: &dyn Tokens,
    ) -> Result<Self, IdentityError> {
        let id = match store.known_storage().await? {
            Some(known) => known.id,
            None => tokens.next(),
        };
        blobs.set_identity(id).await.map_err(IdentityError::NotWritten)?;
        store.set_storage(id, clock.now()).await?;
        Ok(Self(id))
    }

    /// Checks that the storage answers and still has this identity. It only reads, so it also works on a read-only
    /// storage.
    pub async fn verify(self, blobs: &dyn BlobStore) -> Result<(), BlobError> {
        let found = blobs.identity().await?;
        if found == Some(self.0) { Ok(()) } else { Err(BlobError::Foreign { expected: self.0, found }) }
    }

    pub const fn id(self) -> Uuid {
        self.0
    }
}

/// Checks a storage without identity, of an installation older than identities: it must hold a video of a waiting job,
/// if there are such jobs.
async fn check_videos_exist(store: &Store, blobs: &dyn BlobStore) -> Result<(), IdentityError> {
    let keys = store.needed_videos(CHECKED_VIDEOS).await?;
    for key in &keys {
        if blobs.exists(key).await? {
            return Ok(());
        }
    }
    if keys.is_empty() { Ok(()) } else { Err(IdentityError::Empty) }
}
