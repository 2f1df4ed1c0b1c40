//! Describes the webhooks: what visage sends to the `webhook_url` of an upload or of a batch.

use utoipa::ToSchema;
use utoipa::openapi::path::{HttpMethod, OperationBuilder, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{ContentBuilder, OpenApi, PathsBuilder, Ref, Required, ResponseBuilder};

use super::{JSON, NATIVE};
use crate::report::webhook::{BatchEvent, Event};

/// The headers of Standard Webhooks.
const HEADERS: [(&str, &str); 3] = [
    ("webhook-id", "Id of the message, the same in every attempt. Use it to recognize a repetition"),
    ("webhook-timestamp", "When this attempt was made, in seconds since 1970"),
    ("webhook-signature", "A signature for each secret of the service, separated by blanks"),
];

/// Adds the webhooks and the schemas of their bodies.
pub(super) fn add_to(document: &mut OpenApi) {
    let components = document.components.get_or_insert_default();
    let mut schemas = vec![
        (Event::name().into_owned(), <Event as utoipa::PartialSchema>::schema()),
        (BatchEvent::name().into_owned(), <BatchEvent as utoipa::PartialSchema>::schema()),
    ];
    Event::schemas(&mut schemas);
    BatchEvent::schemas(&mut schemas);
    components.schemas.extend(schemas);
    let analysis = webhook(
        "analysis_ended",
        "An analysis is done or has failed",
        "Sent to `webhook_url`, signed according to [Standard Webhooks](https://www.standardwebhooks.com) with the \
         setting `webhooks.secret`. It is sent at least once.",
        &Event::name(),
    );
    let batch = webhook(
        "batch_ended",
        "The last analysis of a batch has ended",
        "Sent to the `webhook_url` of a batch when its last analysis has ended, or when it is cancelled. It is signed \
         like the webhook of an analysis, and is sent at least once.",
        &BatchEvent::name(),
    );
    document.webhooks = Some(PathsBuilder::new().path("analysis_ended", analysis).path("batch_ended", batch).build());
}

/// Describes a webhook with this schema of its body.
fn webhook(id: &str, summary: &str, description: &str, schema: &str) -> PathItem {
    let body = ContentBuilder::new().schema(Some(Ref::from_schema_name(schema))).build();
    let mut operation = OperationBuilder::new()
        // An empty list: the signature proves the sender, there is no key.
        .securities(Some([]))
        .operation_id(Some(id))
        .tag(NATIVE)
        .summary(Some(summary))
        .description(Some(description))
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
    PathItem::new(HttpMethod::Post, operation)
}
