//! Describes the webhook: what visage sends to the `webhook_url` of an upload.

use utoipa::ToSchema;
use utoipa::openapi::path::{HttpMethod, OperationBuilder, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{ContentBuilder, OpenApi, PathsBuilder, Ref, Required, ResponseBuilder};

use super::{JSON, NATIVE};
use crate::report::webhook::Event;

/// The headers of Standard Webhooks.
const HEADERS: [(&str, &str); 3] = [
    ("webhook-id", "Id of the message, the same in every attempt. Use it to recognize a repetition"),
    ("webhook-timestamp", "When this attempt was made, in seconds since 1970"),
    ("webhook-signature", "A signature for each secret of the service, separated by blanks"),
];

/// Adds the webhook and the schemas of its body.
pub(super) fn add_to(document: &mut OpenApi) {
    let components = document.components.get_or_insert_default();
    let mut schemas = vec![(Event::name().into_owned(), <Event as utoipa::PartialSchema>::schema())];
    Event::schemas(&mut schemas);
    components.schemas.extend(schemas);
    let body = ContentBuilder::new().schema(Some(Ref::from_schema_name(Event::name()))).build();
    let mut operation = OperationBuilder::new()
        // An empty list: the signature proves the sender, there is no key.
        .securities(Some([]))
        .operation_id(Some("analysis_ended"))
        .tag(NATIVE)
        .summary(Some("An analysis is done or has failed"))
        .description(Some(
            "Sent to `webhook_url`, signed according to [Standard Webhooks](https://www.standardwebhooks.com) with the \
             setting `webhooks.secret`. It is sent at least once.",
        ))
        .request_body(Some(RequestBodyBuilder::new().content(JSON, body).required(Some(Required::True)).build()));
    for (name, description) in HEADERS {
        let header = ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Header)
            .required(Required::True)
            .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
            .description(Some(description));
        operation = operation.parameter(header);
    }
    for (status, text) in [
        ("2XX", "The message has arrived"),
        ("410", "Nobody wants this message: it is not sent again"),
        ("default", "The message is sent again later"),
    ] {
        operation = operation.response(status, ResponseBuilder::new().description(text));
    }
    let item = PathItem::new(HttpMethod::Post, operation);
    document.webhooks = Some(PathsBuilder::new().path("analysis_ended", item).build());
}
