//! Controls: what is left out, and what became of it.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use super::FindingKind;
use crate::units::Verdict;

/// What a control leaves out and what must then be seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlPlan {
    /// Unique within the variant: `without-delete-offsets`, `naive-slot-by-hand`.
    pub id: String,
    /// The step left out; where none is, the naive procedure done instead.
    pub without: String,
    /// The naive procedure done instead, where one is; absent in runs of earlier releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead: Option<String>,
    /// The check that must be red.
    pub check: String,
    /// The kind of finding it must report.
    pub kind: FindingKind,
    /// Whether connector and task must say RUNNING while the check is red.
    pub silent: bool,
}

impl ControlPlan {
    /// How the control differs from its variant: `without fence`, `with slot-by-hand instead`.
    pub fn difference(&self) -> String {
        difference(&self.without, self.instead.as_deref())
    }
}

/// How a control differs from its variant, by what it leaves out and what it does instead.
pub fn difference(without: &str, instead: Option<&str>) -> String {
    match instead {
        None => format!("without {without}"),
        Some(instead) if instead == without => format!("with {instead} instead"),
        Some(instead) => format!("without {without}, with {instead} instead"),
    }
}

/// What a second look, which asks in a way of its own, says of a finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confirmation {
    /// It is as the finding says: what was seen.
    #[serde(alias = "Ok")]
    Confirmed(String),
    /// It is not as the finding says: what was seen.
    #[serde(alias = "Err")]
    Refuted(String),
    /// It could not be asked, or the answer does not decide: why.
    CannotTell(String),
    /// What a run of format 1 wrote of it, without saying which it was.
    Words(String),
}

impl Confirmation {
    /// Whether the finding is confirmed.
    pub fn is_confirmed(&self) -> bool {
        matches!(self, Confirmation::Confirmed(_))
    }
}

impl fmt::Display for Confirmation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Confirmation::Confirmed(text)
        | Confirmation::Refuted(text)
        | Confirmation::CannotTell(text)
        | Confirmation::Words(text)) = self;
        f.write_str(text)
    }
}

fn of_any_version<'de, D: Deserializer<'de>>(json: D) -> Result<Option<Confirmation>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Read {
        Typed(Confirmation),
        Words(String),
    }
    Ok(match Option::<Read>::deserialize(json)? {
        Some(Read::Typed(confirmation)) => Some(confirmation),
        Some(Read::Words(text)) if !text.is_empty() => Some(Confirmation::Words(text)),
        Some(Read::Words(_)) | None => None,
    })
}

/// How a control came out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlReport {
    /// The control as planned.
    pub plan: ControlPlan,
    /// Passed: red as named, and confirmed. Failed: green. Inconclusive: red for another reason.
    pub verdict: Verdict,
    /// Whether the named check reported the named kind.
    pub red: bool,
    /// All findings of the named check; none when it has none of the named kind.
    pub findings_total: u64,
    /// What an independent query said about one finding; none where none was asked about.
    #[serde(default, alias = "confirmed", deserialize_with = "of_any_version")]
    pub confirmation: Option<Confirmation>,
    /// Why the verdict, in a sentence.
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_procedure_that_is_followed_is_not_left_out() {
        assert_eq!(difference("fence", None), "without fence");
        assert_eq!(difference("slot-by-hand", Some("slot-by-hand")), "with slot-by-hand instead");
        assert_eq!(difference("drop-slot", Some("slot-by-hand")), "without drop-slot, with slot-by-hand instead");
    }
}
