//! `visage keys`: creates, lists and revokes keys for the service.

use jiff::{Timestamp, ToSpan};

use super::Failure;
use crate::clock::{self, Clock, RandomTokens, SystemClock, Tokens};
use crate::config::Settings;
use crate::store::{ApiKey, NewKey, Scope, Store};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Create a key and print it. The key itself is not stored, so it cannot be shown again.
    Create(Create),
    /// List all keys with their public ids.
    List,
    /// Revoke a key permanently.
    Revoke {
        /// The public id of the key, as printed by `visage keys list`: the part between its two underscores.
        id: String,
    },
}

#[derive(Debug, clap::Args)]
struct Create {
    /// Name for the list, such as that of the key's owner.
    #[arg(long)]
    name: String,
    /// Permissions of the key. `analyze`: send and erase videos; `read`: read results; `logs`: read the request log;
    /// `urgent`: send videos with the priority `high`; `admin`: everything, including the videos and results of other keys.
    #[arg(long = "scope", value_enum, value_delimiter = ',', default_value = "analyze,read")]
    scopes: Vec<Scope>,
    /// Maximum requests per minute, instead of the setting limits.rate_per_minute_key.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rate_per_minute: Option<u32>,
    /// Maximum concurrent requests, instead of the setting limits.max_concurrent_key.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    max_concurrent: Option<u32>,
    /// Maximum videos per day (UTC), instead of the setting limits.videos_per_day_key; 0: no limit.
    #[arg(long)]
    videos_per_day: Option<u32>,
    /// Maximum videos per month (UTC), instead of the setting limits.videos_per_month_key; 0: no limit.
    #[arg(long)]
    videos_per_month: Option<u32>,
    /// Days until the key expires. By default it does not expire.
    #[arg(long, value_parser = clap::value_parser!(i64).range(1..=36500))]
    expires_in_days: Option<i64>,
}

pub fn run(args: Args, settings: Settings) -> Result<(), Failure> {
    super::serve::run(async move {
        let store = Store::open(&settings.database).await;
        let store = store.map_err(|error| Failure::Missing(format!("{error}\nRun `visage doctor` for details.")))?;
        match args.command {
            Command::Create(wanted) => create(&store, wanted).await,
            Command::List => list(&store).await,
            Command::Revoke { id } => revoke(&store, &id).await,
        }
    })
}

async fn create(store: &Store, wanted: Create) -> Result<(), Failure> {
    let now = SystemClock.now();
    let expires_at = wanted.expires_in_days.map(|days| now.checked_add((days * 24).hours()).unwrap_or(Timestamp::MAX));
    let mut scopes = wanted.scopes;
    scopes.sort_by_key(|scope| scope.name());
    scopes.dedup();
    let key = NewKey {
        name: wanted.name,
        scopes,
        rate_per_minute: wanted.rate_per_minute,
        max_concurrent: wanted.max_concurrent,
        videos_per_day: wanted.videos_per_day,
        videos_per_month: wanted.videos_per_month,
        expires_at,
    };
    let secret =
        clock::random_secret().map_err(|error| Failure::Run(format!("the system gives no random numbers: {error}")))?;
    let text = store.create_key(&key, RandomTokens.next(), &secret, now).await.map_err(failed)?;
    // Only the key goes to standard output, so that scripts can read it.
    eprintln!(
        "Save the key now: it is not stored and cannot be shown again. Send it as Authorization: Bearer or x-api-key."
    );
    println!("{text}");
    Ok(())
}

async fn list(store: &Store) -> Result<(), Failure> {
    let now = SystemClock.now();
    println!("{:<12}  {:<8}  {:<24}  {:<20}  {:<20}  NAME", "ID", "STATE", "SCOPES", "CREATED", "LAST USED");
    for key in store.keys().await.map_err(failed)? {
        let scopes: Vec<_> = key.scopes.iter().map(|scope| scope.name()).collect();
        let used = key.last_used_at.map_or_else(|| "never".to_owned(), format_time);
        let (id, state, created) = (&key.id, state(&key, now), format_time(key.created_at));
        println!("{id:<12}  {state:<8}  {:<24}  {created:<20}  {used:<20}  {}", scopes.join(","), key.name);
    }
    Ok(())
}

async fn revoke(store: &Store, id: &str) -> Result<(), Failure> {
    if store.revoke_key(id, SystemClock.now()).await.map_err(failed)? {
        println!("{id} is revoked.");
        return Ok(());
    }
    Err(Failure::Input(format!("there is no active key with the id {id:?}; `visage keys list` shows all keys")))
}

fn state(key: &ApiKey, now: Timestamp) -> &'static str {
    if key.revoked_at.is_some() {
        "revoked"
    } else if key.is_good(now) {
        "good"
    } else {
        "expired"
    }
}

/// Formats a time to the second.
fn format_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn failed(error: crate::store::StoreError) -> Failure {
    Failure::Run(error.to_string())
}
