//! The repository: recovery points and archived WAL, in a folder or a bucket.

use std::{collections::BTreeMap, fs, io};

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::{
    Activity, BackupError, Left, Lock, Origin, Point,
    bases::{bases, refuse_without_bases},
    chain,
    check::Record,
    files::{self, Store, is_there},
    format::{Chain, ConsistencyCheck, Format, Kind, Link, layout},
    place::{Place, remove_unfinished},
    pruned::Pruned,
    seal::{Encryption, Seal, name_identity, refuse_other_keys},
    storage,
    version::{self, Identity},
    wal::Archive,
};
use cdc_model::units::{IfThere, PointId, SystemId};
use cdc_pipeline::{client::limits, config::RepositoryConfig};

const UNFINISHED: &str = "its backup did not finish";

/// `latest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct LatestFile {
    point: PointId,
}

/// An opened repository.
#[derive(Clone, Debug)]
pub struct Repository {
    store: Store,
    format: Format,
}

/// Which recovery point is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PointSelector {
    /// The newest complete one that holds everything; damaged ones are passed over.
    Latest,
    /// This one.
    Id(PointId),
}

impl std::str::FromStr for PointSelector {
    type Err = std::convert::Infallible;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Ok(if s == "latest" { PointSelector::Latest } else { PointSelector::Id(PointId::new(s)) })
    }
}

impl std::fmt::Display for PointSelector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PointSelector::Latest => f.write_str("latest"),
            PointSelector::Id(id) => id.fmt(f),
        }
    }
}

/// One line of `backup list`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointSummary {
    /// The point.
    pub point: PointId,
    /// When its capture began, RFC 3339; empty when the manifest is missing or damaged.
    pub begin: String,
    /// When its capture ended; empty when it did not.
    pub end: String,
    /// Whether it has its manifest, with the checksum written for it.
    pub complete: bool,
    /// The bytes it occupies, archived WAL not counted.
    pub bytes: u64,
    /// Why it cannot be used, or not be looked at as a whole; null when it can.
    pub defect: Option<String>,
    /// The consistency checks that failed when it was taken: `recover` does not start from such a point unasked.
    pub failed_checks: Vec<ConsistencyCheck>,
}

impl PointSummary {
    fn of(place: &Place, loaded: &Result<Point, BackupError>) -> PointSummary {
        let bytes = storage::size_of(&place.folder);
        let defect = loaded.as_ref().err().or(bytes.as_ref().err()).map(ToString::to_string);
        let manifest = loaded.as_ref().ok().map(|point| &point.manifest);
        PointSummary {
            point: place.id.clone(),
            begin: manifest.map(|m| m.window.begin.clone()).unwrap_or_default(),
            end: manifest.map(|m| m.window.end.clone()).unwrap_or_default(),
            complete: manifest.is_some(),
            failed_checks: manifest.map(|m| m.consistency.failed().cloned().collect()).unwrap_or_default(),
            bytes: bytes.unwrap_or_default(),
            defect,
        }
    }
}

/// The place of a point with the point, or why it cannot be used.
type Loaded = (Place, Result<Point, BackupError>);

fn unfinished(point: &PointId) -> BackupError {
    BackupError::Incomplete { point: point.clone(), what: UNFINISHED.to_owned() }
}

/// A recovery point that is newer than the one that was taken for the latest, and cannot be used.
#[derive(Debug)]
pub struct PassedOver {
    /// The point.
    pub point: PointId,
    /// What is wrong with it.
    pub why: BackupError,
}

impl std::fmt::Display for PassedOver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "recovery point {} is passed over: {}", self.point, self.why)
    }
}

/// What `latest` stands for.
#[derive(Debug)]
pub struct Newest {
    /// The newest complete point that holds all parts.
    pub point: Point,
    /// Finished points that are newer and damaged, or could not be read; the newest first.
    pub passed_over: Vec<PassedOver>,
}

impl Repository {
    /// Makes a repository in a folder that is missing or empty, or at an address in a bucket below which is nothing; opens one that is
    /// there.
    pub fn init(root: &Utf8Path) -> Result<Repository, BackupError> {
        Repository::init_as(root, Format::NEWEST)
    }

    /// The same with content that is encrypted for these recipients, `age1…`: as it is where nobody is named. Refused (36) where there is
    /// one that is encrypted for others, or not at all.
    pub fn init_for(root: &Utf8Path, recipients: &[String]) -> Result<Repository, BackupError> {
        Repository::init_with(root, Format::NEWEST, recipients)
    }

    pub(crate) fn init_as(root: &Utf8Path, format: Format) -> Result<Repository, BackupError> {
        Repository::init_with(root, format, &[])
    }

    fn init_with(root: &Utf8Path, format: Format, recipients: &[String]) -> Result<Repository, BackupError> {
        let root = root_of(root)?;
        let encryption = if recipients.is_empty() { None } else { Some(Encryption::new(root, recipients)?) };
        let refuse = |found: String| BackupError::NotARepository { path: root.to_owned(), found };
        match is_there(&version::path(root)) {
            Ok(false) => {}
            Ok(true) => {
                let repository = Repository::open(root)?;
                if !recipients.is_empty() {
                    refuse_other_keys(root, repository.seal(), recipients, false)?;
                }
                return Ok(repository);
            }
            Err(BackupError::Io { cause, .. }) if cause.kind() == io::ErrorKind::NotADirectory => {
                return Err(refuse(version::NO_FOLDER.into()));
            }
            Err(error) => return Err(error),
        }
        let store = Store::make(root)?;
        let strangers = storage::entries(root)?.unwrap_or_default().len();
        if strangers > 0 {
            return Err(refuse(format!("files and folders that are no repository's: {strangers}")));
        }
        storage::refuse_unconditional(root)?;
        for folder in ["points", "wal", "locks"] {
            store.folder(&root.join(folder))?;
        }
        let seal = encryption.clone().map(|says| Seal::of(root, Ok(says))).unwrap_or_default();
        let repository = Repository { store: store.with_seal(seal), format };
        repository.fill()?;
        let store = &repository.store;
        Identity::new(format, encryption).write(store, format)?;
        // Last: with it the folder is a repository.
        version::write(store, format)?;
        Ok(repository)
    }

    /// Makes the files that a repository of format 2 always has: the loss of one is noticed.
    pub(crate) fn fill(&self) -> Result<(), BackupError> {
        if self.format == Format::One {
            return Ok(());
        }
        Lock::make_files_in(&self.store)?;
        if !is_there(&Pruned::path(self.path()))? {
            Pruned::default().write(&self.store)?;
        }
        match is_there(&Record::path(self.path()))? {
            true => Ok(()),
            false => Record::default().write(&self.store, self.format),
        }
    }

    /// Opens a repository.
    pub fn open(root: &Utf8Path) -> Result<Repository, BackupError> {
        let root = root_of(root)?;
        let (format, seal) = version::read_with_seal(root)?;
        if format == Format::One && storage::is_in_a_bucket(root) {
            let found = "it has format 1, which only a folder can have".to_owned();
            return Err(BackupError::NotARepository { path: root.to_owned(), found });
        }
        Ok(Repository { store: Store::new(root)?.with_seal(seal), format })
    }

    /// Opens the repository that a configuration names, with the identity that it names. Refused (36) where the repository is encrypted
    /// for others than the configuration says, or not at all.
    pub fn of(config: &RepositoryConfig) -> Result<Repository, BackupError> {
        let root = root_of(&config.path)?;
        if let Some(file) = &config.identity_file {
            name_identity(root, file);
        }
        let repository = Repository::open(root)?;
        let seal = repository.seal();
        refuse_other_keys(root, seal, &config.recipients, seal.names_an_identity())?;
        Ok(repository)
    }

    /// How its content is kept.
    pub(crate) fn seal(&self) -> &Seal {
        self.store.seal()
    }

    /// Whether its content is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.seal().is_on()
    }

    /// The file of the identity that a server of this account fetches WAL with; none where it needs none. Refused (36) where the account
    /// cannot read it.
    pub(crate) fn identity_file_for(&self, uid: u32) -> Result<Option<Utf8PathBuf>, BackupError> {
        self.seal().identity_file_for(uid)
    }

    /// Requires that its content can be read: refused (36) where it is encrypted and there is no identity for it.
    pub fn unlock(&self) -> Result<(), BackupError> {
        self.seal().unlock()
    }

    /// Changes the format that the repository is read in.
    pub(crate) fn change_format(&self, format: Format) -> Result<(), BackupError> {
        let identity = Identity::read(self.path(), self.format)?;
        Identity { format: format.number(), ..identity }.write(&self.store, format)?;
        version::write(&self.store, format)
    }

    /// The file that is there while an upgrade has begun and has not ended.
    pub(crate) fn upgrade_mark(&self) -> Utf8PathBuf {
        self.path().join("upgrade.json")
    }

    /// Whether an upgrade has begun and has not ended: files of both formats lie beside one another.
    pub(crate) fn is_between_formats(&self) -> Result<bool, BackupError> {
        is_there(&self.upgrade_mark())
    }

    /// The repository's folder, or its address in a bucket.
    pub fn path(&self) -> &Utf8Path {
        self.store.root()
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// How it lays out what it holds.
    pub fn format(&self) -> Format {
        self.format
    }

    pub(crate) fn points_folder(&self) -> Utf8PathBuf {
        self.path().join("points")
    }

    /// The archived WAL of a cluster.
    pub fn archive(&self, system_id: SystemId) -> Archive {
        self.archive_of(self.format, system_id)
    }

    /// The same as another format keeps it: while an upgrade has not ended, files of both lie there.
    pub(crate) fn archive_of(&self, format: Format, system_id: SystemId) -> Archive {
        Archive::new(&self.store, format, system_id)
    }

    /// Where recoveries put the last segments of a cluster's old servers.
    pub(crate) fn salvaged(&self, system_id: SystemId) -> Utf8PathBuf {
        self.path().join(layout::SALVAGE).join(system_id.to_string())
    }

    /// The system identifiers of the clusters that archive here.
    pub(crate) fn archived_clusters(&self) -> Result<Vec<SystemId>, BackupError> {
        let entries = storage::entries(&self.path().join("wal"))?.unwrap_or_default();
        Ok(entries.iter().filter_map(|entry| entry.name().parse::<SystemId>().ok()).collect())
    }

    /// Takes the lock for an activity that begins; `owner` names it to others that are refused because of it. Fails
    /// with [`BackupError::LockHeld`] or [`BackupError::RecoveryUnfinished`] where it is refused itself.
    pub fn lock(&self, begins: Activity, owner: &str) -> Result<Lock, BackupError> {
        Lock::take(&self.store, begins, owner, None)
    }

    /// The lock of a recovery; `goes_on` is the one that goes on, if one does.
    pub(crate) fn lock_for_recovery(&self, owner: &str, goes_on: Option<&str>) -> Result<Lock, BackupError> {
        Lock::take(&self.store, Activity::Recover, owner, goes_on)
    }

    /// The recoveries from this repository that have begun to change a pipeline and have not ended.
    pub(crate) fn unfinished_recoveries(&self) -> Result<Vec<Left>, BackupError> {
        Lock::left_in(&self.store)
    }

    /// Who recovers from this repository now: the command, its process and its machine.
    pub(crate) fn recoverer(&self) -> Result<Option<String>, BackupError> {
        Lock::recoverer_in(&self.store)
    }

    /// Every recovery point, oldest first; unfinished and damaged ones with what is wrong with them.
    pub fn points(&self) -> Result<Vec<PointSummary>, BackupError> {
        Ok(self.listed()?.into_iter().map(|(summary, _)| summary).collect())
    }

    /// The same, with those that can be used as they are.
    pub(crate) fn listed(&self) -> Result<Vec<(PointSummary, Option<Point>)>, BackupError> {
        let loaded = self.loaded()?.into_iter();
        Ok(loaded.map(|(place, point)| (PointSummary::of(&place, &point), point.ok())).collect())
    }

    /// Every finished recovery point, oldest first: as it is, or why it cannot be used. The chain says which is older; ids, which
    /// begin with a time, where there is none.
    pub(crate) fn finished(&self) -> Result<Vec<Result<Point, PassedOver>>, BackupError> {
        Ok(in_order(self.loaded()?))
    }

    /// The same for a reader of other parts than the base backup: whether what that adds to is there does not matter.
    pub(crate) fn finished_without_bases(&self) -> Result<Vec<Result<Point, PassedOver>>, BackupError> {
        Ok(in_order(self.loaded_alone()?))
    }

    /// Every place of a point, by id, with the point, or why it cannot be used: everything that its base backup adds to must be there.
    fn loaded(&self) -> Result<Vec<Loaded>, BackupError> {
        let mut loaded = self.loaded_alone()?;
        let readable = loaded.iter().filter_map(|(_, point)| point.as_ref().ok());
        let by_id: BTreeMap<&PointId, &Point> = readable.map(|point| (point.id(), point)).collect();
        let without_bases: BTreeMap<PointId, BackupError> = by_id
            .values()
            .filter_map(|point| Some((point.id().clone(), refuse_without_bases(point, &by_id).err()?)))
            .collect();
        for (id, why) in without_bases {
            if let Some((_, point)) = loaded.iter_mut().find(|(place, _)| place.id == id) {
                *point = Err(why);
            }
        }
        Ok(loaded)
    }

    /// Every place of a point, by id, with the point as its own manifest has it.
    fn loaded_alone(&self) -> Result<Vec<Loaded>, BackupError> {
        let load = |place: Place| {
            let point = if place.unfinished { Err(unfinished(&place.id)) } else { Point::load(&place, self.seal()) };
            (place, point)
        };
        Ok(self.places()?.into_iter().map(load).collect())
    }

    /// The place of the next point among all.
    pub(crate) fn next_in_chain(&self) -> Result<Chain, BackupError> {
        let noted = match chain::Head::read(&self.points_folder()) {
            Ok(noted) => noted,
            Err(error) if error.is_damage() => {
                tracing::warn!(%error, "which point is the newest is noted anew");
                None
            }
            Err(error) => return Err(error),
        };
        let points = self.finished()?;
        let heads = points.iter().flatten().filter_map(chain::Head::of);
        let pruned = self.pruned()?;
        let gone = pruned.points.iter().map(|(point, tombstone)| chain::Head {
            number: tombstone.number,
            link: Link { point: point.clone(), manifest: tombstone.manifest.clone() },
        });
        Ok(chain::Head::next(heads.chain(gone).chain(noted)))
    }

    /// The newest complete recovery point with all parts, and the damaged ones that are newer. Where nothing but damaged ones
    /// is left, what is wrong with the newest of them.
    pub fn newest(&self) -> Result<Newest, BackupError> {
        self.newest_of(&Origin::default())
    }

    /// The same of one pipeline's points; those of others are logged.
    pub fn newest_of(&self, origin: &Origin) -> Result<Newest, BackupError> {
        let mut passed_over = Vec::new();
        for point in self.finished()?.into_iter().rev() {
            match point {
                Ok(point) if point.manifest.kind == Kind::Full => match origin.foreign(&point.manifest) {
                    None => return Ok(Newest { point, passed_over }),
                    Some(foreign) => tracing::info!("recovery point {} is passed over: it is of {foreign}", point.id()),
                },
                Ok(_) => {}
                Err(damaged) => passed_over.push(damaged),
            }
        }
        match passed_over.into_iter().next() {
            Some(newest) => Err(newest.why),
            None => Err(self.no_such("latest (a complete one with all parts)")),
        }
    }

    /// Every point's folder, by id. One that is being pruned is no point any more.
    pub(crate) fn places(&self) -> Result<Vec<Place>, BackupError> {
        Ok(self.places_and_pruned()?.0)
    }

    /// What is left of points that are being pruned.
    pub(crate) fn being_pruned(&self) -> Result<Vec<Place>, BackupError> {
        Ok(self.places_and_pruned()?.1)
    }

    fn places_and_pruned(&self) -> Result<(Vec<Place>, Vec<Place>), BackupError> {
        let pruned = self.pruned()?;
        let all = Place::all(&self.points_folder(), self.format)?;
        Ok(all.into_iter().partition(|place| !pruned.points.contains_key(&place.id)))
    }

    /// What was pruned; nothing in format 1.
    pub(crate) fn pruned(&self) -> Result<Pruned, BackupError> {
        match self.format {
            Format::One => Ok(Pruned::default()),
            Format::Two => Pruned::read_or_none(self.path()),
        }
    }

    /// The folder of a point, finished or not, for looking at it; refuses names that are not a point's.
    pub(crate) fn locate(&self, id: &PointId) -> Result<Place, BackupError> {
        let found = self.places()?.into_iter().find(|place| place.id == *id);
        found.ok_or_else(|| self.no_such(id.as_str()))
    }

    /// A complete recovery point, its manifest's checksum verified. `Latest` is that of [`Repository::newest`]; what it passes
    /// over is logged.
    pub fn point(&self, selector: &PointSelector) -> Result<Point, BackupError> {
        match selector {
            PointSelector::Id(id) => {
                let point = self.point_without_bases(id)?;
                bases(&point)?;
                Ok(point)
            }
            PointSelector::Latest => {
                let newest = self.newest()?;
                for passed in &newest.passed_over {
                    tracing::warn!("{passed}");
                }
                Ok(newest.point)
            }
        }
    }

    /// The point that was named, for a reader of other parts than the base backup.
    pub(crate) fn point_without_bases(&self, id: &PointId) -> Result<Point, BackupError> {
        let place = self.locate(id)?;
        match place.unfinished {
            true => Err(unfinished(id)),
            false => Point::load(&place, self.seal()),
        }
    }

    pub(super) fn no_such(&self, wanted: &str) -> BackupError {
        let there = match self.places() {
            Ok(all) if all.is_empty() => "none".to_owned(),
            Ok(all) => {
                let newest: Vec<String> = all.into_iter().rev().take(5).map(|place| place.id.0).collect();
                format!("{} (newest first)", newest.join(", "))
            }
            Err(error) => format!("points that cannot be listed ({error})"),
        };
        BackupError::NoSuchPoint { repository: self.path().to_owned(), wanted: wanted.to_owned(), there }
    }

    /// Notes a point that is the newest: in format 1 for readers that do not know this tool.
    pub(crate) fn note_latest(&self, point: &Point) -> Result<(), BackupError> {
        match (self.format, chain::Head::of(point)) {
            (Format::One, _) if point.is_full() => {
                self.store.write(&self.path().join("latest.json"), &self.latest_bytes(point.id())?)
            }
            (Format::One, _) | (Format::Two, None) => Ok(()),
            (Format::Two, Some(head)) => {
                head.write(&self.store, &self.points_folder())?;
                files::remove(&point.folder.join(layout::STARTED))
            }
        }
    }

    /// What `latest.json` of format 1 says of a point.
    pub(crate) fn latest_bytes(&self, point: &PointId) -> Result<Vec<u8>, BackupError> {
        files::canonical_json(&self.path().join("latest.json"), &LatestFile { point: point.clone() })
    }

    /// The files that locks may have.
    pub(crate) fn lock_files(&self) -> Vec<Utf8PathBuf> {
        Lock::files_in(&self.store)
    }

    /// Those of them that a repository of format 2 always has.
    pub(crate) fn lock_files_made_with_it(&self) -> Vec<Utf8PathBuf> {
        Lock::files_made_in(&self.store)
    }

    /// Removes what killed backups left. Only for the holder of the backup lock: nobody else is writing a point then.
    pub(crate) fn remove_leftovers(&self) -> Result<(), BackupError> {
        for place in self.places()? {
            if place.unfinished {
                tracing::info!(folder = %place.folder, "removing an unfinished recovery point");
                remove_unfinished(&place.folder)?;
            } else if self.format == Format::Two {
                // Of a point that was finished a moment before its backup was killed.
                files::remove(&place.folder.join(layout::STARTED))?;
            }
        }
        match storage::is_in_a_bucket(self.path()) {
            // An object is there when all of it is.
            true => Ok(()),
            false => remove_old_temporaries(&self.path().join("wal")),
        }
    }
}

/// The finished points among these, oldest first.
fn in_order(loaded: Vec<Loaded>) -> Vec<Result<Point, PassedOver>> {
    let finished = loaded.into_iter().filter(|(place, _)| !place.unfinished);
    let mut points: Vec<Result<Point, PassedOver>> =
        finished.map(|(place, point)| point.map_err(|why| PassedOver { point: place.id, why })).collect();
    let mut chained: Vec<Point> = points.iter().flatten().cloned().collect();
    chained.sort_by_key(|point| point.manifest.chain.as_ref().map(|chain| chain.number));
    for (slot, point) in points.iter_mut().filter(|point| point.is_ok()).zip(chained) {
        *slot = Ok(point);
    }
    points
}

/// An address in a bucket without the slash at its end: keys have one between their parts.
fn root_of(path: &Utf8Path) -> Result<&Utf8Path, BackupError> {
    match (storage::malformed(path), storage::is_in_a_bucket(path)) {
        (Some(why), _) => Err(BackupError::Address { why }),
        (None, true) => Ok(Utf8Path::new(path.as_str().trim_end_matches('/'))),
        (None, false) => Ok(path),
    }
}

/// What a killed archiver left half-written. A file that is being written is younger than [`limits::facts::TEMPORARY_OLD`].
fn remove_old_temporaries(folder: &Utf8Path) -> Result<(), BackupError> {
    for entry in folder.read_dir_utf8().map_err(BackupError::io("list", folder))? {
        let entry = entry.map_err(BackupError::io("list", folder))?;
        let path = entry.path();
        // The server archives meanwhile: an entry may be gone by now.
        let meta = fs::symlink_metadata(path).if_there().map_err(BackupError::io("look at", path))?;
        let Some(meta) = meta else { continue };
        if meta.is_dir() {
            remove_old_temporaries(path)?;
        } else if entry.file_name().starts_with('.') && entry.file_name().ends_with(".tmp") {
            let age = meta.modified().ok().and_then(|at| at.elapsed().ok());
            if age.is_some_and(|age| age > limits::facts::TEMPORARY_OLD) {
                fs::remove_file(path).map_err(BackupError::io("remove", path))?;
            }
        }
    }
    Ok(())
}
