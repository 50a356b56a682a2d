//! A repository in a bucket: what holds of one in a folder holds of it, and of those that write at once.

use std::{
    collections::BTreeSet,
    sync::{Barrier, Mutex},
};

use camino::{Utf8Path, Utf8PathBuf};
use rstest::rstest;

use super::{
    Activity, BackupError, CheckOptions, Format, Keep, PointSelector, PruneOptions, Repository, check,
    files::Store,
    fixture::{self, NEEDED, POINT, SYSTEM},
    list, prune, storage, verify,
    wal::{Archive, Fetched, SegmentState, fetch},
    writer::PointWriter,
};
use cdc_model::units::{Exit, Failure, PointId, Timeline};
use cdc_postgres::wal::WalFile;

const DEEP: CheckOptions = CheckOptions { deep: true, tools: None, archiving: None };

fn scratch() -> (tempfile::TempDir, Utf8PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let root = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
    (folder, root)
}

/// The repository of the fixture, in a bucket.
fn repository() -> (tempfile::TempDir, Utf8PathBuf, Repository) {
    let (folder, scratch) = scratch();
    let repository = fixture::write(&fixture::bucket(), &scratch, Format::Two);
    (folder, scratch, repository)
}

fn names(repository: &Repository) -> BTreeSet<String> {
    let below = storage::files_below(repository.path()).unwrap().into_iter();
    below.map(|(path, _)| path.strip_prefix(repository.path()).unwrap().to_string()).collect()
}

#[test]
fn it_holds_what_a_folder_holds() {
    let (_folder, scratch, bucket) = repository();
    let (_other, folder) = fixture::repository();
    let without_hash = |name: &String| name.contains(POINT) || name.contains("wal/") || !name.contains("points");
    let of_folder: BTreeSet<String> = fixture::tree(folder.path()).into_iter().filter(without_hash).collect();
    let of_bucket = names(&bucket);
    // A folder has a file that makes looking and writing one step; a bucket keeps a lock that was given back.
    let missing: Vec<_> = of_folder.iter().filter(|name| !of_bucket.contains(*name)).collect();
    assert_eq!(missing.iter().filter(|name| !name.contains("manifest-")).collect::<Vec<_>>(), [&"locks/.guard"]);

    let (one, two) = (list(&bucket).unwrap(), list(&folder).unwrap());
    assert_eq!((one.points.len(), &one.points[0].summary), (1, &two.points[0].summary));
    assert_eq!((one.wal, one.points[0].reachable.clone()), (two.wal, two.points[0].reachable.clone()));
    let report = check(&bucket, &DEEP).unwrap();
    assert_eq!((report.exit(), &report.defects[..]), (Exit::Passed, &[][..]), "{:?}", report.notes);
    assert_eq!(verify(&bucket, &PointId::new(POINT), &DEEP).unwrap().exit(), Exit::Passed);
    assert!(list(&bucket).unwrap().points[0].passed.is_some());

    let to = scratch.join("RECOVERYXLOG");
    let name = fixture::segment(4).to_string();
    assert_eq!(fetch(&bucket, SYSTEM, &name, &to, None).unwrap(), Fetched::Placed);
    assert_eq!(std::fs::metadata(&to).unwrap().len(), fixture::size().bytes());
    let missing = fixture::segment(40).to_string();
    assert_eq!(fetch(&bucket, SYSTEM, &missing, &to, None).unwrap(), Fetched::NotThere);
}

#[test]
fn an_address_is_a_repository_once_it_was_made_one() {
    let root = fixture::bucket();
    let said = Repository::open(&root).unwrap_err().to_string();
    assert!(said.contains(root.as_str()) && said.contains("nothing is there"), "{said}");
    let made = Repository::init(&Utf8PathBuf::from(format!("{root}/"))).unwrap();
    assert_eq!(made.path(), root);
    assert_eq!(names(&made), names(&Repository::init(&root).unwrap()), "once more makes nothing");
    // Other objects below the address.
    let root = fixture::bucket();
    Store::new(&root).unwrap().write(&root.join("stranger"), b"x").unwrap();
    assert_eq!(Repository::init(&root).unwrap_err().exit(), Exit::Invalid);
    assert!(Repository::open(&root).unwrap_err().to_string().contains("no file FORMAT"));
    // Format 1 needs a folder.
    Store::new(&root).unwrap().write(&root.join("FORMAT"), b"cdc-backup-repo 1\n").unwrap();
    assert!(Repository::open(&root).unwrap_err().to_string().contains("format 1"));
}

#[test]
fn what_a_killed_backup_leaves_is_no_point_and_goes() {
    let (_folder, _scratch, repository) = repository();
    let before = names(&repository);
    let id = PointId::new("20261123T020000Z-0001");
    let mut writer = PointWriter::begin(&repository, id.clone()).unwrap();
    for step in 0..3 {
        if step > 0 {
            writer.bytes(&format!("pg/{step}"), b"half").unwrap();
        }
        let listed = list(&repository).unwrap();
        let of_it = listed.points.iter().find(|point| point.summary.point == id).unwrap();
        assert!(!of_it.summary.complete, "{of_it:?}");
        assert_eq!(repository.point(&PointSelector::Latest).unwrap().id().as_str(), POINT);
        assert_eq!(check(&repository, &DEEP).unwrap().exit(), Exit::Passed);
    }
    // As a kill does: nothing is removed on the way out.
    std::mem::forget(writer);
    repository.remove_leftovers().unwrap();
    let mut after = names(&repository);
    after.retain(|name| name != "checks.json" && !name.starts_with("locks/"));
    let mut expected = before;
    expected.retain(|name| name != "checks.json" && !name.starts_with("locks/"));
    assert_eq!(after, expected);
    // One that is given up removes it itself.
    drop(fixture::unfinished(&repository, &id));
    assert!(names(&repository).iter().all(|name| !name.contains(id.as_str())));
}

#[test]
fn points_and_wal_are_pruned() {
    let (_folder, scratch, repository) = repository();
    for number in 7..=9 {
        fixture::archive(&repository, &scratch, Timeline::FIRST, number);
    }
    let sealed = fixture::sealed(&repository, &PointId::new("20261123T020000Z-0001"));
    let read_back = check::read_back(&repository, sealed.point()).unwrap();
    repository.note_latest(&sealed.publish(read_back).unwrap()).unwrap();
    assert_eq!(check(&repository, &DEEP).unwrap().exit(), Exit::Passed);
    let options = PruneOptions { keep: Keep::Count(1), budget: 1 << 40, dry_run: false };
    let report = prune(&repository, &options).unwrap();
    assert_eq!(report.points.iter().filter(|point| point.goes.is_some()).count(), 1);
    assert!(!report.room.to_string().contains("file system"), "{}", report.room);
    assert!(names(&repository).iter().all(|name| !name.contains(POINT)), "{:?}", names(&repository));
    assert_eq!(check(&repository, &DEEP).unwrap().exit(), Exit::Passed);
}

/// Lets several do something at one moment; what each of them got.
fn at_once<T: Send>(count: usize, act: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let (barrier, got) = (Barrier::new(count), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for number in 0..count {
            let (barrier, got, act) = (&barrier, &got, &act);
            scope.spawn(move || {
                barrier.wait();
                let one = act(number);
                got.lock().unwrap().push(one);
            });
        }
    });
    got.into_inner().unwrap()
}

fn segment_file(folder: &Utf8Path, number: u64, fill: u8) -> Utf8PathBuf {
    let name = fixture::segment(number);
    let path = folder.join(fill.to_string()).join(name.to_string());
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, fixture::segment_bytes(SYSTEM, fixture::size(), name, fill)).unwrap();
    path
}

fn archive_of(repository: &Repository) -> Archive {
    repository.archive(SYSTEM)
}

#[test]
fn archivers_of_one_segment_make_one_object() {
    let (_folder, scratch) = scratch();
    for round in 0..20 {
        let repository = Repository::init(&fixture::bucket()).unwrap();
        let path = segment_file(&scratch, 7, round);
        for pushed in at_once(4, |_| archive_of(&repository).add_segment(&path, SegmentState::Complete)) {
            pushed.unwrap();
        }
        assert_eq!(archive_of(&repository).all_files().unwrap().len(), 1);
    }
}

#[rstest]
fn no_note_of_what_was_archived_is_lost(#[values(true, false)] in_a_bucket: bool) {
    let (_folder, scratch) = scratch();
    for round in 0..20 {
        let root = if in_a_bucket { fixture::bucket() } else { scratch.join(format!("repository-{round}")) };
        let repository = Repository::init(&root).unwrap();
        let paths: Vec<Utf8PathBuf> = (1..=6).map(|number| segment_file(&scratch, number, round)).collect();
        let label = scratch.join("000000010000000000000003.00000028.backup");
        std::fs::write(&label, "START WAL LOCATION: 0/300028\n").unwrap();
        let pushed = at_once(7, |at| {
            archive_of(&repository).add_segment(paths.get(at).unwrap_or(&label), SegmentState::Complete)
        });
        pushed.into_iter().for_each(|held| drop(held.unwrap()));
        let head = archive_of(&repository).head().unwrap().unwrap();
        let noted: BTreeSet<String> =
            head.objects().iter().filter_map(|name| Some(super::wal::Head::file_of(name)?.to_string())).collect();
        let label = label.file_name().unwrap().to_owned();
        assert_eq!(noted, [fixture::segment(1).to_string(), fixture::segment(6).to_string(), label].into());
    }
}

#[test]
fn archivers_that_disagree_are_not_both_believed() {
    let (_folder, scratch) = scratch();
    for _ in 0..20 {
        let repository = Repository::init(&fixture::bucket()).unwrap();
        let paths = [segment_file(&scratch, 7, 1), segment_file(&scratch, 7, 2)];
        let pushed = at_once(2, |at| archive_of(&repository).add_segment(&paths[at], SegmentState::Complete));
        let refused: Vec<BackupError> = pushed.into_iter().filter_map(Result::err).collect();
        assert!(!refused.is_empty(), "both were told that their segment is archived");
        // The other one may have taken its object away before it was read.
        let is_gone = |error: &BackupError| matches!(error, BackupError::Io { cause, .. } if cause.kind() == std::io::ErrorKind::NotFound);
        let is_conflict = |error: &BackupError| matches!(error, BackupError::WalConflict { .. });
        assert!(refused.iter().all(|error| is_conflict(error) || is_gone(error)), "{refused:?}");
    }
}

#[rstest]
#[case::backups(Activity::Create, Activity::Create)]
#[case::recoveries(Activity::Recover, Activity::Recover)]
#[case::a_backup_and_maintenance(Activity::Create, Activity::Maintain)]
#[case::a_recovery_and_maintenance(Activity::Recover, Activity::Maintain)]
fn of_those_that_begin_at_once_one_works_at_most(#[case] one: Activity, #[case] other: Activity) {
    let repository = Repository::init(&fixture::bucket()).unwrap();
    let mut worked = 0;
    for _ in 0..50 {
        let taken = at_once(4, |at| repository.lock(if at % 2 == 0 { one } else { other }, "a test"));
        let held: Vec<_> = taken.iter().flatten().collect();
        assert!(held.len() <= 1, "{held:?}");
        worked += held.len();
        held.iter().for_each(|lock| lock.undisturbed().unwrap());
        for refused in taken.iter().filter_map(|taken| taken.as_ref().err()) {
            assert_eq!(refused.exit(), Exit::LockHeld, "{refused}");
        }
    }
    assert!(worked > 0, "nobody ever works");
}

#[test]
fn a_backup_notices_a_recovery_that_begins_beside_it() {
    let repository = Repository::init(&fixture::bucket()).unwrap();
    for _ in 0..50 {
        let taken = at_once(2, |at| {
            repository.lock(if at == 0 { Activity::Create } else { Activity::Recover }, "a test").map(|lock| (at, lock))
        });
        let locks: Vec<_> = taken.into_iter().flatten().collect();
        let recovery = locks.iter().find(|(at, _)| *at == 1);
        assert!(recovery.is_some(), "a recovery waits for nobody");
        if let Some((_, backup)) = locks.iter().find(|(at, _)| *at == 0) {
            assert!(matches!(backup.undisturbed(), Err(BackupError::Disturbed { .. })));
        }
    }
}

#[test]
fn damage_of_an_archived_segment_is_told_from_its_absence() {
    let (_folder, scratch, repository) = repository();
    let file = WalFile::Segment(fixture::segment(*NEEDED.start()));
    let held = archive_of(&repository).find(&file).unwrap().unwrap();
    let mut bytes = super::files::read(&held.path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    repository.store().write(&held.path, &bytes).unwrap();
    let error = fetch(&repository, SYSTEM, &file.to_string(), &scratch.join("to"), None).unwrap_err();
    assert_eq!(error.exit(), Exit::ChecksumMismatch, "{error}");
    assert_eq!(check(&repository, &DEEP).unwrap().exit(), Exit::ChecksumMismatch);
    // The original takes its place.
    fixture::archive(&repository, &scratch, Timeline::FIRST, *NEEDED.start());
    assert_eq!(check(&repository, &DEEP).unwrap().exit(), Exit::Passed);
}
