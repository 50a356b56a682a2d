//! Whether the checks can read what a plan's connectors will write: known from their settings, before anything starts.

use super::RunError;
use crate::scenario::{ConnectorPlan, Plan};
use cdc_verify::{VerifyError, decode::settings::ConnectorSettings};

/// Refuses a plan with a connector whose settings no check understands. The error names the connector's file and the setting.
pub fn readable(plan: &Plan) -> Result<(), RunError> {
    for drill in &plan.drills {
        for connector in &drill.pipeline.connectors {
            understood(connector)
                .map_err(|error| RunError::Connector { scenario: drill.scenario.clone(), cause: Box::new(error) })?;
        }
    }
    Ok(())
}

fn understood(connector: &ConnectorPlan) -> Result<(), VerifyError> {
    ConnectorSettings::parse(connector.file.as_str(), &connector.settings).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Library;
    use cdc_model::units::Failure;

    #[test]
    fn a_connector_whose_records_no_check_reads_is_refused_by_its_file_and_setting() {
        let mut plan = Library::here().one("slot-loss").unwrap().plan(None);
        readable(&plan).unwrap();
        let connector = &mut plan.drills[0].pipeline.connectors[0];
        connector.settings.insert("plugin.name".into(), "decoderbufs".into());
        let file = connector.file.clone();
        let error = readable(&plan).unwrap_err();
        assert_eq!(error.exit(), cdc_model::units::Exit::Invalid);
        let text = error.to_string();
        assert!(text.contains(file.as_str()) && text.contains("plugin.name=decoderbufs"), "{text}");
    }
}
