//! `backup upgrade`: from format 1 to format 2, in place.
//!
//! What format 2 needs is written beside what format 1 has, then the repository changes its format by one rename, then what only
//! format 1 had goes. At every moment all points and all WAL can be read in the format that `FORMAT` names; the same command again
//! goes on. WAL may be archived meanwhile.

use camino::Utf8Path;
use serde::{Deserialize, Serialize};

use super::{
    Activity, BackupError, Chain, Format, Manifest, Origin, Point, Repository, chain,
    file_system::file_system,
    files::{self, is_there},
    format::layout::{MANIFEST, MANIFEST_SUM, manifest_name},
    hash::sha256,
    place::{self, Place},
    seal::Seal,
    wal::Archive,
};

/// What an upgrade did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upgraded {
    /// How many points have a manifest of format 2 now.
    pub points: u64,
    /// How many archived files have an object now.
    pub wal_files: u64,
}

/// How far an upgrade has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpgradeProgress {
    /// The bytes of archived WAL that are done.
    pub done: u64,
    /// All of them.
    pub total: u64,
}

/// Turns a repository of format 1 into one of format 2; on one of format 2 it ends an upgrade that did not.
///
/// Damage is refused before anything is written: what cannot be read as format 1 cannot be carried over.
pub fn upgrade(root: &Utf8Path, progress: &dyn Fn(UpgradeProgress)) -> Result<Upgraded, BackupError> {
    let repository = Repository::open(root)?;
    let _lock = repository.lock(Activity::Maintain, "backup upgrade")?;
    // What it was when the lock was taken: another upgrade may just have ended.
    let mut upgrade = Upgrade { repository: Repository::open(root)?, done: Upgraded::default() };
    for phase in PHASES {
        phase(&mut upgrade, progress)?;
    }
    Ok(upgrade.done)
}

struct Upgrade {
    repository: Repository,
    done: Upgraded,
}

type Phase = fn(&mut Upgrade, &dyn Fn(UpgradeProgress)) -> Result<(), BackupError>;

const PHASES: [Phase; 5] = [Upgrade::begin, Upgrade::wal, Upgrade::points, Upgrade::switch, Upgrade::clean];

impl Upgrade {
    fn is_switched(&self) -> bool {
        self.repository.format() == Format::Two
    }

    fn archives(&self) -> Result<Vec<(Archive, Archive)>, BackupError> {
        let mut archives = Vec::new();
        for system_id in self.repository.archived_clusters()? {
            let of = |format| self.repository.archive_of(format, system_id);
            archives.push((of(Format::One), of(Format::Two)));
        }
        Ok(archives)
    }

    fn places(&self) -> Result<Vec<Place>, BackupError> {
        Place::all(&self.repository.points_folder(), Format::One)
    }

    /// Notes that an upgrade has begun, after it has looked at everything that it has to read.
    fn begin(&mut self, _: &dyn Fn(UpgradeProgress)) -> Result<(), BackupError> {
        if self.is_switched() {
            return Ok(());
        }
        let mut bytes = 0;
        for (old, _) in self.archives()? {
            for timeline in old.timelines()? {
                for held in old.stored(timeline)? {
                    held.check_if_known()?;
                    bytes += held.size;
                }
            }
        }
        for place in self.places()?.iter().filter(|place| !place.unfinished) {
            Point::load(place, &Seal::default())?;
        }
        let path = self.repository.path();
        let (file_system, free) = file_system(path).map_err(BackupError::io("look at", path))?;
        if free < bytes {
            return Err(BackupError::NoSpace { what: "upgrade", path: path.to_owned(), file_system, free });
        }
        let mark = self.repository.upgrade_mark();
        self.repository.store().write(&mark, b"{}\n")
    }

    fn wal(&mut self, progress: &dyn Fn(UpgradeProgress)) -> Result<(), BackupError> {
        if self.is_switched() {
            return Ok(());
        }
        self.carry_wal(progress)
    }

    /// Gives each archived file its object.
    fn carry_wal(&mut self, progress: &dyn Fn(UpgradeProgress)) -> Result<(), BackupError> {
        let mut all = Vec::new();
        for (old, new) in self.archives()? {
            for timeline in old.timelines()? {
                all.extend(old.stored(timeline)?.into_iter().map(|held| (held, new.clone())));
            }
        }
        let total = all.iter().map(|(held, _)| held.size).sum();
        let mut done = 0;
        for (held, new) in all {
            if !new.has(&held.file)? {
                new.adopt(&held)?;
                self.done.wal_files += 1;
            }
            done += held.size;
            progress(UpgradeProgress { done, total });
        }
        Ok(())
    }

    /// Gives each point its manifest of format 2 and its place in the chain, by their ids: they begin with a time.
    fn points(&mut self, _: &dyn Fn(UpgradeProgress)) -> Result<(), BackupError> {
        if self.is_switched() {
            return Ok(());
        }
        let store = self.repository.store().clone();
        let (mut number, mut previous) = (0, None);
        for place in self.places()?.into_iter().filter(|place| !place.unfinished) {
            let point = Point::load(&place, &Seal::default())?;
            number += 1;
            let manifest = Manifest {
                format: Format::Two.number(),
                chain: Some(Chain { number, previous: previous.take() }),
                pipeline: Origin::of(&point.manifest),
                ..point.manifest
            };
            let bytes = files::canonical_json(&place.folder.join(MANIFEST), &manifest)?;
            let name = place.folder.join(manifest_name(&sha256(&bytes)));
            // Those of an attempt before, when there were other points.
            for (old, _) in place::manifests(&place.folder)?.into_iter().filter(|(old, _)| *old != name) {
                files::remove(&old)?;
            }
            store.write(&name, &bytes)?;
            let upgraded = Point::load(&Place { format: Format::Two, ..place }, &Seal::default())?;
            if let Some(head) = chain::Head::of(&upgraded) {
                head.write(&store, &self.repository.points_folder())?;
            }
            previous = Some(upgraded.link());
            self.done.points += 1;
        }
        Ok(())
    }

    fn switch(&mut self, _: &dyn Fn(UpgradeProgress)) -> Result<(), BackupError> {
        if !self.is_switched() {
            self.repository.change_format(Format::Two)?;
            self.repository = Repository::open(self.repository.path())?;
        }
        self.repository.fill()
    }

    /// Removes what only format 1 had. What was archived between the first look and the change of the format is carried over
    /// before.
    fn clean(&mut self, progress: &dyn Fn(UpgradeProgress)) -> Result<(), BackupError> {
        self.carry_wal(progress)?;
        for (old, new) in self.archives()? {
            for timeline in old.timelines()? {
                for held in old.stored(timeline)? {
                    if new.has(&held.file)? {
                        files::remove(&held.path)?;
                    }
                }
                files::remove(&old.index_in_format_1(timeline))?;
            }
        }
        for place in self.places()? {
            if place.unfinished {
                std::fs::remove_dir_all(&place.folder).map_err(BackupError::io("remove", &place.folder))?;
                continue;
            }
            if !place::manifests(&place.folder)?.is_empty() {
                files::remove(&place.folder.join(MANIFEST_SUM))?;
                files::remove(&place.folder.join(MANIFEST))?;
            }
        }
        let root = self.repository.path();
        for name in ["latest.json", "checks.made"] {
            files::remove(&root.join(name))?;
        }
        let journal = root.join("journal");
        if is_there(&journal)? && journal.read_dir_utf8().map_err(BackupError::io("list", &journal))?.next().is_none() {
            std::fs::remove_dir(&journal).map_err(BackupError::io("remove", &journal))?;
        }
        files::remove(&self.repository.upgrade_mark())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::{
        CheckOptions, PointSelector, fixture,
        fixture::{NEEDED, POINT, SYSTEM},
        verify,
        wal::{self, Fetched},
    };
    use camino::Utf8PathBuf;
    use cdc_model::units::{Exit, Failure, PointId, Timeline};

    const LATER: &str = "20261123T020000Z-8b21";

    fn old() -> (tempfile::TempDir, Repository) {
        let (folder, repository) = fixture::repository_of(Format::One);
        fixture::later(&repository, LATER, |_| {});
        let half = repository.points_folder().join("20261124T020000Z-0c33.partial/pg");
        std::fs::create_dir_all(&half).unwrap();
        std::fs::write(half.join("base.tar.zst"), "half").unwrap();
        (folder, repository)
    }

    /// All points pass the deepest check, and every segment can be fetched.
    fn is_whole(root: &Utf8Path, scratch: &Utf8Path, segments: std::ops::RangeInclusive<u64>) {
        let repository = Repository::open(root).unwrap();
        for id in [POINT, LATER] {
            let options = CheckOptions { deep: true, tools: None, archiving: None };
            let report = verify(&repository, &PointId::new(id), &options).unwrap();
            assert_eq!(report.exit(), Exit::Passed, "{:?}", report.defects);
        }
        assert_eq!(repository.point(&PointSelector::Latest).unwrap().id().as_str(), LATER);
        for number in segments {
            let name = fixture::segment(number);
            let to = scratch.join("fetched");
            assert_eq!(wal::fetch(&repository, SYSTEM, &name.to_string(), &to, None).unwrap(), Fetched::Placed);
            assert_eq!(std::fs::read(&to).unwrap()[1000], number as u8);
        }
    }

    fn all() -> std::ops::RangeInclusive<u64> {
        NEEDED.start() - 1..=NEEDED.end() + 1
    }

    #[test]
    fn what_was_in_the_old_format_is_in_the_new_one() {
        let (folder, repository) = old();
        let root = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
        let done = upgrade(repository.path(), &|_| {}).unwrap();
        assert_eq!(done, Upgraded { points: 2, wal_files: 5 });
        assert_eq!(Repository::open(repository.path()).unwrap().format(), Format::Two);
        is_whole(repository.path(), &root, all());
        let left = fixture::tree(repository.path());
        let old = |name: &&String| {
            let name = name.rsplit('/').next().unwrap_or_default();
            ["manifest.json", "manifest.sha256", "index.jsonl", "latest.json", "upgrade.json"].contains(&name)
                || name.ends_with("0003.zst")
        };
        assert_eq!(left.iter().filter(old).collect::<Vec<_>>(), Vec::<&String>::new(), "{left:?}");
        let chain = Repository::open(repository.path()).unwrap().next_in_chain().unwrap();
        assert_eq!((chain.number, chain.previous.unwrap().point.as_str().to_owned()), (3, LATER.to_owned()));
        assert_eq!(upgrade(repository.path(), &|_| {}).unwrap(), Upgraded::default(), "once more does nothing");
    }

    #[test]
    fn an_upgrade_that_is_killed_anywhere_loses_nothing_and_goes_on() {
        for phases in 0..=PHASES.len() {
            let (folder, repository) = old();
            let root = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
            let path = repository.path().to_owned();
            let mut first = Upgrade { repository, done: Upgraded::default() };
            for phase in &PHASES[..phases] {
                phase(&mut first, &|_| {}).unwrap();
            }
            is_whole(&path, &root, all());
            // WAL is archived meanwhile.
            fixture::archive(&Repository::open(&path).unwrap(), &root, Timeline::FIRST, NEEDED.end() + 2);
            upgrade(&path, &|_| {}).unwrap();
            is_whole(&path, &root, *all().start()..=all().end() + 1);
            assert_eq!(Repository::open(&path).unwrap().format(), Format::Two, "after {phases} phases");
        }
    }

    #[test]
    fn who_opened_the_old_format_archives_and_fetches_in_the_new_one() {
        let (folder, repository) = old();
        let root = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
        upgrade(repository.path(), &|_| {}).unwrap();
        assert_eq!(repository.format(), Format::One, "as it was opened");
        let name = fixture::segment(4).to_string();
        assert_eq!(wal::fetch(&repository, SYSTEM, &name, &root.join("x"), None).unwrap(), Fetched::Placed);
        fixture::offer(&repository, &root, NEEDED.end() + 2);
        is_whole(repository.path(), &root, *all().start()..=all().end() + 1);
        let left = fixture::tree(repository.path());
        assert!(!left.iter().any(|name| name.ends_with("index.jsonl")), "{left:?}");
    }

    #[test]
    fn damage_is_refused_before_anything_is_written() {
        let (_folder, repository) = old();
        let archive = Archive::new(repository.store(), Format::One, SYSTEM);
        fixture::flip(&archive.stored(Timeline::FIRST).unwrap()[1].path);
        let before = fixture::tree(repository.path());
        assert_eq!(upgrade(repository.path(), &|_| {}).unwrap_err().exit(), Exit::ChecksumMismatch);
        let after: Vec<String> = fixture::tree(repository.path());
        let new = after.iter().filter(|name| !before.contains(name) && !name.starts_with("locks/"));
        assert_eq!(new.collect::<Vec<_>>(), Vec::<&String>::new());
    }
}
