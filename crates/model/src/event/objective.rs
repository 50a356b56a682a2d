//! Promises of time, and what was measured of them.

use serde::{Deserialize, Serialize};

use crate::units::{Exit, Verdict};

/// What is promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Objective {
    /// How long a recovery takes.
    Rto,
    /// How much time of changes is lost.
    Rpo,
}

impl Objective {
    /// The word in reports.
    pub fn word(self) -> &'static str {
        match self {
            Objective::Rto => "rto",
            Objective::Rpo => "rpo",
        }
    }
}

/// A promise, what was measured of it, and what that comes to. What was not measured keeps nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ObjectiveReport {
    /// What is promised.
    pub objective: Objective,
    /// Seconds at most.
    pub limit_seconds: f64,
    /// Seconds as measured; null where they were not.
    pub measured_seconds: Option<f64>,
    /// Passed within the limit, failed beyond it, inconclusive without a measurement.
    pub verdict: Verdict,
    /// Why there is no measurement; empty where there is one.
    pub why: String,
}

impl ObjectiveReport {
    /// Holds a measurement, or why there is none, against its limit. Not within the limit is beyond it, also what is no number.
    pub fn of(objective: Objective, limit_seconds: f64, measured: Result<f64, String>) -> ObjectiveReport {
        let (verdict, measured_seconds, why) = match measured {
            Ok(seconds) if seconds.is_finite() => {
                let verdict = if seconds <= limit_seconds { Verdict::Passed } else { Verdict::Failed };
                (verdict, Some(seconds), String::new())
            }
            Ok(seconds) => (Verdict::Inconclusive, None, format!("{seconds} is no number of seconds")),
            Err(why) => (Verdict::Inconclusive, None, why),
        };
        ObjectiveReport { objective, limit_seconds, measured_seconds, verdict, why }
    }

    /// What came of a promised time of recovery and a promised loss, in seconds, those that there are.
    pub fn of_both(
        (rto_limit, rto): (Option<f64>, Result<f64, String>),
        (rpo_limit, rpo): (Option<f64>, Result<f64, String>),
    ) -> Vec<ObjectiveReport> {
        let rto = rto_limit.map(|limit| ObjectiveReport::of(Objective::Rto, limit, rto));
        let rpo = rpo_limit.map(|limit| ObjectiveReport::of(Objective::Rpo, limit, rpo));
        rto.into_iter().chain(rpo).collect()
    }

    /// Its share in a command's exit code.
    pub fn exit(&self) -> Exit {
        match self.verdict {
            Verdict::Passed => Exit::Passed,
            Verdict::Failed => Exit::ObjectiveMissed,
            Verdict::Inconclusive => Exit::Inconclusive,
        }
    }
}

impl std::fmt::Display for ObjectiveReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (word, limit) = (self.objective.word(), self.limit_seconds);
        match self.measured_seconds {
            Some(seconds) => write!(f, "{word}: {seconds:.1} s, the objective is {limit} s"),
            None => write!(f, "{word}: not measured, the objective is {limit} s: {}", self.why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_measurement_within_the_limit_keeps_an_objective() {
        let of = |limit, measured| ObjectiveReport::of(Objective::Rto, limit, measured);
        let not = || Err("no proof came to its end".to_owned());
        for (limit, measured, exit) in [
            (60.0, Ok(59.9), Exit::Passed),
            (60.0, Ok(60.0), Exit::Passed),
            (60.0, Ok(60.1), Exit::ObjectiveMissed),
            (0.0, Ok(0.0), Exit::Passed),
            (0.0, Ok(0.001), Exit::ObjectiveMissed),
            (60.0, not(), Exit::Inconclusive),
            (0.0, not(), Exit::Inconclusive),
            (60.0, Ok(f64::NAN), Exit::Inconclusive),
            (60.0, Ok(f64::INFINITY), Exit::Inconclusive),
        ] {
            let report = of(limit, measured.clone());
            assert_eq!(report.exit(), exit, "{measured:?} of {limit}: {report}");
            assert_eq!(report.verdict == Verdict::Passed, exit == Exit::Passed);
        }
        assert_eq!(of(60.0, Ok(61.25)).to_string(), "rto: 61.2 s, the objective is 60 s");
        assert_eq!(of(0.5, not()).to_string(), "rto: not measured, the objective is 0.5 s: no proof came to its end");
    }
}
