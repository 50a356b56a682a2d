//! A drill in a file, and judged again from it.

use serde::{Deserialize, Serialize};

use super::{Checked, Ending, Outcome, checked, outcome_of, secrets::Secrets};
use crate::run::chronicle::Chronicle;
use cdc_model::{
    event::{CheckReport, Confirmation},
    units::{DrillId, Exit},
};
use cdc_verify::Observation;
use cdc_workload::ledger::Ledger;

/// The format of `chronicle.json`. It goes with the program that wrote it: another one may refuse it, and never misreads it.
const FORMAT: u32 = 1;

/// Everything from which a drill was judged, without secrets: `chronicle.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    format: u32,
    /// The drill.
    pub drill: DrillId,
    /// What is known of it.
    pub chronicle: Chronicle,
    /// The error that ended it, where one did.
    pub failure: Option<Failure>,
    /// What was seen at its end; none where it did not get there.
    pub evidence: Option<Evidence>,
    /// What the checks said; empty where they did not look.
    pub checks: Vec<CheckReport>,
    /// How it ended.
    pub outcome: Outcome,
}

/// An error that ended a drill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Its exit code.
    pub exit: Exit,
    /// The error.
    pub why: String,
}

/// What was seen at the end of a drill.
#[derive(Debug, Serialize, Deserialize)]
pub struct Evidence {
    /// The pipeline.
    pub seen: Observation,
    /// What the workload did, with its commit order; none where it keeps no ledger.
    pub ledger: Option<Ledger>,
    /// What an independent query said of a control's finding: confirmed, or not.
    pub confirmed: Option<Confirmation>,
}

/// Why a `chronicle.json` cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It is of another format.
    #[error("chronicle.json has format {found}, expected {FORMAT}: judge it by the version of cdc-drill that wrote it")]
    Format {
        /// Its format.
        found: u64,
    },
    /// It is no chronicle.
    #[error("chronicle.json cannot be read: {0}")]
    Unreadable(serde_json::Error),
}

impl From<serde_json::Error> for RecordError {
    fn from(error: serde_json::Error) -> RecordError {
        RecordError::Unreadable(error)
    }
}

impl Record {
    /// A drill that has ended.
    pub fn new(
        drill: DrillId,
        chronicle: Chronicle,
        evidence: Option<Evidence>,
        failure: Option<Failure>,
        checks: Vec<CheckReport>,
        outcome: Outcome,
    ) -> Record {
        Record { format: FORMAT, drill, chronicle, failure, evidence, checks, outcome }
    }

    /// Reads one again.
    pub fn parse(json: &str) -> Result<Record, RecordError> {
        #[derive(Deserialize)]
        struct Header {
            format: u64,
        }
        let Header { format } = serde_json::from_str(json)?;
        if format != u64::from(FORMAT) {
            return Err(RecordError::Format { found: format });
        }
        Ok(serde_json::from_str(json)?)
    }

    /// Its text, without secrets.
    pub(crate) fn into_json(mut self) -> Result<String, RecordError> {
        let mut secrets = Secrets::default();
        self.chronicle.layout.sources.iter_mut().for_each(|source| secrets.mask(&mut source.config));
        if let Some(evidence) = &mut self.evidence {
            evidence.seen.connectors.iter_mut().for_each(|connector| secrets.mask(&mut connector.config));
        }
        Ok(secrets.mask_text(serde_json::to_string(&self)?))
    }

    /// Judges it again, by nothing but what is in it: what the checks say, and how the drill ends.
    pub fn judged(&self) -> (Vec<CheckReport>, Outcome) {
        if let Some(Failure { exit, why }) = &self.failure {
            return (Vec::new(), outcome_of(&self.chronicle, &Ending::CutShort { exit: *exit, why }));
        }
        if let Some((exit, why)) = self.chronicle.refusal() {
            return (Vec::new(), outcome_of(&self.chronicle, &Ending::Refused { exit, why }));
        }
        let Some(evidence) = &self.evidence else {
            let why = "the file holds nothing that was seen";
            return (Vec::new(), outcome_of(&self.chronicle, &Ending::CutShort { exit: Exit::Inconclusive, why }));
        };
        let checked: Checked = checked(&self.chronicle, &evidence.seen, evidence.ledger.as_ref());
        let outcome =
            outcome_of(&self.chronicle, &Ending::checked(&self.chronicle, &checked, evidence.confirmed.clone()));
        (checked.checks, outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::chronicle::{Layout, Source, Terms};
    use cdc_model::units::TableName;

    #[test]
    fn a_record_is_read_again_as_it_was_but_for_its_secrets() {
        let settings = [("topic.prefix", "d"), ("database.password", "correct-horse")];
        let source = Source {
            name: "d".into(),
            config: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            tables: vec![TableName::new("public", "a")],
            markers: TableName::new("public", "a"),
        };
        let layout = Layout { name: "d".into(), sources: vec![source], own_registry: false };
        let chronicle = Chronicle::new(Terms::default(), layout, cdc_model::units::Timeline::FIRST);
        let failure = Failure { exit: Exit::Inconclusive, why: "no server".into() };
        let ending = Ending::CutShort { exit: failure.exit, why: &failure.why };
        let outcome = outcome_of(&chronicle, &ending);
        let record =
            Record::new(DrillId::new("s/v"), chronicle, None, Some(failure.clone()), Vec::new(), outcome.clone());
        let json = record.into_json().unwrap();
        assert!(!json.contains("correct-horse"), "{json}");
        let again = Record::parse(&json).unwrap();
        assert_eq!((again.drill.as_str(), again.failure.as_ref()), ("s/v", Some(&failure)));
        assert_eq!(again.judged(), (Vec::new(), outcome));
        assert!(matches!(Record::parse(r#"{"format": 99}"#), Err(RecordError::Format { found: 99 })));
    }
}
