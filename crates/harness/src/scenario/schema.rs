//! The JSON schema of the scenario language, made from the model, for editors.

use super::model::Scenario;

/// The schema.
pub fn schema() -> schemars::Schema {
    schemars::schema_for!(Scenario)
}

/// The schema as it stands in `scenarios/schema.json`.
pub fn schema_text() -> String {
    format!("{:#}\n", schema().to_value())
}
