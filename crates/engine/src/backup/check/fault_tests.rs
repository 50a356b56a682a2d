//! Random single faults: each is found, the file is named, and nothing else is.

use std::collections::BTreeSet;

use camino::{Utf8Path, Utf8PathBuf};
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use rstest::rstest;

use super::*;
use crate::backup::{
    Format, Keep, PruneOptions, Repository,
    fixture::{self, SYSTEM},
    prune,
    seal::name_identity,
    topics::{self, TopicArchive},
    upgrade,
    wal::SegmentState,
};
use cdc_model::units::{Exit, Timeline};

const DEEP: CheckOptions = CheckOptions { deep: true, tools: None, archiving: None };

/// Backups of a topic's records, each of which adds to the one before; the first has two partitions.
const RECORDS: [&str; 3] = ["20261123T020000Z-0001", "20261124T020000Z-0002", "20261126T020000Z-0003"];

/// Three points, of which the last adds to the one before where the format knows that, WAL of two timelines with what is noted of it, records
/// of a topic, and everything else that lies in a repository.
fn repository(format: Format) -> (tempfile::TempDir, Repository) {
    let (folder, repository) = fixture::repository_of(format);
    more(folder, repository)
}

/// The same, encrypted.
fn encrypted() -> (tempfile::TempDir, Repository) {
    let (folder, repository, _) = fixture::encrypted();
    more(folder, repository)
}

fn more(folder: tempfile::TempDir, repository: Repository) -> (tempfile::TempDir, Repository) {
    let root = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
    let mut below = None;
    for (nth, id) in ["20261123T020000Z-8b21", "20261124T020000Z-0c33"].into_iter().enumerate() {
        records(&repository, RECORDS[nth], nth);
        fixture::later(&repository, id, |manifest| {
            fixture::with_records(manifest, "t", RECORDS[nth]);
            if let Some(below) = below.take().filter(|_| repository.format() == Format::Two) {
                fixture::add_to(manifest, below);
            }
        });
        let point = repository.newest().unwrap().point;
        assert_eq!(point.id().as_str(), id);
        repository.note_latest(&point).unwrap();
        below = Some(point.link());
    }
    for (name, text) in [
        ("00000002.history", "1\t0/580000\tno recovery target specified\n"),
        ("000000010000000000000003.00000028.backup", "START WAL LOCATION: 0/300028 (file 000000010000000000000003)\n"),
    ] {
        std::fs::write(root.join(name), text).unwrap();
        repository.archive(SYSTEM).add_segment(&root.join(name), SegmentState::Complete).unwrap();
    }
    for number in 5..=7 {
        fixture::archive(&repository, &root, Timeline::literal(2), number);
    }
    (folder, repository)
}

/// Takes a backup of the topic's records, the one of this number.
fn records(repository: &Repository, backup: &str, nth: usize) {
    let archive = TopicArchive::of(repository.store(), Some("c"), "t");
    let previous = archive.newest().unwrap().map(|newest| newest.link());
    let ranges: Vec<(i64, i64)> = (0..=nth as i64).map(|n| (3 + n * 3, 6 + n * 3)).collect();
    let parts = [(0, &ranges[..]), (1, &ranges[..1])]
        .map(|(number, ranges)| topics::tests::partition(&archive, number, ranges));
    topics::tests::publish(&archive, backup, previous, parts.to_vec());
}

/// The same in format 2, with points, WAL and records of topics that were pruned; the last point adds to the one before it.
fn pruned() -> (tempfile::TempDir, Repository) {
    let (folder, repository) = repository(Format::Two);
    let root = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
    for number in 7..=9 {
        fixture::archive(&repository, &root, Timeline::FIRST, number);
    }
    let full = "20261125T020000Z-0d44";
    records(&repository, RECORDS[2], 2);
    for id in [full, "20261126T020000Z-0e55"] {
        let below = (id != full).then(|| repository.point(&full.parse().unwrap()).unwrap().link());
        fixture::later(&repository, id, |manifest| {
            fixture::from_segment_5(manifest);
            if let Some(below) = below {
                fixture::add_to(manifest, below);
                fixture::with_records(manifest, "t", RECORDS[2]);
            }
        });
        repository.note_latest(&repository.newest().unwrap().point).unwrap();
    }
    let options = PruneOptions { keep: Keep::Count(2), budget: 1 << 40, dry_run: false };
    let report = prune(&repository, &options).unwrap();
    assert_eq!((report.points.len(), report.wal_files), (5, 4));
    let pruned = fixture::tree(&root).into_iter().filter(|name| name.ends_with("/t/pruned.json")).count();
    assert_eq!(pruned, 1, "backups of the topic went as well");
    (folder, repository)
}

fn checked(repository: &Repository) -> CheckReport {
    check(repository, &DEEP).unwrap()
}

/// A fault, and the files that it is about.
struct Fault {
    what: String,
    files: BTreeSet<String>,
}

fn fault(root: &Utf8Path, random: &mut impl Rng) -> Fault {
    let names: Vec<String> = fixture::tree(root);
    let name = names.choose(random).unwrap().clone();
    let path = root.join(&name);
    let bytes = std::fs::read(&path).unwrap();
    let one = |what: String, name: &str| Fault { what, files: [name.to_owned()].into() };
    match random.random_range(0..6) {
        0 if !bytes.is_empty() => {
            let (at, bit) = (random.random_range(0..bytes.len()), random.random_range(0..8));
            let mut flipped = bytes;
            flipped[at] ^= 1 << bit;
            std::fs::write(&path, flipped).unwrap();
            one(format!("{name}: bit {bit} of byte {at} flipped"), &name)
        }
        1 if !bytes.is_empty() => {
            let length = random.random_range(0..bytes.len());
            std::fs::write(&path, &bytes[..length]).unwrap();
            one(format!("{name}: cut to {length} of {} bytes", bytes.len()), &name)
        }
        2 => {
            let other = names.choose(random).unwrap().clone();
            let theirs = std::fs::read(root.join(&other)).unwrap();
            if theirs == bytes {
                return fault(root, random);
            }
            std::fs::write(&path, theirs).unwrap();
            std::fs::write(root.join(&other), bytes).unwrap();
            Fault { what: format!("{name} and {other} swapped"), files: [name, other].into() }
        }
        3 => {
            let folder = root.join(names.choose(random).unwrap()).parent().unwrap().to_owned();
            let to = folder.join(format!("{}-copy", path.file_name().unwrap()));
            std::fs::copy(&path, &to).unwrap();
            let to = to.strip_prefix(root).unwrap().to_string();
            one(format!("{name} copied to {to}"), &to)
        }
        4 => {
            let folder = root.join(names.choose(random).unwrap()).parent().unwrap().to_owned();
            let to = folder.join(format!("stranger{}", random.random_range(0..9)));
            std::fs::write(&to, b"x").unwrap();
            let to = to.strip_prefix(root).unwrap().to_string();
            one(format!("{to} added"), &to)
        }
        _ => {
            std::fs::remove_file(&path).unwrap();
            one(format!("{name} deleted"), &name)
        }
    }
}

/// Whether a defect names the file: a deleted segment is named without the hash that nobody knows any more.
fn names(defect: &Defect, file: &str) -> bool {
    defect.path == file || file.strip_prefix(defect.path.as_str()).is_some_and(|rest| rest.starts_with('-'))
}

fn copy(from: &Utf8Path, to: &Utf8Path) {
    for name in fixture::tree(from) {
        std::fs::create_dir_all(to.join(&name).parent().unwrap()).unwrap();
        std::fs::copy(from.join(&name), to.join(name)).unwrap();
    }
}

/// How many faults: `CDC_DRILL_FAULTS` of each format and seed, or a sample.
fn rounds() -> u64 {
    std::env::var("CDC_DRILL_FAULTS").ok().and_then(|text| text.parse().ok()).unwrap_or(24)
}

/// Points, WAL and records come and go by the repository's own means, and no check accuses anything.
#[rstest]
#[case::format_1(Format::One, false)]
#[case::format_2(Format::Two, false)]
#[case::in_a_bucket(Format::Two, true)]
fn what_is_whole_raises_no_alarm(#[case] format: Format, #[case] in_a_bucket: bool) {
    let (folder, repository) = repository(format);
    let root = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
    let mut random = StdRng::seed_from_u64(7);
    let (mut wal, mut taken) = (7, 2);
    let all = rounds().div_ceil(2);
    for round in 0..all {
        let id = format!("20261201T{round:06}Z-0001");
        let done = match random.random_range(0..5) {
            0 | 1 => {
                fixture::archive(&repository, &root, Timeline::FIRST, wal);
                wal += 1;
                "WAL"
            }
            2 => {
                records(&repository, &id, taken);
                taken += 1;
                "records"
            }
            3 if format == Format::Two && round > 5 => {
                let keep = Keep::Count(random.random_range(2..5));
                prune(&repository, &PruneOptions { keep, budget: 1 << 40, dry_run: false }).unwrap();
                "pruned"
            }
            _ => {
                let newest = repository.newest().unwrap().point;
                // Replay needs what is archived since, which nothing prunes.
                fixture::later(&repository, &id, |manifest| {
                    if format == Format::Two && random.random_bool(0.5) {
                        fixture::add_to(manifest, newest.link());
                    }
                });
                repository.note_latest(&repository.newest().unwrap().point).unwrap();
                "a point"
            }
        };
        let options = CheckOptions { deep: random.random_bool(0.5), ..DEEP };
        let there = if in_a_bucket { fixture::in_a_bucket(repository.path()) } else { repository.path().to_owned() };
        let report = check(&Repository::open(&there).unwrap(), &options).unwrap();
        assert_eq!(report.defects, [], "round {round}, {done}, {options:?}");
        assert!(report.points.iter().all(|point| point.usable), "round {round}, {done}: {:?}", report.notes);
    }
    eprintln!("{all} clean checks");
}

/// All of them carry checksums of their own, and each has keys that no other has.
#[test]
fn notes_that_are_swapped_are_both_found() {
    let (folder, repository) = pruned();
    let root = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
    checked(&repository);
    let all: Vec<String> = ["checks.json", "pruned.json", "repo.json", "points/head.json"]
        .map(str::to_owned)
        .into_iter()
        .chain([format!("wal/{SYSTEM}/head.json")])
        .collect();
    for (at, one) in all.iter().enumerate() {
        for other in &all[at + 1..] {
            let damaged = root.join(format!("damaged-{at}-{}", other.replace('/', "-")));
            copy(repository.path(), &damaged);
            std::fs::rename(damaged.join(one), damaged.join("kept")).unwrap();
            std::fs::rename(damaged.join(other), damaged.join(one)).unwrap();
            std::fs::rename(damaged.join("kept"), damaged.join(other)).unwrap();
            let report = checked(&Repository::open(&damaged).unwrap());
            let mut found: Vec<&str> = report.defects.iter().map(|defect| defect.path.as_str()).collect();
            found.sort_unstable();
            let mut expected = [one.as_str(), other.as_str()];
            expected.sort_unstable();
            assert_eq!(found, expected, "{:?}", report.defects);
        }
    }
}

#[rstest]
#[case::format_1(repository(Format::One), false, 6, false)]
#[case::format_2(repository(Format::Two), false, 6, false)]
#[case::upgraded(repository(Format::One), true, 6, false)]
#[case::pruned(pruned(), false, 4, false)]
#[case::in_a_bucket(repository(Format::Two), false, 6, true)]
#[case::pruned_in_a_bucket(pruned(), false, 4, true)]
#[case::encrypted(encrypted(), false, 6, false)]
#[case::encrypted_in_a_bucket(encrypted(), false, 6, true)]
fn single_faults_are_found_and_named(
    #[case] made: (tempfile::TempDir, Repository),
    #[case] upgraded: bool,
    #[case] reachable: usize,
    #[case] in_a_bucket: bool,
) {
    let (folder, mut repository) = made;
    if upgraded {
        upgrade(repository.path(), &|_| {}).unwrap();
        repository = Repository::open(repository.path()).unwrap();
    }
    let report = checked(&repository);
    assert_eq!(report.exit(), Exit::Passed, "{:?}", report.defects);
    assert!(report.points.iter().all(|point| point.usable && point.passed.is_some()), "{:?}", report.points);
    assert_eq!(report.reachable.len(), reachable, "{:?}", report.reachable);
    let root = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
    let mut wrong = Vec::new();
    for seed in 0..rounds() {
        let damaged = root.join(format!("damaged-{seed}"));
        copy(repository.path(), &damaged);
        let fault = fault(&damaged, &mut StdRng::seed_from_u64(seed));
        if in_a_bucket && fault.files.contains("locks/.guard") {
            continue;
        }
        let there = if in_a_bucket { fixture::in_a_bucket(&damaged) } else { damaged.clone() };
        if repository.is_encrypted() {
            name_identity(&there, &root.join("identity"));
        }
        let found = match Repository::open(&there).and_then(|repository| check(&repository, &DEEP)) {
            Ok(report) => report.defects,
            // A folder that is no repository any more.
            Err(error) if fault.files.contains("FORMAT") => {
                assert_ne!(cdc_model::units::Failure::exit(&error), Exit::Internal, "{error}");
                continue;
            }
            Err(error) => {
                wrong.push(format!("seed {seed}: {}: {error}", fault.what));
                continue;
            }
        };
        let named = fault.files.iter().all(|file| found.iter().any(|defect| names(defect, file)));
        let accused: Vec<&Defect> =
            found.iter().filter(|defect| !fault.files.iter().any(|file| names(defect, file))).collect();
        if !named || !accused.is_empty() {
            wrong.push(format!("seed {seed}: {}: {found:#?}", fault.what));
        }
        std::fs::remove_dir_all(damaged).unwrap();
    }
    assert!(wrong.is_empty(), "{} of {} wrong:\n{}", wrong.len(), rounds(), wrong.join("\n"));
}
