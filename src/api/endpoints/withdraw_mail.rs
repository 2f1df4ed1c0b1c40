//! `/withdraw-mail`: the page on which the recipient of a mail withdraws the consent (see
//! [`confirmation`](crate::confirmation)). Programs that open the links of a mail send GET, so only POST withdraws. The
//! button of programs for mail sends POST (RFC 8058).

use axum::extract::{Query, Request, State};
use axum::http::Method;
use axum::response::{IntoResponse, Response};
use utoipa_axum::routes;

use crate::api::access::Link;
use crate::api::auth::Authorized;
use crate::api::endpoint::Endpoint;
use crate::api::negotiation::{self, prefers_html};
use crate::api::openapi::NATIVE;
use crate::api::page::{self, ConsentStep};
use crate::api::{Api, Problem};
use crate::confirmation::{self, Confirmation, Withdrawal};
use crate::secret::LinkError;

type Rule = Link;

pub(in crate::api) fn endpoints() -> [Endpoint; 2] {
    [Endpoint::new::<Rule>(routes!(show)), Endpoint::new::<Rule>(routes!(withdraw))]
}

/// Show the page that stops mails
///
/// Mails link to this page. Its button stops mails to the address, or allows them again.
#[utoipa::path(get, path = "/withdraw-mail", operation_id = "show_withdrawal", tag = NATIVE,
    params(("address" = String, Query, description = "From the link in the mail"),
           ("signature" = String, Query, description = "From the link in the mail")),
    responses((status = 200, description = "The page", body = String, content_type = "text/html"),
              (status = 404, description = "The link is not valid")))]
pub(in crate::api) async fn show(State(api): State<Api>, _: Authorized<Rule>, request: Request) -> Response {
    step(&api, request).await.into_response()
}

/// Stop mails to an address
///
/// Deletes the mails that wait for this address. Mails about videos that were sent without a key are no longer sent to
/// it, until it is confirmed again. The header `List-Unsubscribe` of mails names this call. The body is ignored.
#[utoipa::path(post, path = "/withdraw-mail", operation_id = "withdraw_mail", tag = NATIVE,
    params(("address" = String, Query, description = "From the link in the mail"),
           ("signature" = String, Query, description = "From the link in the mail")),
    responses((status = 200, description = "The page", body = String, content_type = "text/html"),
              (status = 404, description = "The link is not valid")))]
pub(in crate::api) async fn withdraw(State(api): State<Api>, _: Authorized<Rule>, request: Request) -> Response {
    step(&api, request).await.into_response()
}

async fn step(api: &Api, request: Request) -> Result<Response, Problem> {
    let (app, now) = (&api.app, api.app.clock.now());
    let secret = app.store.secret().await?;
    let link = Query::<Withdrawal>::try_from_uri(request.uri()).map_err(|_| LinkError::Invalid);
    let step = match link.and_then(|Query(link)| link.check(secret).map(|()| link)) {
        Err(error) if !prefers_html(request.headers()) => return Err(Problem::of_mail_link(error)),
        Err(_) => ConsentStep::Invalid,
        Ok(Withdrawal { address, .. }) => {
            if request.method() == Method::POST {
                app.store.withdraw_recipient(&address, now).await?;
                tracing::info!("a recipient has withdrawn the consent to mails");
            }
            if app.store.has_withdrawn(&address).await? {
                let expires = confirmation::expiry(&app.settings, now);
                let language = negotiation::language_of(&request);
                ConsentStep::Withdrawn(Confirmation::new(secret, address, expires).link(".", language))
            } else {
                ConsentStep::AskToWithdraw
            }
        }
    };
    Ok(page::consent(api, &request, &step))
}
