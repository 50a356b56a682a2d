//! A file system that is full at every write: nothing is half valid, nothing that was there is lost, and the next attempt goes on.

use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};
use rstest::rstest;

use super::{
    BackupError, CheckOptions, Format, Keep, Point, PruneOptions, Repository, check,
    check::read_back,
    fixture::{self, NEEDED, SYSTEM},
    prune, upgrade,
};
use cdc_model::units::{Exit, PointId};
use cdc_postgres::wal::WalFile;

/// Room that is certainly enough.
const LARGE_KIB: u64 = 64 << 10;
/// `tmpfs` gives room by the page.
const STEP_KIB: u64 = 4;
const POINT: &str = "20261123T020000Z-0001";
const NEXT: u64 = *NEEDED.end() + 2;

/// A file system of its own, as large as is asked for.
struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    /// None where this account cannot mount one.
    fn mounted() -> Option<Disk> {
        let disk = Disk { folder: tempfile::tempdir().unwrap() };
        disk.mount(&["-t", "tmpfs", "-o", &format!("size={LARGE_KIB}k"), "tmpfs"]).then_some(disk)
    }

    fn path(&self) -> &Utf8Path {
        Utf8Path::from_path(self.folder.path()).unwrap()
    }

    fn mount(&self, arguments: &[&str]) -> bool {
        let output = Command::new("mount").args(arguments).arg(self.path()).output();
        output.is_ok_and(|output| output.status.success())
    }

    fn resize(&self, kib: u64) {
        assert!(self.mount(&["-o", &format!("remount,size={kib}k")]));
    }

    fn used_kib(&self) -> u64 {
        let output = Command::new("df").args(["-k", "--output=used"]).arg(self.path()).output().unwrap();
        String::from_utf8(output.stdout).unwrap().lines().nth(1).unwrap().trim().parse().unwrap()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // At once also where another test's process, just made, has inherited a file of it.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

fn point(repository: &Repository) -> Result<Point, BackupError> {
    let sealed = fixture::try_sealed(repository, &PointId::new(POINT))?;
    let read = read_back(repository, sealed.point())?;
    let point = sealed.publish(read)?;
    repository.note_latest(&point)?;
    Ok(point)
}

/// Everything that is there is whole, as far as it exists.
fn is_sound(repository: &Repository, what: &str) {
    let report = check(repository, &CheckOptions { deep: true, tools: None, archiving: None }).unwrap();
    assert_eq!(report.exit(), Exit::Passed, "{what}: {:#?}", report.defects);
    assert!(report.points.iter().all(|point| point.usable), "{what}: {:?}", report.points);
}

#[rstest]
fn a_disk_that_is_full_at_any_write_leaves_nothing_half_valid(#[values(Format::One, Format::Two)] format: Format) {
    let scratch = tempfile::tempdir().unwrap();
    let scratch = Utf8Path::from_path(scratch.path()).unwrap();
    let (mut failed, mut room) = (0, 0);
    loop {
        let Some(disk) = Disk::mounted() else {
            eprintln!("left out: only root mounts a file system");
            return;
        };
        let repository = fixture::write(&disk.path().join("repository"), scratch, format);
        is_sound(&repository, "before");
        disk.resize(disk.used_kib() + room);
        let archived = fixture::try_offer(&repository, scratch, NEXT);
        let taken = archived.and_then(|()| point(&repository).map(drop));
        disk.resize(LARGE_KIB);
        is_sound(&repository, &format!("{room} KiB: {taken:?}"));
        let done = taken.is_ok();
        if !done {
            failed += 1;
            // What was not acknowledged is offered again, and a backup begins anew.
            fixture::try_offer(&repository, scratch, NEXT).unwrap();
            repository.remove_leftovers().unwrap();
            if repository.points().unwrap().len() == 1 {
                point(&repository).unwrap();
            }
        }
        is_sound(&repository, &format!("{room} KiB, again"));
        assert_eq!(repository.newest().unwrap().point.id().as_str(), POINT);
        assert!(repository.archive(SYSTEM).has(&WalFile::Segment(fixture::segment(NEXT))).unwrap());
        if done {
            break;
        }
        room += STEP_KIB;
    }
    assert!(failed > 10, "only {failed} attempts met a full disk");
}

/// What announces a removal needs room as well.
#[test]
fn a_removal_on_a_full_disk_harms_nothing_and_goes_on() {
    let scratch = tempfile::tempdir().unwrap();
    let scratch = Utf8Path::from_path(scratch.path()).unwrap();
    let options = PruneOptions { keep: Keep::Count(1), budget: 1 << 40, dry_run: false };
    let (mut failed, mut room) = (0, 0);
    loop {
        let Some(disk) = Disk::mounted() else {
            eprintln!("left out: only root mounts a file system");
            return;
        };
        let repository = fixture::write(&disk.path().join("repository"), scratch, Format::Two);
        fixture::later(&repository, POINT, fixture::from_segment_5);
        repository.note_latest(&repository.newest().unwrap().point).unwrap();
        is_sound(&repository, "before");
        disk.resize(disk.used_kib() + room);
        let done = prune(&repository, &options);
        disk.resize(LARGE_KIB);
        is_sound(&repository, &format!("{room} KiB: {done:?}"));
        assert_eq!(repository.newest().unwrap().point.id().as_str(), POINT);
        prune(&repository, &options).unwrap();
        is_sound(&repository, &format!("{room} KiB, again"));
        assert_eq!(repository.points().unwrap().len(), 1, "{room} KiB");
        match done {
            Ok(_) => break,
            Err(error) => assert_eq!(cdc_model::units::Failure::exit(&error), Exit::BudgetExceeded, "{error}"),
        }
        failed += 1;
        room += STEP_KIB;
    }
    assert!(failed > 0, "the disk was never full");
}

#[test]
fn an_upgrade_on_a_full_disk_goes_on_when_there_is_room() {
    let scratch = tempfile::tempdir().unwrap();
    let scratch: Utf8PathBuf = Utf8Path::from_path(scratch.path()).unwrap().to_owned();
    let (mut failed, mut room) = (0, 0);
    loop {
        let Some(disk) = Disk::mounted() else {
            eprintln!("left out: only root mounts a file system");
            return;
        };
        let path = disk.path().join("repository");
        fixture::write(&path, &scratch, Format::One);
        disk.resize(disk.used_kib() + room);
        let done = upgrade(&path, &|_| {}).is_ok();
        disk.resize(LARGE_KIB);
        is_sound(&Repository::open(&path).unwrap(), &format!("{room} KiB"));
        upgrade(&path, &|_| {}).unwrap();
        let repository = Repository::open(&path).unwrap();
        assert_eq!(repository.format(), Format::Two);
        is_sound(&repository, &format!("{room} KiB, again"));
        if done {
            break;
        }
        failed += 1;
        // The first thing of any size is a segment as it was before compression.
        room = if room == 4 * STEP_KIB { (1 << 10) - STEP_KIB } else { room + STEP_KIB };
    }
    assert!(failed > 8, "only {failed} attempts met a full disk");
}
