//! `/v1/admin/keys`: lists, creates and revokes keys, as `visage keys` does.

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::api::access::{Admin, RequiredKey};
use crate::api::auth::Authorized;
use crate::api::endpoint::Endpoint;
use crate::api::json_body;
use crate::api::openapi::NATIVE;
use crate::api::problem::detail;
use crate::api::view::NO_STORE;
use crate::api::{Api, Problem};
use crate::clock;
use crate::store::{ApiKey, NewKey, Scope};

type Rule = RequiredKey<Admin>;

pub(in crate::api) fn endpoints() -> [Endpoint; 2] {
    [Endpoint::new::<Rule>(routes!(list, create)), Endpoint::new::<Rule>(routes!(revoke))]
}

/// Most characters of a name.
const MAX_NAME: usize = 200;
/// Most days until a key expires.
const MAX_DAYS: u32 = 36_500;
/// The largest limit of a key.
const MAX_LIMIT: u32 = 1_000_000_000;

#[derive(Serialize, ToSchema)]
struct Keys {
    /// Oldest first. Revoked and expired keys are included.
    keys: Vec<KeyView>,
}

/// A key, without its secret part, which is not stored.
#[derive(Serialize, ToSchema)]
#[schema(as = Key)]
struct KeyView {
    /// The public part of the key.
    id: String,
    name: String,
    scopes: Vec<Scope>,
    /// `good`, `expired` or `revoked`.
    state: &'static str,
    created_at: Timestamp,
    /// Null: never.
    expires_at: Option<Timestamp>,
    /// Exact to the minute. Null: never.
    last_used_at: Option<Timestamp>,
    /// Null: the default of the settings.
    rate_per_minute: Option<u32>,
    /// Null: the default of the settings.
    max_concurrent: Option<u32>,
    /// Null: the default of the settings.
    videos_per_day: Option<u32>,
    /// Null: the default of the settings.
    videos_per_month: Option<u32>,
}

/// A key to create.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct KeyRequest {
    /// Name for the list, such as that of the key's owner.
    #[schema(min_length = 1, max_length = 200)]
    name: String,
    #[schema(min_items = 1)]
    scopes: Vec<Scope>,
    /// Days until the key expires. Null: it does not expire.
    #[schema(minimum = 1, maximum = 36_500)]
    #[serde(default, deserialize_with = "json_body::maybe_integer")]
    expires_in_days: Option<u32>,
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    #[serde(default, deserialize_with = "json_body::maybe_integer")]
    rate_per_minute: Option<u32>,
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    #[serde(default, deserialize_with = "json_body::maybe_integer")]
    max_concurrent: Option<u32>,
    /// 0: no limit.
    #[schema(maximum = 1_000_000_000)]
    #[serde(default, deserialize_with = "json_body::maybe_integer")]
    videos_per_day: Option<u32>,
    /// 0: no limit.
    #[schema(maximum = 1_000_000_000)]
    #[serde(default, deserialize_with = "json_body::maybe_integer")]
    videos_per_month: Option<u32>,
}

#[derive(Serialize, ToSchema)]
struct CreatedKey {
    /// The key. It cannot be shown again.
    key: String,
}

impl KeyView {
    fn new(key: ApiKey, now: Timestamp) -> Self {
        let state = match () {
            () if key.revoked_at.is_some() => "revoked",
            () if key.is_good(now) => "good",
            () => "expired",
        };
        Self {
            state,
            id: key.id,
            name: key.name,
            scopes: key.scopes,
            created_at: key.created_at,
            expires_at: key.expires_at,
            last_used_at: key.last_used_at,
            rate_per_minute: key.rate_per_minute,
            max_concurrent: key.max_concurrent,
            videos_per_day: key.videos_per_day,
            videos_per_month: key.videos_per_month,
        }
    }
}

/// List keys
///
/// Lists all keys without their secret parts.
#[utoipa::path(get, path = "/v1/admin/keys", operation_id = "admin_keys", tag = NATIVE,
    responses((status = 200, description = "The keys", body = Keys)))]
pub(in crate::api) async fn list(State(api): State<Api>, _: Authorized<Rule>) -> Result<Response, Problem> {
    let now = api.app.clock.now();
    let keys = api.app.store.keys().await?.into_iter().map(|key| KeyView::new(key, now)).collect();
    Ok(([(header::CACHE_CONTROL, NO_STORE)], Json(Keys { keys })).into_response())
}

/// Create a key
///
/// Returns a new key. Only its hash is stored, so the key cannot be shown again.
#[utoipa::path(post, path = "/v1/admin/keys", operation_id = "admin_create_key", tag = NATIVE,
    request_body(content = KeyRequest),
    responses((status = 201, description = "The key", body = CreatedKey),
              (status = 400, description = "The body is not JSON"),
              (status = 415, description = "Not application/json"),
              (status = 422, description = "A member is wrong")))]
pub(in crate::api) async fn create(
    State(api): State<Api>,
    _: Authorized<Rule>,
    request: Request,
) -> Result<Response, Problem> {
    let request: KeyRequest = json_body::json(&api, request).await?;
    let now = api.app.clock.now();
    let key = request.checked(now)?;
    let secret = clock::random_secret().map_err(|error| {
        tracing::error!(%error, "the system gives no random numbers");
        Problem::internal()
    })?;
    let key = api.app.store.create_key(&key, api.app.tokens.next(), &secret, now).await?;
    tracing::info!("an operator has created a key");
    Ok((StatusCode::CREATED, [(header::CACHE_CONTROL, NO_STORE)], Json(CreatedKey { key })).into_response())
}

/// Revoke a key
///
/// Makes a key invalid for good. The key that was sent with the request cannot be revoked, so that operators do not
/// lock themselves out.
#[utoipa::path(delete, path = "/v1/admin/keys/{id}", operation_id = "admin_revoke_key", tag = NATIVE,
    params(("id" = String, Path, description = "The public id of the key")),
    responses((status = 204, description = "The key is revoked"),
              (status = 404, description = "No valid or expired key has this id"),
              (status = 409, description = "The request was sent with this key")))]
pub(in crate::api) async fn revoke(
    State(api): State<Api>,
    caller: Authorized<Rule>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    if caller.owner() == Some(&id) {
        return Err(Problem::new(StatusCode::CONFLICT, detail::own_key()));
    }
    if !api.app.store.revoke_key(&id, api.app.clock.now()).await? {
        return Err(Problem::new(StatusCode::NOT_FOUND, detail::unknown_key()));
    }
    tracing::info!(key = id, "an operator has revoked a key");
    Ok(StatusCode::NO_CONTENT)
}

impl KeyRequest {
    fn checked(self, now: Timestamp) -> Result<NewKey, Problem> {
        let name = self.name.trim().to_owned();
        if name.is_empty() || name.chars().count() > MAX_NAME {
            return Err(json_body::wrong(detail::bad_body_name()));
        }
        if self.scopes.is_empty() {
            return Err(json_body::wrong(detail::bad_body_scopes()));
        }
        if self.rate_per_minute == Some(0) || self.max_concurrent == Some(0) {
            return Err(json_body::wrong(detail::bad_body_rates()));
        }
        let limits = [self.rate_per_minute, self.max_concurrent, self.videos_per_day, self.videos_per_month];
        if limits.into_iter().flatten().any(|limit| limit > MAX_LIMIT) {
            return Err(json_body::wrong(detail::bad_body_limit(MAX_LIMIT)));
        }
        if self.expires_in_days.is_some_and(|days| !(1..=MAX_DAYS).contains(&days)) {
            return Err(json_body::wrong(detail::bad_body_days(MAX_DAYS)));
        }
        let mut scopes = self.scopes;
        scopes.sort_by_key(|scope| scope.name());
        scopes.dedup();
        let expiry = |days| now.checked_add((i64::from(days) * 24).hours()).unwrap_or(Timestamp::MAX);
        Ok(NewKey {
            name,
            scopes,
            rate_per_minute: self.rate_per_minute,
            max_concurrent: self.max_concurrent,
            videos_per_day: self.videos_per_day,
            videos_per_month: self.videos_per_month,
            expires_at: self.expires_in_days.map(expiry),
        })
    }
}
