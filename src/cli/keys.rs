//! `visage keys`: makes, lists and revokes the keys with which the service is called.

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
    /// Make a key and print it, once: it is not stored and cannot be shown again.
    Create(Create),
    /// List all keys, by their public half.
    List,
    /// End a key for good.
    Revoke {
        /// The public half, as `visage keys list` shows it: what stands between the two underscores of a key.
        id: String,
    },
}

#[derive(Debug, clap::Args)]
struct Create {
    /// Whose it is, for the list.
    #[arg(long)]
    name: String,
    /// What it may do. `analyze`: send and erase videos; `read`: results; `logs`: the request log; `admin`: everything, also
    /// with what other keys sent.
    #[arg(long = "scope", value_enum, value_delimiter = ',', default_value = "analyze,read")]
    scopes: Vec<Scope>,
    /// Requests a minute, instead of what the settings say.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rate_per_minute: Option<u32>,
    /// Requests at the same time, instead of what the settings say.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    max_concurrent: Option<u32>,
    /// Videos a day (UTC), instead of what the settings say; 0: any number.
    #[arg(long)]
    videos_per_day: Option<u32>,
    /// Videos a month (UTC), instead of what the settings say; 0: any number.
    #[arg(long)]
    videos_per_month: Option<u32>,
    /// Days until it ends by itself; without this it does not.
    #[arg(long, value_parser = clap::value_parser!(i64).range(1..=36500))]
    expires_in_days: Option<i64>,
}

pub fn run(args: Args, settings: Settings) -> Result<(), Failure> {
    super::serve::run(async move {
        let store = Store::open(&settings.database).await;
        let store = store.map_err(|error| Failure::Missing(format!("{error}\nvisage doctor says more.")))?;
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
    let secret = clock::random_secret().map_err(|error| Failure::Run(format!("no random numbers: {error}")))?;
    let text = store.create_key(&key, RandomTokens.next(), &secret, now).await.map_err(failed)?;
    // The key alone on standard output, for scripts.
    eprintln!(
        "Keep it now: it is not stored and cannot be shown again. Send it as Authorization: Bearer or x-api-key."
    );
    println!("{text}");
    Ok(())
}

async fn list(store: &Store) -> Result<(), Failure> {
    let now = SystemClock.now();
    println!("{:<12}  {:<8}  {:<24}  {:<20}  {:<20}  NAME", "ID", "STATE", "SCOPES", "CREATED", "LAST USED");
    for key in store.keys().await.map_err(failed)? {
        let scopes: Vec<_> = key.scopes.iter().map(|scope| scope.name()).collect();
        let used = key.last_used_at.map_or_else(|| "never".to_owned(), shown);
        let (id, state, created) = (&key.id, state(&key, now), shown(key.created_at));
        println!("{id:<12}  {state:<8}  {:<24}  {created:<20}  {used:<20}  {}", scopes.join(","), key.name);
    }
    Ok(())
}

async fn revoke(store: &Store, id: &str) -> Result<(), Failure> {
    if store.revoke_key(id, SystemClock.now()).await.map_err(failed)? {
        println!("{id} is revoked.");
        return Ok(());
    }
    Err(Failure::Input(format!("no key in use has the id {id:?}; visage keys list shows all")))
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

/// To the second.
fn shown(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn failed(error: crate::store::StoreError) -> Failure {
    Failure::Run(error.to_string())
}
