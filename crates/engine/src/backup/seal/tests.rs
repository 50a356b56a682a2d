//! What is encrypted, and what is refused, without any server.

use std::{
    fs,
    io::{Read, Write},
    os::unix::fs::PermissionsExt,
};

use camino::{Utf8Path, Utf8PathBuf};
use rstest::rstest;

use super::*;
use crate::backup::{
    BackupError, CheckOptions, DefectKind, PointSelector, Repository, check,
    fixture::{self, POINT, SYSTEM},
    list, prune,
    topics::{self, TopicArchive, list_topics, verify_topics},
    upgrade,
    wal::{self, Archive},
};
use cdc_model::units::{Exit, Failure, PointId};
use cdc_pipeline::config::RepositoryConfig;
use cdc_postgres::wal::WalFile;

const DEEP: CheckOptions = CheckOptions { deep: true, tools: None, archiving: None };
const CHEAP: CheckOptions = CheckOptions { deep: false, tools: None, archiving: None };

/// The same repository as a process sees it that has no identity: under another name, for which none is named.
fn without_identity(root: &Utf8Path) -> Repository {
    let linked = root.with_file_name("linked");
    let _ = fs::remove_file(&linked);
    std::os::unix::fs::symlink(root, &linked).unwrap();
    Repository::open(&linked).unwrap()
}

fn folder_of(folder: &tempfile::TempDir) -> Utf8PathBuf {
    Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap()
}

#[test]
fn content_of_any_size_comes_back_and_is_never_the_same_twice() {
    let (_folder, repository, _) = fixture::encrypted();
    let (seal, path) = (repository.seal(), Utf8Path::new("x"));
    for size in [0, 1, 65_535, 65_536, 65_537, 1 << 20] {
        let content: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
        let stored = seal.seal(path, &content).unwrap().into_owned();
        assert_ne!(stored, seal.seal(path, &content).unwrap().into_owned());
        assert_eq!(seal.open(path, stored.clone()).unwrap(), content);
        for cut in [0, 10, stored.len() / 2, stored.len() - 1] {
            assert!(seal.open(path, stored[..cut].to_vec()).unwrap_err().is_damage(), "{size}: cut to {cut}");
        }
        let mut flipped = stored;
        let middle = flipped.len() / 2;
        flipped[middle] ^= 1;
        assert!(seal.open(path, flipped).unwrap_err().is_damage(), "{size}");
    }
}

/// 16 MiB come back, read 64 KiB at a time.
#[test]
fn large_content_passes_through() {
    let (_folder, repository, _) = fixture::encrypted();
    let (seal, path) = (repository.seal(), Utf8Path::new("x"));
    let piece = vec![7; 1 << 20];
    let mut sealing = seal.writer(path, Vec::new()).unwrap();
    for _ in 0..16 {
        sealing.write_all(&piece).unwrap();
    }
    let stored = sealing.finish().unwrap();
    let mut reader = seal.reader(path, stored.as_slice()).unwrap();
    let (mut read, mut buffer) = (0, vec![0; 1 << 16]);
    loop {
        match reader.read(&mut buffer).unwrap() {
            0 => break,
            n => read += n,
        }
        assert!(buffer.iter().all(|byte| *byte == 7 || read < buffer.len()));
    }
    assert_eq!(read, 16 << 20);
}

#[test]
fn nobody_prints_an_identity() {
    let (_folder, repository, file) = fixture::encrypted();
    repository.unlock().unwrap();
    let secret = fs::read_to_string(file).unwrap().lines().last().unwrap().to_owned();
    assert!(secret.starts_with("AGE-SECRET-KEY-1"));
    assert!(!format!("{repository:?}{:?}", repository.seal()).contains(&secret[16..]));
}

fn all_bytes(root: &Utf8Path) -> Vec<(String, Vec<u8>)> {
    fixture::tree(root).into_iter().map(|name| (name.clone(), fs::read(root.join(name)).unwrap())).collect()
}

#[test]
fn nothing_of_the_content_is_stored_as_it_is() {
    let says = |root: &Utf8Path, word: &str| {
        let mut telling = Vec::new();
        for (name, bytes) in all_bytes(root) {
            let content = zstd::decode_all(bytes.as_slice()).unwrap_or_default();
            if [bytes, content].iter().any(|bytes| bytes.windows(word.len()).any(|window| window == word.as_bytes())) {
                telling.push(name);
            }
        }
        telling
    };
    let (_folder, plain) = fixture::repository();
    let (_folder, repository, _) = fixture::encrypted();
    for word in [
        "hunter2",
        "START WAL LOCATION",
        r#""type":"record""#,
        "\u{6}\u{6}\u{6}\u{6}",
        "WyJzaG9wIix7InNlcnZlciI6InNob3AifV0=",
    ] {
        let quoted = word.replace('"', "\\\"");
        let found = [says(plain.path(), word), says(plain.path(), &quoted)].concat();
        assert!(!found.is_empty(), "{word} is in a plain one");
        assert_eq!([says(repository.path(), word), says(repository.path(), &quoted)].concat(), [""; 0], "{word}");
    }
}

#[test]
fn whoever_has_recipients_alone_writes_checks_and_prunes() {
    let (folder, repository, _) = fixture::encrypted();
    let source = without_identity(repository.path());
    let root = folder_of(&folder);
    // The same content is acknowledged, another one refused.
    let count = || fixture::tree(&source.path().join("wal")).len();
    let before = count();
    fixture::offer(&source, &root, 4);
    assert_eq!(count(), before, "one object for each content");
    let path = root.join(fixture::segment(4).to_string());
    let mut other = fs::read(&path).unwrap();
    other[8192] ^= 1;
    fs::write(&path, &other).unwrap();
    let refused = wal::push(&source, &root, &path, wal::default_workers()).unwrap_err();
    assert!(matches!(refused, BackupError::WalConflict { .. }), "{refused}");
    fixture::offer(&source, &root, 7);
    let sealed = fixture::sealed(&source, &PointId::new("20261123T020000Z-8b21"));
    let read_back = crate::backup::check::read_back(&source, sealed.point()).unwrap();
    source.note_latest(&sealed.publish(read_back).unwrap()).unwrap();
    let report = check(&source, &CHEAP).unwrap();
    assert_eq!(report.exit(), Exit::Passed, "{:?}", report.defects);
    assert_eq!(list(&source).unwrap().points.len(), 2);
    for refused in [
        check(&source, &DEEP).map(drop).unwrap_err(),
        source.point(&PointSelector::Latest).unwrap().connectors().unwrap_err(),
        wal::fetch(&source, SYSTEM, &fixture::segment(4).to_string(), &root.join("to"), None).unwrap_err(),
        verify_topics(&source, None, None).map(drop).unwrap_err(),
    ] {
        assert_eq!(refused.exit(), Exit::KeysRefused, "{refused}");
        assert!(!refused.hints().is_empty() && refused.to_string().contains("no identity"), "{refused}");
    }
    let report = check(&repository, &DEEP).unwrap();
    assert_eq!(report.exit(), Exit::Passed, "{:?}", report.defects);
    let options = prune::PruneOptions { keep: prune::Keep::Count(1), budget: 1 << 40, dry_run: false };
    prune::prune(&source, &options).unwrap();
    assert_eq!(check(&repository, &DEEP).unwrap().exit(), Exit::Passed);
}

#[test]
fn a_segment_is_fetched_as_it_was_and_twins_go() {
    let (folder, repository, _) = fixture::encrypted();
    let root = folder_of(&folder);
    let file = WalFile::Segment(fixture::segment(4));
    let archive: Archive = repository.archive(SYSTEM);
    assert!(archive.restore(&file, &root.join("to")).unwrap());
    fixture::offer(&repository, &root, 4);
    assert_eq!(fs::read(root.join("to")).unwrap(), fs::read(root.join(fixture::segment(4).to_string())).unwrap());
    // As two archivers leave it that were equally fast: the same content in another object.
    let held = archive.find(&file).unwrap().unwrap();
    let kept = root.join("kept");
    fs::rename(&held.path, &kept).unwrap();
    fixture::offer(&repository, &root, 4);
    fs::rename(&kept, &held.path).unwrap();
    assert_eq!(archive.stored_copies(&file).unwrap().len(), 2);
    archive.find(&file).unwrap().unwrap();
    fixture::offer(&repository, &root, 4);
    assert_eq!(archive.stored_copies(&file).unwrap().len(), 1);
    assert_eq!(check(&repository, &DEEP).unwrap().exit(), Exit::Passed);
    // A damaged one gives way to the original.
    fixture::flip(&archive.find(&file).unwrap().unwrap().path);
    assert_eq!(check(&repository, &CHEAP).unwrap().exit(), Exit::ChecksumMismatch);
    fixture::offer(&repository, &root, 4);
    assert_eq!(check(&repository, &DEEP).unwrap().exit(), Exit::Passed);
}

/// Every object is sound by itself and has a name that fits its bytes.
#[test]
fn one_in_the_place_of_another_is_found_and_named() {
    let (_folder, repository, _) = fixture::encrypted();
    let archive = repository.archive(SYSTEM);
    let of = |number| archive.find(&WalFile::Segment(fixture::segment(number))).unwrap().unwrap().path;
    let (one, two) = (of(4), of(5));
    let parts = |path: &Utf8Path| path.file_name().unwrap().rsplitn(3, '-').map(str::to_owned).collect::<Vec<_>>();
    let forged = two.with_file_name(format!("{}-{}-{}", parts(&two)[2], parts(&one)[1], parts(&one)[0]));
    fs::remove_file(&two).unwrap();
    fs::copy(&one, &forged).unwrap();
    assert_eq!(check(&repository, &CHEAP).unwrap().exit(), Exit::Passed, "what is stored is what the names say");
    let report = check(&repository, &DEEP).unwrap();
    let named: Vec<&str> = report.defects.iter().map(|defect| defect.path.as_str()).collect();
    assert_eq!(named, [forged.strip_prefix(repository.path()).unwrap().as_str()], "{:?}", report.defects);
    assert_eq!(report.defects[0].kind, DefectKind::Checksum);
}

#[test]
fn topics_go_on_without_an_identity_and_hand_on_what_they_cannot_read() {
    let (_folder, repository, _) = fixture::encrypted();
    let archive = TopicArchive::of(repository.store(), Some("c"), "t");
    topics::tests::publish(
        &archive,
        "20261122T020000Z-0001",
        None,
        vec![topics::tests::partition(&archive, 0, &[(3, 6)])],
    );
    let source = without_identity(repository.path());
    let blind = TopicArchive::of(source.store(), Some("c"), "t");
    assert!(!blind.can_be_read().unwrap());
    let earlier = blind.newest().unwrap().unwrap();
    assert_eq!((earlier.manifest.records(), earlier.manifest.unread.len()), (3, 1));
    assert_eq!(list_topics(&source, None).unwrap()[0].records, 3);
    let mut next = earlier.manifest.clone();
    next.backup = "20261122T030000Z-0002".into();
    next.previous = Some(earlier.link());
    next.groups = vec![topics::CommittedGroup { group: "sink".into(), offsets: Default::default() }];
    blind.publish(&next).unwrap();
    let text =
        String::from_utf8(fs::read(archive.newest().unwrap().map(|_| newest_manifest(&archive)).unwrap()).unwrap());
    assert!(!text.unwrap().contains("sink"));
    let read = archive.newest().unwrap().unwrap().manifest;
    assert_eq!((read.groups[0].group.as_str(), read.unread.len()), ("sink", 0));
    assert_eq!(verify_topics(&repository, None, None).unwrap().exit(), Exit::Passed);
    for path in fixture::tree(&archive.folder).into_iter().filter(|path| path.contains("objects/")) {
        fixture::flip(&archive.folder.join(path));
    }
    assert_eq!(check(&source, &CHEAP).unwrap().exit(), Exit::ChecksumMismatch);
}

fn newest_manifest(archive: &TopicArchive) -> Utf8PathBuf {
    let mut all: Vec<String> =
        fixture::tree(&archive.folder).into_iter().filter(|p| p.contains("/manifest-")).collect();
    archive.folder.join(all.pop().unwrap())
}

#[test]
fn what_says_for_whom_it_is_may_be_lost_and_nothing_is_written_then() {
    let (folder, repository, _) = fixture::encrypted();
    let root = folder_of(&folder);
    fs::write(repository.path().join("repo.json"), b"{}").unwrap();
    let damaged = Repository::open(repository.path()).unwrap();
    let refused = fixture::try_offer(&damaged, &root, 8).unwrap_err();
    assert_eq!(refused.exit(), Exit::KeysRefused, "{refused}");
    assert!(damaged.archive(SYSTEM).restore(&WalFile::Segment(fixture::segment(4)), &root.join("to")).unwrap());
    let point = damaged.point(&PointSelector::Id(PointId::new(POINT))).unwrap();
    assert_eq!(point.connectors().unwrap().len(), 1);
    assert!(check(&damaged, &DEEP).unwrap().defects.iter().all(|defect| defect.path == "repo.json"));
    let (other, _) = fixture::identity(&root, "other");
    name_identity(repository.path(), &other);
    let with_other = Repository::open(repository.path()).unwrap();
    let refused = check(&with_other, &DEEP).map(drop).unwrap_err();
    assert_eq!(refused.exit(), Exit::KeysRefused, "{refused}");
}

#[rstest]
#[case::for_others(&["other"], false, "expected the recipients")]
#[case::as_it_is(&[], false, "names neither recipients nor an identity")]
#[case::with_its_own(&["own"], false, "")]
#[case::with_an_identity(&[], true, "")]
fn a_repository_is_what_its_configuration_says(#[case] whose: &[&str], #[case] names: bool, #[case] why: &str) {
    let (folder, repository, file) = fixture::encrypted();
    let root = folder_of(&folder);
    let own = repository.seal().recipients().into_iter().next().unwrap();
    let (_, other) = fixture::identity(&root, "other");
    let recipients = whose.iter().map(|whose| if *whose == "own" { own.clone() } else { other.clone() }).collect();
    // A name for which nobody has named an identity.
    let linked = without_identity(repository.path()).path().to_owned();
    let config = RepositoryConfig { path: linked, recipients, identity_file: names.then_some(file) };
    match (Repository::of(&config), why) {
        (Ok(repository), "") => assert!(repository.is_encrypted()),
        (Err(error), why) if !why.is_empty() => {
            assert_eq!(error.exit(), Exit::KeysRefused);
            assert!(error.to_string().contains(why) && !error.hints().is_empty(), "{error}");
        }
        (found, _) => panic!("{found:?}"),
    }
}

#[test]
fn a_plain_repository_is_not_taken_for_an_encrypted_one() {
    let (folder, plain) = fixture::repository();
    let (_, recipient) = fixture::identity(&folder_of(&folder), "identity");
    let config =
        RepositoryConfig { recipients: vec![recipient.clone()], ..RepositoryConfig::at(plain.path().to_owned()) };
    for refused in [Repository::of(&config), Repository::init_for(plain.path(), &[recipient])] {
        let refused = refused.unwrap_err();
        assert_eq!(refused.exit(), Exit::KeysRefused, "{refused}");
    }
    let text = fs::read_to_string(plain.path().join("FORMAT")).unwrap();
    assert_eq!(text, "cdc-backup-repo 2\n");
    assert!(!fs::read_to_string(plain.path().join("repo.json")).unwrap().contains("encryption"));
    upgrade(plain.path(), &|_| {}).unwrap();
}

#[test]
fn what_lies_in_the_wrong_kind_of_repository_is_a_stranger() {
    let (_folder, repository, _) = fixture::encrypted();
    let (_other, plain) = fixture::repository();
    let of = |repository: &Repository| {
        repository.archive(SYSTEM).find(&WalFile::Segment(fixture::segment(4))).unwrap().unwrap().path
    };
    let (theirs, ours) = (of(&plain), of(&repository));
    let planted = ours.with_file_name(theirs.file_name().unwrap());
    fs::copy(&theirs, &planted).unwrap();
    let defects = check(&repository, &CHEAP).unwrap().defects;
    assert!(defects.len() == 1 && planted.as_str().ends_with(&defects[0].path), "{defects:?}");
}

#[rstest]
#[case::malformed("age1xyz", "age1xyz")]
#[case::a_secret("AGE-SECRET-KEY-1QQQQ", "something else")]
#[case::nothing("", "something else")]
fn a_malformed_recipient_is_refused_and_a_secret_not_repeated(#[case] text: &str, #[case] shown: &str) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder_of(&folder).join("repository");
    let refused = Repository::init_for(&root, &[text.to_owned()]).unwrap_err();
    assert_eq!(refused.exit(), Exit::KeysRefused);
    assert!(refused.to_string().contains(shown) && !refused.to_string().contains("QQQQ"), "{refused}");
    assert!(!root.exists(), "nothing was made");
}

#[rstest]
#[case::by_the_group(0o640, None, "0640")]
#[case::not_one(0o600, Some("AGE-SECRET-KEY-1QQQQ"), "in line 1")]
#[case::empty(0o600, Some("# nothing\n"), "it has no identity")]
fn an_unsafe_identity_is_refused(#[case] mode: u32, #[case] text: Option<&str>, #[case] why: &str) {
    let (_folder, repository, file) = fixture::encrypted();
    if let Some(text) = text {
        fs::write(&file, text).unwrap();
    }
    fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    let refused = Repository::open(repository.path()).unwrap().unlock().unwrap_err();
    assert_eq!(refused.exit(), Exit::KeysRefused);
    assert!(refused.to_string().contains(why) && !refused.to_string().contains("QQQQ"), "{refused}");
    fs::remove_file(&file).unwrap();
    assert_eq!(Repository::open(repository.path()).unwrap().unlock().unwrap_err().exit(), Exit::KeysRefused);
}
