//! Checking a recovery point against its manifest: every byte of it and of the WAL it needs.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};

use super::{CheckOptions, Defect, DefectKind, VerifyReport, report::Findings};
use crate::backup::{
    BackupError, Point, Repository,
    bases::bases,
    files::{self, is_there},
    format::{
        Format, is_safe_relative,
        layout::{BASE, EXPORT, MANIFEST, MANIFEST_SUM, STARTED, SUMS, manifest_digits, manifest_name},
    },
    hash::sha256_file,
    parts, place, proofs,
    storage::{self, Kind},
};
use cdc_model::units::{PointId, counted};
use cdc_pipeline::config::Tools;
use cdc_postgres::wal::WalFile;

/// Checks a recovery point. A point that is damaged is a report with defects; an error means that it could not be looked
/// at.
pub fn verify(repository: &Repository, id: &PointId, options: &CheckOptions) -> Result<VerifyReport, BackupError> {
    let place = repository.locate(id)?;
    let mut report = VerifyReport::empty(id, options);
    if place.unfinished {
        let name = place.folder.file_name().unwrap_or_default();
        report.defect(DefectKind::Incomplete, name, "a finished backup", "an unfinished one");
        return Ok(report);
    }
    if options.deep {
        repository.unlock()?;
    }
    match Point::load(&place, repository.seal()) {
        Ok(point) => look(repository, &point, options),
        Err(error) => {
            report.absorb(error)?;
            Ok(report)
        }
    }
}

/// Checks a recovery point whose files are all written and which does not exist yet.
pub(in crate::backup) fn read_back(repository: &Repository, point: &Point) -> Result<VerifyReport, BackupError> {
    look(repository, point, &CheckOptions::default())
}

fn look(repository: &Repository, point: &Point, options: &CheckOptions) -> Result<VerifyReport, BackupError> {
    let mut report = VerifyReport::empty(point.id(), options);
    stored_files(point, &mut report)?;
    below(point, options, &mut report)?;
    strangers(point, &own_files(repository, point)?, &mut report)?;
    wal(repository, point, options.deep, &mut report)?;
    if options.deep && report.defects.is_empty() {
        deep(repository, point, options, &mut report)?;
    }
    Ok(report)
}

/// The files of the points that a point's base backup adds to.
fn below(point: &Point, options: &CheckOptions, report: &mut VerifyReport) -> Result<(), BackupError> {
    let below = match bases(point) {
        Ok(below) => below,
        Err(error) => return report.absorb(error),
    };
    for base in below {
        let mut of_base = VerifyReport::empty(base.id(), options);
        stored_files(&base, &mut of_base)?;
        report.files += of_base.files;
        report.bytes += of_base.bytes;
        for Defect { kind, path, expected, found } in of_base.defects {
            report.defect(kind, format!("../{}/{path}", base.id()), expected, found);
        }
    }
    Ok(())
}

/// Whether nothing is known to be wrong with the points that a point's base backup adds to: what is has been named there.
fn is_whole_below(point: &Point, found: &Findings) -> Result<bool, BackupError> {
    let below = match bases(point) {
        Ok(below) => below,
        Err(error) if error.is_damage() => return Ok(false),
        Err(other) => return Err(other),
    };
    Ok(!below.iter().any(|base| found.names_below(&base.folder)))
}

/// Checks the files of a point as a part of its repository; how many they are, and their bytes. The WAL is looked at beside.
pub(super) fn files(
    repository: &Repository,
    point: &Point,
    options: &CheckOptions,
    found: &mut Findings,
) -> Result<(u64, u64), BackupError> {
    let mut report = VerifyReport::empty(point.id(), options);
    let own = own_files(repository, point)?;
    // What is encrypted says nothing of itself to whoever has no identity: its bytes are hashed in any case.
    match options.deep || repository.is_encrypted() {
        true => stored_files(point, &mut report)?,
        false => sizes(point, &mut report)?,
    }
    strangers(point, &own, &mut report)?;
    if options.deep && report.defects.is_empty() {
        let is_restorable = is_whole_below(point, found)?;
        let options = CheckOptions { tools: options.tools.clone().filter(|_| is_restorable), ..options.clone() };
        deep(repository, point, &options, &mut report)?;
    }
    for Defect { kind, path, expected, found: there } in report.defects {
        let path = if path == point.id().as_str() { Utf8PathBuf::new() } else { Utf8PathBuf::from(path) };
        found.defect(kind, point.folder.join(path), expected, there);
    }
    Ok((report.files, report.bytes))
}

/// Compares the files of a point that has no usable manifest with the list of their checksums.
pub(super) fn by_sums(folder: &Utf8Path, found: &mut Findings) -> Result<(), BackupError> {
    let path = folder.join(SUMS);
    let Some(bytes) = files::read_if_there(&path)? else {
        found.defect(DefectKind::Incomplete, path, "a list of checksums", "nothing");
        return Ok(());
    };
    let text = String::from_utf8_lossy(&bytes);
    let mut listed = BTreeMap::new();
    for line in text.lines() {
        match line.split_once("  ") {
            Some((sum, name)) if sum.len() == 64 && is_safe_relative(name) => {
                listed.insert(folder.join(name), sum);
            }
            _ => {
                found.defect(DefectKind::Checksum, path, "a list of checksums", "other text");
                return Ok(());
            }
        }
    }
    for (path, sum) in &listed {
        match is_there(path)? {
            false => found.defect(DefectKind::Incomplete, path, format!("sha256 {sum}"), "nothing"),
            true => {
                let (there, _) = sha256_file(path)?;
                if there != *sum {
                    found.defect(DefectKind::Checksum, path, format!("sha256 {sum}"), there);
                }
            }
        }
    }
    let own = |name: &str| [SUMS, MANIFEST, MANIFEST_SUM, STARTED].contains(&name) || manifest_digits(name).is_some();
    found.strangers(folder, &|path| {
        let name = path.strip_prefix(folder).unwrap_or(path).as_str();
        own(name) || listed.contains_key(path) || proofs::is_of_a_proof(name)
    })
}

/// Whether all files are there, with their sizes.
fn sizes(point: &Point, report: &mut VerifyReport) -> Result<(), BackupError> {
    for entry in &point.manifest.files {
        let path = point.folder.join(&entry.path);
        let (kind, found) = match storage::look(&path)? {
            None => (DefectKind::Incomplete, "nothing".to_owned()),
            Some(Kind::Folder | Kind::Other) => (DefectKind::Incomplete, "a folder or link".to_owned()),
            Some(Kind::Object(size)) => {
                report.files += 1;
                report.bytes += size;
                if size == entry.size {
                    continue;
                }
                (DefectKind::Checksum, counted(size, "byte"))
            }
        };
        report.defect(kind, &entry.path, counted(entry.size, "byte"), found);
    }
    Ok(())
}

/// The files of a point that its manifest does not name.
fn own_files(repository: &Repository, point: &Point) -> Result<Vec<String>, BackupError> {
    let of_format_1 = [MANIFEST.to_owned(), MANIFEST_SUM.to_owned()];
    let mut own = match repository.format() {
        Format::One => of_format_1.to_vec(),
        // A backup that is killed leaves the mark of its beginning.
        Format::Two => vec![manifest_name(&point.manifest_sha256), STARTED.to_owned()],
    };
    if repository.is_between_formats()? {
        own.extend(of_format_1);
        let of_format_2 = place::manifests(&point.folder)?.into_iter();
        own.extend(of_format_2.filter_map(|(path, _)| path.file_name().map(str::to_owned)));
    }
    Ok(own)
}

fn stored_files(point: &Point, report: &mut VerifyReport) -> Result<(), BackupError> {
    for entry in &point.manifest.files {
        if !is_safe_relative(&entry.path) {
            report.defect(DefectKind::Incomplete, &entry.path, "a path below the point", "one that leaves it");
            continue;
        }
        let path = point.folder.join(&entry.path);
        match storage::look(&path)? {
            Some(Kind::Object(_)) => {}
            Some(Kind::Folder | Kind::Other) => {
                report.defect(DefectKind::Incomplete, &entry.path, "a file", "a folder or link");
                continue;
            }
            None => {
                report.defect(DefectKind::Incomplete, &entry.path, counted(entry.size, "byte"), "nothing");
                continue;
            }
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
fn strangers(point: &Point, own: &[String], report: &mut VerifyReport) -> Result<(), BackupError> {
    for (path, _) in storage::files_below(&point.folder)? {
        let name = path.strip_prefix(&point.folder).unwrap_or(&path).to_string();
        if !own.contains(&name) && !point.has(&name) && !proofs::is_of_a_proof(&name) {
            report.defect(DefectKind::Incomplete, &name, "no such file", "one that the manifest does not name");
        }
    }
    Ok(())
}

fn wal(repository: &Repository, point: &Point, deep: bool, report: &mut VerifyReport) -> Result<(), BackupError> {
    let Some(pg) = point.manifest.pg.get() else { return Ok(()) };
    let archive = repository.archive(pg.system_id);
    if let Some(expected) = &pg.history_sha256 {
        let file = WalFile::History(pg.timeline);
        match archive.find(&file)? {
            None => report.defect(DefectKind::WalGap, archive.place(&file), "the history of the timeline", "nothing"),
            Some(held) if held.fingerprint()? != *expected => {
                report.defect(DefectKind::Checksum, &held.path, format!("hash {expected}"), "another");
            }
            Some(_) => {}
        }
    }
    for name in &pg.wal_required {
        let Ok(file) = name.parse::<WalFile>() else {
            report.defect(DefectKind::Checksum, MANIFEST, "the name of a segment", name);
            continue;
        };
        let Some(held) = archive.find(&file)? else {
            report.defect(DefectKind::WalGap, archive.place(&file), format!("segment {name}"), "nothing");
            continue;
        };
        report.wal_segments += 1;
        report.bytes += held.size;
        if let Err(error) = held.check(deep) {
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
    if repository.is_encrypted() {
        look(point.open_files())?;
    }
    if m.connect.get().is_some() {
        look(point.connectors().map(drop))?;
    }
    if m.kafka.get().is_some() {
        look(point.topics().map(drop))?;
        look(point.groups().map(drop))?;
    }
    if m.registry.get().is_some() {
        look(point.dump().map(drop))?;
        if point.has(EXPORT) {
            let zip = point.file(EXPORT)?;
            let place = point.folder.join(EXPORT);
            look(parts::registry::read_zip(&zip).map(drop).map_err(|e| BackupError::malformed(&place, e)))?;
        }
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
    let beneath = Some(root).filter(|root| !storage::is_in_a_bucket(root) && !repository.is_encrypted());
    let temporary = tools.temporary(".verify-", beneath);
    let temporary = temporary.map_err(BackupError::io("make a temporary folder in", root))?;
    let folder = temporary.path().join("data");
    let owner = tools.reader().map(|(uid, gid)| parts::postgres::Owner { uid, gid });
    match parts::postgres::extract(point, tools, &folder, owner, &|_| {}) {
        Ok(_) => {}
        Err(BackupError::Tool { tool, detail, .. }) => {
            report.defect(DefectKind::Checksum, BASE, format!("{tool} to succeed"), detail);
            return Ok(());
        }
        Err(error) => return report.absorb(error),
    }
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
