//! A proof from its beginning to its evidence.

use std::{collections::BTreeSet, time::Instant};

use camino::{Utf8Path, Utf8PathBuf};
use futures::future::{Either, select};

use super::{
    connectors::{self, moved},
    error::ProveError,
    evidence::{Evidence, Restored},
    judge, observed,
    scratch::{Scratch, ScratchFolder, Source, source},
    write::{in_words, written},
};
use crate::{
    run::machine,
    stack::{Backend, BackendChoice, Progress},
};
use cdc_engine::{
    backup::{
        Activity, BackupError, CheckOptions, Point, PointSelector, Proof, ProofStep, Repository, SavedConnector,
        TopicState, dated_id, host, seconds_of_changes, topics, topics::ReplayOptions, verify as verify_point,
    },
    recovery::{ScratchPart, plan_scratch_part},
};
use cdc_model::{
    event::{CheckReport, Finding, FindingKind, ObjectiveReport},
    units::{Exit, Failure, Secret, Verdict, counted},
    vocabulary::CheckId,
};
use cdc_pipeline::{
    client::{limits, postgres},
    config::{Config, ObjectivesConfig, Span},
};
use cdc_verify::{PointView, VerifyOptions, verify};

/// Parts of a point agreed when it was taken.
const CONSISTENCY: &str = "consistency";
/// No newer point is damaged.
const NEWEST: &str = "newest-point";

/// What to prove.
#[derive(Clone, Debug)]
pub struct ProveRequest {
    /// The repository's folder, or its address in a bucket.
    pub repository: Utf8PathBuf,
    /// The point.
    pub point: PointSelector,
    /// The folder of PostgreSQL's programs of the point's version; those of the stack where it has no name.
    pub bin: Utf8PathBuf,
    /// Names a superuser of the captured cluster. Nothing connects to it.
    pub url: Secret,
    /// What signs the evidence; nothing where it is empty.
    pub sign: Vec<String>,
    /// Where the scratch stack is made; in the folder for temporary files when absent.
    pub dir: Option<Utf8PathBuf>,
    /// Whether the scratch stack's folder is kept, its servers stopped.
    pub keep: bool,
    /// What was promised of a recovery: what is not kept, or not measured, is not green.
    pub objectives: ObjectivesConfig,
}

/// A proof that came to its end, whatever it found.
#[derive(Clone, Debug)]
pub struct Proved {
    /// What was seen.
    pub evidence: Evidence,
    /// Its line of the history.
    pub proof: Proof,
    /// Where the evidence is.
    pub folder: Utf8PathBuf,
}

/// Proves a recovery point. An error means that there is no evidence: the repository cannot be opened, has no such point, or is locked.
pub async fn prove(request: &ProveRequest, progress: &dyn Progress) -> Result<Proved, ProveError> {
    let repository = Repository::open(&request.repository)?;
    repository.unlock()?;
    let lock = repository.lock(Activity::Prove, "prove")?;
    let (point, newer) = chosen(&repository, &request.point)?;
    let id = dated_id(jiff::Timestamp::now());
    let temporary = Utf8PathBuf::from_path_buf(std::env::temp_dir()).unwrap_or_else(|_| Utf8PathBuf::from("/tmp"));
    let path = request.dir.clone().unwrap_or_else(|| temporary.join(format!("cdc-drill-prove-{id}")));
    let path = camino::absolute_utf8(&path).map_err(ProveError::file("resolve", &path))?;
    let folder = ScratchFolder::make(path, request.keep)?;
    progress.line(&format!("recovery point: {}", point.id()));
    let evidence = Evidence::begun(id, &point, request.repository.to_string(), who(), machine());
    let mut course =
        Course { request, repository: &repository, point: &point, folder: folder.path(), progress, evidence };
    course.newer(newer);
    let ended = course.carried_out().await;
    let evidence = course.ended(ended);
    let work = folder.path().join("evidence");
    std::fs::create_dir(&work).map_err(ProveError::file("make folder", &work))?;
    let (evidence, proof) = written(&repository, &point, &lock, evidence, &request.sign, &work)?;
    progress.line(&format!("{}: {}", evidence.verdict, in_words(&evidence)));
    let folder = repository.proof_folder(&point, &evidence.proof);
    Ok(Proved { evidence, proof, folder })
}

/// The point, and newer ones that cannot be used.
fn chosen(repository: &Repository, selector: &PointSelector) -> Result<(Point, Vec<(String, String)>), ProveError> {
    match selector {
        PointSelector::Id(_) => Ok((repository.point(selector)?, Vec::new())),
        PointSelector::Latest => {
            let newest = repository.newest()?;
            let newer = newest.passed_over.iter().map(|passed| (passed.point.to_string(), passed.why.to_string()));
            let newer = newer.collect();
            Ok((newest.point, newer))
        }
    }
}

/// `account@machine`.
fn who() -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten().map(|user| user.name);
    format!("{}@{}", user.unwrap_or_else(|| "unknown".into()), host())
}

struct Course<'a> {
    request: &'a ProveRequest,
    repository: &'a Repository,
    point: &'a Point,
    folder: &'a Utf8Path,
    progress: &'a dyn Progress,
    evidence: Evidence,
}

/// The steps of a proof that a recovery has too.
const RECOVERS: [&str; 6] =
    ["restore-database", "restore-registry", "replay-topics", "restore-topics", "restore-connectors", "re-snapshot"];

impl Course<'_> {
    /// Does a step and notes how long it took, also one that fails.
    async fn step<T>(
        &mut self,
        name: &str,
        work: impl Future<Output = Result<T, ProveError>>,
    ) -> Result<T, ProveError> {
        let began = Instant::now();
        let done = work.await;
        let seconds = began.elapsed().as_secs_f64();
        let recovers = RECOVERS.contains(&name);
        self.evidence.steps.push(ProofStep { name: name.to_owned(), seconds, recovers });
        match &done {
            Ok(_) => self.progress.line(&format!("{name}: {seconds:.1} s")),
            Err(error) => self.progress.line(&format!("{name}: failed after {seconds:.1} s: {error}")),
        }
        done
    }

    fn check(&mut self, report: CheckReport) {
        self.evidence.checks.retain(|known| known.id != report.id);
        self.evidence.checks.push(report);
    }

    fn is_red(&self) -> bool {
        self.evidence.checks.iter().any(|check| check.verdict == Verdict::Failed)
    }

    /// The newest point that can be used is not the newest one.
    fn newer(&mut self, newer: Vec<(String, String)>) {
        let findings = newer.into_iter().map(|(point, why)| Finding {
            expected: Some(format!("recovery point {point}, which is newer, to be usable")),
            found: Some(why),
            ..Finding::new(FindingKind::Unreadable)
        });
        let findings: Vec<Finding> = findings.collect();
        if !findings.is_empty() {
            self.check(CheckReport::new(NEWEST, findings.len() as u64, Vec::new(), findings));
        }
    }

    async fn carried_out(&mut self) -> Result<(), ProveError> {
        self.stored().await?;
        self.parts()?;
        if self.is_red() {
            return Ok(());
        }
        let source = source(self.point, self.repository.path(), &self.request.bin, &self.request.url)?;
        let backend = BackendChoice::Local.open("prove", self.progress).await?;
        let mut whole = Scratch::whole(&self.folder.join("stack"), &source, &*backend)?;
        let Some(seconds) = self.looked_beside(&whole, &source, &*backend).await? else { return whole.stop().await };
        self.evidence.steps.push(ProofStep { name: "start-stack".to_owned(), seconds, recovers: false });
        let done = self.restored(&mut whole, &source).await;
        let stopped = whole.stop().await;
        done.and(stopped)
    }

    /// The Java servers start beside the first look at the database, which needs none of them; the seconds that they took. None where
    /// that look was enough.
    async fn looked_beside(
        &mut self,
        whole: &Scratch,
        source: &Source,
        backend: &dyn Backend,
    ) -> Result<Option<f64>, ProveError> {
        let progress = self.progress;
        let others = Box::pin(async move {
            let began = Instant::now();
            whole.start_others(progress).await.map(|()| began.elapsed().as_secs_f64())
        });
        let compared = Box::pin(self.fingerprints(source, backend));
        let (compared, others) = match select(compared, others).await {
            Either::Left((compared, others)) => (compared, Either::Left(others)),
            Either::Right((started, compared)) => (compared.await, Either::Right(started)),
        };
        compared?;
        if self.is_red() {
            return Ok(None);
        }
        match others {
            Either::Left(others) => Ok(Some(others.await?)),
            Either::Right(started) => Ok(Some(started?)),
        }
    }

    /// Every stored byte of the point, of its WAL and of the records of topics.
    async fn stored(&mut self) -> Result<(), ProveError> {
        let (repository, point) = (self.repository.clone(), self.point.clone());
        let read = async move {
            let work = move || -> Result<_, BackupError> {
                let report = verify_point(&repository, point.id(), &CheckOptions::default())?;
                let hashes = point.hashes()?;
                let mut of_topics = topics::TopicReport::default();
                for of in point.manifest.kafka.get().map(|facts| facts.records.clone()).unwrap_or_default() {
                    let one = topics::verify_topics(&repository, Some(&of.topic), Some(&of.backup))?;
                    if one.backups == 0 && one.defects.is_empty() {
                        return Err(BackupError::Incomplete {
                            point: point.id().clone(),
                            what: format!("the records of topic {}, {}, are not there", of.topic, of.backup),
                        });
                    }
                    of_topics.backups += one.backups;
                    of_topics.records += one.records;
                    of_topics.defects.extend(one.defects);
                }
                Ok((report, hashes, of_topics))
            };
            let read = tokio::task::spawn_blocking(work).await;
            let read = read.map_err(|e| ProveError::Thread { what: "read the point", detail: e.to_string() })?;
            Ok(read?)
        };
        let (report, hashes, of_topics) = self.step("read-point", read).await?;
        self.evidence.files = hashes;
        let (files, wal) = judge::stored(report.files, report.wal_segments, &report.defects);
        self.check(files);
        match wal {
            Some(wal) => self.check(wal),
            None => self.evidence.not_compared(judge::WAL, "the point has no database"),
        }
        match self.point.manifest.kafka.get().is_some_and(|facts| !facts.records.is_empty()) {
            true => self.check(judge::records(of_topics.backups, of_topics.records, &of_topics.defects)),
            false => self.evidence.not_compared(judge::TOPIC_RECORDS, "the point has no records of topics"),
        }
        Ok(())
    }

    /// What the parts say of themselves and of one another.
    fn parts(&mut self) -> Result<(), ProveError> {
        let manifest = &self.point.manifest;
        let checks = &manifest.consistency.checks;
        if !checks.is_empty() {
            let failed = manifest.consistency.failed().map(|check| Finding {
                expected: Some(check.id.clone()),
                found: Some(check.detail.clone()),
                ..Finding::new(FindingKind::Setting)
            });
            let failed = failed.collect();
            let notes = vec!["what was looked at when the point was taken".to_owned()];
            self.check(CheckReport::new(CONSISTENCY, checks.len() as u64, notes, failed));
        }
        // Damage was named by its file.
        if self.is_red() {
            return Ok(());
        }
        let connectors = match manifest.connect.get() {
            None => {
                self.evidence.not_compared(judge::CONNECTORS, manifest.connect.reason());
                Vec::new()
            }
            Some(facts) => {
                let saved = self.point.connectors()?;
                let slots = if manifest.pg.get().is_some() { self.point.slots()? } else { Vec::new() };
                let offsets_of = observed::stored_offsets(self.point)?;
                let report = judge::connectors(facts, &saved, &offsets_of, &slots);
                // A worker without connectors has nothing to lose.
                match facts.connectors == 0 && report.compared == 0 {
                    true => self.evidence.not_compared(judge::CONNECTORS, "the worker had none"),
                    false => self.check(report),
                }
                saved
            }
        };
        match manifest.registry.get() {
            None => self.evidence.not_compared(judge::REGISTRY, manifest.registry.reason()),
            Some(facts) => {
                let export = self.point.registry_export()?;
                let report = judge::registry(facts, &self.point.dump()?, export.as_ref(), &self.written(&connectors)?);
                self.check(report);
            }
        }
        Ok(())
    }

    /// The topics that need a schema.
    fn written(&self, connectors: &[SavedConnector]) -> Result<BTreeSet<String>, ProveError> {
        Ok(match self.point.manifest.kafka.get() {
            Some(_) => judge::written_with_schemas(connectors, &self.point.topics()?),
            None => BTreeSet::new(),
        })
    }

    /// Restores the database to each position at which tables were counted, and compares the rows.
    async fn fingerprints(&mut self, source: &Source, backend: &dyn Backend) -> Result<(), ProveError> {
        let Some(taken) = self.point.fingerprints()? else {
            let why = "the point has none: `[backup] fingerprints` was off, or an earlier release took it";
            self.evidence.not_compared(judge::FINGERPRINTS, why);
            return Ok(());
        };
        for of in &taken.databases {
            for why in &of.left_out {
                self.evidence.not_compared(format!("{} of database {}", judge::FINGERPRINTS, of.database), why.clone());
            }
        }
        let positions = taken.positions();
        if positions.is_empty() {
            let nothing_to_count = taken.databases.iter().all(|of| of.left_out == [NOTHING_PUBLISHED]);
            if !nothing_to_count {
                let why = taken.databases.iter().flat_map(|of| of.left_out.clone()).collect::<Vec<_>>().join("; ");
                self.check(CheckReport::inconclusive(judge::FINGERPRINTS, format!("none were taken: {why}")));
            }
            return Ok(());
        }
        let mut found = observed::FoundTables::new();
        let mut at = Vec::new();
        for (number, (lsn, databases)) in positions.iter().enumerate() {
            let dir = self.folder.join(format!("at-{number}"));
            let progress = self.progress;
            let looked = async {
                let mut scratch = Scratch::database(&dir, source, backend)?;
                scratch.restore(source, Some(*lsn)).await?;
                scratch.start_database(progress).await?;
                let url = scratch.stack.postgres_config()?.url;
                let found = observed::tables(&url, databases).await;
                let stopped = scratch.stop().await;
                let found = found?;
                stopped?;
                Ok(found)
            };
            found.extend(self.step("compare-fingerprints", looked).await?);
            at.push(*lsn);
            if !self.request.keep {
                let _ = std::fs::remove_dir_all(&dir);
            }
        }
        self.evidence.size.tables = found.len() as u64;
        self.check(judge::fingerprints(&taken.databases, &found));
        let replayed = self.point.postgres()?.timeline;
        self.evidence.restored =
            Some(Restored { ended_at: None, replayed, last_commit: None, last_commit_at: None, fingerprints_at: at });
        Ok(())
    }

    /// Everything into the scratch stack, and the rows against the records there.
    async fn restored(&mut self, scratch: &mut Scratch, source: &Source) -> Result<(), ProveError> {
        let progress = self.progress;
        let restored = self
            .step("restore-database", async {
                let outcome = scratch.restore(source, None).await?;
                scratch.start_database(progress).await?;
                Ok(outcome)
            })
            .await?;
        let fingerprints_at = self.evidence.restored.take().map(|known| known.fingerprints_at).unwrap_or_default();
        self.evidence.restored = Some(Restored {
            ended_at: restored.ended_at,
            replayed: restored.replayed,
            last_commit: restored.last_commit,
            last_commit_at: restored.last_commit_at,
            fingerprints_at,
        });
        self.evidence.notes.extend(restored.notes);
        let config = scratch.stack.config()?;
        let (bytes, version) = observed::database(&config.postgres.url).await?;
        self.evidence.size.database_bytes = Some(bytes);
        let (connect, registry) = observed::versions(&config).await;
        for (name, found) in [("postgres", version), ("connect", connect), ("registry", registry)] {
            self.evidence.versions.insert(name.to_owned(), found);
        }
        self.registry(&config).await?;
        let topics = self.topics(&config).await?;
        let names = self.connectors(&config).await?;
        if names.is_empty() {
            self.evidence.not_compared(CheckId::State.word(), "no connector of the point reads from this database");
            return Ok(());
        }
        let snapshots = self.step("re-snapshot", async { Ok(observed::snapshots(&config, &names).await?) }).await;
        // Why not is a finding of what looks next.
        if let Err(error) = snapshots {
            self.evidence.notes.push(format!("re-snapshot: {error}"));
        }
        let mut view = PointView::load(self.point)?;
        view.specs = topics.into_iter().map(|topic| (topic.spec.name.clone(), topic.spec)).collect();
        let deadline = limits::verify::AFTER_RECOVERY.into();
        let options = VerifyOptions { connectors: names, deadline, point: Some(view) };
        let reports = self.step("verify", async { Ok(verify(&config, &options).await?) }).await?;
        for report in reports {
            if report.id == CheckId::State.word() {
                self.evidence.size.rows = report.compared;
            }
            self.check(report);
        }
        self.registered(&config).await
    }

    async fn registry(&mut self, config: &Config) -> Result<(), ProveError> {
        if self.point.manifest.registry.get().is_none() {
            return Ok(());
        }
        let (dump, point) = (self.point.dump()?, self.point);
        if dump.versions.is_empty() && dump.beyond.is_empty() {
            return Ok(());
        }
        let said = self
            .step("restore-registry", async {
                let part = ScratchPart::Registry(Box::new(dump));
                let plan = plan_scratch_part(config, point, part).await?;
                let notes = plan.outcome().notes.clone();
                Ok(notes.into_iter().chain(plan.run().await?.read_back).collect::<Vec<_>>())
            })
            .await?;
        self.evidence.notes.extend(said);
        Ok(())
    }

    /// Records where the point has them, then settings; as they are in the scratch stack, which has one broker.
    async fn topics(&mut self, config: &Config) -> Result<Vec<TopicState>, ProveError> {
        let point = self.point;
        let Some(facts) = point.manifest.kafka.get() else {
            self.evidence.not_compared("topics", point.manifest.kafka.reason());
            return Ok(Vec::new());
        };
        if !facts.records.is_empty() {
            let mut reading = config.clone();
            reading.repository.path = self.repository.path().to_owned();
            let replayed = async {
                let mut notes = Vec::new();
                for of in &facts.records {
                    let options = ReplayOptions {
                        topic: of.topic.clone(),
                        backup: Some(of.backup.clone()),
                        // What the registry does not know is a finding of the check that reads the records.
                        accept_unknown_schemas: true,
                        scratch: true,
                        ..ReplayOptions::default()
                    };
                    let planned = topics::plan_replay(&reading, &options).await?;
                    notes.extend(planned.notes().iter().map(|note| format!("topic {}: {note}", of.topic)));
                    let done = planned.run(&|_, _| {}).await?;
                    notes.push(format!(
                        "topic {}: {} replayed and compared",
                        of.topic,
                        counted(done.compared, "record")
                    ));
                }
                Ok(notes)
            };
            let notes = self.step("replay-topics", replayed).await?;
            self.evidence.notes.extend(notes);
        }
        let saved: Vec<TopicState> =
            point.topics()?.into_iter().filter(|t| !t.spec.name.starts_with("__")).map(alone).collect();
        self.evidence.notes.push("topics have one replica in the scratch stack, and no min.insync.replicas".to_owned());
        self.evidence
            .not_compared("consumer groups", "their positions are in the point; nobody reads in the scratch stack");
        let wanted = saved.clone();
        let said = self
            .step("restore-topics", async {
                let plan = plan_scratch_part(config, point, ScratchPart::Topics(wanted)).await?;
                let notes = plan.outcome().notes.clone();
                plan.run().await?;
                Ok(notes)
            })
            .await?;
        self.evidence.notes.extend(said);
        Ok(saved)
    }

    /// The connectors that read from the database, made for the scratch stack; their names.
    async fn connectors(&mut self, config: &Config) -> Result<Vec<String>, ProveError> {
        let point = self.point;
        if point.manifest.connect.get().is_none() {
            return Ok(Vec::new());
        }
        let place = place(config)?;
        let (mut wanted, mut names) = (Vec::new(), Vec::new());
        for (number, saved) in point.connectors()?.iter().enumerate() {
            match moved(saved, number + 1, &place) {
                Ok((mut connector, notes)) => {
                    crate::stack::use_schema_resolver(&mut connector.config, &config.connect);
                    names.push(connector.name.clone());
                    let told = notes.iter().map(|note| format!("connector {}: {note}", connector.name));
                    self.evidence.notes.extend(told);
                    wanted.push(connector);
                }
                Err(why) => self.evidence.not_compared(format!("connector {}", saved.name), why),
            }
        }
        if wanted.is_empty() {
            return Ok(names);
        }
        let said = self
            .step("restore-connectors", async {
                let plan = plan_scratch_part(config, point, ScratchPart::Connectors(wanted)).await?;
                let notes = plan.outcome().notes.clone();
                Ok(notes.into_iter().chain(plan.run().await?.read_back).collect::<Vec<_>>())
            })
            .await?;
        self.evidence.notes.extend(said);
        Ok(names)
    }

    /// What the connectors registered that the point does not have.
    async fn registered(&mut self, config: &Config) -> Result<(), ProveError> {
        let Some(before) = self.evidence.checks.iter().find(|check| check.id == judge::REGISTRY).cloned() else {
            return Ok(());
        };
        let after = observed::subjects(config).await?;
        let written = self.written(&self.point.connectors().unwrap_or_default())?;
        let report = judge::registered(before, &self.point.dump()?, &after, &written);
        self.check(report);
        Ok(())
    }

    /// The evidence with its verdict: of what was compared, and of what ended the proof before its end.
    fn ended(self, ended: Result<(), ProveError>) -> Evidence {
        let mut evidence = self.evidence;
        evidence.ended = jiff::Timestamp::now().to_string();
        judged(&mut evidence, ended, self.request.objectives);
        evidence
    }
}

/// Why there are no fingerprints where there is nothing to count.
const NOTHING_PUBLISHED: &str = "no table is published";

/// What a proof comes to.
fn judged(evidence: &mut Evidence, ended: Result<(), ProveError>, promised: ObjectivesConfig) {
    let error = ended.err();
    let mut verdict = Verdict::Passed;
    let mut exit = Exit::Passed;
    let mut reasons = Vec::new();
    for check in evidence.checks.iter().filter(|check| check.verdict != Verdict::Passed) {
        verdict = verdict.and(check.verdict);
        exit = exit.worst(check.verdict.exit());
        reasons.push(match check.verdict {
            Verdict::Inconclusive => format!("{} {}", check.id, check.why_inconclusive()),
            _ => format!("{} found {}", check.id, counted(check.findings_total, "difference")),
        });
    }
    if let Some(error) = &error {
        verdict = verdict.and(error.verdict());
        exit = exit.worst(error.exit_of_proof());
        reasons.push(error.to_string());
        evidence.notes.extend(error.hints().into_iter().map(|hint| hint.to_string()));
    }
    // What was not reached was not compared, and a proof that compared no row proved nothing.
    let why = reasons.first().cloned().unwrap_or_else(|| "the proof did not come to it".to_owned());
    let all = [
        judge::FILES,
        judge::WAL,
        judge::TOPIC_RECORDS,
        judge::CONNECTORS,
        judge::REGISTRY,
        judge::FINGERPRINTS,
        CheckId::State.word(),
        CheckId::SchemaIds.word(),
        CheckId::Positions.word(),
        CheckId::Compatibility.word(),
    ];
    for id in all {
        let is_told = evidence.checks.iter().any(|check| check.id == id)
            || evidence.not_compared.iter().any(|left| left.what.starts_with(id));
        if !is_told {
            let why = match verdict {
                Verdict::Passed => "the connectors use no registry".to_owned(),
                _ => format!("the proof had ended: {why}"),
            };
            evidence.not_compared(id, why);
        }
    }
    let is_compared = evidence.checks.iter().any(|check| check.id == CheckId::State.word() && check.compared > 0);
    if verdict == Verdict::Passed && !is_compared {
        verdict = Verdict::Inconclusive;
        exit = Exit::Inconclusive;
        reasons.push("no row was compared with a record".to_owned());
    }
    let steps = |name: &str| evidence.steps.iter().any(|step| step.name == name);
    let is_restored = error.is_none() && steps("restore-database") && steps("re-snapshot");
    evidence.rto_seconds =
        is_restored.then(|| evidence.steps.iter().filter(|step| step.recovers).map(|step| step.seconds).sum());
    let rpo = lost_at_most(evidence, is_restored);
    evidence.rpo_seconds = rpo.as_ref().ok().copied();
    let rto = evidence.rto_seconds.ok_or_else(|| "the restore did not come to its end".to_owned());
    let limit = |span: Option<Span>| span.map(Span::as_secs_f64);
    evidence.objectives = ObjectiveReport::of_both((limit(promised.rto), rto), (limit(promised.rpo), rpo));
    for objective in evidence.objectives.iter().filter(|objective| objective.verdict != Verdict::Passed) {
        verdict = verdict.and(objective.verdict);
        exit = exit.worst(objective.exit());
        reasons.push(objective.to_string());
    }
    evidence.verdict = verdict;
    evidence.exit_code = exit.code();
    evidence.reason = reasons.join("; ");
}

/// Seconds of changes that would be lost at most. Nobody committing since looks the same as commits that were not archived: the source,
/// which could tell, may be gone.
fn lost_at_most(evidence: &Evidence, is_restored: bool) -> Result<f64, String> {
    let restored = evidence.restored.as_ref().filter(|_| is_restored).ok_or("the database did not come back")?;
    let time = |text: &str| text.parse::<jiff::Timestamp>().map_err(|e| format!("time {text}: {e}"));
    let began = time(&evidence.started)?;
    // What had committed when the base backup began is in it.
    let held = time(&evidence.taken.begin)?;
    seconds_of_changes(restored.last_commit_at.map_or(held, |last| last.max(held)), began)
}

/// A topic as a stack with one broker can have it.
fn alone(mut topic: TopicState) -> TopicState {
    topic.spec.replication = 1;
    topic.spec.settings.remove("min.insync.replicas");
    for throttled in ["leader.replication.throttled.replicas", "follower.replication.throttled.replicas"] {
        topic.spec.settings.remove(throttled);
    }
    topic
}

/// Where the scratch stack's servers are, for a connector.
fn place(config: &Config) -> Result<connectors::Place, ProveError> {
    let address = postgres::address(&config.postgres.url)?;
    Ok(connectors::Place {
        host: "127.0.0.1".to_owned(),
        port: address.get_ports().first().copied().unwrap_or(5432),
        user: address.get_user().unwrap_or("postgres").to_owned(),
        password: Secret::new(String::from_utf8_lossy(address.get_password().unwrap_or_default()).into_owned()),
        bootstrap: config.kafka.bootstrap.clone(),
        registry: config.registry.url.clone(),
    })
}

#[cfg(test)]
#[path = "course_tests.rs"]
mod tests;
