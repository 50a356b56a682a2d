//! What a proof leaves beside its point: `evidence.json`, for a program and for an auditor. Every field is always there.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use cdc_engine::backup::{Chain, HashedFile, Origin, Point, ProofSize, ProofStep, Window};
use cdc_model::{
    event::{CheckReport, ObjectiveReport},
    units::{Lsn, PointId, Timeline, Verdict},
};

/// The version of the evidence's shape.
pub(super) const FORMAT: u32 = 1;

/// Everything about one proof.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// 1.
    pub format: u32,
    /// The proof.
    pub proof: String,
    /// The recovery point.
    pub point: PointId,
    /// The repository, as it was named.
    pub repository: String,
    /// The hash of the point's manifest.
    pub manifest_sha256: String,
    /// The point's place among all; null in format 1 of the repository.
    pub chain: Option<Chain>,
    /// The pipeline that the point is of.
    pub pipeline: Origin,
    /// When the point was taken.
    pub taken: Window,
    /// The version of the program that took it.
    pub taken_by: String,
    /// When the proof began, RFC 3339.
    pub started: String,
    /// When it ended.
    pub ended: String,
    /// Who proved: `account@machine`.
    pub by: String,
    /// The machine: cores, memory, kernel.
    pub machine: String,
    /// Versions, by what they are of: `cdc-drill`, `postgres` (of the scratch server), `postgres of the point`, `connect`, `registry`,
    /// `registry of the point`. Null where it was not found out.
    pub versions: BTreeMap<String, Option<String>>,
    /// Every file of the point, with the hash of the bytes that were read; null where they could not be.
    pub files: Vec<HashedFile>,
    /// The archived segments that the point needs.
    pub wal: Vec<String>,
    /// Backups of topics' records that were made with the point.
    pub topic_records: Vec<TopicBackupRef>,
    /// Where the database was restored to; null where it was not.
    pub restored: Option<Restored>,
    /// The steps, in their order.
    pub steps: Vec<ProofStep>,
    /// Seconds of the steps that a recovery has too; null where they did not come to their end.
    pub rto_seconds: Option<f64>,
    /// Seconds of changes that would have been lost, at most, had the source gone when the proof began: since the last transaction that came
    /// back, or since the point was begun. Null where the database did not come back.
    #[serde(default)]
    pub rpo_seconds: Option<f64>,
    /// What was promised of the two, and kept or not.
    #[serde(default)]
    pub objectives: Vec<ObjectiveReport>,
    /// How much it was.
    pub size: ProofSize,
    /// What was compared, and what came of it.
    pub checks: Vec<CheckReport>,
    /// What was not compared, and why.
    pub not_compared: Vec<NotCompared>,
    /// What a person should know.
    pub notes: Vec<String>,
    /// What it came to.
    pub verdict: Verdict,
    /// The exit code of the command.
    pub exit_code: u8,
    /// Why it is not green; empty when it is.
    pub reason: String,
    /// The command that signs this file, without its arguments; null where nothing does.
    pub signed_by: Option<String>,
}

/// A backup of a topic's records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicBackupRef {
    /// The topic.
    pub topic: String,
    /// The backup.
    pub backup: String,
}

/// Where the database was restored to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// Behind the last replayed record; null where the server did not say.
    pub ended_at: Option<Lsn>,
    /// The timeline that was replayed.
    pub replayed: Timeline,
    /// The last transaction that is kept; null where none committed since the point.
    pub last_commit: Option<String>,
    /// Its time, by the clock of the source.
    #[serde(default)]
    pub last_commit_at: Option<jiff::Timestamp>,
    /// The positions at which rows were compared with the point's fingerprints.
    pub fingerprints_at: Vec<Lsn>,
}

/// Something that was not compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotCompared {
    /// What: `connector audit-sink`, `fingerprints`, `positions`.
    pub what: String,
    /// Why.
    pub why: String,
}

impl Evidence {
    /// That of a proof that has just begun: nothing was compared yet.
    pub(super) fn begun(proof: String, point: &Point, repository: String, by: String, machine: String) -> Evidence {
        let manifest = &point.manifest;
        let started = jiff::Timestamp::now().to_string();
        let facts = manifest.pg.get();
        let versions = [
            ("cdc-drill", Some(env!("CARGO_PKG_VERSION").to_owned())),
            ("postgres", None),
            ("postgres of the point", facts.map(|facts| facts.version.major().to_string())),
            ("connect", None),
            ("registry", None),
            ("registry of the point", manifest.registry.get().map(|facts| facts.version.clone())),
        ];
        let records = manifest.kafka.get().map(|facts| facts.records.clone()).unwrap_or_default();
        Evidence {
            format: FORMAT,
            proof,
            point: point.id().clone(),
            repository,
            manifest_sha256: point.manifest_sha256().to_owned(),
            chain: manifest.chain.clone(),
            pipeline: Origin::of(manifest),
            taken: manifest.window.clone(),
            taken_by: format!("{} {}", manifest.tool.name, manifest.tool.version),
            ended: started.clone(),
            started,
            by,
            machine,
            versions: versions.map(|(name, version)| (name.to_owned(), version)).into(),
            files: Vec::new(),
            wal: facts.map(|facts| facts.wal_required.clone()).unwrap_or_default(),
            topic_records: records
                .into_iter()
                .map(|of| TopicBackupRef { topic: of.topic, backup: of.backup })
                .collect(),
            restored: None,
            steps: Vec::new(),
            rto_seconds: None,
            rpo_seconds: None,
            objectives: Vec::new(),
            size: ProofSize { point_bytes: manifest.bytes, ..ProofSize::default() },
            checks: Vec::new(),
            not_compared: Vec::new(),
            notes: Vec::new(),
            verdict: Verdict::Inconclusive,
            exit_code: Verdict::Inconclusive.exit().code(),
            reason: "it did not end".to_owned(),
            signed_by: None,
        }
    }

    pub(super) fn not_compared(&mut self, what: impl Into<String>, why: impl Into<String>) {
        self.not_compared.push(NotCompared { what: what.into(), why: why.into() });
    }
}
