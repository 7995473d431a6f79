//! How the widths of numbers are called in the OpenAPI document: as the format registry of the OpenAPI Initiative has them (`uint32`).

use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::schema::{AdditionalProperties, ArrayItems, KnownFormat, Schema, SchemaFormat};
use utoipa::openapi::{OpenApi, RefOr};

/// Calls them so everywhere.
pub(super) fn rename(document: &mut OpenApi) {
    if let Some(components) = &mut document.components {
        components.schemas.values_mut().for_each(in_schema);
    }
    let operations = document.paths.paths.values_mut().flat_map(operations);
    let parameters = operations.flat_map(|operation| operation.parameters.iter_mut().flatten());
    for parameter in parameters {
        if let RefOr::T(parameter) = parameter
            && let Some(schema) = &mut parameter.schema
        {
            in_schema(schema);
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem {
        get,
        put,
        post,
        delete,
        patch,
        ..
    } = item;
    [get, put, post, delete, patch].into_iter().filter_map(Option::as_mut)
}

fn in_schema(schema: &mut RefOr<Schema>) {
    let RefOr::T(schema) = schema else { return };
    match schema {
        Schema::Object(object) => {
            if let Some(SchemaFormat::KnownFormat(known)) = &object.format
                && let Some(name) = name(known)
            {
                object.format = Some(SchemaFormat::Custom(name.to_owned()));
            }
            object.properties.values_mut().for_each(in_schema);
            if let Some(AdditionalProperties::RefOr(of)) = object.additional_properties.as_deref_mut() {
                in_schema(of);
            }
        }
        Schema::Array(array) => {
            if let ArrayItems::RefOrSchema(of) = &mut array.items {
                in_schema(of);
            }
        }
        Schema::OneOf(one) => one.items.iter_mut().for_each(in_schema),
        Schema::AllOf(all) => all.items.iter_mut().for_each(in_schema),
        Schema::AnyOf(any) => any.items.iter_mut().for_each(in_schema),
        _ => {}
    }
}

fn name(known: &KnownFormat) -> Option<&'static str> {
    match known {
        KnownFormat::UInt8 => Some("uint8"),
        KnownFormat::UInt16 => Some("uint16"),
        KnownFormat::UInt32 => Some("uint32"),
        KnownFormat::UInt64 => Some("uint64"),
        _ => None,
    }
}
