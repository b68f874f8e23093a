//! The compiled protos are the published contract (`contract.txt`) plus Arcgate's additions (`additions.txt`), and nothing else.

use std::collections::BTreeSet;

use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet};

const CONTRACT: &str = include_str!("contract.txt");
const ADDITIONS: &str = include_str!("additions.txt");

#[test]
fn the_protos_are_the_contract_and_the_additions() {
    let written: BTreeSet<String> = rows(CONTRACT).chain(rows(ADDITIONS)).map(str::to_owned).collect();
    let compiled = compiled();
    let missing: Vec<_> = written.difference(&compiled).collect();
    let surplus: Vec<_> = compiled.difference(&written).collect();
    assert!(missing.is_empty() && surplus.is_empty(), "the protos lack {missing:#?} and have {surplus:#?} too much");
}

/// Of messages and enums that Arcentra has too, numbers below 100 are Arcentra's.
#[test]
fn additions_to_published_types_have_numbers_from_100() {
    let published: BTreeSet<&str> = rows(CONTRACT).filter_map(|row| numbered(row).map(|(owner, _)| owner)).collect();
    for row in rows(ADDITIONS) {
        if let Some((owner, number)) = numbered(row) {
            assert!(number >= 100 || !published.contains(owner), "{row}");
        }
    }
}

/// The type that a `field` or `value` row belongs to, and its number there.
fn numbered(row: &str) -> Option<(&str, u32)> {
    let mut words = row.split(' ');
    matches!(words.next()?, "field" | "value").then_some(())?;
    Some((words.next()?, words.next()?.parse().unwrap()))
}

/// The lines of a table that are not empty and no comments.
fn rows(table: &str) -> impl Iterator<Item = &str> {
    table.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// The compiled protos as such rows.
fn compiled() -> BTreeSet<String> {
    let mut rows = BTreeSet::new();
    for file in FileDescriptorSet::decode(arcgate_api::FILE_DESCRIPTOR_SET).unwrap().file {
        if file.package() != "google.protobuf" {
            add_file(&file, &mut rows);
        }
    }
    rows
}

fn add_file(file: &FileDescriptorProto, rows: &mut BTreeSet<String>) {
    let package = file.package();
    assert_eq!(file.syntax(), "proto3", "{}", file.name());
    rows.insert(format!("file {} package {package}", file.name()));
    for import in &file.dependency {
        rows.insert(format!("import {} {import}", file.name()));
    }
    for service in &file.service {
        for call in &service.method {
            let kind = match (call.client_streaming(), call.server_streaming()) {
                (false, false) => "unary",
                (true, false) => "client",
                (false, true) => "server",
                (true, true) => "bidi",
            };
            rows.insert(format!(
                "rpc /{package}.{}/{} {kind} {} {}",
                service.name(),
                call.name(),
                &call.input_type()[1..],
                &call.output_type()[1..]
            ));
        }
    }
    for message in &file.message_type {
        add_message(package, message, rows);
    }
    for enumeration in &file.enum_type {
        add_enum(package, enumeration, rows);
    }
}

fn add_message(scope: &str, message: &DescriptorProto, rows: &mut BTreeSet<String>) {
    let name = format!("{scope}.{}", message.name());
    for field in &message.field {
        let map = message
            .nested_type
            .iter()
            .find(|nested| is_map_entry(nested) && field.type_name() == format!(".{name}.{}", nested.name()));
        let kind = match map {
            Some(entry) => format!("map<{},{}>", kind(&entry.field[0]), kind(&entry.field[1])),
            None if field.label() == Label::Repeated => format!("repeated {}", kind(field)),
            None => kind(field),
        };
        assert!(!field.proto3_optional(), "{name}.{} is optional", field.name());
        let oneof = field.oneof_index.map(|index| message.oneof_decl[index as usize].name());
        let oneof = oneof.map(|oneof| format!(" oneof {oneof}")).unwrap_or_default();
        rows.insert(format!("field {name} {} {} {kind}{oneof}", field.number(), field.name()));
    }
    for nested in &message.nested_type {
        if !is_map_entry(nested) {
            add_message(&name, nested, rows);
        }
    }
    for enumeration in &message.enum_type {
        add_enum(&name, enumeration, rows);
    }
}

fn is_map_entry(message: &DescriptorProto) -> bool {
    message.options.as_ref().is_some_and(|options| options.map_entry())
}

fn add_enum(scope: &str, enumeration: &EnumDescriptorProto, rows: &mut BTreeSet<String>) {
    for value in &enumeration.value {
        let (number, name) = (value.number(), value.name());
        rows.insert(format!("value {scope}.{} {number} {name}", enumeration.name()));
    }
}

/// A field's type as the protos write it, without label, names in full.
fn kind(field: &FieldDescriptorProto) -> String {
    match field.r#type() {
        Type::Message | Type::Enum => field.type_name()[1..].to_owned(),
        scalar => scalar.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
    }
}
