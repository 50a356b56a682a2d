//! Checking a whole repository: every file that is there, and every file that should be.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::{
    CheckOptions, Defect, DefectKind, Passed,
    archive::{Survey, survey},
    archiver::ArchiverStanding,
    reach::{Reach, reach},
    record::{Record, Seen},
    report::{Findings, exit_of},
    standing::{Holding, made},
    verify,
};
use crate::backup::{
    Activity, BackupError, Format, Lock, Point, Repository, attempts, chain,
    files::{self, is_there},
    format::layout,
    hash::sha256,
    place::Place,
    proofs,
    pruned::Pruned,
    storage,
    topics::check_topics,
    version::{self, Identity},
    wal::Archive,
};
use cdc_model::units::{Exit, PointId, SystemId, counted};
use cdc_postgres::wal::WalFile;

/// What a check of a repository found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CheckReport {
    /// The repository.
    pub repository: Utf8PathBuf,
    /// Its format.
    pub format: u32,
    /// Whether every byte was read.
    pub deep: bool,
    /// How many files were looked at.
    pub files: u64,
    /// How many bytes they have.
    pub bytes: u64,
    /// Every finished point, oldest first.
    pub points: Vec<PointStanding>,
    /// What can be recovered with what is whole.
    pub reachable: Vec<Reach>,
    /// Everything that is wrong; a file is named once.
    pub defects: Vec<Defect>,
    /// What is no defect and worth knowing.
    pub notes: Vec<String>,
    /// How the server's archiving stands; null where no server is named.
    #[serde(default)]
    pub archiver: Option<ArchiverStanding>,
}

/// A point, as a check finds it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PointStanding {
    /// The point.
    pub point: PointId,
    /// Whether a recovery can start from it, as far as was looked.
    pub usable: bool,
    /// The last deep check that it has passed; null for none, or of another manifest. Nothing else makes a point good.
    pub passed: Option<Passed>,
}

impl CheckReport {
    /// 0, or 33, 30, 31, 32: the first that applies.
    pub fn exit(&self) -> Exit {
        exit_of(&self.defects)
    }
}

/// Looks at everything in a repository. A deep check that finds nothing wrong with a point is noted in `checks.json`: it makes the
/// point good. An error means that the repository could not be looked at.
pub fn check(repository: &Repository, options: &CheckOptions) -> Result<CheckReport, BackupError> {
    if options.deep {
        repository.unlock()?;
    }
    let _lock = repository.lock(Activity::Check, "backup check")?;
    let path = Pruned::path(repository.path());
    let pruned = files::read_if_there(&path)?;
    let looked = look(repository, options);
    // What goes is announced there before. A report about files that went on purpose would cry wolf, and so would an error.
    match files::read_if_there(&path)? == pruned {
        true => looked,
        false => Err(BackupError::PrunedMeanwhile { path }),
    }
}

fn look(repository: &Repository, options: &CheckOptions) -> Result<CheckReport, BackupError> {
    let between = repository.is_between_formats()?;
    let found = Findings::below(repository.path());
    let mut look =
        Look { repository, options, between, pruned: None, found, spooled: BTreeSet::new(), files: 0, bytes: 0 };
    look.pruned()?;
    look.identity()?;
    look.entries()?;
    let surveys = look.archives()?;
    let archiver = look.archiver(&surveys)?;
    let points = look.points(&surveys)?;
    look.chain(&points)?;
    look.proofs(&points)?;
    look.topics(&points)?;
    let mut record = look.record()?;
    let reachable = look.reachable(&points, &surveys)?;
    look.judge(&points, &mut record)?;
    Ok(look.report(points, &record, reachable, archiver))
}

/// A point that is looked at.
struct Looked {
    place: Place,
    point: Option<Point>,
    usable: bool,
}

struct Look<'a> {
    repository: &'a Repository,
    options: &'a CheckOptions,
    /// Whether an upgrade has begun and has not ended: files of both formats lie beside one another.
    between: bool,
    /// What was pruned; none where that is not known.
    pruned: Option<Pruned>,
    found: Findings,
    /// What waited to be archived, before the archive was looked at.
    spooled: BTreeSet<WalFile>,
    files: u64,
    bytes: u64,
}

impl Look<'_> {
    fn root(&self) -> &Utf8Path {
        self.repository.path()
    }

    /// What was removed on purpose.
    fn pruned(&mut self) -> Result<(), BackupError> {
        let path = Pruned::path(self.root());
        self.pruned = match (self.repository.format(), Pruned::read(self.root())) {
            (Format::One, _) => Some(Pruned::default()),
            (Format::Two, Ok(Some(pruned))) => Some(pruned),
            (Format::Two, Ok(None)) => {
                self.found.defect(DefectKind::Incomplete, &path, "what was pruned", "nothing");
                None
            }
            (Format::Two, Err(error)) => {
                self.found.absorb(error)?;
                None
            }
        };
        if self.pruned.is_none() {
            self.found.notes.push(format!(
                "which points and which WAL were pruned is not known without {path}: nothing that is missing at the beginning is missed"
            ));
        }
        Ok(())
    }

    /// The files that make the folder a repository.
    fn identity(&mut self) -> Result<(), BackupError> {
        let (root, format) = (self.root().to_owned(), self.repository.format());
        let path = Identity::path(&root);
        match is_there(&path)?.then(|| Identity::read(&root, format)) {
            None => self.found.defect(DefectKind::Incomplete, &path, "the repository's identity", "nothing"),
            Some(Err(error)) => self.found.absorb(error)?,
            Some(Ok(identity)) if identity.format != format.number() && !self.between => {
                self.found.defect(
                    DefectKind::Checksum,
                    version::path(&root),
                    format!("format {}, as repo.json has it", identity.format),
                    format!("format {}", format.number()),
                );
            }
            Some(Ok(identity)) if identity.encryption.is_some() != self.repository.is_encrypted() => {
                let (is, is_not) = ("encrypted content, as repo.json has it", "content as it is");
                let (expected, found) = if identity.encryption.is_some() { (is, is_not) } else { (is_not, is) };
                self.found.defect(DefectKind::Checksum, version::path(&root), expected, found);
            }
            Some(Ok(_)) => {}
        }
        if self.repository.is_encrypted() && !self.repository.seal().unlock_if_named()? {
            self.found.notes.push(
                "it is encrypted, and no identity is named: every byte is compared with the hashes of what is stored, and what can be \
                 reached on later timelines than the first is not known"
                    .into(),
            );
        }
        let exact = format!("{}\n", version::text_of(format, self.repository.is_encrypted()));
        let text = files::read(&version::path(&root))?;
        if text != exact.as_bytes() {
            self.found.defect(DefectKind::Checksum, version::path(&root), exact.trim(), "other text");
        }
        if self.between {
            self.found
                .notes
                .push("an upgrade has begun and has not ended: `cdc-drill backup upgrade` goes on with it".into());
        }
        Ok(())
    }

    /// What lies in the repository's own folder, and in those of its locks and its points.
    fn entries(&mut self) -> Result<(), BackupError> {
        let root = self.root().to_owned();
        let known = match self.repository.format() {
            Format::One => {
                ["FORMAT", "repo.json", "checks.json", "checks.made", "latest.json", "upgrade.json", "proofs.json"]
            }
            Format::Two => ["FORMAT", "repo.json", "checks.json", "upgrade.json", "pruned.json", "proofs.json", ""],
        };
        let folders = ["points", "wal", "locks", "recoveries", "spool", "journal", "topics"];
        for entry in storage::entries(&root)?.unwrap_or_default() {
            let (path, name, is_folder) = (entry.path.as_path(), entry.name(), entry.is_folder);
            if is_folder && name.starts_with('.') {
                self.found.notes.push(format!("{path} is in use, or was when a process was killed"));
            } else if is_folder && name == layout::SALVAGE {
                self.salvage(path)?;
            } else if is_folder && !folders.contains(&name) {
                self.found.strangers(path, &|_| false)?;
            } else if !(is_folder
                || known.contains(&name)
                || name == attempts::NAME
                || self.between && OF_EITHER_FORMAT.contains(&name))
            {
                self.found.defect(DefectKind::Incomplete, path, "no such file", "one that nothing names");
            }
        }
        if self.repository.format() == Format::One {
            self.latest()?;
        }
        let locks = root.join("locks");
        let own: BTreeSet<Utf8PathBuf> = self.repository.lock_files().into_iter().collect();
        self.found.strangers(&locks, &|path| own.contains(path))?;
        if self.repository.format() == Format::Two {
            for path in self.repository.lock_files_made_with_it() {
                if !is_there(&path)? {
                    self.found.defect(DefectKind::Incomplete, &path, "a file of the locks", "nothing");
                }
            }
        }
        for path in own {
            if files::read_if_there(&path)?.is_some_and(|bytes| !Lock::is_sound(&path, &bytes)) {
                self.found.defect(DefectKind::Checksum, &path, "what locks write", "something else");
            }
        }
        self.spool()
    }

    /// The last segments of old servers, which recoveries read: by cluster, under the names that they had. They were being written when
    /// the servers ended, so nothing says what their bytes should be.
    fn salvage(&mut self, folder: &Utf8Path) -> Result<(), BackupError> {
        self.found.notes.push(format!(
            "{folder} has segments that were still being written when a server ended: they are not looked at"
        ));
        self.found.strangers(folder, &|path| {
            let name = path.strip_prefix(folder).unwrap_or(path).as_str();
            name.split_once('/')
                .is_some_and(|(id, file)| id.parse::<SystemId>().is_ok() && file.parse::<WalFile>().is_ok())
        })
    }

    /// What waits to be archived.
    fn spool(&mut self) -> Result<(), BackupError> {
        for entry in storage::entries(&self.root().join("spool"))?.into_iter().flatten() {
            match entry.name().parse::<WalFile>() {
                Ok(file) => {
                    self.spooled.insert(file);
                }
                // What is still being copied.
                Err(_) if entry.name().starts_with('.') => {}
                Err(_) => {
                    self.found.defect(DefectKind::Incomplete, entry.path, "files of WAL", "one that is none");
                }
            }
        }
        if !self.spooled.is_empty() {
            let waiting = counted(self.spooled.len(), "file");
            self.found.notes.push(format!("{waiting} of WAL in the spool, not archived yet: late, not lost"));
        }
        Ok(())
    }

    /// `latest.json` of format 1.
    fn latest(&mut self) -> Result<(), BackupError> {
        let path = self.root().join("latest.json");
        // A point that cannot be read may have been a full one.
        let full: Vec<PointId> = self
            .repository
            .finished()?
            .into_iter()
            .filter_map(|point| match point {
                Ok(point) => point.is_full().then(|| point.id().clone()),
                Err(damaged) => Some(damaged.point),
            })
            .collect();
        let Some(newest) = full.last() else { return Ok(()) };
        let said = match files::read_if_there(&path)? {
            None => {
                self.found.defect(DefectKind::Incomplete, &path, format!("a note of {newest}"), "nothing");
                return Ok(());
            }
            Some(bytes) => bytes,
        };
        let fits = |id: &PointId| self.repository.latest_bytes(id).is_ok_and(|bytes| bytes == said);
        if !full.iter().any(fits) {
            let found = String::from_utf8_lossy(&said).trim().to_owned();
            self.found.defect(DefectKind::Checksum, &path, format!("a note of {newest}"), found);
        }
        Ok(())
    }

    fn archives(&mut self) -> Result<BTreeMap<SystemId, (Archive, Survey)>, BackupError> {
        let wal = self.root().join("wal");
        let mut surveys = BTreeMap::new();
        let clusters = self.repository.archived_clusters()?;
        for system_id in &clusters {
            let archive = self.repository.archive(*system_id);
            let other = self.between.then(|| self.repository.archive_of(self.repository.format().other(), *system_id));
            let pruned = self.pruned.as_ref();
            let survey = survey(&archive, other.as_ref(), self.options.deep, pruned, &mut self.found)?;
            self.files += survey.files;
            self.bytes += survey.bytes;
            surveys.insert(*system_id, (archive, survey));
        }
        let folders: Vec<Utf8PathBuf> = clusters.iter().map(|id| wal.join(id.to_string())).collect();
        self.found.strangers(&wal, &|path| folders.iter().any(|folder| path.starts_with(folder)))?;
        Ok(surveys)
    }

    /// How the server's archiving stands, where one was to be asked.
    fn archiver(
        &mut self,
        surveys: &BTreeMap<SystemId, (Archive, Survey)>,
    ) -> Result<Option<ArchiverStanding>, BackupError> {
        let standing = match &self.options.archiving {
            None => return Ok(None),
            Some(Err(why)) => ArchiverStanding::unknown(why),
            Some(Ok(server)) => {
                let archive = self.repository.archive(server.system_id);
                let holding = Holding {
                    survey: surveys.get(&server.system_id).map(|(_, survey)| survey),
                    archive: &archive,
                    pruned: self.pruned.as_ref(),
                    spooled: &self.spooled,
                    made: made(self.repository),
                };
                let standing = ArchiverStanding::judge(server, &holding)?;
                for lost in &standing.lost {
                    let place = lost.file.parse::<WalFile>().map(|file| archive.place(&file));
                    let path = place.unwrap_or_else(|_| archive.folder().join(&lost.file));
                    let found = match lost.in_pg_wal {
                        true => "nothing; the server still has it: `cdc-drill wal push` can take it",
                        false => "nothing",
                    };
                    self.found.defect(DefectKind::WalGap, path, format!("{}: {}", lost.file, lost.why), found);
                }
                standing
            }
        };
        self.found.notes.extend(standing.notes());
        Ok(Some(standing))
    }

    fn points(&mut self, surveys: &BTreeMap<SystemId, (Archive, Survey)>) -> Result<Vec<Looked>, BackupError> {
        let points = self.repository.points_folder();
        let head = chain::Head::path(&points);
        let places = self.repository.places()?;
        let going = self.repository.being_pruned()?;
        let folders: Vec<&Utf8Path> = places.iter().chain(&going).map(|place| place.folder.as_path()).collect();
        let is_two = self.repository.format() == Format::Two || self.between;
        self.found.strangers(&points, &|path| {
            (is_two && path == head) || folders.iter().any(|folder| path.starts_with(folder))
        })?;
        for place in &going {
            self.found.notes.push(format!(
                "recovery point {} was pruned, and files of it are left: `cdc-drill backup prune` removes them",
                place.id
            ));
        }
        let mut looked = Vec::new();
        for place in places {
            if place.unfinished {
                self.found.notes.push(format!("recovery point {} is unfinished: no recovery uses it", place.id));
                continue;
            }
            let before = self.found.defects.len();
            let point = match Point::load(&place, self.repository.seal()) {
                Ok(point) => Some(point),
                Err(error) => {
                    self.unloadable(&place, error)?;
                    None
                }
            };
            let mut usable = point.is_some();
            if let Some(point) = &point {
                self.sum_of_manifest(&place, point)?;
                let (files, bytes) = verify::files(self.repository, point, self.options, &mut self.found)?;
                self.files += files;
                self.bytes += bytes;
                usable = self.found.defects.len() == before && self.wal_of(point, surveys)?;
            }
            looked.push(Looked { place, point, usable });
        }
        self.bases(&mut looked);
        Ok(looked)
    }

    /// A point whose base backup adds to another one's is as usable as that one is. What is wrong there was named there.
    fn bases(&mut self, looked: &mut [Looked]) {
        // Whatever a point adds to is older: its number in the chain is smaller.
        let mut order: Vec<usize> = (0..looked.len()).collect();
        let number = |l: &Looked| l.point.as_ref().and_then(|p| p.manifest.chain.as_ref()).map(|chain| chain.number);
        order.sort_by_key(|at| number(&looked[*at]));
        for at in order {
            let Some(link) = looked[at].point.as_ref().and_then(|p| p.manifest.pg.get()?.adds_to.clone()) else {
                continue;
            };
            let is_it = |l: &&Looked| l.point.as_ref().is_some_and(|p| p.manifest_sha256 == link.manifest);
            let base = looked.iter().filter(|l| l.place.id == link.point).find(is_it);
            if base.is_some_and(|base| base.usable) {
                continue;
            }
            if base.is_none() && !self.found.defects.iter().any(|defect| defect.path.contains(link.point.as_str())) {
                let folder = self.repository.points_folder().join(link.point.as_str());
                let expected = format!("the point below the base backup of {}", looked[at].place.id);
                self.found.defect(DefectKind::Incomplete, folder, expected, "nothing");
            }
            if looked[at].usable {
                self.found.notes.push(format!(
                    "recovery point {} cannot be used: its base backup adds to that of {}",
                    looked[at].place.id, link.point
                ));
            }
            looked[at].usable = false;
        }
    }

    /// Whether some point's manifest has this hash, whatever the file beside it says.
    fn is_manifest_elsewhere(&self, sha256_of_manifest: &str) -> Result<bool, BackupError> {
        for place in self.repository.places()? {
            let bytes = files::read_if_there(&place.folder.join(layout::MANIFEST))?;
            if bytes.is_some_and(|bytes| sha256(&bytes) == sha256_of_manifest) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Format 1: the checksum's file says nothing else.
    fn sum_of_manifest(&mut self, place: &Place, point: &Point) -> Result<(), BackupError> {
        let path = place.folder.join(layout::MANIFEST_SUM);
        if place.format == Format::One {
            let exact = format!("{}  {}\n", point.manifest_sha256, layout::MANIFEST);
            if files::read(&path)? != exact.as_bytes() {
                self.found.defect(DefectKind::Checksum, &path, exact.trim(), "other text");
            }
        }
        Ok(())
    }

    /// Names what makes a point unreadable. Its other files are compared with `SHA256SUMS`.
    fn unloadable(&mut self, place: &Place, error: BackupError) -> Result<(), BackupError> {
        self.without_manifest(place, error)?;
        verify::by_sums(&place.folder, &mut self.found)
    }

    fn without_manifest(&mut self, place: &Place, error: BackupError) -> Result<(), BackupError> {
        match error {
            BackupError::Incomplete { .. } => {
                let name = match place.format {
                    Format::One if is_there(&place.folder.join(layout::MANIFEST))? => layout::MANIFEST_SUM,
                    Format::One => layout::MANIFEST,
                    Format::Two => "manifest-*.json",
                };
                self.found.defect(DefectKind::Incomplete, place.folder.join(name), "the manifest", "nothing");
                Ok(())
            }
            BackupError::Checksum { path, expected, found } if place.format == Format::One => {
                // No hash, or one digit off: it is the checksum that was damaged. A changed manifest has another hash altogether.
                let sum = place.folder.join(layout::MANIFEST_SUM);
                let is_hash = files::read(&sum)? == format!("{expected}  {}\n", layout::MANIFEST).as_bytes();
                // A manifest that names its point is in its place: then its checksum is another one's.
                let swapped = Point::is_manifest_of(place)? && self.is_manifest_elsewhere(&expected)?;
                let damaged_sum = !is_hash || is_close(&expected, &found) || swapped;
                let path = if damaged_sum { sum } else { Utf8PathBuf::from(path) };
                self.found.defect(DefectKind::Checksum, path, expected, found);
                Ok(())
            }
            other => self.found.absorb(other),
        }
    }

    /// Whether the WAL that a point needs is whole; what is missing of it is named where it should be.
    fn wal_of(&mut self, point: &Point, surveys: &BTreeMap<SystemId, (Archive, Survey)>) -> Result<bool, BackupError> {
        let Some(pg) = point.manifest.pg.get() else { return Ok(true) };
        let archive = self.repository.archive(pg.system_id);
        let survey = surveys.get(&pg.system_id).map(|(_, survey)| survey);
        let mut whole = true;
        for name in &pg.wal_required {
            let Ok(file) = name.parse::<WalFile>() else { continue };
            if survey.is_some_and(|survey| survey.intact.contains(&file)) {
                continue;
            }
            whole = false;
            let is_there = archive.stored(file.timeline())?.iter().any(|held| held.file == file);
            let is_named = self.found.defects.iter().any(|defect| defect.path.contains(name.as_str()));
            if !is_there && !is_named {
                let expected = format!("segment {name}, which {} needs", point.id());
                self.found.defect(DefectKind::WalGap, archive.place(&file), expected, "nothing");
            }
        }
        if self.options.deep
            && whole
            && let Some((archive, _)) = surveys.get(&pg.system_id)
            && !super::proof::has_restore_point(archive, pg)?
        {
            let held = archive.find(&super::proof::segment_of(pg)?)?;
            let path = held.map_or_else(|| archive.folder().to_owned(), |held| held.path);
            let expected = format!("restore point {} before {}", pg.restore_point, pg.restore_point_lsn);
            self.found.defect(DefectKind::Checksum, path, expected, "WAL without it: it is of another server");
            whole = false;
        }
        Ok(whole)
    }

    /// Format 2: that no point is missing, by what the points remember and by the note of the newest.
    fn chain(&mut self, looked: &[Looked]) -> Result<(), BackupError> {
        if self.repository.format() == Format::One {
            return Ok(());
        }
        let points = self.repository.points_folder();
        let folder_of = |id: &PointId| looked.iter().find(|l| l.place.id == *id).map(|l| &l.place.folder);
        let noted = match chain::Head::read(&points) {
            Ok(noted) => noted,
            Err(error) => {
                self.found.absorb(error)?;
                None
            }
        };
        let path = chain::Head::path(&points);
        if noted.is_none() && !looked.is_empty() && !self.found.names(&path) {
            self.found.defect(DefectKind::Incomplete, &path, "a note of the newest point", "nothing");
        }
        let links = looked.iter().filter_map(|l| l.point.as_ref()?.manifest.chain.as_ref()?.previous.clone());
        for link in links.chain(noted.map(|head| head.link)) {
            let manifest = layout::manifest_name(&link.manifest);
            match folder_of(&link.point) {
                None if self.pruned.as_ref().is_none_or(|pruned| pruned.covers(&link)) => {}
                None => {
                    let path = points.join(link.point.as_str());
                    self.found.defect(DefectKind::Incomplete, path, "a recovery point", "nothing");
                }
                Some(folder) => {
                    // The name of what is missing is known now.
                    let (unknown, known) = (folder.join("manifest-*.json"), folder.join(&manifest));
                    if self.found.names(&unknown) && !is_there(&known)? {
                        self.found.rename(&unknown, &known);
                    }
                    let other = looked.iter().filter(|l| l.place.id == link.point).filter_map(|l| l.point.as_ref());
                    for point in other.filter(|point| point.manifest_sha256 != link.manifest) {
                        let own = folder.join(layout::manifest_name(&point.manifest_sha256));
                        self.found.defect(DefectKind::Checksum, own, format!("the manifest {manifest}"), "another");
                    }
                }
            }
        }
        Ok(())
    }

    /// What proofs left beside points, and the history of all proofs.
    fn proofs(&mut self, points: &[Looked]) -> Result<(), BackupError> {
        let path = proofs::path(self.root());
        let noted = match self.repository.proofs() {
            Ok(noted) => noted,
            Err(error) => return self.found.absorb(error),
        };
        let is_there = |id: &PointId| points.iter().any(|looked| looked.place.id == *id);
        for (path, expected, found) in proofs::damaged(self.root(), &noted, is_there)? {
            let kind = if found == "nothing" { DefectKind::Incomplete } else { DefectKind::Checksum };
            self.found.defect(kind, path, expected, found);
        }
        let mut unnamed = Vec::new();
        for point in points.iter().filter_map(|looked| looked.point.as_ref()) {
            let ids = self.repository.proofs_of(point)?.into_iter();
            unnamed.extend(ids.filter(|id| !noted.iter().any(|proof| proof.id == *id)));
        }
        match proofs::is_noted(self.root())? {
            _ if unnamed.is_empty() => {}
            true => self.found.notes.push(format!("proofs that did not end: {}", unnamed.join(", "))),
            false => {
                self.found.defect(DefectKind::Incomplete, &path, format!("a line of proof {}", unnamed[0]), "nothing")
            }
        }
        Ok(())
    }

    /// What checks before this one have noted; files of format 1 that have no checksum are compared with it.
    fn record(&mut self) -> Result<Record, BackupError> {
        let path = Record::path(self.root());
        let mut record = match Record::read(self.root()) {
            Ok(Some(record)) => record,
            Ok(None) => {
                if Record::was_made(self.root(), self.repository.format())? {
                    self.found.defect(DefectKind::Incomplete, &path, "the record of checks", "nothing");
                }
                Record::default()
            }
            Err(error) => {
                self.found.absorb(error)?;
                Record::default()
            }
        };
        if self.repository.format() == Format::One {
            if let Some(wrong) = Record::wrong_mark(self.root())? {
                self.found.defect(DefectKind::Incomplete, Record::mark(self.root()), "the mark of checks.json", wrong);
            }
            self.compare_seen(&mut record)?;
        }
        Ok(record)
    }

    /// `repo.json` and the indexes of format 1 have no checksum of their own: a change since the last check is noticed.
    fn compare_seen(&mut self, record: &mut Record) -> Result<(), BackupError> {
        let mut paths = vec![Identity::path(self.root())];
        for system_id in self.repository.archived_clusters()? {
            paths.extend(self.repository.archive(system_id).own_files()?);
        }
        for path in paths {
            let Some(bytes) = files::read_if_there(&path)? else { continue };
            let name = path.strip_prefix(self.root()).unwrap_or(&path).to_string();
            if let Some(seen) = record.seen.get(&name) {
                let begin = bytes.get(..seen.bytes as usize).map(sha256);
                if begin.as_ref() != Some(&seen.sha256) {
                    self.found.defect(DefectKind::Checksum, &path, "what the last check saw", "something else");
                    continue;
                }
            }
            if !self.found.names(&path) {
                record.seen.insert(name, Seen { bytes: bytes.len() as u64, sha256: sha256(&bytes) });
            }
        }
        Ok(())
    }

    fn reachable(
        &self,
        points: &[Looked],
        surveys: &BTreeMap<SystemId, (Archive, Survey)>,
    ) -> Result<Vec<Reach>, BackupError> {
        let mut all = Vec::new();
        for point in points.iter().filter(|looked| looked.usable).filter_map(|looked| looked.point.as_ref()) {
            let Some(pg) = point.manifest.pg.get() else { continue };
            if let Some((archive, survey)) = surveys.get(&pg.system_id) {
                all.extend(reach(point.id(), pg, archive, survey)?);
            }
        }
        Ok(all)
    }

    /// The records of topics: what backups name and what is there; with `deep` every byte.
    fn topics(&mut self, points: &[Looked]) -> Result<(), BackupError> {
        let manifests = points.iter().filter_map(|looked| looked.point.as_ref()?.manifest.kafka.get());
        let named = manifests.flat_map(|kafka| &kafka.records).map(|of| (of.topic.clone(), of.backup.clone()));
        let report = check_topics(self.repository, self.options.deep, &named.collect::<Vec<_>>())?;
        for Defect { kind, path, expected, found } in report.defects {
            self.found.defect(kind, path, expected, found);
        }
        self.found.notes.extend(report.notes);
        if report.backups > 0 && !self.options.deep {
            self.found.notes.push(format!(
                "the content of {} of topics' records was not read: `cdc-drill topic verify`, or --deep",
                counted(report.segments, "segment")
            ));
        }
        Ok(())
    }

    /// Notes which points are good now, and which are no longer.
    fn judge(&mut self, points: &[Looked], record: &mut Record) -> Result<(), BackupError> {
        let at = jiff::Timestamp::now().to_string();
        let began_with: BTreeSet<PointId> = record.passed.keys().cloned().collect();
        record.passed.retain(|id, _| points.iter().any(|looked| looked.place.id == *id));
        for looked in points {
            let id = &looked.place.id;
            match &looked.point {
                Some(point) if looked.usable && self.options.deep => {
                    let (by, manifest) = (env!("CARGO_PKG_VERSION").to_owned(), point.manifest_sha256.clone());
                    record.passed.insert(id.clone(), Passed { at: at.clone(), by, manifest });
                }
                Some(point) if looked.usable => {
                    if record.passed.get(id).is_some_and(|passed| passed.manifest != point.manifest_sha256) {
                        record.passed.remove(id);
                    }
                }
                _ => {
                    record.passed.remove(id);
                }
            }
        }
        // What a cheap check has not looked at it does not vouch for, and a damaged record is not written over.
        match self.options.deep && !self.found.names(&Record::path(self.root())) {
            true => record.write_beside(self.repository.store(), self.repository.format(), &began_with),
            false => Ok(()),
        }
    }

    fn report(
        self,
        points: Vec<Looked>,
        record: &Record,
        reachable: Vec<Reach>,
        archiver: Option<ArchiverStanding>,
    ) -> CheckReport {
        let standing = |looked: Looked| PointStanding {
            passed: record.passed.get(&looked.place.id).cloned(),
            point: looked.place.id,
            usable: looked.usable,
        };
        CheckReport {
            repository: self.repository.path().to_owned(),
            format: self.repository.format().number(),
            deep: self.options.deep,
            files: self.files,
            bytes: self.bytes,
            points: points.into_iter().map(standing).collect(),
            reachable,
            defects: self.found.defects,
            notes: self.found.notes,
            archiver,
        }
    }
}

/// Files of a repository that only one of the formats has.
const OF_EITHER_FORMAT: [&str; 2] = ["latest.json", "checks.made"];

/// Whether two hashes differ by two digits at most.
fn is_close(one: &str, other: &str) -> bool {
    let differing = one.bytes().zip(other.bytes()).filter(|(a, b)| a != b).count();
    differing <= 2
}
