//! Rewrites unions of objects for generators of clients. Several of them skip a `oneOf` whose variants have no names or
//! are compositions (`allOf`).

use std::collections::BTreeMap;

use utoipa::openapi::schema::{AllOf, Components, Discriminator, Object, OneOf, Schema};
use utoipa::openapi::{Ref, RefOr};

type Schemas = BTreeMap<String, RefOr<Schema>>;

/// Merges compositions into single objects, and gives each variant of a union of objects a schema of its own. The
/// member that tells the variants apart becomes the discriminator.
pub(super) fn name_variants(components: &mut Components) {
    let schemas = &mut components.schemas;
    let merged: Schemas =
        schemas.iter().filter_map(|(name, schema)| Some((name.clone(), merge(schema, schemas)?))).collect();
    schemas.extend(merged);
    let mut variants = Schemas::new();
    for (name, schema) in schemas.iter_mut() {
        if let RefOr::T(Schema::OneOf(union)) = schema {
            variants.extend(split(name, union).unwrap_or_default());
        }
    }
    schemas.extend(variants);
}

/// The schema with each composition replaced by one object; `None` if there is none, or if a part is no object.
fn merge(schema: &RefOr<Schema>, schemas: &Schemas) -> Option<RefOr<Schema>> {
    match schema {
        RefOr::T(Schema::AllOf(parts)) => Some(RefOr::T(Schema::Object(merge_parts(parts, schemas)?))),
        RefOr::T(Schema::OneOf(union)) => {
            let items: Vec<_> = union.items.iter().map(|item| merge(item, schemas)).collect();
            if items.iter().all(Option::is_none) {
                return None;
            }
            let mut union = union.clone();
            for (item, merged) in union.items.iter_mut().zip(items) {
                *item = merged.unwrap_or_else(|| item.clone());
            }
            Some(RefOr::T(Schema::OneOf(union)))
        }
        _ => None,
    }
}

fn merge_parts(parts: &AllOf, schemas: &Schemas) -> Option<Object> {
    let mut whole = Object::new();
    for part in &parts.items {
        let (schema, description) = match part {
            RefOr::Ref(to) => (schemas.get(name_of(to)?)?, Some(&to.description).filter(|text| !text.is_empty())),
            RefOr::T(_) => (part, None),
        };
        let part = match schema {
            RefOr::T(Schema::Object(part)) => part.clone(),
            RefOr::T(Schema::AllOf(parts)) => merge_parts(parts, schemas)?,
            _ => return None,
        };
        whole.schema_type = part.schema_type;
        whole.properties.extend(part.properties);
        whole.required.extend(part.required);
        // The last one is that of the composition; those before it are of its parts.
        whole.description = description.cloned().or(part.description).or(whole.description);
    }
    whole.description = parts.description.clone().or(whole.description);
    Some(whole)
}

fn name_of(to: &Ref) -> Option<&str> {
    to.ref_location.rsplit('/').next()
}

/// Replaces the variants of a union by references, and returns their schemas; `None` if no member tells them apart.
fn split(name: &str, union: &mut OneOf) -> Option<Schemas> {
    let objects: Vec<&Object> = union.items.iter().map(as_object).collect::<Option<_>>()?;
    let members = objects.first()?.properties.keys();
    let (tag, values) = members.into_iter().find_map(|member| {
        let values: Option<Vec<&str>> = objects.iter().map(|object| only_value(object, member)).collect();
        Some((member.clone(), values?))
    })?;
    let named: Vec<(String, String, Object)> = (values.iter().zip(&objects))
        .map(|(value, object)| ((*value).to_owned(), format!("{name}{}", pascal_case(value)), (*object).clone()))
        .collect();
    union.items = named.iter().map(|(_, schema, _)| Ref::from_schema_name(schema).into()).collect();
    let mapping = named.iter().map(|(value, schema, _)| (value.clone(), Ref::from_schema_name(schema).ref_location));
    union.discriminator = Some(Discriminator::with_mapping(tag, mapping));
    Some(named.into_iter().map(|(_, schema, object)| (schema, RefOr::T(Schema::Object(object)))).collect())
}

fn as_object(schema: &RefOr<Schema>) -> Option<&Object> {
    match schema {
        RefOr::T(Schema::Object(object)) if !object.properties.is_empty() => Some(object),
        _ => None,
    }
}

/// The only value that this member may have.
fn only_value<'a>(object: &'a Object, member: &str) -> Option<&'a str> {
    match object.properties.get(member)? {
        RefOr::T(Schema::Object(member)) => match member.enum_values.as_deref()? {
            [value] => value.as_str(),
            _ => None,
        },
        _ => None,
    }
}

/// `eyes_shut` becomes `EyesShut`.
fn pascal_case(value: &str) -> String {
    value
        .split('_')
        .flat_map(|word| word.chars().take(1).flat_map(char::to_uppercase).chain(word.chars().skip(1)))
        .collect()
}
