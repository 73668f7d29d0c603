//! The checked-in protobuf code is what `proto/` says. Run with `PANDAS_DB_UPDATE_GENERATED=1` to write it anew.

use std::path::Path;

use crate::root;

const PROTO: &str = "pandas_db/v1/pandas_db.proto";
const PACKAGE_FILE: &str = "pandas_db.v1.rs";

/// Compiles the `.proto` file in pure Rust and adds the serde attributes of proto3's JSON form.
fn generate(out: &Path) -> String {
    let descriptors = protox::compile([PROTO], [root().join("proto")]).expect("the .proto file compiles");
    let mut config = prost_build::Config::new();
    config.out_dir(out);
    config.message_attribute(
        ".",
        "#[derive(serde::Serialize, serde::Deserialize)]\n#[serde(default, deny_unknown_fields)]",
    );
    for message in &descriptors.file.iter().flat_map(|file| &file.message_type).collect::<Vec<_>>() {
        for field in &message.field {
            let path = format!("{}.{}", message.name(), field.name());
            config.field_attribute(&path, serde_attribute(field));
        }
    }
    config.compile_fds(descriptors).expect("prost writes the code");
    std::fs::read_to_string(out.join(PACKAGE_FILE)).expect("the generated file is there")
}

fn serde_attribute(field: &prost_types::FieldDescriptorProto) -> &'static str {
    use prost_types::field_descriptor_proto::{Label, Type};
    if field.label() == Label::Repeated {
        return "#[serde(deserialize_with = \"super::json::nullable\")]";
    }
    match (field.r#type(), field.proto3_optional()) {
        (Type::Bytes, _) => "#[serde(with = \"super::json::base64\")]",
        (Type::Int64, true) => {
            "#[serde(skip_serializing_if = \"Option::is_none\", deserialize_with = \"super::json::optional_integer\")]"
        }
        (Type::Int64, false) => "#[serde(deserialize_with = \"super::json::integer\")]",
        (_, true) => "#[serde(skip_serializing_if = \"Option::is_none\")]",
        (_, false) => "#[serde(deserialize_with = \"super::json::nullable\")]",
    }
}

#[test]
fn generated_code_is_current() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let wanted = generate(folder.path());
    let path = root().join("src/proto/generated.rs");
    if std::env::var_os("PANDAS_DB_UPDATE_GENERATED").is_some() {
        std::fs::write(&path, &wanted).expect("the generated file can be written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, wanted, "run: PANDAS_DB_UPDATE_GENERATED=1 cargo test --test it generated");
}
