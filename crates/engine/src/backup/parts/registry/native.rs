//! What Apicurio makes of a schema that is registered as a subject's version. What an export has otherwise is kept as the export has it.

use serde_json::{Value, json};

use crate::backup::hash::sha256;
use cdc_pipeline::client::registry::Reference;

/// The branch that has the versions of an artifact in their order.
pub(super) const LATEST: &str = "latest";

/// The media type of a content.
pub(super) fn content_type(schema_type: &str) -> &'static str {
    if schema_type == "PROTOBUF" { "application/x-protobuf" } else { "application/json" }
}

/// References as Apicurio hashes and stores them: this order of keys, no spaces.
pub(super) fn serialized_references(references: &[Reference]) -> Option<String> {
    if references.is_empty() {
        return None;
    }
    let list = references
        .iter()
        .map(|r| json!({"groupId": null, "artifactId": r.subject, "version": r.version.to_string(), "name": r.name}));
    Some(Value::Array(list.collect()).to_string())
}

/// The hash by which Apicurio finds a text that is registered again: a wrong one would give it a new id.
pub(super) fn content_hash(text: &str, references: &[Reference]) -> String {
    sha256(format!("{text}{}", serialized_references(references).as_deref().unwrap_or_default()).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cdc_model::units::{Subject, SubjectVersion};

    #[test]
    fn references_are_hashed_as_apicurio_does() {
        // Taken from an export of 3.3.3.
        let schema = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"A"}]}"#;
        let reference = Reference { name: "A".into(), subject: Subject::new("base-value"), version: SubjectVersion(1) };
        let serialized = serialized_references(std::slice::from_ref(&reference)).unwrap();
        assert_eq!(serialized, r#"[{"groupId":null,"artifactId":"base-value","version":"1","name":"A"}]"#);
        assert_eq!(
            content_hash(schema, &[reference]),
            "c1af93294f6d831f2f8eeeafd9ed544a9395d8e828909dc977471b1633def4d0"
        );
    }
}
