//! The proofs so far, and how long and how large they were one after the other: pure.

use serde::Serialize;

use cdc_engine::backup::Proof;

/// Proofs before the last one that it is compared with.
const COMPARED_WITH: usize = 10;

/// The proofs so far, with the trend of what they measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct History {
    /// Every proof, oldest first.
    pub proofs: Vec<Proof>,
    /// The time that a recovery takes; null where no proof came to its end.
    pub rto: Option<StepTrend>,
    /// Each step of the last proof that came to its end.
    pub steps: Vec<StepTrend>,
    /// The stored bytes of the points; null where there is none.
    pub point_bytes: Option<StepTrend>,
    /// The bytes of the restored databases.
    pub database_bytes: Option<StepTrend>,
}

/// A measure of the last proof, beside those before.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepTrend {
    /// What is measured: `rto`, a step, `point_bytes`.
    pub name: String,
    /// Of the last proof: seconds or bytes.
    pub last: f64,
    /// The middle one of the proofs before it, ten at most; null for the first.
    pub before: Option<f64>,
    /// How many those are.
    pub proofs: usize,
    /// `last` as a share of `before`: 1.2 is a fifth more. Null where there is none before, or it is zero.
    pub ratio: Option<f64>,
}

/// The trend of what proofs measured that came to their end, by pipeline in their order. Others are in the list alone.
pub fn history(proofs: Vec<Proof>) -> History {
    let ended: Vec<&Proof> = proofs.iter().filter(|proof| proof.rto_seconds.is_some()).collect();
    let of = |name: &str, measure: &dyn Fn(&Proof) -> Option<f64>| trend(name, &ended, measure);
    let names = ended.last().map(|last| last.steps.iter().map(|step| step.name.clone()).collect::<Vec<_>>());
    let steps = names.unwrap_or_default();
    let step = |name: &String| {
        of(name, &|proof: &Proof| proof.steps.iter().find(|step| step.name == *name).map(|step| step.seconds))
    };
    History {
        rto: of("rto", &|proof: &Proof| proof.rto_seconds),
        steps: steps.iter().filter_map(step).collect(),
        point_bytes: of("point_bytes", &|proof: &Proof| Some(proof.size.point_bytes as f64)),
        database_bytes: of("database_bytes", &|proof: &Proof| proof.size.database_bytes.map(|bytes| bytes as f64)),
        proofs,
    }
}

fn trend(name: &str, ended: &[&Proof], measure: &dyn Fn(&Proof) -> Option<f64>) -> Option<StepTrend> {
    let (last, earlier) = ended.split_last()?;
    // Another pipeline in the repository is another size.
    let same = earlier.iter().rev().filter(|proof| proof.pipeline.system_id == last.pipeline.system_id);
    let mut before: Vec<f64> = same.filter_map(|proof| measure(proof)).take(COMPARED_WITH).collect();
    before.sort_by(f64::total_cmp);
    let middle = middle(&before);
    let last = measure(last)?;
    Some(StepTrend {
        name: name.to_owned(),
        last,
        before: middle,
        proofs: before.len(),
        ratio: middle.filter(|middle| *middle > 0.0).map(|middle| last / middle),
    })
}

fn middle(sorted: &[f64]) -> Option<f64> {
    let half = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length % 2 == 1 => sorted.get(half).copied(),
        _ => Some((sorted.get(half - 1)? + sorted.get(half)?) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cdc_engine::backup::{Origin, ProofSize, ProofStep};
    use cdc_model::units::{PointId, SystemId, Verdict};

    fn proof(system: u64, rto: Option<f64>, bytes: u64) -> Proof {
        Proof {
            id: "20261123T020000Z-0001".into(),
            point: PointId::new("20261122T020000Z-7f3a"),
            manifest: "ab".into(),
            pipeline: Origin { system_id: Some(SystemId(system)), kafka: None, registry: None },
            started: "2026-11-23T02:00:00Z".into(),
            ended: "2026-11-23T02:01:00Z".into(),
            verdict: Verdict::Passed,
            exit_code: 0,
            reason: String::new(),
            rto_seconds: rto,
            steps: rto
                .map(|s| ProofStep { name: "restore-database".into(), seconds: s, recovers: true })
                .into_iter()
                .collect(),
            size: ProofSize { point_bytes: bytes, ..ProofSize::default() },
            by: "a@b".into(),
            program: "0".into(),
            evidence: "e".into(),
            evidence_sha256: "ab".into(),
            signed: false,
        }
    }

    #[test]
    fn the_last_proof_is_held_against_the_middle_of_those_before_of_its_pipeline() {
        let all =
            [proof(1, Some(2.0), 10), proof(1, Some(90.0), 10), proof(1, Some(4.0), 30), proof(2, Some(500.0), 1)];
        let mut proofs = all.to_vec();
        proofs.extend([proof(1, None, 99), proof(1, Some(8.0), 20)]);
        let history = history(proofs);
        let rto = history.rto.unwrap();
        assert_eq!((rto.last, rto.before, rto.proofs, rto.ratio), (8.0, Some(4.0), 3, Some(2.0)));
        assert_eq!(history.steps[0].ratio, Some(2.0));
        assert_eq!(history.point_bytes.unwrap().ratio, Some(2.0));
        assert_eq!(history.database_bytes, None);
        assert_eq!(history.proofs.len(), 6);
    }

    #[test]
    fn a_first_proof_has_nothing_before_it_and_one_without_end_no_trend() {
        let first = history(vec![proof(1, Some(2.0), 0)]);
        assert_eq!(first.rto.map(|trend| (trend.before, trend.ratio)), Some((None, None)));
        assert_eq!(history(vec![proof(1, None, 0)]).rto, None);
        assert_eq!(history(Vec::new()).rto, None);
        let even = history([1.0, 2.0, 4.0, 9.0, 6.0].map(|s| proof(1, Some(s), 0)).to_vec());
        assert_eq!(even.rto.map(|trend| trend.before), Some(Some(3.0)));
    }
}
