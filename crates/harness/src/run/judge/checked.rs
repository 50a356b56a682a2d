//! What the checks say of what was seen.

use crate::run::chronicle::{Chronicle, expectation};
use cdc_model::{
    event::{CheckReport, Rpo},
    units::Verdict,
    vocabulary::CheckId,
};
use cdc_verify::{Expectation, Observation, checks, observation::ConnectorView};
use cdc_workload::ledger::Ledger;

/// What the checks say of a drill.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Checked {
    /// The checks that the scenario asks for, in its order.
    pub checks: Vec<CheckReport>,
    /// What is lost; unknown without a ledger.
    pub rpo: Option<Rpo>,
    /// What connectors and tasks said while the checks looked.
    pub status: String,
    /// Whether that was RUNNING throughout.
    pub running: bool,
}

/// Judges what was seen by what the chronicle says must be there.
pub(crate) fn checked(chronicle: &Chronicle, seen: &Observation, ledger: Option<&Ledger>) -> Checked {
    let expected = Expectation { ledger, ..expectation(chronicle) };
    let checks = chronicle.terms.checks.iter().map(|id| timed(*id, seen, &expected)).collect();
    let rpo = ledger.map(|_| checks::rpo(seen, &expected));
    let said = |connector: &ConnectorView| match &connector.status {
        Ok(status) => (status.summary(), status.all_running()),
        Err(why) => (why.clone(), false),
    };
    let (said, running): (Vec<String>, Vec<bool>) = seen.connectors.iter().map(said).unzip();
    let status = if said.is_empty() { "no connector".into() } else { said.join("; ") };
    let running = !running.is_empty() && running.iter().all(|running| *running);
    Checked { checks, rpo, status, running }
}

/// A drill claims of `compatibility` that an incompatible schema is refused again: where none was offered, nobody knows.
fn probed(seen: &Observation, mut report: CheckReport) -> CheckReport {
    let is_open = report.id == CheckId::Compatibility.word() && report.verdict == Verdict::Passed;
    if is_open && seen.probes.iter().all(|probe| probe.compatible) {
        report.verdict = Verdict::Inconclusive;
        let why = "no incompatible schema was offered, as no captured table has a subject in the registry that could be asked";
        report.notes.insert(0, why.to_owned());
    }
    report
}

fn timed(id: CheckId, seen: &Observation, expected: &Expectation<'_>) -> CheckReport {
    let began = std::time::Instant::now();
    let report = probed(seen, checks::judge(id, seen, expected));
    tracing::debug!(check = id.word(), seconds = began.elapsed().as_secs_f64(), "judged");
    report
}

#[cfg(test)]
mod tests {
    use super::*;
    use cdc_verify::observation::Probe;

    #[test]
    fn compatibility_is_open_where_no_incompatible_schema_was_offered() {
        let verdict = |id: CheckId, probes: &[bool]| {
            let probe =
                |compatible: &bool| Probe { subject: "s".into(), compatible: *compatible, accepted: Ok(*compatible) };
            let seen = Observation { probes: probes.iter().map(probe).collect(), ..Observation::default() };
            probed(&seen, id.report(3, Vec::new(), Vec::new())).verdict
        };
        assert_eq!(verdict(CheckId::Compatibility, &[true, false]), Verdict::Passed);
        for none in [&[][..], &[true]] {
            assert_eq!(verdict(CheckId::Compatibility, none), Verdict::Inconclusive, "{none:?}");
        }
        assert_eq!(verdict(CheckId::Positions, &[]), Verdict::Passed);
    }
}
