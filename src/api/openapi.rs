//! The OpenAPI 3.1 description of the service.
//!
//! Each endpoint describes its path, its parameters, its body and its own answers. This module adds what many endpoints
//! share: the keys that their [access rules](super::access) need, the shapes of errors, and the answers that every call
//! may give. It also adds samples of calls and the webhook, and writes schemas in a form that generators of clients read.

mod samples;
mod unions;
mod webhooks;

use utoipa::openapi::link::Link;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{
    AdditionalProperties, Components, KnownFormat, Object, ObjectBuilder, Schema, SchemaFormat, SchemaType, Type,
};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{
    Content, ContentBuilder, InfoBuilder, LicenseBuilder, OpenApi, Ref, RefOr, ResponseBuilder, Server, path::PathItem,
};
use utoipa::{PartialSchema, ToSchema};

use super::access::Access;
use super::auth::SHARE;
use super::compat::error::{CompatErrorBody, DeepFaceErrorBody, ThumbnailsErrorBody};
use super::live::message::{Answer, Command, Configure};
use super::problem::ProblemBody;
use crate::config::Settings;

/// Native calls of visage. Errors are [`ProblemBody`].
pub const NATIVE: &str = "native";
/// Calls taken over from other services: errors are [`CompatErrorBody`].
pub const COMPAT: &str = "compat";
/// Calls taken over from the Journaling thumbnails API: errors are [`ThumbnailsErrorBody`].
pub const THUMBNAILS: &str = "thumbnails";
/// The call taken over from DeepFace's own REST service: errors are [`DeepFaceErrorBody`].
pub const DEEPFACE: &str = "deepface";
/// Health and documentation.
pub const OPERATIONS: &str = "operations";

const PROBLEM_JSON: &str = "application/problem+json";
const JSON: &str = "application/json";
const FORM: &str = "multipart/form-data";
const BEARER: &str = "bearer";
const HEADER: &str = "x-api-key";

const DESCRIPTION: &str = "Upload a video and get a report on the faces in it: expressions, calmness and eye contact, \
                           for each person and over time. Each path may end with a slash. Each answer has the id of \
                           its request in the header `X-Request-Id`. Errors are in the language of the parameter \
                           `language`, otherwise in that of `Accept-Language`, otherwise in English.";

/// Completes the document that the endpoints describe, for a service with these settings.
pub(super) fn complete(mut document: OpenApi, settings: &Settings) -> OpenApi {
    document.info = InfoBuilder::new()
        .title("visage")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(DESCRIPTION))
        .license(Some(LicenseBuilder::new().name("MIT OR Apache-2.0").identifier(Some("MIT OR Apache-2.0")).build()))
        .build();
    let url = settings.http.public_url.trim_end_matches('/');
    document.servers = Some(vec![Server::new(if url.is_empty() { "/" } else { url })]);
    let tag = |(name, text): (&str, &str)| TagBuilder::new().name(name).description(Some(text)).build();
    let tags = [
        (NATIVE, "The calls of visage. Errors are problem details (RFC 9457)."),
        (COMPAT, "Calls of other services. Their clients change only the base URL. Errors are {\"error\", \"code\"}."),
        (THUMBNAILS, "Calls of the Journaling thumbnails API. Each needs a key. Errors are {\"error\"}."),
        (
            DEEPFACE,
            "The call of DeepFace's own REST service. Errors are {\"error\", \"code\"} or {\"exception\", \"code\"}.",
        ),
        (OPERATIONS, "State of the service, and documentation. Only `/metrics` may need a key."),
    ];
    document.tags = Some(tags.map(tag).into());
    webhooks::add_to(&mut document);
    let components = document.components.get_or_insert_default();
    add_schema::<Command>(components);
    add_schema::<Answer>(components);
    unions::name_variants(components);
    mark_required(components, &request_schemas(&document.paths.paths));
    add_constraints(components, settings);
    for (name, schema) in [
        (ProblemBody::name(), ProblemBody::schema()),
        (CompatErrorBody::name(), CompatErrorBody::schema()),
        (ThumbnailsErrorBody::name(), ThumbnailsErrorBody::schema()),
    ] {
        components.schemas.insert(name.into_owned(), schema);
    }
    let key =
        ApiKeyValue::with_description(HEADER, "An API key. `visage keys create` or an operator on `/admin` makes it.");
    components.security_schemes.insert(HEADER.to_owned(), RefOr::T(SecurityScheme::ApiKey(ApiKey::Header(key))));
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    components.security_schemes.insert(BEARER.to_owned(), RefOr::T(bearer));
    for operation in document.paths.paths.values_mut().flat_map(operations) {
        add_links(operation);
        samples::add_to(operation, url);
        describe_bytes(operation);
    }
    document
}

/// Adds the schema of a message that is neither a body nor an answer.
fn add_schema<T: ToSchema>(components: &mut Components) {
    let mut used = Vec::new();
    T::schemas(&mut used);
    for (name, schema) in used.into_iter().chain([(T::name().into_owned(), T::schema())]) {
        components.schemas.entry(name).or_insert(schema);
    }
}

/// Gives a schema to bodies of bytes, such as pictures. Without one, generators of clients leave these bodies out.
fn describe_bytes(operation: &mut Operation) {
    let bytes =
        || ObjectBuilder::new().schema_type(Type::String).format(Some(SchemaFormat::KnownFormat(KnownFormat::Binary)));
    let describe = |content: &mut RefOr<Content>| {
        if let RefOr::T(content) = content {
            content.schema.get_or_insert_with(|| bytes().into());
        }
    };
    if let Some(RefOr::T(body)) = &mut operation.request_body {
        body.content.values_mut().for_each(describe);
    }
    for answer in operation.responses.responses.values_mut() {
        if let RefOr::T(answer) = answer {
            answer.content.values_mut().for_each(describe);
        }
    }
}

/// The operations of a path.
pub(super) fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.post, &mut item.put, &mut item.delete].into_iter().flatten()
}

/// Adds the keys that an operation needs, the answers that its guard gives, and the shape of its errors.
pub(super) fn add_access(operation: &mut Operation, access: Access, required: bool) {
    let is = |tag: &str| operation.tags.iter().flatten().any(|given| given == tag);
    let (kind, schema) = if is(COMPAT) {
        (JSON, CompatErrorBody::name())
    } else if is(DEEPFACE) {
        (JSON, DeepFaceErrorBody::name())
    } else if is(THUMBNAILS) {
        (JSON, ThumbnailsErrorBody::name())
    } else {
        (PROBLEM_JSON, ProblemBody::name())
    };
    let is_thumbnails = is(THUMBNAILS);
    let has_own_rejections = is_thumbnails || is(DEEPFACE);
    let content = |name: &str| ContentBuilder::new().schema(Some(Ref::from_schema_name(name))).build();
    for (status, response) in &mut operation.responses.responses {
        if let RefOr::T(response) = response
            && response.content.is_empty()
            && status.parse::<u16>().is_ok_and(|status| status >= 400)
        {
            response.content.insert(kind.to_owned(), RefOr::T(content(&schema)));
        }
    }
    let mut may = vec![("500", "The service failed"), ("503", "A part of the service does not answer")];
    if access == Access::Link {
        may.push(("401", "The key is invalid"));
        may.push(("429", "Too many requests; `Retry-After` says when to try again"));
    } else if access != Access::Open {
        may.push(("401", "The key is missing or invalid"));
        may.push(("403", "The key lacks the scope that this call needs"));
        may.push(("429", "Too many requests; `Retry-After` says when to try again"));
        let keys = [HEADER, BEARER].map(|scheme| SecurityRequirement::new(scheme, Vec::<String>::new()));
        let open =
            matches!(access, Access::OptionalKey(_) | Access::OptionalKeyOrShare(_) | Access::OptionalKeyOrTicket(_))
                && !required;
        operation.security = Some(open.then(SecurityRequirement::default).into_iter().chain(keys).collect());
    }
    // An empty list: no key is needed.
    operation.security.get_or_insert_default();
    if matches!(access, Access::OptionalKeyOrShare(_)) {
        let share = ParameterBuilder::new()
            .name(SHARE)
            .parameter_in(ParameterIn::Query)
            .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
            .description(Some(
                "The parameter `share` of a share link of this result. It replaces a key. Ignored if a key is sent",
            ));
        operation.parameters.get_or_insert_default().push(RefOr::T(share.build()));
    }
    for (status, text) in may {
        let answer = operation.responses.responses.entry(status.to_owned());
        let answer = answer.or_insert_with(|| RefOr::T(ResponseBuilder::new().description(text).build()));
        let RefOr::T(answer) = answer else { continue };
        let is_rejection = matches!(status, "401" | "403") && has_own_rejections;
        let (kind, name) =
            if is_rejection { (JSON, ThumbnailsErrorBody::name()) } else { (PROBLEM_JSON, ProblemBody::name()) };
        answer.content.entry(kind.to_owned()).or_insert_with(|| RefOr::T(content(&name)));
    }
}

const TOKEN: &str = "$response.body#/token";
const UPLOAD: &str = "$response.body#/upload";
/// Links from an answer to the calls that may follow: the id of the operation, its parameter, and the place of its
/// value in the answer.
const AFTER_VIDEO: [(&str, &str, &str); 6] = [
    ("result", "token", TOKEN),
    ("events", "token", TOKEN),
    ("timeline", "token", TOKEN),
    ("report", "token", TOKEN),
    ("get_stats", "token", TOKEN),
    ("erase", "token", TOKEN),
];
const AFTER_UPLOAD: [(&str, &str, &str); 3] =
    [("upload_state", "upload", UPLOAD), ("send_part", "upload", UPLOAD), ("abort_upload", "upload", UPLOAD)];
const AFTER_FRAME: [(&str, &str, &str); 2] =
    [("frame", "frame", "$response.body#/frame"), ("erase_frame", "frame", "$response.body#/frame")];
const AFTER_TIMELINE: [(&str, &str, &str); 1] = [("timeline", "cursor", "$response.body#/next")];
const AFTER_LIST: [(&str, &str, &str); 1] = [("list_analyses", "cursor", "$response.body#/next")];
const AFTER_BATCH: [(&str, &str, &str); 2] =
    [("batch", "id", "$response.body#/id"), ("cancel_batch", "id", "$response.body#/id")];
const AFTER_BATCHES: [(&str, &str, &str); 1] = [("list_batches", "cursor", "$response.body#/next")];

/// Adds the links from the answer of an operation to the operations that may follow.
fn add_links(operation: &mut Operation) {
    let (status, follow): (_, &[_]) = match operation.operation_id.as_deref() {
        Some("analyze_video" | "start_analysis" | "upload" | "record_video") => ("202", &AFTER_VIDEO),
        Some("begin_upload") => ("201", &AFTER_UPLOAD),
        Some("save_frame") => ("201", &AFTER_FRAME),
        Some("timeline") => ("200", &AFTER_TIMELINE),
        Some("list_analyses") => ("200", &AFTER_LIST),
        Some("start_batch") => ("202", &AFTER_BATCH),
        Some("list_batches") => ("200", &AFTER_BATCHES),
        _ => return,
    };
    let is_upload = operation.operation_id.as_deref() == Some("begin_upload");
    let Some(RefOr::T(answer)) = operation.responses.responses.get_mut(status) else { return };
    for (next, parameter, place) in follow {
        let mut link = Link::builder().operation_id(*next).parameter(*parameter, *place);
        if *next == "timeline" && *parameter == "cursor" {
            link = link.parameter("token", "$request.path.token");
        }
        if *next == "send_part" {
            link = link.parameter("number", "$response.body#/parts/0/number");
        }
        answer.links.insert((*next).to_owned(), RefOr::T(link.build()));
    }
    if is_upload {
        let body = serde_json::json!({"upload": UPLOAD});
        let link = Link::builder().operation_id("start_analysis").request_body(Some(body)).build();
        answer.links.insert("start_analysis".to_owned(), RefOr::T(link));
    }
}

/// The names of the schemas of requests, each with its content type.
fn request_schemas(paths: &utoipa::openapi::path::PathsMap<String, PathItem>) -> Vec<(String, String)> {
    let bodies = paths.values().flat_map(|item| [&item.post, &item.put, &item.get]).flatten();
    let contents = bodies.filter_map(|operation| match operation.request_body.as_ref()? {
        RefOr::T(body) => Some(&body.content),
        RefOr::Ref(_) => None,
    });
    let named = |(kind, content): (&String, &RefOr<Content>)| match content {
        RefOr::T(Content { schema: Some(RefOr::Ref(to)), .. }) => {
            Some((to.ref_location.rsplit('/').next()?.to_owned(), kind.clone()))
        }
        _ => None,
    };
    // Their members may be left out as well: the first message of a live session, and the items of a batch.
    let parts = [Configure::name().into_owned(), "BatchItemRequest".to_owned()];
    contents.flatten().filter_map(named).chain(parts.map(|name| (name, JSON.to_owned()))).collect()
}

/// Marks the members of answers as required, because they are always present and may be null. Removes null from the
/// fields of forms, because a form has no null.
fn mark_required(components: &mut Components, requests: &[(String, String)]) {
    for (name, schema) in &mut components.schemas {
        let request = requests.iter().find(|(request, _)| request == name);
        match (request, schema) {
            (Some((_, kind)), RefOr::T(Schema::Object(form))) if kind == FORM => remove_null(form),
            (None, RefOr::T(answer)) => require_all(name, answer),
            _ => {}
        }
    }
}

/// The forms that reject unknown fields.
const CLOSED: [&str; 2] = ["VideoForm", "PictureForm"];
/// Requests in which `detail=expressions` and `gaze=off` exclude each other.
const EXCLUSIVE: [&str; 5] = ["VideoForm", "StartRequest", "BatchRequest", "PictureForm", "PicturesRequest"];

/// Adds constraints to requests that their types cannot express: no other fields, members that exclude each other, and
/// limits from the settings.
fn add_constraints(components: &mut Components, settings: &Settings) {
    let mut object = |name: &str, change: &dyn Fn(&mut Object)| {
        if let Some(RefOr::T(Schema::Object(object))) = components.schemas.get_mut(name) {
            change(object);
        }
    };
    for name in CLOSED {
        object(name, &|form| form.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false))));
    }
    for name in EXCLUSIVE {
        let both = serde_json::json!({
            "required": ["detail", "gaze"],
            "properties": {"detail": {"const": "expressions"}, "gaze": {"enum": ["off", "false", false]}},
        });
        object(name, &|request| {
            request.extensions.get_or_insert_default().insert("not".to_owned(), both.clone());
        });
    }
    for (name, file) in [("VideoForm", "video"), ("StartRequest", "upload")] {
        // Exactly one of both. A member of a JSON body may also be null. Generators of clients would make two types of a
        // `oneOf`.
        let one = [
            ("if", serde_json::json!({"required": [file], "properties": {file: {"type": "string"}}})),
            ("then", serde_json::json!({"properties": {"video_url": {"type": "null"}}})),
            ("else", serde_json::json!({"required": ["video_url"], "properties": {"video_url": {"type": "string"}}})),
        ];
        object(name, &|request| {
            let one = one.clone().map(|(keyword, schema)| (keyword.to_owned(), schema));
            request.extensions.get_or_insert_default().extend(one);
        });
    }
    for (name, member) in [("PictureForm", "picture"), ("PicturesRequest", "pictures")] {
        object(name, &|request| {
            if let Some(RefOr::T(Schema::Array(pictures))) = request.properties.get_mut(member) {
                pictures.max_items = Some(settings.pictures.max_count);
            }
        });
    }
    object("BatchRequest", &|request| {
        if let Some(RefOr::T(Schema::Array(items))) = request.properties.get_mut("items") {
            items.max_items = Some(settings.sources.max_batch_items);
        }
    });
    object("UploadRequest", &|request| {
        if let Some(RefOr::T(Schema::OneOf(size))) = request.properties.get_mut("size_bytes")
            && let Some(RefOr::T(Schema::Object(size))) = size.items.first_mut()
        {
            size.maximum = Some(settings.http.max_upload.0.into());
        }
    });
}

/// Members of answers that are absent, not null, if they have no value.
const OPTIONAL_MEMBERS: [(&str, &str); 11] = [
    ("Options", "samples_per_second"),
    ("Options", "language"),
    ("Options", "detail"),
    ("TimelineRow", "expressions"),
    ("PictureFace", "expressions"),
    ("DeepFaceError", "error"),
    ("DeepFaceError", "exception"),
    ("Intervals", "overall_score"),
    ("Parts", "overall_score"),
    ("StreamEvent", "id"),
    ("VideoFacts", "stream_orientation"),
];

fn require_all(name: &str, schema: &mut Schema) {
    let always = |member: &&String| !OPTIONAL_MEMBERS.contains(&(name, member.as_str()));
    if let Schema::Object(object) = schema {
        object.required = object.properties.keys().filter(always).cloned().collect();
    }
}

fn is_null(schema: &RefOr<Schema>) -> bool {
    matches!(schema, RefOr::T(Schema::Object(object)) if object.schema_type == SchemaType::Type(Type::Null))
}

/// Removes null from the types of the members.
fn remove_null(request: &mut Object) {
    for (_, member) in &mut request.properties {
        match member {
            RefOr::T(Schema::Object(object)) => {
                if let SchemaType::Array(types) = &mut object.schema_type {
                    types.retain(|given| *given != Type::Null);
                    if let [only] = types.as_slice() {
                        object.schema_type = SchemaType::Type(only.clone());
                    }
                }
            }
            RefOr::T(Schema::OneOf(choice)) => {
                choice.items.retain(|item| !is_null(item));
                if let [only] = choice.items.as_slice() {
                    *member = only.clone();
                }
            }
            _ => {}
        }
    }
}
