//! `/confirm-mail`: the page on which the recipient of a first mail confirms that it may be sent (see
//! [`confirmation`](crate::confirmation)). Programs that open the links of a mail send GET, so only POST confirms.

use axum::extract::{Query, Request, State};
use axum::http::Method;
use axum::response::{IntoResponse, Response};
use utoipa_axum::routes;

use crate::api::access::Link;
use crate::api::auth::Authorized;
use crate::api::endpoint::Endpoint;
use crate::api::negotiation::prefers_html;
use crate::api::openapi::NATIVE;
use crate::api::page::{self, ConsentStep};
use crate::api::{Api, Problem};
use crate::confirmation::Confirmation;
use crate::secret::LinkError;

type Rule = Link;

pub(in crate::api) fn endpoints() -> [Endpoint; 2] {
    [Endpoint::new::<Rule>(routes!(show)), Endpoint::new::<Rule>(routes!(confirm))]
}

/// Show the page that confirms a mail address
///
/// Confirmation mails link to this page. Its button sends the confirmation.
#[utoipa::path(get, path = "/confirm-mail", operation_id = "show_confirmation", tag = NATIVE,
    params(("address" = String, Query, description = "From the link in the mail"),
           ("expires" = i64, Query, description = "From the link in the mail"),
           ("signature" = String, Query, description = "From the link in the mail")),
    responses((status = 200, description = "The page", body = String, content_type = "text/html"),
              (status = 404, description = "The link is not valid"),
              (status = 410, description = "The link has expired")))]
pub(in crate::api) async fn show(State(api): State<Api>, _: Authorized<Rule>, request: Request) -> Response {
    step(&api, request).await.into_response()
}

/// Confirm a mail address
///
/// Confirms the address, and sends the mails that waited for it. Later mails to this address are sent at once.
#[utoipa::path(post, path = "/confirm-mail", operation_id = "confirm_mail", tag = NATIVE,
    params(("address" = String, Query, description = "From the link in the mail"),
           ("expires" = i64, Query, description = "From the link in the mail"),
           ("signature" = String, Query, description = "From the link in the mail")),
    responses((status = 200, description = "The page", body = String, content_type = "text/html"),
              (status = 404, description = "The link is not valid"),
              (status = 410, description = "The link has expired")))]
pub(in crate::api) async fn confirm(State(api): State<Api>, _: Authorized<Rule>, request: Request) -> Response {
    step(&api, request).await.into_response()
}

async fn step(api: &Api, request: Request) -> Result<Response, Problem> {
    let (app, now) = (&api.app, api.app.clock.now());
    let secret = app.store.secret().await?;
    let link = Query::<Confirmation>::try_from_uri(request.uri()).map_err(|_| LinkError::Invalid);
    let checked = link.and_then(|Query(link)| link.check(secret, now).map(|()| link));
    let step = match checked {
        Err(error) if !prefers_html(request.headers()) => return Err(Problem::of_mail_link(error)),
        Err(LinkError::Invalid) => ConsentStep::Invalid,
        Err(LinkError::Expired) => ConsentStep::Expired,
        Ok(_) if request.method() != Method::POST => ConsentStep::AskToConfirm,
        Ok(link) => {
            app.store.confirm_recipient(&link.address, now).await?;
            tracing::info!("a recipient has confirmed a mail address");
            ConsentStep::Confirmed
        }
    };
    Ok(page::consent(api, &request, &step))
}
