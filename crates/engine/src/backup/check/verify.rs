//! Checking a recovery point against its manifest: every byte of it and of the WAL it needs.

use std::{collections::BTreeMap, fs};

use camino::{Utf8Path, Utf8PathBuf};

use super::{CheckOptions, DefectKind, VerifyReport};
use crate::backup::{
    BackupError, Point, Repository,
    files::is_there,
    format::{
        is_safe_relative,
        layout::{BASE, EXPORT, MANIFEST, MANIFEST_SUM},
    },
    hash::sha256_file,
    parts,
    wal::IndexLine,
};
use cdc_model::units::{PointId, Timeline, counted};
use cdc_pipeline::config::Tools;
use cdc_postgres::wal::WalFile;

/// Checks a recovery point. A point that is damaged is a report with defects; an error means that it could not be looked
/// at.
pub fn verify(repository: &Repository, id: &PointId, options: &CheckOptions) -> Result<VerifyReport, BackupError> {
    let (folder, partial) = repository.locate(id)?;
    if partial {
        let mut report = VerifyReport::empty(id, options);
        report.defect(
            DefectKind::Incomplete,
            folder.file_name().unwrap_or_default(),
            "a finished backup",
            "an unfinished one",
        );
        return Ok(report);
    }
    look(repository, id, &folder, options)
}

/// Checks a recovery point whose files are all written and which does not have its name yet.
pub(in crate::backup) fn read_back(
    repository: &Repository,
    id: &PointId,
    folder: &Utf8Path,
) -> Result<VerifyReport, BackupError> {
    look(repository, id, folder, &CheckOptions::default())
}

fn look(
    repository: &Repository,
    id: &PointId,
    folder: &Utf8Path,
    options: &CheckOptions,
) -> Result<VerifyReport, BackupError> {
    let mut report = VerifyReport::empty(id, options);
    let point = match Point::load(id, folder) {
        Ok(point) => point,
        Err(error) => {
            report.absorb(error)?;
            return Ok(report);
        }
    };
    stored_files(&point, &mut report)?;
    strangers(&point, folder, "", &mut report)?;
    wal(repository, &point, options.deep, &mut report)?;
    if options.deep && report.defects.is_empty() {
        deep(repository, &point, options, &mut report)?;
    }
    Ok(report)
}

fn stored_files(point: &Point, report: &mut VerifyReport) -> Result<(), BackupError> {
    for entry in &point.manifest.files {
        if !is_safe_relative(&entry.path) {
            report.defect(DefectKind::Incomplete, &entry.path, "a path below the point", "one that leaves it");
            continue;
        }
        let path = point.folder.join(&entry.path);
        match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_file() => {}
            Ok(_) => {
                report.defect(DefectKind::Incomplete, &entry.path, "a file", "a folder or link");
                continue;
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                report.defect(DefectKind::Incomplete, &entry.path, counted(entry.size, "byte"), "nothing");
                continue;
            }
            Err(e) => return Err(BackupError::io("look at", &path)(e)),
        }
        let (sha256, size) = sha256_file(&path)?;
        report.files += 1;
        report.bytes += size;
        if size != entry.size {
            report.defect(DefectKind::Checksum, &entry.path, counted(entry.size, "byte"), counted(size, "byte"));
        } else if sha256 != entry.sha256 {
            report.defect(DefectKind::Checksum, &entry.path, format!("sha256 {}", entry.sha256), sha256);
        }
    }
    Ok(())
}

/// What no manifest names: a sign that somebody else writes here, or that the manifest is not the whole story.
fn strangers(point: &Point, folder: &Utf8Path, below: &str, report: &mut VerifyReport) -> Result<(), BackupError> {
    for entry in folder.read_dir_utf8().map_err(BackupError::io("list", folder))? {
        let entry = entry.map_err(BackupError::io("list", folder))?;
        let name = format!("{below}{}", entry.file_name());
        if entry.file_type().map_err(BackupError::io("look at", entry.path()))?.is_dir() {
            strangers(point, entry.path(), &format!("{name}/"), report)?;
        } else if name != MANIFEST && name != MANIFEST_SUM && !point.has(&name) {
            report.defect(DefectKind::Incomplete, &name, "no such file", "one that the manifest does not name");
        }
    }
    Ok(())
}

fn wal(repository: &Repository, point: &Point, deep: bool, report: &mut VerifyReport) -> Result<(), BackupError> {
    let Some(pg) = point.manifest.pg.get() else { return Ok(()) };
    let archive = repository.archive(pg.system_id);
    if let Some(expected) = &pg.history_sha256 {
        let path = archive.path(&WalFile::History(pg.timeline));
        if !is_there(&path)? {
            report.defect(DefectKind::WalGap, &path, "the history of the timeline", "nothing");
        } else if sha256_file(&path)?.0 != *expected {
            report.defect(DefectKind::Checksum, &path, format!("sha256 {expected}"), "another");
        }
    }
    let mut indexes: BTreeMap<Timeline, BTreeMap<String, IndexLine>> = BTreeMap::new();
    for name in &pg.wal_required {
        let Ok(file) = name.parse::<WalFile>() else {
            report.defect(DefectKind::Checksum, MANIFEST, "the name of a segment", name);
            continue;
        };
        let index = match indexes.entry(file.timeline()) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => entry.insert(archive.index(file.timeline())?),
        };
        let path = archive.path(&file);
        let there = is_there(&path)?;
        let Some(line) = index.get(name).filter(|_| there) else {
            let found = if there { "a file without a line in index.jsonl" } else { "nothing" };
            report.defect(DefectKind::WalGap, &path, format!("segment {name}"), found);
            continue;
        };
        report.wal_segments += 1;
        report.bytes += line.size;
        if let Err(error) = archive.check(&file, deep) {
            report.absorb(error)?;
        }
    }
    if pg.wal_required.is_empty() {
        report.defect(DefectKind::WalGap, MANIFEST, "at least one segment", "none");
    }
    Ok(())
}

fn deep(
    repository: &Repository,
    point: &Point,
    options: &CheckOptions,
    report: &mut VerifyReport,
) -> Result<(), BackupError> {
    let mut look = |result: Result<(), BackupError>| match result {
        Ok(()) => Ok(()),
        Err(error) => report.absorb(error),
    };
    let m = &point.manifest;
    if m.connect.get().is_some() {
        look(point.connectors().map(drop))?;
    }
    if m.kafka.get().is_some() {
        look(point.topics().map(drop))?;
        look(point.groups().map(drop))?;
    }
    if m.registry.get().is_some() {
        look(point.dump().map(drop))?;
        let zip = point.file(EXPORT)?;
        let place = point.folder.join(EXPORT);
        look(parts::registry::read_zip(&zip).map(drop).map_err(|e| BackupError::malformed(&place, e)))?;
    }
    if m.pg.get().is_some() {
        look(parts::postgres::check_base(point).map(drop))?;
        if let Some(tools) = &options.tools {
            verify_extracted(repository, point, tools, report)?;
        }
    }
    Ok(())
}

/// Lets PostgreSQL's own tool judge an extracted copy, which is removed afterwards.
fn verify_extracted(
    repository: &Repository,
    point: &Point,
    tools: &Tools,
    report: &mut VerifyReport,
) -> Result<(), BackupError> {
    let root = repository.path();
    let temporary = tools.temporary(".verify-", Some(root));
    let temporary = temporary.map_err(BackupError::io("make a temporary folder in", root))?;
    let folder = temporary.path().join("data");
    let owner = tools.reader().map(|(uid, gid)| parts::postgres::Owner { uid, gid });
    parts::postgres::extract(point, &folder, owner, &|_| {})?;
    let tool = Utf8PathBuf::from(tools.name("pg_verifybackup"));
    // The WAL is in the archive and was checked there.
    let mut command = tools.command("pg_verifybackup", &[("LC_ALL", "C")]);
    let output = command.args(["--no-parse-wal", "--exit-on-error", folder.as_str()]).output();
    let output = output.map_err(BackupError::io("run", &tool))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().replace(folder.as_str(), "");
        report.defect(DefectKind::Checksum, BASE, "pg_verifybackup to pass", said);
    }
    Ok(())
}
