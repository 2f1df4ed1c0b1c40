//! Which storage belongs to which database. Both carry the same id: the database in the table `storage_identity`, the
//! storage in a small file or object. A process whose settings name another folder or bucket refuses to start, since its
//! workers would find none of the videos and its housekeeping would delete those of others.
//!
//! At the first start one process is the writer: it is the one that puts the id into the database. The others wait until
//! the storage carries it, so that of two processes with different folders one refuses.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::blob::{BlobError, BlobStore};
use crate::clock::{Clock, Tokens};
use crate::store::{KnownStorage, Store, StoreError};

/// A process that began to write the identity this long ago and has not finished is taken for dead.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between two looks while another process writes it.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Videos of waiting jobs that are looked for before a storage without identity is taken for that of the database.
const LOOKED_FOR: u32 = 20;

/// The storage that belongs to the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StorageIdentity(Uuid);

/// Why a process must not work with its storage. The text is for the operator.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error(
        "the storage of the settings carries no identity, and the database belongs to the storage {expected}: this is \
         the wrong folder or bucket, or it is not mounted; if it was moved or emptied on purpose, run `visage storage adopt`"
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
    Taken { found: Uuid },
    #[error(
        "none of the videos for which jobs wait lies in the storage of the settings: this is the wrong folder or bucket; \
         if they are lost, run `visage storage adopt`"
    )]
    Empty,
    #[error("the storage of the settings cannot be marked as that of this database: {0}")]
    NotWritten(BlobError),
}

impl StorageIdentity {
    /// The identity of the storage, which is that of the database; given to both at the first start.
    ///
    /// # Errors
    /// The storage is another than the database knows, or one of them does not answer.
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
                (None, Some(found)) => return Err(IdentityError::Taken { found }),
                // Written, and its writer has not said so yet, or died before it could.
                (Some(KnownStorage { id, .. }), Some(found)) if found == id => {
                    if store.storage_written(id).await? {
                        return Ok(Self(id));
                    }
                }
                (Some(KnownStorage { is_written: false, .. }), Some(found)) => {
                    return Err(IdentityError::Taken { found });
                }
                (None | Some(KnownStorage { is_written: false, .. }), None) => {
                    if known.is_none() {
                        holds_the_videos(store, blobs.as_ref()).await?;
                    }
                    let id = tokens.next();
                    if store.claim_storage(id, clock.now(), PATIENCE).await? {
                        blobs.set_identity(id).await.map_err(IdentityError::NotWritten)?;
                        if store.storage_written(id).await? {
                            tracing::info!(storage = %id, "this storage belongs to the database from now on");
                            return Ok(Self(id));
                        }
                    }
                }
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Joins the storage of the settings to the database, whatever either carried before. Processes that work with either
    /// stop taking jobs until they are started again.
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

    /// Whether the storage answers and still is this one. Reads a few bytes, so that it also does where nothing may be
    /// written.
    pub async fn verify(self, blobs: &dyn BlobStore) -> Result<(), BlobError> {
        let found = blobs.identity().await?;
        if found == Some(self.0) { Ok(()) } else { Err(BlobError::Foreign { expected: self.0, found }) }
    }

    pub const fn id(self) -> Uuid {
        self.0
    }
}

/// An installation that is older than identities: its storage is the one that holds the videos of its jobs.
async fn holds_the_videos(store: &Store, blobs: &dyn BlobStore) -> Result<(), IdentityError> {
    let keys = store.needed_videos(LOOKED_FOR).await?;
    for key in &keys {
        if blobs.exists(key).await? {
            return Ok(());
        }
    }
    if keys.is_empty() { Ok(()) } else { Err(IdentityError::Empty) }
}
