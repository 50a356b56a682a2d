//! Planted damage: what each of it is called, and what does not matter.

use camino::{Utf8Path, Utf8PathBuf};
use rstest::rstest;

use super::*;
use crate::backup::{
    BackupError, Format, PointSelector, Repository, files,
    fixture::{self, BASE_FILES, NEEDED, POINT, SYSTEM},
    format::layout::{MANIFEST, MANIFEST_SUM},
    hash::sha256,
    parts::postgres::{Extracted, compare_folder, extract},
};
use cdc_model::units::{Exit, Failure, PointId, SystemId, Timeline};
use cdc_pipeline::config::Tools;
use cdc_postgres::wal::WalFile;

fn exit(repository: &Repository) -> Exit {
    verify(repository, &PointId::new(POINT), &CheckOptions::default()).unwrap().exit()
}

fn folder(repository: &Repository) -> Utf8PathBuf {
    repository.points_folder().join(POINT)
}

fn segment_path(repository: &Repository, number: u64) -> Utf8PathBuf {
    let file = WalFile::Segment(fixture::segment(number));
    repository.archive(SYSTEM).find(&file).unwrap().unwrap().path
}

#[rstest]
fn a_whole_point_passes(#[values(false, true)] deep: bool, #[values(Format::One, Format::Two)] format: Format) {
    let (_folder, repository) = fixture::repository_of(format);
    let report =
        verify(&repository, &PointId::new(POINT), &CheckOptions { deep, tools: None, archiving: None }).unwrap();
    assert_eq!((report.exit(), report.defects.len()), (Exit::Passed, 0), "{:?}", report.defects);
    assert_eq!((report.files, report.wal_segments), (14, 3));
}

#[test]
fn an_extracted_copy_is_judged_behind_the_prefix_of_tools() {
    let (_folder, repository) = fixture::repository();
    let notes = tempfile::tempdir().unwrap();
    let notes = Utf8Path::from_path(notes.path()).unwrap();
    let options = CheckOptions { deep: true, tools: Some(fixture::noting(notes)), archiving: None };
    assert_eq!(verify(&repository, &PointId::new(POINT), &options).unwrap().exit(), Exit::Passed);
    let calls = fixture::calls(notes);
    let expected = "env LC_ALL=C /pg/bin/pg_verifybackup --no-parse-wal --exit-on-error /";
    assert!(calls[0].starts_with(expected), "{calls:?}");
}

#[rstest]
fn a_flipped_bit_in_any_file_is_a_checksum_mismatch(#[values(Format::One, Format::Two)] format: Format) {
    let (_folder, repository) = fixture::repository_of(format);
    let files = fixture::tree(&folder(&repository));
    assert!(files.len() > 10, "{files:?}");
    for name in files {
        let path = folder(&repository).join(&name);
        let before = files::read(&path).unwrap();
        fixture::flip(&path);
        assert_eq!(exit(&repository), Exit::ChecksumMismatch, "{name}");
        std::fs::write(&path, before).unwrap();
    }
    assert_eq!(exit(&repository), Exit::Passed);
}

#[rstest]
fn a_truncated_file_is_a_checksum_mismatch_and_a_missing_one_incomplete(
    #[values(Format::One, Format::Two)] format: Format,
) {
    let (_folder, repository) = fixture::repository_of(format);
    for name in fixture::tree(&folder(&repository)) {
        let path = folder(&repository).join(&name);
        let before = files::read(&path).unwrap();
        std::fs::write(&path, &before[..before.len() - 1]).unwrap();
        // The manifest's checksum file says the same without its final newline.
        let expected = if name == MANIFEST_SUM { Exit::Passed } else { Exit::ChecksumMismatch };
        assert_eq!(exit(&repository), expected, "{name} truncated");
        std::fs::write(&path, b"").unwrap();
        assert_eq!(exit(&repository), Exit::ChecksumMismatch, "{name} emptied");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(exit(&repository), Exit::BackupIncomplete, "{name} removed");
        std::fs::write(&path, before).unwrap();
    }
}

#[rstest]
#[case("pg/stranger")]
#[case("stranger.json")]
fn a_file_that_nobody_named_makes_the_point_incomplete(#[case] name: &str) {
    let (_folder, repository) = fixture::repository();
    std::fs::write(folder(&repository).join(name), b"").unwrap();
    assert_eq!(exit(&repository), Exit::BackupIncomplete);
}

#[rstest]
fn a_link_in_place_of_a_file_makes_the_point_incomplete(#[values(Format::One, Format::Two)] format: Format) {
    let (_folder, repository) = fixture::repository_of(format);
    let path = folder(&repository).join("kafka/topics.json");
    let elsewhere = repository.path().join("elsewhere");
    std::fs::rename(&path, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
    assert_eq!(exit(&repository), Exit::BackupIncomplete);
}

#[rstest]
fn a_missing_segment_is_a_gap_and_a_damaged_one_a_checksum_mismatch(
    #[values(Format::One, Format::Two)] format: Format,
) {
    for number in NEEDED {
        let (_folder, repository) = fixture::repository_of(format);
        let path = segment_path(&repository, number);
        let before = files::read(&path).unwrap();
        fixture::flip(&path);
        assert_eq!(exit(&repository), Exit::ChecksumMismatch, "segment {number} flipped");
        std::fs::write(&path, &before[..before.len() / 2]).unwrap();
        assert_eq!(exit(&repository), Exit::ChecksumMismatch, "segment {number} truncated");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(exit(&repository), Exit::WalGap, "segment {number} removed");
    }
}

#[rstest]
fn segments_outside_the_backup_do_not_matter(#[values(Format::One, Format::Two)] format: Format) {
    let (_folder, repository) = fixture::repository_of(format);
    for number in [NEEDED.start() - 1, NEEDED.end() + 1] {
        std::fs::remove_file(segment_path(&repository, number)).unwrap();
    }
    assert_eq!(exit(&repository), Exit::Passed);
}

#[test]
fn a_segment_without_its_index_line_is_not_known() {
    let (_folder, repository) = fixture::repository_of(Format::One);
    let index = segment_path(&repository, 4).with_file_name("index.jsonl");
    let text = std::fs::read_to_string(&index).unwrap();
    let name = fixture::segment(4).to_string();
    let kept: Vec<&str> = text.lines().filter(|l| !l.contains(&name)).collect();
    std::fs::write(&index, kept.join("\n") + "\n").unwrap();
    assert_eq!(exit(&repository), Exit::ChecksumMismatch);
    std::fs::remove_file(index).unwrap();
    assert_eq!(exit(&repository), Exit::ChecksumMismatch);
}

#[rstest]
fn incomplete_outranks_checksum_outranks_gap(#[values(Format::One, Format::Two)] format: Format) {
    let (_folder, repository) = fixture::repository_of(format);
    std::fs::remove_file(segment_path(&repository, 4)).unwrap();
    assert_eq!(exit(&repository), Exit::WalGap);
    fixture::flip(&folder(&repository).join("pg/base.tar.zst"));
    assert_eq!(exit(&repository), Exit::ChecksumMismatch);
    std::fs::remove_file(folder(&repository).join("kafka/groups.json")).unwrap();
    assert_eq!(exit(&repository), Exit::BackupIncomplete);
}

#[test]
fn a_newer_manifest_is_refused() {
    let (_folder, repository) = fixture::repository_of(Format::One);
    let newer = br#"{"format": 3, "surprise": true}"#;
    std::fs::write(folder(&repository).join(MANIFEST), newer).unwrap();
    let sum = format!("{}  {MANIFEST}\n", sha256(newer));
    std::fs::write(folder(&repository).join(MANIFEST_SUM), sum).unwrap();
    assert_eq!(exit(&repository), Exit::FormatTooNew);
    assert_eq!(repository.point(&PointSelector::Latest).unwrap_err().exit(), Exit::FormatTooNew);
    std::fs::write(repository.path().join("FORMAT"), "cdc-backup-repo 3\n").unwrap();
    assert_eq!(Repository::open(repository.path()).unwrap_err().exit(), Exit::FormatTooNew);
}

#[rstest]
fn damaged_points_are_named_and_do_not_hide_the_older_one(#[values(Format::One, Format::Two)] format: Format) {
    let (_folder, repository) = fixture::repository_of(format);
    let manifest = |folder: &Utf8Path| fixture::manifest_of(&repository, folder);
    let damaged = ["20261123T020000Z-0001", "20261124T020000Z-0002", "20261125T020000Z-0003"];
    let folders = damaged.map(|id| fixture::later(&repository, id, |_| {}));
    assert_eq!(repository.newest().unwrap().point.id().as_str(), damaged[2]);
    fixture::flip(&manifest(&folders[0]));
    std::fs::remove_file(manifest(&folders[1])).unwrap();
    // A link to itself: what it leads to cannot be read, by root neither.
    let looped = manifest(&folders[2]);
    std::fs::remove_file(&looped).unwrap();
    std::os::unix::fs::symlink(&looped, &looped).unwrap();

    let newest = repository.newest().unwrap();
    assert_eq!(newest.point.id().as_str(), POINT);
    let passed: Vec<&str> = newest.passed_over.iter().map(|p| p.point.as_str()).collect();
    assert_eq!(passed, [damaged[2], damaged[1], damaged[0]], "the newest first");
    assert_eq!(repository.point(&PointSelector::Latest).unwrap().id().as_str(), POINT);

    let listed = repository.points().unwrap();
    assert_eq!(listed.iter().map(|p| p.complete).collect::<Vec<_>>(), [true, false, false, false]);
    let said: Vec<&str> = listed.iter().map(|p| p.defect.as_deref().unwrap_or("none")).collect();
    for (said, part) in said.iter().zip(["none", "checksum of", "manifest", "read "]) {
        assert!(said.contains(part), "{part}: {said}");
    }

    fixture::flip(&manifest(&folder(&repository)));
    let nothing_whole = repository.newest().unwrap_err();
    assert!(nothing_whole.to_string().contains(damaged[2]), "that of the newest: {nothing_whole}");
}

#[test]
fn the_list_says_which_consistency_checks_failed() {
    let (_folder, repository) = fixture::repository();
    assert_eq!(repository.points().unwrap()[0].failed_checks, []);
    fixture::later(&repository, "20261123T020000Z-0001", fixture::fail_a_check);
    let listed = repository.points().unwrap();
    assert!(listed[1].complete && listed[1].defect.is_none());
    let failed = listed[1].failed_checks[0].to_string();
    assert!(failed.starts_with("offset_lsn<=stop_lsn does not hold: shop at"), "{failed}");
}

#[rstest]
fn what_cannot_be_looked_at_is_neither_absent_nor_damaged(#[values(Format::One, Format::Two)] format: Format) {
    let (scratch, repository) = fixture::repository_of(format);
    let root = Utf8PathBuf::from_path_buf(scratch.path().to_owned()).unwrap();
    let looped = root.join("loop");
    std::os::unix::fs::symlink(&looped, &looped).unwrap();
    let said = |error: BackupError| assert!(error.to_string().contains("Too many levels"), "{error}");
    said(Repository::init(&looped).unwrap_err());
    said(Repository::open(&looped).unwrap_err());
    let point = repository.point(&PointSelector::Latest).unwrap();
    said(extract(&point, &Tools::default(), &looped, None, &|_| {}).unwrap_err());
    let segment = segment_path(&repository, 4);
    std::fs::remove_file(&segment).unwrap();
    std::os::unix::fs::symlink(&segment, &segment).unwrap();
    said(verify(&repository, &PointId::new(POINT), &CheckOptions::default()).unwrap_err());
    std::fs::rename(repository.points_folder(), root.join("points")).unwrap();
    std::os::unix::fs::symlink(repository.points_folder(), repository.points_folder()).unwrap();
    let id = PointId::new("20261123T020000Z-0001");
    said(repository.point(&PointSelector::Id(id)).unwrap_err());
    said(repository.no_such("x"));
}

#[rstest]
fn what_a_recovery_salvaged_is_no_defect(#[values(Format::One, Format::Two)] format: Format) {
    let (_folder, repository) = fixture::repository_of(format);
    let salvage = repository.salvaged(SYSTEM);
    std::fs::create_dir_all(&salvage).unwrap();
    std::fs::write(salvage.join(fixture::segment(7).to_string()), "the last segment of an old server").unwrap();
    let report = check(&repository, &CheckOptions::default()).unwrap();
    assert_eq!(report.exit(), Exit::Passed, "{:?}", report.defects);
    assert!(report.notes.iter().any(|note| note.contains("salvage")), "{:?}", report.notes);
    std::fs::write(salvage.join("stranger"), "").unwrap();
    let report = check(&repository, &CheckOptions::default()).unwrap();
    assert_eq!(report.defects[0].path, format!("salvage/{SYSTEM}/stranger"));
}

#[rstest]
fn an_unfinished_point_is_listed_and_is_incomplete(#[values(Format::One, Format::Two)] format: Format) {
    let (_folder, repository) = fixture::repository_of(format);
    let unfinished = PointId::new("20261123T020000Z-0001");
    let writer = fixture::unfinished(&repository, &unfinished);
    let listed = repository.points().unwrap();
    assert_eq!(listed.iter().map(|p| p.complete).collect::<Vec<_>>(), [true, false]);
    let report = verify(&repository, &unfinished, &CheckOptions::default()).unwrap();
    assert_eq!(report.exit(), Exit::BackupIncomplete);
    let error = repository.point(&PointSelector::Id(unfinished)).unwrap_err();
    assert_eq!(error.exit(), Exit::BackupIncomplete);
    assert_eq!(repository.point(&PointSelector::Latest).unwrap().id().as_str(), POINT);
    drop(writer);
    assert_eq!(repository.points().unwrap().len(), 1, "an abandoned point leaves nothing");
}

#[test]
fn a_base_backup_comes_back_file_by_file() {
    let (scratch, repository) = fixture::repository();
    let point = repository.point(&PointSelector::Latest).unwrap();
    let into = Utf8PathBuf::from_path_buf(scratch.path().join("restored")).unwrap();
    let done = extract(&point, &Tools::default(), &into, None, &|_| {}).unwrap();
    assert_eq!(done.files, BASE_FILES.len() as u64 + 1);
    for (name, bytes) in BASE_FILES {
        assert_eq!(files::read(&into.join(name)).unwrap(), bytes, "{name}");
    }
    use std::os::unix::fs::PermissionsExt;
    let mode = |p: &str| std::fs::metadata(into.join(p)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(""), mode("base/1"), mode("PG_VERSION")), (0o700, 0o700, 0o600));
    let again = extract(&point, &Tools::default(), &into, None, &|_| {}).unwrap_err();
    assert!(again.to_string().contains("not empty"), "{again}");
    assert!(into.join("PG_VERSION").exists(), "a refusal must not touch what is there");
}

#[test]
fn a_folder_is_complete_by_its_files_and_not_by_hope() {
    let (scratch, repository) = fixture::repository();
    let point = repository.point(&PointSelector::Latest).unwrap();
    let into = Utf8PathBuf::from_path_buf(scratch.path().join("restored")).unwrap();
    let done = extract(&point, &Tools::default(), &into, None, &|_| {}).unwrap();
    let wrong = |what: &str| {
        let error = compare_folder(&point, &into).unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
        assert_eq!(error.exit(), Exit::ChecksumMismatch);
    };
    assert_eq!(compare_folder(&point, &into).unwrap(), done);
    std::os::unix::fs::symlink("/elsewhere", into.join("pg_wal")).unwrap();
    assert_eq!(compare_folder(&point, &into).unwrap(), done, "WAL may lie elsewhere");
    std::os::unix::fs::symlink("/elsewhere", into.join("link")).unwrap();
    wrong("link");
    std::fs::remove_file(into.join("link")).unwrap();
    for (name, bytes) in BASE_FILES {
        let path = into.join(name);
        std::fs::write(&path, [bytes, b"x"].concat()).unwrap();
        wrong(name);
        std::fs::remove_file(&path).unwrap();
        wrong(name);
        std::fs::write(&path, bytes).unwrap();
    }
    std::fs::write(into.join("postmaster.opts"), "").unwrap();
    wrong("postmaster.opts");
}

#[test]
fn a_damaged_base_backup_leaves_nothing_behind() {
    let (scratch, repository) = fixture::repository();
    let point = repository.point(&PointSelector::Latest).unwrap();
    fixture::flip(&folder(&repository).join("pg/base.tar.zst"));
    let into = Utf8PathBuf::from_path_buf(scratch.path().join("restored")).unwrap();
    let result: Result<Extracted, BackupError> = extract(&point, &Tools::default(), &into, None, &|_| {});
    assert_eq!(result.unwrap_err().exit(), Exit::ChecksumMismatch);
    assert!(!into.exists());
}

#[test]
fn a_point_hands_out_its_parts() {
    let (_folder, repository) = fixture::repository();
    let point = repository.point(&PointSelector::Latest).unwrap();
    assert_eq!(point.connectors().unwrap()[0].name, "shop");
    assert_eq!(point.topics().unwrap()[0].spec.settings["cleanup.policy"], "compact");
    assert_eq!(point.groups().unwrap()[0].offsets[0].offset.0, 12);
    assert_eq!(point.dump().unwrap().versions[0].id.0, 4711);
    assert_eq!(point.publications().unwrap()[0].publications[0].tables[0].to_string(), "public.t");
    fixture::flip(&folder(&repository).join("registry/dump.jsonl"));
    assert_eq!(point.dump().unwrap_err().exit(), Exit::ChecksumMismatch);
}

#[test]
fn what_is_no_repository_is_refused() {
    let (scratch, repository) = fixture::repository();
    let root = Utf8PathBuf::from_path_buf(scratch.path().to_owned()).unwrap();
    let refused = |path: &Utf8Path| Repository::open(path).unwrap_err().exit();
    assert_eq!(refused(&root.join("nowhere")), Exit::Invalid);
    assert_eq!(refused(&root), Exit::Invalid);
    assert_eq!(refused(&repository.path().join("FORMAT")), Exit::Invalid);
    assert_eq!(Repository::init(&root).unwrap_err().exit(), Exit::Invalid, "a folder with something else in it");
    assert!(Repository::init(repository.path()).is_ok(), "an existing repository is opened");
    std::fs::write(repository.path().join("FORMAT"), "something else").unwrap();
    assert_eq!(refused(repository.path()), Exit::Invalid);
    assert_eq!(repository.point(&PointSelector::Id(PointId::new("../.."))).unwrap_err().exit(), Exit::Invalid);
}

/// The repositories in `fixtures/backups` were written by the first releases of their formats: every later one must read them.
fn golden(format: Format) -> Utf8PathBuf {
    let name = format!("../../fixtures/backups/format-{}", format.number());
    Utf8PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

#[rstest]
fn the_golden_repositories_are_whole(#[values(Format::One, Format::Two)] format: Format) {
    let repository = Repository::open(&golden(format)).unwrap();
    assert_eq!(repository.format(), format);
    let options = CheckOptions { deep: true, tools: None, archiving: None };
    let report = verify(&repository, &PointId::new(POINT), &options).unwrap();
    assert_eq!(report.exit(), Exit::Passed, "{:?}", report.defects);
    let point = repository.point(&PointSelector::Latest).unwrap();
    let path = fixture::manifest_of(&repository, &point.folder);
    let again = files::canonical_json(&path, &point.manifest).unwrap();
    assert_eq!(String::from_utf8(again).unwrap(), String::from_utf8(files::read(&path).unwrap()).unwrap());
    let pg = point.postgres().unwrap();
    assert_eq!((pg.system_id, pg.timeline), (SystemId(7711099509720704369), Timeline::FIRST));
}
