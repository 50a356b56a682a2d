//! The last proof of a point, of `proofs.json` in the repository.

use super::seen::ProofSeen;
use crate::backup::{BackupError, Origin, Proof, Repository};
use cdc_model::units::Verdict;

/// The newest proof of a point of a pipeline; none where there was none.
pub(super) fn newest(repository: &Repository, origin: &Origin) -> Result<Option<ProofSeen>, BackupError> {
    Ok(newest_of(repository.proofs()?, origin))
}

fn newest_of(proofs: Vec<Proof>, origin: &Origin) -> Option<ProofSeen> {
    let is_of_others = |line: &Proof| origin.system_id.zip(line.pipeline.system_id).is_some_and(|(own, of)| own != of);
    let own: Vec<Proof> = proofs.into_iter().filter(|line| !is_of_others(line)).collect();
    let passed_at = own.iter().rev().find(|line| line.verdict == Verdict::Passed).and_then(|l| l.ended.parse().ok());
    let newest = own.into_iter().next_back()?;
    Some(ProofSeen {
        at: newest.ended.parse().ok(),
        point: newest.point,
        manifest: newest.manifest,
        verdict: newest.verdict,
        exit_code: newest.exit_code,
        reason: newest.reason,
        rto_seconds: newest.rto_seconds,
        passed_at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::{
        fixture::{self, POINT, SYSTEM},
        format::checked,
    };
    use cdc_model::units::SystemId;
    use serde_json::json;

    #[test]
    fn the_newest_proof_of_this_pipeline_counts() {
        let (_folder, repository) = fixture::repository();
        let own = Origin { system_id: Some(SYSTEM), ..Origin::default() };
        assert_eq!(newest(&repository, &own).unwrap(), None);
        let line = |system: SystemId, ended: &str, verdict: &str| {
            json!({
                "id": ended, "point": POINT, "manifest": "ab", "started": ended, "ended": ended, "verdict": verdict,
                "pipeline": Origin { system_id: Some(system), ..Origin::default() }, "exit_code": 0, "reason": "",
                "rto_seconds": 7.5, "steps": [], "by": "me@h", "program": "0", "evidence": "e", "evidence_sha256": "", "signed": false,
                "size": {"point_bytes": 1, "database_bytes": null, "tables": 0, "rows": 0},
            })
        };
        let lines = [
            line(SYSTEM, "2026-11-20T02:00:00Z", "passed"),
            line(SYSTEM, "2026-11-21T02:00:00Z", "inconclusive"),
            line(SystemId(SYSTEM.0 + 1), "2026-11-22T02:00:00Z", "failed"),
        ];
        let path = repository.path().join("proofs.json");
        let bytes = checked::to_bytes(&path, &json!({ "proofs": lines })).unwrap();
        repository.store().write(&path, &bytes).unwrap();
        let seen = newest(&repository, &own).unwrap().unwrap();
        assert_eq!((seen.verdict, seen.rto_seconds), (Verdict::Inconclusive, Some(7.5)));
        assert_eq!(seen.passed_at.unwrap().to_string(), "2026-11-20T02:00:00Z");
        assert_eq!(newest(&repository, &Origin::default()).unwrap().unwrap().verdict, Verdict::Failed);
        fixture::flip(&path);
        assert!(newest(&repository, &own).unwrap_err().is_damage());
    }
}
