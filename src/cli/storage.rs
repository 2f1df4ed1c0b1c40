//! `visage storage`: shows which storage belongs to the database, or assigns another one to it.

use std::sync::Arc;

use super::Failure;
use crate::blob;
use crate::clock::{RandomTokens, SystemClock};
use crate::config::Settings;
use crate::identity::StorageIdentity;
use crate::store::Store;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print the storage identity that the database has recorded and that of the configured storage.
    Show,
    /// Assign the configured storage to the database, after the storage was moved, emptied or restored.
    Adopt,
}

pub fn run(args: Args, settings: Settings) -> Result<(), Failure> {
    super::serve::run(async move {
        let failed =
            |error: &dyn std::fmt::Display| Failure::Missing(format!("{error}\nRun `visage doctor` for details."));
        let store = Store::open(&settings.database).await.map_err(|error| failed(&error))?;
        let blobs = blob::open(&settings.storage, Arc::new(SystemClock)).await.map_err(|error| failed(&error))?;
        match args.command {
            Command::Show => {
                let known = store.known_storage().await.map_err(|error| failed(&error))?.map(|known| known.id);
                let found = blobs.identity().await.map_err(|error| failed(&error))?;
                let text = |id: Option<uuid::Uuid>| id.map_or_else(|| "none".to_owned(), |id| id.to_string());
                super::print(&format!("database  {}\nstorage   {}\n", text(known), text(found)))
            }
            Command::Adopt => {
                let identity = StorageIdentity::adopt(&store, &blobs, &SystemClock, &RandomTokens).await;
                let identity = identity.map_err(|error| failed(&error))?;
                super::print(&format!(
                    "The configured storage has the identity {} and now belongs to the database.\n",
                    identity.id()
                ))
            }
        }
    })
}
