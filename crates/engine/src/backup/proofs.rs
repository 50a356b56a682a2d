//! `proofs.json`: every proof of a recovery point so far. What a proof saw lies beside its point and goes with it; the line stays.

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::{
    BackupError, Lock, Origin, Point, Repository,
    files::{self, is_there},
    format::checked,
    hash::sha256,
    storage,
};
use cdc_model::units::{PointId, Verdict};

/// The folder below a point's own in which its proofs lie, each in a folder of its own.
const FOLDER: &str = "proofs";
/// What a proof saw, judged and left out.
pub const EVIDENCE: &str = "evidence.json";

/// A proof of a recovery point: it was restored into a scratch stack and judged there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Proof {
    /// Its id: when it began, and four digits against another one of that second.
    pub id: String,
    /// The point.
    pub point: PointId,
    /// The hash of the point's manifest.
    pub manifest: String,
    /// The pipeline that the point is of.
    pub pipeline: Origin,
    /// When it began, RFC 3339.
    pub started: String,
    /// When it ended, RFC 3339.
    pub ended: String,
    /// What it came to. One that could not compare is inconclusive.
    pub verdict: Verdict,
    /// The exit code of the command.
    pub exit_code: u8,
    /// Why it is not green; empty when it is. An encrypted repository has that in the evidence alone.
    pub reason: String,
    /// Seconds of the steps that a recovery has too; null where they did not come to their end.
    pub rto_seconds: Option<f64>,
    /// The steps, in their order.
    pub steps: Vec<ProofStep>,
    /// How much it was.
    pub size: ProofSize,
    /// Who proved: `account@machine`.
    pub by: String,
    /// The version of this program.
    pub program: String,
    /// The evidence, below the repository.
    pub evidence: String,
    /// The hash of the evidence as it is stored: in an encrypted repository that of what is encrypted.
    pub evidence_sha256: String,
    /// Whether a signature was made.
    pub signed: bool,
}

/// A step of a proof.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProofStep {
    /// Its name: `restore-database`.
    pub name: String,
    /// How long it took.
    pub seconds: f64,
    /// Whether a recovery has it too, so that it counts in `rto_seconds`.
    pub recovers: bool,
}

/// How much was proved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProofSize {
    /// The stored bytes of the point's files.
    pub point_bytes: u64,
    /// What the databases take once restored; null where they were not.
    pub database_bytes: Option<u64>,
    /// Published tables that were compared with the point's fingerprints.
    pub tables: u64,
    /// Rows that were compared with records.
    pub rows: u64,
}

/// `proofs.json`. The field is always written: without a default, another file with a checksum of its own is not taken for this one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct History {
    proofs: Vec<Proof>,
}

/// The history's file.
pub(crate) fn path(root: &Utf8Path) -> Utf8PathBuf {
    root.join("proofs.json")
}

/// The files of a proof: name and content.
pub type ProofFile = (String, Vec<u8>);

impl Repository {
    /// Every proof so far, oldest first, those of points that were pruned since too. None where nothing was ever proved. An error means that
    /// it is not known: the file is damaged, or cannot be read.
    pub fn proofs(&self) -> Result<Vec<Proof>, BackupError> {
        let history: Option<History> = checked::read(&path(self.path()))?;
        Ok(history.unwrap_or_default().proofs)
    }

    /// The folder of a proof, below its point's.
    pub fn proof_folder(&self, point: &Point, id: &str) -> Utf8PathBuf {
        point.folder.join(FOLDER).join(id)
    }

    /// Writes the files of a proof beside its point, as content: findings hold values of rows. Refused where the point is not there any
    /// more as it was.
    pub fn write_proof(&self, point: &Point, id: &str, contents: &[ProofFile], lock: &Lock) -> Result<(), BackupError> {
        lock.still_ours()?;
        let folder = self.proof_folder(point, id);
        self.store().folder(&folder)?;
        contents.iter().try_for_each(|(name, bytes)| self.store().write_content(&folder.join(name), bytes).map(drop))
    }

    /// A file of a proof; none where it is not there. Refused (36) where it is encrypted and there is no identity for it.
    pub fn proof_file(&self, point: &Point, id: &str, name: &str) -> Result<Option<Vec<u8>>, BackupError> {
        let path = self.proof_folder(point, id).join(name);
        files::read_if_there(&path)?.map(|stored| self.seal().open(&path, stored)).transpose()
    }

    /// The hash of a proof's evidence as it is stored; none where it is not there.
    pub fn evidence_sha256(&self, point: &Point, id: &str) -> Result<Option<String>, BackupError> {
        let stored = files::read_if_there(&self.proof_folder(point, id).join(EVIDENCE))?;
        Ok(stored.map(|stored| sha256(&stored)))
    }

    /// The ids of the proofs that lie beside a point, oldest first.
    pub fn proofs_of(&self, point: &Point) -> Result<Vec<String>, BackupError> {
        let entries = storage::entries(&point.folder.join(FOLDER))?.unwrap_or_default();
        let mut ids: Vec<String> =
            entries.iter().filter(|entry| entry.is_folder).map(|entry| entry.name().to_owned()).collect();
        ids.sort();
        Ok(ids)
    }

    /// Adds a line to the history. What another process adds meanwhile stays.
    pub fn note_proof(&self, proof: &Proof) -> Result<(), BackupError> {
        let path = path(self.path());
        let mut proof = proof.clone();
        // Reasons name objects and values.
        if self.is_encrypted() && !proof.reason.is_empty() {
            "its evidence says why".clone_into(&mut proof.reason);
        }
        self.store().change(&path, |bytes| {
            let noted: Option<History> = bytes.map(|bytes| checked::from_bytes(&path, &bytes)).transpose()?;
            let mut history = noted.unwrap_or_default();
            history.proofs.push(proof.clone());
            history.proofs.sort_by(|a, b| (&a.started, &a.id).cmp(&(&b.started, &b.id)));
            checked::to_bytes(&path, &history).map(Some)
        })
    }
}

/// Whether a path below a point's folder is a file of a proof.
pub(crate) fn is_of_a_proof(below_point: &str) -> bool {
    below_point.strip_prefix(FOLDER).is_some_and(|rest| rest.starts_with('/'))
}

/// What is wrong with the evidence that a history names for points that are there: path, what was expected and what was found.
pub(crate) fn damaged(
    root: &Utf8Path,
    proofs: &[Proof],
    is_point_there: impl Fn(&PointId) -> bool,
) -> Result<Vec<(Utf8PathBuf, String, String)>, BackupError> {
    let mut wrong = Vec::new();
    for proof in proofs.iter().filter(|proof| is_point_there(&proof.point)) {
        let path = root.join(&proof.evidence);
        let expected = format!("the evidence of proof {}", proof.id);
        match files::read_if_there(&path)? {
            None => wrong.push((path, expected, "nothing".to_owned())),
            Some(bytes) if sha256(&bytes) != proof.evidence_sha256 => {
                wrong.push((path, format!("sha256 {}", proof.evidence_sha256), sha256(&bytes)));
            }
            Some(_) => {}
        }
    }
    Ok(wrong)
}

/// Whether there is a history.
pub(crate) fn is_noted(root: &Utf8Path) -> Result<bool, BackupError> {
    is_there(&path(root))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::{Activity, CheckOptions, PointSelector, check, fixture};
    use cdc_model::units::Exit;

    fn proof(repository: &Repository, id: &str, evidence: &[u8]) -> Proof {
        let point = repository.point(&PointSelector::Latest).unwrap();
        let folder = repository.proof_folder(&point, id);
        Proof {
            id: id.into(),
            point: point.id().clone(),
            manifest: point.manifest_sha256.clone(),
            pipeline: Origin::of(&point.manifest),
            started: "2026-11-23T02:00:00Z".into(),
            ended: "2026-11-23T02:01:00Z".into(),
            verdict: Verdict::Passed,
            exit_code: 0,
            reason: String::new(),
            rto_seconds: Some(3.5),
            steps: vec![ProofStep { name: "restore-database".into(), seconds: 3.5, recovers: true }],
            size: ProofSize::default(),
            by: "somebody@somewhere".into(),
            program: "0.0.0".into(),
            evidence: folder.strip_prefix(repository.path()).unwrap().join(EVIDENCE).into_string(),
            evidence_sha256: sha256(evidence),
            signed: false,
        }
    }

    fn proved(repository: &Repository, id: &str) -> Proof {
        let lock = repository.lock(Activity::Prove, "prove").unwrap();
        let point = repository.point(&PointSelector::Latest).unwrap();
        let files = [(EVIDENCE.to_owned(), b"{}".to_vec()), ("report.html".to_owned(), b"<p>".to_vec())];
        repository.write_proof(&point, id, &files, &lock).unwrap();
        let proof = proof(repository, id, b"{}");
        repository.note_proof(&proof).unwrap();
        proof
    }

    #[test]
    fn evidence_is_no_stranger_and_a_change_of_it_is_named() {
        let (_folder, repository) = fixture::repository();
        assert!(repository.proofs().unwrap().is_empty());
        let proof = proved(&repository, "20261123T020000Z-0001");
        assert_eq!(repository.proofs().unwrap(), std::slice::from_ref(&proof));
        for deep in [false, true] {
            let report = check(&repository, &CheckOptions { deep, ..CheckOptions::default() }).unwrap();
            assert_eq!(report.exit(), Exit::Passed, "{:?}", report.defects);
        }
        let point = repository.point(&PointSelector::Latest).unwrap();
        let report = crate::backup::verify(&repository, point.id(), &CheckOptions::default()).unwrap();
        assert_eq!(report.exit(), Exit::Passed, "{:?}", report.defects);
        let path = repository.path().join(&proof.evidence);
        std::fs::write(&path, b"{ }").unwrap();
        let report = check(&repository, &CheckOptions::default()).unwrap();
        assert_eq!((report.exit(), report.defects.len()), (Exit::ChecksumMismatch, 1), "{:?}", report.defects);
        assert!(report.defects[0].path.ends_with("20261123T020000Z-0001/evidence.json"), "{:?}", report.defects);
        std::fs::remove_file(&path).unwrap();
        let report = check(&repository, &CheckOptions::default()).unwrap();
        assert_eq!(report.exit(), Exit::BackupIncomplete, "{:?}", report.defects);
    }

    #[test]
    fn a_history_that_is_lost_or_damaged_is_missed() {
        let (_folder, repository) = fixture::repository();
        proved(&repository, "20261123T020000Z-0001");
        let path = path(repository.path());
        let bytes = std::fs::read(&path).unwrap();
        fixture::flip(&path);
        assert!(repository.proofs().unwrap_err().is_damage());
        let report = check(&repository, &CheckOptions::default()).unwrap();
        assert_eq!(report.exit(), Exit::ChecksumMismatch, "{:?}", report.defects);
        std::fs::remove_file(&path).unwrap();
        let report = check(&repository, &CheckOptions::default()).unwrap();
        assert_eq!(report.exit(), Exit::BackupIncomplete, "{:?}", report.defects);
        assert_eq!(report.defects[0].path, "proofs.json");
        std::fs::write(&path, bytes).unwrap();
        let report = check(&repository, &CheckOptions::default()).unwrap();
        assert_eq!(report.exit(), Exit::Passed, "{:?}", report.defects);
    }

    #[test]
    fn evidence_goes_with_its_point_and_the_line_stays() {
        let (_folder, repository) = fixture::repository();
        let proof = proved(&repository, "20261123T020000Z-0001");
        let first = repository.point(&PointSelector::Latest).unwrap();
        let far = |manifest: &mut crate::backup::Manifest| manifest.window.begin = "2026-12-30T02:00:00Z".into();
        for id in ["20261229T020000Z-0001", "20261230T020000Z-0002"] {
            fixture::later(&repository, id, far);
        }
        check(&repository, &CheckOptions { deep: true, ..CheckOptions::default() }).unwrap();
        let options =
            crate::backup::PruneOptions { keep: crate::backup::Keep::Count(1), budget: u64::MAX, dry_run: false };
        crate::backup::prune(&repository, &options).unwrap();
        assert!(!first.folder.exists(), "the point and its evidence are gone");
        assert_eq!(repository.proofs().unwrap(), [proof]);
        let report = check(&repository, &CheckOptions::default()).unwrap();
        assert_eq!(report.exit(), Exit::Passed, "{:?}", report.defects);
    }

    #[test]
    fn a_point_is_not_pruned_while_it_is_proved() {
        let (_folder, repository) = fixture::repository();
        let proving = repository.lock(Activity::Prove, "prove").unwrap();
        let refused = repository.lock(Activity::Maintain, "backup prune").unwrap_err();
        assert!(matches!(refused, BackupError::LockHeld { .. }), "{refused}");
        assert!(repository.lock(Activity::Prove, "prove").is_err(), "one proof at a time");
        drop(repository.lock(Activity::Create, "backup create").unwrap());
        drop(repository.lock(Activity::Recover, "recover run").unwrap());
        drop(proving);
        drop(repository.lock(Activity::Maintain, "backup prune").unwrap());
    }
}
